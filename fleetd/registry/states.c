/* States and facts that this machine reports: the agent's writes. No other host writes these keys, so that
 * this host's tree has their current indexes. */
#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

static void states_add(Registry *r, Transaction *t, const StateChange *change) {
        const char *self = registry_machine_id(r);
        _cleanup_text_ Text value = {};

        if (!change->remove) {
                stored_state_write(&value, &change->state);
                transaction_write(t, KV_SET, LAYOUT_STATE, change->unit, self, transaction_text(t, &value));
        } else if (transaction_key_index(t, r, LAYOUT_STATE, change->unit, self) > 0)
                transaction_write(t, KV_DELETE, LAYOUT_STATE, change->unit, self, NO_VALUE);

        if (change->stopped) {
                transaction_check(t, KV_CHECK_MODIFIED, change->assignment_index, LAYOUT_ASSIGNMENT,
                                  change->unit, self);
                transaction_write(t, KV_DELETE, LAYOUT_ASSIGNMENT, change->unit, self, NO_VALUE);
        }
}

int registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = { .later = true };

        for (size_t i = 0; i < n; i++)
                states_add(r, &t, &changes[i]);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text value = {};

        stored_facts_write(&value, facts);
        transaction_write(&t, KV_SET, LAYOUT_FACTS, NULL, facts->id, transaction_text(&t, &value));
        return transaction_send(r, &t, 0, done, userdata);
}
