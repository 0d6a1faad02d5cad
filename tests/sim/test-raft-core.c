/* The consensus core under faults: many runs, each from one seed.
 *
 *   test-raft-core [--seed N] [--runs N] [--faults N] [--mode fixed|changes|grow] [--rule-off NAME] [--bug
 * NAME] [--first]
 *                  [--count] [--trace]
 *
 * Without --mode the modes take turns. --first ends with the first run that fails, --count runs them all and
 * says how many failed. A failed check prints its seed and the command that replays it; the exit code is
 * then 1.
 * --rule-off and --bug make a cluster that must fail: they prove that the checks bite. */
#include <getopt.h>
#include <sys/wait.h>

#include "base/parse.h"
#include "tests/lib/raft_rules.h"
#include "tests/sim/raft_world.h"

static const char *const modes[] = {
        [MODE_FIXED] = "fixed", [MODE_CHANGES] = "changes", [MODE_GROW] = "grow"
};

static const char *const bugs[] = {
        [BUG_NONE] = "none",
        [BUG_ACK_BEFORE_SYNC] = "ack-before-sync",
        [BUG_LOSE_VOTE] = "lose-vote",
        [BUG_KEEP_CONFLICTS] = "keep-conflicts",
        [BUG_CUT_TOO_EARLY] = "cut-too-early",
        [BUG_INSTALL_KEEPS_LOG] = "install-keeps-log",
};

typedef struct Arguments {
        uint64_t seed, runs;
        int mode; /* -1: all in turn */
        SimOptions options;
        char rules_off[256]; /* as options */
        bool first;          /* failure is the last */
        bool count;          /* how many runs fail, each in a process of its own: some crash */
} Arguments;

static int find_name(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (streq(names[i], name))
                        return (int) i;
        return -1;
}

static void usage(void) {
        fprintf(stderr,
                "usage: test-raft-core [--seed N] [--runs N] [--faults N] [--mode fixed|changes|grow] "
                "[--rule-off NAME] "
                "[--bug NAME] [--first] [--count] [--trace]\nrules: all");
        for (size_t i = 0; raft_rule_name(i); i++)
                fprintf(stderr, " %s", raft_rule_name(i));
        fprintf(stderr, "\nbugs:");
        for (size_t i = 1; i < ELEMENTS(bugs); i++)
                fprintf(stderr, " %s", bugs[i]);
        fputc('\n', stderr);
}

static int parse_arguments(int argc, char **argv, Arguments *a) {
        static const struct option names[] = {
                { "seed", required_argument, NULL, 's' },     { "runs", required_argument, NULL, 'r' },
                { "faults", required_argument, NULL, 'f' },   { "mode", required_argument, NULL, 'm' },
                { "rule-off", required_argument, NULL, 'o' }, { "bug", required_argument, NULL, 'b' },
                { "first", no_argument, NULL, '1' },          { "count", no_argument, NULL, 'c' },
                { "trace", no_argument, NULL, 't' },          {},
        };
        uint64_t n;
        int c, bug;

        while ((c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
                int r = 0;

                switch (c) {
                case 's':
                        r = parse_u64(optarg, &a->seed);
                        break;
                case 'r':
                        r = parse_u64(optarg, &a->runs);
                        break;
                case 'f':
                        r = parse_u64(optarg, &n);
                        if (r == 0)
                                a->options.faults = (unsigned) n;
                        break;
                case 'm':
                        r = a->mode = find_name(modes, ELEMENTS(modes), optarg);
                        break;
                case 'o':
                        r = raft_rule_off(&a->options.off, optarg);
                        snprintf(a->rules_off + strlen(a->rules_off),
                                 sizeof(a->rules_off) - strlen(a->rules_off), " --rule-off %s", optarg);
                        break;
                case 'b':
                        r = bug = find_name(bugs, ELEMENTS(bugs), optarg);
                        a->options.bug = (SimBug) MAX(bug, 0);
                        break;
                case '1':
                        a->first = true;
                        break;
                case 'c':
                        a->count = true;
                        break;
                case 't':
                        a->options.trace = true;
                        break;
                default:
                        return -1;
                }
                if (r < 0)
                        return -1;
        }
        return optind == argc ? 0 : -1;
}

/* Print the state of all servers, for a trace. */
static void dump(const World *w) {
        static const char roles[] = {
                [RAFT_ROLE_STANDBY] = 's', [RAFT_ROLE_VOTER] = 'V', [RAFT_ROLE_SPARE] = '-'
        };

        for (unsigned i = 0; i < SLOTS; i++) {
                const Server *s = &w->servers[i];

                if (!s->up)
                        continue;
                printf("s%u/%" PRIu64 ": term %" PRIu64 ", log ..%" PRIu64 " (stored %" PRIu64
                       "), commit %" PRIu64 ", members",
                       i, s->id, raft_core_term(s->core), raft_core_last_index(s->core),
                       raft_core_stored_index(s->core), raft_core_commit_index(s->core));
                for (size_t j = 0; j < raft_core_servers(s->core)->n; j++)
                        printf(" %" PRIu64 "%c", raft_core_servers(s->core)->items[j].id,
                               roles[raft_core_servers(s->core)->items[j].role]);
                printf("%s\n", raft_core_change_pending(s->core) ? " (pending)" : "");
        }
}

/* Over all runs. */
static struct { uint64_t ms, counts[RAFT_FAULTS_MAX]; } sums;

static void print_sums(void) {
        printf("%.2f cluster-hours simulated\n", (double) sums.ms / 3600000);
        for (unsigned i = 0; raft_fault_name(i); i++)
                printf("fault %s %" PRIu64 "\n", raft_fault_name(i), sums.counts[i]);
}

/* One run; returns whether it held, and adds to *hash. */
static bool run(const Arguments *a, uint64_t seed, uint64_t *hash) {
        SimMode mode = a->mode >= 0 ? (SimMode) a->mode : (SimMode) (seed % _MODE_MAX);
        World *w = world_new(seed, mode, &a->options);
        bool held;

        /* Order and single delivery are the connections' part; without them progress needs the owner's
         * remedy. */
        w->reorder = seed % 4 == 3;
        while (w->faults < a->options.faults && !w->failure[0])
                (void) world_step(w);
        held = !w->failure[0] && world_heal(w) && !w->failure[0];

        if (!held) {
                printf("FAILED check seed=%" PRIu64 " mode=%s at %" PRIu64 " ms: %s\n", seed, modes[mode],
                       w->now_ms, w->failure);
                printf("replay: test-raft-core --seed %" PRIu64 " --runs 1 --faults %u --mode %s", seed,
                       a->options.faults, modes[mode]);
                printf("%s", a->rules_off);
                if (a->options.bug != BUG_NONE)
                        printf(" --bug %s", bugs[a->options.bug]);
                printf(" --trace\n");
                fflush(stdout);
        }
        if (a->options.trace && !held)
                dump(w);
        if (a->options.trace)
                printf("seed %" PRIu64 " %s: %" PRIu64 " ms, %" PRIu64 " events, %" PRIu64
                       " leaders, %" PRIu64 " crashes, %" PRIu64 " restarts, %" PRIu64 " installs, %" PRIu64
                       " changes, %" PRIu64 " applied, hash %016" PRIx64 "\n",
                       seed, modes[mode], w->now_ms, w->count.events, w->count.leaders, w->count.crashes,
                       w->count.restarts, w->count.installs, w->count.changes, w->count.entries, w->hash);

        *hash = *hash * 31 + w->hash;
        sums.ms += w->now_ms;
        for (size_t i = 0; i < ELEMENTS(sums.counts); i++)
                sums.counts[i] += w->fault_counts[i];
        world_free(w);
        return held;
}

/* How many fail: some by a check, some by a crash of the engine. */
static int count_failures(const Arguments *a) {
        uint64_t failed = 0;

        for (uint64_t i = 0; i < a->runs; i++) {
                uint64_t hash = 0;
                int status;
                pid_t pid;

                fflush(stdout);
                pid = fork();
                if (pid == 0) {
                        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
                                _exit(2);
                        _exit(run(a, a->seed + i, &hash) ? 0 : 1);
                }
                if (pid < 0 || waitpid(pid, &status, 0) < 0)
                        abort();
                failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        }
        printf("%" PRIu64 " of %" PRIu64 " runs failed\n", failed, a->runs);
        return failed > 0;
}

int main(int argc, char **argv) {
        Arguments a = { .seed = 1, .runs = 60, .mode = -1, .options = { .faults = 300 } };
        uint64_t hash = 0, again = 0, first = 0, failed = 0;

        if (parse_arguments(argc, argv, &a) < 0) {
                usage();
                return 2;
        }

        if (a.count)
                return count_failures(&a);
        for (uint64_t i = 0; i < a.runs && !(a.first && failed > 0); i++) {
                failed += !run(&a, a.seed + i, &hash);
                if (i == 0)
                        first = hash;
        }

        /* The same seed is the same run. */
        if (failed == 0 && a.runs > 0 && !a.options.trace) {
                (void) run(&a, a.seed, &again);
                if (again != first) {
                        printf("FAILED: seed %" PRIu64 " ran differently the second time\n", a.seed);
                        failed++;
                }
        }

        print_sums();
        printf("%" PRIu64 " of %" PRIu64 " runs failed, hash %016" PRIx64 "\n", failed, a.runs, hash);
        return failed > 0;
}
