#include "tests/unit/membership_played.h"

#include "base/log.h"
#include "tests/lib/alloc.h"
#include "tests/lib/message.h"

QuietPeer *h;
uint64_t opened_ms; /* when its membership was */

/* -- The calls of membership: executed, or held until the test answers -- */

Asked presence_asked, start_asked, note_asked;
uint64_t noted_level, noted_since_ms;
size_t n_many; /* simulated machines of the cluster view; 0: the real ones */
struct LevelKey level_key;
struct Raising raising;
struct Adding adding;
bool fails_from_handshake, fails_from_state; /* allocations fail from the next call of that function */

static bool is_held(Asked *a, RegistryDone done, void *userdata) {
        a->n++;
        a->done = done;
        a->userdata = userdata;
        return a->hold;
}

int __real_registry_presence(Registry *r, uint64_t term, const PresenceChange *changes, size_t n,
                             RegistryDone done, void *userdata);
int __wrap_registry_presence(Registry *r, uint64_t term, const PresenceChange *changes, size_t n,
                             RegistryDone done, void *userdata);
int __wrap_registry_record_start(Registry *r, const char *id, const MemberRecord *member, RegistryDone done,
                                 void *userdata);
int __real_registry_record_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms,
                                 RegistryDone done, void *userdata);
int __wrap_registry_record_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms,
                                 RegistryDone done, void *userdata);
int __real_registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms);
int __wrap_registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms);
int __real_kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata,
                      uint64_t *ret_number);
int __wrap_kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata,
                      uint64_t *ret_number);
void __real_kv_cancel(KvStore *store, uint64_t number);
void __wrap_kv_cancel(KvStore *store, uint64_t number);
int __real_kv_member_add(KvStore *store, uint64_t raft_id, const char *address);
int __wrap_kv_member_add(KvStore *store, uint64_t raft_id, const char *address);
ClusterMachine **__real_cluster_members_sorted(const Cluster *c, size_t *ret_n);
ClusterMachine **__wrap_cluster_members_sorted(const Cluster *c, size_t *ret_n);
const PeerHandshake *__real_peer_handshake(const PeerSession *session);
const PeerHandshake *__wrap_peer_handshake(const PeerSession *session);

int __wrap_registry_presence(Registry *r, uint64_t term, const PresenceChange *changes, size_t n,
                             RegistryDone done, void *userdata) {
        return is_held(&presence_asked, done, userdata) ?
                       0 :
                       __real_registry_presence(r, term, changes, n, done, userdata);
}

int __wrap_registry_record_start(Registry *r, const char *id, const MemberRecord *member, RegistryDone done,
                                 void *userdata) {
        return is_held(&start_asked, done, userdata) ?
                       0 :
                       __real_registry_record_start(r, id, member, done, userdata);
}

int __wrap_registry_record_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms,
                                 RegistryDone done, void *userdata) {
        noted_level = level;
        noted_since_ms = since_ms;
        return is_held(&note_asked, done, userdata) ?
                       0 :
                       __real_registry_record_level(r, term, level, since_ms, done, userdata);
}

int __wrap_registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms) {
        if (!level_key.fake)
                return __real_registry_read_level(r, ret_level, ret_since_ms);
        if (level_key.error == 0) {
                *ret_level = level_key.level;
                *ret_since_ms = level_key.since_ms;
        }
        return level_key.error;
}

int __wrap_kv_propose(KvStore *store, const KvCommand *cmd, KvDone done, void *userdata,
                      uint64_t *ret_number) {
        if (cmd->op != KV_RAISE || !raising.hold)
                return __real_kv_propose(store, cmd, done, userdata, ret_number);
        raising.n++;
        raising.limit = cmd->limit;
        raising.done = done;
        raising.userdata = userdata;
        if (raising.error == 0)
                *ret_number = RAISE_NUMBER;
        return raising.error;
}

void __wrap_kv_cancel(KvStore *store, uint64_t number) {
        if (raising.hold && number == RAISE_NUMBER)
                raising.forgotten = true;
        else
                __real_kv_cancel(store, number);
}

static void note_change(const char *what, uint64_t raft_id, const char *address) {
        adding.n++;
        snprintf(adding.last, sizeof(adding.last), "%s %llu%s", what, (unsigned long long) raft_id, address);
}

int __wrap_kv_member_add(KvStore *store, uint64_t raft_id, const char *address) {
        note_change("add", raft_id, address);
        return adding.fake ? adding.result : __real_kv_member_add(store, raft_id, address);
}

#define PLAYED_CHANGE(change)                                                                   \
        int __real_kv_member_##change(KvStore *store, uint64_t raft_id);                        \
        int __wrap_kv_member_##change(KvStore *store, uint64_t raft_id);                        \
        int __wrap_kv_member_##change(KvStore *store, uint64_t raft_id) {                       \
                note_change(#change, raft_id, "");                                              \
                return adding.fake ? adding.result : __real_kv_member_##change(store, raft_id); \
        }
PLAYED_CHANGE(promote)
PLAYED_CHANGE(demote)
PLAYED_CHANGE(remove)
PLAYED_CHANGE(vacate)

int __wrap_kv_member_shrink(KvStore *store, uint64_t raft_id, bool remove);
int __wrap_kv_member_shrink(KvStore *store, uint64_t raft_id, bool remove) {
        note_change(remove ? "shrink: remove" : "shrink: demote", raft_id, "");
        assert_true(adding.fake);
        return adding.result;
}

ClusterMachine **__wrap_cluster_members_sorted(const Cluster *c, size_t *ret_n) {
        static ClusterMachine many[KNOWN_MAX + 1];
        ClusterMachine **all;

        if (n_many == 0)
                return __real_cluster_members_sorted(c, ret_n);
        all = NEW0(ClusterMachine *, n_many);
        assert_non_null(all);
        for (size_t i = 0; i < n_many; i++) {
                snprintf(many[i].id, sizeof(many[i].id), "%032zx", i + 1);
                snprintf(many[i].member.peer, sizeof(many[i].member.peer), "10.2.%zu.%zu:2380", i / 250,
                         i % 250);
                all[i] = &many[i];
        }
        *ret_n = n_many;
        return all;
}

/* The functions that are tested without memory call one of these first. */
const PeerHandshake *__wrap_peer_handshake(const PeerSession *session) {
        if (fails_from_handshake)
                alloc_pause(false);
        fails_from_handshake = false;
        return __real_peer_handshake(session);
}

void on_state_seen(KvState *state) {
        if (fails_from_state)
                alloc_pause(false);
        fails_from_state = false;
}

/* -- The log: "MACHINE|MESSAGE" -- */

char journal[65536];

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        size_t n = strlen(journal);

        snprintf(journal + n, sizeof(journal) - n, "%s|%s\n", fields->machine ?: "", message);
}

unsigned said(const char *part) {
        unsigned n = 0;

        for (const char *at = journal; (at = strstr(at, part)); at++)
                n++;
        return n;
}

/* -- The host -- */

static char other_address[] = OTHER, third_address[] = THIRD;
static char *addresses[] = { other_address, third_address };
const Names no_hosts = {}, other = { .items = addresses, .n = 1, .capacity = 1 },
            both = { .items = addresses, .n = 2, .capacity = 2 };

static void reset(void) {
        state_seen = NULL;
        admission = (Admission) {};
        presence_asked = start_asked = note_asked = (Asked) {};
        memset(&level_key, 0, sizeof(level_key));
        memset(&raising, 0, sizeof(raising));
        memset(&adding, 0, sizeof(adding));
        n_many = 0;
        fails_from_handshake = fails_from_state = false;
}

/* Each test opens a membership of its own: that of the host may have sent requests already. */
static void begin(bool joins) {
        reset();
        h = quiet_peer_new(joins);
        h->membership = membership_free(h->membership);
        h->settings.voters = 1;
        reset();
        journal[0] = 0;
        log_set_sink(on_log, NULL);
}

int lead(void **state) {
        begin(false);
        return 0;
}

/* The host waits for its admission. */
int wait_outside(void **state) {
        begin(true);
        return 0;
}

int finish(void **state) {
        alloc_pause(true);
        state_seen = NULL;
        h = quiet_peer_free(h);
        log_set_sink(NULL, NULL);
        return 0;
}

void open_membership(void) {
        h->membership = membership_free(h->membership);
        assert_int_equal(membership_new(&h->membership, &h->components), 0);
        opened_ms = h->now_ms;
}

/* Run until so long after the membership was opened. */
void until(uint64_t ms) {
        quiet_peer_pass(h, opened_ms + ms - h->now_ms);
}

/* Run until the next tick of membership is over. */
void tick(void) {
        quiet_peer_pass(h, LIVENESS_TICK_MS - (h->now_ms - opened_ms) % LIVENESS_TICK_MS);
}

void ticks(unsigned n) {
        while (n-- > 0)
                tick();
}

/* All that was due meanwhile is late. */
void jump(uint64_t ms) {
        h->now_ms += ms;
        quiet_peer_run(h);
}

void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

const ClusterMachine *machine(const char *id) {
        return cluster_machine(registry_cluster(h->registry), id);
}

void have_member(const char *id, uint64_t raft_id, const char *peer, uint64_t level) {
        MemberRecord m = { .raft_id = raft_id, .level = level };

        snprintf(m.peer, sizeof(m.peer), "%s", peer);
        DONE(__real_registry_record_start(h->registry, id, &m, on_done, done_));
}

void have_settings(const ClusterSettings *settings) {
        DONE(registry_set_settings(h->registry, settings, NULL, on_done, done_));
}

void have_facts(const char *id) {
        Machine m = { .name = (char *) "gamma", .address = (char *) "10.0.0.9", .version = (char *) "0" };

        snprintf(m.id, sizeof(m.id), "%s", id);
        DONE(registry_publish_facts(h->registry, &m, on_done, done_));
}

void have_presence(const char *id, Presence presence) {
        PresenceChange change = { .presence = presence };
        KvState state;

        __real_kv_state(h->store, &state);
        snprintf(change.machine, sizeof(change.machine), "%s", id);
        DONE(__real_registry_presence(h->registry, state.term, &change, 1, on_done, done_));
}

void assert_presence(const char *id, Presence presence, const char *reason) {
        const ClusterMachine *m = machine(id);

        assert_non_null(m);
        assert_string_equal(message_of(&m->verdict), reason);
        assert_int_equal(m->presence, presence);
}

static void count_known(void *userdata, const PeerState *peer) {
        ++*(unsigned *) userdata;
}

/* Return the number of addresses that it dials. */
unsigned n_known(void) {
        unsigned n = 0;

        peers_each(h->peers, count_known, &n);
        return n;
}

/* -- Results of kv_state() -- */

void is_not_ready(KvState *state) {
        state->ready = false;
}

void is_lost(KvState *state) {
        state->lost = true;
}

void suffers(KvState *state) {
        state->undecided = true;
        snprintf(state->problem, sizeof(state->problem), "the replicas' trees differ");
}

void is_of_a_later_term(KvState *state) {
        state->term++;
}

void follows(KvState *state) {
        state->role = KV_ROLE_FOLLOWER;
        state->leader_id = 2;
        snprintf(state->leader_machine_id, sizeof(state->leader_machine_id), "%s", QUIET_PEER_OTHER_ID);
}

size_t n_voters, n_reachable;

void has_voters(KvState *state) {
        state->n_voters = n_voters;
        state->n_voters_reachable = n_reachable;
}

/* The other host is a member, too, before this host; the entry after both is none. */
void has_two_members(KvState *state) {
        state->n_members = 2;
        snprintf(state->members[2].address, sizeof(state->members[2].address), "%s", THIRD);
        state->members[1] = state->members[0];
        state->members[0].raft_id = 2;
        snprintf(state->members[0].address, sizeof(state->members[0].address), "%s", OTHER);
}

/* -- The other host -- */

void send_heartbeat(const char *trouble) {
        assert_true(quiet_peer_send(h, PEER_HEARTBEAT, trouble, strlen(trouble)));
}

void send_handshake_of(uint64_t cluster_id) {
        _cleanup_writer_ Writer w = {};
        PeerHandshake handshake = { .machine_id = QUIET_PEER_OTHER_ID,
                                    .boot_id = FOURTH_ID,
                                    .nonce = 2,
                                    .start_number = 1,
                                    .address = OTHER,
                                    .name = "beta",
                                    .raft_id = 2,
                                    .cluster_id = cluster_id,
                                    .lineage = cluster_id };

        handshake_write(&w, &handshake);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_HANDSHAKE, w.bytes, w.size));
}

void send_join(uint8_t version, const char *address, size_t more) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, version);
        write_string(&w, address);
        for (; more > 0; more--)
                write_u8(&w, 0);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_JOIN, w.bytes, w.size));
}

void send_joined(uint8_t version, bool refused, const char *message, uint64_t cluster_id, uint64_t raft_id,
                 size_t more) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, version);
        write_u8(&w, refused);
        write_string(&w, message);
        write_u64(&w, cluster_id);
        write_u64(&w, 7);
        write_u64(&w, raft_id);
        for (; more > 0; more--)
                write_u8(&w, 0);
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_JOINED, w.bytes, w.size));
}

/* Return the answers to join requests since the last call, and the contents of the last one. */
Joined receive_joined(void) {
        Joined j = {};
        Frame frame;

        while (quiet_peer_receive(&h->asking, &frame)) {
                Reader r = reader_over(frame.payload, frame.size);
                _cleanup_free_ char *message = NULL;

                if (frame.type != PEER_JOINED)
                        continue;
                j.n++;
                assert_int_equal(read_u8(&r), JOIN_VERSION);
                j.refused = read_u8(&r);
                message = read_string(&r, ERROR_MESSAGE_MAX);
                j.cluster_id = read_u64(&r);
                j.lineage = read_u64(&r);
                j.raft_id = read_u64(&r);
                assert_int_equal(reader_end(&r), 0);
                snprintf(j.message, sizeof(j.message), "%s", message);
        }
        return j;
}

Joined ask_to_join(uint8_t version, const char *address, size_t more) {
        send_join(version, address, more);
        return receive_joined();
}

Joined answer_admission(KvStatus status, const char *message) {
        void *waits = admission.waits;

        assert_non_null(waits);
        admission.waits = NULL;
        admission.done(waits, status, message, 5);
        quiet_peer_run(h);
        return receive_joined();
}

/* Return the number of frames of that type that the host sent on the session that it dialed, since the last
 * call, and the last payload. */
unsigned n_received(PeerFrame type, size_t *ret_size, char ret[static 512]) {
        unsigned n = 0;
        Frame frame;

        while (quiet_peer_receive(&h->asked, &frame))
                if (frame.type == type) {
                        n++;
                        *ret_size = frame.size;
                        assert_true(frame.size < 512);
                        memcpy(ret, frame.payload, frame.size);
                }
        return n;
}

unsigned n_asked(void) {
        _cleanup_free_ char *address = NULL;
        char payload[512];
        Reader r = {};
        size_t size = 0;
        unsigned n = n_received(PEER_JOIN, &size, payload);

        if (n == 0)
                return 0;
        r = reader_over(payload, size);
        assert_int_equal(read_u8(&r), JOIN_VERSION);
        address = read_string(&r, 63);
        assert_int_equal(reader_end(&r), 0);
        assert_string_equal(address, OWN);
        return n;
}

/* The other host is up, and then silent. */
void be_up_and_fall_silent(void) {
        have_member(QUIET_PEER_OTHER_ID, 2, OTHER, 0);
        open_membership();
        tick(); /* the founder writes its settings */
        assert_true(quiet_peer_meet(h));
        send_heartbeat("");
        tick();
        assert_presence(QUIET_PEER_OTHER_ID, PRESENCE_UP, "");
}

const char hung[] = "its fleetd does not answer, its kernel does";
