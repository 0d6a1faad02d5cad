/* systemctl and journalctl for a unit, on the host that has it, and journalctl for fleetd itself: in a child
 * process, so that the loop reads nothing from disk, and the output is that of the tools. A session leads to
 * another host.
 *
 * PEER_CALL: u64 number, remote_command_spec_write(). Answers: PEER_CALL_CHUNK (number, bytes) and
 * PEER_CALL_END (number, u32 exit status). PEER_CALL_CANCEL (number) when the client has left.
 * PEER_CALL_CREDIT (number, u64 bytes): the total of bytes that may be sent; then the child is paused. A host
 * that gets no credit, from an older version, sends without a limit. A host that gives credit to an older
 * version ends the stream when it has to buffer too much. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/sizes.h"
#include "base/log.h"
#include "base/parse.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/routes.h"
#include "io/loop_uv.h"
#include "units/json.h"
#include "units/name.h"

enum {
        JOURNALS_MAX = 32,            /* a reader may follow one without end */
        COMMANDS_MAX = 8,             /* the others, which end soon: journals do not use up their limit */
        CREDIT_WINDOW = 256 * 1024,   /* bytes by which another host may be ahead of the client */
        HELD_MAX = 2 * CREDIT_WINDOW, /* of output that the client could not take yet */
        PEER_AHEAD_MAX = 1024 * 1024,
        PEER_LOOK_MS = 50,
        EXIT_UNREACHABLE = 255,
};

/* A call that is executed here: a child, whose output goes to a request of this host, or to a session. */
typedef struct Running {
        Api *api;
        Child *child;
        bool is_journal;
        Request *request; /* NULL: of another host */
        uint64_t session, number;
        uint64_t sent, credit; /* of another host; no credit: from an older version */
        Text held;             /* output that the client could not take yet */
        Timer look;            /* checks the queue of the session again */
        TAILQ_ENTRY(Running) all;
} Running;

/* A call that another host executes. */
typedef struct Asking {
        Api *api;
        Request *request;
        char machine[MACHINE_ID_SIZE];
        uint64_t number, session;
        uint64_t taken, granted; /* bytes: sent to the client; that the other host may send */
        Text held;               /* output that the client could not take yet */
        bool ended;              /* the other host has sent everything */
        int status;
        TAILQ_ENTRY(Asking) all;
} Asking;

struct Calls {
        TAILQ_HEAD(, Running) running;
        TAILQ_HEAD(, Asking) asking;
        uint64_t numbers;
        unsigned n_journals, n_commands; /* children */
};

/* -- Lines to the client: {"machine","data"}, {"exit"} -- */

static int line_data(Request *request, const char *machine, const void *bytes, size_t size) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "{\"machine\":\"%s\",\"data\":\"", machine);
        text_append_json(&t, bytes, size);
        text_append(&t, "\"}\n");
        return t.error ?: http_chunk(request->http, t.chars, t.size);
}

static void line_exit(Request *request, int status) {
        char line[64];
        int n = snprintf(line, sizeof(line), "{\"exit\":%d}\n", status);

        (void) http_chunk(request->http, line, n);
        request_end(request);
}

/* -- Calls that are executed here -- */

static unsigned *running_count(Running *r) {
        struct Calls *calls = r->api->calls;

        return r->is_journal ? &calls->n_journals : &calls->n_commands;
}

static void running_free(Running *r) {
        TAILQ_REMOVE(&r->api->calls->running, r, all);
        (*running_count(r))--;
        timer_stop(&r->look);
        r->child = r->child ? child_kill(r->child) : NULL;
        text_done(&r->held);
        free(r);
}

static int reply_chunk(PeerSession *session, uint64_t number, const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_blob(&w, bytes, size);
        return w.error ?: peer_reply(session, PEER_CALL_CHUNK, w.bytes, w.size);
}

static void reply_end(PeerSession *session, uint64_t number, uint32_t status) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u32(&w, status);
        if (w.error == 0)
                (void) peer_reply(session, PEER_CALL_END, w.bytes, w.size);
}

/* Pause the child while the connection is full, or the credit of the other host is used up. */
static void running_check_peer(void *userdata) {
        Running *r = userdata;
        PeerSession *session = peers_session(r->api->options.peers, r->session);
        bool full = session && peer_queued(session) > PEER_AHEAD_MAX;

        if (full)
                (void) timer_start(&r->look, r->api->loop, PEER_LOOK_MS);
        if (r->child)
                child_pause(r->child, full || (r->credit > 0 && r->sent >= r->credit));
}

static void running_on_output(void *userdata, const void *bytes, size_t size) {
        Running *r = userdata;
        PeerSession *session;

        if (r->request) {
                assert(r->held.size == 0); /* else the child is paused */
                if (line_data(r->request, r->api->machine_id, bytes, size) == 0)
                        return;
                text_append_bytes(&r->held, bytes, size);
                child_pause(r->child, true);
                return;
        }
        session = peers_session(r->api->options.peers, r->session);
        if (!session)
                return;
        (void) reply_chunk(session, r->number, bytes, size);
        r->sent += size;
        running_check_peer(r);
}

static void running_on_exit(void *userdata, int status) {
        Running *r = userdata;
        PeerSession *session;

        r->child = NULL;
        if (r->request) {
                assert(r->held.size == 0); /* a paused child does not end: its output is not read */
                line_exit(r->request, status);
                return;
        }
        session = peers_session(r->api->options.peers, r->session);
        if (session)
                reply_end(session, r->number, status);
        running_free(r);
}

static const ChildEvents running_events = { .on_output = running_on_output, .on_exit = running_on_exit };

static void running_on_drain(Request *request) {
        Running *r = request->state;

        if (r->held.size > 0) {
                if (line_data(request, r->api->machine_id, r->held.chars, r->held.size) < 0)
                        return;
                text_clear(&r->held);
        }
        if (r->child)
                child_pause(r->child, false);
}

static void running_on_end(Request *request) {
        running_free(request->state);
}

/* Check that a command may change the unit here: the unit must be the cluster's, also while its state could
 * not be published. */
static int check_unit_is_ours(Api *api, const char *unit, Error *err) {
        const ClusterState *state = cluster_state(registry_cluster(api->options.registry), api->machine_id,
                                                  unit);

        if (!state)
                return error_set(err, -ENOENT, "%s is not on this machine", unit);
        if (streq(state->state.load, STATE_FOREIGN) ||
            (api->options.is_foreign && api->options.is_foreign(api->options.userdata, unit)))
                return error_set(err, -EEXIST, "%s on this machine is a unit of the host, not of the cluster",
                                 unit);
        return 0;
}

static int running_start(Api *api, const RemoteCommandSpec *spec, Running **ret, Error *err) {
        bool is_journal = remote_command_reads_journal(spec->kind);
        RemoteCommandLine command;
        Running *r;
        int e;

        e = remote_command_changes(spec->kind) ? check_unit_is_ours(api, spec->unit, err) : 0;
        if (e < 0)
                return e;
        if (is_journal && api->calls->n_journals >= JOURNALS_MAX)
                return error_set(err, -EBUSY,
                                 "%d journals are being read on this host, which is the limit; end one of "
                                 "them, or try again later",
                                 JOURNALS_MAX);
        if (!is_journal && api->calls->n_commands >= COMMANDS_MAX)
                return error_set(err, -EBUSY,
                                 "%d commands about units are running on this host, which is the limit; try "
                                 "again later",
                                 COMMANDS_MAX);
        r = NEW0(Running, 1);
        if (!r)
                return error_set(err, -ENOMEM, "out of memory");
        *r = (Running) { .api = api, .is_journal = is_journal, .look = TIMER(running_check_peer, r) };
        TAILQ_INSERT_TAIL(&api->calls->running, r, all);
        (*running_count(r))++;
        remote_command_spec_command(spec, &command);
        e = child_spawn(&r->child, loop_uv(api->loop), command.argv, &running_events, r, err);
        if (e < 0) {
                running_free(r);
                return e;
        }
        *ret = r;
        return 0;
}

/* -- Calls of other hosts -- */

static void call_refuse(PeerSession *session, uint64_t number, const char *message) {
        char line[sizeof(((Error *) NULL)->message) + 1];

        snprintf(line, sizeof(line), "%s\n", message);
        if (reply_chunk(session, number, line, strlen(line)) == 0)
                reply_end(session, number, 1);
}

/* Return whether the other host may send the command: its requests have no more rights than an operator on
 * it. */
static bool call_is_permitted(const Api *api, const PeerSession *session, RemoteCommandKind kind) {
        Right right = remote_command_changes(kind) ? RIGHT_UNITS_CHANGE : RIGHT_UNITS_SEE;
        Principal sender = { .kind = PRINCIPAL_LOCAL };
        PolicyFacts facts = {};

        snprintf(sender.machine, sizeof(sender.machine), "%s", peer_handshake(session)->machine_id);
        if (policy_facts_read(registry_cluster(api->options.registry), &sender, &facts) < 0)
                return false;
        facts.is_operator = true;
        return policy_allows(&sender, right, (Resource) {}, &facts);
}

static void calls_on_call(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        RemoteCommandSpec spec;
        Running *r;
        Error err = {};

        if (remote_command_spec_read(&in, &spec) < 0) {
                call_refuse(session, number, "the other host rejected the request: its version may differ");
                return;
        }
        if (!call_is_permitted(api, session, spec.kind)) {
                call_refuse(session, number,
                            "the other host rejected the request: this host is restricted or removed");
                return;
        }
        if (running_start(api, &spec, &r, &err) < 0) {
                call_refuse(session, number, err.message);
                return;
        }
        r->session = peer_number(session);
        r->number = number;
}

static void calls_on_cancel(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        Running *r, *next;

        for (r = TAILQ_FIRST(&api->calls->running); r; r = next) {
                next = TAILQ_NEXT(r, all);
                if (!r->request && r->session == peer_number(session) && r->number == number)
                        running_free(r);
        }
}

static void calls_on_credit(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in), credit = read_u64(&in);
        Running *r;

        if (reader_end(&in) < 0)
                return;
        TAILQ_FOREACH(r, &api->calls->running, all) {
                if (r->request || r->session != peer_number(session) || r->number != number)
                        continue;
                r->credit = MAX(r->credit, credit);
                running_check_peer(r);
        }
}

/* -- Calls that another host executes -- */

/* Send a frame with the number of the call, and a total of bytes if it is not 0. */
static int asking_send(const Asking *a, PeerFrame type, uint64_t total) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, a->number);
        if (total > 0)
                write_u64(&w, total);
        return w.error ?: peers_send(a->api->options.peers, a->machine, type, w.bytes, w.size);
}

static void asking_on_end(Request *request) {
        Asking *a = request->state;

        if (!a->ended)
                (void) asking_send(a, PEER_CALL_CANCEL, 0);
        TAILQ_REMOVE(&a->api->calls->asking, a, all);
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

/* End the stream, after the output that is held. */
static void asking_end(Asking *a, int status) {
        a->ended = true;
        a->status = status;
        if (a->held.size == 0)
                line_exit(a->request, status);
}

/* Send output to the client, or hold it until the client can take it: 0. -ENOBUFS: too much is held. */
static int asking_take(Asking *a, const void *bytes, size_t size) {
        int r = a->held.size > 0 ? -ENOBUFS : line_data(a->request, a->machine, bytes, size);

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
               line_data(request, a->machine, a->held.chars + done, n) == 0)
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

static void calls_on_chunk(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        Asking *a = asking_find(api, session, read_u64(&in));
        size_t n;
        const void *bytes = read_blob(&in, PEER_FRAME_MAX, &n);

        /* The client reads more slowly than an older host sends, which has no credit: end the stream, because
         * the output may have no end. */
        if (a && reader_end(&in) >= 0 && asking_take(a, bytes, n) < 0)
                request_cut(a->request, "the reader of a journal fell too far behind");
}

static void calls_on_end(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        Asking *a = asking_find(api, session, read_u64(&in));
        uint32_t status = read_u32(&in);

        if (a && reader_end(&in) >= 0)
                asking_end(a, status);
}

/* A session ended: what was asked on it will not be answered, and whom we answered does not listen. */
static void calls_on_session_end(void *userdata, PeerSession *session) {
        static const char lost[] = "fleetd: the connection to that host was lost\n";
        Api *api = userdata;
        uint64_t number = peer_number(session);
        Asking *a, *next_asking;
        Running *r, *next_running;

        for (a = TAILQ_FIRST(&api->calls->asking); a; a = next_asking) {
                next_asking = TAILQ_NEXT(a, all);
                if (a->session != number || a->ended)
                        continue;
                a->ended = true;
                (void) asking_take(a, lost, sizeof(lost) - 1);
                asking_end(a, EXIT_UNREACHABLE);
        }
        for (r = TAILQ_FIRST(&api->calls->running); r; r = next_running) {
                next_running = TAILQ_NEXT(r, all);
                if (!r->request && r->session == number)
                        running_free(r);
        }
}

static int asking_start(Request *request, const char *machine, const RemoteCommandSpec *spec) {
        Api *api = request->api;
        PeerSession *session = peers_dialed(api->options.peers, machine);
        Asking *a = session ? NEW0(Asking, 1) : NULL;
        _cleanup_writer_ Writer w = {};
        int r;

        if (!session)
                return -ENOTCONN;
        if (!a)
                return -ENOMEM;
        *a = (Asking) { .api = api,
                        .request = request,
                        .number = ++api->calls->numbers,
                        .session = peer_number(session) };
        snprintf(a->machine, sizeof(a->machine), "%s", machine);
        TAILQ_INSERT_TAIL(&api->calls->asking, a, all);
        request->state = a;
        request->on_end = asking_on_end;
        request->on_drain = asking_on_drain;
        write_u64(&w, a->number);
        remote_command_spec_write(spec, &w);
        r = w.error ?: peers_send(api->options.peers, machine, PEER_CALL, w.bytes, w.size);
        if (r == 0)
                r = asking_grant(a); /* after the call, on the same session */
        if (r < 0)
                a->ended = true; /* nothing to cancel */
        return r;
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

static unsigned start_status(int error) {
        if (error == -ENOENT)
                return 404;
        return error == -EEXIST ? 409 : 503;
}

static const char *asking_reason(int error) {
        return error == -ENOTCONN ? "no session to it is open" : strerror(-error);
}

/* Run the command on machine 'm' (NULL: this host). */
static void command_begin(Request *request, const ClusterMachine *m, const RemoteCommandSpec *spec) {
        Running *running;
        Error err = {};
        int r;

        if (m && !streq(m->id, request->api->machine_id)) {
                r = asking_start(request, m->id, spec);
                if (r < 0 && spec->kind == CALL_LOG)
                        request_error(request, 503, "%s cannot be reached from this host (%s)",
                                      cluster_machine_name(m), asking_reason(r));
                else if (r < 0)
                        request_error(request, 503, "%s is on %s, which cannot be reached from here (%s)",
                                      spec->unit, cluster_machine_name(m), asking_reason(r));
                else
                        request_begin(request, "application/x-ndjson", NULL);
                return;
        }
        r = running_start(request->api, spec, &running, &err);
        if (r < 0) {
                request_error(request, start_status(r), "%s", error_text(&err, r));
                return;
        }
        running->request = request;
        request->state = running;
        request->on_end = running_on_end;
        request->on_drain = running_on_drain;
        request_begin(request, "application/x-ndjson", NULL);
}

void remote_command_handle(Request *request) {
        const char *unit = request->rest;
        const Cluster *c = registry_cluster(request->api->options.registry);
        const char *wanted = request_parameter(request, "machine");
        const ClusterUnit *u = cluster_unit(c, unit);
        const ClusterMachine *m;
        RemoteCommandSpec spec = { .kind = request->route->command };
        Error err = {};

        m = wanted ? cluster_machine(c, wanted) : unit_machine(c, unit);
        if (!u && !m) {
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
        if (!spec_read(request, &spec))
                return;

        command_begin(request, m, &spec);
}

/* The machine is that of the parameter, or this one, which need not be a machine of the cluster. */
void remote_log_handle(Request *request) {
        const char *wanted = request_parameter(request, "machine");
        const ClusterMachine *m = wanted ? cluster_machine(registry_cluster(request->api->options.registry),
                                                           wanted) :
                                           NULL;
        RemoteCommandSpec spec = { .kind = CALL_LOG };

        if (wanted && !m && !streq(wanted, request->api->machine_id))
                request_error(request, 404, "machine %s does not exist", wanted);
        else if (spec_read(request, &spec))
                command_begin(request, m, &spec);
}

/* The end of a call has the priority of its chunks, and the credit that of its call: the order within a class
 * is kept. */
static const PeerFrameType frame_types[] = {
        { PEER_CALL, PEER_REQUEST, PEER_PRIORITY_NORMAL, calls_on_call },
        { PEER_CALL_CHUNK, PEER_ANSWER, PEER_PRIORITY_LOW, calls_on_chunk },
        { PEER_CALL_END, PEER_ANSWER, PEER_PRIORITY_LOW, calls_on_end },
        { PEER_CALL_CANCEL, PEER_REQUEST, PEER_PRIORITY_NORMAL, calls_on_cancel },
        { PEER_CALL_CREDIT, PEER_REQUEST, PEER_PRIORITY_NORMAL, calls_on_credit },
};

int remote_commands_new(Api *api) {
        api->calls = NEW0(struct Calls, 1);
        if (!api->calls)
                return -ENOMEM;
        TAILQ_INIT(&api->calls->running);
        TAILQ_INIT(&api->calls->asking);
        peers_observe(api->options.peers, calls_on_session_end, api);
        peers_register(api->options.peers, frame_types, ELEMENTS(frame_types), api);
        return 0;
}

void remote_commands_free(Api *api) {
        if (!api->calls)
                return;
        peers_unregister(api->options.peers, frame_types, ELEMENTS(frame_types));
        peers_observe(api->options.peers, NULL, NULL);
        while (!TAILQ_EMPTY(&api->calls->running))
                running_free(TAILQ_FIRST(&api->calls->running));
        assert(TAILQ_EMPTY(&api->calls->asking)); /* their requests have ended */
        free(api->calls);
        api->calls = NULL;
}
