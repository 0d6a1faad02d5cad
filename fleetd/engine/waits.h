/* Units that wait for a machine, for the history: one row for each when its wait begins.
 *
 * The leader keeps them in memory, because nothing is written while a unit waits. A wait that ends within
 * WAITS_MS has no row: the unit was planned between two changes that belong together. The next leader adds
 * the same rows again, which the store counts as repetitions. A unit that has to leave its machine, and runs
 * there until it runs elsewhere, has that machine in its row. */
#pragma once

#include "fleetd/engine/plan.h"

enum {
        WAITS_MS = 500,   /* a row follows after one or two of these periods */
        WAITS_PART = 100, /* rows of one transaction; the others follow after WAITS_MS */
};

typedef struct EngineWaits {
        Registry *registry; /* borrowed, as the next */
        Loop *loop;
        Named *units; /* that wait */
        Timer timer;  /* armed while one of them has no row */
} EngineWaits;

void waits_init(EngineWaits *w, Loop *loop, Registry *registry);
/* Take over the result of a plan. Without memory, a wait has no row. */
void waits_update(EngineWaits *w, const EnginePlan *plan);
/* Forget a unit that no longer exists. */
void waits_forget(EngineWaits *w, const char *unit);
/* Forget all units: this host does not lead. */
void waits_clear(EngineWaits *w);
