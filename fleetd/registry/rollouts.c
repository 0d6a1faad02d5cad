/* Steps of rollouts: the record, the assignments that get the wanted text, and the texts of instances that
 * follow a template. */
#include "fleetd/registry/transaction_parts.h"

static void rollout_write_record(Transaction *t, const Registry *r, const RolloutWrite *w) {
        RolloutRecord record = w->record ? *w->record : (RolloutRecord) {}; /* borrowed */

        if (registry_is_codeless(r))
                record.code = VERDICT_NONE;
        transaction_put(t, LAYOUT_ROLLOUT, w->head->name, NULL, w->record ? &record : NULL);
        if (w->reason && *w->reason)
                transaction_note(t, r,
                                 &(HistoryNote) { .kind = HISTORY_ROLLOUT,
                                                  .unit = w->head->name,
                                                  .user = w->user,
                                                  .code = w->code,
                                                  .reason = w->reason });
}

/* The unit has the text of the template, perhaps with drop-ins of its own, and follows from now on. The
 * rollout of its set alone ends. */
static void rollout_write_joiner(Transaction *t, const ClusterUnit *u, const ClusterUnit *head) {
        Unit text = *u->unit; /* it borrows all */

        if (!unit_has_text_of(u->unit, head->unit, &text.own_size))
                return;
        unit_set_own(&text, text.own_size);
        transaction_write_follower(t, u, head, &text);
        if (u->rollout)
                transaction_delete(t, LAYOUT_ROLLOUT, u->name, NULL);
}

static void rollout_write_follower(Transaction *t, const ClusterUnit *follower, const ClusterUnit *head) {
        _cleanup_unit_ Unit *text = NULL;
        int r = follower->unit->own_size > 0 ? unit_compose(follower->unit, head->unit, &text) : 0;

        if (r < 0)
                t->error = r;
        else
                transaction_write_follower(t, follower, head, text ?: head->unit);
}

/* Add the assignments that fit into one command, and at least one: the next step has the others. */
static void rollout_write_changes(Transaction *t, Registry *r, uint64_t term, const RolloutWrite *w) {
        for (size_t i = 0; i < w->n_changes; i++) {
                size_t n_checks = t->n_checks, n_writes = t->n_writes;
                const ClusterUnit *follower;

                transaction_assign(r, t, term, &w->changes[i]);
                follower = streq(w->changes[i].unit, w->head->name) ?
                                   NULL :
                                   cluster_unit(registry_cluster(r), w->changes[i].unit);
                if (follower)
                        rollout_write_follower(t, follower, w->head);
                if (i > 0 && transaction_size(t) > KV_COMMAND_MAX) {
                        t->n_checks = n_checks;
                        t->n_writes = n_writes;
                        return;
                }
        }
}

/* The ones that fit in addition. */
static void rollout_write_followers(Transaction *t, const RolloutWrite *w) {
        for (size_t i = 0; i < w->n_followers; i++) {
                size_t n_checks = t->n_checks, n_writes = t->n_writes;

                transaction_check(t, KV_CHECK_MODIFIED, w->followers[i]->index, LAYOUT_UNIT,
                                  w->followers[i]->name, NULL);
                if (w->followers[i]->unit->from)
                        rollout_write_follower(t, w->followers[i], w->head);
                else
                        rollout_write_joiner(t, w->followers[i], w->head);
                if ((i > 0 || w->n_changes > 0) && transaction_size(t) > KV_COMMAND_MAX) {
                        t->n_checks = n_checks;
                        t->n_writes = n_writes;
                        return;
                }
        }
}

/* A revert has two texts, which may fit into no common transaction: the former one is stored first. It has no
 * term, but checks of the unit and of the record. */
int registry_roll(Registry *r, uint64_t term, const RolloutWrite *w, RegistryDone done, void *userdata) {
        const ClusterUnit *head = w->head;
        _cleanup_transaction_ Transaction t = {}, former = {};

        const UnitChange revert = { .unit = w->revert };

        if (w->revert)
                (void) transaction_write_unit(&t, &former, r, &(UnitRequest) { &revert, 1 }, &revert);
        else if (head->unit)
                transaction_check(&t, KV_CHECK_MODIFIED, head->index, LAYOUT_UNIT, head->name, NULL);
        /* Also if it does not change: a user may have paused the rollout meanwhile. */
        transaction_check(&t, head->rollout ? KV_CHECK_MODIFIED : KV_CHECK_ABSENT,
                          head->rollout ? head->rollout_index : 0, LAYOUT_ROLLOUT, head->name, NULL);
        if (w->record || w->remove)
                rollout_write_record(&t, r, w);
        rollout_write_changes(&t, r, term, w);
        rollout_write_followers(&t, w);
        if (w->revert)
                return transaction_send_after(r, &former, &t, done, userdata);
        return transaction_send(r, &t, term, done, userdata);
}
