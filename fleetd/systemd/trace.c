#include "fleetd/systemd/trace.h"

#include "base/memory.h"

void systemd_trace_running(SystemdTrace *t) {
        if (t->running)
                return;
        t->running = true;
        t->end = SYSTEMD_END_UNKNOWN;
        t->by_job = t->undecided = t->killed = false;
}

static void trace_ended(SystemdTrace *t, const SystemdChange *c) {
        bool was_active = c->left_us != t->left_us; /* a oneshot ends out of its start, with the job of it */

        t->running = false;
        if (was_active && (t->by_job || c->job != 0)) {
                t->end = t->with_target ? SYSTEMD_END_STOPPED_FOR : SYSTEMD_END_STOPPED;
                t->undecided = !t->with_target;
                t->stopped_us = c->left_us;
        } else
                t->end = t->killed ? SYSTEMD_END_STOPPED : SYSTEMD_END_ITSELF;
        t->by_job = t->with_target = false;
}

void systemd_trace_change(SystemdTrace *t, const SystemdChange *c) {
        bool inactive = streq(c->active, "inactive") || streq(c->active, "failed");

        if (streq(c->active, "deactivating")) {
                systemd_trace_running(t);
                t->by_job |= c->job != 0;
        } else if (!inactive) {
                systemd_trace_running(t);
                t->by_job = false;
                t->left_us = c->left_us;
        } else if (t->running && c->ended_us != 0)
                trace_ended(t, c);
        else if (!t->running && c->checked_us != 0 && c->checked_us != t->checked_us && !c->condition)
                t->end = SYSTEMD_END_SKIPPED;
        if (c->checked_us != 0)
                t->checked_us = c->checked_us;
}

void systemd_trace_job(SystemdTrace *t, bool with_target) {
        t->with_target = with_target;
}

void systemd_trace_stopped_for(SystemdTrace *t) {
        t->end = SYSTEMD_END_STOPPED_FOR;
        t->undecided = false;
}

/* FNV-1a: names that meet cost a start too many at worst. */
static uint64_t hash_of(const char *name) {
        uint64_t h = UINT64_C(14695981039346656037);

        for (const char *p = name; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(1099511628211);
        return h;
}

void systemd_moves_add(SystemdMoves *m, const char *name, uint64_t when_us) {
        m->all[m->next].name = hash_of(name);
        m->all[m->next].when_us = when_us;
        m->next = (m->next + 1) % SYSTEMD_MOVES;
}

bool systemd_moves_have(const SystemdMoves *m, const char *name, uint64_t since_us) {
        uint64_t hash = hash_of(name);

        for (size_t i = 0; i < SYSTEMD_MOVES; i++)
                if (m->all[i].name == hash && m->all[i].when_us >= since_us)
                        return true;
        return false;
}
