#include "fleetd/api/call_execute.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "fleetd/api/call_relay.h"
#include "fleetd/api/callers.h"
#include "fleetd/api/fleet_v1.h"
#include "io/loop_uv.h"
#include "units/json.h"

enum {
        JOURNAL_CPU_S = 60, /* processor time of one that ends */
        COMMAND_CPU_S = 5,
        PEER_AHEAD_MAX = 1024 * 1024,
        PEER_LOOK_MS = 50,
};

typedef enum RunningState {
        RUNNING_WAITS,   /* until the pace of its caller permits the start; or its child has ended */
        RUNNING_CHILD,   /* 'child' is valid, until its end is reported */
        RUNNING_STOPPED, /* its output has no reader; it keeps its place until the process is gone */
} RunningState;

/* A call that is executed here: a child, whose output goes to a request of this host, or to a session. */
typedef struct Running {
        Api *api;
        RunningState state;
        RemoteCommandSpec spec;
        Caller *caller; /* it has a place for 'work', as 'trust' */
        CallerWork work;
        CallerTrust trust;
        Child *child;
        Request *request; /* NULL: of another host */
        uint64_t session, number;
        uint64_t sent, credit;    /* of another host; no credit: from an older version */
        Text held;                /* output that the client could not take yet */
        Timer timer;              /* for the start; then checks the queue of the session again */
        struct OwnerCheck *check; /* NULL: none is under way */
        TAILQ_ENTRY(Running) all;
} Running;

/* A question to systemd whose a unit is. */
typedef struct OwnerCheck {
        Running *running; /* NULL: cancelled */
} OwnerCheck;

struct Executing {
        TAILQ_HEAD(, Running) running;
        Callers callers;
};

/* -- Lines to the client: {"machine","data"}, {"exit"} -- */

int call_line_data(Request *request, const char *machine, const void *bytes, size_t size) {
        const char *output = request_parameter(request, "output");
        _cleanup_text_ Text t = {};

        text_printf(&t, "{\"machine\":\"%s\"", machine);
        if (output && streq(output, "export"))
                json_add_bytes(&t, "data", bytes, size);
        else {
                text_append(&t, ",\"data\":\"");
                text_append_json(&t, bytes, size);
                text_append_char(&t, '"');
        }
        text_append(&t, "}\n");
        return t.error ?: http_chunk(request->http, t.chars, t.size);
}

void call_line_exit(Request *request, int status) {
        char line[64];
        int n = snprintf(line, sizeof(line), "{\"exit\":%d}\n", status);

        (void) http_chunk(request->http, line, n);
        request_end(request);
}

/* -- Calls that are executed here -- */

static void running_free(Running *r) {
        struct Executing *executing = r->api->executing;

        TAILQ_REMOVE(&executing->running, r, all);
        callers_give_back(&executing->callers, r->caller, r->work, r->trust);
        timer_stop(&r->timer);
        if (r->check)
                r->check->running = NULL;
        text_done(&r->held);
        free(r);
}

/* The client has left. A child that is killed costs what it does until it is gone: so long it has its
 * place, and a caller that begins and ends calls all the time starts no more children than another one. */
static void running_cancel(Running *r) {
        timer_stop(&r->timer);
        if (r->state == RUNNING_CHILD) {
                r->state = RUNNING_STOPPED;
                child_stop(r->child);
        } else if (r->state == RUNNING_WAITS)
                running_free(r);
}

static void running_on_gone(void *userdata) {
        running_free(userdata);
}

/* Answer that it does not run: with 'error', and a message. */
static void running_refuse(Running *r, int error, const Error *err) {
        PeerSession *session = r->request ? NULL : peers_session(r->api->options.peers, r->session);

        r->state = RUNNING_WAITS;
        if (r->request && r->request->streams) {
                request_cut(r->request, error_text(err, error));
                return;
        }
        if (r->request) {
                request_error(r->request, call_status(error), "%s", error_text(err, error));
                return;
        }
        if (session)
                call_refuse(session, r->number, call_status(error), error_text(err, error));
        running_free(r);
}

/* Pause the child while the connection is full, or the credit of the other host is used up. */
static void running_check_peer(Running *r) {
        PeerSession *session = peers_session(r->api->options.peers, r->session);
        bool full = session && peer_queued(session) > PEER_AHEAD_MAX;

        if (full)
                (void) timer_start(&r->timer, r->api->loop, PEER_LOOK_MS);
        if (r->state == RUNNING_CHILD)
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

/* The first chunk of another host's call is empty: it has begun, and may be silent for long. */
static void running_on_begin(void *userdata) {
        Running *r = userdata;
        PeerSession *session = r->request ? NULL : peers_session(r->api->options.peers, r->session);

        if (r->request)
                request_begin(r->request, "application/x-ndjson", NULL);
        else if (session)
                (void) call_reply_chunk(session, r->number, "", 0);
}

static void running_on_exit(void *userdata, int status) {
        Running *r = userdata;
        PeerSession *session;
        Error err = {};

        r->child = NULL;
        if (status < 0) {
                (void) error_set(&err, status, "Failed to run %s: %s",
                                 r->work == CALLER_JOURNAL ? "journalctl" : "systemctl", strerror(-status));
                running_refuse(r, status, &err);
                return;
        }
        r->state = RUNNING_WAITS;
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

static const ChildEvents running_events = { .on_begin = running_on_begin,
                                            .on_output = running_on_output,
                                            .on_exit = running_on_exit,
                                            .on_gone = running_on_gone };

static void running_on_drain(Request *request) {
        Running *r = request->state;

        if (r->held.size > 0) {
                if (call_line_data(request, r->api->machine_id, r->held.chars, r->held.size) < 0)
                        return;
                text_clear(&r->held);
        }
        if (r->state == RUNNING_CHILD)
                child_pause(r->child, false);
}

static void running_on_end(Request *request) {
        running_cancel(request->state);
}

/* Check that a command may change the unit here: the unit must be the cluster's, also while its state could
 * not be published. */
static int check_unit_is_ours(const Api *api, const char *unit, Error *err) {
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

/* Check what this host knows without a question to systemd. */
static int check_unit_is_readable(const Api *api, const RemoteCommandSpec *spec, Error *err) {
        const Cluster *c = registry_cluster(api->options.registry);

        if (!spec->cluster_only || spec->kind == CALL_LOG)
                return 0;
        if (unit_is_of_cluster(c, cluster_machine(c, api->machine_id), spec->unit) &&
            !(api->options.is_foreign && api->options.is_foreign(api->options.userdata, spec->unit)))
                return 0;
        return error_set(err, -ENOENT, "unit does not exist");
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

static void running_start(Running *r) {
        ChildOptions options = command_options(&r->spec);
        RemoteCommandLine command;
        Error err = {};
        int e;

        remote_command_spec_command(&r->spec, &command);
        e = child_spawn(&r->child, r->api->loop, command.argv, &options, &running_events, r, &err);
        if (e < 0)
                running_refuse(r, e, &err);
        else
                r->state = RUNNING_CHILD;
}

static void running_on_owner(void *userdata, int error, const SystemdUnit *units, size_t n) {
        OwnerCheck *check = userdata;
        Running *r = check->running;
        Error err = {};

        free(check);
        if (!r)
                return;
        r->check = NULL;
        if (error >= 0 && n == 1 && units[0].owner != SYSTEMD_CONFLICTING) {
                running_start(r);
                return;
        }
        error = error < 0 ? -EIO : -ENOENT;
        (void) error_set(&err, error, error == -ENOENT ? "unit does not exist" : "systemd does not answer");
        running_refuse(r, error, &err);
}

/* The cluster may have a unit of this name on another host only, and this host its own, which no agent has
 * looked for: systemd knows. */
static void running_check(Running *r) {
        const char *unit = r->spec.unit;
        Systemd *systemd = r->api->options.systemd;

        if (!r->spec.cluster_only || r->spec.kind == CALL_LOG || !systemd) {
                running_start(r);
                return;
        }
        r->check = NEW0(OwnerCheck, 1);
        if (!r->check) {
                running_refuse(r, -ENOMEM, NULL);
                return;
        }
        r->check->running = r;
        if (systemd->ops->list(systemd, &unit, 1, false, running_on_owner, r->check) < 0)
                running_on_owner(r->check, -ENOMEM, NULL, 0);
}

static void running_on_timer(void *userdata) {
        Running *r = userdata;
        uint64_t wait_ms;

        if (r->state == RUNNING_CHILD) {
                running_check_peer(r);
                return;
        }
        wait_ms = callers_start(&r->api->executing->callers, r->caller, loop_now_ms(r->api->loop));
        if (wait_ms == 0)
                running_check(r);
        else if (timer_start(&r->timer, r->api->loop, wait_ms) < 0)
                running_refuse(r, -ENOMEM, NULL);
}

/* Begin the call for a caller. It starts later: no event is called from inside. */
static int running_new(Api *api, const RemoteCommandSpec *spec, const Principal *caller, CallerTrust trust,
                       Running **ret, Error *err) {
        struct Executing *executing = api->executing;
        char name[PRINCIPAL_TEXT_SIZE];
        Running *r;
        int e;

        if (remote_command_changes(spec->kind))
                e = check_unit_is_ours(api, spec->unit, err);
        else
                e = check_unit_is_readable(api, spec, err);
        if (e < 0)
                return e;
        r = NEW0(Running, 1);
        if (!r)
                return error_set(err, -ENOMEM, "out of memory");
        *r = (Running) { .api = api,
                         .spec = *spec,
                         .work = remote_command_reads_journal(spec->kind) ? CALLER_JOURNAL : CALLER_COMMAND,
                         .trust = trust,
                         .timer = TIMER(running_on_timer, r) };
        e = timer_start(&r->timer, api->loop, 0);
        if (e >= 0)
                e = callers_take(&executing->callers, principal_text(caller, name), r->work, trust,
                                 loop_now_ms(api->loop), &r->caller, err);
        if (e < 0) {
                timer_stop(&r->timer);
                free(r);
                return e;
        }
        TAILQ_INSERT_TAIL(&executing->running, r, all);
        *ret = r;
        return 0;
}

/* -- Calls of other hosts -- */

static bool running_is_of(const Running *r, uint64_t session) {
        return r->state != RUNNING_STOPPED && !r->request && r->session == session;
}

void call_execute_on_call(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        Principal caller = { .kind = PRINCIPAL_MACHINE };
        RemoteCommandSpec spec;
        Running *r;
        Error err = {};
        int e;

        if (remote_command_spec_read(&in, &spec) < 0) {
                call_refuse(session, number, 400,
                            "the other host rejected the request: its version may differ");
                return;
        }
        if (!call_is_permitted(api, session, api->machine_id, &spec)) {
                call_refuse(session, number, 403, CALL_FORBIDDEN);
                return;
        }
        snprintf(caller.machine, sizeof(caller.machine), "%s", peer_handshake(session)->machine_id);
        e = running_new(api, &spec, &caller, call_trust(NULL, &spec), &r, &err);
        if (e < 0) {
                call_refuse(session, number, call_status(e), err.message);
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
                if (running_is_of(r, peer_number(session)) && r->number == number)
                        running_cancel(r);
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
                if (!running_is_of(r, peer_number(session)) || r->number != number)
                        continue;
                r->credit = MAX(r->credit, credit);
                if (r->state == RUNNING_CHILD)
                        running_check_peer(r);
        }
        call_relay_request(api, session, type, payload, size);
}

/* -- Requests of this host -- */

unsigned call_status(int error) {
        return error == -ENOENT ? 404 : error == -EEXIST ? 409 : 503;
}

/* A host that forwards requests may claim any user: they have the places of that host. */
Principal call_principal(const Request *request) {
        Principal p = { .kind = PRINCIPAL_MACHINE };

        if (request->origin)
                snprintf(p.machine, sizeof(p.machine), "%s", request->origin->machine);
        else if (request->sender)
                p = request->sender->principal;
        p.n_groups = 0; /* a user chooses which of them to use */
        return p;
}

void call_execute_request(Request *request, const RemoteCommandSpec *spec) {
        Principal caller = call_principal(request);
        Running *r;
        Error err = {};
        int e;

        e = running_new(request->api, spec, &caller, call_trust(request, spec), &r, &err);
        if (e < 0) {
                request_error(request, call_status(e), "%s", error_text(&err, e));
                return;
        }
        r->request = request;
        request->state = r;
        request->on_end = running_on_end;
        request->on_drain = running_on_drain;
}

void call_execute_on_session_end(Api *api, uint64_t session) {
        Running *r, *next;

        for (r = TAILQ_FIRST(&api->executing->running); r; r = next) {
                next = TAILQ_NEXT(r, all);
                if (running_is_of(r, session))
                        running_cancel(r);
        }
}

void call_execute_review(Api *api) {
        Running *r, *next;

        for (r = TAILQ_FIRST(&api->executing->running); r; r = next) {
                PeerSession *session = r->request ? NULL : peers_session(api->options.peers, r->session);
                RemoteCommandSpec now = r->spec;

                next = TAILQ_NEXT(r, all);
                if (!session || r->state == RUNNING_STOPPED ||
                    (call_is_permitted(api, session, api->machine_id, &now) &&
                     now.cluster_only == r->spec.cluster_only))
                        continue;
                call_refuse(session, r->number, 403, CALL_FORBIDDEN);
                running_cancel(r);
        }
}

int call_execute_new(Api *api) {
        api->executing = NEW0(struct Executing, 1);
        if (!api->executing)
                return -ENOMEM;
        TAILQ_INIT(&api->executing->running);
        callers_init(&api->executing->callers);
        return 0;
}

void call_execute_free(Api *api) {
        Running *r;

        while ((r = TAILQ_FIRST(&api->executing->running))) {
                if (r->state != RUNNING_WAITS)
                        r->child = child_kill(r->child);
                running_free(r);
        }
        callers_done(&api->executing->callers);
        free(api->executing);
        api->executing = NULL;
}
