/* The consensus core under faults: many runs, each from one seed.
 *
 *   test-raft-core [--seed N] [--runs N] [--faults N] [--mode fixed|changes|grow] [--rule-off NAME] [--bug NAME] [--first]
 *                  [--trace]
 *
 * Without --mode the modes take turns. --first ends with the first run that fails. A failed check prints its seed and the
 * command that replays it; the exit code is then 1.
 * --rule-off and --bug make a cluster that must fail: they prove that the checks bite. */
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "base/parse.h"
#include "tests/sim/raft_world.h"

static const char *const modes[] = { [MODE_FIXED] = "fixed", [MODE_CHANGES] = "changes", [MODE_GROW] = "grow" };

static const char *const bugs[] = {
        [BUG_NONE] = "none",
        [BUG_ACK_BEFORE_SYNC] = "ack-before-sync",
        [BUG_LOSE_VOTE] = "lose-vote",
        [BUG_KEEP_CONFLICTS] = "keep-conflicts",
        [BUG_CUT_TOO_EARLY] = "cut-too-early",
        [BUG_INSTALL_KEEPS_LOG] = "install-keeps-log",
};

static const struct {
        const char *name;
        size_t offset;
} rules[] = {
        { "row1",         offsetof(RaftRules, clean_old_term_result)  },
        { "row2",         offsetof(RaftRules, sole_voter_new_term)    },
        { "row3",         offsetof(RaftRules, split_at_change)        },
        { "row4",         offsetof(RaftRules, remember_committed)     },
        { "row5",         offsetof(RaftRules, cut_below_snapshot)     },
        { "row6",         offsetof(RaftRules, tell_term_to_prevote)   },
        { "vote-result",  offsetof(RaftRules, drop_stray_vote_result) },
        { "one-install",  offsetof(RaftRules, one_install)            },
        { "promotion",    offsetof(RaftRules, promotion_order)        },
        { "demotion",     offsetof(RaftRules, demotion_order)         },
        { "catch-up",     offsetof(RaftRules, catch_up_first)         },
        { "self-removal", offsetof(RaftRules, keep_leader)            },
        { "shrink",       offsetof(RaftRules, one_leader_first)       },
        { "majority",     offsetof(RaftRules, majority_knows)         },
        { "snapshot",     offsetof(RaftRules, snapshot_stored_only)   },
        { "start-term",   offsetof(RaftRules, start_checks_term)      },
};

typedef struct Arguments {
        uint64_t seed, runs;
        int mode; /* -1: all in turn */
        SimOptions options;
        const char *rule_off;
        bool first; /* failure is the last */
} Arguments;

static int find_name(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (streq(names[i], name))
                        return (int) i;
        return -1;
}

static int rule_off(RaftRules *set, const char *name) {
        if (streq(name, "all")) {
                memset(set, 0, sizeof(*set));
                return 0;
        }
        for (size_t i = 0; i < ELEMENTS(rules); i++)
                if (streq(rules[i].name, name)) {
                        *(bool *) ((char *) set + rules[i].offset) = false;
                        return 0;
                }
        return -1;
}

static void usage(void) {
        fprintf(stderr, "usage: test-raft-core [--seed N] [--runs N] [--faults N] [--mode fixed|changes|grow] "
                        "[--rule-off NAME] "
                        "[--bug NAME] [--first] [--trace]\nrules: all");
        for (size_t i = 0; i < ELEMENTS(rules); i++)
                fprintf(stderr, " %s", rules[i].name);
        fprintf(stderr, "\nbugs:");
        for (size_t i = 1; i < ELEMENTS(bugs); i++)
                fprintf(stderr, " %s", bugs[i]);
        fputc('\n', stderr);
}

static int parse_arguments(int argc, char **argv, Arguments *a) {
        static const struct option names[] = {
                { "seed", required_argument, NULL, 's' }, { "runs", required_argument, NULL, 'r' },
                { "faults", required_argument, NULL, 'f' }, { "mode", required_argument, NULL, 'm' },
                { "rule-off", required_argument, NULL, 'o' }, { "bug", required_argument, NULL, 'b' },
                { "first", no_argument, NULL, '1' },
                { "trace", no_argument, NULL, 't' }, {},
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
                        r = rule_off(&a->options.rules, optarg);
                        a->rule_off = optarg;
                        break;
                case 'b':
                        r = bug = find_name(bugs, ELEMENTS(bugs), optarg);
                        a->options.bug = (SimBug) MAX(bug, 0);
                        break;
                case '1':
                        a->first = true;
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

/* Where everybody stands, for whoever reads a trace. */
static void dump(const World *w) {
        static const char roles[] = { [RAFT_ROLE_STANDBY] = 's', [RAFT_ROLE_VOTER] = 'V', [RAFT_ROLE_SPARE] = '-' };

        for (unsigned i = 0; i < SLOTS; i++) {
                const Server *s = &w->servers[i];

                if (!s->up)
                        continue;
                printf("s%u/%" PRIu64 ": term %" PRIu64 ", log ..%" PRIu64 " (stored %" PRIu64 "), commit %" PRIu64
                       ", members",
                       i, s->id, raft_core_term(s->core), raft_core_last_index(s->core),
                       raft_core_stored_index(s->core), raft_core_commit_index(s->core));
                for (size_t j = 0; j < raft_core_servers(s->core)->n; j++)
                        printf(" %" PRIu64 "%c", raft_core_servers(s->core)->items[j].id,
                               roles[raft_core_servers(s->core)->items[j].role]);
                printf("%s\n", raft_core_change_pending(s->core) ? " (pending)" : "");
        }
}

/* One run; returns whether it held, and adds to *hash. */
static bool run(const Arguments *a, uint64_t seed, uint64_t *hash) {
        SimMode mode = a->mode >= 0 ? (SimMode) a->mode : (SimMode) (seed % _MODE_MAX);
        World *w = world_new(seed, mode, &a->options);
        bool held;

        /* Order and single delivery are the connections' part; without them progress needs the owner's remedy. */
        w->reorder = seed % 4 == 3;
        while (w->faults < a->options.faults && !w->failure[0])
                (void) world_step(w);
        held = !w->failure[0] && world_heal(w) && !w->failure[0];

        if (!held) {
                printf("FAILED check seed=%" PRIu64 " mode=%s at %" PRIu64 " ms: %s\n", seed, modes[mode], w->now_ms,
                       w->failure);
                printf("replay: test-raft-core --seed %" PRIu64 " --runs 1 --faults %u --mode %s", seed,
                       a->options.faults, modes[mode]);
                if (a->rule_off)
                        printf(" --rule-off %s", a->rule_off);
                if (a->options.bug != BUG_NONE)
                        printf(" --bug %s", bugs[a->options.bug]);
                printf(" --trace\n");
                fflush(stdout);
        }
        if (a->options.trace && !held)
                dump(w);
        if (a->options.trace)
                printf("seed %" PRIu64 " %s: %" PRIu64 " ms, %" PRIu64 " events, %" PRIu64 " leaders, %" PRIu64
                       " crashes, %" PRIu64 " restarts, %" PRIu64 " installs, %" PRIu64 " changes, %" PRIu64
                       " applied, hash %016" PRIx64 "\n",
                       seed, modes[mode], w->now_ms, w->count.events, w->count.leaders, w->count.crashes,
                       w->count.restarts, w->count.installs, w->count.changes, w->count.entries, w->hash);

        *hash = *hash * 31 + w->hash;
        world_free(w);
        return held;
}

int main(int argc, char **argv) {
        Arguments a = { .seed = 1, .runs = 60, .mode = -1, .options = { .rules = RAFT_RULES_ALL, .faults = 300 } };
        uint64_t hash = 0, again = 0, first = 0, failed = 0;

        if (parse_arguments(argc, argv, &a) < 0) {
                usage();
                return 2;
        }

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

        printf("%" PRIu64 " of %" PRIu64 " runs failed, hash %016" PRIx64 "\n", failed, a.runs, hash);
        return failed > 0;
}
