#include "fleetd/api/forward.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/api/keys_v2.h"

typedef struct Forward {
        Api *api;
        Request *request;
        uint32_t number;
        uint64_t session; /* that it was sent on; 0: it waits */
        char machine[MACHINE_ID_SIZE];
        Writer asked;
        bool reads;      /* it changes nothing */
        unsigned tries;  /* replicas that it was sent to */
        uint64_t due_ms; /* while it waits for a replica, or for the head of the answer */
        bool headed;     /* the head of the answer has arrived */
        bool ended;      /* all of the answer */
        ForwardHead head;
        char raft_index[TEXT_U64_SIZE], term[TEXT_U64_SIZE]; /* in its fields */
        uint64_t taken, granted; /* bytes: of the body, that the client took; that may be sent */
        Text held;               /* a body that is not complete, or that the client could not take yet */
        TAILQ_ENTRY(Forward) all;
} Forward;

struct Forwards {
        TAILQ_HEAD(, Forward) all;
        uint32_t number;
        unsigned n, n_sent; /* a replica has as many as were sent */
        Timer look;
        Deferred soon; /* the same at once */
};

/* -- Sending -- */

/* The replica has it, or none has any more: 0. */
static void forward_set_session(Forward *f, uint64_t session) {
        struct Forwards *forwards = f->api->forwards;

        forwards->n_sent -= f->session > 0;
        f->session = session;
        forwards->n_sent += f->session > 0;
}

static PeerSession *forward_session(const Forward *f) {
        return f->session > 0 ? peers_session(f->api->options.peers, f->session) : NULL;
}

static int forward_send(const Forward *f, PeerFrame type, const Writer *w) {
        PeerSession *session = forward_session(f);

        if (!session)
                return -ENOTCONN;
        return w->error < 0 ? w->error : peer_reply(session, type, w->bytes, w->size);
}

static void forward_cancel(Forward *f) {
        _cleanup_writer_ Writer w = {};

        if (!f->session || f->ended)
                return;
        forward_cancel_write(f->number, &w);
        (void) forward_send(f, PEER_FORWARD_CANCEL, &w);
}

/* Give credit for FORWARD_WINDOW bytes ahead of the client, each time it has taken half of it. */
static int forward_grant(Forward *f) {
        _cleanup_writer_ Writer w = {};
        uint64_t total = f->taken + FORWARD_WINDOW;
        int r;

        if (f->ended || total - f->granted < FORWARD_WINDOW / 2)
                return 0;
        forward_credit_write(f->number, total, &w);
        r = forward_send(f, PEER_FORWARD_CREDIT, &w);
        if (r == 0)
                f->granted = total;
        return r;
}

/* Return the replica to use: one that answers, or whose first answer is due. */
static const char *forward_replica(const Api *api) {
        const char *machine = kv_replica_in_use(api->options.store);
        uint64_t silent_ms = kv_replica_silent_ms(api->options.store, machine);

        return machine[0] && (silent_ms == UINT64_MAX || silent_ms < FORWARD_SILENT_MS) ? machine : NULL;
}

bool forward_has_replica(const Api *api) {
        return forward_replica(api);
}

static void forward_try(Forward *f) {
        KvStore *store = f->api->options.store;
        const char *machine = forward_replica(f->api);
        PeerSession *session = machine ? peers_dialed(f->api->options.peers, machine) : NULL;
        _cleanup_writer_ Writer w = {};
        KvPosition position;

        if (!session || f->api->forwards->n_sent >= FORWARDS_MAX)
                return;
        kv_position(store, &position);
        f->number = ++f->api->forwards->number;
        forward_set_session(f, peer_number(session));
        f->taken = f->granted = 0;
        memcpy(f->machine, machine, sizeof(f->machine));
        forward_request_begin(f->number, position.lineage, kv_seen(store), &w);
        write_raw(&w, f->asked.bytes, f->asked.size);
        if (forward_send(f, PEER_FORWARD, &w) < 0 || forward_grant(f) < 0) {
                forward_set_session(f, 0);
                return;
        }
        f->tries++;
        f->due_ms = loop_now_ms(f->api->loop) + FORWARD_ANSWER_MS;
}

/* -- Answers to the client -- */

/* Answer 503: no replica has the request, or the cause says so. */
static void forward_refuse(Request *request, const char *cause) {
        if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, cause);
        else
                request_error(request, 503, "%s", cause);
}

static void forward_refuse_unsent(Request *request) {
        KvState state;

        if (request->api->forwards->n_sent >= FORWARDS_MAX) {
                forward_refuse(request, "64 requests of this host are under way, which is the limit");
                return;
        }
        kv_state(request->api->options.store, &state);
        forward_refuse(request, state.problem[0] ? state.problem :
                                                   "attached host: the replica in use does not answer");
}

/* Answer with the whole body. */
static void forward_answer(Forward *f) {
        Request *request = f->request;
        ForwardHead *head = &f->head;

        request->http->userdata = NULL;
        http_answer(request->http, head->status, head->has_type ? head->type : NULL, head->fields,
                    f->held.chars ?: "", f->held.size);
        request_free(request);
}

/* Send what is held of a stream, and its end. */
static void forward_drain(Forward *f) {
        Request *request = f->request;

        if (f->held.size > 0) {
                if (http_chunk(request->http, f->held.chars, f->held.size) < 0)
                        return;
                f->taken += f->held.size;
                text_done(&f->held);
                f->held = (Text) {};
        }
        if (f->ended)
                request_end(request);
        else if (forward_grant(f) < 0)
                request_cut(request, "the session to the replica has ended");
}

static void forward_on_drain(Request *request) {
        forward_drain(request->state);
}

static void forward_on_end(Request *request) {
        Forward *f = request->state;

        forward_cancel(f);
        forward_set_session(f, 0);
        TAILQ_REMOVE(&f->api->forwards->all, f, all);
        f->api->forwards->n--;
        if (f->api->forwards->n > f->api->forwards->n_sent) /* others wait */
                loop_defer(f->api->loop, &f->api->forwards->soon);
        writer_done(&f->asked);
        text_done(&f->held);
        free(f->head.texts);
        free(f);
}

/* The replica is lost, or has done nothing: send the request to the next one, if that is harmless. */
static void forward_lost(Forward *f, bool did_nothing) {
        Request *request = f->request;

        forward_cancel(f);
        forward_set_session(f, 0);
        if (f->headed && f->head.streams)
                request_cut(request, "the replica that answered is lost");
        else if ((f->reads || did_nothing) && f->tries < FORWARD_TRIES_MAX) {
                f->headed = false;
                text_clear(&f->held);
                free(TAKE_PTR(f->head.texts));
                f->due_ms = loop_now_ms(f->api->loop) + FORWARD_MOVE_MS;
        } else if (f->reads || did_nothing)
                forward_refuse_unsent(request);
        else if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, FORWARD_UNKNOWN);
        else
                request_error(request, 504, "%s", FORWARD_UNKNOWN);
}

/* -- Frames of the replica -- */

static Forward *forward_find(Api *api, PeerSession *session, uint32_t number) {
        Forward *f;

        TAILQ_FOREACH(f, &api->forwards->all, all)
                if (f->number == number && f->session == peer_number(session) && !f->ended)
                        return f;
        return NULL;
}

/* In all its answers, this host reports the position of the last heartbeat, which does not go back. */
static void forward_set_position(Forward *f) {
        KvPosition position;

        kv_position(f->api->options.store, &position);
        for (HttpField *field = f->head.fields; field->name; field++)
                if (streq(field->name, "X-Raft-Index"))
                        field->value = text_u64(position.raft_index, f->raft_index);
                else if (streq(field->name, "X-Raft-Term"))
                        field->value = text_u64(position.term, f->term);
}

static void forward_on_head(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size) {
        Api *api = userdata;
        ForwardHead head;
        Forward *f;

        if (forward_head_read(payload, size, &head) < 0)
                return;
        f = forward_find(api, session, head.number);
        if (!f || f->headed) {
                free(head.texts);
                return;
        }
        f->headed = true;
        f->head = head;
        forward_set_position(f);
        if (!head.streams)
                return;
        f->request->streams = true;
        http_begin(f->request->http, head.status, head.has_type ? f->head.type : NULL, f->head.fields);
}

static void forward_on_chunk(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size) {
        Api *api = userdata;
        uint32_t number;
        KvBytes bytes;
        Forward *f;

        if (forward_chunk_read(payload, size, &number, &bytes) < 0)
                return;
        f = forward_find(api, session, number);
        if (!f || !f->headed)
                return;
        if (f->held.size + bytes.size > (f->head.streams ? 2 * FORWARD_WINDOW : f->head.size)) {
                request_cut(f->request, "the replica sends more than it announced");
                return;
        }
        text_append_bytes(&f->held, bytes.data, bytes.size);
        if (f->held.error < 0) {
                request_cut(f->request, "out of memory");
                return;
        }
        if (f->head.streams) {
                forward_drain(f);
                return;
        }
        f->taken += bytes.size;
        (void) forward_grant(f); /* a session that ended is found by its end */
}

static void forward_on_ending(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                              size_t size) {
        Api *api = userdata;
        ForwardEnding ending;
        Forward *f;

        if (forward_end_read(payload, size, &ending) < 0)
                return;
        f = forward_find(api, session, ending.number);
        if (!f)
                return;
        kv_saw(api->options.store, ending.index);
        if (ending.end == FORWARD_BEHIND)
                forward_lost(f, true);
        else if (ending.end == FORWARD_REFUSED && !f->headed) {
                f->ended = true;
                forward_refuse(f->request, ending.reason);
        } else if (ending.end != FORWARD_COMPLETE || !f->headed ||
                   (!f->head.streams && f->held.size != f->head.size)) {
                f->ended = true;
                request_cut(f->request, ending.reason);
        } else {
                f->ended = true;
                if (f->head.streams)
                        forward_drain(f);
                else
                        forward_answer(f);
        }
}

/* -- The replica in use -- */

/* Return whether the replica that has the request is lost. */
static bool forward_is_lost(const Forward *f, uint64_t now_ms) {
        uint64_t silent_ms = kv_replica_silent_ms(f->api->options.store, f->machine);

        return !forward_session(f) || (silent_ms != UINT64_MAX && silent_ms >= FORWARD_SILENT_MS) ||
               (!f->headed && now_ms >= f->due_ms);
}

static void forwards_look(void *userdata) {
        Api *api = userdata;
        struct Forwards *forwards = api->forwards;
        uint64_t now_ms = loop_now_ms(api->loop);

        for (Forward *f = TAILQ_FIRST(&forwards->all), *next; f; f = next) {
                next = TAILQ_NEXT(f, all);
                if (f->ended)
                        continue; /* the client takes the rest */
                if (f->session > 0) {
                        if (forward_is_lost(f, now_ms))
                                forward_lost(f, false);
                        continue;
                }
                forward_try(f);
                if (f->session == 0 && now_ms >= f->due_ms)
                        forward_refuse_unsent(f->request);
        }
        if (forwards->n > 0)
                (void) timer_start(&forwards->look, api->loop, FORWARD_LOOK_MS);
}

/* A session may end inside of a call that sends on it. */
void forward_on_session_end(Api *api) {
        if (api->forwards->n > 0)
                loop_defer(api->loop, &api->forwards->soon);
}

/* -- A request -- */

static void forward_describe(const Request *request, ForwardRequest *ret) {
        const Sender *sender = request->sender;
        const HttpRequest *http = request->http;
        bool has_body = !method_is(request, "GET") && !method_is(request, "HEAD");

        *ret = (ForwardRequest) { .sender = { .principal = sender->principal,
                                              .listener = request->listener->kind,
                                              .is_operator = sender->facts.is_operator,
                                              .reads = sender->facts.reads,
                                              .writes = sender->facts.writes,
                                              .granted = sender->facts.granted },
                                  .path = { request->path, request->path_size },
                                  .body = { has_body ? http->body : NULL, has_body ? http->body_size : 0 },
                                  .n_content_types = http->n_content_types,
                                  .parameters = request->parameters };
        (void) request_user_name(request, ret->sender.user);
        snprintf(ret->method, sizeof(ret->method), "%s", http->method);
        snprintf(ret->content_type, sizeof(ret->content_type), "%s", http->content_type ?: "");
}

/* A POST of this right is a plan. */
bool forward_reads(const Request *request) {
        return method_is(request, "GET") || method_is(request, "HEAD") ||
               request->route->right == RIGHT_UNITS_SEE;
}

void forward_request(Request *request) {
        Api *api = request->api;
        struct Forwards *forwards = api->forwards;
        ForwardRequest described;
        Forward *f;

        if (!forward_reads(request) && !kv_take_write(api->options.store, NULL)) {
                forward_refuse(request, FORWARD_TOO_MANY);
                return;
        }
        f = NEW0(Forward, 1);
        if (!f) {
                request_error(request, 500, "out of memory");
                return;
        }
        *f = (Forward) { .api = api,
                         .request = request,
                         .reads = forward_reads(request),
                         .due_ms = loop_now_ms(api->loop) + FORWARD_WAIT_MS };
        TAILQ_INSERT_TAIL(&forwards->all, f, all);
        forwards->n++;
        request->state = f;
        request->on_end = forward_on_end;
        request->on_drain = forward_on_drain;
        forward_describe(request, &described);
        forward_request_write(&described, &f->asked);
        if (f->asked.error < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (!timer_armed(&forwards->look))
                (void) timer_start(&forwards->look, api->loop, FORWARD_LOOK_MS);
        forward_try(f);
}

/* The end of an answer has the priority of its pieces, and the credit that of its request: the order within a
 * class is kept. */
static const PeerFrameType frame_types[] = {
        { PEER_FORWARD_HEAD, PEER_ANSWER | PEER_FROM_REPLICAS, PEER_PRIORITY_LOW, forward_on_head },
        { PEER_FORWARD_CHUNK, PEER_ANSWER | PEER_FROM_REPLICAS, PEER_PRIORITY_LOW, forward_on_chunk },
        { PEER_FORWARD_END, PEER_ANSWER | PEER_FROM_REPLICAS, PEER_PRIORITY_LOW, forward_on_ending },
};

int forward_new(Api *api) {
        api->forwards = NEW0(struct Forwards, 1);
        if (!api->forwards)
                return -ENOMEM;
        TAILQ_INIT(&api->forwards->all);
        api->forwards->look = TIMER(forwards_look, api);
        api->forwards->soon = DEFERRED(forwards_look, api);
        peers_register(api->options.peers, frame_types, ELEMENTS(frame_types), api);
        return 0;
}

void forward_free(Api *api) {
        if (!api->forwards)
                return;
        peers_unregister(api->options.peers, frame_types, ELEMENTS(frame_types));
        assert(TAILQ_EMPTY(&api->forwards->all)); /* their requests have ended */
        timer_stop(&api->forwards->look);
        deferred_cancel(&api->forwards->soon);
        free(api->forwards);
        api->forwards = NULL;
}
