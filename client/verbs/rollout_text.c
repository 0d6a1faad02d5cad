/* The answer about a rollout as text. */
#include "client/verbs/rollout_text.h"

#include "client/core/notes.h"
#include "client/core/times.h"

bool rollout_is(const JsonValue *answer, const char *state) {
        return streq(member_text(answer, "state"), state);
}

void rollout_append_label(Text *t, const JsonValue *answer) {
        const char *what = member_text(answer, "what");
        uint64_t content = member_number(answer, "content");

        text_printf(t, "%s %" PRIu64, content > 0 ? "content" : "revision",
                    content > 0 ? content : member_number(answer, "revision"));
        if (*what)
                text_printable(t, " (%s)", what);
}

void rollout_append_instance(Text *t, const JsonValue *instance, const char *head) {
        const char *name = member_text(instance, "name");

        if (!streq(name, head)) {
                size_t n = strlen(name);

                text_append_printable_bytes(
                        t, name, n - (ends_with(name, ".service") ? strlen(".service") : 0), false);
                text_append(t, " ");
        }
        text_append_printable(t, member_text(instance, "machine"));
}

void rollout_append_summary(Text *t, const JsonValue *answer) {
        static const char *const counts[][2] = {
                { "loaded", "loaded" }, { "finished", "finished" },  { "updating", "in progress" },
                { "failed", "failed" }, { "unreachable", "behind" }, { "waiting", "waiting for a machine" },
        };
        uint64_t other = member_number(answer, "behind"), content = member_number(answer, "content");
        const char *kind = content > 0 ? "content" : "revision";

        text_append_printable(t, rollout_is(answer, "none") ? "no rollout" : member_text(answer, "state"));
        text_printf(t, ", %" PRIu64 " of %" PRIu64 " available", member_number(answer, "available"),
                    member_number(answer, "of"));
        /* Nothing changes until a request: the instances that may serve with another text count, too. */
        if (other > 0 && (rollout_is(answer, "paused") || rollout_is(answer, "held")))
                text_printf(t, " with %s %" PRIu64 ", %" PRIu64 " with another %s", kind,
                            content > 0 ? content : member_number(answer, "revision"), other, kind);
        for (size_t i = 0; i < ELEMENTS(counts); i++)
                if (member_number(answer, counts[i][0]) > 0)
                        text_printf(t, ", %" PRIu64 " %s", member_number(answer, counts[i][0]), counts[i][1]);
}

static void print_head(const JsonValue *answer) {
        const char *by = member_text(answer, "by");
        _cleanup_text_ Text t = {};

        text_append_printable(&t, member_text(answer, "name"));
        text_append(&t, "   ");
        rollout_append_label(&t, answer);
        if (member_number(answer, "from") > 0 && member_number(answer, "content") == 0 &&
            member_number(answer, "from") != member_number(answer, "revision"))
                text_printf(&t, " (from %" PRIu64 ")", member_number(answer, "from"));
        text_append(&t, "   ");
        rollout_append_summary(&t, answer);
        if (!rollout_is(answer, "none") && !rollout_is(answer, "done")) {
                text_append(&t, ", began");
                append_age(&t, member_number(answer, "since"));
                if (*by) {
                        text_printable(&t, " by %s", by);
                }
        }
        output_words(&t, 2);
}

/* Print the instances in this state: those without a reason in one line. */
static void print_instances(const JsonValue *answer, const char *label, const char *state) {
        _cleanup_text_ Text line = {};

        JSON_EACH(p, json_value_member(answer, "instances")) {
                const char *why = member_text(p, "why");
                _cleanup_text_ Text t = {};

                if (!streq(member_text(p, "state"), state))
                        continue;
                if (!*why) {
                        if (line.size == 0)
                                text_printf(&line, "  %-8s", label);
                        text_append(&line, " ");
                        rollout_append_instance(&line, p, member_text(answer, "name"));
                        text_append(&line, " ");
                        continue;
                }
                text_printf(&t, "  %-8s ", label);
                rollout_append_instance(&t, p, member_text(answer, "name"));
                text_printable(&t, "  %s", why);
                output_words(&t, 11);
        }
        if (line.size > 0) {
                line.chars[--line.size] = 0;
                output_words(&line, 11);
        }
}

/* Append the command that shows why the first failed instance has failed, or nothing. */
static void append_journal(Text *t, const JsonValue *answer) {
        JSON_EACH(p, json_value_member(answer, "instances")) {
                if (!streq(member_text(p, "state"), "failed"))
                        continue;
                text_printable(t, "more: fleetctl journal %s", member_text(p, "name"));
                if (member_number(answer, "of") > 1 &&
                    streq(member_text(p, "name"), member_text(answer, "name"))) {
                        text_append(t, " --machine="); /* of a global unit */
                        text_append_printable(t, member_text(p, "machine"));
                }
                text_append(t, "; ");
                return;
        }
}

void rollout_append_next(Text *t, const JsonValue *answer) {
        const char *request = rollout_is(answer, "held")   ? "promote" :
                              rollout_is(answer, "paused") ? "resume" :
                                                             NULL;

        if (!request)
                return;
        append_journal(t, answer);
        text_printable(t, "to go on: fleetctl rollout %s %s", request, member_text(answer, "name"));
        if (member_number(answer, "content") > 0)
                text_append(t, "; a further change is taken over by itself");
        else
                text_printable(t, "; to return: fleetctl revert %s", member_text(answer, "name"));
}

void rollout_append_reverted(Text *t, const JsonValue *answer) {
        text_printf(t, "revision %" PRIu64 " was reverted", member_number(answer, "reverted"));
        if (*member_text(answer, "why")) {
                text_printable(t, ": %s", member_text(answer, "why"));
        }
}

void rollout_append_left(Text *t, const JsonValue *answer) {
        const char *name = member_text(answer, "name"), *template = member_text(answer, "template"),
                   *next = member_text(answer, "templateNext");

        if (!*template)
                return;
        text_printf(t, "%s has a text of its own, and does not follow %s", name, template);
        if (*next)
                text_printf(t, "; to follow it: fleetctl %s (in a folder without %s and %s)", next, name,
                            template);
}

void rollout_print(const JsonValue *answer) {
        static const char *const rows[][2] = {
                { "available", "done" },    { "finished", "finished" }, { "loaded", "loaded" },
                { "updating", "now" },      { "failed", "failed" },     { "bad", "next" },
                { "old", "next" },          { "idle", "next" },         { "unreachable", "behind" },
                { "unreadable", "behind" }, { "skipped", "skipped" },
        };
        _cleanup_text_ Text next = {}, why = {}, apart = {};

        print_head(answer);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                print_instances(answer, rows[i][1], rows[i][0]);
        if (rollout_is(answer, "paused"))
                text_printable(&why, "  paused   %s", member_text(answer, "why"));
        else if (member_number(answer, "reverted") > 0) {
                text_append(&why, "  ");
                rollout_append_reverted(&why, answer);
        }
        if (why.size > 0)
                output_words(&why, 11);
        text_append(&apart, "  ");
        rollout_append_left(&apart, answer);
        append_apart(&apart, answer);
        if (apart.size > 2)
                output_words(&apart, 4);
        text_append(&next, "  ");
        rollout_append_next(&next, answer);
        if (next.size > 2)
                output_words(&next, 4);
}
