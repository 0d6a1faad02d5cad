#include "client/core/client.h"

#include "client/core/suggest.h"

enum {
        BATCH_SIZE = 100 * 1024, /* bytes of all texts in one transaction */
};

/* -- Messages -- */

bool client_is_interactive(void) {
        return isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
}

bool client_is_about_daemon(int r, const Error *err) {
        AnswerError answer;

        return answer_error_read(r, error_text(err, r), &answer) && answer.status >= 500;
}

const char *client_answer_text(const Error *err) {
        const char *message = error_text(err, -EREMOTEIO);
        AnswerError answer;

        return answer_error_read(-EREMOTEIO, message, &answer) && *answer.text ? answer.text : message;
}

bool client_is_final(const Client *c, int r) {
        return r == -ENOMEM || (r == -EREMOTEIO && connection_is_denied(c->connection));
}

#define NEXT_WITHOUT_LEADER "fleetctl status; if the majority is lost: fleetctl help recovery"

/* Return whether a message of fleetd is about a missing leader, and has no next step itself. */
static bool lacks_leader(const char *message) {
        return strstr(message, "no leader") && !strstr(message, "fleetctl ");
}

void client_note_no_leader(const char *message) {
        if (client_is_interactive() && lacks_leader(message))
                client_note("see: " NEXT_WITHOUT_LEADER);
}

/* Print a failure after 'before' and return EXIT_FAILED. A terminal gets an error answer without
 * "googleapi: Error N: ". 5xx is about the daemon, not about the request: it is printed without both. */
static int client_print_failure(int r, const char *message, const char *before) {
        static const char not_ready[] =
                "fleet server unable to communicate with etcd; "; /* the cause follows */
        AnswerError answer = {};
        bool marked = answer_error_read(r, message, &answer), of_daemon = marked && answer.status >= 500;

        if (!marked || !*answer.text || !(of_daemon || client_is_interactive()))
                fprintf(stderr, "%s%s\n", before, message);
        else if (starts_with(answer.text, not_ready))
                fprintf(stderr, "fleetctl: %s (journalctl -u fleetd)\n", answer.text + strlen(not_ready));
        else if (of_daemon)
                fprintf(stderr, "fleetctl: %s%s\n", answer.text,
                        lacks_leader(answer.text) ? " (" NEXT_WITHOUT_LEADER ")" : "");
        else
                fprintf(stderr, "%s%.*s%s\n", before, (int) (answer.mark - message), message, answer.text);
        return EXIT_FAILED;
}

int client_fail(int r, const Error *err) {
        const char *message = error_text(err, r);

        return client_print_failure(
                r, message, r == -EREMOTEIO && starts_with(message, "googleapi: ") ? "" : "fleetctl: ");
}

int client_fail_after(int r, const Error *err, const char *format, ...) {
        _cleanup_text_ Text t = {};
        va_list ap;

        if (r != -EREMOTEIO && r != -ENOENT && r != -EINVAL)
                return client_fail(r, err);

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        return client_print_failure(r, error_text(err, r), t.chars ?: "fleetctl: ");
}

int client_usage(const char *message) {
        fprintf(stderr, "fleetctl: %s\n", message);
        return EXIT_USAGE;
}

int client_fail_verb(const char *verb, const Suggestion *s, const char *usage) {
        if (s->nearest)
                client_note("%s has no verb %s; did you mean %s? (%s)", verb, s->typed, s->nearest, usage);
        else
                client_note("%s has no verb %s: %s", verb, s->typed, usage);
        return EXIT_USAGE;
}

void client_note(const char *format, ...) {
        _cleanup_text_ Text t = {};
        va_list ap;

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        (void) fflush(stdout); /* in a pipe, messages stay between the lines that they follow */
        fprintf(stderr, "fleetctl: %s\n", t.chars ? text_keep_to_one_line(t.chars) : "out of memory");
}

void client_note_stale(const Client *c) {
        unsigned long long stale_s = connection_stale_s(c->connection);

        if (stale_s > 0)
                client_note("no leader for %llu s: this may be old%s", stale_s,
                            streq(c->verb->name, "status") ? "" : " (fleetctl status)");
}

int client_run(Client *c, const Verb *verb, char **args, size_t n, Error *err) {
        static const char reads[] = "directory events export get history is-active is-failed list-members ls "
                                    "machine rollout why",
                          changes[] = "load start";
        int r = verb->run(c, args, n, err);

        if ((r == EXIT_DONE || r == EXIT_INACTIVE || r == EXIT_ABSENT) && !c->options.wait &&
            text_has_word(reads, verb->name))
                client_note_stale(c);
        /* Without a leader, nothing was changed, because the units seemed to be as requested. */
        if (r == EXIT_DONE && !c->has_changed && text_has_word(changes, verb->name) &&
            connection_is_stale(c->connection)) {
                client_note_stale(c);
                return EXIT_FAILED;
        }
        return r;
}

/* A unit that was submitted after the backup of a restored cluster runs without the cluster. Return whether
 * that was printed. */
bool client_note_absent_running(Client *c, const char *name) {
        _cleanup_listing_ Listing states = {}, machines = {};
        bool any = false;

        if (client_states(c, name, &states, NULL) < 0)
                return false;
        for (size_t i = 0; i < states.n; i++) {
                const ApiState *s = &states.states[i];
                const ApiMachine *m;
                _cleanup_text_ Text place = {};

                if (!same_string(s->name, name) || !same_string(s->active, "active"))
                        continue;
                client_load_machine(c, &machines, s->machine_id, true);
                append_machine_name(&place, &machines, s->machine_id ?: "");
                any = true;
                m = listing_machine(&machines, s->machine_id);
                if (m && same_string(m->presence, "away")) {
                        client_note("the cluster does not have %s, and %s, which is away, last reported it "
                                    "active: if it was destroyed, %s stops it when it is back",
                                    name, place.chars ?: "", place.chars ?: "");
                        continue;
                }
                client_note("%s runs on %s, and the cluster does not have it; to keep it, without a restart, "
                            "run there: fleetctl start " RUNTIME_UNITS "/%s; to stop it: then fleetctl "
                            "destroy %s",
                            name, place.chars ?: "", name, name);
        }
        return any;
}

void client_note_nowhere(Client *c, const char *name) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};
        const JsonValue *machines;

        text_append(&path, "/fleet/v1/why/");
        append_escaped(&path, name, false);
        if (client_get_json(c, client_path(&path), &root, NULL) < 0)
                return;
        machines = json_value_member(root, "machines");
        for (size_t i = 0; i < json_value_count(machines); i++) {
                const JsonValue *m = json_value_item(machines, i);

                if (member_bool(m, "fits") || *member_text(m, "order"))
                        return;
        }
        client_note("%s runs nowhere: no machine qualifies; fleetctl why %s", name, name);
}

/* Print the files of unit directories that are refused under this name: the unit may be meant. */
static void client_note_refused_files(Client *c, const char *name) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_listing_ Listing machines = {};
        const JsonValue *items;

        if (client_get_json(c, "/fleet/v1/directory", &root, NULL) < 0)
                return;
        items = json_value_member(root, "problems");
        for (size_t i = 0; i < json_value_count(items); i++) {
                const JsonValue *p = json_value_item(items, i);
                const char *reason = member_text(p, "reason"), *id = member_text(p, "machineID");
                _cleanup_text_ Text machine = {};

                if (!streq(member_text(p, "kind"), "refused") || !streq(member_text(p, "name"), name))
                        continue;
                if (starts_with(reason, name) && starts_with(reason + strlen(name), ": "))
                        reason += strlen(name) + strlen(": ");
                client_load_machine(c, &machines, id, true);
                append_machine_name(&machine, &machines, id);
                client_note("refused on %s: %s; fleetctl directory", machine.chars ?: id, reason);
        }
}

/* Print what the name may mean. Return whether a unit of the cluster is similar. */
static bool client_suggest_others(Client *c, const char *name) {
        Suggestion suggestion = { .typed = name };
        _cleanup_free_ char *template = NULL;
        _cleanup_listing_ Listing units = {};

        client_note_refused_files(c, name);
        if (!isatty(STDERR_FILENO) || client_units(c, &units, NULL) < 0)
                return false;
        for (size_t i = 0; i < units.n; i++)
                if (units.units[i].name)
                        suggest_consider_unit(&suggestion, units.units[i].name);
        template = unit_name_is_instance(name) ? unit_name_template(name) : NULL;
        if (suggestion.nearest && same_string(suggestion.nearest, template))
                client_note("the cluster has its template; to start it: fleetctl start %s", name);
        else if (suggestion.nearest)
                fprintf(stderr, "fleetctl: did you mean %s?\n", suggestion.nearest);
        return suggestion.nearest;
}

bool client_suggest_unit(Client *c, const char *name) {
        bool running = client_note_absent_running(c, name);

        return client_suggest_others(c, name) || running;
}

void client_note_awaited(Client *c, const char *effect) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *awaited;
        _cleanup_text_ Text names = {};

        if (client_get_json(c, "/fleet/v1/cluster", &root, NULL) < 0)
                return;
        awaited = json_value_member(root, "waitsFor");
        for (size_t i = 0; i < json_value_count(awaited); i++)
                text_printf(&names, "%s%s", i > 0 ? ", " : "",
                            json_value_string(json_value_item(awaited, i)) ?: "");
        if (names.size > 0)
                client_note(
                        "the cluster was recovered or restored, and waits until %s %s units: %s (fleetctl "
                        "cluster)",
                        names.chars,
                        json_value_count(awaited) == 1 ? "has reported its" : "have reported their", effect);
}

static int on_past(void *userdata, const JsonValue *row) {
        bool *any = userdata;

        *any |= row != NULL;
        return 0;
}

void client_note_past(Client *c, const char *name, bool known) {
        bool any = false;

        /* fleet's message is for programs. log is such a command itself. */
        if (!isatty(STDERR_FILENO) || streq(c->verb->name, "log"))
                return;
        if (streq(name, "fleetd.service")) {
                client_note("the log of the daemons: fleetctl log");
                return;
        }
        client_history(c, name, on_past, &any);
        if (any)
                client_note("its past: fleetctl events %s", name);
        else if (!known)
                client_note("no events of it are stored; older ones: fleetctl log UNIT=%s", name);
}

void client_note_absent(Client *c, const char *name) {
        bool running, similar;

        (void) fflush(stdout);
        running = client_note_absent_running(c, name);
        if (!running) {
                fprintf(stderr, "Unit %s does not exist.\n", name);
                client_note_awaited(c, "it may run there");
        }
        similar = client_suggest_others(c, name);
        if (!running && !similar && isatty(STDERR_FILENO))
                client_note("all units: fleetctl list-unit-files");
        client_note_past(c, name, similar || running);
}

void client_note_warnings(const JsonValue *warnings) {
        for (size_t i = 0; i < json_value_count(warnings); i++)
                client_note("warning: %s", json_value_string(json_value_item(warnings, i)) ?: "");
}

typedef struct HistoryReading {
        const char *unit;
        HistoryOnRow on_row;
        void *userdata;
} HistoryReading;

static int history_on_line(void *userdata, const char *line, size_t size) {
        const HistoryReading *reading = userdata;
        _cleanup_json_ JsonValue *row = NULL;
        int r = json_value_parse(line, size, &row, NULL);

        if (r < 0)
                return r;
        /* A pattern selects rows of other units, and the last line is no row. */
        return streq(member_text(row, "name"), reading->unit) ? reading->on_row(reading->userdata, row) : 0;
}

void client_history(Client *c, const char *unit, HistoryOnRow on_row, void *userdata) {
        HistoryReading reading = { .unit = unit, .on_row = on_row, .userdata = userdata };
        _cleanup_text_ Text path = {};
        Error err = {};

        text_append(&path, "/fleet/v1/history?unit=");
        append_escaped(&path, unit, false);
        text_append(&path, "&follow=false");
        (void) connection_follow(c->connection, "GET", client_path(&path), history_on_line, &reading, NULL,
                                 &err);
}

void append_template(Text *t, const char *name) {
        text_printf(t, "%s is a template, and runs nowhere; its instances: fleetctl list-units '%.*s@*'",
                    name, (int) strcspn(name, "@"), name);
}

bool client_confirm(const Client *c, const char *question, const char *effect, ...) {
        _cleanup_text_ Text printable = {};
        _cleanup_free_ char *text = NULL;
        char answer[16];
        va_list ap;

        if (c->options.yes)
                return true;
        va_start(ap, effect);
        if (vasprintf(&text, effect, ap) < 0)
                text = NULL;
        va_end(ap);
        text_append_printable_bytes(&printable, text ?: "", text ? strlen(text) : 0, true);
        fprintf(stderr, "%s\n", printable.chars ?: "");
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
                fputs("fleetctl: nothing was changed; confirm with --yes\n", stderr);
                return false;
        }
        fprintf(stderr, "%s [y/N] ", question);
        if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
                return true;
        fputs("fleetctl: nothing was changed\n", stderr);
        return false;
}

/* -- Requests -- */

int client_request(Client *c, const char *method, const char *path, const Text *json, Reply *ret,
                   Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = connection_request(c->connection, method, path, CONTENT_JSON, json, &reply, err);
        if (r < 0)
                return r;
        r = reply_check(&reply, err);
        if (r < 0 || !ret)
                return r;

        *ret = reply;
        reply = (Reply) {};
        return 0;
}

int client_get_json(Client *c, const char *path, JsonValue **ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = client_request(c, "GET", path, NULL, &reply, err);
        return r < 0 ? r : json_value_parse(reply.body.chars, reply.body.size, ret, err);
}

int client_refresh_json(Client *c, const char *path, JsonValue **value, Error *err) {
        _cleanup_reply_ Reply reply = {};
        JsonValue *root = NULL;
        int r;

        r = connection_request(c->connection, "GET", path, NULL, NULL, &reply, err);
        if (r < 0)
                return r;
        if (reply.status == 404)
                return 0;
        r = reply_check(&reply, err);
        if (r >= 0)
                r = json_value_parse(reply.body.chars, reply.body.size, &root, err);
        if (r < 0)
                return r;
        json_value_free(*value);
        *value = root;
        return 1;
}

int client_take_answer(Client *c, const Reply *reply, JsonValue **ret, Error *err) {
        int r;

        *ret = NULL;
        r = reply_check(reply, err);
        if (r < 0)
                return r;
        if (streq(c->options.output, "json")) {
                (void) output_line(reply->body.chars);
                return EXIT_DONE;
        }
        r = json_value_parse(reply->body.chars, reply->body.size, ret, err);
        return r < 0 ? error_prefix(err, r, "fleetd's answer") : EXIT_DONE;
}

bool client_prints_json(const Client *c) {
        return streq(c->options.output, "json");
}

int client_read_span(const char *flag, const char *value, uint64_t *ret) {
        if (!value || (parse_span_ms(value, ret) >= 0 && *ret > 0))
                return 0;
        client_note("--%s=%s: expected a time span above 0, for example 5min", flag, value);
        return -EINVAL;
}

const char *client_path(const Text *path) {
        return path->error < 0 ? NULL : path->chars;
}

const char *member_text(const JsonValue *object, const char *name) {
        return json_value_string(json_value_member(object, name)) ?: "";
}

const char *member_name(const JsonValue *object, const char *name) {
        const char *text = member_text(object, name);

        return *text ? text : member_text(object, "id");
}

const char *member_short_id(const JsonValue *object, const char *name) {
        const char *id = member_text(object, name);

        return id + strspn(id, "0");
}

const char *member_label(const JsonValue *member) {
        const char *name = member_name(member, "name");

        if (!*name)
                name = member_text(member, "address");
        return *name ? name : "(replaced)";
}

uint64_t member_number(const JsonValue *object, const char *name) {
        uint64_t n = 0;

        return json_read_u64(object, name, &n, NULL) < 0 ? 0 : n;
}

bool member_bool(const JsonValue *object, const char *name) {
        bool yes = false;

        return json_read_bool(object, name, &yes, NULL) >= 0 && yes;
}

/* -- Units -- */

/* Send a request about one unit. Status 404 is not an error here; callers check it. */
static int unit_request(Client *c, const char *method, const char *name, const Text *json, Reply *ret,
                        Error *err) {
        _cleanup_text_ Text path = {};
        int r;

        text_append(&path, "/fleet/v1/units/");
        append_escaped(&path, name, false);
        r = connection_request(c->connection, method, client_path(&path), CONTENT_JSON, json, ret, err);
        if (r < 0 || ret->status == 404)
                return r;
        return reply_check(ret, err);
}

int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = unit_request(c, "GET", name, NULL, &reply, err);
        if (r < 0)
                return r;
        if (reply.status == 404)
                return 0;

        r = api_unit_read_answer(reply.body.chars, reply.body.size, ret, err);
        if (r < 0)
                return error_prefix(err, r, "fleetd's answer about %s", name);
        r = client_set_global(ret);
        return r < 0 ? r : 1;
}

void append_unit_text(Text *t, const ApiUnit *unit) {
        if (unit->text && *unit->text)
                text_append(t, unit->text);
        else if (unit->file)
                unit_file_print(unit->file, t, NULL);
}

static int put_unit(Client *c, const ApiUnit *unit, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        api_unit_write(&body, unit);
        r = unit_request(c, "PUT", unit->name, &body, &reply, err);
        return r < 0 ? r : reply_check(&reply, err);
}

/* Send one transaction. Return 0 with *ret_known false if this daemon has no transactions. */
static int post_batch(Client *c, const ApiUnit *units, size_t n, bool *ret_known, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        api_units_page_write(&body, units, n, NULL);
        r = connection_request(c->connection, "POST", "/fleet/v1/batch", CONTENT_JSON, &body, &reply, err);
        if (r < 0)
                return r;
        *ret_known = reply.status != 404 && reply.status != 405;
        return *ret_known ? reply_check(&reply, err) : 0;
}

ApiUnit client_change_of(const char *name) {
        ApiUnit unit = API_UNIT_EMPTY;

        unit.name = name;
        return unit;
}

int client_change(Client *c, const ApiUnit *units, size_t n, Error *err) {
        bool batches = n > 1;
        int r = 0;

        for (size_t i = 0, end; i < n && r >= 0; i = end) {
                size_t size = 0;

                for (end = i; end < n && end - i < BATCH_UNITS && size < BATCH_SIZE; end++)
                        size += units[end].text ? strlen(units[end].text) : 0;
                if (batches)
                        r = post_batch(c, units + i, end - i, &batches, err);
                if (!batches)
                        for (end = i; end < n && r >= 0; end++)
                                r = put_unit(c, &units[end], err);
        }
        c->has_changed |= n > 0 && r >= 0;
        return r;
}

int client_set_state(Client *c, const char *name, TargetState state, Error *err) {
        ApiUnit unit = client_change_of(name);

        unit.desired_state = state;
        return client_change(c, &unit, 1, err);
}

int client_destroy(Client *c, const ApiUnit *units, size_t n, Error *err) {
        _cleanup_reply_ Reply reply = {};
        bool supported;
        int r;

        if (n == 1)
                return unit_request(c, "DELETE", units[0].name, NULL, &reply,
                                    err); /* also 0 for status 404 */
        r = post_batch(c, units, n, &supported, err);
        if (r < 0)
                return r;
        return supported ? 0 : -EOPNOTSUPP;
}
