#include "client/core/client.h"

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

void client_note_no_leader(const Reply *reply) {
        if (client_is_interactive() && reply_lacks_leader(reply))
                client_note("see: " NEXT_WITHOUT_LEADER);
}

/* Print a failure after 'before' and return EXIT_FAILED. A terminal gets an error answer without
 * "googleapi: Error N: ". 5xx is about the daemon, not about the request: it is printed without both. */
static int client_print_failure(int r, const Error *err, const char *before) {
        static const char not_ready[] =
                "fleet server unable to communicate with etcd; "; /* the cause follows */
        const char *message = error_text(err, r), *next = err ? err->next : NULL;
        AnswerError answer = {};
        bool marked = answer_error_read(r, message, &answer), of_daemon = marked && answer.status >= 500;

        if (!marked || !*answer.text || !(of_daemon || client_is_interactive()))
                fprintf(stderr, "%s%s\n", before, message);
        else if (starts_with(answer.text, not_ready))
                fprintf(stderr, "fleetctl: %s (journalctl -u fleetd)\n", answer.text + strlen(not_ready));
        else if (of_daemon)
                fprintf(stderr, "fleetctl: %s%s%s%s\n", answer.text, next ? " (" : "", next ?: "",
                        next ? ")" : "");
        else
                fprintf(stderr, "%s%.*s%s\n", before, (int) (answer.mark - message), message, answer.text);
        return EXIT_FAILED;
}

int client_fail(int r, const Error *err) {
        return client_print_failure(
                r, err,
                r == -EREMOTEIO && starts_with(error_text(err, r), "googleapi: ") ? "" : "fleetctl: ");
}

int client_fail_after(int r, const Error *err, const char *format, ...) {
        _cleanup_text_ Text t = {};
        va_list ap;

        if (r != -EREMOTEIO && r != -ENOENT && r != -EINVAL)
                return client_fail(r, err);

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        return client_print_failure(r, err, t.chars ?: "fleetctl: ");
}

int client_usage(const char *message) {
        fprintf(stderr, "fleetctl: %s\n", message);
        return EXIT_USAGE;
}

int client_fail_verb(const char *verb, const char *typed, const char *usage) {
        Suggestion s = { .typed = typed };
        char names[8][32];
        size_t n = 0;

        for (const char *p = usage; (p = strpbrk(p, "[|")) && n < ELEMENTS(names);) {
                p += 1 + strspn(p + 1, " ");
                snprintf(names[n], sizeof(names[n]), "%.*s", (int) strcspn(p, " |[]"), p);
                suggest_consider(&s, names[n++]);
        }
        if (s.nearest)
                client_note("%s has no verb %s; did you mean %s? (%s)", verb, typed, s.nearest, usage);
        else
                client_note("%s has no verb %s: %s", verb, typed, usage);
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

        TRY(connection_request(c->connection, method, path, CONTENT_JSON, json, &reply, err));
        r = reply_check(&reply, err);
        if (r < 0 || !ret)
                return r;

        *ret = TAKE_STRUCT(reply);
        return 0;
}

int client_order(Client *c, const char *method, const char *path, const Text *json, const char *failed,
                 const char *done, ...) {
        Error err = {};
        va_list ap;

        TRY_VERB(client_request(c, method, path, json, NULL, &err), &err, "%s", failed);
        va_start(ap, done);
        (void) vprintf(done, ap);
        va_end(ap);
        return EXIT_DONE;
}

int client_get_json(Client *c, const char *path, JsonValue **ret, Error *err) {
        _cleanup_reply_ Reply reply = {};

        TRY(client_request(c, "GET", path, NULL, &reply, err));
        return json_value_parse(reply.body.chars, reply.body.size, ret, err);
}

int client_find(Client *c, const char *method, const char *path, Reply *ret, Error *err) {
        int r;

        r = connection_request(c->connection, method, path, NULL, NULL, ret, err);
        if (r < 0 || ret->status == HTTP_NOT_FOUND)
                return r;
        TRY(reply_check(ret, err));
        return 1;
}

int client_refresh_json(Client *c, const char *path, JsonValue **value, Error *err) {
        _cleanup_reply_ Reply reply = {};
        JsonValue *root = NULL;
        int r;

        r = client_find(c, "GET", path, &reply, err);
        if (r > 0)
                r = json_value_parse(reply.body.chars, reply.body.size, &root, err) ?: 1;
        if (r <= 0)
                return r;
        json_value_free(*value);
        *value = root;
        return 1;
}

int client_append_answer(Client *c, const char *path, Text *t, Error *err) {
        _cleanup_reply_ Reply reply = {};

        TRY(client_request(c, "GET", path, NULL, &reply, err));
        text_append_bytes(t, reply.body.chars ?: "{}", strcspn(reply.body.chars ?: "{}", "\n"));
        return t->error;
}

int client_print_answer(Client *c, const char *path, Error *err) {
        _cleanup_text_ Text t = {};

        TRY(client_append_answer(c, path, &t, err));
        return output_line(t.chars);
}

int client_take_answer(Client *c, const Reply *reply, JsonValue **ret, Error *err) {
        TRY(reply_check(reply, err));
        if (client_prints_json(c))
                return output_line(reply->body.chars);
        TRY_PREFIX(json_value_parse(reply->body.chars, reply->body.size, ret, err), err, "fleetd's answer");
        return EXIT_DONE;
}

int client_read(Client *c, const char *path, JsonValue **ret, Error *err) {
        return client_prints_json(c) ? client_print_answer(c, path, err) : client_get_json(c, path, ret, err);
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

uint64_t client_limit_ms(const Client *c) {
        return c->options.timeout_ms ?: c->options.block_attempts * ATTEMPT_MS;
}

const char *client_path(const Text *path) {
        return path->error < 0 ? NULL : path->chars;
}

const char *client_path_of(Text *path, const char *before, const char *name, const char *after) {
        text_append(path, before);
        append_escaped(path, name, false);
        text_append(path, after);
        return client_path(path);
}

void client_add_words(Text *json, const char *name, const char *list) {
        json_open(json, name, '[');
        for (const char *p = list; p; p = *p ? p + 1 : NULL) {
                size_t size = strcspn(p, ",");
                _cleanup_free_ char *word = strndup(p, size);

                if (!word)
                        json->error = -ENOMEM;
                else
                        json_add_item(json, word);
                p += size;
        }
        json_close(json, ']');
}

const char *member_text(const JsonValue *object, const char *name) {
        return json_value_string(json_value_member(object, name)) ?: "";
}

static const char *member_either(const JsonValue *object, const char *name, const char *former) {
        const char *text = member_text(object, name);

        return *text ? text : member_text(object, former);
}

const char *member_role(const JsonValue *member) {
        return member_either(member, "role", "seat");
}

const char *member_assignment(const JsonValue *machine) {
        return member_either(machine, "assignment", "order");
}

const char *member_name(const JsonValue *object, const char *name) {
        return member_either(object, name, "id");
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
