#include "peers/call.h"

static int send_frame(PeerSession *session, PeerFrame type, const Writer *w) {
        if (!session)
                return -ENOTCONN;
        return w->error < 0 ? w->error : peer_reply(session, type, w->bytes, w->size);
}

/* -- Frames -- */

static void calls_on_answer(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size) {
        Calls *calls = userdata;
        const struct CallAnswer *answer = calls->type->answers;
        Reader in = reader_over(payload, size);
        uint64_t number;
        Call *call;

        while (answer->type != type)
                answer++;
        (void) read_raw(&in, answer->before);
        number = read_le(&in, calls->type->number_size);
        TAILQ_FOREACH(call, &calls->sent, sent)
                if (call->number == number && call->session == peer_number(session))
                        break;
        if (call && !in.failed)
                answer->take(call, payload, size);
}

static void calls_on_request(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size) {
        Calls *calls = userdata;
        Reader in = reader_over(payload, size);
        Served *s = served_find(calls, session, read_le(&in, calls->type->number_size));
        uint64_t credit = type == calls->type->credit ? read_u64(&in) : 0;

        if (!s || reader_end(&in) < 0)
                return;
        s->credit = MAX(s->credit, credit);
        if (type == calls->type->cancel)
                calls->type->on_gone(s);
        else
                calls->type->on_credit(s);
}

static size_t calls_frames(const CallType *type, PeerFrameType ret[static CALL_ANSWERS_MAX + 2]) {
        size_t n = 0;

        while (n < CALL_ANSWERS_MAX && type->answers[n].take) {
                ret[n] = (PeerFrameType) { type->answers[n].type, calls_on_answer };
                n++;
        }
        if (type->on_credit) {
                ret[n++] = (PeerFrameType) { type->cancel, calls_on_request };
                ret[n++] = (PeerFrameType) { type->credit, calls_on_request };
        }
        return n;
}

/* -- Sessions that end -- */

static void calls_on_session_end(void *userdata, PeerSession *session) {
        Calls *calls = userdata;

        if (!TAILQ_EMPTY(&calls->sent) || calls->sessions)
                loop_defer(calls->loop, &calls->ended);
}

/* A call that is lost may be sent again; one event may end other calls. */
static void calls_on_ended(void *userdata) {
        Calls *calls = userdata;
        Call *call = TAILQ_FIRST(&calls->sent);

        while (call) {
                if (peers_session(calls->peers, call->session)) {
                        call = TAILQ_NEXT(call, sent);
                        continue;
                }
                call_end(call);
                calls->type->on_lost(call);
                call = TAILQ_FIRST(&calls->sent);
        }
        for (ServedSession *of = calls->sessions, *next; of; of = next) {
                size_t n = peers_session(calls->peers, of->number) ? 0 : of->n;

                next = of->hh.next;
                for (; n > 0; n--) /* the last one frees 'of' */
                        calls->type->on_gone(TAILQ_FIRST(&of->served));
        }
}

void calls_open(Calls *calls, Loop *loop, Peers *peers, const CallType *type) {
        PeerFrameType frames[CALL_ANSWERS_MAX + 2];

        *calls = (Calls) { .type = type,
                           .loop = loop,
                           .peers = peers,
                           .observer = { .on_end = calls_on_session_end, .userdata = calls },
                           .ended = DEFERRED(calls_on_ended, calls) };
        TAILQ_INIT(&calls->sent);
        TAILQ_INIT(&calls->served);
        peers_register(peers, frames, calls_frames(type, frames), calls);
        peers_observe(peers, &calls->observer);
}

void calls_close(Calls *calls) {
        PeerFrameType frames[CALL_ANSWERS_MAX + 2];

        if (!calls->peers)
                return;
        assert(TAILQ_EMPTY(&calls->sent) && !calls->sessions);
        peers_unobserve(&calls->observer);
        peers_unregister(calls->peers, frames, calls_frames(calls->type, frames));
        deferred_cancel(&calls->ended);
        calls->peers = NULL;
}

/* -- The host that asks -- */

static void call_on_due(void *userdata) {
        Call *call = userdata;

        call->calls->type->on_due(call);
}

void call_init(Call *call, Calls *calls, size_t window) {
        *call = (Call) { .calls = calls, .window = window, .due = TIMER(call_on_due, call) };
}

uint64_t call_number(Call *call) {
        call->number = ++call->calls->numbers & UINT64_MAX >> (64 - 8 * call->calls->type->number_size);
        return call->number;
}

/* The session may end while this sends on it. */
int call_send(Call *call, PeerSession *session, PeerFrame type, const Writer *w) {
        int r;

        assert(call->session == 0);
        if (!session)
                return -ENOTCONN;
        call->session = peer_number(session);
        call->granted = 0;
        TAILQ_INSERT_TAIL(&call->calls->sent, call, sent);
        r = send_frame(session, type, w);
        if (r < 0) {
                TAILQ_REMOVE(&call->calls->sent, call, sent);
                call->session = 0;
                return r;
        }
        (void) call_grant(call, 0); /* or with the answer: the other host has the request */
        return 0;
}

int call_wait(Call *call, uint64_t ms) {
        return timer_start(&call->due, call->calls->loop, ms);
}

/* Send the number, and a total of bytes if it is not 0. */
static int call_tell(Call *call, PeerFrame type, uint64_t total) {
        _cleanup_writer_ Writer w = {};

        write_le(&w, call->number, call->calls->type->number_size);
        if (total > 0)
                write_u64(&w, total);
        return send_frame(peers_session(call->calls->peers, call->session), type, &w);
}

int call_credit(Call *call, uint64_t total) {
        int r = 0;

        if (call->session > 0 && total > call->granted)
                r = call_tell(call, call->calls->type->credit, total);
        if (r == 0)
                call->granted = MAX(call->granted, total);
        return r;
}

int call_grant(Call *call, uint64_t taken) {
        uint64_t total = taken + call->window;

        return call->window > 0 && total - call->granted >= call->window / 2 ? call_credit(call, total) : 0;
}

void call_end(Call *call) {
        timer_stop(&call->due);
        if (call->session > 0)
                TAILQ_REMOVE(&call->calls->sent, call, sent);
        call->session = 0;
}

void call_cancel(Call *call) {
        if (call->session > 0 && call->calls->type->cancel)
                (void) call_tell(call, call->calls->type->cancel, 0);
        call_end(call);
}

/* -- The host that is asked -- */

static ServedSession *session_find(const Calls *calls, uint64_t number) {
        ServedSession *found;

        HASH_FIND(hh, calls->sessions, &number, sizeof(number), found);
        return found;
}

const ServedSession *served_of(const Calls *calls, const PeerSession *session) {
        return session_find(calls, peer_number(session));
}

Served *served_find(const Calls *calls, const PeerSession *session, uint64_t number) {
        const ServedSession *of = served_of(calls, session);
        Served *s = of ? TAILQ_FIRST(&of->served) : NULL;

        while (s && s->number != number)
                s = TAILQ_NEXT(s, of_session);
        return s;
}

int served_add(Served *s, Calls *calls, const PeerSession *session, uint64_t number) {
        ServedSession *of = session_find(calls, peer_number(session));

        if (!of) {
                of = NEW0(ServedSession, 1);
                if (!of)
                        return -ENOMEM;
                of->number = peer_number(session);
                TAILQ_INIT(&of->served);
                HASH_ADD(hh, calls->sessions, number, sizeof(of->number), of);
                if (!TABLE_ADDED_OR_FREED(of))
                        return -ENOMEM;
        }
        *s = (Served) { .calls = calls, .session = of, .number = number };
        of->n++;
        TAILQ_INSERT_TAIL(&of->served, s, of_session);
        TAILQ_INSERT_TAIL(&calls->served, s, all);
        return 0;
}

void served_remove(Served *s) {
        ServedSession *of = s->session;

        if (!of)
                return;
        s->session = NULL;
        TAILQ_REMOVE(&of->served, s, of_session);
        TAILQ_REMOVE(&s->calls->served, s, all);
        if (--of->n > 0)
                return;
        HASH_DEL(s->calls->sessions, of);
        free(of);
}

PeerSession *served_session(const Served *s) {
        return s->session ? peers_session(s->calls->peers, s->session->number) : NULL;
}

int served_send(const Served *s, PeerFrame type, const Writer *w) {
        return send_frame(served_session(s), type, w);
}
