#include "units/verdict.h"

#include <stdio.h>

#include "units/json.h"

static const char *const aspect_begins[_VERDICT_OF_MAX] = {
        [VERDICT_OF_ALL] = "",
        [VERDICT_OF_CLOCK] = "its clock: ",
        [VERDICT_OF_IDENTITY] = "its identity: ",
        [VERDICT_OF_REPLICA] = "its replica: ",
        [VERDICT_OF_SESSIONS] = "its sessions: ",
};

const char *verdict_aspect_begin(VerdictAspect of) {
        return aspect_begins[of];
}

void verdict_set(Verdict *ret, VerdictCode code, const char *args, ...) {
        va_list ap;

        *ret = (Verdict) { .code = code };
        va_start(ap, args);
        (void) vsnprintf(ret->args, sizeof(ret->args), args, ap);
        va_end(ap);
}

void verdict_say(Verdict *ret, VerdictCode code, const char *message) {
        *ret = (Verdict) { .code = *message ? code : VERDICT_NONE, .said = *message };
        snprintf(ret->args, sizeof(ret->args), "%s", message);
}

/* Append the argument of a number from 0 on; nothing if there are fewer. */
static void verdict_append_argument(Text *t, const Verdict *v, int number) {
        const char *begin = v->args;

        for (; number > 0 && *begin; number--) {
                begin += strcspn(begin, VERDICT_NEXT);
                begin += *begin ? 1 : 0;
        }
        text_append_bytes(t, begin, strcspn(begin, VERDICT_NEXT));
}

void verdict_append(Text *t, const Verdict *v) {
        const char *words = v->said ? "%1" : verdict_rows[v->code].message;

        text_append(t, aspect_begins[v->of]);
        while (*words) {
                size_t plain = strcspn(words, "%");

                text_append_bytes(t, words, plain);
                words += plain;
                if (!*words)
                        break;
                verdict_append_argument(t, v, words[1] - '1');
                words += 2;
        }
}

void verdict_add_message(Text *t, const char *name, const Verdict *v) {
        _cleanup_text_ Text message = {};

        verdict_append(&message, v);
        if (message.error < 0)
                t->error = message.error;
        json_add_string(t, name, text_chars(&message));
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
