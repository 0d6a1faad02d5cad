/* Whole daemons under faults, from a seed: a cluster forms, users write keys and change units, hosts lose
 * power, daemons crash, links are cut, processes pause. Then all faults end, and all invariants must hold.
 *
 *      test-cluster [--seed N] [--runs N] [--trace] [--seconds N] [--twice]
 */
#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/sim/cluster.h"

enum { FORM_MS = 30000, HEAL_MS = 150000, IDLE_MS = 20000, HASH_EVERY_MS = 250, DAY_MS = 86400000 };

typedef struct Options {
        uint64_t seed, runs, seconds;
        bool trace, twice;
} Options;

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

        if (m && m->running_unreadable && kv_bytes_equal(node->key, kv_string(m->running_unreadable)))
                newer.value = kv_string("of a later version");
        return __real_cluster_put(c, &newer, err);
}

/* -- People who write keys -- */

static bool machine_serves(const SimMachine *m) {
        return m->daemon && !m->dying && daemon_store(m->daemon);
}

static SimMachine *any_machine(SimCluster *c) {
        SimMachine *m = &c->machines[world_draw(c->world, c->n)];

        return machine_serves(m) ? m : NULL;
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
        if (kv_propose(daemon_store(m->daemon), &cmd, writer_on_done, write, &w->number) < 0)
                w->asked = NULL;
}

/* -- People who want units -- */

static void unit_text(const SimUserUnit *p, char *ret, size_t size) {
        const char *fleet = streq(p->group ?: "", "web") ? "[X-Fleet]\nConflicts=web@*.service\n" :
                            streq(p->name, "pong.service") ? "[X-Fleet]\nMachineOf=ping.service\n" :
                            streq(p->name, "node.service") ? "[X-Fleet]\nGlobal=true\n" :
                                                             "";

        snprintf(ret, size, "[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/sleep %u\n%s", p->name,
                 100 + p->version, fleet);
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
        if (registry_change_units(daemon_registry(m->daemon), &change, 1, person_on_done, p) >= 0)
                p->pending++;
        unit_free(unit);
}

static void people_on_turn(void *userdata) {
        SimCluster *c = userdata;
        SimMachine *m = any_machine(c);

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
}

/* -- Faults: each kind is on in some worlds only, so that one kind also happens alone and often -- */

typedef enum Fault {
        FAULT_CRASH,
        FAULT_STOP,
        FAULT_POWER,
        FAULT_CUT,
        FAULT_ISOLATE,
        FAULT_PAUSE,
        FAULT_SLOW_DISK,
        FAULT_BUS,
        FAULT_CLOCK,
        FAULT_CRASH_ALL,
        FAULT_POWER_ALL,
        FAULT_BOND,
        FAULT_RESCUE_TARGET,
        _FAULT_MAX
} Fault;

static const char *const fault_names[] = {
        [FAULT_CRASH] = "crash",
        [FAULT_STOP] = "stop",
        [FAULT_POWER] = "power cut",
        [FAULT_CUT] = "cut",
        [FAULT_ISOLATE] = "isolate",
        [FAULT_PAUSE] = "pause",
        [FAULT_SLOW_DISK] = "slow disk",
        [FAULT_BUS] = "bus dropped",
        [FAULT_CLOCK] = "clock set",
        [FAULT_CRASH_ALL] = "all crash",
        [FAULT_POWER_ALL] = "all lose power",
        [FAULT_BOND] = "what units are bound to stops",
        [FAULT_RESCUE_TARGET] = "rescue.target",
};

static uint64_t totals[_FAULT_MAX], totals_old, total_ms;

typedef struct Faults {
        SimCluster *cluster;
        bool on[_FAULT_MAX];
        uint64_t every_ms;
        unsigned n_cuts;        /* under way */
        uint64_t cuts_until_ms; /* when the last of them heals */
} Faults;

static void on_start_daemon(void *userdata) {
        machine_start_daemon(userdata);
}

static void on_release(void *userdata) {
        SimMachine *m = userdata;

        if (m->systemd)
                sim_systemd_release(m->systemd);
}

static void on_power_on(void *userdata) {
        machine_power_on(userdata);
}

typedef struct Heal {
        Faults *faults;
        SimMachine *a, *b; /* 'b' NULL: all of a's links */
} Heal;

static void cut(SimCluster *c, SimMachine *a, SimMachine *b, bool is_cut) {
        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != a && (!b || &c->machines[i] == b))
                        sim_net_cut(c->net, a->host, c->machines[i].host, is_cut);
}

static void on_heal(void *userdata) {
        Heal *h = userdata;

        cut(h->faults->cluster, h->a, h->b, false);
        h->faults->n_cuts--;
        world_trace(h->faults->cluster->world, h->a->name, "link heals");
        free(h);
}

static void on_fast_disk(void *userdata) {
        SimMachine *m = userdata;

        if (m->loop)
                world_loop_set_work_ms(m->loop, 0, 2);
}

/* Allow that others declare the host lost, during the fault and until all have noticed its end. */
static void trouble(SimMachine *m, uint64_t for_ms) {
        uint64_t now_ms = world_now_ms(m->cluster->world);

        if (for_ms >= 1500)
                machine_suspect(m, now_ms, now_ms + for_ms + 20000);
}

static void fault_happens(Faults *f, Fault kind, SimMachine *m) {
        SimCluster *c = f->cluster;
        World *w = c->world;
        uint64_t for_ms = world_chance(w, 50) ? 100 + world_draw(w, 2000) : 1000 + world_draw(w, 15000);
        Heal *h;

        totals[kind]++;
        machine_absent(m, for_ms);
        world_trace(w, m->name, "fault: %s for %llu ms", fault_names[kind], (unsigned long long) for_ms);
        switch (kind) {
        case FAULT_CRASH:
                machine_crash_daemon(m);
                world_at(w, for_ms, NULL, on_start_daemon, m);
                break;
        case FAULT_STOP:
                machine_stop_daemon(m);
                world_at(w, for_ms, NULL, on_start_daemon, m);
                break;
        case FAULT_POWER:
                machine_suspect(m, world_now_ms(w), world_now_ms(w) + for_ms + 20000);
                machine_power_cut(m);
                world_at(w, for_ms, NULL, on_power_on, m);
                break;
        case FAULT_CUT:
        case FAULT_ISOLATE:
                h = NEW0(Heal, 1);
                *h = (Heal) { .faults = f,
                              .a = m,
                              .b = kind == FAULT_CUT ? &c->machines[world_draw(w, c->n)] : NULL };
                cut(c, m, h->b, true);
                trouble(m, for_ms);
                if (h->b)
                        trouble(h->b, for_ms);
                f->cuts_until_ms = MAX(f->cuts_until_ms, world_now_ms(w) + for_ms);
                /* The first cut that heals restores links that another one cut: the leader may be separated
                 * from a host that had no fault. */
                for (unsigned i = 0; f->n_cuts > 0 && i < c->n; i++)
                        trouble(&c->machines[i], f->cuts_until_ms - world_now_ms(w));
                f->n_cuts++;
                world_at_own(w, for_ms, NULL, on_heal, h);
                break;
        case FAULT_PAUSE:
                if (m->loop)
                        world_loop_pause(m->loop, for_ms);
                break;
        case FAULT_SLOW_DISK:
                if (m->loop)
                        world_loop_set_work_ms(m->loop, 10, 300);
                world_at(w, for_ms, NULL, on_fast_disk, m);
                break;
        case FAULT_BUS:
                sim_systemd_drop_bus(m->systemd, for_ms);
                break;
        case FAULT_BOND:
                sim_systemd_hold(m->systemd);
                machine_ended_units(m);
                world_at(w, for_ms, NULL, on_release, m);
                break;
        case FAULT_RESCUE_TARGET:
                machine_stop_daemon(m);
                sim_systemd_isolate(m->systemd);
                machine_ended_units(m);
                world_at(w, for_ms, NULL, on_start_daemon, m);
                break;
        case FAULT_CLOCK: /* forward or back, by a day or a second */
                if (m->loop)
                        world_loop_set_wall_offset(m->loop, (world_chance(w, 50) ? 1 : -1) *
                                                                    (world_chance(w, 50) ? DAY_MS : 1000));
                break;
        case FAULT_CRASH_ALL:
        case FAULT_POWER_ALL:
                for (unsigned i = 0; i < c->n; i++)
                        fault_happens(f, kind == FAULT_CRASH_ALL ? FAULT_CRASH : FAULT_POWER,
                                      &c->machines[i]);
                break;
        default:
                break;
        }
}

static void on_fault(void *userdata) {
        Faults *f = userdata;
        SimCluster *c = f->cluster;
        Fault kind = world_draw(c->world, _FAULT_MAX);

        if (c->quiet)
                return;
        world_at(c->world, 200 + world_draw(c->world, f->every_ms), NULL, on_fault, f);
        if (f->on[kind])
                fault_happens(f, kind, &c->machines[world_draw(c->world, c->n)]);
}

/* -- One run -- */

static void on_check(void *userdata) {
        SimCluster *c = userdata;

        check_hashes(c);
        if (!c->quiet)
                world_at(c->world, HASH_EVERY_MS, NULL, on_check, c);
}

static bool cluster_is_formed(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        size_t voters = 0;
        KvState state;

        if (!leader)
                return false;
        kv_state(daemon_store(leader->daemon), &state);
        for (size_t i = 0; i < state.n_members; i++)
                voters += state.members[i].role == KV_MEMBER_VOTER;
        return state.n_members == c->n && voters == MIN(c->n, 3u) &&
               HASH_COUNT(registry_cluster(daemon_registry(leader->daemon))->machines) == c->n;
}

static uint64_t raft_index(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        KvState state;

        if (!leader)
                return 0;
        kv_state(daemon_store(leader->daemon), &state);
        return state.raft_index;
}

/* Upgrade the hosts of the older version, one after the other. */
static void upgrade(SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                if (!m->unreadable)
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

static uint64_t run_once(uint64_t seed, const Options *o, uint64_t *ret_acknowledged) {
        World *w = world_new(seed, o->trace);
        char replay[256];
        SimCluster *c;
        Faults faults;
        uint64_t end_ms, before, hash;

        tracing = w;
        snprintf(replay, sizeof(replay), "tests/sim/test-cluster --seconds %llu",
                 (unsigned long long) o->seconds);
        world_set_replay(w, replay);
        checked = c = cluster_new(w, world_chance(w, 70) ? 3 : 5);
        faults = (Faults) { .cluster = c, .every_ms = 1000 + world_draw(w, 8000) };
        for (unsigned i = 0; i < _FAULT_MAX; i++)
                faults.on[i] = world_chance(w, i >= FAULT_CRASH_ALL ? 30 : 60);

        /* In some worlds one host, or all but one, have an older version until the faults end. */
        if (world_chance(w, 40)) {
                unsigned first = world_draw(w, c->n), last = world_chance(w, 50) ? first : first + c->n - 2;
                const char *key = world_chance(w, 50) ? "/_fleet/unit/c.service" : "/_fleet/target/c.service";

                for (unsigned i = first; i <= last; i++)
                        c->machines[i % c->n].unreadable = key;
                totals_old++;
        }
        for (unsigned i = 0; i < c->n; i++)
                world_at(w, i * 100, NULL, on_start_daemon, &c->machines[i]);
        end_ms = world_now_ms(w) + FORM_MS;
        while (!cluster_is_formed(c) && world_now_ms(w) < end_ms)
                world_run(w, world_now_ms(w) + 100);
        if (!cluster_is_formed(c))
                world_failed(w, "a-cluster-forms", "after %d s there are not yet three voters",
                             FORM_MS / 1000);

        people_submit_all(c);
        for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                world_at(w, 10 * i, NULL, writer_on_turn, &c->writers[i]);
        world_at(w, 5000, NULL, people_on_turn, c);
        world_at(w, 3000, NULL, on_fault, &faults);
        world_at(w, HASH_EVERY_MS, NULL, on_check, c);
        world_run(w, world_now_ms(w) + o->seconds * 1000);

        c->quiet = true;
        world_trace(w, "world", "all heals");
        world_run(w, world_now_ms(w) + 20000);
        for (unsigned i = 0; i < c->n; i++) {
                cut(c, &c->machines[i], NULL, false);
                machine_power_on(&c->machines[i]);
                machine_start_daemon(&c->machines[i]);
        }
        upgrade(c);
        world_run(w, world_now_ms(w) + HEAL_MS);
        check_healed(c);
        before = raft_index(c);
        world_run(w, world_now_ms(w) + IDLE_MS);
        if (raft_index(c) != before)
                world_failed(w, "idle-is-idle", "%llu entries in %d s of nothing",
                             (unsigned long long) (raft_index(c) - before), IDLE_MS / 1000);

        for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                *ret_acknowledged += c->writers[i].n_acknowledged;
        total_ms += world_now_ms(w) - WORLD_START_MS;
        checked = NULL;
        cluster_free(c);
        hash = world_hash(w);
        tracing = NULL;
        world_free(w);
        return hash;
}

int main(int argc, char *argv[]) {
        static const struct option table[] = {
                { "seed", required_argument, NULL, 's' }, { "runs", required_argument, NULL, 'r' },
                { "trace", no_argument, NULL, 't' },      { "seconds", required_argument, NULL, 'S' },
                { "twice", no_argument, NULL, '2' },      {},
        };
        Options o = { .seed = 1, .runs = 5, .seconds = 60 };
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
        printf("%llu runs of %llu s and healing passed, %llu of them with two versions: %.2f cluster-hours; "
               "%llu writes acknowledged;",
               (unsigned long long) o.runs, (unsigned long long) o.seconds, (unsigned long long) totals_old,
               (double) total_ms / 3600000, (unsigned long long) acknowledged);
        for (unsigned i = 0; i < _FAULT_MAX; i++)
                printf(" %s %llu%s", fault_names[i], (unsigned long long) totals[i],
                       i + 1 < _FAULT_MAX ? "," : "\n");
        return 0;
}
