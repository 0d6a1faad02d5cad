/* Assignments: the engine's writes. Each is valid only with the indexes and in the term that it was planned
 * on. */

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction_parts.h"

Verdict assignment_change_why(const AssignmentChange *c) {
        return c->noted != VERDICT_NONE ? (Verdict) { .code = c->noted } : c->why;
}

/* A rewrite in place directs the machine to do the same with another text: the history has the change of the
 * text. */
static void schedule_note(Transaction *t, const Registry *r, const AssignmentChange *c) {
        const ClusterAssignment *known = cluster_assignment(registry_cluster(r), c->machine, c->unit);
        Verdict why = assignment_change_why(c);

        if (!known || known->kind != c->kind)
                transaction_note(
                        t, r,
                        &(HistoryNote) { .kind = c->kind == ASSIGNMENT_STOP ? HISTORY_STOP : HISTORY_ASSIGNED,
                                         .unit = c->unit,
                                         .machine = c->machine,
                                         .verdict = &why });
}

void transaction_assign(Registry *r, Transaction *t, uint64_t term, const AssignmentChange *c) {
        _cleanup_text_ Text value = {};
        Assignment assignment = c->record;

        assignment.term = term;
        if (c->text_index > 0)
                assignment.unit_index = c->text_index;
        if (streq(c->base, c->hash))
                assignment.base[0] = 0;
        transaction_say_former(t, r, &assignment.why);

        transaction_expect(t, c->expected_index, LAYOUT_ASSIGNMENT, c->unit, c->machine);
        transaction_check_index(t, c->unit_index, LAYOUT_UNIT, c->unit, NULL);
        transaction_expect(t, c->presence_index, LAYOUT_PRESENCE, NULL, c->machine);

        stored_assignment_write(&value, &assignment);
        transaction_write(t, c->expected_index == 0 ? KV_CREATE : KV_UPDATE, LAYOUT_ASSIGNMENT, c->unit,
                          c->machine, transaction_text(t, &value));
        schedule_note(t, r, c);
}

/* Instances of the time before assignments named their texts: the assignment gets the number of the
 * template. */
static void schedule_follow(Registry *r, Transaction *follow, AssignmentChange *c) {
        const ClusterAssignment *known = cluster_assignment(registry_cluster(r), c->machine, c->unit);

        if (c->revision > 0 && known && known->revision == 0)
                transaction_follow(follow, r, c);
}

/* Append the writes of 'from', which keeps their strings. */
static void schedule_append(Transaction *t, const Transaction *from) {
        t->error = MIN(t->error, from->error);
        if (t->error < 0 || from->n_writes == 0)
                return;
        if (GROW(t->writes, t->writes_capacity, t->n_writes + from->n_writes) < 0) {
                t->error = -ENOMEM;
                return;
        }
        memcpy(t->writes + t->n_writes, from->writes, from->n_writes * sizeof(from->writes[0]));
        t->n_writes += from->n_writes;
}

int registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n, size_t *ret_n,
                    RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {}, follow = {}; /* writes of units come after all others */
        size_t taken = 0;

        for (size_t i = 0; i < n; i++) {
                size_t n_checks = t.n_checks, n_writes = t.n_writes, n_follow = follow.n_writes;
                AssignmentChange c = changes[i];

                schedule_follow(r, &follow, &c);
                transaction_assign(r, &t, term, &c);
                if (i > 0 && transaction_size(&t) + transaction_size(&follow) > KV_COMMAND_MAX) {
                        t.n_checks = n_checks;
                        t.n_writes = n_writes;
                        follow.n_writes = n_follow;
                        break;
                }
                taken++;
        }
        schedule_append(&t, &follow);
        if (ret_n)
                *ret_n = taken;
        return transaction_send(r, &t, term, done, userdata);
}

/* Return the number of checks that transaction_assign() adds. */
static size_t schedule_n_checks(const AssignmentChange *c) {
        return 1 + (c->expected_index > 0) + (c->presence_index > 0);
}

const AssignmentChange *registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                    size_t n) {
        uint64_t at = registry_refused_at(r);
        size_t end = 0;

        for (size_t i = 0; i < n && at > 0; i++) {
                end += schedule_n_checks(&changes[i]);
                if (at <= end)
                        return &changes[i];
        }
        return at > end && at - end <= n ? &changes[at - end - 1] : NULL; /* each has one write */
}
