/* Writing the steps of rollouts; rollout.c plans them, without I/O. */

#include "fleetd/engine/plan.h"
#include "fleetd/features/rollout/rollout.h"

/* 'text': that of the set, with the drop-ins of the instance. */
static AssignmentChange rollout_update(const Cluster *cluster, const ClusterUnit *head,
                                       const RolloutInstance *p, const Unit *text) {
        const ClusterAssignment *o = p->assignment;
        AssignmentChange c = {
                .kind = o->kind,
                .expected_index = o->index,
                .unit_index = o->of->index,
                .revision = revisions_wanted(&head->unit->revisions),
                .finished = !p->to && plan_stays_finished(o),
                .since_ms = rollout_starts_again(text, p) ? cluster->now_ms : o->since_ms,
                .inputs = o->of->inputs ? o->of->inputs->number : 0,
        };

        if (o->hold_ms > 0) /* otherwise its process has no guard: it is stopped, and starts with one */
                c.hold_ms = plan_hold_ms(cluster, text, o, o->kind);
        memcpy(c.machine, o->machine->id, sizeof(c.machine));
        if (p->to) {
                const ClusterAssignment *there = cluster_assignment(cluster, p->to->id, o->unit);

                c.expected_index = there ? there->index : 0;
                c.presence_index = p->to->presence_index;
                c.since_ms = cluster->now_ms;
                c.hold_ms = plan_hold_ms(cluster, text, there, o->kind);
                memcpy(c.machine, p->to->id, sizeof(c.machine));
                memcpy(c.instead, o->machine->id, sizeof(c.instead));
        }
        memcpy(c.unit, o->unit, sizeof(c.unit));
        memcpy(c.hash, text->hash, sizeof(c.hash));
        memcpy(c.base, head->unit->hash, sizeof(c.base));
        c.own = text->own;
        if (p->to)
                verdict_set(&c.why, VERDICT_SURGES, "%s" VERDICT_NEXT "%llu",
                            cluster_machine_name(o->machine), (unsigned long long) c.revision);
        else
                c.why = o->why;
        return c;
}

static int rollout_read_updates(const Cluster *cluster, const ClusterUnit *head, const RolloutStep *step,
                                AssignmentChange *ret) {
        for (size_t i = 0; i < step->n_updates; i++) {
                const RolloutInstance *p = &step->updates[i];
                _cleanup_unit_ Unit *whole = NULL;

                TRY(rollout_compose(head, p->unit, &whole));
                ret[i] = rollout_update(cluster, head, p, whole ?: head->unit);
        }
        return 0;
}

/* The numbers of a unit that was destroyed and submitted again name other texts. */
static int rollout_read_reverted(Registry *registry, const ClusterUnit *head, RolloutStep *step, Unit **ret) {
        char why[ROLLOUT_WHY_SIZE];
        int r = registry_read_revision(registry, head->name, step->next.to.number, ret);

        if (r >= 0 && streq((*ret)->hash, step->next.to.hash))
                return 0;
        if (r < 0 && r != -ENOENT && r != -EBADMSG)
                return r;
        *ret = unit_free(*ret);
        snprintf(why, sizeof(why), "revision %llu is not stored any more",
                 (unsigned long long) step->next.to.number);
        rollout_step_pause_instead(step, why);
        return 0;
}

static int rollout_send(Registry *registry, uint64_t term, const RolloutWrite *write, const RolloutStep *step,
                        RegistryDone done, void *userdata) {
        RolloutWrite w = *write;

        w.record = step->has_record ? &step->next : NULL;
        w.remove = step->change == ROLLOUT_DELETE;
        w.code = step->code;
        w.reason = step->reason;
        return registry_roll(registry, term, &w, done, userdata);
}

int rollout_step_write(Registry *registry, uint64_t term, const ClusterUnit *head, RolloutStep *step,
                       RegistryDone done, void *userdata) {
        const Cluster *cluster = registry_cluster(registry);
        _cleanup_free_ AssignmentChange *changes = NEW0(AssignmentChange, step->n_updates + 1);
        _cleanup_unit_ Unit *revert = NULL;
        RolloutWrite write;
        int r;

        if (!changes)
                return -ENOMEM;
        r = TRY(rollout_read_updates(cluster, head, step, changes));
        if (step->change == ROLLOUT_REVERT)
                r = TRY(rollout_read_reverted(registry, head, step, &revert));
        write = (RolloutWrite) { .head = head,
                                 .changes = changes,
                                 .n_changes = step->n_updates,
                                 .followers = step->followers,
                                 .n_followers = step->n_followers,
                                 .revert = revert };
        r = rollout_send(registry, term, &write, step, done, userdata);
        if (r == -EBUSY && revert) {
                write.revert = NULL;
                rollout_step_pause_instead(step, "too many revisions are stored (KeepRevisions=)");
                r = rollout_send(registry, term, &write, step, done, userdata);
        }
        return r;
}
