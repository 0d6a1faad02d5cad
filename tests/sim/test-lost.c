/* Which hosts a leader declares lost, and when. Whole daemons; every host that is recorded as lost for its
 * silence was silent, its kernel included, for three seconds (check_message() in tests/sim/invariants.c).
 *
 *      test-lost [--seed N] [--runs N] [--trace]
 */

#include "tests/sim/play.h"
#include "tests/lib/store_inside.h"

enum {
        PATIENCE_MS = 60000,
        STEP_MS = 5,
        PERIOD_MS = 2500, /* from the first of six ticks to the last */
        TICK_MS = 500,
        MOVE_MS = 1000,   /* from the decision that a host is lost to the start of its units elsewhere */
        RETURN_MS = 6000, /* from the end of a partition: back-off of the dialing, ReadIndex check, stop */
        CUTS = 20,
};

/* One run of one scenario. */
static const SimMachine *watched; /* a host, and what the last leader decided about it */
static uint64_t lost_ms;          /* when it was declared lost; 0: it was not */
static bool returned;             /* it was declared up after that */
static const char *options = "";  /* further lines of [X-Fleet] of units */
static unsigned n_decided;        /* how often its presence changed */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        check_message(cluster, fields, message);
        if (!watched || !fields->machine || !streq(fields->machine, watched->machine_id))
                return;
        n_decided += strstr(message, "machine ") == message;
        if (strstr(message, " is lost: "))
                lost_ms = world_now_ms(world);
        else if (strstr(message, " is up") && lost_ms > 0)
                returned = true;
}

static KvMemberRole role_of(const SimMachine *m) {
        KvState state = machine_state(m);

        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id == state.raft_id)
                        return state.members[i].role;
        return KV_MEMBER_SPARE;
}

/* All hosts have a replica and are up in the view of the leader, and three of them vote. */
static bool is_formed(void) {
        SimMachine *leader = cluster_leader(cluster);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        unsigned up = 0;

        for (const ClusterMachine *m = view ? view->machines : NULL; m; m = m->hh.next)
                up += m->presence == PRESENCE_UP && m->member.raft_id != 0;
        return up == cluster->n && machine_state(leader).n_voters == 3 &&
               machine_state(leader).n_voters_reachable == 3;
}

static void form(unsigned hosts) {
        options = "";
        watched = NULL;
        lost_ms = 0;
        returned = false;
        n_decided = 0;
        cluster = cluster_new(world, hosts);
        for (unsigned i = 0; i < hosts; i++)
                world_at(world, i * 100, NULL, machine_begin, &cluster->machines[i]);
        UNTIL("a-cluster-forms", is_formed());
        run_ms(2000); /* until all have the list of voters */
}

/* A host that is not 'a' nor 'b', which votes or not. */
static SimMachine *other_than(const SimMachine *a, const SimMachine *b, bool voter) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                if (m != a && m != b && (role_of(m) == KV_MEMBER_VOTER) == voter)
                        return m;
        }
        world_failed(world, "there-is-such-a-host", "none other %s", voter ? "votes" : "is a standby");
}

static void isolate(SimMachine *m, bool is_cut) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (&cluster->machines[i] != m)
                        sim_net_cut(cluster->net, m->host, cluster->machines[i].host, is_cut);
}

static bool leads_another(const SimMachine *than) {
        SimMachine *leader = cluster_leader(cluster);

        return leader && leader != than;
}

static void on_submitted(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* Submit a unit that requires this metadata, which 'm' alone has. */
static void submit_with(SimMachine *m, const char *name, const char *key) {
        MetadataChange here = { .machine = m->machine_id, .key = key, .value = "here" };
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        Registry *r = daemon_host(cluster_leader(cluster)->daemon)->registry;
        _cleanup_text_ Text text = {};
        Unit *unit = NULL;

        text_printf(&text, "[Service]\nExecStart=/bin/sleep 100\n[X-Fleet]\nMachineMetadata=%s=here\n%s", key,
                    options);
        if (unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_set_metadata(r, &here, 1, on_submitted, NULL) < 0 ||
            registry_change_units(r, &change, 1, on_submitted, NULL) < 0)
                abort();
        unit_free(unit);
        UNTIL("a-unit-runs", sim_systemd_runs(m->systemd, name));
}

/* A unit that runs on 'm' now, and may run on any host. */
static const char *submit_to(SimMachine *m) {
        static const char name[] = "a.service";
        MetadataChange there = { .key = "place", .value = "here" };
        Registry *r;

        submit_with(m, name, "place");
        r = daemon_host(cluster_leader(cluster)->daemon)->registry;
        for (unsigned i = 0; i < cluster->n; i++) {
                there.machine = cluster->machines[i].machine_id;
                if (registry_set_metadata(r, &there, 1, on_submitted, NULL) < 0)
                        abort();
        }
        run_ms(1000);
        return name;
}

static bool runs_elsewhere(const SimMachine *than, const char *unit) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (&cluster->machines[i] != than && sim_systemd_runs(cluster->machines[i].systemd, unit))
                        return true;
        return false;
}

static void transfer(SimMachine *to) {
        SimMachine *leader = cluster_leader(cluster);

        while (cluster_leader(cluster) != to) {
                if (leader->daemon)
                        (void) store_transfer(daemon_host(leader->daemon)->store, machine_state(to).raft_id);
                run_ms(STEP_MS);
        }
}

/* -- Scenarios -- */

/* The next leader begins at the last contact of the former one, and counts at least half a period itself. */
static void the_units_of_a_host_that_dies_with_the_leader_move_soon(void) {
        SimMachine *first, *h;
        const char *unit;
        uint64_t led_ms;

        form(5);
        first = cluster_leader(cluster);
        h = other_than(first, NULL, false);
        unit = submit_to(h);
        if (cluster_leader(cluster) != first)
                return;
        watched = h;
        run_ms(world_draw(world, TICK_MS));
        machine_power_cut(h);
        machine_crash_daemon(first); /* its kernel runs: only one host is lost, and the mass-failure brake
                                        does not hold the moves */
        UNTIL("another-leads", leads_another(first));
        led_ms = world_now_ms(world);
        UNTIL("a-host-that-died-is-lost", lost_ms > 0);
        if (lost_ms > led_ms + TICK_MS + PERIOD_MS)
                world_failed(world, "lost-after-six-ticks", "%llu ms after the election",
                             (unsigned long long) (lost_ms - led_ms));
        if (lost_ms + STEP_MS < led_ms + PERIOD_MS / 2)
                world_failed(world, "a-new-leader-counts-half-a-period", "lost %llu ms after the election",
                             (unsigned long long) (lost_ms - led_ms));
        UNTIL("its-units-move", runs_elsewhere(h, unit));
        if (world_now_ms(world) > lost_ms + MOVE_MS)
                world_failed(world, "its-units-move-soon", "%llu ms after it was lost",
                             (unsigned long long) (world_now_ms(world) - lost_ms));
}

/* Neither leader has had contact with it for three seconds, the second one although it could. */
static void a_host_that_was_cut_off_from_the_old_leader_alone_is_not_lost(void) {
        SimMachine *first, *h;

        form(5);
        first = cluster_leader(cluster);
        h = other_than(first, NULL, false);
        watched = h;
        sim_net_cut(cluster->net, h->host, first->host, true);
        run_ms(world_draw(world, PERIOD_MS - TICK_MS));
        machine_power_cut(first);
        UNTIL("another-leads", leads_another(first));
        run_ms(3 * PERIOD_MS);
        if (lost_ms > 0)
                world_failed(world, "a-running-host-is-not-lost", "%s was declared lost", h->name);
}

/* Without a leader no host gets the heartbeats of another one that hangs; its kernel is silent for less than
 * three seconds. */
static void time_without_a_leader_is_not_silence(void) {
        SimMachine *first, *a, *b, *h;

        form(5);
        first = cluster_leader(cluster);
        h = other_than(first, NULL, false);
        a = other_than(first, NULL, true);
        b = other_than(first, a, true);
        watched = h;
        sim_net_cut(cluster->net, a->host, b->host, true); /* neither of them has a majority */
        machine_crash_daemon(first);
        world_loop_pause(h->loop, 20000);
        run_ms(3000 + world_draw(world, TICK_MS));
        isolate(h, true);
        run_ms(world_draw(world, 1000));
        sim_net_cut(cluster->net, a->host, b->host, false);
        run_ms(2600 - 1000);
        isolate(h, false);
        run_ms(3 * PERIOD_MS);
        if (lost_ms > 0)
                world_failed(world, "a-running-host-is-not-lost", "%s was declared lost", h->name);
}

/* A host without a leader sends its heartbeats to all others. */
static void a_host_that_is_lost_stays_so_under_each_next_leader(void) {
        SimMachine *h;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        isolate(h, true);
        run_ms(2000);
        isolate(h, false);
        run_ms(3000);
        watched = h;
        machine_power_cut(h);
        UNTIL("a-host-that-died-is-lost", lost_ms > 0);
        run_ms(1000);
        for (unsigned i = 0; i < 2; i++) {
                transfer(other_than(cluster_leader(cluster), h, true));
                run_ms(PERIOD_MS);
                if (returned)
                        world_failed(world, "a-lost-host-stays-lost", "%s is declared up, and is off",
                                     h->name);
        }
}

/* It was away for most of its time, and then under another leader it returned. */
static void a_leader_that_leads_again_counts_from_the_beginning(void) {
        SimMachine *leader, *other, *h;
        unsigned n;

        form(3);
        leader = cluster_leader(cluster);
        h = other_than(leader, NULL, true);
        other = other_than(leader, h, true);
        watched = h;
        machine_crash_daemon(h);
        run_ms(20000);
        transfer(other);
        machine_start_daemon(h);
        run_ms(5000);
        n = n_decided;
        transfer(leader);
        run_ms(PERIOD_MS);
        if (n_decided > n)
                world_failed(world, "a-host-that-is-up-stays-up", "the presence of %s changed %u times",
                             h->name, n_decided - n);
}

/* Also a second time, when it was lost before. */
static void a_daemon_that_hangs_is_not_lost_while_its_kernel_answers(void) {
        SimMachine *h;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        watched = h;
        isolate(h, true);
        UNTIL("a-silent-host-is-lost", lost_ms > 0);
        isolate(h, false);
        UNTIL("a-host-with-contact-is-up", returned);
        lost_ms = 0;
        world_loop_pause(h->loop, 3 * PERIOD_MS);
        run_ms(4 * PERIOD_MS);
        if (lost_ms > 0)
                world_failed(world, "a-running-host-is-not-lost", "%s was declared lost", h->name);
}

/* Nor after its session has ended, when the handshake of the next one has no answer. */
static void a_daemon_that_hangs_without_a_session_is_not_lost(void) {
        SimMachine *h;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        watched = h;
        machine_crash_daemon(h);
        run_ms(1000);
        machine_start_daemon(h);
        world_loop_pause(h->loop, 3 * PERIOD_MS);
        run_ms(4 * PERIOD_MS);
        if (lost_ms > 0)
                world_failed(world, "a-running-host-is-not-lost", "%s was declared lost", h->name);
}

/* A kernel without a fleetd gives signs of life by the connections that it refuses. */
static void a_host_without_a_daemon_is_not_lost_by_a_link_that_fails_for_a_second(void) {
        SimMachine *h;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        watched = h;
        machine_stop_daemon(h);
        run_ms(10000);
        for (unsigned i = 0; i < CUTS; i++) {
                isolate(h, true);
                run_ms(1200);
                isolate(h, false);
                run_ms(4000 + world_draw(world, 2000));
        }
        if (lost_ms > 0)
                world_failed(world, "a-running-host-is-not-lost", "%s was declared lost", h->name);
}

/* A unit that waits for its lost host. Another one moves at once. */
static void a_unit_with_a_delay_moves_after_it(void) {
        enum { DELAY_MS = 20000 };
        bool returns = world_draw(world, 2) == 0;
        SimMachine *h;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        submit_with(h, "never.service", "never");
        options = "ReplaceAfterSec=20s\n";
        (void) submit_to(h);
        watched = h;
        machine_suspect(h, world_now_ms(world), world_now_ms(world) + 2 * PATIENCE_MS);
        machine_power_cut(h);
        UNTIL("a-host-that-died-is-lost", lost_ms > 0);
        run_ms(world_draw(world, DELAY_MS - 1000));
        if (world_draw(world, 2) == 0)
                transfer(
                        other_than(cluster_leader(cluster), h, true)); /* the next leader continues to wait */
        if (returns) {
                machine_power_on(h);
                UNTIL("its-units-run-again", sim_systemd_runs(h->systemd, "a.service"));
                run_ms(DELAY_MS);
                if (runs_elsewhere(h, "a.service"))
                        world_failed(world, "a-host-that-returns-in-time-keeps-its-unit", "a.service moved");
                return;
        }
        while (world_now_ms(world) < lost_ms + DELAY_MS - STEP_MS) {
                if (runs_elsewhere(h, "a.service"))
                        world_failed(world, "no-replacement-before-its-time", "%llu ms after the loss",
                                     (unsigned long long) (world_now_ms(world) - lost_ms));
                run_ms(STEP_MS);
        }
        UNTIL("its-units-move", runs_elsewhere(h, "a.service"));
        if (world_now_ms(world) > lost_ms + DELAY_MS + MOVE_MS)
                world_failed(world, "its-units-move-soon", "%llu ms after their time",
                             (unsigned long long) (world_now_ms(world) - lost_ms - DELAY_MS));
}

/* Until its host has contact again. Another unit of the host is not touched, and a daemon that stands still
 * for as long stops nothing. */
static void a_unit_that_stops_alone_stops_after_its_time(void) {
        enum { ALONE_MS = 20000, NOTICE_MS = 3000, TICKS_MS = 2000 };
        bool restarts = world_draw(world, 3) == 0;
        uint64_t cut_ms, process;
        SimMachine *h;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        options = "ReplaceAfterSec=25s\nOnPartition=stop\nStopAfterSec=20s\n";
        (void) submit_to(h);
        options = "";
        submit_with(h, "only.service", "only");
        run_ms(1000);
        process = sim_systemd_invocation(h->systemd, "only.service");
        watched = h;
        machine_suspect(h, world_now_ms(world), world_now_ms(world) + 4 * PATIENCE_MS);
        world_loop_pause(h->loop, 2 * ALONE_MS);
        run_ms(2 * ALONE_MS + 2000);
        if (!sim_systemd_runs(h->systemd, "a.service"))
                world_failed(world, "a-stall-stops-nothing", "a.service ended on %s", h->name);
        UNTIL("a-host-has-contact", machine_serves(h));
        run_ms(3000);

        isolate(h, true);
        cut_ms = world_now_ms(world);
        while (sim_systemd_runs(h->systemd, "a.service")) {
                if (runs_elsewhere(h, "a.service") ||
                    world_now_ms(world) > cut_ms + ALONE_MS + NOTICE_MS + TICKS_MS)
                        world_failed(world, "a-unit-alone-stops-before-its-replacement",
                                     "%llu ms after the partition began",
                                     (unsigned long long) (world_now_ms(world) - cut_ms));
                run_ms(STEP_MS);
        }
        if (world_now_ms(world) < cut_ms + ALONE_MS)
                world_failed(world, "a-unit-alone-stops-after-its-time", "%llu ms after the partition began",
                             (unsigned long long) (world_now_ms(world) - cut_ms));
        if (restarts) {
                machine_crash_daemon(h);
                run_ms(1000);
                machine_start_daemon(h);
                run_ms(2 * ALONE_MS); /* longer than BootWaitSec= */
                if (sim_systemd_runs(h->systemd, "a.service"))
                        world_failed(world, "a-unit-alone-starts-with-the-cluster", "a.service runs on %s",
                                     h->name);
        } else if (world_draw(world, 2) == 0) {
                isolate(h, false);
                UNTIL("it-starts-again",
                      sim_systemd_runs(h->systemd, "a.service") || runs_elsewhere(h, "a.service"));
        } else
                UNTIL("it-moves", runs_elsewhere(h, "a.service"));
        if (sim_systemd_invocation(h->systemd, "only.service") != process)
                world_failed(world, "other-units-run-on", "only.service was touched on %s", h->name);
}

static const ClusterMachine *seen_by_leader(const SimMachine *m) {
        SimMachine *leader = cluster_leader(cluster);

        return leader ? cluster_machine(registry_cluster(daemon_host(leader->daemon)->registry),
                                        m->machine_id) :
                        NULL;
}

static size_t n_members(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader ? machine_state(leader).n_members : 0;
}

static bool is_removed(const SimMachine *m) {
        const ClusterMachine *seen = seen_by_leader(m);

        return seen && cluster_machine_is_removed(seen);
}

static bool has_returned(const SimMachine *m) {
        const ClusterMachine *seen = seen_by_leader(m);

        return seen && seen->presence == PRESENCE_UP && seen->facts && n_members() == cluster->n;
}

static void remove_machine(const SimMachine *m) {
        if (registry_remove_machine(daemon_host(cluster_leader(cluster)->daemon)->registry, seen_by_leader(m),
                                    "root", NULL, on_submitted, NULL) < 0)
                abort();
        UNTIL("a-lost-machine-is-removed", is_removed(m) && n_members() == cluster->n - 1);
}

/* Its daemon may have been restarted meanwhile. A unit that only it may run continues; the copy of one that
 * runs elsewhere by now is stopped as soon as without the removal. */
static void a_removed_machine_returns_and_only_copies_are_stopped(void) {
        uint64_t process, healed_ms;
        const char *copied;
        SimMachine *h;

        form(5);
        h = other_than(cluster_leader(cluster), NULL, false);
        copied = submit_to(h);
        submit_with(h, "only.service", "only");
        run_ms(1000);
        process = sim_systemd_invocation(h->systemd, "only.service");
        watched = h;
        machine_suspect(h, world_now_ms(world), world_now_ms(world) + 2 * PATIENCE_MS);
        isolate(h, true);
        UNTIL("its-units-move", runs_elsewhere(h, copied));
        run_ms(2000);
        remove_machine(h);
        if (world_draw(world, 2) == 0) {
                machine_crash_daemon(h);
                run_ms(1000);
                machine_start_daemon(h);
        }
        run_ms(world_draw(world, 5000));
        if (!sim_systemd_runs(h->systemd, copied))
                world_failed(world, "absence-stops-nothing", "%s ended on %s", copied, h->name);

        isolate(h, false);
        healed_ms = world_now_ms(world);
        UNTIL("a-removed-machine-returns", has_returned(h));
        UNTIL("a-copy-is-stopped", !sim_systemd_runs(h->systemd, copied));
        if (world_now_ms(world) > healed_ms + RETURN_MS)
                world_failed(world, "a-copy-is-stopped-soon", "%llu ms after the return",
                             (unsigned long long) (world_now_ms(world) - healed_ms));
        run_ms(5000);
        if (!runs_elsewhere(h, copied) || sim_systemd_runs(h->systemd, copied))
                world_failed(world, "a-unit-runs-once", "%s after the return of %s", copied, h->name);
        if (!sim_systemd_runs(h->systemd, "only.service") ||
            sim_systemd_invocation(h->systemd, "only.service") != process)
                world_failed(world, "a-unit-of-a-removed-machine-continues", "it was stopped on %s", h->name);
}

/* After a power cut, the machine starts the unit that no other machine may run. */
static void a_removed_machine_boots_and_runs_its_units_again(void) {
        SimMachine *h;

        form(5);
        h = other_than(cluster_leader(cluster), NULL, false);
        submit_with(h, "only.service", "only");
        watched = h;
        run_ms(1000);
        machine_power_cut(h);
        UNTIL("a-host-that-died-is-lost", lost_ms > 0);
        run_ms(1000);
        remove_machine(h);
        run_ms(5000);
        machine_power_on(h);
        UNTIL("a-removed-machine-returns", has_returned(h));
        UNTIL("its-unit-runs", sim_systemd_runs(h->systemd, "only.service"));
}

/* -- OnReconnect= -- */

typedef enum Meanwhile {
        NOTHING_HAPPENS,
        IT_RESTARTS_ITS_DAEMON,
        IT_BOOTS,
        ITS_PROCESS_ENDS,
        IT_IS_STOPPED,
        IT_IS_DESTROYED,
        IT_HAS_ANOTHER_TEXT,
        A_LEADER_ENDS,
        ITS_LINK_FAILS_AGAIN,
        _MEANWHILE_MAX
} Meanwhile;

static void change_unit(const char *name, bool destroys, const char *text) {
        UnitChange change = { .name = name, .has_target = !destroys && !text, .remove = destroys };
        Unit *unit = NULL;

        if (text && unit_parse(name, text, strlen(text), &unit, NULL) < 0)
                abort();
        change.unit = unit;
        change.target = TARGET_INACTIVE;
        if (registry_change_units(daemon_host(cluster_leader(cluster)->daemon)->registry, &change, 1,
                                  on_submitted, NULL) < 0)
                abort();
        unit_free(unit);
        run_ms(1000);
}

static bool publishes_kept(const SimMachine *h, const char *unit) {
        const ClusterMachine *m = seen_by_leader(h);
        const ClusterState *s = m ? cluster_state_on(m, unit) : NULL;

        return s && s->state.kept > 0;
}

/* Its link fails again when it has published that the unit runs, and before it executes the answer. */
static void its_link_fails_again(SimMachine *h, const char *unit) {
        uint64_t until_ms;

        run_ms(world_draw(world, 5000));
        until_ms = world_now_ms(world) + PATIENCE_MS;
        isolate(h, false);
        while (!publishes_kept(h, unit) && world_now_ms(world) < until_ms)
                run_ms(1);
        isolate(h, true);
        run_ms(2000); /* the other instance stops */
        UNTIL("its-units-move-again", runs_elsewhere(h, unit));
        run_ms(world_draw(world, 2) * 60000);
}

static void while_it_is_cut(SimMachine *h, const char *unit, Meanwhile what) {
        static const char text[] = "[Service]\nExecStart=/bin/sleep 200\n[X-Fleet]\nOnReconnect=keep-old\n";
        SimMachine *leader = cluster_leader(cluster);

        if (what == IT_RESTARTS_ITS_DAEMON) {
                machine_crash_daemon(h);
                run_ms(1000);
                machine_start_daemon(h);
        } else if (what == IT_BOOTS) {
                machine_power_cut(h);
                run_ms(1000);
        } else if (what == ITS_PROCESS_ENDS)
                sim_systemd_end(h->systemd, unit);
        else if (what == IT_IS_STOPPED || what == IT_IS_DESTROYED)
                change_unit(unit, what == IT_IS_DESTROYED, NULL);
        else if (what == IT_HAS_ANOTHER_TEXT) {
                change_unit(unit, false, text);
                run_ms(20000); /* its rollout */
        } else if (what == ITS_LINK_FAILS_AGAIN)
                its_link_fails_again(h, unit);
        else if (what == A_LEADER_ENDS) {
                machine_crash_daemon(leader);
                run_ms(100);
                machine_start_daemon(leader);
                UNTIL("another-leads", cluster_leader(cluster));
        }
        run_ms(world_draw(world, 5000));
}

/* The instance of a host that was cut off goes on with OnReconnect=keep-old, if it has run all the time with
 * the same text, and is still wanted. Else the other one does. */
static void the_instance_that_is_kept_is_never_one_that_ended(void) {
        Meanwhile what = (Meanwhile) world_draw(world, _MEANWHILE_MAX);
        bool keeps = world_draw(world, 4) > 0, kept, wanted;
        uint64_t process, other = 0;
        SimMachine *h, *to = NULL;
        const char *unit;

        form(3);
        h = other_than(cluster_leader(cluster), NULL, true);
        options = keeps ? "OnReconnect=keep-old\n" : "";
        unit = submit_to(h);
        run_ms(1000);
        process = sim_systemd_invocation(h->systemd, unit);
        watched = h;
        machine_suspect(h, world_now_ms(world), world_now_ms(world) + 6 * PATIENCE_MS);
        isolate(h, true);
        UNTIL("its-units-move", runs_elsewhere(h, unit));
        run_ms(2000);
        while_it_is_cut(h, unit, what);
        wanted = what != IT_IS_STOPPED && what != IT_IS_DESTROYED;
        kept = keeps && wanted && what != IT_BOOTS && what != ITS_PROCESS_ENDS && what != IT_HAS_ANOTHER_TEXT;
        for (unsigned i = 0; i < cluster->n; i++)
                if (&cluster->machines[i] != h && sim_systemd_runs(cluster->machines[i].systemd, unit))
                        to = &cluster->machines[i];
        other = to ? sim_systemd_invocation(to->systemd, unit) : 0;

        isolate(h, false);
        if (what == IT_BOOTS)
                machine_power_on(h);
        UNTIL("one-instance-is-left",
              runs_elsewhere(h, unit) == (wanted && !kept) && sim_systemd_runs(h->systemd, unit) == kept);
        run_ms(5000);
        if (runs_elsewhere(h, unit) != (wanted && !kept) || sim_systemd_runs(h->systemd, unit) != kept)
                world_failed(world, "one-instance-is-left", "and not for long");
        if ((kept && sim_systemd_invocation(h->systemd, unit) != process) ||
            (wanted && !kept && sim_systemd_invocation(to->systemd, unit) != other))
                world_failed(world, "the-instance-that-is-left-is-not-touched", "it was started again");
}

static void (*const scenarios[])(void) = {
        the_instance_that_is_kept_is_never_one_that_ended,
        the_units_of_a_host_that_dies_with_the_leader_move_soon,
        a_host_that_was_cut_off_from_the_old_leader_alone_is_not_lost,
        time_without_a_leader_is_not_silence,
        a_host_that_is_lost_stays_so_under_each_next_leader,
        a_leader_that_leads_again_counts_from_the_beginning,
        a_daemon_that_hangs_is_not_lost_while_its_kernel_answers,
        a_daemon_that_hangs_without_a_session_is_not_lost,
        a_host_without_a_daemon_is_not_lost_by_a_link_that_fails_for_a_second,
        a_removed_machine_returns_and_only_copies_are_stopped,
        a_removed_machine_boots_and_runs_its_units_again,
        a_unit_with_a_delay_moves_after_it,
        a_unit_that_stops_alone_stops_after_its_time,
};

int main(int argc, char *argv[]) {
        unsigned long long runs = worlds_run("tests/sim/test-lost", (Seeds) { .seed = 1, .runs = 4 }, on_log,
                                             scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu times %zu scenarios: only hosts that were silent for 3 s are lost\n", runs,
               ELEMENTS(scenarios));
        return 0;
}
