/* systemctl and journalctl for a unit, on the host that has it, and journalctl for fleetd itself: in a child
 * process, so that the loop reads nothing from disk, and the output is that of the tools. A session leads to
 * another host.
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
 * replicas to relay the call (call_relay.c). */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/sizes.h"
#include "base/log.h"
#include "base/parse.h"
#include "fleetd/api/call_execute.h"
#include "fleetd/api/call_relay.h"
#include "fleetd/api/callers.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/forward.h"
#include "fleetd/api/routes.h"
#include "io/loop_uv.h"
#include "units/json.h"
#include "units/name.h"

enum {
        QUESTIONS_MAX = 7,            /* replicas that are asked to relay a call */
        BEGIN_MS = 2000,              /* for a host to begin or to refuse a call; its starts have a pace */
        QUESTION_MS = 1000,           /* for the first answer of each */
        CREDIT_WINDOW = 256 * 1024,   /* bytes by which another host may be ahead of the client */
        HELD_MAX = 2 * CREDIT_WINDOW, /* of output that the client could not take yet */
        EXIT_UNREACHABLE = 255,
};

/* A call that another host executes. */
typedef struct Asking {
        Api *api;
        Request *request;
        char machine[MACHINE_ID_SIZE];
        RemoteCommandSpec spec;
        char caller[PRINCIPAL_TEXT_SIZE];
        CallerTrust trust;
        uint64_t number, session;
        unsigned questions; /* replicas that were asked to relay the call */
        bool relayed;       /* one of them was asked, and has not answered yet */
        Timer patience;     /* with it; then, and with the host, until the answer begins without output */
        uint64_t taken, granted; /* bytes: sent to the client; that the other host may send */
        Text held;               /* output that the client could not take yet */
        bool ended;              /* the other host has sent everything */
        int status;
        TAILQ_ENTRY(Asking) all;
} Asking;

struct Calls {
        TAILQ_HEAD(, Asking) asking;
        uint64_t numbers;
};

/* -- Calls that another host executes -- */

static int asking_send_frame(const Asking *a, PeerFrame type, const Writer *w) {
        PeerSession *session = peers_session(a->api->options.peers, a->session);

        if (!session)
                return -ENOTCONN;
        return w->error ?: peer_reply(session, type, w->bytes, w->size);
}

/* Send a frame with the number of the call, and a total of bytes if it is not 0. */
static int asking_send(const Asking *a, PeerFrame type, uint64_t total) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, a->number);
        if (total > 0)
                write_u64(&w, total);
        return asking_send_frame(a, type, &w);
}

uint64_t calls_number(Api *api) {
        return ++api->calls->numbers;
}

static void asking_on_end(Request *request) {
        Asking *a = request->state;

        if (!a->ended)
                (void) asking_send(a, PEER_CALL_CANCEL, 0);
        TAILQ_REMOVE(&a->api->calls->asking, a, all);
        timer_stop(&a->patience);
        text_done(&a->held);
        free(a);
}

static Asking *asking_find(Api *api, PeerSession *session, uint64_t number) {
        Asking *a;

        TAILQ_FOREACH(a, &api->calls->asking, all)
                if (a->number == number && a->session == peer_number(session) && !a->ended)
                        return a;
        return NULL;
}

/* Give credit for CREDIT_WINDOW bytes ahead of the client, each time the client has taken half of it. */
static int asking_grant(Asking *a) {
        int r;

        if (a->ended || a->taken + CREDIT_WINDOW - a->granted < CREDIT_WINDOW / 2)
                return 0;
        r = asking_send(a, PEER_CALL_CREDIT, a->taken + CREDIT_WINDOW);
        if (r == 0)
                a->granted = a->taken + CREDIT_WINDOW;
        return r;
}

/* Send the head of the answer to the client, unless that is done. */
static void asking_begin(Asking *a) {
        timer_stop(&a->patience);
        a->relayed = false;
        if (!a->request->streams)
                request_begin(a->request, "application/x-ndjson", NULL);
}

/* Send the call on a session, to its host or to a replica that is to relay it. */
static int asking_call(Asking *a, PeerSession *session, bool relayed) {
        _cleanup_writer_ Writer w = {};
        int r;

        a->number = calls_number(a->api);
        a->session = peer_number(session);
        a->granted = 0;
        write_u64(&w, a->number);
        if (relayed)
                write_string(&w, a->machine);
        remote_command_spec_write(&a->spec, &w);
        r = asking_send_frame(a, relayed ? PEER_CALL_VIA : PEER_CALL, &w);
        a->ended = r < 0; /* then there is nothing to cancel */
        if (r == 0)
                r = asking_grant(a); /* after the call, on the same session */
        a->relayed = relayed;
        if (r == 0)
                r = timer_start(&a->patience, a->api->loop, relayed ? QUESTION_MS : BEGIN_MS);
        return r;
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
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterMachine *m = cluster_machine(c, machine);
        const char *name = cluster_name_of(c, machine),
                   *why = error == -ENOTCONN ? "no session to it is open" : strerror(-error);

        if (error == -EBUSY)
                request_error(request, 503,
                              "this user makes as many calls to %s as are left for one user: end one of "
                              "them, or try again later",
                              name);
        else if (spec->kind == CALL_LOG || !m || m->presence == PRESENCE_UP)
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

        a->ended = true;
        if (lost && remote_command_changes(a->spec.kind))
                request_error(a->request, 504, "%s", FORWARD_UNKNOWN);
        else if ((r = asking_question(a)) < 0)
                asking_refuse(a->request, &a->spec, a->machine, r);
}

static void asking_on_patience(void *userdata) {
        Asking *a = userdata;

        if (!a->relayed) { /* a host of an older version sends its first output, which may be late */
                asking_begin(a);
                return;
        }
        (void) asking_send(a, PEER_CALL_CANCEL, 0);
        asking_ask_next(a, true);
}

/* End the stream, after the output that is held. */
static void asking_end(Asking *a, int status) {
        a->ended = true;
        a->status = status;
        if (a->held.size == 0)
                call_line_exit(a->request, status);
}

/* Send output to the client, or hold it until the client can take it: 0. -ENOBUFS: too much is held. */
static int asking_take(Asking *a, const void *bytes, size_t size) {
        int r = a->held.size > 0 ? -ENOBUFS : call_line_data(a->request, a->machine, bytes, size);

        if (r == 0) {
                a->taken += size;
                return asking_grant(a);
        }
        if (r != -ENOBUFS || a->held.size + size > HELD_MAX)
                return r;
        text_append_bytes(&a->held, bytes, size);
        return a->held.error;
}

/* Send in lines as long as those of a child of this host. */
static void asking_on_drain(Request *request) {
        Asking *a = request->state;
        size_t done = 0, n;

        while ((n = MIN(a->held.size - done, (size_t) LOOP_UV_BUFFER_SIZE)) > 0 &&
               call_line_data(request, a->machine, a->held.chars + done, n) == 0)
                done += n;
        a->taken += done;
        if (done > 0) {
                a->held.size -= done;
                memmove(a->held.chars, a->held.chars + done, a->held.size + 1);
        }
        if (a->ended)
                asking_end(a, a->status);
        else if (asking_grant(a) < 0)
                request_cut(a->request, "the session to the other host has ended");
}

static void asking_on_refused(Asking *a, Reader *in) {
        uint32_t status = read_u32(in);
        _cleanup_free_ char *message = read_string(in, ERROR_MESSAGE_MAX);
        const char *reason = message ?: "the other host rejected the request";

        a->ended = true;
        if (a->request->streams)
                request_cut(a->request, reason);
        else
                request_error(a->request, status >= 400 && status < 600 ? status : 503, "%s", reason);
}

static void calls_on_chunk(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        Asking *a = asking_find(api, session, read_u64(&in));
        size_t n = 0;
        const void *bytes = read_blob(&in, PEER_FRAME_MAX, &n);
        bool relayed;

        if (!a) {
                call_relay_answer(api, session, type, payload, size);
                return;
        }
        if (!in.failed && in.left > 0) {
                asking_on_refused(a, &in);
                return;
        }
        relayed = a->relayed;
        a->relayed = false;
        /* The first chunk of a relay is empty, too: it has sent the call. */
        if (relayed && n == 0 && timer_start(&a->patience, api->loop, BEGIN_MS) == 0)
                return;
        asking_begin(a);

        /* The client reads more slowly than an older host sends, which has no credit: end the stream, because
         * the output may have no end. */
        if (reader_end(&in) >= 0 && n > 0 && asking_take(a, bytes, n) < 0)
                request_cut(a->request, "the reader of a journal fell too far behind");
}

static void calls_on_end(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        Asking *a = asking_find(api, session, read_u64(&in));
        uint32_t status = read_u32(&in);

        if (!a)
                call_relay_answer(api, session, type, payload, size);
        else if (reader_end(&in) < 0)
                return;
        else if (a->relayed && status == CALL_NOT_HERE)
                asking_ask_next(a, false);
        else {
                asking_begin(a);
                asking_end(a, status);
        }
}

/* A session ended: what was asked on it will not be answered, and whom we answered does not listen. */
void remote_commands_on_session_end(Api *api, PeerSession *session) {
        static const char lost[] = "fleetd: the connection to that host was lost\n";
        uint64_t number = peer_number(session);
        Asking *a, *next_asking;

        for (a = TAILQ_FIRST(&api->calls->asking); a; a = next_asking) {
                next_asking = TAILQ_NEXT(a, all);
                if (a->session != number || a->ended)
                        continue;
                if (!a->request->streams) {
                        asking_ask_next(a, true);
                        continue;
                }
                a->ended = true;
                (void) asking_take(a, lost, sizeof(lost) - 1);
                asking_end(a, EXIT_UNREACHABLE);
        }
        call_execute_on_session_end(api, number);
        call_relay_on_session_end(api, number);
}

/* Users of this host, and hosts whose calls it relays, share its places at the other one. */
static bool asking_has_place(const Api *api, const char *caller, CallerTrust trust, const char *machine,
                             RemoteCommandKind kind) {
        bool journal = remote_command_reads_journal(kind);
        unsigned own = 0, taken[_CALLER_TRUST_MAX] = {};
        Asking *a;

        if (journal)
                call_relay_count(api, machine, taken);
        TAILQ_FOREACH(a, &api->calls->asking, all) {
                if (!streq(a->machine, machine) || remote_command_reads_journal(a->spec.kind) != journal)
                        continue;
                taken[a->trust]++;
                own += streq(a->caller, caller);
        }
        return caller_may_take(taken, trust, own, (journal ? CALLER_JOURNALS_MAX : CALLER_COMMANDS_MAX) / 2);
}

static int asking_start(Request *request, const char *machine, const RemoteCommandSpec *spec) {
        Principal principal = call_principal(request);
        CallerTrust trust = call_trust(request, spec);
        char caller[PRINCIPAL_TEXT_SIZE];
        Api *api = request->api;
        PeerSession *session = call_session(api, machine);
        Asking *a;

        if (!asking_has_place(api, principal_text(&principal, caller), trust, machine, spec->kind))
                return -EBUSY;
        a = NEW0(Asking, 1);
        if (!a)
                return -ENOMEM;
        *a = (Asking) { .api = api,
                        .request = request,
                        .spec = *spec,
                        .trust = trust,
                        .patience = TIMER(asking_on_patience, a),
                        .ended = true /* nothing to cancel yet */ };
        snprintf(a->machine, sizeof(a->machine), "%s", machine);
        snprintf(a->caller, sizeof(a->caller), "%s", caller);
        TAILQ_INSERT_TAIL(&api->calls->asking, a, all);
        request->state = a;
        request->on_end = asking_on_end;
        request->on_drain = asking_on_drain;
        return session ? asking_call(a, session, false) : asking_question(a);
}

/* -- The handler -- */

static bool spec_read(Request *request, RemoteCommandSpec *spec) {
        const char *lines = request_parameter(request, "lines"),
                   *follow = request_parameter(request, "follow");
        uint64_t n = spec->kind == CALL_LOG ? CALL_LINES_ALL : 10;
        Error err = {};

        for (size_t i = 1; i < REMOTE_COMMAND_TEXTS; i++) { /* the first is the unit */
                const RemoteCommandText *text = &remote_command_texts[i];
                const char *value = request_parameter(request, text->name) ?: "";

                if ((size_t) snprintf((char *) spec + text->offset, text->size, "%s", value) < text->size)
                        continue;
                request_error(request, 400, "%s: longer than %zu bytes", text->name, text->size - 1);
                return false;
        }
        if (lines && (parse_u64(lines, &n) < 0 || n > CALL_LINES_MAX))
                request_error(request, 400, "lines: expected a number up to %d", CALL_LINES_MAX);
        else if (follow && parse_bool(follow, &spec->follow) < 0)
                request_error(request, 400, "follow: expected true or false");
        else {
                spec->lines = n;
                if (remote_command_spec_check(spec, &err) >= 0)
                        return true;
                request_error(request, 400, "%s", err.message);
        }
        return false;
}

/* Run the command on machine 'm' (NULL: this host). */
static void command_begin(Request *request, const ClusterMachine *m, const RemoteCommandSpec *spec) {
        int r;

        if (m && !streq(m->id, request->api->machine_id)) {
                r = asking_start(request, m->id, spec);
                if (r < 0)
                        asking_refuse(request, spec, m->id, r);
                return;
        }
        call_execute_request(request, spec);
}

bool remote_command_is_here(const Request *request) {
        const char *own = request->api->machine_id, *wanted = request_parameter(request, "machine");
        const ClusterMachine *m;

        if (wanted)
                return streq(wanted, own);
        if (request->route->command == CALL_LOG)
                return true;
        m = unit_machine(registry_cluster(request->api->options.registry), request->rest);
        return m && streq(m->id, own);
}

static bool sender_only_reads(const Request *request) {
        return request->sender && !sender_may(request->sender, RIGHT_UNITS_CHANGE);
}

void remote_command_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const char *unit = request->rest, *wanted = request_parameter(request, "machine");
        const ClusterUnit *u = cluster_unit(c, unit);
        const ClusterMachine *m;
        RemoteCommandSpec spec = { .kind = request->route->command,
                                   .cluster_only = sender_only_reads(request) };
        Error err = {};

        m = wanted ? cluster_machine(c, wanted) : unit_machine(c, unit);
        if ((!u && !m) || (m && !unit_is_readable(request, m, unit))) {
                request_error(request, 404, "unit does not exist");
                return;
        }
        if (!m) {
                request_error(request, 404, wanted ? "machine %s does not exist" : "%s is on no machine",
                              wanted ?: unit);
                return;
        }
        if (unit_name_check(unit, &err) < 0) {
                request_error(request, 400, "%s", err.message);
                return;
        }
        snprintf(spec.unit, sizeof(spec.unit), "%s", unit);
        if (spec_read(request, &spec))
                command_begin(request, m, &spec);
}

/* The machine is that of the parameter, or this one, which need not be a machine of the cluster. */
void remote_log_handle(Request *request) {
        const char *wanted = request_parameter(request, "machine");
        const ClusterMachine *m = wanted ? cluster_machine(registry_cluster(request->api->options.registry),
                                                           wanted) :
                                           NULL;
        RemoteCommandSpec spec = { .kind = CALL_LOG, .cluster_only = sender_only_reads(request) };

        if (wanted && !m && !streq(wanted, request->api->machine_id))
                request_error(request, 404, "machine %s does not exist", wanted);
        else if (spec_read(request, &spec))
                command_begin(request, m, &spec);
}

static const PeerFrameType command_frame_types[] = {
        { PEER_CALL, call_execute_on_call },
        { PEER_CALL_CHUNK, calls_on_chunk },
        { PEER_CALL_END, calls_on_end },
        { PEER_CALL_CANCEL, call_execute_on_cancel },
        { PEER_CALL_CREDIT, call_execute_on_credit },
        { PEER_CALL_VIA, call_relay_on_via },
};

int remote_commands_new(Api *api) {
        if (call_execute_new(api) < 0)
                return -ENOMEM;
        api->calls = NEW0(struct Calls, 1);
        if (!api->calls) {
                call_execute_free(api);
                return -ENOMEM;
        }
        TAILQ_INIT(&api->calls->asking);
        TAILQ_INIT(&api->relays);
        peers_register(api->options.peers, command_frame_types, ELEMENTS(command_frame_types), api);
        return 0;
}

void remote_commands_free(Api *api) {
        if (!api->calls)
                return;
        peers_unregister(api->options.peers, command_frame_types, ELEMENTS(command_frame_types));
        call_execute_free(api);
        call_relay_free(api);
        assert(TAILQ_EMPTY(&api->calls->asking)); /* their requests have ended */
        free(api->calls);
        api->calls = NULL;
}
