/* Files of a watched unit directory, with texts that fail, during faults. Whole daemons. A file whose text
 * was reverted is not submitted again within ten minutes, by no leader and after no restart, until it changes
 * or a user requests it; the next good file is rolled out. Twenty files at once are rolled out each within
 * its budget.
 *
 *      test-directory [--seed N] [--runs N] [--trace]
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/scratch.h"
#include "tests/sim/play.h"

enum {
        PATIENCE_MS = 120000,
        STEP_MS = 20,
        ROUNDS = 3,
        REVERTED_MS = 600000,
        LOOK_MS = 1000,
        FILES = 20,
};

static const char *const bad_commands[] = { "exits", "never" };

/* One run. */
static SimMachine *host; /* of the directory */
static char *folder;
static unsigned n_texts, n_reverted, n_requested;

static Registry *registry(void) {
        UNTIL("there-is-a-leader", cluster_leader(cluster));
        return daemon_host(cluster_leader(cluster)->daemon)->registry;
}

static const ClusterUnit *unit_of(const char *name) {
        return cluster_any_unit(registry_cluster(registry()), name);
}

/* Write the file, and return the hash of its text. */
static const char *write_text(const char *name, const char *command) {
        static char hash[UNIT_HASH_SIZE];
        _cleanup_text_ Text text = {};
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_free_ char *path = NULL;
        struct timespec times[2];

        text_printf(&text,
                    "[Service]\nExecStart=/bin/%s %u\nTimeoutStartSec=10s\n[X-Fleet]\nGlobal=yes\n"
                    "UpdateWatchSec=2s\nUpdateOnFailure=revert\n",
                    command, ++n_texts);
        if (text.error < 0 || unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        snprintf(hash, sizeof(hash), "%s", unit->hash);
        world_trace(world, "people", "%s: %s (%.7s)", name, command, hash);
        path = scratch_path(folder, name);
        scratch_write(path, text.chars);
        /* Two writes of virtual seconds may be of one tick of the file system. */
        times[0] = times[1] = (struct timespec) { .tv_sec = (time_t) (world_now_ms(world) / 1000),
                                                  .tv_nsec = (long) (world_now_ms(world) % 1000 * 1000000) };
        if (utimensat(AT_FDCWD, path, times, 0) < 0)
                abort();
        return hash;
}

static bool wants(const char *name, const char *hash) {
        const ClusterUnit *u = unit_of(name);

        return u && u->unit && streq(u->unit->hash, hash);
}

static bool runs_everywhere(const char *name, const char *hash) {
        for (unsigned i = 0; i < cluster->n; i++) {
                const char *running = sim_systemd_hash(cluster->machines[i].systemd, name);

                if (!running || !streq(running, hash))
                        return false;
        }
        return true;
}

static bool is_completed(const char *name, const char *hash) {
        const ClusterUnit *u = unit_of(name);

        return u && u->rollout && u->rollout->state == ROLLOUT_DONE &&
               streq(u->rollout->completed.hash, hash);
}

static const ClusterProblem *problem_of(const char *name) {
        return cluster_problem(registry_cluster(registry()), host->machine_id, name);
}

static bool is_reverted(const char *name, const char *good) {
        const ClusterProblem *p = problem_of(name);

        return wants(name, good) && p && p->problem.kind == PROBLEM_REVERTED && !p->problem.confirmed;
}

static void on_start(void *userdata) {
        SimMachine *m = userdata;

        if (m->dying)
                world_at(world, STEP_MS, NULL, on_start, m);
        else if (!m->daemon)
                machine_start_daemon(m);
}

/* A leader ends, or the host of the directory, or any. */
static void fault(void) {
        SimMachine *m = world_chance(world, 40) ? host :
                        world_chance(world, 50) ? cluster_leader(cluster) :
                                                  &cluster->machines[world_draw(world, cluster->n)];

        if (!m || !m->daemon || m->dying)
                return;
        machine_crash_daemon(m);
        world_at(world, 100 + world_draw(world, 2000), NULL, on_start, m);
}

/* For ten minutes, nothing submits the text again. */
static void check_stays_reverted(const char *name, const char *good) {
        uint64_t end_ms = world_now_ms(world) + REVERTED_MS;

        while (world_now_ms(world) < end_ms) {
                run_ms(LOOK_MS);
                if (world_chance(world, 1))
                        fault();
                if (cluster_leader(cluster) && unit_of(name) && !wants(name, good))
                        world_failed(world, "a-reverted-file-is-not-submitted-again", "%s has another text",
                                     name);
        }
        UNTIL("the-reverted-file-is-a-problem", is_reverted(name, good));
}

static void on_answer(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(bool *) userdata = status == KV_OK;
}

/* fleetctl directory retry */
static void request_again(const char *name) {
        bool done = false;

        while (!done) {
                const ClusterProblem *p = problem_of(name);
                ProblemChange change = { .machine = host->machine_id, .name = name };
                Problem problem;

                if (!p || p->problem.confirmed)
                        return;
                problem = p->problem;
                problem.confirmed = true;
                change.problem = &problem;
                change.expected_index = p->index;
                if (registry_change_directory(registry(), NULL, 0, &change, 1, on_answer, &done) < 0)
                        abort();
                run_ms(200);
        }
        n_requested++;
}

/* A rollout of a good text fails, too, if systemd refuses a start: it is requested again then. */
static bool is_refused(const char *name) {
        const ClusterProblem *p = problem_of(name);
        bool reverted = p && p->problem.kind == PROBLEM_REVERTED && !p->problem.confirmed;

        if (reverted)
                request_again(name);
        return reverted;
}

static void play_round(const char *name, char good[static UNIT_HASH_SIZE]) {
        char bad[UNIT_HASH_SIZE];

        snprintf(bad, sizeof(bad), "%s", write_text(name, bad_commands[world_draw(world, 2)]));
        UNTIL("a-file-is-submitted", wants(name, bad));
        if (world_chance(world, 30))
                fault();
        UNTIL("a-bad-file-is-reverted", is_reverted(name, good));
        n_reverted++;
        check_stays_reverted(name, good);
        UNTIL("the-former-text-runs", runs_everywhere(name, good));
        if (world_chance(world, 50)) {
                uint64_t before = unit_of(name)->index;

                request_again(name);
                UNTIL("a-file-is-submitted-on-request", unit_of(name)->index > before);
                UNTIL("a-bad-file-is-reverted", is_reverted(name, good));
        }
        snprintf(good, UNIT_HASH_SIZE, "%s", write_text(name, "good"));
        UNTIL("the-next-good-file-is-rolled-out",
              !is_refused(name) && runs_everywhere(name, good) && is_completed(name, good));
        UNTIL("its-problem-ends", !problem_of(name));
}

static bool is_formed(void) {
        SimMachine *leader = cluster_leader(cluster);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        unsigned up = 0;

        for (const ClusterMachine *m = view ? view->machines : NULL; m; m = m->hh.next)
                up += m->presence == PRESENCE_UP;
        return up == cluster->n;
}

/* The budget of each is one machine. */
static void twenty_files_at_once(void) {
        char names[FILES][32], hashes[2][FILES][UNIT_HASH_SIZE];

        for (unsigned round = 0; round < 2; round++) {
                unsigned n_done = 0;

                for (unsigned i = 0; i < FILES; i++) {
                        snprintf(names[i], sizeof(names[i]), "f%u.service", i);
                        snprintf(hashes[round][i], UNIT_HASH_SIZE, "%s", write_text(names[i], "good"));
                }
                for (uint64_t end_ms = world_now_ms(world) + PATIENCE_MS; n_done < FILES;) {
                        if (world_now_ms(world) > end_ms)
                                world_failed(world, "twenty-files-are-rolled-out", "%u of them", n_done);
                        run_ms(STEP_MS);
                        n_done = 0;
                        for (unsigned i = 0; i < FILES; i++) {
                                unsigned n_up = 0;

                                for (unsigned k = 0; k < cluster->n; k++)
                                        n_up += sim_systemd_runs(cluster->machines[k].systemd, names[i]);
                                if (round > 0 && n_up + 1 < cluster->n)
                                        world_failed(world, "each-rollout-keeps-its-budget",
                                                     "%s runs on %u hosts", names[i], n_up);
                                n_done += !is_refused(names[i]) &&
                                          runs_everywhere(names[i], hashes[round][i]);
                        }
                }
                run_ms(5000);
        }
}

static void play(void) {
        static const char name[] = "a.service";
        char good[UNIT_HASH_SIZE];

        scratch_free(folder);
        folder = scratch_new();
        cluster = cluster_new(world, 3);
        host = &cluster->machines[world_draw(world, cluster->n)];
        free(host->settings.unit_directory);
        host->settings.unit_directory = strdup(folder);
        for (unsigned i = 0; i < cluster->n; i++) {
                world_at(world, i * 100, NULL, on_start, &cluster->machines[i]);
                machine_suspect(&cluster->machines[i], world_now_ms(world), UINT64_MAX);
        }
        UNTIL("a-cluster-forms", is_formed());
        run_ms(2000);
        snprintf(good, sizeof(good), "%s", write_text(name, "good"));
        UNTIL("a-good-file-runs", wants(name, good) && runs_everywhere(name, good));
        run_ms(5000);
        for (unsigned i = 0; i < ROUNDS; i++)
                play_round(name, good);
        twenty_files_at_once();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play };
        unsigned long long runs = worlds_run("tests/sim/test-directory", (Seeds) { .seed = 1, .runs = 2 },
                                             trace_message, scenarios, ELEMENTS(scenarios), argc, argv);

        scratch_free(folder);
        if (runs == 0)
                return 2;
        printf("%llu runs: %u files reverted, %u submitted again on request\n", runs, n_reverted,
               n_requested);
        return n_reverted > 0 ? 0 : 1;
}
