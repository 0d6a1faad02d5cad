#include "client/verbs/replace.h"

#include "client/core/notes.h"
#include "client/core/unit.h"

enum { NAMED_MAX = 8 }; /* units in the command that continues */

/* -- Templates -- */

void replace_templates_done(ReplaceTemplates *all) {
        for (size_t i = 0; i < all->n; i++) {
                free(all->items[i].name);
                json_value_free(all->items[i].rollout);
        }
        free(all->items);
}

const char *replace_template_hash(const ReplaceTemplate *t) {
        return member_text(t->rollout, "wanted");
}

/* A daemon of an older version has no rollouts, and no template has followers then. */
static int template_read(Client *c, ReplaceTemplate *t, Error *err) {
        _cleanup_text_ Text path = {};
        int r;

        r = client_refresh_json(c, client_path_of(&path, "/fleet/v1/rollouts/", t->name, ""), &t->rollout,
                                err);
        return MIN(r, 0);
}

bool replace_template_lacks(const ReplaceTemplate *t, const char *instance) {
        return json_list_has(json_value_member(t->rollout, "apart"), instance);
}

bool replace_template_has(const ReplaceTemplate *t, const char *instance) {
        return json_value_type(json_value_member(t->rollout, "apart")) == JSON_VALUE_ARRAY &&
               !replace_template_lacks(t, instance);
}

int replace_template_has_text(Client *c, const ReplaceTemplate *t, const Unit *instance) {
        _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {}, drop_ins = {};
        size_t own;
        int r;

        if (streq(instance->hash, replace_template_hash(t)))
                return 1;
        r = unit_append_own_drop_ins(&drop_ins, instance->name, instance->text);
        if (r < 0 || drop_ins.size == 0)
                return r;
        r = client_unit(c, t->name, &stored, NULL);
        if (r <= 0)
                return r == -ENOMEM ? r : 0;
        append_unit_text(&text, &stored);
        TRY(text.error);
        r = unit_read(t->name, text.chars ?: "", text.size, &unit, NULL);
        return r < 0 ? 0 : unit_has_text_of(instance, unit, &own);
}

void replace_append_apart(Text *t, const ReplaceTemplate *template, const char *instance) {
        text_printf(t,
                    "%s has its own text; it no longer follows %s (revision %llu); to follow it again: "
                    "fleetctl start --replace %s (in a folder without %s and %s)",
                    instance, template->name,
                    (unsigned long long) member_number(template->rollout, "revision"), instance, instance,
                    template->name);
}

void replace_note_set(Client *c, const char *template) {
        _cleanup_(replace_templates_done) ReplaceTemplates all = {};
        _cleanup_text_ Text apart = {};
        const ReplaceTemplate *t;

        if (replace_template(c, &all, template, &t, &(Error) {}) < 0)
                return;
        client_note_warnings(json_value_member(t->rollout, "warnings"));
        append_apart(&apart, t->rollout);
        if (apart.size > 0 && apart.error == 0)
                client_note("%s", apart.chars);
}

void replace_refuse_template(const Client *c, const char *name, const char *given, bool exists,
                             TargetState target) {
        bool restart = streq(c->verb->name, "restart");
        int stem = (int) strcspn(name, "@");

        if (!client_is_interactive() && restart)
                fprintf(stderr, "Unable to restart unit %s in state inactive\n", name);
        else if (!client_is_interactive())
                fprintf(stderr, "Error %s units: googleapi: Error 400: cannot activate template \"%s\"\n",
                        target == TARGET_LAUNCHED ? "starting" : "loading", name);
        if (restart)
                (void) client_note_template(c, name);
        else if (exists && c->options.replace)
                client_note("%s is a template; to update the instances of %s: fleetctl submit --replace %s",
                            name, name, given);
        else
                client_note("%s is a template: name an instance, for example fleetctl %s %.*s@1%s", name,
                            c->verb->name, stem, name, name + stem + 1);
}

/* 'instance' may be the template itself. */
int replace_template(Client *c, ReplaceTemplates *all, const char *instance, const ReplaceTemplate **ret,
                     Error *err) {
        _cleanup_free_ char *name = unit_name_template(instance);
        ReplaceTemplate *t;

        if (!name)
                return -ENOMEM;
        for (size_t i = 0; i < all->n; i++)
                if (streq(all->items[i].name, name)) {
                        *ret = &all->items[i];
                        return 0;
                }
        TRY(GROW(all->items, all->capacity, all->n + 1));
        *ret = t = &all->items[all->n++];
        *t = (ReplaceTemplate) { .name = TAKE_PTR(name) };
        return template_read(c, t, err);
}

/* -- One set after the other -- */

void replace_note(const Client *c, size_t n_units, size_t n_sets) {
        if (n_sets < 2)
                return;
        if (c->options.no_block)
                client_note("%zu units get their new text at the same time; one after the other: without "
                            "--no-block",
                            n_units);
        else if (c->options.all_at_once)
                client_note("%zu units get their new text at the same time", n_units);
        else
                client_note("%zu units follow no common template, and get their new text one after the "
                            "other; together: --all-at-once",
                            n_units);
}

void replace_note_rest(const Client *c, const char *done, const RolloutGoals *goals, size_t at) {
        const Options *o = &c->options;
        _cleanup_text_ Text names = {}, command = {};
        size_t end = MIN(goals->n, at + NAMED_MAX);

        text_printf(&command, "%s%s", c->verb->name, o->replace ? " --replace" : "");
        if (o->canary)
                text_printf(&command, " --canary=%s", o->canary);
        if (o->on_failure)
                text_printf(&command, " --on-failure=%s", o->on_failure);
        for (size_t i = at; i < end; i++) {
                text_printf(&names, "%s%s", i > at ? ", " : "", goals->items[i].name);
                text_printable(&command, " %s", goals->items[i].given);
        }
        if (end < goals->n)
                text_printf(&names, " and %zu more", goals->n - end);
        if (names.size > 0 && names.error == 0 && command.error == 0)
                client_note("not %s: %s; to continue: fleetctl %s%s", done, names.chars, command.chars,
                            end < goals->n ? " ..." : "");
}

int replace_check_options(const Client *c) {
        const Options *o = &c->options;
        UpdateRequest update;
        Error err = {};

        if (!o->canary && !o->on_failure)
                return EXIT_DONE;
        if (verb_has(c->verb, "replace") && !o->replace)
                return client_usage("--canary and --on-failure require --replace");
        if (update_request_read(o->canary, o->on_failure, &update, &err) >= 0)
                return EXIT_DONE;
        fprintf(stderr, "fleetctl: --%s\n", err.message);
        return EXIT_USAGE;
}

bool replace_note_unused(const Client *c, const char *name, const char *why, bool stored) {
        if (!c->options.canary && !c->options.on_failure)
                return false;
        client_note("%s %s: --canary and --on-failure have no effect; they count for a new text of a unit "
                    "that runs%s%s",
                    name, why, stored ? "; see: fleetctl rollout " : "", stored ? name : "");
        return true;
}

/* Submit a set. Another command may have stopped its units meanwhile: then they stay as they are. */
static int set_submit(Client *c, const RolloutGoal *goals, size_t n, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, n);

        if (!units)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                units[i] = client_change_of(goals[i].name);
                units[i].text = goals[i].text;
                units[i].canary = c->options.canary;
                units[i].on_failure = c->options.on_failure;
                if (!unit_name_is_template(goals[i].name))
                        units[i].desired_state = units[i].expected_state = TARGET_LAUNCHED;
        }
        TRY(client_change(c, units, n, err));
        for (size_t i = 0; i < n; i++) {
                if (goals[i].note)
                        client_note("%s", goals[i].note);
                if (unit_name_is_template(goals[i].name))
                        replace_note_set(c, goals[i].name);
        }
        return 0;
}

/* -- Texts that fit no machine -- */

/* The units that stop, by a plan. */
typedef struct ReplaceStops {
        const char *name, *reason; /* of the first one; NULL: none stops. Borrowed */
        bool several;              /* units, not one on several machines */
        size_t n;
} ReplaceStops;

static void stops_read(const JsonValue *entries, ReplaceStops *ret, Text *ret_where) {
        ReplaceStops stops = {};

        for (int pass = 0; pass < 2; pass++) {
                stops.n = 0;
                JSON_EACH(entry, entries) {
                        const char *name = member_text(entry, "name");

                        if (!streq(member_text(entry, "action"), "stop"))
                                continue;
                        stops.n++;
                        stops.name = stops.name ?: name;
                        stops.reason = stops.reason ?: member_text(entry, "reason");
                        stops.several |= !streq(stops.name, name);
                        if (pass == 0 || stops.n > NAMED_MAX)
                                continue;
                        text_printf(ret_where, "%s%s%s%s", stops.n > 1 ? ", " : "", stops.several ? name : "",
                                    stops.several ? " on " : "", member_name(entry, "hostname"));
                }
        }
        if (stops.n > NAMED_MAX)
                text_append(ret_where, ", ...");
        *ret = stops;
}

bool replace_ask(Client *c, bool only_warns, const char *effect) {
        if (!only_warns || (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
                return client_confirm(c, "Change it?", "%s", effect);
        client_note("warning: %s", effect);
        return true;
}

int replace_confirm(Client *c, const ApiUnit *units, size_t n, bool only_warns, Text *ret_where, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {}, effect = {};
        ReplaceStops stops;
        int r;

        api_page_write(&body, &api_units_page, units, n, NULL);
        r = client_request(c, "POST", "/fleet/v1/plan", &body, &reply, err);
        if (r >= 0)
                r = json_value_parse(reply.body.chars, reply.body.size, &root, err);
        if (r < 0)
                return r == -EREMOTEIO ? 0 : r;
        stops_read(json_value_member(root, "units"), &stops, ret_where);
        if (stops.n == 0 || ret_where->error < 0)
                return ret_where->error;
        if (stops.several)
                text_printf(&effect, "%zu units stop, within MaxUnavailable= of their sets, and wait: %s: %s",
                            stops.n, ret_where->chars, stops.reason);
        else
                text_printf(&effect, "Unit %s stops on %s, and waits: %s", stops.name, ret_where->chars,
                            stops.reason);
        TRY(effect.error);
        return replace_ask(c, only_warns, effect.chars) ? 0 : -ECANCELED;
}

/* -- Sets -- */

int replace_wait(Client *c, const RolloutGoals *goals, Error *err) {
        for (size_t begin = 0, end; begin < goals->n; begin = end) {
                const RolloutGoals set = { .items = goals->items + begin };
                int r = 0;

                end = begin + 1;
                while (end < goals->n && goals->items[end].joins)
                        end++;
                if (goals->items[begin].text)
                        r = set_submit(c, set.items, end - begin, err);
                if (r < 0) {
                        r = client_fail_after(r, err, "Error creating units: ");
                        replace_note_rest(c, "replaced", goals, begin);
                        return r;
                }
                r = rollout_wait(c, &(RolloutGoals) { .items = set.items, .n = end - begin }, err);
                if (r != EXIT_DONE) {
                        replace_note_rest(c, "replaced", goals, end);
                        return r;
                }
        }
        return EXIT_DONE;
}
