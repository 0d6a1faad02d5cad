/* The simulated logind of a host: it accepts or rejects a reboot, announces it, and waits for the daemon's
 * inhibitor. It outlives the daemon, and ends with the host's power. */
#pragma once

#include "fleetd/systemd/logind.h"
#include "tests/sim/world.h"

typedef struct SimLogind SimLogind;

typedef struct SimLogindHooks {
        /* The host goes down now: the inhibitor is released, or the delay is over. */
        void (*on_down)(void *userdata, RebootKind kind);
        bool (*rejects)(void *userdata);  /* a reboot that the daemon requests */
        bool (*is_early)(void *userdata); /* a shutdown that ends before the delay; NULL: none */
        void *userdata;
} SimLogindHooks;

SimLogind *sim_logind_new(World *w, const SimLogindHooks *hooks);
SimLogind *sim_logind_free(SimLogind *l);

/* Return the interface for a daemon that starts on 'loop'. */
Logind *sim_logind_attach(SimLogind *l, WorldLoop *loop);
void sim_logind_detach(SimLogind *l);   /* the daemon has ended, and its inhibitor with it */
void sim_logind_power_on(SimLogind *l); /* another boot: no shutdown is announced */
/* As systemctl reboot does. Return whether no shutdown was under way. */
bool sim_logind_shut_down(SimLogind *l, RebootKind kind);
