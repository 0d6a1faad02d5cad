/* Requests that need the whole cluster view, on a host without a replica: they are forwarded to the replica
 * in use, whose answer goes to the client; a member forwards to the leader what only that can do. The copies
 * of a body are wiped. For fleetd/api and routes of components.
 *
 * A request that only reads is sent again to the next replica if the first one is lost before it has
 * answered. A change is sent once: its result is unknown then. A stream is cut, and its client resumes. */
#pragma once

#include "fleetd/api/forward_frames.h"
#include "fleetd/api/request.h"

#define FORWARD_UNKNOWN "the replica was lost: the change may have taken effect, or may still do so"

enum {
        FORWARDS_MAX = 64, /* requests of one host that a replica has */
        /* Commands of operators; streams of these; the same of requests for keys or of other users. */
        FORWARD_PART_MAX = FORWARDS_MAX / 4,
        FORWARDS_WAITING_MAX = 1000,           /* commands that wait, of each of the two */
        FORWARDS_BYTES_MAX = 32 * 1024 * 1024, /* of all requests of each */
        FORWARD_WAIT_MS = 2000,                /* for a replica */
        FORWARD_MOVE_MS = 5000,                /* for the next one: an election may come first */
        FORWARD_SILENT_MS = 1500,              /* a replica that does not answer heartbeats is lost */
        FORWARD_ANSWER_MS = 60000,             /* for the head of an answer */
        FORWARD_TRIES_MAX = 8,                 /* replicas that one request is sent to */
        FORWARD_LOOK_MS = 50,                  /* between two looks at requests that wait */
        FORWARD_WINDOW = 256 * 1024,           /* bytes by which a replica may be ahead of the client */
};

#define FORWARD_TOO_MANY "this host sends more than 200 changes a second, which is the limit"

/* Forward the request, which has a route. It is answered, here or by the replica. */
void forward_request(Request *request);
/* Return whether the request changes nothing. */
bool forward_reads(const Request *request);
/* Return whether the request is for keys of users. */
bool forward_is_for_keys(KvBytes path);
/* Return whether the replica in use answers. */
bool forward_has_replica(const Api *api);

int forward_new(Api *api);
void forward_free(Api *api); /* the requests have ended */
