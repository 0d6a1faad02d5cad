#include "fleetd/api/call_execute.h"

#include "fleetd/api/call_reader.h"
#include "fleetd/api/fleet_v1.h"
#include "io/child_uv.h"

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

/* A call that is executed here, by a child. */
typedef struct Running {
        CallReader reader;
        Api *api;
        RunningState state;
        RemoteCommandSpec spec;
        Caller *caller; /* it has a place for 'work', as 'trust' */
        CallerWork work;
        CallerTrust trust;
        Child *child;
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

/* -- Calls that are executed here -- */

static void running_free(Running *r) {
        struct Executing *executing = r->api->executing;

        TAILQ_REMOVE(&executing->running, r, all);
        callers_give_back(&executing->callers, r->caller, r->work, r->trust);
        timer_stop(&r->timer);
        if (r->check)
                r->check->running = NULL;
        call_reader_done(&r->reader);
        free(r);
}

/* The reader has left. A child that is killed costs what it does until it is gone: so long it has its
 * place, and a caller that begins and ends calls all the time starts no more children than another one. */
static void running_on_reader_gone(CallReader *reader) {
        Running *r = container_of(reader, Running, reader);

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

static unsigned running_status(int error) {
        return error == -ENOENT ? 404 : error == -EEXIST ? 409 : 503;
}

/* Answer that it does not run: with 'error', and a message. */
static void running_refuse(Running *r, int error, const Error *err) {
        r->state = RUNNING_WAITS;
        call_reader_refuse(&r->reader, running_status(error), error_text(err, error));
}

/* Pause the child while the client or the connection is full, or the credit of the other host is used up. One
 * of an older version gives none. */
static void running_on_room(CallReader *reader) {
        Running *r = container_of(reader, Running, reader);
        const Served *s = &reader->served;
        PeerSession *session = served_session(s);
        bool full = session && peer_queued(session) > PEER_AHEAD_MAX;

        if (full)
                (void) timer_start(&r->timer, r->api->loop, PEER_LOOK_MS);
        if (r->state == RUNNING_CHILD)
                child_pause(r->child,
                            full || reader->held.size > 0 || (s->credit > 0 && s->sent >= s->credit));
}

static void running_on_output(void *userdata, const void *bytes, size_t size) {
        Running *r = userdata;

        if (call_reader_take(&r->reader, bytes, size) == 0)
                running_on_room(&r->reader);
}

static void running_on_begin(void *userdata) {
        call_reader_begin(&((Running *) userdata)->reader);
}

static void running_on_exit(void *userdata, int status) {
        Running *r = userdata;
        Error err = {};

        r->child = NULL;
        if (status < 0) {
                (void) error_set(&err, status, "Failed to run %s: %s", remote_command_program(r->spec.kind),
                                 strerror(-status));
                running_refuse(r, status, &err);
                return;
        }
        r->state = RUNNING_WAITS;
        call_reader_end(&r->reader, status);
}

static const ChildEvents running_events = { .on_begin = running_on_begin,
                                            .on_output = running_on_output,
                                            .on_exit = running_on_exit,
                                            .on_gone = running_on_gone };
static const CallReaderEvents running_reader_events = { .on_room = running_on_room,
                                                        .on_gone = running_on_reader_gone };

/* Check that a command may change the unit here: the unit must be the cluster's, also while its state could
 * not be published. */
static int check_unit_is_ours(const Api *api, const char *unit, Error *err) {
        const ClusterState *state = cluster_state(registry_cluster(api->host->registry),
                                                  api->settings->machine_id, unit);

        if (!state)
                return error_set(err, -ENOENT, "%s is not on this machine", unit);
        if (streq(state->state.load, STATE_FOREIGN) ||
            (api->host->is_foreign && api->host->is_foreign(api->host, unit)))
                return error_set(err, -EEXIST, "%s on this machine is a unit of the host, not of the cluster",
                                 unit);
        return 0;
}

/* Check what this host knows without a question to systemd. */
static int check_unit_is_readable(const Api *api, const RemoteCommandSpec *spec, Error *err) {
        const Cluster *c = registry_cluster(api->host->registry);

        if (!spec->cluster_only || remote_command_is_of_host(spec->kind))
                return 0;
        if (cluster_has_unit_on(c, cluster_machine(c, api->settings->machine_id), spec->unit) &&
            !(api->host->is_foreign && api->host->is_foreign(api->host, spec->unit)))
                return 0;
        return error_set(err, -ENOENT, "unit does not exist");
}

/* The sender of the request sets what reading a journal costs, by its bounds and its expression. A follower
 * has no limit of processor time, because it does not end; nor has a reader of usage, which itself keeps to a
 * share of the time. What the other commands cost is known, and a person waits for them; a change ends what
 * makes the host busy. */
static ChildOptions command_options(const RemoteCommandSpec *spec) {
        CallerWork work = remote_command_work(spec->kind);

        if (work == CALLER_JOURNAL)
                return (ChildOptions) { .class = CHILD_IDLE, .cpu_s = spec->follow ? 0 : JOURNAL_CPU_S };
        return (ChildOptions) {
                .class = remote_command_changes(spec->kind) ? CHILD_NEEDED : CHILD_BRIEF,
                .cpu_s = work == CALLER_USAGE ? 0 : COMMAND_CPU_S,
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
        Systemd *systemd = r->api->host->io.systemd;

        if (!r->spec.cluster_only || remote_command_is_of_host(r->spec.kind) || !systemd) {
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
                running_on_room(&r->reader);
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
                         .work = remote_command_work(spec->kind),
                         .trust = trust,
                         .timer = TIMER(running_on_timer, r) };
        e = timer_start(&r->timer, api->loop, 0);
        if (e >= 0)
                e = callers_take(&executing->callers, caller, r->work, trust, loop_now_ms(api->loop),
                                 &r->caller, err);
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
                call_refuse(session, number, 400, CALL_INVALID);
                return;
        }
        if (!call_is_permitted(api, session, api->settings->machine_id, &spec)) {
                call_refuse(session, number, 403, CALL_FORBIDDEN);
                return;
        }
        snprintf(caller.machine, sizeof(caller.machine), "%s", peer_handshake(session)->machine_id);
        e = running_new(api, &spec, &caller, call_trust(NULL, &spec), &r, &err);
        if (e == 0) {
                e = call_reader_of_host(&r->reader, api, session, number, &running_reader_events);
                if (e < 0)
                        running_free(r);
        }
        if (e < 0)
                call_refuse(session, number, running_status(e), error_text(&err, e));
}

/* -- Requests of this host -- */

void call_execute_request(Request *request, const RemoteCommandSpec *spec) {
        Principal caller = call_principal(request);
        Running *r;
        Error err = {};
        int e;

        e = running_new(request->api, spec, &caller, call_trust(request, spec), &r, &err);
        if (e < 0) {
                request_error(request, running_status(e), "%s", error_text(&err, e));
                return;
        }
        call_reader_of_request(&r->reader, request, r->api->settings->machine_id, &running_reader_events);
}

void call_execute_review(Api *api) {
        Running *r, *next;

        for (r = TAILQ_FIRST(&api->executing->running); r; r = next) {
                PeerSession *session = served_session(&r->reader.served);
                RemoteCommandSpec now = r->spec;

                next = TAILQ_NEXT(r, all);
                if (!session || (call_is_permitted(api, session, api->settings->machine_id, &now) &&
                                 now.cluster_only == r->spec.cluster_only))
                        continue;
                call_reader_refuse(&r->reader, 403, CALL_FORBIDDEN);
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
