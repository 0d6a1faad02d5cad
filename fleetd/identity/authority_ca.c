/* The CA of the cluster: its creation by the leader, and what answers contain of it. */

#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/registry/presence.h"

enum { FIRST_CLUSTER_KEY = 1 };

void authority_on_changed(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Authority *a = userdata;

        if (status != KV_OK && status != KV_COMPARE_FAILED)
                log_warning(NO_FIELDS, "Failed to %s: %s; trying again", a->changing, message);
        a->changing = NULL;
        loop_defer(a->loop, &a->update);
}

int authority_make_root(Authority *a, const KvState *state, const ClusterKey *key, CaRoot *ret_root,
                        CaKey *ret_key, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *private_key = NULL;
        uint8_t serial[TLS_SERIAL_BYTES];
        _cleanup_text_ Text pem = {};
        TlsPin pin;
        size_t size;
        int r;

        TRY(tls_private_key_new(&private_key, err));
        if (secret_random(serial, sizeof(serial)) < 0)
                return error_set(err, -EIO, "the system has no random numbers");
        TRY(tls_root_create(private_key, state->cluster_id, serial, loop_wall_ms(a->loop), &pem, err));
        if (pem.error < 0)
                return error_set(err, -ENOMEM, "out of memory");
        tls_private_key_pin(private_key, &pin);
        tls_pin_print(&pin, ret_root->id);
        r = keys_seal_ca(a, ret_root->id, private_key, key, ret_key, err);
        if (r >= 0)
                ret_root->pem = text_take(&pem, &size);
        return r;
}

/* Return the first cluster key of this host, which is made if there is none. */
static int authority_first_key(Authority *a, ClusterKey *ret, Error *err) {
        uint64_t number = MAX(a->keys.next_number, FIRST_CLUSTER_KEY);
        int r;

        r = key_store_read(a->key_store, number, ret, err);
        if (r != -ENOENT)
                return r;
        err->message[0] = 0;
        return keys_make(a, 0, ret, err);
}

/* On the leader. Return -EAGAIN while it is under way. A key without a CA is used again. */
static int authority_create_ca(Authority *a, const KvState *state, Error *err) {
        _cleanup_(ca_roots_record_done) CaRoots roots = { .n = 1 };
        _cleanup_(ca_keys_record_done) CaKeys keys = { .n = 1 };
        _cleanup_cluster_key_ ClusterKey key = {};
        int r;

        if (a->changing)
                return error_set(err, -EAGAIN, "the CA of the cluster is being created");
        TRY(authority_first_key(a, &key, err));
        TRY(keys_distribute(a, state, key.number, true, err));
        TRY(authority_make_root(a, state, &key, &roots.items[0], &keys.items[0], err));
        r = registry_create_ca(a->registry, state->term, &roots, &keys, authority_on_changed, a);
        if (r < 0)
                return error_set(err, r, "Failed to create the CA of the cluster: %s", strerror(-r));
        a->changing = "create the certificate authority of the cluster";
        return error_set(err, -EAGAIN, "the CA of the cluster is being created");
}

static void authority_request_ca(Authority *a, const KvState *state) {
        const uint8_t version = CA_WANTED_PROTOCOL;

        if (state->leader_machine_id[0])
                (void) peers_send(a->peers, state->leader_machine_id, PEER_CA_WANTED, &version,
                                  sizeof(version));
}

int authority_need_ca(Authority *a, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        kv_state(a->store, &state);
        if (!state.ready || !registry_ready(a->registry))
                return error_set(err, -EAGAIN, "the cluster has no leader now");
        if (state.level < KV_LEVEL_IDENTITY)
                return error_set(err, -EOPNOTSUPP,
                                 "tokens and certificates begin at feature level %d, and this cluster has "
                                 "level %u; when all hosts "
                                 "run this version: fleetctl cluster level %d",
                                 KV_LEVEL_IDENTITY, state.level, KV_LEVEL_IDENTITY);
        if (a->keys.problem.code != VERDICT_NONE) /* an administrator may have mended it */
                a->keys.checked_index = 0;
        keys_check(a, &state);
        if (c->ca_roots && a->keys.opening)
                return error_set(err, -EAGAIN, "this host is opening its cluster key");
        if (c->ca_roots)
                return keys_check_problem(a, -EAGAIN, "this host cannot sign: ", err);
        if (cluster_has_unreadable(c, LAYOUT_CA_ROOTS) || cluster_has_unreadable(c, LAYOUT_CA_KEY))
                return error_set(err, -EBADMSG, "the keys of the CA cannot be read; upgrade this host");
        if (state.role == KV_ROLE_LEADER)
                return authority_create_ca(a, &state, err);
        authority_request_ca(a, &state);
        return error_set(err, -EAGAIN, "the leader has not created the CA of the cluster yet");
}

int authority_prepare_key(Authority *a, AuthorityDone *done, void *userdata, Error *err) {
        AuthorityOp *op;

        return authority_op_begin(a, AUTHORITY_KEY, done, userdata, &op, err);
}

int authority_read_key(Authority *a, uint64_t number, ClusterKey *ret, Error *err) {
        const CaKeys *keys = registry_cluster(a->registry)->ca_keys;

        if (number == 0 && (!keys || keys->n == 0))
                return error_set(err, -ENOENT, "the cluster has no cluster key");
        return key_store_read(a->key_store, number > 0 ? number : keys->items[0].cluster_key, ret, err);
}

void authority_want_ca(Authority *a) {
        a->wanted_until_ms = loop_now_ms(a->loop) + AUTHORITY_MS;
        loop_defer(a->loop, &a->update);
}

static void authority_add_endpoint(char (*ret)[ADDRESS_SIZE], size_t *n, size_t max, const char *address) {
        if (*n < max && *address)
                memcpy(ret[(*n)++], address, strlen(address) + 1);
}

size_t authority_endpoints(const Authority *a, char (*ret)[ADDRESS_SIZE], size_t max) {
        const Cluster *c = registry_cluster(a->registry);
        size_t n = 0;

        authority_add_endpoint(ret, &n, max, component_peer_address(a->host));
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->member.raft_id != 0 && !m->removed && !streq(m->id, a->machine_id) &&
                    m->presence == PRESENCE_UP)
                        authority_add_endpoint(ret, &n, max, m->member.peer);
        return n;
}

void authority_append_roots(const Authority *a, Text *ret) {
        const CaRoots *roots = registry_cluster(a->registry)->ca_roots;

        for (size_t i = 0; i < roots->n; i++)
                text_append(ret, roots->items[i].pem);
}

void authority_answer_of(const Authority *a, const Text *certificate, Text *roots, EnterAnswer *ret) {
        KvState state;

        kv_state(a->store, &state);
        authority_append_roots(a, roots);
        *ret = (EnterAnswer) { .certificate = certificate->chars,
                               .roots = roots->chars,
                               .cluster_id = state.cluster_id,
                               .lineage = state.lineage };
        ret->n_endpoints = authority_endpoints(a, ret->endpoints, ENTER_ENDPOINTS_MAX);
}
