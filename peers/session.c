#include "peers/session.h"

#include <assert.h>
#include <errno.h>

enum {
        SMALL_FRAME = 4096, /* copied behind its head on the stack */
        KEPT_BYTES = 65536, /* a larger buffer is given back when it is empty */
        PING_SIZE = 8,
        STREAM_ENOUGH = 128 * 1024, /* given to the stream at once: what follows waits in its lane */
};

/* Who asks and who answers: on an accepted session come questions, on a dialed one answers. Types that we do
 * not know are a newer daemon's, and are dropped. */
enum { QUESTION = 1, ANSWER = 2 };

static const struct {
        uint8_t direction, lane;
} frames[_PEER_FRAME_MAX] = {
        [PEER_PING] = { 0, PRIORITY_RAFT },
        [PEER_PONG] = { 0, PRIORITY_RAFT },
        [PEER_RAFT] = { QUESTION, PRIORITY_RAFT },
        [PEER_PROPOSE] = { QUESTION, PRIORITY_USERS },
        [PEER_PROPOSED] = { ANSWER, PRIORITY_RAFT },
        [PEER_TERM_CHECK] = { QUESTION, PRIORITY_RAFT },
        [PEER_TERM_CHECKED] = { ANSWER, PRIORITY_RAFT },
        [PEER_SNAPSHOT] = { QUESTION, PRIORITY_STATES },
        [PEER_SNAPSHOT_ACK] = { ANSWER, PRIORITY_RAFT },
        [PEER_JOIN] = { QUESTION, PRIORITY_USERS },
        [PEER_JOINED] = { ANSWER, PRIORITY_USERS },
        [PEER_PROPOSE_LATER] = { QUESTION, PRIORITY_STATES },
        [PEER_HEARTBEAT] = { QUESTION | ANSWER, PRIORITY_RAFT },
        [PEER_CALL] = { QUESTION, PRIORITY_USERS },
        [PEER_CALL_CHUNK] = { ANSWER, PRIORITY_STATES },
        [PEER_CALL_END] = { ANSWER, PRIORITY_STATES }, /* behind its chunks */
        [PEER_CALL_CANCEL] = { QUESTION, PRIORITY_USERS },
        [PEER_TREE] = { QUESTION, PRIORITY_USERS },
        [PEER_CALL_CREDIT] = { QUESTION, PRIORITY_USERS }, /* behind its call */
};

/* One that waits in a lane. */
typedef struct SessionFrame {
        struct SessionFrame *next;
        PeerFrame type;
        size_t size;
        uint8_t payload[];
} SessionFrame;

static SessionFrame *priority_take(PriorityClass *lane) {
        SessionFrame *f = lane->first;

        if (f) {
                lane->first = f->next;
                if (!lane->first)
                        lane->last = &lane->first;
        }
        return f;
}

static PeerSession *session_unref(PeerSession *s) {
        if (!s || --s->refs > 0)
                return NULL;

        assert(s->state == SESSION_ENDED);
        timer_stop(&s->timer);
        timer_stop(&s->stall);
        s->events->on_gone(s->userdata, s);
        for (size_t i = 0; i < _PRIORITY_MAX; i++)
                for (SessionFrame *f; (f = priority_take(&s->lanes[i]));)
                        free(f);
        free(s->bytes);
        free(s);
        return NULL;
}
DEFINE_CLEANUP(PeerSession *, session_unref);

/* Guards a function that goes on working on a session after calling out. */
#define _hold_ _cleanup_(session_unrefp) _unused_
static PeerSession *session_ref(PeerSession *s) {
        s->refs++;
        return s;
}

static void session_close_stream(PeerSession *s) {
        if (s->handshake) {
                tls_cancel(TAKE_PTR(s->handshake));
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
        s->events->on_end(s->userdata, s, error, reason);
}

void session_cut(PeerSession *s, int error, const char *reason) {
        _hold_ PeerSession *hold = NULL;

        if (s->state == SESSION_ENDED)
                return;

        hold = session_ref(s);
        session_end(s, error, reason);
        session_close_stream(s);
}

/* -- Writing -- */

static int session_write(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        uint8_t head[FRAME_HEAD], small[FRAME_HEAD + SMALL_FRAME];
        Shared *frame;
        int r;

        if (!s->stream || s->closed)
                return -ENOTCONN;

        frame_head(head, type, size);
        if (size <= SMALL_FRAME) {
                memcpy(small, head, sizeof(head));
                if (size > 0)
                        memcpy(small + sizeof(head), payload, size);
                r = stream_write(s->stream, small, sizeof(head) + size);
        } else {
                /* One piece: half a frame, and all that follows would be misread. */
                frame = malloc(sizeof(Shared) + sizeof(head) + size);
                if (!frame)
                        return -ENOMEM;
                *frame = (Shared) { .refs = 1, .size = sizeof(head) + size };
                memcpy(frame->bytes, head, sizeof(head));
                memcpy(frame->bytes + sizeof(head), payload, size);
                r = stream_write_shared(s->stream, frame);
                shared_unref(frame);
        }
        if (r < 0)
                return r == -EPIPE ? -ENOTCONN : r;

        s->written += sizeof(head) + size;
        return 0;
}

static void session_on_stall(void *userdata) {
        PeerSession *s = userdata;
        uint64_t sent = s->written - stream_queued(s->stream);

        if ((int64_t) (sent - s->stalled_sent) <= 0) {
                session_cut(s, -ETIMEDOUT, "it takes nothing off its full queue");
                return;
        }

        s->stalled_sent = sent;
        if (peer_queued(s) > PEER_QUEUE_MAX / 2)
                (void) timer_start(&s->stall, s->loop, SESSION_STALL_MS);
}

/* What waits, the most urgent first, until the stream has enough; with 'all' regardless of that. */
static int session_pump(PeerSession *s, bool all) {
        for (size_t i = 0; i < _PRIORITY_MAX; i++)
                while (s->lanes[i].first && (all || stream_queued(s->stream) < STREAM_ENOUGH)) {
                        SessionFrame *f = s->lanes[i].first;
                        int r = session_write(s, f->type, f->payload, f->size);

                        if (r < 0)
                                return r;
                        s->n_waiting -= FRAME_HEAD + f->size;
                        free(priority_take(&s->lanes[i]));
                }
        return 0;
}

static int session_wait(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        PriorityClass *lane = &s->lanes[frames[type].lane];
        SessionFrame *f = malloc(sizeof(*f) + size);

        if (!f)
                return -ENOMEM;
        f->next = NULL;
        f->type = type;
        f->size = size;
        if (size > 0)
                memcpy(f->payload, payload, size);
        *lane->last = f;
        lane->last = &f->next;
        s->n_waiting += FRAME_HEAD + size;
        return 0;
}

int session_send(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        int r;

        if (s->state != SESSION_OPEN)
                return -ENOTCONN;
        if (size > PEER_FRAME_MAX)
                return -EMSGSIZE;
        if (peer_queued(s) + size > PEER_QUEUE_MAX) {
                if (!timer_armed(&s->stall)) {
                        s->stalled_sent = s->written - stream_queued(s->stream);
                        (void) timer_start(&s->stall, s->loop, SESSION_STALL_MS);
                }
                return -ENOBUFS;
        }

        r = s->n_waiting > 0 ? session_pump(s, false) : 0;
        if (r < 0)
                return r;
        return s->n_waiting == 0 && stream_queued(s->stream) < STREAM_ENOUGH ?
                       session_write(s, type, payload, size) :
                       session_wait(s, type, payload, size);
}

int session_ping(PeerSession *s) {
        return session_send(s, PEER_PING, NULL, 0);
}

static int session_write_handshake(PeerSession *s) {
        _cleanup_writer_ Writer w = {};

        handshake_write(&w, s->self);
        if (w.error < 0)
                return w.error;
        s->said = XXH3_64bits(w.bytes, w.size);
        return session_write(s, PEER_HANDSHAKE, w.bytes, w.size);
}

/* What a session says that is opened: its hello, or nothing where that was said with the dialing and has not
 * changed since. */
static int session_say_news(PeerSession *s) {
        _cleanup_writer_ Writer w = {};

        handshake_write(&w, s->self);
        if (w.error < 0)
                return w.error;
        return s->dialed && s->said == XXH3_64bits(w.bytes, w.size) ? 0 : session_write_handshake(s);
}

int session_send_handshake(PeerSession *s) {
        return s->state == SESSION_OPEN ? session_write_handshake(s) : -ENOTCONN;
}

/* Says a last word, and closes when it has left, or after a while. */
static void session_finish(PeerSession *s, PeerFrame type, const void *payload, size_t size, int error,
                           const char *reason) {
        _hold_ PeerSession *hold = session_ref(s);
        bool said;

        if (s->n_waiting > 0 && s->stream && !s->closed)
                (void) session_pump(s, true); /* what cannot be sent any more is lost, as with any end */
        said = session_write(s, type, payload, size) >= 0;
        session_end(s, error, reason);
        if (said && !s->closed && s->stream && timer_start(&s->timer, s->loop, SESSION_LINGER_MS) >= 0)
                stream_finish(s->stream);
        else
                session_close_stream(s);
}

void session_refuse(PeerSession *s, Refusal cause, const char *sentence) {
        _cleanup_writer_ Writer w = {};

        if (s->state == SESSION_ENDED)
                return;

        refusal_write(&w, cause, sentence);
        if (w.error < 0)
                session_cut(s, w.error, sentence);
        else
                session_finish(s, PEER_REFUSED, w.bytes, w.size, -EPERM, sentence);
}

void session_bye(PeerSession *s, const char *reason) {
        if (s->state == SESSION_OPEN)
                session_finish(s, PEER_BYE, reason, strlen(reason), 0, "closed by us");
        else
                session_cut(s, 0, "closed by us");
}

/* -- Reading -- */

static void session_on_handshake(PeerSession *s, const Frame *frame) {
        PeerHandshake hello;
        Error err = {};
        int r;

        r = handshake_read(frame->payload, frame->size, &hello, &err);
        if (r == -EPROTONOSUPPORT) {
                session_refuse(s, REFUSAL_VERSION, err.message);
                return;
        }
        if (r >= 0 && s->has_handshake &&
            (!streq(hello.machine_id, s->hello.machine_id) || !streq(hello.boot_id, s->hello.boot_id) ||
             hello.nonce != s->hello.nonce))
                r = error_set(&err, -EBADMSG, "it changed its identity on an open session");
        if (r < 0) {
                session_cut(s, r, err.message);
                return;
        }

        s->hello = hello;
        s->has_handshake = true;
        s->events->on_handshake(s->userdata, s);
}

static void session_on_refused(PeerSession *s, const Frame *frame) {
        char sentence[FRAME_REFUSED_MAX];
        Refusal cause;

        if (refusal_read(frame->payload, frame->size, &cause, sentence) < 0) {
                session_cut(s, -EBADMSG, "its refusal is malformed");
                return;
        }

        s->events->on_refused(s->userdata, s, cause, sentence);
        session_cut(s, -EPERM, sentence);
}

static void session_on_bye(PeerSession *s, const Frame *frame) {
        char reason[16];

        printable_copy(reason, sizeof(reason), frame->payload, frame->size);
        s->events->on_bye(s->userdata, s, reason);
        session_cut(s, 0, *reason ? reason : "closed by the other side");
}

static void session_on_frame(PeerSession *s, const Frame *frame) {
        bool greeting = s->state == SESSION_HANDSHAKE;

        if (greeting && frame->type != PEER_HANDSHAKE &&
            (!s->dialed || (frame->type != PEER_REFUSED && frame->type != PEER_BYE))) {
                session_cut(s, -EBADMSG, "what came is no hello of a fleetd");
                return;
        }

        switch (frame->type) {
        case PEER_HANDSHAKE:
                session_on_handshake(s, frame);
                return;
        case PEER_REFUSED:
                session_on_refused(s, frame);
                return;
        case PEER_BYE:
                session_on_bye(s, frame);
                return;
        case PEER_PING:
                /* Who does not read its answers is cut by the queue's limit, not by us here. */
                (void) session_send(s, PEER_PONG, frame->payload, MIN(frame->size, (size_t) PING_SIZE));
                return;
        case PEER_PONG:
                s->events->on_pong(s->userdata, s);
                return;
        default:
                if (frame->type >= _PEER_FRAME_MAX || frames[frame->type].direction == 0)
                        return;
                if (frames[frame->type].direction & (s->dialed ? ANSWER : QUESTION))
                        s->events->on_frame(s->userdata, s, frame);
                else
                        session_cut(s, -EBADMSG,
                                    s->dialed ? "it asked on the session that we dialed" :
                                                "it answered on the session that it dialed");
        }
}

/* Works off whole frames; returns how many bytes they were. */
static size_t session_work(PeerSession *s, const uint8_t *bytes, size_t size) {
        size_t done = 0;

        assert(!s->working);
        if (size == 0)
                return 0;
        s->working = true;
        while (s->state == SESSION_HANDSHAKE || s->state == SESSION_OPEN) {
                Frame frame;
                ssize_t n = frame_take(bytes + done, size - done,
                                       s->state == SESSION_OPEN ? (size_t) PEER_FRAME_MAX :
                                                                  (size_t) FRAME_HANDSHAKE_MAX,
                                       &frame);

                if (n == 0)
                        break;
                if (n < 0) {
                        session_cut(s, n,
                                    s->state == SESSION_OPEN ? "its frame is larger than allowed" :
                                                               "what came is no hello of a fleetd");
                        break;
                }
                done += n;
                session_on_frame(s, &frame);
        }
        s->working = false;
        return done;
}

static void session_keep(PeerSession *s, const uint8_t *bytes, size_t size) {
        if (s->state == SESSION_ENDED || size == 0)
                return;
        if (GROW(s->bytes, s->capacity, s->n_bytes + size) < 0) {
                session_cut(s, -ENOMEM, "no memory for its frame");
                return;
        }
        memcpy(s->bytes + s->n_bytes, bytes, size);
        s->n_bytes += size;
}

static void session_work_kept(PeerSession *s) {
        size_t done = session_work(s, s->bytes, s->n_bytes);

        s->n_bytes -= done;
        if (s->n_bytes > 0 && done > 0)
                memmove(s->bytes, s->bytes + done, s->n_bytes);
        if (s->n_bytes == 0 && s->capacity > KEPT_BYTES) {
                free(TAKE_PTR(s->bytes));
                s->capacity = 0;
        }
}

static void session_on_read(void *userdata, const void *bytes, size_t size) {
        PeerSession *s = userdata;
        _hold_ PeerSession *hold = session_ref(s);

        if (s->state == SESSION_ENDED)
                return;

        s->contact_ms = loop_now_ms(s->loop);
        if (size == 0) {
                session_cut(s, 0,
                            s->state == SESSION_OPEN ? "closed by the other side" :
                                                       "closed before its hello");
                return;
        }

        if (s->n_bytes == 0 && s->state != SESSION_JUDGED) {
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
                session_cut(s, -ENOMEM, "no memory for what waited to be sent");
}

static void session_on_close(void *userdata, int error, const char *reason) {
        PeerSession *s = userdata;

        s->closed = true;
        if (s->state != SESSION_ENDED) {
                if (error == 0 || error == -ECONNRESET || error == -EPIPE)
                        s->contact_ms = loop_now_ms(s->loop); /* its kernel said so */
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

void session_judge(PeerSession *s) {
        assert(s->state == SESSION_HANDSHAKE);
        s->state = SESSION_JUDGED;
        stream_pause(s->stream, true);
}

void session_open(PeerSession *s) {
        _hold_ PeerSession *hold = session_ref(s);
        bool judged = s->state == SESSION_JUDGED;
        int r;

        assert(judged || s->state == SESSION_HANDSHAKE);
        s->state = SESSION_OPEN;
        timer_stop(&s->timer);
        r = session_say_news(s);
        if (r < 0) {
                session_cut(s, r, "cannot say our hello");
                return;
        }
        if (judged) {
                stream_pause(s->stream, false);
                if (!s->working)
                        session_work_kept(s);
        }
}

static void session_on_timer(void *userdata) {
        PeerSession *s = userdata;

        if (s->state == SESSION_ENDED)
                session_close_stream(s);
        else
                session_cut(s, -ETIMEDOUT,
                            s->state == SESSION_TLS ? "no TLS within 5 s" : "no hello within 5 s");
}

/* The stream is ready for frames. */
static int session_begin(PeerSession *s, Stream *stream) {
        s->stream = stream;
        s->state = SESSION_HANDSHAKE;
        stream_set_events(stream, &stream_events, s);
        stream_pause(stream, false);
        return s->dialed ? session_write_handshake(s) : 0;
}

static void session_on_secure(void *userdata, Stream *secure, int error, const char *reason) {
        PeerSession *s = userdata;
        int r;

        s->handshake = NULL;
        if (!secure) {
                session_end(s, error, reason);
                session_unref(s);
                return;
        }

        s->contact_ms = loop_now_ms(s->loop);
        r = session_begin(s, secure);
        if (r < 0)
                session_cut(s, r, "cannot say our hello");
}

int session_new(PeerSession **ret, Loop *loop, Stream *stream, const TlsKey *key, bool dialed,
                const PeerHandshake *self, const SessionEvents *events, void *userdata) {
        _cleanup_free_ PeerSession *s = NEW0(PeerSession, 1);
        int r;

        if (!s) {
                stream_close(stream);
                return -ENOMEM;
        }

        *s = (PeerSession) {
                .dialed = dialed,
                .self = self,
                .events = events,
                .userdata = userdata,
                .loop = loop,
                .refs = 1,
                .begun_ms = loop_now_ms(loop),
                .contact_ms = loop_now_ms(loop),
                .timer = TIMER(session_on_timer, s),
                .stall = TIMER(session_on_stall, s),
        };
        for (size_t i = 0; i < _PRIORITY_MAX; i++)
                s->lanes[i].last = &s->lanes[i].first;
        printable_copy(s->address, sizeof(s->address), stream_peer_address(stream),
                       strlen(stream_peer_address(stream)));

        r = timer_start(&s->timer, loop, SESSION_HANDSHAKE_MS);
        if (r < 0) {
                stream_close(stream);
                return r;
        }

        r = key ? tls_start(loop, stream, key, dialed ? TLS_CLIENT : TLS_SERVER, session_on_secure, s,
                            &s->handshake) :
                  session_begin(s, stream);
        if (r < 0) {
                timer_stop(&s->timer);
                if (!key) {
                        stream_set_events(stream, NULL, NULL);
                        stream_close(stream);
                }
                return r;
        }

        *ret = TAKE_PTR(s);
        return 0;
}

uint64_t session_silent_ms(const PeerSession *s) {
        uint64_t heard = loop_now_ms(s->loop) - s->contact_ms;
        uint64_t kernel = s->stream && !s->closed ? stream_kernel_silent_ms(s->stream) :
                                                    UINT64_MAX; /* a call of the kernel: once */

        return MIN(kernel, heard);
}

/* -- For those above -- */

int peer_reply(PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        return session_send(session, type, payload, size);
}

const PeerHandshake *peer_handshake(const PeerSession *session) {
        return &session->hello;
}

size_t peer_queued(const PeerSession *session) {
        return session->n_waiting + (session->stream ? stream_held(session->stream) : 0);
}

bool peer_is_dialed(const PeerSession *session) {
        return session->dialed;
}

uint64_t peer_number(const PeerSession *session) {
        return session->number;
}
