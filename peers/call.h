/* Requests between two hosts that have an answer: numbers, credit for a stream, cancel, deadline, end of the
 * session.
 *
 * A type names its frames. All begin with the number of the call, which the asking host chooses. This module
 * finds the Call or the Served of a frame; its user writes and reads what follows the number, decides where a
 * call is sent, and what its loss means. Both structs belong to the user. */
#pragma once

#include "base/bytes.h"
#include "base/table.h"
#include "peers/peers.h"

typedef struct Call Call;
typedef struct Served Served;

enum { CALL_ANSWERS_MAX = 3 };

typedef struct CallType {
        size_t number_size;       /* bytes */
        PeerFrame cancel, credit; /* 0: none. A number; a number and a u64 */

        /* At the host that asks. */
        struct CallAnswer {
                PeerFrame type;
                size_t before; /* bytes before the number: a version */
                void (*take)(Call *call, const void *payload, size_t size);
        } answers[CALL_ANSWERS_MAX];
        void (*on_lost)(Call *call); /* its session has ended: it is under way no more. Deferred */
        void (*on_due)(Call *call);  /* the time of call_wait() is over */

        /* At the host that is asked. NULL: this one is not. */
        void (*on_credit)(Served *s);
        void (*on_gone)(Served *s); /* it was cancelled, or its session has ended: remove it */
} CallType;

/* The requests of one session. */
typedef struct ServedSession {
        uint64_t number;
        size_t n;
        TAILQ_HEAD(, Served) served;
        uint64_t round; /* this and 'held' are the user's; 0 at first */
        size_t held[2];
        UT_hash_handle hh;
} ServedSession;

/* The calls of one type, in both directions. */
typedef struct Calls {
        const CallType *type;
        Loop *loop;   /* borrowed, as is 'peers' */
        Peers *peers; /* NULL: not open */
        uint64_t numbers;
        TAILQ_HEAD(, Call) sent;     /* those under way, in the order of sending */
        TAILQ_HEAD(, Served) served; /* in the order of arrival */
        ServedSession *sessions;     /* of these: table by number */
        PeersObserver observer;
        Deferred ended; /* a session has ended */
} Calls;

void calls_open(Calls *calls, Loop *loop, Peers *peers, const CallType *type);
void calls_close(Calls *calls); /* all have ended; also if it is not open */

/* -- The host that asks -- */

struct Call {
        Calls *calls;
        uint64_t number, session; /* session 0: it is not under way */
        size_t window;            /* bytes by which the other host may be ahead of the reader; 0: unlimited */
        uint64_t granted;         /* total of bytes that may be sent */
        Timer due;
        TAILQ_ENTRY(Call) sent;
};

void call_init(Call *call, Calls *calls, size_t window);
/* Return a new number, for the frame of the next call_send(). */
uint64_t call_number(Call *call);
/* Send the request, which has the number, and the first credit. 0: it is under way. */
int call_send(Call *call, PeerSession *session, PeerFrame type, const Writer *w);
/* Call on_due() after that time, unless the call ends before, or this is called again. 0 or -ENOMEM. */
int call_wait(Call *call, uint64_t ms);
/* The reader has taken 'taken' bytes of the stream: give credit for a window ahead, each time that it has
 * taken half of it. An error is that of the session. */
int call_grant(Call *call, uint64_t taken);
int call_credit(Call *call, uint64_t total); /* the same credit, without a window */
void call_end(Call *call);                   /* the answer is complete, or is not waited for */
void call_cancel(Call *call);                /* call_end(), and tell the other host, if it is under way */

/* -- The host that is asked: its user registers the handlers of requests -- */

struct Served {
        Calls *calls;
        ServedSession *session; /* NULL: it was removed */
        uint64_t number;
        uint64_t sent, credit; /* bytes of a stream, counted by the user; the total that may be sent */
        TAILQ_ENTRY(Served) all, of_session;
};

const ServedSession *served_of(const Calls *calls, const PeerSession *session); /* NULL: it has no requests */
Served *served_find(const Calls *calls, const PeerSession *session,
                    uint64_t number); /* the first one, or NULL */
/* Add a request. 0 or -ENOMEM. */
int served_add(Served *s, Calls *calls, const PeerSession *session, uint64_t number);
void served_remove(Served *s);                /* also one that was removed */
PeerSession *served_session(const Served *s); /* NULL: it has ended */
int served_send(const Served *s, PeerFrame type, const Writer *w);
