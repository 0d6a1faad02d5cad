#include "fleetd/api/request.h"

#include <limits.h>
#include <pwd.h>

#include "fleetd/engine/engine.h"
#include "fleetd/engine/explain.h"
#include "fleetd/registry/protect.h"
#include "units/api_json.h"

bool method_is(const Request *request, const char *method) {
        return streq(request->http->method, method);
}

void request_free(Request *request) {
        KvStore *store = request->api->host->store;

        if (request->on_end)
                request->on_end(request);
        if (request->syncing)
                kv_sync_cancel(store, &request->sync);
        else if (request->getting)
                kv_get_cancel(&request->get);
        if (request->proposal > 0)
                kv_cancel(store, request->proposal);
        if (request->list)
                kv_list_cancel(request->list);
        if (request->listing)
                TAILQ_REMOVE(&request->api->listings, request, listings);
        if (request->watching)
                request->api->n_watching--;
        kv_watch_close(request->watch);
        if (request->changing)
                registry_cancel(request->api->host->registry, request);
        sender_unref(request->sender);
        TAILQ_REMOVE(&request->api->requests, request, requests);
        http_parameters_done(&request->parameters);
        free(request->path);
        free(request);
}

/* -- Answers -- */

enum {
        FIELDS_MAX = 8,
        LISTED_WORK_MAX = TURN_WORK_MAX / 8, /* bytes of a turn after which no further listing begins */
};

typedef struct AnswerFields {
        HttpField all[FIELDS_MAX + 1];
        char stale_s[TEXT_U64_SIZE];
} AnswerFields;

/* Add X-Fleet-Stale: the time without a leader, in seconds (kv_stale_ms()); the units of the host itself are
 * never old. Add Retry-After: to 503, where nothing was changed and the request may succeed a second later.
 * Add Server: as fleet's API has it, once the registry is read; etcd's API has none. */
static const HttpField *add_fields(const Request *request, unsigned status, const HttpField *fields,
                                   AnswerFields *all) {
        const KvStore *store = request->api->host->store;
        uint64_t stale_ms = kv_stale_ms(store);
        HttpField *ret = all->all;
        KvState state = {};
        size_t n = 0;

        for (; fields && fields[n].name; n++) {
                assert(n < FIELDS_MAX - 3);
                ret[n] = fields[n];
        }
        if (stale_ms > 0)
                kv_state(store, &state);
        if (stale_ms > 0 && !state.removed && !streq(request->path ?: "", "/fleet/v1/local"))
                ret[n++] = (HttpField) { "X-Fleet-Stale", text_u64(stale_ms / 1000, all->stale_s) };
        if (status == 503)
                ret[n++] = (HttpField) { "Retry-After", "1" };
        if (request->listener->dialect == DIALECT_FLEET && !starts_with(request->path ?: "", "/v2/") &&
            registry_ready(request->api->host->registry))
                ret[n++] = (HttpField) { "Server", "fleetd/" PACKAGE_VERSION };
        ret[n] = (HttpField) {};
        return ret;
}

unsigned request_answer(Request *request, unsigned status, const char *type, const HttpField *fields,
                        const void *body, size_t size) {
        AnswerFields all;

        request->http->userdata = NULL;
        http_answer(request->http, status, type, add_fields(request, status, fields, &all), body, size);
        request_free(request);
        return 0;
}

unsigned request_answer_shared(Request *request, unsigned status, const char *type, const HttpField *fields,
                               Shared *body) {
        AnswerFields all;

        request->http->userdata = NULL;
        http_answer_shared(request->http, status, type, add_fields(request, status, fields, &all), body);
        request_free(request);
        return 0;
}

void request_begin(Request *request, const char *type, const HttpField *fields) {
        AnswerFields all;

        request->streams = true;
        http_begin(request->http, 200, type, add_fields(request, 200, fields, &all));
}

unsigned request_answer_text(Request *request, unsigned status, const char *type, const HttpField *fields,
                             const char *text) {
        return request_answer(request, status, type, fields, text, strlen(text));
}

unsigned request_not_allowed(Request *request, HttpField field) {
        return request_answer_text(request, 405, "text/plain; charset=utf-8",
                                   (HttpField[]) { field, { "X-Content-Type-Options", "nosniff" }, {} },
                                   "Method Not Allowed\n");
}

void request_refuse_target(Request *request) {
        request->http->keep_alive = false;
        if (request->path) /* "*" */
                request_answer_text(request, 400, NULL, NULL, "");
        else
                request_answer_text(request, 400, "text/plain; charset=utf-8", NULL, "400 Bad Request");
}

void request_not_found(Request *request) {
        request_answer_text(request, 404, "text/plain; charset=utf-8",
                            (HttpField[]) { { "X-Content-Type-Options", "nosniff" }, {} },
                            "404 page not found\n");
}

unsigned request_answer_built(Request *request, unsigned status, const char *type, const HttpField *fields,
                              const Text *body) {
        if (body->error >= 0)
                return request_answer(request, status, type, fields, body->chars ?: "", body->size);
        request_error(request, 500, "out of memory");
        return 0;
}

unsigned request_answer_json(Request *request, unsigned status, const Text *body) {
        return request_answer_built(request, status, "application/json", NULL, body);
}

unsigned request_status_of(int error) {
        return error == -ENOMEM ? 500 : 400;
}

void request_error(Request *request, unsigned status, const char *format, ...) {
        char message[ERROR_MESSAGE_MAX];
        _cleanup_text_ Text t = {};
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        api_error_write(&t, status, message, NULL);
        request_answer(request, status, "application/json", NULL, t.chars ?: "", t.size);
}

unsigned request_refused(int error, Error *err) {
        if (!err->message[0])
                error_set(err, error, "%s", strerror(-error));
        return request_status_of(error);
}

unsigned request_body_refused(int error, Error *err) {
        if (error != -EINVAL)
                error_prefix(err, error, "unable to decode body");
        return request_refused(error, err);
}

void request_run(Request *request) {
        Error err = {};
        unsigned status = request->route->handle(request, &err);

        if (status > 0)
                request_error(request, status, "%s", err.message);
}

void request_end(Request *request) {
        request->http->userdata = NULL;
        http_end(request->http);
        request_free(request);
}

void request_last(Request *request, Shared *bytes) {
        request->http->userdata = NULL;
        http_last_shared(request->http, bytes);
        request_free(request);
}

void request_cut(Request *request, const char *reason) {
        request->http->userdata = NULL;
        http_cut(request->http, reason);
        request_free(request);
}

void request_ttl(KvCommand *cmd, bool given, uint64_t seconds) {
        const uint64_t max_s = 1000ull * 365 * 86400;

        cmd->has_ttl = given && seconds <= max_s;
        cmd->ttl_ms = cmd->has_ttl ? seconds * 1000 : 0;
}

bool action_removes(KvAction action) {
        return action == KV_ACTION_DELETE || action == KV_ACTION_CAD || action == KV_ACTION_EXPIRE;
}

unsigned request_write_status(const KvResult *result) {
        bool created = result->action == KV_ACTION_CREATE ||
                       (result->action == KV_ACTION_SET && !result->has_prev);

        return created ? 201 : 200;
}

Sender *request_filter(const Request *request) {
        return sender_sees_all(request->sender) ? NULL : sender_ref(request->sender);
}

/* A watch of a key of which the sender knows nothing is one of an absent key. */
bool request_sees_event(const Request *request, KvBytes watched, const KvEvent *event) {
        return sender_sees(request->sender, watched, true) &&
               sender_sees(request->sender, event->node.key, event->node.dir);
}

bool request_hides_prev(const Request *request, const KvEvent *event) {
        return event->has_prev && !sender_sees_all(request->sender) &&
               !sender_sees(request->sender, event->prev.key, event->prev.dir);
}

bool request_may_check(const Request *request, const KvCheck *check) {
        return check->key.size == 1 || sender_may_read(request->sender, check->key);
}

const char *request_parameter(const Request *request, const char *name) {
        const HttpParameter *p = http_parameter(&request->parameters, name);

        return p ? p->value : NULL;
}

const char *request_user_name(const Request *request, char ret[static HISTORY_USER_SIZE]) {
        const struct passwd *user = NULL;
        uid_t uid;
        FILE *f;

        if (request->origin) {
                snprintf(ret, HISTORY_USER_SIZE, "%s", request->origin->user);
                return ret;
        }
        ret[0] = 0;
        if (stream_peer_uid(request->http->stream, &uid) < 0) {
                if (request->sender->principal.kind == PRINCIPAL_USER)
                        snprintf(ret, HISTORY_USER_SIZE, "%.*s", HISTORY_USER_SIZE - 1,
                                 request->sender->text);
                return ret;
        }
        f = fopen("/etc/passwd", "re"); /* other sources of NSS may be on a network, and block the loop */
        while (f && (user = fgetpwent(f)) && user->pw_uid != uid)
                ;
        if (user)
                snprintf(ret, HISTORY_USER_SIZE, "%s", user->pw_name);
        else
                snprintf(ret, HISTORY_USER_SIZE, "uid %u", (unsigned) uid);
        if (f)
                fclose(f);
        return ret;
}

const char *request_sender(const Request *request, char ret[static PRINCIPAL_TEXT_SIZE]) {
        char name[HISTORY_USER_SIZE];

        if (request->sender->principal.kind != PRINCIPAL_LOCAL || !*request_user_name(request, name))
                return principal_text(&request->sender->principal, ret);
        snprintf(ret, PRINCIPAL_TEXT_SIZE, "user %s", name);
        return ret;
}

const char *request_user(const Request *request) {
        char name[HISTORY_USER_SIZE], *ret = request->api->user;

        (void) request_user_name(request, name);
        if (name[0] && request->sender->principal.kind != PRINCIPAL_USER)
                snprintf(ret, RECORDED_BY_SIZE, "%s@%s", name, request_host(request));
        else
                snprintf(ret, RECORDED_BY_SIZE, "%s", name);
        return ret;
}

const char *request_machine(const Request *request) {
        return request->origin ? request->origin->machine : request->api->settings->machine_id;
}

const char *request_host(const Request *request) {
        return request->origin ? request->origin->host : request->api->settings->name;
}

/* -- Paths with doubled slashes or dots: etcd's router and fleet's redirect to the clean path -- */

bool request_path_is_clean(const Request *request) {
        const char *path = request->path;
        size_t size = request->path_size;

        for (size_t i = 0; i < size; i++) {
                const char *s = path + i + 1;
                size_t left = size - i - 1;

                if (path[i] != '/')
                        continue;
                if ((left > 0 && s[0] == '/') || (left >= 1 && s[0] == '.' && (left == 1 || s[1] == '/')) ||
                    (left >= 2 && s[0] == '.' && s[1] == '.' && (left == 2 || s[2] == '/')))
                        return false;
        }
        return true;
}

static void append_html(Text *t, const char *s) {
        static const char *const escapes[UCHAR_MAX + 1] = {
                ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&#34;", ['\''] = "&#39;",
        };

        for (; *s; s++)
                if (escapes[(unsigned char) *s])
                        text_append(t, escapes[(unsigned char) *s]);
                else
                        text_append_char(t, *s);
}

void request_redirect_clean(Request *request) {
        _cleanup_free_ char *clean = NULL;
        _cleanup_text_ Text location = {}, body = {};
        bool get = method_is(request, "GET") || method_is(request, "HEAD");
        size_t size;
        int r;

        r = kv_path_clean(request->path, request->path_size, &clean, &size);
        if (r == -ENOMEM) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (r < 0) {
                request_answer_text(request, 414, "text/plain; charset=utf-8", NULL,
                                    "414 the key is too long\n");
                return;
        }
        for (size_t i = 0; i < size; i++) {
                unsigned char c = clean[i];

                if (c <= ' ' || c >= 0x7f || strchr("!\"#%'()*<>?[\\]^`{|}", c)) /* as Go escapes a path */
                        text_printf(&location, "%%%02X", c);
                else
                        text_append_char(&location, c);
        }
        if (request->path_size > 1 && request->path[request->path_size - 1] == '/' && size > 1)
                text_append_char(&location, '/');
        if (request->query[0])
                text_printf(&location, "?%s", request->query);
        if (get) {
                text_append(&body, "<a href=\"");
                append_html(&body, location.chars ?: "/");
                text_append(&body, "\">Moved Permanently</a>.\n\n");
        }
        if (location.error < 0)
                body.error = location.error;
        request_answer_built(request, 301, get ? "text/html; charset=utf-8" : NULL,
                             (HttpField[]) { { "Location", location.chars ?: "/" }, {} }, &body);
}

/* -- The cluster -- */

unsigned request_level(const Request *request) {
        KvState state;

        kv_state(request->api->host->store, &state);
        return state.level;
}

bool request_is_below(const Request *request, unsigned level, const char *needs, Error *ret) {
        unsigned now = request_level(request);

        if (now < level)
                error_set(ret, 409,
                          "%s feature level %u, and the level is %u: all hosts need this version of fleetd; "
                          "then: fleetctl cluster level %u",
                          needs, level, now, level);
        return now < level;
}

uint64_t request_brake_ms(const Request *request) {
        const Engine *engine = request->api->host->engine;

        return engine ? engine_brake(engine) : 0;
}

bool request_is_braked(const Request *request) {
        return engine_is_braked(request_cluster(request), request_brake_ms(request));
}

const char *request_explain(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                            Error *ret) {
        return engine_explain_unit(view, u, request_brake_ms(request), loop_wall_ms(request->api->loop), ret);
}

bool unit_is_readable(const Request *request, const ClusterMachine *m, const char *unit) {
        return !request->sender || sender_may(request->sender, RIGHT_UNITS_CHANGE) ||
               cluster_has_unit_on(request_cluster(request), m, unit);
}

void request_append_access(const Request *request, Text *t) {
        if (settings_client_access(request->api->settings) == CLIENT_CLOSED)
                json_add_string(t, "clientAccess", "closed");
}

/* -- Listings -- */

const char *request_unreachable(const Request *request, int error, KvState *state) {
        if (error != -ETIMEDOUT || !kv_is_attached(request->api->host->store))
                return NULL;
        kv_state(request->api->host->store, state);
        return state->problem[0] ? state->problem : NULL;
}

const char *request_large_reason(int error) {
        switch (error) {
        case -EBUSY:
                return "too many large answers are being made: ask again later, or for less";
        case -ETIMEDOUT:
                return "the answer took longer than 4s to make: ask for less";
        case -EFBIG:
                return "the tree grew too fast while the answer was made: ask again later, or for less";
        case -ECANCELED:
                return "the tree was replaced while the answer was made: ask again";
        case -ENOMEM:
                return "out of memory";
        default:
                return strerror(-error);
        }
}

/* -- Work of the store -- */

static void request_on_synced(void *userdata, KvStatus status) {
        Request *request = userdata;

        request->syncing = false;
        request->on_synced(request, status);
}

void request_sync(Request *request, void (*done)(Request *request, KvStatus status)) {
        request->getting = false;
        request->on_synced = done;
        request->sync = (KvSync) { .done = request_on_synced, .userdata = request };
        request->syncing = true;
        kv_sync(request->api->host->store, &request->sync);
}

static void request_on_result(void *userdata, const KvResult *result) {
        Request *request = userdata;

        request->proposal = 0;
        request->on_result(request, result);
}

/* The state machine rejects users' writes below /_fleet, of any sender. */
static bool request_may_write(const Request *request, const KvCommand *cmd) {
        return kv_path_is_ours(cmd->key) || sender_may_write(request->sender, cmd->key);
}

/* Return a check of the root with the result that 'check' has for an absent key. */
static KvCheck check_of_absent_key(const KvCheck *check) {
        bool holds = check->kind == KV_CHECK_ABSENT ||
                     (check->kind == KV_CHECK_MODIFIED && check->index == 0);

        return (KvCheck) { .kind = holds ? KV_CHECK_EXISTS : KV_CHECK_ABSENT, .key = { "/", 1 } };
}

/* Replace the checks of keys that the sender may not read. *ret_checks, if set, is for the caller to free. */
static int request_limit(const Request *request, KvCommand *cmd, KvCheck **ret_checks) {
        KvCheck *checks;

        for (size_t i = 0; i < cmd->n_writes; i++)
                if (!request_may_write(request, &cmd->writes[i]))
                        return -EACCES;
        if (cmd->op != KV_TXN)
                return request_may_write(request, cmd) ? 0 : -EACCES;
        checks = malloc((cmd->n_checks + 1) * sizeof(KvCheck));
        if (!checks)
                return -ENOMEM;
        for (size_t i = 0; i < cmd->n_checks; i++)
                checks[i] = request_may_check(request, &cmd->checks[i]) ?
                                    cmd->checks[i] :
                                    check_of_absent_key(&cmd->checks[i]);
        cmd->checks = *ret_checks = checks;
        return 0;
}

Registry *request_registry(const Request *request) {
        registry_propose_for(request->api->host->registry, request->sender->text);
        return request->api->host->registry;
}

static void request_on_view(Request *request, KvStatus status) {
        if (status == KV_OK && !registry_is_current(request->api->host->registry) &&
            request->n_decisions < REQUEST_DECISIONS_MAX) {
                request->n_decisions++;
                request_sync(request, request_on_view);
        } else
                request_run(request); /* without a majority, it answers so */
}

bool request_decide_again(Request *request) {
        if (++request->n_decisions >= REQUEST_DECISIONS_MAX)
                return false;
        request_sync(request, request_on_view);
        return true;
}

void request_denied(const Request *request) {
        denials_add(&request->api->denials, &request->sender->principal,
                    request->origin ? request->origin->machine : NULL, request->http->method, request->path);
}

/* Check the keys that units read. While the cluster view is being read, this host does not know them, and it
 * may be the leader before the command is in the log. */
static int request_check_inputs(const Request *request, const KvCommand *cmd, Error *err) {
        const ComponentHost *host = request->api->host;
        const Sender *sender = request->sender;
        const Cluster *c = registry_cluster(host->registry);

        if (c->level >= KV_LEVEL_INPUTS && !inputs_permits(&sender->principal, sender->facts.is_restricted) &&
            !registry_ready(host->registry))
                return error_set(err, -EAGAIN, "%s", strerror(EAGAIN));
        return inputs_check_write(c, &sender->principal, sender->facts.is_restricted, cmd, err);
}

int request_propose(Request *request, const KvCommand *cmd,
                    void (*done)(Request *request, const KvResult *result), Error *err) {
        _cleanup_free_ KvCheck *checks = NULL;
        KvCommand limited = *cmd;
        int r = 0;

        if (!cmd->internal && !sender_may_write(request->sender, kv_string("/")))
                r = request_limit(request, &limited, &checks);
        if (!cmd->internal && r >= 0)
                r = request_check_inputs(request, cmd, err);
        if (r == -EACCES || r == -EPERM)
                request_denied(request);
        if (r < 0)
                return r;
        limited.principal = kv_string(request->sender->text);
        request->on_result = done;
        return kv_propose(request->api->host->store, &limited, request_on_result, request,
                          &request->proposal);
}

void request_get(Request *request, KvBytes key,
                 void (*done)(void *userdata, int result, const KvFound *found)) {
        request->getting = true;
        request->get = (KvGet) { .key = key, .done = done, .userdata = request };
        kv_get(request->api->host->store, &request->get);
}

void request_list(Request *request, const KvRange *range, const KvListOps *ops, void *userdata) {
        KvList *large;

        kv_list(request->api->host->store, range, ops, userdata, &large);
        if (large) /* else the request may have ended */
                request->list = large;
}

bool request_lists_later(Request *request, int error) {
        HttpRequest *http = request->http;

        if (error != -EBUSY || !http->sink)
                return false;
        http->userdata = NULL;
        request_free(request);
        http->sink->again(http);
        return true;
}

static bool has_room_to_list(const Api *api) {
        return turn_work_bytes(&loop_turns(api->loop)->now) < LISTED_WORK_MAX;
}

bool request_may_list(Request *request, void (*again)(Request *request)) {
        Api *api = request->api;

        if (api->lists || (TAILQ_EMPTY(&api->listings) && has_room_to_list(api)))
                return true;
        request_list_later(request, again);
        return false;
}

void request_list_later(Request *request, void (*again)(Request *request)) {
        Api *api = request->api;

        if (TAILQ_EMPTY(&api->listings))
                api->listed_turn = loop_turns(api->loop)->n;
        request->on_turn = again;
        request->listing = true;
        TAILQ_INSERT_TAIL(&api->listings, request, listings);
        loop_defer(api->loop, &api->list);
}

void api_on_list(void *userdata) {
        Api *api = userdata;
        uint64_t turn = loop_turns(api->loop)->n;
        Request *request;

        while ((request = TAILQ_FIRST(&api->listings)) &&
               (has_room_to_list(api) || api->listed_turn != turn)) {
                api->listed_turn = turn;
                request->listing = false;
                TAILQ_REMOVE(&api->listings, request, listings);
                api->lists = true;
                request->on_turn(request);
                api->lists = false;
        }
        if (!TAILQ_EMPTY(&api->listings))
                loop_defer(api->loop, &api->list);
}
