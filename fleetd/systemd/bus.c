/* The connection to systemd: opening, loss, reconnection, readiness and era. */
#include <poll.h>
#include <signal.h>

#include "base/log.h"
#include "fleetd/systemd/bus_internal.h"
#include "fleetd/systemd/bus_poll.h"
#include "fleetd/systemd/guard.h"
#include "fleetd/systemd/transient.h"
#include "units/quadlet.h"

enum {
        BUS_RECONNECT_MIN_MS = 100,
        BUS_RECONNECT_MAX_MS = 5000,
        STOPPING_WAIT_MS = 300,

        /* Above 500 signals a second, signals are read each 20 ms unless a reply is awaited: each read wakes
         * the daemon. */
        SIGNAL_GAP_MS = 2,
        SIGNALS_IN_ROW = 100,
        BATCH_MS = 20,
};

void bus_set_ready(SystemdBus *b, bool ready) {
        if (b->ready == ready)
                return;
        b->ready = ready;
        if (b->events.on_ready)
                b->events.on_ready(b->events.userdata, ready);
}

/* -- The connection -- */

/* Return the time of the next read; 0: at once. */
static uint64_t bus_batch_due_ms(const SystemdBus *b) {
        bool awaited = !TAILQ_EMPTY(&b->calls) || !TAILQ_EMPTY(&b->lists) || b->state_requested || !b->ready;

        return awaited ? 0 : b->batch_ms;
}

void bus_count_signal(SystemdBus *b) {
        uint64_t now_ms = clock_monotonic_ms();

        b->n_signals++;
        b->spent_ms = MIN(MAX(b->spent_ms, now_ms) + SIGNAL_GAP_MS, now_ms + SIGNALS_IN_ROW * SIGNAL_GAP_MS);
}

static int bus_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        SystemdBus *b = lib;
        uint64_t now_ms = clock_monotonic_ms(), batch_ms = bus_batch_due_ms(b);

        TRY(bus_poll(b->bus, now_ms, fd, events, timeout_ms));
        if (batch_ms > now_ms) {
                *events &= ~POLLIN;
                *timeout_ms = MIN(*timeout_ms, batch_ms - now_ms);
        }
        return 0;
}

static int bus_work(void *lib) {
        SystemdBus *b = lib;
        uint64_t now_ms = clock_monotonic_ms(), signals = b->n_signals;
        int r;

        if (bus_batch_due_ms(b) > now_ms)
                return 0;
        r = sd_bus_process(b->bus, NULL);
        if (b->n_signals > signals)
                b->in_batch = true;
        if (r > 0 || !b->in_batch)
                return r;
        b->in_batch = false;
        b->n_batches++;
        b->batch_ms = b->spent_ms > now_ms + (SIGNALS_IN_ROW - 1) * SIGNAL_GAP_MS ? now_ms + BATCH_MS : 0;
        return r;
}

/* The results of all calls under way are unknown. The agent reads all units again after the reconnection. */
static void bus_lost(void *lib, int error) {
        SystemdBus *b = lib;
        BusCall *call;
        BusList *list;
        sd_bus *bus = b->bus;

        if (!b->lost_logged && !b->closing)
                log_warning(((LogFields) { .error = error }),
                            "Lost the connection to systemd: %s; reconnecting", strerror(-error));
        b->lost_logged = true;
        b->reloading = b->has_check_slice = b->state_requested = b->state_changed = false;
        b->guest = guest_close(b->guest);
        b->bus = NULL;
        TAILQ_FOREACH(call, &b->calls, calls) {
                if (call->slot || call->job[0]) {
                        call->job[0] = 0;
                        job_call_fail(call, -ECONNRESET, "lost the connection to systemd");
                }
        }
        for (Named *e = b->dir.entries; e; e = e->hh.next)
                ((RuntimeDirEntry *) e)->trace.running = false;
        TAILQ_FOREACH(list, &b->lists, lists)
                if (list->pending > 0)
                        manager_list_abort(list, -ECONNRESET);
        sd_bus_close(bus);
        sd_bus_unref(bus);
        bus_set_ready(b, false);
        if (b->closing)
                return;
        b->backoff_ms = MIN(MAX(b->backoff_ms * 2, (uint64_t) BUS_RECONNECT_MIN_MS),
                            (uint64_t) BUS_RECONNECT_MAX_MS);
        (void) timer_start(&b->reconnect, b->loop, b->backoff_ms);
}

static const GuestOps bus_guest = { .name = "bus", .wants = bus_wants, .work = bus_work, .broken = bus_lost };

static void bus_on_stopping_wait(void *userdata) {
        SystemdBus *b = userdata;
        void (*done)(void *userdata, bool stopping) = b->stopping_done;

        b->stopping_done = NULL;
        done(b->stopping_userdata, b->stopping);
}

/* Without SystemState the connection is useless: close it and connect again. */
static int bus_on_state(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        const char *state;
        bool resumes;
        int r = e ? -sd_bus_error_get_errno(e) : sd_bus_message_read(reply, "v", "s", &state);

        if (e || r < 0) {
                bus_lost(b, r < 0 ? r : -EIO);
                return 0;
        }
        b->state_requested = false;
        resumes = b->stopping && !streq(state, "stopping");
        b->stopping = streq(state, "stopping");
        if (resumes && b->events.on_changed) /* the agent makes the starts that it delayed */
                b->events.on_changed(b->events.userdata, NULL);
        if (b->state_changed) {
                b->state_changed = false;
                bus_request_state(b);
                return 0;
        }
        if (b->stopping_done) {
                timer_stop(&b->stopping_wait);
                bus_on_stopping_wait(b);
                return 0;
        }
        if (b->lost_logged)
                log_info(NO_FIELDS, "reconnected to systemd");
        b->lost_logged = false;
        b->backoff_ms = 0;
        bus_set_ready(b, !b->reloading);
        return 0;
}

/* Read a property. 0 or a negative errno. */
static int bus_get(SystemdBus *b, const char *path, const char *interface, const char *property,
                   sd_bus_message_handler_t on_reply) {
        return sd_bus_call_method_async(b->bus, NULL, SYSTEMD, path, PROPERTIES, "Get", on_reply, b, "ss",
                                        interface, property);
}

/* One request at a time. A reply under way may be older than this request, so another one follows it. */
void bus_request_state(SystemdBus *b) {
        int r;

        if (b->state_requested) {
                b->state_changed = true;
                return;
        }
        b->state_requested = true;
        r = bus_get(b, SYSTEMD_PATH, MANAGER, "SystemState", bus_on_state);
        if (r < 0)
                bus_lost(b, r);
}

/* SoftRebootsCount exists since systemd 254. */
static int bus_on_soft_reboots(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        uint32_t n = 0;

        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) sd_bus_message_read(reply, "v", "u", &n);
        ((SystemdBus *) userdata)->soft_reboots = n;
        return 0;
}

static uint64_t bus_read_time(sd_bus_message *reply) {
        uint64_t us = 0;

        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) sd_bus_message_read(reply, "v", "t", &us);
        return us;
}

/* multi-user.target becomes inactive when rescue.target or the like is isolated. If that lasts long, systemd
 * may unload it, and the time is lost. */
static int bus_on_left(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        ((SystemdBus *) userdata)->left_us = bus_read_time(reply);
        return 0;
}

/* basic.target becomes active again after a soft reboot, and after a longer stay in rescue.target. */
static int bus_on_basic(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        uint64_t reached_us = bus_read_time(reply);

        if (reached_us != 0)
                snprintf(b->era, sizeof(b->era), "%llu.%llu.%llu", (unsigned long long) b->soft_reboots,
                         (unsigned long long) reached_us, (unsigned long long) b->left_us);
        return 0;
}

/* Return whether the reply has a name. */
static bool bus_has_name(sd_bus_message *reply) {
        return !sd_bus_message_is_method_error(reply, NULL) &&
               sd_bus_message_enter_container(reply, 'v', "as") >= 0 &&
               sd_bus_message_enter_container(reply, 'a', "s") >= 0 &&
               sd_bus_message_at_end(reply, false) == 0;
}

static int bus_on_boot_required(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        ((SystemdBus *) userdata)->boot_used = bus_has_name(reply);
        return 0;
}

static int bus_on_boot_wanted(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        ((SystemdBus *) userdata)->boot_used |= bus_has_name(reply);
        return 0;
}

/* Without a unit that needs it, as systemd-bless-boot.service does, nothing starts the target. */
static int bus_on_boot_state(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *active = "active";
        bool booting;

        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) sd_bus_message_read(reply, "v", "s", &active);
        booting = b->boot_used && !streq(active, "active");
        if (b->booting == booting)
                return 0;
        b->booting = booting;
        if (b->ready && b->events.on_ready)
                b->events.on_ready(b->events.userdata, true);
        return 0;
}

/* Replies arrive in order. */
void bus_request_boot(SystemdBus *b) {
        static const char path[] = SYSTEMD_PATH "/unit/boot_2dcomplete_2etarget";

        (void) bus_get(b, path, SYSTEMD ".Unit", "RequiredBy", bus_on_boot_required);
        (void) bus_get(b, path, SYSTEMD ".Unit", "WantedBy", bus_on_boot_wanted);
        (void) bus_get(b, path, SYSTEMD ".Unit", "ActiveState", bus_on_boot_state);
}

/* Replies arrive in order: the era is known before the state, and so before the first plan. */
static int bus_on_subscribed(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;

        (void) bus_get(b, SYSTEMD_PATH, MANAGER, "SoftRebootsCount", bus_on_soft_reboots);
        (void) bus_get(b, SYSTEMD_PATH "/unit/multi_2duser_2etarget", SYSTEMD ".Unit",
                       "ActiveExitTimestampMonotonic", bus_on_left);
        (void) bus_get(b, SYSTEMD_PATH "/unit/basic_2etarget", SYSTEMD ".Unit",
                       "ActiveEnterTimestampMonotonic", bus_on_basic);
        bus_request_boot(b);
        bus_request_state(b); /* a private bus needs no subscription, so errors are ignored */
        return 0;
}

static int bus_open(SystemdBus *b) {
        TRY(sd_bus_new(&b->bus));
        TRY(sd_bus_set_address(b->bus, b->address ?: "unix:path=/run/systemd/private"));
        TRY(sd_bus_start(b->bus));
        TRY(signals_match(b));
        TRY(sd_bus_call_method_async(b->bus, NULL, SYSTEMD, SYSTEMD_PATH, MANAGER, "Subscribe",
                                     bus_on_subscribed, b, NULL));
        return guest_open(&b->guest, loop_uv(b->loop), &bus_guest, b);
}

static void bus_connect(void *userdata) {
        SystemdBus *b = userdata;
        int r;

        r = bus_open(b);
        if (r >= 0)
                return;
        if (!b->bus) {
                (void) timer_start(&b->reconnect, b->loop, BUS_RECONNECT_MAX_MS);
                return;
        }
        bus_lost(b, r);
}

/* -- The interface -- */

/* After the folder was removed, all its files are written again before systemd reads it: refresh all units.
 */
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

static int bus_guard(Systemd *s, const char *name, uint64_t until_ms, uint64_t token) {
        return guard_set_lease(systemd_bus(s)->dir.path, name, until_ms, token);
}

static int bus_write_file(Systemd *s, const char *name, const char *text, size_t size) {
        SystemdBus *b = systemd_bus(s);
        int r;

        TRY(bus_check_folder(b));
        r = runtime_dir_write(&b->dir, name, text, size);
        return r == 0 && quadlet_is(name) ? runtime_dir_offer(&b->dir, name) : r;
}

static int bus_remove_file(Systemd *s, const char *name) {
        RuntimeDir *dir = &systemd_bus(s)->dir;

        if (quadlet_is(name))
                runtime_dir_withdraw(dir, name);
        return runtime_dir_remove(dir, name);
}

static int bus_put_template(Systemd *s, const char *name, const char *text, size_t size) {
        SystemdBus *b = systemd_bus(s);
        int r = text ? bus_check_folder(b) : 0;

        if (!text)
                runtime_dir_remove_template(&b->dir, name);
        return r < 0 || !text ? r : runtime_dir_put_template(&b->dir, name, text, size);
}

static int bus_put_drop_in(Systemd *s, const char *name, DropIn feature, const char *sections) {
        char link[RUNTIME_PATH_SIZE];

        return drop_in_put(runtime_dir_link(&systemd_bus(s)->dir, name, link), feature, sections);
}

static int bus_get_drop_in(Systemd *s, const char *name, DropIn feature, char **ret) {
        char link[RUNTIME_PATH_SIZE];

        return drop_in_get(runtime_dir_link(&systemd_bus(s)->dir, name, link), feature, ret);
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

static uint64_t bus_soft_reboots(Systemd *s) {
        return systemd_bus(s)->soft_reboots;
}

static bool bus_is_booting(Systemd *s) {
        return systemd_bus(s)->booting;
}

static bool bus_is_stopping(Systemd *s) {
        return systemd_bus(s)->stopping;
}

/* As systemd.generator(7): the first folder that has the name decides; a link to /dev/null disables the
 * generator. */
static bool bus_has_quadlet(Systemd *s) {
        char path[RUNTIME_PATH_SIZE];

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
        .soft_reboots = bus_soft_reboots,
        .is_booting = bus_is_booting,
        .set_events = bus_set_events,
        .is_ready = bus_is_ready,
        .is_stopping = bus_is_stopping,
        .list = manager_list,
        .stage_file = bus_stage_file,
        .guard = bus_guard,
        .write_file = bus_write_file,
        .remove_file = bus_remove_file,
        .put_template = bus_put_template,
        .put_drop_in = bus_put_drop_in,
        .get_drop_in = bus_get_drop_in,
        .link = job_link,
        .unlink = job_unlink,
        .reload = job_reload,
        .start = job_start,
        .stop = job_stop,
        .restart = job_restart,
        .reload_unit = job_reload_unit,
        .reset_failed = job_reset_failed,
        .run_check = transient_run,
};

void systemd_bus_read_stopping(Systemd *s, void (*done)(void *userdata, bool stopping), void *userdata) {
        SystemdBus *b = systemd_bus(s);

        b->stopping_done = done;
        b->stopping_userdata = userdata;
        (void) timer_start(&b->stopping_wait, b->loop, b->bus && !b->stopping ? STOPPING_WAIT_MS : 0);
        if (b->bus)
                bus_request_state(b);
}

uint64_t systemd_bus_batches(Systemd *s) {
        return systemd_bus(s)->n_batches;
}

static int bus_prepare(SystemdBus *b, const SystemdBusOptions *options, Error *err) {
        TRY(runtime_dir_open(&b->dir, options->directory, options->quadlets ?: "/run/containers/systemd",
                             options->links ?: "/run/systemd/system", err));
        if (options->address && !(b->address = strdup(options->address)))
                return -ENOMEM;
        return timer_start(&b->reconnect, b->loop, 0);
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
        r = bus_prepare(b, options, err);
        if (r < 0) {
                systemd_bus_free(&b->base);
                return r;
        }
        *ret = &b->base;
        return 0;
}

/* End all calls under way: their callers wait for that. */
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
        while (!TAILQ_EMPTY(&b->lists)) { /* first: a call may wait for a listing */
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
