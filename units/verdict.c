#include "units/verdict.h"

#include "base/parse.h"

#define VERDICT_ROW(code, ...) [code] = { __VA_ARGS__ },

const VerdictRow verdict_rows[_VERDICT_MAX] = { VERDICTS(VERDICT_ROW) };

static const char *const aspect_begins[_VERDICT_OF_MAX] = {
        [VERDICT_OF_ALL] = "",
        [VERDICT_OF_CLOCK] = "its clock: ",
        [VERDICT_OF_IDENTITY] = "its identity: ",
        [VERDICT_OF_REPLICA] = "its replica: ",
        [VERDICT_OF_SESSIONS] = "its sessions: ",
};

static const char *const aspect_names[_VERDICT_OF_MAX] = {
        [VERDICT_OF_ALL] = "",
        [VERDICT_OF_CLOCK] = "clock",
        [VERDICT_OF_IDENTITY] = "identity",
        [VERDICT_OF_REPLICA] = "replica",
        [VERDICT_OF_SESSIONS] = "sessions",
};

const char *verdict_aspect_begin(VerdictAspect of) {
        return aspect_begins[of];
}

void verdict_set_list(Verdict *ret, VerdictCode code, const char *args, va_list ap) {
        *ret = (Verdict) { .code = code };
        text_format_list(ret->args, sizeof(ret->args), args, ap);
}

void verdict_set(Verdict *ret, VerdictCode code, const char *args, ...) {
        va_list ap;

        va_start(ap, args);
        verdict_set_list(ret, code, args, ap);
        va_end(ap);
}

void verdict_say(Verdict *ret, VerdictCode code, const char *message) {
        *ret = (Verdict) { .code = *message ? code : VERDICT_NONE, .said = *message };
        snprintf(ret->args, sizeof(ret->args), "%s", message);
}

const char *verdict_argument(const Verdict *v, int number, size_t *ret_size) {
        const char *begin = v->args;

        for (; number > 0 && *begin; number--) {
                begin += strcspn(begin, VERDICT_NEXT);
                begin += *begin ? 1 : 0;
        }
        *ret_size = strcspn(begin, VERDICT_NEXT);
        return begin;
}

static void verdict_append_words(Text *t, const Verdict *v, const char *words) {
        const char *argument;
        size_t size;

        while (*words) {
                size_t plain = strcspn(words, "%");

                text_append_bytes(t, words, plain);
                words += plain;
                if (!*words)
                        break;
                argument = verdict_argument(v, words[1] - '1', &size);
                text_append_bytes(t, argument, size);
                words += 2;
        }
}

void verdict_append(Text *t, const Verdict *v) {
        const char *words = v->said ? "%1" : verdict_rows[v->code].message;

        text_append(t, words ? aspect_begins[v->of] : "it ");
        if (words)
                verdict_append_words(t, v, words);
        else
                verdict_append_predicate(t, v, false);
}

void verdict_print(const Verdict *v, Error *ret) {
        _cleanup_text_ Text message = {};

        verdict_append(&message, v);
        error_set(ret, message.error, "%s", text_chars(&message));
}

void verdict_append_predicate(Text *t, const Verdict *v, bool many) {
        static const struct {
                const char *one, *many;
        } verbs[] = {
                { "is", "are" }, { "has", "have" }, { "does", "do" }, { "was", "were" }, { "runs", "run" }
        };
        const VerdictRow *row = &verdict_rows[v->code];

        for (size_t i = 0; row->verb && i < ELEMENTS(verbs); i++)
                if (streq(row->verb, verbs[i].one))
                        text_printf(t, "%s ", many ? verbs[i].many : row->verb);
        verdict_append_words(t, v, row->rest);
}

void verdict_add_message(Text *t, const char *name, const void *v) {
        _cleanup_text_ Text message = {};

        verdict_append(&message, v);
        if (message.error < 0)
                t->error = message.error;
        json_add_string(t, name, text_chars(&message));
}

void verdict_add_said(Text *t, const char *name, const void *v) {
        if (((const Verdict *) v)->said)
                verdict_add_message(t, name, v);
}

const char *verdict_name(const Verdict *v) {
        size_t size;

        return v->code == VERDICT_SAID ? verdict_argument(v, 1, &size) : verdict_rows[v->code].name ?: "";
}

VerdictCode verdict_code(const char *name) {
        VerdictCode code = _VERDICT_MAX - 1;

        while (code > VERDICT_SAID && !streq(verdict_rows[code].name, name))
                code--;
        return code;
}

void verdict_code_write(Text *t, const char *name, const void *code) {
        json_add_string(t, name, verdict_rows[*(const VerdictCode *) code].name);
}

int verdict_code_read(const JsonValue *member, void *code, Error *err) {
        const char *name = json_value_string(member);

        *(VerdictCode *) code = name ? verdict_code(name) : VERDICT_NONE;
        return 0;
}

void verdict_set_named(Verdict *v, const char *name, const char *args, size_t size) {
        _cleanup_text_ Text message = {};
        VerdictAspect of = v->of;

        v->of = VERDICT_OF_ALL;
        verdict_append(&message, v);
        v->code = verdict_code(name);
        v->of = of;
        /* The message of a host that has sent it without arguments. */
        v->said = v->code == VERDICT_SAID || (size == 0 && strchr(verdict_rows[v->code].message ?: "", '%'));
        if (!v->said)
                snprintf(v->args, sizeof(v->args), "%.*s", (int) size, args);
        else
                snprintf(v->args, sizeof(v->args), "%s%s%s", text_chars(&message),
                         v->code == VERDICT_SAID ? VERDICT_NEXT : "", v->code == VERDICT_SAID ? name : "");
}

void verdict_append_code(Text *t, const Verdict *v) {
        text_append(t, verdict_name(v));
        if (!v->said && v->args[0])
                text_printf(t, VERDICT_NEXT "%s", v->args);
}

void verdict_set_code(Verdict *v, const char *code) {
        char name[VERDICT_ARGS_SIZE];
        size_t size = strcspn(code, VERDICT_NEXT);
        const char *args = code + size + (code[size] ? 1 : 0);

        snprintf(name, sizeof(name), "%.*s", (int) size, code);
        if (size > 0)
                verdict_set_named(v, name, args, strlen(args));
}

void verdict_write_members(Text *t, const Verdict *v) {
        char item[VERDICT_ARGS_SIZE];
        const char *argument;
        size_t size;

        if (!v->said && v->args[0]) {
                json_open(t, "args", '[');
                for (int i = 0; argument = verdict_argument(v, i, &size), *argument; i++) {
                        snprintf(item, sizeof(item), "%.*s", (int) size, argument);
                        json_add_item(t, item);
                }
                json_close(t, ']');
        }
        json_add_string(t, "code", verdict_name(v));
        json_add_string(t, "of", aspect_names[v->of]);
}

void verdict_write(Text *t, const char *name, const void *field) {
        const Verdict *v = field;

        if (!*verdict_name(v) && v->of == VERDICT_OF_ALL)
                return;
        json_open(t, name, '{');
        verdict_write_members(t, v);
        json_close(t, '}');
}

int verdict_read_said(const JsonValue *member, void *field, Error *err) {
        const char *message = json_value_string(member);
        Verdict *v = field;

        if (message && v->code == VERDICT_NONE)
                verdict_say(v, VERDICT_SAID, message);
        return member && !message ? error_set(err, -EBADMSG, "reason: expected a string") : 0;
}

int verdict_read(const JsonValue *member, void *field, Error *err) {
        Verdict *v = field;
        const JsonValue *args = json_value_member(member, "args");
        const char *name = json_value_string(json_value_member(member, "code"));
        const char *of = json_value_string(json_value_member(member, "of"));
        _cleanup_text_ Text all = {};
        int aspect;

        if (member && json_value_type(member) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "verdict: expected an object");
        for (size_t i = 0; i < json_value_count(args); i++) {
                text_append(&all, i > 0 ? VERDICT_NEXT : "");
                text_append(&all, json_value_string(json_value_item(args, i)) ?: "");
        }
        if (all.error < 0)
                return error_set(err, all.error, "out of memory");
        if (name && *name)
                verdict_set_named(v, name, text_chars(&all), all.size);
        aspect = of ? parse_name(of, aspect_names, _VERDICT_OF_MAX) : (int) v->of;
        v->of = aspect < 0 ? VERDICT_OF_REPLICA : (VerdictAspect) aspect;
        return 0;
}

bool verdict_equal(const Verdict *a, const Verdict *b) {
        _cleanup_text_ Text one = {}, two = {};

        if (a->of != b->of)
                return false;
        if (!a->said && !b->said)
                return a->code == b->code && streq(a->args, b->args);
        verdict_append(&one, a);
        verdict_append(&two, b);
        return one.error >= 0 && two.error >= 0 && streq(text_chars(&one), text_chars(&two));
}
