/* Signals of systemd: they update the traces of units and notify the agent which units to read again. */
#include <signal.h>

#include "fleetd/systemd/bus_internal.h"
#include "fleetd/systemd/transient.h"
#include "units/quadlet.h"
#include "units/state.h"

enum { TRANSACTION_US = 250000 }; /* pause after which a new job belongs to another transaction */

static int signals_on_reloading(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        int active;

        if (sd_bus_message_read(m, "b", &active) < 0)
                return 0;
        b->reloading = active;
        bus_set_ready(b, !active);
        return 0;
}

/* Content of a signal, in addition to the fact that a unit changed. */
typedef struct UnitSignal {
        SystemdBus *bus;
        SystemdChange change; /* 'active' NULL: none */
        bool is_job, with_target;
        int exit_code;          /* ExecMainCode; 0: none */
        int exit_status;        /* ExecMainStatus, with that */
        const char *result;     /* of a service; NULL: none */
        const char *job_result; /* of a removed job; NULL: none */
} UnitSignal;

static uint64_t signals_now_us(void) {
        return clock_monotonic_ms() * 1000;
}

static void signals_deliver(const UnitSignal *signal, const char *unit) {
        const SystemdEvents *events = &signal->bus->events;
        RuntimeDirEntry *e = runtime_dir_find(&signal->bus->dir, unit);

        if (e && signal->change.active)
                systemd_trace_change(&e->trace, &signal->change);
        if (e && signal->is_job)
                e->trace.with_target = signal->with_target;
        if (e && signal->exit_code != 0)
                e->trace.killed = signal->exit_code != CLD_EXITED;
        if (e && signal->result)
                e->trace.skipped = streq(signal->result, "exec-condition");
        if (e && signal->job_result && streq(signal->job_result, "canceled"))
                systemd_trace_job_canceled(&e->trace, signals_now_us());
        if (signal->job_result && events->on_job_removed)
                events->on_job_removed(events->userdata, unit, signal->job_result);
        else if (!signal->job_result && events->on_changed)
                events->on_changed(events->userdata, unit);
}

static void signals_on_source(void *userdata, const char *name) {
        const UnitSignal *signal = userdata;

        if (runtime_dir_find(&signal->bus->dir, name))
                signals_deliver(signal, name);
}

/* Deliver a signal to the unit of this name in systemd, and to Quadlet files that it was generated from.
 * A change of shutdown.target may begin or cancel the shutdown, which SystemState shows. */
static void signals_deliver_all(UnitSignal *signal, const char *known_as) {
        bus_count_signal(signal->bus);
        if (streq(known_as, "shutdown.target"))
                bus_request_state(signal->bus);
        if (streq(known_as, "boot-complete.target") && !signal->is_job && !signal->job_result)
                bus_request_boot(signal->bus);
        signals_deliver(signal, known_as);
        quadlet_each_source(known_as, signals_on_source, signal);
}

static int signals_on_job_new(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        uint64_t now_us = signals_now_us();
        const char *job, *unit;
        uint32_t id;

        if (sd_bus_message_read(m, "uos", &id, &job, &unit) < 0)
                return 0;
        if (now_us - b->target_us > TRANSACTION_US)
                b->target_job = 0;
        if (streq(unit_name_type(unit), "target"))
                b->target_job = id;
        b->target_us = now_us;
        systemd_moves_add(&b->moves, unit, now_us, b->n_signals);
        signals_deliver_all(&(UnitSignal) { .bus = b,
                                            .is_job = true,
                                            .with_target = b->target_job != 0 && id > b->target_job },
                            unit);
        return 0;
}

/* Read one entry of a{sv}; skip those that are not needed. */
static int signals_read_property(sd_bus_message *m, const char *name, UnitSignal *signal) {
        SystemdChange *c = &signal->change;
        const struct {
                const char *name, *type;
                void *to;
        } wanted[] = {
                { "ActiveState", "s", &c->active },
                { "ConditionTimestampMonotonic", "t", &c->checked_us },
                { "ActiveExitTimestampMonotonic", "t", &c->left_us },
                { "InactiveEnterTimestampMonotonic", "t", &c->ended_us },
                { "ExecMainCode", "i", &signal->exit_code },
                { "ExecMainStatus", "i", &signal->exit_status },
                { "Result", "s", &signal->result },
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

static int signals_read_entry(sd_bus_message *m, UnitSignal *signal) {
        const char *name;
        int r;

        TRY(sd_bus_message_read(m, "s", &name));
        r = signals_read_property(m, name, signal);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Read the properties of a unit or a service. Signals about other interfaces only state that the unit
 * changed. */
static void signals_read_properties(sd_bus_message *m, const char *unit, UnitSignal *signal) {
        const SystemdChange *c = &signal->change;
        const char *interface;
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0 || (!streq(interface, SYSTEMD ".Unit") && !streq(interface, SYSTEMD ".Service")))
                return;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0)
                r = signals_read_entry(m, signal);
        if (r < 0)
                signal->change.active = NULL;
        else if (c->active && !active_state_is_up(c->active) && c->left_us != 0)
                systemd_moves_add(&signal->bus->moves, unit, c->left_us, signal->bus->n_signals);
}

/* The service of a command is unloaded when it has ended: how it ended is in the signal alone. */
static void signals_note_command(const UnitSignal *signal, const char *name) {
        BusCall *call;

        TAILQ_FOREACH(call, &signal->bus->calls, calls) {
                if (!streq(call->unit, name))
                        continue;
                if (signal->exit_code != 0) {
                        call->exit_code = signal->exit_code;
                        call->exit_status = signal->exit_status;
                }
                if (signal->result && !streq(signal->result, "success"))
                        snprintf(call->result, sizeof(call->result), "%s", signal->result);
        }
}

static int signals_on_properties(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        _cleanup_free_ char *name = NULL;
        SystemdBus *b = userdata;
        UnitSignal signal = { .bus = b, .change.signal = b->n_signals };

        if (sd_bus_path_decode(sd_bus_message_get_path(m), SYSTEMD_PATH "/unit", &name) <= 0)
                return 0;
        signals_read_properties(m, name, &signal);
        if (starts_with(name, TRANSIENT_PREFIX))
                signals_note_command(&signal, name);
        signals_deliver_all(&signal, name);
        return 0;
}

static int signals_on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        SystemdBus *b = userdata;
        const char *job, *unit, *result;
        uint32_t id;

        if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0)
                return 0;

        b->target_job = 0;
        signals_deliver_all(&(UnitSignal) { .bus = b, .job_result = result }, unit);
        job_removed(b, job, result);
        return 0;
}

int signals_match(SystemdBus *b) {
        /* Not UnitRemoved: systemd unloads a unit that does not run after each read of it, and signals that.
         * Reading it again would never end. Its last state came by PropertiesChanged. */
        static const struct {
                const char *interface, *member;
                sd_bus_message_handler_t handler;
        } matches[] = {
                { MANAGER, "JobRemoved", signals_on_job_removed },
                { MANAGER, "JobNew", signals_on_job_new },
                { MANAGER, "Reloading", signals_on_reloading },
                { PROPERTIES, "PropertiesChanged", signals_on_properties },
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTS(matches); i++)
                r = sd_bus_match_signal_async(b->bus, NULL, NULL, NULL, matches[i].interface,
                                              matches[i].member, matches[i].handler, NULL, b);
        return r;
}
