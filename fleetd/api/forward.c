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
        bool common;      /* it does not take the places of operators' commands */
        char machine[MACHINE_ID_SIZE];
        Writer asked;
        bool reads;      /* it changes nothing */
        unsigned tries;  /* replicas that it was sent to */
        uint64_t due_ms; /* while it waits for a replica, or for the head of the answer */
        bool headed;     /* the head of the answer has arrived */
        bool ended;      /* all of the answer */
        ForwardHead head;
        char raft_index[TEXT_U64_SIZE], term[TEXT_U64_SIZE]; /* in its fields */
        uint64_t taken, granted;  /* bytes: of the body, that the client took; that may be sent */
        Text held;                /* a body that is not complete, or that the client could not take yet */
        TAILQ_ENTRY(Forward) all; /* that were sent, or that wait */
} Forward;

TAILQ_HEAD(ForwardQueue, Forward);

struct Forwards {
        struct ForwardQueue sent;
        struct ForwardClass {
                struct ForwardQueue
                        waiting; /* in the order of arrival; before them, those of a lost replica */
                unsigned n_sent, n_streams, n_waiting;
                size_t bytes; /* of all requests */
        } classes[2];         /* of commands of operators, and the common one */
        uint32_t number;
        Timer look;
        Deferred soon; /* the same at once */
};

/* -- Sending -- */

bool forward_is_for_keys(KvBytes path) {
        static const char *const prefixes[] = { "/v2/keys", "/fleet/v1/kv" };

        for (size_t i = 0; i < ELEMENTS(prefixes); i++)
                if (path.size >= strlen(prefixes[i]) &&
                    memcmp(path.data, prefixes[i], strlen(prefixes[i])) == 0)
                        return true;
        return false;
}

static struct ForwardClass *forward_class(const Forward *f) {
        return &f->api->forwards->classes[f->common];
}

static unsigned *forward_count(Forward *f) {
        struct ForwardClass *class = forward_class(f);

        return f->headed && f->head.streams ? &class->n_streams : &class->n_sent;
}

static void forward_remove(Forward *f) {
        struct ForwardClass *class = forward_class(f);

        TAILQ_REMOVE(f->session > 0 ? &f->api->forwards->sent : &class->waiting, f, all);
        if (f->session > 0 && !f->ended)
                (*forward_count(f))--;
        class->n_waiting -= f->session == 0;
}

static void forward_set_sent(Forward *f, uint64_t session) {
        forward_remove(f);
        f->session = session;
        TAILQ_INSERT_TAIL(&f->api->forwards->sent, f, all);
        forward_class(f)->n_sent++;
}

/* The replica is done with it. */
static void forward_set_ended(Forward *f) {
        (*forward_count(f))--;
        f->ended = true;
}

/* It waits for another replica, before those that wait for their first one. */
static void forward_set_waiting(Forward *f) {
        forward_remove(f);
        f->session = 0;
        TAILQ_INSERT_HEAD(&forward_class(f)->waiting, f, all);
        forward_class(f)->n_waiting++;
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

/* Return whether it was sent. */
static bool forward_try(Forward *f) {
        KvStore *store = f->api->options.store;
        const char *machine = forward_replica(f->api);
        PeerSession *session = machine ? peers_dialed(f->api->options.peers, machine) : NULL;
        _cleanup_writer_ Writer w = {};
        KvPosition position;

        if (!session)
                return false;
        kv_position(store, &position);
        f->number = ++f->api->forwards->number;
        forward_set_sent(f, peer_number(session));
        f->taken = f->granted = 0;
        memcpy(f->machine, machine, sizeof(f->machine));
        forward_request_begin(f->number, position.lineage, kv_seen(store), &w);
        write_raw(&w, f->asked.bytes, f->asked.size);
        if (forward_send(f, PEER_FORWARD, &w) < 0) {
                forward_set_waiting(f);
                return false;
        }
        (void) forward_grant(f); /* or with the head: the replica has it, and it is not sent twice */
        f->tries++;
        f->due_ms = loop_now_ms(f->api->loop) + FORWARD_ANSWER_MS;
        return true;
}

/* -- Answers to the client -- */

/* Answer 503: no replica has the request, or the cause says so. */
static void forward_refuse(Request *request, const char *cause) {
        if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, cause);
        else
                request_error(request, 503, "%s", cause);
}

static void forward_refuse_many(Request *request) {
        forward_refuse(request, "too many requests of this host are under way: try again");
}

static void forward_refuse_unsent(const Forward *f) {
        const struct ForwardClass *class = forward_class(f);
        Request *request = f->request;
        KvState state;

        if (class->n_sent >= FORWARD_PART_MAX) {
                forward_refuse_many(request);
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
        forward_remove(f);
        forward_class(f)->bytes -= f->asked.size;
        if (forward_class(f)->n_waiting > 0)
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
        if (f->headed && f->head.streams)
                request_cut(request, "the replica that answered is lost");
        else if ((f->reads || did_nothing) && f->tries < FORWARD_TRIES_MAX) {
                forward_set_waiting(f);
                f->headed = false;
                text_clear(&f->held);
                free(TAKE_PTR(f->head.texts));
                f->due_ms = loop_now_ms(f->api->loop) + FORWARD_MOVE_MS;
        } else if (did_nothing)
                forward_refuse(request, "the replica in use lacks what this host has seen, or has too many "
                                        "requests: try again");
        else if (f->reads)
                forward_refuse_unsent(f);
        else if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, FORWARD_UNKNOWN);
        else
                request_error(request, 504, "%s", FORWARD_UNKNOWN);
}

/* -- Frames of the replica -- */

static Forward *forward_find(Api *api, PeerSession *session, uint32_t number) {
        Forward *f;

        TAILQ_FOREACH(f, &api->forwards->sent, all)
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
        Forward *f = forward_find(api, session, forward_head_number(payload, size));
        ForwardHead head;

        if (!f || f->headed || forward_head_read(payload, size, &head) < 0)
                return;
        (*forward_count(f))--;
        f->headed = true;
        f->head = head;
        (*forward_count(f))++;
        forward_set_position(f);
        (void) forward_grant(f);
        if (!head.streams)
                return;
        if (forward_class(f)->n_streams > FORWARD_PART_MAX) {
                forward_refuse_many(f->request);
                return;
        }
        loop_defer(api->loop, &api->forwards->soon); /* it has left its place */
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
        f->due_ms = loop_now_ms(api->loop) + FORWARD_ANSWER_MS;
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
                forward_set_ended(f);
                forward_refuse(f->request, ending.reason);
        } else if (!f->headed ||
                   (!f->head.streams && (ending.end != FORWARD_COMPLETE || f->held.size != f->head.size)))
                forward_lost(f, f->reads); /* nothing of it was sent to the client */
        else if (ending.end != FORWARD_COMPLETE) {
                forward_set_ended(f);
                request_cut(f->request, ending.reason);
        } else {
                forward_set_ended(f);
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
               (!(f->headed && f->head.streams) && now_ms >= f->due_ms);
}

/* Send those that wait, as far as there is place; and end those that have waited for too long. */
static void forwards_send(struct ForwardClass *class, uint64_t now_ms) {
        Forward *f, *next;

        while ((f = TAILQ_FIRST(&class->waiting)) && class->n_sent < FORWARD_PART_MAX && forward_try(f))
                ;
        for (f = TAILQ_FIRST(&class->waiting); f; f = next) {
                next = TAILQ_NEXT(f, all);
                if (now_ms >= f->due_ms)
                        forward_refuse_unsent(f);
        }
}

static bool forwards_any(const struct Forwards *forwards) {
        return !TAILQ_EMPTY(&forwards->sent) || forwards->classes[false].n_waiting > 0 ||
               forwards->classes[true].n_waiting > 0;
}

static void forwards_look(void *userdata) {
        Api *api = userdata;
        struct Forwards *forwards = api->forwards;
        uint64_t now_ms = loop_now_ms(api->loop);

        for (Forward *f = TAILQ_FIRST(&forwards->sent), *next; f; f = next) {
                next = TAILQ_NEXT(f, all);
                if (!f->ended && forward_is_lost(f, now_ms)) /* else the client takes the rest */
                        forward_lost(f, false);
        }
        for (size_t i = 0; i < ELEMENTS(forwards->classes); i++)
                forwards_send(&forwards->classes[i], now_ms);
        if (forwards_any(forwards))
                (void) timer_start(&forwards->look, api->loop, FORWARD_LOOK_MS);
}

/* A session may end inside of a call that sends on it. */
void forward_on_session_end(Api *api) {
        if (forwards_any(api->forwards))
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
        struct ForwardClass *class;
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
                         .common = !request->sender->facts.is_operator ||
                                   forward_is_for_keys((KvBytes) { request->path, request->path_size }),
                         .reads = forward_reads(request),
                         .due_ms = loop_now_ms(api->loop) + FORWARD_WAIT_MS };
        class = forward_class(f);
        TAILQ_INSERT_TAIL(&class->waiting, f, all);
        class->n_waiting++;
        request->state = f;
        request->on_end = forward_on_end;
        request->on_drain = forward_on_drain;
        forward_describe(request, &described);
        forward_request_write(&described, &f->asked);
        class->bytes += f->asked.size;
        if (f->asked.error < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (class->n_waiting > FORWARDS_WAITING_MAX || class->bytes > FORWARDS_BYTES_MAX) {
                forward_refuse_many(request);
                return;
        }
        if (!timer_armed(&forwards->look))
                (void) timer_start(&forwards->look, api->loop, FORWARD_LOOK_MS);
        if (class->n_waiting == 1 && class->n_sent < FORWARD_PART_MAX)
                (void) forward_try(f);
}

static const PeerFrameType forward_frame_types[] = {
        { PEER_FORWARD_HEAD, forward_on_head },
        { PEER_FORWARD_CHUNK, forward_on_chunk },
        { PEER_FORWARD_END, forward_on_ending },
};

int forward_new(Api *api) {
        api->forwards = NEW0(struct Forwards, 1);
        if (!api->forwards)
                return -ENOMEM;
        TAILQ_INIT(&api->forwards->sent);
        for (size_t i = 0; i < ELEMENTS(api->forwards->classes); i++)
                TAILQ_INIT(&api->forwards->classes[i].waiting);
        api->forwards->look = TIMER(forwards_look, api);
        api->forwards->soon = DEFERRED(forwards_look, api);
        peers_register(api->options.peers, forward_frame_types, ELEMENTS(forward_frame_types), api);
        return 0;
}

void forward_free(Api *api) {
        if (!api->forwards)
                return;
        peers_unregister(api->options.peers, forward_frame_types, ELEMENTS(forward_frame_types));
        assert(!forwards_any(api->forwards)); /* their requests have ended */
        timer_stop(&api->forwards->look);
        deferred_cancel(&api->forwards->soon);
        free(api->forwards);
        api->forwards = NULL;
}
