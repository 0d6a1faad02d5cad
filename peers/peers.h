/* Sessions between hosts: one peer port, framed messages, over TLS with the cluster's key.
 *
 * Each host dials each other host it knows, and asks on the session that it dialed; the answering side
 * replies on the same session. So a pair has up to two sessions, one for each direction of asking, and nobody
 * has to agree who dials. Raft's messages, results too, always leave on the sender's own dialed session: per
 * pair and direction they arrive in order, and when a new session of a host is accepted the older one of that
 * host is closed first, with all its bytes dropped.
 *
 * A hello opens each session, both ways: protocol version, cluster id, lineage, machine id, boot id, start
 * number, nonce, Raft id, peer address, name. It may be said again on an open session when something in it
 * has changed. Who may come in is asked of 'admit'. A second nonce of one machine id is let in when the first
 * one's session is closed or leaves a ping unanswered for 1 s; else it is refused and reported as a clone
 * (ARCHITECTURE, rule 16).
 *
 * What a slow connection holds up goes in lanes: Raft and beats, then what people ask, then states and bulk.
 *
 * Frames: u32 size, u8 type, then payload; at most PEER_FRAME_MAX. Frame types below 16 are the store's, the
 * others belong to fleetd's rooms. Bytes from outside are bounded, checked and fuzzed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sizes.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/tls.h"

typedef struct Peers Peers;
typedef struct PeerSession PeerSession;

enum {
        PEER_FRAME_MAX = 12 * 1024 * 1024, /* an AppendEntries of 32 entries of 256 KiB, and some */
        PEER_QUEUE_MAX =
                32 * 1024 *
                1024, /* beyond, sending fails with -ENOBUFS; 5 s without progress: the session is cut */
        PEER_NAME_MAX = 64,
        PEER_HANDSHAKES_MAX = 64,    /* accepted connections that have not said their hello */
        PEERS_BACKOFF_MAX_MS = 2000, /* the longest pause between two attempts to connect to a host */
};

typedef enum PeerFrame {
        PEER_HANDSHAKE = 1,
        PEER_REFUSED,
        PEER_PING,
        PEER_PONG,
        PEER_BYE, /* the session's own */
        PEER_RAFT,
        PEER_PROPOSE,
        PEER_PROPOSED,
        PEER_TERM_CHECK,
        PEER_TERM_CHECKED,
        PEER_SNAPSHOT,
        PEER_SNAPSHOT_ACK,
        PEER_JOIN,
        PEER_JOINED,
        PEER_PROPOSE_LATER, /* as PEER_PROPOSE, for what gives way to all else: states */
        PEER_HEARTBEAT = 16,
        PEER_CALL,
        PEER_CALL_CHUNK,
        PEER_CALL_END,
        PEER_CALL_CANCEL,
        PEER_TREE, /* the store's again: kvstore/raft/consistency_check.h */
        PEER_CALL_CREDIT,
        _PEER_FRAME_MAX,
} PeerFrame;

/* What a host says of itself. Plain value; strings are fixed and terminated. */
typedef struct PeerHandshake {
        uint64_t cluster_id, lineage;     /* 0: belongs to none yet */
        char machine_id[MACHINE_ID_SIZE]; /* 32 hex digits */
        char boot_id[BOOT_ID_SIZE];       /* 32 hex digits, or "" */
        uint64_t start_number;            /* grows by one with each start of the daemon, kept on its disk */
        uint64_t nonce;                   /* drawn at each start */
        uint64_t raft_id;                 /* 0: none yet */
        char address[ADDRESS_SIZE];       /* its peer door, "ADDR:PORT"; "" when it has none */
        char name[PEER_NAME_MAX];
} PeerHandshake;

typedef struct PeersOptions {
        PeerHandshake self;
        const TlsKey *key; /* borrowed; NULL only in tests and simulation: plain frames */
        /* Whether the host that dialed us may come in (also when it says a changed hello); 0, or a negative
         * errno with a sentence that the other side gets to read. NULL: everybody of this cluster, and those
         * of none. */
        int (*admit)(void *userdata, const PeerHandshake *hello, Error *err);
        /* A session came to be or ended, a hello changed, a clone was refused. Deferred: never from inside a
         * call. */
        void (*on_change)(void *userdata, const char *machine_id);
        void *userdata;
} PeersOptions;

int peers_new(Peers **ret, Loop *loop, Network *network, const PeersOptions *options);
int peers_listen(Peers *peers, const char *address, Error *err); /* may be called for several addresses */
/* Closes all sessions (saying BYE with 'reason': "stop" or "shutdown", "" for none; at most 1 s); 'closed'
 * comes once from the loop, after which *peers is gone. Handlers and observers are not called any more. */
void peers_close(Peers *peers, const char *reason, void (*closed)(void *userdata), void *userdata);

/* What we say of ourselves has changed (Raft id given, cluster joined): open sessions are told, new ones say
 * it. */
void peers_set_self(Peers *peers, const PeerHandshake *self);
const PeerHandshake *peers_self(const Peers *peers);

/* Others that want to hear of sessions besides options.on_change. The struct is embedded in its owner. */
typedef struct PeerObserver {
        void (*on_change)(void *userdata, const char *machine_id); /* as in PeersOptions; may be NULL */
        /* An open session ends: what was to be answered on it is moot, the pointer is dead afterwards. Called
         * at once, also from inside calls that end sessions. May be NULL. */
        void (*on_end)(void *userdata, PeerSession *session);
        void *userdata;
        struct PeerObserver *next; /* the list's */
} PeerObserver;

void peers_observe(Peers *peers, PeerObserver *observer);
void peers_unobserve(Peers *peers, PeerObserver *observer); /* harmless when it is not observing */

typedef struct PeerAddress {
        char machine_id[MACHINE_ID_SIZE]; /* "" when only the address is known (Join=) */
        char address[ADDRESS_SIZE];
} PeerAddress;

/* Whom to dial: sessions to addresses that are gone from the list end. Dialing retries with back-off 100 ms
 * to 2 s. An address that turns out to be our own is remembered, and not dialed again while it is on the
 * list. */
int peers_set_known(Peers *peers, const PeerAddress *known,
                    size_t n); /* 0, or -ENOMEM: what could not be added is not dialed */

/* Who handles a frame type; NULL: nobody, such frames are dropped. 'payload' is borrowed for the call. On a
 * dialed session only answers arrive, on an accepted one only questions: the handler knows by the type
 * (PEER_HEARTBEAT goes both ways). */
typedef void (*PeerHandler)(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size);
void peers_handle(Peers *peers, PeerFrame type, PeerHandler handler, void *userdata);

/* Sends on our dialed session to that host (by machine id, or Raft id). -ENOTCONN, -ENOBUFS, -EMSGSIZE,
 * -ENOMEM. */
int peers_send(Peers *peers, const char *machine_id, PeerFrame type, const void *payload, size_t size);
int peers_send_raft(Peers *peers, uint64_t raft_id, PeerFrame type, const void *payload, size_t size);
/* Answers on the session that a question came by. Errors as above. */
int peer_reply(PeerSession *session, PeerFrame type, const void *payload, size_t size);
const PeerHandshake *peer_handshake(const PeerSession *session); /* of the other side */
size_t peer_queued(const PeerSession *session);
bool peer_is_dialed(const PeerSession *session);

/* Who answers later keeps the session's number, never the pointer: it is never used twice, and
 * peers_session() is NULL when that session has ended. */
uint64_t peer_number(const PeerSession *session);
PeerSession *peers_session(Peers *peers, uint64_t number);
/* Our open dialed session to that host, or NULL. Borrowed until the caller returns to the loop. */
PeerSession *peers_dialed(Peers *peers, const char *machine_id);

/* What is known of a host, for liveness and lists. */
typedef struct PeerState {
        PeerHandshake hello;       /* the last one it said; only machine_id is set before the first */
        bool dialed, accepted;     /* sessions that are open now: ours to it, its to us */
        uint64_t kernel_silent_ms; /* since its kernel was last heard on any session, or by a refused
                                    * connection; while it never was: since we know of the host */
        char bye[16];              /* reason of its last BYE since its last hello, "" if none */
        bool clone_refused;        /* in the last minute another machine came with its id (or with ours) */
        char problem[160];         /* why we have no session to it, "" if we have, or have not tried */
} PeerState;

int peers_state(const Peers *peers, const char *machine_id, PeerState *ret); /* -ENOENT */
/* Calls 'each' for every host with a session or a known address, by machine id; addresses whose machine is
 * not known yet come first, with an empty machine_id and hello.address set. 'each' must not change the peers.
 */
void peers_each(const Peers *peers, void (*each)(void *userdata, const PeerState *state), void *userdata);
