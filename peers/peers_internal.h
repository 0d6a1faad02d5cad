/* Shared by the files of this folder that know the hosts of the cluster: peers.c dials, listens, and
 * implements the public interface; admission.c admits and rejects hosts; hosts.c keeps the known hosts and
 * addresses, and reports changes; warnings.c logs rejected sessions. Each calls only the files after it. No
 * file of another folder includes this header.
 *
 * Three tables: the addresses to dial (KnownAddress), the hosts (PeerHost), the sessions. A KnownAddress
 * learns its host from the handshake of the session that it dialed. It has a second session while one by the
 * key file is replaced. A PeerHost outlives its sessions by
 * HOST_KEPT_MS, because liveness needs the time of its last contact. All changes of a session pass through
 * the session events in admission.c. Only handlers, admit() and on_end() of observers are called from
 * inside; on_change() is deferred. */
#pragma once

#include "peers/session.h"
#include "peers/strangers.h"

enum {
        PEERS_BACKOFF_MIN_MS = 100,
        PEERS_BUSY_MAX_MS = 1000, /* longest pause of peers_busy(); a replica has its turn for 2 s */
        PEERS_TICK_MS = 1750,
        PEERS_TICK_SLACK_MS = 750, /* more than the time between two heartbeats */
        PEERS_WARNINGS_KEPT = 64,
        PEERS_FINISHED_SEC = 64,  /* handshakes that end well: those above this number in a second count, */
        PEERS_FINISHED_BUSY = 32, /* and from this count on, pending ones wait for a processor */
        PEERS_REDIAL_EACH_MS = 1000, /* at most one session in this time is replaced */
};

/* Causes of warnings, in addition to rejections. */
enum {
        WARNING_UNREACHABLE = _REJECTION_MAX,
        WARNING_KEY,
        WARNING_NO_HANDSHAKE,
        WARNING_FORBIDDEN,
        _WARNING_MAX
};

typedef struct PeerHost PeerHost;

/* An address from which hosts were accepted: trusted, also if it has no row in Strangers any more. */
typedef struct PeerSource {
        uint64_t key; /* strangers_key() */
        size_t n;     /* hosts */
        UT_hash_handle hh;
} PeerSource;

struct PeerHost {
        char machine_id[MACHINE_ID_SIZE];
        PeerHandshake handshake;
        PeerSession *dialed, *accepted; /* open */
        PeerSession *candidate; /* held by the clone check, until the conflicting sessions answer or end */
        Timer clone_check;
        Peers *peers;
        uint64_t contact_ms, used_ms, clone_ms, key_ms;
        uint64_t clone_nonce, clone_until_ms; /* peers_reject_clone() */
        uint64_t outdated_raft_id; /* of this host, when its replica was rejected as an old image; 0: never */
        unsigned n_known;
        PeerSource *source;         /* the address that it was accepted from last; NULL: none */
        Pace sessions;              /* that it has opened, without a replica */
        Pace paces[_PEER_PACE_MAX]; /* of peers_paces() */
        char bye[16], problem[PEER_PROBLEM_SIZE];
        bool changed;          /* on_change() was not called yet */
        bool index_unfinished; /* out of memory: the next tick repeats host_index() */
        UT_hash_handle hh, hh_raft;
        TAILQ_ENTRY(PeerHost) changes;
        bool is_listed;
        bool is_counted; /* in Peers.n_connected */
        TAILQ_ENTRY(PeerHost) listed;
};

typedef struct KnownAddress {
        char address[ADDRESS_SIZE];
        char given_id[MACHINE_ID_SIZE];
        char name[PEER_NAME_SIZE]; /* given, for messages */
        Peers *peers;
        PeerHost *host;      /* given, or learned from its handshake; NULL: unknown */
        bool is_self;        /* this host itself answers there */
        PeerSession *former; /* open, by the key file: stays until the host has admitted 'session' */
        uint64_t redial_ms;  /* no attempt to replace its session before this time */
        bool use_key; /* dial with the key file: the host rejected the certificate of this one, or has none */
        bool wanted;  /* while peers_set_known() compares the lists */
        uint64_t source; /* strangers_key() of the address */
        void *connecting;
        PeerSession *session;
        Timer timer;
        uint64_t backoff_ms;
        uint64_t dialed_ms;    /* begin of the present or last attempt to dial */
        uint64_t attempted_ms; /* begin of the last attempt that has ended; 0: none has */
        unsigned warned;       /* bits of causes that were logged since the last session that lasted */
        unsigned cause;        /* of 'problem': a Rejection, or WARNING_* */
        char problem[PEER_PROBLEM_SIZE];
        UT_hash_handle hh;
} KnownAddress;

typedef struct PeerListener {
        Peers *peers;
        Listener *listener;
        SLIST_ENTRY(PeerListener) listeners;
} PeerListener;

struct Peers {
        Loop *loop; /* borrowed, as is 'network' */
        Network *network;
        PeersOptions options;
        PeerHandshake self;
        SessionContext session_context;
        TlsCredentials *credentials; /* or NULL */
        Strangers strangers;         /* counted with TLS: simulated hosts are not limited */
        SLIST_HEAD(, PeerListener) listeners;
        KnownAddress *known;
        PeerHost *hosts;
        PeerSource *sources;
        size_t n_connected; /* of these, those with an open session */
        PeerHost *by_raft;  /* hosts with a dialed session */
        TAILQ_HEAD(, PeerHost) changed;
        TAILQ_HEAD(PeerHostList, PeerHost) listed; /* of peers_each(), by machine id: few of many hosts */
        PeerSession *sessions;                     /* all, by number, lingering ones included */
        PeerSession *pending; /* accepted ones before their handshake, oldest first; joining hosts until
                                 their end */
        Pace finished;        /* handshakes of accepted sessions that ended well */
        unsigned n_sessions;
        uint64_t sent; /* peers_sent() */
        uint64_t last_number;
        uint64_t cluster_id;                    /* peers_set_cluster() */
        PeerFrameRule types[PEER_FRAME_TYPES];  /* those that were registered */
        PeerHandler handlers[PEER_FRAME_TYPES]; /* NULL: frames are dropped */
        void *handlers_userdata[PEER_FRAME_TYPES];
        LIST_HEAD(, PeersObserver) observers;
        Deferred notify, gone;
        Timer tick, redial;
        uint64_t busy_ms, busy_until_ms; /* see peers_busy() */
        bool key_rejected;     /* by the last host that was dialed, and this host has no certificate */
        bool closing, removed; /* peers_is_removed() */
        void (*closed)(void *userdata);
        void *closed_userdata;
        uint64_t warnings[PEERS_WARNINGS_KEPT]; /* hashes of the last warnings about hosts that dialed this
                                                   one */
        unsigned next_warning;
};

/* -- hosts.c -- */

PeerHost *host_find(const Peers *peers, const char *machine_id);
/* What the owner knows about a machine; zero: nothing. */
PeerKnown peers_knowledge(const Peers *peers, const char *machine_id);
/* Trust the address while the host is known, and for an hour. Without memory: for an hour at most. */
void host_trust(PeerHost *host, uint64_t source);
/* The trust of an address ends with its host, unless another one was accepted from there. */
void host_distrust(Peers *peers, const char *machine_id);
/* Find or create a host. 0 or -ENOMEM. */
int host_get(Peers *peers, const char *machine_id, PeerHost **ret);
/* The host must have no session and no address. */
void peer_host_free(PeerHost *host);
/* Call on_change() for 'host' later, from the loop. */
void host_changed(PeerHost *host);
void host_on_contact(PeerHost *host, uint64_t when_ms);
PeerSession *peers_find_session(Peers *peers, uint64_t number); /* or NULL; lingering ones included */
/* Call 'each' for all sessions. It may end sessions, also others than its argument: after a session was
 * freed, the walk finds the next one by its number, and stops when that one is freed. */
void peers_each_session(Peers *peers, void (*each)(PeerSession *s, const void *argument),
                        const void *argument);
/* Index a host by its Raft id while a session to it is open, and list it for peers_each() if it belongs
 * there. Call after a change of 'dialed' or 'handshake'. */
void host_index(PeerHost *host);
void host_unindex(PeerHost *host);
/* Record the rejection of a clone that has the id of 'host'. */
void host_clone_rejected(PeerHost *host);
/* Return whether peers_reject_clone() rejects this start of a host. */
bool host_is_other_clone(const Peers *peers, const PeerSession *s);
/* Write why. Return -EEXIST. */
int host_other_clone_error(const PeerSession *s, Error *err);

/* Call on_change() for all changed hosts. 'userdata' is the Peers. */
void peers_notify(void *userdata);

/* Return whether the session was dialed with the key file, or with a former key, and a certificate of the
 * present one would be used now. */
bool known_is_outdated(const KnownAddress *k);
/* Begin to replace such sessions. */
void peers_redial_later(Peers *peers);
/* Return whether this host dials that address. */
bool peers_dials(const Peers *peers, uint64_t source);

void known_set_host(KnownAddress *k, PeerHost *host);
/* Keep the reason why no session is open for peers_state(), and log it once. */
void known_warn(KnownAddress *k, unsigned cause, const char *message);
/* An attempt to dial, or the session of it, has ended. */
void known_attempted(KnownAddress *k);
/* Dial after a given pause, after one that doubles each time, or almost at once. */
void known_wait(KnownAddress *k, uint64_t delay_ms);
void known_retry(KnownAddress *k);
void known_redial(KnownAddress *k);
/* This host has no replica, so that there may be very many like it. */
bool peers_is_attached(const Peers *peers);
/* Of an attached host: a replica closed a connection before its handshake, as it has more than it may admit.
 * From now on, until a session opens or ends, the host dials one of its addresses at a time, with a pause
 * that becomes longer, also for addresses that are new. */
void peers_busy(Peers *peers);
/* Return the ms until the next connection may begin; 0: now, and the next pause begins. */
uint64_t peers_take_turn(Peers *peers);

/* -- warnings.c -- */

/* Whether sessions are authenticated: not in simulation. */
bool peers_has_tls(const Peers *peers);
/* Log that a session from another host was rejected: for each machine once per cause, about strangers by the
 * limits of strangers.h. */
void peers_warn(Peers *peers, const PeerSession *s, unsigned cause, const char *message);
/* A session of the machine was admitted: the next rejection is logged again. */
void peers_clear_warnings(Peers *peers, const char *machine_id);

/* -- admission.c -- */

extern const SessionEvents peers_session_events;

/* -EKEYREJECTED with a message for the host of a session by the key file: the key file does not count any
 * more. */
int session_check_key(const PeerSession *s, Error *err);
/* Set what this host knows about the machine of a certificate, for TLS. 'userdata' is the Peers. */
void peers_known(void *userdata, TlsRole role, const char *machine_id, TlsKnown *ret);
/* Check whether the certificate of a session is still that of its machine. 0, or a negative errno with a
 * message for that machine. */
int session_recheck(Peers *peers, const PeerSession *s, Error *err);
/* Begin a session on 'stream', and take it. 'known': the address that was dialed; NULL: the stream was
 * accepted. */
int peers_begin(Peers *peers, Stream *stream, KnownAddress *known);
/* Return whether the address is that of a host of the cluster, or one was authenticated from it. */
bool peers_trusts(const Peers *peers, uint64_t source);
