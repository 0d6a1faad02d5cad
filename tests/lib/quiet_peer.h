/* One host of the daemon's components: store, registry, membership and listeners, in one thread and in
 * virtual time. The test simulates the clients of its listeners and the peers of its sessions, without a real
 * network. */
#pragma once

#include "base/text.h"
#include "fleetd/api/api.h"
#include "fleetd/sessions/membership.h"
#include "peers/frame.h"
#include "tests/lib/components.h"
#include "tests/lib/memory_disk.h"

enum {
        QUIET_PEER_WORKS_MAX = 64,
        QUIET_PEER_MORE = 4,
};

typedef struct QuietPeer QuietPeer;

/* The end of a connection that the test holds. */
typedef struct QuietPeerWire {
        Stream base;
        QuietPeer *host;
        bool open, closing; /* by the host: closing, and gone */
        Writer said;        /* by the host */
        size_t n_read;      /* of that */
        bool stuck;         /* the other end does not read */
        Deferred end;
} QuietPeerWire;

struct QuietPeer {
        Loop loop;
        uint64_t now_ms;
        int64_t wall_jump_ms; /* added to the wall clock */
        Work *works[QUIET_PEER_WORKS_MAX];
        size_t n_works;
        Network network;
        struct {
                void (*accepted)(void *userdata, Stream *s);
                void *userdata;
        } listeners[3]; /* socket, loopback, the hosts' */
        struct {
                void (*done)(void *userdata, Stream *s, int error); /* NULL: it dials no host */
                void *userdata;
        } dial;
        MemoryDisk disk;
        char *scratch, *tree_path;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        char id[MACHINE_ID_SIZE];
        Settings settings;
        ComponentHost components;
        Membership *membership;
        Api *api;
        QuietPeerWire client;
        QuietPeerWire asking, asked;         /* sessions that the other host, and this host, dialed */
        QuietPeerWire third;                 /* the session that the third host dialed */
        QuietPeerWire more[QUIET_PEER_MORE]; /* the same of further hosts */
        const char *foreign;                 /* a conflicting unit of this name is on the host; NULL: none */
        const char *own;                     /* the same of one that only systemd knows */
        struct {
                Systemd base;
                SystemdUnit unit;
                SystemdListed done; /* NULL: it is not asked */
                void *userdata;
                Deferred answer;
        } systemd;
        uid_t uid; /* of the client at the socket, and its group */
        bool closed;
        bool attached;        /* the other host has no replica */
        bool kernels_unknown; /* kernels of other hosts give no sign of life, frames only */
};

#define QUIET_PEER_ID       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define QUIET_PEER_OTHER_ID "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define QUIET_PEER_THIRD_ID "cccccccccccccccccccccccccccccccc"

/* Leads alone when this returns; with 'joins', it waits for its admission. A failure ends the program. */
QuietPeer *quiet_peer_new(bool joins);
QuietPeer *quiet_peer_free(QuietPeer *h); /* returns NULL */

/* Reload LocalRights= with this text; NULL: none. */
void quiet_peer_grant(QuietPeer *h, const char *text);

void quiet_peer_run(QuietPeer *h); /* run all that is due without an advance of time */
void quiet_peer_pass(QuietPeer *h, uint64_t ms);

/* -- A client -- */

/* Connect, send 'request', and return the answer so far, terminated by a zero byte; borrowed until the next
 * call. */
const Writer *quiet_peer_request(QuietPeer *h, ApiListener listener, const void *request, size_t size);
/* Close the client's connection, and with it a request that still waits. */
void quiet_peer_leave(QuietPeer *h);

/* -- Another host: "10.0.0.2:2380", which is replica 2; "10.0.0.3:2380" can be dialed, too -- */

/* Open a session in each direction, of the same cluster; false: rejected. Earlier sessions end. */
bool quiet_peer_meet(QuietPeer *h);
/* A third host, without a replica, opens a session; false: rejected. */
bool quiet_peer_attach(QuietPeer *h);
/* The same of a further one, "0000..." to "3333...". */
bool quiet_peer_attach_more(QuietPeer *h, unsigned i);
/* The sessions of the other host end without an announcement. */
void quiet_peer_part(QuietPeer *h);
/* The session that it dialed ends without an announcement. */
void quiet_peer_hang_up(QuietPeer *h);
/* Its kernel rejects the connection that the host requests; false: there is no request. */
bool quiet_peer_refuse(QuietPeer *h);
/* The connection that the host requests is there; false: there is no request. */
bool quiet_peer_connects(QuietPeer *h, QuietPeerWire *wire);
/* Send a frame on the session that carries its type; false: the session has ended. */
bool quiet_peer_send(QuietPeer *h, PeerFrame type, const void *payload, size_t size);
/* The same on one of the sessions. */
bool quiet_peer_send_on(QuietPeerWire *wire, PeerFrame type, const void *payload, size_t size);
/* The same, before the next turn of the loop. */
void quiet_peer_put_on(QuietPeerWire *wire, PeerFrame type, const void *payload, size_t size);
/* Return the next frame that the host sent on 'wire'; the payload is borrowed until the host sends more.
 * False: there is none. */
bool quiet_peer_receive(QuietPeerWire *wire, Frame *ret);
