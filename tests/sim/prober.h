/* Probes of health checks in virtual time: a function decides each result. */
#pragma once

#include "fleetd/features/health/probe.h"
#include "tests/sim/world.h"

typedef struct SimProber SimProber;

typedef struct SimProbe {
        bool passed, unknown, not_executed; /* as in the result */
        uint64_t takes_ms;                  /* above the timeout of the probe: it fails at that */
        uint64_t late_ms;
        const char *why;
} SimProbe;

/* Return the outcome of the probe that begins. */
typedef SimProbe SimProberDecide(void *userdata, const ProbeRequest *request);

SimProber *sim_prober_new(World *w, WorldLoop *loop, SimProberDecide *decide, void *userdata);
SimProber *sim_prober_free(SimProber *p);
Prober *sim_prober(SimProber *p);
size_t sim_prober_in_flight(const SimProber *p);
