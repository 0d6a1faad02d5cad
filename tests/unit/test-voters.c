#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/sizes.h"
#include "fleetd/sessions/voters.h"
#include "tests/lib/cluster_view.h"

enum { LAST = 1000 };

typedef struct Members {
        ClusterView view;
        KvMember members[KV_MEMBERS_MAX];
        size_t n;
        uint64_t leader, led_ms, spread_ms; /* 0: for so long that all spans have passed */
        unsigned voters;
        const char *spread;
        bool paused;
        bool attaches;
        const char *absent; /* machine that is up, and has no session; NULL: none */
} Members;

enum { LONG_MS = 100 * 86400000u };

static void host(Members *s, const char *machine, uint64_t raft_id, Presence presence) {
        char key[128], id[MACHINE_ID_SIZE], value[128];

        cluster_view_machine(&s->view, machine, "", presence);
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"peer\":\"10.0.0.%llu:2380\",\"raftId\":%llu}",
                 (unsigned long long) raft_id, (unsigned long long) raft_id);
        if (raft_id > 0)
                cluster_view_put(&s->view, key, value);
        else
                cluster_view_remove(&s->view, key);
}

static KvMember *member(Members *s, uint64_t raft_id, KvMemberRole role, uint64_t match, bool reachable) {
        s->members[s->n] =
                (KvMember) { .raft_id = raft_id, .role = role, .match = match, .reachable = reachable };
        return &s->members[s->n++];
}

static char why[160]; /* of the last change */

static bool is_attached(void *userdata, const char *machine_id) {
        const Members *s = userdata;
        char id[MACHINE_ID_SIZE];

        return !streq(cluster_view_id(id, s->absent), machine_id);
}

static void plan_of(const Members *s, VotersChange *ret) {
        KvMember *members = calloc(s->n, sizeof(*members)); /* nothing after them may be read */
        VotersInput input = { .members = members,
                              .n_members = s->n,
                              .leader_id = s->leader,
                              .last = LAST,
                              .cluster = &s->view.cluster,
                              .voters = s->voters,
                              .spread = s->spread,
                              .led_ms = s->led_ms ?: LONG_MS,
                              .spread_ms = s->spread_ms ?: LONG_MS,
                              .paused = s->paused,
                              .attaches = s->attaches,
                              .level = KV_LEVEL_ATTACHED,
                              .is_attached = s->absent ? is_attached : NULL,
                              .userdata = (void *) s,
                              .spans = &voters_spans };

        assert_non_null(members);
        memcpy(members, s->members, s->n * sizeof(*members));
        voters_plan(&input, ret);
        free(members);
}

/* "add 2", or "nothing". */
static const char *plan(const Members *s) {
        static char text[64];
        VotersChange change;

        plan_of(s, &change);
        snprintf(why, sizeof(why), "%s", change.reason);
        if (change.action == VOTERS_NOTHING)
                return "nothing";
        assert_true(change.reason[0]);
        if (change.action == VOTERS_ASSIGN) {
                snprintf(text, sizeof(text), "assign %s",
                         cluster_machine_name(cluster_machine(&s->view.cluster, change.machine_id)));
                return text;
        }
        if (change.action == VOTERS_ADD)
                assert_true(starts_with(change.address, "10.0.0.") || streq(change.address, "x"));
        snprintf(text, sizeof(text), "%s %llu%s", voters_action_name(change.action),
                 (unsigned long long) change.raft_id,
                 streq(change.address, "x") && change.action == VOTERS_ADD ? "x" : "");
        return text;
}

/* A founder that leads, and has a member key. */
static void found(Members *s) {
        *s = (Members) { .leader = 1 };
        host(s, "A", 1, PRESENCE_UP);
        member(s, 1, KV_MEMBER_VOTER, LAST, true);
}

static void forget(Members *s) {
        cluster_view_free(&s->view);
}

static void one_host_votes_alone(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        assert_string_equal(plan(&s), "nothing");
}

/* Its key exists, and may have the Raft ID of the member. */
static void a_member_with_an_unreadable_key_remains_a_member(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        cluster_view_unreadable(&s.view, LAYOUT_MEMBER, NULL, "B");
        assert_string_equal(plan(&s), "nothing");
        host(&s, "B", 0, PRESENCE_UP);
        assert_string_equal(plan(&s), "remove 2");
}

static void a_host_with_a_key_becomes_a_member_and_two_hosts_are_a_voter_and_a_standby(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        assert_string_equal(plan(&s), "add 2");
        member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "nothing");
}

static void a_host_that_is_not_up_or_has_no_peer_listener_becomes_no_member(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_LOST);
        assert_string_equal(plan(&s), "nothing");
        cluster_view_machine(&s.view, "C", "", PRESENCE_UP);
        assert_string_equal(plan(&s), "nothing");
}

/* -- Leaving -- */

static void drain(Members *s, const char *machine, const char *mode) {
        char key[128], id[MACHINE_ID_SIZE], value[64];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/maintenance", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"for\":\"leave\",\"mode\":\"%s\"}", mode);
        cluster_view_put(&s->view, key, value);
}

static void the_vote_of_a_host_that_leaves_is_taken_first(void **state) {
        KvMember *d;
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_UP);
        host(&s, "D", 4, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        member(&s, 3, KV_MEMBER_VOTER, LAST, true);
        d = member(&s, 4, KV_MEMBER_STANDBY, LAST, true);
        drain(&s, "B", "draining"); /* it still has units */
        assert_string_equal(plan(&s), "nothing");
        drain(&s, "B", "drained");
        assert_string_equal(plan(&s), "promote 4");
        d->role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "demote 2");
        assert_string_equal(why, "B is leaving the cluster");
        s.members[1].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "nothing"); /* and it does not vote again */

        /* Of three, one votes then. */
        d->role = KV_MEMBER_STANDBY;
        s.members[1].role = KV_MEMBER_VOTER;
        drain(&s, "D", "drained");
        assert_string_equal(plan(&s), "demote 2");
}

/* The other one takes the vote, and keeps it until the leader has transferred its leadership. */
static void a_leader_that_leaves_one_other_host_keeps_its_vote_until_the_transfer(void **state) {
        KvMember *b;
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        b = member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        drain(&s, "A", "drained");
        assert_string_equal(plan(&s), "promote 2");
        b->role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "nothing");
        s.leader = 2;
        assert_string_equal(plan(&s), "demote 1");
}

static void a_host_that_leaves_gets_no_replica(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        drain(&s, "B", "draining");
        assert_string_equal(plan(&s), "nothing");
}

static void three_vote_once_two_standbys_are_caught_up_and_reachable(void **state) {
        _cleanup_(forget) Members s;
        KvMember *b, *c;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_UP);
        b = member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        c = member(&s, 3, KV_MEMBER_STANDBY, 0, true);
        assert_string_equal(plan(&s), "nothing");
        c->match = LAST - VOTERS_BEHIND_MAX;
        c->reachable = false;
        assert_string_equal(plan(&s), "nothing");
        c->reachable = true;
        assert_string_equal(plan(&s), "promote 2");
        assert_string_equal(why, "it is caught up, and 1 of 3 votes are taken");
        b->role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "promote 3");
        c->role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "nothing");
}

static void beyond_three_voters_there_are_two_standbys(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        for (uint64_t i = 2; i <= 3; i++) {
                host(&s, (char[]) { 'A' + i - 1, 0 }, i, PRESENCE_UP);
                member(&s, i, KV_MEMBER_VOTER, LAST, true);
        }
        for (uint64_t i = 4; i <= 6; i++)
                host(&s, (char[]) { 'A' + i - 1, 0 }, i, PRESENCE_UP);
        assert_string_equal(plan(&s), "add 4");
        member(&s, 4, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "add 5");
        member(&s, 5, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "nothing");
}

static void a_standby_without_a_key_is_removed(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_STANDBY, LAST, false);
        host(&s, "B", 7, PRESENCE_UP); /* it has a new ID */
        assert_string_equal(plan(&s), "remove 2");
}

static void a_voter_without_a_key_is_replaced_then_removed(void **state) {
        _cleanup_(forget) Members s;
        KvMember *d;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        member(&s, 3, KV_MEMBER_VOTER, 5, false);
        host(&s, "C", 8, PRESENCE_UP);
        assert_string_equal(plan(&s), "add 8");
        d = member(&s, 8, KV_MEMBER_STANDBY, 5, true);
        assert_string_equal(plan(&s), "nothing");
        d->match = LAST;
        assert_string_equal(plan(&s), "promote 8");
        assert_string_equal(why, "it is to replace a voter");
        d->role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "remove 3");
}

static void a_host_that_lost_its_state_returns_at_its_address(void **state) {
        _cleanup_(forget) Members s;
        KvMember *old;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        old = member(&s, 3, KV_MEMBER_VOTER, 5, false);
        snprintf(old->address, sizeof(old->address), "10.0.0.8:2380");
        host(&s, "C", 8, PRESENCE_UP);
        assert_string_equal(plan(&s), "vacate 3");
        old->address[0] = 0;
        assert_string_equal(plan(&s), "add 8");
}

static void a_host_that_was_installed_again_replaces_the_member_at_its_address(void **state) {
        Presence gone[] = { PRESENCE_LOST, PRESENCE_LEFT };

        for (size_t i = 0; i < ELEMENTS(gone); i++) {
                KvMember *old, *new;
                char id[MACHINE_ID_SIZE], key[128];
                _cleanup_(forget) Members s;

                found(&s);
                host(&s, "B", 2, PRESENCE_UP);
                host(&s, "C", 3, PRESENCE_AWAY);
                member(&s, 2, KV_MEMBER_VOTER, LAST, true);
                old = member(&s, 3, KV_MEMBER_VOTER, 5, false);
                snprintf(old->address, sizeof(old->address), "10.0.0.3:2380");
                cluster_view_machine(&s.view, "D", "", PRESENCE_UP);
                snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "D"));
                cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.3:2380\",\"raftId\":4}");
                assert_string_equal(plan(&s), "nothing"); /* it may be slow only */
                cluster_view_machine(&s.view, "C", "", gone[i]);
                assert_string_equal(plan(&s), "vacate 3");
                old->address[0] = 0;
                assert_string_equal(plan(&s), "add 4");
                new = member(&s, 4, KV_MEMBER_STANDBY, LAST, true);
                assert_string_equal(plan(&s), "promote 4");
                new->role = KV_MEMBER_VOTER;
                assert_string_equal(plan(&s), "remove 3");
        }
}

static void machines_at_one_address_count_as_one_host(void **state) {
        char id[MACHINE_ID_SIZE], key[128];
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_LOST);
        host(&s, "A1", 0, PRESENCE_UP); /* without a replica */
        assert_non_null(cluster_machine(&s.view.cluster, cluster_view_id(id, "A1")));
        for (unsigned i = 0; i < 3; i++) {
                snprintf(key, sizeof(key), "/_fleet/cluster/member/%s",
                         cluster_view_id(id, (char[]) { 'D' + i, 0 }));
                cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.3:2380\",\"raftId\":9}");
                assert_non_null(cluster_machine(&s.view.cluster, id));
        }
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s",
                 cluster_view_id(id, "A2")); /* at the founder's address */
        cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.1:2380\",\"raftId\":10}");
        assert_int_equal(voters_others(&s.view.cluster, cluster_view_id(id, "X"), "10.0.0.7:2380"), 3);
        assert_int_equal(voters_others(&s.view.cluster, cluster_view_id(id, "X"), "10.0.0.3:2380"), 2);
        assert_int_equal(voters_others(&s.view.cluster, cluster_view_id(id, "B"), "10.0.0.2:2380"), 2);
        assert_int_equal(voters_others(&s.view.cluster, cluster_view_id(id, "B"), "10.0.0.9:2380"),
                         2); /* with another address */
}

static void the_address_of_one_member_is_not_assigned_to_another(void **state) {
        char id[MACHINE_ID_SIZE], key[128];
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        snprintf(member(&s, 2, KV_MEMBER_STANDBY, LAST, true)->address, 64, "10.0.0.8:2380");
        host(&s, "C", 8, PRESENCE_UP);
        assert_string_equal(plan(&s), "vacate 2"); /* B has another address now */
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "B"));
        cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.8:2380\",\"raftId\":2}");
        assert_string_equal(plan(&s), "nothing");
        host(&s, "D", 9, PRESENCE_UP);
        assert_string_equal(plan(&s), "add 9");
        host(&s, "E", 8, PRESENCE_UP); /* the last machine */
        assert_string_equal(plan(&s), "add 9");
}

static void a_host_that_shut_down_or_is_lost_remains_a_member(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        for (uint64_t i = 2; i <= 3; i++) {
                host(&s, (char[]) { 'A' + i - 1, 0 }, i, i == 2 ? PRESENCE_LEFT : PRESENCE_LOST);
                member(&s, i, KV_MEMBER_VOTER, LAST, false);
        }
        assert_string_equal(plan(&s), "nothing");
}

static void while_the_leaders_own_key_is_missing_no_member_is_removed(void **state) {
        _cleanup_(forget) Members s = { .leader = 1 };

        cluster_view_machine(&s.view, "A", "", PRESENCE_UP);
        member(&s, 1, KV_MEMBER_VOTER, LAST, true);
        member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "nothing");
}

static void two_voters_alone_become_a_voter_and_a_standby(void **state) {
        _cleanup_(forget) Members s;
        KvMember *b;

        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        b = member(&s, 2, KV_MEMBER_VOTER, LAST, false);
        assert_string_equal(plan(&s), "nothing");
        b->reachable = true;
        assert_string_equal(plan(&s), "demote 2");
}

/* The first member is judged like the others; the leader is at any position. */
static void the_leader_is_at_any_position_of_the_members(void **state) {
        KvMember *first;
        _cleanup_(forget) Members s = { .leader = 1 };

        host(&s, "A", 1, PRESENCE_UP);
        first = member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        member(&s, 1, KV_MEMBER_VOTER, LAST, true);
        assert_string_equal(plan(&s), "remove 2");

        host(&s, "B", 2, PRESENCE_UP);
        first->role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "demote 2");
        assert_string_equal(why, "of two hosts one votes");

        first->role = KV_MEMBER_STANDBY;
        host(&s, "C", 3, PRESENCE_UP);
        member(&s, 3, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "promote 2");

        first->role = KV_MEMBER_VOTER;
        s.members[2].role = KV_MEMBER_VOTER;
        snprintf(first->address, sizeof(first->address), "10.0.0.4:2380");
        host(&s, "B", 0, PRESENCE_LOST);
        host(&s, "D", 4, PRESENCE_UP);
        assert_string_equal(plan(&s), "vacate 2");
}

static void an_address_of_one_character_is_an_address(void **state) {
        _cleanup_(forget) Members s;
        char key[128], id[MACHINE_ID_SIZE];

        found(&s);
        member(&s, 2, KV_MEMBER_STANDBY, LAST, true);
        snprintf(s.members[1].address, sizeof(s.members[1].address), "x");
        host(&s, "B", 2, PRESENCE_LOST);
        host(&s, "C", 3, PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "B"));
        cluster_view_put(&s.view, key, "{\"peer\":\"x\",\"raftId\":2}");
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "C"));
        cluster_view_put(&s.view, key, "{\"peer\":\"x\",\"raftId\":3}");
        assert_string_equal(plan(&s), "remove 2");
        s.n--;
        assert_string_equal(plan(&s), "add 3x");
}

static void each_action_has_a_name(void **state) {
        static const char *const names[] = { "nothing", "add",    "promote", "demote",
                                             "remove",  "vacate", "retire" };

        for (unsigned i = 0; i < ELEMENTS(names); i++)
                assert_string_equal(voters_action_name((VotersAction) i), names[i]);
        assert_null(voters_action_name(_VOTERS_ACTION_MAX));
        assert_null(voters_action_name((VotersAction) 100000));
}

static void a_lost_standby_remains_until_another_machine_is_up_at_its_address(void **state) {
        char id[MACHINE_ID_SIZE], key[128];
        _cleanup_(forget) Members s;

        found(&s);
        host(&s, "B", 2, PRESENCE_LOST);
        member(&s, 2, KV_MEMBER_STANDBY, LAST, false);
        assert_string_equal(plan(&s), "nothing");

        /* It may be the founder. */
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "A"));
        cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.2:2380\",\"raftId\":1}");
        assert_string_equal(plan(&s), "remove 2");
}

/* Neither presence nor facts exist, and its member key. When it is up again, it is added under its Raft ID.
 * A host that was admitted and has not started is not removed. */
static void the_standby_of_a_removed_machine_is_removed_and_added_when_it_returns(void **state) {
        char id[MACHINE_ID_SIZE], key[128];
        _cleanup_(forget) Members s;

        found(&s);
        member(&s, 2, KV_MEMBER_STANDBY, LAST, false);
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "B"));
        cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.2:2380\",\"raftId\":2}");
        assert_string_equal(plan(&s), "nothing");
        assert_int_equal(voters_others(&s.view.cluster, "none", ""), 2);
        cluster_view_put(&s.view, key, "{\"peer\":\"10.0.0.2:2380\",\"raftId\":2,\"start\":7}");
        assert_string_equal(plan(&s), "remove 2");
        assert_int_equal(voters_others(&s.view.cluster, "none", ""), 1);
        s.n = 1;
        assert_string_equal(plan(&s), "nothing");
        cluster_view_presence(&s.view, "B", PRESENCE_UP);
        assert_string_equal(plan(&s), "add 2");
}

static void promotions_need_a_majority_of_the_voters_afterwards(void **state) {
        KvMember *b;
        Members s;

        /* The third voter is to be replaced, and the second one is unreachable. */
        found(&s);
        host(&s, "B", 2, PRESENCE_LOST);
        host(&s, "D", 4, PRESENCE_UP);
        b = member(&s, 2, KV_MEMBER_VOTER, LAST, false);
        member(&s, 3, KV_MEMBER_VOTER, 5, false);
        member(&s, 4, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "nothing");
        b->reachable = true;
        assert_string_equal(plan(&s), "promote 4");
        forget(&s);

        /* Two of three are a majority. */
        found(&s);
        host(&s, "B", 2, PRESENCE_LOST);
        host(&s, "C", 3, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, false);
        member(&s, 3, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "promote 3");
        forget(&s);
}

static void a_voter_is_removed_while_a_majority_of_the_others_is_reachable(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        for (uint64_t i = 2; i <= 3; i++)
                host(&s, (char[]) { 'A' + i - 1, 0 }, i, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        member(&s, 3, KV_MEMBER_VOTER, LAST, false);
        member(&s, 9, KV_MEMBER_VOTER, 5, false);
        assert_string_equal(plan(&s), "remove 9"); /* two of three */

        host(&s, "D", 4, PRESENCE_UP);
        member(&s, 4, KV_MEMBER_VOTER, LAST, false);
        assert_string_equal(plan(&s), "nothing"); /* two of four */
}

static void of_several_possible_changes_the_first_in_order_is_made(void **state) {
        KvMember *old;
        Members s;

        /* Remove, then add. */
        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 8, PRESENCE_UP);
        host(&s, "D", 9, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        member(&s, 3, KV_MEMBER_VOTER, 5, false);
        member(&s, 8, KV_MEMBER_VOTER, LAST, true);
        assert_string_equal(plan(&s), "remove 3");
        forget(&s);

        /* Vacate, then promote. */
        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 8, PRESENCE_UP);
        host(&s, "D", 4, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        old = member(&s, 3, KV_MEMBER_VOTER, 5, false);
        snprintf(old->address, sizeof(old->address), "10.0.0.8:2380");
        member(&s, 4, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "vacate 3");
        forget(&s);

        /* Add, then promote; add, then demote. */
        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        assert_string_equal(plan(&s), "add 3");
        host(&s, "D", 4, PRESENCE_UP);
        member(&s, 3, KV_MEMBER_STANDBY, LAST, true);
        assert_string_equal(plan(&s), "add 4");
        forget(&s);

        /* No voter is demoted while a third one may follow. */
        found(&s);
        host(&s, "B", 2, PRESENCE_UP);
        host(&s, "C", 3, PRESENCE_UP);
        member(&s, 2, KV_MEMBER_VOTER, LAST, true);
        member(&s, 3, KV_MEMBER_STANDBY, 0, true);
        assert_string_equal(plan(&s), "nothing");
        forget(&s);
}

static void there_are_no_more_members_than_the_store_supports(void **state) {
        _cleanup_(forget) Members s;

        found(&s);
        for (uint64_t i = 2; i <= KV_MEMBERS_MAX; i++) {
                char name[3] = { 'B' + i / 10, '0' + i % 10, 0 };

                if (i == KV_MEMBERS_MAX) {
                        host(&s, "F", 40, PRESENCE_UP);
                        assert_string_equal(plan(&s), "add 40");
                }
                host(&s, name, i, PRESENCE_UP);
                member(&s, i, KV_MEMBER_VOTER, LAST, true);
        }
        assert_string_equal(plan(&s), "demote 16"); /* the last one by ID */
        s.voters = KV_MEMBERS_MAX;
        assert_string_equal(plan(&s), "nothing");
}

static void a_host_without_an_address_becomes_no_member_and_the_smallest_raft_id_is_valid(void **state) {
        _cleanup_(forget) Members s = { .leader = 2 };
        char id[MACHINE_ID_SIZE], key[128];

        host(&s, "B", 2, PRESENCE_UP);
        snprintf(member(&s, 2, KV_MEMBER_VOTER, LAST, true)->address, 64, "10.0.0.2:2380");
        cluster_view_machine(&s.view, "C", "", PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "C"));
        cluster_view_put(&s.view, key, "{\"peer\":\"\",\"raftId\":3}");
        assert_string_equal(plan(&s), "nothing");
        host(&s, "A", 1, PRESENCE_UP);
        assert_string_equal(plan(&s), "add 1");
}

/* From any configuration, the planned changes end, and preserve the majority and the leader's membership. */
static void any_cluster_converges_without_losing_its_majority(void **state) {
        Random random;

        random_seed(&random, 11);
        for (unsigned round = 0; round < 2000; round++) {
                _cleanup_(forget) Members s = { .leader = 1 };
                unsigned steps = 0;

                host(&s, "A", 1, PRESENCE_UP);
                member(&s, 1, KV_MEMBER_VOTER, LAST, true);
                for (uint64_t i = 2; i <= 6; i++) {
                        char name[2] = { 'A' + i - 1, 0 };

                        if (random_below(&random, 3) > 0)
                                host(&s, name, random_below(&random, 4) ? i : i + 10,
                                     random_below(&random, _PRESENCE_MAX));
                        if (random_below(&random, 3) > 0)
                                member(&s, i,
                                       i <= 3 && random_below(&random, 2) ? KV_MEMBER_VOTER :
                                                                            KV_MEMBER_STANDBY,
                                       random_below(&random, 2) ? LAST : 0, random_below(&random, 4) > 0);
                }
                for (;; steps++) {
                        size_t voters = 0, reachable = 0, before_voters = 0, before_reachable = 0;
                        VotersChange change;
                        KvMember *m = NULL;

                        for (size_t i = 0; i < s.n; i++) {
                                before_voters += s.members[i].role == KV_MEMBER_VOTER;
                                before_reachable += s.members[i].role == KV_MEMBER_VOTER &&
                                                    s.members[i].reachable;
                        }
                        plan_of(&s, &change);
                        for (size_t i = 0; i < s.n; i++)
                                if (s.members[i].raft_id == change.raft_id)
                                        m = &s.members[i];
                        if (change.action == VOTERS_NOTHING)
                                break;
                        assert_int_not_equal(change.action == VOTERS_ADD ? 0 : change.raft_id, s.leader);
                        assert_int_equal(change.force,
                                         before_voters <= 3 && (change.action == VOTERS_DEMOTE ||
                                                                (change.action == VOTERS_REMOVE &&
                                                                 m->role == KV_MEMBER_VOTER)));
                        switch (change.action) {
                        case VOTERS_ADD:
                                assert_null(m);
                                member(&s, change.raft_id, KV_MEMBER_STANDBY,
                                       random_below(&random, 2) ? LAST : 0, random_below(&random, 2));
                                break;
                        case VOTERS_PROMOTE:
                                assert_int_equal(m->role, KV_MEMBER_STANDBY);
                                m->role = KV_MEMBER_VOTER;
                                break;
                        case VOTERS_DEMOTE:
                                assert_int_equal(m->role, KV_MEMBER_VOTER);
                                m->role = KV_MEMBER_STANDBY;
                                break;
                        default:
                                *m = s.members[--s.n];
                                break;
                        }
                        for (size_t i = 0; i < s.n; i++) {
                                voters += s.members[i].role == KV_MEMBER_VOTER;
                                reachable += s.members[i].role == KV_MEMBER_VOTER && s.members[i].reachable;
                        }
                        if (before_reachable > before_voters / 2)
                                assert_true(reachable > voters / 2);
                        assert_true(voters >= MIN(before_voters, 3u) || change.force);
                        assert_true(steps < 50);
                }
        }
}

/* -- The settings -- */

static void hosts(Members *s, uint64_t n, uint64_t n_voters) {
        found(s);
        for (uint64_t i = 2; i <= n; i++) {
                host(s, (char[]) { 'A' + i - 1, 0 }, i, PRESENCE_UP);
                member(s, i, i <= n_voters ? KV_MEMBER_VOTER : KV_MEMBER_STANDBY, LAST, true);
        }
        s->view.cluster.now_ms = 3600000; /* all are up since the begin of cluster time */
}

static void five_vote_by_the_setting_and_three_or_one_again(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 5, 3);
        assert_string_equal(plan(&s), "nothing");
        s.voters = 5;
        s.view.cluster.now_ms = voters_spans.up_ms - 1;
        assert_string_equal(plan(&s), "nothing"); /* the fourth and fifth voter are tried hosts */
        s.view.cluster.now_ms = voters_spans.up_ms;
        s.members[4].reachable = false;
        assert_string_equal(plan(&s), "nothing"); /* four are no better than three */
        s.members[4].reachable = true;
        assert_string_equal(plan(&s), "promote 4");
        assert_string_equal(why, "it is caught up, and 3 of 5 votes are taken");
        s.members[3].role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "promote 5");
        s.members[4].role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "nothing");

        s.voters = 3;
        assert_string_equal(plan(&s), "demote 5");
        assert_string_equal(why, "5 hosts vote, and 3 are wanted");
        s.members[1].reachable = false;
        assert_string_equal(plan(&s), "demote 2"); /* an unreachable one first */
        s.members[1].reachable = true;
        s.members[4].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "demote 4");
        s.members[3].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "nothing");

        s.voters = 1;
        assert_string_equal(plan(&s), "demote 3");
        s.members[2].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "demote 2");
        s.members[1].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "nothing");
}

static void no_more_vote_than_there_are_hosts_for(void **state) {
        Members s;

        hosts(&s, 4, 3);
        s.voters = 5;
        assert_string_equal(plan(&s), "nothing");
        forget(&s);

        hosts(&s, 3, 3); /* the third one is removed */
        host(&s, "C", 0, PRESENCE_LOST);
        s.members[2].reachable = false;
        assert_string_equal(plan(&s), "remove 3");
        s.n = 2;
        assert_string_equal(plan(&s), "demote 2");
        assert_string_equal(why, "of two hosts one votes");
        forget(&s);

        assert_int_equal(voters_hosts_max(0), 5);
        assert_int_equal(voters_hosts_max(1), 3);
        assert_int_equal(voters_hosts_max(3), 5);
        assert_int_equal(voters_hosts_max(5), 7);
}

/* 'n' more hosts without a replica, up or lost at this time. */
static void have_attached(Members *s, unsigned n, Presence presence) {
        char name[8];

        for (unsigned i = 0; i < n; i++) {
                snprintf(name, sizeof(name), "F%u", i);
                cluster_view_machine(&s->view, name, "", presence);
        }
}

/* -- Hosts without a replica -- */

#define D16      "0123456789abcdef"
#define CA_ROOTS "{\"roots\":[{\"id\":\"" D16 D16 D16 D16 "\",\"pem\":\"p\",\"state\":\"current\"}]}"

/* A host without a replica, which supports that level. */
static void attached(Members *s, const char *machine, uint64_t level, const char *metadata) {
        char key[128], id[MACHINE_ID_SIZE], value[256];

        cluster_view_machine(&s->view, machine, "", PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"level\":%llu,\"metadata\":{%s},\"name\":\"%s\"}",
                 (unsigned long long) level, metadata, machine);
        cluster_view_put(&s->view, key, value);
}

/* After a restore, those of the backup are up until they are lost. */
static void a_host_that_is_up_and_has_no_session_gets_no_replica(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 4, 3);
        s.voters = 3;
        s.attaches = true;
        attached(&s, "E1", KV_LEVEL_ATTACHED, "");
        s.absent = "E1";
        assert_string_equal(plan(&s), "nothing");
        attached(&s, "F1", KV_LEVEL_ATTACHED, "");
        assert_string_equal(plan(&s), "assign F1");
}

static void a_host_without_a_replica_gets_one_while_there_are_fewer_than_wanted(void **state) {
        char key[128], id[MACHINE_ID_SIZE];
        _cleanup_(forget) Members s;

        hosts(&s, 4, 3);
        s.voters = 3;
        attached(&s, "E1", KV_LEVEL_ATTACHED, "");
        attached(&s, "F1", KV_LEVEL_ATTACHED, "");
        assert_string_equal(plan(&s), "nothing"); /* of an older level */
        s.attaches = true;
        assert_string_equal(plan(&s), "assign E1");
        assert_string_equal(why, "E1 is to hold a replica");

        /* One that cannot read what the cluster writes, or that is in maintenance. */
        attached(&s, "E1", KV_LEVEL_ATTACHED - 1, "");
        assert_string_equal(plan(&s), "assign F1");
        snprintf(key, sizeof(key), "/_fleet/machine/%s/maintenance", cluster_view_id(id, "F1"));
        cluster_view_put(&s.view, key, "{\"for\":\"disk\",\"mode\":\"cordoned\"}");
        assert_string_equal(plan(&s), "nothing");
        cluster_view_remove(&s.view, key);

        /* With certificates, it has proved its identity. */
        cluster_view_put(&s.view, "/_fleet/cluster/ca/roots", CA_ROOTS);
        assert_string_equal(plan(&s), "nothing");
        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, "F1"));
        cluster_view_put(&s.view, key, "{\"joined\":1,\"pins\":[\"" D16 D16 D16 D16 "\"]}");
        assert_string_equal(plan(&s), "assign F1");

        /* It has an ID, and writes its address next. */
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "F1"));
        cluster_view_put(&s.view, key, "{\"raftId\":7}");
        assert_string_equal(plan(&s), "nothing");
        s.voters = 5;
        assert_string_equal(plan(&s), "nothing"); /* two do not vote */
        s.view.cluster.now_ms = 0;                /* the fourth voter is a tried host */
        s.members[3].role = KV_MEMBER_VOTER;
        attached(&s, "E1", KV_LEVEL_ATTACHED, "");
        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, "E1"));
        cluster_view_put(&s.view, key,
                         "{\"joined\":1,\"pins\":[\"" D16 D16 D16 D16 "\"],\"restricted\":true}");
        assert_string_equal(plan(&s), "nothing"); /* it must not have the cluster key */
        cluster_view_put(&s.view, key, "{\"joined\":1,\"pins\":[\"" D16 D16 D16 D16 "\"]}");
        assert_string_equal(plan(&s), "assign E1");
}

static void a_host_that_spreads_the_replicas_is_preferred_and_voter_no_is_last(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 4, 3);
        s.voters = 3;
        s.attaches = true;
        s.spread = "zone";
        attached(&s, "E1", KV_LEVEL_ATTACHED, "");
        attached(&s, "F1", KV_LEVEL_ATTACHED, "\"zone\":\"b\"");
        assert_string_equal(plan(&s), "assign F1");
        s.spread = "";
        assert_string_equal(plan(&s), "assign E1");
        attached(&s, "E1", KV_LEVEL_ATTACHED, "\"voter\":\"no\"");
        assert_string_equal(plan(&s), "assign F1");
}

static void surplus_standbys_lose_their_keys(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 6, 5);
        s.attaches = true;
        s.voters = 5;
        assert_string_equal(plan(&s), "nothing");
        s.voters = 3;
        assert_string_equal(plan(&s), "demote 5");
        s.members[4].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "demote 4");
        s.members[3].role = KV_MEMBER_STANDBY;
        assert_string_equal(plan(&s), "retire 6");
        assert_string_equal(why, "6 hosts hold a replica, and 5 are wanted");
        host(&s, "D", 4, PRESENCE_AWAY);
        assert_string_equal(plan(&s), "retire 4");
        host(&s, "D", 0, PRESENCE_AWAY);
        assert_string_equal(plan(&s), "remove 4");
}

/* Those of a cluster without other hosts keep their place. */
static void a_silent_standby_gives_way_to_a_host_without_a_replica(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 5, 3);
        s.attaches = true;
        s.view.cluster.now_ms = 3600000;
        host(&s, "E", 5, PRESENCE_LOST);
        s.members[4].reachable = false;
        s.view.cluster.now_ms += voters_spans.silent_ms;
        assert_string_equal(plan(&s), "nothing");
        attached(&s, "E1", KV_LEVEL_ATTACHED, "");
        assert_string_equal(plan(&s), "retire 5");
        assert_string_equal(why, "E has been silent for 10 min, and E1 can hold a replica");
        s.paused = true;
        assert_string_equal(plan(&s), "nothing");
        s.paused = false;
        s.led_ms = voters_spans.led_ms - 1;
        assert_string_equal(plan(&s), "nothing");
        s.led_ms = voters_spans.led_ms;
        s.view.cluster.now_ms--;
        assert_string_equal(plan(&s), "nothing");
}

static void a_standby_gives_way_to_a_host_that_spreads_the_replicas(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 5, 3);
        s.attaches = true;
        s.spread = "zone";
        s.view.cluster.now_ms = 3600000;
        attached(&s, "E1", KV_LEVEL_ATTACHED, "\"zone\":\"b\"");
        assert_string_equal(plan(&s), "nothing"); /* it has been up for too short a time */
        s.view.cluster.now_ms += voters_spans.up_ms;
        assert_string_equal(plan(&s), "retire 5");
        assert_string_equal(why, "the replicas spread over zone: b instead of ");
        s.spread_ms = voters_spans.spread_ms - 1;
        assert_string_equal(plan(&s), "nothing");
        s.spread_ms = 0;
        s.spread = "";
        assert_string_equal(plan(&s), "nothing");
}

static void five_vote_after_three_because_there_are_two_standbys(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 5, 1);
        s.n = 3; /* a voter and two standbys */
        s.voters = 5;
        assert_string_equal(plan(&s), "promote 2");
}

static void fifty_hosts_have_five_voters_until_fewer_than_25_are_left(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 5, 3);
        s.view.cluster.now_ms = 3600000;
        have_attached(&s, 44, PRESENCE_UP);
        s.view.cluster.now_ms += voters_spans.many_ms;
        assert_string_equal(plan(&s), "nothing"); /* 49 */
        cluster_view_machine(&s.view, "E1", "", PRESENCE_UP);
        assert_string_equal(plan(&s), "nothing");
        s.view.cluster.now_ms += voters_spans.many_ms - 1;
        assert_string_equal(plan(&s), "nothing");
        s.view.cluster.now_ms += 1;
        assert_string_equal(plan(&s), "promote 4");
        s.members[3].role = s.members[4].role = KV_MEMBER_VOTER;

        have_attached(&s, 26, PRESENCE_LOST); /* 24 are up */
        assert_string_equal(plan(&s), "nothing");
        s.view.cluster.now_ms += voters_spans.few_ms - 1;
        assert_string_equal(plan(&s), "nothing");
        s.view.cluster.now_ms += 1;
        assert_string_equal(plan(&s), "demote 5");
        cluster_view_presence(&s.view, "F0", PRESENCE_UP); /* 25 */
        assert_string_equal(plan(&s), "nothing");
}

static void set_zone(Members *s, const char *machine, const char *zone) {
        char key[128], id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/metadata/zone", cluster_view_id(id, machine));
        cluster_view_put(&s->view, key, zone);
        s->spread = "zone";
}

static void the_voters_are_spread_over_the_values_of_a_key(void **state) {
        Members s;

        /* A new value first. */
        hosts(&s, 3, 1);
        set_zone(&s, "A", "a");
        set_zone(&s, "B", "a");
        set_zone(&s, "C", "c");
        assert_string_equal(plan(&s), "promote 3");
        s.members[2].role = KV_MEMBER_VOTER;
        assert_string_equal(plan(&s), "promote 2");
        s.members[1].role = KV_MEMBER_VOTER;
        assert_string_equal(voters_critical_value(s.members, s.n, &s.view.cluster, "zone"), "a");
        assert_null(voters_critical_value(s.members, s.n, &s.view.cluster, ""));
        assert_null(voters_critical_value(s.members, s.n, &s.view.cluster, NULL));

        /* One added, one removed. */
        host(&s, "D", 4, PRESENCE_UP);
        member(&s, 4, KV_MEMBER_STANDBY, LAST, true);
        set_zone(&s, "D", "c");
        s.view.cluster.now_ms += voters_spans.up_ms;
        assert_string_equal(plan(&s), "nothing"); /* no better */
        set_zone(&s, "D", "d");
        s.paused = true;
        assert_string_equal(plan(&s), "nothing");
        s.paused = false;
        s.spread_ms = voters_spans.spread_ms - 1;
        assert_string_equal(plan(&s), "nothing");
        s.spread_ms = voters_spans.spread_ms;
        s.led_ms = voters_spans.led_ms - 1;
        assert_string_equal(plan(&s), "nothing");
        s.led_ms = voters_spans.led_ms;
        s.members[2].reachable = false;
        assert_string_equal(plan(&s), "nothing");
        s.members[2].reachable = true;
        assert_string_equal(plan(&s), "promote 4");
        assert_string_equal(why, "it spreads the voters over zone: d instead of a");
        s.members[3].role = KV_MEMBER_VOTER;
        s.spread_ms = 1;
        assert_string_equal(plan(&s), "demote 2"); /* not the leader, which has the same value */
        s.members[1].role = KV_MEMBER_STANDBY;
        s.spread_ms = 0;
        assert_string_equal(plan(&s), "nothing");
        assert_null(voters_critical_value(s.members, s.n, &s.view.cluster, "zone"));
        forget(&s);

        /* Hosts without the key are one value. */
        hosts(&s, 3, 3);
        set_zone(&s, "A", "a");
        assert_string_equal(voters_critical_value(s.members, s.n, &s.view.cluster, "zone"), "");
        forget(&s);
}

static void of_equal_candidates_the_one_that_is_up_longest_is_promoted(void **state) {
        _cleanup_(forget) Members s;

        hosts(&s, 3, 1);
        cluster_view_presence(&s.view, "B", PRESENCE_UP); /* now */
        assert_string_equal(plan(&s), "promote 3");
}

static void a_host_with_voter_no_or_a_problem_of_its_replica_does_not_become_a_voter(void **state) {
        char key[128], id[MACHINE_ID_SIZE];
        Members s;

        hosts(&s, 4, 1);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/metadata/voter", cluster_view_id(id, "B"));
        cluster_view_put(&s.view, key, "no");
        assert_string_equal(plan(&s), "promote 3");
        snprintf(key, sizeof(key), "/_fleet/machine/%s/presence", cluster_view_id(id, "C"));
        cluster_view_put(&s.view, key, "{\"reason\":\"its replica: disk full\",\"state\":\"up\"}");
        assert_string_equal(plan(&s), "nothing");
        forget(&s);

        /* The number of voters does not follow a problem: C returns without its state, in place of its voter.
         */
        hosts(&s, 3, 3);
        host(&s, "C", 8, PRESENCE_UP);
        s.members[2].reachable = false;
        member(&s, 8, KV_MEMBER_STANDBY, 0, true);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/presence", cluster_view_id(id, "C"));
        cluster_view_put(&s.view, key, "{\"reason\":\"its replica: disk full\",\"state\":\"up\"}");
        assert_string_equal(plan(&s), "nothing");
        forget(&s);

        /* One that votes is the first to be demoted. */
        hosts(&s, 5, 5);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/metadata/voter", cluster_view_id(id, "B"));
        cluster_view_put(&s.view, key, "no");
        assert_string_equal(plan(&s), "demote 2");
        forget(&s);
}

/* -- A voter that is silent for long -- */

/* Of three voters and a standby, C is lost for ten minutes. */
static void lose_a_voter(Members *s) {
        hosts(s, 4, 3);
        cluster_view_presence(&s->view, "C", PRESENCE_LOST);
        s->members[2].reachable = false;
        s->view.cluster.now_ms += voters_spans.silent_ms;
}

static void a_voter_that_is_silent_for_ten_minutes_is_replaced(void **state) {
        VotersChange change;
        char id[MACHINE_ID_SIZE];
        _cleanup_(forget) Members s;

        lose_a_voter(&s);
        assert_string_equal(plan(&s), "promote 4");
        assert_string_equal(why, "it is to replace C, which has been silent for 10 min");
        s.members[3].role = KV_MEMBER_VOTER;
        s.led_ms = 1; /* the next leader continues at once */
        s.paused = true;
        assert_string_equal(plan(&s), "retire 3");
        assert_string_equal(why, "C has been replaced: it has been silent for 10 min");
        plan_of(&s, &change);
        assert_string_equal(change.machine_id, cluster_view_id(id, "C"));
        host(&s, "C", 0, PRESENCE_LOST);
        assert_string_equal(plan(&s), "remove 3");
        s.members[2] = s.members[3];
        s.n = 3;
        assert_string_equal(plan(&s), "nothing");

        /* It returns under another ID. */
        host(&s, "C", 5, PRESENCE_UP);
        assert_string_equal(plan(&s), "add 5");
}

static void a_voter_that_returns_before_its_key_is_deleted_becomes_a_standby(void **state) {
        _cleanup_(forget) Members s;

        lose_a_voter(&s);
        s.members[3].role = KV_MEMBER_VOTER;
        s.members[2].reachable = true;
        cluster_view_presence(&s.view, "C", PRESENCE_UP);
        assert_string_equal(plan(&s), "demote 3");
}

static void each_condition_of_a_replacement_is_checked(void **state) {
        char key[128], id[MACHINE_ID_SIZE];

        for (unsigned i = 0;; i++) {
                Members s;

                lose_a_voter(&s);
                switch (i) {
                case 0:
                        s.view.cluster.now_ms--;
                        break;
                case 1:
                        s.led_ms = voters_spans.led_ms - 1;
                        break;
                case 2:
                        s.paused = true;
                        break;
                case 3: /* another voter does not answer */
                        s.voters = 5;
                        host(&s, "E", 5, PRESENCE_UP);
                        host(&s, "F", 6, PRESENCE_UP);
                        member(&s, 5, KV_MEMBER_VOTER, LAST, true);
                        member(&s, 6, KV_MEMBER_VOTER, LAST, false);
                        break;
                case 4: /* two versions */
                        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "B"));
                        cluster_view_put(&s.view, key,
                                         "{\"level\":4,\"peer\":\"10.0.0.2:2380\",\"raftId\":2}");
                        break;
                case 5: /* no tried candidate */
                        cluster_view_presence(&s.view, "D", PRESENCE_UP);
                        break;
                case 6: /* it answers Raft */
                        s.members[2].reachable = true;
                        break;
                case 7: /* its heartbeats arrive */
                        cluster_view_presence(&s.view, "C", PRESENCE_UP);
                        s.view.cluster.now_ms += voters_spans.silent_ms;
                        break;
                case 8: /* no standby */
                        s.n = 3;
                        host(&s, "D", 0, PRESENCE_UP);
                        break;
                default:
                        assert_string_equal(plan(&s), "promote 4");
                        forget(&s);
                        return;
                }
                if (strcmp(plan(&s), "nothing") != 0)
                        fail_msg("row %u: %s", i, plan(&s));
                forget(&s);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_host_votes_alone),
                cmocka_unit_test(the_vote_of_a_host_that_leaves_is_taken_first),
                cmocka_unit_test(a_leader_that_leaves_one_other_host_keeps_its_vote_until_the_transfer),
                cmocka_unit_test(a_host_that_leaves_gets_no_replica),
                cmocka_unit_test(a_member_with_an_unreadable_key_remains_a_member),
                cmocka_unit_test(a_host_with_a_key_becomes_a_member_and_two_hosts_are_a_voter_and_a_standby),
                cmocka_unit_test(a_host_that_is_not_up_or_has_no_peer_listener_becomes_no_member),
                cmocka_unit_test(three_vote_once_two_standbys_are_caught_up_and_reachable),
                cmocka_unit_test(beyond_three_voters_there_are_two_standbys),
                cmocka_unit_test(a_standby_without_a_key_is_removed),
                cmocka_unit_test(a_voter_without_a_key_is_replaced_then_removed),
                cmocka_unit_test(a_host_that_lost_its_state_returns_at_its_address),
                cmocka_unit_test(a_host_that_was_installed_again_replaces_the_member_at_its_address),
                cmocka_unit_test(machines_at_one_address_count_as_one_host),
                cmocka_unit_test(the_address_of_one_member_is_not_assigned_to_another),
                cmocka_unit_test(a_host_that_shut_down_or_is_lost_remains_a_member),
                cmocka_unit_test(while_the_leaders_own_key_is_missing_no_member_is_removed),
                cmocka_unit_test(two_voters_alone_become_a_voter_and_a_standby),
                cmocka_unit_test(the_leader_is_at_any_position_of_the_members),
                cmocka_unit_test(an_address_of_one_character_is_an_address),
                cmocka_unit_test(each_action_has_a_name),
                cmocka_unit_test(a_lost_standby_remains_until_another_machine_is_up_at_its_address),
                cmocka_unit_test(the_standby_of_a_removed_machine_is_removed_and_added_when_it_returns),
                cmocka_unit_test(promotions_need_a_majority_of_the_voters_afterwards),
                cmocka_unit_test(a_voter_is_removed_while_a_majority_of_the_others_is_reachable),
                cmocka_unit_test(of_several_possible_changes_the_first_in_order_is_made),
                cmocka_unit_test(there_are_no_more_members_than_the_store_supports),
                cmocka_unit_test(
                        a_host_without_an_address_becomes_no_member_and_the_smallest_raft_id_is_valid),
                cmocka_unit_test(any_cluster_converges_without_losing_its_majority),
                cmocka_unit_test(five_vote_by_the_setting_and_three_or_one_again),
                cmocka_unit_test(no_more_vote_than_there_are_hosts_for),
                cmocka_unit_test(a_host_that_is_up_and_has_no_session_gets_no_replica),
                cmocka_unit_test(a_host_without_a_replica_gets_one_while_there_are_fewer_than_wanted),
                cmocka_unit_test(a_host_that_spreads_the_replicas_is_preferred_and_voter_no_is_last),
                cmocka_unit_test(surplus_standbys_lose_their_keys),
                cmocka_unit_test(a_silent_standby_gives_way_to_a_host_without_a_replica),
                cmocka_unit_test(a_standby_gives_way_to_a_host_that_spreads_the_replicas),
                cmocka_unit_test(five_vote_after_three_because_there_are_two_standbys),
                cmocka_unit_test(fifty_hosts_have_five_voters_until_fewer_than_25_are_left),
                cmocka_unit_test(the_voters_are_spread_over_the_values_of_a_key),
                cmocka_unit_test(of_equal_candidates_the_one_that_is_up_longest_is_promoted),
                cmocka_unit_test(a_host_with_voter_no_or_a_problem_of_its_replica_does_not_become_a_voter),
                cmocka_unit_test(a_voter_that_is_silent_for_ten_minutes_is_replaced),
                cmocka_unit_test(a_voter_that_returns_before_its_key_is_deleted_becomes_a_standby),
                cmocka_unit_test(each_condition_of_a_replacement_is_checked),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
