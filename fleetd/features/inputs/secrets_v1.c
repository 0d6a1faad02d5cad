/* /fleet/v1/secrets: GET lists the secrets, PUT and DELETE of one. A value is never in an answer, an error, a
 * log line or the history. Also why a unit has no content: for `why`, and as problems of the cluster. */
#include "base/base64.h"
#include "fleetd/api/forward.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/features/inputs/inputs_internal.h"
#include "fleetd/identity/authority.h"

enum {
        INPUTS_NEXT_SIZE = VERDICT_ARGS_SIZE + 32,
        SECRETS_LISTED_MAX = 10, /* names in a problem */
};

/* -- Who uses a secret -- */

/* The units of one set that name a secret. */
typedef struct SecretUse {
        Named head; /* the template or unit that names the set; first */
        OnChange on_change;
        uint64_t instances, current; /* assignments; those that run with the present content */
        bool excluded, waits;        /* a unit may not have it; has no content of its present inputs */
} SecretUse;

static int secret_uses_add(Named **uses, const Cluster *c, const SecretRecord *secret, const ClusterUnit *u) {
        SecretUse *use = named_get(uses, rollout_head(c, u)->name, sizeof(*use));
        const ClusterAssignment *a;

        if (!use)
                return -ENOMEM;
        use->on_change = u->unit->placement.inputs.on_change;
        use->excluded |= !secret_is_for(secret, u->name);
        use->waits |= u->inputs && u->inputs->problem.code != VERDICT_NONE;
        LIST_FOREACH(a, &u->assignments, of_unit) {
                use->instances += a->kind == ASSIGNMENT_RUN;
                use->current += a->kind == ASSIGNMENT_RUN && a->state && u->inputs && u->inputs->number > 0 &&
                                a->state->state.inputs >= u->inputs->number;
        }
        return 0;
}

static void secret_uses_write(Text *t, const Cluster *c, const char *name, const SecretRecord *secret) {
        static const char *const words[_ON_CHANGE_MAX] = { "none", "reload", "restart" };
        const Pattern *users = patterns_find(&c->rules[CLUSTER_SECRETS], name);
        size_t list = json_open_list(t, "usedBy");
        Named *uses = NULL;

        /* A unit may have the secret as several credentials. */
        for (size_t i = 0; users && i < users->n; i++)
                if ((i == 0 || users->units[i] != users->units[i - 1]) &&
                    secret_uses_add(&uses, c, secret, users->units[i]) < 0)
                        t->error = -ENOMEM;
        for (const Named *n = uses; n; n = n->hh.next) {
                const SecretUse *use = (const SecretUse *) n;

                json_open(t, NULL, '{');
                json_add_u64(t, "current", use->current);
                json_add_bool(t, "excluded", use->excluded);
                json_add_u64(t, "instances", use->instances);
                json_add_string(t, "name", n->name);
                json_add_string(t, "onChange", words[use->on_change]);
                json_add_bool(t, "waits", use->waits);
                json_close(t, '}');
        }
        json_close_list(t, list);
        named_clear(&uses);
}

/* -- List -- */

static void secret_write_item(Text *t, const Cluster *c, const ClusterNamed *secret) {
        json_open(t, NULL, '{');
        json_add_string(t, "name", secret->name);
        secret_uses_write(t, c, secret->name, (const SecretRecord *) secret->record);
        json_write_fields(t, secret_record.fields, secret_record.n_fields, secret->record);
        json_close(t, '}');
}

static unsigned secrets_list_handle(Request *request, Error *err) {
        return request_answer_named(request, "secrets", LAYOUT_SECRET, secret_write_item);
}

/* -- Set -- */

/* Request.state of a PUT. */
typedef struct SecretSet {
        char *value; /* owned; wiped at the end */
        size_t size;
        char (*units)[UNIT_NAME_MAX + 1]; /* owned; none: those of the former version stay */
        size_t n_units;
        uint64_t version;
} SecretSet;

static void secret_set_on_end(Request *request) {
        SecretSet *set = request->state;

        authority_cancel(request->api->host->authority, request);
        tls_secret_free(set->value, set->size);
        free(set->units);
        free(set);
}

/* Overwrite bytes of a request, which no one else reads. */
static void secret_wipe(const void *bytes, size_t size) {
        explicit_bzero((void *) (uintptr_t) bytes, size);
}

/* Read and wipe the body. */
static int secret_set_read(Request *request, Error *err) {
        static const JsonList units = { .size = UNIT_NAME_MAX + 1,
                                        .max = SECRET_UNITS_MAX,
                                        .n = offsetof(SecretSet, n_units),
                                        .owned = true,
                                        .is_valid = secret_pattern_is_valid };
        static const JsonField fields[] = {
                { "units", JSON_FIELD_LIST, offsetof(SecretSet, units), .list = &units },
        };
        SecretSet *set = NEW0(SecretSet, 1);
        _cleanup_json_ JsonValue *root = NULL;
        const char *text;
        size_t size;
        int r;

        if (!set)
                return -ENOMEM;
        request->state = set;
        request->on_end = secret_set_on_end;
        r = json_object_parse(request->http->body, request->http->body_size, &root, err);
        text = json_value_string(json_value_member(root, "value")) ?: "";
        size = strlen(text);
        if (r >= 0)
                r = json_read_fields(root, JSON_FIELDS(fields), set, err);
        if (r >= 0 && size <= (SECRET_SIZE_MAX + 2) / 3 * 4)
                r = base64_decode(text, size, &set->value, &set->size);
        if (r == -EINVAL || (r >= 0 && (set->size == 0 || set->size > SECRET_SIZE_MAX)))
                r = error_set(err, -EINVAL, "value: expected 1 byte to 64 KiB in base64");
        secret_wipe(text, size);
        secret_wipe(request->http->body, request->http->body_size);
        return r;
}

static void secret_set_on_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;
        const SecretSet *set = request->state;
        const ClusterSecret *seen = cluster_secret(request_cluster(request), request->rest);
        /* The view may not have the new patterns yet. */
        const SecretRecord written = { .units = set->units, .n_units = set->n_units };
        _cleanup_text_ Text t = {};

        if (status != KV_OK) {
                change_on_decided(request, status, message, index);
                return;
        }
        request->changing = false;
        json_open(&t, NULL, '{');
        json_add_string(&t, "name", request->rest);
        json_add_u64(&t, "size", set->size);
        secret_uses_write(&t, request_cluster(request), request->rest,
                          set->n_units > 0 || !seen ? &written : &seen->record);
        json_add_u64(&t, "version", set->version);
        json_close(&t, '}');
        request_answer_json(request, 200, &t);
}

/* Seal the value, and write it. */
static unsigned secret_set_write(Request *request, Error *err) {
        const ClusterSecret *former = cluster_secret(request_cluster(request), request->rest);
        SecretSet *set = request->state;
        SecretRecord record = { .set_ms = loop_wall_ms(request->api->loop),
                                .units = set->units,
                                .n_units = set->n_units,
                                .version = former ? former->record.version + 1 : 1 };
        int r;

        if (former && set->n_units == 0) {
                record.units = former->record.units;
                record.n_units = former->record.n_units;
        }
        snprintf(record.by, sizeof(record.by), "%s", request_user(request));
        r = secret_seal(request->api->host, request->rest, set->value, set->size, &record, err);
        if (r < 0)
                return authority_refused(r, err);
        set->version = record.version;
        r = secret_write(request_registry(request), request->rest, &record, request_user(request),
                         secret_set_on_written, request);
        free(record.sealed);
        return change_sent(request, "the secret", r);
}

static void secret_set_on_key(void *userdata, int error, const char *message, const AuthorityResult *unused) {
        Request *request = userdata;
        Error err = {};
        unsigned status;

        if (error < 0)
                error_set(&err, error, "%s", message);
        status = error < 0 ? authority_refused(error, &err) : secret_set_write(request, &err);
        if (status > 0)
                request_error(request, status, "%s", err.message);
}

/* Return whether this member lacks the cluster key: the leader seals in its place. */
static bool secret_set_is_for_leader(const Request *request) {
        const ComponentHost *host = request->api->host;
        _cleanup_cluster_key_ ClusterKey key = {};
        int r = authority_read_key(host->authority, 0, &key, NULL);

        return r < 0 && r != -EAGAIN && !request->origin && kv_leads(host->store) == 0;
}

/* Refuse what this program may not change. */
static bool secret_is_refused(const Request *request, Error *err) {
        const ClusterUnreadable *u;

        if (request_is_below(request, KV_LEVEL_INPUTS, "secrets require", err))
                return true;
        LIST_FOREACH(u, &request_cluster(request)->unreadable, of_owner)
                if (u->key.kind == LAYOUT_SECRET && streq(u->key.unit, request->rest))
                        error_set(err, 409, "secret %s: %s", u->key.unit, CLUSTER_UNREADABLE);
        return err->message[0];
}

/* If another request changes the secret meanwhile, this runs again. */
static unsigned secret_put_handle(Request *request, Error *err) {
        Authority *authority = request->api->host->authority;
        int r = 0;

        if (secret_is_refused(request, err))
                r = 409;
        else if (!secret_name_is_valid(request->rest))
                r = error_set(err, 400,
                              "the name of a secret has 1 to %d letters, digits, '.', '_', '-', and begins "
                              "with a letter or a digit",
                              SECRET_NAME_MAX);
        if (r > 0) {
                if (!request->state) /* else it was read, and there may be no body any more */
                        secret_wipe(request->http->body, request->http->body_size);
                return (unsigned) r;
        }
        if (!request->state && secret_set_is_for_leader(request)) {
                forward_request(request);
                return 0;
        }
        if (!request->state)
                r = secret_set_read(request, err);
        if (r < 0)
                return request_body_refused(r, err);
        r = authority_prepare_key(authority, secret_set_on_key, request, err);
        return r < 0 ? authority_refused(r, err) : 0;
}

/* -- Remove -- */

static unsigned secret_delete_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const char *name = request->rest;
        const Pattern *users = patterns_find(&c->rules[CLUSTER_SECRETS], name);

        if (secret_is_refused(request, err))
                return 409;
        if (!cluster_secret(c, name))
                return error_set(err, 404, "secret %.64s is not set", name);
        if (users && !same_string(request_parameter(request, "force"), "true"))
                return error_set(err, 409,
                                 "%s names it: its instances would not start again; to remove it "
                                 "nevertheless: fleetctl secret rm --force %s",
                                 rollout_head(c, users->units[0])->name, name);
        return change_sent(request, "the secret",
                           secret_write(request_registry(request), name, NULL, request_user(request),
                                        change_on_decided, request));
}

const Route secrets_routes[SECRETS_ROUTES] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/secrets", RIGHT_UNITS_SEE, AT_VIEW, secrets_list_handle },
        { ROUTE_FLEET, "PUT", "/fleet/v1/secrets/*", RIGHT_UNITS_CHANGE, AT_VIEW, secret_put_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/secrets/*", RIGHT_UNITS_CHANGE, AT_VIEW, secret_delete_handle },
};

/* -- Problems -- */

/* Set the arguments of fleetctl by which people solve the problem of a content; "": it depends. */
static void inputs_next(const Verdict *problem, char *ret, size_t size) {
        static const struct {
                VerdictCode code;
                const char *before, *after;
        } steps[] = {
                { VERDICT_AWAITS_SECRET, "secret set ", "" },
                { VERDICT_SECRET_OF_OTHERS, "secret set ", " --units=..." },
                { VERDICT_SECRET_UNOPENED, "secret set ", "" },
                { VERDICT_AWAITS_KEYS, "kv set ", "/NAME VALUE" },
        };
        size_t n;
        const char *input = verdict_argument(problem, 0, &n);

        *ret = 0;
        for (size_t i = 0; i < ELEMENTS(steps); i++)
                if (steps[i].code == problem->code)
                        snprintf(ret, size, "%s%.*s%s", steps[i].before, (int) n, input, steps[i].after);
}

void inputs_write_why(Text *t, const Request *request, const ClusterUnit *u) {
        const InputsRecord none = {}, *r = u->inputs ?: &none;
        char next[INPUTS_NEXT_SIZE];

        if (!u->inputs && !(u->unit && input_policy_is_set(&u->unit->placement.inputs)))
                return;
        inputs_next(&r->problem, next, sizeof(next));
        json_open(t, "inputs", '{');
        json_add_string(t, "code", verdict_name(&r->problem));
        json_add_string(t, "command", next);
        json_add_u64(t, "number", r->number);
        verdict_add_message(t, "problem", &r->problem);
        json_add_u64(t, "since", r->since_ms);
        json_add_bool(t, "waits", r->waits);
        json_close(t, '}');
}

static bool inputs_find_problem(ProblemSearch *s, const ProblemRow *row) {
        const InputsRecord *r = s->unit->inputs;
        char next[INPUTS_NEXT_SIZE];
        _cleanup_text_ Text what = {};

        if (!r || r->problem.code == VERDICT_NONE || !cluster_unit_exists(s->unit))
                return false;
        inputs_next(&r->problem, next, sizeof(next));
        s->next = *next ? next : "why ";
        verdict_append(&what, &r->problem);
        s->what.error = MIN(s->what.error, what.error);
        (void) problems_add(s, row, "%s%s", text_chars(&what),
                            r->number > 0 ? "; its former content is in force" : "");
        s->next = NULL;
        return false;
}

static bool secrets_find_lost(ProblemSearch *s, const ProblemRow *row) {
        size_t n = 0;
        _cleanup_text_ Text names = {};

        for (const ClusterSecret *x = s->cluster->secrets; x; x = x->hh.next)
                if (x->record.lost && ++n <= SECRETS_LISTED_MAX)
                        text_printf(&names, "%s%s", n > 1 ? ", " : "", x->name);
        s->what.error = MIN(s->what.error, names.error);
        return n > 0 && problems_add(s, row,
                                     "%zu secret%s cannot be opened: %s%s; restore again with "
                                     "--cluster-key=FILE, or set %s again",
                                     n, plural(n), text_chars(&names), n > SECRETS_LISTED_MAX ? ", …" : "",
                                     n == 1 ? "it" : "them");
}

const ProblemRow inputs_problems[] = {
        { "secret", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, secrets_find_lost, "secret ls" },
        { "inputs", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_UNIT, inputs_find_problem },
        {},
};
