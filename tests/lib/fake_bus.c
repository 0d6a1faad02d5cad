#include "tests/lib/fake_bus.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define PATH       "/org/freedesktop/systemd1"
#define MANAGER    "org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

/* -- Replies -- */

static FakeUnit *unit_of(FakeBus *f, const char *name) {
        for (size_t i = 0; i < f->n_units; i++)
                if (streq(f->units[i].name, name) || streq(f->units[i].alias, name))
                        return &f->units[i];
        return NULL;
}

static void unit_path(const char *name, char ret[static 256]) {
        char *path = NULL;

        assert(sd_bus_path_encode(PATH "/unit", name, &path) >= 0);
        snprintf(ret, 256, "%s", path);
        free(path);
}

static int answer_list(FakeBus *f, sd_bus_message *m, sd_bus_message *reply) {
        const char *name;
        char path[256];

        assert(sd_bus_message_enter_container(m, 'a', "s") >= 0);
        assert(sd_bus_message_open_container(reply, 'a', "(ssssssouso)") >= 0);
        while (sd_bus_message_read(m, "s", &name) > 0) {
                const FakeUnit *u = unit_of(f, name);

                if (strstr(name, "@.")) /* a template fails the whole call */
                        return -EINVAL;
                unit_path(u ? u->name : name, path);
                assert(sd_bus_message_append(reply, "(ssssssouso)", u ? u->name : name, "",
                                             u ? u->load : "not-found", u ? u->active : "inactive",
                                             u ? u->sub : "dead", "", path, u && u->job ? 1u : 0u, "",
                                             "/") >= 0);
        }
        return sd_bus_message_close_container(reply);
}

/* The error of a call without a reply in time, as sd-bus makes it. */
static bool is_late_property(FakeBus *f, const char *name, const char *property) {
        bool late = f->fail_property && streq(property, f->fail_property) && streq(name, f->fail_property_of);

        f->n_failed_properties += late;
        return late;
}

static int append_conflicts(const FakeUnit *u, sd_bus_message *reply) {
        assert(sd_bus_message_open_container(reply, 'v', "as") >= 0 &&
               sd_bus_message_open_container(reply, 'a', "s") >= 0);
        for (unsigned i = 0; i < u->n_idle; i++)
                assert(sd_bus_message_append(reply, "s", "idle.service") >= 0);
        assert(!u->conflicts[0] || sd_bus_message_append(reply, "s", u->conflicts) >= 0);
        assert(sd_bus_message_close_container(reply) >= 0);
        return sd_bus_message_close_container(reply);
}

static int append_property(FakeBus *f, sd_bus_message *m, sd_bus_message *reply, const char *interface,
                           const char *property) {
        char *name = NULL;
        FakeUnit *u;
        int r;

        if (streq(property, "SystemState"))
                return sd_bus_message_append(reply, "v", "s", f->state);
        if (streq(property, "InhibitDelayMaxUSec"))
                return sd_bus_message_append(reply, "v", "t", f->delay_us);
        if (streq(property, "PreparingForShutdown"))
                return sd_bus_message_append(reply, "v", "b", (int) f->preparing);
        if (streq(property, "SoftRebootsCount"))
                return sd_bus_message_append(reply, "v", "u", f->soft_reboots);
        assert(sd_bus_path_decode(sd_bus_message_get_path(m), PATH "/unit", &name) > 0);
        if (streq(name, "basic.target") || streq(name, "multi-user.target")) {
                r = sd_bus_message_append(reply, "v", "t",
                                          streq(name, "basic.target") ? f->basic_us : f->left_us);
                free(name);
                return r;
        }
        if (streq(name, "boot-complete.target") && !streq(property, "ActiveState")) {
                free(name);
                return sd_bus_message_append(reply, "v", "as", f->boot_user ? 1u : 0u, f->boot_user);
        }
        if (is_late_property(f, name, property)) {
                free(name);
                return f->fails_typed ? sd_bus_message_append(reply, "v", "x", INT64_C(1)) : -ETIMEDOUT;
        }
        u = unit_of(f, name);
        free(name);
        if (!u)
                return -ENXIO;
        if (streq(property, "LoadError"))
                return sd_bus_message_append(reply, "v", "(ss)", "", u->load_error);
        if (streq(property, "ExecMainCode") || streq(property, "ExecMainStatus"))
                return sd_bus_message_append(reply, "v", "i",
                                             streq(property, "ExecMainCode") ? u->exec_code : u->exec_status);
        if (streq(property, "NRestarts"))
                return sd_bus_message_append(reply, "v", "u", u->n_restarts);
        if (streq(property, "FragmentPath"))
                return sd_bus_message_append(reply, "v", "s", u->fragment);
        if (streq(property, "SourcePath"))
                return sd_bus_message_append(reply, "v", "s", u->source);
        if (streq(property, "BindsTo"))
                return sd_bus_message_append(reply, "v", "as", u->binds_to[0] ? 1u : 0u, u->binds_to);
        if (streq(property, "Requires"))
                return sd_bus_message_append(reply, "v", "as", u->requires[0] ? 1u : 0u, u->requires);
        if (streq(property, "Conflicts"))
                return append_conflicts(u, reply);
        if (streq(property, "Job"))
                return sd_bus_message_append(reply, "v", "(uo)", u->job ? 1u : 0u, "/");
        if (streq(property, "ActiveState"))
                return sd_bus_message_append(reply, "v", "s", u->active);
        if (streq(property, "Type"))
                return sd_bus_message_append(reply, "v", "s", u->oneshot ? "oneshot" : "simple");
        if (streq(property, "RemainAfterExit"))
                return sd_bus_message_append(reply, "v", "b", (int) u->remains);
        if (streq(property, "NeedDaemonReload"))
                return sd_bus_message_append(reply, "v", "b", u->need_reload);
        if (streq(property, "Result") && streq(interface, "org.freedesktop.systemd1.Service"))
                return sd_bus_message_append(reply, "v", "s", u->result);
        if (!streq(property, "InvocationID"))
                return -ENOENT;
        r = sd_bus_message_open_container(reply, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(reply, 'y', u->invocation, u->invocation_size);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int answer_property(FakeBus *f, sd_bus_message *m, sd_bus_message *reply) {
        const char *interface, *property;

        assert(sd_bus_message_read(m, "ss", &interface, &property) >= 0);
        return append_property(f, m, reply, interface, property);
}

/* Requires= precedes Conflicts=, as in systemd's replies. */
static int answer_all(FakeBus *f, sd_bus_message *m, sd_bus_message *reply) {
        static const char *const of_units[] = { "LoadError",        "FragmentPath", "SourcePath",
                                                "Requires",         "BindsTo",      "Conflicts",
                                                "NeedDaemonReload", "InvocationID", NULL };
        static const char *const of_services[] = { "RemainAfterExit", "Type", "Result", NULL };
        const char *interface;
        int r;

        assert(sd_bus_message_read(m, "s", &interface) >= 0);
        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        for (const char *const *p = streq(interface, "org.freedesktop.systemd1.Unit") ? of_units :
                                                                                        of_services;
             r >= 0 && *p; p++) {
                r = sd_bus_message_open_container(reply, 'e', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(reply, "s", *p);
                if (r >= 0)
                        r = append_property(f, m, reply, interface, *p);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void keep_links(FakeBus *f, const char *member, const char *name) {
        const char *slash = strrchr(name, '/');
        char link[600];

        if (!f->links)
                return;
        snprintf(link, sizeof(link), "%s/%s", f->links, slash ? slash + 1 : name);
        if (!streq(member, "DisableUnitFiles")) {
                (void) mkdir(f->links, 0755);
                assert(symlink(name, link) == 0 || errno == EEXIST);
        } else if (unlink(link) < 0)
                f->unlinked_in_vain++;
}

/* Apply the effect that systemd would have. */
static void execute(FakeBus *f, const char *member, const char *name) {
        const char *slash = strrchr(name, '/');
        FakeUnit *u = unit_of(f, slash ? slash + 1 : name);

        if (streq(member, "StartUnit"))
                f->starts++;
        if (streq(member, "StopUnit"))
                f->stops++;
        if (!f->executes)
                return;
        if (streq(member, "LinkUnitFiles") && !u) {
                u = fake_bus_unit(f, slash + 1, "loaded", "inactive", "dead");
                snprintf(u->fragment, sizeof(u->fragment), "%s", name);
        } else if (!u)
                return;
        else if (streq(member, "StartUnit")) {
                snprintf(u->active, sizeof(u->active), "active");
                snprintf(u->sub, sizeof(u->sub), "running");
                u->invocation_size = 16;
                u->invocation[0]++;
        } else if (streq(member, "StopUnit")) {
                snprintf(u->active, sizeof(u->active), "inactive");
                snprintf(u->sub, sizeof(u->sub), "dead");
        } else if (streq(member, "DisableUnitFiles"))
                *u = f->units[--f->n_units];
}

static void say_names(FakeBus *f, sd_bus_message *m, const char *member) {
        const char *name;
        int runtime, force = 0;

        assert(sd_bus_message_enter_container(m, 'a', "s") >= 0);
        while (sd_bus_message_read(m, "s", &name) > 0) {
                text_printf(&f->call_log, " %s", name);
                keep_links(f, member, name);
                execute(f, member, name);
        }
        assert(sd_bus_message_exit_container(m) >= 0);
        if (streq(member, "DisableUnitFiles"))
                assert(sd_bus_message_read(m, "b", &runtime) >= 0);
        else
                assert(sd_bus_message_read(m, "bb", &runtime, &force) >= 0);
        assert(runtime); /* the folder of runtime links, which no boot outlives */
        text_append(&f->call_log, force ? " by force" : "");
}

static bool names_part(sd_bus_message *m, const char *part) {
        const char *name;
        bool named = false;

        assert(sd_bus_message_enter_container(m, 'a', "s") >= 0);
        while (sd_bus_message_read(m, "s", &name) > 0)
                named |= strstr(name, part) != NULL;
        assert(sd_bus_message_rewind(m, true) >= 0);
        return named;
}

static int answer_inhibit(FakeBus *f, sd_bus_message *m, sd_bus_message *reply) {
        const char *what, *who, *why, *mode;
        int fds[2];
        int r;

        assert(sd_bus_message_read(m, "ssss", &what, &who, &why, &mode) >= 0);
        text_printf(&f->call_log, " %s %s; ", what, mode);
        if (f->preparing)
                return -EINPROGRESS;
        if (f->inhibitor_fd >= 0)
                close(f->inhibitor_fd);
        assert(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
        f->inhibitor_fd = fds[0];
        f->inhibitors++;
        r = sd_bus_message_append(reply, "h", fds[1]);
        close(fds[1]);
        return r;
}

/* Write down a transient unit: its strings, its command and the weight of its CPU. */
static int answer_transient(FakeBus *f, sd_bus_message *m, sd_bus_message *reply) {
        const char *name, *mode, *property, *type, *text;
        uint64_t number;
        char job[64];

        assert(sd_bus_message_read(m, "ss", &name, &mode) >= 0);
        text_printf(&f->call_log, " %.12s %s", name, mode);
        assert(sd_bus_message_enter_container(m, 'a', "(sv)") > 0);
        while (sd_bus_message_enter_container(m, 'r', "sv") > 0) {
                assert(sd_bus_message_read(m, "s", &property) >= 0);
                assert(sd_bus_message_peek_type(m, NULL, &type) > 0);
                if (streq(type, "s") && !streq(property, "Description") &&
                    sd_bus_message_read(m, "v", "s", &text) >= 0)
                        text_printf(&f->call_log, " %s=%s", property, text);
                else if (streq(type, "t") && sd_bus_message_read(m, "v", "t", &number) >= 0)
                        text_printf(&f->call_log, " %s=%llu", property, (unsigned long long) number);
                else if (streq(type, "a(sasb)")) {
                        assert(sd_bus_message_enter_container(m, 'v', type) > 0);
                        assert(sd_bus_message_enter_container(m, 'a', "(sasb)") > 0);
                        assert(sd_bus_message_enter_container(m, 'r', "sasb") > 0);
                        assert(sd_bus_message_read(m, "s", &text) >= 0);
                        text_printf(&f->call_log, " %s", text);
                        assert(sd_bus_message_enter_container(m, 'a', "s") > 0);
                        while (sd_bus_message_read(m, "s", &text) > 0)
                                text_printf(&f->call_log, "|%s", text);
                        assert(sd_bus_message_exit_container(m) >= 0);
                        assert(sd_bus_message_skip(m, "b") >= 0);
                        for (unsigned i = 0; i < 3; i++)
                                assert(sd_bus_message_exit_container(m) >= 0);
                } else
                        assert(sd_bus_message_skip(m, "v") >= 0);
                if (f->no_idle && streq(property, "CPUWeight") && number == 0)
                        return -EINVAL;
                assert(sd_bus_message_exit_container(m) >= 0);
        }
        text_append(&f->call_log, "; ");
        snprintf(job, sizeof(job), PATH "/job/%u", ++f->n_jobs);
        snprintf(f->command, sizeof(f->command), "%s", name);
        if (f->signals_first)
                fake_bus_job_removed(f, f->n_jobs, name, "failed");
        return sd_bus_message_append(reply, "o", job);
}

static int answer_manager(FakeBus *f, sd_bus_message *m, sd_bus_message *reply, const char *member) {
        const char *name, *mode;
        uint64_t flags;
        char job[64];

        if (streq(member, "ListUnitsByNames"))
                return answer_list(f, m, reply);
        text_append(&f->call_log, member);
        if (streq(member, "Inhibit"))
                return answer_inhibit(f, m, reply);
        if (streq(member, "StartTransientUnit"))
                return answer_transient(f, m, reply);
        if (streq(member, "StartUnit") || streq(member, "StopUnit") || streq(member, "ReloadUnit")) {
                assert(sd_bus_message_read(m, "ss", &name, &mode) >= 0);
                text_printf(&f->call_log, " %s %s; ", name, mode);
                f->n_jobs++;
                execute(f, member, name);
                snprintf(job, sizeof(job), PATH "/job/%u", f->n_jobs);
                if (f->signals_first || f->executes)
                        fake_bus_job_removed(f, f->n_jobs, name, "done");
                return sd_bus_message_append(reply, "o", job);
        }
        if (streq(member, "LinkUnitFiles") || streq(member, "EnableUnitFiles") ||
            streq(member, "DisableUnitFiles")) {
                say_names(f, m, member);
                text_append(&f->call_log, "; ");
                if (streq(member, "EnableUnitFiles"))
                        assert(sd_bus_message_append(reply, "b", 1) >= 0);
                return sd_bus_message_append(reply, "a(sss)", 0);
        }
        if (streq(member, "RebootWithFlags") && sd_bus_message_read(m, "t", &flags) >= 0)
                text_printf(&f->call_log, " %llu", (unsigned long long) flags);
        if (streq(member, "ResetFailedUnit") && sd_bus_message_read(m, "s", &name) >= 0)
                text_printf(&f->call_log, " %s", name);
        for (size_t i = 0; streq(member, "Reload") && f->executes && i < f->n_units; i++)
                f->units[i].need_reload = false;
        text_append(&f->call_log, "; ");
        return 0;
}

static const char *error_name(int error) {
        switch (error) {
        case -ENXIO:
                return SD_BUS_ERROR_UNKNOWN_OBJECT;
        case -ENOENT:
                return SD_BUS_ERROR_UNKNOWN_PROPERTY;
        case -EINVAL:
                return SD_BUS_ERROR_INVALID_ARGS;
        case -ETIMEDOUT:
                return SD_BUS_ERROR_NO_REPLY;
        default:
                return SD_BUS_ERROR_FAILED;
        }
}

static void answer(FakeBus *f, sd_bus_message *m) {
        const char *member = sd_bus_message_get_member(m);
        sd_bus_message *reply = NULL;
        int r;

        if (f->fail && streq(member, f->fail) && (!f->fail_part || names_part(m, f->fail_part))) {
                (void) sd_bus_reply_method_errorf(m, f->fail_name, "%s", f->fail_message);
                return;
        }
        assert(sd_bus_message_new_method_return(m, &reply) >= 0);
        r = sd_bus_message_is_method_call(m, PROPERTIES, "Get")    ? answer_property(f, m, reply) :
            sd_bus_message_is_method_call(m, PROPERTIES, "GetAll") ? answer_all(f, m, reply) :
                                                                     answer_manager(f, m, reply, member);
        if (r < 0)
                (void) sd_bus_reply_method_errorf(m, error_name(r), "%s", strerror(-r));
        else
                (void) sd_bus_send(f->bus, reply, NULL);
        sd_bus_message_unref(reply);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        FakeBus *f = userdata;
        const char *member = sd_bus_message_get_member(m);

        if (!sd_bus_message_is_method_call(m, NULL, NULL))
                return 0;
        f->calls++;
        if (f->hold && streq(member, f->hold)) {
                assert(f->n_held < FAKE_HELD_MAX);
                f->held[f->n_held++] = sd_bus_message_ref(m);
                if (f->deaf) {
                        const char *name;

                        assert(sd_bus_message_read(m, "s", &name) >= 0);
                        execute(f, member, name);
                        assert(sd_bus_message_rewind(m, true) >= 0);
                }
        } else
                answer(f, m);
        return 1;
}

void fake_bus_release(FakeBus *f) {
        f->hold = NULL;
        for (size_t i = 0; i < f->n_held; i++) {
                answer(f, f->held[i]);
                sd_bus_message_unref(f->held[i]);
        }
        f->n_held = 0;
}

/* -- The connection, as a guest of the loop -- */

static int bus_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        FakeBus *f = lib;
        uint64_t deadline_us, now_ms = clock_monotonic_ms();

        *fd = sd_bus_get_fd(f->bus);
        *events = sd_bus_get_events(f->bus);
        if (*fd < 0 || sd_bus_get_timeout(f->bus, &deadline_us) < 0)
                return -ENOTCONN;
        *timeout_ms = deadline_us == UINT64_MAX   ? UINT64_MAX :
                      deadline_us / 1000 < now_ms ? 0 :
                                                    deadline_us / 1000 + 1 - now_ms;
        return 0;
}

static int bus_work(void *lib) {
        FakeBus *f = lib;

        return sd_bus_process(f->bus, NULL);
}

static void bus_broken(void *lib, int error) {
        fake_bus_disconnect(lib);
}

static const GuestOps bus_guest = { .wants = bus_wants, .work = bus_work, .broken = bus_broken };

void fake_bus_disconnect(FakeBus *f) {
        for (size_t i = 0; i < f->n_held; i++)
                sd_bus_message_unref(f->held[i]);
        f->n_held = 0;
        f->guest = f->guest ? guest_close(f->guest) : NULL;
        if (f->bus) {
                sd_bus_close(f->bus);
                f->bus = sd_bus_unref(f->bus);
        }
}

static int listener_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        FakeBus *f = lib;

        *fd = f->listen_fd;
        *events = POLLIN;
        *timeout_ms = UINT64_MAX;
        return 0;
}

static int listener_work(void *lib) {
        FakeBus *f = lib;
        sd_id128_t id = { .bytes = { 1 } };
        struct pollfd ready = { .fd = f->listen_fd, .events = POLLIN };
        int fd; /* of few of all turns: accept4() makes a socket before it looks for a connection */

        if (poll(&ready, 1, 0) <= 0 ||
            (fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0)
                return 0;
        fake_bus_disconnect(f);
        assert(sd_bus_new(&f->bus) >= 0);
        assert(sd_bus_set_fd(f->bus, fd, fd) >= 0);
        assert(sd_bus_set_server(f->bus, true, id) >= 0);
        assert(sd_bus_set_trusted(f->bus, true) >= 0);
        assert(sd_bus_add_filter(f->bus, NULL, on_message, f) >= 0);
        assert(sd_bus_start(f->bus) >= 0);
        assert(guest_open(&f->guest, f->uv, &bus_guest, f) >= 0);
        f->connections++;
        return 1;
}

static void listener_broken(void *lib, int error) {
        assert(!"a listening socket breaks");
}

static const GuestOps listener_guest = { .wants = listener_wants,
                                         .work = listener_work,
                                         .broken = listener_broken };

/* -- Signals -- */

void fake_bus_job_removed(FakeBus *f, unsigned job, const char *unit, const char *result) {
        char path[64];

        snprintf(path, sizeof(path), PATH "/job/%u", job);
        assert(sd_bus_emit_signal(f->bus, PATH, MANAGER, "JobRemoved", "uoss", job, path, unit, result) >= 0);
}

void fake_bus_job_new(FakeBus *f, const char *unit) {
        assert(sd_bus_emit_signal(f->bus, PATH, MANAGER, "JobNew", "uos", ++f->n_new_jobs, PATH "/job/1",
                                  unit) >= 0);
}

void fake_bus_exit(FakeBus *f, const char *unit, const char *result, int code, int status) {
        char path[256];

        unit_path(unit, path);
        assert(sd_bus_emit_signal(f->bus, path, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                                  "org.freedesktop.systemd1.Service", 3, "Result", "s", result,
                                  "ExecMainCode", "i", code, "ExecMainStatus", "i", status, 0) >= 0);
}

void fake_bus_reloading(FakeBus *f, bool active) {
        assert(sd_bus_emit_signal(f->bus, PATH, MANAGER, "Reloading", "b", (int) active) >= 0);
}

void fake_bus_changed(FakeBus *f, const char *unit) {
        char path[256];

        unit_path(unit, path);
        assert(sd_bus_emit_signal(f->bus, path, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                                  "org.freedesktop.systemd1.Unit", 0, 0) >= 0);
}

void fake_bus_change(FakeBus *f, const char *unit, FakeChange c) {
        uint64_t now_us = clock_monotonic_ms() * 1000;
        FakeUnit *u = unit_of(f, unit);
        char path[256];

        if (u) {
                snprintf(u->active, sizeof(u->active), "%s", c.active);
                snprintf(u->sub, sizeof(u->sub), "%s", streq(c.active, "active") ? "running" : "dead");
        }
        unit_path(unit, path);
        if (c.result)
                assert(sd_bus_emit_signal(f->bus, path, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                                          "org.freedesktop.systemd1.Service", 1, "Result", "s", c.result,
                                          0) >= 0);
        assert(sd_bus_emit_signal(f->bus, path, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                                  "org.freedesktop.systemd1.Unit", 7, "ActiveState", "s", c.active, "Job",
                                  "(uo)", c.job, "/", "ConditionResult", "b", (int) !c.skipped,
                                  "ConditionTimestampMonotonic", "t", c.skipped ? now_us : UINT64_C(1),
                                  "ActiveExitTimestampMonotonic", "t", c.left ? now_us : UINT64_C(0),
                                  "InactiveEnterTimestampMonotonic", "t", c.ended ? now_us : UINT64_C(0),
                                  "Id", "s", unit, 0) >= 0);
}

void fake_bus_prepare_for_shutdown(FakeBus *f, bool stopping) {
        f->preparing = stopping;
        assert(sd_bus_emit_signal(f->bus, "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
                                  "PrepareForShutdown", "b", (int) stopping) >= 0);
}

bool fake_bus_is_inhibited(FakeBus *f) {
        char byte;

        return f->inhibitor_fd >= 0 && read(f->inhibitor_fd, &byte, 1) < 0 && errno == EAGAIN;
}

/* -- The object -- */

FakeUnit *fake_bus_unit(FakeBus *f, const char *name, const char *load, const char *active, const char *sub) {
        FakeUnit *u = unit_of(f, name) ?: &f->units[f->n_units++];

        assert(f->n_units <= FAKE_UNITS_MAX);
        *u = (FakeUnit) {};
        snprintf(u->name, sizeof(u->name), "%s", name);
        snprintf(u->load, sizeof(u->load), "%s", load);
        snprintf(u->active, sizeof(u->active), "%s", active);
        snprintf(u->sub, sizeof(u->sub), "%s", sub);
        return u;
}

FakeBus *fake_bus_new(UvLoop *uv, const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        FakeBus *f = NEW0(FakeBus, 1);

        assert(f && strlen(path) < sizeof(address.sun_path));
        f->uv = uv;
        f->state = "running";
        f->inhibitor_fd = -1;
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        snprintf(f->address, sizeof(f->address), "unix:path=%s", path);
        f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert(f->listen_fd >= 0 && bind(f->listen_fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
               listen(f->listen_fd, 8) == 0);
        assert(guest_open(&f->listener, uv, &listener_guest, f) >= 0);
        return f;
}

FakeBus *fake_bus_free(FakeBus *f) {
        if (!f)
                return NULL;
        if (f->inhibitor_fd >= 0)
                close(f->inhibitor_fd);
        fake_bus_disconnect(f);
        guest_close(f->listener);
        close(f->listen_fd);
        text_done(&f->call_log);
        free(f);
        return NULL;
}
