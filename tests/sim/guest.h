/* A host that the test plays with real sessions, beside whole daemons, and what the daemons have sent to each
 * other. For programs with tokens.c and -Wl,--wrap=peer_reply. */
#pragma once

#include "peers/session.h"
#include "tests/sim/attached.h"

enum {
        GUEST_MEMBERS = 3,
        GUEST_ATTACHED = 5, /* among the machines, as the next one */
        GUEST = 6,
};

#define GUEST_ADDRESS "10.0.0.7:2380"

/* The first frame of each type that the daemons have sent. */
typedef struct Recorded {
        uint8_t *payload;
        size_t size;
} Recorded;

extern Recorded recorded[PEER_FRAME_TYPES];
extern uint64_t sent_bytes; /* of frames, by the daemon of the running event, if it is that of 'sent_by' */
extern const SimMachine *sent_by;

/* The host that is played: it has joined, and its daemon is gone. */
typedef struct SimGuestHost {
        SimMachine *m;
        TlsCredentials *none, *own; /* those of a joining host, and its certificate */
        TlsPin root;                /* of its token */
} SimGuestHost;

/* Found a cluster of three members and a restricted attached host, which runs a.service, and record frames.
 */
void sim_guest_host_new(SimGuestHost *ret);
/* Give it the Raft ID of a replica. */
void sim_guest_host_admit(const SimGuestHost *host);
void sim_guest_host_done(SimGuestHost *host); /* with the cluster */

typedef struct SimGuest {
        SimMachine *to; /* it dials this one */
        WorldLoop *loop;
        Peers *peers;
        bool closed;
} SimGuest;

/* 'root': of a joining host; NULL: a member. */
void sim_guest_open(SimGuest *g, SimMachine *m, SimMachine *to, const TlsCredentials *credentials,
                    const TlsPin *root, uint64_t raft_id);
void sim_guest_close(SimGuest *g, SimMachine *m);
PeerSession *sim_guest_session(SimGuest *g); /* dialed; waits for it */

int __real_peer_reply(PeerSession *s, PeerFrame type, const void *payload, size_t size);
