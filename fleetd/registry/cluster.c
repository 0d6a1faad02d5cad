#include "fleetd/registry/cluster.h"

ClusterUnit *cluster_any_unit(const Cluster *c, const char *name) {
        return TABLE_FIND(c->units, name);
}

ClusterUnit *cluster_unit(const Cluster *c, const char *name) {
        ClusterUnit *u = cluster_any_unit(c, name);

        return u && u->unit ? u : NULL;
}

ClusterMachine *cluster_machine(const Cluster *c, const char *id) {
        return TABLE_FIND(c->machines, id);
}

ClusterAssignment *cluster_assignment_on(const ClusterMachine *m, const char *unit) {
        return m ? TABLE_FIND(m->assignments, unit) : NULL;
}

ClusterAssignment *cluster_assignment(const Cluster *c, const char *machine_id, const char *unit) {
        ClusterAssignment *a = cluster_assignment_on(cluster_machine(c, machine_id), unit);

        return a && a->kind != _ASSIGNMENT_INVALID ? a : NULL;
}

ClusterState *cluster_state_on(const ClusterMachine *m, const char *unit) {
        return m ? TABLE_FIND(m->states, unit) : NULL;
}

ClusterState *cluster_state(const Cluster *c, const char *machine_id, const char *unit) {
        return cluster_state_on(cluster_machine(c, machine_id), unit);
}

ClusterOwner *cluster_owner(const Cluster *c, const char *machine_id) {
        return TABLE_FIND(c->owners, machine_id);
}

const ClusterService *cluster_server(const Cluster *c, const char *machine_id) {
        static const ClusterService none;

        return TABLE_FIND(c->servers, machine_id) ?: &none;
}

const ClusterService *cluster_service(const Cluster *c, const char *name) {
        return TABLE_FIND(c->services, name);
}

ClusterProblem *cluster_problem(const Cluster *c, const char *machine_id, const char *unit) {
        const ClusterMachine *m = cluster_machine(c, machine_id);

        return m ? TABLE_FIND(m->problems, unit) : NULL;
}

const Names *cluster_rule(const Placement *p, ClusterRule rule) {
        static const Names none;
        const Names *const names[_CLUSTER_RULE_MAX] = {
                [CLUSTER_CONFLICTS] = &p->conflicts,
                [CLUSTER_REPLACES] = &p->replaces,
                [CLUSTER_MACHINE_OF] = &p->machine_of,
                [CLUSTER_TRIGGERS] = &p->triggers,
                [CLUSTER_PORTS] = &p->ports,
                [CLUSTER_PUBLISHED] = &p->published,
                [CLUSTER_SERVICES] = &p->service.names,
                [CLUSTER_SECRETS] = &p->inputs.secrets,
                [CLUSTER_PATHS] = &none,
                [CLUSTER_FORMER_PATHS] = &none,
        };

        return names[rule];
}

static bool cluster_list_has(const ClusterUnreadables *list, LayoutKind kind) {
        for (const ClusterUnreadable *x = LIST_FIRST(list); x; x = LIST_NEXT(x, of_owner))
                if (x->key.kind == kind)
                        return true;
        return false;
}

ClusterToken *cluster_token(const Cluster *c, const char *id) {
        return TABLE_FIND(c->tokens, id);
}

bool cluster_is_denied(const Cluster *c, const char *pin) {
        if (TABLE_FIND(c->denied, pin))
                return true;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->removed && streq(m->removed->how, CLUSTER_REMOVED_COMPROMISED) &&
                    (streq(m->removed->pin, pin) || streq(m->removed->pin2, pin)))
                        return true;
        return false;
}

ClusterPrincipal *cluster_principal(const Cluster *c, const char *name) {
        return TABLE_FIND(c->principals, name);
}

uint64_t cluster_begun_index(const Cluster *c) {
        char name[LINEAGE_SIZE];
        const ClusterLineage *begun = cluster_lineage(c, hex64_print(c->lineage, name));

        return begun ? begun->record.index : 0;
}

ClusterLineage *cluster_lineage(const Cluster *c, const char *lineage) {
        return TABLE_FIND(c->lineages, lineage);
}

ClusterSecret *cluster_secret(const Cluster *c, const char *name) {
        return TABLE_FIND(c->secrets, name);
}

uint64_t cluster_secrets_sum(const Cluster *c, const Names *secrets) {
        uint64_t sum = 0;

        for (size_t i = 0; i < secrets->n; i++) {
                const ClusterSecret *s = cluster_secret(c, secrets->items[i]);

                sum += s ? s->record.version + s->record.set_ms : 0;
        }
        return sum;
}

const ClusterMachine *cluster_machine_of_member(const Cluster *c, uint64_t raft_id) {
        const ClusterMachine *m = raft_id != 0 ? LIST_FIRST(&c->members) : NULL;

        while (m && m->member.raft_id != raft_id)
                m = LIST_NEXT(m, of_members);
        return m;
}

const ClusterSettings *cluster_settings(const Cluster *c) {
        static const ClusterSettings none = {};

        return c->settings ?: &none;
}

bool cluster_has_unreadable(const Cluster *c, LayoutKind kind) {
        return cluster_list_has(&c->unreadable, kind);
}

bool cluster_unit_has_unreadable(const ClusterUnit *u, LayoutKind kind) {
        return cluster_list_has(&u->unreadable, kind);
}

ClusterUnit *cluster_template(const Cluster *c, const char *instance) {
        const char *at = strchr(instance, '@'), *type = strrchr(instance, '.');
        char name[UNIT_NAME_MAX + 1];

        if (!at || !type || type <= at + 1) /* no instance */
                return NULL;
        snprintf(name, sizeof(name), "%.*s%s", (int) (at + 1 - instance), instance, type);
        return cluster_unit(c, name);
}

bool cluster_unit_exists(const ClusterUnit *u) {
        return u && (u->unit || cluster_unit_has_unreadable(u, LAYOUT_UNIT));
}

bool cluster_unit_is_wanted(const ClusterUnit *u) {
        return u->unit && u->target != TARGET_INACTIVE && !unit_name_is_template(u->name);
}

int cluster_replicas(const ClusterUnit *u) {
        int file = u->unit && unit_name_is_template(u->name) ? u->unit->placement.replicas : -1;
        const ReplicasRecord *r = u->replicas;

        return file >= 0 && r && r->is_scaled && r->file == (uint64_t) file ? (int) r->count : file;
}

bool cluster_machine_has_unreadable(const ClusterMachine *m, LayoutKind kind) {
        return cluster_list_has(&m->unreadable, kind);
}

bool cluster_unit_is_unreadable(const ClusterUnit *u) {
        return !LIST_EMPTY(&u->unreadable);
}

bool cluster_machine_is_unreadable(const ClusterMachine *m) {
        return cluster_list_has(&m->unreadable, LAYOUT_FACTS) ||
               cluster_list_has(&m->unreadable, LAYOUT_METADATA) ||
               cluster_list_has(&m->unreadable, LAYOUT_PRESENCE);
}

bool cluster_has_conflicting_unit(const ClusterUnit *u, const ClusterMachine *m) {
        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit))
                if (s->machine == m && s->state.load && streq(s->state.load, STATE_FOREIGN))
                        return true;
        return false;
}

static int cluster_compare_ids(const void *a, const void *b) {
        return strcmp((*(ClusterMachine *const *) a)->id, (*(ClusterMachine *const *) b)->id);
}

ClusterMachine **cluster_machines_sorted(const Cluster *c, size_t *ret_n) {
        ClusterMachine **sorted = NEW0(ClusterMachine *, HASH_COUNT(c->machines) + 1);
        size_t n = 0;

        if (!sorted)
                return NULL;
        for (ClusterMachine *m = c->machines; m; m = m->hh.next)
                sorted[n++] = m;
        qsort(sorted, n, sizeof(*sorted), cluster_compare_ids);
        *ret_n = n;
        return sorted;
}

static int cluster_compare_problems(const void *a, const void *b) {
        return strcmp((*(const ClusterProblem *const *) a)->unit, (*(const ClusterProblem *const *) b)->unit);
}

const ClusterProblem **cluster_problems_sorted(const ClusterMachine *m, size_t *ret_n) {
        const ClusterProblem **sorted = NEW0(const ClusterProblem *, HASH_COUNT(m->problems) + 1);

        *ret_n = 0;
        for (const ClusterProblem *p = m->problems; p && sorted; p = p->hh.next)
                sorted[(*ret_n)++] = p;
        if (sorted)
                qsort(sorted, *ret_n, sizeof(*sorted), cluster_compare_problems);
        return sorted;
}

ClusterMachine **cluster_members_sorted(const Cluster *c, size_t *ret_n) {
        ClusterMachine **sorted, *m;
        size_t n = 0;

        LIST_FOREACH(m, &c->members, of_members)
                n++;
        sorted = NEW0(ClusterMachine *, n + 1);
        if (!sorted)
                return NULL;
        *ret_n = 0;
        LIST_FOREACH(m, &c->members, of_members)
                sorted[(*ret_n)++] = m;
        qsort(sorted, n, sizeof(*sorted), cluster_compare_ids);
        return sorted;
}

/* Return whether the machine was lost before the lineage began, and another one is up at its address. A
 * machine that has not answered since then may run units: the backup may contain an address that it has no
 * more. */
static bool cluster_was_replaced_before(const Cluster *c, const ClusterMachine *m) {
        return m->since_ms < c->adopting_since_ms && cluster_machine_successor(m);
}

bool cluster_awaits_report(const Cluster *c, const ClusterMachine *m) {
        if (!c->adopting || (!m->facts && !cluster_machine_has_unreadable(m, LAYOUT_FACTS)))
                return false;
        if (m->reported == c->lineage)
                return presence_is_down(m->presence) && m->presence_index < m->reported_index;
        return !cluster_was_replaced_before(c, m);
}

static bool cluster_has_finished_on(const ClusterMachine *m, const ClusterUnit *u) {
        const ClusterState *s = cluster_state_on(m, u->name);

        return s && s->state.done;
}

TargetState cluster_current_state(const Cluster *c, const ClusterUnit *u,
                                  const ClusterMachine **ret_machine) {
        const ClusterAssignment *best = NULL;
        bool best_reports = false;

        *ret_machine = NULL;
        if (u->unit && u->unit->placement.global)
                return TARGET_INACTIVE;

        /* During a move, a unit has two assignments: one with a reported state counts, and of these the later
         * one. */
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                bool reports = a->machine->presence == PRESENCE_UP && a->state;

                if (!cluster_assignment_is_active(a) || (best && best_reports && !reports) ||
                    (cluster_machine_is_removed(a->machine) && !cluster_has_finished_on(a->machine, u)))
                        continue;
                if (best && best_reports == reports && a->since_ms < best->since_ms)
                        continue;
                best = a;
                best_reports = reports;
        }
        if (!best)
                return TARGET_INACTIVE;

        *ret_machine = best->machine;
        if (presence_is_down(best->machine->presence) || best->kind == _ASSIGNMENT_INVALID || !best->state)
                return TARGET_INACTIVE;
        return best->kind == ASSIGNMENT_RUN ? TARGET_LAUNCHED : TARGET_LOADED;
}

const ClusterAssignment *cluster_unit_up(const ClusterUnit *u) {
        const ClusterAssignment *up = NULL;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && a->state &&
                    (active_state_is_up(a->state->state.active) || a->state->state.done) &&
                    (!up || cluster_assignment_is_newer(a, up)))
                        up = a;
        return up;
}

const char *cluster_name_of(const Cluster *c, const char *machine_id) {
        const ClusterMachine *m = cluster_machine(c, machine_id);

        return m ? cluster_machine_name(m) : machine_id;
}

bool cluster_machine_is_restricted(const ClusterMachine *m) {
        return m->host && m->host->restricted;
}

const char *cluster_machine_claim(const ClusterMachine *m, ClusterClaimKind kind) {
        const char *text = !m->facts ? NULL : kind == CLAIM_NAME ? m->facts->name : m->facts->address;

        if (text && *text)
                return text;
        return kind == CLAIM_NAME && m->member.name[0] ? m->member.name : NULL;
}

static bool name_is_like_id(const char *name) {
        size_t n = strspn(name, "0123456789abcdef");

        return name[n] == 0 && n >= MACHINE_ID_SHORT;
}

const char *cluster_machine_hostname(const ClusterMachine *m) {
        const ClusterClaim *claim = m->claims[CLAIM_NAME];
        const char *name = cluster_machine_claim(m, CLAIM_NAME);

        if (!name || !cluster_machine_is_restricted(m))
                return name;
        return claim && claim->first == m && !name_is_like_id(name) ? name : NULL;
}

/* Restricted hosts in different networks may have the same private address. */
const char *cluster_machine_address(const ClusterMachine *m) {
        const ClusterClaim *claim = m->claims[CLAIM_ADDRESS];

        if (cluster_machine_is_restricted(m) && (!claim || !cluster_machine_is_restricted(claim->first)))
                return NULL;
        return cluster_machine_claim(m, CLAIM_ADDRESS);
}

const char *cluster_machine_name(const ClusterMachine *m) {
        return cluster_machine_hostname(m) ?: m->short_id;
}

static bool cluster_succeeds(const ClusterMachine *m, const ClusterMachine *gone) {
        return m->member.raft_id != 0 && m->presence == PRESENCE_UP &&
               streq(m->member.peer, gone->member.peer);
}

bool cluster_machine_is_leaving(const ClusterMachine *m) {
        return m->maintenance && streq(m->maintenance->purpose, CLUSTER_FOR_LEAVE) &&
               m->maintenance->mode != MAINTENANCE_CORDONED;
}

bool cluster_machine_is_drained(const ClusterMachine *m) {
        return cluster_machine_is_leaving(m) && m->maintenance->mode == MAINTENANCE_DRAINED;
}

bool cluster_machine_is_stopping(const ClusterMachine *m) {
        return m->maintenance && streq(m->maintenance->purpose, CLUSTER_FOR_SHUTDOWN);
}

bool cluster_machine_has_stopped(const ClusterMachine *m) {
        return m->presence == PRESENCE_LEFT || (m->presence == PRESENCE_LOST && m->announced);
}

bool cluster_machine_is_rebooting(const ClusterMachine *m) {
        return m->reboot && m->reboot->state != REBOOT_QUEUED && m->reboot->state != REBOOT_DRAINING &&
               m->reboot->state != REBOOT_FAILED;
}

bool cluster_machine_was_drained(const ClusterMachine *m) {
        const char *drained = maintenance_mode_to_string(MAINTENANCE_DRAINED);

        return m->maintenance && (m->maintenance->purpose[0] ? streq(m->maintenance->before, drained) :
                                                               m->maintenance->mode == MAINTENANCE_DRAINED);
}

bool cluster_machine_is_draining(const ClusterMachine *m) {
        return m->maintenance &&
               (m->maintenance->mode == MAINTENANCE_DRAINING || cluster_machine_is_stopping(m));
}

bool cluster_machine_is_overdue(const ClusterMachine *m, uint64_t now_ms) {
        const MaintenanceRecord *maintenance = m->maintenance;

        return maintenance && maintenance->mode != MAINTENANCE_CORDONED && maintenance->deadline_ms > 0 &&
               now_ms >= maintenance->deadline_ms;
}

bool cluster_machine_has_left(const ClusterMachine *m) {
        return m->removed && streq(m->removed->how, CLUSTER_REMOVED_LEAVE);
}

const ClusterMachine *cluster_machine_successor(const ClusterMachine *gone) {
        if (!presence_is_down(gone->presence) || !gone->member.peer[0])
                return NULL;
        for (const ClusterMachine *m = gone->hh.prev; m; m = m->hh.prev)
                if (cluster_succeeds(m, gone))
                        return m;
        for (const ClusterMachine *m = gone->hh.next; m; m = m->hh.next)
                if (cluster_succeeds(m, gone))
                        return m;
        return NULL;
}

static bool cluster_is_namesake(const ClusterMachine *m, const ClusterMachine *other) {
        return same_string(cluster_machine_hostname(m), cluster_machine_hostname(other)) &&
               !cluster_machine_is_removed(other) &&
               (cluster_machine_successor(m) || !cluster_machine_successor(other));
}

const char *cluster_machine_label(const ClusterMachine *m, char buffer[static CLUSTER_LABEL_SIZE]) {
        const char *name = cluster_machine_hostname(m);
        bool alone = true;

        if (!name)
                return m->short_id;
        if (m->claims[CLAIM_NAME] && m->claims[CLAIM_NAME]->n == 1)
                return name;
        for (const ClusterMachine *o = m->hh.prev; o && alone; o = o->hh.prev)
                alone = !cluster_is_namesake(m, o);
        for (const ClusterMachine *o = m->hh.next; o && alone; o = o->hh.next)
                alone = !cluster_is_namesake(m, o);
        if (alone)
                return name;
        snprintf(buffer, CLUSTER_LABEL_SIZE, "%.*s (%.8s)", HOST_NAME_SIZE - 1, name, m->id);
        return buffer;
}

bool cluster_machine_is_removed(const ClusterMachine *m) {
        bool admitted = m->member.raft_id != 0 && m->member.start_number == 0; /* it has not started yet */

        return m->presence_index == 0 && !m->facts && !admitted && LIST_EMPTY(&m->unreadable);
}

bool cluster_has_unit_on(const Cluster *c, const ClusterMachine *m, const char *unit) {
        const ClusterState *state = m ? cluster_state_on(m, unit) : NULL;

        if (state)
                return !streq(state->state.load, STATE_FOREIGN);
        return cluster_unit_exists(cluster_any_unit(c, unit)) || (m && cluster_assignment_on(m, unit));
}

const ClusterMachine *cluster_unit_machine(const Cluster *c, const char *unit) {
        const ClusterUnit *u = cluster_any_unit(c, unit);
        const ClusterMachine *found = NULL;

        for (const ClusterAssignment *a = u ? LIST_FIRST(&u->assignments) : NULL; a;
             a = LIST_NEXT(a, of_unit))
                if (a->kind != ASSIGNMENT_STOP && !cluster_machine_is_removed(a->machine) &&
                    (!found || !presence_is_down(a->machine->presence)))
                        found = a->machine;
        for (const ClusterState *s = u ? LIST_FIRST(&u->states) : NULL; s && !found;
             s = LIST_NEXT(s, of_unit))
                if (!presence_is_down(s->machine->presence))
                        found = s->machine;
        return found;
}

const char *cluster_state_health(const ClusterState *s) {
        if (s->state.health == UNIT_HEALTH_NONE)
                return NULL;
        return s->machine->presence == PRESENCE_UP ? unit_health_to_string(s->state.health) : "unknown";
}
