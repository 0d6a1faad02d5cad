/* An allocation of the agent's fails, each in turn: what it was about is done soon after. The time is virtual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/lib/agent_room.h"
#include "tests/lib/alloc.h"

enum {
        STEP_MS = 20,
        SOON_MS = 2500, /* the next round over all units is later */
        LATE_MAX = 2,   /* orders that wait for it: no memory to plan a unit that had nothing to do in the pass before */
};

/* The store, which answers in real time, has memory. */
#define UNTIL_SHORT(room, expression)                                                    \
        do {                                                                             \
                (room)->host->deadline_ms = 0;                                           \
                while (!(expression)) {                                                  \
                        alloc_pause(false);                                              \
                        world_run((room)->world, world_now_ms((room)->world) + STEP_MS); \
                        alloc_pause(true);                                               \
                        host_turn((room)->host);                                         \
                }                                                                        \
        } while (false)

static int room_setup(void **state) {
        int r = bent_room_setup(state);
        Room *room = *state;

        log_set_max_priority(LOG_EMERG);
        world_set_short(room->world, alloc_fails);
        run_unit(room, "calm.service");
        room->n_others = 1;
        return r;
}

static int room_teardown(void **state) {
        Room *room = *state;

        alloc_fail_at(0);
        alloc_pause(false);
        world_set_short(room->world, NULL);
        log_set_max_priority(LOG_INFO);
        return bent_room_teardown(state);
}

static void an_order_is_obeyed_soon_after_memory_was_short(void **state) {
        Room *room = *state;
        bool failed = true;
        unsigned n_late = 0;

        host_unit(room->host, "short.service", "[Service]\nExecStart=/bin/one\n", TARGET_LAUNCHED);
        for (unsigned n = 1; failed; n++) {
                failed = false;
                for (unsigned stop = 0; stop < 2; stop++) {
                        uint64_t ordered_ms;

                        host_pause(room->host, 5);
                        await_round(room);
                        host_order(room->host, "short.service", stop ? ORDER_STOP : ORDER_RUN);
                        ordered_ms = world_now_ms(room->world);
                        alloc_fail_at(n);
                        alloc_pause(true);
                        if (stop)
                                UNTIL_SHORT(room, is_gone(room, "short.service"));
                        else
                                UNTIL_SHORT(room, says(room, "short.service", "active"));
                        failed |= alloc_has_failed();
                        alloc_fail_at(0);
                        alloc_pause(false);
                        n_late += world_now_ms(room->world) - ordered_ms > SOON_MS + (stop ? START_MS : 0);
                }
        }
        assert_in_range(n_late, 0, LATE_MAX);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_order_is_obeyed_soon_after_memory_was_short, room_setup, room_teardown),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
