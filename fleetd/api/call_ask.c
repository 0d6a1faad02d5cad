/* Calls: commands that another host executes, for a client, or for a host that asks this replica to relay
 * one.
 *
 * PEER_CALL: u64 number, remote_command_spec_write(). Answers: PEER_CALL_CHUNK (number, bytes; the first one
 * is empty, when the command has begun) and PEER_CALL_END (number, u32 exit status). A chunk with u32 status
 * and string message after its bytes is a refusal; older versions ignore it, and take the chunk and the end
 * that follow for output. PEER_CALL_CANCEL (number) when the client has left.
 * PEER_CALL_CREDIT (number, u64 bytes): the total of bytes that may be sent; then the child is paused. A host
 * that gets no credit, from an older version, sends without a limit. A host that gives credit to an older
 * version ends the stream when it has to buffer too much.
 *
 * A host without a replica is called on the session that it dialed. A replica that has none asks other
 * replicas to relay the call. PEER_CALL_VIA: u64 number, string machine, remote_command_spec_write(). The
 * answers are those of PEER_CALL; PEER_CALL_END with CALL_NOT_HERE: this replica has no session to the
 * machine. */
#include "fleetd/api/call_ask.h"

#include "fleetd/api/call_execute.h"
#include "fleetd/api/call_reader.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/forward.h"
#include "fleetd/sessions/choosing.h"

enum {
        QUESTIONS_MAX = 7,          /* replicas that are asked to relay a call */
        BEGIN_MS = 2000,            /* for a host to begin or to refuse a call; its starts have a pace */
        QUESTION_MS = 1000,         /* for the first answer of each */
        CREDIT_WINDOW = 256 * 1024, /* bytes by which another host may be ahead of the client */
        RELAYS_MAX = 256,
        RELAYS_HOST_MAX = 32, /* of one session */
        RELAY_LEFT_MS = 1000, /* one that was cancelled counts: its child is still to end */
        EXIT_UNREACHABLE = 255,
};

typedef struct Asking {
        CallReader reader;
        Call call;
        Api *api;
        char machine[MACHINE_ID_SIZE];
        RemoteCommandSpec spec;
        char caller[PRINCIPAL_TEXT_SIZE];
        CallerTrust trust;
        unsigned own_max;   /* places of the caller at one host */
        CallerWork work;    /* whose places it takes; those of journals, if it is relayed for another host */
        unsigned questions; /* replicas that were asked to relay the call */
        bool relayed;       /* one of them was asked, and has not answered yet */
        bool left;          /* the host for which it is relayed has cancelled it */
        TAILQ_ENTRY(Asking) all;
} Asking;

static void asking_free(Asking *a) {
        call_cancel(&a->call);
        call_reader_done(&a->reader);
        TAILQ_REMOVE(&a->api->asking, a, all);
        free(a);
}

/* Return a session on which a host can be called, or NULL. */
static PeerSession *call_session(const Api *api, const char *machine) {
        PeerSession *session = peers_dialed(api->host->peers, machine);

        if (session)
                return session;
        session = peers_accepted(api->host->peers, machine);
        return session && peer_handshake(session)->raft_id == 0 ? session : NULL;
}

/* Return a session to the replica of rank *rank or later in the order of the machine, and the rank after it;
 * NULL: there is none. */
static PeerSession *call_replica(const Api *api, const char *machine, unsigned *rank) {
        const Cluster *c = registry_cluster(api->host->registry);
        ReplicaChoice choices[KV_MEMBERS_MAX];
        PeerSession *session = NULL;
        KvState state;
        size_t n = 0;

        kv_state(api->host->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                for (const ClusterMachine *m = LIST_FIRST(&c->members); m; m = LIST_NEXT(m, of_members))
                        if (m->member.raft_id == state.members[i].raft_id && n < ELEMENTS(choices))
                                choices[n++] = (ReplicaChoice) {
                                        .machine = m->id,
                                        .raft_id = m->member.raft_id,
                                        .weight = state.members[i].role == KV_MEMBER_STANDBY ?
                                                          CHOICE_STANDBY :
                                                          CHOICE_VOTER,
                                };
        choose_replicas(machine, choices, n);
        while (*rank < n && !session)
                session = peers_dialed(api->host->peers, choices[(*rank)++].machine);
        return session;
}

/* Send the call on a session, to its host or to a replica that is to relay it. A host of an older version
 * sends nothing before its first output, which may be late: for a client, the answer begins then. */
static int asking_call(Asking *a, PeerSession *session, bool relayed) {
        _cleanup_writer_ Writer w = {};
        int r;

        write_u64(&w, call_number(&a->call));
        if (relayed)
                write_string(&w, a->machine);
        remote_command_spec_write(&a->spec, &w);
        r = call_send(&a->call, session, relayed ? PEER_CALL_VIA : PEER_CALL, &w);
        a->relayed = relayed;
        if (r < 0 || !a->reader.request)
                return r;
        return call_wait(&a->call, relayed ? QUESTION_MS : BEGIN_MS);
}

/* Ask the next replica, in the order in which the host chooses its replicas. -ENOTCONN: there is none. */
static int asking_question(Asking *a) {
        PeerSession *session;

        while (a->questions < QUESTIONS_MAX) {
                session = call_replica(a->api, a->machine, &a->questions);
                if (!session)
                        return -ENOTCONN;
                if (asking_call(a, session, true) == 0)
                        return 0;
        }
        return -ENOTCONN;
}

/* The client may have asked each machine that had the unit: state nothing of where it is. */
static void asking_refuse(Request *request, const RemoteCommandSpec *spec, const char *machine, int error) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *m = cluster_machine(c, machine);
        const char *name = cluster_name_of(c, machine),
                   *why = error == -ENOTCONN ? "no session to it is open" : strerror(-error);

        if (error == -EBUSY)
                request_error(request, 503,
                              "this user makes as many calls to %s as are left for one user: end one of "
                              "them, or try again later",
                              name);
        else if (remote_command_is_of_host(spec->kind) || !m || m->presence == PRESENCE_UP)
                request_error(request, 503, "%s cannot be reached from this host (%s)", name, why);
        else
                request_error(request, 503, "%s is %s; the last reported state of %s: fleetctl why %s", name,
                              m->presence == PRESENCE_AWAY ? "away (on it: systemctl status fleetd)" :
                              m->presence == PRESENCE_LEFT ? "shut down" :
                                                             "lost",
                              spec->unit, spec->unit);
}

/* 'lost': the replica that was asked may have relayed the call. One that changes something is sent once. */
static void asking_ask_next(Asking *a, bool lost) {
        int r;

        if (lost && remote_command_changes(a->spec.kind))
                call_reader_refuse(&a->reader, 504, FORWARD_UNKNOWN);
        else if ((r = asking_question(a)) < 0)
                asking_refuse(a->reader.request, &a->spec, a->machine, r);
}

/* -- Answers -- */

static void asking_on_due(Call *call) {
        Asking *a = container_of(call, Asking, call);

        if (a->left)
                asking_free(a);
        else if (a->relayed) {
                call_cancel(call);
                asking_ask_next(a, true);
        } else
                call_reader_begin(&a->reader);
}

static void asking_on_refused(Asking *a, Reader *in) {
        uint32_t status = read_u32(in);
        _cleanup_free_ char *message = read_string(in, ERROR_MESSAGE_MAX);

        call_end(&a->call);
        call_reader_refuse(&a->reader, status >= 400 && status < 600 ? status : 503,
                           message ?: "the other host rejected the request");
}

static void asking_on_chunk(Call *call, const void *payload, size_t size) {
        Asking *a = container_of(call, Asking, call);
        Reader in = reader_over(payload, size);
        const void *bytes;
        bool relayed = a->relayed;
        size_t n;

        (void) read_u64(&in);
        bytes = read_blob(&in, PEER_FRAME_MAX, &n);
        if (in.failed)
                return;
        if (in.left > 0) {
                asking_on_refused(a, &in);
                return;
        }
        a->relayed = false;
        /* The first chunk of a relay is empty, too: it has sent the call. */
        if (relayed && n == 0 && call_wait(call, BEGIN_MS) == 0)
                return;
        timer_stop(&call->due);
        if (n == 0)
                call_reader_begin(&a->reader);
        else if (call_reader_take(&a->reader, bytes, n) == 0)
                (void) call_grant(call, a->reader.taken);
}

static void asking_on_end(Call *call, const void *payload, size_t size) {
        Asking *a = container_of(call, Asking, call);
        Reader in = reader_over(payload, size);
        uint32_t status;

        (void) read_u64(&in);
        status = read_u32(&in);
        if (reader_end(&in) < 0)
                return;
        call_end(call);
        if (a->relayed && status == CALL_NOT_HERE)
                asking_ask_next(a, false);
        else
                call_reader_end(&a->reader, status);
}

static void asking_on_lost(Call *call) {
        static const char lost[] = "fleetd: the connection to that host was lost\n";
        Asking *a = container_of(call, Asking, call);

        if (a->reader.request && !a->reader.request->streams)
                asking_ask_next(a, true);
        else if (call_reader_take(&a->reader, lost, sizeof(lost) - 1) == 0)
                call_reader_end(&a->reader, EXIT_UNREACHABLE);
}

/* -- The reader -- */

static void asking_on_room(CallReader *reader) {
        Asking *a = container_of(reader, Asking, reader);

        if (!reader->request)
                (void) call_credit(&a->call, reader->served.credit);
        else if (call_grant(&a->call, reader->taken) < 0)
                request_cut(reader->request, "the session to the other host has ended");
}

static void asking_on_gone(CallReader *reader) {
        Asking *a = container_of(reader, Asking, reader);

        a->left = !reader->request && a->call.session > 0;
        call_cancel(&a->call);
        if (!a->left || call_wait(&a->call, RELAY_LEFT_MS) < 0)
                asking_free(a);
}

static const CallReaderEvents asking_events = { .on_room = asking_on_room, .on_gone = asking_on_gone };

static const CallType command_calls = { .number_size = sizeof(uint64_t),
                                        .cancel = PEER_CALL_CANCEL,
                                        .credit = PEER_CALL_CREDIT,
                                        .answers = { { PEER_CALL_CHUNK, 0, asking_on_chunk },
                                                     { PEER_CALL_END, 0, asking_on_end } },
                                        .on_lost = asking_on_lost,
                                        .on_due = asking_on_due,
                                        .on_credit = call_reader_on_credit,
                                        .on_gone = call_reader_on_gone };

/* -- Begin -- */

/* Users of this host, and hosts whose calls it relays, share its places at the other one. A host has only a
 * part of those that are relayed. */
static bool asking_has_place(const Asking *new) {
        unsigned own = 0, relays = 0, own_relays = 0, taken[_CALLER_TRUST_MAX] = {};
        const Asking *a;

        TAILQ_FOREACH(a, &new->api->asking, all) {
                bool relay = !a->reader.request, is_own = streq(a->caller, new->caller);

                relays += relay;
                own_relays += relay && is_own;
                if (a == new || !streq(a->machine, new->machine) || a->work != new->work)
                        continue;
                taken[a->trust]++;
                own += is_own && (!relay || a->trust == new->trust);
        }
        if (!new->reader.request && (relays > RELAYS_MAX || own_relays > RELAYS_HOST_MAX))
                return false;
        if (own >= new->own_max)
                return false;
        return caller_may_take(taken, new->trust, own, caller_places_there(new->work));
}

static Asking *asking_new(Api *api, const char *machine, const RemoteCommandSpec *spec, CallerTrust trust) {
        Asking *a = NEW0(Asking, 1);

        if (!a)
                return NULL;
        *a = (Asking) { .api = api, .spec = *spec, .trust = trust, .own_max = UINT32_MAX };
        snprintf(a->machine, sizeof(a->machine), "%s", machine);
        call_init(&a->call, &api->calls, 0);
        TAILQ_INSERT_TAIL(&api->asking, a, all);
        return a;
}

void call_ask(Request *request, const char *machine, const RemoteCommandSpec *spec) {
        PeerSession *session = call_session(request->api, machine);
        Principal principal = call_principal(request);
        Asking *a = asking_new(request->api, machine, spec, call_trust(request, spec));
        int r;

        if (!a) {
                asking_refuse(request, spec, machine, -ENOMEM);
                return;
        }
        (void) principal_text(&principal, a->caller);
        a->work = remote_command_work(spec->kind);
        a->own_max = caller_own_max(a->work, &principal);
        a->call.window = CREDIT_WINDOW;
        call_reader_of_request(&a->reader, request, a->machine, &asking_events);
        if (!asking_has_place(a))
                r = -EBUSY;
        else
                r = session ? asking_call(a, session, false) : asking_question(a);
        if (r < 0)
                asking_refuse(request, spec, machine, r);
}

/* Begin to relay. -ENOTCONN: this replica has no session to the machine. */
static int asking_relay(Api *api, PeerSession *from, uint64_t number, const char *machine,
                        const RemoteCommandSpec *spec) {
        PeerSession *to = call_session(api, machine);
        Asking *a;
        int r;

        if (!to || peer_handshake(to)->raft_id != 0)
                return -ENOTCONN;
        a = asking_new(api, machine, spec, call_trust(NULL, spec));
        if (!a)
                return -EBUSY;
        snprintf(a->caller, sizeof(a->caller), "session %llu", (unsigned long long) peer_number(from));
        r = asking_has_place(a) ? call_reader_of_host(&a->reader, api, from, number, &asking_events) : -EBUSY;
        if (r == 0)
                r = asking_call(a, to, false);
        if (r == 0)
                call_reader_begin(&a->reader); /* the command may be silent for long */
        else
                asking_free(a);
        return r;
}

static void calls_on_via(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        _cleanup_free_ char *machine = read_string(&in, MACHINE_ID_SIZE - 1);
        RemoteCommandSpec spec;
        int r;

        if (!machine || remote_command_spec_read(&in, &spec) < 0) {
                call_refuse(session, number, 400, CALL_INVALID);
                return;
        }
        if (!call_is_permitted(api, session, machine, &spec)) {
                call_refuse(session, number, 403, CALL_FORBIDDEN);
                return;
        }
        r = asking_relay(api, session, number, machine, &spec);
        if (r == -EBUSY)
                call_refuse(session, number, 503, "too many calls are relayed: try again later");
        else if (r < 0)
                call_reply_end(session, number, CALL_NOT_HERE);
}

static const PeerFrameType command_frame_types[] = {
        { PEER_CALL, call_execute_on_call },
        { PEER_CALL_VIA, calls_on_via },
};

int remote_commands_new(Api *api) {
        TAILQ_INIT(&api->asking);
        if (call_execute_new(api) < 0)
                return -ENOMEM;
        calls_open(&api->calls, api->loop, api->host->peers, &command_calls);
        peers_register(api->host->peers, command_frame_types, ELEMENTS(command_frame_types), api);
        return 0;
}

void remote_commands_free(Api *api) {
        if (!api->executing)
                return;
        peers_unregister(api->host->peers, command_frame_types, ELEMENTS(command_frame_types));
        call_execute_free(api);
        while (!TAILQ_EMPTY(&api->asking)) /* those that are relayed: requests have ended */
                asking_free(TAILQ_FIRST(&api->asking));
        calls_close(&api->calls);
}
