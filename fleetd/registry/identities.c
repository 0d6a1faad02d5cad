/* Keys of the cluster's CA, of tokens, of the hosts that join with them, and of users. Each transaction
 * checks the indexes that its keys have in the cluster view, on which it was decided. */

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction_parts.h"

int registry_create_ca(Registry *r, uint64_t term, const CaRoots *roots, const CaKeys *keys,
                       RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_check_index(&t, 0, LAYOUT_CA_ROOTS, NULL, NULL);
        transaction_check_index(&t, 0, LAYOUT_CA_KEY, NULL, NULL);
        transaction_put(&t, LAYOUT_CA_ROOTS, NULL, NULL, roots);
        transaction_put(&t, LAYOUT_CA_KEY, NULL, NULL, keys);
        transaction_note(&t, r, &(HistoryNote) { .kind = HISTORY_CA, .reason = "the CA was created" });
        return transaction_send(r, &t, term, done, userdata);
}

void transaction_change_ca(Transaction *t, const Registry *r, const CaChange *change) {
        const Cluster *c = registry_cluster(r);

        transaction_check_index(t, c->ca_roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        transaction_check_index(t, c->ca_keys_index, LAYOUT_CA_KEY, NULL, NULL);
        if (change->roots)
                transaction_put(t, LAYOUT_CA_ROOTS, NULL, NULL, change->roots);
        if (change->keys)
                transaction_put(t, LAYOUT_CA_KEY, NULL, NULL, change->keys);
        transaction_check_index(t, c->ca_rotation_index, LAYOUT_CA_ROTATION, NULL, NULL);
        if (change->rotation || c->ca_rotation_index > 0)
                transaction_put(t, LAYOUT_CA_ROTATION, NULL, NULL, change->rotation);
        transaction_note(
                t, r, &(HistoryNote) { .kind = HISTORY_CA, .user = change->user, .reason = change->reason });
        for (size_t i = 0; i < change->n_tokens; i++)
                transaction_delete(t, LAYOUT_TOKEN, change->tokens[i], NULL);
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
        char reason[HISTORY_REASON_SIZE];

        transaction_put(t, LAYOUT_TOKEN, change->id, NULL, change->token);
        transaction_expire(t, change->ttl_ms);
        text_format(reason, sizeof(reason), "%s %s", change->id, change->reason);
        transaction_note(
                t, r,
                &(HistoryNote) {
                        .kind = HISTORY_TOKEN, .machine = machine, .user = change->user, .reason = reason });
}

int registry_set_token(Registry *r, const TokenChange *change, RegistryDone done, void *userdata) {
        const Cluster *c = registry_cluster(r);
        const ClusterToken *known = cluster_token(c, change->id);
        _cleanup_transaction_ Transaction t = {};

        transaction_check_index(&t, known ? known->index : 0, LAYOUT_TOKEN, change->id, NULL);
        if (!known)
                transaction_check_index(&t, c->ca_roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        identities_write_token(&t, r, change, NULL);
        return transaction_send(r, &t, 0, done, userdata);
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
        DeniedRecord denied = {};

        if (!removed || !streq(removed->how, CLUSTER_REMOVED_COMPROMISED))
                return;
        memcpy(denied.machine, machine->id, sizeof(denied.machine));
        denied.since_ms = removed->since_ms;
        if (HASH_COUNT(c->denied) >= DENIED_MAX)
                transaction_delete(t, LAYOUT_DENIED, identities_oldest_denied(c)->name, NULL);
        if (removed->pin[0])
                transaction_put(t, LAYOUT_DENIED, removed->pin, NULL, &denied);
        if (removed->pin2[0])
                transaction_put(t, LAYOUT_DENIED, removed->pin2, NULL, &denied);
}

int registry_set_host(Registry *r, const HostChange *change, RegistryDone done, void *userdata) {
        const Cluster *c = registry_cluster(r);
        const ClusterMachine *m = cluster_machine(c, change->machine);
        const TokenChange *token = change->token;
        const ClusterToken *known = token ? cluster_token(c, token->id) : NULL;
        _cleanup_transaction_ Transaction t = {};

        transaction_check_index(&t, c->ca_roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        transaction_check_index(&t, m ? m->host_index : 0, LAYOUT_HOST, NULL, change->machine);
        transaction_check_index(&t, m ? m->removed_index : 0, LAYOUT_REMOVED, NULL, change->machine);
        if (token)
                transaction_check_index(&t, known ? known->index : 0, LAYOUT_TOKEN, token->id, NULL);

        transaction_put(&t, LAYOUT_HOST, NULL, change->machine, change->host);
        transaction_note(&t, r,
                         &(HistoryNote) { .kind = HISTORY_CERTIFICATE,
                                          .machine = change->machine,
                                          .reason = change->certificate });
        transaction_deny_keys(&t, r, m);
        if (m && m->removed_index > 0)
                transaction_delete(&t, LAYOUT_REMOVED, NULL, change->machine);
        if (!token)
                return transaction_send(r, &t, 0, done, userdata);

        identities_write_token(&t, r, token, change->machine);
        for (size_t i = 0; i < token->token->metadata.n; i++)
                transaction_write(&t, KV_SET, LAYOUT_METADATA, token->token->metadata.items[i].key,
                                  change->machine, kv_string(token->token->metadata.items[i].value));
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_set_user(Registry *r, const UserChange *change, RegistryDone done, void *userdata) {
        const Cluster *c = registry_cluster(r);
        const ClusterPrincipal *known = cluster_principal(c, change->name);
        _cleanup_transaction_ Transaction t = {};
        char reason[HISTORY_REASON_SIZE];

        transaction_check_index(&t, known ? known->index : 0, LAYOUT_PRINCIPAL, change->name, NULL);
        if (change->certified)
                transaction_check_index(&t, c->ca_roots_index, LAYOUT_CA_ROOTS, NULL, NULL);
        transaction_put(&t, LAYOUT_PRINCIPAL, change->name, NULL, change->user);
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
