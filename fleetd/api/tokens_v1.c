/* /fleet/v1/cluster/tokens: tokens that permit hosts to join; /fleet/v1/cluster/ca: the roots of the
 * cluster's CA; /fleet/v1/cluster/secure: the end of the key file. The secret of a token is in the answer to
 * its creation only. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/identity/authority.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/identity/rotation.h"
#include "fleetd/identity/securing.h"
#include "fleetd/registry/registry.h"
#include "units/json_record.h"

enum { TOKEN_ANSWER_MAX = TOKEN_TEXT_MAX + 256 };

/* -- Operations of the authority -- */

static unsigned authority_status(int error) {
        static const struct {
                int error;
                unsigned status;
        } statuses[] = {
                { -EINVAL, 400 },        { -EBADMSG, 400 }, { -ENOENT, 404 },   { -ENOTUNIQ, 409 },
                { -ENOSPC, 409 },        { -ENOKEY, 409 },  { -EALREADY, 409 }, { -EOPNOTSUPP, 409 },
                { -EADDRNOTAVAIL, 409 }, { -EEXIST, 409 },  { -E2BIG, 400 },    { -EPERM, 400 },
                { -EBUSY, 409 },         { -ENOMEM, 500 },
        };

        for (size_t i = 0; i < ELEMENTS(statuses); i++)
                if (statuses[i].error == error)
                        return statuses[i].status;
        return 503;
}

unsigned authority_refused(int error, Error *err) {
        (void) request_refused(error, err);
        return authority_status(error);
}

static void authority_on_end(Request *request) {
        authority_cancel(request->api->host->authority, request);
}

unsigned authority_awaited(Request *request, int r, Error *err) {
        if (r < 0)
                return authority_refused(r, err);
        request->on_end = authority_on_end;
        return 0;
}

bool authority_failed(Request *request, int error, const char *message) {
        request->on_end = NULL;
        if (error < 0)
                request_error(request, authority_status(error), "%s", message);
        return error < 0;
}

/* -- List -- */

static void token_write(Text *t, const Cluster *c, const ClusterNamed *token) {
        const TokenRecord *r = (const TokenRecord *) token->record;

        json_open(t, NULL, '{');
        json_add_string(t, "createdBy", r->by);
        json_add_u64(t, "expires", r->expires_ms);
        json_add_string(t, "from", r->from);
        json_open(t, "hosts", '[');
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->host && streq(m->host->token, token->name))
                        json_add_item(t, m->id);
        json_close(t, ']');
        json_add_string(t, "id", token->name);
        json_open(t, "metadata", '{');
        for (size_t i = 0; i < r->metadata.n; i++)
                json_add_string_always(t, r->metadata.items[i].key, r->metadata.items[i].value);
        json_close(t, '}');
        json_add_string(t, "replace", r->replace);
        json_add_bool(t, "restricted", r->restricted);
        json_add_bool(t, "revoked", r->revoked);
        json_add_u64(t, "total", r->total);
        json_add_u64(t, "uses", r->uses);
        json_add_string(t, "write", r->write);
        json_close(t, '}');
}

unsigned tokens_list_handle(Request *request, Error *err) {
        return request_answer_named(request, "tokens", LAYOUT_TOKEN, token_write);
}

/* -- Creation -- */

/* The body of a request. */
typedef struct TokenBody {
        uint64_t uses, ttl_s;
        bool restricted, ordinary;
        char *replace, *from, *write;
        Pairs metadata;
} TokenBody;

static const JsonField token_body_fields[] = {
        { "from", JSON_FIELD_OWNED_OR_NULL, offsetof(TokenBody, from) },
        { "metadata", JSON_FIELD_PAIRS, offsetof(TokenBody, metadata) },
        { "ordinary", JSON_FIELD_BOOL, offsetof(TokenBody, ordinary) },
        { "replace", JSON_FIELD_OWNED_OR_NULL, offsetof(TokenBody, replace) },
        { "restricted", JSON_FIELD_BOOL, offsetof(TokenBody, restricted) },
        { "ttl", JSON_FIELD_U64, offsetof(TokenBody, ttl_s) },
        { "uses", JSON_FIELD_U64, offsetof(TokenBody, uses) },
        { "write", JSON_FIELD_OWNED_OR_NULL, offsetof(TokenBody, write) },
};

static void token_body_done(TokenBody *body) {
        json_free_fields(JSON_FIELDS(token_body_fields), body);
}

static void token_on_created(void *userdata, int error, const char *message, const AuthorityResult *token) {
        Request *request = userdata;
        _cleanup_text_ Text t = {};

        if (authority_failed(request, error, message))
                return;
        (void) text_reserve(&t, TOKEN_ANSWER_MAX); /* one that grows leaves copies */
        json_open(&t, NULL, '{');
        json_add_u64(&t, "expires", token->expires_ms);
        json_add_string(&t, "id", token->id);
        json_add_string(&t, "token", token->text);
        json_add_u64(&t, "uses", token->uses);
        json_close(&t, '}');
        request_answer_json(request, 201, &t);
        if (t.chars)
                explicit_bzero(t.chars, t.size);
}

unsigned tokens_create_handle(Request *request, Error *err) {
        _cleanup_(token_body_done) TokenBody body = {};
        TokenRequest wanted = {};
        int r;

        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(token_body_fields),
                             &body, sizeof(body), err);
        if (r < 0)
                return request_refused(r, err);
        wanted = (TokenRequest) { .uses = body.uses,
                                  .ttl_ms = MIN(body.ttl_s, UINT64_MAX / 1000) * 1000,
                                  .restricted = body.restricted,
                                  .ordinary = body.ordinary,
                                  .write = body.write,
                                  .replace = body.replace,
                                  .from = body.from,
                                  .metadata = &body.metadata,
                                  .by = request_user(request) };
        r = authority_create_token(request->api->host->authority, &wanted, token_on_created, request, err);
        return authority_awaited(request, r, err);
}

/* Wait for the change, or return the status of its failure. */
static unsigned token_sent(Request *request, const char *subject, int r, Error *err) {
        return r < 0 ? authority_refused(r, err) : change_sent(request, subject, r);
}

/* -- Revocation -- */

unsigned tokens_revoke_handle(Request *request, Error *err) {
        int r = authority_revoke_token(request->api->host->authority, request->rest, request_user(request),
                                       change_on_done, request, err);

        return token_sent(request, "the token", r, err);
}

/* -- Certificates are required -- */

static void secure_on_done(void *userdata, int error, const char *message, const AuthorityResult *unused) {
        Request *request = userdata;

        if (!authority_failed(request, error, message))
                request_answer(request, 204, NULL, NULL, "", 0);
}

unsigned secure_handle(Request *request, Error *err) {
        static const JsonField fields[] = { { "force", JSON_FIELD_BOOL, 0 } };
        bool force = false;
        int r;

        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(fields), &force,
                             sizeof(force), err);
        if (r < 0)
                return request_refused(r, err);
        r = authority_secure(request->api->host->authority, force, request_user(request), secure_on_done,
                             request, err);
        return authority_awaited(request, r, err);
}

/* -- CA -- */

unsigned ca_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *waits = NULL;
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        if (c->ca_keys && c->ca_keys->n > 0)
                json_add_u64(&t, "clusterKey", c->ca_keys->items[0].cluster_key);
        json_open(&t, "roots", '[');
        for (size_t i = 0; c->ca_roots && i < c->ca_roots->n; i++) {
                const CaRoot *root = &c->ca_roots->items[i];

                json_open(&t, NULL, '{');
                json_add_string(&t, "id", root->id);
                json_add_string(&t, "pem", root->pem);
                json_add_string(&t, "state", ca_root_state_to_string(root->state));
                json_close(&t, '}');
        }
        json_close(&t, ']');
        if (c->ca_rotation) {
                (void) rotation_step(c, loop_wall_ms(request->api->loop), &waits);
                json_add_string(&t, "rotation", ca_rotation_state_to_string(c->ca_rotation->state));
                json_add_string(&t, "waitsFor", waits ? waits->id : NULL);
        }
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

unsigned ca_rotate_handle(Request *request, Error *err) {
        static const JsonField fields[] = { { "compromised", JSON_FIELD_BOOL, 0 } };
        Authority *authority = request->api->host->authority;
        bool compromised = false;
        int r;

        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(fields), &compromised,
                             sizeof(compromised), err);
        if (r < 0)
                return request_refused(r, err);
        r = authority_rotate(authority, compromised, request_user(request), change_on_done, request, err);
        return token_sent(request, "the CA", r, err);
}

unsigned rekey_handle(Request *request, Error *err) {
        int r = authority_rekey(request->api->host->authority, request_user(request), change_on_done, request,
                                err);

        return token_sent(request, "the cluster key", r, err);
}

/* The key of this host, not of the cluster: nothing is written to the tree yet. */
unsigned rekey_host_handle(Request *request, Error *err) {
        int r = membership_rekey_host(request->api->host->membership, err);

        if (r < 0)
                return authority_refused(r, err);
        return request_answer(request, 204, NULL, NULL, "", 0);
}
