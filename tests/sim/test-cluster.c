/* Whole daemons under faults, from a seed: a cluster forms, users write keys and change units, hosts lose
 * power, daemons crash, links are cut, processes pause. Then all faults end, and all invariants must hold.
 *
 *      test-cluster [--seed N] [--runs N] [--trace] [--seconds N] [--hosts N] [--tokens] [--drains]
 *                   [--rollouts] [--replicas] [--inputs] [--twice]
 */
#include <getopt.h>

#include "base/log.h"
#include "tests/sim/cluster_faults.h"
#include "tests/sim/contents.h"
#include "tests/sim/drains.h"
#include "tests/sim/replicas.h"
#include "tests/sim/rollouts.h"
#include "tests/sim/services.h"

enum {
        FORM_MS = 30000,
        ATTACH_MS = 60000,
        HEAL_MS = 150000,
        IDLE_MS = 20000,
        CHECK_EVERY_MS = 250,
        REPLICAS_MAX = 5,
        ATTACHED_MAX = 12,
        ATTACHED_PERCENT = 30, /* of the worlds with drains or rollouts */
        BY_TOKEN_PERCENT = 10, /* the same, with certificates */
        /* Of the other worlds. States of drains and rollouts lose their leader without attached hosts only.
         */
        ATTACHED_MOST_PERCENT = 80,
        BY_TOKEN_MOST_PERCENT = 30,
        BY_TOKEN_MAX = 3,      /* attached hosts there */
        DRAINS_EVERY = 4,      /* in one of so many worlds, hosts are drained */
        DRAINS_END_MS = 90000, /* of HEAL_MS; then maintenance ends */
        STOPS_FIRST = 12,      /* units, in these worlds */
        SETS_EVERY = 4,        /* in one of so many worlds, people scale a template */
        ROLLS_EVERY = 4,       /* in one of so many other worlds, the text of a global unit changes */
        ROLLS_HOSTS_MAX = 20,
        ROLLS_END_MS = 70000, /* of HEAL_MS; then a last text is rolled out */
        INPUTS_EVERY = 4,     /* in one of so many other worlds, units have secrets and keys, which change; */
        INPUTS_BY_TOKEN_PERCENT = 40, /* with certificates there, without which there are no secrets */
};

typedef struct Options {
        uint64_t seed, runs, seconds;
        unsigned hosts; /* 0: drawn */
        bool trace, twice, tokens, drains, rollouts, replicas, inputs;
} Options;

static uint64_t totals_drains, totals_rolls, totals_inputs, totals_old, totals_attached, totals_tokens,
        totals_slices, total_ms, attached_ms;

static World *tracing; /* the world of this run: the log's sink has no userdata */
static SimCluster *checked;

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (tracing)
                world_trace(tracing, "log", "%s", message);
        if (checked)
                check_message(checked, fields, message);
}

/* -- Two versions -- */

int __real_cluster_put(Cluster *c, const KvNode *node, Error *err);
int __wrap_cluster_put(Cluster *c, const KvNode *node, Error *err);

/* Give a daemon of an older version a value that it cannot parse. The linker replaces the registry's calls.
 */
int __wrap_cluster_put(Cluster *c, const KvNode *node, Error *err) {
        const SimMachine *m = checked ? cluster_running_machine(checked) : NULL;
        KvNode newer = *node;

        if (checked) {
                rollouts_note(checked, node);
                contents_note(checked, node);
        }
        if (m && m->running_unreadable && kv_bytes_equal(node->key, kv_string(m->running_unreadable)))
                newer.value = kv_string("of a later version");
        return __real_cluster_put(c, &newer, err);
}

/* -- People who write keys -- */

static SimMachine *any_machine(SimCluster *c) {
        SimMachine *m = &c->machines[world_draw(c->world, c->n)];

        return machine_serves(m) && !m->leaves ? m : NULL;
}

/* An attached host does not have the whole view: the API forwards requests that need it. */
static SimMachine *any_replica(SimCluster *c) {
        unsigned first = (unsigned) world_draw(c->world, c->n);

        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[(first + i) % c->n];

                if (machine_serves(m) && !m->leaves && !machine_is_attached(m))
                        return m;
                if (!c->may_attach)
                        break;
        }
        return NULL;
}

static void writer_on_done(void *userdata, const KvResult *result) {
        SimWrite *write = userdata;
        SimWriter *w = write->writer;

        if (write->attempt == w->attempted)
                w->asked = NULL; /* else the writer stopped waiting: the daemon was being stopped */
        if (result->status == KV_OK) {
                w->acknowledged[write->attempt] = true;
                w->n_acknowledged++;
        } else if (result->status == KV_UNKNOWN)
                w->n_unknown++;
        else
                w->n_refused++;
}

static void writer_on_turn(void *userdata) {
        SimWriter *w = userdata;
        SimCluster *c = w->cluster;
        SimMachine *m;
        SimWrite *write;
        char key[64];
        KvCommand cmd;

        if (c->quiet)
                return;
        world_at(c->world, 20 + world_draw(c->world, 200), NULL, writer_on_turn, w);
        if (w->asked && (!machine_serves(w->asked) || w->asked->boots != w->asked_incarnation))
                w->asked = NULL; /* the daemon died before the answer: the outcome is unknown */
        m = any_machine(c);
        if (w->asked || !m || w->attempted + 1 >= CLUSTER_WRITES_MAX)
                return;
        snprintf(key, sizeof(key), "/writer/%u/%llu", w->index, (unsigned long long) ++w->attempted);
        cmd = (KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string("written") };
        w->asked = m;
        w->asked_incarnation = m->boots;
        write = &w->writes[w->attempted];
        *write = (SimWrite) { .writer = w, .attempt = w->attempted };
        if (kv_propose(daemon_host(m->daemon)->store, &cmd, writer_on_done, write, &w->number) < 0)
                w->asked = NULL;
}

/* -- People who want units -- */

static void unit_text(const SimUserUnit *p, char *ret, size_t size) {
        /* No two of the group web share a machine. */
        const char *fleet = streq(p->name, "web@3.service") ? "Conflicts=web@*.service\nPort=http:auto\n" :
                            streq(p->group ?: "", "web") ? "Port=http:8081\n" :
                            streq(p->name, "a.service")              ? "Service=shop\nPort=http:8080\n" :
                            streq(p->name, "b.service")              ? "Service=shop\nService=b\n" :
                            streq(p->name, "pong.service")           ? "MachineOf=ping.service\n" :
                            streq(p->name, "node.service")           ? "Global=true\nService=node\n" :
                            starts_with(p->name, DRAINS_STOPS_FIRST) ? "Move=stop-first\n" :
                                                                       "Port=http:auto\n";

        /* Another version restarts, reloads or changes a limit. */
        snprintf(ret, size,
                 "[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/"
                 "sleep %u\nExecReload=/bin/true\n"
                 "MemoryMax=%uM\n[X-Fleet]\n%sReloadTrigger=%u\n",
                 p->name, 100 + p->version / 3, 100 + p->version, fleet, p->version / 2);
}

static void person_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        SimUserUnit *p = userdata;

        p->touched_ms = world_now_ms(tracing) + 3000; /* a paused host may send the request late */
        if (p->may_stop)
                p->stopping_ms = p->touched_ms;
        if (--p->pending == 0 && p->has_text && status == KV_OK)
                p->changed = false;
}

static void person_asks(SimCluster *c, SimUserUnit *p, SimMachine *m, unsigned what) {
        UnitChange change = { .name = p->name };
        char text[512];
        Unit *unit = NULL;

        p->touched_ms = world_now_ms(c->world) + 3000; /* it may take effect that much later */
        p->changed |= what == 1;
        p->has_text = what <= 1;
        p->may_stop = (p->may_stop && p->pending > 0) || what != 0 || p->changed;
        if (p->may_stop)
                p->stopping_ms = p->touched_ms;
        switch (what) {
        case 0: /* start, sometimes with a new text */
        case 1:
                if (what == 1)
                        p->version++;
                unit_text(p, text, sizeof(text));
                if (unit_parse(p->name, text, strlen(text), &unit, NULL) < 0)
                        abort();
                change.unit = unit;
                change.has_target = true;
                change.target = TARGET_LAUNCHED;
                break;
        case 2:
                change.has_target = true;
                change.target = world_chance(c->world, 50) ? TARGET_LOADED : TARGET_INACTIVE;
                break;
        default:
                change.remove = true;
        }
        world_trace(c->world, "people", "%s %s at %s",
                    what == 0 ? "start" :
                    what == 1 ? "change" :
                    what == 2 ? "stop" :
                                "destroy",
                    p->name, m->name);
        if (registry_change_units(daemon_host(m->daemon)->registry, &change, 1, person_on_done, p) >= 0)
                p->pending++;
        unit_free(unit);
}

static void people_on_turn(void *userdata) {
        SimCluster *c = userdata;
        SimMachine *m = any_replica(c);

        if (c->quiet)
                return;
        world_at(c->world, 500 + world_draw(c->world, 4000), NULL, people_on_turn, c);
        if (m)
                person_asks(c, &c->units[world_draw(c->world, c->n_units)], m, world_draw(c->world, 4) % 4);
}

static void people_submit_all(SimCluster *c) {
        static const struct {
                const char *name, *group;
        } wanted[] = {
                { "a.service", NULL },      { "b.service", NULL },      { "c.service", NULL },
                { "d.service", NULL },      { "web@1.service", "web" }, { "web@2.service", "web" },
                { "web@3.service", "web" }, { "ping.service", "pair" }, { "pong.service", "pair" },
                { "node.service", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(wanted); i++) {
                SimUserUnit *p = &c->units[c->n_units++];

                snprintf(p->name, sizeof(p->name), "%s", wanted[i].name);
                p->group = wanted[i].group;
                person_asks(c, p, &c->machines[0], 0);
        }
        for (unsigned i = 0; c->drains && i < STOPS_FIRST; i++) {
                SimUserUnit *p = &c->units[c->n_units++];

                snprintf(p->name, sizeof(p->name), DRAINS_STOPS_FIRST "%u.service", i);
                person_asks(c, p, &c->machines[0], 0);
        }
}

/* -- One run -- */

static void on_start_daemon(void *userdata) {
        machine_start_daemon(userdata);
}

static void on_check(void *userdata) {
        SimCluster *c = userdata;

        check_hashes(c);
        check_slices(c);
        services_watch(c);
        check_endpoints(c);
        drains_watch(c);
        rollouts_watch(c);
        contents_watch(c);
        faults_check_left(c);
        faults_watch_changes(c);
        if (!c->quiet || c->may_attach || c->drains)
                world_at(c->world, CHECK_EVERY_MS, NULL, on_check, c);
}

/* Of the first 'n' hosts. */
static bool cluster_is_formed(SimCluster *c, unsigned n) {
        SimMachine *leader = cluster_leader(c);
        size_t voters = 0;
        KvState state;

        if (!leader)
                return false;
        kv_state(daemon_host(leader->daemon)->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                voters += state.members[i].role == KV_MEMBER_VOTER;
        for (unsigned i = 0; i < n; i++) {
                const SimMachine *m = &c->machines[i];
                KvState own;

                if (!machine_serves(m))
                        return false;
                kv_state(daemon_host(m->daemon)->store, &own);
                if (own.cluster_id != state.cluster_id ||
                    (own.attached && !registry_is_current(daemon_host(m->daemon)->registry)))
                        return false;
        }
        return state.n_members == MIN(n, (unsigned) REPLICAS_MAX) && voters == MIN(n, 3u) &&
               HASH_COUNT(registry_cluster(daemon_host(leader->daemon)->registry)->machines) == n;
}

static uint64_t raft_index(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        KvState state;

        if (!leader)
                return 0;
        kv_state(daemon_host(leader->daemon)->store, &state);
        return state.raft_index;
}

/* Upgrade the hosts of the older version, one after the other. */
static void upgrade(SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                if (!m->unreadable || m->has_left)
                        continue;
                world_trace(c->world, m->name, "is upgraded");
                m->unreadable = NULL;
                machine_absent(m, 2000);
                machine_stop_daemon(m);
                world_run(c->world, world_now_ms(c->world) + 2000);
                machine_start_daemon(m);
                world_run(c->world, world_now_ms(c->world) + 2000);
        }
}

/* As the cluster file does: a host without a replica reaches the cluster while the founder is away. */
static void machine_knows_replicas(SimMachine *m) {
        char address[64];

        for (unsigned i = 0; i < REPLICAS_MAX; i++) {
                snprintf(address, sizeof(address), "%s:2380", m->cluster->machines[i].address);
                if (i != m->index && names_add(&m->settings.join, address, strlen(address)) < 0)
                        abort();
        }
}

/* Start the first 'n' hosts, and wait until they are a cluster. */
static void cluster_form(SimCluster *c, unsigned n) {
        uint64_t ms = n > REPLICAS_MAX ? ATTACH_MS : FORM_MS, end_ms = world_now_ms(c->world) + ms;

        for (unsigned i = 0; i < n; i++)
                world_at(c->world, i * 100, NULL, on_start_daemon, &c->machines[i]);
        while (!cluster_is_formed(c, n) && world_now_ms(c->world) < end_ms)
                world_run(c->world, world_now_ms(c->world) + 100);
        if (!cluster_is_formed(c, n))
                world_failed(c->world, "a-cluster-forms",
                             "after %llu s, there are not yet the voters of %u hosts",
                             (unsigned long long) ms / 1000, n);
}

/* The hosts that are not yet part of the cluster join while faults happen. */
static void cluster_grow(SimCluster *c, unsigned from, uint64_t within_ms) {
        for (unsigned i = from; i < c->n; i++)
                world_at(c->world, world_draw(c->world, within_ms), NULL, on_start_daemon, &c->machines[i]);
}

/* In some worlds one host, or all but one, have an older version until the faults end. */
static void cluster_age(SimCluster *c) {
        unsigned first = (unsigned) world_draw(c->world, c->n),
                 last = world_chance(c->world, 50) ? first : first + c->n - 2;
        const char *key = world_chance(c->world, 50) ? "/_fleet/unit/c.service" : "/_fleet/target/c.service";

        for (unsigned i = first; i <= last; i++)
                c->machines[i % c->n].unreadable = key;
        totals_old++;
}

static void cluster_heal(SimCluster *c, Faults *f) {
        bool arrived = !c->contents;

        c->quiet = true;
        world_trace(c->world, "world", "all heals");
        world_run(c->world, world_now_ms(c->world) + 20000);
        faults_heal(f);
        /* A wrong clock of the leader is a change whenever a host notices it. */
        for (unsigned i = 0; i < c->n; i++)
                if (c->machines[i].loop)
                        world_loop_set_wall_offset(c->machines[i].loop, 0);
        upgrade(c);
        for (unsigned i = 0; i < HEAL_MS / 1000; i++) {
                if (f->moves_replicas && i >= 10)
                        f->moves_replicas = !faults_set_voters(c, 3);
                if (c->drains && i == DRAINS_END_MS / 1000)
                        drains_check(c);
                if (c->drains && i >= DRAINS_END_MS / 1000)
                        c->drains = !drains_end(c);
                rollouts_watch(c);
                if (c->rolls && i == ROLLS_END_MS / 1000)
                        rollouts_check(c);
                if (c->rolls && i >= ROLLS_END_MS / 1000)
                        c->rolls = !rollouts_end(c);
                contents_watch(c);
                if (c->contents && i == ROLLS_END_MS / 1000)
                        contents_check(c);
                if (c->contents && i >= ROLLS_END_MS / 1000 && !arrived)
                        arrived = contents_end(c);
                world_run(c->world, world_now_ms(c->world) + 1000);
        }
        if (!arrived)
                contents_failed(c);
}

static bool has_drains(uint64_t seed, const Options *o) {
        return o->drains || seed % DRAINS_EVERY == 1;
}

static bool has_rollouts(uint64_t seed, const Options *o) {
        return o->rollouts || seed % ROLLS_EVERY == 3;
}

static bool has_inputs(uint64_t seed, const Options *o) {
        return o->inputs || seed % INPUTS_EVERY == 0;
}

static unsigned hosts_drawn(World *w, const Options *o, unsigned attached_percent) {
        if (o->hosts > 0)
                return o->hosts;
        if (world_chance(w, attached_percent))
                return REPLICAS_MAX + 1 + (unsigned) world_draw(w, world_chance(w, 50) ? 3 : ATTACHED_MAX);
        return world_chance(w, 70) ? 3 : 5;
}

/* Hosts with certificates: all enter by tokens before the faults. */
static void cluster_enter(World *w, unsigned hosts) {
        world = w;
        found(hosts, REPLICAS_MAX);
        checked = cluster;
        for (unsigned i = REPLICAS_MAX; i < hosts; i++) {
                MadeToken token = make_token(machine(0), NULL);

                join_with(machine(i), &token);
        }
        UNTIL("a-cluster-forms", cluster_is_formed(cluster, hosts));
        totals_tokens++;
}

static bool rolls(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;

        for (const ClusterUnit *u = view ? view->units : NULL; u; u = u->hh.next)
                if (u->rollout &&
                    (u->rollout->state == ROLLOUT_CANARY || u->rollout->state == ROLLOUT_ROLLING ||
                     u->rollout->state == ROLLOUT_BETWEEN_BATCHES))
                        return true;
        return !view;
}

static void count_changes(SimCluster *c, unsigned begun, bool by_token) {
        const Cluster *view = registry_cluster(daemon_host(cluster_leader(c)->daemon)->registry);

        for (unsigned i = begun; i < c->n; i++)
                faults_count(CHANGE_JOIN, !c->machines[i].leaves);
        if (by_token)
                faults_count(CHANGE_JOIN_BY_TOKEN, c->n - 1);
        faults_count(CHANGE_COMPARED, c->n_slices_at_once);
        faults_count(CHANGE_ROTATED, c->rotates && !view->ca_rotation);
}

/* Those of hosts that returned a moment ago take their watch time. So does a unit whose failed start has
 * paused one. */
static void wait_for_rollouts(SimCluster *c) {
        for (unsigned i = 0; i < IDLE_MS / 1000 && rolls(c); i++)
                world_run(c->world, world_now_ms(c->world) + 1000);
        world_run(c->world, world_now_ms(c->world) + UPDATE_WATCH_MS);
}

static uint64_t run_once(uint64_t seed, const Options *o, uint64_t *ret_acknowledged) {
        World *w = world_new(seed, o->trace);
        unsigned hosts, begins;
        char replay[256];
        SimCluster *c;
        bool tokens, often;
        Faults faults;
        uint64_t before, hash;

        tracing = w;
        snprintf(replay, sizeof(replay), "tests/sim/test-cluster --seconds %llu --hosts %u%s%s%s%s%s",
                 (unsigned long long) o->seconds, o->hosts, o->tokens ? " --tokens" : "",
                 o->drains ? " --drains" : "", o->rollouts ? " --rollouts" : "",
                 o->replicas ? " --replicas" : "", o->inputs ? " --inputs" : "");
        world_set_replay(w, replay);
        often = !has_drains(seed, o) && !has_rollouts(seed, o);
        tokens = world_chance(w, often ? BY_TOKEN_MOST_PERCENT : BY_TOKEN_PERCENT) && o->hosts == 0;
        tokens |= o->tokens || (has_inputs(seed, o) && world_chance(w, INPUTS_BY_TOKEN_PERCENT));
        hosts = tokens ? REPLICAS_MAX + 1 + (unsigned) world_draw(w, BY_TOKEN_MAX) :
                         hosts_drawn(w, o, often ? ATTACHED_MOST_PERCENT : ATTACHED_PERCENT);
        if (tokens)
                cluster_enter(w, hosts);
        else {
                cluster = cluster_new(w, hosts);
                cluster->may_attach = hosts > REPLICAS_MAX;
        }
        checked = c = cluster;
        totals_attached += c->may_attach;
        for (unsigned i = 1; i < hosts && c->may_attach && !tokens; i++)
                machine_knows_replicas(&c->machines[i]);
        faults = (Faults) { .cluster = c, .every_ms = 1000 + world_draw(w, 8000) };
        if (world_chance(w, 40))
                cluster_age(c);
        begins = c->may_attach && !tokens ?
                         REPLICAS_MAX + (unsigned) world_draw(w, hosts - REPLICAS_MAX + 1) :
                         hosts;
        if (!tokens && has_inputs(seed, o))
                contents_age(c);
        if (!tokens)
                cluster_form(c, begins);
        if (c->may_attach && !tokens) /* the founder has a cluster now */
                machine_knows_replicas(&c->machines[0]);
        cluster_grow(c, begins, o->seconds * 1000);

        if (has_drains(seed, o))
                drains_begin(c);
        totals_drains += c->drains;
        if (hosts <= ROLLS_HOSTS_MAX && has_rollouts(seed, o))
                rollouts_begin(c);
        totals_rolls += c->rolls;
        if (o->replicas || seed % SETS_EVERY == 2)
                replicas_begin(c);
        if (hosts <= ROLLS_HOSTS_MAX && has_inputs(seed, o))
                contents_begin(c);
        totals_inputs += c->contents;
        people_submit_all(c);
        for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                world_at(w, 10 * i, NULL, writer_on_turn, &c->writers[i]);
        world_at(w, 5000, NULL, people_on_turn, c);
        faults_begin(&faults, c, 3000);
        world_at(w, CHECK_EVERY_MS, NULL, on_check, c);
        world_run(w, world_now_ms(w) + o->seconds * 1000);

        cluster_heal(c, &faults);
        check_healed(c);
        replicas_check(c);
        count_changes(c, begins, tokens);
        wait_for_rollouts(c);
        before = raft_index(c);
        world_run(w, world_now_ms(w) + IDLE_MS);
        if (raft_index(c) != before && !c->rotates)
                world_failed(w, "idle-is-idle", "%llu entries in %d s of nothing",
                             (unsigned long long) (raft_index(c) - before), IDLE_MS / 1000);

        for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                *ret_acknowledged += c->writers[i].n_acknowledged;
        total_ms += world_now_ms(w) - WORLD_START_MS;
        attached_ms += c->may_attach ? world_now_ms(w) - WORLD_START_MS : 0;
        totals_slices += c->n_slices;
        contents_count(c);
        checked = NULL;
        cluster = cluster_free(c);
        hash = tokens ? seed : world_hash(w); /* keys and signatures are random */
        tracing = NULL;
        world_free(w);
        return hash;
}

int main(int argc, char *argv[]) {
        static const struct option table[] = {
                { "seed", required_argument, NULL, 's' }, { "runs", required_argument, NULL, 'r' },
                { "trace", no_argument, NULL, 't' },      { "seconds", required_argument, NULL, 'S' },
                { "twice", no_argument, NULL, '2' },      { "hosts", required_argument, NULL, 'h' },
                { "tokens", no_argument, NULL, 'k' },     { "drains", no_argument, NULL, 'd' },
                { "rollouts", no_argument, NULL, 'R' },   { "replicas", no_argument, NULL, 'N' },
                { "inputs", no_argument, NULL, 'I' },     {},
        };
        Options o = { .seed = 1, .runs = 6, .seconds = 60 };
        uint64_t acknowledged = 0;
        bool seed_given = false;
        int c;

        while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0)
                switch (c) {
                case 's':
                        o.seed = strtoull(optarg, NULL, 10);
                        seed_given = true;
                        break;
                case 'r':
                        o.runs = strtoull(optarg, NULL, 10);
                        break;
                case 't':
                        o.trace = true;
                        break;
                case 'S':
                        o.seconds = strtoull(optarg, NULL, 10);
                        break;
                case 'h':
                        o.hosts = (unsigned) strtoul(optarg, NULL, 10);
                        break;
                case 'k':
                        o.tokens = true;
                        break;
                case 'd':
                        o.drains = true;
                        break;
                case 'R':
                        o.rollouts = true;
                        break;
                case 'N':
                        o.replicas = true;
                        break;
                case 'I':
                        o.inputs = true;
                        break;
                case '2':
                        o.twice = true;
                        break;
                default:
                        return 2;
                }
        if (seed_given && o.trace)
                o.runs = 1;
        setvbuf(stdout, NULL, _IOLBF, 0);
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_NOTICE);

        for (uint64_t i = 0; i < o.runs; i++) {
                uint64_t hash = run_once(o.seed + i, &o, &acknowledged);

                if (o.twice && run_once(o.seed + i, &o, &acknowledged) != hash) {
                        printf("FAILED one-seed-is-one-run seed=%llu\n", (unsigned long long) (o.seed + i));
                        return 1;
                }
        }
        printf("%llu runs of %llu s and healing passed, %llu of them with two versions, %llu with attached "
               "hosts (%.2f hours, %llu slices compared), %llu with certificates, %llu with drains, %llu "
               "with rollouts, %llu with secrets and keys: "
               "%.2f cluster-hours; "
               "%llu writes "
               "acknowledged;",
               (unsigned long long) o.runs, (unsigned long long) o.seconds, (unsigned long long) totals_old,
               (unsigned long long) totals_attached, (double) attached_ms / 3600000,
               (unsigned long long) totals_slices, (unsigned long long) totals_tokens,
               (unsigned long long) totals_drains, (unsigned long long) totals_rolls,
               (unsigned long long) totals_inputs, (double) total_ms / 3600000,
               (unsigned long long) acknowledged);
        drains_print();
        rollouts_print();
        replicas_print();
        contents_print();
        faults_print();
        return 0;
}
