/* Secrets: sealed with the cluster key, opened, and sealed again after a change of that key. A value is in
 * memory only between a request and the call that seals it, or from the call that opens it to its last use.
 */
#include "base/base64.h"
#include "fleetd/features/inputs/inputs_internal.h"
#include "fleetd/identity/authority.h"
#include "fleetd/registry/transaction.h"

/* What a value is sealed for: a ciphertext fits no other cluster, name, version or patterns. A name has no
 * space; each pattern follows its size. */
static void secret_context(const ComponentHost *host, const char *name, const SecretRecord *record,
                           Text *ret) {
        KvState state;

        kv_state(host->store, &state);
        text_printf(ret, "fleet-secret %016" PRIx64 " %s %" PRIu64, state.cluster_id, name, record->version);
        for (size_t i = 0; i < record->n_units; i++)
                text_printf(ret, " %zu:%s", strlen(record->units[i]), record->units[i]);
}

/* Read a cluster key; 0: the present one. */
static int secret_key(const ComponentHost *host, uint64_t number, ClusterKey *ret, Error *err) {
        int r;

        if (!host->authority)
                return error_set(err, -ENOKEY, "this host has no cluster key");
        r = authority_read_key(host->authority, number, ret, err);
        return r == -EAGAIN || r == -ENOMEM || r >= 0 ? r : -ENOKEY;
}

int secret_seal(const ComponentHost *host, const char *name, const void *value, size_t size,
                SecretRecord *record, Error *err) {
        _cleanup_cluster_key_ ClusterKey key = {};
        _cleanup_text_ Text context = {}, sealed = {}, text = {};
        size_t n;
        int r;

        TRY(secret_key(host, 0, &key, err));
        secret_context(host, name, record, &context);
        r = context.error;
        if (r >= 0)
                r = seal(key.bytes, context.chars, context.size, value, size, &sealed);
        text_append_base64(&text, sealed.bytes, sealed.size, false);
        r = MIN(MIN(r, sealed.error), text.error);
        if (r < 0)
                return error_set(err, r, "Failed to seal secret %s: %s", name, strerror(-r));
        record->cluster_key = key.number;
        record->size = size;
        record->lost = false;
        record->sealed = text_take(&text, &n);
        return 0;
}

/* -- The tree -- */

typedef struct SecretRead {
        SecretRecord *record;
        Error *err;
} SecretRead;

static int secret_on_node(void *userdata, const KvNode *node) {
        const SecretRead *read = userdata;

        return stored_secret_read(node->value.data, node->value.size, read->record, read->err);
}

static int secret_read(const ComponentHost *host, const char *name, SecretRecord *ret, Error *err) {
        SecretRead read = { .record = ret, .err = err };
        char path[LAYOUT_KEY_MAX];
        int r = kv_local_get(host->store, kv_string(layout_key(path, LAYOUT_SECRET, name, NULL)),
                             secret_on_node, &read);

        if (r == -ENOENT)
                return error_set(err, r, "secret %s is not set", name);
        return r < 0 ? error_prefix(err, r, "secret %s", name) : 0;
}

/* Open the value of a record, and set its size. */
static int secret_unseal(const ComponentHost *host, const char *name, SecretRecord *record, char **ret,
                         Error *err) {
        _cleanup_cluster_key_ ClusterKey key = {};
        _cleanup_text_ Text context = {};
        _cleanup_free_ char *sealed = NULL;
        size_t sealed_size = 0, size = 0;
        int r;

        TRY(secret_key(host, record->cluster_key, &key, err));
        secret_context(host, name, record, &context);
        r = context.error;
        if (r >= 0 && record->sealed)
                r = base64_decode(record->sealed, strlen(record->sealed), &sealed, &sealed_size);
        if (r >= 0)
                r = unseal(key.bytes, context.chars, context.size, sealed, sealed_size, ret, &size);
        if (r == -ENOMEM)
                return error_set(err, r, "out of memory");
        if (r < 0)
                return error_set(err, -EBADMSG,
                                 "secret %s was not sealed with cluster key %" PRIu64
                                 " of this host, or has changed since",
                                 name, key.number);
        record->size = size;
        return 0;
}

int secret_open(const ComponentHost *host, const char *name, SecretRecord *ret, char **ret_value,
                Error *err) {
        SecretRecord record = {};
        int r;

        TRY(secret_read(host, name, &record, err));
        r = secret_unseal(host, name, &record, ret_value, err);
        if (r >= 0)
                *ret = record;
        else
                secret_record_done(&record);
        return r;
}

static void secret_add(Transaction *t, const Cluster *c, const char *name, const SecretRecord *record) {
        const ClusterSecret *former = cluster_secret(c, name);

        transaction_check_index(t, former ? former->index : 0, LAYOUT_SECRET, name, NULL);
        /* Each member deletes a key that neither the CA nor a secret needs: none may be sealed with it
         * afterwards. */
        if (record)
                transaction_check_index(t, c->ca_keys_index, LAYOUT_CA_KEY, NULL, NULL);
        transaction_put(t, LAYOUT_SECRET, name, NULL, record);
}

int secret_write(Registry *r, const char *name, const SecretRecord *record, const char *user,
                 RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        char reason[HISTORY_REASON_SIZE];

        secret_add(&t, registry_cluster(r), name, record);
        if (record)
                text_format(reason, sizeof(reason), "%s version %" PRIu64 " set", name, record->version);
        else
                text_format(reason, sizeof(reason), "%s removed", name);
        transaction_note(&t, r, &(HistoryNote) { .kind = HISTORY_SECRET, .user = user, .reason = reason });
        return transaction_send(r, &t, 0, done, userdata);
}

/* -- After a change of the cluster key -- */

/* Return 1 if the record is to be written; else 0 or an error. */
static int secret_renew(const ComponentHost *host, const ClusterSecret *s, SecretRecord *record, Error *err) {
        char *value = NULL;
        int r;

        TRY(secret_read(host, s->name, record, err));
        r = secret_unseal(host, s->name, record, &value, err);
        if (r == -ENOKEY || r == -EBADMSG) {
                record->lost = true;
                return !s->record.lost;
        }
        if (r < 0)
                return r;
        free(TAKE_PTR(record->sealed));
        r = secret_seal(host, s->name, value, record->size, record, err);
        tls_secret_free(value, record->size);
        return r < 0 ? r : 1;
}

int secrets_reseal(void *self, RegistryDone done, void *userdata, Error *err) {
        const ComponentHost *host = ((const Inputs *) self)->host;
        const Cluster *c = registry_cluster(host->registry);
        int r, failed = 0;

        for (const ClusterSecret *s = c->secrets; s; s = s->hh.next) {
                _cleanup_cluster_key_ ClusterKey former = {};
                _cleanup_transaction_ Transaction t = {};
                _cleanup_(secret_record_done) SecretRecord record = {};

                if (s->record.cluster_key == c->ca_keys->items[0].cluster_key ||
                    (s->record.lost && secret_key(host, s->record.cluster_key, &former, NULL) == -ENOKEY))
                        continue;
                r = secret_renew(host, s, &record, err);
                failed = MIN(failed, r);
                if (r <= 0)
                        continue;
                secret_add(&t, c, s->name, &record);
                r = transaction_send(host->registry, &t, kv_leads(host->store), done, userdata);
                return r < 0 ? error_set(err, r, "%s", strerror(-r)) : 1;
        }
        return failed;
}
