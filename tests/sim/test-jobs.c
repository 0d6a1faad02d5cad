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

static bool connects; /* clients connect to the socket on all hosts each 0.4 s */

static void on_client(void *userdata) {
        if (!connects || !world)
                return;
        for (unsigned i = 0; i < HOSTS; i++)
                sim_systemd_trigger(cluster->machines[i].systemd, "sock.socket");
        world_at(world, 400, NULL, on_client, NULL);
}

static void nothing_is_left_where_a_socket_was(void) {
        SimMachine *m;

        form();
        submit("sock.service", serve, TARGET_LOADED);
        submit("sock.socket", "[Socket]\nListenStream=7778\n[X-Fleet]\nMachineOf=sock.service\n",
               TARGET_LAUNCHED);
        UNTIL("a-socket-listens", n_running("sock.socket") == 1);
        m = host_of("sock.socket");
        connects = true;
        on_client(NULL);
        UNTIL("a-client-starts-the-service", sim_systemd_runs(m->systemd, "sock.service"));
        drain(m);
        UNTIL("the-socket-is-elsewhere", n_running("sock.socket") == 1 && n_running("sock.service") == 1);
        run_ms(AFTER_MS);
        connects = false;
        CHECK("nothing-is-left-there", !sim_systemd_runs(m->systemd, "sock.service") &&
                                               !sim_systemd_has(m->systemd, "sock.service") &&
                                               !sim_systemd_has(m->systemd, "sock.socket"));
}

static void a_timer_with_a_job_that_follows_it_survives_a_power_cut(void) {
        form();
        submit("job.timer", "[Timer]\nOnUnitActiveSec=3\n", TARGET_LAUNCHED);
        submit("job.service",
               "[Service]\nType=oneshot\nExecStart=/bin/ends 1\n[X-Fleet]\nMachineOf=job.timer\n",
               TARGET_LAUNCHED);
        UNTIL("a-timer-runs", n_running("job.timer") == 1);
        run_ms(AFTER_MS);
        lose(host_of("job.timer"));
        UNTIL("the-timer-runs-elsewhere", n_running("job.timer") == 1);
}

static const UnitState *state_of(const char *unit) {
        const ClusterUnit *u = view() ? cluster_any_unit(view(), unit) : NULL;
        const ClusterState *s = u ? LIST_FIRST(&u->states) : NULL;

        return s ? &s->state : NULL;
}

static void a_timer_without_its_service_is_refused_until_that_is_there(void) {
        form();
        submit("lone.timer", "[Timer]\nOnActiveSec=3\n", TARGET_LAUNCHED);
        UNTIL("the-refusal-is-shown",
              state_of("lone.timer") && streq(state_of("lone.timer")->job, "refused"));
        CHECK("it-has-the-reason",
              strstr(state_of("lone.timer")->reason, "lone.service to trigger not loaded"));
        run_ms(PATIENCE_MS);
        submit("lone.service", job, TARGET_LOADED);
        UNTIL("it-runs-when-its-service-is-loaded", n_running("lone.timer") == 1);
}

static void an_edit_ends_no_run_of_a_loaded_unit(void) {
        SimMachine *m;
        uint64_t run;

        form();
        submit("sock.service", serve, TARGET_LOADED);
        submit("sock.socket", "[Socket]\nListenStream=7778\n", TARGET_LAUNCHED);
        UNTIL("a-socket-listens", n_running("sock.socket") == 1);
        m = host_of("sock.socket");
        sim_systemd_trigger(m->systemd, "sock.socket");
        run_ms(1000);
        run = sim_systemd_invocation(m->systemd, "sock.service");
        submit("sock.service", "[Service]\nExecStart=/bin/good 2\n", TARGET_LOADED);
        run_ms(4 * AFTER_MS);
        CHECK("the-run-goes-on", sim_systemd_runs(m->systemd, "sock.service") &&
                                         sim_systemd_invocation(m->systemd, "sock.service") == run);
}

static void a_mount_that_ended_has_not_finished(void) {
        form();
        submit("srv-d.mount", "[Mount]\nWhat=tmpfs\nWhere=/srv/d\n", TARGET_LAUNCHED);
        UNTIL("it-is-mounted", n_running("srv-d.mount") == 1);
        sim_systemd_finish(host_of("srv-d.mount")->systemd, "srv-d.mount");
        run_ms(AFTER_MS);
        CHECK("it-is-a-problem", state_of("srv-d.mount")->reason && !state_of("srv-d.mount")->done);
        lose(host_of("srv-d.mount"));
        UNTIL("it-is-mounted-elsewhere", n_running("srv-d.mount") == 1);
}

static void a_job_of_each_host_runs_in_each_boot(void) {
        form();
        submit("job.service", "[Service]\nType=oneshot\nExecStart=/bin/ends 1\n[X-Fleet]\nGlobal=true\n",
               TARGET_LAUNCHED);
        UNTIL("all-run", n_jobs == HOSTS && has_finished("job.service"));
        boot(&cluster->machines[1]);
        UNTIL("it-runs-in-the-next-boot", n_jobs == HOSTS + 1);
        machine_crash_daemon(&cluster->machines[1]);
        run_ms(1000);
        machine_start_daemon(&cluster->machines[1]);
        run_ms(PATIENCE_MS);
        CHECK("it-runs-once-in-a-boot", n_jobs == HOSTS + 1);
}

static void (*const scenarios[])(void) = {
        nothing_is_left_where_a_socket_was,
        a_timer_with_a_job_that_follows_it_survives_a_power_cut,
        a_timer_without_its_service_is_refused_until_that_is_there,
        an_edit_ends_no_run_of_a_loaded_unit,
        a_mount_that_ended_has_not_finished,
        a_job_of_each_host_runs_in_each_boot,
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
