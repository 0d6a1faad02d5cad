/* One session: frames over one stream, its hello, its limits, its end.
 *
 * The life of a session: TLS (if there is a key), greeting, then perhaps judged (its reading stands still
 * while the rule of clones asks the others), open, ended. The dialing side says its hello first; the
 * accepting side answers with its own when it lets the other in, or with a refusal. What the hellos mean, and
 * who may come in, admission.c decides.
 *
 * A stranger costs us this struct, one timer and at most a hello's bytes, for at most SESSION_HANDSHAKE_MS.
 */
#pragma once

#include "base/table.h"
#include "base/sizes.h"
#include "peers/frame.h"

enum {
        SESSION_HANDSHAKE_MS = 5000, /* to be open, from the connection on, TLS included */
        SESSION_STALL_MS = 5000,     /* a full queue that makes no progress for so long: cut */
        SESSION_LINGER_MS = 1000,    /* for the last words to leave */
};

typedef enum SessionState {
        SESSION_TLS,
        SESSION_HANDSHAKE,
        SESSION_JUDGED,
        SESSION_OPEN,
        SESSION_ENDED,
} SessionState;

/* What waits for a slow connection goes in this order; within a lane in order of sending. Beats and what Raft
 * says must not stand behind a checkpoint or a flood of states: hosts would be lost that live. */
typedef enum SessionPriority {
        PRIORITY_RAFT,
        PRIORITY_USERS,
        PRIORITY_STATES,
        _PRIORITY_MAX
} SessionPriority;

typedef struct PriorityClass {
        struct SessionFrame *first, **last;
} PriorityClass;

/* Called with the session's own state in order; each may end the session. */
typedef struct SessionEvents {
        /* A valid hello is in s->hello: the first one (state SESSION_HANDSHAKE: answer by open, judge, refuse
         * or cut), or a changed one of an open session, with the same machine, boot and nonce. */
        void (*on_handshake)(void *userdata, PeerSession *s);
        void (*on_frame)(void *userdata, PeerSession *s,
                         const Frame *frame); /* of other types than the session's own */
        void (*on_pong)(void *userdata, PeerSession *s);
        void (*on_refused)(void *userdata, PeerSession *s, Refusal cause,
                           const char *sentence);                           /* on_end follows */
        void (*on_bye)(void *userdata, PeerSession *s, const char *reason); /* on_end follows */
        /* Once. 'error' 0: orderly. The session lingers without events until its stream is closed. */
        void (*on_end)(void *userdata, PeerSession *s, int error, const char *reason);
        void (*on_gone)(void *userdata, PeerSession *s); /* its memory goes now */
} SessionEvents;

struct PeerSession {
        SessionState state;
        bool dialed;
        bool has_handshake; /* 'hello' is what the other side said */
        bool working;       /* inside the loop over its frames */
        bool closed;        /* stream_close() was called */
        PeerHandshake hello;
        const PeerHandshake *self; /* borrowed */
        const SessionEvents *events;
        void *userdata;
        Loop *loop;              /* borrowed */
        Stream *stream;          /* NULL during TLS and after its end */
        TlsHandshake *handshake; /* during TLS */
        unsigned refs; /* the stream or handshake, and each function of ours that still works on it */
        Timer timer;   /* for the hello; after the end, for lingering */
        Timer stall;
        uint64_t stalled_sent; /* what had left when the stall timer was started */
        uint64_t written;      /* bytes ever given to the stream */
        PriorityClass
                lanes[_PRIORITY_MAX]; /* frames that are not the stream's yet, since it has enough ... */
        size_t n_waiting;             /* ... and their bytes */
        uint64_t said;                /* hash of the last hello of ours */
        uint8_t *bytes;               /* a frame that is not whole yet */
        size_t n_bytes, capacity;
        uint64_t begun_ms, contact_ms;
        char address[ADDRESS_SIZE]; /* of the other end */

        /* Of peers_internal.h: */
        uint64_t number;
        struct Host *host;   /* while judged or open */
        struct Known *known; /* of a dialed session */
        bool pending;
        UT_hash_handle hh, hh_pending;
};

/* Takes over 'stream' (also when it fails: -ENOMEM). No event comes from inside. 'self' is said when a hello
 * is due. */
int session_new(PeerSession **ret, Loop *loop, Stream *stream, const TlsKey *key, bool dialed,
                const PeerHandshake *self, const SessionEvents *events, void *userdata);

/* The other side may come in: says our hello if it was dialed to us, and reads on. */
void session_open(PeerSession *s);
/* Nothing is read from it until session_open(), or its end. */
void session_judge(PeerSession *s);

/* -ENOTCONN, -EMSGSIZE, -ENOBUFS, -ENOMEM. No event comes from inside. */
int session_send(PeerSession *s, PeerFrame type, const void *payload, size_t size);
int session_ping(PeerSession *s);
int session_send_handshake(PeerSession *s);

/* Three ways to end a session; harmless when it has ended. on_end comes from inside. */
void session_refuse(PeerSession *s, Refusal cause, const char *sentence);
void session_bye(PeerSession *s, const char *reason);
void session_cut(PeerSession *s, int error, const char *reason);

/* Since the other kernel was heard, by its acknowledgements or by what it sent. */
uint64_t session_silent_ms(const PeerSession *s);
