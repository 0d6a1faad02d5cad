#include "fleetd/api/forward.h"

#include "base/log.h"
#include "fleetd/api/keys_v2_answer.h"

typedef enum ForwardState {
        FORWARD_WAITS, /* for a replica, or for a place */
        FORWARD_SENT,
        FORWARD_STREAMS, /* the head of a stream has arrived: it has left its place */
        FORWARD_ENDED,   /* the client takes the rest of the answer */
        _FORWARD_STATE_MAX
} ForwardState;

typedef struct Forward {
        Api *api;
        Request *request;
        Call call;
        ForwardState state;
        bool common; /* it does not take the places of operators' commands */
        char machine[MACHINE_ID_SIZE];
        Writer asked;
        bool reads;     /* it changes nothing */
        unsigned tries; /* replicas that it was sent to */
        bool headed;    /* the head of the answer has arrived */
        ForwardHead head;
        char raft_index[TEXT_U64_SIZE], term[TEXT_U64_SIZE]; /* in its fields */
        uint64_t taken;                                      /* bytes of the body, that the client took */
        Text held; /* a body that is not complete, or that the client could not take yet */
        TAILQ_ENTRY(Forward) waiting;
} Forward;

struct Forwards {
        Calls calls;
        struct ForwardClass {
                TAILQ_HEAD(, Forward) waiting; /* first those of a lost replica; in the order of arrival */
                unsigned n[_FORWARD_STATE_MAX];
                size_t bytes; /* of all requests */
        } classes[2];         /* of commands of operators, and the common one */
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

static void forward_leave(Forward *f) {
        forward_class(f)->n[f->state]--;
        if (f->state == FORWARD_WAITS)
                TAILQ_REMOVE(&forward_class(f)->waiting, f, waiting);
}

static void forward_enter(Forward *f, ForwardState state) {
        f->state = state;
        forward_class(f)->n[state]++;
        if (state == FORWARD_WAITS && f->tries > 0)
                TAILQ_INSERT_HEAD(&forward_class(f)->waiting, f, waiting);
        else if (state == FORWARD_WAITS)
                TAILQ_INSERT_TAIL(&forward_class(f)->waiting, f, waiting);
}

static void forward_move(Forward *f, ForwardState state) {
        forward_leave(f);
        forward_enter(f, state);
}

/* A member hears of its leader by Raft; what it heard while it was attached is old. */
static bool forward_is_silent(const Api *api, const char *machine) {
        uint64_t silent_ms = kv_replica_silent_ms(api->host->store, machine);

        return kv_is_attached(api->host->store) && silent_ms != UINT64_MAX && silent_ms >= FORWARD_SILENT_MS;
}

/* Set the replica to use: one that answers, or whose first answer is due; of a member the leader. Return
 * whether there is one. */
static bool forward_replica(const Api *api, char ret[static MACHINE_ID_SIZE]) {
        KvStore *store = api->host->store;
        const char *machine = kv_replica_in_use(store);
        KvState state = {};

        if (!kv_is_attached(store)) {
                kv_state(store, &state);
                machine = state.leader_machine_id;
        }
        snprintf(ret, MACHINE_ID_SIZE, "%s", machine);
        return machine[0] && !forward_is_silent(api, machine);
}

bool forward_has_replica(const Api *api) {
        char machine[MACHINE_ID_SIZE];

        return forward_replica(api, machine);
}

/* Return whether it was sent. */
static bool forward_try(Forward *f) {
        KvStore *store = f->api->host->store;
        PeerSession *session = forward_replica(f->api, f->machine) ?
                                       peers_dialed(f->api->host->peers, f->machine) :
                                       NULL;
        _cleanup_writer_ Writer w = {};
        KvPosition position;

        if (!session)
                return false;
        kv_position(store, &position);
        forward_request_begin(call_number(&f->call), position.lineage, kv_seen(store), &w);
        write_raw(&w, f->asked.bytes, f->asked.size);
        if (call_send(&f->call, session, PEER_FORWARD, &w) < 0)
                return false;
        forward_move(f, FORWARD_SENT);
        f->taken = 0;
        f->tries++;
        (void) call_wait(&f->call, FORWARD_ANSWER_MS);
        return true;
}

/* -- Answers to the client -- */

static void forward_refuse_many(Request *request) {
        keys_v2_refuse_any(request, "too many requests of this host are under way: try again");
}

static void forward_refuse_unsent(const Forward *f) {
        const struct ForwardClass *class = forward_class(f);
        Request *request = f->request;
        KvState state;

        if (class->n[FORWARD_SENT] >= FORWARD_PART_MAX) {
                forward_refuse_many(request);
                return;
        }
        kv_state(request->api->host->store, &state);
        keys_v2_refuse_any(request, state.problem[0] ? state.problem :
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
        if (f->state == FORWARD_ENDED)
                request_end(request);
        else if (call_grant(&f->call, f->taken) < 0)
                request_cut(request, "the session to the replica has ended");
}

static void forward_on_drain(Request *request) {
        forward_drain(request->state);
}

static void forward_on_end(Request *request) {
        Forward *f = request->state;

        call_cancel(&f->call);
        forward_leave(f);
        forward_class(f)->bytes -= f->asked.size;
        if (f->asked.bytes) /* it may have a secret */
                explicit_bzero(f->asked.bytes, f->asked.size);
        if (!TAILQ_EMPTY(&forward_class(f)->waiting))
                loop_defer(f->api->loop, &f->api->forwards->soon);
        writer_done(&f->asked);
        text_done(&f->held);
        free(f->head.texts);
        free(f);
}

/* The replica is lost, or has done nothing: send the request to the next one, if that is harmless. */
static void forward_lost(Forward *f, bool did_nothing) {
        Request *request = f->request;

        call_cancel(&f->call);
        if (f->state == FORWARD_STREAMS)
                request_cut(request, "the replica that answered is lost");
        else if ((f->reads || did_nothing) && f->tries < FORWARD_TRIES_MAX) {
                forward_move(f, FORWARD_WAITS);
                f->headed = false;
                text_clear(&f->held);
                free(TAKE_PTR(f->head.texts));
                (void) call_wait(&f->call, FORWARD_MOVE_MS);
        } else if (did_nothing)
                keys_v2_refuse_any(request,
                                   "the replica in use lacks what this host has seen, or has too many "
                                   "requests: try again");
        else if (f->reads)
                forward_refuse_unsent(f);
        else if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, FORWARD_UNKNOWN);
        else
                request_error(request, 504, "%s", FORWARD_UNKNOWN);
}

/* -- Frames of the replica -- */

static void forward_on_lost(Call *call) {
        Forward *f = container_of(call, Forward, call);

        loop_defer(f->api->loop, &f->api->forwards->soon);
        forward_lost(f, false);
}

static void forward_on_due(Call *call) {
        Forward *f = container_of(call, Forward, call);

        if (f->state == FORWARD_WAITS)
                forward_refuse_unsent(f);
        else
                forward_on_lost(call);
}

/* In all its answers, this host reports the position of the last heartbeat, which does not go back. */
static void forward_set_position(Forward *f) {
        KvPosition position;

        kv_position(f->api->host->store, &position);
        for (HttpField *field = f->head.fields; field->name; field++)
                if (streq(field->name, "X-Raft-Index"))
                        field->value = text_u64(position.raft_index, f->raft_index);
                else if (streq(field->name, "X-Raft-Term"))
                        field->value = text_u64(position.term, f->term);
}

static void forward_on_head(Call *call, const void *payload, size_t size) {
        Forward *f = container_of(call, Forward, call);
        ForwardHead head;

        if (f->headed || forward_head_read(payload, size, &head) < 0)
                return;
        f->headed = true;
        f->head = head;
        forward_set_position(f);
        (void) call_grant(call, 0);
        if (!head.streams)
                return;
        timer_stop(&call->due);
        forward_move(f, FORWARD_STREAMS);
        if (forward_class(f)->n[FORWARD_STREAMS] > FORWARD_PART_MAX) {
                forward_refuse_many(f->request);
                return;
        }
        loop_defer(f->api->loop, &f->api->forwards->soon); /* it has left its place */
        f->request->streams = true;
        http_begin(f->request->http, head.status, head.has_type ? f->head.type : NULL, f->head.fields);
}

static void forward_on_chunk(Call *call, const void *payload, size_t size) {
        Forward *f = container_of(call, Forward, call);
        KvBytes bytes;

        if (!f->headed || forward_chunk_read(payload, size, &bytes) < 0)
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
        (void) call_wait(call, FORWARD_ANSWER_MS);
        (void) call_grant(call, f->taken); /* a session that ended is found by its end */
}

static void forward_finish(Forward *f) {
        call_end(&f->call);
        forward_move(f, FORWARD_ENDED);
}

static void forward_on_ending(Call *call, const void *payload, size_t size) {
        Forward *f = container_of(call, Forward, call);
        ForwardEnding ending;

        if (forward_end_read(payload, size, &ending) < 0)
                return;
        kv_saw(f->api->host->store, ending.index);
        if (ending.end == FORWARD_BEHIND)
                forward_lost(f, true);
        else if (ending.end == FORWARD_REFUSED && !f->headed) {
                forward_finish(f);
                keys_v2_refuse_any(f->request, ending.reason);
        } else if (!f->headed ||
                   (!f->head.streams && (ending.end != FORWARD_COMPLETE || f->held.size != f->head.size)))
                forward_lost(f, f->reads); /* nothing of it was sent to the client */
        else if (ending.end != FORWARD_COMPLETE) {
                forward_finish(f);
                request_cut(f->request, ending.reason);
        } else {
                forward_finish(f);
                if (f->head.streams)
                        forward_drain(f);
                else
                        forward_answer(f);
        }
}

/* -- The replica in use -- */

static bool forwards_any(const struct Forwards *forwards) {
        return !TAILQ_EMPTY(&forwards->calls.sent) || !TAILQ_EMPTY(&forwards->classes[false].waiting) ||
               !TAILQ_EMPTY(&forwards->classes[true].waiting);
}

/* Leave silent replicas, and send the requests that wait, as far as there is place. */
static void forwards_look(void *userdata) {
        Api *api = userdata;
        struct Forwards *forwards = api->forwards;

        for (Call *call = TAILQ_FIRST(&forwards->calls.sent), *next; call; call = next) {
                Forward *f = container_of(call, Forward, call);

                next = TAILQ_NEXT(call, sent);
                if (forward_is_silent(api, f->machine))
                        forward_lost(f, false);
        }
        for (size_t i = 0; i < ELEMENTS(forwards->classes); i++) {
                struct ForwardClass *class = &forwards->classes[i];
                Forward *f;

                while ((f = TAILQ_FIRST(&class->waiting)) && class->n[FORWARD_SENT] < FORWARD_PART_MAX &&
                       forward_try(f))
                        ;
        }
        if (forwards_any(forwards))
                (void) timer_start(&forwards->look, api->loop, FORWARD_LOOK_MS);
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

        if (!forward_reads(request) && !kv_take_write(api->host->store, NULL)) {
                keys_v2_refuse_any(request, FORWARD_TOO_MANY);
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
                         .reads = forward_reads(request) };
        class = forward_class(f);
        call_init(&f->call, &forwards->calls, FORWARD_WINDOW);
        forward_enter(f, FORWARD_WAITS);
        request->state = f;
        request->on_end = forward_on_end;
        request->on_drain = forward_on_drain;
        forward_describe(request, &described);
        forward_request_write(&described, &f->asked);
        if (described.body.size > 0)
                explicit_bzero((void *) (uintptr_t) described.body.data, described.body.size);
        class->bytes += f->asked.size;
        if (f->asked.error < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (class->n[FORWARD_WAITS] > FORWARDS_WAITING_MAX || class->bytes > FORWARDS_BYTES_MAX) {
                forward_refuse_many(request);
                return;
        }
        (void) call_wait(&f->call, FORWARD_WAIT_MS);
        if (!timer_armed(&forwards->look))
                (void) timer_start(&forwards->look, api->loop, FORWARD_LOOK_MS);
        if (class->n[FORWARD_WAITS] == 1 && class->n[FORWARD_SENT] < FORWARD_PART_MAX)
                (void) forward_try(f);
}

static const CallType forward_calls = { .number_size = sizeof(uint32_t),
                                        .cancel = PEER_FORWARD_CANCEL,
                                        .credit = PEER_FORWARD_CREDIT,
                                        .answers = { { PEER_FORWARD_HEAD, 1, forward_on_head },
                                                     { PEER_FORWARD_CHUNK, 0, forward_on_chunk },
                                                     { PEER_FORWARD_END, 0, forward_on_ending } },
                                        .on_lost = forward_on_lost,
                                        .on_due = forward_on_due };

int forward_new(Api *api) {
        api->forwards = NEW0(struct Forwards, 1);
        if (!api->forwards)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTS(api->forwards->classes); i++)
                TAILQ_INIT(&api->forwards->classes[i].waiting);
        api->forwards->look = TIMER(forwards_look, api);
        api->forwards->soon = DEFERRED(forwards_look, api);
        calls_open(&api->forwards->calls, api->loop, api->host->peers, &forward_calls);
        return 0;
}

void forward_free(Api *api) {
        if (!api->forwards)
                return;
        calls_close(&api->forwards->calls); /* the requests have ended */
        timer_stop(&api->forwards->look);
        deferred_cancel(&api->forwards->soon);
        free(api->forwards);
        api->forwards = NULL;
}
