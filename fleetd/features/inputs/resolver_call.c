/* The content of a unit of this host: from its own tree, or from a replica, which reads it in the same way
 * for the host of a session. The text of the assignment decides what the unit names, not the host that asks.
 *
 * A replica opens the secrets, and sends values only to the host to which the unit is assigned. The session
 * protects them, as it does the cluster key (key_distribution.c): it is authenticated and encrypted by
 * certificates or by the key file, and without TLS in simulation only. */
#include "base/pace.h"
#include "fleetd/features/inputs/frames.h"

enum {
        REQUESTS_MAX = 4,                /* of this host under way; others wait */
        REQUEST_WAIT_MS = 5000,          /* for the next part of an answer */
        REPLICA_RETRY_MS = 1000,         /* until a replica is asked again that had no answer, */
        REPLICA_NO_KEY_MS = 5000,        /* or that cannot open a secret */
        REQUESTS_PER_SECOND = 20,        /* of one host */
        REQUESTS_BURST = 200,            /* units of a host that boots */
        ANSWERS_QUEUE_MAX = 1024 * 1024, /* bytes that wait for a session before a further answer */
};

/* A call of resolver_begin(). */
typedef struct Resolving {
        Named named; /* the unit; first */
        Resolver *resolver;
        Call call;
        char hash[UNIT_HASH_SIZE]; /* of its text */
        uint64_t index;
        char replica[MACHINE_ID_SIZE]; /* that was asked */
        Writer answer;                 /* its parts so far, */
        size_t left;                   /* and the bytes that follow */
        ResolverDone *done;
        void *userdata;
} Resolving;

/* A replica that is asked again later. */
typedef struct Avoided {
        Named named; /* the machine; first */
        uint64_t until_ms;
} Avoided;

struct Resolver {
        ComponentHost *host;
        Calls calls;
        Named *resolving; /* in the order of resolver_begin() */
        Named *avoided;
        Deferred next;
        Deferred answer; /* requests of other hosts that wait */
};

/* A request of another host. */
typedef struct Answering {
        Served served;
        Resolver *resolver;
        InputsRequest request;
} Answering;

/* Read the content of a unit for a machine. 0; -EAGAIN: not now; -EPERM: the machine does not have the unit
 * with this text; -ENOMEM. As resolver_read(). */
static int resolver_read_for(const Resolver *r, const char *machine, const char *unit, const char *hash,
                             uint64_t index, Resolved *ret, ResolverValues **ret_values) {
        const ComponentHost *host = r->host;
        const ClusterMachine *m = cluster_machine(registry_cluster(host->registry), machine);
        const ClusterAssignment *a = cluster_assignment_on(m, unit);
        _cleanup_unit_ Unit *former = NULL;
        const Unit *text;

        if (!registry_ready(host->registry) || !kv_can_serve(host->store) ||
            registry_index(host->registry) < index)
                return -EAGAIN;
        if (!a || (m->removed && !m->host) || !cluster_assignment_is_active(a) || !streq(a->hash, hash))
                return -EPERM;
        TRY(registry_read_former_text(host->registry, a, &former));
        text = former ?: a->of->unit;
        if (!text || !streq(text->hash, hash))
                return -EPERM;
        return resolver_read(host, unit, &text->placement.inputs, true, ret, ret_values);
}

/* -- The host that asks -- */

static void resolving_drop(Resolving *v) {
        call_cancel(&v->call);
        (void) tls_secret_free(v->answer.chars, v->answer.size);
        named_remove(&v->resolver->resolving, v->named.name);
}

/* The content borrows from the answer until 'done' returns, which may begin and cancel other calls. */
static void resolving_end(Resolving *v, const Resolved *resolved) {
        Writer answer = v->answer;
        Resolver *r = v->resolver;
        ResolverDone *done = v->done;
        void *userdata = v->userdata;

        v->answer = (Writer) {};
        resolving_drop(v);
        if (r->resolving)
                loop_defer(r->host->io.loop, &r->next);
        done(userdata, resolved);
        (void) tls_secret_free(answer.chars, answer.size);
}

/* Another replica may have what this one has not. */
static void resolving_fail(Resolving *v, uint64_t avoid_ms) {
        Resolver *r = v->resolver;
        Avoided *avoided = named_get(&r->avoided, v->replica, sizeof(*avoided));

        if (avoided)
                avoided->until_ms = loop_now_ms(r->host->io.loop) + avoid_ms;
        resolving_end(v, NULL);
}

static void resolving_read(Resolving *v) {
        const Resolver *r = v->resolver;
        ResolverValues *values = NULL;
        Resolved resolved = {};
        int e = resolver_read_for(r, r->host->settings->machine_id, v->named.name, v->hash, v->index,
                                  &resolved, &values);

        resolving_end(v, e < 0 ? NULL : &resolved);
        content_done(&resolved.content);
        resolver_values_free(values);
}

static bool replica_can_be_asked(const Resolver *r, const char *machine) {
        const Avoided *avoided = named_find(r->avoided, machine);

        return peers_dialed(r->host->peers, machine) &&
               (!avoided || loop_now_ms(r->host->io.loop) >= avoided->until_ms);
}

/* Return the replica in use, or another one with a session; NULL: none can be asked now. Borrowed. */
static const char *resolver_replica(const Resolver *r) {
        const char *in_use = kv_replica_in_use(r->host->store);
        const ClusterMachine *m;

        if (in_use[0] && replica_can_be_asked(r, in_use))
                return in_use;
        LIST_FOREACH(m, &registry_cluster(r->host->registry)->members, of_members)
                if (m->member.raft_id != 0 && replica_can_be_asked(r, m->id))
                        return m->id;
        return NULL;
}

static void resolving_ask(Resolving *v) {
        const char *replica = resolver_replica(v->resolver);
        InputsRequest request = { .unit = v->named.name, .hash = v->hash, .index = v->index };
        _cleanup_writer_ Writer w = {};

        if (!replica) {
                resolving_end(v, NULL);
                return;
        }
        snprintf(v->replica, sizeof(v->replica), "%s", replica);
        request.number = (uint32_t) call_number(&v->call);
        inputs_request_write(&request, &w);
        if (call_send(&v->call, peers_dialed(v->resolver->host->peers, replica), PEER_INPUTS, &w) < 0 ||
            call_wait(&v->call, REQUEST_WAIT_MS) < 0)
                resolving_fail(v, REPLICA_RETRY_MS);
}

/* Return the next call that can be answered or sent, or NULL. */
static Resolving *resolver_waiting(const Resolver *r) {
        unsigned n = 0;

        for (Named *named = r->resolving; named; named = named->hh.next) {
                Resolving *v = (Resolving *) named;

                if (v->call.session == 0)
                        return v;
                if (++n >= REQUESTS_MAX)
                        break;
        }
        return NULL;
}

static void resolver_on_next(void *userdata) {
        Resolver *r = userdata;
        Resolving *v = resolver_waiting(r);

        if (!v)
                return;
        loop_defer(r->host->io.loop, &r->next); /* the other ones: each may be large */
        if (kv_is_attached(r->host->store))
                resolving_ask(v);
        else
                resolving_read(v);
}

static void resolving_complete(Resolving *v) {
        Resolved resolved;
        InputsStatus status;

        if (inputs_answer_read(v->answer.bytes, v->answer.size, &status, &resolved) < 0)
                resolving_fail(v, REPLICA_RETRY_MS);
        else if (status != INPUTS_RESOLVED)
                resolving_fail(v, status == INPUTS_NO_KEY ? REPLICA_NO_KEY_MS : REPLICA_RETRY_MS);
        else if (resolved.index < v->index) {
                content_done(&resolved.content);
                resolving_fail(v, REPLICA_RETRY_MS);
        } else {
                resolving_end(v, &resolved);
                content_done(&resolved.content);
        }
}

/* The first part states the size of the answer. */
static int resolving_take(Resolving *v, const InputsPart *part) {
        size_t left = part->bytes.size + part->left;

        if (v->answer.size > 0 ? left != v->left : left > INPUTS_ANSWER_MAX)
                return -EBADMSG;
        if (v->answer.size == 0 && !text_reserve(&v->answer, left))
                return -ENOMEM;
        write_raw(&v->answer, part->bytes.data, part->bytes.size);
        v->left = part->left;
        return v->left > 0 ? call_wait(&v->call, REQUEST_WAIT_MS) : 0;
}

static void resolving_on_part(Call *call, const void *payload, size_t size) {
        Resolving *v = container_of(call, Resolving, call);
        InputsPart part;

        if (inputs_part_read(payload, size, &part) < 0 || resolving_take(v, &part) < 0)
                resolving_fail(v, REPLICA_RETRY_MS);
        else if (v->left == 0)
                resolving_complete(v);
}

static void resolving_on_failed(Call *call) {
        resolving_fail(container_of(call, Resolving, call), REPLICA_RETRY_MS);
}

int resolver_begin(Resolver *r, const Unit *text, uint64_t index, ResolverDone *done, void *userdata) {
        Resolving *v;

        assert(!named_find(r->resolving, text->name));
        if (kv_is_attached(r->host->store) && !resolver_replica(r))
                return -EAGAIN;
        v = named_get(&r->resolving, text->name, sizeof(*v));
        if (!v)
                return -EAGAIN;
        v->resolver = r;
        v->index = index;
        v->done = done;
        v->userdata = userdata;
        snprintf(v->hash, sizeof(v->hash), "%s", text->hash);
        call_init(&v->call, &r->calls, 0);
        loop_defer(r->host->io.loop, &r->next);
        return 0;
}

void resolver_cancel(Resolver *r, const char *unit) {
        Resolving *v = named_find(r->resolving, unit);

        if (!v)
                return;
        resolving_drop(v);
        if (r->resolving)
                loop_defer(r->host->io.loop, &r->next);
}

/* -- The replica that is asked -- */

static void answering_free(Answering *a) {
        served_remove(&a->served);
        inputs_request_done(&a->request);
        free(a);
}

static void answering_on_gone(Served *s) {
        answering_free(container_of(s, Answering, served));
}

/* Send an answer, and free the request. The host asks again after one that cannot be sent. */
static void answering_end(Answering *a, InputsStatus status, const Resolved *resolved) {
        Writer answer = {};
        int r = 0;

        inputs_answer_write(status, resolved, &answer);
        loop_count(a->resolver->host->io.loop, 0, answer.size);
        for (size_t at = 0, n; at < answer.size && answer.error == 0 && r == 0; at += n) {
                Writer part = {};

                n = MIN(answer.size - at, (size_t) INPUTS_PART_MAX);
                (void) text_reserve(&part, n + INPUTS_PART_HEAD);
                inputs_part_write(&(InputsPart) { .number = a->request.number,
                                                  .left = (uint32_t) (answer.size - at - n),
                                                  .bytes = { answer.bytes + at, n } },
                                  &part);
                r = served_send(&a->served, PEER_INPUTS_PART, &part);
                (void) tls_secret_free(part.chars, part.size);
        }
        (void) tls_secret_free(answer.chars, answer.size);
        answering_free(a);
}

static void answering_answer(Answering *a) {
        const Resolver *r = a->resolver;
        PeerSession *session = served_session(&a->served);
        InputsStatus status = INPUTS_BEHIND;
        ResolverValues *values = NULL;
        Resolved resolved = {};
        int e = -EAGAIN;

        if (session && !kv_is_attached(r->host->store) && peer_queued(session) <= ANSWERS_QUEUE_MAX)
                e = resolver_read_for(r, peer_handshake(session)->machine_id, a->request.unit,
                                      a->request.hash, a->request.index, &resolved, &values);
        if (e == -EPERM)
                status = INPUTS_UNASSIGNED;
        else if (e == -ENOKEY || resolved.content.problem.code == VERDICT_SECRET_UNOPENED)
                status = INPUTS_NO_KEY; /* another replica may have it */
        else if (e == 0)
                status = INPUTS_RESOLVED;
        answering_end(a, status, &resolved);
        content_done(&resolved.content);
        resolver_values_free(values);
}

/* One request at least is answered in each turn. */
static void resolver_on_answer(void *userdata) {
        Resolver *r = userdata;
        bool any = false;

        while (!TAILQ_EMPTY(&r->calls.served) && (!any || loop_has_budget(r->host->io.loop))) {
                answering_answer(container_of(TAILQ_FIRST(&r->calls.served), Answering, served));
                any = true;
        }
        if (!TAILQ_EMPTY(&r->calls.served))
                loop_defer(r->host->io.loop, &r->answer);
}

/* Return whether the host may have an answer now. */
static bool resolver_permits(const Resolver *r, const char *machine) {
        Pace *paces = peers_paces(r->host->peers, machine);

        return paces && pace_try(&paces[PEER_PACE_INPUTS], REQUESTS_PER_SECOND, REQUESTS_BURST,
                                 loop_now_ms(r->host->io.loop));
}

static void resolver_on_request(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                size_t size) {
        Resolver *r = userdata;
        Answering *a = NEW0(Answering, 1);

        if (!a)
                return; /* the host asks again */
        a->resolver = r;
        if (inputs_request_read(payload, size, &a->request) < 0 ||
            served_add(&a->served, &r->calls, session, a->request.number) < 0) {
                inputs_request_done(&a->request);
                free(a);
                return;
        }
        if (!resolver_permits(r, peer_handshake(session)->machine_id)) {
                answering_end(a, INPUTS_BEHIND, NULL);
        } else if (!r->answer.loop && loop_has_budget(r->host->io.loop)) /* otherwise, older ones wait */
                answering_answer(a);
        else
                loop_defer(r->host->io.loop, &r->answer);
}

/* -- Lifetime -- */

static const CallType inputs_calls = { .number_size = sizeof(uint32_t),
                                       .answers = { { PEER_INPUTS_PART, 1, resolving_on_part } },
                                       .on_lost = resolving_on_failed,
                                       .on_due = resolving_on_failed,
                                       .on_gone = answering_on_gone };

static const PeerFrameType inputs_frame_types[] = {
        { PEER_INPUTS, resolver_on_request },
};

int resolver_new(Resolver **ret, ComponentHost *host) {
        Resolver *r = NEW0(Resolver, 1);

        if (!r)
                return -ENOMEM;
        r->host = host;
        r->next = DEFERRED(resolver_on_next, r);
        r->answer = DEFERRED(resolver_on_answer, r);
        calls_open(&r->calls, host->io.loop, host->peers, &inputs_calls);
        peers_register(host->peers, inputs_frame_types, ELEMENTS(inputs_frame_types), r);
        *ret = r;
        return 0;
}

Resolver *resolver_free(Resolver *r) {
        if (!r)
                return NULL;
        while (r->resolving)
                resolving_drop((Resolving *) r->resolving);
        while (!TAILQ_EMPTY(&r->calls.served))
                answering_on_gone(TAILQ_FIRST(&r->calls.served));
        peers_unregister(r->host->peers, inputs_frame_types, ELEMENTS(inputs_frame_types));
        calls_close(&r->calls);
        deferred_cancel(&r->next);
        deferred_cancel(&r->answer);
        named_clear(&r->avoided);
        free(r);
        return NULL;
}
