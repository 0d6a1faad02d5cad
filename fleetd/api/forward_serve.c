/* Requests that hosts without a replica forward to this replica: each runs the normal route, with a sink
 * instead of a connection. The sender is the principal that the host claims, with no more rights than the
 * host itself has. */

#include "fleetd/api/forward.h"
#include "fleetd/api/forward_serve.h"
#include "fleetd/api/routes.h"

enum {
        SERVING_HELD_MAX = 256 * 1024, /* bytes of a stream that wait for credit */
        SERVING_BEHIND_MS = 1000,      /* to reach the bound of a host */
        SERVING_LOOK_MS = 10,
        SERVING_TAKE_MS = 60000, /* for a host to take a part of an answer, and between two looks at that */
        SERVING_TAKE_LOOK_MS = 500,
        SERVING_PRESSED_MS = 2000,           /* for a part of it while requests wait for SERVINGS_MAX */
        SERVING_HOST_MAX = 32 * 1024 * 1024, /* bytes of the requests of one session; of its answers for keys,
                                                and of the others, before the last of each */
        SERVINGS_MAX = 64 * 1024 * 1024,     /* of the complete answers for keys to all, before the last */
};

struct Serving {
        HttpRequest http; /* its userdata is the request, NULL: it has ended */
        Served served;
        Api *api;
        char machine[MACHINE_ID_SIZE], host[PEER_NAME_SIZE];
        RequestOrigin origin; /* borrows from these */
        Writer bytes;         /* the frame, from which 'asked' borrows */
        ForwardRequest asked;
        uint64_t round;    /* those of a session are in one round each */
        uint64_t until_ms; /* to reach the bound of the host; it may also wait for a turn with budget. 0: it
                              has begun */
        Text held;         /* of the answer, without credit */
        size_t held_at;
        size_t counted, counted_complete; /* of them in the sums of the session, and of all */
        bool keys;                        /* the request is for keys */
        bool large;                       /* it needs a worker, and none was free */
        bool stuck;                       /* a frame did not fit into the queue of the session */
        uint64_t taken_ms; /* until which a complete answer is to be taken; 0: it is not complete */
        bool ended;        /* the answer is complete */
        bool wants_drain;
        TAILQ_ENTRY(Serving) waiting;
};

struct Servings {
        Calls calls;
        TAILQ_HEAD(WaitingServings, Serving)
        waiting;              /* those with 'until_ms', by round, then in the order of arrival */
        Timer taking;         /* at answers that are to be taken */
        Timer look;           /* at requests that wait for their bound */
        Deferred serve;       /* requests that wait for a turn with budget */
        uint64_t served_turn; /* in which the last request began */
        uint64_t round;       /* of that request */
        size_t held;          /* bytes of complete answers for keys that hosts have not taken */
        ApiListenerState listeners[_API_LISTENER_MAX];
};

/* Sessions take turns: a request of one precedes all but the first of each other one that has waited for
 * longer. */
static void serving_wait(Serving *s) {
        struct Servings *servings = s->api->servings;
        Serving *before = TAILQ_LAST(&servings->waiting, WaitingServings);

        s->round = s->served.session->round = MAX(s->served.session->round, servings->round) + 1;
        while (before && before->round > s->round)
                before = TAILQ_PREV(before, WaitingServings, waiting);
        if (before)
                TAILQ_INSERT_AFTER(&servings->waiting, before, s, waiting);
        else
                TAILQ_INSERT_HEAD(&servings->waiting, s, waiting);
}

/* Count what is held now. */
static void serving_count(Serving *s) {
        size_t complete = s->ended && s->keys ? s->held.size : 0;

        s->served.session->held[s->keys] += s->held.size - s->counted;
        s->api->servings->held += complete - s->counted_complete;
        s->counted = s->held.size;
        s->counted_complete = complete;
}

static void serving_free_one(Serving *s) {
        if (s->http.userdata)
                request_free(s->http.userdata);
        s->held.size = 0;
        serving_count(s);
        if (s->until_ms > 0)
                TAILQ_REMOVE(&s->api->servings->waiting, s, waiting);
        served_remove(&s->served);
        forward_request_done(&s->asked);
        explicit_bzero(s->bytes.bytes, s->bytes.size); /* it may have a secret */
        writer_done(&s->bytes);
        text_done(&s->held);
        free(s);
}

static int serving_reply_end(const Serving *s, ForwardEnd end, const char *reason) {
        ForwardEnding ending = { .number = s->asked.number,
                                 .end = end,
                                 .index = kv_index(s->api->host->store) };
        _cleanup_writer_ Writer w = {};

        snprintf(ending.reason, sizeof(ending.reason), "%s", reason);
        forward_end_write(&ending, &w);
        return served_send(&s->served, PEER_FORWARD_END, &w);
}

/* -- The sink -- */

/* Look at the answer soon: whether it was taken, and whether the session takes more. */
static void serving_look(Serving *s) {
        if (!timer_armed(&s->api->servings->taking))
                (void) timer_start(&s->api->servings->taking, s->api->loop, SERVING_TAKE_LOOK_MS);
}

/* Return whether the frame must be sent again later. */
static bool serving_is_stuck(Serving *s, int r) {
        s->stuck = r == -ENOBUFS || r == -ENOMEM;
        if (s->stuck)
                serving_look(s);
        return s->stuck;
}

/* Send what the credit permits. Frees it after the last piece. */
static void serving_flush(Serving *s) {
        Served *served = &s->served;

        while (s->held_at < s->held.size && served->sent < served->credit) {
                size_t n = MIN(MIN(s->held.size - s->held_at, served->credit - served->sent),
                               (size_t) FORWARD_CHUNK);
                _cleanup_writer_ Writer w = {};

                forward_chunk_write(s->asked.number, s->held.chars + s->held_at, n, &w);
                if (serving_is_stuck(s, served_send(served, PEER_FORWARD_CHUNK, &w)))
                        return;
                s->held_at += n;
                served->sent += n;
        }
        if (s->held_at < s->held.size)
                return;
        text_done(&s->held);
        s->held = (Text) {};
        s->held_at = 0;
        serving_count(s);
        if (s->ended && !serving_is_stuck(s, serving_reply_end(s, FORWARD_COMPLETE, "")))
                serving_free_one(s);
}

static void serving_send_head(Serving *s, unsigned status, const char *type, const HttpField *fields,
                              bool streams, size_t size) {
        ForwardHead head = { .number = s->asked.number,
                             .status = status,
                             .streams = streams,
                             .size = size,
                             .has_type = type };
        _cleanup_writer_ Writer w = {};

        snprintf(head.type, sizeof(head.type), "%s", type ?: "");
        for (size_t i = 0; i < FORWARD_FIELDS_MAX && fields && fields[i].name; i++)
                head.fields[i] = fields[i];
        forward_head_write(&head, &w);
        (void) served_send(&s->served, PEER_FORWARD_HEAD, &w); /* without it, the host asks again */
}

static void serving_end(Serving *s, ForwardEnd end, const char *reason) {
        (void) serving_reply_end(s, end, reason);
        serving_free_one(s);
}

/* No more of it follows: the host has to take it. */
static void serving_complete(Serving *s) {
        s->ended = true;
        s->taken_ms = loop_now_ms(s->api->loop) + SERVING_TAKE_MS;
        serving_look(s);
}

static void serving_answer(HttpRequest *http, unsigned status, const char *type, const HttpField *fields,
                           const void *body, size_t size) {
        Serving *s = (Serving *) http;

        loop_count(s->api->loop, 0, HTTP_ANSWER_WORK * size);
        serving_send_head(s, status, type, fields, false, size);
        text_append_bytes(&s->held, body, size);
        serving_complete(s);
        serving_count(s);
        if (s->held.error < 0)
                serving_end(s, FORWARD_CUT, "out of memory");
        else
                serving_flush(s);
}

static void serving_begin(HttpRequest *http, unsigned status, const char *type, const HttpField *fields) {
        serving_send_head((Serving *) http, status, type, fields, true, 0);
}

static int serving_chunk(HttpRequest *http, const void *bytes, size_t size, bool last) {
        Serving *s = (Serving *) http;

        if (!last && s->held.size - s->held_at >= SERVING_HELD_MAX) {
                s->wants_drain = true;
                return -ENOBUFS;
        }
        if (s->held_at > SERVING_HELD_MAX) {
                s->held.size -= s->held_at;
                memmove(s->held.chars, s->held.chars + s->held_at, s->held.size + 1);
                s->held_at = 0;
        }
        if (s->served.session->held[s->keys] + size > SERVING_HOST_MAX &&
            (!last || size > SERVING_HELD_MAX)) {
                s->wants_drain = !last;
                if (last)
                        serving_end(s, FORWARD_CUT, "the host did not take its answers");
                else
                        serving_look(s);
                return last ? 0 : -ENOBUFS;
        }
        loop_count(s->api->loop, 0, size);
        text_append_bytes(&s->held, bytes, size);
        if (last)
                serving_complete(s);
        serving_count(s);
        if (s->held.error == 0)
                serving_flush(s);
        else if (last)
                serving_end(s, FORWARD_CUT, "out of memory");
        else
                return -ENOMEM;
        return 0;
}

static void serving_cut(HttpRequest *http, const char *reason) {
        serving_end((Serving *) http, FORWARD_CUT, reason);
}

static void serving_again(HttpRequest *http) {
        Serving *s = (Serving *) http;

        s->large = true;
        forward_request_done(&s->asked);
        if (forward_request_read(s->bytes.bytes, s->bytes.size, &s->asked) < 0) {
                serving_end(s, FORWARD_REFUSED, "out of memory");
                return;
        }
        s->until_ms = loop_now_ms(s->api->loop) + SERVING_BEHIND_MS;
        serving_wait(s);
        if (!timer_armed(&s->api->servings->look))
                (void) timer_start(&s->api->servings->look, s->api->loop, SERVING_LOOK_MS);
}

static const HttpSink serving_sink = { .answer = serving_answer,
                                       .begin = serving_begin,
                                       .chunk = serving_chunk,
                                       .cut = serving_cut,
                                       .again = serving_again };

/* Let a stream go on that found no room. */
static void serving_drain(Serving *s) {
        Request *request = s->http.userdata;

        if (!request || !s->wants_drain || s->held.size > 0 ||
            s->served.session->held[s->keys] >= SERVING_HOST_MAX)
                return;
        s->wants_drain = false;
        if (request->on_drain)
                request->on_drain(request);
}

/* -- Senders -- */

int serving_sender(const Request *request, Sender **ret) {
        const Serving *s = (const Serving *) request->http;
        const ForwardSender *claim = &s->asked.sender;
        const PolicyFacts claimed = { .is_operator = claim->is_operator,
                                      .reads = claim->reads,
                                      .writes = claim->writes,
                                      .granted = claim->granted };
        PolicyFacts facts;

        TRY(policy_facts_forwarded(request_cluster(request), s->machine, &claim->principal, &claimed,
                                   &facts));
        *ret = sender_new(&claim->principal, &facts);
        right_list_unref(facts.granted);
        return *ret ? 0 : -ENOMEM;
}

/* -- Requests -- */

/* Run the route. It may have ended then. */
static void serving_run(Serving *s) {
        Request *request = api_request_new(s->api, &s->http);
        size_t body_limit;
        char limit[32];
        int r;

        TAILQ_REMOVE(&s->api->servings->waiting, s, waiting);
        s->until_ms = 0;
        s->api->servings->served_turn = loop_turns(s->api->loop)->n;
        s->api->servings->round = s->round;
        loop_count(s->api->loop, 0, HTTP_REQUEST_WORK * s->bytes.size);
        if (!request) {
                serving_end(s, FORWARD_REFUSED, "out of memory");
                return;
        }
        s->origin = (RequestOrigin) { s->machine, s->host, s->asked.sender.user };
        request->origin = &s->origin;
        request->path = malloc(s->asked.path.size + 1);
        request->query = "";
        request->parameters = s->asked.parameters;
        s->asked.parameters = (HttpParameters) {};
        if (!request->path) {
                request_error(request, 500, "out of memory");
                return;
        }
        memcpy(request->path, s->asked.path.data, s->asked.path.size);
        request->path[s->asked.path.size] = 0;
        request->path_size = s->asked.path.size;
        body_limit = api_body_limit(s->api, s->asked.method, request->path);
        r = serving_sender(request, &request->sender);
        if (r < 0)
                request_error(request, 500, "out of memory");
        else if (request->sender->facts.is_removed)
                request_error(request, 403, "this host or user is not of the cluster any more");
        else if (s->http.body_size > body_limit)
                request_error(request, 413, "the body is limited to %s", size_text(body_limit, limit));
        else
                route_request(request);
}

/* Requests share the budget of a turn with those of connections; one begins in each turn. */
static bool servings_have_budget(const Api *api) {
        return loop_has_budget(api->loop) || api->servings->served_turn != loop_turns(api->loop)->n;
}

/* Whether the request waits for room: the host, or all of them, have not taken what they have, or no
 * worker is free for a large one. The second half of the room is for hosts that hold less than a quarter. */
static bool serving_is_held_up(const Serving *s) {
        size_t own = s->served.session->held[s->keys], all = s->api->servings->held;

        return own >= SERVING_HOST_MAX ||
               (s->keys && (all >= SERVINGS_MAX || (all >= SERVINGS_MAX / 2 && own >= SERVINGS_MAX / 4) ||
                            (s->large && !kv_may_read_large(s->api->host->store))));
}

/* Run it when the tree, and the cluster view of it, have reached the bound of the host. */
static void serving_try(Serving *s) {
        KvStore *store = s->api->host->store;

        if (kv_is_attached(store))
                serving_end(s, FORWARD_BEHIND, "");
        else if (kv_can_serve(store) && kv_index(store) >= s->asked.bound &&
                 registry_index(s->api->host->registry) >= s->asked.bound && !serving_is_held_up(s)) {
                if (servings_have_budget(s->api))
                        serving_run(s);
                else
                        loop_defer(s->api->loop, &s->api->servings->serve);
        } else if (loop_now_ms(s->api->loop) >= s->until_ms)
                serving_end(s, FORWARD_BEHIND, "");
        else if (!timer_armed(&s->api->servings->look))
                (void) timer_start(&s->api->servings->look, s->api->loop, SERVING_LOOK_MS);
}

static void servings_look(void *userdata) {
        Api *api = userdata;

        for (Serving *s = TAILQ_FIRST(&api->servings->waiting), *next; s; s = next) {
                next = TAILQ_NEXT(s, waiting);
                serving_try(s);
                if (next && !servings_have_budget(api)) { /* the others in the next turn */
                        loop_defer(api->loop, &api->servings->serve);
                        break;
                }
        }
}

/* Return the session that holds most, if it is more than a quarter of all while a request waits for that. */
static const ServedSession *servings_largest(const struct Servings *servings) {
        const ServedSession *largest = NULL;

        if (servings->held < SERVINGS_MAX || TAILQ_EMPTY(&servings->waiting))
                return NULL;
        for (const ServedSession *of = servings->calls.sessions; of; of = of->hh.next)
                if (of->held[true] > (largest ? largest->held[true] : SERVINGS_MAX / 4))
                        largest = of;
        return largest;
}

/* A host that takes nothing of an answer does not keep its memory; nor the places of other hosts. */
static bool serving_takes_too_long(const Serving *s, const ServedSession *largest, uint64_t now_ms) {
        const struct Servings *servings = s->api->servings;
        uint64_t max_ms = SERVING_TAKE_MS;

        if (s->keys && servings->held >= SERVINGS_MAX && !TAILQ_EMPTY(&servings->waiting))
                max_ms = s->served.session == largest ? SERVING_TAKE_LOOK_MS : SERVING_PRESSED_MS;
        return s->taken_ms > 0 && now_ms + SERVING_TAKE_MS >= s->taken_ms + max_ms;
}

static void servings_look_taking(void *userdata) {
        Api *api = userdata;
        const ServedSession *largest = servings_largest(api->servings);
        uint64_t now_ms = loop_now_ms(api->loop);
        bool more = false;

        for (Served *served = TAILQ_FIRST(&api->servings->calls.served), *next; served; served = next) {
                Serving *s = container_of(served, Serving, served);

                next = TAILQ_NEXT(served, all);
                if (serving_takes_too_long(s, largest, now_ms))
                        serving_end(s, FORWARD_CUT, "the host did not take the answer");
                else if (s->taken_ms > 0 || s->stuck || s->wants_drain) {
                        bool ended = s->ended;

                        more = true;
                        if (s->stuck)
                                serving_flush(s);
                        if (!ended) /* else it may be gone */
                                serving_drain(s);
                }
        }
        if (more)
                (void) timer_start(&api->servings->taking, api->loop, SERVING_TAKE_LOOK_MS);
}

/* Return the bytes of the requests of the session. */
static size_t servings_bytes(const ServedSession *of) {
        size_t n = 0;
        Served *s;

        TAILQ_FOREACH(s, &of->served, of_session)
                n += container_of(s, Serving, served)->bytes.size;
        return n;
}

/* Return why the request, which is not added yet, is rejected, or NULL. */
static const char *serving_refusal(Api *api, PeerSession *session, const ForwardRequest *asked) {
        const ServedSession *of = served_of(&api->servings->calls, session);
        const char *machine = peer_handshake(session)->machine_id;
        char text[PRINCIPAL_TEXT_SIZE];

        if (asked->sender.listener >= _API_LISTENER_MAX)
                return "this replica has no such listener: its version may differ";
        if (!policy_may_claim(&asked->sender.principal, machine)) {
                denials_add(&api->denials, NULL, machine, "a request for",
                            principal_text(&asked->sender.principal, text));
                return "the request is for a principal of another host";
        }
        if (of && of->n >= FORWARDS_MAX)
                return "64 requests of this host are under way, which is the limit";
        if (of && servings_bytes(of) >= SERVING_HOST_MAX)
                return "32 MiB of requests of this host are under way, which is the limit";
        return served_find(&api->servings->calls, session, asked->number) ?
                       "a request of this number is under way" :
                       NULL;
}

static void serving_on_request(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        Api *api = userdata;
        Serving *s = NEW0(Serving, 1);
        const char *refusal;

        if (!s)
                return; /* the host asks again, or its client leaves */
        write_raw(&s->bytes, payload, size);
        if (s->bytes.error < 0 || forward_request_read(s->bytes.bytes, s->bytes.size, &s->asked) < 0) {
                writer_done(&s->bytes);
                free(s);
                return;
        }
        s->api = api;
        snprintf(s->machine, sizeof(s->machine), "%s", peer_handshake(session)->machine_id);
        snprintf(s->host, sizeof(s->host), "%s", handshake_name(peer_handshake(session)));
        refusal = serving_refusal(api, session, &s->asked);
        if (served_add(&s->served, &api->servings->calls, session, s->asked.number) < 0) {
                forward_request_done(&s->asked);
                writer_done(&s->bytes);
                free(s);
                return;
        }
        if (refusal) {
                serving_end(s, FORWARD_REFUSED, refusal);
                return;
        }
        s->http = (HttpRequest) { .method = s->asked.method,
                                  .target = "",
                                  .host = "",
                                  .content_type = s->asked.content_type[0] ? s->asked.content_type : NULL,
                                  .n_content_types = s->asked.n_content_types,
                                  .body = s->asked.body.data,
                                  .body_size = s->asked.body.size,
                                  .sink = &serving_sink,
                                  .listener = &api->servings->listeners[s->asked.sender.listener] };
        s->keys = forward_is_for_keys(s->asked.path);
        s->until_ms = loop_now_ms(api->loop) + SERVING_BEHIND_MS;
        serving_wait(s);
        if (!api->servings->serve.loop) /* those that wait for a turn with budget precede it */
                serving_try(s);
}

static void serving_on_credit(Served *served) {
        Serving *s = container_of(served, Serving, served);
        bool ended = s->ended;

        if (s->taken_ms > 0)
                s->taken_ms = loop_now_ms(s->api->loop) + SERVING_TAKE_MS;
        if (ended || s->held.size > 0)
                serving_flush(s);
        if (!ended) /* else it may be gone */
                serving_drain(s);
}

static void serving_on_gone(Served *s) {
        serving_free_one(container_of(s, Serving, served));
}

static const CallType serving_calls = { .number_size = sizeof(uint32_t),
                                        .cancel = PEER_FORWARD_CANCEL,
                                        .credit = PEER_FORWARD_CREDIT,
                                        .on_credit = serving_on_credit,
                                        .on_gone = serving_on_gone };

static const PeerFrameType serve_frame_types[] = {
        { PEER_FORWARD, serving_on_request },
};

int serving_new(Api *api) {
        api->servings = NEW0(struct Servings, 1);
        if (!api->servings)
                return -ENOMEM;
        TAILQ_INIT(&api->servings->waiting);
        api->servings->serve = DEFERRED(servings_look, api);
        api->servings->look = TIMER(servings_look, api);
        api->servings->taking = TIMER(servings_look_taking, api);
        for (ApiListener kind = 0; kind < _API_LISTENER_MAX; kind++)
                api_listener_init(&api->servings->listeners[kind], api, kind);
        calls_open(&api->servings->calls, api->loop, api->host->peers, &serving_calls);
        peers_register(api->host->peers, serve_frame_types, ELEMENTS(serve_frame_types), api);
        return 0;
}

void serving_free(Api *api) {
        if (!api->servings)
                return;
        peers_unregister(api->host->peers, serve_frame_types, ELEMENTS(serve_frame_types));
        while (!TAILQ_EMPTY(&api->servings->calls.served))
                serving_on_gone(TAILQ_FIRST(&api->servings->calls.served));
        calls_close(&api->servings->calls);
        timer_stop(&api->servings->look);
        timer_stop(&api->servings->taking);
        deferred_cancel(&api->servings->serve);
        free(api->servings);
        api->servings = NULL;
}
