/* /fleet/v1/cluster/users: users, who have certificates for ListenTLS=, and their rights. The private key of
 * a user is not known here: a request contains a certificate signing request. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/identity/authority.h"
#include "units/json_record.h"

/* -- List -- */

static void user_write(Text *t, const Cluster *c, const ClusterNamed *user) {
        const PrincipalRecord *r = (const PrincipalRecord *) user->record;

        json_open(t, NULL, '{');
        json_add_u64(t, "expires", r->expires_ms);
        json_add_string(t, "key", r->pins.n > 0 ? r->pins.items[0] : NULL);
        json_add_string(t, "name", user->name);
        json_open(t, "rights", '[');
        for (size_t i = 0; i < r->n_rights; i++) {
                _cleanup_text_ Text text = {};

                right_append(&text, &r->rights[i]);
                json_add_item(t, text.chars ?: "");
        }
        json_close(t, ']');
        json_close(t, '}');
}

unsigned users_list_handle(Request *request, Error *err) {
        return request_answer_named(request, "users", LAYOUT_PRINCIPAL, user_write);
}

/* -- Certificates, and changes of rights -- */

typedef struct UserBody {
        char *csr;
        bool replace;
        RightList *rights; /* NULL: not given */
        uint64_t ttl_s;
} UserBody;

static int rights_read(const JsonValue *member, void *field, Error *err) {
        _cleanup_right_list_ RightList *list = NULL;

        if (!member)
                return 0;
        if (json_value_type(member) != JSON_VALUE_ARRAY || json_value_count(member) == 0)
                return error_set(err, -EBADMSG,
                                 "rights: expected a list of rights, for example [\"units-see\"]");
        for (size_t i = 0; i < json_value_count(member); i++) {
                const char *text = json_value_string(json_value_item(member, i));
                int r;

                if (!text)
                        return error_set(err, -EBADMSG, "rights: expected strings");
                r = right_list_add_text(&list, text, strlen(text), err);
                if (r < 0)
                        return error_prefix(err, r == -ENOMEM ? r : -EBADMSG, "%.80s", text);
        }
        *(RightList **) field = TAKE_PTR(list);
        return 0;
}

static const JsonField user_body_fields[] = {
        { "csr", JSON_FIELD_OWNED_OR_NULL, offsetof(UserBody, csr) },
        { "replace", JSON_FIELD_BOOL, offsetof(UserBody, replace) },
        { "ttl", JSON_FIELD_U64, offsetof(UserBody, ttl_s) },
        /* The last one: after a failure, only the fields of other types are freed. */
        { "rights", JSON_FIELD_OTHER, offsetof(UserBody, rights), .read = rights_read },
};

static void user_body_done(UserBody *body) {
        json_free_fields(JSON_FIELDS(user_body_fields), body);
        right_list_unref(body->rights);
}

static void user_on_issued(void *userdata, int error, const char *message, const AuthorityResult *result) {
        Request *request = userdata;
        const EnterAnswer *answer;
        TlsCertificate certificate = {};
        _cleanup_text_ Text t = {};

        if (authority_failed(request, error, message))
                return;
        answer = result->answer;
        (void) tls_certificate_read(answer->certificate, strlen(answer->certificate), &certificate, NULL);
        json_open(&t, NULL, '{');
        json_add_string(&t, "certificate", answer->certificate);
        json_add_u64(&t, "expires", certificate.not_after_ms);
        json_add_string(&t, "name", request->rest);
        json_add_string(&t, "roots", answer->roots);
        json_close(&t, '}');
        request_answer_json(request, 201, &t);
}

/* Write the record, or with NULL remove the user. */
static unsigned user_change(Request *request, const PrincipalRecord *record, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterPrincipal *user = cluster_principal(c, request->rest);
        UserChange change = { .name = request->rest,
                              .user = record,
                              .by = request_user(request),
                              .reason = record ? "has other rights" : "was revoked" };
        int r;

        if (!user)
                return error_set(err, 404, "there is no user %.80s: fleetctl cert ls prints them",
                                 request->rest);
        r = registry_set_user(request_registry(request), &change, change_on_done, request);
        if (r < 0)
                return authority_refused(
                        error_set(err, r, "Failed to change user %s: %s", request->rest, strerror(-r)), err);
        return change_sent(request, "the user", r);
}

static unsigned user_put(Request *request, const UserBody *body, Error *err) {
        Authority *authority = request->api->host->authority;
        UserRequest wanted = { .name = request->rest,
                               .csr = body->csr,
                               .rights = body->rights,
                               .ttl_ms = MIN(body->ttl_s, UINT64_MAX / 1000) * 1000,
                               .replace = body->replace,
                               .by = request->sender->text,
                               .user = request_user(request) };
        PrincipalRecord record;
        int r;

        if (!body->csr) {
                r = user_plan(request_cluster(request), &wanted, NULL, loop_wall_ms(request->api->loop),
                              &record, err);
                return r < 0 ? authority_refused(r, err) : user_change(request, &record, err);
        }
        r = authority_certify_user(authority, &wanted, user_on_issued, request, err);
        return authority_awaited(request, r, err);
}

unsigned users_put_handle(Request *request, Error *err) {
        _cleanup_(user_body_done) UserBody body = {};
        int r;

        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(user_body_fields),
                             &body, sizeof(body), err);
        return r < 0 ? request_refused(r, err) : user_put(request, &body, err);
}

unsigned users_delete_handle(Request *request, Error *err) {
        return user_change(request, NULL, err);
}
