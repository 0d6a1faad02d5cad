/* Small clusters, and the plans for them. */
#pragma once

#include "tests/lib/picture.h"

/* Plans, compares with what is expected, and applies it. */
static inline void plans(Picture *p, const char *expected) {
        _cleanup_free_ char *got = picture_plan(p, true);

        assert_string_equal(got, expected);
}

static inline void two_machines(Picture *p) {
        *p = (Picture) { .cluster.now_ms = 1000000 };
        picture_machine(p, "A", "", PRESENCE_UP);
        picture_machine(p, "B", "", PRESENCE_UP);
}

static inline void run_on(Picture *p, const char *machine, const char *unit) {
        picture_order(p, machine, unit, ORDER_RUN);
        picture_state(p, machine, unit, "active");
}

static inline void six_machines(Picture *p) {
        two_machines(p);
        for (char c = 'C'; c <= 'F'; c++)
                picture_machine(p, (char[]) { c, 0 }, "", PRESENCE_UP);
}
