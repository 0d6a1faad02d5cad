/* Keys of the cluster's CA, of tokens, of the hosts that join with them, and of users: written by membership.
 * Each transaction names the indexes of the keys on which it was decided. */
#include <errno.h>
#include <stdio.h>

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

/* Check that the key is as it was: absent (0), or of this modified index. */
static void identities_check(Transaction *t, uint64_t index, LayoutKind kind, const char *name,
                             const char *machine) {
        transaction_check(t, index > 0 ? KV_CHECK_MODIFIED : KV_CHECK_ABSENT, index, kind, name, machine);
}

int registry_create_ca(Registry *r, uint64_t term, const CaRoots *roots, const CaKeys *keys,
                       RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text roots_text = {}, keys_text = {};

        identities_check(&t, 0, LAYOUT_CA_ROOTS, NULL, NULL);
        identities_check(&t, 0, LAYOUT_CA_KEY, NULL, NULL);
        stored_ca_roots_write(&roots_text, roots);
        stored_ca_keys_write(&keys_text, keys);
        transaction_write(&t, KV_SET, LAYOUT_CA_ROOTS, NULL, NULL, transaction_text(&t, &roots_text));
        transaction_write(&t, KV_SET, LAYOUT_CA_KEY, NULL, NULL, transaction_text(&t, &keys_text));
        transaction_note(&t, r, &(HistoryNote) { .kind = HISTORY_CA, .reason = "the CA was created" });
        return transaction_send(r, &t, term, done, userdata);
}

static void identities_write_rotation(Transaction *t, const CaChange *change) {
        _cleanup_text_ Text value = {};

        identities_check(t, change->rotation_index, LAYOUT_CA_ROTATION, NULL, NULL);
        if (change->rotation) {
                stored_ca_rotation_write(&value, change->rotation);
                transaction_write(t, KV_SET, LAYOUT_CA_ROTATION, NULL, NULL, transaction_text(t, &value));
        } else if (change->rotation_index > 0) {
                transaction_write(t, KV_DELETE, LAYOUT_CA_ROTATION, NULL, NULL, NO_VALUE);
        }
}

void transaction_change_ca(Transaction *t, const Registry *r, const CaChange *change) {
        _cleanup_text_ Text roots = {}, keys = {};

        identities_check(t, change->roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        identities_check(t, change->keys_index, LAYOUT_CA_KEY, NULL, NULL);
        if (change->roots) {
                stored_ca_roots_write(&roots, change->roots);
                transaction_write(t, KV_SET, LAYOUT_CA_ROOTS, NULL, NULL, transaction_text(t, &roots));
        }
        if (change->keys) {
                stored_ca_keys_write(&keys, change->keys);
                transaction_write(t, KV_SET, LAYOUT_CA_KEY, NULL, NULL, transaction_text(t, &keys));
        }
        identities_write_rotation(t, change);
        transaction_note(
                t, r, &(HistoryNote) { .kind = HISTORY_CA, .user = change->user, .reason = change->reason });
        for (size_t i = 0; i < change->n_tokens; i++)
                transaction_write(t, KV_DELETE, LAYOUT_TOKEN, change->tokens[i], NULL, NO_VALUE);
}

int registry_change_ca(Registry *r, uint64_t term, const CaChange *change, RegistryDone done,
                       void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_change_ca(&t, r, change);
        return transaction_send(r, &t, term, done, userdata);
}

/* 'machine': the host that uses it; NULL: none. */
static void identities_write_token(Transaction *t, const Registry *r, const TokenChange *change,
                                   const char *machine) {
        _cleanup_text_ Text value = {};
        char reason[HISTORY_REASON_SIZE];

        stored_token_write(&value, change->token);
        transaction_write(t, KV_SET, LAYOUT_TOKEN, change->id, NULL, transaction_text(t, &value));
        transaction_expire(t, change->ttl_ms);
        text_format(reason, sizeof(reason), "%s %s", change->id, change->reason);
        transaction_note(
                t, r,
                &(HistoryNote) {
                        .kind = HISTORY_TOKEN, .machine = machine, .user = change->user, .reason = reason });
}

int registry_set_token(Registry *r, const TokenChange *change, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        identities_check(&t, change->expected_index, LAYOUT_TOKEN, change->id, NULL);
        if (change->roots_index > 0)
                identities_check(&t, change->roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        identities_write_token(&t, r, change, NULL);
        return transaction_send(r, &t, 0, done, userdata);
}

static void identities_write_host(Transaction *t, const char *machine, const HostRecord *host) {
        _cleanup_text_ Text value = {};

        stored_host_write(&value, host);
        transaction_write(t, KV_SET, LAYOUT_HOST, NULL, machine, transaction_text(t, &value));
}

static const ClusterDenied *identities_oldest_denied(const Cluster *c) {
        const ClusterDenied *oldest = NULL;

        for (const ClusterDenied *d = c->denied; d; d = d->hh.next)
                if (!oldest || d->record.since_ms < oldest->record.since_ms)
                        oldest = d;
        return oldest;
}

void transaction_deny_keys(Transaction *t, const Registry *r, const ClusterMachine *machine) {
        const RemovedRecord *removed = machine ? machine->removed : NULL;
        const Cluster *c = registry_cluster(r);
        _cleanup_text_ Text value = {};
        DeniedRecord denied = {};

        if (!removed || !streq(removed->reason, CLUSTER_REMOVED_COMPROMISED))
                return;
        memcpy(denied.machine, machine->id, sizeof(denied.machine));
        denied.since_ms = removed->since_ms;
        stored_denied_write(&value, &denied);
        if (HASH_COUNT(c->denied) >= DENIED_MAX)
                transaction_write(t, KV_DELETE, LAYOUT_DENIED, identities_oldest_denied(c)->name, NULL,
                                  NO_VALUE);
        if (removed->pin[0])
                transaction_write(t, KV_SET, LAYOUT_DENIED, removed->pin, NULL, transaction_text(t, &value));
        if (removed->pin2[0])
                transaction_write(t, KV_SET, LAYOUT_DENIED, removed->pin2, NULL, transaction_text(t, &value));
}

int registry_set_host(Registry *r, const HostChange *change, RegistryDone done, void *userdata) {
        const TokenChange *token = change->token;
        _cleanup_transaction_ Transaction t = {};

        identities_check(&t, change->roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        identities_check(&t, change->expected_index, LAYOUT_HOST, NULL, change->machine);
        identities_check(&t, change->removed_index, LAYOUT_REMOVED, NULL, change->machine);
        if (token)
                identities_check(&t, token->expected_index, LAYOUT_TOKEN, token->id, NULL);

        identities_write_host(&t, change->machine, change->host);
        transaction_note(&t, r,
                         &(HistoryNote) { .kind = HISTORY_CERTIFICATE,
                                          .machine = change->machine,
                                          .reason = change->certificate });
        transaction_deny_keys(&t, r, cluster_machine(registry_cluster(r), change->machine));
        if (change->removed_index > 0)
                transaction_write(&t, KV_DELETE, LAYOUT_REMOVED, NULL, change->machine, NO_VALUE);
        if (!token)
                return transaction_send(r, &t, 0, done, userdata);

        identities_write_token(&t, r, token, change->machine);
        for (size_t i = 0; i < token->token->metadata.n; i++)
                transaction_write(&t, KV_SET, LAYOUT_METADATA, token->token->metadata.items[i].key,
                                  change->machine, kv_string(token->token->metadata.items[i].value));
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_set_user(Registry *r, const UserChange *change, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text value = {};
        char reason[HISTORY_REASON_SIZE];

        identities_check(&t, change->expected_index, LAYOUT_PRINCIPAL, change->name, NULL);
        if (change->roots_index > 0)
                identities_check(&t, change->roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        if (change->user) {
                stored_principal_write(&value, change->user);
                transaction_write(&t, KV_SET, LAYOUT_PRINCIPAL, change->name, NULL,
                                  transaction_text(&t, &value));
        } else
                transaction_write(&t, KV_DELETE, LAYOUT_PRINCIPAL, change->name, NULL, NO_VALUE);
        text_format(reason, sizeof(reason), "%s %s", change->name, change->reason);
        transaction_note(&t, r,
                         &(HistoryNote) { .kind = HISTORY_USER, .user = change->by, .reason = reason });
        return transaction_send(r, &t, 0, done, userdata);
}

/* -- Rows of the history without a key of their own -- */

/* The key exists for these rows only, and has no value. */
static const char noted[] = "noted";

void registry_note(Registry *r, const HistoryNote *notes, size_t n) {
        _cleanup_transaction_ Transaction t = {};
        KvState state;

        kv_state(registry_store(r), &state);
        if (state.level < KV_LEVEL_HISTORY) {
                registry_propose_for(r, "");
                return;
        }
        for (size_t i = 0; i < n; i++) {
                transaction_write(&t, KV_SET, LAYOUT_CLUSTER, noted, NULL, kv_string(""));
                transaction_note(&t, r, &notes[i]);
        }
        (void) transaction_send(r, &t, 0, NULL, NULL);
}
