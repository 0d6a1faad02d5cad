/* The simulated systemd: a small model that complies, delays and fails. It records each process: its start,
 * its end, and whether the daemon requested them. It outlives the daemon and ends with the host. */
#pragma once

#include "fleetd/systemd/systemd.h"
#include "tests/sim/world.h"

typedef struct SimSystemd SimSystemd;

/* Of a text, by its ExecStart=; without one of these commands, it is good. */
typedef enum SimQuality {
        SIM_GOOD,         /* "/bin/good N" */
        SIM_EXITS,        /* "/bin/exits N": it fails a moment after its start */
        SIM_NEVER_READY,  /* "/bin/never N": its start job times out */
        SIM_SLOW,         /* "/bin/slow N": its start job takes 3 s */
        SIM_FLAPS,        /* "/bin/flaps N": it ends after 1.5 s, and is restarted, again and again */
        _SIM_QUALITY_MAX, /* of texts that a rollout draws */
        SIM_ENDS = _SIM_QUALITY_MAX, /* "/bin/ends N": it ends successfully after 0.5 s */
} SimQuality;

typedef struct SimSystemdHooks {
        /* A process of 'unit' starts, or ends; 'asked': the daemon requested the end. */
        void (*on_start)(void *userdata, const char *unit);
        void (*on_stop)(void *userdata, const char *unit, bool asked);
        void *userdata;
        bool refuses; /* some starts, as for a unit that requires one that does not exist */
} SimSystemdHooks;

SimSystemd *sim_systemd_new(World *w, const char *name, const SimSystemdHooks *hooks);
SimSystemd *sim_systemd_free(SimSystemd *s);

void sim_systemd_refuse_none(SimSystemd *s); /* SimSystemdHooks.refuses does not hold */

/* Report units as deactivating while their stop jobs run, as systemd does; without it, as active. */
void sim_systemd_show_stops(SimSystemd *s);

/* Return the interface for a daemon that starts on 'loop'. Running units continue. */
Systemd *sim_systemd_attach(SimSystemd *s, WorldLoop *loop);
void sim_systemd_detach(SimSystemd *s);    /* the daemon was freed: execute its calls that have arrived */
void sim_systemd_power_cut(SimSystemd *s); /* end all processes, empty /run */

bool sim_systemd_runs(const SimSystemd *s, const char *unit);
bool sim_systemd_has(const SimSystemd *s, const char *unit);          /* its file is in force */
const char *sim_systemd_hash(const SimSystemd *s, const char *unit);  /* of the running unit; NULL */
const char *sim_systemd_ports(const SimSystemd *s, const char *unit); /* of the running unit; NULL */
/* Return the drop-in of inputs that the next start of a loaded unit uses, or NULL. */
const char *sim_systemd_inputs(const SimSystemd *s, const char *unit);
/* Return the running unit that has this number by its drop-in, other than 'except' (may be NULL), or NULL. */
const char *sim_systemd_port_owner(const SimSystemd *s, uint16_t number, const char *except);
uint64_t sim_systemd_invocation(const SimSystemd *s, const char *unit); /* the current or the last one; 0 */
void sim_systemd_change(SimSystemd *s, const char *unit); /* its properties change, for example its status */
void sim_systemd_end(SimSystemd *s, const char *unit);    /* its process fails */
void sim_systemd_finish(SimSystemd *s, const char *unit); /* it ends by itself, as a mount by umount */
/* Its process fails, and systemd starts it again (Restart=). A unit that does not run stays so. */
void sim_systemd_restart(SimSystemd *s, const char *unit);
void sim_systemd_stop(SimSystemd *s, const char *unit); /* by hand */
/* A client connects to a socket that runs, or a path appears. A timer fires by itself each 3 s. */
void sim_systemd_trigger(SimSystemd *s, const char *unit);
/* Stop all running units because a unit of the host that they need stops; it runs again after
 * sim_systemd_release(). */
void sim_systemd_hold(SimSystemd *s);
void sim_systemd_release(SimSystemd *s);
/* Stop and unload all units, as rescue.target does, and start the host's own units again. Only while no
 * daemon runs. */
void sim_systemd_isolate(SimSystemd *s);
void sim_systemd_soft_reboot(SimSystemd *s); /* the same, as systemctl soft-reboot does; the boot ID stays */
void sim_systemd_drop_bus(SimSystemd *s, uint64_t for_ms); /* lose the connection for a time */
