#include "fleetd/systemd/systemd_bus.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "base/clock.h"
#include "base/log.h"
#include "fleetd/systemd/unit_dir.h"
#include "io/loop_uv.h"
#include "units/name.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

enum { RECONNECT_MIN_MS = 100, RECONNECT_MAX_MS = 5000, CALL_TIMEOUT_US = 90 * 1000000, STOPPING_WAIT_MS = 300, JOBS_GONE = 64 };

typedef struct BusCall BusCall;
typedef struct BusList BusList;
typedef struct BusProperty BusProperty;
typedef struct SystemdBus SystemdBus;

/* One call: from its beginning until 'done' was called. */
struct BusCall {
        SystemdBus *bus;
        sd_bus_slot *slot;
        void (*answer)(BusCall *call, sd_bus_message *reply); /* NULL: only success matters */
        SystemdDone done;
        void *userdata;
        char what[300];    /* "start web.service", for sentences */
        char job[128];     /* of a stop whose job is still running */
        char **install;    /* of a link: the units to be enabled next; owned */
        size_t n_install;
        Deferred finish;   /* 'done' is never called from inside the call that began it */
        int error;
        char sentence[400];
        TAILQ_ENTRY(BusCall) calls;
};

/* One listing: states of all at once, then a few properties of each that is loaded. */
struct BusList {
        SystemdBus *bus;
        SystemdUnit *units;
        size_t n;
        unsigned pending;
        TAILQ_HEAD(, BusProperty) properties;
        int error;
        SystemdListed done;
        void *userdata;
        Deferred finish;
        TAILQ_ENTRY(BusList) lists;
};

/* A property that is on its way into a listing. */
struct BusProperty {
        BusList *list;
        size_t unit;
        sd_bus_slot *slot;
        int (*read)(sd_bus_message *m, SystemdUnit *u);
        TAILQ_ENTRY(BusProperty) properties;
};

struct SystemdBus {
        Systemd base;
        Loop *loop; /* borrowed */
        char *address;
        sd_bus *bus; /* NULL while there is none */
        Guest *guest;
        UnitDir dir;
        SystemdEvents events;
        bool ready, reloading, stopping, said_lost, closing;
        uint64_t backoff_ms;
        Timer reconnect;
        TAILQ_HEAD(, BusCall) calls;
        TAILQ_HEAD(, BusList) lists;
        char gone[JOBS_GONE][128]; /* paths of jobs that ended, the newest: a signal may overtake the reply */
        unsigned next_gone;
        Timer stopping_wait;
        void (*stopping_done)(void *userdata, bool stopping);
        void *stopping_userdata;
};

static SystemdBus *systemd_bus(Systemd *s) {
        return container_of(s, SystemdBus, base);
}

static void bus_set_ready(SystemdBus *b, bool ready) {
        if (b->ready == ready)
                return;
        b->ready = ready;
        if (b->events.on_ready)
                b->events.on_ready(b->events.userdata, ready);
}

/* -- Calls -- */

static void call_free(BusCall *call) {
        TAILQ_REMOVE(&call->bus->calls, call, calls);
        sd_bus_slot_unref(call->slot);
        deferred_cancel(&call->finish);
        for (size_t i = 0; i < call->n_install; i++)
                free(call->install[i]);
        free(call->install);
        free(call);
}

static void call_finish(BusCall *call) {
        SystemdDone done = call->done;
        void *userdata = call->userdata;
        char sentence[sizeof(call->sentence)];
        int error = call->error;

        memcpy(sentence, call->sentence, sizeof(sentence));
        call_free(call);
        done(userdata, error, sentence);
}

static void call_on_finish(void *userdata) {
        call_finish(userdata);
}

static void call_fail(BusCall *call, int error, const char *sentence) {
        call->error = error;
        snprintf(call->sentence, sizeof(call->sentence), "%s", sentence);
        call->slot = sd_bus_slot_unref(call->slot);
        loop_defer(call->bus->loop, &call->finish);
}

static BusCall *call_new(SystemdBus *b, SystemdDone done, void *userdata, const char *verb, const char *name) {
        BusCall *call = NEW0(BusCall, 1);

        if (!call)
                return NULL;
        call->bus = b;
        call->done = done;
        call->userdata = userdata;
        call->finish = (Deferred) { .run = call_on_finish, .userdata = call };
        snprintf(call->what, sizeof(call->what), "%s %s", verb, name);
        TAILQ_INSERT_TAIL(&b->calls, call, calls);
        return call;
}

static int call_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusCall *call = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);

        call->slot = sd_bus_slot_unref(call->slot);
        if (e) {
                call->error = -sd_bus_error_get_errno(e);
                if (call->error == 0)
                        call->error = -EIO;
                snprintf(call->sentence, sizeof(call->sentence), "systemd will not %s: %s", call->what, e->message ?: e->name);
                call_finish(call);
        } else if (call->answer)
                call->answer(call, reply);
        else
                call_finish(call);
        return 1;
}

/* Sends 'm' (taken); a message that could not be built is NULL. */
static void call_send(BusCall *call, sd_bus_message *m, int error) {
        if (error >= 0)
                error = sd_bus_call_async(call->bus->bus, &call->slot, m, call_on_reply, call, CALL_TIMEOUT_US);
        sd_bus_message_unref(m);
        if (error < 0)
                call_fail(call, -ENOTCONN, strerror(-error));
}

static int manager_method(SystemdBus *b, const char *member, sd_bus_message **ret) {
        *ret = NULL;
        if (!b->bus || (!b->ready && !b->reloading))
                return -ENOTCONN;
        return sd_bus_message_new_method_call(b->bus, ret, SYSTEMD, SYSTEMD_PATH, MANAGER, member);
}

/* -- Jobs -- */

static bool bus_job_is_gone(const SystemdBus *b, const char *job) {
        for (unsigned i = 0; i < JOBS_GONE; i++)
                if (streq(b->gone[i], job))
                        return true;
        return false;
}

static void stop_on_answer(BusCall *call, sd_bus_message *reply) {
        const char *job = "";

        if (sd_bus_message_read(reply, "o", &job) < 0 || bus_job_is_gone(call->bus, job))
                call_finish(call);
        else
                snprintf(call->job, sizeof(call->job), "%s", job);
}

static int bus_on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *job, *unit, *result;
        BusCall *call, *next;
        uint32_t id;

        if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0)
                return 0;

        snprintf(b->gone[b->next_gone++ % JOBS_GONE], sizeof(b->gone[0]), "%s", job);
        if (b->events.on_job_removed)
                b->events.on_job_removed(b->events.userdata, unit, result);
        for (call = TAILQ_FIRST(&b->calls); call; call = next) {
                next = TAILQ_NEXT(call, calls);
                if (call->job[0] && streq(call->job, job))
                        loop_defer(b->loop, &call->finish);
        }
        return 0;
}

static void bus_start_or_stop(Systemd *s, const char *member, const char *verb, const char *name, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, verb, name);
        sd_bus_message *m;
        int r;

        if (!call)
                return;
        if (streq(verb, "stop"))
                call->answer = stop_on_answer;
        r = manager_method(b, member, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", name, "replace");
        call_send(call, m, r);
}

static void bus_start(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        bus_start_or_stop(s, "StartUnit", "start", name, done, userdata);
}

static void bus_stop(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        bus_start_or_stop(s, "StopUnit", "stop", name, done, userdata);
}

static void bus_reset_failed(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "reset", name);
        sd_bus_message *m;
        int r;

        if (!call)
                return;
        r = manager_method(b, "ResetFailedUnit", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        call_send(call, m, r);
}

static void bus_reload(Systemd *s, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "reload", "its units");
        sd_bus_message *m;
        int r;

        if (!call)
                return;
        r = manager_method(b, "Reload", &m);
        call_send(call, m, r);
}

/* -- Files -- */

static int bus_write_file(Systemd *s, const char *name, const char *text, size_t size) {
        return unit_dir_write(&systemd_bus(s)->dir, name, text, size);
}

static int bus_remove_file(Systemd *s, const char *name) {
        return unit_dir_remove(&systemd_bus(s)->dir, name);
}

static int append_paths(SystemdBus *b, sd_bus_message *m, const char *const *names, size_t n) {
        char path[600];
        int r;

        r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < n; i++) {
                snprintf(path, sizeof(path), "%s/%s", b->dir.path, names[i]);
                r = sd_bus_message_append(m, "s", path);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* What has an [Install] section is enabled as soon as it is linked, as fleet did. */
static void link_on_answer(BusCall *call, sd_bus_message *reply) {
        SystemdBus *b = call->bus;
        sd_bus_message *m;
        int r;

        if (call->n_install == 0) {
                call_finish(call);
                return;
        }
        call->answer = NULL;
        r = manager_method(b, "EnableUnitFiles", &m);
        if (r >= 0)
                r = append_paths(b, m, (const char *const *) call->install, call->n_install);
        if (r >= 0)
                r = sd_bus_message_append(m, "bb", true, true);
        call_send(call, m, r);
}

static void bus_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "link", n == 1 ? names[0] : "the units");
        sd_bus_message *m;
        int r;

        if (!call)
                return;
        call->answer = link_on_answer;
        call->install = NEW0(char *, n + 1);
        for (size_t i = 0; call->install && i < n; i++) {
                const UnitDirEntry *e = unit_dir_get(&b->dir, names[i]);

                if (e && e->install && (call->install[call->n_install] = strdup(names[i])))
                        call->n_install++;
        }
        r = manager_method(b, "LinkUnitFiles", &m);
        if (r >= 0)
                r = append_paths(b, m, names, n);
        if (r >= 0)
                r = sd_bus_message_append(m, "bb", true, true);
        call_send(call, m, r);
}

static void bus_unlink(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "unlink", n == 1 ? names[0] : "the units");
        sd_bus_message *m;
        int r;

        if (!call)
                return;
        r = manager_method(b, "DisableUnitFiles", &m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append(m, "s", names[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", true);
        call_send(call, m, r);
}

/* -- Listing -- */

static void list_on_finish(void *userdata) {
        BusList *list = userdata;

        TAILQ_REMOVE(&list->bus->lists, list, lists);
        for (size_t i = 0; list->units && i < list->n; i++)
                list->units[i].ours = unit_dir_owns(&list->bus->dir, list->units[i].name, list->units[i].fragment);
        list->done(list->userdata, list->error, list->units, list->error < 0 ? 0 : list->n);
        free(list->units);
        free(list);
}

static void list_release(BusList *list) {
        if (--list->pending == 0)
                loop_defer(list->bus->loop, &list->finish);
}

static int read_fragment(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r >= 0)
                snprintf(u->fragment, sizeof(u->fragment), "%s", v);
        return r;
}

static int read_need_reload(sd_bus_message *m, SystemdUnit *u) {
        int v, r = sd_bus_message_read(m, "v", "b", &v);

        if (r >= 0)
                u->need_reload = v;
        return r;
}

static int read_invocation(sd_bus_message *m, SystemdUnit *u) {
        const void *id;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 'y', &id, &size);
        for (size_t i = 0; r >= 0 && size == 16 && i < size; i++)
                snprintf(u->invocation_id + 2 * i, 3, "%02x", ((const uint8_t *) id)[i]);
        return r;
}

static int read_result(sd_bus_message *m, SystemdUnit *u) {
        const char *v;
        int r = sd_bus_message_read(m, "v", "s", &v);

        if (r >= 0)
                snprintf(u->result, sizeof(u->result), "%s", v);
        return r;
}

static void property_free(BusProperty *p) {
        TAILQ_REMOVE(&p->list->properties, p, properties);
        sd_bus_slot_unref(p->slot);
        free(p);
}

/* Nothing more will come: answer now with 'error'. */
static void list_abort(BusList *list, int error) {
        while (!TAILQ_EMPTY(&list->properties))
                property_free(TAILQ_FIRST(&list->properties));
        list->error = error;
        list->pending = 0;
        loop_defer(list->bus->loop, &list->finish);
}

static int property_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusProperty *p = userdata;
        BusList *list = p->list;

        /* A unit that went away meanwhile, or has no such property, is looked at again when it changes. */
        if (!sd_bus_message_is_method_error(reply, NULL))
                (void) p->read(reply, &list->units[p->unit]);
        property_free(p);
        list_release(list);
        return 1;
}

static void list_ask(BusList *list, size_t unit, const char *path, const char *interface, const char *name,
                     int (*read)(sd_bus_message *m, SystemdUnit *u)) {
        BusProperty *p = NEW0(BusProperty, 1);
        int r;

        if (!p) {
                list->error = -ENOMEM;
                return;
        }
        *p = (BusProperty) { .list = list, .unit = unit, .read = read };
        TAILQ_INSERT_TAIL(&list->properties, p, properties);
        r = sd_bus_call_method_async(list->bus->bus, &p->slot, SYSTEMD, path, PROPERTIES, "Get", property_on_reply, p, "ss", interface, name);
        if (r < 0) {
                list->error = r;
                property_free(p);
                return;
        }
        list->pending++;
}

/* The interface that has "Result": a type's own, with a capital. */
static const char *result_interface(const char *name, char buffer[static 64]) {
        const char *type = unit_name_type(name);

        if (!streq(type, "service") && !streq(type, "socket") && !streq(type, "timer") && !streq(type, "mount") && !streq(type, "path"))
                return NULL;
        snprintf(buffer, 64, SYSTEMD ".%c%s", type[0] - 'a' + 'A', type + 1);
        return buffer;
}

static int list_read(BusList *list, sd_bus_message *reply) {
        const char *name, *load, *active, *sub, *path;
        uint32_t job;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0
               && (r = sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, &load, &active, &sub, NULL, &path, &job, NULL, NULL)) > 0) {
                char buffer[64];
                const char *interface;
                size_t i = 0;

                while (i < list->n && !streq(list->units[i].name, name))
                        i++;
                if (i == list->n)
                        continue;
                snprintf(list->units[i].load, sizeof(list->units[i].load), "%s", load);
                snprintf(list->units[i].active, sizeof(list->units[i].active), "%s", active);
                snprintf(list->units[i].sub, sizeof(list->units[i].sub), "%s", sub);
                list->units[i].job = job > 0;
                if (streq(load, "not-found"))
                        continue;
                list_ask(list, i, path, SYSTEMD ".Unit", "FragmentPath", read_fragment);
                list_ask(list, i, path, SYSTEMD ".Unit", "NeedDaemonReload", read_need_reload);
                list_ask(list, i, path, SYSTEMD ".Unit", "InvocationID", read_invocation);
                if ((streq(active, "inactive") || streq(active, "failed")) && (interface = result_interface(name, buffer)))
                        list_ask(list, i, path, interface, "Result", read_result);
        }
        return r;
}

static void list_finish_files(BusList *list) {
        UnitDir *dir = &list->bus->dir;

        for (size_t i = 0; i < list->n; i++) {
                SystemdUnit *u = &list->units[i];
                const UnitDirEntry *e = unit_dir_get(dir, u->name);

                u->has_file = e != NULL;
                if (e)
                        memcpy(u->hash, e->hash, sizeof(u->hash));
        }
}

static int list_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusList *list = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int r = e ? -sd_bus_error_get_errno(e) : list_read(list, reply);

        if (r < 0)
                list->error = r;
        list_finish_files(list);
        list_release(list);
        return 1;
}

static bool list_has(const BusList *list, const char *name) {
        for (size_t i = 0; i < list->n; i++)
                if (streq(list->units[i].name, name))
                        return true;
        return false;
}

static void list_add(BusList *list, const char *name) {
        if (list_has(list, name))
                return;
        snprintf(list->units[list->n].name, sizeof(list->units[0].name), "%s", name);
        snprintf(list->units[list->n].load, sizeof(list->units[0].load), "not-found");
        snprintf(list->units[list->n].active, sizeof(list->units[0].active), "inactive");
        snprintf(list->units[list->n].sub, sizeof(list->units[0].sub), "dead");
        list->n++;
}

static void bus_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusList *list = NEW0(BusList, 1);
        sd_bus_message *m = NULL;
        int r;

        if (!list)
                return;
        *list = (BusList) { .bus = b, .done = done, .userdata = userdata, .pending = 1,
                            .finish = { .run = list_on_finish, .userdata = list } };
        TAILQ_INIT(&list->properties);
        TAILQ_INSERT_TAIL(&b->lists, list, lists);
        list->units = NEW0(SystemdUnit, n + HASH_COUNT(b->dir.entries) + 1);
        if (list->units) {
                for (size_t i = 0; i < n; i++)
                        list_add(list, names[i]);
                for (UnitDirEntry *e = files ? b->dir.entries : NULL; e; e = e->hh.next)
                        list_add(list, e->name);
        }

        r = list->units ? manager_method(b, "ListUnitsByNames", &m) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < list->n; i++)
                r = sd_bus_message_append(m, "s", list->units[i].name);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_call_async(b->bus, NULL, m, list_on_reply, list, CALL_TIMEOUT_US);
        sd_bus_message_unref(m);
        if (r < 0) {
                list->error = r;
                list_release(list);
        }
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
                        call_fail(call, -ECONNRESET, "the connection to systemd was lost");
                }
        }
        for (BusList *list = TAILQ_FIRST(&b->lists); list; list = TAILQ_NEXT(list, lists))
                if (list->pending > 0)
                        list_abort(list, -ECONNRESET);
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

static int bus_on_job_new(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *job, *unit;
        uint32_t id;

        if (sd_bus_message_read(m, "uos", &id, &job, &unit) < 0)
                return 0;
        if (streq(unit, "shutdown.target"))
                b->stopping = true;
        if (b->events.on_changed)
                b->events.on_changed(b->events.userdata, unit);
        return 0;
}

static int bus_on_properties(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        _cleanup_free_ char *name = NULL;

        if (sd_bus_path_decode(sd_bus_message_get_path(m), SYSTEMD_PATH "/unit", &name) > 0 && b->events.on_changed)
                b->events.on_changed(b->events.userdata, name);
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
                { MANAGER, "JobRemoved", bus_on_job_removed },    { MANAGER, "JobNew", bus_on_job_new },
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

static void bus_set_events(Systemd *s, const SystemdEvents *events) {
        systemd_bus(s)->events = events ? *events : (SystemdEvents) {};
}

static bool bus_is_ready(Systemd *s) {
        return systemd_bus(s)->ready;
}

static bool bus_is_stopping(Systemd *s) {
        return systemd_bus(s)->stopping;
}

static const SystemdOps bus_ops = {
        .set_events = bus_set_events, .is_ready = bus_is_ready,       .is_stopping = bus_is_stopping, .list = bus_list,
        .write_file = bus_write_file, .remove_file = bus_remove_file, .link = bus_link,               .unlink = bus_unlink,
        .reload = bus_reload,         .start = bus_start,             .stop = bus_stop,               .reset_failed = bus_reset_failed,
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

int systemd_bus_new(Systemd **ret, Loop *loop, const char *directory, const char *address, Error *err) {
        SystemdBus *b = NEW0(SystemdBus, 1);
        int r;

        if (!b)
                return -ENOMEM;
        *b = (SystemdBus) {
                .base = { .ops = &bus_ops }, .loop = loop, .dir = { .fd = -1 },
                .reconnect = { .fire = bus_connect, .userdata = b },
                .stopping_wait = { .fire = bus_on_stopping_wait, .userdata = b },
        };
        TAILQ_INIT(&b->calls);
        TAILQ_INIT(&b->lists);
        r = unit_dir_open(&b->dir, directory, err);
        if (r == 0 && address && !(b->address = strdup(address)))
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
                call_finish(TAILQ_FIRST(&b->calls));
        while (!TAILQ_EMPTY(&b->lists)) {
                BusList *list = TAILQ_FIRST(&b->lists);

                list_abort(list, -ECANCELED);
                deferred_cancel(&list->finish);
                list_on_finish(list);
        }
        unit_dir_close(&b->dir);
        free(b->address);
        free(b);
        return NULL;
}
