/* What a hostile sender costs: each type of frame, sent again and again, sent and canceled, from the oldest
 * index, with the largest body, and by a host that never reads. The receiver is the leader of a cluster of
 * whole daemons in virtual time; work is counted (work.h), not timed.
 *
 * A cell fails if a turn of the loop costs more than its budget, if all of it costs more than the burst that
 * its row permits and WORK_PER_BYTE for each byte that was sent or answered, or if it starts more children
 * than its row permits. Frames of replicas have no limit of a turn.
 *
 * The cells that fail are printed, and with SHARES=all the whole table.
 *
 * With CHECK_ALL=yes, also what one change of an endpoint costs all hosts together, with 200 services and
 * with 2,000: the nodes and bytes that their loops count.
 *
 *      test-shares [--seed N] [--runs N] [--trace] */

#include "fleetd/api/forward_frames.h"
#include "fleetd/api/remote_command_spec.h"
#include "peers/frames.h"
#include "base/text.h"
#include "io/child_uv.h"
#include "kvstore/command/cost.h"
#include "kvstore/remote_frames.h"
#include "kvstore/serve.h"
#include "tests/search/work.h"
#include "tests/sim/guest.h"

enum {
        WORK_PER_BYTE = 64,
        TURN_MAX = COST_ENTRY_MAX / COST_ENTRY_MS * TURN_TIME_MS, /* begins no further requests */
        FRAMES = 1000,                                            /* of a cell */
        LARGEST = 4,
        BODY_MAX = 1024 * 1024,
        QUIET_MS = 3000,   /* until the work of a cell is done */
        KEYS = 1100,       /* more than a window of events has */
        CHILDREN_MAX = 16, /* of one host: places, and a burst */
        CHILD_ENDS_MS = 20,
        PAIRS = 10000,
        PAIRS_MS = 2000,
        REQUESTS = 200,                 /* of a cell */
        BURST_CHANGES = COST_ENTRY_MAX, /* of proposals: the store limits their cost (kvstore/budget.h) */
        BURST_ANSWERS = 64 * BODY_MAX,  /* of the answers that one host has not taken */
        REQUEST_MAX = 240 * 1024,       /* bytes of a body */
        SERVICES = 200,                 /* each with one endpoint */
        SERVICES_TIMES = 10,
        SERVICE_HOSTS = 50, /* of which REPLICAS hold replicas */
        REPLICAS = 5,
        CHANGES = 40,
        CHANGE_MS = 2000, /* until all hosts have it */
        CHANGE_PERCENT_MAX = 130,
};

/* -- Work of the leader, and its children -- */

static SimMachine *target;
static uint64_t turn, turn_begin, turn_most;
static unsigned n_children, n_unlimited, cpu_s;

static bool target_counts(void) {
        uint64_t n;

        if (!target || !target->loop || world_running_loop(world) != target->loop || world_is_at_work())
                return false;
        n = loop_turns(world_loop(target->loop))->n;
        if (n != turn) {
                turn_most = MAX(turn_most, work_done - turn_begin);
                turn = n;
                turn_begin = work_done;
        }
        return true;
}

/* A child that runs until it is stopped or killed. */
struct Child {
        Loop *loop;
        const ChildEvents *events;
        void *userdata;
        Timer gone;
};

static void child_on_gone(void *userdata) {
        Child *child = userdata;

        child->events->on_gone(child->userdata);
        free(child);
}

int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err);
int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err) {
        Child *child = NEW0(Child, 1);

        n_children++;
        n_unlimited += options->class == CHILD_NEEDED || options->cpu_s == 0;
        cpu_s += options->cpu_s;
        work_count(WORK_CHILD);
        if (!child)
                return -ENOMEM;
        *child = (Child) { loop, events, userdata, TIMER(child_on_gone, child) };
        *ret = child;
        return 0;
}

void __wrap_child_stop(Child *child);
void __wrap_child_stop(Child *child) {
        if (timer_start(&child->gone, child->loop, CHILD_ENDS_MS) < 0)
                abort();
}

Child *__wrap_child_kill(Child *child);
Child *__wrap_child_kill(Child *child) {
        timer_stop(&child->gone);
        free(child);
        return NULL;
}

void __wrap_child_pause(Child *child, bool paused);
void __wrap_child_pause(Child *child, bool paused) {}

/* -- Frames -- */

typedef enum Role { HOST, JOINING, ANSWERS, REPLICA, _ROLE_MAX } Role;

static uint64_t oldest; /* index of the windows */

static void call(Writer *w, uint64_t i) {
        RemoteCommandSpec spec = { .kind = CALL_STATUS };

        snprintf(spec.unit, sizeof(spec.unit), "a.service");
        (void) remote_command_spec_check(&spec, NULL);
        write_u64(w, i);
        remote_command_spec_write(&spec, w);
}

static void call_via(Writer *w, uint64_t i) {
        RemoteCommandSpec spec = { .kind = CALL_STATUS };

        snprintf(spec.unit, sizeof(spec.unit), "a.service");
        write_u64(w, i);
        write_string(w, machine(GUEST_ATTACHED)->machine_id);
        remote_command_spec_write(&spec, w);
}

static void call_number(Writer *w, uint64_t i) {
        write_u64(w, i);
}

static void call_one_number(Writer *w, uint64_t i) {
        write_u64(w, 1);
}

static void call_credit(Writer *w, uint64_t i) {
        write_u64(w, i);
        write_u64(w, 1 << 20);
}

static void subscribe(Writer *w, uint64_t i) {
        remote_subscribe_write(
                &(RemoteSubscribe) { .number = (uint32_t) i, .kind = REMOTE_BELOW, .key = kv_string("/w") },
                NULL, 0, w);
}

static void subscribe_oldest(Writer *w, uint64_t i) {
        remote_subscribe_write(&(RemoteSubscribe) { .number = (uint32_t) i,
                                                    .kind = REMOTE_BELOW,
                                                    .key = kv_string("/w"),
                                                    .since = oldest },
                               NULL, 0, w);
}

static void subscribe_slice(Writer *w, uint64_t i) {
        uint64_t *hashes = malloc(REMOTE_HASHES_MAX * sizeof(*hashes));

        for (uint64_t k = 0; k < REMOTE_HASHES_MAX; k++)
                hashes[k] = (i * REMOTE_HASHES_MAX + k) << 20;
        remote_subscribe_write(&(RemoteSubscribe) { .number = 5000 }, hashes, REMOTE_HASHES_MAX, w);
        free(hashes);
}

static void unsubscribe(Writer *w, uint64_t i) {
        remote_unsubscribe_write((uint32_t) i, w);
}

static void forward(Writer *w, uint64_t i) {
        ForwardRequest request = { .method = "GET", .path = kv_string("/v2/keys/w") };
        KvPosition position;

        request.sender.reads = true;
        kv_position(daemon_host(target->daemon)->store, &position);
        forward_request_begin((uint32_t) i, position.lineage, 0, w);
        forward_request_write(&request, w);
}

static void forward_cancel(Writer *w, uint64_t i) {
        write_u32(w, (uint32_t) i);
}

static void forward_credit(Writer *w, uint64_t i) {
        write_u32(w, (uint32_t) i);
        write_u64(w, 1 << 20);
}

/* Of a unit of another host. */
static void inputs(Writer *w, uint64_t i) {
        write_u8(w, 1);
        write_u32(w, i);
        write_string(w, "a.service");
        write_string(w, "0123456789abcdef0123456789abcdef01234567");
        write_u64(w, 0);
}

static void renumber(Writer *w, uint64_t i) {
        remote_read_write(
                &(RemoteRead) { .number = (uint32_t) i, .kind = REMOTE_GET, .key = kv_string("/w/1") }, w);
}

typedef void Build(Writer *w, uint64_t i);

typedef struct Row {
        Build *build;
        PeerFrame cancel;
        Build *build_cancel, *build_oldest, *build_largest;
        uint64_t burst; /* work */
        unsigned children;
} Row;

/* Without a row: as a daemon has sent it, or zeros. */
static const Row rows[PEER_FRAME_TYPES] = {
        [PEER_CALL] = { call, PEER_CALL_CANCEL, call_number, .burst = CHILDREN_MAX * WORK_CHILD,
                        .children = CHILDREN_MAX },
        [PEER_CALL_CHUNK] = { call_number },
        [PEER_CALL_END] = { call_credit },
        [PEER_CALL_CANCEL] = { call_one_number },
        [PEER_CALL_CREDIT] = { call_credit },
        [PEER_CALL_VIA] = { call_via, PEER_CALL_CANCEL, call_number,
                            .children = CHILDREN_MAX }, /* at the attached host */
        [PEER_SUBSCRIBE] = { subscribe, PEER_UNSUBSCRIBE, unsubscribe, subscribe_oldest, subscribe_slice,
                             .burst = SERVE_VISITS_BURST * (TURN_NODE) },
        [PEER_UNSUBSCRIBE] = { unsubscribe },
        [PEER_READ] = { renumber },
        [PEER_INPUTS] = { inputs },
        [PEER_FORWARD] = { forward, PEER_FORWARD_CANCEL, forward_cancel },
        [PEER_FORWARD_CANCEL] = { forward_cancel },
        [PEER_FORWARD_CREDIT] = { forward_credit },
};

static const struct {
        PeerFrame type;
        const char *name;
} frames[] = {
#define FRAME(name, number, direction, priority) { PEER_##name, "PEER_" #name },
        PEER_FRAMES(FRAME)
#undef FRAME
};

/* Who sends the frames of a type to the replica. */
static Role role_of(PeerFrame type) {
        PeerDirection direction = peer_frame_rule(type).direction;

        return !(direction & PEER_REQUEST)    ? ANSWERS :
               direction & PEER_FROM_REPLICAS ? REPLICA :
               direction & PEER_FROM_JOINING  ? JOINING :
                                                HOST;
}

typedef enum Cell { REPEAT, CANCEL, OLDEST, LARGEST_BODY, SLOWEST, _CELL_MAX } Cell;

static const char *const cells[] = { [REPEAT] = "repeat",
                                     [CANCEL] = "repeat and cancel",
                                     [OLDEST] = "oldest index",
                                     [LARGEST_BODY] = "largest body",
                                     [SLOWEST] = "slowest reader" };

static bool row_has(const Row *row, Cell cell) {
        switch (cell) {
        case CANCEL:
                return row->build_cancel;
        case OLDEST:
                return row->build_oldest;
        default:
                return true;
        }
}

static void write_frame(PeerFrame type, Cell cell, uint64_t i, Writer *w) {
        const Row *row = &rows[type];
        Build *build = cell == OLDEST                             ? row->build_oldest :
                       cell == LARGEST_BODY && row->build_largest ? row->build_largest :
                                                                    row->build;
        size_t max = role_of(type) == JOINING ? PEER_JOIN_FRAME_MAX : BODY_MAX;
        static const uint8_t zeros[BODY_MAX];

        if (build)
                build(w, i);
        else if (recorded[type].payload)
                write_raw(w, recorded[type].payload, recorded[type].size);
        else
                write_raw(w, zeros, 64);
        if (cell == LARGEST_BODY && w->size < max && !row->build_largest)
                write_raw(w, zeros, max - w->size);
        if (w->error < 0)
                abort();
}

static uint64_t idle_work; /* of QUIET_MS */

typedef struct Spent {
        uint64_t asked, answered, work, turn;
        unsigned children, unlimited, cpu_s; /* 'cpu_s': the sum of their limits */
} Spent;

static void measure_begin(void) {
        work_done = turn_begin = turn_most = n_children = n_unlimited = cpu_s = 0;
        sent_bytes = 0;
        sent_by = target;
        work_counts = target_counts;
}

static void measure_end(Spent *ret) {
        work_counts = NULL;
        ret->answered = sent_bytes;
        ret->turn = MAX(turn_most, work_done - turn_begin);
        ret->work = work_done - MIN(work_done, idle_work);
        ret->children = n_children;
        ret->unlimited = n_unlimited;
        ret->cpu_s = cpu_s;
}

static size_t send_one(PeerSession *s, PeerFrame type, const Writer *w) {
        (void) __real_peer_reply(s, type, w->bytes, w->size);
        return FRAME_HEADER_SIZE + w->size;
}

static PeerSession *guest_sends_on(SimGuest *g, Role role) {
        if (role != ANSWERS)
                return sim_guest_session(g);
        UNTIL("the-leader-dials-a-replica", peers_accepted(g->peers, target->machine_id));
        return peers_accepted(g->peers, target->machine_id);
}

static Spent play(SimGuest *g, PeerFrame type, Cell cell) {
        PeerSession *s = guest_sends_on(g, role_of(type));
        unsigned n = cell == LARGEST_BODY ? LARGEST : FRAMES;
        Spent cost = {};

        measure_begin();
        for (uint64_t i = 1; i <= n; i++) {
                _cleanup_writer_ Writer w = {}, c = {};

                write_frame(type, cell, i, &w);
                cost.asked += send_one(s, type, &w);
                if (cell != CANCEL)
                        continue;
                rows[type].build_cancel(&c, i);
                cost.asked += send_one(s, rows[type].cancel, &c);
        }
        if (cell == SLOWEST)
                world_loop_pause(g->loop, QUIET_MS);
        run_ms(QUIET_MS);
        measure_end(&cost);
        return cost;
}

static unsigned n_failed, n_cells;
static bool prints_all;

static void judge(const char *name, Cell cell, const Spent *c, uint64_t turn_max, uint64_t burst,
                  unsigned children) {
        uint64_t bytes = c->asked + c->answered;
        bool good = c->turn <= turn_max && c->work <= burst + WORK_PER_BYTE * bytes &&
                    c->children <= children && c->unlimited == 0;

        n_cells++;
        n_failed += !good;
        if (good && !prints_all)
                return;
        printf("%s %-40s %-18s asked %llu, answered %llu bytes; %llu KiB of work, %llu KiB in one turn, %.1f "
               "for "
               "each byte; %u children, %u without a limit, %u s\n",
               good ? "ok" : "too expensive:", name, cells[cell], (unsigned long long) c->asked,
               (unsigned long long) c->answered, (unsigned long long) c->work / 1024,
               (unsigned long long) c->turn / 1024, (double) c->work / (double) bytes, c->children,
               c->unlimited, c->cpu_s);
}

/* A cell that a frame or a route does not have. */
static void name_missing(const char *name, Cell cell) {
        if (prints_all)
                printf("-- %-40s %-18s %s\n", name, cells[cell],
                       cell == CANCEL ? "nothing to cancel" : "it names no index");
}

static void play_role(const SimGuestHost *host, Role role) {
        uint64_t raft_id = role == ANSWERS || role == REPLICA ? seen(machine(0), host->m)->member.raft_id : 0;
        Error err = {};
        SimGuest g;

        sim_guest_open(&g, host->m, target, role == JOINING ? host->none : host->own,
                       role == JOINING ? &host->root : NULL, raft_id);
        if (role == ANSWERS && peers_listen(g.peers, GUEST_ADDRESS, &err) < 0)
                world_failed(world, "a-host-listens", "%s", err.message);
        for (size_t i = 0; i < ELEMENTS(frames); i++)
                for (Cell cell = 0; cell < _CELL_MAX && role_of(frames[i].type) == role; cell++) {
                        const Row *row = &rows[frames[i].type];
                        Spent spent;

                        if (!row_has(row, cell)) {
                                name_missing(frames[i].name, cell);
                                continue;
                        }
                        spent = play(&g, frames[i].type, cell);
                        judge(frames[i].name, cell, &spent, role == REPLICA ? UINT64_MAX : TURN_MAX,
                              row->burst, row->children);
                }
        sim_guest_close(&g, host->m);
}

/* -- Routes: requests that an attached host forwards for its operators -- */

#define UNIT                                                                                          \
        "{\"name\":\"w0.service\",\"desiredState\":\"loaded\",\"text\":\"[Service]\\nExecStart=/bin/" \
        "one\\n\"}"
#define AT_ITS_HOST NULL /* executed at the host of its client; children: see PEER_CALL */

/* Texts with as many options as a plan takes, and a unit whose patterns match none of them. */
static void largest_plan(Text *t) {
        enum { UNITS = 800, OPTIONS = 40, PATTERNS = 1000 };

        text_append(t, "{\"units\":[");
        for (unsigned i = 0; i < UNITS; i++) {
                text_printf(t, "{\"name\":\"b%u.service\",\"text\":\"[Service]\\n", i);
                for (unsigned k = 0; k < OPTIONS; k++)
                        text_append(t, "a=b\\n");
                text_append(t, "\"},");
        }
        text_append(t, "{\"name\":\"x.service\",\"text\":\"[X-Fleet]");
        for (unsigned i = 0; i < PATTERNS; i++)
                text_printf(t, "%s*-%uq", i % 50 ? " " : "\\nConflicts=", i);
        text_append(t, "\\nConflicts=*.service\"}]}");
}

static const struct {
        const char *methods, *pattern;
        const char *method, *target, *body, *oldest; /* the index follows */
        uint64_t burst, turn;
        void (*largest)(Text *body);
} routes[] = {
        { "HEAD GET", "/v2/keys/**", "GET", "/v2/keys/w?recursive=true", NULL,
          "/v2/keys/w?wait=true&recursive=true&waitIndex=", BURST_ANSWERS },
        { "PUT POST DELETE", "/v2/keys/**", "PUT", "/v2/keys/x", "value=1" },
        { "GET", "/fleet/v1/kv/changes", "GET", "/fleet/v1/kv/changes?prefix=/w/", NULL,
          "/fleet/v1/kv/changes?prefix=/w/&after=", BURST_ANSWERS },
        { "GET HEAD", "/fleet/v1/kv/list", "GET", "/fleet/v1/kv/list?prefix=/&recursive=true&values=true",
          .burst = BURST_ANSWERS },
        { "POST", "/fleet/v1/kv/txn", "POST", "/fleet/v1/kv/txn",
          "{\"writes\":[{\"action\":\"set\",\"key\":\"/x\",\"value\":\"1\"}]}" },
        { "GET HEAD", "/fleet/v1/kv/value/**", "GET", "/fleet/v1/kv/value/w/1" },
        { "PUT", "/fleet/v1/kv/value/**", "PUT", "/fleet/v1/kv/value/x", "1" },
        { "DELETE", "/fleet/v1/kv/value/**", "DELETE", "/fleet/v1/kv/value/w/1" },
        { "GET", "/version", AT_ITS_HOST },
        { "GET", "/health", AT_ITS_HOST },
        { "GET HEAD", "/v2/machines", AT_ITS_HOST },
        { "GET", "/v2/members/**", AT_ITS_HOST },
        { "POST DELETE PUT", "/v2/members/**", "POST", "/v2/members", "{}" },
        { "GET", "/v2/stats/self", "GET", "/v2/stats/self" },
        { "GET", "/v2/stats/leader", "GET", "/v2/stats/leader" },
        { "GET", "/v2/stats/store", "GET", "/v2/stats/store" },
        { "GET HEAD", "/v2/auth/users", AT_ITS_HOST },
        { "GET HEAD", "/v2/auth/roles", AT_ITS_HOST },
        { "GET PUT DELETE", "/v2/auth/enable", AT_ITS_HOST },
        { "GET", "/metrics", AT_ITS_HOST },
        { "GET", "/fleet/v1/units", "GET", "/fleet/v1/units" },
        { "GET", "/fleet/v1/units/*", "GET", "/fleet/v1/units/a.service" },
        { "PUT", "/fleet/v1/units/*", "PUT", "/fleet/v1/units/w0.service", UNIT },
        { "DELETE", "/fleet/v1/units/*", "DELETE", "/fleet/v1/units/w0.service" },
        { "GET", "/fleet/v1/units/*/move", "GET", "/fleet/v1/units/a.service/move" },
        { "PUT", "/fleet/v1/units/*/move", "PUT", "/fleet/v1/units/w0.service/move", "{}" },
        { "DELETE", "/fleet/v1/units/*/move", "DELETE", "/fleet/v1/units/w0.service/move" },
        { "GET", "/fleet/v1/units/*/replicas", "GET", "/fleet/v1/units/a.service/replicas" },
        { "PUT", "/fleet/v1/units/*/replicas", "PUT", "/fleet/v1/units/w0.service/replicas",
          "{\"count\":1}" },
        { "DELETE", "/fleet/v1/units/*/replicas", "DELETE", "/fleet/v1/units/w0.service/replicas" },
        { "GET", "/fleet/v1/revisions/*", "GET", "/fleet/v1/revisions/a.service" },
        { "GET", "/fleet/v1/rollouts", "GET", "/fleet/v1/rollouts" },
        { "GET", "/fleet/v1/rollouts/*", "GET", "/fleet/v1/rollouts/a.service" },
        { "PUT", "/fleet/v1/rollouts/*", "PUT", "/fleet/v1/rollouts/w0.service", "{}" },
        { "POST", "/fleet/v1/batch", "POST", "/fleet/v1/batch", "{\"units\":[" UNIT "]}" },
        { "GET", "/fleet/v1/state", "GET", "/fleet/v1/state" },
        { "GET", "/fleet/v1/state/*", "GET", "/fleet/v1/state/a.service" },
        { "GET", "/fleet/v1/local", AT_ITS_HOST },
        { "GET", "/fleet/v1/machines", "GET", "/fleet/v1/machines" },
        { "PATCH", "/fleet/v1/machines", "PATCH", "/fleet/v1/machines", "{}" },
        { "DELETE", "/fleet/v1/machines/*", "DELETE", "/fleet/v1/machines/x" },
        { NULL, "/fleet/v1/machines/*", AT_ITS_HOST },
        { "GET", "/fleet/v1/why/*", "GET", "/fleet/v1/why/a.service" },
        { "POST", "/fleet/v1/plan", "POST", "/fleet/v1/plan", "{\"units\":[" UNIT "]}",
          .largest = largest_plan },
        { "POST", "/fleet/v1/plan/machines", "POST", "/fleet/v1/plan/machines", "{}" },
        { "GET", "/fleet/v1/directory", "GET", "/fleet/v1/directory" },
        { "GET", "/fleet/v1/problems", "GET", "/fleet/v1/problems" },
        { "POST", "/fleet/v1/directory", "POST", "/fleet/v1/directory", "{}" },
        { NULL, "/fleet/v1/discovery", AT_ITS_HOST },
        { "GET", "/fleet/v1/events", "GET", "/fleet/v1/events" },
        { "GET", "/fleet/v1/history", "GET", "/fleet/v1/history", .burst = BURST_ANSWERS },
        { "GET", "/fleet/v1/cluster", "GET", "/fleet/v1/cluster" },
        { "GET", "/fleet/v1/cluster/backup", "GET", "/fleet/v1/cluster/backup" },
        { "GET", "/fleet/v1/cluster/tokens", "GET", "/fleet/v1/cluster/tokens" },
        { "POST", "/fleet/v1/cluster/tokens", "POST", "/fleet/v1/cluster/tokens", "{}" },
        { "DELETE", "/fleet/v1/cluster/tokens/*", "DELETE", "/fleet/v1/cluster/tokens/x" },
        { "GET", "/fleet/v1/cluster/ca", "GET", "/fleet/v1/cluster/ca" },
        { "GET", "/fleet/v1/cluster/users", "GET", "/fleet/v1/cluster/users" },
        { "PUT", "/fleet/v1/cluster/users/*", "PUT", "/fleet/v1/cluster/users/x", "{}" },
        { "DELETE", "/fleet/v1/cluster/users/*", "DELETE", "/fleet/v1/cluster/users/x" },
        { "POST", "/fleet/v1/cluster/host/rekey", AT_ITS_HOST },
        { "POST", "/fleet/v1/cluster/init", AT_ITS_HOST },
        { "POST", "/fleet/v1/cluster/join", AT_ITS_HOST },
        { "GET", "/fleet/v1/cluster/leave", AT_ITS_HOST },
        { "POST", "/fleet/v1/cluster/leave", AT_ITS_HOST },
        { "DELETE", "/fleet/v1/cluster/leave", AT_ITS_HOST },
        { "GET", "/fleet/v1/journal/*", AT_ITS_HOST },
        { "GET", "/fleet/v1/status/*", AT_ITS_HOST },
        { "GET", "/fleet/v1/show/*", AT_ITS_HOST },
        { "GET", "/fleet/v1/dependencies/*", AT_ITS_HOST },
        { "POST", "/fleet/v1/reload/*", AT_ITS_HOST },
        { "POST", "/fleet/v1/kill/*", AT_ITS_HOST },
        { "POST", "/fleet/v1/reset-failed/*", AT_ITS_HOST },
        { "GET", "/fleet/v1/log", AT_ITS_HOST },
        { "GET", "/fleet/v1/usage", AT_ITS_HOST },
        { "GET", "/fleet/v1/machines/*/maintenance", "GET", "/fleet/v1/machines/x/maintenance" },
        { "PUT", "/fleet/v1/machines/*/maintenance", "PUT", "/fleet/v1/machines/x/maintenance", "{}" },
        { "DELETE", "/fleet/v1/machines/*/maintenance", "DELETE", "/fleet/v1/machines/x/maintenance" },
        { "GET", "/fleet/v1/reboots", "GET", "/fleet/v1/reboots" },
        { "POST", "/fleet/v1/reboots", "POST", "/fleet/v1/reboots", "{}" },
        { "DELETE", "/fleet/v1/reboots", "DELETE", "/fleet/v1/reboots" },
        { "POST", "/fleet/v1/reboots/resume", "POST", "/fleet/v1/reboots/resume", "{}" },
        { "GET", "/fleet/v1/data", "GET", "/fleet/v1/data" },
        { "GET", "/fleet/v1/rebalance", "GET", "/fleet/v1/rebalance" },
        { "GET", "/fleet/v1/secrets", "GET", "/fleet/v1/secrets" },
        { "PUT", "/fleet/v1/secrets/*", "PUT", "/fleet/v1/secrets/x", "{\"value\":\"YQ==\"}" },
        { "DELETE", "/fleet/v1/secrets/*", "DELETE", "/fleet/v1/secrets/x" },
        { "GET", "/fleet/v1/services", "GET", "/fleet/v1/services" },
        { "GET", "/fleet/v1/services/*", "GET", "/fleet/v1/services/x" },
        { "PUT", "/fleet/v1/cluster/level", "PUT", "/fleet/v1/cluster/level", "{}" },
        { "PUT", "/fleet/v1/cluster/settings", "PUT", "/fleet/v1/cluster/settings", "{}" },
        { "DELETE", "/fleet/v1/cluster/adopting", "DELETE", "/fleet/v1/cluster/adopting" },
        { "POST", "/fleet/v1/cluster/ca/rotate", "POST", "/fleet/v1/cluster/ca/rotate", "{}" },
        { "POST", "/fleet/v1/cluster/rekey", "POST", "/fleet/v1/cluster/rekey", "{}" },
        { "POST", "/fleet/v1/cluster/secure", "POST", "/fleet/v1/cluster/secure", "{}" },
};

static void write_request(size_t row, Cell cell, uint64_t i, const char *machine_id, Writer *w) {
        static char body[BODY_MAX];
        ForwardRequest request = { .sender = { .principal.kind = PRINCIPAL_LOCAL,
                                               .listener = API_SOCKET,
                                               .is_operator = true,
                                               .reads = true,
                                               .writes = true },
                                   .n_content_types = 1 };
        const char *given = routes[row].body ?: "", *query;
        char target_text[256], room[TEXT_U64_SIZE];
        KvPosition position;

        snprintf(target_text, sizeof(target_text), "%s%s",
                 cell == OLDEST ? routes[row].oldest : routes[row].target,
                 cell == OLDEST ? text_u64(oldest, room) : "");
        query = strchr(target_text, '?');
        request.path = (KvBytes) { target_text,
                                   query ? (size_t) (query - target_text) : strlen(target_text) };
        memset(body, ' ', sizeof(body));
        memcpy(body, given, strlen(given));
        if (cell == LARGEST_BODY && routes[row].largest) {
                _cleanup_text_ Text t = {};

                routes[row].largest(&t);
                if (t.error < 0 || t.size > REQUEST_MAX)
                        abort();
                memcpy(body, t.chars, t.size);
        }
        request.body = (KvBytes) { body, cell == LARGEST_BODY ? REQUEST_MAX : strlen(given) };
        snprintf(request.method, sizeof(request.method), "%s", routes[row].method);
        snprintf(request.content_type, sizeof(request.content_type), "%s",
                 *given == '{' ? "application/json" : "application/x-www-form-urlencoded");
        memcpy(request.sender.principal.machine, machine_id, MACHINE_ID_SIZE);
        if (query && http_parameters_parse(&request.parameters, query + 1, strlen(query + 1), NULL) < 0)
                abort();
        kv_position(daemon_host(target->daemon)->store, &position);
        forward_request_begin((uint32_t) i, position.lineage, 0, w);
        forward_request_write(&request, w);
        http_parameters_done(&request.parameters);
        if (w->error < 0)
                abort();
}

static Spent ask(SimGuest *g, size_t row, Cell cell, const char *machine_id) {
        static uint64_t number = 1000000;
        PeerSession *s = sim_guest_session(g);
        uint64_t first = number + 1;
        Spent spent = {};

        measure_begin();
        for (unsigned i = 0; i < (cell == LARGEST_BODY ? LARGEST : REQUESTS); i++) {
                _cleanup_writer_ Writer w = {}, credit = {}, cancel = {};

                write_request(row, cell, ++number, machine_id, &w);
                spent.asked += send_one(s, PEER_FORWARD, &w);
                write_u32(&credit, (uint32_t) number);
                write_u64(&credit, BODY_MAX);
                if (cell != SLOWEST)
                        spent.asked += send_one(s, PEER_FORWARD_CREDIT, &credit);
                write_u32(&cancel, (uint32_t) number);
                if (cell == CANCEL || cell == OLDEST)
                        spent.asked += send_one(s, PEER_FORWARD_CANCEL, &cancel);
        }
        if (cell == SLOWEST)
                world_loop_pause(g->loop, QUIET_MS);
        run_ms(QUIET_MS);
        measure_end(&spent);
        for (uint64_t i = first; i <= number; i++) { /* streams */
                _cleanup_writer_ Writer cancel = {};

                write_u32(&cancel, (uint32_t) i);
                (void) send_one(sim_guest_session(g), PEER_FORWARD_CANCEL, &cancel);
        }
        run_ms(500);
        return spent;
}

static void each_route(const SimGuestHost *host) {
        SimGuest g;

        sim_guest_open(&g, host->m, target, host->own, NULL, 0);
        for (size_t row = 0; row < ELEMENTS(routes); row++)
                for (Cell cell = 0; cell < _CELL_MAX && routes[row].method; cell++) {
                        char name[128];
                        Spent spent;

                        snprintf(name, sizeof(name), "%s %s", routes[row].method, routes[row].pattern);
                        if (cell == OLDEST && !routes[row].oldest) {
                                name_missing(name, cell);
                                continue;
                        }
                        spent = ask(&g, row, cell, host->m->machine_id);
                        judge(name, cell, &spent, routes[row].turn ?: TURN_MAX,
                              routes[row].burst                        ?:
                                      streq(routes[row].method, "GET") ? 0 :
                                                                         BURST_CHANGES,
                              0);
                }
        sim_guest_close(&g, host->m);
}

/* -- Other sessions -- */

/* Return how long a write of the attached host takes at most, while 'g' sends pairs of a call and its cancel;
 * NULL: while no host does. The work of the leader takes its time. */
static uint64_t slowest_write_ms(SimGuest *g) {
        const uint64_t per_ms = COST_ENTRY_MAX / COST_ENTRY_MS;
        PeerSession *s = g ? sim_guest_session(g) : NULL;
        uint64_t most_ms = 0, begun_ms = 0, paid = 0;
        KeyWrite write = { .done = true };

        measure_begin();
        for (uint64_t i = 1; s && i <= PAIRS; i++) {
                _cleanup_writer_ Writer w = {}, cancel = {};

                call(&w, i);
                (void) send_one(s, PEER_CALL, &w);
                call_number(&cancel, i);
                (void) send_one(s, PEER_CALL_CANCEL, &cancel);
        }
        for (unsigned ms = 0; ms < PAIRS_MS || !write.done; ms++) {
                const KvCommand cmd = { .op = KV_SET, .key = kv_string("/app/a"), .value = kv_string("2") };
                uint64_t number, now_ms = world_now_ms(world), pause_ms = (work_done - paid) / per_ms;

                if (write.done) {
                        write = (KeyWrite) {};
                        begun_ms = now_ms;
                        if (kv_propose(daemon_host(machine(GUEST_ATTACHED)->daemon)->store, &cmd, on_written,
                                       &write, &number) < 0)
                                abort();
                }
                if (pause_ms > 0) {
                        world_loop_pause(target->loop, pause_ms);
                        paid += pause_ms * per_ms;
                }
                run_ms(1);
                most_ms = MAX(most_ms, world_now_ms(world) - begun_ms);
                if (ms > PAIRS_MS + TOKENS_PATIENCE_MS)
                        world_failed(world, "a-write-is-answered", "not within %d ms", TOKENS_PATIENCE_MS);
        }
        work_counts = NULL;
        return most_ms;
}

static void pairs_delay_no_other_session(const SimGuestHost *host) {
        uint64_t before_ms = slowest_write_ms(NULL), term = state_of(target).term, with_ms;
        SimGuest g;

        sim_guest_open(&g, host->m, target, host->own, NULL, 0);
        with_ms = slowest_write_ms(&g);
        printf("a write takes %llu ms, beside %d pairs of call and cancel %llu ms, %u children\n",
               (unsigned long long) before_ms, PAIRS, (unsigned long long) with_ms, n_children);
        if (with_ms > before_ms + TURN_TIME_MS || state_of(target).term != term)
                world_failed(world, "pairs-delay-no-other-session", "%llu ms, term %llu",
                             (unsigned long long) with_ms, (unsigned long long) state_of(target).term);
        sim_guest_close(&g, host->m);
}

static void each_frame(void) {
        SimGuestHost host;
        Spent idle = {};
        uint64_t term;
        char key[32];

        sim_guest_host_new(&host);
        target = leader_with(machine(0));
        pairs_delay_no_other_session(&host);
        oldest = write_key(target, "/w/0", "1");
        for (unsigned i = 1; i < KEYS; i++) {
                snprintf(key, sizeof(key), "/w/%u", i);
                oldest = i == KEYS - 950 ? write_key(target, key, "1") :
                                           (write_key(target, key, "1"), oldest);
        }
        run_ms(5000);
        measure_begin();
        run_ms(QUIET_MS);
        measure_end(&idle);
        idle_work = idle.work;
        term = state_of(target).term;
        play_role(&host, HOST);
        play_role(&host, JOINING);
        each_route(&host);
        sim_guest_host_admit(&host);
        play_role(&host, ANSWERS);
        play_role(&host, REPLICA);
        if (state_of(target).term != term)
                world_failed(world, "no-frame-causes-an-election", "term %llu", (unsigned long long) term);
        sim_guest_host_done(&host);
}

/* -- One change of an endpoint -- */

/* What the loops of all hosts have counted so far. */
static TurnWork work_of_all(void) {
        TurnWork sum = {};

        for (unsigned i = 0; i < SERVICE_HOSTS; i++) {
                const TurnWork *total = &loop_turns(world_loop(machine(i)->loop))->total;

                sum.nodes += total->nodes;
                sum.bytes += total->bytes;
        }
        return sum;
}

static SimMachine *host_of_service(unsigned i) {
        return machine(i % SERVICE_HOSTS);
}

static bool is_registered(unsigned i) {
        char unit[32];

        snprintf(unit, sizeof(unit), "shop-%u.service", i);
        return cluster_endpoint(registry_cluster(daemon_host(target->daemon)->registry),
                                host_of_service(i)->machine_id, unit);
}

static bool all_list(unsigned n) {
        for (unsigned i = 0; i < SERVICE_HOSTS; i++)
                if (HASH_COUNT(machine(i)->services.files) != n + 1) /* with .host */
                        return false;
        return true;
}

/* A unit for each host, again and again, until there are so many services; 'failed': of former ones. */
static void launch_services(unsigned first, unsigned end, unsigned failed) {
        for (; first < end; first += SERVICE_HOSTS) {
                UnitChange changes[SERVICE_HOSTS] = {};
                Unit *units[SERVICE_HOSTS];
                char names[SERVICE_HOSTS][32];
                bool done = false;

                for (unsigned i = 0; i < SERVICE_HOSTS; i++) {
                        _cleanup_text_ Text text = {};

                        snprintf(names[i], sizeof(names[i]), "shop-%u.service", first + i);
                        text_printf(&text,
                                    "[Service]\nExecStart=/bin/good 1\n[X-Fleet]\nService=shop-%u\n"
                                    "Port=http:auto\nMachineID=%s\n",
                                    first + i, host_of_service(first + i)->machine_id);
                        if (text.error < 0 ||
                            unit_parse(names[i], text.chars, text.size, &units[i], NULL) < 0)
                                abort();
                        changes[i] = (UnitChange) { .name = names[i],
                                                    .unit = units[i],
                                                    .has_target = true,
                                                    .target = TARGET_LAUNCHED };
                }
                if (registry_change_units(daemon_host(target->daemon)->registry, changes, SERVICE_HOSTS,
                                          on_asked, &done) < 0)
                        abort();
                UNTIL("a-request-is-answered", done);
                for (unsigned i = 0; i < SERVICE_HOSTS; i++)
                        unit_free(units[i]);
                UNTIL("all-hosts-list-all-services", all_list(first + SERVICE_HOSTS - failed));
        }
}

static int compare_numbers(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

/* Return the medians of what all hosts spend in CHANGE_MS: in some of these spans, a host moves to another
 * replica, or the engine looks at all units. 'fails': in each span, the unit of the next service does. */
static TurnWork measure_spans(unsigned service, bool fails) {
        uint64_t nodes[CHANGES], bytes[CHANGES];
        char unit[32];

        for (unsigned i = 0; i < CHANGES; i++, service++) {
                TurnWork before = work_of_all(), after;

                snprintf(unit, sizeof(unit), "shop-%u.service", service);
                if (fails)
                        sim_systemd_end(host_of_service(service)->systemd, unit);
                run_ms(CHANGE_MS);
                after = work_of_all();
                nodes[i] = after.nodes - before.nodes;
                bytes[i] = after.bytes - before.bytes;
                if (is_registered(service) == fails)
                        world_failed(world, "a-unit-that-fails-is-withdrawn", "%s", unit);
        }
        qsort(nodes, CHANGES, sizeof(nodes[0]), compare_numbers);
        qsort(bytes, CHANGES, sizeof(bytes[0]), compare_numbers);
        return (TurnWork) { nodes[CHANGES / 2], bytes[CHANGES / 2] };
}

/* Return the cost of one change on all hosts, with so many services. */
static TurnWork measure_change(unsigned service, unsigned n) {
        TurnWork idle = measure_spans(service, false), with = measure_spans(service, true);

        with.nodes -= MIN(with.nodes, idle.nodes);
        with.bytes -= MIN(with.bytes, idle.bytes);
        printf("with %u services on %d hosts, one change costs %llu nodes and %llu bytes\n", n, SERVICE_HOSTS,
               (unsigned long long) with.nodes, (unsigned long long) with.bytes);
        return with;
}

static void one_change_costs_the_same_at_ten_times_the_services(void) {
        const unsigned n = SERVICES_TIMES * SERVICES;
        TurnWork few, many;

        found(SERVICE_HOSTS, REPLICAS);
        target = leader_with(machine(0));
        for (unsigned i = REPLICAS; i < SERVICE_HOSTS; i++) {
                MadeToken token = make_token(machine(0), NULL);

                join_with(machine(i), &token);
        }
        launch_services(0, SERVICES, 0);
        run_ms(QUIET_MS);
        few = measure_change(0, SERVICES);
        launch_services(SERVICES, n, CHANGES);
        run_ms(QUIET_MS);
        many = measure_change(SERVICES, n);
        if (few.nodes == 0 || few.bytes == 0 || 100 * many.nodes > CHANGE_PERCENT_MAX * few.nodes ||
            100 * many.bytes > CHANGE_PERCENT_MAX * few.bytes)
                world_failed(world, "one-change-costs-the-same-at-ten-times-the-services", "more than %d %%",
                             CHANGE_PERCENT_MAX);
        over();
}

static void (*const scenarios[])(void) = { each_frame, one_change_costs_the_same_at_ten_times_the_services };

int main(int argc, char *argv[]) {
        const char *all = getenv("SHARES");
        int r;

        prints_all = all && streq(all, "all");
        r = tokens_main(argc, argv, "tests/sim/test-shares", scenarios,
                        getenv("CHECK_ALL") ? ELEMENTS(scenarios) : 1, NULL,
                        "no sender has more than its share");

        printf("%u cells, %u above their limit\n", n_cells, n_failed);
        return n_failed > 0 ? 1 : r;
}
