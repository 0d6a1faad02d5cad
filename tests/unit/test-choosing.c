#include "tests/lib/test.h"
#include "base/memory.h"
#include "base/sizes.h"
#include "fleetd/sessions/choosing.h"

enum { MACHINES = 10000 };

static const ReplicaChoice replicas[] = {
        { "a", 11, CHOICE_VOTER, "north" },   { "b", 12, CHOICE_VOTER, "north" },
        { "c", 13, CHOICE_VOTER, "south" },   { "d", 14, CHOICE_STANDBY, NULL },
        { "e", 15, CHOICE_STANDBY, "north" },
};

static void choose(unsigned machine, size_t n, ReplicaChoice ret[static ELEMENTS(replicas)]) {
        char id[MACHINE_ID_SIZE];

        snprintf(id, sizeof(id), "%032x", machine);
        memcpy(ret, replicas, n * sizeof(*ret));
        choose_replicas(id, ret, n);
}

static void hosts_are_spread_by_weight(void **state) {
        size_t used[ELEMENTS(replicas)] = {};
        ReplicaChoice chosen[ELEMENTS(replicas)];

        for (unsigned i = 0; i < MACHINES; i++) {
                choose(i, ELEMENTS(replicas), chosen);
                used[chosen[0].raft_id - replicas[0].raft_id]++;
        }
        for (size_t i = 0; i < ELEMENTS(replicas); i++) {
                size_t expected = MACHINES * replicas[i].weight / 7;

                assert_in_range(used[i], expected * 9 / 10, expected * 11 / 10);
        }
}

static void the_removal_of_a_replica_moves_its_own_hosts_only(void **state) {
        ReplicaChoice before[ELEMENTS(replicas)], after[ELEMENTS(replicas)];
        size_t n = ELEMENTS(replicas);

        for (unsigned i = 0; i < MACHINES; i++) {
                choose(i, n, before);
                choose(i, n - 1, after);
                if (before[0].raft_id != replicas[n - 1].raft_id)
                        assert_int_equal(after[0].raft_id, before[0].raft_id);
        }
}

static void the_second_replica_is_in_another_place_if_there_is_one(void **state) {
        ReplicaChoice chosen[ELEMENTS(replicas)];

        for (unsigned i = 0; i < MACHINES; i++) {
                uint64_t ids = 0;

                choose(i, ELEMENTS(replicas), chosen);
                assert_false(same_string(chosen[0].place, chosen[1].place));
                for (size_t k = 0; k < ELEMENTS(replicas); k++)
                        ids |= UINT64_C(1) << chosen[k].raft_id;
                assert_int_equal(ids, UINT64_C(31) << 11); /* each once */
                choose(i, 2, chosen);                      /* both are in the north */
                assert_int_not_equal(chosen[0].raft_id, chosen[1].raft_id);
        }
        choose_replicas("a", NULL, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(hosts_are_spread_by_weight),
                cmocka_unit_test(the_removal_of_a_replica_moves_its_own_hosts_only),
                cmocka_unit_test(the_second_replica_is_in_another_place_if_there_is_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
