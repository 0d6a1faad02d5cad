/* One operation: from its call to the reply or, for a stop or a reload, to the end of its job. */
#include <signal.h>

#include "base/log.h"
#include "fleetd/systemd/bus_internal.h"
#include "units/install.h"
#include "units/quadlet.h"

/* -- Calls -- */

void job_call_free(BusCall *call) {
        TAILQ_REMOVE(&call->bus->calls, call, calls);
        sd_bus_slot_unref(call->slot);
        deferred_cancel(&call->finish);
        names_done(&call->install);
        names_done(&call->names);
        free(call);
}

void job_call_finish(void *finished) {
        BusCall *call = finished;
        SystemdDone done = call->done;
        void *userdata = call->userdata;
        char message[sizeof(call->message)];
        int error = call->error;

        memcpy(message, call->message, sizeof(message));
        job_call_free(call);
        done(userdata, error, message);
}

void job_call_fail(BusCall *call, int error, const char *message) {
        call->error = error;
        text_format(call->message, sizeof(call->message), "%s", message);
        call->slot = sd_bus_slot_unref(call->slot);
        loop_defer(call->bus->loop, &call->finish);
}

BusCall *job_call_new(SystemdBus *b, const char *member, SystemdDone done, void *userdata) {
        BusCall *call = NEW0(BusCall, 1);

        if (!call)
                return NULL;
        call->bus = b;
        call->member = member;
        call->done = done;
        call->userdata = userdata;
        call->finish = DEFERRED(job_call_finish, call);
        TAILQ_INSERT_TAIL(&b->calls, call, calls);
        return call;
}

static int job_call_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusCall *call = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        char message[sizeof(call->message)];

        call->slot = sd_bus_slot_unref(call->slot);
        if (e) {
                call->error = streq(e->name, SYSTEMD ".UnitExists") ? -EEXIST : -sd_bus_error_get_errno(e);
                manager_copy_message(message, sizeof(message), e->message ?: e->name);
                /* The message of a rejected start is published as the reason of the unit. */
                if (streq(call->member, "StartUnit"))
                        memcpy(call->message, message, sizeof(message));
                else
                        text_format(call->message, sizeof(call->message), "systemd rejected %s: %s",
                                    call->member, message);
                job_call_finish(call);
        } else if (call->on_reply)
                call->on_reply(call, reply);
        else
                job_call_finish(call);
        return 1;
}

int job_call_send(BusCall *call, sd_bus_message *m, int error) {
        if (error >= 0)
                error = sd_bus_call_async(call->bus->bus, &call->slot, m, job_call_on_reply, call,
                                          BUS_CALL_TIMEOUT_US);
        sd_bus_message_unref(m);
        if (error < 0)
                job_call_fail(call, -ENOTCONN, strerror(-error));
        return 0;
}

/* -- Jobs -- */

/* Return the result of a job that was removed, or NULL. */
static const char *job_is_removed(const SystemdBus *b, const char *job) {
        for (unsigned i = 0; i < BUS_REMOVED_JOBS; i++)
                if (streq(b->removed_jobs[i].path, job))
                        return b->removed_jobs[i].result;
        return NULL;
}

/* Only a command that ran has failed. Otherwise its job was canceled, or lacked resources, for example; or
 * the process of systemd ended before it could execute the program, and has one of its exit statuses.
 *
 * Source: systemd.exec(5), "Process Exit Codes". */
static void job_set_run_result(BusCall *call, const char *result) {
        enum { NOT_EXECUTED_MIN = 200, NOT_EXECUTED_MAX = 245 };
        static const char *const of_command[] = { "", "exit-code", "signal", "core-dump", "timeout" };

        call->error = -ECANCELED;
        for (size_t i = 0; i < ELEMENTS(of_command) && streq(result, "failed"); i++)
                if (streq(call->result, of_command[i]))
                        call->error = -EREMOTEIO;
        if (call->error == -ECANCELED)
                text_format(call->message, sizeof(call->message), "its job ended with: %s",
                            streq(result, "failed") ? call->result : result);
        else if (call->exit_code == CLD_EXITED && call->exit_status >= NOT_EXECUTED_MIN &&
                 call->exit_status <= NOT_EXECUTED_MAX) {
                call->error = -ENOEXEC;
                text_format(call->message, sizeof(call->message),
                            "systemd could not execute it: exit status %d", call->exit_status);
        }
}

/* A stop that fails ends, too: the state of the unit shows the rest. */
static void job_set_result(BusCall *call, const char *result) {
        if (streq(result, "done"))
                return;
        if (streq(call->member, "StartTransientUnit"))
                job_set_run_result(call, result);
        if (!streq(call->member, "ReloadUnit"))
                return;
        call->error = -EIO;
        text_format(call->message, sizeof(call->message), "its reload has failed");
}

void job_await_on_reply(BusCall *call, sd_bus_message *reply) {
        const char *job = "", *result = NULL;

        if (sd_bus_message_read(reply, "o", &job) < 0 || (result = job_is_removed(call->bus, job))) {
                job_set_result(call, result ?: "done");
                job_call_finish(call);
        } else
                snprintf(call->job, sizeof(call->job), "%s", job);
}

void job_removed(SystemdBus *b, const char *job, const char *result) {
        unsigned next = b->next_removed++ % BUS_REMOVED_JOBS;
        BusCall *call;

        snprintf(b->removed_jobs[next].path, sizeof(b->removed_jobs[next].path), "%s", job);
        snprintf(b->removed_jobs[next].result, BUS_RESULT_SIZE, "%s", result);
        TAILQ_FOREACH(call, &b->calls, calls) {
                if (!call->job[0] || !streq(call->job, job))
                        continue;
                job_set_result(call, result);
                loop_defer(b->loop, &call->finish);
        }
}

static int job_unit_message(SystemdBus *b, const char *member, const char *mode, const char *name,
                            sd_bus_message **ret) {
        char known_as[BUS_NAME_SIZE];
        int r;

        quadlet_service(name, known_as);
        TRY(manager_method(b, member, ret));
        r = sd_bus_message_append(*ret, "s", known_as);
        return r < 0 || !mode ? r : sd_bus_message_append(*ret, "s", mode);
}

/* Call a method of the manager that takes a unit and, if it queues a job, a job mode. */
static int job_call_unit(Systemd *s, const char *member, const char *mode, const char *name,
                         void (*on_reply)(BusCall *call, sd_bus_message *reply), SystemdDone done,
                         void *userdata) {
        BusCall *call = job_call_new(systemd_bus(s), member, done, userdata);
        sd_bus_message *m;
        int r;

        if (!call)
                return -ENOMEM;
        call->on_reply = on_reply;
        r = job_unit_message(call->bus, member, mode, name, &m);
        return job_call_send(call, m, r);
}

int job_start(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        RuntimeDirEntry *e = runtime_dir_find(&systemd_bus(s)->dir, name);

        if (e)
                systemd_trace_begin(&e->trace);
        return job_call_unit(s, "StartUnit", "replace", name, NULL, done, userdata);
}

int job_stop(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return job_call_unit(s, "StopUnit", "replace", name, job_await_on_reply, done, userdata);
}

int job_reload_unit(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return job_call_unit(s, "ReloadUnit", "replace", name, job_await_on_reply, done, userdata);
}

int job_restart(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        RuntimeDirEntry *e = runtime_dir_find(&systemd_bus(s)->dir, name);

        if (e)
                systemd_trace_begin(&e->trace);
        return job_call_unit(s, "RestartUnit", "replace", name, NULL, done, userdata);
}

int job_reset_failed(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return job_call_unit(s, "ResetFailedUnit", NULL, name, NULL, done, userdata);
}

/* Reload, and end the call with that. Also follows the removal of Quadlet files: the generator drops their
 * services at the next reload. */
static void job_send_reload(BusCall *call, sd_bus_message *unused) {
        sd_bus_message *m;
        int r = manager_method(call->bus, "Reload", &m);

        call->on_reply = NULL;
        call->member = "Reload";
        (void) job_call_send(call, m, r);
}

int job_reload(Systemd *s, SystemdDone done, void *userdata) {
        BusCall *call = job_call_new(systemd_bus(s), "Reload", done, userdata);

        if (!call)
                return -ENOMEM;
        job_send_reload(call, NULL);
        return 0;
}

/* -- Links -- */

/* LinkUnitFiles or EnableUnitFiles, at runtime. Not with force: a link of ours stays as it is, and any other
 * link belongs to the host. */
static int job_link_message(SystemdBus *b, const char *member, const Names *names, sd_bus_message **ret) {
        char path[RUNTIME_PATH_SIZE];
        int r;

        TRY(manager_method(b, member, ret));
        r = sd_bus_message_open_container(*ret, 'a', "s");
        for (size_t i = 0; r >= 0 && i < names->n; i++) {
                if (quadlet_is(names->items[i]))
                        continue;
                snprintf(path, sizeof(path), "%s/%s", b->dir.path, names->items[i]);
                r = sd_bus_message_append(*ret, "s", path);
        }
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(*ret);
        return r < 0 ? r : sd_bus_message_append(*ret, "bb", true, false);
}

static int job_link_send(BusCall *call, const Names *names) {
        sd_bus_message *m;
        int r = job_link_message(call->bus, call->member, names, &m);

        return job_call_send(call, m, r);
}

/* Enable units with an [Install] section after linking, as fleet did. */
static void job_link_on_reply(BusCall *call, sd_bus_message *reply) {
        if (call->install.n == 0) {
                job_call_finish(call);
                return;
        }
        call->on_reply = NULL;
        call->member = "EnableUnitFiles";
        (void) job_link_send(call, &call->install);
}

/* Other names of our units, and units that [Install] enables, must not belong to the host. */
static void job_link_on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        BusCall *call = userdata;
        char message[BUS_MESSAGE_SIZE];

        for (size_t i = 0; error == 0 && i < n; i++) {
                if (units[i].owner != SYSTEMD_CONFLICTING ||
                    runtime_dir_has(&call->bus->dir, units[i].fragment))
                        continue;
                snprintf(message, sizeof(message),
                         "[Install] names %.200s, which this host has from another source", units[i].name);
                job_call_fail(call, -EEXIST, message);
                return;
        }
        if (error < 0)
                job_call_fail(call, error, "Failed to list the names in [Install]");
        else
                (void) job_link_send(call, &call->names);
}

static int job_link_add_name(void *userdata, const UnitOption *option, const char *name) {
        return unit_name_check(name, NULL) < 0 ? 0 : names_add(userdata, name, strlen(name));
}

/* Add a unit and, if it is to be enabled, the names in its [Install] section. */
static int job_link_add(BusCall *call, const char *unit, Names *installed) {
        const RuntimeDirEntry *e = NULL;
        size_t before = installed->n;
        int r;

        TRY(runtime_dir_get(&call->bus->dir, unit, &e));
        r = names_add(&call->names, unit, strlen(unit));
        if (r < 0 || !e || !e->install ||
            quadlet_is(unit)) /* the generator executes [Install] of Quadlet files */
                return r;
        r = runtime_dir_each_installed(&call->bus->dir, unit, job_link_add_name, installed);
        if (r == -E2BIG) { /* submitted before that limit existed; its other names are not checked */
                log_warning(((LogFields) { .unit = unit }),
                            "%s: ignoring [Install]: more than %d names in Alias= and Also=", unit,
                            INSTALL_NAMES_MAX);
                names_cut(installed, before);
                return 0;
        }
        return r < 0 ? r : names_add(&call->install, unit, strlen(unit));
}

int job_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = job_call_new(b, "LinkUnitFiles", done, userdata);
        _cleanup_names_ Names installed = {};
        bool all_quadlets = true;
        int r = 0;

        if (!call)
                return -ENOMEM;
        call->on_reply = job_link_on_reply;
        for (size_t i = 0; r == 0 && i < n; i++) {
                r = job_link_add(call, names[i], &installed);
                all_quadlets &= quadlet_is(names[i]);
        }
        if (r < 0) {
                job_call_free(call);
                return r;
        }
        if (installed.n > 0) {
                r = manager_list(s, (const char *const *) installed.items, installed.n, false,
                                 job_link_on_listed, call);
                if (r < 0)
                        job_call_free(call);
                return r;
        }
        if (all_quadlets) {
                loop_defer(b->loop, &call->finish);
                return 0;
        }
        return job_link_send(call, &call->names);
}

static int job_unlink_message(SystemdBus *b, char **names, sd_bus_message **ret) {
        int r;

        TRY(manager_method(b, "DisableUnitFiles", ret));
        r = sd_bus_message_append_strv(*ret, names);
        return r < 0 ? r : sd_bus_message_append(*ret, "b", true);
}

/* systemd rejects the whole call for a name without a link, and links of the host stay. */
int job_unlink(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        _cleanup_free_ char **linked = NEW0(char *, n + 1); /* borrowed names */
        BusCall *call = linked ? job_call_new(b, "DisableUnitFiles", done, userdata) : NULL;
        sd_bus_message *m;
        size_t n_linked = 0;
        int r;

        if (!call)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (quadlet_is(names[i])) {
                        runtime_dir_withdraw(&b->dir, names[i]);
                        call->on_reply = job_send_reload;
                } else if (runtime_dir_links(&b->dir, names[i]))
                        linked[n_linked++] = (char *) names[i];
        if (n_linked == 0) {
                if (call->on_reply)
                        job_send_reload(call, NULL);
                else
                        loop_defer(b->loop, &call->finish);
                return 0;
        }
        r = job_unlink_message(b, linked, &m);
        return job_call_send(call, m, r);
}
