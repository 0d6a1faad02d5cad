/* The content of a unit of this host: from its own tree, or from a replica, which reads it in the same way
 * for the host of a session. The text of the assignment decides what the unit names, not the host that asks.
 *
 * PEER_INPUTS: u8 version, u32 number, string unit, string hash of its text, u64 least index of the store.
 * PEER_INPUTS_PART: u32 number, bytes of an answer (content_bytes.h), INPUTS_PART_MAX of them unless it is
 * the last part: sessions wipe the memory of small frames, and frames of a higher priority do not wait for
 * all of the answer.
 *
 * A replica opens the secrets, and sends values only to the host to which the unit is assigned. The session
 * protects them, as it does the cluster key (key_distribution.c): it is authenticated and encrypted by
 * certificates or by the key file, and without TLS in simulation only. */
#include "base/pace.h"
#include "fleetd/features/inputs/content_bytes.h"
#include "peers/call.h"

enum {
        INPUTS_PROTOCOL = 1,
        REQUEST_WAIT_MS = 5000,   /* for the next part of an answer */
        REPLICA_NO_KEY_MS = 5000, /* until a replica is asked again that cannot open a secret */
        REQUESTS_PER_SECOND = 20, /* of one host */
        REQUESTS_BURST = 200,     /* units of a host that boots */
};

struct Resolver {
        ComponentHost *host;
        Calls calls;
        uint64_t answered_turn; /* in which it has answered a request */

        /* The call of resolver_begin(). */
        ResolverDone *done; /* NULL: there is none */
        void *userdata;
        char unit[UNIT_NAME_MAX + 1], hash[UNIT_HASH_SIZE];
        uint64_t index;
        Deferred read; /* of the tree of this host */
        Call call;
        Writer answer;          /* its parts so far */
        uint64_t not_before_ms; /* no other request */
};

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

static void resolver_drop(Resolver *r) {
        r->done = NULL;
        deferred_cancel(&r->read);
        call_cancel(&r->call);
        (void) tls_secret_free(r->answer.chars, r->answer.size);
        r->answer = (Writer) {};
}

/* The content borrows from the answer until 'done' returns, which may begin another call. */
static void resolver_end(Resolver *r, const Resolved *resolved) {
        Writer answer = TAKE_STRUCT(r->answer);
        ResolverDone *done = r->done;

        resolver_drop(r);
        done(r->userdata, resolved);
        (void) tls_secret_free(answer.chars, answer.size);
}

static void resolver_on_read(void *userdata) {
        Resolver *r = userdata;
        ResolverValues *values = NULL;
        Resolved resolved = {};
        int e = resolver_read_for(r, r->host->settings->machine_id, r->unit, r->hash, r->index, &resolved,
                                  &values);

        resolver_end(r, e < 0 ? NULL : &resolved);
        content_done(&resolved.content);
        resolver_values_free(values);
}

/* Ask the replica in use. 0 or -EAGAIN. */
static int resolver_ask(Resolver *r) {
        const char *replica = kv_replica_in_use(r->host->store);
        PeerSession *session = replica[0] ? peers_dialed(r->host->peers, replica) : NULL;
        _cleanup_writer_ Writer w = {};

        if (!session || loop_now_ms(r->host->io.loop) < r->not_before_ms)
                return -EAGAIN;
        write_u8(&w, INPUTS_PROTOCOL);
        write_u32(&w, call_number(&r->call));
        write_string(&w, r->unit);
        write_string(&w, r->hash);
        write_u64(&w, r->index);
        if (call_send(&r->call, session, PEER_INPUTS, &w) == 0 && call_wait(&r->call, REQUEST_WAIT_MS) == 0)
                return 0;
        call_cancel(&r->call);
        return -EAGAIN;
}

static void resolver_complete(Resolver *r) {
        InputsStatus status = INPUTS_BEHIND;
        Resolved resolved;
        int e = inputs_answer_read(r->answer.bytes, r->answer.size, &status, &resolved);

        if (status == INPUTS_NO_KEY)
                r->not_before_ms = loop_now_ms(r->host->io.loop) + REPLICA_NO_KEY_MS;
        resolver_end(r, e < 0 || status != INPUTS_RESOLVED || resolved.index < r->index ? NULL : &resolved);
        content_done(&resolved.content);
}

static void resolver_on_part(Call *call, const void *payload, size_t size) {
        Resolver *r = container_of(call, Resolver, call);
        const uint8_t *part = (const uint8_t *) payload + INPUTS_PART_HEAD;

        size -= INPUTS_PART_HEAD;
        if (r->answer.size == 0)
                (void) text_reserve(&r->answer, CONTENT_BYTES_MAX); /* no copy of a value is left */
        if (size > INPUTS_PART_MAX || r->answer.size + size >= CONTENT_BYTES_MAX || r->answer.error < 0) {
                resolver_end(r, NULL);
                return;
        }
        write_raw(&r->answer, part, size);
        if (size < INPUTS_PART_MAX)
                resolver_complete(r);
        else if (call_wait(call, REQUEST_WAIT_MS) < 0)
                resolver_end(r, NULL);
}

static void resolver_on_failed(Call *call) {
        resolver_end(container_of(call, Resolver, call), NULL);
}

int resolver_begin(Resolver *r, const Unit *text, uint64_t index, ResolverDone *done, void *userdata) {
        assert(!r->done);
        r->userdata = userdata;
        r->index = index;
        snprintf(r->unit, sizeof(r->unit), "%s", text->name);
        snprintf(r->hash, sizeof(r->hash), "%s", text->hash);
        if (kv_is_attached(r->host->store))
                TRY(resolver_ask(r));
        else
                loop_defer(r->host->io.loop, &r->read);
        r->done = done;
        return 0;
}

void resolver_cancel(Resolver *r, const char *unit) {
        if (r->done && streq(r->unit, unit))
                resolver_drop(r);
}

/* -- The replica that is asked -- */

/* The host asks again after an answer that cannot be sent. */
static void resolver_answer(PeerSession *session, uint32_t number, InputsStatus status,
                            const Resolved *resolved) {
        _cleanup_writer_ Writer part = {};
        Writer answer = {};
        size_t at = 0, n;

        inputs_answer_write(status, resolved, &answer);
        (void) text_reserve(&part, INPUTS_PART_HEAD + MIN(answer.size, (size_t) INPUTS_PART_MAX));
        do {
                n = MIN(answer.size - at, (size_t) INPUTS_PART_MAX);
                text_clear(&part);
                write_u32(&part, number);
                write_raw(&part, answer.bytes + at, n);
                at += n;
        } while (answer.error == 0 && part.error == 0 &&
                 peer_reply(session, PEER_INPUTS_PART, part.bytes, part.size) == 0 && n == INPUTS_PART_MAX);
        if (part.chars)
                explicit_bzero(part.chars, part.capacity);
        (void) tls_secret_free(answer.chars, answer.size);
}

/* Return whether the host may have an answer now. One request at least is answered in each turn. */
static bool resolver_permits(const Resolver *r, const PeerSession *session) {
        Loop *loop = r->host->io.loop;
        Pace *paces = peers_paces(r->host->peers, peer_handshake(session)->machine_id);

        return paces && !kv_is_attached(r->host->store) &&
               (loop_has_budget(loop) || r->answered_turn != loop_turns(loop)->n) &&
               pace_try(&paces[PEER_PACE_INPUTS], REQUESTS_PER_SECOND, REQUESTS_BURST, loop_now_ms(loop));
}

static void resolver_on_request(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                size_t size) {
        Resolver *r = userdata;
        Reader reader = reader_over(payload, size);
        uint8_t version = read_u8(&reader);
        uint32_t number = read_u32(&reader);
        _cleanup_free_ char *unit = read_string(&reader, UNIT_NAME_MAX),
                            *hash = read_string(&reader, UNIT_HASH_SIZE - 1);
        uint64_t index = read_u64(&reader);
        InputsStatus status = INPUTS_BEHIND;
        ResolverValues *values = NULL;
        Resolved resolved = {};
        int e = -EAGAIN;

        if (version != INPUTS_PROTOCOL || reader_end(&reader) < 0)
                return;
        if (resolver_permits(r, session)) {
                r->answered_turn = loop_turns(r->host->io.loop)->n;
                e = resolver_read_for(r, peer_handshake(session)->machine_id, unit, hash, index, &resolved,
                                      &values);
        }
        if (e == -EPERM)
                status = INPUTS_UNASSIGNED;
        else if (e == -ENOKEY || resolved.content.problem.code == VERDICT_SECRET_UNOPENED)
                status = INPUTS_NO_KEY;
        else if (e == 0)
                status = INPUTS_RESOLVED;
        resolver_answer(session, number, status, &resolved);
        content_done(&resolved.content);
        resolver_values_free(values);
}

/* -- Lifetime -- */

static const CallType inputs_calls = { .number_size = sizeof(uint32_t),
                                       .answers = { { PEER_INPUTS_PART, 0, resolver_on_part } },
                                       .on_lost = resolver_on_failed,
                                       .on_due = resolver_on_failed };

static const PeerFrameType inputs_frame_types[] = {
        { PEER_INPUTS, resolver_on_request },
};

int resolver_new(Resolver **ret, ComponentHost *host) {
        Resolver *r = NEW0(Resolver, 1);

        if (!r)
                return -ENOMEM;
        r->host = host;
        r->read = DEFERRED(resolver_on_read, r);
        calls_open(&r->calls, host->io.loop, host->peers, &inputs_calls);
        call_init(&r->call, &r->calls, 0);
        peers_register(host->peers, inputs_frame_types, ELEMENTS(inputs_frame_types), r);
        *ret = r;
        return 0;
}

Resolver *resolver_free(Resolver *r) {
        if (!r)
                return NULL;
        resolver_drop(r);
        peers_unregister(r->host->peers, inputs_frame_types, ELEMENTS(inputs_frame_types));
        calls_close(&r->calls);
        free(r);
        return NULL;
}
