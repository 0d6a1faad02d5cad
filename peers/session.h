/* One session: frames over one stream, from the handshake to the end; its limits and its queue.
 *
 * States: TLS (if there is a key), handshake, perhaps held (reading pauses while the clone check runs), open,
 * ended. The dialing host sends its handshake first. The accepting host answers with its own when it admits
 * the other, or with a rejection. admission.c interprets the handshakes.
 *
 * An unknown host can occupy this struct, one timer and the bytes of one handshake, for SESSION_HANDSHAKE_MS,
 * and without a byte for SESSION_FIRST_BYTE_MS. */
#pragma once

#include <sys/queue.h>

#include "base/table.h"
#include "peers/peers.h"

enum {
        SESSION_HANDSHAKE_MS = 5000,  /* from the connection to the end of the handshake, TLS included */
        SESSION_FIRST_BYTE_MS = 1000, /* to the first byte from a host that dialed */
        SESSION_STALL_MS = 5000,      /* a full queue without progress for this time ends the session */
        SESSION_LINGER_MS = 1000,     /* time for the last frame to leave */
        SESSION_SILENT_MS = 250,      /* without a byte, until the kernel is asked for its acknowledgements */

        /* In one turn of the loop a session begins no further frame after so many, or after so much work, in
         * bytes (io/turn.h). Reading pauses, and the next turn continues. Frames that only replicas may send
         * count, and are never postponed: elections depend on them, and Raft limits them itself. */
        SESSION_TURN_FRAMES = 64,
        SESSION_TURN_WORK = 1024 * 1024,
};

typedef enum SessionState {
        SESSION_TLS,
        SESSION_HANDSHAKE,
        SESSION_HELD, /* by session_hold() */
        SESSION_OPEN,
        SESSION_ENDED,
} SessionState;

/* Called with a consistent session; each callback may end the session. */
typedef struct SessionEvents {
        /* s->handshake is valid: the first one (state SESSION_HANDSHAKE: call session_open(), session_hold(),
         * session_reject() or session_cut()), or a changed one of an open session, with the same machine id,
         * boot id and nonce. */
        void (*on_handshake)(void *userdata, PeerSession *s);
        void (*on_frame)(void *userdata, PeerSession *s, const Frame *frame); /* of a registered type */
        void (*on_pong)(void *userdata, PeerSession *s);
        void (*on_rejected)(void *userdata, PeerSession *s, Rejection cause,
                            const char *message);                           /* on_end follows */
        void (*on_bye)(void *userdata, PeerSession *s, const char *reason); /* on_end follows */
        /* Called once. 'error' is 0 after an orderly end. The session then lingers without events until its
         * stream is closed. */
        void (*on_end)(void *userdata, PeerSession *s, int error, const char *reason);
        void (*on_free)(void *userdata, PeerSession *s);
} SessionEvents;

/* Shared by all sessions of one Peers; borrowed by each. */
typedef struct SessionContext {
        Loop *loop;
        TlsOptions tls; /* of accepted sessions. Neither key nor credentials: no TLS */
        const PeerHandshake *self;
        const PeerFrameRule *types; /* PEER_FRAME_TYPES of them, by number; direction 0: not registered */
        const SessionEvents *events;
        void *userdata;
        uint64_t *sent; /* NULL, or the memory of all frames that were ever given to sessions, in bytes */
        bool key_ended; /* the key of 'tls' proves nothing any more: the other host receives the reason */
} SessionContext;

typedef STAILQ_HEAD(SessionQueue, SessionFrame) SessionQueue;

struct PeerSession {
        SessionState state;
        bool dialed;
        bool has_handshake;  /* 'handshake' was received */
        bool working;        /* inside the loop over received frames */
        bool closed;         /* stream_close() was called */
        bool requested;      /* a joining host has sent its request */
        bool has_input;      /* a byte has arrived; during TLS, see tls_has_input() */
        bool is_replica;     /* frames of PEER_FROM_REPLICAS are accepted */
        bool rejected;       /* by the other host, with a reason that is reported */
        bool used_key;       /* dialed with the key file, although this host has a certificate */
        TlsPeer peer;        /* how the other host was authenticated */
        TlsPin own_pin;      /* of the certificate with which it was dialed; zero: none */
        unsigned n_rejected; /* sessions with the present key that were to replace it */
        PeerHandshake handshake;
        const SessionContext *context; /* borrowed */
        Stream *stream;                /* NULL during TLS and after its end */
        TlsHandshake *tls;             /* during TLS */
        unsigned refs;         /* the stream or 'tls', and each function of session.c that uses the session */
        Timer timer;           /* for the handshake; after the end, for lingering */
        Timer stall;           /* while the queue is full */
        uint64_t stalled_sent; /* bytes sent when the stall timer was started */
        uint64_t written;      /* bytes ever given to the stream */
        SessionQueue queues[_PEER_PRIORITY_MAX]; /* frames that wait while the stream has enough */
        size_t waiting_size;                     /* memory of these frames, in bytes */
        uint64_t sent_handshake;                 /* hash of the last handshake that was sent */
        uint8_t *bytes;                          /* an incomplete frame, or frames for the next turn */
        size_t begin, n_bytes, capacity;         /* those before 'begin' were processed */
        Deferred resume;                         /* while frames wait for the next turn */
        uint64_t turn, turn_work; /* number of a turn, and its work for this session, in bytes */
        unsigned turn_frames;
        uint64_t begun_ms, contact_ms;
        char address[ADDRESS_SIZE]; /* of the other end */

        /* Of peers_internal.h: */
        uint64_t number;
        uintptr_t notes[_PEER_NOTE_MAX];
        struct PeerHost *host;      /* while held or open */
        struct KnownAddress *known; /* of a dialed session */
        bool pending;
        bool is_stranger; /* its address was not trusted when it connected */
        uint64_t source;  /* strangers_key() of its address */
        UT_hash_handle hh, hh_pending;
};

/* Return whether the host that dialed has sent a byte, also during TLS. */
bool session_has_input(const PeerSession *s);

/* Take 'stream', also on failure (-ENOMEM). No event is called from inside. 'use_key': dial with the key
 * file, also if there are credentials. */
int session_new(PeerSession **ret, const SessionContext *context, Stream *stream, bool dialed, bool use_key);

/* Return whether the other host is a joining host. */
static inline bool session_is_joining(const PeerSession *s) {
        return s->peer.kind == TLS_PEER_ANONYMOUS;
}
/* Return the machine of the session, as far as it is authenticated; NULL: not at all. Borrowed. */
const char *session_machine(const PeerSession *s);
/* End the session of a joining host after this time. */
void session_limit(PeerSession *s, uint64_t ms);

/* Admit the other host: send the handshake if it dialed, and continue reading. */
void session_open(PeerSession *s);
/* Stop reading until session_open() or the end. */
void session_hold(PeerSession *s);

/* Write the handshake of this host; with 'changed', only if it differs from the last one. As peer_reply(): no
 * event is called from inside. */
int session_write_handshake(PeerSession *s, bool changed);

/* Three ways to end a session; without effect after the end. on_end is called from inside. */
void session_reject(PeerSession *s, Rejection cause, const char *message);
void session_bye(PeerSession *s, const char *reason);
void session_cut(PeerSession *s, int error, const char *reason);

/* Return the time since the last sign of the other kernel: an acknowledgement, or data. Below
 * SESSION_SILENT_MS, acknowledgements do not count. */
uint64_t session_silent_ms(const PeerSession *s);
