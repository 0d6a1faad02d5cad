/* Join requests, dialed addresses and heartbeats; and each of them without memory. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/sizes.h"
#include "tests/lib/alloc.h"
#include "tests/lib/scratch.h"
#include "tests/unit/membership_played.h"

enum { TROUBLE_MAX = 99 };

/* -- Requests of other hosts -- */

static void an_old_image_of_a_host_is_rejected(void **state) {
        static const struct {
                uint64_t raft_id, start_number, nonce;
                int expected;
        } rows[] = {
                { 0, 4, 0xab, 0 },       { 1, 4, 0xab, -ESTALE }, { 1, 5, 0xab, 0 },
                { 1, 5, 0xac, -ESTALE }, { 1, 6, 0xac, 0 },       { 4, 4, 0xac, 0 },
        };
        MemberRecord m = {
                .raft_id = 1, .start_number = 5, .start_nonce = "00000000000000ab", .peer = OTHER
        };
        PeerHandshake handshake = { .machine_id = QUIET_PEER_OTHER_ID };
        Error err = {};

        DONE(__real_registry_record_start(h->registry, QUIET_PEER_OTHER_ID, &m, on_done, done_));
        open_membership();
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                handshake.raft_id = rows[i].raft_id;
                handshake.start_number = rows[i].start_number;
                handshake.nonce = rows[i].nonce;
                assert_int_equal(membership_admit(h->membership, &handshake, &err), rows[i].expected);
        }
        have_member(QUIET_PEER_OTHER_ID, 4, OTHER, 0); /* admitted, and not started */
        handshake.start_number = 1;
        assert_int_equal(membership_admit(h->membership, &handshake, &err), 0);
        snprintf(handshake.machine_id, sizeof(handshake.machine_id), "%s", THIRD_ID);
        handshake.start_number = 0;
        assert_int_equal(membership_admit(h->membership, &handshake, &err), 0);

        snprintf(m.start_nonce, sizeof(m.start_nonce), "a");
        DONE(__real_registry_record_start(h->registry, THIRD_ID, &m, on_done, done_));
        handshake.raft_id = 1;
        handshake.start_number = m.start_number;
        assert_int_equal(membership_admit(h->membership, &handshake, &err), -ESTALE);
}

static void is_attached(KvState *state) {
        state->attached = true;
}

static void a_join_request_gets_one_answer_with_the_reason_of_a_rejection(void **state) {
        static const struct {
                uint8_t version;
                const char *address;
                size_t more;
        } wrong[] = { { 2, OTHER, 0 }, { JOIN_VERSION, OTHER, 1 }, { JOIN_VERSION, "nowhere", 0 } };
        char expected[128];
        KvState store;
        Joined j;

        open_membership();
        assert_true(quiet_peer_meet(h));
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                j = ask_to_join(wrong[i].version, wrong[i].address, wrong[i].more);
                assert_int_equal(j.n, 1);
                assert_true(j.refused && starts_with(j.message, "alpha received an invalid join request"));
                assert_int_equal(j.cluster_id, 0);
                assert_int_equal(j.lineage, 0);
                assert_int_equal(j.raft_id, 0);
                assert_null(admission.waits);
        }

        /* An address has 63 characters at most. */
        for (size_t size = 62; size <= 64; size++) {
                char address[65] = "";

                memset(address, 'h', size);
                memcpy(address + size - 5, ":2380", 5);
                assert_int_equal(ask_to_join(JOIN_VERSION, address, 0).n, size == 64);
                if (size < 64)
                        (void) answer_admission(KV_COMPARE_FAILED, "");
        }

        assert_int_equal(ask_to_join(JOIN_VERSION, OTHER, 0).n, 0);
        j = answer_admission(KV_COMPARE_FAILED, "another host was faster");
        assert_int_equal(j.n, 1);
        assert_true(j.refused);
        assert_string_equal(j.message, "another host was faster");
        assert_int_equal(j.cluster_id,
                         0); /* the identity of the cluster would mean that the host is attached */
        assert_int_equal(j.lineage, 0);
        assert_int_equal(said("added beta"), 0);

        assert_int_equal(ask_to_join(JOIN_VERSION, OTHER, 0).n, 0);
        *admission.ret_id = 9;
        j = answer_admission(KV_OK, "all is well");
        __real_kv_state(h->store, &store);
        assert_int_equal(j.n, 1);
        assert_false(j.refused);
        assert_string_equal(j.message, "");
        assert_int_equal(j.cluster_id, store.cluster_id);
        assert_int_equal(j.raft_id, 9);
        assert_int_equal(said(QUIET_PEER_OTHER_ID "|added beta as member 9"), 1);

        admission.error = -ENOMEM;
        snprintf(expected, sizeof(expected), "alpha failed to admit the host: %s", strerror(ENOMEM));
        j = ask_to_join(JOIN_VERSION, OTHER, 0);
        assert_int_equal(j.n, 1);
        assert_string_equal(j.message, expected);
        admission.error = 0;

        state_seen = is_not_ready;
        j = ask_to_join(JOIN_VERSION, OTHER, 0);
        assert_int_equal(j.n, 1);
        assert_string_equal(j.message, "alpha has no leader now; try again");
        assert_null(admission.waits);

        state_seen = is_attached; /* its part of the tree has no next Raft ID */
        j = ask_to_join(JOIN_VERSION, OTHER, 0);
        assert_int_equal(j.n, 1);
        assert_int_equal(j.cluster_id, 0);
        assert_string_equal(j.message, "alpha holds no replica; Join= has to name a host that does");
        assert_null(admission.waits);
}

static void a_cluster_of_five_admits_its_own_hosts_only(void **state) {
        Joined j;

        have_member(QUIET_PEER_ID, 1, OWN, 0);
        for (unsigned i = 3; i <= 5; i++) {
                char id[MACHINE_ID_SIZE] = "", peer[32];

                memset(id, 'a' + (int) i, 32);
                snprintf(peer, sizeof(peer), "10.0.0.%u:2380", i);
                have_member(id, i, peer, 0);
        }
        open_membership();
        assert_true(quiet_peer_meet(h));
        assert_int_equal(ask_to_join(JOIN_VERSION, OTHER, 0).n, 0);
        *admission.ret_id = 9;
        assert_false(answer_admission(KV_OK, "").refused);

        have_member(THIRD_ID, 6, "10.0.0.6:2380", 0);
        j = ask_to_join(JOIN_VERSION, OTHER, 0);
        assert_int_equal(j.n, 1);
        assert_true(j.refused && starts_with(j.message, "the cluster has 5 hosts"));
        assert_null(admission.waits);

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        assert_int_equal(ask_to_join(JOIN_VERSION, OTHER, 0).n, 0);
        *admission.ret_id = 9;
        assert_false(answer_admission(KV_OK, "").refused);
}

static void a_membership_that_was_freed_handles_no_more_frames(void **state) {
        const void *ended;

        open_membership();
        assert_true(quiet_peer_meet(h));
        ended = h->membership;
        membership_state_changed(h->membership); /* while a call is deferred */
        h->membership = membership_free(h->membership);
        assert_ptr_equal(forgotten, ended);
        assert_int_equal(ask_to_join(JOIN_VERSION, OTHER, 0).n, 0);
        assert_null(admission.waits);
        send_joined(JOIN_VERSION, false, "", 7, 3, 0);
        send_heartbeat("");
        have_member(THIRD_ID, 3, THIRD, 0);
        quiet_peer_pass(h, 2000);
}

/* -- Requests of this host -- */

static void a_waiting_host_repeats_its_request_1_s_after_a_rejection_and_after_10_s_of_silence(void **state) {
        open_membership();
        assert_true(quiet_peer_meet(h));
        until(999);
        assert_int_equal(n_asked(), 0);
        until(1000);
        assert_int_equal(n_asked(), 1);

        send_joined(JOIN_VERSION, true, "no", 0, 0, 0);
        assert_int_equal(said("beta rejected the join request of this host: no"), 1);
        membership_state_changed(h->membership);
        until(1999);
        assert_int_equal(n_asked(), 0);
        until(2000);
        assert_int_equal(n_asked(), 1);
        send_joined(JOIN_VERSION, true, "no", 0, 0, 0);
        assert_int_equal(said("beta rejected the join request of this host: no"), 1);
        until(3000);
        assert_int_equal(n_asked(), 1);

        membership_peer_changed(h->membership, QUIET_PEER_OTHER_ID);
        until(12999);
        assert_int_equal(n_asked(), 0);
        until(13000);
        assert_int_equal(n_asked(), 1);
}

static void is_answered(KvState *state) {
        *state = (KvState) { .attached = true, .ready = true, .level = 6, .cluster_id = 7, .lineage = 3 };
}

/* Leaders before attached hosts add the identity of the cluster to each rejection, and do not serve them. */
static void a_host_requests_again_until_a_replica_serves_it(void **state) {
        open_membership();
        assert_true(quiet_peer_meet(h));
        until(1000);
        assert_int_equal(n_asked(), 1);
        send_joined(JOIN_VERSION, true, "another host was faster", 7, 3, 0);
        assert_int_equal(said("attached to the cluster through beta"), 1);
        until(2000);
        assert_int_equal(n_asked(), 1);
        send_joined(JOIN_VERSION, true, "another host was faster", 7, 3, 0);
        until(3000);
        assert_int_equal(n_asked(), 1);
        state_seen = is_answered;
        until(20000);
        assert_int_equal(n_asked(), 0);
}

static void a_waiting_host_sends_a_request_to_a_host_that_connects_at_once_and_only_once(void **state) {
        open_membership();
        assert_true(quiet_peer_meet(h));
        h->now_ms = 1; /* a request may have any time */
        membership_peer_changed(h->membership, QUIET_PEER_OTHER_ID);
        assert_int_equal(n_asked(), 1);
        membership_peer_changed(h->membership, QUIET_PEER_OTHER_ID);
        until(5000);
        assert_int_equal(n_asked(), 0);
}

static void a_waiting_host_sends_no_request_to_another_waiting_host(void **state) {
        open_membership();
        assert_true(quiet_peer_meet(h));
        send_handshake_of(0);
        membership_peer_changed(h->membership, QUIET_PEER_OTHER_ID);
        until(2000);
        assert_int_equal(n_asked(), 0);
        send_handshake_of(7);
        membership_peer_changed(h->membership, QUIET_PEER_OTHER_ID);
        assert_int_equal(n_asked(), 1);
}

static void an_invalid_answer_makes_no_member(void **state) {
        static const struct {
                uint8_t version;
                uint64_t cluster_id, raft_id;
                size_t more;
        } wrong[] = { { 2, 7, 3, 0 },
                      { JOIN_VERSION, 7, 3, 1 },
                      { JOIN_VERSION, 0, 3, 0 },
                      { JOIN_VERSION, 7, 0, 0 } };
        KvState store;

        open_membership();
        assert_true(quiet_peer_meet(h));
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                send_joined(wrong[i].version, false, "", wrong[i].cluster_id, wrong[i].raft_id,
                            wrong[i].more);
                assert_int_equal(said("invalid answer to the join request"), i + 1);
                __real_kv_state(h->store, &store);
                assert_int_equal(store.cluster_id, 0);
        }
        send_joined(JOIN_VERSION, false, "", 1, 1, 0);
        send_joined(JOIN_VERSION, false, "", 1, 5, 0); /* of a request that timed out */
        __real_kv_state(h->store, &store);
        assert_int_equal(store.cluster_id, 1);
        assert_int_equal(store.raft_id, 1);
        assert_int_equal(said("joined the cluster 0000000000000001 through beta as member 1"), 1);
        assert_int_equal(said("Failed to join"), 0);
        (void) n_asked();
        quiet_peer_pass(h, 3000);
        assert_int_equal(n_asked(), 0);
}

/* The leader assigns a replica only to a host whose heartbeats it receives, and that host may know the leader
 * by its session only. */
static void an_admitted_host_without_a_replica_dials_the_hosts_of_its_cluster_that_dial_it(void **state) {
        Error err = {};

        h->settings.join = no_hosts;
        open_membership();
        assert_false(quiet_peer_meet(h));
        send_handshake_of(0);
        membership_state_changed(h->membership);
        quiet_peer_pass(h, 100);
        assert_true(!h->dial.done);
        assert_int_equal(kv_joined(h->store, 7, 7, 3, &err), 0);
        membership_state_changed(h->membership);
        quiet_peer_pass(h, 100);
        assert_true(!h->dial.done);
        send_handshake_of(7);
        membership_state_changed(h->membership);
        quiet_peer_pass(h, 100);
        assert_true(h->dial.done);
}

static void a_host_that_lost_its_replica_sends_a_request_at_once(void **state) {
        open_membership();
        assert_true(quiet_peer_meet(h));
        membership_peer_changed(h->membership, QUIET_PEER_OTHER_ID);
        assert_int_equal(n_asked(), 0);
        state_seen = is_lost;
        membership_state_changed(h->membership);
        quiet_peer_run(h);
        assert_int_equal(n_asked(), 1);
}

static void is_attached_member(KvState *state) {
        follows(state);
        state->role = KV_ROLE_NONE;
        state->attached = true;
}

static void send_retired(void) {
        _cleanup_writer_ Writer w = {};
        KvState kv;

        __real_kv_state(h->store, &kv);
        write_u8(&w, 1);
        write_u64(&w, kv.lineage);
        write_u64(&w, kv.raft_id);
        assert_true(quiet_peer_send(h, PEER_RETIRED, w.bytes, w.size));
        quiet_peer_run(h);
}

/* It follows the leader of the replica that it uses, and its own replica never had one. */
static void a_member_that_was_removed_before_it_was_added_joins_again(void **state) {
        open_membership();
        assert_true(quiet_peer_meet(h));
        state_seen = follows;
        send_retired();
        assert_int_equal(said("was removed: this host joins again"), 0);
        state_seen = is_attached_member;
        send_retired();
        assert_int_equal(said("was removed: this host joins again"), 1);
}

/* -- Addresses that are dialed -- */

static bool knows_third;

static void note_third(void *userdata, const PeerState *peer) {
        knows_third |= streq(peer->handshake.address, THIRD);
}

static void a_member_dials_members_and_no_other_host_that_dials_it(void **state) {

        h->settings.join = no_hosts;
        open_membership();
        assert_false(quiet_peer_meet(h));
        assert_true(!h->dial.done);
        state_seen = has_two_members;
        membership_state_changed(h->membership);
        quiet_peer_pass(h, 100);
        assert_true(h->dial.done);
        knows_third = false;
        peers_each(h->peers, note_third, NULL);
        assert_false(knows_third);
}

#define HEAD                                                                                   \
        "# Written by fleetd: the other hosts of this cluster, for a start without memory of " \
        "it.\n[Fleetd]\n"

static void assert_file(const char *path, const char *expected) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        assert_int_equal(read_file_at(AT_FDCWD, path, 4096, &text, &size), 0);
        assert_string_equal(text, expected);
}

static unsigned mode_of(const char *path) {
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        return st.st_mode & 07777;
}

/* Delete a member key, as a host that leaves does. */
static int remove_member(Registry *r, const char *id, void *userdata) {
        char path[LAYOUT_KEY_MAX];
        KvCommand write = { .op = KV_DELETE,
                            .key = kv_string(layout_key(path, LAYOUT_MEMBER, NULL, id)),
                            .internal = true };

        return registry_propose(
                r, &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 }, on_done,
                userdata);
}

static void the_addresses_of_the_other_hosts_are_stored_in_a_file(void **state) {
        _cleanup_free_ char *folder = scratch_path(h->scratch, "conf"),
                            *path = scratch_path(folder, "50-cluster.conf");
        mode_t mask = umask(022);
        PeerState peer;

        h->settings.join = no_hosts;
        h->settings.cluster_file = path;
        open_membership();
        ticks(3);
        assert_int_equal(access(path, F_OK), -1); /* a host without others keeps the file */

        have_facts(FOURTH_ID); /* without a replica */
        have_facts(THIRD_ID);
        have_member(THIRD_ID, 3, THIRD, 0);
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        assert_file(path, HEAD "Join=10.0.0.2:2380 10.0.0.3:2380\n");
        assert_int_equal(mode_of(path), 0644);
        assert_int_equal(mode_of(folder), 0755);
        assert_int_equal(peers_state(h->peers, QUIET_PEER_OTHER_ID, &peer),
                         0); /* its kernel answers before its daemon connects */
        assert_string_equal(peer.handshake.address, OTHER);
        assert_int_equal(n_known(), 2);

        DONE(remove_member(h->registry, THIRD_ID, done_));
        assert_file(path, HEAD "Join=10.0.0.2:2380\n");
        have_member("00000000000000000000000000000001", 4, "10.0.0.4:2380", 0); /* before this host */
        assert_file(path, HEAD "Join=10.0.0.4:2380 10.0.0.2:2380\n");
        have_member("00000000000000000000000000000002", 5, "10.0.0.4:2380", 0); /* replaces the other one */
        assert_file(path, HEAD "Join=10.0.0.4:2380 10.0.0.2:2380\n");
        assert_int_equal(said("Failed to write"), 0);
        umask(mask);
}

/* Its cluster file was deleted: a start with Join= and without ListenPeer= would be refused. */
static void a_host_without_a_listener_stores_no_addresses(void **state) {
        _cleanup_free_ char *path = scratch_path(h->scratch, "50-cluster.conf");

        ((PeerHandshake *) peers_self(h->peers))->address[0] = 0;
        h->settings.join = no_hosts;
        h->settings.cluster_file = path;
        open_membership();
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        quiet_peer_run(h);
        assert_int_equal(n_known(), 1);
        assert_int_equal(access(path, F_OK), -1);
}

static void the_address_that_a_join_has_chosen_stays_in_the_file(void **state) {
        _cleanup_free_ char *path = scratch_path(h->scratch, "50-cluster.conf");

        scratch_write(path, HEAD "ListenPeer=10.0.0.1:2380\nJoin=10.0.0.9:2380\n");
        h->settings.join = no_hosts;
        h->settings.cluster_file = path;
        open_membership();
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        assert_file(path, HEAD "ListenPeer=10.0.0.1:2380\nJoin=10.0.0.2:2380\n");
}

/* Addresses of any length; and a daemon whose standard input is closed. */
static void the_shortest_addresses_are_stored_with_the_lowest_descriptor(void **state) {
        _cleanup_free_ char *path = scratch_path(h->scratch, "50-cluster.conf");
        int input = dup(STDIN_FILENO);

        assert_true(input > STDIN_FILENO);
        h->settings.join = no_hosts;
        h->settings.cluster_file = path;
        open_membership();
        have_member(QUIET_PEER_OTHER_ID, 2, "b", 0);
        assert_file(path, HEAD "Join=b\n");
        assert_int_equal(close(STDIN_FILENO), 0);
        have_member(THIRD_ID, 3, "c", 0);
        assert_int_equal(dup2(input, STDIN_FILENO), STDIN_FILENO);
        close(input);
        assert_file(path, HEAD "Join=b c\n");
        assert_int_equal(said("Failed to write"), 0);
}

static void a_file_that_cannot_be_written_is_logged_once(void **state) {
        _cleanup_free_ char *file = scratch_path(h->scratch, "file"),
                            *path = scratch_path(file, "50-cluster.conf");

        scratch_write(file, "no folder");
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        ticks(3);
        h->settings.cluster_file = path;
        open_membership();
        quiet_peer_run(h);
        assert_int_equal(said("Failed to write"), 1);
        assert_int_equal(said("Not a directory"), 1);
        ticks(1); /* the leader adds its row to the history */
        quiet_peer_run(h);
        n_deferred = 0;
        ticks(4);
        assert_int_equal(said("Failed to write"), 1);
        assert_int_equal(n_deferred, 0);

        h->settings.cluster_file = (char *) "";
        open_membership();
        quiet_peer_run(h);
        assert_int_equal(said("Failed to write"), 1);
}

static void no_more_than_1024_addresses_are_dialed(void **state) {
        Names many = {};

        assert_int_equal(names_add(&many, "", 0), 0);
        assert_int_equal(names_add(&many, OWN, strlen(OWN)), 0);
        for (unsigned i = 0; i < KNOWN_MAX + 5; i++) {
                char address[32];

                snprintf(address, sizeof(address), "10.1.%u.%u:2380", i / 250, i % 250);
                for (unsigned k = 0; k < (i == 0 ? 3 : 1); k++) /* an address that occurs twice counts once */
                        assert_int_equal(names_add(&many, address, strlen(address)), 0);
        }
        h->settings.join = many;
        open_membership();
        quiet_peer_run(h);
        assert_int_equal(n_known(), KNOWN_MAX);
        names_done(&many);

        n_many = KNOWN_MAX + 1;
        h->settings.join = no_hosts;
        open_membership();
        quiet_peer_run(h);
        assert_int_equal(n_known(), KNOWN_MAX);
}

/* -- Heartbeats -- */

static size_t suffers_from;

static void follows_and_suffers(KvState *state) {
        follows(state);
        state->stopped = suffers_from == 1;
        state->differs = suffers_from == 2;
        state->undecided = suffers_from == 3;
        state->refuses = suffers_from == 4;
        memset(state->problem, 'p', sizeof(state->problem) - 1);
        state->problem[sizeof(state->problem) - 1] = 0;
}

static uint64_t leader_heard;

static void has_leader(KvState *state) {
        state->role = KV_ROLE_FOLLOWER;
        state->leader_id = leader_heard;
        state->leader_machine_id[0] = 0;
}

static void a_follower_reports_the_problem_of_its_replica_in_its_heartbeats(void **state) {
        static const char *const codes[] = { "replica-stopped", "tree-differs", "tree-undecided",
                                             "tree-refused" };
        char payload[512];
        enum { CLOCK_SIZE = 10 }; /* what follows the problem: a byte 0, a number, and the wall clock */
        size_t size = 0, problem, code;
        Reader r;

        open_membership();
        assert_true(quiet_peer_meet(h));
        ticks(3);
        (void) n_asked();
        state_seen = follows_and_suffers;
        for (suffers_from = 1; suffers_from <= 5; suffers_from++) { /* 5: without a leader before */
                tick();
                assert_int_equal(n_received(PEER_HEARTBEAT, &size, payload), 1);
                problem = suffers_from <= 4 ? TROUBLE_MAX : 0;
                code = suffers_from <= 4 ? strlen(codes[suffers_from - 1]) : 0;
                assert_int_equal(size, problem + CLOCK_SIZE + (code > 0 ? code + 2 : 0));
                for (size_t i = 0; i < problem; i++)
                        assert_int_equal(payload[i], 'p');
                r = reader_over(payload + problem, CLOCK_SIZE);
                assert_int_equal(read_u8(&r), 0);
                assert_int_equal(read_u8(&r), 2);
                assert_int_equal(read_u64(&r), loop_wall_ms(&h->loop));
                if (code > 0) {
                        assert_int_equal(payload[size - code - 2], 4);
                        assert_int_equal(payload[size - code - 1], code);
                        assert_memory_equal(payload + size - code, codes[suffers_from - 1], code);
                }
        }

        /* Without a leader, or a session to it, it goes to each host: another one reports it. */
        state_seen = has_leader;
        leader_heard = 0;
        tick();
        assert_int_equal(n_received(PEER_HEARTBEAT, &size, payload), 1);
        leader_heard = 1;
        tick();
        assert_int_equal(n_received(PEER_HEARTBEAT, &size, payload), 1);
}

/* -- The end of the log -- */

static void has_log_without_leader(KvState *state) {
        has_leader(state);
        state->stopped = true;
        snprintf(state->problem, sizeof(state->problem), "p");
        state->last_term = 7;
        state->last_index = 300;
}

static void send_position(uint8_t version, size_t size) {
        _cleanup_writer_ Writer w = {};

        write_raw(&w, "p", 2); /* and the byte 0 */
        write_u8(&w, version);
        write_u64(&w, 9);
        write_u64(&w, 400);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, w.bytes, MIN(size, w.size)));
}

static bool has_position(void) {
        uint64_t term = 0, index = 0;
        bool known = membership_position(h->membership, QUIET_PEER_OTHER_ID, &term, &index);

        assert_true(known ? term == 9 && index == 400 : term == 0 && index == 0);
        return known;
}

static void without_a_leader_hosts_exchange_the_ends_of_their_logs(void **state) {
        char payload[512];
        size_t size = 0;
        Reader r;

        open_membership();
        assert_true(quiet_peer_meet(h));
        ticks(3);
        (void) n_asked();
        state_seen = has_log_without_leader;
        leader_heard = 0;
        tick();
        assert_int_equal(n_received(PEER_HEARTBEAT, &size, payload), 1);
        assert_string_equal(payload, "p"); /* which ends the text of an older version */
        r = reader_over(payload + 2, size - 2);
        assert_int_equal(read_u8(&r), 2);
        assert_int_equal(read_u64(&r), loop_wall_ms(&h->loop));
        assert_int_equal(read_u8(&r), 1);
        assert_int_equal(read_u64(&r), 7);
        assert_int_equal(read_u64(&r), 300);
        assert_int_equal(read_u8(&r), 4); /* last: the code of the problem */

        assert_false(has_position());
        send_position(1, SIZE_MAX);
        assert_true(has_position());
        tick();
        assert_true(has_position());
        for (size_t cut = 0; cut < 19; cut++) {
                send_position(1, cut);
                assert_false(has_position());
                send_position(1, SIZE_MAX);
                assert_true(has_position());
        }
        send_position(2, SIZE_MAX);
        assert_false(has_position());

        /* Two seconds after the last heartbeat, its host may have a leader again. */
        send_position(1, SIZE_MAX);
        ticks(4);
        assert_true(has_position());
        tick();
        assert_false(has_position());

        /* With a leader, the logs grow: what was sent before is no fact any more. */
        send_position(1, SIZE_MAX);
        leader_heard = 2;
        tick();
        assert_false(has_position());
}

/* -- Without memory -- */

static int know(void *userdata) {
        alloc_pause(true);
        assert_int_equal(peers_set_known(h->peers, NULL, 0), 0);
        (void) unlink(userdata);
        membership_state_changed(h->membership);
        alloc_pause(false);
        quiet_peer_run(h);
        alloc_pause(true);
        tick();
        assert_file(userdata, HEAD "Join=10.0.0.2:2380 10.0.0.3:2380\n");
        assert_int_equal(n_known(), 2);
        return 0;
}

static void addresses_that_failed_without_memory_are_updated_with_the_next_tick(void **state) {
        _cleanup_free_ char *path = scratch_path(h->scratch, "50-cluster.conf");

        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        have_member(THIRD_ID, 3, THIRD, 0);
        h->settings.cluster_file = path;
        open_membership();
        ticks(4);
        assert_true(alloc_fail_each("addresses", know, path, 1) >= 10);
}

static int hear(void *userdata) {
        alloc_pause(true);
        state_seen = follows;
        tick(); /* heartbeats are discarded */
        state_seen = NULL;
        fails_from_handshake = true;
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, "x", 1));
        alloc_pause(true);
        send_heartbeat("x");
        ticks(2); /* the first one may write other changes */
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "its replica: x");
        send_heartbeat("");
        ticks(2);
        return 0;
}

static int let_in(void *userdata) {
        alloc_pause(true);
        fails_from_handshake = true;
        send_join(JOIN_VERSION, OTHER, 0);
        alloc_pause(true);
        assert_true(admission.waits || alloc_has_failed());
        if (admission.waits) {
                *admission.ret_id = 9;
                (void) answer_admission(KV_OK, "");
        }
        (void) receive_joined();
        return 0;
}

/* A machine becomes silent, and the change cannot be written at once. */
static int lose(void *userdata) {
        alloc_pause(true);
        quiet_peer_pass(h, 37); /* no other timer is due at its ticks */
        open_membership();
        presence_asked.n = 0;
        ticks(5);
        state_seen = on_state_seen;
        fails_from_state = true;
        tick();
        alloc_pause(true);
        state_seen = NULL;
        ticks(6);
        assert_true(presence_asked.n > 0);
        return 0;
}

static void a_heartbeat_a_request_and_a_tick_without_memory_are_repeated(void **state) {
        be_up_and_fall_silent();
        assert_true(alloc_fail_each("a heartbeat", hear, NULL, 1) >= 4);
        assert_true(alloc_fail_each("a request to join", let_in, NULL, 1) >= 2);
        have_presence(THIRD_ID, PRESENCE_UP);
        presence_asked.hold = true;
        assert_true(alloc_fail_each("a tick", lose, NULL, 1) >= 2);
}

static int begin_membership(void *userdata) {
        Membership *m = NULL;
        int r;

        alloc_pause(true);
        assert_int_equal(peers_set_known(h->peers, NULL, 0), 0);
        h->settings.join = both;
        alloc_pause(false);
        r = membership_new(&m, &h->components);
        alloc_pause(true);
        if (r == 0) { /* a timer needs no memory if its table has space */
                quiet_peer_run(h);
                assert_int_equal(n_known(), 2);
                membership_free(m);
        }
        return r;
}

static void a_membership_that_cannot_start_leaves_nothing_registered(void **state) {
        assert_true(alloc_fail_each("a membership begins", begin_membership, NULL, 1) >= 6);
}

#define leading(test) cmocka_unit_test_setup_teardown(test, lead, finish)
#define waiting(test) cmocka_unit_test_setup_teardown(test, wait_outside, finish)

int membership_joins_tests(void) {
        const struct CMUnitTest tests[] = {
                leading(an_old_image_of_a_host_is_rejected),
                leading(a_join_request_gets_one_answer_with_the_reason_of_a_rejection),
                leading(a_cluster_of_five_admits_its_own_hosts_only),
                leading(a_membership_that_was_freed_handles_no_more_frames),
                waiting(a_host_requests_again_until_a_replica_serves_it),
                waiting(a_waiting_host_repeats_its_request_1_s_after_a_rejection_and_after_10_s_of_silence),
                waiting(a_waiting_host_sends_a_request_to_a_host_that_connects_at_once_and_only_once),
                waiting(a_waiting_host_sends_no_request_to_another_waiting_host),
                waiting(an_invalid_answer_makes_no_member),
                waiting(an_admitted_host_without_a_replica_dials_the_hosts_of_its_cluster_that_dial_it),
                leading(a_host_that_lost_its_replica_sends_a_request_at_once),
                leading(a_member_that_was_removed_before_it_was_added_joins_again),
                leading(a_member_dials_members_and_no_other_host_that_dials_it),
                leading(the_addresses_of_the_other_hosts_are_stored_in_a_file),
                leading(a_host_without_a_listener_stores_no_addresses),
                leading(the_address_that_a_join_has_chosen_stays_in_the_file),
                leading(the_shortest_addresses_are_stored_with_the_lowest_descriptor),
                leading(a_file_that_cannot_be_written_is_logged_once),
                leading(no_more_than_1024_addresses_are_dialed),
                leading(a_follower_reports_the_problem_of_its_replica_in_its_heartbeats),
                leading(without_a_leader_hosts_exchange_the_ends_of_their_logs),
                leading(addresses_that_failed_without_memory_are_updated_with_the_next_tick),
                leading(a_heartbeat_a_request_and_a_tick_without_memory_are_repeated),
                waiting(a_membership_that_cannot_start_leaves_nothing_registered),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
