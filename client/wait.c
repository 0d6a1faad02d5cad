#include "client/wait.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "client/output.h"

enum {
        ATTEMPT_MS = 2000, /* fleet's window */
        POLL_MS = 250,     /* between two looks without events */
        LOOK_MS = 2000,    /* with events: a lost one costs no more */
        TICK_MS = 200,     /* of the seconds on a terminal */
        QUIET_MS = 500,    /* that every start takes: until then there is no reason to give */
        SILENCE_MS = 10000, /* without any answer, until it is an error */
        SETTLE_MS = 100,    /* for so long: systemd calls active, for some ms, also what fails at once */
        STALE_MS = 3000,    /* until an end that was there before is taken for the new one */
};

typedef enum WaitPhase { PHASE_STATE, PHASE_SYSTEMD, PHASE_DONE, PHASE_FAILED } WaitPhase;

/* One unit that is waited for. */
typedef struct Waited {
        const char *name; /* borrowed */
        WaitPhase phase;
        bool dirty;
        uint64_t deadline_ms, ended_ms; /* deadline 0: none */
        uint64_t before_ms;             /* 'since' of the state before, 0: there was none */
        uint64_t launched_ms;           /* when it reached its state */
        uint64_t active_ms;             /* since when it is seen active; 0: it is not */
        char *machine;                  /* id, or NULL */
        char *reason;                   /* why it is where it is */
        char word[32];                  /* what a terminal calls its state */
        char state[64];                 /* systemd's: "activating (auto-restart)" */
} Waited;

typedef struct Wait {
        Client *client;
        const WaitRequest *request;
        Waited *units;
        size_t n, n_left;
        Listing machines;
        uint64_t started_ms, allowed_ms, answered_ms;
        bool live;     /* lines on a terminal that are written again */
        size_t n_rows; /* written so far */
        int result;    /* of the first that failed */
        Error *err;
} Wait;

static void wait_done(Wait *w) {
        for (size_t i = 0; w->units && i < w->n; i++) {
                free(w->units[i].machine);
                free(w->units[i].reason);
        }
        free(w->units);
        listing_done(&w->machines);
}

/* -- What is shown -- */

static void legend(Wait *w, const char *id, Text *t) {
        if (stdout_is_terminal())
                append_machine_name(t, &w->machines, id);
        else
                append_legend(t, &w->machines, id, false);
}

static void print_arrival(Wait *w, const Waited *u, const char *state) {
        _cleanup_text_ Text t = {};

        if (w->request->quiet || w->live)
                return;
        text_printf(&t, "Unit %s %s", u->name, state);
        if (u->machine && listing_machine(&w->machines, u->machine)) {
                text_append(&t, " on ");
                legend(w, u->machine, &t);
        }
        if (t.error >= 0)
                puts(t.chars);
        (void) fflush(stdout);
}

/* All lines once more, over the old ones. */
static void draw(Wait *w) {
        uint64_t now_ms = clock_monotonic_ms();
        size_t width = 0, place_width = 1;
        bool colours = output_has_colours();
        struct winsize window = {};

        if (!w->live)
                return;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) < 0 || window.ws_col == 0)
                window.ws_col = 80;
        for (size_t i = 0; i < w->n; i++) {
                width = MAX(width, strlen(w->units[i].name));
                if (w->units[i].machine) {
                        _cleanup_text_ Text place = {};

                        legend(w, w->units[i].machine, &place);
                        place_width = MAX(place_width, place.size);
                }
        }
        if (w->n_rows > 0)
                printf("\033[%zuA", w->n_rows);
        for (size_t i = 0; i < w->n; i++) {
                const Waited *u = &w->units[i];
                const char *colour = !colours ? "" : u->phase == PHASE_DONE ? output_state_colour("active")
                                                   : u->phase == PHASE_FAILED ? output_state_colour("failed") : "";
                uint64_t ms = (u->ended_ms ? u->ended_ms : now_ms) - w->started_ms;
                _cleanup_text_ Text place = {}, tail = {};
                size_t used;

                if (u->machine)
                        legend(w, u->machine, &place);
                if (u->phase == PHASE_FAILED && u->machine)
                        text_printf(&tail, "fleetctl journal %s", u->name);
                else if (u->phase != PHASE_DONE && !u->machine && u->reason && ms > QUIET_MS) {
                        text_append_printable(&tail, u->reason);
                        if (w->allowed_ms == 0)
                                text_append(&tail, "  (Ctrl-C leaves it wanted)");
                } else
                        text_printf(&tail, "%.2f s", ms / 1000.0);

                /* A line that wraps would move all others. */
                used = width + 2 + place_width + 2 + 12;
                if (tail.error >= 0 && window.ws_col > used && tail.size > window.ws_col - used) {
                        size_t keep = window.ws_col - used;

                        for (keep -= MIN(keep, (size_t) 1); keep > 0 && ((unsigned char) tail.chars[keep] & 0xc0) == 0x80;)
                                keep--;
                        tail.size = keep;
                        tail.chars[keep] = 0;
                        text_append(&tail, "…");
                }
                printf("\r%-*s  %-*s  %s%-10s%s  %s\033[K\n", (int) width, u->name,
                       (int) place_width + (place.size > 0 ? 0 : 2), place.size > 0 ? place.chars : "–", colour, u->word,
                       *colour ? COLOUR_OFF : "", tail.chars ? tail.chars : "");
        }
        w->n_rows = w->n;
        (void) fflush(stdout);
}

/* -- What is so -- */

static int keep(char **field, const char *value) {
        char *copy = NULL;

        if (value && *value) {
                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }
        free(*field);
        *field = copy;
        return 0;
}

static void set_word(Waited *u, const char *word) {
        snprintf(u->word, sizeof(u->word), "%s", word);
}

static void finish(Wait *w, Waited *u, WaitPhase phase) {
        u->phase = phase;
        u->ended_ms = clock_monotonic_ms();
        w->n_left--;
}

static void fail(Wait *w, Waited *u, int code, const char *sentence) {
        finish(w, u, PHASE_FAILED);
        if (w->result >= 0)
                w->result = error_set(w->err, code, "%s", sentence);
}

static void fail_active(Wait *w, Waited *u, const char *middle) {
        _cleanup_text_ Text t = {}, place = {};

        if (u->machine)
                append_legend(&place, &w->machines, u->machine, false);
        text_printf(&t, "Failed to find an active unit %s%s it is %s on %s", u->name, middle, u->state,
                    place.chars ? place.chars : "no machine");
        fail(w, u, -ENOEXEC, t.chars ? t.chars : u->name);
}

/* The machines are read when one is named that is not known yet. */
static void know_machine(Wait *w, const char *id) {
        Listing machines = {};

        if (!id || !*id || listing_machine(&w->machines, id))
                return;
        if (client_machines(w->client, &machines, NULL) >= 0) {
                listing_done(&w->machines);
                w->machines = machines;
        }
}

/* Load states that nothing but another text will change ("foreign": the host has a unit of that name from elsewhere). */
static bool cannot_load(const char *load) {
        static const char *const hopeless[] = { "bad-setting", "error", "masked", "foreign" };

        for (size_t i = 0; i < ELEMENTS(hopeless); i++)
                if (streq(load, hopeless[i]))
                        return true;
        return false;
}

/* The state of a unit on its machine; for WAIT_GONE and global units anywhere. */
static int look_at_systemd(Wait *w, Waited *u, Error *err) {
        _cleanup_listing_ Listing states = {};
        const ApiState *state = NULL;
        bool any_active = false;
        int r;

        r = client_states(w->client, u->name, &states, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < states.n; i++) {
                const ApiState *s = &states.states[i];

                if (!s->name || !streq(s->name, u->name))
                        continue;
                if (!u->machine || (s->machine_id && streq(s->machine_id, u->machine)) || w->request->goal == WAIT_GONE)
                        state = s;
                if (s->active && !streq(s->active, "inactive") && !streq(s->active, "failed"))
                        any_active = true;
        }
        if (state && state->active)
                snprintf(u->state, sizeof(u->state), "%.24s (%.24s)", state->active, state->sub ? state->sub : "");
        else
                snprintf(u->state, sizeof(u->state), "not reported");

        switch (w->request->goal) {
        case WAIT_GONE:
                set_word(u, state ? "stopping" : "destroyed");
                if (!state)
                        finish(w, u, PHASE_DONE);
                return 0;
        case WAIT_STOPPED:
                set_word(u, any_active ? "stopping" : target_state_to_string(w->request->target));
                if (!any_active) {
                        print_arrival(w, u, target_state_to_string(w->request->target));
                        finish(w, u, PHASE_DONE);
                }
                return 0;
        default:
                break;
        }

        /* How it ended last time is still reported until the machine has begun anew. It may also have ended in the same way
         * again, too fast to be reported as a change; so it is believed after a while. */
        if (!state || !state->active
            || (u->before_ms > 0 && state->since_ms <= u->before_ms && clock_monotonic_ms() - u->launched_ms < STALE_MS))
                return 0;
        if (streq(state->active, "active") || streq(state->active, "reloading")) {
                set_word(u, state->sub ? state->sub : state->active);
                if (u->active_ms == 0)
                        u->active_ms = clock_monotonic_ms();
                else if (clock_monotonic_ms() - u->active_ms >= SETTLE_MS)
                        finish(w, u, PHASE_DONE);
                return 0;
        }
        u->active_ms = 0;
        if (state->finished) {
                set_word(u, "finished");
                finish(w, u, PHASE_DONE);
        } else if (streq(state->active, "failed")) {
                set_word(u, "failed");
                fail_active(w, u, ":");
        } else if (state->load && streq(state->active, "inactive") && cannot_load(state->load)) {
                set_word(u, state->load);
                fail_active(w, u, ": systemd cannot load it,");
        } else
                set_word(u, streq(state->active, "inactive") ? "starting" : state->active);
        return 0;
}

/* What the cluster says of a unit; and once that is as wanted, what its machine says. The unit may lose its machine again
 * while it starts: then all begins anew on another one. */
static int look_at_unit(Wait *w, Waited *u, const ApiUnit *unit, Error *err) {
        bool moved = unit->machine_id && (!u->machine || !streq(u->machine, unit->machine_id));
        TargetState state = unit_is_global(unit) ? unit->desired_state : unit->current_state;

        know_machine(w, unit->machine_id);
        if (keep(&u->machine, unit->machine_id) < 0 || keep(&u->reason, unit->reason) < 0)
                return -ENOMEM;
        if (state == _TARGET_INVALID)
                state = TARGET_INACTIVE;
        if (state != w->request->target) {
                set_word(u, unit->machine_id && *unit->machine_id ? target_state_to_string(state)
                            : w->request->target == TARGET_INACTIVE ? "stopping" : "waiting");
                u->phase = PHASE_STATE;
                return 0;
        }
        if (u->phase == PHASE_SYSTEMD && !moved)
                return look_at_systemd(w, u, err);

        set_word(u, target_state_to_string(state));
        if (w->request->goal != WAIT_STOPPED)
                print_arrival(w, u, target_state_to_string(state));
        if (w->request->goal == WAIT_STATE) {
                finish(w, u, PHASE_DONE);
                return 0;
        }
        u->phase = PHASE_SYSTEMD;
        u->active_ms = 0;
        u->launched_ms = clock_monotonic_ms();
        if (w->allowed_ms > 0)
                u->deadline_ms = u->launched_ms + w->allowed_ms;
        return look_at_systemd(w, u, err);
}

/* An answer that is an error only means "not yet": a leader is being elected. So does no answer, for a while: a daemon
 * is being restarted. */
static int pass_over(Wait *w, int r, const Error *err) {
        uint64_t now_ms = clock_monotonic_ms();

        if (r >= 0 || r == -EREMOTEIO) {
                w->answered_ms = now_ms;
                return 0;
        }
        if ((r == -ETIMEDOUT || r == -ECONNRESET || r == -ECONNREFUSED) && now_ms - w->answered_ms < SILENCE_MS)
                return 0;
        *w->err = *err;
        return r;
}

static int look(Wait *w, Waited *u) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        Error err = {};
        int r;

        u->dirty = false;
        if (w->request->goal != WAIT_GONE) {
                r = client_unit(w->client, u->name, &unit, &err);
                if (r > 0)
                        r = look_at_unit(w, u, &unit, &err);
        } else
                r = look_at_systemd(w, u, &err);
        return pass_over(w, r, &err);
}

/* Many units: one list instead of many questions. */
static int look_at_all(Wait *w) {
        _cleanup_listing_ Listing units = {};
        Error err = {};
        int r;

        if (w->n_left <= 8 || w->request->goal == WAIT_GONE) {
                for (size_t i = 0; i < w->n; i++) {
                        r = w->units[i].phase < PHASE_DONE ? look(w, &w->units[i]) : 0;
                        if (r < 0)
                                return r;
                }
                return 0;
        }

        r = client_units(w->client, &units, &err);
        if (r < 0)
                return pass_over(w, r, &err);
        for (size_t i = 0; i < w->n; i++) {
                Waited *u = &w->units[i];

                u->dirty = false;
                r = 0;
                for (size_t k = 0; u->phase < PHASE_DONE && k < units.n; k++)
                        if (units.units[k].name && streq(units.units[k].name, u->name)) {
                                r = look_at_unit(w, u, &units.units[k], &err);
                                break;
                        }
                r = pass_over(w, r, &err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* {"index":N,"kind":"state","name":"web.service","machine":"ID"} */
static int on_event(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *name = NULL;
        Wait *w = userdata;

        if (json_value_parse(line, size, &root, NULL) < 0 || json_read_string(root, "name", &name, NULL) < 0 || !name)
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
                                fail_active(w, u, t.chars);
                        continue;
                }
                if (w->request->goal == WAIT_GONE || u->phase == PHASE_SYSTEMD)
                        text_printf(&t, "timed out waiting for unit %s to stop, it is %s", u->name, u->state);
                else
                        text_printf(&t, "timed out waiting for unit %s to report state %s", u->name,
                                    target_state_to_string(w->request->target));
                fail(w, u, -ETIMEDOUT, t.chars ? t.chars : u->name);
                if (!w->live && u->reason && !u->machine && u->phase == PHASE_FAILED)
                        fprintf(stderr, "fleetctl: %s: %s\n", u->name, u->reason);
        }
}

/* Waits for something to look at; the subscription is given up where there are no events to be had. */
static void rest(Wait *w, Stream **events, uint64_t *look_ms) {
        uint64_t now_ms = clock_monotonic_ms(), until_ms = *look_ms;

        for (size_t i = 0; i < w->n; i++)
                if (w->units[i].phase < PHASE_DONE) {
                        if (w->units[i].deadline_ms > 0)
                                until_ms = MIN(until_ms, w->units[i].deadline_ms);
                        if (w->units[i].active_ms > 0)
                                until_ms = MIN(until_ms, w->units[i].active_ms + SETTLE_MS);
                }
        if (w->live)
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

static int run(Wait *w) {
        _cleanup_stream_ Stream *events = NULL;
        uint64_t look_ms;
        int r;

        r = look_at_all(w);
        if (r < 0 || w->n_left == 0) {
                draw(w);
                return r < 0 ? r : w->result;
        }
        draw(w);

        /* Look again only when the subscription stands: what changes after that look is told. */
        r = stream_new(w->client->connection, "/fleet/v1/events", on_event, w, &events, w->err);
        if (r < 0)
                return r;
        r = stream_wait(events, w->client->options.request_timeout_ms ? w->client->options.request_timeout_ms : ATTEMPT_MS,
                        NULL);
        if (r <= 0)
                events = stream_free(events);

        r = look_at_all(w);
        look_ms = clock_monotonic_ms() + (events ? LOOK_MS : POLL_MS);
        while (r >= 0 && w->n_left > 0) {
                draw(w);
                check_deadlines(w);
                if (w->n_left == 0)
                        break;
                rest(w, &events, &look_ms);
                if (clock_monotonic_ms() >= look_ms) {
                        r = look_at_all(w);
                        look_ms = clock_monotonic_ms() + (events ? LOOK_MS : POLL_MS);
                }
                for (size_t i = 0; r >= 0 && i < w->n; i++) {
                        Waited *u = &w->units[i];
                        bool settled = u->active_ms > 0 && clock_monotonic_ms() - u->active_ms >= SETTLE_MS;

                        if ((u->dirty || settled) && u->phase < PHASE_DONE)
                                r = look(w, u);
                }
        }
        draw(w);
        return r < 0 ? r : w->result;
}

int wait_for(Client *c, const WaitRequest *request, Error *err) {
        Wait w = { .client = c, .request = request, .n = request->names->n, .n_left = request->names->n, .err = err,
                   .started_ms = clock_monotonic_ms(), .answered_ms = clock_monotonic_ms(),
                   .allowed_ms = c->options.block_attempts * ATTEMPT_MS };
        struct winsize window = {};
        int r;

        if (w.n == 0)
                return 0;
        w.units = NEW0(Waited, w.n);
        if (!w.units)
                return -ENOMEM;
        for (size_t i = 0; i < w.n; i++) {
                w.units[i] = (Waited) { .name = request->names->items[i], .word = "waiting",
                                        .before_ms = request->before_ms ? request->before_ms[i] : 0,
                                        .deadline_ms = w.allowed_ms > 0 ? w.started_ms + w.allowed_ms : 0 };
                snprintf(w.units[i].state, sizeof(w.units[i].state), "not reported");
        }
        w.live = stdout_is_terminal() && !request->quiet && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) >= 0
                 && (window.ws_row == 0 || w.n + 2 < window.ws_row);

        r = run(&w);
        wait_done(&w);
        return r;
}
