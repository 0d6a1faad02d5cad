/* States and facts that this machine reports: the agent's writes. No other host writes these keys, so that
 * this host's tree has their current indexes. */
#include "fleetd/registry/endpoints.h"
#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

static const char *states_reason(const UnitState *s) {
        return s->reason && *s->reason ? s->reason : s->job;
}

/* Append the state as the history has it, and return its code; nothing for one on the way to another. */
static VerdictCode states_text(Text *t, const UnitState *s) {
        const char *active = s->active ?: "", *sub = s->sub ?: "", *load = s->load ?: "";
        const char *reason = states_reason(s);
        VerdictCode code = VERDICT_SAID;

        if (*s->job) {
                code = VERDICT_UNIT_NOT_STARTED;
                text_append(t, "not started");
        } else if (*load && !streq(load, "loaded") && !streq(active, "active")) {
                code = VERDICT_UNIT_NOT_LOADED;
                text_printf(t, "not loaded (%s)", load);
        } else if (streq(active, "failed")) {
                code = VERDICT_UNIT_FAILED;
                text_append(t, "failed");
        } else if (s->done)
                text_append(t, "finished");
        else if (streq(active, "active") || streq(active, "inactive") || streq(sub, "auto-restart")) {
                code = streq(sub, "auto-restart") ?
                               (*reason ? VERDICT_UNIT_RESTARTS_FAILED : VERDICT_UNIT_RESTARTS) :
                               s->code;
                text_printf(t, "%s (%s)", active, sub);
        } else
                return code;
        if (*reason)
                text_printf(t, ": %s", reason);
        return code;
}

/* Return whether systemd forgot a start that it had refused, as it cannot load the unit, and nothing else has
 * changed: the row of the start has the reason. This happens when the unit is stopped or destroyed. */
static bool states_forget_start(const UnitState *before, const UnitState *now) {
        const char *load = now->load ?: "", *reason = now->reason ?: "";

        return *before->job && !*now->job && *load && !streq(load, "loaded") &&
               streq(load, before->load ?: "") && streq(now->active ?: "", before->active ?: "") && *reason &&
               same_string(reason, before->reason);
}

/* Note a state that differs from the published one, a new start of a unit that was active before, and a new
 * failure. */
static void states_note(Transaction *t, const Registry *r, const StateChange *change) {
        const ClusterState *known = cluster_state(registry_cluster(r), registry_machine_id(r), change->unit);
        _cleanup_text_ Text before = {}, now = {};
        VerdictCode code;

        /* While hosts report to a cluster of a new lineage, they have not written their unit files: the next
         * state shows what became of the unit. */
        if (registry_cluster(r)->adopting && change->state.load && streq(change->state.load, "not-found"))
                return;
        if (known && states_forget_start(&known->state, &change->state))
                return;
        if (known)
                (void) states_text(&before, &known->state);
        code = states_text(&now, &change->state);
        if (known && now.size > 0 && streq(now.chars, before.chars ?: "")) {
                bool again = unit_state_failed_again(&known->state, &change->state);

                if (!again && !unit_state_restarted(&known->state, &change->state))
                        return;
                text_append(&now, again ? ", again" : ", started again");
        }
        if (!known && change->precedes &&
            same_string(change->state.active, "active")) /* as after a restore, which has not touched it */
                text_append(&now, ", since before fleetd started");
        if (change->note[0])
                text_printf(&now, "%s%s", now.size > 0 ? "; " : "", change->note);
        t->error = MIN(t->error, MIN(before.error, now.error));
        if (t->error == 0 && now.size > 0)
                transaction_note(t, r,
                                 &(HistoryNote) { .kind = HISTORY_STATE,
                                                  .unit = change->unit,
                                                  .machine = registry_machine_id(r),
                                                  .code = code,
                                                  .reason = now.chars });
}

static void states_add(Registry *r, Transaction *t, const StateChange *change) {
        const char *self = registry_machine_id(r);

        if (!change->remove) {
                UnitState state = change->state; /* borrowed */

                if (registry_is_codeless(r))
                        state.code = VERDICT_NONE;
                transaction_put(t, LAYOUT_STATE, change->unit, self, &state);
                states_note(t, r, change);
        } else if (transaction_key_index(t, r, LAYOUT_STATE, change->unit, self) > 0)
                transaction_delete(t, LAYOUT_STATE, change->unit, self);

        if (change->stopped) {
                transaction_check(t, KV_CHECK_MODIFIED, change->assignment_index, LAYOUT_ASSIGNMENT,
                                  change->unit, self);
                transaction_delete(t, LAYOUT_ASSIGNMENT, change->unit, self);
                transaction_note(t, r,
                                 &(HistoryNote) { .kind = HISTORY_STATE,
                                                  .unit = change->unit,
                                                  .machine = self,
                                                  .reason = "stopped" });
        }
}

/* Return this machine, if it may have endpoints. */
static const ClusterMachine *states_self(const Registry *r) {
        const Cluster *c = registry_cluster(r);
        const ClusterMachine *m = cluster_machine(c, registry_machine_id(r));

        return m && m->presence == PRESENCE_UP && m->presence_index > 0 && c->level >= KV_LEVEL_SERVICES ?
                       m :
                       NULL;
}

uint64_t registry_endpoint_wait_ms(const Registry *r) {
        const ClusterMachine *self = states_self(r);

        return self ? endpoints_wait_ms(registry_cluster(r), self->id, 1) : UINT64_MAX;
}

/* The transaction that writes the machine as lost deletes its endpoints: no later one adds one. */
static void states_register(Registry *r, Transaction *t, const StateChange *changes, size_t n) {
        const ClusterMachine *self = states_self(r);
        size_t n_set = 0;

        for (size_t i = 0; i < n; i++) {
                const Transaction before = *t;

                if (changes[i].endpoint_write != ENDPOINT_SET || !self ||
                    endpoints_wait_ms(registry_cluster(r), self->id, 1) > 0)
                        continue;
                if (n_set == 0)
                        transaction_check(t, KV_CHECK_MODIFIED, self->presence_index, LAYOUT_PRESENCE, NULL,
                                          self->id);
                transaction_put(t, LAYOUT_ENDPOINT, changes[i].unit, self->id, &changes[i].endpoint);
                if (transaction_fits(t, &before)) {
                        endpoints_take(registry_cluster(r), self->id, 1);
                        n_set++;
                }
        }
}

static void states_withdraw(Registry *r, Transaction *t, const char *unit) {
        const char *self = registry_machine_id(r);

        if (transaction_key_index(t, r, LAYOUT_ENDPOINT, unit, self) > 0)
                transaction_delete(t, LAYOUT_ENDPOINT, unit, self);
}

int registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = { .later = true };

        for (size_t i = 0; i < n; i++) {
                states_add(r, &t, &changes[i]);
                if (changes[i].endpoint_write == ENDPOINT_WITHDRAWN)
                        states_withdraw(r, &t, changes[i].unit);
        }
        states_register(r, &t, changes, n);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_withdraw(Registry *r, const char *const *units, size_t n, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        for (size_t i = 0; i < n; i++)
                states_withdraw(r, &t, units[i]);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata) {
        const ClusterMachine *before = cluster_machine(registry_cluster(r), facts->id);
        _cleanup_transaction_ Transaction t = {};

        transaction_put(&t, LAYOUT_FACTS, NULL, facts->id, facts);
        if (facts->version && (!before || !before->facts || !before->facts->version ||
                               !streq(before->facts->version, facts->version)))
                transaction_note(&t, r,
                                 &(HistoryNote) { .kind = HISTORY_VERSION,
                                                  .machine = facts->id,
                                                  .reason = facts->version });
        return transaction_send(r, &t, 0, done, userdata);
}
