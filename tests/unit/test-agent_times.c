/* When the agent publishes a state, repeats a step and makes a call, with a systemd in virtual time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/agent_room.h"

#define ONE "[Service]\nExecStart=/bin/one\n"
#define TWO "[Service]\nExecStart=/bin/two\n"

static SystemdOps ops; /* those of the room */

static int room_setup(void **state) {
        Room *room = room_new();

        ops = *real_ops;
        ops.list = list_pretended;
        room->bus->ops = &ops;
        settle(room); /* it follows a leader */
        *state = room;
        return 0;
}

static int room_teardown(void **state) {
        room_free(*state);
        return 0;
}

/* -- States that pass -- */

static bool runs_with_another_text(Room *room, const char *unit, const char *hash) {
        const UnitState *s = state_of(room, unit);

        assert_non_null(s);
        assert_string_equal(s->active, "active"); /* nothing else is published in between */
        return !streq(s->hash, hash);
}

/* Where the host is waited for without the world, everything has to be on its way already. */
static void a_state_that_passes_is_published_when_it_lasts_and_its_successor_at_once(void **state) {
        Room *room = *state;
        char hash[41];

        ops.start = start_in_vain;
        ops.stop = stop_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        order(room, "web.service");
        until_calls(room, 1, 1000); /* it is inactive since some ten ms, and its start is not answered */
        run_ms(room, 200);
        host_pause(room->host, 50);
        assert_null(state_of(room, "web.service"));
        run_ms(room, 200);
        HOST_UNTIL(room->host, says(room, "web.service", "inactive"));
        settle(room);

        /* It runs: that does not wait, though another state was published just now. */
        assert_int_equal(real_ops->start(room->bus, "web.service", vain.done, vain.userdata), 0);
        run_ms(room, 100);
        HOST_UNTIL(room->host, says(room, "web.service", "active"));
        settle(room);

        /* It gets another text: between stop and start it is inactive for less than 300 ms. */
        snprintf(hash, sizeof(hash), "%s", state_of(room, "web.service")->hash);
        vain.unit = NULL;
        order_to(room, "web.service", TWO, ORDER_RUN);
        UNTIL(room, runs_with_another_text(room, "web.service", hash));
        settle(room);

        /* It is ordered to stop, and takes its time: that is published when it lasts, though another state was published just now. */
        vain = (Vain) { .unit = "web.service", .held = true };
        host_order(room->host, "web.service", ORDER_STOP);
        until_calls(room, 1, 1000);
        pretence = (Pretence) { .unit = "web.service", .active = "deactivating" };
        sim_systemd_change(room->systemd, "web.service");
        run_ms(room, 400);
        HOST_UNTIL(room->host, says(room, "web.service", "deactivating"));
        pretence.active = NULL;
        assert_int_equal(real_ops->stop(room->bus, "web.service", vain.done, vain.userdata), 0);
        vain.unit = NULL;
        UNTIL(room, is_gone(room, "web.service"));
}

static const struct {
        const char *active;
        bool job;
} passing[] = { { "active", true }, { "activating" }, { "deactivating" }, { "reloading" } };

static size_t n_passing; /* the row that is pretended */

static void on_its_way(SystemdUnit *seen) {
        snprintf(seen->active, sizeof(seen->active), "%s", passing[n_passing].active);
        snprintf(seen->sub, sizeof(seen->sub), "passing");
        seen->job = passing[n_passing].job;
}

static bool is_passing(Room *room) {
        return streq(state_of(room, "web.service")->sub, "passing");
}

static void what_is_on_its_way_is_published_when_that_lasts_for_300_ms(void **state) {
        Room *room = *state;

        run_unit(room, "web.service");
        for (n_passing = 0; n_passing < ELEMENTS(passing); n_passing++) {
                run_ms(room, 1500); /* since anything was published about it */
                settle(room);
                pretence = (Pretence) { .unit = "web.service", .change = on_its_way };
                sim_systemd_change(room->systemd, "web.service");
                run_ms(room, 280);
                host_pause(room->host, 20);
                assert_false(is_passing(room));
                run_ms(room, 60);
                HOST_UNTIL(room->host, is_passing(room));

                pretence = (Pretence) {};
                sim_systemd_change(room->systemd, "web.service");
                UNTIL(room, !is_passing(room));
        }
}

int main(int argc, char *argv[]) {
#define in_a_room(f) cmocka_unit_test_setup_teardown(f, room_setup, room_teardown)
        const struct CMUnitTest tests[] = {
                in_a_room(a_state_that_passes_is_published_when_it_lasts_and_its_successor_at_once),
                in_a_room(what_is_on_its_way_is_published_when_that_lasts_for_300_ms),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
