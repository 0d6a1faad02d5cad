/* One operation: from its call to systemd's answer, or for a stop to the end of its job. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "fleetd/systemd/bus_internal.h"
#include "units/install.h"
#include "units/name.h"
#include "units/quadlet.h"

/* -- Calls -- */

static void call_free(BusCall *call) {
        TAILQ_REMOVE(&call->bus->calls, call, calls);
        sd_bus_slot_unref(call->slot);
        deferred_cancel(&call->finish);
        names_done(&call->install);
        names_done(&call->names);
        free(call);
}

void job_call_finish(BusCall *call) {
        SystemdDone done = call->done;
        void *userdata = call->userdata;
        char sentence[sizeof(call->sentence)];
        int error = call->error;

        memcpy(sentence, call->sentence, sizeof(sentence));
        call_free(call);
        done(userdata, error, sentence);
}

static void call_on_finish(void *userdata) {
        job_call_finish(userdata);
}

void job_call_fail(BusCall *call, int error, const char *sentence) {
        call->error = error;
        snprintf(call->sentence, sizeof(call->sentence), "%s", sentence);
        call->slot = sd_bus_slot_unref(call->slot);
        loop_defer(call->bus->loop, &call->finish);
}

static BusCall *call_new(SystemdBus *b, SystemdDone done, void *userdata, const char *verb,
                         const char *name) {
        BusCall *call = NEW0(BusCall, 1);

        if (!call)
                return NULL;
        call->bus = b;
        call->done = done;
        call->userdata = userdata;
        call->finish = DEFERRED(call_on_finish, call);
        snprintf(call->what, sizeof(call->what), "%s %s", verb, name);
        TAILQ_INSERT_TAIL(&b->calls, call, calls);
        return call;
}

static int call_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusCall *call = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);

        call->slot = sd_bus_slot_unref(call->slot);
        if (e) {
                call->error = streq(e->name, SYSTEMD ".UnitExists") ? -EEXIST : -sd_bus_error_get_errno(e);
                snprintf(call->sentence, sizeof(call->sentence), "systemd will not %s: %s", call->what,
                         e->message ?: e->name);
                job_call_finish(call);
        } else if (call->answer)
                call->answer(call, reply);
        else
                job_call_finish(call);
        return 1;
}

/* Sends 'm' (taken); a message that could not be built is NULL. 0: the call ends by itself, whatever became
 * of it. */
static int call_send(BusCall *call, sd_bus_message *m, int error) {
        if (error >= 0)
                error = sd_bus_call_async(call->bus->bus, &call->slot, m, call_on_reply, call,
                                          BUS_CALL_TIMEOUT_US);
        sd_bus_message_unref(m);
        if (error < 0)
                job_call_fail(call, -ENOTCONN, strerror(-error));
        return 0;
}

/* -- Jobs -- */

static bool bus_job_is_gone(const SystemdBus *b, const char *job) {
        for (unsigned i = 0; i < BUS_JOBS_GONE; i++)
                if (streq(b->gone[i], job))
                        return true;
        return false;
}

static void stop_on_answer(BusCall *call, sd_bus_message *reply) {
        const char *job = "";

        if (sd_bus_message_read(reply, "o", &job) < 0 || bus_job_is_gone(call->bus, job))
                job_call_finish(call);
        else
                snprintf(call->job, sizeof(call->job), "%s", job);
}

static void job_tell_removed(SystemdBus *b, const char *unit, const void *result) {
        RuntimeDirEntry *e;

        HASH_FIND_STR(b->dir.entries, unit, e);
        if (e && streq(result, "canceled"))
                systemd_trace_job_canceled(&e->trace, clock_monotonic_ms() * 1000);
        if (b->events.on_job_removed)
                b->events.on_job_removed(b->events.userdata, unit, result);
}

int job_on_removed(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *job, *unit, *result;
        BusCall *call, *next;
        uint32_t id;

        if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0)
                return 0;

        b->target_job = 0;
        snprintf(b->gone[b->next_gone++ % BUS_JOBS_GONE], sizeof(b->gone[0]), "%s", job);
        bus_each_unit(b, unit, job_tell_removed, result);
        for (call = TAILQ_FIRST(&b->calls); call; call = next) {
                next = TAILQ_NEXT(call, calls);
                if (call->job[0] && streq(call->job, job))
                        loop_defer(b->loop, &call->finish);
        }
        return 0;
}

static int job_start_or_stop(Systemd *s, const char *member, const char *verb, const char *name,
                             SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, verb, name);
        char known_as[UNIT_NAME_MAX + 32];
        sd_bus_message *m;
        int r;

        if (!call)
                return -ENOMEM;
        quadlet_service(name, known_as);
        if (streq(verb, "stop"))
                call->answer = stop_on_answer;
        r = manager_method(b, member, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", known_as, "replace");
        return call_send(call, m, r);
}

int job_start(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        RuntimeDirEntry *e;

        HASH_FIND_STR(systemd_bus(s)->dir.entries, name, e);
        if (e)
                systemd_trace_begin(&e->trace);
        return job_start_or_stop(s, "StartUnit", "start", name, done, userdata);
}

int job_stop(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return job_start_or_stop(s, "StopUnit", "stop", name, done, userdata);
}

int job_reset_failed(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "reset", name);
        char known_as[UNIT_NAME_MAX + 32];
        sd_bus_message *m;
        int r;

        if (!call)
                return -ENOMEM;
        quadlet_service(name, known_as);
        r = manager_method(b, "ResetFailedUnit", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", known_as);
        return call_send(call, m, r);
}

int job_reload(Systemd *s, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "reload", "its units");
        sd_bus_message *m;
        int r;

        if (!call)
                return -ENOMEM;
        r = manager_method(b, "Reload", &m);
        return call_send(call, m, r);
}

/* -- Links -- */

static bool all_quadlets(const char *const *names, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!quadlet_is(names[i]))
                        return false;
        return true;
}

static int append_paths(SystemdBus *b, sd_bus_message *m, const char *const *names, size_t n) {
        char path[600];
        int r;

        r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < n; i++) {
                if (quadlet_is(names[i]))
                        continue;
                snprintf(path, sizeof(path), "%s/%s", b->dir.path, names[i]);
                r = sd_bus_message_append(m, "s", path);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* LinkUnitFiles or EnableUnitFiles: at runtime. Not by force: a link of ours is there as it was, any other
 * one is somebody's. */
static int call_send_files(BusCall *call, const char *member, const char *const *names, size_t n) {
        sd_bus_message *m;
        int r;

        r = manager_method(call->bus, member, &m);
        if (r >= 0)
                r = append_paths(call->bus, m, names, n);
        if (r >= 0)
                r = sd_bus_message_append(m, "bb", true, false);
        return call_send(call, m, r);
}

/* What has an [Install] section is enabled as soon as it is linked, as fleet did. */
static void link_on_answer(BusCall *call, sd_bus_message *reply) {
        if (call->install.n == 0) {
                job_call_finish(call);
                return;
        }
        call->answer = NULL;
        (void) call_send_files(call, "EnableUnitFiles", (const char *const *) call->install.items,
                               call->install.n);
}

static int link_send(BusCall *call) {
        call->answer = link_on_answer;
        return call_send_files(call, "LinkUnitFiles", (const char *const *) call->names.items, call->names.n);
}

/* What our units would be called besides, or have enabled with them, must not be the host's. */
static void link_on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        BusCall *call = userdata;
        char sentence[400];

        for (size_t i = 0; error == 0 && i < n; i++) {
                if (units[i].owner != SYSTEMD_CONFLICTING ||
                    runtime_dir_has(&call->bus->dir, units[i].fragment))
                        continue;
                snprintf(sentence, sizeof(sentence),
                         "its [Install] names %.200s, which this host has from elsewhere", units[i].name);
                job_call_fail(call, -EEXIST, sentence);
                return;
        }
        if (error < 0)
                job_call_fail(call, error, "the names in [Install] cannot be looked at");
        else
                (void) link_send(call);
}

static int link_add_name(void *userdata, const UnitOption *option, const char *name) {
        return unit_name_check(name, NULL) < 0 ? 0 : names_add(userdata, name, strlen(name));
}

/* The unit, and what its [Install] names if it is to be enabled. */
static int link_add(BusCall *call, const char *unit, Names *installed) {
        const RuntimeDirEntry *e = NULL;
        size_t before = installed->n;
        int r = runtime_dir_get(&call->bus->dir, unit, &e);

        if (r == 0)
                r = names_add(&call->names, unit, strlen(unit));
        if (r < 0 || !e || !e->install ||
            quadlet_is(unit)) /* what a Quadlet file says in [Install], its generator does */
                return r;
        r = runtime_dir_each_installed(&call->bus->dir, unit, link_add_name, installed);
        if (r == -E2BIG) { /* it was stored before there was a limit; not all of its names were checked */
                log_warning(((LogFields) { .unit = unit }),
                            "%s runs without its [Install]: more than %d names in Alias= and Also=", unit,
                            INSTALL_NAMES_MAX);
                names_cut(installed, before);
                return 0;
        }
        return r < 0 ? r : names_add(&call->install, unit, strlen(unit));
}

int job_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "link", n == 1 ? names[0] : "the units");
        _cleanup_names_ Names installed = {};
        int r = call ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = link_add(call, names[i], &installed);
        if (r == 0 && installed.n > 0)
                r = manager_list(s, (const char *const *) installed.items, installed.n, false, link_on_listed,
                                 call);
        if (r < 0 && call)
                call_free(call);
        if (r < 0 || installed.n > 0)
                return r;
        if (all_quadlets(names, n)) {
                loop_defer(b->loop, &call->finish);
                return 0;
        }
        return link_send(call);
}

/* Without its source the generator makes no service any more, at the next reload: that is now. */
static void unlink_on_answer(BusCall *call, sd_bus_message *unused) {
        sd_bus_message *m;
        int r = manager_method(call->bus, "Reload", &m);

        call->answer = NULL;
        (void) call_send(call, m, r);
}

/* One that systemd can unlink (for one without a link it refuses the whole call), and that is not the host's.
 */
static bool is_linked(const SystemdBus *b, const char *name) {
        return !quadlet_is(name) && runtime_dir_links(&b->dir, name);
}

int job_unlink(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        SystemdBus *b = systemd_bus(s);
        BusCall *call = call_new(b, done, userdata, "unlink", n == 1 ? names[0] : "the units");
        sd_bus_message *m;
        size_t n_linked = 0;
        int r;

        if (!call)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                n_linked += is_linked(b, names[i]);
        for (size_t i = 0; i < n; i++)
                if (quadlet_is(names[i])) {
                        runtime_dir_withdraw(&b->dir, names[i]);
                        call->answer = unlink_on_answer;
                }
        if (n_linked == 0) {
                if (call->answer)
                        unlink_on_answer(call, NULL);
                else
                        loop_defer(b->loop, &call->finish);
                return 0;
        }
        r = manager_method(b, "DisableUnitFiles", &m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < n; i++)
                if (is_linked(b, names[i]))
                        r = sd_bus_message_append(m, "s", names[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", true);
        return call_send(call, m, r);
}
