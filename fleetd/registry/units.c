/* Units, their targets, problems, and metadata of machines: changes by people and by the unit directory.
 *
 * A unit key and its target key are created and deleted together, so that neither exists without the other.
 */

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction_parts.h"

static KvBytes units_target(TargetState target) {
        return kv_string(target_state_to_string(target));
}

/* Note what happens to a unit. A unit directory is that of this host. */
static void units_note(Transaction *t, const Registry *r, const UnitChange *change, HistoryKind kind,
                       const char *reason) {
        bool by_directory = change->user && streq(change->user, HISTORY_DIRECTORY);

        transaction_note(t, r,
                         &(HistoryNote) { .kind = kind,
                                          .unit = change->unit ? change->unit->name : change->name,
                                          .machine = by_directory ? registry_machine_id(r) : NULL,
                                          .user = change->user,
                                          .reason = reason });
}

static void units_write_target(Transaction *t, const Registry *r, const UnitChange *change,
                               TargetState target) {
        const char *name = change->unit ? change->unit->name : change->name;
        const ClusterUnit *known = cluster_any_unit(registry_cluster(r), name);

        transaction_write(t, KV_SET, LAYOUT_TARGET, name, NULL, units_target(target));
        if (cluster_unit_exists(known) && target != known->target) /* else the row of the unit has it */
                units_note(t, r, change, HISTORY_TARGET, target_state_to_string(target));
}

/* The row of an update has the revision and the hash: rows of different texts are no repetitions. One number
 * may have several texts: those of an instance that has drop-ins of its own, or of a unit that was destroyed
 * and submitted again. */
static void units_write_unit(Transaction *t, Transaction *former, Registry *r, const UnitRequest *request,
                             const UnitChange *change) {
        bool exists = cluster_unit_exists(cluster_any_unit(registry_cluster(r), change->unit->name));
        uint64_t former_revision = registry_former_revision(r, change->unit),
                 revision = transaction_write_unit(t, former, r, request, change);
        char text[sizeof("return to revision  ()") + 20 + UNIT_HASH_SIZE];
        const char *reason = NULL;

        snprintf(text, sizeof(text), "%srevision %llu (%.7s)", former_revision > 0 ? "return to " : "",
                 (unsigned long long) (former_revision > 0 ? former_revision : revision), change->unit->hash);
        if (exists && revision > 0)
                reason = text;
        else if (!exists && change->has_target && change->target != TARGET_INACTIVE)
                reason = target_state_to_string(change->target);
        units_note(t, r, change, exists ? HISTORY_UPDATED : HISTORY_SUBMITTED, reason);
}

/* A template that had no Replicas= at last leaves its instances as they are, also before the leader has
 * noticed its text. */
static void units_keep_instances(Transaction *t, const ClusterUnit *u) {
        if (u && u->replicas && cluster_replicas(u) < 0)
                transaction_delete(t, LAYOUT_REPLICAS, u->name, NULL);
}

void transaction_change_unit(Registry *r, Transaction *t, Transaction *former, const UnitRequest *request,
                             const UnitChange *change) {
        const char *name = change->unit ? change->unit->name : change->name;

        transaction_expect(t, change->expected_index, LAYOUT_UNIT, name, NULL);
        if (change->has_expected_target)
                transaction_check_value(t, LAYOUT_TARGET, name, NULL, units_target(change->expected_target));

        if (change->remove) {
                transaction_delete(t, LAYOUT_UNIT, name, NULL);
                units_note(t, r, change, HISTORY_DESTROYED, NULL);
                transaction_delete(t, LAYOUT_TARGET, name, NULL);
                units_keep_instances(t, cluster_unit(registry_cluster(r), name));
                return;
        }

        if (!change->unit && change->expected_index == 0)
                transaction_check(t, KV_CHECK_EXISTS, 0, LAYOUT_UNIT, name, NULL);

        /* A new text for an existing unit keeps its target; a new unit gets one. The check covers a unit that
         * is created or destroyed in between. */
        if (change->has_target)
                units_write_target(t, r, change, change->target);
        else if (change->unit && change->only_if_absent)
                units_write_target(t, r, change, TARGET_INACTIVE);
        else if (change->unit && transaction_key_index(t, r, LAYOUT_UNIT, name, NULL) == 0) {
                transaction_check(t, KV_CHECK_ABSENT, 0, LAYOUT_UNIT, name, NULL);
                units_write_target(t, r, change, TARGET_INACTIVE);
        } else if (change->unit && change->expected_index == 0)
                transaction_check(t, KV_CHECK_EXISTS, 0, LAYOUT_UNIT, name, NULL);

        /* After its target: a later index of the target means that it was requested again, without a text. */
        if (change->unit)
                units_write_unit(t, former, r, request, change);
}

/* Append the decision of a user: the text of the problem precedes it. */
static void units_append_confirmed(Text *t, ProblemKind kind) {
        static const char *const words[_PROBLEM_MAX] = {
                [PROBLEM_TAKEN] = "the file replaces the unit",
                [PROBLEM_HELD] = "the unit is removed, as its file is gone",
                [PROBLEM_REVERTED] = "the text of the file is submitted again",
                [PROBLEM_UNOWNED] = "the directory owns the unit",
        };

        text_printf(t, "confirmed: %s", words[kind] ?: problem_kind_to_string(kind));
}

static void units_note_problem(Transaction *t, const Registry *r, const ProblemChange *change) {
        const ClusterProblem *known = cluster_problem(registry_cluster(r), change->machine, change->name);
        const Problem *p = change->problem;
        _cleanup_text_ Text reason = {};

        if (p && known && known->problem.kind == p->kind && known->problem.confirmed == p->confirmed &&
            same_string(known->problem.text, p->text))
                return;
        if (p && p->confirmed)
                units_append_confirmed(&reason, p->kind);
        else if (p)
                text_printf(&reason, "%s: %s", problem_kind_to_string(p->kind), p->text ?: "");
        t->error = MIN(t->error, reason.error);
        transaction_note(t, r,
                         &(HistoryNote) { .kind = p ? HISTORY_PROBLEM : HISTORY_RESOLVED,
                                          .unit = change->name,
                                          .machine = change->machine,
                                          .user = change->user,
                                          .code = p && p->confirmed ? VERDICT_CONFIRMED : VERDICT_SAID,
                                          .reason = reason.chars });
}

static void units_add_problem(Registry *r, Transaction *t, const ProblemChange *change) {
        _cleanup_text_ Text value = {};

        transaction_expect(t, change->expected_index, LAYOUT_PROBLEM, change->name, change->machine);
        if (change->problem)
                stored_problem_write(&value, change->problem);
        transaction_write(t, change->problem ? KV_SET : KV_DELETE, LAYOUT_PROBLEM, change->name,
                          change->machine, transaction_text(t, &value));
        units_note_problem(t, r, change);
}

int registry_change_units(Registry *r, const UnitChange *changes, size_t n, RegistryDone done,
                          void *userdata) {
        return registry_change_directory(r, changes, n, NULL, 0, done, userdata);
}

/* A host that leaves, or has left, submits no units: it would run them again as its own cluster. */
static void units_check_owner(Transaction *t, const Registry *r, const char *owner) {
        const ClusterMachine *m = cluster_machine(registry_cluster(r), owner);
        uint64_t index = m && !cluster_machine_is_leaving(m) ? m->maintenance_index : 0;

        transaction_check_index(t, index, LAYOUT_MAINTENANCE, NULL, owner);
        transaction_check(t, KV_CHECK_ABSENT, 0, LAYOUT_REMOVED, NULL, owner);
}

int registry_change_directory(Registry *r, const UnitChange *changes, size_t n, const ProblemChange *problems,
                              size_t n_problems, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {}, former = {};
        const UnitRequest request = { changes, n };
        const char *owner = NULL;

        for (size_t i = 0; i < n; i++) {
                transaction_change_unit(r, &t, &former, &request, &changes[i]);
                owner = changes[i].unit && changes[i].unit->owner ? changes[i].unit->owner : owner;
        }
        if (owner)
                units_check_owner(&t, r, owner);
        for (size_t i = 0; i < n_problems; i++)
                units_add_problem(r, &t, &problems[i]);
        return transaction_send_after(r, &former, &t, done, userdata);
}

static void units_note_metadata(Transaction *t, const Registry *r, const MetadataChange *change) {
        const ClusterMachine *m = cluster_machine(registry_cluster(r), change->machine);
        const char *before = m ? pairs_get(&m->set, change->key) : NULL;
        _cleanup_text_ Text reason = {};

        if (before && streq(before, change->value))
                return;
        text_printf(&reason, *change->value ? "%s=%s" : "%s removed", change->key, change->value);
        t->error = MIN(t->error, reason.error);
        transaction_note(t, r,
                         &(HistoryNote) { .kind = HISTORY_METADATA,
                                          .machine = change->machine,
                                          .user = change->user,
                                          .reason = reason.chars });
}

int registry_set_metadata(Registry *r, const MetadataChange *changes, size_t n, RegistryDone done,
                          void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        for (size_t i = 0; i < n; i++) {
                transaction_write(&t, KV_SET, LAYOUT_METADATA, changes[i].key, changes[i].machine,
                                  kv_string(changes[i].value));
                units_note_metadata(&t, r, &changes[i]);
        }
        return transaction_send(r, &t, 0, done, userdata);
}
