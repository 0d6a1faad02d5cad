/* What the files of this folder share about the cluster's hosts: peers.c dials, listens and is asked;
 * admission.c decides who may come in and who is whom; hosts.c keeps the hosts and the addresses that we
 * know, and tells of changes. Each calls only those after it. Nobody outside this folder includes this file.
 *
 * Three tables: the addresses to dial (Known), the machines that we have met (Host), the sessions. A Known
 * learns its machine from the hello of the session it dialed. A Host outlives its sessions, for those who
 * judge its silence, by HOST_KEPT_MS. All that happens to a session passes through the session events in
 * admission.c, and nothing is called out from inside but handlers, admit() and observers' on_end():
 * on_change() is deferred. */
#pragma once

#include <sys/queue.h>

#include "base/table.h"
#include "base/sizes.h"
#include "peers/peers.h"
#include "peers/session.h"

enum {
        PEERS_BACKOFF_MIN_MS = 100,
        PEERS_TICK_MS = 2000,
        PEERS_COMPLAINTS_KEPT = 64,
};

/* Causes of complaints, besides refusals. */
enum { COMPLAINT_UNREACHABLE = _REFUSAL_MAX, COMPLAINT_KEY, COMPLAINT_NO_HANDSHAKE };

typedef struct Host Host;

struct Host {
        char machine_id[MACHINE_ID_SIZE];
        PeerHandshake hello;
        PeerSession *dialed, *accepted; /* open */
        PeerSession *judged;            /* waits for its rivals' answers */
        Timer verdict;
        Peers *peers;
        uint64_t contact_ms, used_ms, clone_ms;
        unsigned n_known;
        char bye[16], problem[160];
        bool changed;     /* and others have not been told yet */
        bool index_again; /* there was no memory for it: with the next tick */
        UT_hash_handle hh, hh_raft;
        TAILQ_ENTRY(Host) changes;
};

typedef struct Known {
        char address[ADDRESS_SIZE];
        char given_id[MACHINE_ID_SIZE];
        Peers *peers;
        Host *host;     /* given, or learned from its hello; NULL: not known */
        bool ourselves; /* it is us who answer there */
        bool wanted;    /* while the list is compared */
        void *connecting;
        PeerSession *session;
        Timer timer;
        uint64_t backoff_ms;
        unsigned complained; /* bits of causes that were logged since the last session that lasted */
        char problem[160];
        UT_hash_handle hh;
} Known;

typedef struct Accepting {
        Peers *peers;
        Listener *listener;
        struct Accepting *next;
} Accepting;

struct Peers {
        Loop *loop; /* borrowed, as are the next */
        Network *network;
        PeersOptions options;
        PeerHandshake self;
        Accepting *accepting;
        Known *known;
        Host *hosts;
        Host *by_raft; /* of those with a dialed session */
        TAILQ_HEAD(, Host) changed;
        PeerSession *sessions; /* all, by number: lingering ones too */
        PeerSession *pending;  /* accepted ones before their hello, oldest first */
        unsigned n_sessions;
        uint64_t last_number;
        struct {
                PeerHandler handler;
                void *userdata;
        } handlers[_PEER_FRAME_MAX];
        PeerObserver *observers;
        struct ObserverWalk *walks;
        Deferred tell, gone;
        Timer tick;
        bool closing;
        void (*closed)(void *userdata);
        void *closed_userdata;
        uint64_t complaints[PEERS_COMPLAINTS_KEPT]; /* what was logged of those who dialed us, by hash */
        unsigned next_complaint;
};

/* -- hosts.c -- */

Host *host_find(const Peers *peers, const char *machine_id);
/* Finds it or makes it: 0 or -ENOMEM. */
int host_get(Peers *peers, const char *machine_id, Host **ret);
/* Without sessions and addresses. */
void peer_host_free(Host *host);
/* Something about it is to be told, later, from the loop. */
void host_changed(Host *host);
void host_on_contact(Host *host, uint64_t when_ms);
/* Found by Raft id while we have a session to it: after a change of 'dialed' or 'hello'. */
void host_index(Host *host);
void host_unindex(Host *host);
/* A clone was refused: 'host' is the one whose id it bears. */
void host_clone_refused(Host *host);
const char *handshake_name(const PeerHandshake *hello);

/* Tells of changed hosts: on_change() of all. */
void peers_notify(void *userdata);
/* Of one: 'ended' is the session that did, or NULL: the host changed. */
void peers_notify_observers(Peers *peers, const char *machine_id, PeerSession *ended);

void known_set_host(Known *k, Host *host);
/* Says once why there is no session, and keeps it for peers_state(). */
void known_complain(Known *k, unsigned cause, const char *sentence);
/* Dials after a pause: a given one, one that grows each time, hardly any. */
void known_wait(Known *k, uint64_t delay_ms);
void known_retry(Known *k);
void known_redial(Known *k);

/* -- admission.c -- */

/* Takes over 'stream': one that we dialed for 'known', or (NULL) one that was accepted. */
int peers_begin(Peers *peers, Stream *stream, Known *known);
