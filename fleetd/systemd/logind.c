#include "fleetd/systemd/logind.h"

#include <fcntl.h>
#include <poll.h>
#include <systemd/sd-bus.h>

#include "base/log.h"
#include "fleetd/systemd/bus_poll.h"
#include "io/loop_uv.h"

#define LOGIN1         "org.freedesktop.login1"
#define LOGIN1_PATH    "/org/freedesktop/login1"
#define LOGIN1_MANAGER "org.freedesktop.login1.Manager"
#define SYSTEM_BUS     "unix:path=/run/dbus/system_bus_socket"

enum {
        LOGIND_RECONNECT_MIN_MS = 1000,
        LOGIND_RECONNECT_MAX_MS = 60000,
        /* Flags of RebootWithFlags(), org.freedesktop.login1(5). */
        FLAG_KEXEC = 1 << 1,
        FLAG_SOFT = 1 << 2,
};

typedef struct LogindBus {
        Logind base;
        Loop *loop; /* borrowed */
        char *address;
        bool direct; /* 'address' is logind itself */
        sd_bus *bus; /* NULL: not connected */
        Guest *guest;
        int inhibitor_fd; /* -1: none is held */
        LogindState state;
        uint64_t delay_ms;   /* InhibitDelayMaxUSec; 0: unknown */
        uint64_t stopped_ms; /* when logind announced the shutdown; 0: before the inhibitor was taken */
        uint64_t backoff_ms;
        bool rejected_logged;
        Timer reconnect;
        void (*on_changed)(void *userdata);
        void *userdata;
        sd_bus_slot *reboot; /* the call under way; NULL: none */
        SystemdDone done;
        void *done_userdata;
} LogindBus;

static LogindBus *logind_bus(Logind *l) {
        return container_of(l, LogindBus, base);
}

static void logind_set_state(LogindBus *b, LogindState state) {
        if (b->state == state)
                return;
        b->state = state;
        if (b->on_changed)
                b->on_changed(b->userdata);
}

static void logind_release(Logind *l) {
        LogindBus *b = logind_bus(l);

        if (b->inhibitor_fd >= 0)
                close(b->inhibitor_fd);
        b->inhibitor_fd = -1;
}

/* -- The connection -- */

static int logind_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        return bus_poll(((LogindBus *) lib)->bus, clock_monotonic_ms(), fd, events, timeout_ms);
}

static int logind_work(void *lib) {
        return sd_bus_process(((LogindBus *) lib)->bus, NULL);
}

static void logind_end_reboot(LogindBus *b, int error, const char *message) {
        SystemdDone done = b->done;

        if (!b->reboot)
                return;
        b->reboot = sd_bus_slot_unref(b->reboot);
        b->done = NULL;
        done(b->done_userdata, error, message);
}

/* Without the connection, the signal of a shutdown would not arrive, and the inhibitor would delay it in
 * vain. An announced shutdown goes on. */
static void logind_lost(void *lib, int error) {
        LogindBus *b = lib;
        sd_bus *bus = b->bus;

        logind_release(&b->base);
        b->guest = guest_close(b->guest);
        logind_end_reboot(b, error, "lost the connection to logind");
        b->bus = NULL;
        sd_bus_close(bus);
        sd_bus_unref(bus);
        b->backoff_ms = MIN(MAX(b->backoff_ms * 2, (uint64_t) LOGIND_RECONNECT_MIN_MS),
                            (uint64_t) LOGIND_RECONNECT_MAX_MS);
        (void) timer_start_with_slack(&b->reconnect, b->loop, b->backoff_ms, b->backoff_ms);
        if (b->state == LOGIND_UNKNOWN)
                logind_set_state(b, LOGIND_RUNNING);
}

static const GuestOps logind_guest = {
        .name = "logind", .wants = logind_wants, .work = logind_work, .broken = logind_lost
};

/* -- Reading the state -- */

static int logind_on_preparing(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        LogindBus *b = userdata;
        int preparing;

        if (!sd_bus_message_is_method_error(reply, NULL) &&
            sd_bus_message_read(reply, "v", "b", &preparing) >= 0)
                logind_set_state(b, preparing ? LOGIND_STOPPING : LOGIND_RUNNING);
        else if (b->state == LOGIND_UNKNOWN) /* a shutdown that has begun ends logind before fleetd */
                logind_set_state(b, LOGIND_RUNNING);
        return 0;
}

static int logind_on_delay(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        uint64_t us = 0;

        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) sd_bus_message_read(reply, "v", "t", &us);
        ((LogindBus *) userdata)->delay_ms = us / 1000;
        return 0;
}

/* Return the message of an error reply. The first call starts logind by an alias of its unit, and systemd
 * does not say that the unit behind the alias is masked: it "failed to load properly". */
static const char *logind_message(const sd_bus_error *e) {
        const char *message = e->message ?: e->name;

        if (sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitMasked") ||
            starts_with(message, "Unit dbus-" LOGIN1 ".service failed to load properly"))
                return "it is masked on this host: systemctl unmask systemd-logind";
        if (sd_bus_error_has_name(e, "org.freedesktop.systemd1.NoSuchUnit") ||
            sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN))
                return "it is not installed on this host";
        return message;
}

/* Once per daemon: a host without logind is nothing to repair. */
static void logind_log_rejected(LogindBus *b, const char *reason) {
        if (!b->rejected_logged)
                log_info(NO_FIELDS, "no inhibitor of logind (%s): units move after a shutdown, not before it",
                         reason);
        b->rejected_logged = true;
}

static int logind_on_inhibited(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        LogindBus *b = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int fd = -1, r;

        if (e) {
                logind_log_rejected(b, logind_message(e));
                return 0;
        }
        r = sd_bus_message_read(reply, "h", &fd);
        logind_release(&b->base);
        if (r >= 0)
                b->inhibitor_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (b->inhibitor_fd < 0)
                logind_log_rejected(b, strerror(r < 0 ? -r : errno));
        else
                b->rejected_logged = false;
        return 0;
}

static int logind_get(LogindBus *b, const char *property, sd_bus_message_handler_t on_reply) {
        return sd_bus_call_method_async(b->bus, NULL, LOGIN1, LOGIN1_PATH, "org.freedesktop.DBus.Properties",
                                        "Get", on_reply, b, "ss", LOGIN1_MANAGER, property);
}

/* Take the inhibitor first, then read the state: a shutdown that begins in between is signalled. logind gives
 * no inhibitor for a shutdown that it has announced. Replies arrive in this order. */
static int logind_read(LogindBus *b) {
        int r;

        r = sd_bus_call_method_async(b->bus, NULL, LOGIN1, LOGIN1_PATH, LOGIN1_MANAGER, "Inhibit",
                                     logind_on_inhibited, b, "ssss", "shutdown", "fleetd",
                                     "Units move to other machines", "delay");
        if (r >= 0)
                r = logind_get(b, "InhibitDelayMaxUSec", logind_on_delay);
        return r < 0 ? r : logind_get(b, "PreparingForShutdown", logind_on_preparing);
}

static int logind_on_prepare(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        LogindBus *b = userdata;
        int stopping;

        if (sd_bus_message_read(m, "b", &stopping) < 0)
                return 0;
        b->stopped_ms = stopping ? loop_now_ms(b->loop) : 0;
        if (!stopping)
                (void) logind_read(b); /* logind has dropped no inhibitor; a released one is taken again */
        logind_set_state(b, stopping ? LOGIND_STOPPING : LOGIND_RUNNING);
        return 0;
}

/* logind was started, or started again. */
static int logind_on_owner(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        const char *name, *before, *now;

        if (sd_bus_message_read(m, "sss", &name, &before, &now) >= 0 && now[0])
                (void) logind_read(userdata);
        return 0;
}

static int logind_match(LogindBus *b) {
        int r;

        /* Any program on the bus may send a signal of this name: only that of logind counts. */
        r = sd_bus_match_signal_async(b->bus, NULL, b->direct ? NULL : LOGIN1, LOGIN1_PATH, LOGIN1_MANAGER,
                                      "PrepareForShutdown", logind_on_prepare, NULL, b);
        if (r < 0 || b->direct)
                return r;
        return sd_bus_add_match_async(b->bus, NULL,
                                      "type='signal',sender='org.freedesktop.DBus',"
                                      "path='/org/freedesktop/DBus',interface='org.freedesktop.DBus',"
                                      "member='NameOwnerChanged',arg0='" LOGIN1 "'",
                                      logind_on_owner, NULL, b);
}

static int logind_open(LogindBus *b) {
        int r;

        r = sd_bus_new(&b->bus);
        if (r >= 0)
                r = sd_bus_set_address(b->bus, b->address);
        if (r >= 0)
                r = sd_bus_set_bus_client(b->bus, !b->direct);
        if (r >= 0)
                r = sd_bus_start(b->bus);
        if (r >= 0)
                r = logind_match(b);
        if (r >= 0)
                r = logind_read(b);
        return r < 0 ? r : guest_open(&b->guest, loop_uv(b->loop), &logind_guest, b);
}

static void logind_connect(void *userdata) {
        LogindBus *b = userdata;
        int r = logind_open(b);

        if (r >= 0)
                return;
        logind_log_rejected(b, strerror(-r));
        logind_lost(b, r);
}

/* -- The interface -- */

static void logind_set_observer(Logind *l, void (*on_changed)(void *userdata), void *userdata) {
        LogindBus *b = logind_bus(l);

        b->on_changed = on_changed;
        b->userdata = userdata;
}

static LogindState logind_state(Logind *l) {
        return logind_bus(l)->state;
}

static uint64_t logind_delay_left_ms(Logind *l) {
        const LogindBus *b = logind_bus(l);
        uint64_t now_ms = loop_now_ms(b->loop), end_ms = b->stopped_ms + b->delay_ms;

        return b->inhibitor_fd < 0 || b->stopped_ms == 0 || end_ms <= now_ms ? 0 : end_ms - now_ms;
}

static int logind_on_reboot(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);

        logind_end_reboot(userdata, e ? -sd_bus_error_get_errno(e) : 0, e ? logind_message(e) : "");
        return 0;
}

static int logind_reboot(Logind *l, RebootKind kind, SystemdDone done, void *userdata) {
        static const uint64_t flags[_REBOOT_KIND_MAX] = {
                [REBOOT_SOFT] = FLAG_SOFT, [REBOOT_KEXEC] = FLAG_KEXEC
        };
        LogindBus *b = logind_bus(l);

        if (!b->bus)
                return -ENOTCONN;
        if (b->reboot)
                return -EBUSY;
        TRY(kind == REBOOT_FULL ?
                    sd_bus_call_method_async(b->bus, &b->reboot, LOGIN1, LOGIN1_PATH, LOGIN1_MANAGER,
                                             "Reboot", logind_on_reboot, b, "b", 0) :
                    sd_bus_call_method_async(b->bus, &b->reboot, LOGIN1, LOGIN1_PATH, LOGIN1_MANAGER,
                                             "RebootWithFlags", logind_on_reboot, b, "t", flags[kind]));
        b->done = done;
        b->done_userdata = userdata;
        return 0;
}

static void logind_forget(Logind *l) {
        LogindBus *b = logind_bus(l);

        b->reboot = sd_bus_slot_unref(b->reboot);
}

static const LogindOps logind_ops = {
        .set_observer = logind_set_observer,
        .state = logind_state,
        .delay_left_ms = logind_delay_left_ms,
        .release = logind_release,
        .reboot = logind_reboot,
        .forget = logind_forget,
};

int logind_new(Logind **ret, Loop *loop, const LogindOptions *options) {
        LogindBus *b = NEW0(LogindBus, 1);

        if (!b)
                return -ENOMEM;
        *b = (LogindBus) {
                .base = { .ops = &logind_ops },
                .loop = loop,
                .direct = options->address != NULL,
                .address = strdup(options->address ?: SYSTEM_BUS),
                .inhibitor_fd = -1,
                .reconnect = TIMER(logind_connect, b),
        };
        if (!b->address || timer_start(&b->reconnect, loop, 0) < 0) {
                logind_free(&b->base);
                return -ENOMEM;
        }
        *ret = &b->base;
        return 0;
}

Logind *logind_free(Logind *l) {
        LogindBus *b = l ? logind_bus(l) : NULL;

        if (!b)
                return NULL;
        b->on_changed = NULL;
        if (b->bus)
                logind_lost(b, -ECANCELED);
        timer_stop(&b->reconnect);
        logind_release(l);
        free(b->address);
        free(b);
        return NULL;
}
