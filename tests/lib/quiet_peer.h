/* One host made of the daemon's rooms: store, registry, membership, doors; in one thread, and in a time that
 * goes on only when it is told to. At its doors and on its sessions is whoever plays them: nothing of it is a
 * real network. */
#pragma once

#include "base/text.h"
#include "fleetd/api/server.h"
#include "fleetd/membership/membership.h"
#include "peers/frame.h"
#include "tests/lib/memory_disk.h"

enum { STILL_WORKS_MAX = 64 };

typedef struct QuietPeer QuietPeer;

/* An end of a connection, that we hold. */
typedef struct QuietPeerWire {
        Stream base;
        QuietPeer *host;
        bool open, closing; /* by the host: closing, and gone */
        Writer said;        /* by the host */
        size_t heard;       /* of that */
        Deferred end;
} QuietPeerWire;

struct QuietPeer {
        Loop loop;
        uint64_t now_ms;
        Work *works[STILL_WORKS_MAX];
        size_t n_works;
        Network network;
        struct {
                void (*accepted)(void *userdata, Stream *s);
                void *userdata;
        } doors[3]; /* socket, loopback, the hosts' */
        struct {
                void (*done)(void *userdata, Stream *s, int error); /* NULL: it dials nobody */
                void *userdata;
        } dial;
        MemoryDisk disk;
        char *scratch, *tree_path;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        Membership *membership;
        Api *api;
        QuietPeerWire client, asking,
                asked;       /* a client's; the other host's sessions: that it dialed, that we dialed */
        const char *foreign; /* a unit of this name is the host's, as its agent would say; NULL: none */
        bool closed;
        bool kernels_unknown; /* the kernels of other hosts are not asked: only frames are signs of life */
};

#define STILL_ID       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define STILL_OTHER_ID "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* Leads, alone, when this returns; with 'joins' it waits to be let in. A failure ends the program. */
QuietPeer *quiet_peer_new(bool joins);
QuietPeer *quiet_peer_free(QuietPeer *h); /* returns NULL */

void quiet_peer_run(QuietPeer *h); /* all that can happen without time going on */
void quiet_peer_pass(QuietPeer *h, uint64_t ms);

/* -- A client -- */

/* Connects, says 'request', and returns what was answered by then, with a zero byte behind it; borrowed until
 * the next. */
const Writer *quiet_peer_ask(QuietPeer *h, ApiListener door, const void *request, size_t size);
/* The client leaves; a request that still waits goes with it. */
void quiet_peer_leave(QuietPeer *h);

/* -- Another host: "10.0.0.2:2380", which is replica 2 -- */

/* Has a session each way, of the same cluster; false: it was refused. What was there before ends. */
bool quiet_peer_meet(QuietPeer *h);
/* Its sessions end without a word. */
void quiet_peer_part(QuietPeer *h);
/* The session that it dialed ends without a word. */
void quiet_peer_hang_up(QuietPeer *h);
/* Its kernel refuses the connection that the host asks for; false: it asks for none. */
bool quiet_peer_refuse(QuietPeer *h);
/* Says a frame on the session that it may come on; false: that one is over. */
bool quiet_peer_say(QuietPeer *h, PeerFrame type, const void *payload, size_t size);
/* The next frame that the host said on 'wire'; its payload is borrowed until the host says more. False: that
 * was all. */
bool quiet_peer_hear(QuietPeerWire *wire, Frame *ret);
