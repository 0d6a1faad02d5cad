/* Search in a table of verbs, the help of one verb, and the check of its options. */
#include "base/parse.h"
#include "client/client.h"
#include "client/replace.h"
#include "client/suggest.h"

const Verb *verb_find(const Verb *v, const char *name) {
        const Verb *found = NULL;
        size_t n = 0;

        for (; v->name; v++) {
                if (streq(v->name, name))
                        return v;
                if (*name && starts_with(v->name, name)) {
                        found = v;
                        n++;
                }
        }
        return n == 1 ? found : NULL;
}

void verbs_consider(const Verb *v, Suggestion *s) {
        for (; v->name; v++)
                suggest_consider(s, v->name);
}

void verbs_append_similar(const Verb *v, Text *t, const char *name) {
        bool any = false;

        for (; v->name; v++) {
                if (text_distance(v->name, name) > 2 && !starts_with(v->name, name))
                        continue;
                text_printf(t, "%s%s", any ? ", " : "did you mean ", v->name);
                any = true;
        }
        text_append(t, any ? "? (fleetctl help)" : "see: fleetctl help");
}

const char *verb_nearest(const Verb *v, const char *name) {
        Suggestion suggestion = { .typed = name };

        verbs_consider(v, &suggestion);
        return suggestion.nearest;
}

enum { KV_WIDTH = 28 }; /* of the names of the verbs of kv */

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
        const uint64_t groups = v->groups & ~FLAGS_NO_FLAG;
        bool wraps = output_columns() > 0;
        _cleanup_text_ Text t = {};

        puts("NAME:");
        text_printf(&t, "%s%s - ", of, v->name);
        verb_print_item(0, t.chars ?: "", v->summary);
        printf("\nUSAGE:\n\tfleetctl %s%s%s%s%s\n\n", of, v->name, groups ? " [OPTIONS]" : "",
               *v->arguments ? " " : "", v->arguments);
        if (v->run == verb_kv) {
                puts("COMMANDS:");
                for (const Verb *kv = kv_verbs; kv->name; kv++) {
                        text_clear(&t);
                        text_printf(&t, "kv %s %s", kv->name, kv->arguments);
                        verb_print_item(KV_WIDTH, t.chars ?: "", kv->summary);
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
        if (groups) {
                puts("OPTIONS:");
                options_print(groups, *of ? v->name : NULL);
                putchar('\n');
        }
        puts("GLOBAL OPTIONS:");
        options_print(FLAGS_GLOBAL, NULL);
}

int verb_check_options(Client *c) {
        Options *o = &c->options;

        if (o->sign) { /* rejected with the message of fleet */
                fputs("WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n",
                      stderr);
                return EXIT_USAGE;
        }
        if (o->wait && o->no_block)
                return client_usage("--wait cannot be combined with --no-block");
        if (*o->output && !streq(o->output, "json")) {
                fprintf(stderr, "fleetctl: --output=%s: expected json\n", o->output);
                return EXIT_USAGE;
        }
        if (o->timeout && (parse_span_ms(o->timeout, &o->timeout_ms) < 0 || o->timeout_ms == 0)) {
                client_note("--timeout=%s: expected a time span above 0, for example 5min", o->timeout);
                return EXIT_USAGE;
        }
        return replace_check_options(c);
}
