/* Tokens: their creation and their end. */

#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/registry/presence.h"

static void authority_on_token_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        AuthorityOp *op = userdata;
        _cleanup_text_ Text text = {};
        AuthorityResult token = { .id = op->token.id,
                                  .expires_ms = op->record.expires_ms,
                                  .uses = op->record.uses };

        if (!authority_op_written(op, status, message))
                return;
        token_print(&op->token, &text);
        token.text = text.chars;
        if (text.error < 0)
                authority_op_fail(op, -ENOMEM, "out of memory");
        else
                authority_op_end(op, &token);
        if (text.chars)
                explicit_bzero(text.chars, text.size);
}

bool authority_is_opening(const Authority *a) {
        const ClusterMachine *self = cluster_machine(registry_cluster(a->registry), a->machine_id);

        return peers_self(a->peers)->address[0] && !kv_is_attached(a->store) &&
               (!component_peer_address(a->host)[0] || !self || !self->member.peer[0]);
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
        hex_print(id, sizeof(id), ret->id);
        return 0;
}

void authority_token_step(AuthorityOp *op) {
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        TokenChange change = { .id = op->token.id,
                               .token = &op->record,
                               .user = op->record.by,
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

int authority_create_token(Authority *a, const TokenRequest *request, AuthorityDone *done, void *userdata,
                           Error *err) {
        TokenRequest planned = *request;
        AuthorityOp *op;
        KvState state;
        int r;

        TRY(authority_op_begin(a, AUTHORITY_TOKEN, done, userdata, &op, err));
        kv_state(a->store, &state);
        planned.level = state.level;
        r = token_plan(registry_cluster(a->registry), &planned, loop_wall_ms(a->loop), &op->record, err);
        if (r < 0)
                authority_op_free(op);
        return r;
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
                                 .reason = "revoked",
                                 .user = user,
                                 .ttl_ms = MAX(record.expires_ms, now_ms) + TOKEN_KEPT_MS - now_ms },
                done, userdata);
        return r < 0 ? error_set(err, r, "Failed to revoke token %s: %s", t->name, strerror(-r)) : 0;
}
