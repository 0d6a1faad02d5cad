/* /fleet/v1/secrets: GET lists the secrets, PUT and DELETE of one. A value is never in an answer, an error, a
 * log line or the history. Also why a unit has no content: for `why`, and as problems of the cluster. */
#include "base/base64.h"
#include "fleetd/api/forward.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/features/inputs/inputs_internal.h"
#include "fleetd/identity/authority.h"
#include "fleetd/registry/unit_order.h"

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
} SecretUse;

typedef struct SecretUses {
        Named secret;
        Named *sets; /* SecretUse */
} SecretUses;

static void secret_uses_clear(Named **uses) {
        for (Named *n = *uses; n; n = n->hh.next)
                named_clear(&((SecretUses *) n)->sets);
        named_clear(uses);
}

static int secret_uses_add(Named **uses, const Cluster *c, const ClusterUnit *u, const char *secret) {
        SecretUses *of = named_get(uses, secret, sizeof(*of));
        SecretUse *use = of ? named_get(&of->sets, rollout_head(c, u)->name, sizeof(*use)) : NULL;
        const ClusterAssignment *a;

        if (!use)
                return -ENOMEM;
        use->on_change = u->unit->placement.inputs.on_change;
        LIST_FOREACH(a, &u->assignments, of_unit) {
                use->instances += a->kind == ASSIGNMENT_RUN;
                use->current += a->kind == ASSIGNMENT_RUN && a->state && u->inputs && u->inputs->number > 0 &&
                                a->state->state.inputs >= u->inputs->number;
        }
        return 0;
}

/* Find the units that name a secret, or any ('secret' NULL), by secrets. The caller clears *ret, also after
 * an error. */
static int secret_uses_find(const Cluster *c, const char *secret, Named **ret) {
        const ClusterUnit *u;
        UnitPosition at = {};

        while ((u = unit_order_next(&c->by_name, &at))) {
                const Names *names = u->unit ? &u->unit->placement.inputs.secrets : &(const Names) {};

                for (size_t i = 0; i < names->n; i++) {
                        size_t first = 0; /* a secret may be several credentials */

                        while (!streq(names->items[first], names->items[i]))
                                first++;
                        if (first == i && (!secret || streq(secret, names->items[i])))
                                TRY(secret_uses_add(ret, c, u, names->items[i]));
                }
        }
        return 0;
}

static void secret_uses_write(Text *t, const Named *uses, const char *secret) {
        static const char *const words[_ON_CHANGE_MAX] = { "none", "reload", "restart" };
        const SecretUses *of = named_find(uses, secret);
        size_t list = json_open_list(t, "usedBy");

        for (const Named *n = of ? of->sets : NULL; n; n = n->hh.next) {
                const SecretUse *use = (const SecretUse *) n;

                json_open(t, NULL, '{');
                json_add_u64(t, "current", use->current);
                json_add_u64(t, "instances", use->instances);
                json_add_string(t, "name", n->name);
                json_add_string(t, "onChange", words[use->on_change]);
                json_close(t, '}');
        }
        json_close_list(t, list);
}

/* -- List -- */

static int secret_compare(const void *a, const void *b) {
        return strcmp((*(const ClusterSecret *const *) a)->name, (*(const ClusterSecret *const *) b)->name);
}

/* Return all secrets by their names, borrowed. The caller frees the array; NULL without memory. */
static const ClusterSecret **secrets_sorted(const Cluster *c, size_t *ret_n) {
        const ClusterSecret **sorted = NEW0(const ClusterSecret *, HASH_COUNT(c->secrets) + 1);

        *ret_n = 0;
        for (const ClusterSecret *s = sorted ? c->secrets : NULL; s; s = s->hh.next)
                sorted[(*ret_n)++] = s;
        if (sorted)
                qsort(sorted, *ret_n, sizeof(*sorted), secret_compare);
        return sorted;
}

static void secrets_write(Text *t, const ClusterSecret *s, const Named *uses) {
        const SecretRecord *r = &s->record;
        size_t list;

        json_open(t, NULL, '{');
        json_add_string(t, "by", r->by);
        json_add_bool(t, "lost", r->lost);
        json_add_string(t, "name", s->name);
        json_add_u64(t, "set", r->set_ms);
        json_add_u64(t, "size", r->size);
        list = json_open_list(t, "units");
        for (size_t i = 0; i < r->n_units; i++)
                json_add_item(t, r->units[i]);
        json_close_list(t, list);
        secret_uses_write(t, uses, s->name);
        json_add_u64(t, "version", r->version);
        json_close(t, '}');
}

static unsigned secrets_list_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_(secret_uses_clear) Named *uses = NULL;
        size_t n = 0;
        _cleanup_free_ const ClusterSecret **sorted = secrets_sorted(c, &n);
        _cleanup_text_ Text t = {};

        if (!sorted || (n > 0 && secret_uses_find(c, NULL, &uses) < 0))
                return error_set(err, 500, "out of memory");
        json_open(&t, NULL, '{');
        json_open(&t, "secrets", '[');
        for (size_t i = 0; i < n; i++)
                secrets_write(&t, sorted[i], uses);
        json_close(&t, ']');
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

/* -- Set -- */

/* Request.state of a PUT. */
typedef struct SecretSet {
        char *value; /* owned; wiped at the end */
        size_t size;
        char (*units)[UNIT_NAME_MAX + 1]; /* owned */
        size_t n_units;
        bool has_units; /* else those of the former version stay */
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

static int secret_read_value(const JsonValue *member, void *field, Error *err) {
        SecretSet *set = container_of((char **) field, SecretSet, value);
        const char *text = json_value_string(member);
        size_t size = text ? strlen(text) : 0;
        int r = -EINVAL;

        if (size > 0 && size <= (SECRET_SIZE_MAX + 2) / 3 * 4)
                r = base64_decode(text, size, &set->value, &set->size);
        secret_wipe(text, size);
        if (r == -ENOMEM)
                return r;
        return r >= 0 && set->size > 0 && set->size <= SECRET_SIZE_MAX ?
                       0 :
                       error_set(err, -EINVAL, "value: expected 1 byte to 64 KiB in base64");
}

/* Read and wipe the body. Return 0, or the status of an error. */
static unsigned secret_set_begin(Request *request, Error *err) {
        static const JsonList units = { .size = UNIT_NAME_MAX + 1,
                                        .max = SECRET_UNITS_MAX,
                                        .n = offsetof(SecretSet, n_units),
                                        .owned = true,
                                        .is_valid = secret_pattern_is_valid };
        static const JsonField fields[] = {
                /* The first one: it is wiped in any case. */
                { "value", JSON_FIELD_OTHER, offsetof(SecretSet, value), .read = secret_read_value },
                { "units", JSON_FIELD_LIST, offsetof(SecretSet, units), .list = &units },
        };
        SecretSet *set = NEW0(SecretSet, 1);
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        if (!set)
                return error_set(err, 500, "out of memory");
        request->state = set;
        request->on_end = secret_set_on_end;
        if (!secret_name_is_valid(request->rest))
                r = error_set(err, -EINVAL,
                              "the name of a secret has 1 to %d letters, digits, '.', '_', '-', and begins "
                              "with a letter or a digit",
                              SECRET_NAME_MAX);
        else
                r = json_object_parse(request->http->body, request->http->body_size, &root, err);
        if (r >= 0)
                r = json_read_fields(root, JSON_FIELDS(fields), set, err);
        set->has_units = json_value_member(root, "units");
        secret_wipe(request->http->body, request->http->body_size);
        return r < 0 ? request_body_refused(r, err) : 0;
}

static void secret_set_on_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;
        const SecretSet *set = request->state;
        _cleanup_(secret_uses_clear) Named *uses = NULL;
        _cleanup_text_ Text t = {};

        if (status != KV_OK) {
                change_on_decided(request, status, message, index);
                return;
        }
        request->changing = false;
        t.error = secret_uses_find(request_cluster(request), request->rest, &uses);
        json_open(&t, NULL, '{');
        json_add_string(&t, "name", request->rest);
        json_add_u64(&t, "size", set->size);
        secret_uses_write(&t, uses, request->rest);
        json_add_u64(&t, "version", set->version);
        json_close(&t, '}');
        request_answer_json(request, 200, &t);
}

/* Seal the value, and write it. */
static unsigned secret_set_write(Request *request, Error *err) {
        const ClusterSecret *former = cluster_secret(request_cluster(request), request->rest);
        const SecretRecord none = {}, *before = former ? &former->record : &none;
        SecretSet *set = request->state;
        SecretRecord record = { .set_ms = loop_wall_ms(request->api->loop),
                                .units = set->has_units ? set->units : before->units,
                                .n_units = set->has_units ? set->n_units : before->n_units,
                                .version = before->version + 1 };
        int r;

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

        if (error < 0) {
                error_set(&err, error, "%s", message);
                status = authority_refused(error, &err);
        } else
                status = secret_set_write(request, &err);
        if (status > 0)
                request_error(request, status, "%s", err.message);
}

/* Return whether this member lacks the cluster key: the leader seals in its place. */
static bool secret_set_is_for_leader(const Request *request) {
        const ComponentHost *host = request->api->host;
        const Cluster *c = request_cluster(request);
        _cleanup_cluster_key_ ClusterKey key = {};
        int r;

        if (!c->ca_keys || request->origin || kv_leads(host->store) > 0)
                return false;
        r = authority_read_key(host->authority, 0, &key, NULL);
        return r < 0 && r != -EAGAIN && r != -ENOMEM;
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

/* If another request sets the secret meanwhile, the handler runs again, and the later one of both has the
 * next version. */
static unsigned secret_put_handle(Request *request, Error *err) {
        unsigned status = 0;
        int r;

        if (secret_is_refused(request, err))
                return 409;
        if (!request->state && secret_set_is_for_leader(request)) {
                forward_request(request);
                return 0;
        }
        if (!request->state)
                status = secret_set_begin(request, err);
        if (status > 0)
                return status;
        r = authority_prepare_key(request->api->host->authority, secret_set_on_key, request, err);
        return r < 0 ? authority_refused(r, err) : 0;
}

/* -- Remove -- */

static unsigned secret_delete_handle(Request *request, Error *err) {
        const ClusterSecret *s = cluster_secret(request_cluster(request), request->rest);
        _cleanup_(secret_uses_clear) Named *uses = NULL;

        if (secret_is_refused(request, err))
                return 409;
        if (!s)
                return error_set(err, 404, "secret %.64s is not set", request->rest);
        if (!same_string(request_parameter(request, "force"), "true")) {
                if (secret_uses_find(request_cluster(request), s->name, &uses) < 0)
                        return error_set(err, 500, "out of memory");
                if (uses)
                        return error_set(err, 409,
                                         "%s names it: its instances would not start again; to remove it "
                                         "nevertheless: fleetctl secret rm --force %s",
                                         ((const SecretUses *) uses)->sets->name, s->name);
        }
        return change_sent(request, "the secret",
                           secret_write(request_registry(request), s->name, NULL, request_user(request),
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
        size_t n = 0, n_lost = 0;
        _cleanup_free_ const ClusterSecret **sorted = secrets_sorted(s->cluster, &n);
        _cleanup_text_ Text names = {};

        if (!sorted)
                s->list.error = -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (sorted[i]->record.lost && ++n_lost <= SECRETS_LISTED_MAX)
                        text_printf(&names, "%s%s", n_lost > 1 ? ", " : "", sorted[i]->name);
        if (n_lost == 0)
                return false;
        s->what.error = MIN(s->what.error, names.error);
        return problems_add(
                s, row,
                "%zu secret%s cannot be opened: %s%s; restore again with --cluster-key=FILE, or set "
                "%s again",
                n_lost, n_lost == 1 ? "" : "s", text_chars(&names), n_lost > SECRETS_LISTED_MAX ? ", …" : "",
                n_lost == 1 ? "it" : "them");
}

const ProblemRow inputs_problems[] = {
        { "secret", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, secrets_find_lost, "secret ls" },
        { "inputs", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_UNIT, inputs_find_problem },
        {},
};
