/* What a leader writes about hosts, with a store, a registry and sessions of its own. The whole cluster: tests/sim/test-lost.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fleetd/membership/membership.h"
#include "tests/lib/host.h"

typedef struct Room {
        Host *host;
        Membership *membership;
} Room;

/* What the store says that this host's replica suffers from; NULL: nothing. */
static const char *trouble;

void __real_kv_state(KvStore *store, KvState *ret);
void __wrap_kv_state(KvStore *store, KvState *ret);

void __wrap_kv_state(KvStore *store, KvState *ret) {
        __real_kv_state(store, ret);
        if (!trouble)
                return;
        ret->undecided = true;
        snprintf(ret->problem, sizeof(ret->problem), "%s", trouble);
}

static int room_setup(void **state) {
        Room *room = NEW0(Room, 1);
        MembershipOptions options;
        Names nobody = {};

        trouble = NULL;
        room->host = host_new(false);
        host_machine(room->host);
        options = (MembershipOptions) { .machine_id = room->host->id, .peer_address = "", .client = "", .name = "alpha", .join = &nobody,
                                        .cluster_file = "" };
        assert_int_equal(membership_new(&room->membership, room->host->loop, room->host->peers, room->host->store, room->host->registry, &options), 0);
        *state = room;
        return 0;
}

static int room_teardown(void **state) {
        Room *room = *state;

        membership_free(room->membership);
        host_free(room->host);
        free(room);
        return 0;
}

static bool says(Room *room, const char *reason) {
        const ClusterMachine *m = cluster_machine(registry_cluster(room->host->registry), room->host->id);

        return m && m->presence == PRESENCE_UP && streq(m->presence_reason, reason);
}

static void a_leader_whose_own_replica_suffers_says_so_in_its_presence_until_it_is_over(void **state) {
        Room *room = *state;

        trouble = "trees differ";
        HOST_UNTIL(room->host, says(room, MACHINE_TROUBLE "trees differ"));
        trouble = NULL;
        HOST_UNTIL(room->host, says(room, "its replica works again"));
}

#define in_a_room(test) cmocka_unit_test_setup_teardown(test, room_setup, room_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_room(a_leader_whose_own_replica_suffers_says_so_in_its_presence_until_it_is_over),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
