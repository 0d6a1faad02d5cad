/* Texts that hosts report to a restored or recovered cluster.
 *
 * Its tree may be older than what runs. An agent stops a unit at once whose assignment has another text, so
 * that all instances would be restarted together. Therefore, assignments get the texts that run, until a
 * rollout replaces these. The cluster does not have such a text: it has no revision, and only the machine on
 * which it runs can start it. */

#include "fleetd/engine/plan_internal.h"

/* A singleton has ended, or its guard is of the text that runs. */
const char *reported_text(const Pass *pass, const ClusterMachine *m, const ClusterUnit *u) {
        const ClusterAssignment *o = cluster_assignment_on(m, u->name);
        const ClusterState *s = cluster_state_on(m, u->name);
        uint64_t begun;

        if (!plan_names_texts(pass) || !s || !s->state.hash || !active_state_is_up(s->state.active) ||
            u->unit->placement.singleton || streq(s->state.hash, o ? o->hash : u->unit->hash) ||
            (o && (o->kind != ASSIGNMENT_RUN || !o->hash[0])))
                return NULL;
        begun = cluster_begun_index(pass->cluster);
        return begun > 0 && s->index > begun && (!o || o->index <= begun) ? s->state.hash : NULL;
}

/* It may be a former revision, which the cluster has. */
void reported_set_text(AssignmentChange *c, const ClusterUnit *head, const char *hash) {
        const Revision *known = revisions_find(&head->unit->revisions, 0, hash);

        c->revision = known ? known->number : 0;
        snprintf(c->hash, sizeof(c->hash), "%s", hash);
        memcpy(c->base, c->hash, sizeof(c->base));
        c->own = 0;
}
