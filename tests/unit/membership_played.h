/* A host with a membership, in virtual time; the test simulates the other host of its sessions. Calls of the
 * store and of the registry are executed, or held until the test answers. */
#pragma once

#include "tests/lib/test.h"
#include "fleetd/sessions/liveness.h"
#include "tests/lib/quiet_peer.h"
#include "tests/unit/membership.h"

#define OWN       "10.0.0.1:2380"
#define OTHER     "10.0.0.2:2380"
#define THIRD     "10.0.0.3:2380"
#define THIRD_ID  "cccccccccccccccccccccccccccccccc"
#define FOURTH_ID "dddddddddddddddddddddddddddddddd"

enum {
        JOIN_VERSION = 1, /* of a join request and its answer */
        RAISE_NUMBER = 77,
        KNOWN_MAX = 1024,
};

extern QuietPeer *h;

void __real_kv_state(KvStore *store, KvState *ret); /* without state_seen */
int __real_registry_record_start(Registry *r, const char *id, const MemberRecord *member, RegistryDone done,
                                 void *userdata);

typedef struct Asked {
        bool hold;
        unsigned n;
        RegistryDone done;
        void *userdata;
} Asked;

extern Asked presence_asked, start_asked, note_asked;
extern uint64_t noted_level, noted_since_ms;
extern struct LevelKey {
        bool fake;
        int error;
        uint64_t level, since_ms;
} level_key;
extern struct Raising {
        bool hold, forgotten;
        int error;
        unsigned n;
        uint64_t limit;
        KvDone done;
        void *userdata;
} raising;
/* Changes of the members that membership requests. */
extern struct Adding {
        bool fake;
        int result;
        unsigned n;
        char last[128]; /* "promote 2" */
} adding;
extern size_t n_many; /* simulated machines of the cluster view; 0: the real ones */
extern bool fails_from_handshake,
        fails_from_state; /* allocations fail from the next call of peer_handshake(), of kv_state() */

/* How often 'part' was logged; a line is "MACHINE|MESSAGE". */
unsigned said(const char *part);
extern char journal[65536];

/* The addresses of Join=. */
extern const Names no_hosts, other, both;

int lead_new(void **state); /* a cluster without settings */
int lead(void **state);
int wait_outside(void **state); /* for its admission */
int finish(void **state);

void open_membership(
        void);           /* instead of the one before; no voters are added: the other host has no replica */
void until(uint64_t ms); /* until so long after it was opened */
void tick(void);         /* until the next tick of membership is over */
void ticks(unsigned n);
void jump(uint64_t ms); /* all that was due meanwhile is late */

void on_done(void *userdata, KvStatus status, const char *message, uint64_t index);
/* The call succeeds, and is done. */
#define DONE(call)                                                             \
        do {                                                                   \
                KvStatus status_ = KV_UNKNOWN;                                 \
                void *done_ = &status_;                                        \
                                                                               \
                assert_int_equal(call, 0);                                     \
                quiet_peer_run(h);                                             \
                for (unsigned i_ = 0; i_ < 100 && status_ == KV_UNKNOWN; i_++) \
                        quiet_peer_pass(h, 10);                                \
                assert_int_equal(status_, KV_OK);                              \
        } while (false)

const ClusterMachine *machine(const char *id);
void have_member(const char *id, uint64_t raft_id, const char *peer, uint64_t level);
void have_settings(const ClusterSettings *settings);
void have_facts(const char *id);
void have_presence(const char *id, Presence presence);
void assert_presence(const char *id, Presence presence, const char *reason);
unsigned n_known(void); /* addresses that it dials */

/* For state_seen. */
void on_state_seen(KvState *state);
void is_not_ready(KvState *state);
void is_lost(KvState *state);
void suffers(KvState *state);
void is_of_a_later_term(KvState *state);
void follows(KvState *state);
void has_voters(KvState *state);
void has_two_members(KvState *state);
extern size_t n_voters, n_reachable; /* by has_voters() */

/* Of the other host. */
void send_heartbeat(const char *trouble);
void send_handshake_of(uint64_t cluster_id);
void send_join(uint8_t version, const char *address, size_t more);
void send_joined(uint8_t version, bool refused, const char *message, uint64_t cluster_id, uint64_t raft_id,
                 size_t more);

typedef struct Joined {
        unsigned n;
        bool refused;
        uint64_t cluster_id, lineage, raft_id;
        char message[ERROR_MESSAGE_MAX];
} Joined;

/* Return the answers to join requests since the last call: their number, and the contents of the last one. */
Joined receive_joined(void);
Joined ask_to_join(uint8_t version, const char *address, size_t more);
Joined answer_admission(KvStatus status, const char *message);

/* Return the number of frames of that type on the session that the host dialed, since the last call, and the
 * last payload. */
unsigned n_received(PeerFrame type, size_t *ret_size, char ret[static 512]);
unsigned n_asked(void); /* join requests, each with this host's address */

void be_up_and_fall_silent(void); /* the other host is up, and then silent */
extern const char hung[];         /* the reason of its presence then */
