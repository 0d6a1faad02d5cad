/* Units, their targets, problems, and metadata of machines: changes by people and by the unit directory.
 *
 * A unit key and its target key are created and deleted together, so that neither exists without the other.
 */
#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

static KvBytes units_target(TargetState target) {
        return kv_string(target_state_to_string(target));
}

static void units_write_target(Transaction *t, const char *name, TargetState target) {
        transaction_write(t, KV_SET, LAYOUT_TARGET, name, NULL, units_target(target));
}

static void units_write_unit(Transaction *t, KvOp op, const Unit *unit) {
        _cleanup_text_ Text value = {};

        stored_unit_write(&value, unit);
        transaction_write(t, op, LAYOUT_UNIT, unit->name, NULL, transaction_text(t, &value));
}

static void units_add(Registry *r, Transaction *t, const UnitChange *change) {
        const char *name = change->unit ? change->unit->name : change->name;

        transaction_expect(t, change->expected_index, LAYOUT_UNIT, name, NULL);
        if (change->has_expected_target)
                transaction_check_value(t, LAYOUT_TARGET, name, NULL, units_target(change->expected_target));

        if (change->remove) {
                transaction_write(t, KV_DELETE, LAYOUT_UNIT, name, NULL, NO_VALUE);
                transaction_write(t, KV_DELETE, LAYOUT_TARGET, name, NULL, NO_VALUE);
                return;
        }

        if (change->unit)
                units_write_unit(t, change->only_if_absent ? KV_CREATE : KV_SET, change->unit);
        else if (change->expected_index == 0)
                transaction_check(t, KV_CHECK_EXISTS, 0, LAYOUT_UNIT, name, NULL);

        /* A new text for an existing unit keeps its target; a new unit gets one. The check covers a unit that
         * is created or destroyed in between. */
        if (change->has_target)
                units_write_target(t, name, change->target);
        else if (change->unit && change->only_if_absent)
                units_write_target(t, name, TARGET_INACTIVE);
        else if (change->unit && transaction_key_index(t, r, LAYOUT_UNIT, name, NULL) == 0) {
                transaction_check(t, KV_CHECK_ABSENT, 0, LAYOUT_UNIT, name, NULL);
                units_write_target(t, name, TARGET_INACTIVE);
        } else if (change->unit && change->expected_index == 0)
                transaction_check(t, KV_CHECK_EXISTS, 0, LAYOUT_UNIT, name, NULL);
}

static void units_add_problem(Transaction *t, const ProblemChange *change) {
        _cleanup_text_ Text value = {};

        transaction_expect(t, change->expected_index, LAYOUT_PROBLEM, change->name, change->machine);
        if (change->problem)
                stored_problem_write(&value, change->problem);
        transaction_write(t, change->problem ? KV_SET : KV_DELETE, LAYOUT_PROBLEM, change->name,
                          change->machine, transaction_text(t, &value));
}

int registry_change_units(Registry *r, const UnitChange *changes, size_t n, RegistryDone done,
                          void *userdata) {
        return registry_change_directory(r, changes, n, NULL, 0, done, userdata);
}

int registry_change_directory(Registry *r, const UnitChange *changes, size_t n, const ProblemChange *problems,
                              size_t n_problems, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        for (size_t i = 0; i < n; i++)
                units_add(r, &t, &changes[i]);
        for (size_t i = 0; i < n_problems; i++)
                units_add_problem(&t, &problems[i]);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_set_metadata(Registry *r, const MetadataChange *changes, size_t n, RegistryDone done,
                          void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        for (size_t i = 0; i < n; i++)
                transaction_write(&t, KV_SET, LAYOUT_METADATA, changes[i].key, changes[i].machine,
                                  kv_string(changes[i].value));
        return transaction_send(r, &t, 0, done, userdata);
}
