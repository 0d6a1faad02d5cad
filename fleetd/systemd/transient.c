#include "fleetd/systemd/transient.h"

#include <signal.h>

#include "fleetd/systemd/bus_internal.h"

enum {
        SLICE_MEMORY_MAX = 128 * 1024 * 1024,
        SLICE_TASKS_MAX = 64,
        CPU_WEIGHT_IDLE = 0, /* CPUWeight=idle; systemd 252 and later */
        CPU_WEIGHT_LEAST = 1,
        STOP_US = 1000000,
        LOG_LEVEL_NOTICE = 5, /* not a line for each start and end */
};

static int transient_property_u64(sd_bus_message *m, const char *name, uint64_t value) {
        return sd_bus_message_append(m, "(sv)", name, "t", value);
}

static int transient_property_string(sd_bus_message *m, const char *name, const char *value) {
        return sd_bus_message_append(m, "(sv)", name, "s", value);
}

/* Append the name, the job mode and the begin of the properties. */
static int transient_begin(SystemdBus *b, const char *name, const char *mode, sd_bus_message **ret) {
        int r = manager_method(b, "StartTransientUnit", ret);

        r = r < 0 ? r : sd_bus_message_append(*ret, "ss", name, mode);
        return r < 0 ? r : sd_bus_message_open_container(*ret, 'a', "(sv)");
}

static int transient_end(sd_bus_message *m) {
        int r = sd_bus_message_close_container(m);

        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

/* -- The slice -- */

static int transient_slice_message(SystemdBus *b, uint64_t cpu_weight, sd_bus_message **ret) {
        int r = transient_begin(b, TRANSIENT_SLICE, "replace", ret);

        r = r < 0 ? r : transient_property_string(*ret, "Description", "Health checks of fleet units");
        r = r < 0 ? r : transient_property_u64(*ret, "MemoryMax", SLICE_MEMORY_MAX);
        r = r < 0 ? r : transient_property_u64(*ret, "TasksMax", SLICE_TASKS_MAX);
        r = r < 0 ? r : transient_property_u64(*ret, "CPUWeight", cpu_weight);
        return r < 0 ? r : transient_end(*ret);
}

static int transient_on_slice(sd_bus_message *reply, void *userdata, sd_bus_error *unused);

/* The reply is awaited: a check that starts first would load the slice without its limits. */
static int transient_send_slice(BusCall *call, uint64_t cpu_weight) {
        sd_bus_message *m = NULL;
        int r = transient_slice_message(call->bus, cpu_weight, &m);

        if (r >= 0)
                r = sd_bus_call_async(call->bus->bus, &call->slot, m, transient_on_slice, call,
                                      BUS_CALL_TIMEOUT_US);
        sd_bus_message_unref(m);
        return r;
}

/* -- The command -- */

static int transient_append_command(sd_bus_message *m, const Names *argv) {
        int r = sd_bus_message_open_container(m, 'r', "sv");

        r = r < 0 ? r : sd_bus_message_append(m, "s", "ExecStart");
        r = r < 0 ? r : sd_bus_message_open_container(m, 'v', "a(sasb)");
        r = r < 0 ? r : sd_bus_message_open_container(m, 'a', "(sasb)");
        r = r < 0 ? r : sd_bus_message_open_container(m, 'r', "sasb");
        r = r < 0 ? r : sd_bus_message_append(m, "s", argv->items[0]);
        r = r < 0 ? r : sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < argv->n; i++)
                r = sd_bus_message_append(m, "s", argv->items[i]);
        r = r < 0 ? r : sd_bus_message_close_container(m);
        r = r < 0 ? r : sd_bus_message_append(m, "b", false);
        for (unsigned i = 0; r >= 0 && i < 4; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int transient_command_message(BusCall *call, sd_bus_message **ret) {
        int r;

        snprintf(call->unit, sizeof(call->unit), TRANSIENT_PREFIX "%016llx.service",
                 (unsigned long long) random_u64(loop_random(call->bus->loop)));
        r = transient_begin(call->bus, call->unit, "fail", ret);
        r = r < 0 ? r : transient_property_string(*ret, "Description", call->names.items[0]);
        r = r < 0 ? r : transient_property_string(*ret, "Slice", TRANSIENT_SLICE);
        /* The start of a oneshot service lasts as long as the command, and its timeout is that of the start:
         * RuntimeMaxSec= has no effect on one, systemd.service(5). */
        r = r < 0 ? r : transient_property_string(*ret, "Type", "oneshot");
        r = r < 0 ? r : transient_property_u64(*ret, "TimeoutStartUSec", call->timeout_ms * 1000);
        r = r < 0 ? r : transient_property_u64(*ret, "TimeoutStopUSec", STOP_US);
        r = r < 0 ? r : transient_property_string(*ret, "KillMode", "control-group");
        r = r < 0 ? r : sd_bus_message_append(*ret, "(sv)", "KillSignal", "i", SIGKILL);
        r = r < 0 ? r : transient_property_string(*ret, "CollectMode", "inactive-or-failed");
        r = r < 0 ? r : transient_property_string(*ret, "StandardOutput", "null");
        r = r < 0 ? r : transient_property_string(*ret, "StandardError", "null");
        r = r < 0 ? r : sd_bus_message_append(*ret, "(sv)", "LogLevelMax", "i", LOG_LEVEL_NOTICE);
        if (call->install.n > 0)
                r = r < 0 ? r : transient_property_string(*ret, "User", call->install.items[0]);
        r = r < 0 ? r : transient_append_command(*ret, &call->names);
        return r < 0 ? r : transient_end(*ret);
}

static void transient_on_begun(BusCall *call, sd_bus_message *reply) {
        if (call->on_begun)
                call->on_begun(call->userdata);
        job_await_on_reply(call, reply);
}

static int transient_send_command(BusCall *call) {
        sd_bus_message *m = NULL;
        int r = transient_command_message(call, &m);

        call->on_reply = transient_on_begun;
        return job_call_send(call, m, r);
}

static int transient_on_slice(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        BusCall *call = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        bool exists = e && streq(e->name, SYSTEMD ".UnitExists");

        call->slot = sd_bus_slot_unref(call->slot);
        if (e && !exists && !call->retried && (call->retried = true) &&
            transient_send_slice(call, CPU_WEIGHT_LEAST) >= 0) /* an older systemd */
                return 1;
        call->bus->has_check_slice = !e || exists;
        (void) transient_send_command(call);
        return 1;
}

int transient_run(Systemd *s, const SystemdRun *run, SystemdDone done, void *userdata) {
        BusCall *call = job_call_new(systemd_bus(s), "StartTransientUnit", done, userdata);
        int r = 0;

        if (!call)
                return -ENOMEM;
        call->timeout_ms = run->timeout_ms;
        call->on_begun = run->on_begun;
        for (size_t i = 0; r == 0 && i < run->argv->n; i++)
                r = names_add(&call->names, run->argv->items[i], strlen(run->argv->items[i]));
        if (r == 0 && run->user[0])
                r = names_add(&call->install, run->user, strlen(run->user));
        if (r < 0) {
                job_call_free(call);
                return r;
        }
        if (call->bus->has_check_slice || transient_send_slice(call, CPU_WEIGHT_IDLE) < 0)
                (void) transient_send_command(call);
        return 0;
}
