#include "peers/session.h"

enum {
        SMALL_FRAME = 4096,         /* bytes; a frame up to this size is assembled on the stack */
        KEPT_BYTES = 65536,         /* a larger buffer is freed when it is empty */
        PING_SIZE = 8,              /* bytes of a ping that the pong returns */
        STREAM_ENOUGH = 128 * 1024, /* bytes given to the stream at once; further frames wait in a queue */
        ALLOCATION_OVERHEAD = 24,   /* bytes that malloc() adds at most to a small allocation */
        SENDING_OVERHEAD = 256,     /* bytes that a stream and TLS add at most to a frame that waits there */
};

/* A frame that waits in a queue. */
typedef struct SessionFrame {
        STAILQ_ENTRY(SessionFrame) frames;
        PeerFrame type;
        size_t size;
        uint8_t payload[];
} SessionFrame;

/* Return the memory of a waiting frame: for a small one, far more than its bytes on the wire. */
static size_t frame_memory(size_t size) {
        return sizeof(SessionFrame) + size + ALLOCATION_OVERHEAD;
}

/* Small frames are wiped, because some contain the cluster key or a token. */
static void session_drop_first(SessionQueue *queue) {
        SessionFrame *f = STAILQ_FIRST(queue);

        if (f->size <= SMALL_FRAME)
                explicit_bzero(f->payload, f->size);
        STAILQ_REMOVE_HEAD(queue, frames);
        free(f);
}

static PeerSession *session_unref(PeerSession *s) {
        if (!s || --s->refs > 0)
                return NULL;

        assert(s->state == SESSION_ENDED);
        timer_stop(&s->timer);
        timer_stop(&s->stall);
        s->context->events->on_free(s->context->userdata, s);
        for (size_t i = 0; i < _PEER_PRIORITY_MAX; i++)
                while (!STAILQ_EMPTY(&s->queues[i]))
                        session_drop_first(&s->queues[i]);
        free(s->bytes);
        free(s);
        return NULL;
}
DEFINE_CLEANUP(PeerSession *, session_unref);

/* Guards a function that uses a session after calling out. */
#define _keep_ _cleanup_(session_unrefp) _unused_
static PeerSession *session_ref(PeerSession *s) {
        s->refs++;
        return s;
}

static void session_close_stream(PeerSession *s) {
        if (s->tls) {
                tls_cancel(TAKE_PTR(s->tls));
                session_unref(s);
        } else if (s->stream && !s->closed) {
                s->closed = true;
                stream_close(s->stream);
        }
}

static void session_end(PeerSession *s, int error, const char *reason) {
        assert(s->state != SESSION_ENDED);
        s->state = SESSION_ENDED;
        timer_stop(&s->timer);
        timer_stop(&s->stall);
        deferred_cancel(&s->resume);
        s->context->events->on_end(s->context->userdata, s, error, reason);
}

void session_cut(PeerSession *s, int error, const char *reason) {
        _keep_ PeerSession *keep = NULL;

        if (s->state == SESSION_ENDED)
                return;

        keep = session_ref(s);
        session_end(s, error, reason);
        session_close_stream(s);
}

/* -- Writing -- */

/* Write a frame as one piece: after a part of a frame, the receiver would misread all that follows. */
static int session_write(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        uint8_t small[FRAME_HEADER_SIZE + SMALL_FRAME];
        size_t frame_size = FRAME_HEADER_SIZE + size;
        uint8_t *bytes = small;
        Shared *shared = NULL;
        int r;

        if (!s->stream || s->closed)
                return -ENOTCONN;

        if (size > SMALL_FRAME) {
                shared = malloc(sizeof(Shared) + frame_size);
                if (!shared)
                        return -ENOMEM;
                *shared = (Shared) { .refs = 1, .size = frame_size };
                bytes = shared->bytes;
        }
        frame_header(bytes, type, size);
        if (size > 0)
                memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
        if (shared) {
                r = stream_write_shared(s->stream, shared);
                shared_unref(shared);
        } else {
                r = stream_write(s->stream, small, frame_size);
                explicit_bzero(small, frame_size);
        }
        if (r < 0)
                return r == -EPIPE ? -ENOTCONN : r;

        s->written += frame_size;
        return 0;
}

static void session_on_stall(void *userdata) {
        PeerSession *s = userdata;
        uint64_t sent = s->written - stream_queued(s->stream);

        if ((int64_t) (sent - s->stalled_sent) <= 0) {
                session_cut(s, -ETIMEDOUT, "send queue full for 5 s without progress");
                return;
        }

        s->stalled_sent = sent;
        if (peer_queued(s) > PEER_QUEUE_MAX / 2)
                (void) timer_start(&s->stall, s->context->loop, SESSION_STALL_MS);
}

/* Write waiting frames in order of priority, until the stream has enough; with 'all', write all of them. */
static int session_pump(PeerSession *s, bool all) {
        SessionFrame *f;

        for (size_t i = 0; i < _PEER_PRIORITY_MAX; i++)
                while ((f = STAILQ_FIRST(&s->queues[i])) &&
                       (all || stream_queued(s->stream) < STREAM_ENOUGH)) {
                        TRY(session_write(s, f->type, f->payload, f->size));
                        s->waiting_size -= frame_memory(f->size);
                        session_drop_first(&s->queues[i]);
                }
        return 0;
}

static int session_queue(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        SessionFrame *f = malloc(sizeof(*f) + size);

        if (!f)
                return -ENOMEM;
        f->type = type;
        f->size = size;
        if (size > 0)
                memcpy(f->payload, payload, size);
        STAILQ_INSERT_TAIL(&s->queues[s->context->types[type].priority], f, frames);
        s->waiting_size += frame_memory(size);
        return 0;
}

int peer_reply(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        if (s->state != SESSION_OPEN)
                return -ENOTCONN;
        if (size > PEER_FRAME_MAX)
                return -EMSGSIZE;
        if (s->context->sent)
                *s->context->sent += size + SENDING_OVERHEAD;
        if (peer_queued(s) + frame_memory(size) > PEER_QUEUE_MAX) {
                if (!timer_armed(&s->stall)) {
                        s->stalled_sent = s->written - stream_queued(s->stream);
                        (void) timer_start(&s->stall, s->context->loop, SESSION_STALL_MS);
                }
                return -ENOBUFS;
        }

        TRY(s->waiting_size > 0 ? session_pump(s, false) : 0);
        return s->waiting_size == 0 && stream_queued(s->stream) < STREAM_ENOUGH ?
                       session_write(s, type, payload, size) :
                       session_queue(s, type, payload, size);
}

/* A host without a certificate gets what it needs to join: the state of this host is no matter of strangers.
 */
int session_write_handshake(PeerSession *s, bool changed) {
        PeerHandshake self = *s->context->self;
        _cleanup_writer_ Writer w = {};
        uint64_t hash;

        if (session_is_joining(s)) {
                self.lineage = self.start_number = self.raft_id = 0;
                self.boot_id[0] = 0;
        }
        handshake_write(&w, &self);
        if (w.error < 0)
                return w.error;
        hash = XXH3_64bits(w.bytes, w.size);
        if (changed && hash == s->sent_handshake)
                return 0;
        s->sent_handshake = hash;
        return session_write(s, PEER_HANDSHAKE, w.bytes, w.size);
}

/* Send a last frame. Close when the frame has left, or after SESSION_LINGER_MS. */
static void session_finish(PeerSession *s, PeerFrame type, const void *payload, size_t size, int error,
                           const char *reason) {
        _keep_ PeerSession *keep = session_ref(s);
        bool sent;

        if (s->waiting_size > 0 && s->stream && !s->closed)
                (void) session_pump(s,
                                    true); /* frames that cannot be sent any more are lost, as with any end */
        sent = session_write(s, type, payload, size) >= 0;
        session_end(s, error, reason);
        if (sent && !s->closed && s->stream &&
            timer_start(&s->timer, s->context->loop, SESSION_LINGER_MS) >= 0)
                stream_finish(s->stream);
        else
                session_close_stream(s);
}

void session_reject(PeerSession *s, Rejection cause, const char *message) {
        _cleanup_writer_ Writer w = {};

        if (s->state == SESSION_ENDED)
                return;

        rejection_write(&w, cause, message);
        if (w.error < 0)
                session_cut(s, w.error, message);
        else
                session_finish(s, PEER_REJECTED, w.bytes, w.size,
                               cause == REJECTION_VERSION ? -EPROTONOSUPPORT : -EPERM, message);
}

void session_bye(PeerSession *s, const char *reason) {
        /* The other host has opened a session that this one dialed, or is about to: it has the handshake. */
        bool dialed = s->dialed && (s->state == SESSION_HANDSHAKE || s->state == SESSION_HELD);

        if (s->state == SESSION_OPEN || dialed)
                session_finish(s, PEER_BYE, reason, strlen(reason), 0, "closed by this host");
        else
                session_cut(s, 0, "closed by this host");
}

/* -- Reading -- */

static void session_on_handshake(PeerSession *s, const Frame *frame) {
        PeerHandshake handshake;
        Error err = {};
        int r;

        r = handshake_read(frame->payload, frame->size, &handshake, &err);
        if (r == -EPROTONOSUPPORT) {
                session_reject(s, REJECTION_VERSION, err.message);
                return;
        }
        if (r >= 0 && s->has_handshake &&
            (!streq(handshake.machine_id, s->handshake.machine_id) ||
             !streq(handshake.boot_id, s->handshake.boot_id) || handshake.nonce != s->handshake.nonce))
                r = error_set(&err, -EBADMSG, "invalid handshake: identity changed on an open session");
        if (r < 0) {
                session_cut(s, r, err.message);
                return;
        }

        s->handshake = handshake;
        s->has_handshake = true;
        s->context->events->on_handshake(s->context->userdata, s);
}

static void session_on_rejected(PeerSession *s, const Frame *frame) {
        char message[REJECTION_MAX];
        Rejection cause;

        if (rejection_read(frame->payload, frame->size, &cause, message) < 0) {
                session_cut(s, -EBADMSG, "invalid rejection from peer");
                return;
        }

        s->rejected = true;
        s->context->events->on_rejected(s->context->userdata, s, cause, message);
        session_cut(s, -EPERM, message);
}

static void session_on_bye(PeerSession *s, const Frame *frame) {
        char reason[16];

        printable_copy(reason, sizeof(reason), frame->payload, frame->size);
        s->context->events->on_bye(s->context->userdata, s, reason);
        session_cut(s, 0, *reason ? reason : "closed by the peer");
}

static void session_on_component_frame(PeerSession *s, const Frame *frame) {
        PeerDirection direction = frame->type < PEER_FRAME_TYPES ? s->context->types[frame->type].direction :
                                                                   0;

        if (!direction) /* a newer daemon may send unknown types */
                return;
        if (direction & (s->dialed ? PEER_ANSWER : PEER_REQUEST))
                s->context->events->on_frame(s->context->userdata, s, frame);
        else if (s->dialed)
                session_cut(s, -EBADMSG, "request from peer on a session that this host dialed");
        else
                session_cut(s, -EBADMSG, "answer from peer on a session that the peer dialed");
}

static void session_on_frame(PeerSession *s, const Frame *frame) {
        bool first = s->state == SESSION_HANDSHAKE;

        if (first && frame->type != PEER_HANDSHAKE &&
            (!s->dialed || (frame->type != PEER_REJECTED && frame->type != PEER_BYE))) {
                session_cut(s, -EBADMSG, "invalid handshake: not from a fleetd");
                return;
        }

        switch (frame->type) {
        case PEER_HANDSHAKE:
                session_on_handshake(s, frame);
                return;
        case PEER_REJECTED:
                session_on_rejected(s, frame);
                return;
        case PEER_BYE:
                session_on_bye(s, frame);
                return;
        case PEER_PING:
                if (session_is_joining(s)) {
                        session_cut(s, -EACCES, "ping of a host without a certificate");
                        return;
                }
                /* The limit of the queue ends the session of a peer that does not read its answers. */
                (void) peer_reply(s, PEER_PONG, frame->payload, MIN(frame->size, (size_t) PING_SIZE));
                return;
        case PEER_PONG:
                s->context->events->on_pong(s->context->userdata, s);
                return;
        default:
                session_on_component_frame(s, frame);
        }
}

/* Return whether the session may begin this frame in the current turn of the loop. */
static bool session_has_turn(PeerSession *s, const Frame *frame) {
        uint64_t turn = loop_turns(s->context->loop)->n;

        if (s->turn != turn) {
                s->turn = turn;
                s->turn_frames = 0;
                s->turn_work = 0;
        }
        if (s->turn_frames < SESSION_TURN_FRAMES && s->turn_work < SESSION_TURN_WORK)
                return true;
        return s->is_replica && frame->type < PEER_FRAME_TYPES &&
               s->context->types[frame->type].direction & PEER_FROM_REPLICAS;
}

/* Process a frame, and count its work for the session and for the turn. */
static void session_on_counted_frame(PeerSession *s, const Frame *frame) {
        const Turns *turns = loop_turns(s->context->loop);
        uint64_t before = turn_work_bytes(&turns->now);

        loop_count(s->context->loop, 1, frame->size);
        session_on_frame(s, frame);
        s->turn_frames++;
        s->turn_work += turn_work_bytes(&turns->now) - before;
}

/* Process complete frames, as many as this turn permits. Return their size in bytes. */
static size_t session_work(PeerSession *s, const uint8_t *bytes, size_t size) {
        size_t done = 0;

        assert(!s->working);
        if (size == 0)
                return 0;
        s->working = true;
        while (s->state == SESSION_HANDSHAKE || s->state == SESSION_OPEN) {
                bool open = s->state == SESSION_OPEN;
                size_t max = !open                 ? (size_t) HANDSHAKE_MAX :
                             session_is_joining(s) ? (size_t) PEER_JOIN_FRAME_MAX :
                                                     (size_t) PEER_FRAME_MAX;
                Frame frame;
                ssize_t n = frame_take(bytes + done, size - done, max, &frame);

                if (n == 0)
                        break;
                if (n < 0) {
                        session_cut(s, n,
                                    !open                 ? "invalid handshake: not from a fleetd" :
                                    session_is_joining(s) ? "frame of a joining host exceeds 16 KiB" :
                                                            "frame from peer exceeds 12 MiB");
                        break;
                }
                if (!session_has_turn(s, &frame)) {
                        stream_pause(s->stream, true);
                        loop_defer(s->context->loop, &s->resume);
                        break;
                }
                done += n;
                session_on_counted_frame(s, &frame);
        }
        s->working = false;
        return done;
}

static void session_keep(PeerSession *s, const uint8_t *bytes, size_t size) {
        if (s->state == SESSION_ENDED || size == 0)
                return;
        if (s->begin > 0) {
                s->n_bytes -= s->begin;
                memmove(s->bytes, s->bytes + s->begin, s->n_bytes);
                explicit_bzero(s->bytes + s->n_bytes, s->begin);
                s->begin = 0;
        }
        if (GROW(s->bytes, s->capacity, s->n_bytes + size) < 0) {
                session_cut(s, -ENOMEM, "out of memory for a frame from peer");
                return;
        }
        memcpy(s->bytes + s->n_bytes, bytes, size);
        s->n_bytes += size;
}

static void session_work_kept(PeerSession *s) {
        size_t done = session_work(s, s->bytes + s->begin, s->n_bytes - s->begin);

        if (done > 0 && done <= KEPT_BYTES)
                explicit_bzero(s->bytes + s->begin, done);
        s->begin += done;
        if (s->begin < s->n_bytes)
                return;
        s->begin = s->n_bytes = 0;
        if (s->capacity > KEPT_BYTES) {
                free(TAKE_PTR(s->bytes));
                s->capacity = 0;
        }
}

/* Continue with frames that waited for this turn. */
static void session_on_resume(void *userdata) {
        PeerSession *s = userdata;
        _keep_ PeerSession *keep = session_ref(s);

        stream_pause(s->stream, false);
        session_work_kept(s);
}

static void session_on_read(void *userdata, const void *bytes, size_t size) {
        PeerSession *s = userdata;
        _keep_ PeerSession *keep = session_ref(s);

        if (s->state == SESSION_ENDED)
                return;

        s->contact_ms = loop_now_ms(s->context->loop);
        s->has_input = true;
        if (size == 0) {
                session_cut(s, 0,
                            s->state == SESSION_OPEN ? "closed by the peer" :
                                                       "closed by the peer before its handshake");
                return;
        }

        if (s->n_bytes == 0 && s->state != SESSION_HELD) {
                size_t done = session_work(s, bytes, size);

                session_keep(s, (const uint8_t *) bytes + done, size - done);
                return;
        }

        session_keep(s, bytes, size);
        if (s->state != SESSION_ENDED)
                session_work_kept(s);
}

static void session_on_drain(void *userdata) {
        PeerSession *s = userdata;

        timer_stop(&s->stall);
        if (s->state == SESSION_OPEN && session_pump(s, false) < 0)
                session_cut(s, -ENOMEM, "out of memory for waiting frames");
}

static void session_on_close(void *userdata, int error, const char *reason) {
        PeerSession *s = userdata;

        s->closed = true;
        if (s->state != SESSION_ENDED) {
                if (error == 0 || error == -ECONNRESET || error == -EPIPE)
                        s->contact_ms = loop_now_ms(s->context->loop); /* reported by its kernel */
                session_end(s, error, reason && *reason ? reason : strerror(-error));
        }
        s->stream = NULL;
        session_unref(s);
}

static const StreamEvents stream_events = {
        .name = "peer session",
        .on_read = session_on_read,
        .on_drain = session_on_drain,
        .on_close = session_on_close,
};

/* -- Beginning -- */

void session_hold(PeerSession *s) {
        assert(s->state == SESSION_HANDSHAKE);
        s->state = SESSION_HELD;
        stream_pause(s->stream, true);
}

void session_open(PeerSession *s) {
        _keep_ PeerSession *keep = session_ref(s);
        bool held = s->state == SESSION_HELD;
        int r;

        assert(held || s->state == SESSION_HANDSHAKE);
        s->state = SESSION_OPEN;
        timer_stop(&s->timer);
        r = session_write_handshake(s, s->dialed);
        if (r < 0) {
                session_cut(s, r, "Failed to send the handshake");
                return;
        }
        if (held) {
                stream_pause(s->stream, false);
                if (!s->working)
                        session_work_kept(s);
        }
}

bool session_has_input(const PeerSession *s) {
        return s->dialed || s->has_input || (s->tls && tls_has_input(s->tls));
}

static void session_on_timer(void *userdata) {
        PeerSession *s = userdata;
        uint64_t age_ms = loop_now_ms(s->context->loop) - s->begun_ms;

        if (s->state == SESSION_ENDED)
                session_close_stream(s);
        else if (s->state != SESSION_OPEN && !session_has_input(s))
                session_cut(s, -ETIMEDOUT, "no byte within 1 s");
        else if (s->state != SESSION_OPEN && age_ms < SESSION_HANDSHAKE_MS) {
                if (timer_start(&s->timer, s->context->loop, SESSION_HANDSHAKE_MS - age_ms) < 0)
                        session_cut(s, -ENOMEM, "out of memory for a timer");
        } else if (s->state == SESSION_OPEN)
                session_cut(s, -ETIMEDOUT,
                            s->requested ? "the joining host did not end its session within 30 s" :
                                           "no request to join within 5 s");
        else
                session_cut(s, -ETIMEDOUT,
                            s->state == SESSION_TLS ? "no TLS within 5 s" : "no handshake within 5 s");
}

void session_limit(PeerSession *s, uint64_t ms) {
        if (s->state == SESSION_OPEN && timer_start(&s->timer, s->context->loop, ms) < 0)
                session_cut(s, -ENOMEM, "out of memory for a timer");
}

/* Begin with frames on a stream that is ready for them. */
static int session_begin(PeerSession *s, Stream *stream) {
        s->stream = stream;
        s->state = SESSION_HANDSHAKE;
        stream_set_events(stream, &stream_events, s);
        stream_pause(stream, false);
        return s->dialed ? session_write_handshake(s, false) : 0;
}

static void session_on_secure(void *userdata, Stream *secure, int error, const char *reason) {
        PeerSession *s = userdata;
        int r;

        s->tls = NULL;
        if (!secure) {
                session_end(s, error, reason);
                session_unref(s);
                return;
        }

        s->peer = *tls_peer(secure);
        s->has_input = true;
        s->contact_ms = loop_now_ms(s->context->loop);
        r = session_begin(s, secure);
        if (r < 0)
                session_cut(s, r, "Failed to send the handshake");
}

/* Return the options of TLS for a new session. */
static TlsOptions session_tls(const PeerSession *s) {
        TlsOptions options = s->context->tls;

        options.side = s->dialed ? TLS_CLIENT : TLS_SERVER;
        if (s->used_key)
                options.credentials = NULL;
        return options;
}

int session_new(PeerSession **ret, const SessionContext *context, Stream *stream, bool dialed, bool use_key) {
        _cleanup_free_ PeerSession *s = NEW0(PeerSession, 1);
        const char *address = stream_peer_address(stream);
        const TlsCertificate *own = tls_credentials_certificate(context->tls.credentials);
        bool secure = context->tls.key || context->tls.credentials;
        int r;

        if (!s) {
                stream_close(stream);
                return -ENOMEM;
        }

        *s = (PeerSession) {
                .dialed = dialed,
                .context = context,
                .refs = 1,
                .begun_ms = loop_now_ms(context->loop),
                .contact_ms = loop_now_ms(context->loop),
                .timer = TIMER(session_on_timer, s),
                .stall = TIMER(session_on_stall, s),
                .resume = DEFERRED(session_on_resume, s),
                .used_key = dialed && use_key && context->tls.key && context->tls.credentials,
                .own_pin = own && dialed && !use_key ? own->pin : (TlsPin) {},
                .peer.kind = TLS_PEER_KEY, /* without TLS */
        };
        for (size_t i = 0; i < _PEER_PRIORITY_MAX; i++)
                STAILQ_INIT(&s->queues[i]);
        printable_copy(s->address, sizeof(s->address), address, strlen(address));

        r = timer_start(&s->timer, context->loop, dialed ? SESSION_HANDSHAKE_MS : SESSION_FIRST_BYTE_MS);
        if (r < 0) {
                stream_close(stream);
                return r;
        }

        if (secure) {
                TlsOptions options = session_tls(s);

                r = tls_start(context->loop, stream, &options, session_on_secure, s, &s->tls);
        } else
                r = session_begin(s, stream);
        if (r < 0) {
                timer_stop(&s->timer);
                if (!secure) {
                        stream_set_events(stream, NULL, NULL);
                        stream_close(stream);
                }
                return r;
        }

        *ret = TAKE_PTR(s);
        return 0;
}
