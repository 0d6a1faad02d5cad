/* Whole daemons in virtual time, with one failing allocation in any component, or with all of them failing
 * for some seconds. Requests are answered or their connection is closed, no change is made partially, and
 * once memory is available again all requested changes happen by themselves. */

#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/agent/agent.h"
#include "fleetd/agent/facts.h"
#include "fleetd/engine/engine.h"
#include "tests/lib/alloc.h"
#include "tests/lib/scratch.h"
#include "tests/lib/store_inside.h"
#include "tests/sim/cluster.h"
#include "tests/unit/memory.h"

enum {
        SHORT_MS = 1000, /* duration of the shortage */
        PATIENCE_MS = 120000,
        STEP_MS = 5,
        BEGINS_MS = 10000, /* a third of the time between two resyncs of the engine */
        READS_MS = 1000,   /* twice the pause of an agent after a failure */
        LINGER_MS = 100,   /* a finished stream is closed by then */
        WRITES = 40,       /* of such a size, after which the log was compacted */
        VALUE_SIZE = 600,
};

typedef struct Yard {
        World *world;
        SimCluster *cluster;
        SimMachine *first;
        SimHost *card; /* a client's */
        WorldLoop *client;
} Yard;

static Yard yard;
static char answer[512]; /* the last one */

/* Memory is available again; the expected change has to come. */
#define UNTIL(what, expression)                                                            \
        do {                                                                               \
                uint64_t until_ms_ = world_now_ms(yard.world) + PATIENCE_MS;               \
                                                                                           \
                alloc_pause(true);                                                         \
                while (!(expression)) {                                                    \
                        if (world_now_ms(yard.world) > until_ms_)                          \
                                fail_msg("%s: not within %d s", what, PATIENCE_MS / 1000); \
                        world_run(yard.world, world_now_ms(yard.world) + STEP_MS);         \
                }                                                                          \
        } while (false)

/* Memory is short until the expression is true, SHORT_MS at most. */
#define SHORT_UNTIL(expression)                                                    \
        do {                                                                       \
                uint64_t until_ms_ = world_now_ms(yard.world) + SHORT_MS;          \
                                                                                   \
                alloc_pause(false);                                                \
                while (!(expression) && world_now_ms(yard.world) < until_ms_)      \
                        world_run(yard.world, world_now_ms(yard.world) + STEP_MS); \
                alloc_pause(true);                                                 \
        } while (false)

static bool is_up(const SimMachine *m) {
        KvState state;

        if (!m->daemon || m->dying || !daemon_host(m->daemon)->store)
                return false;
        kv_state(daemon_host(m->daemon)->store, &state);
        return state.ready && !state.stopped && registry_ready(daemon_host(m->daemon)->registry);
}

static void open_yard(unsigned hosts) {
        yard = (Yard) { .world = world_new(1, false) };
        world_set_short(yard.world, alloc_fails);
        yard.cluster = cluster_new(yard.world, hosts);
        yard.first = &yard.cluster->machines[0];
        yard.card = sim_host_new(yard.cluster->net, "10.0.0.99");
        yard.client = world_loop_new(yard.world, "client");
        free(yard.first->settings.listen_socket);
        yard.first->settings.listen_socket = strdup("10.0.0.1:80");
}

static void stop_daemon(SimMachine *m) {
        alloc_pause(true);
        world_run(yard.world, world_now_ms(yard.world) + LINGER_MS);
        machine_stop_daemon(m);
        UNTIL("a daemon's end", !m->loop);
}

static void close_yard(void) {
        for (unsigned i = 0; i < yard.cluster->n; i++)
                stop_daemon(&yard.cluster->machines[i]);
        sim_host_reset(yard.card, true);
        world_loop_free(yard.client);
        cluster_free(yard.cluster);
        world_free(yard.world);
}

/* -- A client -- */

typedef struct Client {
        Stream *stream;
        const char *request;
        char answer[8192];
        size_t size;
        bool ended;
} Client;

static void client_on_read(void *userdata, const void *bytes, size_t size) {
        Client *c = userdata;
        size_t n = MIN(size, sizeof(c->answer) - 1 - c->size);

        memcpy(c->answer + c->size, bytes, n);
        c->size += n;
        if (size == 0)
                stream_close(c->stream);
}

static void client_on_close(void *userdata, int error, const char *reason) {
        Client *c = userdata;

        c->stream = NULL;
        c->ended = true;
}

static void client_on_connected(void *userdata, Stream *stream, int error) {
        static const StreamEvents events = { .on_read = client_on_read, .on_close = client_on_close };
        Client *c = userdata;

        c->stream = stream;
        c->ended = !stream;
        if (!stream)
                return;
        stream_set_events(stream, &events, c);
        stream_pause(stream, false);
        world_set_short(yard.world, NULL); /* only the daemon's memory is short */
        assert_int_equal(stream_write(stream, c->request, strlen(c->request)), 0);
        world_set_short(yard.world, alloc_fails);
}

/* Return the status, or 0 if the connection was closed without one. */
static unsigned ask(const char *request) {
        Client c = { .request = request };
        Network *network = sim_host_network(yard.card, yard.client);
        unsigned status = 0;
        int error;

        alloc_pause(true);
        assert_non_null(network->ops->connect(network, "10.0.0.1:80", 5000, client_on_connected, &c, &error));
        SHORT_UNTIL(c.ended);
        UNTIL("an answer", c.ended);
        (void) sscanf(c.answer, "HTTP/1.1 %u", &status);
        snprintf(answer, sizeof(answer), "%s", strstr(c.answer, "\r\n\r\n") ?: "");
        return status;
}

static unsigned ask_for(const char *method, const char *target, const char *type, const char *body) {
        char text[2000];

        snprintf(text, sizeof(text),
                 "%s %s HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: "
                 "%zu\r\n\r\n%s",
                 method, target, type, strlen(body), body);
        return ask(text);
}

/* Without failures: prepare the state before. The replica may still stop for the last failed allocation. */
static void prepare(const char *method, const char *target, const char *type, const char *body) {
        Network *network = sim_host_network(yard.card, yard.client);
        Client c = {};
        char text[2000];
        int error;

        alloc_pause(true);
        snprintf(text, sizeof(text),
                 "%s %s HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: "
                 "%zu\r\n\r\n%s",
                 method, target, type, strlen(body), body);
        do {
                UNTIL("a replica that is up", is_up(yard.first));
                c = (Client) { .request = text };
                assert_non_null(
                        network->ops->connect(network, "10.0.0.1:80", 5000, client_on_connected, &c, &error));
                UNTIL("an answer", c.ended);
        } while (starts_with(c.answer, "HTTP/1.1 503 "));
        assert_true(starts_with(c.answer, "HTTP/1.1 "));
}

#define FORM "application/x-www-form-urlencoded"
#define JSON "application/json"
#define UNIT(state, command)         \
        "{\"desiredState\":\"" state \
        "\",\"options\":[{\"section\":\"Service\",\"name\":\"ExecStart\",\"value\":\"" command "\"}]}"

/* A key, and a part of its value before and after; NULL: the key does not exist. */
typedef struct Look {
        const char *key, *before, *after;
} Look;

typedef struct Question {
        const char *name;
        struct {
                const char *method, *target, *type, *body;
        } first[2], then;
        unsigned status, stride; /* of success, 0: any; 0: every second point */
        Look looks[3];
} Question;

static bool says(const char *key, const char *part) {
        KvNode node;
        bool there, has = false;

        there = store_node(daemon_host(yard.first->daemon)->store, key, &node) == 0;
        if (there && part)
                has = part[0] == 0 || memmem(node.value.data, node.value.size, part, strlen(part));
        return part ? has : !there;
}

static int put_question(void *userdata) {
        const Question *q = userdata;
        bool before = true, after = true, succeeded;
        unsigned status;

        UNTIL("a replica that is up", is_up(yard.first));
        for (size_t i = 0; i < ELEMENTS(q->first) && q->first[i].method; i++)
                prepare(q->first[i].method, q->first[i].target, q->first[i].type, q->first[i].body);
        for (size_t i = 0; i < ELEMENTS(q->looks) && q->looks[i].key; i++)
                if (!says(q->looks[i].key, q->looks[i].before))
                        fail_msg("%s: %s was not prepared", q->name, q->looks[i].key);

        status = ask_for(q->then.method, q->then.target, q->then.type, q->then.body);
        succeeded = q->status == 0 ? status / 100 == 2 : status == q->status;
        if (!succeeded && !alloc_has_failed())
                fail_msg("%s: %u: %s", q->name, status, answer);
        if (!succeeded && status != 0 && status / 100 != 5)
                fail_msg("%s: %u, but it was memory that was missing: %s", q->name, status, answer);

        UNTIL("a replica that is up", is_up(yard.first));
        for (size_t i = 0; i < ELEMENTS(q->looks) && q->looks[i].key; i++) {
                before = before && says(q->looks[i].key, q->looks[i].before);
                after = after && says(q->looks[i].key, q->looks[i].after);
        }
        if (!before && !after)
                fail_msg("%s: done by half", q->name);
        if (succeeded && !after)
                fail_msg("%s: %u, and it was not done", q->name, status);
        return succeeded ? 0 : -ENOMEM;
}

#define ID "00000000000000000000000000000001"

static const Question write_questions[] = {
        { "PUT of a key",
          { { "PUT", "/v2/keys/a", FORM, "value=one" } },
          { "PUT", "/v2/keys/a", FORM, "value=two" },
          0,
          0,
          { { "/a", "one", "two" } } },
        { "PUT of a key if it is the same",
          { { "PUT", "/v2/keys/a", FORM, "value=one" } },
          { "PUT", "/v2/keys/a?prevValue=one", FORM, "value=two" },
          0,
          0,
          { { "/a", "one", "two" } } },
        { "POST of a key in order",
          { { "DELETE", "/v2/keys/q?recursive=true", FORM, "" } },
          { "POST", "/v2/keys/q", FORM, "value=one" },
          0,
          0,
          { { "/q", NULL, "" } } },
        { "DELETE of a directory",
          { { "PUT", "/v2/keys/d/x", FORM, "value=one" }, { "PUT", "/v2/keys/d/y", FORM, "value=two" } },
          { "DELETE", "/v2/keys/d?recursive=true", FORM, "" },
          0,
          0,
          { { "/d", "", NULL }, { "/d/x", "one", NULL }, { "/d/y", "two", NULL } } },
        { "PATCH of a key, which is refused",
          { { "PUT", "/v2/keys/a", FORM, "value=one" } },
          { "PATCH", "/v2/keys/a", FORM, "value=two" },
          405,
          0,
          { { "/a", "one", "one" } } },
        { "PUT of a value",
          { { "PUT", "/v2/keys/a", FORM, "value=one" } },
          { "PUT", "/fleet/v1/kv/value/a", "", "two" },
          0,
          0,
          { { "/a", "one", "two" } } },
        { "DELETE of a value",
          { { "PUT", "/v2/keys/a", FORM, "value=one" } },
          { "DELETE", "/fleet/v1/kv/value/a", "", "" },
          0,
          0,
          { { "/a", "one", NULL } } },
        { "POST of a transaction",
          { { "PUT", "/v2/keys/a", FORM, "value=one" }, { "DELETE", "/v2/keys/t?recursive=true", FORM, "" } },
          { "POST", "/fleet/v1/kv/txn", JSON,
            "{\"checks\":[{\"key\":\"/"
            "a\",\"exists\":true}],\"writes\":[{\"action\":\"set\",\"key\":\"/t/"
            "x\",\"value\":\"new\"},"
            "{\"action\":\"delete\",\"key\":\"/a\"}]}" },
          0,
          4,
          { { "/a", "one", NULL }, { "/t/x", NULL, "new" } } },
        { "PUT of a new unit",
          { { "DELETE", "/fleet/v1/units/n.service", JSON, "" } },
          { "PUT", "/fleet/v1/units/n.service", JSON, UNIT("inactive", "/bin/one") },
          0,
          8,
          { { "/_fleet/unit/n.service", NULL, "/bin/one" },
            { "/_fleet/target/n.service", NULL, "inactive" } } },
        { "PUT of what a unit is to be",
          { { "DELETE", "/fleet/v1/units/n.service", JSON, "" },
            { "PUT", "/fleet/v1/units/n.service", JSON, UNIT("inactive", "/bin/one") } },
          { "PUT", "/fleet/v1/units/n.service", JSON, "{\"desiredState\":\"loaded\"}" },
          0,
          8,
          { { "/_fleet/unit/n.service", "/bin/one", "/bin/one" },
            { "/_fleet/target/n.service", "inactive", "loaded" } } },
        { "DELETE of a unit",
          { { "PUT", "/fleet/v1/units/n.service", JSON, UNIT("inactive", "/bin/one") } },
          { "DELETE", "/fleet/v1/units/n.service", JSON, "" },
          0,
          5,
          { { "/_fleet/unit/n.service", "/bin/one", NULL }, { "/_fleet/target/n.service", "", NULL } } },
        { "POST of a batch",
          { { "DELETE", "/fleet/v1/units/m.service", JSON, "" },
            { "DELETE", "/fleet/v1/units/n.service", JSON, "" } },
          { "POST", "/fleet/v1/batch", JSON,
            "{\"units\":[{\"name\":\"m.service\",\"desiredState\":\"inactive\",\"options\":[{"
            "\"section\":\"Service\",\"name\":"
            "\"ExecStart\",\"value\":\"/bin/"
            "one\"}]},{\"name\":\"n.service\",\"desiredState\":\"inactive\",\"options\":[{"
            "\"section\":\"Service\",\"name\":\"ExecStart\","
            "\"value\":\"/bin/two\"}]}]}" },
          0,
          16,
          { { "/_fleet/unit/m.service", NULL, "/bin/one" },
            { "/_fleet/unit/n.service", NULL, "/bin/two" } } },
        { "PATCH of a machine",
          { { "PATCH", "/fleet/v1/machines", JSON,
              "[{\"op\":\"add\",\"path\":\"/" ID "/metadata/disk\",\"value\":\"hdd\"}]" } },
          { "PATCH", "/fleet/v1/machines", JSON,
            "[{\"op\":\"add\",\"path\":\"/" ID "/metadata/disk\",\"value\":\"ssd\"}]" },
          0,
          4,
          { { "/_fleet/machine/" ID "/metadata/disk", "hdd", "ssd" } } },
        { "POST of a plan",
          {},
          { "POST", "/fleet/v1/plan", JSON,
            "{\"units\":[{\"name\":\"new.service\",\"text\":\"[Service]\\nExecStart=/bin/true\"}]}" },
          0,
          4,
          {} },
};

void a_client_that_writes_is_answered_and_nothing_is_done_by_half(void **state) {

        alloc_pause(true);
        open_yard(1);
        machine_start_daemon(yard.first);
        for (size_t i = 0; i < ELEMENTS(write_questions); i++)
                survive(write_questions[i].name, put_question, (void *) &write_questions[i],
                        write_questions[i].stride ?: 2);
        close_yard();
}

/* -- Units: engine, agent and systemd -- */

static const char unit_name[] = "web.service";

typedef struct Wish {
        bool done;
        KvStatus status;
} Wish;

static void on_wish(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(Wish *) userdata = (Wish) { true, status };
}

/* The requested unit; 'command' NULL: the text is unchanged. */
static void wish(Wish *w, const char *command, bool remove, TargetState target) {
        UnitChange change = { .name = unit_name, .remove = remove, .has_target = !remove, .target = target };
        char text[200];
        Unit *unit = NULL;

        alloc_pause(true);
        if (command) {
                snprintf(text, sizeof(text), "[Service]\nExecStart=%s\n", command);
                assert_int_equal(unit_parse(unit_name, text, strlen(text), &unit, NULL), 0);
                change.unit = unit;
        }
        yard.cluster->units[0].touched_ms = yard.cluster->units[0].stopping_ms = world_now_ms(yard.world) +
                                                                                 PATIENCE_MS;
        *w = (Wish) {};
        assert_int_equal(
                registry_change_units(daemon_host(yard.first->daemon)->registry, &change, 1, on_wish, w), 0);
        unit_free(unit);
}

static const ClusterUnit *unit(void) {
        return cluster_unit(registry_cluster(daemon_host(yard.first->daemon)->registry), unit_name);
}

static bool is_told(const char *active) {
        const ClusterState *s = cluster_state(registry_cluster(daemon_host(yard.first->daemon)->registry),
                                              yard.first->machine_id, unit_name);

        return active ? s && streq(s->state.active, active) : !s;
}

static bool has_order(void) {
        return cluster_assignment(registry_cluster(daemon_host(yard.first->daemon)->registry),
                                  yard.first->machine_id, unit_name);
}

/* Return whether it runs as requested, and is published. */
static bool runs(void) {
        const ClusterUnit *u = unit();
        const char *hash = sim_systemd_hash(yard.first->systemd, unit_name);

        return u && u->target == TARGET_LAUNCHED && hash && streq(hash, u->unit->hash) && is_told("active");
}

static bool is_gone(void) {
        return !unit() && !sim_systemd_runs(yard.first->systemd, unit_name) && !has_order() && is_told(NULL);
}

static bool is_inactive(void) {
        return unit() && !sim_systemd_runs(yard.first->systemd, unit_name) && !has_order() && is_told(NULL);
}

typedef struct Change {
        const char *name;
        const char *from, *to; /* the command that runs; NULL: it does not exist, or is not started */
        bool remove;
        bool (*is_done)(void);
} Change;

static void ask_for_unit(const char *command, bool remove, bool (*is_done)(void)) {
        Wish w;

        do {
                UNTIL("a replica that is up", is_up(yard.first));
                wish(&w, command, remove, command ? TARGET_LAUNCHED : TARGET_INACTIVE);
                UNTIL("an answer", w.done);
        } while (w.status != KV_OK && w.status != KV_NOT_FOUND);
        UNTIL("what was asked for", is_done());
}

static int change_unit(void *userdata) {
        const Change *change = userdata;
        Wish w;

        UNTIL("a replica that is up", is_up(yard.first));
        ask_for_unit(change->from, !change->from, change->from ? runs : is_gone);
        wish(&w, change->to, change->remove, change->to ? TARGET_LAUNCHED : TARGET_INACTIVE);
        SHORT_UNTIL(w.done && change->is_done());
        UNTIL("an answer", w.done);
        if (w.status != KV_OK)
                ask_for_unit(change->to, change->remove, change->is_done);
        UNTIL(change->name, is_up(yard.first) && change->is_done());
        return 0;
}

void an_agent_begins_again_what_it_could_not_begin(void **state) {
        static const Change changes[] = {
                { "a unit is launched", NULL, "/bin/one", false, runs },
                { "a unit gets another text", "/bin/one", "/bin/two", false, runs },
                { "a unit is stopped", "/bin/one", NULL, false, is_inactive },
                { "a unit is destroyed", "/bin/one", NULL, true, is_gone },
        };

        alloc_pause(true);
        open_yard(1);
        snprintf(yard.cluster->units[0].name, sizeof(yard.cluster->units[0].name), "%s", unit_name);
        yard.cluster->n_units = 1;
        machine_start_daemon(yard.first);
        for (size_t i = 0; i < ELEMENTS(changes); i++)
                survive(changes[i].name, change_unit, (void *) &changes[i], 40);
        close_yard();
}

/* A unit fails: an agent that could not read it does so soon, before its resync. */
static int read_unit(void *userdata) {
        uint64_t since_ms;

        UNTIL("a replica that is up", is_up(yard.first));
        ask_for_unit(NULL, true, is_gone);
        ask_for_unit("/bin/one", false, runs);
        sim_systemd_end(yard.first->systemd, unit_name);
        SHORT_UNTIL(is_told("failed"));
        UNTIL("a replica that is up", is_up(yard.first));
        since_ms = world_now_ms(yard.world);
        UNTIL("what became of the unit", is_up(yard.first) && is_told("failed"));
        assert_in_range(world_now_ms(yard.world) - since_ms, 0, READS_MS);
        return 0;
}

void an_agent_reads_again_what_it_could_not_read(void **state) {
        alloc_pause(true);
        open_yard(1);
        snprintf(yard.cluster->units[0].name, sizeof(yard.cluster->units[0].name), "%s", unit_name);
        yard.cluster->n_units = 1;
        machine_start_daemon(yard.first);
        survive("a unit fails", read_unit, NULL, 3);
        close_yard();
}

/* -- Engine and agent alone, on the registry of a daemon without them -- */

static Engine *engine;

/* Its daemon does not notify it. */
static bool is_gone_by_engine(void) {
        engine_state_changed(engine);
        return is_gone();
}

/* A new engine plans each unit soon, before the resync of half a minute later. */
static int begin_engine(void *userdata) {
        uint64_t since_ms;
        int r = 0;
        Wish w;

        UNTIL("a replica that is up", is_up(yard.first));
        wish(&w, "/bin/one", false, TARGET_LAUNCHED);
        UNTIL("an answer", w.done);
        alloc_pause(false);
        r = engine_new(&engine,
                       &(ComponentHost) { .io.loop = world_loop(yard.first->loop),
                                          .registry = daemon_host(yard.first->daemon)->registry },
                       0);
        if (r == 0)
                SHORT_UNTIL(has_order());
        alloc_pause(true);
        if (r < 0)
                return r;
        since_ms = world_now_ms(yard.world);
        UNTIL("an order", (engine_state_changed(engine), has_order()));
        assert_in_range(world_now_ms(yard.world) - since_ms, 0, BEGINS_MS);
        ask_for_unit(NULL, true, is_gone_by_engine);
        engine = engine_free(engine);
        return 0;
}

void an_engine_that_begins_leaves_out_no_unit(void **state) {
        alloc_pause(true);
        open_yard(1);
        yard.first->settings.engine = false;
        snprintf(yard.cluster->units[0].name, sizeof(yard.cluster->units[0].name), "%s", unit_name);
        yard.cluster->n_units = 1;
        machine_start_daemon(yard.first);
        survive("an engine begins", begin_engine, NULL, 1);
        close_yard();
}

/* Its assignment records name a unit. */
static int begin_agent(void *userdata) {
        static ComponentHost host;
        Agent *agent = NULL;
        Error err = {};
        int r;

        host = *daemon_host(yard.first->daemon);
        host.io.systemd = sim_systemd_attach(yard.first->systemd, yard.first->loop);
        host.io.prober = NULL;
        host.components = NULL;
        alloc_pause(false);
        r = agent_new(&agent, &host, &err);
        alloc_pause(true);
        agent_free(agent);
        return r;
}

static int begin_facts(void *userdata) {
        const Machine machine = { .name = (char *) "alpha",
                                  .address = (char *) "10.0.0.1",
                                  .version = (char *) "0" };
        Facts *facts = NULL;
        int r;

        alloc_pause(false);
        r = facts_new(&facts, world_loop(yard.first->loop), daemon_host(yard.first->daemon)->registry,
                      &machine);
        alloc_pause(true);
        facts_free(facts);
        return r;
}

void an_agent_that_cannot_begin_leaves_nothing_behind(void **state) {
        alloc_pause(true);
        open_yard(1);
        snprintf(yard.cluster->units[0].name, sizeof(yard.cluster->units[0].name), "%s", unit_name);
        yard.cluster->n_units = 1;
        machine_start_daemon(yard.first);
        ask_for_unit("/bin/one", false, runs);
        stop_daemon(yard.first);
        yard.first->settings.agent = false;
        machine_start_daemon(yard.first);
        UNTIL("a replica that is up", is_up(yard.first));
        survive("an agent begins", begin_agent, NULL, 1);
        survive("what this machine is", begin_facts, NULL, 1);
        close_yard();
}

/* -- Starting -- */

/* A daemon that fails to start is freed completely; the next start, as by systemd, has memory. */
static int start_daemon(void *userdata) {
        bool *again = userdata;
        Error err = {};
        int r;

        alloc_pause(true);
        open_yard(1);
        if (*again) {
                machine_start_daemon(yard.first);
                UNTIL("a first start", is_up(yard.first));
                ask_for_unit("/bin/one", false, runs);
                stop_daemon(yard.first);
        }
        alloc_pause(false);
        r = machine_try_daemon(yard.first, &err);
        alloc_pause(true);
        if (r == 0)
                SHORT_UNTIL(is_up(yard.first));
        else {
                UNTIL("a daemon's end", !yard.first->loop);
                assert_int_equal(r, -ENOMEM);
                machine_start_daemon(yard.first);
        }
        UNTIL("a daemon that works", is_up(yard.first) && (!*again || runs()));
        close_yard();
        return r;
}

void a_daemon_starts_or_says_why_not(void **state) {
        static const bool is_first = false, is_second = true;

        survive("a daemon starts", start_daemon, (void *) &is_first, 15);
        survive("a daemon starts over what it left", start_daemon, (void *) &is_second, 50);
}

/* -- Several hosts -- */

static unsigned members_of(const SimMachine *m) {
        KvState state = {};

        if (is_up(m))
                kv_state(daemon_host(m->daemon)->store, &state);
        return state.attached ? 0 : state.n_members;
}

/* A second host connects, is admitted and follows. */
static int join(void *userdata) {
        SimMachine *second;
        Error err = {};
        int r;

        alloc_pause(true);
        open_yard(2);
        second = &yard.cluster->machines[1];
        machine_start_daemon(yard.first);
        UNTIL("a start", is_up(yard.first));
        r = machine_try_daemon(second, &err);
        assert_int_equal(r, 0);
        SHORT_UNTIL(members_of(second) == 2);
        UNTIL("two hosts", members_of(yard.first) == 2 && members_of(second) == 2);
        close_yard();
        return 0;
}

static unsigned n_sent;

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        n_sent += starts_with(message, "sending the tree of entry ");
}

/* The same, when the log does not reach back to its beginning any more: the tree is transferred. */
static int transfer(void *userdata) {
        char value[VALUE_SIZE + 1] = "";
        SimMachine *second;

        memset(value, 'x', VALUE_SIZE);
        alloc_pause(true);
        open_yard(2);
        yard.cluster->short_log = true;
        second = &yard.cluster->machines[1];
        machine_start_daemon(yard.first);
        UNTIL("a start", is_up(yard.first));
        for (unsigned i = 0; i < WRITES; i++)
                prepare("PUT", "/fleet/v1/kv/value/a", "", value);
        stop_daemon(yard.first);
        machine_start_daemon(yard.first); /* with entries in memory that the log no longer has */
        UNTIL("a start", is_up(yard.first));
        n_sent = 0;
        machine_start_daemon(second);
        SHORT_UNTIL(members_of(second) == 2);
        UNTIL("two hosts", members_of(yard.first) == 2 && members_of(second) == 2);
        assert_true(n_sent > 0);
        close_yard();
        return 0;
}

void hosts_find_each_other_and_a_checkpoint_arrives(void **state) {
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_INFO);
        survive("a second host joins", join, NULL, 60);
        survive("a checkpoint is sent", transfer, NULL, 20);
        log_set_max_priority(LOG_EMERG);
        log_set_sink(NULL, NULL);
}
