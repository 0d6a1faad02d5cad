/* rollout: the updates of units that are under way. The daemons take all steps by themselves; this command
 * reports them, and pauses, resumes or promotes a rollout. */
#include "client/verbs/rollout.h"

#include "base/clock.h"
#include "client/core/operation.h"
#include "client/core/notes.h"
#include "client/core/topics.h"
#include "client/core/unit.h"
#include "client/core/wait.h"
#include "client/verbs/rollout_text.h"

enum {
        SEEN_MS = 5000, /* within it, each daemon of the cluster has the new text */
        PLACED_MS =
                3000, /* within it, an instance that leaves its machine gets another one, if one qualifies */
};

typedef struct Set {
        char *name;       /* owned: the unit of the arguments */
        const char *hash; /* as in RolloutGoal; NULL: of any */
        bool seen;        /* that text was the wanted one */
        Text path;
        JsonValue *answer; /* owned: the last one */
        bool repeated;     /* another set of the command is the same */
        bool ended;
        bool gone;          /* destroyed meanwhile */
        uint64_t placed_ms; /* since then, only instances without a machine lack the text; 0: others do */
        char *head;         /* owned: its state as printed last */
} Set;

typedef struct Sets {
        Client *client;
        Set *sets;
        size_t n, capacity;
        Operation operation; /* its items are the instances of all sets */
        bool follows;        /* a rollout that is held or paused does not end the wait */
        bool quiet;          /* --output=json: no line for each change */
} Sets;

static void sets_done(Sets *s) {
        for (size_t i = 0; i < s->n; i++) {
                Set *set = &s->sets[i];

                free(set->head);
                free(set->name);
                text_done(&set->path);
                json_value_free(set->answer);
        }
        free(s->sets);
        operation_done(&s->operation);
}
#define _cleanup_sets_ _cleanup_(sets_done)

/* 'name' is owned by the set, also after an error; NULL is -ENOMEM. */
static int sets_add(Sets *s, char *name, const char *hash) {
        Set *set;

        if (!name || GROW(s->sets, s->capacity, s->n + 1) < 0) {
                free(name);
                return -ENOMEM;
        }
        set = &s->sets[s->n++];
        *set = (Set) { .name = name, .hash = hash };
        text_append(&set->path, "/fleet/v1/rollouts/");
        append_escaped(&set->path, name, false);
        return set->path.error;
}

static const char *rollout_set_text(const Set *set, const char *member) {
        return member_text(set->answer, member);
}

static uint64_t set_number(const Set *set, const char *member) {
        return member_number(set->answer, member);
}

static bool set_is(const Set *set, const char *state) {
        return rollout_is(set->answer, state);
}

int rollout_is_supported(Client *c, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        int r = client_refresh_json(c, "/fleet/v1/cluster", &root, err);

        return r <= 0 ? r : member_number(root, "level") >= ROLLOUT_LEVEL; /* 0: a server of fleet */
}

/* -- Waiting -- */

/* Return whether the leader has not decided yet whether the content changes, after a change of a secret. */
static bool set_is_pending(const Set *set) {
        return member_bool(set->answer, "pending");
}

/* Return whether another text or content is wanted than that of the rollout: the leader is about to take it
 * over. */
static bool set_begins(const Set *set) {
        return !streq(rollout_set_text(set, "hash"), rollout_set_text(set, "wanted")) ||
               set_number(set, "wantedContent") > 0 || set_is_pending(set);
}

/* Return the exit status of a set in its present state; EXIT_CONTINUES while it is under way. */
static int set_status(const Set *set) {
        bool begins = set_begins(set);

        if (set->hash && !streq(rollout_set_text(set, "wanted"), set->hash))
                return set->seen ? EXIT_FAILED :
                                   EXIT_CONTINUES; /* another text has taken over, or a revert */
        if (set_is_pending(set) || (begins && !set_is(set, "done") && !set_is(set, "none")))
                return EXIT_CONTINUES;
        if (set_is(set, "paused"))
                return EXIT_FAILED;
        if (set_is(set, "none"))
                return set_number(set, "behind") > 0 ? EXIT_CONTINUES : EXIT_DONE;
        /* Instances that have just joined a set with this text: its rollout begins again. */
        if (!set_is(set, "done") || (begins && set_number(set, "behind") > 0) ||
            set_number(set, "joining") > 0)
                return EXIT_CONTINUES;
        return !set->hash && set_number(set, "reverted") > 0 ? EXIT_FAILED : EXIT_DONE;
}

/* Return whether the rollout waits for nothing else than a machine for instances without one, which may be
 * for ever. */
static bool set_lacks_machine(Set *set) {
        uint64_t now_ms = clock_monotonic_ms();
        bool lacks = !set_begins(set) && set_number(set, "waiting") > 0 && set_number(set, "updating") == 0 &&
                     set_number(set, "failed") == 0 && set_number(set, "behind") == 0 &&
                     set_number(set, "available") + set_number(set, "loaded") + set_number(set, "finished") ==
                             set_number(set, "of");

        if (!lacks)
                set->placed_ms = 0;
        else if (set->placed_ms == 0)
                set->placed_ms = now_ms;
        return lacks && now_ms - set->placed_ms >= PLACED_MS;
}

static bool set_has_ended(const Sets *s, Set *set) {
        int status = set_status(set);

        if (!s->follows && status == EXIT_CONTINUES && set_lacks_machine(set))
                return true;
        if (set_is(set, "reverting"))
                return false;
        if (status == EXIT_FAILED)
                return !s->follows || !set_is(set, "paused");
        return status == EXIT_DONE ||
               (!s->follows && !set_begins(set) && set_is(set, "held") && set_number(set, "nextMs") == 0);
}

/* Print the state of an instance if it has changed; not the first one if that is uninteresting. */
static int line_print(Sets *s, const Set *set, const JsonValue *instance) {
        const char *state = member_text(instance, "state"), *why = member_text(instance, "why");
        bool failed = streq(state, "failed"), first;
        _cleanup_text_ Text t = {}, last = {};
        size_t i;
        int r;

        text_printf(&t, "%s: ", rollout_set_text(set, "name"));
        rollout_append_instance(&t, instance, rollout_set_text(set, "name"));
        text_append(&last, state);
        if (t.error < 0 || operation_item(&s->operation, t.chars, &i) < 0)
                return -ENOMEM;
        first = !s->operation.lines[i];
        r = operation_has_news(&s->operation, t.chars, &last);
        if (r <= 0 || !(first ? streq(state, "updating") || failed :
                                text_has_word("updating available finished failed", state)))
                return r;
        text_printable(&t, " %s", state);
        if (failed && *why)
                text_printable(&t, ": %s", why);
        output_words(&t, 2);
        return t.error;
}

/* Print the state of the rollout if it has changed. */
static int head_print(Set *set) {
        const char *state = rollout_set_text(set, "state");
        bool fixed = (set_is(set, "done") || set_is(set, "none")) &&
                     (!set->hash || !streq(rollout_set_text(set, "hash"), set->hash));
        _cleanup_text_ Text key = {}, t = {};

        text_printf(&key, "%s ", state);
        rollout_append_label(&key, set->answer);
        TRY(key.error);
        if (set->head && streq(set->head, key.chars))
                return 0;
        if (set->head || !fixed) {
                text_append_printable(&t, rollout_set_text(set, "name"));
                text_append(&t, ": ");
                rollout_append_label(&t, set->answer);
                text_append(&t, ": ");
                rollout_append_summary(&t, set->answer);
                if (set_is(set, "paused")) {
                        text_printable(&t, ": %s", rollout_set_text(set, "why"));
                }
                output_words(&t, 2);
        }
        free(set->head);
        set->head = TAKE_PTR(key.chars);
        return t.error;
}

static int set_print_changes(Sets *s, Set *set) {
        const JsonValue *all = json_value_member(set->answer, "instances");
        int r = 0;

        if (set->hash && set_begins(set)) /* what is known is about the former text */
                return 0;
        if (!set->head && set_is(set, "done") && set_number(set, "joining") > 0)
                return 0; /* it is about to begin again */
        if (!set_is(set, "done"))
                r = head_print(set);
        for (size_t i = 0; i < json_value_count(all) && r == 0; i++)
                r = line_print(s, set, json_value_item(all, i));
        return r < 0 ? r : head_print(set);
}

/* Print why a rollout has not ended well, and the next command. */
static void set_print_end(const Set *set) {
        const uint64_t n = set_number(set, "waiting");
        bool template = unit_name_is_template(rollout_set_text(set, "name"));
        _cleanup_text_ Text t = {}, next = {};

        rollout_append_next(&next, set->answer);
        if (set_number(set, "reverted") > 0 && set_status(set) == EXIT_FAILED)
                rollout_append_reverted(&t, set->answer);
        else if (set_is(set, "paused"))
                text_printf(&t, "the rollout is paused: %s", rollout_set_text(set, "why"));
        else if (set_is(set, "held"))
                text_append(&t, "the rollout is held");
        else if (set_status(set) == EXIT_CONTINUES)
                text_printf(&t,
                            "%" PRIu64
                            " instance%s without a machine get%s the text with one: %sfleetctl why %s",
                            n, plural(n), n == 1 ? "s" : "", template ? "fleetctl list-units, " : "",
                            template ? "UNIT" : rollout_set_text(set, "name"));
        else if (set_status(set) == EXIT_FAILED)
                text_printf(&t, "another text has been submitted meanwhile: fleetctl history %s",
                            rollout_set_text(set, "name"));
        if (t.size > 0)
                client_note("%s: %s%s%s", rollout_set_text(set, "name"), t.chars, next.size > 0 ? "; " : "",
                            next.chars ?: "");
}

/* Of several units of one set, the first one stands for it. */
static void sets_note_repeated(Sets *s, size_t i) {
        for (size_t k = 0; k < i; k++)
                s->sets[i].repeated |= !s->sets[k].repeated && streq(rollout_set_text(&s->sets[i], "name"),
                                                                     rollout_set_text(&s->sets[k], "name"));
}

/* Read all sets, and print what has changed. Return 0, or 1 if an answer is missing. */
static int sets_read(Sets *s, Error *err) {
        for (size_t i = 0; i < s->n; i++) {
                Set *set = &s->sets[i];
                int r;

                if (set->ended || set->repeated)
                        continue;
                r = client_refresh_json(s->client, client_path(&set->path), &set->answer, err);
                if (client_is_final(s->client, r))
                        return r;
                if (r < 0)
                        return 1;
                if (r == 0) {
                        client_note("%s was destroyed; its rollout has ended", set->name);
                        set->ended = set->gone = true;
                        continue;
                }
                sets_note_repeated(s, i);
                if (set->repeated)
                        continue;
                set->seen |= set->hash && streq(rollout_set_text(set, "wanted"), set->hash);
                TRY(s->quiet ? 0 : set_print_changes(s, set));
                set->ended = set_has_ended(s, set);
                if (set->ended)
                        set_print_end(set);
        }
        return output_flush();
}

static int sets_status(const Sets *s) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < s->n; i++) {
                int one = s->sets[i].repeated ? EXIT_DONE : set_status(&s->sets[i]);

                if (s->sets[i].gone)
                        one = EXIT_ABSENT;
                if (one == EXIT_FAILED || status == EXIT_DONE)
                        status = one;
        }
        return status;
}

static bool sets_have_ended(const Sets *s) {
        for (size_t i = 0; i < s->n; i++)
                if (!s->sets[i].ended && !s->sets[i].repeated)
                        return false;
        return true;
}

static void sets_left(void *userdata, OperationEnd end) {
        const Sets *s = userdata;

        for (size_t i = 0; i < s->n; i++)
                if (!s->sets[i].ended && !s->sets[i].repeated)
                        client_note("%sthe rollout of %s continues: fleetctl rollout %s shows it, fleetctl "
                                    "rollout pause %s pauses it",
                                    operation_end(end), s->sets[i].name, s->sets[i].name, s->sets[i].name);
}

static void sets_lost(void *userdata, const char *why) {
        const Sets *s = userdata;

        for (size_t i = 0; i < s->n; i++)
                if (!s->sets[i].ended && !s->sets[i].repeated)
                        client_note("no state from fleetd; the rollout of %s continues (on another host: "
                                    "fleetctl rollout %s): %s",
                                    s->sets[i].name, s->sets[i].name, why);
}

static int sets_look(void *userdata, Error *err) {
        Sets *s = userdata;
        int r = sets_read(s, err);

        if (r != 0)
                return r < 0 ? r : -ENODATA;
        for (size_t i = 0; clock_monotonic_ms() - s->operation.began_ms >= SEEN_MS && i < s->n; i++)
                s->sets[i].seen = true;
        return sets_have_ended(s) ? sets_status(s) : -EAGAIN;
}

static int sets_wait(Sets *s, Error *err) {
        static const OperationType type = { sets_look, sets_left, sets_lost, .silent_ms = 60000 };

        s->operation = operation_begin(s->client);
        return operation_wait(&s->operation, &type, s, err);
}

int rollout_wait(Client *c, const RolloutGoals *goals, Error *err) {
        _cleanup_sets_ Sets s = { .client = c };
        int r = 0;

        for (size_t i = 0; i < goals->n && r == 0; i++) {
                const RolloutGoal *goal = &goals->items[i];

                if (c->options.no_block)
                        printf("%s gets its new text step by step: fleetctl rollout %s\n", goal->name,
                               goal->name);
                r = sets_add(&s, strdup(goal->name), goal->hash[0] ? goal->hash : NULL);
        }
        if (r < 0 || c->options.no_block || s.n == 0)
                return MIN(r, 0);
        return sets_wait(&s, err);
}

int rollout_goals_add(RolloutGoals *goals, const char *name, const char *hash) {
        RolloutGoal *goal;

        TRY(GROW(goals->items, goals->capacity, goals->n + 1));
        goal = &goals->items[goals->n];
        *goal = (RolloutGoal) { .name = strdup(name) };
        if (!goal->name)
                return -ENOMEM;
        snprintf(goal->hash, sizeof(goal->hash), "%s", hash ?: "");
        goals->n++;
        return 0;
}

void rollout_goals_done(RolloutGoals *goals) {
        for (size_t i = 0; i < goals->n; i++) {
                free(goals->items[i].name);
                free(goals->items[i].text);
                free(goals->items[i].note);
        }
        free(goals->items);
        *goals = (RolloutGoals) {};
}

/* -- rollout -- */

/* Pause, resume or promote the rollout of one unit. */
static int rollout_request(Client *c, const char *request, const char *unit, Error *err) {
        static const char *const done[][2] = { { "paused; steps in progress finish", "pause" },
                                               { "resumed", "resume" },
                                               { "promoted; the other instances are updated", "promote" } };
        _cleanup_sets_ Sets s = { .client = c };
        _cleanup_text_ Text body = {}, line = {};
        Set *set;
        int r;

        TRY(sets_add(&s, unit_name_from_argument(unit), NULL));
        set = &s.sets[0];
        r = TRY(client_refresh_json(c, client_path(&set->path), &set->answer, err));
        if (r == 0)
                return client_note_absent(c, set->name);
        text_printf(&body, "{\"request\":\"%s\"}", request);
        TRY_VERB(client_request(c, "PUT", client_path(&set->path), &body, NULL, err), err,
                 "Failed to %s the rollout: ", request);
        text_printable(&line, "%s: %s", rollout_set_text(set, "name"),
                       words_find(done, ELEMENTS(done), request));
        (void) output_built(&line);
        return EXIT_DONE;
}

/* Without units, those whose rollout is under way. */
static int sets_find(Sets *s, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *all;
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = sets_add(s, unit_name_from_argument(args[i]), NULL);
        if (n > 0)
                return r;
        r = TRY(client_get_json(s->client, "/fleet/v1/rollouts", &root, err));
        all = json_value_member(root, "rollouts");
        for (size_t i = 0; i < json_value_count(all) && r == 0; i++)
                r = sets_add(s, strdup(member_text(json_value_item(all, i), "name")), NULL);
        return r;
}

/* Read all sets. Return an exit status. */
static int sets_load(Sets *s, Error *err) {
        for (size_t i = 0; i < s->n; i++) {
                Set *set = &s->sets[i];
                int r = TRY(client_refresh_json(s->client, client_path(&set->path), &set->answer, err));

                if (r == 0)
                        return client_note_absent(s->client, set->name);
                sets_note_repeated(s, i);
        }
        return EXIT_DONE;
}

static int sets_print_json(const Sets *s, Error *err) {
        _cleanup_text_ Text t = {};
        bool first = true;

        text_append(&t, "{\"rollouts\":[");
        for (size_t i = 0; i < s->n; i++) {
                if (s->sets[i].repeated || s->sets[i].gone)
                        continue;
                text_append(&t, first ? "" : ",");
                TRY(client_append_answer(s->client, s->sets[i].path.chars, &t, err));
                first = false;
        }
        text_append(&t, "]}");
        return output_built(&t);
}

/* Return whether the first one of two arguments is similar to a request, or a verb of kubectl, and no unit;
 * print it then. */
static bool note_request(Client *c, char **args, size_t n) {
        static const char *const instead[][2] = { { "history", "history" },
                                                  { "restart", "restart" },
                                                  { "rollout", "status" } };
        Suggestion suggestion = { .typed = n == 2 ? args[0] : "" };
        _cleanup_free_ char *name = NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        const char *verb = words_find(instead, ELEMENTS(instead), suggestion.typed);
        Error err = {};

        suggest_consider(&suggestion, "pause");
        suggest_consider(&suggestion, "resume");
        suggest_consider(&suggestion, "promote");
        if (n == 2 && streq(verb_of_foreign(args[0]) ?: "", "revert"))
                suggestion.nearest = "revert";
        name = verb || suggestion.nearest ? unit_name_from_argument(args[0]) : NULL;
        if (!name || client_unit(c, name, &unit, &err) != 0)
                return false;
        if (verb && streq(verb, "restart") && unit_name_is_template(args[1]))
                client_note("%s is no unit; instead: fleetctl %s '%.*s@*'", args[0], verb,
                            (int) strcspn(args[1], "@"), args[1]);
        else if (verb)
                client_note("%s is no unit; instead: fleetctl %s %s", args[0], verb, args[1]);
        else
                client_note("%s is no unit; did you mean %s? fleetctl %s%s %s", args[0], suggestion.nearest,
                            streq(suggestion.nearest, "revert") ? "" : "rollout ", suggestion.nearest,
                            args[1]);
        return true;
}

static int rollout_run(Client *c, char **args, size_t n, Error *err) {
        static const char requests[] = "pause resume promote";
        _cleanup_sets_ Sets s = { .client = c, .follows = c->options.follow };
        bool json = streq(c->options.output, "json");
        int status;

        if (n > 0 && text_has_word(requests, args[0]))
                return n == 2 ? rollout_request(c, args[0], args[1], err) :
                                client_usage("rollout pause, resume, promote: expected one unit");
        if (note_request(c, args, n))
                return EXIT_USAGE;
        TRY(sets_find(&s, args, n, err));
        TRY_DONE(sets_load(&s, err));
        if (s.n == 0 && !json) {
                printf("No rollout is under way\n");
                return EXIT_DONE;
        }
        s.quiet = json;
        status = c->options.wait || c->options.follow ? sets_wait(&s, err) : sets_status(&s);
        if (status < 0 || ((c->options.wait || c->options.follow) && !json))
                return status;
        for (size_t i = 0; i < s.n && !json; i++)
                if (!s.sets[i].repeated)
                        rollout_print(s.sets[i].answer);
        if (json)
                TRY(sets_print_json(&s, err));
        return status;
}

VERB(rollout, "rollout", "json", "[UNIT...] | pause UNIT | resume UNIT | promote UNIT",
     "Show, pause, resume and promote the updates of units",
     "A new text of a running unit replaces the former one step by step. Without a unit: the rollouts\n"
     "that are under way. pause: no further step begins. resume: it continues, failed instances first.\n"
     "promote: after Canary=, the other instances are updated, too.\n"
     "Exit status 0: done, 1: paused or reverted, 4: no such unit, 5: it continues, or is held.\n\n"
     "fleetctl rollout web@.service --wait\n",
     rollout_run);
