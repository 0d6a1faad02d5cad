/* What the agent's work costs, in units read and planned, with a systemd in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fleetd/agent/agent.h"
#include "tests/lib/host.h"
#include "tests/sim/systemd.h"
#include "tests/sim/world.h"

enum {
        OTHERS = 60,       /* units that nothing happens to */
        SECONDS = 9,       /* less than the agent's period, which goes over all units */
        READS_MAX = 10,    /* of one unit in a second */
        BURST_MAX = 10,    /* and once so many at a time */
        PASS_MS = 5,       /* an answer and the pass after it */
};

typedef struct Room {
        Host *host;
        World *world;
        WorldLoop *loop;
        SimSystemd *systemd;
        Agent *agent;
} Room;

static void on_unit(void *userdata, const char *unit) {
}

static void on_unit_end(void *userdata, const char *unit, bool asked) {
}

/* Virtual time goes on while the store answers in real time. */
#define UNTIL(room, expression)                                                          \
        do {                                                                             \
                (room)->host->deadline_ms = 0;                                           \
                while (!(expression)) {                                                  \
                        world_run((room)->world, world_now_ms((room)->world) + 1);       \
                        host_turn((room)->host);                                         \
                }                                                                        \
        } while (false)

static bool says(Room *room, const char *unit, const char *active) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s && streq(s->state.active, active);
}

static void order(Room *room, const char *name) {
        host_unit(room->host, name, "[Service]\nExecStart=/bin/one\n", TARGET_LAUNCHED);
        host_order(room->host, name, ORDER_RUN);
}

static int room_setup(void **state) {
        static const SimSystemdHooks hooks = { .on_start = on_unit, .on_stop = on_unit_end };
        Room *room = NEW0(Room, 1);
        Error err = {};
        char name[32];

        room->host = host_new(false);
        host_machine(room->host);
        room->world = world_new(1, false);
        room->loop = world_loop_new(room->world, "agent");
        room->systemd = sim_systemd_new(room->world, "systemd", &hooks);
        AgentOptions options = { .machine_id = room->host->id, .boot_id = "b0000000000000000000000000000001", .directory = room->host->agent_path,
                                 .boot_wait_ms = 60000 };

        assert_int_equal(agent_new(&room->agent, world_loop(room->loop), room->host->registry, sim_systemd_attach(room->systemd, room->loop), &options, &err), 0);
        order(room, "chatty.service");
        UNTIL(room, says(room, "chatty.service", "active"));
        for (unsigned i = 0; i < OTHERS; i++) {
                snprintf(name, sizeof(name), "other-%02u.service", i);
                order(room, name);
        }
        for (unsigned i = 0; i < OTHERS; i++) {
                snprintf(name, sizeof(name), "other-%02u.service", i);
                UNTIL(room, says(room, name, "active"));
        }
        host_pause(room->host, 50);
        /* What is left of the beginning, and up to the next of its rounds over all. */
        for (uint64_t planned = agent_counts(room->agent)->planned, end_ms = world_now_ms(room->world) + 12000;
             agent_counts(room->agent)->planned - planned < OTHERS; world_run(room->world, world_now_ms(room->world) + 1))
                assert_true(world_now_ms(room->world) < end_ms);
        *state = room;
        return 0;
}

static int room_teardown(void **state) {
        Room *room = *state;

        room->agent = agent_free(room->agent);
        sim_systemd_detach(room->systemd);
        sim_systemd_free(room->systemd);
        world_loop_free(room->loop);
        world_free(room->world);
        host_free(room->host);
        free(room);
        return 0;
}

/* Two changes each millisecond. */
static void chat(Room *room, uint64_t ms) {
        for (uint64_t i = 0; i < ms; i++) {
                sim_systemd_change(room->systemd, "chatty.service");
                sim_systemd_change(room->systemd, "chatty.service");
                world_run(room->world, world_now_ms(room->world) + 1);
        }
}

static void a_unit_that_changes_all_the_time_is_read_ten_times_a_second_and_planned_alone(void **state) {
        Room *room = *state;
        AgentCounts before = *agent_counts(room->agent);
        const AgentCounts *now = agent_counts(room->agent);

        chat(room, SECONDS * 1000);
        assert_in_range(now->listings - before.listings, SECONDS * READS_MAX - 1, SECONDS * READS_MAX + BURST_MAX);
        assert_int_equal(now->refreshed - before.refreshed, now->listings - before.listings);
        assert_in_range(now->passes - before.passes, 1, 4 * (SECONDS * READS_MAX + BURST_MAX));
        assert_in_range(now->planned - before.planned, 1, 4 * (SECONDS * READS_MAX + BURST_MAX));
}

static void the_first_change_is_read_at_once_and_the_last_one_is_not_lost(void **state) {
        Room *room = *state;
        uint64_t listings = agent_counts(room->agent)->listings, ended_ms;

        chat(room, PASS_MS);
        assert_true(agent_counts(room->agent)->listings > listings);
        chat(room, 3000);
        sim_systemd_end(room->systemd, "chatty.service");
        ended_ms = world_now_ms(room->world);
        UNTIL(room, says(room, "chatty.service", "failed"));
        assert_in_range(world_now_ms(room->world) - ended_ms, 0, 1500); /* states go out once a second */
}

static void an_order_to_stop_a_unit_that_changes_all_the_time_is_obeyed(void **state) {
        Room *room = *state;

        host_order(room->host, "chatty.service", ORDER_STOP);
        for (unsigned ms = 0; sim_systemd_runs(room->systemd, "chatty.service"); ms++) {
                assert_true(ms < 6000); /* the simulated systemd may take three seconds */
                chat(room, 1);
        }
}

static void a_change_of_an_order_is_planned_for_its_unit_alone(void **state) {
        Room *room = *state;
        uint64_t planned = agent_counts(room->agent)->planned;

        host_order(room->host, "chatty.service", ORDER_STOP);
        UNTIL(room, !cluster_order(registry_cluster(room->host->registry), room->host->id, "chatty.service"));
        assert_in_range(agent_counts(room->agent)->planned - planned, 1, OTHERS / 2);
}

int main(void) {
#define in_a_room(f) cmocka_unit_test_setup_teardown(f, room_setup, room_teardown)
        const struct CMUnitTest tests[] = {
                in_a_room(a_unit_that_changes_all_the_time_is_read_ten_times_a_second_and_planned_alone),
                in_a_room(the_first_change_is_read_at_once_and_the_last_one_is_not_lost),
                in_a_room(an_order_to_stop_a_unit_that_changes_all_the_time_is_obeyed),
                in_a_room(a_change_of_an_order_is_planned_for_its_unit_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
