/* Hosts without a replica: whole daemons whose agents act on a slice of the cluster.
 *
 *      test-attach [--seed N] [--runs N] [--trace]
 */

#include "fleetd/daemon_internal.h"
#include "fleetd/sessions/choosing.h"
#include "fleetd/sessions/membership_internal.h"
#include "fleetd/sessions/voters.h"
#include "tests/lib/message.h"
#include "tests/sim/attached.h"

/* The host runs a unit, and stops it, as any other one. */
static void run_unit(SimMachine *m) {
        UNTIL("an-attached-host-has-facts", seen(machine(0), m)->facts);
        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("its-state-is-published",
              cluster_state_on(seen(machine(0), m), "a.service") &&
                      streq(cluster_state_on(seen(machine(0), m), "a.service")->state.active, "active"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        request_unit(machine(1), "a.service", NULL);
        UNTIL("a-destroyed-unit-stops", !sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("its-assignment-is-deleted", !cluster_assignment_on(seen(machine(0), m), "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
}

static void attach(void) {
        run_unit(attached());
        over();
}

static void keys_on_an_attached_host(void) {
        SimMachine *m = attached();
        KeyWatch watch, later, future;
        uint64_t first;

        watch_keys(m, "/a", 1000000, &future); /* an index that does not exist */
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        watch_keys(m, "/a", 0, &watch);
        first = write_key(m, "/a/b", "1");
        expect_key(m, "/a/b", "1");
        (void) write_key(machine(0), "/a/c", "2");
        UNTIL("a-watch-sees-all", watch.n == 2);
        expect_key(m, "/a/c", "2");
        expect_key(m, "/", "");
        watch_keys(m, "/a", first, &later);
        UNTIL("a-watch-sees-the-past", later.n == 2);
        if (future.n > 0)
                world_failed(world, "a-watch-of-the-future-waits", "%zu events", future.n);
        kv_watch_close(watch.watch);
        kv_watch_close(later.watch);
        kv_watch_close(future.watch);
        over();
}

/* A restricted host works, holds no replica although the cluster wants more, reads users' keys, and writes
 * those below the prefix of its token. */
static void restricted_host(void) {
        SimMachine *m = attached_by(
                3, &(TokenRequest) { .uses = 1, .restricted = true, .write = "/app", .by = "root" });

        run_unit(m);
        (void) write_key(machine(0), "/a", "1");
        expect_key(m, "/a", "1");
        if (try_write(m, "/a", "2").status != KV_FORBIDDEN)
                world_failed(world, "a-restricted-host-writes-below-its-prefix", "/a");
        expect_key(machine(0), "/a", "1");
        (void) write_key(m, "/app/b", "2");
        expect_key(machine(0), "/app/b", "2");
        run_ms(20000);
        if (!state_of(m).attached || seen(machine(0), m)->member.raft_id != 0)
                world_failed(world, "a-restricted-host-has-no-replica", "%s", m->name);
        over();
}

/* A restricted host states the name of another machine, and metadata that a unit requires: it has neither.
 * What a person sets counts. */
static void statements_of_a_restricted_host(void) {
        MetadataChange role = { .key = "role", .value = "db" };
        UnitChange change = { .name = "db.service", .has_target = true, .target = TARGET_LAUNCHED };
        static const char text[] =
                "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nService=db\nMachineMetadata=role=db\n";
        _cleanup_unit_ Unit *unit = NULL;
        Registry *r;
        bool done = false;
        MadeToken token;
        SimMachine *m;

        found(6, 3);
        m = machine(5);
        free(m->settings.name);
        m->settings.name = strdup(machine(1)->name);
        (void) pairs_set(&m->settings.metadata, "role", "db");
        token = make_token_of(machine(0), &(TokenRequest) { .uses = 1, .restricted = true, .by = "root" });
        join_with(m, &token);
        UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP &&
                                      seen(machine(0), m)->facts);
        if (cluster_machine_hostname(seen(machine(0), m)) ||
            !same_string(cluster_machine_hostname(seen(machine(0), machine(1))), machine(1)->name))
                world_failed(world, "a-restricted-host-takes-no-name", "%s", machine(1)->name);

        r = daemon_host(machine(0)->daemon)->registry;
        if (unit_parse(change.name, text, sizeof(text) - 1, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(r, &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
        run_ms(20000);
        if (cluster_assignment(registry_cluster(r), m->machine_id, change.name))
                world_failed(world, "a-restricted-host-gets-no-unit-by-its-own-metadata", "%s", m->name);
        done = false;
        role.machine = m->machine_id;
        if (registry_set_metadata(r, &role, 1, on_asked, &done) < 0)
                abort();
        UNTIL("metadata-of-people-count",
              cluster_assignment(registry_cluster(r), m->machine_id, change.name));
        UNTIL("its-endpoints-have-its-own-name",
              cluster_endpoint(registry_cluster(r), m->machine_id, change.name));
        over();
}

/* The replica in use crashes, again and again, while the host writes, reads and watches. */
static void move_over_each_event(void) {
        SimMachine *m = attached(), *former;
        uint64_t last = 0;
        KeyWatch watch;
        char value[16];

        watch_keys(m, "/a", 0, &watch);
        for (unsigned i = 0; i < 6; i++) {
                UNTIL("a-host-uses-a-replica", replica_of(m));
                former = replica_of(m);
                machine_suspect(former, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
                machine_crash_daemon(former);
                UNTIL("a-host-moves-over", replica_of(m) && replica_of(m) != former && state_of(m).ready);
                snprintf(value, sizeof(value), "%u", i);
                last = write_key(m, "/a/b", value);
                expect_key(m, "/a/b", value);
                UNTIL("a-watch-sees-all", watch.n == i + 1 && watch.seen[i] == last);
                machine_start_daemon(former);
                UNTIL("a-replica-returns", is_ready(former));
                UNTIL("a-slice-is-complete", slice_is_equal(m));
        }
        kv_watch_close(watch.watch);
        over();
}

/* Return the replica that the host uses if it can. */
static SimMachine *first_of(const SimMachine *m) {
        KvState state = state_of(machine(0));
        ReplicaChoice choices[5];
        size_t n = 0;

        for (unsigned i = 0; i < ELEMENTS(choices); i++)
                for (size_t k = 0; k < state.n_members; k++)
                        if (state.members[k].raft_id == seen(machine(0), machine(i))->member.raft_id)
                                choices[n++] = (ReplicaChoice) {
                                        .machine = machine(i)->machine_id,
                                        .raft_id = state.members[k].raft_id,
                                        .weight = state.members[k].role == KV_MEMBER_STANDBY ?
                                                          CHOICE_STANDBY :
                                                          CHOICE_VOTER,
                                };
        choose_replicas(m->machine_id, choices, n);
        for (unsigned i = 0; i < ELEMENTS(choices); i++)
                if (streq(machine(i)->machine_id, choices[0].machine))
                        return machine(i);
        abort();
}

/* A host returns to the replica that its hash chooses, and not to another one: after 1 to 10 minutes, so that
 * not all hosts return at once. */
static void a_host_returns_to_its_first_replica(void) {
        enum { MIN_S = 60, MAX_S = 600, LATE_S = 10 };
        SimMachine *m = attached(), *first = first_of(m), *second;
        unsigned s;

        UNTIL_EACH((MAX_S + LATE_S) * 1000ull, 1000, "a-host-uses-its-first-replica", replica_of(m) == first);
        machine_suspect(first, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        machine_crash_daemon(first);
        UNTIL("a-host-moves-over", replica_of(m) && replica_of(m) != first);
        second = replica_of(m);
        machine_start_daemon(first);
        for (s = 0; replica_of(m) != first; s++) {
                if (replica_of(m) && replica_of(m) != second)
                        world_failed(world, "a-host-stays-until-it-returns", "%s", replica_of(m)->name);
                if (s > MAX_S + LATE_S)
                        world_failed(world, "a-host-returns-to-its-first-replica", "%u s", s);
                run_ms(1000);
        }
        if (s < MIN_S)
                world_failed(world, "a-host-returns-after-a-minute", "%u s", s);
        over();
}

/* -- A replica that stands still -- */

static unsigned n_answering(SimMachine *m) {
        unsigned n = 0;

        for (unsigned i = 0; i < 5; i++)
                n += kv_replica_silent_ms(daemon_host(m->daemon)->store, machine(i)->machine_id) !=
                     UINT64_MAX;
        return n;
}

static int count_node(void *userdata, const KvNode *node) {
        ++*(unsigned *) userdata;
        return 1;
}

static unsigned n_children(SimMachine *m, const char *dir) {
        const KvRange range = { .key = kv_string(dir), .recursive = true, .without_key = true };
        unsigned n = 0;

        (void) kv_local_walk(daemon_host(m->daemon)->store, &range, count_node, &n);
        return n;
}

/* Let the host use another replica than that of the leader. */
static void leave_leader(SimMachine *m) {
        SimMachine *leader;

        UNTIL("a-host-has-two-sessions",
              n_answering(m) == 2 && replica_of(m) && (leader = leader_with(machine(0))));
        if (replica_of(m) != leader)
                return;
        sim_net_cut(cluster->net, m->host, leader->host, true);
        UNTIL("a-host-moves-over", replica_of(m) && replica_of(m) != leader);
        sim_net_cut(cluster->net, m->host, leader->host, false);
}

static bool has_one_session(const SimMachine *m) {
        const SimMachine *leader = leader_with(machine(0));
        const ClusterMachine *known = leader ? seen(leader, m) : NULL;

        return known && known->presence == PRESENCE_UP && known->verdict.of == VERDICT_OF_SESSIONS;
}

/* A host that reaches one replica only is a problem after a minute, also under the next leader. */
static void a_host_without_an_idle_session(void) {
        enum { SPAN_MS = 60000, FOUND_MS = 20000, MOVES_MS = 20000 };
        SimMachine *m = attached(), *used, *leader;

        UNTIL("an-attached-host-has-facts", seen(machine(0), m)->facts);
        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        leave_leader(m);
        UNTIL("a-host-has-two-sessions", n_answering(m) == 2 && replica_of(m));
        used = replica_of(m);
        for (unsigned i = 0; i < 5; i++)
                if (machine(i) != used)
                        sim_net_cut(cluster->net, m->host, machine(i)->host, true);
        for (unsigned i = 0; i < SPAN_MS / 1000; i++) {
                if (has_one_session(m))
                        world_failed(world, "one-session-is-a-problem-after-a-minute", "%u s", i);
                run_ms(1000);
        }
        UNTIL_EACH(FOUND_MS, 20, "one-session-is-a-problem", has_one_session(m));

        leader = leader_with(machine(0));
        if (leader == used)
                world_failed(world, "a-host-uses-another-replica-than-the-leader's", "%s", used->name);
        machine_suspect(leader, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        stop_host(leader);
        UNTIL("another-one-leads", leader_with(used));
        for (unsigned i = 0; i < MOVES_MS / 100; i++) {
                if (seen(used, m)->verdict.of != VERDICT_OF_SESSIONS)
                        world_failed(world, "the-problem-continues", "%s",
                                     message_of(&seen(used, m)->verdict));
                run_ms(100);
        }
        machine_start_daemon(leader);
        for (unsigned i = 0; i < 5; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, false);
        UNTIL("the-problem-ends", streq(message_of(&seen(used, m)->verdict), "it has two sessions"));
        if (!sim_systemd_runs(m->systemd, "a.service"))
                world_failed(world, "no-unit-is-touched", "%s", m->name);
        over();
}

static void restart_with_sessions(SimMachine *m, uint64_t sessions) {
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        machine_crash_daemon(m);
        m->settings.sessions = sessions;
        machine_start_daemon(m);
        UNTIL("a-replica-returns", is_ready(m));
}

/* LimitSessions= of its first replica is reached: the host has its two sessions with others, and returns when
 * there is room. It tries again and again meanwhile. */
static void a_full_replica(void) {
        enum { FULL_MS = 900000, RETURNS_MS = 700000 };
        SimMachine *m = attached(), *first = first_of(m);

        restart_with_sessions(first, 1);
        UNTIL("a-host-has-two-sessions", n_answering(m) == 2 && replica_of(m) && state_of(m).ready);
        for (unsigned i = 0; i < FULL_MS / 100; i++) {
                if (replica_of(m) == first || n_answering(m) < 2 || !state_of(m).ready)
                        world_failed(world, "a-full-replica-disturbs-no-host", "%u s: %u sessions", i / 10,
                                     n_answering(m));
                run_ms(100);
        }
        restart_with_sessions(first, 0);
        UNTIL_EACH(RETURNS_MS, 100, "a-host-returns-to-its-first-replica", replica_of(m) == first);
        UNTIL("a-host-has-two-sessions", n_answering(m) == 2 && state_of(m).ready);
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        over();
}

/* The idle session has the write after a second, under the same number: before the host moves over. */
static void a_write_while_the_replica_stands_still(void) {
        enum { WRITES = 2, PAUSE_MS = 3000, ANSWERED_MS = 1400 };
        SimMachine *m = attached();

        for (unsigned i = 0; i < WRITES; i++) {
                KeyWrite write = {};
                SimMachine *replica;
                uint64_t number, begun_ms;

                leave_leader(m);
                UNTIL("a-host-has-two-sessions", n_answering(m) == 2 && replica_of(m) &&
                                                         replica_of(m) != leader_with(machine(0)) &&
                                                         leader_with(machine(0)));
                replica = replica_of(m);
                begun_ms = world_now_ms(world);
                machine_suspect(replica, begun_ms, begun_ms + TOKENS_PATIENCE_MS);
                world_loop_pause(replica->loop, PAUSE_MS);
                if (kv_propose(
                            daemon_host(m->daemon)->store,
                            &(KvCommand) { .op = KV_POST, .key = kv_string("/q"), .value = kv_string("1") },
                            on_written, &write, &number) < 0)
                        abort();
                UNTIL("a-write-is-answered", write.done);
                if (write.status != KV_OK || world_now_ms(world) - begun_ms > ANSWERED_MS)
                        world_failed(world, "a-second-replica-has-the-write", "%s after %llu ms",
                                     kv_status_name(write.status),
                                     (unsigned long long) (world_now_ms(world) - begun_ms));
                run_ms(2 * PAUSE_MS);
        }
        for (unsigned i = 0; i < 5; i++)
                UNTIL("each-write-is-there-once", n_children(machine(i), "/q") == WRITES);
        over();
}

/* -- A slice without keys -- */

static int each_of_none(void *userdata, const char *machine, int (*each)(void *userdata, KvBytes key),
                        void *each_userdata) {
        return 0;
}

static bool has_none(void *userdata, const char *machine, KvBytes key) {
        return false;
}

static uint64_t index_of_store(void *userdata) {
        return kv_index(userdata);
}

/* Only an assignment stops a unit: the absence of all keys does not. */
static void a_slice_without_keys_stops_no_unit(void) {
        SimMachine *m = attached();

        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        for (unsigned i = 0; i < 5; i++) {
                KvStore *store = daemon_host(machine(i)->daemon)->store;

                kv_set_slices(store, &(KvSlices) { .each = each_of_none,
                                                   .has = has_none,
                                                   .index = index_of_store,
                                                   .userdata = store });
        }
        UNTIL("a-slice-is-empty", n_children(m, "/_fleet") == 0 && state_of(m).ready);
        run_ms(10000);
        if (!sim_systemd_runs(m->systemd, "a.service"))
                world_failed(world, "a-slice-without-keys-stops-no-unit", "a.service has ended");
        over();
}

static void on_key_late(void *userdata, uint64_t oldest, uint64_t current) {
        KeyWatch *w = userdata;

        w->watch = NULL;
        w->seen[0] = current;
}

/* The host has no session while more events happen than the window keeps: its watch ends, as on a
 * replica, and its slice continues by state. */
static void resume_after_window(void) {
        static const KvWatchOps ops = { .on_event = on_key_event, .on_cleared = on_key_late };
        const KvWatchOptions options = { .key = kv_string("/a"), .recursive = true };
        SimMachine *m = attached();
        KeyWatch watch = {};
        uint64_t oldest, last = 0;

        if (kv_watch(daemon_host(m->daemon)->store, &options, &ops, &watch, &watch.watch, &oldest) < 0)
                abort();
        (void) write_key(m, "/a/b", "1");
        UNTIL("a-watch-sees-all", watch.n == 1);
        for (unsigned i = 0; i < 5; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, true);
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        for (unsigned i = 0; i < WINDOW_WRITES; i++)
                last = write_key(machine(0), "/a/c", "2");
        request_unit(machine(0), "a.service", m);
        for (unsigned i = 0; i < 5; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, false);
        UNTIL("a-watch-behind-the-window-ends", !watch.watch);
        if (watch.n != 1 || watch.seen[0] < last)
                world_failed(world, "a-watch-behind-the-window-ends", "after %zu events, at index %llu",
                             watch.n, (unsigned long long) watch.seen[0]);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        over();
}

/* -- Recovery -- */

enum { RECOVERED = 2 /* attached hosts */, FOLLOW_MS = 30000 };

static const char *const recovered_units[RECOVERED] = { "a.service", "b.service" };

typedef struct Followers {
        SimMachine *hosts[RECOVERED];
        uint64_t invocations[RECOVERED];
} Followers;

static void check_followers(const Followers *f) {
        for (unsigned i = 0; i < RECOVERED; i++)
                if (!sim_systemd_runs(f->hosts[i]->systemd, recovered_units[i]) ||
                    sim_systemd_invocation(f->hosts[i]->systemd, recovered_units[i]) != f->invocations[i])
                        world_failed(world, "running-units-are-not-touched", "%s", recovered_units[i]);
}

/* Return the number of hosts without a replica whose files list the unit. */
static unsigned n_listing(const Followers *f, const char *unit) {
        unsigned n = 0;

        for (unsigned i = 0; i < RECOVERED; i++) {
                const char *file = sim_service_file(&f->hosts[i]->services, "shop");

                n += file && strstr(file, unit);
        }
        return n;
}

static bool followers_are_listed(const Followers *f) {
        for (unsigned i = 0; i < RECOVERED; i++)
                if (n_listing(f, recovered_units[i]) < RECOVERED)
                        return false;
        return true;
}

static bool followers_follow(const Followers *f) {
        check_followers(f);
        for (unsigned i = 0; i < RECOVERED; i++)
                if (!state_of(f->hosts[i]).ready || !slice_is_equal(f->hosts[i]))
                        return false;
        return true;
}

/* A replica that many hosts use requests fewer heartbeats: the host stays up, does not leave it, moves over
 * as before, and is lost as soon. */
static void rare_heartbeats(void) {
        SimMachine *m = attached(), *replica;
        unsigned unready = 0;
        uint64_t from_ms;

        UNTIL("an-attached-host-has-facts", seen(machine(0), m)->facts);
        run_ms(3000);
        if (state_of(m).rare)
                world_failed(world, "few-hosts-send-frequent-heartbeats", "%s", m->name);
        for (unsigned i = 0; i < 5; i++) /* and one more uses one of them */
                machine(i)->daemon->host.membership->reporting.reporter.n_in_use += REPORT_RARE_HOSTS;
        UNTIL("many-hosts-send-rare-heartbeats", state_of(m).rare);
        replica = replica_of(m);
        for (unsigned i = 0; i < 1200; i++) {
                run_ms(50);
                if (replica_of(m) != replica && replica_of(m) != first_of(m))
                        world_failed(world, "a-host-with-rare-heartbeats-does-not-move", "%s", m->name);
                replica = replica_of(m);
                unready = state_of(m).ready ? 0 : unready + 1; /* it may move to its first choice */
                if (unready > 2)
                        world_failed(world, "a-host-with-rare-heartbeats-is-served", "%s", m->name);
                if (seen(leader_with(machine(0)), m)->presence != PRESENCE_UP)
                        world_failed(world, "a-host-with-rare-heartbeats-is-up", "%s", m->name);
        }
        sim_net_cut(cluster->net, m->host, replica->host, true);
        UNTIL_EACH(3000, 1, "a-host-moves-over",
                   replica_of(m) && replica_of(m) != replica && state_of(m).ready);
        UNTIL_EACH(1600, 1, "many-hosts-send-rare-heartbeats", state_of(m).rare);
        run_ms(3000);
        if (!state_of(m).rare || seen(leader_with(machine(0)), m)->presence != PRESENCE_UP)
                world_failed(world, "a-host-with-rare-heartbeats-is-up", "%s", m->name);
        machine_power_cut(m);
        from_ms = world_now_ms(world);
        UNTIL_EACH(4000, 1, "a-host-is-lost", seen(leader_with(machine(0)), m)->presence == PRESENCE_LOST);
        printf("a host with rare heartbeats was lost after %llu ms\n",
               (unsigned long long) (world_now_ms(world) - from_ms));
        over();
}

/* The majority is lost for good, and one replica is recovered: the attached hosts follow its new lineage. */
static void recover_with_attached(void) {
        Followers f = {};
        bool done = false;

        found(5 + RECOVERED, 5);
        for (unsigned i = 0; i < RECOVERED; i++) {
                SimMachine *m = f.hosts[i] = machine(5 + i);
                MadeToken token = make_token(machine(0), NULL);

                join_with(m, &token);
                UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
                UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
                request_unit(machine(0), recovered_units[i], m);
                UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, recovered_units[i]));
                f.invocations[i] = sim_systemd_invocation(m->systemd, recovered_units[i]);
        }
        request_unit(machine(0), "d.service", f.hosts[0]);
        UNTIL("units-are-listed", followers_are_listed(&f) && n_listing(&f, "d.service") == RECOVERED);
        run_ms(3000);
        for (unsigned i = 1; i < 5; i++)
                machine_power_cut(machine(i));
        stop_host(machine(0));
        machine_recover(machine(0));
        machine_start_daemon(machine(0));
        UNTIL("the-recovered-one-leads", leader_with(machine(0)) == machine(0));
        for (unsigned i = 0; i < 600; i++) {
                run_ms(50);
                check_followers(&f);
                if (!followers_are_listed(&f))
                        world_failed(world, "endpoints-stay-over-a-recovery", "%u ms", i * 50);
        }
        sim_systemd_end(f.hosts[0]->systemd, "d.service");
        UNTIL("a-unit-that-ends-is-withdrawn-also-then", n_listing(&f, "d.service") == 0);
        if (registry_adopt_now(daemon_host(machine(0)->daemon)->registry, NULL, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
        UNTIL_EACH(FOLLOW_MS, 50, "attached-hosts-follow-a-recovered-cluster", followers_follow(&f));
        run_ms(30000);
        check_followers(&f);
        request_unit(machine(0), "c.service", f.hosts[0]);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(f.hosts[0]->systemd, "c.service"));
        request_unit(machine(0), "a.service", NULL);
        UNTIL("a-destroyed-unit-stops", !sim_systemd_runs(f.hosts[0]->systemd, "a.service"));
        over();
}

static bool says_no_listener(SimMachine *m) {
        const SimMachine *leader = leader_with(machine(0));
        const ClusterMachine *known = leader ? seen(leader, m) : NULL;

        return known && known->presence == PRESENCE_UP &&
               streq(message_of(&known->verdict),
                     "its replica: none: it cannot listen on 10.0.0.6:2380; correct ListenPeer=");
}

/* The address of ListenPeer= is gone when the daemon starts again: the host continues without a replica, and
 * gets one in place of a silent standby when it has the address again. */
static void the_listener_of_an_attached_host_fails(void) {
        SimMachine *m = attached(), *standby = NULL;
        uint64_t invocation;

        UNTIL("an-attached-host-has-facts", seen(machine(0), m)->facts);
        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        invocation = sim_systemd_invocation(m->systemd, "a.service");

        sim_host_addressless(m->host, true);
        for (unsigned i = 0; i < 2; i++) { /* the second one starts without a session before */
                stop_host(m);
                machine_start_daemon(m);
                UNTIL("a-host-without-a-listener-is-attached", state_of(m).attached && state_of(m).ready);
        }
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        UNTIL("its-problem-is-published", says_no_listener(m));
        for (unsigned i = 1; i < 5 && !standby; i++)
                for (size_t k = 0; k < state_of(machine(0)).n_members; k++)
                        if (state_of(machine(0)).members[k].raft_id == state_of(machine(i)).raft_id &&
                            state_of(machine(0)).members[k].role == KV_MEMBER_STANDBY)
                                standby = machine(i);
        machine_power_cut(standby);
        for (uint64_t ms = 0; ms < voters_spans.silent_ms + voters_spans.led_ms; ms += 1000) {
                run_ms(1000);
                if (seen(leader_with(machine(0)), m)->member.raft_id != 0)
                        world_failed(world, "a-host-without-a-listener-gets-no-replica", "%s", m->name);
        }
        sim_host_addressless(m->host, false);
        UNTIL("a-host-with-a-listener-gets-a-replica", is_member(machine(0), m));
        UNTIL("its-problem-has-ended", seen(machine(0), m)->verdict.code == VERDICT_NONE ||
                                               seen(machine(0), m)->verdict.of != VERDICT_OF_REPLICA);
        if (sim_systemd_invocation(m->systemd, "a.service") != invocation)
                world_failed(world, "no-unit-is-touched", "%s", m->name);
        over();
}

/* While a host receives its replica, it has a part of the tree only: another one that joins by it waits. */
static void join_by_a_host_that_receives_its_replica(void) {
        SimMachine *through, *m;
        MadeToken first, second;
        Text text = {};
        Token token;

        found(3, 1);
        through = machine(1);
        m = machine(2);
        first = make_token(machine(0), NULL);
        second = make_token(machine(0), NULL);
        if (token_read(second.text, &token, &(Error) {}) < 0)
                abort();
        token.n_endpoints = 1;
        snprintf(token.endpoints[0], sizeof(token.endpoints[0]), "%s:2380", through->address);
        token_print(&token, &text);
        snprintf(second.text, sizeof(second.text), "%s", text.chars);
        text_done(&text);
        join_with(through, &first);
        UNTIL_EACH(30000, 1, "a-host-receives-its-replica",
                   state_of(through).attached && state_of(through).ready && seen(through, through) &&
                           seen(through, through)->member.raft_id != 0);
        join_with(m, &second);
        UNTIL("the-cluster-has-three-hosts", is_member(machine(0), m));
        over();
}

/* A copy of an attached host cannot reach the replica that the other one uses, and uses another one. */
static void two_hosts_with_one_machine_id(void) {
        unsigned served = 0, unready = 0;
        uint64_t invocation;
        SimMachine *m, *copy;
        MadeToken token;

        found(7, 5);
        m = machine(5);
        copy = machine(6);
        token = make_token(machine(0), NULL);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        UNTIL("an-attached-host-has-facts", seen(machine(0), m) && seen(machine(0), m)->facts);
        stop_host(m);
        stop_host(copy);
        machine_clone(copy, m);
        machine_start_daemon(m);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        invocation = sim_systemd_invocation(m->systemd, "a.service");
        run_ms(2 * LIVENESS_TICK_MS); /* of two that start within one report, either may be the first */
        sim_net_cut(cluster->net, copy->host, replica_of(m)->host, true);
        machine_start_daemon(copy);
        UNTIL("a-copy-is-attached", state_of(copy).attached && state_of(copy).ready);
        UNTIL("a-copy-is-reported", seen(machine(0), m)->verdict.of == VERDICT_OF_IDENTITY);
        for (unsigned i = 0; i < 1200; i++) {
                run_ms(100);
                served += state_of(copy).attached && state_of(copy).ready;
                unready = state_of(m).ready ? 0 : unready + 1; /* it may move to its first choice */
                if (unready > 2 || sim_systemd_invocation(m->systemd, "a.service") != invocation)
                        world_failed(world, "the-first-host-is-served", "%s", m->name);
        }
        world_trace(world, "copy", "served for %u ms of 120000", served * 100);
        if (served > 150)
                world_failed(world, "a-copy-is-rejected", "%u ms", served * 100);
        stop_host(copy);
        run_ms(80000);
        UNTIL("the-report-ends", seen(machine(0), m)->verdict.of != VERDICT_OF_IDENTITY);
        over();
}

/* -- The health of a set -- */

static bool all_fail;

static SimProbe on_probe(SimMachine *m, const ProbeRequest *request) {
        return (SimProbe) { .passed = !all_fail && m->index < 5 };
}

static bool is_everywhere(const char *unit) {
        for (unsigned i = 0; i < 6; i++)
                if (!sim_systemd_runs(machine(i)->systemd, unit))
                        return false;
        return true;
}

/* The host has no states of other machines: the replica that it uses counts them for HealthAction=restart. */
static void a_replica_counts_the_set_of_an_attached_host(void) {
        static const char name[] = "g.service",
                          text[] = "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nGlobal=yes\n"
                                   "HealthHttp=80/\nHealthIntervalSec=1s\nHealthTimeoutSec=1s\n"
                                   "HealthAction=restart\n";
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        SimMachine *m = attached();
        _cleanup_unit_ Unit *unit = NULL;
        const ClusterState *s;
        bool done = false;
        uint64_t invocation;

        all_fail = false;
        cluster->probe = on_probe; /* fails on this host */
        snprintf(cluster->units[0].name, sizeof(cluster->units[0].name), "%s", name);
        cluster->units[0].touched_ms = cluster->units[0].stopping_ms = UINT64_MAX; /* a restart has a cause */
        cluster->n_units = 1;
        if (unit_parse(name, text, sizeof(text) - 1, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_host(machine(0)->daemon)->registry, &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL("a-global-unit-runs-everywhere", done && is_everywhere(name));
        invocation = sim_systemd_invocation(m->systemd, name);
        UNTIL("an-instance-that-fails-alone-is-restarted",
              sim_systemd_runs(m->systemd, name) && sim_systemd_invocation(m->systemd, name) != invocation);

        all_fail = true;
        /* The next restart would be due 30 s after the last one, or 60 s after a second one. */
        UNTIL_EACH(2 * TOKENS_PATIENCE_MS, 20, "restarts-are-suspended-while-the-set-is-unhealthy",
                   (s = cluster_state_on(seen(machine(0), m), name)) && s->state.why &&
                           strstr(s->state.why, "not restarted while more than half"));
        invocation = sim_systemd_invocation(m->systemd, name);
        run_ms(120000);
        if (sim_systemd_invocation(m->systemd, name) != invocation)
                world_failed(world, "a-suspended-instance-is-not-restarted", "%s", m->name);
        all_fail = false; /* of the others */
        UNTIL("an-instance-that-fails-alone-is-restarted",
              sim_systemd_runs(m->systemd, name) && sim_systemd_invocation(m->systemd, name) != invocation);
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { attach,
                                                   keys_on_an_attached_host,
                                                   restricted_host,
                                                   statements_of_a_restricted_host,
                                                   a_replica_counts_the_set_of_an_attached_host,
                                                   move_over_each_event,
                                                   a_host_returns_to_its_first_replica,
                                                   a_host_without_an_idle_session,
                                                   a_full_replica,
                                                   rare_heartbeats,
                                                   a_write_while_the_replica_stands_still,
                                                   a_slice_without_keys_stops_no_unit,
                                                   resume_after_window,
                                                   recover_with_attached,
                                                   the_listener_of_an_attached_host_fails,
                                                   join_by_a_host_that_receives_its_replica,
                                                   two_hosts_with_one_machine_id };

        return tokens_main(argc, argv, "tests/sim/test-attach", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts without a replica act on their slice");
}
