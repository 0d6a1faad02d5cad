/* Five stores under faults (tests/sim/stores.h), as seen by clients: every answer is checked.
 *
 *   tests/sim/test-stores [--seed N] [--runs N] [--seconds N] [--hosts N] [--without FAULT ... | --only FAULT
 * ...] [--unsynced] [--trace] [--twice]
 *                         [--shrink]
 *
 * --twice runs each seed twice, and compares; --shrink searches a smaller run in which the same check fails:
 * shorter, with fewer hosts, without each kind of fault.
 *
 * Checked: histories of keys and directories are linearizable (tests/sim/history.h); plain reads are never
 * invented, and never run backward at one host, over all its crashes and all failures of its replica; watches
 * are complete (tests/sim/watchers.h); an acknowledged write is applied on the host that acknowledged it;
 * answers arrive in time, and within 1.5 s of the leader's loss; trees at an equal applied index are equal;
 * rows of the history count each write once; after healing every host writes, follows, has caught up, and no
 * expired key is left; an idle minute writes no entries, uses no more memory, and has few wake-ups. */
#include <dirent.h>
#include <getopt.h>
#include <malloc.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "tests/sim/shrink.h"
#include "tests/sim/store_clients.h"
#include "tests/lib/store_inside.h"

static Test *running; /* for the log's sink, which has no other way */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (running)
                stores_log(&running->stores, message);
}

/* -- Runs -- */

static void check_healed(Test *t) {
        Stores *all = &t->stores;
        Host *leader = stores_leader(all);
        KvState leads, state;
        TreeTxn *txn;
        KvNode node;

        if (!leader)
                world_failed(all->world, "there-is-a-leader", "none");
        kv_state(leader->store, &leads);
        for (size_t i = 0; i < leads.n_members; i++)
                world_trace(all->world, leader->name,
                            "leads replica %" PRIu64 " at %s, %s, %s, which holds entry %" PRIu64,
                            leads.members[i].raft_id, leads.members[i].address,
                            kv_member_role_name(leads.members[i].role),
                            leads.members[i].reachable ? "reachable" : "not reachable",
                            leads.members[i].match);
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];

                if (!store_is_up(h))
                        world_failed(all->world, "every-host-runs", "%s", h->name);
                kv_state(h->store, &state);
                if (store_is_flipped(h))
                        world_failed(all->world, "a-diverged-host-is-found", "%s: %s", h->name,
                                     state.problem);
                if (!state.ready)
                        world_failed(all->world, "every-host-follows",
                                     "%s (replica %" PRIu64 " of cluster %" PRIx64 "%s%s%s): %s", h->name,
                                     h->raft_id, state.cluster_id, h->wipe ? ", to be wiped" : "",
                                     h->leaving ? ", leaving" : "", h->disk_breaks ? ", without a disk" : "",
                                     state.problem);
                if (state.raft_index != leads.raft_index)
                        world_failed(all->world, "every-host-catches-up", "%s: entry %" PRIu64 " of %" PRIu64,
                                     h->name, state.raft_index, leads.raft_index);
                stores_check_hash(all, h);
                store_check_history(h);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
                if (t->clients[i].object)
                        world_failed(all->world, "every-client-is-answered", "client %u", i);
        if (kv_read(leader->store, &txn) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", leader->name);
        if (tree_first_due(txn, leads.cluster_ms - REST_MS / 2, &node) >= 0)
                world_failed(all->world, "expired-keys-are-removed", "%.*s", (int) node.key.size,
                             (const char *) node.key.data);
        tree_abort(txn);
        watchers_judge(all->watchers, leads.index);
}

/* Trace the state of all hosts. */
static void trace_all(Test *t) {
        Stores *all = &t->stores;

        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];
                KvState state;

                if (!store_is_up(h)) {
                        world_trace(all->world, h->name, "is down");
                        continue;
                }
                kv_state(h->store, &state);
                world_trace(all->world, h->name,
                            "replica %" PRIu64 ", %s, term %" PRIu64 ", applied %" PRIu64 ", commit %" PRIu64
                            ": %s",
                            state.raft_id, kv_role_name(state.role), state.term, state.raft_index,
                            state.commit, state.problem);
                for (size_t k = 0; k < state.n_members; k++)
                        world_trace(all->world, h->name, "  replica %" PRIu64 " is %s",
                                    state.members[k].raft_id, kv_member_role_name(state.members[k].role));
        }
        for (unsigned i = 0; i < CLIENTS; i++)
                if (t->clients[i].object)
                        world_trace(all->world, "clients", "client %u waits for %s for %" PRIu64 " ms", i,
                                    t->clients[i].host->name,
                                    world_now_ms(all->world) - t->clients[i].begun_ms);
}

static unsigned n_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (dir && readdir(dir))
                n++;
        if (dir)
                closedir(dir);
        return n;
}

/* Without requests and due timers, no entry is written, no host uses more memory, and wake-ups are few. The
 * watchers are closed. */
static void check_idle(Test *t) {
        Stores *all = &t->stores;
        uint64_t entry[STORES_MAX], wakes;
        unsigned descriptors;
        size_t used;
        KvState state;

        for (unsigned i = 0; i < all->n; i++)
                watchers_leave(all->watchers, i);
        world_run(all->world, world_now_ms(all->world) + 1000);
        for (unsigned i = 0; i < all->n; i++) {
                if (hub_watches(all->hosts[i].store->hub) > 0)
                        world_failed(all->world, "who-left-is-gone", "%s keeps %u watches",
                                     all->hosts[i].name, hub_watches(all->hosts[i].store->hub));
                kv_state(all->hosts[i].store, &state);
                entry[i] = state.commit;
        }
        wakes = world_wakes(all->world);
        descriptors = n_descriptors();
        used = mallinfo2().uordblks;
        world_run(all->world, world_now_ms(all->world) + IDLE_MS);

        for (unsigned i = 0; i < all->n; i++) {
                kv_state(all->hosts[i].store, &state);
                if (state.commit != entry[i])
                        world_failed(all->world, "idle-is-idle", "%s: %" PRIu64 " entries in %d s of nothing",
                                     all->hosts[i].name, state.commit - entry[i], IDLE_MS / 1000);
        }
        wakes = (world_wakes(all->world) - wakes) * 1000 / IDLE_MS / all->n;
        sums.idle_wakes = MAX(sums.idle_wakes, wakes);
        if (wakes > IDLE_WAKES_MAX)
                world_failed(all->world, "idle-is-idle", "%" PRIu64 " wake-ups a second and host", wakes);
        if (n_descriptors() != descriptors)
                world_failed(all->world, "idle-is-bounded", "%u descriptors, %u before", n_descriptors(),
                             descriptors);
        if (mallinfo2().uordblks > used + IDLE_BYTES_MAX * all->n)
                world_failed(all->world, "idle-is-bounded", "%zu bytes more", mallinfo2().uordblks - used);
}

/* A leader that came late spares what was written before it came. */
static uint64_t spares_until_ms(Stores *all) {
        const Host *leader = stores_leader(all);

        return leader ? leader->store->lead_ms + leader->store->grace_ms : 0;
}

static void heal_and_check(Test *t) {
        Stores *all = &t->stores;
        uint64_t before;

        stores_heal(all);
        world_run(all->world, world_now_ms(all->world) + HEAL_MS / 2);
        before = t->n_answers;
        (void) stores_flip(all);
        world_run(all->world, world_now_ms(all->world) + HEAL_MS / 2);
        if (t->n_answers == before)
                trace_all(t);
        if (t->n_answers == before)
                world_failed(all->world, "every-host-writes-again", "no answer in %d ms", HEAL_MS / 2);
        t->rests = true;
        world_run(all->world, MAX(world_now_ms(all->world), spares_until_ms(all)) + REST_MS);
        check_healed(t);
        check_idle(t);
        for (unsigned i = 0; i < OBJECTS; i++)
                clients_judge(&t->objects[i]);
}

typedef struct Options {
        uint64_t seed, runs, seconds;
        unsigned hosts;
        bool off[_FAULT_MAX];
        bool trace, twice, shrink;
        bool unsynced; /* disks acknowledge a sync and do none */
} Options;

/* The command line that does this run again, without its seed. */
static void print_options(const Options *o, char *ret, size_t size) {
        unsigned n_off = 0;
        size_t n = (size_t) snprintf(ret, size, "tests/sim/test-stores --seconds %" PRIu64, o->seconds);

        if (o->hosts > 0)
                n += (size_t) snprintf(ret + n, size - n, " --hosts %u", o->hosts);
        for (FaultKind k = 0; k <= FAULT_LOST_PAGES; k++)
                n_off += o->off[k];
        for (FaultKind k = 0; k <= FAULT_LOST_PAGES; k++)
                if (o->off[k] == (n_off <= FAULT_LOST_PAGES / 2))
                        n += (size_t) snprintf(ret + n, size - n, " --%s %s", o->off[k] ? "without" : "only",
                                               fault_name(k));
        if (o->unsynced)
                snprintf(ret + n, size - n, " --unsynced");
}

static uint64_t run_once(uint64_t seed, const Options *o) {
        Test *t = NEW0(Test, 1);
        Stores *all;
        char replay[2048];
        uint64_t hash;

        if (!t)
                abort();
        all = &t->stores;
        *all = (Stores) { .world = world_new(seed, o->trace),
                          .unsynced = o->unsynced,
                          .gone = clients_host_gone,
                          .userdata = t,
                          .n = o->hosts };
        memcpy(all->off, o->off, sizeof(all->off));
        all->watchers = watchers_new(all->world, WATCHERS);
        print_options(o, replay, sizeof(replay));
        world_set_replay(all->world, replay);
        for (unsigned i = 0; i < OBJECTS; i++)
                t->objects[i] = (Object) { .test = t,
                                           .number = i < KEYS ? i : i - KEYS,
                                           .history.dir = i >= KEYS };
        running = t;
        stores_begin(all);
        clients_turn(t);
        world_run(all->world, world_now_ms(all->world) + o->seconds * 1000);
        heal_and_check(t);

        sums.events += watchers_events(all->watchers);
        sums.moves += watchers_moves(all->watchers);
        sums.cleared += watchers_cleared(all->watchers);
        sums.compared += all->n_compared;
        sums.elections += all->n_elections;
        sums.ms += world_now_ms(all->world) - WORLD_START_MS;
        sums.store_ms += (world_now_ms(all->world) - WORLD_START_MS) * all->n;
        for (unsigned i = 0; i < _FAULT_MAX; i++)
                sums.faults[i] += all->counts[i];
        stores_end(all);
        hash = world_hash(all->world);
        running = NULL;
        watchers_free(all->watchers);
        world_free(all->world);
        free(t);
        return hash;
}

/* -- Smaller -- */

static void run_alone(void *userdata) {
        const Options *o = userdata;

        (void) run_once(o->seed, o);
}

/* Takes 'less' if the same check fails, with its seed or, the draws being others, with one of those that
 * follow. */
static bool fails_with(Options *o, Options less, unsigned seeds, const Verdict *verdict) {
        for (unsigned i = 0; i < seeds; i++, less.seed++) {
                Verdict now = shrink_try(run_alone, &less);

                if (!shrink_same(&now, verdict))
                        continue;
                *o = less;
                o->seconds = MIN(o->seconds, now.at_s);
                return true;
        }
        return false;
}

static int shrink(Options *o) {
        Verdict verdict = shrink_try(run_alone, o);
        char line[2048];
        Options less;

        if (!verdict.checker[0]) {
                printf("seed %" PRIu64 " holds\n", o->seed);
                return 0;
        }
        less = *o;
        less.seconds = MIN(o->seconds, verdict.at_s);
        (void) fails_with(o, less, 1, &verdict);
        for (unsigned hosts = 1; hosts <= 5; hosts++) {
                less = *o;
                less.hosts = hosts;
                if (fails_with(o, less, 10, &verdict))
                        break;
        }
        for (FaultKind k = 0; k <= FAULT_LOST_PAGES; k++) {
                less = *o;
                less.off[k] = true;
                if (!o->off[k])
                        (void) fails_with(o, less, 1, &verdict);
        }
        print_options(o, line, sizeof(line));
        printf("FAILED %s\nreplay: %s --seed %" PRIu64 " --trace\n", verdict.checker, line, o->seed);
        return 1;
}

static void print_sums(const Options *o) {
        double cpu_s = (double) clock() / CLOCKS_PER_SEC;

        printf("%" PRIu64 " runs of %" PRIu64 " s and healing passed: %.2f cluster-hours simulated, %" PRIu64
               " operations judged in %" PRIu64 " histories, %" PRIu64 " unknown outcomes, %" PRIu64
               " histories undecided\n",
               o->runs, o->seconds, (double) sums.ms / 3600000, sums.judged, sums.histories, sums.unknown,
               sums.undecided);
        printf("%" PRIu64 " leaders, %" PRIu64 " events told, %" PRIu64 " watches moved, %" PRIu64
               " places lost; %" PRIu64 " trees compared\n",
               sums.elections, sums.events, sums.moves, sums.cleared, sums.compared);
        printf("at most %" PRIu64 " wake-ups a second and idle host\n", sums.idle_wakes);
        printf("%.0f host-hours; %.0f times real time and %.0f operations on a second of one core\n",
               (double) sums.store_ms / 3600000, (double) sums.ms / 1000 / cpu_s,
               (double) sums.judged / cpu_s);
        for (FaultKind i = 0; i < _FAULT_MAX; i++)
                printf("fault %s %" PRIu64 "\n", fault_name(i), sums.faults[i]);
}

int main(int argc, char *argv[]) {
        static const struct option table[] = {
                { "seed", required_argument, NULL, 's' },
                { "runs", required_argument, NULL, 'r' },
                { "trace", no_argument, NULL, 't' },
                { "seconds", required_argument, NULL, 'S' },
                { "unsynced", no_argument, NULL, 'u' },
                { "twice", no_argument, NULL, '2' },
                { "hosts", required_argument, NULL, 'h' },
                { "without", required_argument, NULL, 'w' },
                { "only", required_argument, NULL, 'o' },
                { "shrink", no_argument, NULL, 'k' },
                {},
        };
        Options o = { .seed = 1, .seconds = 120 };
        bool only = false;
        int c;

        while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0)
                switch (c) {
                case 's':
                        o.seed = strtoull(optarg, NULL, 10);
                        o.runs = o.runs ?: 1;
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
                case 'u':
                        o.unsynced = true;
                        break;
                case '2':
                        o.twice = true;
                        break;
                case 'k':
                        o.shrink = true;
                        break;
                case 'h':
                        o.hosts = (unsigned) strtoul(optarg, NULL, 10);
                        break;
                case 'w':
                case 'o':
                        if (fault_named(optarg) > FAULT_LOST_PAGES)
                                return 2;
                        for (FaultKind k = 0; c == 'o' && !only && k <= FAULT_LOST_PAGES; k++)
                                o.off[k] = true;
                        only |= c == 'o';
                        o.off[fault_named(optarg)] = c == 'w';
                        break;
                default:
                        return 2;
                }
        o.runs = o.runs ?: 4;
        setvbuf(stdout, NULL, _IOLBF, 0);
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_DEBUG);

        if (o.shrink)
                return shrink(&o);
        for (uint64_t i = 0; i < o.runs; i++) {
                uint64_t hash = run_once(o.seed + i, &o);

                if (o.twice && run_once(o.seed + i, &o) != hash) {
                        printf("FAILED one-seed-is-one-run seed=%" PRIu64 "\n", o.seed + i);
                        return 1;
                }
        }
        print_sums(&o);
        return 0;
}
