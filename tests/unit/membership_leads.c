/* The writes of a leader, and their number: presences, member keys, the feature level. */

#include "fleetd/sessions/membership_internal.h"
#include "tests/lib/message.h"
#include "tests/unit/membership_played.h"

#define ONE "[Service]\nExecStart=/bin/sleep 1\n"

enum { TROUBLE_MAX = 99, DAY_MS = 24 * 3600 * 1000 };

/* -- Presence -- */

static void a_problem_that_a_host_reports_is_in_its_presence(void **state) {
        char trouble[150], expected[128];
        uint64_t index;

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        assert_true(quiet_peer_meet(h));
        for (unsigned i = 0; i < 4; i++) {
                send_heartbeat("");
                tick();
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "");
        }
        assert_presence(QUIET_PEER_ID, PRESENCE_UP, "");

        send_heartbeat("x");
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "its replica: x");
        index = machine(QUIET_PEER_OTHER_ID)->presence_index;
        send_heartbeat("x");
        tick();
        assert_int_equal(machine(QUIET_PEER_OTHER_ID)->presence_index, index);
        memset(trouble, 'y', sizeof(trouble));
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, trouble, sizeof(trouble)));
        tick();
        snprintf(expected, sizeof(expected), "its replica: %.*s", TROUBLE_MAX, trouble);
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, expected);
        send_heartbeat("");
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "its replica works again");

        assert_false(quiet_peer_send(h, PEER_BYE, "stop", 4));
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_AWAY, "its fleetd was stopped");
        assert_true(quiet_peer_meet(h));
        send_heartbeat("");
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "");
        assert_false(quiet_peer_send(h, PEER_BYE, "shutdown", 8));
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_LEFT, "it shut down");
}

/* A heartbeat of a host whose wall clock differs from this one's. */
static void send_clock(int64_t difference_ms) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, 0);
        write_u8(&w, 2);
        write_u64(&w, loop_wall_ms(&h->loop) + (uint64_t) difference_ms);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, w.bytes, w.size));
        tick();
}

/* Send the problem of a replica, with its code and arguments. */
static void send_verdict(const char *problem, const char *verdict) {
        _cleanup_writer_ Writer w = {};

        write_raw(&w, problem, strlen(problem));
        write_u8(&w, 0);
        write_u8(&w, 4);
        write_u8(&w, (uint8_t) strlen(verdict));
        write_raw(&w, verdict, strlen(verdict));
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, w.bytes, w.size));
        tick();
}

/* Return how many answers there are to a heartbeat of a host without a replica. */
static unsigned n_answers(uint8_t flags) {
        _cleanup_writer_ Writer w = {};
        unsigned n = 0;
        Frame f;

        write_u8(&w, 0);
        write_u8(&w, 3);
        write_u8(&w, flags);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, w.bytes, w.size));
        while (quiet_peer_receive(&h->asking, &f))
                n += f.type == PEER_CURRENT;
        return n;
}

/* A host leaves a replica without an answer for 1.5 s. */
static void each_rare_heartbeat_and_one_of_two_frequent_ones_is_answered(void **state) {
        enum { IN_USE = 1, RARE = 2 };

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        assert_true(quiet_peer_meet(h));
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(n_answers(IN_USE), i % 2 == 0);
                tick();
        }
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(n_answers(IN_USE | RARE), 1);
                tick();
        }
}

static void a_clock_that_differs_by_more_than_30_s_is_in_the_presence_of_its_host(void **state) {
        static const uint8_t cut[] = { 0, 2, 1, 2, 3 }, other_kind[] = { 0, 3, 0, 0, 0, 0, 0, 0, 0, 0 },
                             far[] = { 0, 2, 255, 255, 255, 255, 255, 255, 255, 255 };
        static const struct {
                int64_t difference_ms;
                const char *reason;
        } rows[] = {
                { 0, "" },
                { 29000, "" },
                { -29000, "" },
                { -95500, "its clock: clock is 95 s behind the leader's" },
                { -100000, "its clock: clock is 95 s behind the leader's" }, /* written once */
                { -25000, "its clock: clock is 25 s behind the leader's" },
                { -19000, "its clock agrees with the leader's" },
                { -29000, "its clock agrees with the leader's" },
                { 31500, "its clock: clock is 31 s ahead of the leader's" },
                { 10800500, "its clock: clock is 3 h ahead of the leader's" },
                { -259200500, "its clock: clock is 3 days behind the leader's" },
                { 0, "its clock agrees with the leader's" },
        };
        uint64_t index;

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        tick(); /* the founder writes its settings */
        assert_true(quiet_peer_meet(h));
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                send_clock(rows[i].difference_ms);
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, rows[i].reason);
        }

        /* Heartbeats without a clock, also of another version, and invalid ones. */
        index = machine(QUIET_PEER_OTHER_ID)->presence_index;
        send_heartbeat("");
        tick();
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, cut, sizeof(cut)));
        tick();
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, other_kind, sizeof(other_kind)));
        tick();
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, far, sizeof(far)));
        tick();
        assert_int_equal(machine(QUIET_PEER_OTHER_ID)->presence_index, index);
        assert_presence(QUIET_PEER_ID, PRESENCE_UP, "");
}

/* An unknown code decides only that the replica has a problem, with any message. */
static void the_code_of_a_heartbeat_counts(void **state) {
        const ClusterMachine *m;

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        ticks(3); /* the founder writes its settings */
        assert_true(quiet_peer_meet(h));
        send_heartbeat("");
        tick();
        send_verdict("of a later version", "key-sealed\x1f"
                                           "7");
        m = machine(QUIET_PEER_OTHER_ID);
        assert_int_equal(m->verdict.code, VERDICT_KEY_SEALED);
        assert_presence(
                QUIET_PEER_OTHER_ID, PRESENCE_UP,
                "its replica: cluster key sealed: this host cannot open or seal secrets/key.7; see its "
                "journal");
        send_verdict("cluster key missing: x", "moon-full");
        m = machine(QUIET_PEER_OTHER_ID);
        assert_int_equal(m->verdict.code, VERDICT_SAID);
        assert_string_equal(verdict_name(&m->verdict), "moon-full");
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "its replica: cluster key missing: x");
        assert_false(senders_awaits_key(h->membership, QUIET_PEER_OTHER_ID));
        send_heartbeat("cluster key missing: x");
        tick();
        assert_int_equal(senders_problem(h->membership, QUIET_PEER_OTHER_ID)->code, VERDICT_KEY_MISSING);
        assert_true(senders_awaits_key(h->membership, QUIET_PEER_OTHER_ID));
}

/* A host that had a replica, and uses that of another host now, sends the leader nothing: others report it.
 */
static void the_condition_of_a_host_ends_when_nothing_of_it_arrives(void **state) {
        const HostCondition reported = { .machine = QUIET_PEER_OTHER_ID,
                                         .flags = CONDITION_IN_USE,
                                         .clock_ms = -40500 };
        Verdict clock;

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        assert_true(quiet_peer_meet(h));
        send_clock(-95500);
        assert_true(senders_clock(h->membership, QUIET_PEER_OTHER_ID, &clock));
        senders_take_condition(h->membership, &reported, 0); /* it has sessions of its own */
        senders_tick(h->membership);
        assert_true(senders_clock(h->membership, QUIET_PEER_OTHER_ID, &clock));
        assert_string_equal(message_of(&clock), "clock is 95 s behind the leader's");

        h->now_ms += CONDITION_VALID_MS + 1;
        senders_tick(h->membership);
        assert_false(senders_clock(h->membership, QUIET_PEER_OTHER_ID, &clock));
        senders_take_condition(h->membership, &reported, 0);
        senders_tick(h->membership);
        assert_true(senders_clock(h->membership, QUIET_PEER_OTHER_ID, &clock));
        assert_string_equal(message_of(&clock), "clock is 40 s behind the leader's");
}

static void on_put(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

static LivenessSign in_contact(void *userdata, const char *id) {
        return (LivenessSign) { .session = true, .kernel = true };
}

/* The other host reports a heartbeat of each of two hosts. */
static void send_report(Reporter *reporter) {
        static const char *const hosts[] = { THIRD_ID, FOURTH_ID };
        const ReportHead head = { .session = 1, .term = h->membership->term, .kept = true };
        _cleanup_writer_ Writer w = {};

        for (size_t i = 0; i < ELEMENTS(hosts); i++) {
                uint32_t slot = UINT32_MAX;

                assert_int_equal(reporter_slot(reporter, hosts[i], 1, &slot), 0);
                reporter_heartbeat(reporter, slot, SIGN_IN_USE);
        }
        reporter_write(reporter, &head, in_contact, NULL, &w);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_REPORT, w.bytes, w.size));
}

/* The replica has it from before the removal, or has not yet applied that. */
static void a_heartbeat_of_a_removed_host_in_a_report_does_not_revive_it(void **state) {
        const KvCommand tombstone = { .op = KV_SET,
                                      .internal = true,
                                      .key = kv_string("/_fleet/cluster/removed/" THIRD_ID),
                                      .value = kv_string("{\"pin\":\"" THIRD_ID THIRD_ID "\"}") };
        Reporter reporter = {};

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        have_facts(FOURTH_ID);
        assert_int_equal(kv_propose(h->store, &tombstone, on_put, NULL, NULL), 0);
        open_membership();
        assert_true(quiet_peer_meet(h));
        for (unsigned i = 0; i < 3; i++) {
                send_heartbeat("");
                send_report(&reporter);
                tick();
        }
        assert_presence(FOURTH_ID, PRESENCE_UP, "");
        assert_non_null(machine(THIRD_ID)->removed);
        assert_int_equal(machine(THIRD_ID)->presence_index, 0);
        reporter_done(&reporter);
}

static void a_tick_that_is_more_than_250_ms_late_counts_against_no_host(void **state) {
        be_up_and_fall_silent();
        for (unsigned i = 0; i < 12; i++) {
                jump(LIVENESS_TICK_MS + 251);
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "");
        }
        for (unsigned i = 0; i < 5; i++) {
                jump(LIVENESS_TICK_MS + 250);
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "");
        }
        jump(LIVENESS_TICK_MS + 250);
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_AWAY, hung);
}

static void a_tick_without_a_majority_counts_against_no_host(void **state) {
        static const struct {
                size_t n, reachable;
                bool counts;
        } rows[] = { { 3, 1, false }, { 2, 1, false }, { 3, 2, true } };

        be_up_and_fall_silent();
        state_seen = has_voters;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                n_voters = rows[i].n;
                n_reachable = rows[i].reachable;
                open_membership();
                ticks(5);
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "");
                tick();
                assert_presence(QUIET_PEER_OTHER_ID, rows[i].counts ? PRESENCE_AWAY : PRESENCE_UP,
                                rows[i].counts ? hung : "");
        }
}

/* The kernel counts as silent 1.5 s after its last sign, from the third tick on; then four ticks count. */
static void a_host_is_lost_three_seconds_after_the_last_sign_of_its_kernel(void **state) {
        h->kernels_unknown = true;
        be_up_and_fall_silent();
        for (unsigned i = 0; i < 8; i++) {
                tick();
                assert_true(quiet_peer_send(h, PEER_PING, "", 0));
        }
        for (unsigned i = 0; i < 5; i++) {
                tick();
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_AWAY, hung);
        }
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_LOST, "no message from its fleetd or its kernel");
}

/* Its kernel answers on the session that this host dialed. */
static void a_host_that_dials_no_session_is_lost_three_seconds_after_the_last_sign_of_its_kernel(
        void **state) {
        h->kernels_unknown = true;
        be_up_and_fall_silent();
        quiet_peer_hang_up(h);
        for (unsigned i = 0; i < 8; i++) {
                tick();
                send_joined(JOIN_VERSION, true, "no", 0, 0, 0);
        }
        for (unsigned i = 0; i < 5; i++) {
                tick();
                assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_AWAY, "its fleetd lost its session");
        }
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_LOST, "no message from its fleetd or its kernel");
}

/* A machine without a replica that has no session to any: a new leader waits 3 s, and decides at the next
 * tick. */
enum { UNATTACHED_TICKS = 7 };

static void a_machine_without_any_session_is_lost_after_its_grace(void **state) {
        be_up_and_fall_silent();
        have_presence(THIRD_ID, PRESENCE_UP);
        open_membership();
        for (unsigned i = 1; i <= UNATTACHED_TICKS; i++) {
                send_heartbeat("");
                tick();
                assert_int_equal(machine(THIRD_ID)->presence,
                                 i < UNATTACHED_TICKS ? PRESENCE_UP : PRESENCE_LOST);
        }
        assert_presence(THIRD_ID, PRESENCE_LOST, "no message from its fleetd or its kernel");
}

/* The leader has dialed it, and it has not chosen that session yet: its kernel answers there. */
static void a_machine_that_uses_no_session_is_away_while_its_kernel_answers(void **state) {
        h->attached = true;
        have_facts(QUIET_PEER_OTHER_ID);
        have_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP);
        open_membership();
        assert_true(quiet_peer_meet(h));
        ticks(3 * UNATTACHED_TICKS);
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_AWAY, "its fleetd lost its session");
}

/* Without a session, its kernel rejects a connection every two seconds at least. */
static void a_host_without_a_session_is_lost_five_seconds_after_its_kernel_rejected_a_connection(
        void **state) {
        unsigned n = 0;

        be_up_and_fall_silent();
        quiet_peer_part(h);
        for (unsigned i = 0; i < 40; i++) {
                (void) quiet_peer_refuse(h);
                tick();
                assert_int_equal(machine(QUIET_PEER_OTHER_ID)->presence,
                                 i < 2 ? machine(QUIET_PEER_OTHER_ID)->presence : PRESENCE_AWAY);
        }
        while (!quiet_peer_refuse(h))
                quiet_peer_pass(h, 1);
        for (; machine(QUIET_PEER_OTHER_ID)->presence == PRESENCE_AWAY; n++)
                tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_LOST, "no message from its fleetd or its kernel");
        assert_in_range(n, 10, 12);
}

static void in_a_later_term_a_leader_counts_from_zero(void **state) {
        have_presence(THIRD_ID, PRESENCE_UP);
        open_membership();
        ticks(3);
        open_membership();
        ticks(5);
        presence_asked = (Asked) { .hold = true };
        state_seen = is_of_a_later_term;
        ticks(UNATTACHED_TICKS - 1);
        assert_int_equal(presence_asked.n, 0);
        tick();
        assert_int_equal(presence_asked.n, 1);
}

static void a_leader_that_followed_meanwhile_counts_from_zero(void **state) {
        have_presence(THIRD_ID, PRESENCE_UP);
        open_membership();
        ticks(3);
        open_membership();
        ticks(5);
        presence_asked = (Asked) { .hold = true };
        state_seen = follows;
        tick();
        state_seen = NULL;
        ticks(UNATTACHED_TICKS - 1);
        assert_int_equal(presence_asked.n, 0);
        tick();
        assert_int_equal(presence_asked.n, 1);
}

/* -- Writing -- */

static uint64_t entries(void) {
        KvState state;

        __real_kv_state(h->store, &state);
        return state.raft_index;
}

static void a_leader_has_one_write_in_flight_and_none_without_a_cause(void **state) {
        uint64_t before;

        be_up_and_fall_silent();
        for (unsigned i = 0; i < 4; i++) {
                send_heartbeat("");
                tick();
        }
        presence_asked.n = start_asked.n = 0;
        before = entries();
        for (unsigned i = 0; i < 4; i++) {
                send_heartbeat("");
                tick();
        }
        assert_int_equal(presence_asked.n + start_asked.n, 0);
        assert_int_equal(entries(), before);

        presence_asked.hold = true;
        ticks(6);
        assert_int_equal(presence_asked.n, 1);
        state_seen = suffers;
        h->settings.advertise_client = (char *) "http://10.0.0.1:2379";
        ticks(10);
        assert_int_equal(presence_asked.n, 1);
        assert_int_equal(start_asked.n, 0);
        presence_asked.hold = false;
        state_seen = NULL;
        presence_asked.done(presence_asked.userdata, KV_COMPARE_FAILED, "", 0);
        ticks(6);
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_AWAY, hung);
        assert_string_equal(machine(QUIET_PEER_ID)->member.client, "http://10.0.0.1:2379");

        presence_asked = (Asked) { .hold = true };
        state_seen = suffers;
        ticks(4);
        assert_int_equal(presence_asked.n, 1);
        state_seen = NULL;
        presence_asked.hold = false;
        presence_asked.done(presence_asked.userdata, KV_COMPARE_FAILED, "", 0);

        start_asked = (Asked) { .hold = true };
        h->settings.advertise_client = (char *) "http://10.0.0.9:2379";
        ticks(4);
        assert_int_equal(start_asked.n, 1);
}

static void put_states(const char *id, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                char key[LAYOUT_KEY_MAX], unit[32];
                KvCommand put = { .op = KV_SET,
                                  .internal = true,
                                  .value = kv_string("{\"active\":\"active\"}") };

                snprintf(unit, sizeof(unit), "x%u.service", i);
                put.key = kv_string(layout_key(key, LAYOUT_STATE, unit, id));
                assert_int_equal(kv_propose(h->store, &put, on_put, NULL, NULL), 0);
        }
        quiet_peer_run(h);
        assert_int_equal(HASH_COUNT(machine(id)->states), n);
}

/* A former version deleted 500 states with their machine. */
static void the_states_that_a_removal_has_left_are_deleted_in_some_ticks(void **state) {
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        assert_true(quiet_peer_meet(h));
        send_heartbeat("");
        tick();
        put_states(QUIET_PEER_OTHER_ID, 3);
        put_states(QUIET_PEER_THIRD_ID, 1200);
        for (unsigned i = 0; i < 5; i++)
                tick();
        assert_null(machine(QUIET_PEER_THIRD_ID));
        assert_int_equal(HASH_COUNT(machine(QUIET_PEER_OTHER_ID)->states), 3);
}

static void the_client_address_of_a_host_is_published_at_its_start_and_when_it_changes(void **state) {
        const ClusterMachine *m;

        h->settings.advertise_client = (char *) "http://10.0.0.1:2379";
        h->settings.listen_peer = (char *) "[fd00:1111:2222:3333:4444:5555:6666:7777]:2380";
        open_membership();
        ticks(3);
        m = machine(QUIET_PEER_ID);
        assert_non_null(m);
        assert_string_equal(m->member.client, "http://10.0.0.1:2379");
        assert_string_equal(m->member.peer, h->settings.listen_peer);
        assert_string_equal(m->member.name, "alpha");
        assert_string_equal(cluster_machine_name(m), "alpha"); /* without facts: it has no agent */
        assert_int_equal(m->member.raft_id, 1);
        assert_int_equal(m->member.start_number, peers_self(h->peers)->start_number);
        assert_int_equal(strlen(m->member.start_nonce), 16);
        start_asked.n = 0;
        ticks(4);
        assert_int_equal(start_asked.n, 0);

        state_seen = is_not_ready;
        h->settings.advertise_client = (char *) "http://10.0.0.9:2379";
        ticks(2);
        assert_int_equal(start_asked.n, 0);
        state_seen = NULL;
        tick();
        assert_string_equal(machine(QUIET_PEER_ID)->member.client, "http://10.0.0.9:2379");

        h->settings.listen_peer = (char *) ""; /* a host without a peer listener is no member */
        start_asked.n = 0;
        open_membership();
        ticks(4);
        assert_int_equal(start_asked.n, 0);
}

static void a_recorded_start_is_not_published_again(void **state) {
        MemberRecord self = { .raft_id = 1,
                              .start_number = peers_self(h->peers)->start_number,
                              .start_nonce = "a",
                              .peer = OWN };

        DONE(__real_registry_record_start(h->registry, QUIET_PEER_ID, &self, on_done, done_));
        open_membership();
        start_asked = (Asked) { .hold = true };
        ticks(3);
        assert_int_equal(start_asked.n, 0);

        state_seen = follows; /* a follower publishes its own start, too */
        h->settings.advertise_client = (char *) "http://10.0.0.9:2379";
        ticks(2);
        assert_int_equal(start_asked.n, 1);
}

static void a_leader_that_is_not_ready_writes_no_presence(void **state) {
        have_presence(THIRD_ID, PRESENCE_UP);
        open_membership();
        state_seen = is_not_ready;
        ticks(8);
        assert_int_equal(presence_asked.n, 0);
        state_seen = NULL;
        ticks(UNATTACHED_TICKS);
        assert_presence(THIRD_ID, PRESENCE_LOST, "no message from its fleetd or its kernel");
}

static void a_change_of_members_that_fails_is_logged_unless_it_is_repeated(void **state) {
        static const struct {
                int result;
                const char *says;
        } rows[] = {
                { 0, "|add member 2 (" },
                { -EBUSY, NULL },
                { -EAGAIN, NULL },
                { -EREMOTE, NULL },
                { -EINVAL, "|Failed to add member 2: Invalid argument" },
        };

        adding.fake = true;
        be_up_and_fall_silent();
        ticks(2);
        assert_int_equal(adding.n, 0); /* Voters=1 */

        h->settings.voters = 0;
        open_membership();
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                adding.result = rows[i].result;
                adding.n = 0;
                journal[0] = 0;
                send_heartbeat("");
                tick();
                assert_int_equal(adding.n, 1);
                assert_int_equal(said("add member 2"), rows[i].says ? 1 : 0);
                if (rows[i].says)
                        assert_int_equal(said(rows[i].says), 1);
        }
}

static void has_members(KvState *state, size_t n, const KvMember *others) {
        state->n_members = 1;
        state->leader_id = state->raft_id;
        state->members[0].match = state->commit;
        state->members[0].reachable = true;
        for (size_t i = 0; i < n; i++) {
                state->members[state->n_members] = others[i];
                state->members[state->n_members].match = state->commit;
                state->members[state->n_members++].reachable = true;
        }
}

static void has_a_second_voter(KvState *state) {
        has_members(state, 1, (KvMember[]) { { .raft_id = 2, .role = KV_MEMBER_VOTER, .address = OTHER } });
}

static void has_two_standbys(KvState *state) {
        has_members(state, 2,
                    (KvMember[]) { { .raft_id = 2, .role = KV_MEMBER_STANDBY, .address = OTHER },
                                   { .raft_id = 3, .role = KV_MEMBER_STANDBY, .address = THIRD } });
}

static void has_a_standby_without_a_host(KvState *state) {
        has_members(state, 2,
                    (KvMember[]) { { .raft_id = 2, .role = KV_MEMBER_STANDBY, .address = OTHER },
                                   { .raft_id = 4, .role = KV_MEMBER_STANDBY, .address = "10.0.0.4:2380" } });
}

static void has_a_voter_at_the_address_of_another_host(KvState *state) {
        has_members(state, 2,
                    (KvMember[]) { { .raft_id = 2, .role = KV_MEMBER_STANDBY, .address = OTHER },
                                   { .raft_id = 4, .role = KV_MEMBER_VOTER, .address = THIRD } });
}

static void membership_calls_the_function_of_the_store_for_the_change_that_is_due(void **state) {
        static const struct {
                void (*members)(KvState *state);
                const char *expected, *called;
        } rows[] = {
                { has_a_second_voter, "demote 2", "shrink: demote 2" },
                { has_a_standby_without_a_host, "remove 4", "remove 4" },
                { has_a_voter_at_the_address_of_another_host, "vacate 4", "vacate 4" },
                { has_two_standbys, "promote 2", "promote 2" },
        };

        adding.fake = true;
        state_seen = has_a_second_voter;
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        ticks(3);
        h->settings.voters = 0;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char message[64];

                snprintf(message, sizeof(message), "|%.*s member %s (", (int) strcspn(rows[i].expected, " "),
                         rows[i].expected, strchr(rows[i].expected, ' ') + 1);
                state_seen = rows[i].members;
                if (i == 2) {
                        have_member(THIRD_ID, 3, THIRD, 0);
                        have_presence(THIRD_ID, PRESENCE_UP);
                }
                open_membership();
                adding.n = 0;
                journal[0] = 0;
                tick();
                assert_string_equal(adding.last, rows[i].called);
                assert_int_equal(adding.n, 1);
                assert_int_equal(said(message), 1);
        }
}

/* -- The feature level -- */

static struct {
        bool founded, suffers;
        KvRole role;
        size_t n_members;
        unsigned level;
        uint64_t cluster_ms;
} view;

static void as_viewed(KvState *state) {
        state->founded = view.founded;
        state->role = view.role;
        state->n_members = view.n_members;
        state->level = view.level;
        state->level_max = KV_LEVEL_MAX;
        state->cluster_ms = view.cluster_ms;
        if (view.suffers)
                suffers(state);
}

static void the_founder_of_a_cluster_begins_at_the_newest_level_and_no_other_host_does(void **state) {
        static const struct {
                bool founded;
                KvRole role;
                size_t n_members;
                unsigned level, expected;
        } rows[] = {
                { false, KV_ROLE_LEADER, 1, KV_LEVEL_FIRST, 0 },
                { true, KV_ROLE_FOLLOWER, 1, KV_LEVEL_FIRST, 0 },
                { true, KV_ROLE_LEADER, 2, KV_LEVEL_FIRST, 0 },
                { true, KV_ROLE_LEADER, 1, KV_LEVEL_MAX, 0 },
                { true, KV_ROLE_LEADER, 1, KV_LEVEL_FIRST, 1 },
        };

        state_seen = as_viewed;
        raising.hold = true;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                view.founded = rows[i].founded;
                view.role = rows[i].role;
                view.n_members = rows[i].n_members;
                view.level = rows[i].level;
                view.cluster_ms = 5000;
                open_membership();
                membership_state_changed(h->membership); /* before the first tick */
                assert_int_equal(raising.n, rows[i].expected);
        }

        assert_int_equal(raising.limit, KV_LEVEL_MAX);
        membership_state_changed(h->membership);
        assert_int_equal(raising.n, 1);
        raising.done(raising.userdata, &(KvResult) { .status = KV_NO_LEADER });
        assert_int_equal(said("raised the feature level"), 0);
        membership_state_changed(h->membership);
        assert_int_equal(raising.n, 2);
        raising.done(raising.userdata, &(KvResult) { .status = KV_OK });
        assert_int_equal(said("raised the feature level"), 1);

        /* A failed proposal is repeated, and no level is noted instead. */
        raising.error = -ENOMEM;
        note_asked = (Asked) { .hold = true };
        level_key.fake = true;
        level_key.error = -ENOENT;
        ticks(4);
        assert_true(raising.n >= 6);
        assert_int_equal(note_asked.n, 0);
}

/* A daemon of the same version that starts with the disk of an older cluster has not founded it. */
static void the_start_that_founds_a_cluster_decides_that_data_keeps_its_machine(void **state) {
        static const struct {
                bool founded, has;
                unsigned level;
                ClusterSettings before;
                bool sticky;
        } rows[] = {
                { false, false, KV_LEVEL_MAX, {}, false },
                { true, false, KV_LEVEL_SCHEDULING - 1, {}, false },
                { true, true, KV_LEVEL_MAX, { .not_sticky = true, .name = "x" }, false },
                { true, true, KV_LEVEL_MAX, { .name = "x" }, true },
                { true, true, KV_LEVEL_MAX, {}, true },
        };

        state_seen = as_viewed;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const ClusterSettings *now;

                view.founded = rows[i].founded;
                view.role = KV_ROLE_LEADER;
                view.n_members = 1;
                view.level = rows[i].level;
                if (rows[i].has)
                        have_settings(&rows[i].before);
                open_membership();
                ticks(3);
                now = cluster_settings(registry_cluster(h->registry));
                assert_int_equal(now->sticky, rows[i].sticky);
                assert_int_equal(now->not_sticky, rows[i].before.not_sticky);
                assert_string_equal(now->name, rows[i].before.name);
        }
}

enum { NOTHING, NOTE, RAISE };

typedef struct LevelRow {
        unsigned level; /* of the tree */
        uint64_t can;   /* of the other host; this host supports the newest */
        int error;
        uint64_t noted, since_ms, now_ms;
        unsigned expected;
        uint64_t to;
} LevelRow;

static void view_level(const LevelRow *row) {
        memset(&view, 0, sizeof(view));
        view.role = KV_ROLE_LEADER;
        view.n_members = 1;
        view.level = row->level;
        view.cluster_ms = row->now_ms;
        level_key.fake = true;
        level_key.error = row->error;
        level_key.level = row->noted;
        level_key.since_ms = row->since_ms;
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, row->can);
        open_membership();
        note_asked = (Asked) { .hold = true };
        raising.n = 0;
        ticks(4); /* the first ticks write other changes */
        assert_int_equal(note_asked.n, row->expected == NOTE);
        assert_int_equal(raising.n, row->expected == RAISE);
        if (row->expected == NOTE) {
                assert_int_equal(noted_level, row->to);
                assert_int_equal(noted_since_ms, row->now_ms);
        }
        if (row->expected == RAISE)
                assert_int_equal(raising.limit, row->to);
}

static void a_problem_that_changes_at_each_heartbeat_keeps_nothing_else_back(void **state) {
        static const LevelRow row = { 1, 3, 0, 3, 4000, 5000, RAISE, 3 };
        char problem[16];

        state_seen = as_viewed;
        raising.hold = true;
        h->components.io.level_wait_ms = 1000;
        view_level(&(LevelRow) { 1, 3, 0, 3, 4000, 4999, NOTHING, 0 });
        assert_true(quiet_peer_meet(h));
        view.cluster_ms = row.now_ms;
        for (unsigned i = 0; i < 6; i++) {
                snprintf(problem, sizeof(problem), "x%u", i);
                send_heartbeat(problem);
                tick();
        }
        assert_int_equal(raising.n, 1);
        assert_string_equal(message_of(&machine(QUIET_PEER_OTHER_ID)->verdict), "its replica: x5");
}

static void the_level_is_raised_when_all_hosts_have_supported_a_higher_one_for_long_enough(void **state) {
        static const LevelRow rows[] = {
                { 1, 3, -ENOENT, 0, 0, 5000, NOTE, 3 },    { 1, 3, 0, 3, 4000, 4999, NOTHING, 0 },
                { 1, 3, 0, 3, 4000, 5000, RAISE, 3 },      { 1, 3, 0, 2, 4000, 9000, NOTE, 3 },
                { 1, 2, 0, 3, 4000, 9000, NOTE, 2 }, /* a host with a lower level joined */
                { 1, 1, 0, 3, 4000, 9000, NOTE, 1 },       { 2, 2, 0, 2, 4000, 9000, NOTHING, 0 },
                { 1, 1, -ENOENT, 0, 0, 9000, NOTHING, 0 }, { KV_LEVEL_MAX, 2, 0, 3, 4000, 9000, NOTHING, 0 },
                { 1, 3, -ENOENT, 0, 0, 0, NOTHING, 0 }, /* cluster time has not begun */
        };
        static const LevelRow early = { 1, 3, 0, 3, 4000, 4000 + DAY_MS - 1, NOTHING, 0 },
                              due = { 1, 3, 0, 3, 4000, 4000 + DAY_MS, RAISE, 3 };

        state_seen = as_viewed;
        raising.hold = true;
        h->components.io.level_wait_ms = 1000;
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                view_level(&rows[i]);

        h->components.io.level_wait_ms = 1;
        view_level(&(LevelRow) { 1, 3, 0, 3, 4000, 4001, RAISE, 3 });
        h->components.io.level_wait_ms = 1000;

        /* Not during another write. */
        view_level(&rows[1]);
        presence_asked = (Asked) { .hold = true };
        view.suffers = true;
        ticks(2);
        assert_int_equal(presence_asked.n, 1);
        level_key.error = -ENOENT;
        ticks(2);
        assert_int_equal(note_asked.n, 0);
        presence_asked.hold = view.suffers = false;

        /* A day by default. A failed proposal is repeated; one in flight is cancelled at the end. */
        h->components.io.level_wait_ms = 0;
        view_level(&early);
        view_level(&due);
        raising.done(raising.userdata, &(KvResult) { .status = KV_NO_LEADER });
        tick();
        assert_int_equal(raising.n, 2);
        assert_int_equal(said("raised the feature level"), 0);
        raising.done(raising.userdata, &(KvResult) { .status = KV_OK });
        assert_int_equal(said("raised the feature level"), 1);
        raising.forgotten = false;
        tick();
        assert_int_equal(raising.n, 3);
        h->membership = membership_free(h->membership);
        assert_true(raising.forgotten);
}

/* -- The health of sets -- */

static void submit_and_assign(const char *name, const char *id) {
        _cleanup_unit_ Unit *unit = NULL;
        AssignmentChange change = { .kind = ASSIGNMENT_RUN };
        const ClusterUnit *u;
        KvState state;
        size_t n;

        assert_int_equal(unit_parse(name, ONE, strlen(ONE), &unit, NULL), 0);
        DONE(registry_change_units(
                h->registry, &(UnitChange) { .unit = unit, .has_target = true, .target = TARGET_LAUNCHED }, 1,
                on_done, done_));
        u = cluster_unit(registry_cluster(h->registry), name);
        assert_non_null(u);
        change.unit_index = u->index;
        snprintf(change.unit, sizeof(change.unit), "%s", name);
        snprintf(change.machine, sizeof(change.machine), "%s", id);
        snprintf(change.hash, sizeof(change.hash), "%s", unit->hash);
        __real_kv_state(h->store, &state);
        DONE(registry_assign(h->registry, state.term, &change, 1, &n, on_done, done_));
}

/* Send n requests, and return the number of answers. */
static unsigned ask_health(const char *unit, unsigned n) {
        _cleanup_writer_ Writer w = {};
        unsigned answers = 0;
        Frame frame;

        write_u8(&w, 1);
        write_string(&w, unit);
        assert_int_equal(w.error, 0);
        while (n-- > 0)
                assert_true(quiet_peer_send_on(&h->asking, PEER_SET, w.bytes, w.size));
        while (quiet_peer_receive(&h->asking, &frame))
                answers += frame.type == PEER_SET;
        return answers;
}

/* Each answer visits the whole set. */
static void a_host_gets_the_health_of_sets_at_a_limited_rate(void **state) {
        static const uint8_t attached[] = { 0, 3, 1 };

        have_facts(QUIET_PEER_OTHER_ID);
        submit_and_assign("a.service", QUIET_PEER_OTHER_ID);
        open_membership();
        h->attached = true;
        (void) quiet_peer_meet(h);
        assert_int_equal(ask_health("a.service", 1), 0); /* it uses another replica */
        assert_true(quiet_peer_send_on(&h->asking, PEER_HEARTBEAT, attached, sizeof(attached)));
        assert_int_equal(ask_health("a.service", 1), 1);
        assert_int_equal(ask_health("b.service", 1), 0); /* none of its units */
        assert_int_equal(ask_health("a.service", 1000), 199);
        quiet_peer_pass(h, 1000);
        assert_int_equal(ask_health("a.service", 1000), 20);
        h->attached = false;
}

#define leading(test) cmocka_unit_test_setup_teardown(test, lead, finish)

int membership_leads_tests(void) {
        const struct CMUnitTest tests[] = {
                leading(a_problem_that_a_host_reports_is_in_its_presence),
                leading(a_problem_that_changes_at_each_heartbeat_keeps_nothing_else_back),
                leading(a_clock_that_differs_by_more_than_30_s_is_in_the_presence_of_its_host),
                leading(each_rare_heartbeat_and_one_of_two_frequent_ones_is_answered),
                leading(the_code_of_a_heartbeat_counts),
                leading(the_condition_of_a_host_ends_when_nothing_of_it_arrives),
                leading(a_heartbeat_of_a_removed_host_in_a_report_does_not_revive_it),
                leading(a_tick_that_is_more_than_250_ms_late_counts_against_no_host),
                leading(a_tick_without_a_majority_counts_against_no_host),
                leading(a_host_is_lost_three_seconds_after_the_last_sign_of_its_kernel),
                leading(a_host_that_dials_no_session_is_lost_three_seconds_after_the_last_sign_of_its_kernel),
                leading(a_machine_without_any_session_is_lost_after_its_grace),
                leading(a_machine_that_uses_no_session_is_away_while_its_kernel_answers),
                leading(a_host_without_a_session_is_lost_five_seconds_after_its_kernel_rejected_a_connection),
                leading(in_a_later_term_a_leader_counts_from_zero),
                leading(a_leader_that_followed_meanwhile_counts_from_zero),
                leading(a_recorded_start_is_not_published_again),
                leading(a_leader_has_one_write_in_flight_and_none_without_a_cause),
                leading(the_states_that_a_removal_has_left_are_deleted_in_some_ticks),
                leading(the_client_address_of_a_host_is_published_at_its_start_and_when_it_changes),
                leading(a_leader_that_is_not_ready_writes_no_presence),
                leading(a_change_of_members_that_fails_is_logged_unless_it_is_repeated),
                leading(membership_calls_the_function_of_the_store_for_the_change_that_is_due),
                leading(the_founder_of_a_cluster_begins_at_the_newest_level_and_no_other_host_does),
                leading(the_start_that_founds_a_cluster_decides_that_data_keeps_its_machine),
                leading(a_host_gets_the_health_of_sets_at_a_limited_rate),
                leading(the_level_is_raised_when_all_hosts_have_supported_a_higher_one_for_long_enough),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
