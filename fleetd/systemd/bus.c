/* The connection to systemd, its return after loss, and the signals. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "fleetd/systemd/bus_internal.h"
#include "units/name.h"
#include "units/quadlet.h"

enum {
        RECONNECT_MIN_MS = 100,
        RECONNECT_MAX_MS = 5000,
        STOPPING_WAIT_MS = 300,

        /* Signals that nobody waits for, beyond 500 a second: they are read every 20 ms, or each would wake
           the daemon. */
        SIGNAL_GAP_MS = 2,
        SIGNALS_IN_ROW = 100,
        BATCH_MS = 20,

        TRANSACTION_US = 250000, /* the jobs of one transaction come without such a pause between them */
};

static void bus_set_ready(SystemdBus *b, bool ready) {
        if (b->ready == ready)
                return;
        b->ready = ready;
        if (b->events.on_ready)
                b->events.on_ready(b->events.userdata, ready);
}

/* -- The connection -- */

/* What has come was read; more is read when the batch is due. 0: at once. */
static uint64_t bus_batch_due_ms(const SystemdBus *b) {
        bool awaited = !TAILQ_EMPTY(&b->calls) || !TAILQ_EMPTY(&b->lists) || b->state_requested || !b->ready;

        return awaited ? 0 : b->batch_ms;
}

static void bus_count_signal(SystemdBus *b) {
        uint64_t now_ms = clock_monotonic_ms();

        b->counts.signals++;
        b->spent_ms = MIN(MAX(b->spent_ms, now_ms) + SIGNAL_GAP_MS, now_ms + SIGNALS_IN_ROW * SIGNAL_GAP_MS);
}

static int bus_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        SystemdBus *b = lib;
        uint64_t deadline_us, now_ms = clock_monotonic_ms(), batch_ms = bus_batch_due_ms(b);
        int e, r;

        *fd = sd_bus_get_fd(b->bus);
        e = sd_bus_get_events(b->bus);
        if (*fd < 0 || e < 0)
                return -ENOTCONN;
        *events = e;
        r = sd_bus_get_timeout(b->bus, &deadline_us);
        if (r < 0)
                return r;
        *timeout_ms = deadline_us == UINT64_MAX   ? UINT64_MAX :
                      deadline_us / 1000 < now_ms ? 0 :
                                                    deadline_us / 1000 + 1 - now_ms;
        if (batch_ms > now_ms) {
                *events &= ~POLLIN;
                *timeout_ms = MIN(*timeout_ms, batch_ms - now_ms);
        }
        return 0;
}

static int bus_work(void *lib) {
        SystemdBus *b = lib;
        uint64_t now_ms = clock_monotonic_ms(), signals = b->counts.signals;
        int r;

        if (bus_batch_due_ms(b) > now_ms)
                return 0;
        r = sd_bus_process(b->bus, NULL);
        if (b->counts.signals > signals)
                b->in_batch = true;
        if (r > 0 || !b->in_batch)
                return r;
        b->in_batch = false;
        b->counts.batches++;
        b->batch_ms = b->spent_ms > now_ms + (SIGNALS_IN_ROW - 1) * SIGNAL_GAP_MS ? now_ms + BATCH_MS : 0;
        return r;
}

static void bus_connect(void *userdata);
static void bus_request_state(SystemdBus *b);

/* Everything that was under way is unknown now: the agent looks again once we are back. */
static void bus_lost(SystemdBus *b, int error) {
        BusCall *call, *next_call;
        sd_bus *bus = b->bus;

        if (!b->said_lost && !b->closing)
                log_warning(((LogFields) { .error = error }),
                            "the connection to systemd is lost (%s); trying again", strerror(-error));
        b->said_lost = true;
        b->reloading = b->state_requested = b->state_changed = false;
        b->guest = guest_close(b->guest);
        b->bus = NULL;
        for (call = TAILQ_FIRST(&b->calls); call; call = next_call) {
                next_call = TAILQ_NEXT(call, calls);
                if (call->slot || call->job[0]) {
                        call->job[0] = 0;
                        job_call_fail(call, -ECONNRESET, "the connection to systemd was lost");
                }
        }
        for (RuntimeDirEntry *e = b->dir.entries; e; e = e->hh.next)
                systemd_trace_lost(&e->trace);
        for (BusList *list = TAILQ_FIRST(&b->lists); list; list = TAILQ_NEXT(list, lists))
                if (list->pending > 0)
                        manager_list_abort(list, -ECONNRESET);
        sd_bus_close(bus);
        sd_bus_unref(bus);
        bus_set_ready(b, false);
        if (b->closing)
                return;
        b->backoff_ms = MIN(MAX(b->backoff_ms * 2, (uint64_t) RECONNECT_MIN_MS), (uint64_t) RECONNECT_MAX_MS);
        (void) timer_start(&b->reconnect, b->loop, b->backoff_ms);
}

static void bus_broken(void *lib, int error) {
        bus_lost(lib, error);
}

static const GuestOps bus_guest = {
        .name = "bus", .wants = bus_wants, .work = bus_work, .broken = bus_broken
};

static int bus_on_reloading(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        int active;

        if (sd_bus_message_read(m, "b", &active) < 0)
                return 0;
        b->reloading = active;
        bus_set_ready(b, !active);
        return 0;
}

typedef struct Sources {
        SystemdBus *bus;
        void (*each)(SystemdBus *b, const char *unit, const void *what);
        const void *what;
} Sources;

static void bus_on_source(void *userdata, const char *name) {
        Sources *s = userdata;
        RuntimeDirEntry *e;

        HASH_FIND_STR(s->bus->dir.entries, name, e);
        if (e)
                s->each(s->bus, name, s->what);
}

void bus_each_unit(SystemdBus *b, const char *known_as,
                   void (*each)(SystemdBus *b, const char *unit, const void *what), const void *what) {
        Sources s = { .bus = b, .each = each, .what = what };

        bus_count_signal(b);
        if (streq(known_as, "shutdown.target"))
                bus_request_state(b);
        each(b, known_as, what);
        quadlet_each_source(known_as, bus_on_source, &s);
}

/* What a signal says, beside that a unit changed. */
typedef struct BusHint {
        const SystemdChange *change; /* NULL: nothing of these */
        bool is_job, with_target;
        int exit_code;      /* ExecMainCode; 0: nothing of it */
        const char *result; /* of a service; NULL: nothing of it */
} BusHint;

static void bus_tell_changed(SystemdBus *b, const char *unit, const void *what) {
        const BusHint *hint = what;
        RuntimeDirEntry *e;

        HASH_FIND_STR(b->dir.entries, unit, e);
        if (e && hint->change)
                systemd_trace_change(&e->trace, hint->change);
        if (e && hint->is_job)
                systemd_trace_job(&e->trace, hint->with_target);
        if (e && hint->exit_code != 0)
                e->trace.killed = hint->exit_code != CLD_EXITED;
        if (e && hint->result)
                e->trace.skipped = streq(hint->result, "exec-condition");
        if (b->events.on_changed)
                b->events.on_changed(b->events.userdata, unit);
}

static uint64_t bus_now_us(void) {
        return clock_monotonic_ms() * 1000;
}

static int bus_on_job_new(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        uint64_t now_us = bus_now_us();
        const char *job, *unit;
        uint32_t id;

        if (sd_bus_message_read(m, "uos", &id, &job, &unit) < 0)
                return 0;
        if (now_us - b->target_us > TRANSACTION_US)
                b->target_job = 0;
        if (streq(unit_name_type(unit), "target"))
                b->target_job = id;
        b->target_us = now_us;
        systemd_moves_add(&b->moves, unit, now_us);
        bus_each_unit(b, unit, bus_tell_changed,
                      &(BusHint) { .is_job = true, .with_target = b->target_job != 0 && id > b->target_job });
        return 0;
}

/* One entry of a{sv} that is wanted; others are skipped. */
static int bus_read_change(sd_bus_message *m, const char *name, SystemdChange *c, BusHint *hint) {
        const struct {
                const char *name, *type;
                void *to;
        } wanted[] = {
                { "ActiveState", "s", &c->active },
                { "ConditionTimestampMonotonic", "t", &c->checked_us },
                { "ActiveExitTimestampMonotonic", "t", &c->left_us },
                { "InactiveEnterTimestampMonotonic", "t", &c->ended_us },
                { "ExecMainCode", "i", &hint->exit_code },
                { "Result", "s", &hint->result },
        };
        const char *path;
        int condition, r;

        if (streq(name, "Job"))
                return sd_bus_message_read(m, "v", "(uo)", &c->job, &path);
        if (streq(name, "ConditionResult")) {
                r = sd_bus_message_read(m, "v", "b", &condition);
                c->condition = r >= 0 && condition;
                return r;
        }
        for (size_t i = 0; i < ELEMENTS(wanted); i++)
                if (streq(name, wanted[i].name))
                        return sd_bus_message_read(m, "v", wanted[i].type, wanted[i].to);
        return sd_bus_message_skip(m, "v");
}

/* Of the properties of a unit and of a service; a signal about others says only that something changed. */
static void bus_read_hint(SystemdBus *b, sd_bus_message *m, const char *unit, SystemdChange *change,
                          BusHint *ret) {
        const char *interface, *name;
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0 || (!streq(interface, SYSTEMD ".Unit") && !streq(interface, SYSTEMD ".Service")))
                return;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = bus_read_change(m, name, change, ret);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r < 0 || !change->active)
                return;
        ret->change = change;
        if (!streq(change->active, "active") && !streq(change->active, "reloading") && change->left_us != 0)
                systemd_moves_add(&b->moves, unit, change->left_us);
}

static int bus_on_properties(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        _cleanup_free_ char *name = NULL;
        SystemdChange change = {};
        BusHint hint = {};

        if (sd_bus_path_decode(sd_bus_message_get_path(m), SYSTEMD_PATH "/unit", &name) <= 0)
                return 0;
        bus_read_hint(b, m, name, &change, &hint);
        bus_each_unit(b, name, bus_tell_changed, &hint);
        return 0;
}

/* A host that does not stop after all (a cancelled reboot) starts what it did not start meanwhile. */
static void bus_set_stopping(SystemdBus *b, bool stopping) {
        bool resumes = b->stopping && !stopping;

        b->stopping = stopping;
        if (resumes && b->events.on_changed)
                b->events.on_changed(b->events.userdata, NULL);
}

/* A connection on which this cannot be read is no better than none: it is closed, and tried again. */
static int bus_on_state(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        const char *state;
        int r = e ? -sd_bus_error_get_errno(e) : sd_bus_message_read(reply, "v", "s", &state);

        if (e || r < 0) {
                bus_lost(b, r < 0 ? r : -EIO);
                return 0;
        }
        b->state_requested = false;
        bus_set_stopping(b, streq(state, "stopping"));
        if (b->state_changed) {
                b->state_changed = false;
                bus_request_state(b);
                return 0;
        }
        if (b->stopping_done) {
                void (*done)(void *userdata, bool stopping) = b->stopping_done;

                b->stopping_done = NULL;
                timer_stop(&b->stopping_wait);
                done(b->stopping_userdata, b->stopping);
                return 0;
        }
        if (b->said_lost)
                log_info(NO_FIELDS, "connected to systemd again");
        b->said_lost = false;
        b->backoff_ms = 0;
        bus_set_ready(b, !b->reloading);
        return 0;
}

/* One request at a time: an answer that is on its way may be older than this request, so another follows it.
 */
static void bus_request_state(SystemdBus *b) {
        int r;

        if (b->state_requested) {
                b->state_changed = true;
                return;
        }
        b->state_requested = true;
        r = sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH, PROPERTIES, "Get", bus_on_state, b,
                                     "ss", MANAGER, "SystemState");
        if (r < 0)
                bus_lost(b, r);
}

/* Only systemd 254 and later count them. */
static int bus_on_soft_reboots(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        uint32_t n = 0;

        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) sd_bus_message_read(reply, "v", "u", &n);
        ((SystemdBus *) userdata)->soft_reboots = n;
        return 0;
}

static uint64_t read_time(sd_bus_message *reply) {
        uint64_t us = 0;

        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) sd_bus_message_read(reply, "v", "t", &us);
        return us;
}

/* multi-user.target is left as soon as rescue.target or the like is isolated; systemd may forget that while
 * it is away for long. */
static int bus_on_left(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        ((SystemdBus *) userdata)->left_us = read_time(reply);
        return 0;
}

/* basic.target is reached anew after a soft reboot, and after a stay in rescue.target that was not too short.
 */
static int bus_on_basic(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        uint64_t reached_us = read_time(reply);

        if (reached_us != 0)
                snprintf(b->era, sizeof(b->era), "%llu.%llu.%llu", (unsigned long long) b->soft_reboots,
                         (unsigned long long) reached_us, (unsigned long long) b->left_us);
        return 0;
}

/* Answers come in order: the era is known before the state, and so before anything is planned. */
static int bus_on_subscribed(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;

        (void) sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH, PROPERTIES, "Get",
                                        bus_on_soft_reboots, b, "ss", MANAGER, "SoftRebootsCount");
        (void) sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH "/unit/multi_2duser_2etarget",
                                        PROPERTIES, "Get", bus_on_left, b, "ss", SYSTEMD ".Unit",
                                        "ActiveExitTimestampMonotonic");
        (void) sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH "/unit/basic_2etarget",
                                        PROPERTIES, "Get", bus_on_basic, b, "ss", SYSTEMD ".Unit",
                                        "ActiveEnterTimestampMonotonic");
        bus_request_state(b); /* a private bus is subscribed anyway: an error here is none */
        return 0;
}

static int bus_open(SystemdBus *b) {
        /* Not UnitRemoved: a unit that does not run is forgotten as soon as it has been looked at, and says
         * so each time; whoever looks again at that never comes to an end. What it was before it went,
         * PropertiesChanged has told. */
        static const struct {
                const char *interface, *member;
                sd_bus_message_handler_t handler;
        } matches[] = {
                { MANAGER, "JobRemoved", job_on_removed },
                { MANAGER, "JobNew", bus_on_job_new },
                { MANAGER, "Reloading", bus_on_reloading },
                { PROPERTIES, "PropertiesChanged", bus_on_properties },
        };
        int r;

        r = sd_bus_new(&b->bus);
        if (r >= 0)
                r = sd_bus_set_address(b->bus, b->address ?: "unix:path=/run/systemd/private");
        if (r >= 0)
                r = sd_bus_start(b->bus);
        for (size_t i = 0; r >= 0 && i < ELEMENTS(matches); i++)
                r = sd_bus_match_signal_async(b->bus, NULL, NULL, NULL, matches[i].interface,
                                              matches[i].member, matches[i].handler, NULL, b);
        if (r >= 0)
                r = sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH, MANAGER, "Subscribe",
                                             bus_on_subscribed, b, NULL);
        if (r >= 0)
                r = guest_open(&b->guest, loop_uv(b->loop), &bus_guest, b);
        return r;
}

static void bus_connect(void *userdata) {
        SystemdBus *b = userdata;
        int r;

        r = bus_open(b);
        if (r >= 0)
                return;
        if (!b->bus) {
                (void) timer_start(&b->reconnect, b->loop, RECONNECT_MAX_MS);
                return;
        }
        bus_lost(b, r);
}

/* -- The interface -- */

/* With one file all others are written again, before systemd reads the folder: they are looked at first. */
static int bus_check_folder(SystemdBus *b) {
        int r = runtime_dir_check(&b->dir);

        if (r <= 0 || HASH_COUNT(b->dir.entries) == 0)
                return MIN(r, 0);
        if (b->events.on_changed)
                b->events.on_changed(b->events.userdata, NULL);
        return -ESTALE;
}

static int bus_stage_file(Systemd *s, const char *name, const char *text, size_t size) {
        SystemdBus *b = systemd_bus(s);
        int r = bus_check_folder(b);

        return r < 0 ? r : runtime_dir_stage(&b->dir, name, text, size);
}

static int bus_write_file(Systemd *s, const char *name, const char *text, size_t size) {
        SystemdBus *b = systemd_bus(s);
        int r = bus_check_folder(b);

        if (r == 0)
                r = runtime_dir_write(&b->dir, name, text, size);
        return r == 0 && quadlet_is(name) ? runtime_dir_offer(&b->dir, name) : r;
}

static int bus_remove_file(Systemd *s, const char *name) {
        RuntimeDir *dir = &systemd_bus(s)->dir;

        if (quadlet_is(name))
                runtime_dir_withdraw(dir, name);
        return runtime_dir_remove(dir, name);
}

static void bus_set_events(Systemd *s, const SystemdEvents *events) {
        systemd_bus(s)->events = events ? *events : (SystemdEvents) {};
}

static bool bus_is_ready(Systemd *s) {
        return systemd_bus(s)->ready;
}

static const char *bus_era(Systemd *s) {
        return systemd_bus(s)->era;
}

static bool bus_is_stopping(Systemd *s) {
        return systemd_bus(s)->stopping;
}

/* As systemd looks for it (systemd.generator(7)): of several folders the first that has a file of that name;
 * one that leads to /dev/null takes it away. */
static bool bus_has_quadlet(Systemd *s) {
        char path[512];

        for (const char *const *folder = systemd_bus(s)->generators; *folder; folder++) {
                snprintf(path, sizeof(path), "%s/podman-system-generator", *folder);
                if (access(path, X_OK) == 0)
                        return true;
                if (access(path, F_OK) == 0)
                        return false;
        }
        return false;
}

static const SystemdOps bus_ops = {
        .has_quadlet = bus_has_quadlet,
        .era = bus_era,
        .set_events = bus_set_events,
        .is_ready = bus_is_ready,
        .is_stopping = bus_is_stopping,
        .list = manager_list,
        .stage_file = bus_stage_file,
        .write_file = bus_write_file,
        .remove_file = bus_remove_file,
        .link = job_link,
        .unlink = job_unlink,
        .reload = job_reload,
        .start = job_start,
        .stop = job_stop,
        .reset_failed = job_reset_failed,
};

static void bus_on_stopping_wait(void *userdata) {
        SystemdBus *b = userdata;
        void (*done)(void *userdata, bool stopping) = b->stopping_done;

        b->stopping_done = NULL;
        done(b->stopping_userdata, b->stopping);
}

void systemd_bus_read_stopping(Systemd *s, void (*done)(void *userdata, bool stopping), void *userdata) {
        SystemdBus *b = systemd_bus(s);

        b->stopping_done = done;
        b->stopping_userdata = userdata;
        (void) timer_start(&b->stopping_wait, b->loop, b->bus && !b->stopping ? STOPPING_WAIT_MS : 0);
        if (b->bus)
                bus_request_state(b);
}

const SystemdBusCounts *systemd_bus_counts(Systemd *s) {
        return &systemd_bus(s)->counts;
}

int systemd_bus_new(Systemd **ret, Loop *loop, const SystemdBusOptions *options, Error *err) {
        static const char *const generators[] = {
                "/run/systemd/system-generators",           "/etc/systemd/system-generators",
                "/usr/local/lib/systemd/system-generators", "/usr/lib/systemd/system-generators",
                "/lib/systemd/system-generators",           NULL
        };
        SystemdBus *b = NEW0(SystemdBus, 1);
        int r;

        if (!b)
                return -ENOMEM;
        *b = (SystemdBus) {
                .base = { .ops = &bus_ops },
                .loop = loop,
                .dir = { .fd = -1 },
                .generators = options->generators ?: generators,
                .reconnect = TIMER(bus_connect, b),
                .stopping_wait = TIMER(bus_on_stopping_wait, b),
        };
        TAILQ_INIT(&b->calls);
        TAILQ_INIT(&b->lists);
        r = runtime_dir_open(&b->dir, options->directory, options->quadlets ?: "/run/containers/systemd",
                             options->links ?: "/run/systemd/system", err);
        if (r == 0 && options->address && !(b->address = strdup(options->address)))
                r = -ENOMEM;
        if (r == 0)
                r = timer_start(&b->reconnect, loop, 0);
        if (r < 0) {
                systemd_bus_free(&b->base);
                return r;
        }
        *ret = &b->base;
        return 0;
}

/* Answers all that is under way at once: those who asked count on it to end. */
Systemd *systemd_bus_free(Systemd *s) {
        SystemdBus *b = s ? systemd_bus(s) : NULL;

        if (!b)
                return NULL;

        b->closing = true;
        b->events = (SystemdEvents) {};
        timer_stop(&b->reconnect);
        timer_stop(&b->stopping_wait);
        if (b->bus)
                bus_lost(b, -ECANCELED);
        while (!TAILQ_EMPTY(&b->lists)) { /* first: a call may wait for one */
                BusList *list = TAILQ_FIRST(&b->lists);

                manager_list_abort(list, -ECANCELED);
                deferred_cancel(&list->finish);
                manager_list_finish(list);
        }
        while (!TAILQ_EMPTY(&b->calls))
                job_call_finish(TAILQ_FIRST(&b->calls));
        runtime_dir_close(&b->dir);
        systemd_moves_clear(&b->moves);
        free(b->address);
        free(b);
        return NULL;
}
