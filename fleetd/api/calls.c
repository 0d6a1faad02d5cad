/* What systemd's own tools say of a unit or do to it, wherever it runs: in a child process, so that nothing is read from disk
 * on the loop and the words are those that people know; led over the peers' sessions when the unit is elsewhere.
 *
 * PEER_CALL: u64 number, call_spec_write(). Answers: PEER_CALL_CHUNK (number, bytes) and PEER_CALL_END (number, u32 exit status).
 * PEER_CALL_CANCEL (number) when the client has left. */
#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/parse.h"
#include "fleetd/api/call_spec.h"
#include "fleetd/api/fleet_v1.h"
#include "io/loop_uv.h"
#include "units/json.h"
#include "units/name.h"

enum { CHILDREN_MAX = 32, PEER_AHEAD_MAX = 1024 * 1024, PEER_LOOK_MS = 50, EXIT_UNREACHABLE = 255 };

/* A call that is answered here: a child, and to whom its words go: a request of ours, or a session. */
typedef struct Running {
        Api *api;
        Child *child;
        Request *request;  /* NULL: for a peer */
        uint64_t session, number;
        Text held;         /* what the client could not take yet */
        Timer look;        /* a peer's queue is looked at again */
        TAILQ_ENTRY(Running) all;
} Running;

/* A call that another host answers. */
typedef struct Asking {
        Api *api;
        Request *request;
        char machine[33];
        uint64_t number, session;
        TAILQ_ENTRY(Asking) all;
} Asking;

struct Calls {
        TAILQ_HEAD(, Running) running;
        TAILQ_HEAD(, Asking) asking;
        PeerObserver observer;
        uint64_t numbers;
        unsigned n_children;
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
        request->forget = NULL;
        request_end(request);
}

/* -- Answering here -- */

static void running_free(Running *r) {
        struct Calls *calls = r->api->calls;

        TAILQ_REMOVE(&calls->running, r, all);
        calls->n_children--;
        timer_stop(&r->look);
        r->child = r->child ? child_kill(r->child) : NULL;
        text_done(&r->held);
        free(r);
}

static void peer_send_chunk(Running *r, PeerSession *session, const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, r->number);
        write_blob(&w, bytes, size);
        if (w.error == 0)
                (void) peer_reply(session, PEER_CALL_CHUNK, w.bytes, w.size);
}

static void running_on_look(void *userdata) {
        Running *r = userdata;
        PeerSession *session = peers_session(r->api->options.peers, r->session);

        if (session && peer_queued(session) > PEER_AHEAD_MAX)
                (void) timer_start(&r->look, r->api->loop, PEER_LOOK_MS);
        else if (r->child)
                child_pause(r->child, false);
}

static void running_on_output(void *userdata, const void *bytes, size_t size) {
        Running *r = userdata;
        PeerSession *session;

        if (r->request) {
                if (r->held.size == 0 && line_data(r->request, r->api->machine_id, bytes, size) == 0)
                        return;
                text_append_bytes(&r->held, bytes, size);
                child_pause(r->child, true);
                return;
        }
        session = peers_session(r->api->options.peers, r->session);
        if (!session)
                return;
        peer_send_chunk(r, session, bytes, size);
        if (peer_queued(session) > PEER_AHEAD_MAX) {
                child_pause(r->child, true);
                (void) timer_start(&r->look, r->api->loop, PEER_LOOK_MS);
        }
}

static void running_on_exit(void *userdata, int status) {
        Running *r = userdata;
        PeerSession *session;
        _cleanup_writer_ Writer w = {};

        r->child = NULL;
        if (r->request) {
                if (r->held.size > 0)
                        (void) line_data(r->request, r->api->machine_id, r->held.chars, r->held.size);
                line_exit(r->request, status);
        } else if ((session = peers_session(r->api->options.peers, r->session))) {
                write_u64(&w, r->number);
                write_u32(&w, status);
                if (w.error == 0)
                        (void) peer_reply(session, PEER_CALL_END, w.bytes, w.size);
        }
        running_free(r);
}

static const ChildEvents running_events = { .on_output = running_on_output, .on_exit = running_on_exit };

static void running_drain(Request *request) {
        Running *r = request->state;

        if (r->held.size > 0) {
                if (line_data(request, r->api->machine_id, r->held.chars, r->held.size) < 0)
                        return;
                text_clear(&r->held);
        }
        if (r->child)
                child_pause(r->child, false);
}

static void running_forget(Request *request) {
        running_free(request->state);
}

static int running_start(Api *api, const CallSpec *spec, Running **ret, Error *err) {
        const Cluster *c = registry_cluster(api->options.registry);
        CallCommand command;
        Running *r;
        int e;

        if (call_changes(spec->kind) && !cluster_state(c, api->machine_id, spec->unit))
                return error_set(err, -ENOENT, "%s is not on this machine", spec->unit);
        if (api->calls->n_children >= CHILDREN_MAX)
                return error_set(err, -EBUSY, "%d journals are being read on this host already; try again later", CHILDREN_MAX);
        r = NEW0(Running, 1);
        if (!r)
                return error_set(err, -ENOMEM, "out of memory");
        *r = (Running) { .api = api, .look = { .fire = running_on_look, .userdata = r } };
        TAILQ_INSERT_TAIL(&api->calls->running, r, all);
        api->calls->n_children++;
        call_spec_command(spec, &command);
        e = child_spawn(&r->child, loop_uv(api->loop), command.argv, &running_events, r, err);
        if (e < 0) {
                running_free(r);
                return e;
        }
        *ret = r;
        return 0;
}

/* -- For a peer -- */

static void call_refuse(PeerSession *session, uint64_t number, const char *sentence) {
        _cleanup_writer_ Writer chunk = {}, end = {};

        write_u64(&chunk, number);
        write_blob(&chunk, sentence, strlen(sentence));
        write_u64(&end, number);
        write_u32(&end, 1);
        if (chunk.error == 0 && end.error == 0 && peer_reply(session, PEER_CALL_CHUNK, chunk.bytes, chunk.size) == 0)
                (void) peer_reply(session, PEER_CALL_END, end.bytes, end.size);
}

static void calls_on_call(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        CallSpec spec;
        Running *r;
        Error err = {};

        if (call_spec_read(&in, &spec) < 0) {
                call_refuse(session, number, "the other host does not understand the question: another version?\n");
                return;
        }
        if (running_start(api, &spec, &r, &err) < 0) {
                call_refuse(session, number, err.message);
                return;
        }
        r->session = peer_number(session);
        r->number = number;
}

static void calls_on_cancel(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
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

/* -- Asking a peer -- */

static void asking_free(Asking *a) {
        TAILQ_REMOVE(&a->api->calls->asking, a, all);
        free(a);
}

static void asking_forget(Request *request) {
        Asking *a = request->state;
        _cleanup_writer_ Writer w = {};

        write_u64(&w, a->number);
        if (w.error == 0)
                (void) peers_send(a->api->options.peers, a->machine, PEER_CALL_CANCEL, w.bytes, w.size);
        asking_free(a);
}

static Asking *asking_find(Api *api, PeerSession *session, uint64_t number) {
        Asking *a;

        TAILQ_FOREACH(a, &api->calls->asking, all)
                if (a->number == number && a->session == peer_number(session))
                        return a;
        return NULL;
}

static void calls_on_chunk(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        Asking *a = asking_find(api, session, read_u64(&in));
        size_t n;
        const void *bytes = read_blob(&in, PEER_FRAME_MAX, &n);
        Request *request;

        if (!a || reader_end(&in) < 0 || line_data(a->request, a->machine, bytes, n) == 0)
                return;

        /* The client reads slower than the other host tells: end it rather than hold what may be without end. */
        request = a->request;
        asking_forget(request);
        request->forget = NULL;
        request_cut(request, "the reader of a journal fell too far behind");
}

static void calls_on_end(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        Asking *a = asking_find(api, session, read_u64(&in));
        uint32_t status = read_u32(&in);

        if (!a || reader_end(&in) < 0)
                return;
        line_exit(a->request, status);
        asking_free(a);
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
                if (a->session != number)
                        continue;
                (void) line_data(a->request, a->machine, lost, sizeof(lost) - 1);
                line_exit(a->request, EXIT_UNREACHABLE);
                asking_free(a);
        }
        for (r = TAILQ_FIRST(&api->calls->running); r; r = next_running) {
                next_running = TAILQ_NEXT(r, all);
                if (!r->request && r->session == number)
                        running_free(r);
        }
}

static int asking_start(Request *request, const char *machine, const CallSpec *spec) {
        Api *api = request->api;
        PeerSession *session = peers_dialed(api->options.peers, machine);
        Asking *a = session ? NEW0(Asking, 1) : NULL;
        _cleanup_writer_ Writer w = {};
        int r;

        if (!session)
                return -ENOTCONN;
        if (!a)
                return -ENOMEM;
        *a = (Asking) { .api = api, .request = request, .number = ++api->calls->numbers, .session = peer_number(session) };
        snprintf(a->machine, sizeof(a->machine), "%s", machine);
        TAILQ_INSERT_TAIL(&api->calls->asking, a, all);
        write_u64(&w, a->number);
        call_spec_write(spec, &w);
        r = w.error ?: peers_send(api->options.peers, machine, PEER_CALL, w.bytes, w.size);
        if (r < 0) {
                asking_free(a);
                return r;
        }
        request->state = a;
        request->forget = asking_forget;
        return 0;
}

/* -- The handler -- */

static bool spec_read(Request *request, CallSpec *spec) {
        const char *lines = request_parameter(request, "lines"), *follow = request_parameter(request, "follow");
        const struct {
                const char *name;
                char *field;
                size_t size;
        } texts[] = {
                { "output", spec->output, sizeof(spec->output) },     { "since", spec->since, sizeof(spec->since) },
                { "until", spec->until, sizeof(spec->until) },        { "properties", spec->properties, sizeof(spec->properties) },
                { "signal", spec->signal, sizeof(spec->signal) },     { "whom", spec->whom, sizeof(spec->whom) },
        };
        uint64_t n = 10;
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                const char *value = request_parameter(request, texts[i].name) ?: "";

                if ((size_t) snprintf(texts[i].field, texts[i].size, "%s", value) < texts[i].size)
                        continue;
                request_error(request, 400, "%s: longer than %zu bytes", texts[i].name, texts[i].size - 1);
                return false;
        }
        if ((lines && parse_u64(lines, &n) < 0) || n > CALL_LINES_MAX)
                request_error(request, 400, "lines: expected a number up to %d", CALL_LINES_MAX);
        else if (follow && parse_bool(follow, &spec->follow) < 0)
                request_error(request, 400, "follow: expected true or false");
        else {
                spec->lines = n;
                if (call_spec_check(spec, &err) >= 0)
                        return true;
                request_error(request, 400, "%s", err.message);
        }
        return false;
}

void call_handle(Request *request, CallKind kind, const char *unit, const char *method) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const char *wanted = request_parameter(request, "machine");
        const ClusterUnit *u = cluster_unit(c, unit);
        const ClusterMachine *m;
        CallSpec spec = { .kind = kind };
        Running *running;
        Error err = {};
        int r;

        if (!method_is(request, method)) {
                request_error(request, 405, "only %s supported against this resource", method);
                return;
        }
        m = wanted ? cluster_machine(c, wanted) : unit_machine(c, unit);
        if (!u && !m) {
                request_error(request, 404, "unit does not exist");
                return;
        }
        if (!m) {
                request_error(request, 404, wanted ? "machine %s does not exist" : "%s is on no machine", wanted ?: unit);
                return;
        }
        if (unit_name_check(unit, &err) < 0) {
                request_error(request, 400, "%s", err.message);
                return;
        }
        snprintf(spec.unit, sizeof(spec.unit), "%s", unit);
        if (!spec_read(request, &spec))
                return;

        if (!streq(m->id, request->api->machine_id)) {
                r = asking_start(request, m->id, &spec);
                if (r < 0)
                        request_error(request, 503, "%s is on %s, which cannot be reached from here (%s)", unit,
                                      m->facts && m->facts->name ? m->facts->name : m->id, strerror(-r));
                else
                        request_begin(request, 200, "application/x-ndjson");
                return;
        }
        r = running_start(request->api, &spec, &running, &err);
        if (r < 0) {
                request_error(request, r == -ENOENT ? 404 : 503, "%s", error_text(&err, r));
                return;
        }
        running->request = request;
        request->state = running;
        request->forget = running_forget;
        request->drain = running_drain;
        request_begin(request, 200, "application/x-ndjson");
}

int calls_new(Api *api) {
        static const struct {
                PeerFrame type;
                PeerHandler handler;
        } handlers[] = {
                { PEER_CALL, calls_on_call },
                { PEER_CALL_CANCEL, calls_on_cancel },
                { PEER_CALL_CHUNK, calls_on_chunk },
                { PEER_CALL_END, calls_on_end },
        };

        api->calls = NEW0(struct Calls, 1);
        if (!api->calls)
                return -ENOMEM;
        TAILQ_INIT(&api->calls->running);
        TAILQ_INIT(&api->calls->asking);
        api->calls->observer = (PeerObserver) { .on_end = calls_on_session_end, .userdata = api };
        peers_observe(api->options.peers, &api->calls->observer);
        for (size_t i = 0; i < ELEMENTS(handlers); i++)
                peers_handle(api->options.peers, handlers[i].type, handlers[i].handler, api);
        return 0;
}

void calls_free(Api *api) {
        if (!api->calls)
                return;
        for (PeerFrame type = PEER_CALL; type <= PEER_CALL_CANCEL; type++)
                peers_handle(api->options.peers, type, NULL, NULL);
        peers_unobserve(api->options.peers, &api->calls->observer);
        while (!TAILQ_EMPTY(&api->calls->running))
                running_free(TAILQ_FIRST(&api->calls->running));
        while (!TAILQ_EMPTY(&api->calls->asking))
                asking_free(TAILQ_FIRST(&api->calls->asking));
        free(api->calls);
        api->calls = NULL;
}
