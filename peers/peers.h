/* Sessions between hosts: frames over TLS with the cluster's key file, or with certificates.
 *
 * Each host dials every other host whose address it has. Requests leave on the session that this host dialed;
 * the other host answers on the same session. A pair of hosts has up to two sessions, one per direction of
 * requests, and needs no agreement about which host dials. Raft's messages, results included, always leave on
 * the sender's dialed session, so they arrive in order per direction. When a host accepts a new session of
 * another host, it first closes that host's older one and drops its bytes.
 *
 * A handshake opens each session in both directions. A host sends it again on an open session when its
 * content changes. The callback 'admit' decides about admission. Two hosts with one machine id and different
 * nonces are clones: the second one is admitted if the sessions of the first are closed or leave a ping
 * unanswered for 1 s; otherwise it is rejected and reported.
 *
 * With certificates, a session belongs to the machine in the certificate, and the callback 'known' tells what
 * this host knows about it: its pins, its role, its removal. A host without a certificate is a joining host:
 * its session carries one request to join, and belongs to no machine. A listener accepts the key file and
 * certificates.
 *
 * Components register handlers of their types of frames. frames.h lists the types, not their contents. Frames
 * that wait for a slow connection leave in order of priority. */
#pragma once

#include <sys/queue.h>

#include "base/error.h"
#include "base/pace.h"
#include "base/sizes.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/tls.h"
#include "peers/frame.h"
#include "peers/handshake.h"

typedef struct Peers Peers;
typedef struct PeerSession PeerSession;

enum {
        PEER_JOIN_FRAME_MAX = 16 * 1024,   /* bytes, of a host without a certificate */
        PEER_FRAME_MAX = 12 * 1024 * 1024, /* bytes: an AppendEntries of 32 entries of 256 KiB fits */
        PEER_QUEUE_MAX = 32 * 1024 * 1024, /* bytes of memory; beyond, sending fails with -ENOBUFS. A full
                                            * queue without progress for 5 s ends the session. */
        PEERS_SESSIONS = 20000,            /* LimitSessions= by default */
        PEER_PROBLEM_SIZE = 320,           /* of the text why no session is open */
        PEERS_OMITTED_SIZE = 64,           /* of peers_log_stranger() */
        PEERS_BACKOFF_MAX_MS = 2000,       /* longest pause between two attempts to dial a host */
        PEERS_REJECTED_MAX_MS = 5000,      /* the same of a host without a replica that is rejected */
        PEER_JOIN_REQUEST_MS = 5000,       /* from the session of a joining host to its request */
        PEER_JOIN_MS = 30000,              /* from this request to the end of the session */
};

/* The message ID of rejected sessions and requests to join, in the journal. */
#define PEERS_MESSAGE_REJECTED "570313d7ef084f4985d42ca27dc7888c"

/* The knowledge of this host about a machine. Zero: nothing. */
typedef struct PeerKnown {
        TlsKnown tls;
        uint64_t raft_id; /* of the replica on it; 0: none, or not known */
        bool stale;       /* this host follows no leader: a machine that it knows as removed may be back */
} PeerKnown;

typedef struct PeersOptions {
        PeerHandshake self;
        const TlsKey *key; /* borrowed; may be NULL with 'credentials'. Both NULL only in tests and
                            * simulation: frames without TLS */
        const TlsCredentials *credentials; /* certificates, or NULL; see peers_set_credentials() */
        /* Set *ret, which is zero before, for the machine of a certificate. Called for each handshake, in TLS
         * too, and must not call back. NULL: no machine is known. */
        void (*known)(void *userdata, const char *machine_id, PeerKnown *ret);
        /* Of a joining host, whose credentials present no certificate: the cluster and the root of its token,
         * which the hosts that it dials must prove. Otherwise NULL. */
        const TlsPin *token_root; /* borrowed */
        uint64_t token_cluster_id;
        struct {                    /* 0: the defaults */
                uint64_t admission; /* LimitAdmission=: accepted connections in a second */
                uint64_t sessions;  /* LimitSessions=: with others than the hosts that this one dials */
        } limits;
        /* Return 0 to admit a host, or a negative errno with a message, which is sent to that
         * host. -ESTALE: its replica is an old image of itself. Called for its first handshake and for each
         * changed one. NULL: admit each host of this cluster, and each host that has no cluster. */
        int (*admit)(void *userdata, const PeerHandshake *handshake, Error *err);
        /* A session began or ended, a handshake changed, or a clone was rejected. Deferred: never called from
         * inside another call. */
        void (*on_change)(void *userdata, const char *machine_id);
        void *userdata;
} PeersOptions;

int peers_new(Peers **ret, Loop *loop, Network *network, const PeersOptions *options);
/* Listen on one more address. */
int peers_listen(Peers *peers, const char *address, Error *err);
/* Return 0 if this host could listen on 'address' at the next start, and otherwise the error of that; 0 for
 * ":PORT", whose address is not known yet. Listens for no longer than this call. */
int peers_try_listen(Peers *peers, const char *address, Error *err);
/* Close all sessions: send BYE with 'reason' ("stop", "shutdown", or "" for none) and wait at most 1 s. Call
 * 'closed' once from the loop; *peers is freed then. No handler or observer is called any more. */
void peers_close(Peers *peers, const char *reason, void (*closed)(void *userdata), void *userdata);

/* Set the identity of this host (it received a Raft id, or joined a cluster), and send it on open sessions.
 */
void peers_set_self(Peers *peers, const PeerHandshake *self);
const PeerHandshake *peers_self(const Peers *peers);

/* Admit hosts of that cluster only, and hosts without one, while the identity of this host names no cluster;
 * 0: any. Open sessions stay. */
void peers_set_cluster(Peers *peers, uint64_t cluster_id);

/* Replace the credentials; NULL: no certificates. 'key_counts': the key file of the options is dialed with
 * and accepted, too; otherwise, all sessions end that were authenticated by it. Others stay: see peers_end().
 * A host dials with its certificate if it has one, and with the key file after the other host rejected that.
 * Sessions that it dialed with the key file, or with another key than that of the certificate, are replaced,
 * one per second, when 'known' has the key of the other host: the former one ends when the new one is
 * admitted. */
void peers_set_credentials(Peers *peers, const TlsCredentials *credentials, bool key_counts);

/* Return the pin of the certificate of this host; NULL: it has none. */
const TlsPin *peers_own_pin(const Peers *peers);

/* Return whether this host has no certificate, and the last host that it dialed rejected its key file: the
 * cluster may require certificates. */
bool peers_need_certificate(const Peers *peers);
/* The key file does not count any more, until the end of this process: open sessions by it end, no further
 * one is admitted, and this host does not dial with it. A host that has nothing else is told the next step.
 */
void peers_end_key(Peers *peers);
bool peers_has_key(const Peers *peers);         /* a key file is in the options, also after its end */
bool peers_has_certificate(const Peers *peers); /* this host presents one */

/* A joining host sent a wrong token: its address is counted. */
void peers_wrong_token(Peers *peers, const PeerSession *session);

/* End all sessions with a machine, whose pin or role changed, or which was removed. The reason is sent to it.
 */
void peers_end(Peers *peers, const char *machine_id, const char *reason);

/* Report that a host with the ID of a machine and another key was rejected, for PeerState. */
void peers_report_key(Peers *peers, const char *machine_id);
/* The record of the machine has changed, for example because that host was admitted: end the report. */
void peers_forget_key(Peers *peers, const char *machine_id);
/* Another host with the ID of that machine has a session elsewhere: end the session that this one dialed, and
 * reject the same start of it for a minute, as a clone. */
void peers_reject_clone(Peers *peers, const char *machine_id);
/* End the sessions whose certificate the callback 'known' accepts no longer: the machine was removed, has
 * another key or no key, or has lost its replica. Call this after a change of what it reports. */
void peers_recheck(Peers *peers);

/* Observes the ends of open sessions. After the end, no answer arrives on the session any more, and the
 * pointer is invalid. Called at once, also from inside calls that end sessions; must not begin or end the
 * observation. */
typedef struct PeersObserver {
        void (*on_end)(void *userdata, PeerSession *session);
        void *userdata;
        LIST_ENTRY(PeersObserver) observers;
} PeersObserver;

void peers_observe(Peers *peers, PeersObserver *observer); /* stays the caller's, until: */
void peers_unobserve(PeersObserver *observer);             /* of one that observes */

typedef struct PeerAddress {
        char machine_id[MACHINE_ID_SIZE]; /* "" if only the address is known (Join=) */
        char address[ADDRESS_SIZE];
        char name[PEER_NAME_SIZE]; /* for messages; "" if it is not known */
} PeerAddress;

/* Set the hosts to dial. Sessions to addresses that are no longer listed end. Dialing retries with a back-off
 * of 100 ms to 2 s. An address that belongs to this host is not dialed again while it is listed. Return 0, or
 * -ENOMEM: some addresses were not added. */
int peers_set_known(Peers *peers, const PeerAddress *known, size_t n);

/* 'payload' is borrowed for the call. */
typedef void (*PeerHandler)(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size);

typedef struct PeerFrameType {
        PeerFrame type;
        PeerHandler handler;
} PeerFrameType;

/* Register the handlers of types. Frames of a type that was never registered are dropped. */
void peers_register(Peers *peers, const PeerFrameType *types, size_t n, void *userdata);
/* Drop the frames of these types from now on. */
void peers_unregister(Peers *peers, const PeerFrameType *types, size_t n);

/* Return the pin by which the other host was authenticated; NULL: it has shown no certificate. */
const TlsPin *peer_pin(const PeerSession *s);

/* Send on the dialed session to a host, by machine id or Raft id. -ENOTCONN, -ENOBUFS, -EMSGSIZE, -ENOMEM. */
int peers_send(Peers *peers, const char *machine_id, PeerFrame type, const void *payload, size_t size);
int peers_send_raft(Peers *peers, uint64_t raft_id, PeerFrame type, const void *payload, size_t size);
/* Answer on the session of the request. Errors as above. */
int peer_reply(PeerSession *session, PeerFrame type, const void *payload, size_t size);
/* Return the identity of the other host. */
const PeerHandshake *peer_handshake(const PeerSession *session);
/* Return the address of the other end of its connection, "ADDR:PORT", borrowed. */
const char *peer_remote(const PeerSession *session);
/* Return whether to log a message about a host at an address "ADDR:PORT" that is not authenticated, by the
 * limits of strangers.h. Then 'ret_omitted' is to follow the message: how many were not logged before. */
bool peers_log_stranger(Peers *peers, const char *address, char ret_omitted[static PEERS_OMITTED_SIZE]);
/* Return how the other host was authenticated. Without TLS, as with a key file. */
const TlsPeer *peer_authentication(const PeerSession *session);
/* Return the memory of all that waits to be sent, in bytes. */
size_t peer_queued(const PeerSession *session);
/* End sessions that hosts without a replica have opened, those first for which most waits, until at most so
 * many bytes wait for the others. Return these bytes. It walks all sessions. */
size_t peers_bound_waiting(Peers *peers, size_t most);
/* Return the memory of all frames ever sent, in bytes: no more than its growth can have been added to what
 * waits. */
uint64_t peers_sent(const Peers *peers);

/* Return the number of a session, which is never reused. Code that answers later keeps the number, not the
 * pointer.
 */
uint64_t peer_number(const PeerSession *session);

/* What a component keeps with a session, so that a frame of one among thousands needs no search. */
typedef enum PeerNote {
        PEER_NOTE_SIGNS, /* its signs of life */
        _PEER_NOTE_MAX,
} PeerNote;

/* Return the place of it: 0 at first. Its component decides what it is, and frees what it refers to. */
uintptr_t *peer_note(PeerSession *session, PeerNote note);
/* What a host without a replica has requested of this one: another session of it does not renew that. */
typedef enum PeerPace {
        PEER_PACE_SUBSCRIPTIONS, /* by their cost */
        PEER_PACE_USERS,         /* writes of its users, */
        PEER_PACE_OURS,          /* of its components, by their weight, */
        PEER_PACE_ROWS,          /* rows of the history, */
        PEER_PACE_INPUTS,        /* contents of units, */
        PEER_PACE_REPORTS,       /* and reports of each kind */
        _PEER_PACE_MAX = PEER_PACE_REPORTS + 3
} PeerPace;

/* Return the paces of a host that is known, by PeerPace, or NULL. They last for HOST_KEPT_MS after its last
 * session. */
Pace *peers_paces(Peers *peers, const char *machine_id);

/* Return the open session of that number, or NULL after its end. */
PeerSession *peers_session(Peers *peers, uint64_t number);
/* Return the open dialed session to a host, or NULL. Borrowed until the caller returns to the loop. */
PeerSession *peers_dialed(Peers *peers, const char *machine_id);

/* Return the open session that a host dialed, or NULL. As above. */
PeerSession *peers_accepted(Peers *peers, const char *machine_id);

/* Reason of a BYE: the host does not dial this address any more, and runs. */
#define PEER_BYE_UNUSED "unused"

/* The state of a host, for liveness and lists. */
typedef struct PeerState {
        PeerHandshake handshake;   /* its last one; only machine_id is set before the first */
        bool dialed, accepted;     /* this host's session to it is open; its session to this host is open */
        uint64_t kernel_silent_ms; /* since the last packet of its kernel on any session, or a refused
                                    * connection; before the first one: since the host is known */
        char bye[16];              /* reason of its last BYE since its last handshake; "" if none */
        bool by_key;               /* an open session with it was authenticated by the key file */
        bool outdated; /* of this host only: another one has rejected its replica as an old image */
        bool busy;     /* it has rejected the last request, and serves a later one */
        char problem[PEER_PROBLEM_SIZE]; /* why no session to it is open; "" if one is, or none was tried */
} PeerState;

int peers_state(const Peers *peers, const char *machine_id, PeerState *ret); /* -ENOENT */
/* Return whether another host with the id of that machine (or this host's) was rejected in the last minute: a
 * clone, or one with another key (peers_report_key()). */
void peers_rejected(const Peers *peers, const char *machine_id, bool *ret_clone, bool *ret_key);
/* Return the number of accepted connections that are not authenticated yet, with joining hosts until their
 * end: at most STRANGERS_PENDING_MAX, half of them of strangers. */
size_t peers_waiting(const Peers *peers);
/* Return whether a host of the cluster has rejected this one because it was removed from the cluster, and
 * none has accepted it since. When this becomes true, on_change() gets the ID of this host. */
bool peers_is_removed(const Peers *peers);
/* A replica that follows the leader serves this host: one that lags has rejected it, after it joined again.
 */
void peers_end_removal(Peers *peers);
/* Return the first known address whose host rejects this one or is rejected, NULL if there is none.
 * *ret_reason is the message, *ret_cause its cause. Both strings are borrowed until the next call from the
 * loop. */
const char *peers_rejection(const Peers *peers, Rejection *ret_cause, const char **ret_reason);
/* Return the first known address that a host of another lineage of this cluster answers at; NULL: none. As
 * above. */
const char *peers_other_lineage(const Peers *peers);
/* Return how many ms ago the least recent attempt to open a session began, over the last completed attempts
 * at all known addresses without a session; 0: none is without. A caller that has waited for longer has
 * found each host that runs. */
uint64_t peers_attempt_age_ms(const Peers *peers);
/* Call 'each' for every host that has a known address, a session that this host dialed, or a session and a
 * replica, in order of machine id: not for hosts without a replica that dialed this one, which may be
 * thousands. Addresses of unknown hosts come first, with an empty machine_id and with handshake.address set.
 * 'each' must not change the peers. */
void peers_each(const Peers *peers, void (*each)(void *userdata, const PeerState *state), void *userdata);
/* Return the last handshake of the host that has announced the replica of that Raft ID, borrowed until the
 * next call from the loop; NULL: none, or it has neither a session nor a known address, or its sessions may
 * not carry frames of replicas. */
const PeerHandshake *peers_replica(const Peers *peers, uint64_t raft_id);
/* Return the number of hosts with an open session, in either direction. */
size_t peers_count(const Peers *peers);
