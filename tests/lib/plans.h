/* Small clusters, and the plans for them. */
#pragma once

#include "tests/lib/cluster_view.h"

/* Plan, compare with the expected plan, and apply it. */
static inline void plans(ClusterView *p, const char *expected) {
        _cleanup_free_ char *got = cluster_view_plan(p, true);

        assert_string_equal(got, expected);
}

static inline void two_machines(ClusterView *p) {
        *p = (ClusterView) { .cluster.now_ms = 1000000 };
        cluster_view_machine(p, "A", "", PRESENCE_UP);
        cluster_view_machine(p, "B", "", PRESENCE_UP);
}

static inline void run_on(ClusterView *p, const char *machine, const char *unit) {
        cluster_view_assign(p, machine, unit, ASSIGNMENT_RUN);
        cluster_view_state(p, machine, unit, "active");
}

static inline void six_machines(ClusterView *p) {
        two_machines(p);
        for (char c = 'C'; c <= 'F'; c++)
                cluster_view_machine(p, (char[]) { c, 0 }, "", PRESENCE_UP);
}
