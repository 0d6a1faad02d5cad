#include "client/wait.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "client/wait_internal.h"

enum {
        ATTEMPT_MS = 2000, /* fleet's window */
        POLL_MS = 250,     /* between two looks without events */
        LOOK_MS = 2000,    /* with events: a lost one costs no more */
        TICK_MS = 200,     /* of the seconds on a terminal; also between two looks at all of many units */
        SILENT_MS = 1000,  /* in a pipe: until it is said what is waited for */
        DIRTY_MAX = 8,     /* more than these are looked at together */
        NAMES_SAID = 3,
};

static void wait_done(Wait *w) {
        for (size_t i = 0; w->units && i < w->n; i++) {
                free(w->units[i].machine);
                free(w->units[i].reason);
        }
        free(w->units);
        listing_done(&w->machines);
}

/* -- What is shown -- */

static void show(Wait *w, const Waited *u) {
        bool more = w->request->more && u->phase == PHASE_DONE,
             slow = clock_monotonic_ms() - w->started_ms > QUIET_MS;
        ProgressMark mark = u->phase == PHASE_FAILED        ? PROGRESS_FAILED :
                            u->phase == PHASE_DONE && !more ? PROGRESS_DONE :
                                                              PROGRESS_UNDERWAY;
        _cleanup_text_ Text place = {}, note = {};

        if (u->global && u->n_meant > 0)
                text_printf(&place, "%zu of %zu machines", u->n_there, u->n_meant);
        else if (u->machine)
                append_machine_name(&place, &w->machines, u->machine);
        if (u->global && u->phase == PHASE_DONE && u->n_meant == 0 && w->request->target > TARGET_INACTIVE)
                text_append(&note, "no machine fits");
        else if (u->phase == PHASE_FAILED && (u->machine || u->global))
                text_printf(&note, "fleetctl journal %s", u->name);
        else if (u->phase != PHASE_DONE && !u->machine && u->reason && slow &&
                 w->request->target > TARGET_INACTIVE)
                text_printf(&note, "%s%s", u->reason,
                            w->allowed_ms == 0 ? "  (Ctrl-C leaves it wanted)" : "");
        progress_set(w->request->live, u->name, mark, place.chars ?: "", u->word, note.chars ?: "");
}

static void draw(Wait *w) {
        if (!w->request->live)
                return;
        for (size_t i = 0; i < w->n; i++)
                show(w, &w->units[i]);
        progress_draw(w->request->live);
}

/* Without such lines nobody waits for more than a second without knowing for what: it is said once. Of a unit
 * that starts slowly only to people. */
static void say_why(Wait *w) {
        for (size_t i = 0; i < w->n; i++) {
                Waited *u = &w->units[i];
                _cleanup_text_ Text t = {};

                if (u->said || u->phase >= PHASE_DONE || clock_monotonic_ms() - w->started_ms < SILENT_MS)
                        continue;
                if (!u->machine && u->reason)
                        text_append_printable(&t, u->reason);
                else if (isatty(STDERR_FILENO)) {
                        text_printf(&t, "%s", u->word);
                        if (u->machine) {
                                text_append(&t, " on ");
                                append_machine_name(&t, &w->machines, u->machine);
                        }
                } else
                        continue;
                u->said = true;
                client_note("%s: %s", u->name, t.chars ?: "");
        }
}

/* What goes on without the person who has interrupted. */
static int interrupted(Wait *w) {
        static const char *const sentences[] = {
                [WAIT_STATE] = "the cluster goes on loading %s (fleetctl unload takes that back)",
                [WAIT_RUNNING] = "the cluster goes on starting %s (fleetctl unload takes that back)",
                [WAIT_ENDED] = "the cluster goes on running %s (fleetctl stop ends that)",
                [WAIT_STOPPED] = "the cluster goes on stopping %s",
                [WAIT_GONE] = "the cluster goes on destroying %s",
        };
        const char *sentence = w->request->interrupted ?: sentences[w->request->goal],
                   *at = strstr(sentence, "%s");
        _cleanup_text_ Text names = {};
        size_t n = 0;

        for (size_t i = 0; i < w->n; i++) {
                if (w->units[i].phase >= PHASE_DONE || n++ >= NAMES_SAID)
                        continue;
                text_printf(&names, "%s%s", n > 1 ? ", " : "", w->units[i].name);
        }
        if (n > NAMES_SAID)
                text_printf(&names, " and %zu more", n - NAMES_SAID);
        progress_break(w->request->live);
        return error_set(w->err, -EINTR, "%.*s%s%s", at ? (int) (at - sentence) : (int) strlen(sentence),
                         sentence, at ? names.chars ?: "" : "", at ? at + 2 : "");
}

/* {"index":N,"kind":"state","name":"web.service","machine":"ID"} */
static int on_event(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *name = NULL;
        Wait *w = userdata;

        if (json_value_parse(line, size, &root, NULL) < 0 ||
            json_read_string(root, "name", &name, NULL) < 0 || !name)
                return 0;
        for (size_t i = 0; i < w->n; i++)
                if (streq(w->units[i].name, name))
                        w->units[i].dirty = true;
        return 0;
}

static void check_deadlines(Wait *w) {
        uint64_t now_ms = clock_monotonic_ms();

        for (size_t i = 0; i < w->n; i++) {
                Waited *u = &w->units[i];
                _cleanup_text_ Text t = {};

                if (u->phase >= PHASE_DONE || u->deadline_ms == 0 || now_ms < u->deadline_ms)
                        continue;
                if (u->phase == PHASE_SYSTEMD && w->request->goal == WAIT_RUNNING) {
                        text_printf(&t, " within %llus, err:", (unsigned long long) w->allowed_ms / 1000);
                        if (t.error >= 0)
                                wait_fail_active(w, u, t.chars);
                        continue;
                }
                if (w->request->goal == WAIT_GONE || u->phase == PHASE_SYSTEMD)
                        text_printf(&t, "timed out waiting for unit %s to stop, it is %s", u->name, u->state);
                else
                        text_printf(&t, "timed out waiting for unit %s to report state %s", u->name,
                                    target_state_to_string(w->request->target));
                wait_fail(w, u, -ETIMEDOUT, t.chars ? t.chars : u->name);
        }
}

/* Waits for something to look at; the subscription is given up where there are no events to be had.
 * 'next_ms': when units that are dirty are looked at, which were too many at once. */
static void rest(Wait *w, Stream **events, uint64_t *look_ms, uint64_t next_ms, bool attended) {
        uint64_t now_ms = clock_monotonic_ms(), until_ms = *look_ms;

        for (size_t i = 0; i < w->n; i++)
                if (w->units[i].phase < PHASE_DONE) {
                        if (w->units[i].dirty)
                                until_ms = MIN(until_ms, next_ms);
                        if (w->units[i].deadline_ms > 0)
                                until_ms = MIN(until_ms, w->units[i].deadline_ms);
                        if (w->units[i].active_ms > 0 && w->request->goal != WAIT_ENDED)
                                until_ms = MIN(until_ms, w->units[i].active_ms + SETTLE_MS);
                }
        if (attended)
                until_ms = MIN(until_ms, now_ms + TICK_MS);
        until_ms = MAX(until_ms, now_ms + 1);

        if (*events) {
                if (stream_wait(*events, until_ms - now_ms, NULL) < 0) {
                        *events = stream_free(*events);
                        *look_ms = MIN(*look_ms, now_ms + POLL_MS);
                }
                return;
        }
        (void) usleep((useconds_t) (until_ms - now_ms) * 1000);
}

static bool settles(const Wait *w, const Waited *u) {
        return u->active_ms > 0 && w->request->goal != WAIT_ENDED &&
               clock_monotonic_ms() - u->active_ms >= SETTLE_MS;
}

/* What events have named, and what has been active for long enough. 'next_ms': many at once wait until then.
 */
static int look_again(Wait *w, uint64_t *next_ms) {
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; i < w->n; i++)
                n += w->units[i].phase < PHASE_DONE && (w->units[i].dirty || settles(w, &w->units[i]));
        if (n > DIRTY_MAX) {
                if (clock_monotonic_ms() < *next_ms)
                        return 0;
                r = wait_look_all(w);
                *next_ms = clock_monotonic_ms() + TICK_MS;
                return r;
        }
        for (size_t i = 0; r >= 0 && i < w->n; i++)
                if (w->units[i].phase < PHASE_DONE && (w->units[i].dirty || settles(w, &w->units[i])))
                        r = wait_look(w, &w->units[i]);
        return r;
}

/* 'interrupts' are blocked, and mean that nobody waits any longer. */
static int run(Wait *w, const sigset_t *interrupts, bool attended) {
        _cleanup_stream_ Stream *events = NULL;
        uint64_t look_ms, next_ms = 0;
        int r;

        r = wait_look_all(w);
        if (r < 0 || w->n_left == 0) {
                draw(w);
                return r < 0 ? r : w->result;
        }
        draw(w);

        /* Look again only when the subscription stands: what changes after that look is told. */
        r = stream_new(w->client->connection, "/fleet/v1/events", on_event, w, &events, w->err);
        if (r < 0)
                return r;
        r = stream_wait(events,
                        w->client->options.request_timeout_ms ? w->client->options.request_timeout_ms :
                                                                ATTEMPT_MS,
                        NULL);
        if (r <= 0)
                events = stream_free(events);

        r = wait_look_all(w);
        look_ms = clock_monotonic_ms() + (events ? LOOK_MS : POLL_MS);
        while (r >= 0 && w->n_left > 0) {
                draw(w);
                if (!w->request->live && !w->request->quiet)
                        say_why(w);
                check_deadlines(w);
                if (w->n_left == 0)
                        break;
                rest(w, &events, &look_ms, next_ms, attended);
                if (sigtimedwait(interrupts, NULL, &(struct timespec) {}) > 0)
                        return interrupted(w);
                if (clock_monotonic_ms() >= look_ms) {
                        r = wait_look_all(w);
                        look_ms = clock_monotonic_ms() + (events ? LOOK_MS : POLL_MS);
                }
                if (r >= 0)
                        r = look_again(w, &next_ms);
        }
        draw(w);
        return r < 0 ? r : w->result;
}

int wait_for(Client *c, const WaitRequest *request, Error *err) {
        Wait w = { .client = c,
                   .request = request,
                   .n = request->names->n,
                   .n_left = request->names->n,
                   .err = err,
                   .started_ms = clock_monotonic_ms(),
                   .answered_ms = clock_monotonic_ms(),
                   .allowed_ms = c->options.block_attempts * ATTEMPT_MS };
        struct sigaction action = {};
        sigset_t interrupts, before;
        bool attended;
        int r;

        if (w.n == 0)
                return 0;
        w.units = NEW0(Waited, w.n);
        if (!w.units)
                return -ENOMEM;
        for (size_t i = 0; i < w.n; i++) {
                w.units[i] = (Waited) { .name = request->names->items[i],
                                        .word = "waiting",
                                        .before_ms = request->before_ms ? request->before_ms[i] : 0,
                                        .deadline_ms = w.allowed_ms > 0 ? w.started_ms + w.allowed_ms : 0 };
                snprintf(w.units[i].state, sizeof(w.units[i].state), "not reported");
        }

        /* A person who is at the terminal is told what he leaves behind; everybody else just goes. */
        sigemptyset(&interrupts);
        attended = isatty(STDERR_FILENO) && sigaction(SIGINT, NULL, &action) == 0 &&
                   action.sa_handler != SIG_IGN;
        if (attended)
                sigaddset(&interrupts, SIGINT);
        (void) sigprocmask(SIG_BLOCK, &interrupts, &before);
        r = run(&w, &interrupts, attended || request->live);
        (void) sigprocmask(SIG_SETMASK, &before, NULL);
        wait_done(&w);
        return r;
}
