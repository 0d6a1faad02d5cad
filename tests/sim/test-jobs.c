/* Units of each class through a boot, a power cut, a drain, a move, an edit, a stop and their removal: whole
 * daemons, and units that trigger or require each other.
 *
 *      test-jobs [--seed N] [--runs N] [--trace]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/sim/cluster.h"
#include "tests/sim/seeds.h"

enum { HOSTS = 3, PATIENCE_MS = 90000, STEP_MS = 20, AFTER_MS = 5000 };

static World *world;
static SimCluster *cluster;
static unsigned n_jobs; /* runs of a oneshot that a daemon began */

static const char job[] = "[Service]\nType=oneshot\nExecStart=/bin/ends 1\n";
static const char serve[] = "[Service]\nExecStart=/bin/good 1\n";

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        check_message(cluster, fields, message);
}

static void run_ms(uint64_t ms) {
        world_run(world, world_now_ms(world) + ms);
}

#define UNTIL(name, expression)                                                                   \
        do {                                                                                      \
                uint64_t until_ms_ = world_now_ms(world) + PATIENCE_MS;                           \
                while (!(expression)) {                                                           \
                        if (world_now_ms(world) > until_ms_)                                      \
                                world_failed(world, name, "not within %d s", PATIENCE_MS / 1000); \
                        run_ms(STEP_MS);                                                          \
                }                                                                                 \
        } while (false)

#define CHECK(name, expression)                                            \
        do {                                                               \
                if (!(expression))                                         \
                        world_failed(world, name, "not: %s", #expression); \
        } while (false)

static void on_host(void *userdata) {
        machine_start_daemon(userdata);
}

static void on_start(SimMachine *m, const char *unit) {
        n_jobs += streq(unit, "job.service");
}

static const Cluster *view(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader && registry_ready(daemon_registry(leader->daemon)) ?
                       registry_cluster(daemon_registry(leader->daemon)) :
                       NULL;
}

static Registry *registry(void) {
        UNTIL("there-is-a-leader", view());
        return daemon_registry(cluster_leader(cluster)->daemon);
}

static bool is_formed(void) {
        unsigned up = 0;

        for (const ClusterMachine *m = view() ? view()->machines : NULL; m; m = m->hh.next)
                up += m->presence == PRESENCE_UP && m->member.raft_id != 0 && m->facts;
        return up == HOSTS;
}

static void form(void) {
        cluster = cluster_new(world, HOSTS);
        cluster->on_start = on_start;
        cluster->drains = true;
        cluster->maintained_ms = UINT64_MAX / 2; /* units may move at any time */
        n_jobs = 0;
        for (unsigned i = 0; i < HOSTS; i++)
                world_at(world, i * 100, NULL, on_host, &cluster->machines[i]);
        UNTIL("a-cluster-forms", is_formed());
        run_ms(3000);
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(int *) userdata = status == KV_OK ? 1 : -1;
        if (status != KV_OK)
                world_trace(world, "people", "rejected: %s", message);
}

/* A request of a person, which a change of the leader may interrupt: repeated until it has taken effect. */
static void request(const UnitChange *change) {
        static int done;

        do {
                done = 0;
                if (registry_change_units(registry(), change, 1, on_done, &done) < 0)
                        abort();
                UNTIL("a-request-is-answered", done != 0);
        } while (done < 0);
}

static void submit(const char *name, const char *text, TargetState target) {
        UnitChange change = { .name = name, .has_target = true, .target = target };
        Unit *unit = NULL;

        if (unit_parse(name, text, strlen(text), &unit, NULL) < 0)
                abort();
        change.unit = unit;
        request(&change);
        unit_free(unit);
}

/* -- What the hosts have -- */

static unsigned n_running(const char *unit) {
        unsigned n = 0;

        for (unsigned i = 0; i < HOSTS; i++)
                n += sim_systemd_runs(cluster->machines[i].systemd, unit);
        return n;
}

static SimMachine *host_of(const char *unit) {
        for (unsigned i = 0; i < HOSTS; i++)
                if (sim_systemd_has(cluster->machines[i].systemd, unit))
                        return &cluster->machines[i];
        return NULL;
}

static const ClusterMachine *known(const SimMachine *m) {
        return view() ? cluster_machine(view(), m->machine_id) : NULL;
}

static bool has_finished(const char *unit) {
        const ClusterUnit *u = view() ? cluster_any_unit(view(), unit) : NULL;
        const ClusterState *s;
        unsigned n = 0, n_done = 0;

        for (s = u ? LIST_FIRST(&u->states) : NULL; s; s = LIST_NEXT(s, of_unit)) {
                n++;
                n_done += s->state.done;
        }
        return n > 0 && n == n_done;
}

/* -- What happens to a host -- */

static void boot(SimMachine *m) {
        machine_power_cut(m);
        run_ms(500);
        machine_power_on(m);
        UNTIL("a-host-is-back", known(m) && known(m)->presence == PRESENCE_UP);
        run_ms(AFTER_MS);
}

static bool is_drained(const SimMachine *m) {
        return known(m) && known(m)->maintenance && known(m)->maintenance->mode == MAINTENANCE_DRAINED;
}

static void drain(SimMachine *m) {
        MaintenanceRecord next = { .by = "root@sim", .mode = MAINTENANCE_DRAINING };
        static int done;

        do {
                Registry *r = registry();

                done = 0;
                if (registry_maintain(r, 0, cluster_machine(registry_cluster(r), m->machine_id), &next,
                                      "drain", on_done, &done) < 0)
                        abort();
                UNTIL("a-request-is-answered", done != 0);
        } while (done < 0);
        UNTIL("a-drain-ends", is_drained(m));
        run_ms(AFTER_MS);
}

static void lose(SimMachine *m) {
        machine_power_cut(m);
        UNTIL("a-host-is-lost", known(m) && presence_is_down(known(m)->presence));
        run_ms(AFTER_MS);
}

/* -- Scenarios -- */

static void what_requires_a_job_of_each_host_runs_after_a_boot(void) {
        char text[512];

        form();
        snprintf(text, sizeof(text), "%s[X-Fleet]\nGlobal=true\n", job);
        submit("job.service", text, TARGET_LAUNCHED);
        snprintf(text, sizeof(text),
                 "[Unit]\nRequires=job.service\nAfter=job.service\n%s[X-Fleet]\nGlobal=true\n", serve);
        submit("serve.service", text, TARGET_LAUNCHED);
        UNTIL("all-run", n_running("serve.service") == HOSTS && has_finished("job.service"));
        boot(&cluster->machines[1]);
        UNTIL("all-run-after-a-boot", n_running("serve.service") == HOSTS);
}

static void submit_timer(void) {
        form();
        submit("job.service", job, TARGET_LAUNCHED);
        UNTIL("the-job-finishes", has_finished("job.service"));
        submit("job.timer", "[Timer]\nOnUnitInactiveSec=3\n[X-Fleet]\nMachineOf=job.service\n",
               TARGET_LAUNCHED);
        UNTIL("a-timer-runs", n_running("job.timer") == 1);
        n_jobs = 0;
}

static void a_timer_of_a_finished_job_survives_a_power_cut(void) {
        submit_timer();
        lose(host_of("job.timer"));
        UNTIL("the-timer-runs-elsewhere", n_running("job.timer") == 1);
        CHECK("a-finished-job-is-not-run-again", n_jobs == 0);
}

static void a_timer_of_a_finished_job_leaves_a_drained_host(void) {
        SimMachine *m;

        submit_timer();
        m = host_of("job.timer");
        drain(m);
        CHECK("the-timer-runs-elsewhere",
              n_running("job.timer") == 1 && !sim_systemd_has(m->systemd, "job.timer"));
        UNTIL("the-job-is-elsewhere", !sim_systemd_has(m->systemd, "job.service") && host_of("job.service"));
        CHECK("a-finished-job-is-not-run-again", n_jobs == 0);
}

static void a_finished_job_follows_the_unit_that_requires_it(void) {
        char text[512];

        form();
        snprintf(text, sizeof(text), "[Unit]\nRequires=job.service\n%s", serve);
        submit("serve.service", text, TARGET_LAUNCHED);
        snprintf(text, sizeof(text), "%s[X-Fleet]\nMachineOf=serve.service\n", job);
        submit("job.service", text, TARGET_LAUNCHED);
        UNTIL("it-runs", n_running("serve.service") == 1 && has_finished("job.service"));
        n_jobs = 0;
        lose(host_of("serve.service"));
        UNTIL("it-runs-elsewhere", n_running("serve.service") == 1);
        CHECK("a-finished-job-is-not-run-again", n_jobs == 0);
}

static void (*const scenarios[])(void) = {
        what_requires_a_job_of_each_host_runs_after_a_boot,
        a_timer_of_a_finished_job_survives_a_power_cut,
        a_timer_of_a_finished_job_leaves_a_drained_host,
        a_finished_job_follows_the_unit_that_requires_it,
};

int main(int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = 1 };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);

        for (uint64_t i = 0; i < o.runs; i++)
                for (unsigned k = 0; k < ELEMENTS(scenarios); k++) {
                        World *w = world_new(o.seed + i, o.trace);

                        world_set_replay(w, "tests/sim/test-jobs");
                        world = w;
                        scenarios[k]();
                        world = NULL;
                        cluster_free(cluster);
                        world_free(w);
                }
        printf("%llu times %zu scenarios: units of each class go where they are wanted, and jobs run once\n",
               (unsigned long long) o.runs, ELEMENTS(scenarios));
        return 0;
}
