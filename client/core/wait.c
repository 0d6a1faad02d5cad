#include "client/core/wait.h"

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/core/subprocess.h"
#include "client/core/wait_internal.h"

enum {
        POLL_MS = 250,       /* between two reads without events */
        REFRESH_MS = 2000,   /* between two reads with events: the cost of a lost event */
        MANY_MS = 200,       /* between two reads of many units after events */
        QUIET_MAX_MS = 1000, /* without progress lines: until the reason of a delay is printed */
        NAMES_SHOWN = 3,
};

static void wait_done(Wait *w) {
        for (size_t i = 0; w->units && i < w->n; i++) {
                free(w->units[i].machine);
                free(w->units[i].reason);
                free(w->units[i].cause);
        }
        free(w->units);
        listing_done(&w->machines);
        operation_done(&w->operation);
}

/* -- Progress and messages -- */

/* Append why a unit is not started or stopped yet, or does not run with its new text, if its machine is not
 * up. */
static void wait_append_absence(Wait *w, const WaitUnit *u, Text *t) {
        bool stops = w->request->goal == WAIT_STOPPED || w->request->goal == WAIT_GONE;
        const ApiMachine *m;

        if ((!stops && w->request->goal != WAIT_RUNNING && !w->request->hash) || !u->machine ||
            (u->phase >= PHASE_DONE && !u->timed_out))
                return;
        if (!listing_machine(&w->machines, u->machine))
                client_load_machine(w->client, &w->machines, u->machine, true);
        m = listing_machine(&w->machines, u->machine);
        if (!m || !m->presence || streq(m->presence, "up"))
                return;
        append_machine_name(t, &w->machines, u->machine);
        if (!stops && !w->request->hash && starts_with(u->state, "active"))
                text_printf(t, " is %s; it last reported %s", m->presence, u->state);
        else
                text_printf(t, " is %s: it %s the unit when it is back", m->presence,
                            stops            ? "stops" :
                            w->request->hash ? "restarts" :
                                               "starts");
}

/* Return why a unit waits for a machine, or for its lost one; NULL: its machine is to start it. */
static const char *wait_reason(const WaitUnit *u) {
        return u->reason && (!u->machine || u->waits) ? u->reason : NULL;
}

/* Append the reason of the delay or the end of the wait, or the next step; nothing: the elapsed time. */
static void wait_append_note(Wait *w, const WaitUnit *u, Text *t) {
        bool slow = clock_monotonic_ms() - w->started_ms > QUIET_MS;

        if (u->timed_out) /* the journal of a machine that is not up cannot be read */
                wait_append_absence(w, u, t);
        if (t->size > 0)
                return;
        if (u->global && u->phase == PHASE_DONE && u->n_expected == 0 && w->request->target > TARGET_INACTIVE)
                text_append(t, "no machine fits");
        else if (u->phase == PHASE_FAILED && (u->machine || u->global))
                text_printf(t, "%s%sfleetctl %s %s", u->cause ?: "", u->cause ? "  " : "",
                            u->refused ? "why" : "journal", u->name);
        else if (u->phase != PHASE_DONE && u->cause && w->request->target == TARGET_LAUNCHED)
                text_append(t, u->cause);
        else if (u->phase != PHASE_DONE && wait_reason(u) && slow && w->request->target > TARGET_INACTIVE)
                text_printf(t, "%s%s", u->reason,
                            w->allowed_ms == 0 ? "  (Ctrl-C keeps the target state)" : "");
        if (t->size == 0 && slow)
                wait_append_absence(w, u, t);
}

static void wait_show_unit(Wait *w, const WaitUnit *u) {
        bool more = w->request->more && u->phase == PHASE_DONE;
        ProgressMark mark = PROGRESS_UNDERWAY;
        _cleanup_text_ Text place = {}, note = {};

        if (u->phase == PHASE_FAILED)
                mark = PROGRESS_FAILED;
        else if (u->phase == PHASE_DONE && !more)
                mark = PROGRESS_DONE;
        if (u->global && u->n_expected > 0)
                text_printf(&place, "%zu of %zu machines", u->n_reached, u->n_expected);
        else if (u->machine)
                append_machine_name(&place, &w->machines, u->machine);
        wait_append_note(w, u, &note);
        progress_set(w->request->progress, u->name, mark, place.chars ?: "", u->word, note.chars ?: "");
}

static void wait_draw(Wait *w) {
        if (!w->request->progress)
                return;
        for (size_t i = 0; i < w->n; i++)
                wait_show_unit(w, &w->units[i]);
        progress_draw(w->request->progress);
}

/* Without progress lines, print the reason of a delay once. The message about a slow start goes to terminals
 * only. */
static void wait_print_reasons(Wait *w) {
        for (size_t i = 0; i < w->n; i++) {
                WaitUnit *u = &w->units[i];
                _cleanup_text_ Text t = {};

                if (u->reported || u->phase >= PHASE_DONE ||
                    clock_monotonic_ms() - w->started_ms < QUIET_MAX_MS)
                        continue;
                if (wait_reason(u)) {
                        text_append_printable(&t, u->reason);
                        if (w->request->target > TARGET_INACTIVE && !u->global)
                                text_printf(&t, "; to cancel: fleetctl unload %s", u->name);
                } else if (u->cause && w->request->target == TARGET_LAUNCHED)
                        text_append_printable(&t, u->cause);
                else
                        wait_append_absence(w, u, &t);
                if (t.size == 0 && isatty(STDERR_FILENO)) {
                        text_printf(&t, "%s", u->word);
                        if (u->machine) {
                                text_append(&t, " on ");
                                append_machine_name(&t, &w->machines, u->machine);
                        }
                }
                if (t.size == 0)
                        continue;
                u->reported = true;
                client_note("%s: %s", u->name, t.chars ?: "");
        }
}

/* Return what is to be said about the units after an end of the wait; NULL: it depends on the goal. */
static const char *wait_says(const WaitRequest *request) {
        return request->restarts ? "stops and is not started again (to start: fleetctl start)" :
                                   request->interrupted;
}

/* Append the units that have not reached the goal. */
static void wait_append_left(const Wait *w, Text *t) {
        size_t n = 0;

        for (size_t i = 0; i < w->n; i++) {
                if (w->units[i].phase >= PHASE_DONE || n++ >= NAMES_SHOWN)
                        continue;
                text_printf(t, "%s%s", n > 1 ? ", " : "", w->units[i].name);
        }
        if (n > NAMES_SHOWN)
                text_printf(t, " and %zu more", n - NAMES_SHOWN);
}

/* Return -EACCES with a message about the units that this user can no longer read. */
static int wait_denied(Wait *w) {
        const char *says = wait_says(w->request);
        _cleanup_text_ Text names = {};
        Error why = *w->err;

        wait_append_left(w, &names);
        return error_set(w->err, -EACCES, "%s: no right to read the state: %s; %s%s", names.chars ?: "",
                         client_answer_text(&why), says ? "it " : "the cluster continues", says ?: "");
}

/* What the cluster continues to do after the end of a wait, and the command that ends or undoes it. */
static const struct {
        const char *verb, *to, *command;
} wait_goals[] = {
        [WAIT_STATE] = { "load", "cancel", "fleetctl unload" },
        [WAIT_RUNNING] = { "start", "cancel", "fleetctl unload" },
        [WAIT_ENDED] = { "run", "cancel", "fleetctl unload" },
        [WAIT_STOPPED] = { "stop", "start again", "fleetctl start" },
        [WAIT_GONE] = { "destroy", "have it again", "fleetctl submit FILE" },
};

static bool wait_was_loaded(const Wait *w, const char *name) {
        return w->request->goal == WAIT_STOPPED && w->request->loaded && names_have(w->request->loaded, name);
}

/* Append the command that restores the former target state of a unit; NULL: of all that are left. */
static void wait_append_restoring(const Wait *w, const char *name, Text *t) {
        WaitGoal goal = w->request->goal;
        size_t n = name ? 1 : w->n_left, n_loaded = name && wait_was_loaded(w, name);

        for (size_t i = 0; !name && i < w->n; i++)
                n_loaded += w->units[i].phase < PHASE_DONE && wait_was_loaded(w, w->units[i].name);
        name = name ?: "UNIT...";
        if (n_loaded < n)
                text_printf(t, "; to %s: %s", wait_goals[goal].to, wait_goals[goal].command);
        if (n_loaded < n && goal != WAIT_GONE)
                text_printf(t, " %s", name);
        if (n_loaded > 0)
                text_printf(t, "; to load %sagain: fleetctl load %s", n_loaded < n ? "the others " : "",
                            name);
}

/* Append that the change stays after the wait, and how to undo it. 'name': of the only unit; NULL: of
 * several. A text that is submitted, or replaces another one, leaves the target state as it is. */
static void wait_append_undo(const Wait *w, const char *name, Text *t) {
        WaitGoal goal = w->request->goal;

        if (w->request->hash || (goal == WAIT_STATE && w->request->target == TARGET_INACTIVE))
                return;
        if (goal == WAIT_GONE)
                text_append(t, "; the unit file is deleted");
        else
                text_printf(t, "; the target state stays %s", target_state_to_string(w->request->target));
        wait_append_restoring(w, name, t);
}

/* Return -EINTR with a message about the work that the cluster continues. */
static int wait_interrupted(Wait *w) {
        _cleanup_text_ Text names = {}, undo = {};

        wait_append_left(w, &names);
        progress_break(w->request->progress);
        if (wait_says(w->request))
                return error_set(w->err, -EINTR, "%s %s", names.chars ?: "", wait_says(w->request));
        wait_append_undo(w, w->n_left == 1 ? names.chars : NULL, &undo);
        return error_set(w->err, -EINTR, "the cluster continues to %s %s%s",
                         wait_goals[w->request->goal].verb, names.chars ?: "", undo.chars ?: "");
}

/* {"index":N,"kind":"state","name":"web.service","machine":"ID"} */
static int wait_on_event(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *name = NULL;
        Wait *w = userdata;

        if (json_value_parse(line, size, &root, NULL) < 0 ||
            json_read_string(root, "name", &name, NULL) < 0 || !name)
                return 0;
        for (size_t i = 0; i < w->n; i++)
                w->dirty |= streq(w->units[i].name, name);
        return 0;
}

/* --timeout: end the wait for a unit with its state, and with the names of all units that are left. */
static void wait_time_out(Wait *w, WaitUnit *u) {
        const char *reason = reason_after_waiting(wait_reason(u));
        _cleanup_text_ Text absence = {}, what = {}, undo = {};
        _cleanup_listing_ Listing now = {};

        if (w->n_left > 1) {
                text_append(&what, "left are ");
                wait_append_left(w, &what);
                text_append(&what, "; ");
        }
        if (!*reason && u->machine && !w->machines_are_new)
                client_load_machine(w->client, &now, u->machine, true);
        if (now.n > 0) { /* for all units whose time is over */
                Listing before = w->machines;

                w->machines = now;
                now = before;
                w->machines_are_new = true;
        }
        if (!*reason && u->machine && w->machines_are_new)
                wait_append_absence(w, u, &absence);
        if (!u->machine && !u->global && w->request->target > TARGET_INACTIVE)
                text_printf(&what, "%s waits for a machine%s%s", u->name, *reason ? ": " : "", reason);
        else if (absence.size > 0)
                text_printf(&what, "%s: %s", u->name, absence.chars);
        else if (u->phase == PHASE_SYSTEMD && streq(u->state, "not reported"))
                text_printf(&what, "%s is assigned, and no state of it is reported", u->name);
        else
                text_printf(&what, "%s is %s%s%s", u->name,
                            streq(u->state, "not reported") ? u->word : u->state, *reason ? ": " : "",
                            reason);
        wait_append_undo(w, w->n_left == 1 ? u->name : NULL, &undo);
        wait_fail(w, u, -ETIMEDOUT, "timed out: %s; the cluster continues: fleetctl why %s%s",
                  what.chars ?: u->name, u->name, undo.chars ?: "");
}

static void wait_check_deadlines(Wait *w) {
        uint64_t now_ms = clock_monotonic_ms();

        for (size_t i = 0; i < w->n; i++) {
                WaitUnit *u = &w->units[i];
                char middle[64];

                if (u->phase >= PHASE_DONE || u->deadline_ms == 0 || now_ms < u->deadline_ms)
                        continue;
                if (w->client->options.timeout_ms > 0 && wait_says(w->request)) {
                        _cleanup_text_ Text names = {};

                        wait_append_left(w, &names);
                        wait_fail(w, u, w->request->restarts ? -ECANCELED : -ETIMEDOUT, "timed out: %s %s",
                                  names.chars ?: u->name, wait_says(w->request));
                } else if (w->client->options.timeout_ms > 0)
                        wait_time_out(w, u);
                else if (u->phase == PHASE_SYSTEMD && w->request->goal == WAIT_RUNNING) {
                        snprintf(middle, sizeof(middle),
                                 " within %llus, err:", (unsigned long long) w->allowed_ms / 1000);
                        wait_fail_active(w, u, middle);
                } else if (w->request->goal == WAIT_GONE || u->phase == PHASE_SYSTEMD)
                        wait_fail(w, u, -ETIMEDOUT, "timed out waiting for unit %s to stop, it is %s",
                                  u->name, u->state);
                else
                        wait_fail(w, u, -ETIMEDOUT, "timed out waiting for unit %s to report state %s",
                                  u->name, target_state_to_string(w->request->target));
        }
}

/* Return when to read all units without an event: again after the subscription, and then when the reason of a
 * delay is to be printed, because no event follows while a unit waits for a machine. */
static uint64_t wait_refresh_ms(const Wait *w) {
        if (w->n_reads < 2)
                return 0;
        if (!w->operation.events)
                return w->read_ms + POLL_MS;
        return w->read_ms + (w->n_reads == 2 ? QUIET_MAX_MS : REFRESH_MS);
}

/* Return whether to read the units: it is time, an event has named one, or one has been active for long
 * enough. Otherwise set when to look again. */
static bool wait_is_due(Wait *w) {
        uint64_t now_ms = clock_monotonic_ms(), next_ms = wait_refresh_ms(w);
        bool due = w->dirty;

        for (size_t i = 0; i < w->n; i++)
                if (w->units[i].phase < PHASE_DONE && w->units[i].active_ms > 0 &&
                    w->request->goal != WAIT_ENDED)
                        next_ms = MIN(next_ms, wait_stable_ms(&w->units[i]));
        due |= now_ms >= next_ms;
        if (due && w->n_reads >= 2 && w->n_left > UNITS_MANY && now_ms < w->read_ms + MANY_MS) {
                next_ms = w->read_ms + MANY_MS;
                due = false;
        }
        for (size_t i = 0; i < w->n; i++)
                if (w->units[i].phase < PHASE_DONE && w->units[i].deadline_ms > 0)
                        next_ms = MIN(next_ms, w->units[i].deadline_ms);
        w->operation.next_ms = next_ms;
        return due;
}

static int wait_look(void *userdata, Error *err) {
        Wait *w = userdata;
        int r = 0;

        if (wait_is_due(w)) {
                w->dirty = false;
                r = wait_refresh_all(w);
                w->read_ms = clock_monotonic_ms();
                w->n_reads++;
                (void) wait_is_due(w);
        }
        if (r >= 0 && w->n_left > 0) {
                wait_draw(w);
                if (!w->request->progress && (!w->request->quiet || wait_says(w->request)))
                        wait_print_reasons(w);
                wait_check_deadlines(w);
        }
        if (r < 0 || w->n_left == 0)
                wait_draw(w);
        if (r < 0)
                return r;
        return w->n_left > 0 ? -EAGAIN : w->result;
}

bool wait_was_ended(const Client *c, int r) {
        return r == -EINTR || (r == -ETIMEDOUT && c->options.timeout_ms > 0);
}

int wait_for(Client *c, const WaitRequest *request, Error *err) {
        static const OperationType type = { .look = wait_look, .on_event = wait_on_event };
        Wait w = { .client = c,
                   .request = request,
                   .n = request->names->n,
                   .n_left = request->names->n,
                   .err = err,
                   .started_ms = clock_monotonic_ms(),
                   .answered_ms = clock_monotonic_ms(),
                   .allowed_ms = client_limit_ms(c),
                   .operation = operation_begin(c) };
        int r;

        if (w.n == 0)
                return 0;
        w.operation.limit_ms = 0; /* each unit has a deadline */
        w.units = NEW0(WaitUnit, w.n);
        if (!w.units)
                return -ENOMEM;
        for (size_t i = 0; i < w.n; i++) {
                w.units[i] = (WaitUnit) { .name = request->names->items[i],
                                          .word = "waiting",
                                          .before_ms = request->before_ms ? request->before_ms[i] : 0,
                                          .deadline_ms = w.allowed_ms > 0 ? w.started_ms + w.allowed_ms : 0 };
                snprintf(w.units[i].state, sizeof(w.units[i].state), "not reported");
        }
        r = operation_wait(&w.operation, &type, &w, err);
        if (r == -EINTR)
                r = wait_interrupted(&w);
        if (r == -EREMOTEIO && client_is_final(c, r))
                r = wait_denied(&w);
        wait_done(&w);
        return r;
}

int wait_print_error(const Client *c, int r, const Progress *progress, const Error *err) {
        if (r == -EINTR) {
                (void) client_fail(r, err);
                (void) fflush(NULL);
                (void) signal(c->signal, SIG_DFL);
                (void) raise(c->signal);
                return EXIT_FAILED;
        }
        if (r == -ETIMEDOUT && c->options.timeout_ms > 0) {
                (void) client_fail(r, err);
                return EXIT_CONTINUES;
        }
        if (r == -ENOEXEC && progress && !progress_is_cut(progress))
                return EXIT_FAILED;
        if (r != -ETIMEDOUT && r != -ENOEXEC)
                return client_fail_after(r, err, "Error waiting for units: ");
        if (isatty(STDERR_FILENO)) /* fleet's two lines are for programs */
                (void) client_fail(r, err);
        else
                fprintf(stderr, "Error waiting for units: %s\n", error_text(err, r));
        if (!isatty(STDERR_FILENO) && c->options.block_attempts > 0)
                fprintf(stderr, "%s%s\n",
                        r == -ENOEXEC ? "Error waiting for systemd unit states, err: " :
                                        "Error waiting for unit states, exit status: ",
                        error_text(err, r));
        if (*c->next)
                client_note("see: %s", c->next);
        return EXIT_FAILED;
}

/* -- A text -- */

int wait_read_run(Client *c, const char *name, bool *ret_runs, uint64_t *ret_failed_ms, Error *err) {
        _cleanup_listing_ Listing states = {};
        int r = client_states(c, name, &states, err);

        *ret_runs = false;
        *ret_failed_ms = 0;
        for (size_t i = 0; r >= 0 && i < states.n; i++) {
                *ret_runs |= active_state_is_up(states.states[i].active ?: "");
                if (same_string(states.states[i].active, "failed"))
                        *ret_failed_ms = MAX(*ret_failed_ms, states.states[i].since_ms);
        }
        return MIN(r, 0);
}

int wait_for_text(Client *c, const char *name, const char *hash, uint64_t failed_ms, const char *which,
                  Error *err) {
        _cleanup_text_ Text continued = {};
        _cleanup_names_ Names names = {};
        Progress *progress;
        int r;

        text_printf(&continued, "has the %s text; the cluster continues to restart it", which);
        TRY(continued.error < 0 ? continued.error : names_add(&names, name, strlen(name)));
        progress = progress_new(&names);
        r = wait_for(c,
                     &(WaitRequest) { .goal = WAIT_RUNNING,
                                      .target = TARGET_LAUNCHED,
                                      .names = &names,
                                      .before_ms = &failed_ms,
                                      .quiet = true,
                                      .hash = hash,
                                      .progress = progress,
                                      .interrupted = continued.chars },
                     err);
        r = r < 0 ? wait_print_error(c, r, progress, err) : EXIT_DONE;
        progress_free(progress);
        return r;
}
