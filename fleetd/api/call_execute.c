#include "fleetd/api/call_execute.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "fleetd/api/call_relay.h"
#include "io/loop_uv.h"
#include "units/json.h"

enum {
        JOURNALS_MAX = 32,  /* a reader may follow one without end */
        COMMANDS_MAX = 8,   /* the others, which end soon: journals do not use up their limit */
        JOURNAL_CPU_S = 60, /* processor time of one that ends */
        COMMAND_CPU_S = 5,
        PEER_AHEAD_MAX = 1024 * 1024,
        PEER_LOOK_MS = 50,
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

struct Executing {
        TAILQ_HEAD(, Running) running;
        unsigned n_journals, n_commands; /* children */
};

/* -- Lines to the client: {"machine","data"}, {"exit"} -- */

int call_line_data(Request *request, const char *machine, const void *bytes, size_t size) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "{\"machine\":\"%s\",\"data\":\"", machine);
        text_append_json(&t, bytes, size);
        text_append(&t, "\"}\n");
        return t.error ?: http_chunk(request->http, t.chars, t.size);
}

void call_line_exit(Request *request, int status) {
        char line[64];
        int n = snprintf(line, sizeof(line), "{\"exit\":%d}\n", status);

        (void) http_chunk(request->http, line, n);
        request_end(request);
}

/* -- Calls that are executed here -- */

static unsigned *running_count(Running *r) {
        struct Executing *executing = r->api->executing;

        return r->is_journal ? &executing->n_journals : &executing->n_commands;
}

static void running_free(Running *r) {
        TAILQ_REMOVE(&r->api->executing->running, r, all);
        (*running_count(r))--;
        timer_stop(&r->look);
        r->child = r->child ? child_kill(r->child) : NULL;
        text_done(&r->held);
        free(r);
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
                if (call_line_data(r->request, r->api->machine_id, bytes, size) == 0)
                        return;
                text_append_bytes(&r->held, bytes, size);
                child_pause(r->child, true);
                return;
        }
        session = peers_session(r->api->options.peers, r->session);
        if (!session)
                return;
        (void) call_reply_chunk(session, r->number, bytes, size);
        r->sent += size;
        running_check_peer(r);
}

static void running_on_exit(void *userdata, int status) {
        Running *r = userdata;
        PeerSession *session;

        r->child = NULL;
        if (r->request) {
                assert(r->held.size == 0); /* a paused child does not end: its output is not read */
                call_line_exit(r->request, status);
                return;
        }
        session = peers_session(r->api->options.peers, r->session);
        if (session)
                call_reply_end(session, r->number, status);
        running_free(r);
}

static const ChildEvents running_events = { .on_output = running_on_output, .on_exit = running_on_exit };

static void running_on_drain(Request *request) {
        Running *r = request->state;

        if (r->held.size > 0) {
                if (call_line_data(request, r->api->machine_id, r->held.chars, r->held.size) < 0)
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

/* The sender of the request sets what reading a journal costs, by its bounds and its expression. A follower
 * has no limit of processor time, because it does not end. What the other commands cost is known, and a
 * person waits for them; a change ends what makes the host busy. */
static ChildOptions command_options(const RemoteCommandSpec *spec) {
        if (remote_command_reads_journal(spec->kind))
                return (ChildOptions) { .class = CHILD_IDLE, .cpu_s = spec->follow ? 0 : JOURNAL_CPU_S };
        return (ChildOptions) {
                .class = remote_command_changes(spec->kind) ? CHILD_NEEDED : CHILD_BRIEF,
                .cpu_s = COMMAND_CPU_S,
        };
}

static int running_start(Api *api, const RemoteCommandSpec *spec, Running **ret, Error *err) {
        bool is_journal = remote_command_reads_journal(spec->kind);
        ChildOptions options = command_options(spec);
        RemoteCommandLine command;
        Running *r;
        int e;

        e = remote_command_changes(spec->kind) ? check_unit_is_ours(api, spec->unit, err) : 0;
        if (e < 0)
                return e;
        if (is_journal && api->executing->n_journals >= JOURNALS_MAX)
                return error_set(err, -EBUSY,
                                 "%d journals are being read on this host, which is the limit; end one of "
                                 "them, or try again later",
                                 JOURNALS_MAX);
        if (!is_journal && api->executing->n_commands >= COMMANDS_MAX)
                return error_set(err, -EBUSY,
                                 "%d commands about units are running on this host, which is the limit; try "
                                 "again later",
                                 COMMANDS_MAX);
        r = NEW0(Running, 1);
        if (!r)
                return error_set(err, -ENOMEM, "out of memory");
        *r = (Running) { .api = api, .is_journal = is_journal, .look = TIMER(running_check_peer, r) };
        TAILQ_INSERT_TAIL(&api->executing->running, r, all);
        (*running_count(r))++;
        remote_command_spec_command(spec, &command);
        e = child_spawn(&r->child, api->loop, command.argv, &options, &running_events, r, err);
        if (e < 0) {
                running_free(r);
                return e;
        }
        *ret = r;
        return 0;
}

/* -- Calls of other hosts -- */

void call_execute_on_call(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
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
        if (!call_is_permitted(api, session, api->machine_id, &spec)) {
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

void call_execute_on_cancel(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        Running *r, *next;

        for (r = TAILQ_FIRST(&api->executing->running); r; r = next) {
                next = TAILQ_NEXT(r, all);
                if (!r->request && r->session == peer_number(session) && r->number == number)
                        running_free(r);
        }
        call_relay_request(api, session, type, payload, size);
}

void call_execute_on_credit(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in), credit = read_u64(&in);
        Running *r;

        if (reader_end(&in) < 0)
                return;
        TAILQ_FOREACH(r, &api->executing->running, all) {
                if (r->request || r->session != peer_number(session) || r->number != number)
                        continue;
                r->credit = MAX(r->credit, credit);
                running_check_peer(r);
        }
        call_relay_request(api, session, type, payload, size);
}

static unsigned start_status(int error) {
        return error == -ENOENT ? 404 : error == -EEXIST ? 409 : 503;
}

void call_execute_request(Request *request, const RemoteCommandSpec *spec) {
        Running *running;
        Error err = {};
        int r;

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

void call_execute_on_session_end(Api *api, uint64_t session) {
        Running *r, *next;

        for (r = TAILQ_FIRST(&api->executing->running); r; r = next) {
                next = TAILQ_NEXT(r, all);
                if (!r->request && r->session == session)
                        running_free(r);
        }
}

int call_execute_new(Api *api) {
        api->executing = NEW0(struct Executing, 1);
        if (!api->executing)
                return -ENOMEM;
        TAILQ_INIT(&api->executing->running);
        return 0;
}

void call_execute_free(Api *api) {
        while (!TAILQ_EMPTY(&api->executing->running))
                running_free(TAILQ_FIRST(&api->executing->running));
        free(api->executing);
        api->executing = NULL;
}
