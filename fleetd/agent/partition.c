/* OnPartition=stop: a host without contact to the cluster stops such units after StopAfterSec=, and starts
 * them when it has contact again and they are still assigned to it.
 *
 * The time is counted in ticks of a clock that also runs while the host is suspended. A tick counts TICKS_MAX
 * at most: a daemon that stood still has not looked for the cluster meanwhile. */
#include "fleetd/agent/agent_internal.h"

enum { PARTITION_TICK_MS = 1000, TICKS_MAX = 2 };

/* Return whether the unit of the record has OnPartition=stop. */
static bool agent_stops_alone(const AssignmentRecord *record) {
        return record && record->unit && record->unit->placement.stops_alone;
}

static void partition_mark_units(Agent *a) {
        for (const AssignmentRecord *record = a->records.table; record; record = record->hh.next) {
                AgentUnit *u = agent_stops_alone(record) &&
                                               a->partition.ms >=
                                                       placement_stop_after_ms(&record->unit->placement) ?
                                       agent_unit(a, record->name, true) :
                                       NULL;

                if (u)
                        agent_dirty(a, u);
        }
}

static bool partition_concerns_units(const Agent *a) {
        for (const AssignmentRecord *record = a->records.table; record; record = record->hh.next)
                if (agent_stops_alone(record))
                        return true;
        return false;
}

void agent_on_partition_tick(void *userdata) {
        Agent *a = userdata;
        uint64_t now_ms = loop_boot_ms(a->loop);

        a->partition.ms += MIN(now_ms - a->partition.tick_ms, (uint64_t) TICKS_MAX * PARTITION_TICK_MS);
        a->partition.tick_ms = now_ms;
        partition_mark_units(a);
        agent_wake(a);
}

void agent_update_partition(Agent *a) {
        AgentPartition *p = &a->partition;

        if (a->fresh || a->synced || a->adopting) {
                p->ms = 0;
                timer_stop(&p->tick);
                return;
        }
        if (timer_armed(&p->tick) || !partition_concerns_units(a))
                return;
        if (p->ms == 0)
                p->tick_ms = loop_boot_ms(a->loop);
        (void) timer_start(&p->tick, a->loop, PARTITION_TICK_MS); /* else the next pass starts it */
}
