#include "client/core/verb.h"

#include "client/core/options.h"
#include "client/core/output.h"

void verbs_check(const Verb *const *verbs) {
        for (size_t i = 0; verbs[i]; i++) {
                const Verb *v = verbs[i];
                bool wrong = !v->name || !v->groups || !v->arguments || !v->summary || !v->run;

                for (size_t k = 0; k < i && !wrong; k++)
                        wrong = streq(verbs[k]->name, v->name);
                if (wrong) {
                        fprintf(stderr,
                                "fleetctl: the row of the verb %s is incomplete, or not the only one\n",
                                v->name ?: "?");
                        abort();
                }
                if (v->verbs)
                        verbs_check(v->verbs);
        }
}

const Verb *verb_find(const Verb *const *verbs, const char *name) {
        const Verb *found = NULL;
        size_t n = 0;

        for (; *verbs; verbs++) {
                if (streq((*verbs)->name, name))
                        return *verbs;
                if (*name && starts_with((*verbs)->name, name)) {
                        found = *verbs;
                        n++;
                }
        }
        return n == 1 ? found : NULL;
}

void verbs_consider(const Verb *const *verbs, Suggestion *s) {
        for (; *verbs; verbs++)
                suggest_consider(s, (*verbs)->name);
}

void verbs_append_similar(const Verb *const *verbs, Text *t, const char *name) {
        bool any = false;

        for (; *verbs; verbs++) {
                const Verb *v = *verbs;

                if (text_distance(v->name, name) > 2 && !starts_with(v->name, name))
                        continue;
                text_printf(t, "%s%s", any ? ", " : "did you mean ", v->name);
                any = true;
        }
        text_append(t, any ? "? (fleetctl help)" : "see: fleetctl help");
}

const char *verb_nearest(const Verb *const *verbs, const char *name) {
        Suggestion suggestion = { .typed = name };

        verbs_consider(verbs, &suggestion);
        return suggestion.nearest;
}

enum { BELOW_WIDTH = 28 }; /* of the names of verbs below a verb */

void verb_print_item(size_t width, const char *name, const char *meaning) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "\t%-*s%s", (int) width, name, meaning);
        output_words(&t, 8 + width);
}

/* Return whether a line of a description goes on in the next one. An example has a line of its own. */
static bool is_continued(const char *line, const char *end) {
        return *end && end > line && !strchr(".:", end[-1]) && end[1] != '\n' && end[1] &&
               !starts_with(line, "fleetctl ");
}

void verb_print_help(const Verb *v, const char *of) {
        bool wraps = output_columns() > 0, has_flags;
        _cleanup_text_ Text words = {}, t = {};

        text_printf(&words, "%s %s", *of ? "" : v->name, v->groups);
        has_flags = options_any(words.chars ?: "");
        puts("NAME:");
        text_printf(&t, "%s%s - ", of, v->name);
        verb_print_item(0, t.chars ?: "", v->summary);
        printf("\nUSAGE:\n\tfleetctl %s%s%s%s%s\n\n", of, v->name, has_flags ? " [OPTIONS]" : "",
               *v->arguments ? " " : "", v->arguments);
        if (v->verbs) {
                puts("COMMANDS:");
                for (const Verb *const *below = v->verbs; *below; below++) {
                        text_clear(&t);
                        text_printf(&t, "%s %s %s", v->name, (*below)->name, (*below)->arguments);
                        verb_print_item(BELOW_WIDTH, t.chars ?: "", (*below)->summary);
                }
                putchar('\n');
        }
        if (v->description) {
                puts("DESCRIPTION:");
                for (const char *line = v->description, *end; *line; line = *end ? end + 1 : end) {
                        end = line + strcspn(line, "\n");
                        text_clear(&t);
                        text_append_bytes(&t, line, (size_t) (end - line));
                        while (wraps && is_continued(line, end)) {
                                line = end + 1;
                                end = line + strcspn(line, "\n");
                                text_append_char(&t, ' ');
                                text_append_bytes(&t, line, (size_t) (end - line));
                        }
                        verb_print_item(0, "", t.chars ?: "");
                }
                putchar('\n');
        }
        if (has_flags) {
                puts("OPTIONS:");
                options_print(words.chars, *of ? v->name : NULL);
                putchar('\n');
        }
        puts("GLOBAL OPTIONS:");
        options_print("global", NULL);
}
