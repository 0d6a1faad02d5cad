#include "io/turn.h"

static const uint64_t ms_ns = 1000 * 1000;

const uint64_t turn_bucket_ns[TURN_BUCKETS] = {
        100 * 1000,       250 * 1000,        500 * 1000,         1000 * 1000,
        2500 * 1000,      5000 * 1000,       10 * 1000 * 1000,   20 * 1000 * 1000,
        50 * 1000 * 1000, 100 * 1000 * 1000, 1000 * 1000 * 1000,
};

void turns_ran(Turns *t, const char *name, uint64_t ns) {
        if (ns < t->longest_ns)
                return;
        t->longest_ns = ns;
        t->longest = name;
}

TurnWork turns_end_work(Turns *t) {
        TurnWork work = t->now;

        t->total.nodes += work.nodes;
        t->total.bytes += work.bytes;
        t->most.nodes = MAX(t->most.nodes, work.nodes);
        t->most.bytes = MAX(t->most.bytes, work.bytes);
        t->now = (TurnWork) {};
        t->n++;
        t->longest = NULL;
        t->longest_ns = 0;
        return work;
}

bool turns_end(Turns *t, uint64_t cpu_ns, uint64_t wall_ns, uint64_t now_ms, TurnReport *ret) {
        TurnReport report = {
                .cpu_ms = cpu_ns / ms_ns,
                .wall_ms = wall_ns / ms_ns,
                .longest_ms = t->longest_ns / ms_ns,
                .longest = t->longest,
                .work = t->now,
        };
        size_t bucket = 0;

        while (bucket < TURN_BUCKETS && cpu_ns > turn_bucket_ns[bucket])
                bucket++;
        t->buckets[bucket]++;
        t->cpu_ns += cpu_ns;
        t->cpu_max_ns = MAX(t->cpu_max_ns, cpu_ns);
        t->wall_max_ns = MAX(t->wall_max_ns, wall_ns);
        (void) turns_end_work(t);

        if (cpu_ns <= TURN_BUDGET_MS * ms_ns)
                return false;
        t->n_over++;
        if (t->logged_ms > 0 && now_ms < t->logged_ms + TURN_LOG_PAUSE_MS)
                return false;
        report.n_over = t->n_over;
        t->n_over = 0;
        t->logged_ms = now_ms;
        *ret = report;
        return true;
}
