/* The CA of the cluster, and tokens. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "peers/frames.h"
#include "fleetd/registry/presence.h"

enum { CA_WANTED_PROTOCOL = 1, FIRST_CLUSTER_KEY = 1 };

bool authority_may_issue(Authority *a) {
        return pace_try(&a->issues, AUTHORITY_ISSUED_SEC, AUTHORITY_ISSUED_SEC, loop_now_ms(a->loop));
}

/* -- Operations -- */

static void authority_on_retry(void *userdata) {
        AuthorityOp *op = userdata;

        loop_defer(op->authority->loop, &op->authority->update);
}

AuthorityOp *authority_op_new(Authority *a, AuthorityOpKind kind, void *userdata) {
        AuthorityOp *op;
        bool of_host = kind == AUTHORITY_JOIN || kind == AUTHORITY_RENEW;
        size_t n = 0, n_hosts = 0;

        LIST_FOREACH(op, &a->operations, ops) {
                n++;
                n_hosts += op->kind == AUTHORITY_JOIN || op->kind == AUTHORITY_RENEW;
        }
        op = n < AUTHORITY_OPS_MAX && (!of_host || n_hosts < AUTHORITY_OPS_HOSTS) ? NEW0(AuthorityOp, 1) :
                                                                                    NULL;
        if (!op)
                return NULL;
        op->authority = a;
        op->kind = kind;
        op->userdata = userdata;
        op->lifetime_ms = TLS_LEAF_LIFETIME_MS;
        op->deadline_ms = loop_now_ms(a->loop) + AUTHORITY_MS;
        op->retry = TIMER(authority_on_retry, op);
        LIST_INSERT_HEAD(&a->operations, op, ops);
        loop_defer(a->loop, &a->update);
        return op;
}

void authority_op_free(AuthorityOp *op) {
        LIST_REMOVE(op, ops);
        if (op->syncing)
                kv_sync_cancel(op->authority->store, &op->sync);
        registry_cancel(op->authority->registry, op);
        timer_stop(&op->retry);
        token_record_done(&op->record);
        right_list_unref(op->rights);
        enter_request_done(&op->request);
        explicit_bzero(op, sizeof(*op));
        free(op);
}

void authority_op_fail(AuthorityOp *op, int error, const char *message) {
        if (op->kind == AUTHORITY_TOKEN)
                op->token_done(op->userdata, error, message, NULL);
        else if (op->kind == AUTHORITY_SECURE)
                op->secured(op->userdata, error, message);
        else
                authority_host_fail(op, error, message);
        authority_op_free(op);
}

void authority_op_again(AuthorityOp *op) {
        op->writing = false;
        (void) timer_start(&op->retry, op->authority->loop, AUTHORITY_RETRY_MS);
}

/* -- CA -- */

static void authority_on_ca_created(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Authority *a = userdata;

        a->creating = false;
        if (status != KV_OK && status != KV_COMPARE_FAILED)
                log_warning(NO_FIELDS,
                            "Failed to create the certificate authority of the cluster: %s; trying again",
                            message);
        loop_defer(a->loop, &a->update);
}

/* Make the root of a new private key: its PEM, and the key sealed. */
int authority_make_root(Authority *a, const KvState *state, const ClusterKey *key, CaRoot *ret_root,
                        CaKey *ret_key, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *private_key = NULL;
        uint8_t serial[TLS_SERIAL_BYTES];
        _cleanup_text_ Text pem = {};
        TlsPin pin;
        size_t size;
        int r;

        r = tls_private_key_new(&private_key, err);
        if (r < 0)
                return r;
        if (secret_random(serial, sizeof(serial)) < 0)
                return error_set(err, -EIO, "the system has no random numbers");
        r = tls_root_create(private_key, state->cluster_id, serial, loop_wall_ms(a->loop), &pem, err);
        if (r < 0)
                return r;
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

        if (a->creating)
                return error_set(err, -EAGAIN, "the CA of the cluster is being created");
        r = authority_first_key(a, &key, err);
        if (r < 0)
                return r;
        r = keys_distribute(a, state, key.number, true, err);
        if (r < 0)
                return r;
        r = authority_make_root(a, state, &key, &roots.items[0], &keys.items[0], err);
        if (r < 0)
                return r;
        r = registry_create_ca(a->registry, state->term, &roots, &keys, authority_on_ca_created, a);
        if (r < 0)
                return error_set(err, r, "Failed to create the CA of the cluster: %s", strerror(-r));
        a->creating = true;
        return error_set(err, -EAGAIN, "the CA of the cluster is being created");
}

static void authority_request_ca(Authority *a, const KvState *state) {
        const uint8_t version = CA_WANTED_PROTOCOL;

        if (state->leader_machine_id[0])
                (void) peers_send(a->peers, state->leader_machine_id, PEER_CA_WANTED, &version,
                                  sizeof(version));
}

static void authority_on_ca_wanted(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                   size_t size) {
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        Authority *a = userdata;

        if (reader_end(&r) < 0 || version != CA_WANTED_PROTOCOL)
                return;
        authority_want_ca(a);
}

/* Return 0 if the cluster has a CA; otherwise create it, or let the leader create it. -EAGAIN: not yet. */
static int authority_need_ca(Authority *a, Error *err) {
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

void authority_want_ca(Authority *a) {
        if (!a->state_directory)
                return;
        a->wanted_until_ms = loop_now_ms(a->loop) + AUTHORITY_MS;
        loop_defer(a->loop, &a->update);
}

/* -- Tokens -- */

static void authority_add_endpoint(char (*ret)[ADDRESS_SIZE], size_t *n, size_t max, const char *address) {
        if (*n < max && *address)
                memcpy(ret[(*n)++], address, strlen(address) + 1);
}

size_t authority_endpoints(const Authority *a, char (*ret)[ADDRESS_SIZE], size_t max) {
        const Cluster *c = registry_cluster(a->registry);
        size_t n = 0;

        authority_add_endpoint(ret, &n, max, a->peer_address);
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->member.raft_id != 0 && !m->removed && !streq(m->id, a->machine_id) &&
                    m->presence == PRESENCE_UP)
                        authority_add_endpoint(ret, &n, max, m->member.peer);
        return n;
}

static void authority_on_token_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        AuthorityOp *op = userdata;
        _cleanup_text_ Text text = {};
        AuthorityToken token = { .id = op->token.id,
                                 .expires_ms = op->record.expires_ms,
                                 .uses = op->record.uses };

        op->writing = false;
        if (status == KV_COMPARE_FAILED) {
                authority_op_again(op);
                return;
        }
        if (status != KV_OK) {
                authority_op_fail(op, -EAGAIN, message);
                return;
        }
        token_print(&op->token, &text);
        token.text = text.chars;
        if (text.error < 0) {
                authority_op_fail(op, -ENOMEM, "out of memory");
        } else {
                op->token_done(op->userdata, 0, NULL, &token);
                authority_op_free(op);
        }
        if (text.chars)
                explicit_bzero(text.chars, text.size);
}

bool authority_is_opening(const Authority *a) {
        const ClusterMachine *self = cluster_machine(registry_cluster(a->registry), a->machine_id);

        return peers_self(a->peers)->address[0] && !kv_is_attached(a->store) &&
               (!a->peer_address[0] || !self || !self->member.peer[0]);
}

/* Fill in the token of the current root, with a fresh ID and secret. */
static int authority_make_token(Authority *a, Token *ret, Error *err) {
        const CaRoot *root = ca_roots_current(registry_cluster(a->registry)->ca_roots);
        uint8_t id[TOKEN_ID_BYTES];
        KvState state;
        TlsPin pin;

        kv_state(a->store, &state);
        *ret = (Token) { .cluster_id = state.cluster_id };
        ret->n_endpoints = authority_endpoints(a, ret->endpoints, TOKEN_ENDPOINTS_MAX);
        if (ret->n_endpoints == 0 && peers_self(a->peers)->address[0])
                return error_set(err, -EAGAIN,
                                 "this host waits for its certificate, and listens for other hosts then: "
                                 "repeat the command in some seconds; if that lasts: journalctl -u fleetd");
        if (ret->n_endpoints == 0)
                return error_set(
                        err, -EADDRNOTAVAIL,
                        "no host of the cluster listens for other hosts: fleetctl init opens the listener "
                        "of this host");
        if (tls_pin_parse(root->id, &pin) < 0 || secret_random(id, sizeof(id)) < 0 ||
            secret_random(ret->secret, sizeof(ret->secret)) < 0)
                return error_set(err, -EIO, "the system has no random numbers");
        memcpy(ret->root, pin.bytes, sizeof(ret->root));
        for (size_t i = 0; i < sizeof(id); i++)
                snprintf(ret->id + 2 * i, 3, "%02x", id[i]);
        return 0;
}

static void authority_write_token(AuthorityOp *op) {
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        TokenChange change = { .id = op->token.id,
                               .token = &op->record,
                               .user = op->record.by,
                               .roots_index = c->ca_roots_index,
                               .ttl_ms = op->record.expires_ms + TOKEN_KEPT_MS - loop_wall_ms(a->loop) };
        char reason[64];
        Error err = {};
        int r;

        r = authority_make_token(a, &op->token, &err);
        if (r < 0) {
                authority_op_fail(op, r, error_text(&err, r));
                return;
        }
        memcpy(op->record.root, ca_roots_current(c->ca_roots)->id, sizeof(op->record.root));
        snprintf(reason, sizeof(reason), "created, %llu use%s", (unsigned long long) op->record.uses,
                 op->record.uses == 1 ? "" : "s");
        change.reason = reason;
        if (token_secret_hash(op->token.secret, op->record.hash) < 0)
                r = -EIO;
        else
                r = registry_set_token(a->registry, &change, authority_on_token_written, op);
        if (r < 0)
                authority_op_fail(op, r, "Failed to create the token");
        else
                op->writing = true;
}

int authority_create_token(Authority *a, const TokenRequest *request, AuthorityTokenDone *done,
                           void *userdata, Error *err) {
        TokenRequest planned = *request;
        AuthorityOp *op;
        KvState state;
        int r;

        if (!a || !a->state_directory)
                return error_set(err, -EOPNOTSUPP, "this host has no state directory");
        kv_state(a->store, &state);
        planned.level = state.level;
        op = authority_op_new(a, AUTHORITY_TOKEN, userdata);
        if (!op)
                return error_set(err, -ENOMEM, "too many requests at once; try again");
        r = token_plan(registry_cluster(a->registry), &planned, loop_wall_ms(a->loop), &op->record, err);
        if (r < 0) {
                authority_op_free(op);
                return r;
        }
        op->token_done = done;
        return 0;
}

int authority_revoke_token(Authority *a, const char *id, const char *user, RegistryDone done, void *userdata,
                           Error *err) {
        const ClusterToken *t = cluster_token(registry_cluster(a->registry), id);
        uint64_t now_ms = loop_wall_ms(a->loop);
        TokenRecord record;
        int r;

        if (!t)
                return error_set(err, -ENOENT, "the cluster has no token %.32s", id);
        if (t->record.revoked)
                return error_set(err, -EALREADY, "token %s was revoked before", t->name);
        record = t->record; /* borrows its metadata */
        record.revoked = true;
        r = registry_set_token(
                a->registry,
                &(TokenChange) { .id = t->name,
                                 .token = &record,
                                 .expected_index = t->index,
                                 .reason = "revoked",
                                 .user = user,
                                 .ttl_ms = MAX(record.expires_ms, now_ms) + TOKEN_KEPT_MS - now_ms },
                done, userdata);
        return r < 0 ? error_set(err, r, "Failed to revoke token %s: %s", t->name, strerror(-r)) : 0;
}

/* -- Progress -- */

static void authority_step(AuthorityOp *op) {
        bool needs_ca = op->kind == AUTHORITY_TOKEN || op->kind == AUTHORITY_ENROLL ||
                        op->kind == AUTHORITY_USER || op->kind == AUTHORITY_SECURE;
        Error err = {};
        int r;

        r = needs_ca ? authority_need_ca(op->authority, &err) : 0;
        if (r == -EAGAIN && loop_now_ms(op->authority->loop) < op->deadline_ms)
                return;
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else if (op->kind == AUTHORITY_TOKEN)
                authority_write_token(op);
        else if (op->kind == AUTHORITY_USER)
                authority_user_step(op);
        else if (op->kind == AUTHORITY_SECURE)
                authority_secure_step(op);
        else
                authority_host_step(op);
}

static void authority_on_update(void *userdata) {
        Authority *a = userdata;
        uint64_t now_ms = loop_now_ms(a->loop);
        AuthorityOp *next;

        for (AuthorityOp *op = LIST_FIRST(&a->operations); op; op = next) {
                next = LIST_NEXT(op, ops);
                if (!op->writing && !timer_armed(&op->retry))
                        authority_step(op);
                else if (now_ms >= op->deadline_ms)
                        authority_op_fail(op, -EAGAIN, "the cluster did not answer in time; try again");
        }
        if (a->wanted_until_ms > now_ms && !registry_cluster(a->registry)->ca_roots)
                (void) authority_need_ca(a, &(Error) {});
}

void authority_tick(Authority *a) {
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        authority_on_update(a);
        authority_delete_keys(a);
        kv_state(a->store, &state);
        keys_check(a, &state);
        if (!a->state_directory || state.role != KV_ROLE_LEADER || !state.ready || !c->ca_keys)
                return;
        keys_begin_term(a, state.term);
        if (a->keys.problem.code != VERDICT_NONE)
                keys_transfer(a, &state);
        (void) keys_distribute(a, &state, c->ca_keys->items[0].cluster_key, true, &(Error) {});
        authority_rekey_tick(a, &state);
        authority_rotation_tick(a, &state);
}

static void authority_on_change(void *userdata, const RegistryChange *change) {
        Authority *a = userdata;

        if (!LIST_EMPTY(&a->operations) && (change->kind == CHANGED_ALL || change->kind == CHANGED_CLUSTER))
                loop_defer(a->loop, &a->update);
}

/* -- Lifetime -- */

static const PeerFrameType token_frame_types[] = {
        { PEER_CA_WANTED, authority_on_ca_wanted },
};

int authority_new(Authority **ret, Loop *loop, Peers *peers, KvStore *store, Registry *registry,
                  const AuthorityOptions *options) {
        _cleanup_free_ char *state_directory = NULL;
        Authority *a;
        int r;

        if (options->state_directory && *options->state_directory) {
                state_directory = strdup(options->state_directory);
                if (!state_directory)
                        return -ENOMEM;
        }
        a = NEW0(Authority, 1);
        if (!a)
                return -ENOMEM;
        *a = (Authority) {
                .loop = loop,
                .peers = peers,
                .store = store,
                .registry = registry,
                .state_directory = TAKE_PTR(state_directory),
                .voters = options->voters,
                .observer = { .on_change = authority_on_change, .userdata = a },
                .update = DEFERRED(authority_on_update, a),
        };
        snprintf(a->machine_id, sizeof(a->machine_id), "%s", options->machine_id);
        snprintf(a->peer_address, sizeof(a->peer_address), "%s", options->peer_address);
        registry_observe(registry, &a->observer);
        if (a->state_directory) {
                peers_register(peers, token_frame_types, ELEMENTS(token_frame_types), a);
                authority_hosts_init(a);
                authority_listener_init(a);
                r = keys_init(a, options->sealing);
                if (r < 0) {
                        (void) authority_free(a);
                        return r;
                }
        }
        *ret = a;
        return 0;
}

const char *authority_state_directory(const Authority *a) {
        return a->state_directory;
}

void authority_cancel(Authority *a, const void *userdata) {
        AuthorityOp *next;

        for (AuthorityOp *op = LIST_FIRST(&a->operations); op; op = next) {
                next = LIST_NEXT(op, ops);
                if (op->userdata == userdata && op->session == 0)
                        authority_op_free(op);
        }
}

Authority *authority_free(Authority *a) {
        if (!a)
                return NULL;
        while (!LIST_EMPTY(&a->operations))
                authority_op_free(LIST_FIRST(&a->operations));
        registry_unobserve(a->registry, &a->observer);
        registry_cancel(a->registry, a);
        deferred_cancel(&a->update);
        if (a->state_directory) {
                peers_unregister(a->peers, token_frame_types, ELEMENTS(token_frame_types));
                keys_done(a);
                authority_hosts_done(a);
                authority_listener_done(a);
        }
        free(a->state_directory);
        free(a);
        return NULL;
}
