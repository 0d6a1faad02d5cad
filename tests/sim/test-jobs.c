/* Units of each class through a boot, a power cut, a drain, a move, an edit, a stop and their removal: whole
 * daemons, and units that trigger or require each other.
 *
 *      test-jobs [--seed N] [--runs N] [--trace]
 */

#include "tests/sim/play.h"

enum { HOSTS = 3, PATIENCE_MS = 90000, STEP_MS = 20, AFTER_MS = 5000 };

static unsigned n_jobs;       /* runs of a oneshot that a daemon began */
static const char *main_unit; /* of the cell of the table that is tested now, */
static unsigned n_starts;     /* and how often a daemon has started it since its event */

static const char job[] = "[Service]\nType=oneshot\nExecStart=/bin/ends 1\n";
static const char serve[] = "[Service]\nExecStart=/bin/good 1\n";

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        check_message(cluster, fields, message);
}

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
        n_starts += main_unit && streq(unit, main_unit);
}

static const Cluster *view(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader && registry_ready(daemon_host(leader->daemon)->registry) ?
                       registry_cluster(daemon_host(leader->daemon)->registry) :
                       NULL;
}

static Registry *registry(void) {
        UNTIL("there-is-a-leader", view());
        return daemon_host(cluster_leader(cluster)->daemon)->registry;
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
        for (unsigned i = 0; i < HOSTS; i++) { /* a start that is refused at random makes another outcome */
                sim_systemd_refuse_none(cluster->machines[i].systemd);
                world_at(world, i * 100, NULL, on_host, &cluster->machines[i]);
        }
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

/* 'next': NULL ends the maintenance. */
static void maintain(SimMachine *m, const MaintenanceRecord *next) {
        static int done;

        do {
                Registry *r = registry();
                const ClusterMachine *machine = cluster_machine(registry_cluster(r), m->machine_id);

                done = 0;
                if ((next ? registry_maintain(r, 0, machine, next, "drain", on_done, &done) :
                            registry_end_maintenance(r, machine, "root@sim", "ends", on_done, &done)) < 0)
                        abort();
                UNTIL("a-request-is-answered", done != 0);
        } while (done < 0);
}

static void drain(SimMachine *m) {
        maintain(m, &(MaintenanceRecord) { .by = "root@sim", .mode = MAINTENANCE_DRAINING });
        UNTIL("a-drain-ends", is_drained(m));
        run_ms(AFTER_MS);
}

static void lose(SimMachine *m) {
        machine_power_cut(m);
        UNTIL("a-host-is-lost", known(m) && presence_is_down(known(m)->presence));
        run_ms(AFTER_MS);
}

/* -- Scenarios -- */

/* A unit whose trigger stays on the drained host, or has to leave it first, runs on another one, and only
 * there. */
static void a_drain_ends_for_a_unit_and_its_trigger(void) {
        static const struct {
                const char *unit, *trigger;
                bool force, stays;
        } pairs[] = {
                { "", "" },
                { "Move=stop-first\n", "" },
                { "Move=stop-first\n", "MachineOf=a.service\n" },
                { "Singleton=yes\n", "" },
                { "Move=no\n", "Move=no\n", .force = true },
                { "", "Move=no\n", .stays = true },
                { "", "MachineID=" },
        };
        char text[512], name[64];

        form();
        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                MaintenanceRecord next = { .by = "root@sim", .mode = MAINTENANCE_DRAINING };
                SimMachine *m;

                snprintf(name, sizeof(name), "pair-%zu-leaves", i);
                snprintf(text, sizeof(text), "%s[X-Fleet]\n%s", serve, pairs[i].unit);
                submit("a.service", text, TARGET_LAUNCHED);
                UNTIL(name, n_running("a.service") == 1);
                m = host_of("a.service");
                snprintf(text, sizeof(text), "[Socket]\nListenStream=7778\n[X-Fleet]\n%s%s", pairs[i].trigger,
                         streq(pairs[i].trigger, "MachineID=") ? m->machine_id : "");
                submit("a.socket", text, TARGET_LAUNCHED);
                UNTIL(name, n_running("a.socket") == 1);
                next.force = pairs[i].force;
                maintain(m, &next);
                UNTIL(name, (pairs[i].stays || is_drained(m)) && n_running("a.service") == 1 &&
                                    !sim_systemd_runs(m->systemd, "a.service"));
                if (sim_systemd_runs(m->systemd, "a.socket") != pairs[i].stays)
                        world_failed(world, name, "its trigger %s",
                                     pairs[i].stays ? "has left" : "runs on the former host");
                for (int k = 0; k < 2; k++)
                        request(&(UnitChange) { .name = k == 0 ? "a.socket" : "a.service", .remove = true });
                UNTIL(name, n_running("a.service") == 0 && n_running("a.socket") == 0);
                maintain(m, NULL);
        }
}

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

        /* A run that failed is what the cluster knows when the text is edited, and another one has begun. */
        sim_systemd_end(m->systemd, "sock.service");
        run_ms(AFTER_MS);
        machine_crash_daemon(m);
        run_ms(500);
        sim_systemd_trigger(m->systemd, "sock.socket");
        run = sim_systemd_invocation(m->systemd, "sock.service");
        submit("sock.service", "[Service]\nExecStart=/bin/good 3\n", TARGET_LOADED);
        run_ms(AFTER_MS);
        machine_start_daemon(m);
        run_ms(4 * AFTER_MS);
        CHECK("the-next-run-goes-on", sim_systemd_runs(m->systemd, "sock.service") &&
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

/* -- Each class and state, and each event -- */

typedef enum Event {
        EVENT_BOOT,
        EVENT_POWER_CUT,
        EVENT_DRAIN,
        EVENT_MOVE,
        EVENT_EDIT,
        EVENT_STOP,
        EVENT_DESTROY,
        _EVENT_MAX,
} Event;

static const char *const event_names[] = { "boot", "power cut", "drain", "move", "edit", "stop", "destroy" };

typedef enum Reach {
        REACH_RUNS,
        REACH_FINISHES,
        REACH_FAILS,
        REACH_LOADED,
        REACH_TRIGGERED, /* it is loaded, and its socket has started it */
        REACH_ENDED,     /* it has run, and ended by itself */
        REACH_ASSIGNED,  /* its host has no contact to systemd */
} Reach;

#define JOB   "[Service]\nType=oneshot\nExecStart=/bin/ends "
#define SERVE "[Service]\nExecStart=/bin/good "

/* A unit in one state, and what is left of it some time after each event: on which host its file is, and
 * whether it is active there, how often a daemon has started it for that, and the same of its trigger. */
static const struct {
        const char *class_and_state, *unit, *text, *edited;
        Reach state;
        const char *trigger, *trigger_text, *lead, *lead_text; /* 'lead' is started before it; or NULL */
        const char *outcomes[_EVENT_MAX];
} cells[] = {
        { "work that ends, running", "a.service", SERVE "1\n", SERVE "2\n", REACH_RUNS,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "work that ends, finished", "a.service", JOB "1\n", JOB "2\n", REACH_FINISHES,
          .outcomes = { "there finished 0", "elsewhere finished 0", "elsewhere finished 0",
                        "elsewhere finished 0", "there finished 0", "there inactive 0", "gone 0" } },
        { "work that ends, finished, with a path", "a.service", JOB "1\n", JOB "2\n", REACH_FINISHES,
          "a.path", "[Path]\nPathExists=/srv/a\n",
          .outcomes = { "there finished 0, there active", "elsewhere finished 0, elsewhere active",
                        "elsewhere finished 0, elsewhere active", "elsewhere finished 0, elsewhere active",
                        "there finished 0, there active", "there inactive 0, there active",
                        "gone 0, there active" } },
        { "work that ends, failed", "a.service", "[Service]\nExecStart=/bin/exits 1\n", JOB "2\n",
          REACH_FAILS,
          .outcomes = { "there failed 1", "elsewhere failed 1", "elsewhere failed 1", "elsewhere failed 1",
                        "there finished 1", "there failed 0", "gone 0" } },
        { "work that ends, loaded", "a.service", JOB "1\n", JOB "2\n", REACH_LOADED,
          .outcomes = { "there inactive 0", "elsewhere inactive 0", "elsewhere inactive 0",
                        "elsewhere inactive 0", "there inactive 0", "there inactive 0", "gone 0" } },
        { "work that ends, triggered", "a.service", SERVE "1\n", SERVE "2\n", REACH_TRIGGERED, "a.socket",
          "[Socket]\nListenStream=7778\n",
          .outcomes = { "there inactive 0, there active", "elsewhere inactive 0, elsewhere active",
                        "elsewhere inactive 0, elsewhere active", "elsewhere inactive 0, elsewhere active",
                        "there active 0, there active", "there inactive 0, there active",
                        "gone 0, there active" } },
        { "work that ends, assigned", "a.service", SERVE "1\n", SERVE "2\n", REACH_ASSIGNED,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "work that does not end, running", "a.service", SERVE "1\nRestart=always\n",
          SERVE "2\nRestart=always\n", REACH_RUNS,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "work that does not end, of a oneshot that remains", "a.service", JOB "1\nRemainAfterExit=yes\n",
          JOB "2\nRemainAfterExit=yes\n", REACH_RUNS,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "trigger, running", "a.timer", "[Timer]\nOnUnitInactiveSec=3\n", "[Timer]\nOnUnitInactiveSec=4\n",
          REACH_RUNS, .lead = "a.service", .lead_text = JOB "1\n",
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "there active 0",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "trigger, assigned", "a.path", "[Path]\nPathExists=/srv/a\n", "[Path]\nPathExists=/srv/b\n",
          REACH_ASSIGNED, .lead = "a.service", .lead_text = JOB "1\n",
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "there active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "mount, running", "srv-a.mount", "[Mount]\nWhat=tmpfs\nWhere=/srv/a\n",
          "[Mount]\nWhat=none\nWhere=/srv/a\n", REACH_RUNS,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "mount, ended", "srv-a.mount", "[Mount]\nWhat=tmpfs\nWhere=/srv/a\n",
          "[Mount]\nWhat=none\nWhere=/srv/a\n", REACH_ENDED,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
        { "mount, running, with an automount", "srv-a.mount", "[Mount]\nWhat=tmpfs\nWhere=/srv/a\n",
          "[Mount]\nWhat=none\nWhere=/srv/a\n", REACH_RUNS, "srv-a.automount", "[Automount]\nWhere=/srv/a\n",
          .outcomes = { "there active 1, there active", "elsewhere active 1, elsewhere active",
                        "elsewhere active 1, elsewhere active", "elsewhere active 1, elsewhere active",
                        "there active 1, there active", "there inactive 0, there active",
                        "gone 0, there active" } },
        { "target, running", "a.target", "[Unit]\nDescription=1\n", "[Unit]\nWants=b.service\n", REACH_RUNS,
          .outcomes = { "there active 1", "elsewhere active 1", "elsewhere active 1", "elsewhere active 1",
                        "there active 1", "there inactive 0", "gone 0" } },
};

static void cell_append(char *ret, size_t size, const char *unit, const SimMachine *home, bool starts) {
        const ClusterUnit *u = cluster_any_unit(view(), unit);
        const char *state = "inactive", *place = "gone";
        unsigned n_files = 0;
        size_t n = strlen(ret);

        for (unsigned i = 0; i < HOSTS; i++) {
                const SimMachine *m = &cluster->machines[i];

                if (!m->power)
                        continue;
                if (sim_systemd_runs(m->systemd, unit) && !sim_systemd_has(m->systemd, unit))
                        place = "orphaned";
                if (!sim_systemd_has(m->systemd, unit))
                        continue;
                place = n_files++ > 0 ? "twice" : m == home ? "there" : "elsewhere";
        }
        if (n_running(unit) > 0)
                state = "active";
        for (const ClusterState *s = u ? LIST_FIRST(&u->states) : NULL; s; s = LIST_NEXT(s, of_unit))
                if (s->machine->presence == PRESENCE_UP && n_running(unit) == 0)
                        state = s->state.done                    ? "finished" :
                                streq(s->state.active, "failed") ? "failed" :
                                                                   state;
        snprintf(ret + n, size - n, "%s%s%s%s", n > 0 ? ", " : "", place, n_files > 0 ? " " : "",
                 n_files > 0 ? state : "");
        n = strlen(ret);
        if (starts)
                snprintf(ret + n, size - n, " %u", n_starts);
}

static bool has_reached(const char *unit, Reach state) {
        const UnitState *s = state_of(unit);

        if (!s)
                return false;
        if (state == REACH_FINISHES)
                return s->done;
        if (state == REACH_FAILS)
                return streq(s->active, "failed");
        if (state == REACH_LOADED || state == REACH_TRIGGERED)
                return streq(s->load, "loaded");
        return streq(s->active, "active");
}

static SimMachine *cell_begin(size_t i) {
        bool loaded = cells[i].state == REACH_LOADED || cells[i].state == REACH_TRIGGERED;
        SimMachine *home;

        form();
        main_unit = cells[i].unit;
        if (cells[i].lead) {
                submit(cells[i].lead, cells[i].lead_text, TARGET_LAUNCHED);
                UNTIL("the-lead-finishes", has_reached(cells[i].lead, REACH_FINISHES));
        }
        if (cells[i].state == REACH_ASSIGNED) /* of hosts with equal loads, the first one is chosen */
                sim_systemd_drop_bus(cluster->machines[0].systemd, 10000);
        submit(cells[i].unit, cells[i].text, loaded ? TARGET_LOADED : TARGET_LAUNCHED);
        if (cells[i].state == REACH_ASSIGNED) {
                run_ms(1000);
                n_starts = 0;
                return &cluster->machines[0];
        }
        UNTIL("the-state-is-reached", has_reached(cells[i].unit, cells[i].state));
        home = host_of(cells[i].unit);
        if (cells[i].trigger) {
                submit(cells[i].trigger, cells[i].trigger_text, TARGET_LAUNCHED);
                UNTIL("its-trigger-runs", n_running(cells[i].trigger) == 1);
        }
        if (cells[i].state == REACH_TRIGGERED) {
                sim_systemd_trigger(home->systemd, cells[i].trigger);
                UNTIL("it-is-triggered", sim_systemd_runs(home->systemd, cells[i].unit));
        }
        if (cells[i].state == REACH_ENDED)
                sim_systemd_finish(home->systemd, cells[i].unit);
        run_ms(1000);
        n_starts = 0;
        return home;
}

static void cell_move(const char *unit, const SimMachine *from) {
        static int done;
        Registry *r = registry();
        MoveRecord move = { .by = "root@sim", .since_ms = world_now_ms(world) };

        memcpy(move.to, cluster->machines[(from->index + 1) % HOSTS].machine_id, sizeof(move.to));
        if (registry_move(r, cluster_unit(registry_cluster(r), unit), &move, on_done, &done) < 0)
                abort();
        run_ms(2 * AFTER_MS);
        UNTIL("a-move-ends", view() && LIST_EMPTY(&view()->lists[CLUSTER_MOVING]));
}

static void cell_event(size_t i, SimMachine *home, Event event) {
        bool loaded = cells[i].state == REACH_LOADED || cells[i].state == REACH_TRIGGERED;
        UnitChange change = { .name = cells[i].unit };

        switch (event) {
        case EVENT_BOOT:
                boot(home);
                break;
        case EVENT_POWER_CUT:
                lose(home);
                break;
        case EVENT_DRAIN:
                drain(home);
                break;
        case EVENT_MOVE:
                cell_move(cells[i].unit, home);
                break;
        case EVENT_EDIT:
                submit(cells[i].unit, cells[i].edited, loaded ? TARGET_LOADED : TARGET_LAUNCHED);
                break;
        case EVENT_STOP:
                change.has_target = true;
                change.target = TARGET_LOADED;
                request(&change);
                break;
        default:
                change.remove = true;
                request(&change);
                break;
        }
        run_ms(4 * AFTER_MS);
}

/* An edited text is in force everywhere, also of what does not run. */
static bool has_former_text(const char *unit, const SimMachine *home) {
        const ClusterUnit *u = cluster_any_unit(view(), unit);
        const ClusterState *s = cluster_state(view(), home->machine_id, unit);

        return !u || !u->unit || !s || !s->state.hash || !streq(s->state.hash, u->unit->hash);
}

static void each_cell_of_the_classes_has_its_outcome(size_t i, Event event) {
        char outcome[128] = "", name[128];
        SimMachine *home = cell_begin(i);

        cell_event(i, home, event);
        cell_append(outcome, sizeof(outcome), cells[i].unit, home, true);
        if (cells[i].trigger)
                cell_append(outcome, sizeof(outcome), cells[i].trigger, home, false);
        main_unit = NULL;
        snprintf(name, sizeof(name), "%s: %s", cells[i].class_and_state, event_names[event]);
        if (event == EVENT_EDIT && has_former_text(cells[i].unit, home))
                world_failed(world, name, "its file has the former text");
        if (!streq(outcome, cells[i].outcomes[event]))
                world_failed(world, name, "%s, not %s", outcome, cells[i].outcomes[event]);
}

static void (*const scenarios[])(void) = {
        a_drain_ends_for_a_unit_and_its_trigger,
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

static void in_world(const Seeds *o, uint64_t seed, void (*scenario)(void), size_t cell, Event event) {
        World *w = world_new(seed, o->trace);

        world_set_replay(w, "tests/sim/test-jobs");
        world = w;
        if (scenario)
                scenario();
        else
                each_cell_of_the_classes_has_its_outcome(cell, event);
        world = NULL;
        cluster_free(cluster);
        world_free(w);
}

int main(int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = 1 };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);

        for (uint64_t i = 0; i < o.runs; i++) {
                for (size_t k = 0; k < ELEMENTS(scenarios); k++)
                        in_world(&o, o.seed + i, scenarios[k], 0, 0);
                for (size_t k = 0; k < ELEMENTS(cells) * _EVENT_MAX; k++)
                        in_world(&o, o.seed + i, NULL, k / _EVENT_MAX, (Event) (k % _EVENT_MAX));
        }
        printf("%llu times %zu scenarios and %zu cells: units of each class go where they are wanted, and "
               "jobs "
               "run once\n",
               (unsigned long long) o.runs, ELEMENTS(scenarios), ELEMENTS(cells) * _EVENT_MAX);
        return 0;
}
