/* The simulated systemd: a small model that obeys, dawdles and fails, and keeps the truth about every
 * process: when it began, when it ended, and who asked. It outlives the daemon and ends with the host. */
#pragma once

#include "fleetd/systemd/systemd.h"
#include "tests/sim/world.h"

typedef struct SimSystemd SimSystemd;

typedef struct SimSystemdHooks {
        /* A process of 'unit' begins, or ends; 'asked': by the daemon, else by itself or with the host. */
        void (*on_start)(void *userdata, const char *unit);
        void (*on_stop)(void *userdata, const char *unit, bool asked);
        void *userdata;
} SimSystemdHooks;

SimSystemd *sim_systemd_new(World *w, const char *name, const SimSystemdHooks *hooks);
SimSystemd *sim_systemd_free(SimSystemd *s);

/* The interface for a daemon that starts on 'loop'. Units that run go on running. */
Systemd *sim_systemd_attach(SimSystemd *s, WorldLoop *loop);
void sim_systemd_detach(
        SimSystemd *s); /* the daemon is gone (freed): its calls that arrived are carried out */
void sim_systemd_power_cut(SimSystemd *s); /* all processes end, /run is empty */

bool sim_systemd_runs(const SimSystemd *s, const char *unit);
const char *sim_systemd_hash(const SimSystemd *s, const char *unit);    /* of what runs; NULL */
uint64_t sim_systemd_invocation(const SimSystemd *s, const char *unit); /* of what runs, or ran last; 0 */
void sim_systemd_change(SimSystemd *s,
                        const char *unit); /* its properties change: it sent a status, for example */
void sim_systemd_end(SimSystemd *s, const char *unit); /* its process fails, and says nothing before */
/* All that runs is stopped for the sake of a unit of the host, which runs again after sim_systemd_release().
 */
void sim_systemd_hold(SimSystemd *s);
void sim_systemd_release(SimSystemd *s);
void sim_systemd_isolate(SimSystemd *s); /* all units end and are forgotten, and the host comes up again; the
                                            daemon is to be down */
void sim_systemd_drop_bus(SimSystemd *s, uint64_t for_ms); /* the connection is lost for a time */
