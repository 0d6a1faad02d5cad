/* submit, and the submission of files by start, load and restart. */
#include "client/verbs/submit.h"
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/state_text.h"
#include "client/core/unit.h"
#include "client/core/wait.h"
#include "client/verbs/submit_internal.h"

static void submissions_done(Submissions *all) {
        for (size_t i = 0; all->items && i < all->n; i++) {
                free(all->items[i].argument);
                free(all->items[i].name);
                free(all->items[i].text);
                free(all->items[i].note);
                text_done(&all->items[i].drop_ins);
                unit_free(all->items[i].unit);
        }
        free(all->items);
        names_done(&all->required);
        names_done(&all->instances);
        names_done(&all->paths);
        replace_templates_done(&all->templates);
}

static bool same_contents(const ApiUnit *stored, const Unit *local) {
        char hash[UNIT_HASH_SIZE];

        if (stored->hash && *stored->hash)
                return streq(stored->hash, local->hash);
        return stored->file && unit_file_hash(stored->file, hash) >= 0 && streq(hash, local->hash);
}

static int read_unit(Client *c, Submission *s, const Text *t, Error *err) {
        _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;
        size_t steps = 0;
        int r;

        TRY(unit_read(s->name, t->chars ?: "", t->size, &s->unit, err));
        r = unit_check(s->unit, &steps, err);
        /* An older version may have stored a unit that violates the rules and limits of this version. */
        if (r < 0 && r != -ENOMEM && client_unit(c, s->name, &stored, NULL) > 0 &&
            same_contents(&stored, s->unit))
                return 0;
        return r;
}

/* Read the local file of an argument, or that of the template of an instance. */
static int read_local(Client *c, Submission *s, Error *err) {
        _cleanup_text_ Text path = {}, t = {};
        int found;

        found = TRY(files_find_path(s->argument, s->name, &path, &s->from_template));
        if (s->from_template)
                TRY(files_read_drop_ins(s->argument, s->name, true, &s->drop_ins, err));
        if (found == 0)
                return 0;
        TRY(files_read(path.chars, s->name, &t, err));
        TRY_PREFIX(read_unit(c, s, &t, err), err, "%s", path.chars);
        return 0;
}

/* Append the reason why an argument has no unit file, if it is known, and the next step. */
static void explain_argument(const Client *c, const Submission *s, Text *t) {
        const char *slash = strrchr(s->given, '/');

        if (s->exists && c->options.replace)
                text_printf(t, "there is no file %s; --replace needs the new file of the unit", s->argument);
        else if (strpbrk(slash ? slash : s->given, "*?["))
                text_printf(
                        t,
                        verb_has(c->verb, "patterns") ?
                                "%s: no started or loaded unit matches (fleetctl list-unit-files '%s')" :
                                "%s: no file matches, and patterns of units are for other verbs (fleetctl "
                                "list-unit-files '%s')",
                        s->given, s->given);
        else
                files_explain(s->given, s->name, t);
}

/* Print why an argument cannot be submitted: on a terminal the reason, if it is known; in a pipe also the
 * text of fleet. */
static int fail_argument(Client *c, const Submission *s, int r, const Error *err) {
        _cleanup_text_ Text reason = {};

        explain_argument(c, s, &reason);
        if (reason.size == 0 && !s->name)
                text_printf(&reason, "%s: %s", s->given, error_text(err, r));
        if (reason.size == 0 || !client_is_interactive())
                (void) client_fail_after(r, err, "Error creating units: ");
        if (reason.size > 0)
                client_note("%s", reason.chars);
        else if (r == -ENOENT)
                client_suggest_unit(c, s->name);
        return EXIT_FAILED;
}

/* Read all files before the first unit is submitted: an error in one file must leave the cluster unchanged.
 */
static int read_all(Client *c, char **args, size_t n, Submissions *all) {
        bool rejected = false;

        all->items = NEW0(Submission, n + 1);
        if (!all->items)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                Submission *s = &all->items[all->n++];
                Error err = {};
                int r;

                s->given = args[i];
                r = files_parse_argument(args[i], &s->argument, &s->name, &err);
                if (r < 0)
                        return fail_argument(c, s, r, &err);
                r = read_local(c, s, &err);
                if (r < 0) {
                        (void) client_fail(r, &err);
                        rejected = true;
                }
        }
        if (!rejected)
                return EXIT_DONE;
        client_note("nothing was submitted");
        return EXIT_FAILED;
}

/* Append the machine whose unit directory has the unit, if the daemon rejects other changes of it: that
 * machine is up. */
static void append_directory_host(Client *c, const ApiUnit *unit, Text *t) {
        _cleanup_listing_ Listing machines = {};
        const ApiMachine *owner;

        client_load_machine(c, &machines, unit->owner, true);
        owner = listing_machine(&machines, unit->owner);
        if (owner && same_string(owner->presence, "up"))
                append_machine_name(t, &machines, unit->owner);
}

/* 'stored' is the unit, or the template of which a new instance gets the text. Return whether --replace can
 * override it. */
static bool warn_difference(Client *c, const ApiUnit *stored, const char *name, bool template,
                            const Submission *s) {
        bool restart = streq(c->verb->name, "restart");
        int folder = (int) (strlen(s->argument) - strlen(s->name));
        const char *verb = restart ? "start" : c->verb->name, *file = s->argument;
        _cleanup_text_ Text next = {}, host = {}, path = {};
        bool unused;

        if (client_is_interactive() && template && files_find_path(s->argument, s->name, &path, &unused) > 0)
                file = path.chars;
        append_directory_host(c, stored, &host);
        if (host.size > 0)
                text_printf(&next, "It comes from the unit directory of %s; edit the file there", host.chars);
        else if (!client_is_interactive())
                text_append(&next, restart ? "Use fleetctl start --replace" : "Add --replace");
        else if (unit_name_is_template(name))
                text_printf(&next, "Use fleetctl submit --replace %.*s%s", folder, s->argument, name);
        else if (template)
                text_printf(&next,
                            "Use fleetctl submit --replace %s, for all instances, or fleetctl %s --replace "
                            "%s, for this one only,",
                            file, verb, s->given);
        else
                text_printf(&next, "Use fleetctl %s --replace %s", verb, s->given);
        fprintf(stderr, "WARNING: Unit %s in registry differs from local %sunit file %s. %s to override.\n",
                name, template ? "template " : "", file, next.chars ?: "");
        return host.size == 0;
}

/* As client_unit(), with the error message of fleet. */
static int read_stored(Client *c, const char *name, ApiUnit *ret, Error *err) {
        int r;

        r = client_unit(c, name, ret, err);
        return r == -EREMOTEIO ? error_prefix(err, r, "error retrieving Unit(%s) from Registry", name) : r;
}

/* Return the text that the template gets before the instance, or with it; NULL: the cluster's one stays. */
static const Unit *find_new_template(const Submissions *all, const Submission *s, const char *template) {
        for (const Submission *t = all->items; t < s; t++)
                if (t->due && t->rolls && streq(t->name, template))
                        return t->unit;
        return NULL;
}

/* Find the template that has the text of this instance, which therefore follows it. An instance with another
 * text leaves its template. 'together': the texts of both are in one request. */
static int find_followed(Client *c, Submissions *all, Submission *s, bool together, Error *err) {
        const ReplaceTemplate *template;
        _cleanup_text_ Text note = {};
        const Unit *new;
        size_t own = 0;
        int r;

        if (!unit_name_is_instance(s->name) || !s->unit)
                return 0;
        TRY(replace_template(c, &all->templates, s->name, &template, err));
        new = find_new_template(all, s, template->name);
        r = TRY(new ? unit_has_text_of(s->unit, new, &own) : replace_template_has_text(c, template, s->unit));
        if (r > 0) {
                s->follows = template->name;
                s->goal = new ? new->hash : replace_template_hash(template);
                if (together && own > 0)
                        s->goal = ""; /* whether it follows is known after the request */
                if (!new && (c->options.canary || c->options.on_failure))
                        text_printf(&note,
                                    "%s follows %s: --canary and --on-failure have no effect on it; they "
                                    "count for a new text of %s",
                                    s->name, template->name, template->name);
                else if (replace_template_lacks(template, s->name))
                        text_printf(&note, "%s follows %s from now on", s->name, template->name);
        } else if (replace_template_has(template, s->name)) {
                s->leaves = true;
                replace_append_apart(&note, template, s->name);
        }
        s->note = note.size > 0 ? text_take(&note, NULL) : NULL;
        return note.error;
}

/* Return whether an instance has the text of its template, and does not follow it yet. */
static int submission_joins(Client *c, Submissions *all, const Submission *s, Error *err) {
        const ReplaceTemplate *template;

        if (!all->rolls || !unit_name_is_instance(s->name))
                return 0;
        TRY(replace_template(c, &all->templates, s->name, &template, err));
        return replace_template_lacks(template, s->name) ? replace_template_has_text(c, template, s->unit) :
                                                           0;
}

/* Return 1 and the text of the instance by its template in the cluster, or 0 if there is no template. */
static int template_text(Client *c, const Submission *s, char **ret, Error *err) {
        _cleanup_free_ char *name = unit_name_template(s->name);
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_text_ Text t = {};
        int r;

        if (!name)
                return -ENOMEM;
        r = read_stored(c, name, &unit, err);
        if (r <= 0)
                return r;

        if (s->unit && s->drop_ins.size == 0 && !same_contents(&unit, s->unit)) /* drop-ins always differ */
                (void) warn_difference(c, &unit, name, true, s);
        append_unit_text(&t, &unit);
        text_append_bytes(&t, s->drop_ins.chars ?: "", s->drop_ins.size);
        *ret = text_take(&t, NULL);
        return *ret ? 1 : -ENOMEM;
}

/* An instance of the cluster without a local file gets the text of its template in the cluster. It keeps the
 * drop-ins that it has there, if it has no local ones. */
static int read_followed(Client *c, Submission *s, const ApiUnit *stored, Error *err) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (s->unit || !unit_name_is_instance(s->name))
                return 0;
        if (s->drop_ins.size == 0) {
                _cleanup_text_ Text whole = {};

                append_unit_text(&whole, stored);
                TRY(whole.error);
                r = TRY(unit_append_own_drop_ins(&s->drop_ins, s->name, whole.chars ?: ""));
        }
        r = template_text(c, s, &text, err);
        return r <= 0 ? r : unit_read(s->name, text, strlen(text), &s->unit, err);
}

/* Return 1 if a unit of the cluster has to be submitted again, or print why not. */
static int submission_check_existing(Client *c, Submissions *all, Submission *s, const ApiUnit *stored,
                                     TargetState replaceable, Error *err) {
        const char *state = target_state_to_string(stored->desired_state),
                   *verb = stored->desired_state == TARGET_LAUNCHED ? "start" : "load";

        if (!s->unit) {
                if (!c->options.replace)
                        return 0;
                if (unit_name_is_instance(s->name))
                        return error_set(err, -ENOENT, "no local file of %s or its template", s->argument);
                return error_set(err, -ENOENT, "error Unit %s does not seem to be a template unit",
                                 s->argument);
        }
        if (same_contents(stored, s->unit)) {
                TRY_DONE(c->options.replace && stored->desired_state == TARGET_LAUNCHED ?
                                 submission_joins(c, all, s, err) :
                                 0);
                if (c->options.replace)
                        printf("Found same Unit(%s) in Registry, nothing to do\n", s->name);
                (void) replace_note_unused(c, s->name, "has this text already", true);
                return 0;
        }
        if (!c->options.replace) {
                s->differs = warn_difference(c, stored, s->name, s->from_template, s);
                return 0;
        }
        if (stored->desired_state > replaceable && !(all->rolls && streq(c->verb->name, "submit"))) {
                fprintf(stderr,
                        "Warning: can not replace Unit(%s) in state '%s', use the appropriate command\n",
                        s->name, state ? state : "");
                client_note("%s was not replaced; to replace and %s it again: fleetctl %s --replace %s",
                            s->name, verb, verb, s->given);
                return 0;
        }
        return 1;
}

/* Return whether the daemon rejects the file: its message names the line. */
static bool is_about_the_file(int r, const Error *err) {
        AnswerError answer;

        return answer_error_read(r, error_text(err, r), &answer) && answer.status == 400;
}

/* Return whether the file is that of a unit that runs without the cluster, as after a restore. */
static bool submission_runs(Client *c, const Submission *s) {
        _cleanup_listing_ Listing states = {};

        if (!strstr(s->argument, RUNTIME_UNITS "/") || client_states(c, s->name, &states, NULL) < 0)
                return false;
        for (size_t i = 0; i < states.n; i++)
                if (same_string(states.states[i].name, s->name) &&
                    state_kind(&states.states[i]) == STATE_RUNS)
                        return true;
        return false;
}

/* Decide whether a unit has to be submitted, and with which text. */
static int prepare_one(Client *c, Submissions *all, Submission *s, TargetState replaceable, Error *err) {
        _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;
        int r;

        r = TRY(read_stored(c, s->name, &stored, err));
        s->exists = r > 0;
        if (s->exists) {
                TRY(c->options.replace ? read_followed(c, s, &stored, err) : 0);
                r = submission_check_existing(c, all, s, &stored, replaceable, err);
                if (r <= 0)
                        return r;
                s->launched = stored.desired_state == TARGET_LAUNCHED;
                s->loaded = stored.desired_state == TARGET_LOADED;
                s->rolls = all->rolls && (s->launched || unit_name_is_template(s->name));
        } else if (unit_name_is_instance(s->name) && (!s->unit || s->from_template)) {
                TRY(template_text(c, s, &s->text, err));
                if (!s->text && !s->unit) {
                        _cleanup_free_ char *template = unit_name_template(s->name);

                        return error_set(err, -ENOENT,
                                         "failed getting Unit(%s) from template: unable to find template "
                                         "Unit(%s) in Registry or on filesystem",
                                         s->argument, template ? template : s->name);
                }
        } else if (!s->unit)
                return error_set(err, -ENOENT,
                                 client_is_interactive() ?
                                         "no unit %s in the cluster or in this directory; write the file %s "
                                         "here, or name its path" :
                                         "unable to find Unit(%s) in Registry or on filesystem",
                                 s->name, s->name);

        s->runs = !s->exists && submission_runs(c, s);
        if (s->unit) {
                files_print_warnings(s->name, &s->unit->warnings, "warning: ");
                submit_warn_required(c, all, s);
        }
        s->due = true;
        return submit_add_paths(c, &all->paths, s->name, s->text ?: s->unit->text,
                                s->exists ? &stored : NULL);
}

/* Print what the submission of a unit has changed for templates, and that it begins no rollout. */
static void note_submitted(Client *c, const Submission *s) {
        if (!s->rolls)
                (void) replace_note_unused(c, s->name, s->exists ? "has not been started" : "is new", false);
        if (s->note)
                client_note("%s", s->note);
        if (unit_name_is_template(s->name))
                replace_note_set(c, s->name);
}

/* Find the units that one rollout updates: the instances with the text of their template. All others are sets
 * of their own, between which no MaxUnavailable= holds. */
static int find_sets(Client *c, Submissions *all, Error *err) {
        bool together = c->options.all_at_once || c->options.no_block;
        size_t n_units = 0, n_sets = 0, first = all->n;

        for (size_t i = 0; i < all->n; i++) {
                Submission *s = &all->items[i];

                if (!s->due || !s->rolls)
                        continue;
                TRY(find_followed(c, all, s, together, err));
                first = MIN(first, i);
                s->set = i;
                for (size_t k = first; k < i && s->follows && s->set == i; k++)
                        if (all->items[k].follows == s->follows)
                                s->set = k;
                n_sets += s->set == i;
                n_units++;
        }
        for (size_t i = first; i < all->n && together; i++)
                all->items[i].set = first;
        replace_note(c, n_units, n_sets);
        return 0;
}

/* Add the units of all sets to wait for, one set after the other, with the texts of all but the first. */
static int add_goals(const Submissions *all, RolloutGoals *ret) {
        for (size_t set = 0; set < all->n; set++) {
                size_t before = ret->n;

                for (size_t i = set; i < all->n; i++) {
                        const Submission *s = &all->items[i];
                        RolloutGoal *goal;

                        if (!s->due || !s->rolls || s->set != set)
                                continue;
                        if (rollout_goals_add(ret, s->name, s->goal ?: s->unit->hash) < 0)
                                return -ENOMEM;
                        goal = &ret->items[ret->n - 1];
                        goal->given = s->given;
                        goal->joins = ret->n - 1 > before;
                        if (before == 0)
                                continue;
                        goal->text = strdup(s->unit->text);
                        goal->note = s->note ? strdup(s->note) : NULL;
                        if (!goal->text || (s->note && !goal->note))
                                return -ENOMEM;
                }
        }
        return 0;
}

/* Return whether a unit is submitted with the first set. */
static bool submission_is_first(const RolloutGoals *rolled, const Submission *s) {
        for (size_t i = 0; s->rolls && i < rolled->n; i++)
                if (streq(rolled->items[i].name, s->name))
                        return !rolled->items[i].text;
        return true;
}

/* Submit all units that are due in one change; of several sets whose texts are replaced, the first one. New
 * units get the target state 'created' at once: a unit that a host runs already, as after a restore,
 * continues. */
static int submit_all(Client *c, const Submissions *all, TargetState created, Names *ret_submitted,
                      Names *ret_created, const RolloutGoals *rolled, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, all->n + 1);
        size_t n = 0;
        int r;

        if (!units)
                return -ENOMEM;
        for (size_t i = 0; i < all->n; i++) {
                const Submission *s = &all->items[i];
                bool at_once = !s->exists && created > TARGET_INACTIVE;

                if (!s->due || !submission_is_first(rolled, s))
                        continue;
                units[n] = client_change_of(s->name);
                units[n].text = s->text ? s->text : s->unit->text;
                if (s->exists) {
                        units[n].canary = c->options.canary;
                        units[n].on_failure = c->options.on_failure;
                }
                if (at_once)
                        units[n].desired_state = created;
                if (s->rolls && s->launched)
                        units[n].desired_state = units[n].expected_state = TARGET_LAUNCHED;
                else if (s->loaded) /* else its run, and the units that follow it, would stop */
                        units[n].desired_state = units[n].expected_state = TARGET_LOADED;
                units[n++].keep = !s->exists; /* another client may have created it meanwhile */
                if (s->rolls || s->loaded)
                        continue;
                if (names_add(at_once ? ret_created : ret_submitted, s->name, strlen(s->name)) < 0)
                        return -ENOMEM;
        }
        r = client_change(c, units, n, err);
        if (r == -EREMOTEIO && n == 1 && !is_about_the_file(r, err))
                (void) error_prefix(err, r, "failed creating unit %s", units[0].name);
        return r;
}

/* Print that the replacement of several units interrupts all of them at the same time. Return their number.
 */
static size_t print_replaced(const Submissions *all) {
        size_t n = 0;

        for (size_t i = 0; i < all->n; i++)
                n += all->items[i].due && all->items[i].launched && !all->items[i].rolls;
        if (n > 1)
                client_note("%zu started units are replaced, and stop at the same time; to replace units one "
                            "by one, run fleetctl start --replace for each",
                            n);
        return n;
}

/* Print the daemon's message about the text of a unit, with the name of the unit. */
static int fail_submit(const Submissions *all, const char *message) {
        const Submission *only = NULL;
        size_t n = 0;

        for (size_t i = 0; i < all->n; i++)
                if (all->items[i].due) {
                        only = &all->items[i];
                        n++;
                }
        if (n != 1 || starts_with(message, only->name))
                fprintf(stderr, "fleetctl: %s\n", message);
        else
                fprintf(stderr, "fleetctl: %s: %s\n", only->name, message);
        client_note("nothing was submitted");
        return EXIT_FAILED;
}

/* Print the state of a unit that was created with a target state: fleet created it inactive. A loaded unit
 * stays loaded: nothing is waited for. */
static void print_created(const Submission *s, bool quiet, const Names *created) {
        if (s->due && s->loaded)
                printf("Unit %s changed\n", s->name);
        if (!created || !names_have(created, s->name))
                return;
        if (s->runs)
                printf("Unit %s runs: taken into the cluster, and not restarted\n", s->name);
        else if (!quiet)
                printf("Unit %s inactive\n", s->name);
}

/* Return whether the template has Replicas=: in the text that the cluster has after the command. */
static bool has_replicas(const Client *c, const Submission *s, const ApiUnit *stored) {
        _cleanup_unit_ Unit *unit = NULL;

        if (s->unit && (!stored || c->options.replace))
                return s->unit->placement.replicas >= 0;
        return stored && api_unit_contents(s->name, stored, &unit, NULL) >= 0 &&
               unit->placement.replicas >= 0;
}

/* Reject templates before anything is submitted; fleet did it afterwards. The result is that of a verb. */
static int reject_templates(Client *c, const Submissions *all, TargetState target, Error *err) {
        int r, status = EXIT_DONE;

        for (size_t i = 0; i < all->n; i++) {
                _cleanup_api_unit_ ApiUnit stored = API_UNIT_EMPTY;
                const Submission *s = &all->items[i];

                if (!unit_name_is_template(s->name))
                        continue;
                r = TRY_VERB(read_stored(c, s->name, &stored, err), err, "Error creating units: ");
                if (r == 0 && !s->unit)
                        continue; /* prepare_one() reports it */
                if (!streq(c->verb->name, "restart") && has_replicas(c, s, r > 0 ? &stored : NULL))
                        continue;
                replace_refuse_template(c, s->name, s->given, r > 0, target);
                status = EXIT_FAILED;
        }
        if (status == EXIT_FAILED && all->n > 1)
                client_note("no unit was changed");
        return status;
}

int submit_files(Client *c, char **args, size_t n, TargetState replaceable, const Submitted *ret,
                 Error *err) {
        bool quiet = ret->names && isatty(STDOUT_FILENO);
        _cleanup_(submissions_done) Submissions all = {};
        _cleanup_names_ Names submitted = {};
        size_t n_replaced;
        int r;

        r = read_all(c, args, n, &all);
        if (r == EXIT_DONE && ret->names)
                r = reject_templates(c, &all, replaceable, err);
        if (r != EXIT_DONE)
                return r;
        r = c->options.replace ? rollout_is_supported(c, err) : 0;
        if (r < 0) {
                client_note("nothing was submitted");
                return client_fail_after(r, err, "Error creating units: ");
        }
        all.rolls = r > 0;

        for (size_t i = 0; i < all.n; i++) {
                Submission *s = &all.items[i];

                if (ret->names && names_add(ret->names, s->name, strlen(s->name)) < 0)
                        return -ENOMEM;
                r = prepare_one(c, &all, s, replaceable, err);
                if (r < 0)
                        return r == -ENOENT ? fail_argument(c, s, r, err) :
                                              client_fail_after(r, err, "Error creating units: ");
                if (ret->differing && names_add(ret->differing, s->differs ? s->given : "",
                                                s->differs ? strlen(s->given) : 0) < 0)
                        return -ENOMEM;
        }
        TRY_VERB(find_sets(c, &all, err), err, "Error creating units: ");
        if (ret->rolled && add_goals(&all, ret->rolled) < 0)
                return -ENOMEM;
        submit_warn_failed(c, &all);
        r = submit_confirm(c, &all, err);
        if (r < 0)
                return r == -ECANCELED ? EXIT_FAILED : client_fail_after(r, err, "Error creating units: ");
        r = submit_all(c, &all, ret->created ? replaceable : TARGET_INACTIVE, &submitted, ret->created,
                       ret->rolled, err);
        if (is_about_the_file(r, err))
                return fail_submit(&all, client_answer_text(err));
        if (r < 0)
                return client_fail_after(r, err, "Error creating units: ");
        n_replaced = print_replaced(&all);
        for (size_t i = 0; i < all.n; i++) {
                const Submission *s = &all.items[i];

                print_created(s, quiet, ret->created);
                if (s->due && submission_is_first(ret->rolled, s))
                        note_submitted(c, s);
        }
        submit_note_keys(c, &all.paths, 0);
        (void) fflush(stdout);

        r = wait_for(c,
                     &(WaitRequest) { .goal = WAIT_STATE,
                                      .target = TARGET_INACTIVE,
                                      .names = &submitted,
                                      .quiet = quiet,
                                      .restarts = n_replaced > 0 },
                     err);
        if (wait_was_ended(c, r))
                return wait_print_error(c, r, NULL, err);
        if (r == -ETIMEDOUT) {
                fprintf(stderr, "Error waiting on unit creation: %s\n", err->message);
                fprintf(stderr, "Error creating units: %s\n", err->message);
                return EXIT_FAILED;
        }
        return r < 0 ? client_fail_after(r, err, "Error creating units: ") : EXIT_DONE;
}

static int submit_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_rollout_goals_ RolloutGoals rolled = {};
        int r;

        r = submit_files(c, args, n, TARGET_INACTIVE, &(Submitted) { .rolled = &rolled }, err);
        return r == EXIT_DONE ? replace_wait(c, &rolled, err) : r;
}

VERB(submit, "submit", "fleet replace no-block report update", "UNIT...",
     "Upload one or more units to the cluster without starting them",
     "All files are read first; after an error in one of them, no unit is submitted.\n"
     "Existing units stay unchanged without --replace.\n\n"
     "Submit a directory of units:\n"
     "fleetctl submit myservice/*\n",
     submit_run);
