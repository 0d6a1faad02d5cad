#include "client/verbs/help.h"

#include "client/core/client.h"
#include "client/core/topics.h"

enum { NAME_WIDTH = 19, STEP_WIDTH = 36 }; /* of the names in lists of verbs */

void help_print_all(const Verb *const *verbs) {
        static const struct {
                const char *command, *meaning;
        } steps[] = {
                { "fleetctl list-machines", "list the hosts" },
                { "fleetctl start hello.service", "submit, place and start the unit" },
                { "fleetctl list-units", "list the units and their machines" },
                { "fleetctl journal -f hello.service", "follow the log of the unit" },
                { "fleetctl why hello.service", "explain the placement of the unit" },
                { "fleetctl events --follow", "follow the events of the cluster" },
        };
        _cleanup_text_ Text t = {};

        puts("NAME:");
        verb_print_item(0, "", "fleetctl - control a cluster of systemd hosts");
        printf("\nUSAGE:\n\tfleetctl [OPTIONS] VERB [ARGUMENTS]\n\nVERSION:\n\t%s\n\nCOMMANDS:\n",
               PACKAGE_VERSION);
        for (const Verb *const *v = verbs; *v; v++)
                verb_print_item(NAME_WIDTH, (*v)->name, (*v)->summary);
        puts("\nFirst steps:");
        for (size_t i = 0; i < ELEMENTS(steps); i++)
                verb_print_item(STEP_WIDTH, steps[i].command, steps[i].meaning);
        puts("\nTOPICS:");
        for (const Topic *topic = topics; topic->name; topic++) {
                text_clear(&t);
                text_printf(&t, "help %s", topic->name);
                verb_print_item(NAME_WIDTH, t.chars ?: "", topic->title);
        }
        puts("\nOPTIONS:");
        options_print("global", NULL);
        putchar('\n');
        text_clear(&t);
        text_append(&t, "Each option has an environment variable: FLEETCTL_ENDPOINT, "
                        "FLEETCTL_REQUEST_TIMEOUT, ...");
        output_words(&t, 0);
}

int help_print(const Verb *v, char **args, size_t n) {
        const Verb *below = v->verbs && n > 0 ? verb_find(v->verbs, args[0]) : NULL;
        _cleanup_text_ Text of = {};

        if (v->verbs && n > 0 && !below) {
                client_note("%s has no verb %s (fleetctl help %s)", v->name, args[0], v->name);
                return EXIT_USAGE;
        }
        if (below)
                text_printf(&of, "%s ", v->name);
        verb_print_help(below ?: v, of.chars ?: "");
        return EXIT_DONE;
}

bool help_append_foreign(Text *t, const char *name) {
        const Topic *topic = topic_of_foreign_verb(name);
        const char *own = verb_of_foreign(name);

        if (own)
                text_printf(t, "did you mean %s? (fleetctl help %s)", own, own);
        else if (topic)
                text_printf(t, "see: fleetctl help %s", topic->name);
        return own || topic;
}

bool help_note_foreign(const char *name) {
        _cleanup_text_ Text t = {};

        if (!help_append_foreign(&t, name))
                return false;
        client_note(verb_of_foreign(name) ? "there is no verb %s; %s" : "no verb %s in this version; %s",
                    name, t.chars ?: "");
        return true;
}

/* Print the names of all topics on standard error. */
static void topics_note_all(void) {
        _cleanup_text_ Text t = {};

        for (const Topic *topic = topics; topic->name; topic++)
                text_printf(&t, " %s", topic->name);
        if (t.size > 0)
                fprintf(stderr, "fleetctl: topics:%s\n", t.chars);
}

/* Scripts know the line and the exit status of fleet, which printed its whole help before. */
static int fail_topic(const Verb *const *verbs, const char *name) {
        Suggestion nearest = { .typed = name };
        bool interactive = client_is_interactive();

        verbs_consider(verbs, &nearest);
        for (const Topic *t = topics; t->name; t++)
                suggest_consider(&nearest, t->name);
        if (!interactive)
                fprintf(stderr, "Unknown help topic [`%s`].\n", name);
        else if (nearest.nearest)
                client_note("no verb or topic %s; did you mean %s? (fleetctl help)", name, nearest.nearest);
        else
                client_note("no verb or topic %s (fleetctl help)", name);
        if (!interactive || !nearest.nearest)
                topics_note_all();
        return interactive ? EXIT_USAGE : EXIT_DONE;
}

static int help_run(Client *c, char **args, size_t n, Error *err) {
        const Topic *topic;
        const Verb *v;

        if (c->options.verbs || c->options.topics) {
                for (size_t i = 0; c->options.verbs && c->verbs[i]; i++)
                        puts(c->verbs[i]->name);
                for (size_t i = 0; c->options.verbs && c->verbs[i]; i++)
                        for (size_t k = 0; c->verbs[i]->verbs && c->verbs[i]->verbs[k]; k++)
                                printf("%s %s\n", c->verbs[i]->name, c->verbs[i]->verbs[k]->name);
                for (topic = topics; c->options.topics && topic->name; topic++)
                        puts(topic->name);
                return EXIT_DONE;
        }
        if (n == 0) {
                help_print_all(c->verbs);
                return EXIT_DONE;
        }
        v = verb_find(c->verbs, args[0]);
        topic = topic_find(args[0]);
        if (v && !(topic && streq(topic->name, args[0]) && !streq(v->name, args[0]))) {
                if (help_print(v, args + 1, n - 1) != EXIT_DONE)
                        return EXIT_USAGE;
                topic = topic_find(v->name);
                if (!topic || !streq(topic->name, v->name))
                        return EXIT_DONE;
                putchar('\n');
        }
        if (topic) {
                topic_print(topic);
                return EXIT_DONE;
        }
        if (help_note_foreign(args[0])) {
                topic = topic_of_foreign_verb(args[0]);
                if (topic)
                        topic_print(topic);
                else
                        verb_print_help(verb_find(c->verbs, verb_of_foreign(args[0])), "");
                return EXIT_DONE;
        }
        return fail_topic(c->verbs, args[0]);
}

static int version_run(Client *c, char **args, size_t n, Error *err) {
        puts("fleetctl version " PACKAGE_VERSION);
        return EXIT_DONE;
}

VERB(help, "help", "", "[VERB|TOPIC]", "Help about any command",
     "Explains a verb, or prints the section of fleet(7) about a task. Without arguments: all verbs and\n"
     "topics.\n\n"
     "fleetctl help maintain\n",
     help_run);

VERB(version, "version", "", "", "Print the version and exit", NULL, version_run);
