/* The connection to systemd, its return after loss, and the signals. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "fleetd/systemd/bus_internal.h"
#include "units/quadlet.h"

enum { RECONNECT_MIN_MS = 100, RECONNECT_MAX_MS = 5000, STOPPING_WAIT_MS = 300 };

static void bus_set_ready(SystemdBus *b, bool ready) {
        if (b->ready == ready)
                return;
        b->ready = ready;
        if (b->events.on_ready)
                b->events.on_ready(b->events.userdata, ready);
}

/* -- The connection -- */

static int bus_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        SystemdBus *b = lib;
        uint64_t deadline_us, now_ms = clock_monotonic_ms();
        int e, r;

        *fd = sd_bus_get_fd(b->bus);
        e = sd_bus_get_events(b->bus);
        if (*fd < 0 || e < 0)
                return -ENOTCONN;
        *events = e;
        r = sd_bus_get_timeout(b->bus, &deadline_us);
        if (r < 0)
                return r;
        *timeout_ms = deadline_us == UINT64_MAX ? UINT64_MAX : deadline_us / 1000 < now_ms ? 0 : deadline_us / 1000 + 1 - now_ms;
        return 0;
}

static int bus_work(void *lib) {
        SystemdBus *b = lib;

        return sd_bus_process(b->bus, NULL);
}

static void bus_connect(void *userdata);

/* Everything that was under way is unknown now: the agent looks again once we are back. */
static void bus_lost(SystemdBus *b, int error) {
        BusCall *call, *next_call;
        sd_bus *bus = b->bus;

        if (!b->said_lost && !b->closing)
                log_warning(((LogFields) { .error = error }), "the connection to systemd is lost (%s); trying again", strerror(-error));
        b->said_lost = true;
        b->reloading = false;
        b->guest = guest_close(b->guest);
        b->bus = NULL;
        for (call = TAILQ_FIRST(&b->calls); call; call = next_call) {
                next_call = TAILQ_NEXT(call, calls);
                if (call->slot || call->job[0]) {
                        call->job[0] = 0;
                        job_call_fail(call, -ECONNRESET, "the connection to systemd was lost");
                }
        }
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

static const GuestOps bus_guest = { .wants = bus_wants, .work = bus_work, .broken = bus_broken };

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
        UnitDirEntry *e;

        HASH_FIND_STR(s->bus->dir.entries, name, e);
        if (e)
                s->each(s->bus, name, s->what);
}

void bus_each_unit(SystemdBus *b, const char *known_as, void (*each)(SystemdBus *b, const char *unit, const void *what), const void *what) {
        Sources s = { .bus = b, .each = each, .what = what };

        each(b, known_as, what);
        quadlet_each_source(known_as, bus_on_source, &s);
}

static void bus_tell_changed(SystemdBus *b, const char *unit, const void *unused) {
        if (b->events.on_changed)
                b->events.on_changed(b->events.userdata, unit);
}

static int bus_on_job_new(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *job, *unit;
        uint32_t id;

        if (sd_bus_message_read(m, "uos", &id, &job, &unit) < 0)
                return 0;
        if (streq(unit, "shutdown.target"))
                b->stopping = true;
        bus_each_unit(b, unit, bus_tell_changed, NULL);
        return 0;
}

static int bus_on_properties(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        _cleanup_free_ char *name = NULL;

        if (sd_bus_path_decode(sd_bus_message_get_path(m), SYSTEMD_PATH "/unit", &name) > 0)
                bus_each_unit(b, name, bus_tell_changed, NULL);
        return 0;
}

static int bus_on_state(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *state;

        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "v", "s", &state) < 0)
                return 0;
        b->stopping |= streq(state, "stopping");
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

static int bus_ask_state(SystemdBus *b) {
        return sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH, PROPERTIES, "Get", bus_on_state, b, "ss", MANAGER, "SystemState");
}

static int bus_on_subscribed(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        (void) bus_ask_state(userdata); /* a private bus is subscribed anyway: an error here is none */
        return 0;
}

static int bus_open(SystemdBus *b) {
        /* Not UnitRemoved: a unit that does not run is forgotten as soon as it has been looked at, and says so each time;
         * whoever looks again at that never comes to an end. What it was before it went, PropertiesChanged has told. */
        static const struct {
                const char *interface, *member;
                sd_bus_message_handler_t handler;
        } matches[] = {
                { MANAGER, "JobRemoved", job_on_removed },    { MANAGER, "JobNew", bus_on_job_new },
                { MANAGER, "Reloading", bus_on_reloading },       { PROPERTIES, "PropertiesChanged", bus_on_properties },
        };
        int r;

        r = sd_bus_new(&b->bus);
        if (r >= 0)
                r = sd_bus_set_address(b->bus, b->address ?: "unix:path=/run/systemd/private");
        if (r >= 0)
                r = sd_bus_start(b->bus);
        for (size_t i = 0; r >= 0 && i < ELEMENTS(matches); i++)
                r = sd_bus_match_signal_async(b->bus, NULL, NULL, NULL, matches[i].interface, matches[i].member, matches[i].handler, NULL, b);
        if (r >= 0)
                r = sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH, MANAGER, "Subscribe", bus_on_subscribed, b, NULL);
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

static int bus_write_file(Systemd *s, const char *name, const char *text, size_t size) {
        UnitDir *dir = &systemd_bus(s)->dir;
        int r = unit_dir_write(dir, name, text, size);

        return r == 0 && quadlet_is(name) ? unit_dir_offer(dir, name) : r;
}

static int bus_remove_file(Systemd *s, const char *name) {
        UnitDir *dir = &systemd_bus(s)->dir;

        if (quadlet_is(name))
                unit_dir_withdraw(dir, name);
        return unit_dir_remove(dir, name);
}

static void bus_set_events(Systemd *s, const SystemdEvents *events) {
        systemd_bus(s)->events = events ? *events : (SystemdEvents) {};
}

static bool bus_is_ready(Systemd *s) {
        return systemd_bus(s)->ready;
}

static bool bus_is_stopping(Systemd *s) {
        return systemd_bus(s)->stopping;
}

/* As systemd looks for it (systemd.generator(7)): of several folders the first that has a file of that name; one that leads to
 * /dev/null takes it away. */
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
        .set_events = bus_set_events, .is_ready = bus_is_ready,       .is_stopping = bus_is_stopping, .list = manager_list,
        .write_file = bus_write_file, .remove_file = bus_remove_file, .link = job_link,               .unlink = job_unlink,
        .reload = job_reload,         .start = job_start,             .stop = job_stop,               .reset_failed = job_reset_failed,
};

static void bus_on_stopping_wait(void *userdata) {
        SystemdBus *b = userdata;
        void (*done)(void *userdata, bool stopping) = b->stopping_done;

        b->stopping_done = NULL;
        done(b->stopping_userdata, b->stopping);
}

void systemd_bus_ask_stopping(Systemd *s, void (*done)(void *userdata, bool stopping), void *userdata) {
        SystemdBus *b = systemd_bus(s);

        b->stopping_done = done;
        b->stopping_userdata = userdata;
        (void) timer_start(&b->stopping_wait, b->loop, b->bus && !b->stopping ? STOPPING_WAIT_MS : 0);
        if (b->bus)
                (void) bus_ask_state(b);
}

int systemd_bus_new(Systemd **ret, Loop *loop, const SystemdBusOptions *options, Error *err) {
        static const char *const generators[] = { "/run/systemd/system-generators", "/etc/systemd/system-generators", "/usr/local/lib/systemd/system-generators",
                                                  "/usr/lib/systemd/system-generators", "/lib/systemd/system-generators", NULL };
        SystemdBus *b = NEW0(SystemdBus, 1);
        int r;

        if (!b)
                return -ENOMEM;
        *b = (SystemdBus) {
                .base = { .ops = &bus_ops }, .loop = loop, .dir = { .fd = -1 }, .generators = options->generators ?: generators,
                .reconnect = { .fire = bus_connect, .userdata = b },
                .stopping_wait = { .fire = bus_on_stopping_wait, .userdata = b },
        };
        TAILQ_INIT(&b->calls);
        TAILQ_INIT(&b->lists);
        r = unit_dir_open(&b->dir, options->directory, options->quadlets ?: "/run/containers/systemd", err);
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
        while (!TAILQ_EMPTY(&b->calls))
                job_call_finish(TAILQ_FIRST(&b->calls));
        while (!TAILQ_EMPTY(&b->lists)) {
                BusList *list = TAILQ_FIRST(&b->lists);

                manager_list_abort(list, -ECANCELED);
                deferred_cancel(&list->finish);
                manager_list_finish(list);
        }
        unit_dir_close(&b->dir);
        free(b->address);
        free(b);
        return NULL;
}
