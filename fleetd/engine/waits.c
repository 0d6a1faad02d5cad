#include "fleetd/engine/waits.h"

#include "fleetd/engine/plan_internal.h"

typedef struct Wait {
        Named unit;
        bool aged, noted; /* it waited when the timer fired before; it has a row */
        Verdict why;
} Wait;

static void waits_arm(EngineWaits *w) {
        if (!timer_armed(&w->timer))
                (void) timer_start(&w->timer, w->loop, WAITS_MS); /* else the next update starts it */
}

/* Return the ID of the machine on which the unit runs while it waits for another one; NULL: it runs nowhere.
 */
static const char *waits_runs_on(const EngineWaits *w, const char *name) {
        const ClusterUnit *u = cluster_unit(registry_cluster(w->registry), name);
        const ClusterAssignment *a = u ? LIST_FIRST(&u->assignments) : NULL;

        for (; a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && a->machine->presence == PRESENCE_UP && plan_is_up(a))
                        return a->machine->id;
        return NULL;
}

static void waits_on_timer(void *userdata) {
        EngineWaits *w = userdata;
        HistoryNote notes[WAITS_PART];
        bool rest = false;
        size_t n = 0;

        for (Named *i = w->units; i; i = i->hh.next) {
                Wait *wait = (Wait *) i;

                if (wait->noted)
                        continue;
                if (!wait->aged || n == WAITS_PART) {
                        wait->aged = rest = true;
                        continue;
                }
                notes[n++] = (HistoryNote) { .kind = HISTORY_WAITING,
                                             .unit = wait->unit.name,
                                             .machine = waits_runs_on(w, wait->unit.name),
                                             .verdict = &wait->why };
                wait->noted = true;
        }
        if (n > 0)
                registry_note(w->registry, notes, n);
        if (rest)
                waits_arm(w);
}

void waits_init(EngineWaits *w, Loop *loop, Registry *registry) {
        *w = (EngineWaits) { .registry = registry, .loop = loop, .timer = TIMER(waits_on_timer, w) };
}

static void waits_add(EngineWaits *w, const char *unit, const Verdict *why) {
        Wait *wait = named_get(&w->units, unit, sizeof(Wait));

        if (!wait || wait->noted)
                return;
        wait->why = *why;
        waits_arm(w);
}

void waits_update(EngineWaits *w, const EnginePlan *plan) {
        for (size_t i = 0; i < plan->n_waits; i++) {
                const EngineWait *planned = &plan->waits[i];

                if (planned->why)
                        waits_add(w, planned->unit->name, planned->why);
                else
                        waits_forget(w, planned->unit->name);
        }
}

void waits_forget(EngineWaits *w, const char *unit) {
        named_remove(&w->units, unit);
}

void waits_clear(EngineWaits *w) {
        named_clear(&w->units);
        timer_stop(&w->timer);
}
