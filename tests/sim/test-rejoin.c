/* Hosts that come back otherwise than they went: copied, restored from an old image, wiped, installed again,
 * renamed, with other addresses. Whole daemons with certificates. Copies are rejected and reported, and the
 * others return by themselves or by a token that replaces them; the cluster votes on.
 *
 *      test-rejoin [--seed N] [--runs N] [--trace]
 */

#include "fleetd/identity/cluster_file.h"
#include "fleetd/sessions/membership.h"
#include "tests/lib/message.h"
#include "tests/sim/tokens.h"

enum {
        REPLACED_MS = 30 * 60000, /* until another host votes in place of a silent one */
        SILENT_MS = 11 * 60000    /* until a chain counts for a host without a leader */
};

static void over(void) {
        cluster = cluster_free(cluster);
}

/* -- Copies, old images, wiped hosts -- */

static const char *problem_of(const SimMachine *m) {
        const SimMachine *leader = leader_with(machine(0));
        const ClusterMachine *machine = leader ? seen(leader, m) : NULL;

        return machine && machine->verdict.of == VERDICT_OF_IDENTITY ? message_of(&machine->verdict) : "";
}

static bool all_vote(size_t n) {
        const SimMachine *leader = leader_with(machine(0));

        return leader && state_of(leader).n_voters == n && state_of(leader).n_voters_reachable == n;
}

static uint64_t raft_id_of(const SimMachine *m) {
        return state_of(m).raft_id;
}

/* Copy a voter while its daemon is stopped, and start both. The copy is rejected and reported, and the voter
 * goes on, whether it starts first or is started again while the copy runs. */
static void clone(void) {
        SimMachine *m, *copy, *leader;
        uint64_t raft_id, begin_ms;
        char remedy[128];
        MadeToken token;

        found(4, 3);
        m = machine(1 + (unsigned) world_draw(world, 2));
        copy = machine(3);
        raft_id = raft_id_of(m);
        stop_host(m);
        stop_host(copy);
        machine_clone(copy, m);
        machine_start_daemon(m);
        UNTIL("the-voter-is-back", all_vote(3));
        run_ms(3000); /* its start is recorded */
        machine_start_daemon(copy);
        UNTIL("a-copy-is-reported", strstr(problem_of(m), "a copy of this host was rejected"));
        begin_ms = world_now_ms(world);
        while (world_now_ms(world) < begin_ms + 20000) {
                run_ms(100);
                if (!all_vote(3) || raft_id_of(m) != raft_id)
                        world_failed(world, "a-copy-disturbs-nothing", "%s is no voter", m->name);
        }
        if (is_ready(copy))
                world_failed(world, "a-copy-follows-no-leader", "%s", copy->name);
        stop_host(copy);
        run_ms(60000);
        UNTIL("the-report-ends", !problem_of(m)[0]);

        /* Its identity is lost: it has another key, and a token. */
        machine_wipe(copy, WIPE_ALL);
        leader = leader_with(m);
        for (unsigned i = 0; i < 3; i++)
                sim_net_cut(cluster->net, copy->host, machine(i)->host, machine(i) != leader);
        machine_start_daemon(copy);
        token = make_token(leader, NULL);
        UNTIL("a-copy-is-a-cluster-of-its-own", is_ready(copy));
        (void) command(copy, false, token.text);
        expect_failure(copy, "the cluster has this machine ID with another key");
        UNTIL("another-key-is-reported", strstr(problem_of(m), "another key was rejected"));
        snprintf(remedy, sizeof(remedy), "fleetctl token --replace=%s",
                 cluster_machine_name(seen(machine(0), m)));
        if (!ends_with(problem_of(m), remedy))
                world_failed(world, "the-remedy-names-the-host", "%s", problem_of(m));
        stop_host(copy);
        UNTIL_EACH(75000, 100, "the-report-of-a-key-ends", !problem_of(m)[0]);
        if (!all_vote(3) || uses_left(&token) != 1)
                world_failed(world, "a-copy-disturbs-nothing", "%u uses left", uses_left(&token));
        over();
}

/* An image of a member from before its last start: log and tree are set aside, and the host joins again under
 * another Raft ID, with its key. */
static void old_image(void) {
        char pin[DIGEST_SIZE] = "", after[DIGEST_SIZE] = "";
        SimMachine *m, *image;
        uint64_t raft_id;

        found(4, 3);
        image = machine(3);
        m = machine((unsigned) world_draw(world, 3));
        raft_id = raft_id_of(m);
        read_pin(m, pin);
        stop_host(image);
        stop_host(m);
        machine_clone(image, m);
        machine_start_daemon(m);
        UNTIL("three-hosts-vote", all_vote(3));
        run_ms(3000); /* its start is recorded */
        stop_host(m);
        UNTIL("the-others-have-a-leader", leader_with(machine((m->index + 1) % 3)));
        machine_clone(m, image);
        machine_start_daemon(m);
        UNTIL("an-old-image-joins-again", all_vote(3) && raft_id_of(m) > 0);
        read_pin(m, after);
        if (raft_id_of(m) == raft_id || !streq(pin, after))
                world_failed(world, "it-has-another-id-and-its-key", "member %llu, key %s",
                             (unsigned long long) raft_id_of(m), after);
        if (!exists(m, "tree/old"))
                world_failed(world, "its-state-is-kept", "%s", m->folder);
        over();
}

/* A host loses its state directory, and has its cluster file: it founds no cluster and waits. A token for any
 * host does not suffice, and the one that replaces it does. Its former key counts no more. */
static void replaced_host(void) {
        MadeToken plain, token;
        SimMachine *m, *copy, *leader;
        bool away, at_another;
        uint64_t record;

        found(4, 3);
        m = machine(1);
        copy = machine(3);
        away = world_draw(world, 2);
        at_another = world_draw(world, 2);
        stop_host(m);
        stop_host(copy);
        machine_clone(copy, m); /* its former disk */
        machine_wipe(m, WIPE_STATE);
        plain = make_token(machine(2), NULL);
        machine_start_daemon(m);
        run_ms(5000);
        if (is_ready(m) || state_of(m).cluster_id != 0 || state_of(m).raft_id != 0 ||
            !strstr(state_of(m).problem, "wiped host of a cluster: run fleetctl token --replace=h2"))
                world_failed(world, "a-wiped-host-waits", "%s", state_of(m).problem);
        UNTIL("the-others-have-a-leader", (leader = leader_with(machine(0))));
        sim_net_cut(cluster->net, m->host, leader->host,
                    at_another); /* a replica that reports it to the leader */
        (void) command(m, false, plain.text);
        expect_failure(m, "the cluster has this machine ID with another key");
        run_ms(1000);
        sim_net_cut(cluster->net, m->host, leader->host, false);
        if (uses_left(&plain) != 1)
                world_failed(world, "a-rejected-host-spends-no-use", "%u left", uses_left(&plain));

        token = make_token(machine(2), m->machine_id);
        if (away) { /* the cluster file is lost, too: a new installation with its old machine ID */
                stop_host(m);
                machine_wipe(m, WIPE_ALL);
                machine_start_daemon(m);
        }
        record = seen(machine(0), m)->host_index;
        join_with(m, &token);
        UNTIL("its-new-key-is-known", seen(machine(0), m)->host_index != record);
        UNTIL_EACH(1000, 20, "its-rejection-has-ended", !problem_of(m)[0]);
        for (unsigned i = 0; i < 500 || !is_member(machine(0), m); i++) {
                run_ms(20);
                if (problem_of(m)[0])
                        world_failed(world, "its-rejection-has-ended", "%s", problem_of(m));
        }
        UNTIL("a-replaced-host-is-a-member", is_member(machine(0), m));
        UNTIL("three-hosts-vote", all_vote(3));
        stop_host(m);
        machine_start_daemon(copy);
        run_ms(10000);
        if (is_ready(copy))
                world_failed(world, "a-former-key-counts-no-more", "%s", copy->name);
        stop_host(copy);
        machine_start_daemon(m);
        UNTIL("three-hosts-vote", all_vote(3));
        over();
}

static void on_removed(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_failed(world, "a-lost-host-is-removed", "%s", message);
}

/* The host that leads now joined while a voter was off and was replaced: neither of them dials the other. */
static void an_unknown_leader(void) {
        SimMachine *dead, *fresh;
        uint64_t raft_id;
        MadeToken token;

        found(4, 3);
        fresh = machine(3);
        dead = leader_with(machine(0)) == machine(1) ? machine(2) : machine(1);
        raft_id = state_of(dead).raft_id;
        machine_suspect(dead, world_now_ms(world), UINT64_MAX);
        machine_power_cut(dead);
        token = make_token(machine(0), NULL);
        join_with(fresh, &token);
        UNTIL_EACH(REPLACED_MS, 500, "a-silent-voter-is-replaced",
                   seen(machine(0), dead) && seen(machine(0), dead)->member.raft_id == 0 &&
                           n_voters(machine(0)) == 3);
        for (unsigned i = 0; i < 50 && leader_with(machine(0)) != fresh; i++) {
                SimMachine *leader = leader_with(machine(0));

                machine_suspect(leader, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
                machine_crash_daemon(leader);
                run_ms(3000);
                machine_start_daemon(leader);
                UNTIL("three-hosts-vote", all_vote(3));
        }
        if (leader_with(machine(0)) != fresh)
                world_failed(world, "the-new-host-leads", "another one does");
        machine_power_on(dead);
        UNTIL("a-replaced-host-is-a-member", is_ready(dead) && is_member(machine(0), dead));
        if (state_of(dead).raft_id == raft_id)
                world_failed(world, "a-replaced-host-has-another-raft-id", "%s", dead->name);
        over();
}

static bool has_other_key(const SimMachine *at, const SimMachine *m, const char *pin) {
        const ClusterMachine *host = seen(at, m);

        return host && host->host && host->host->pins.n == 1 && !streq(host->host->pins.items[0], pin);
}

/* The leader gets another key while a voter is cut off, and leads on: the voter has only the former pin. It
 * accepts a certificate that was issued later, but not before it has been without a leader for long. */
static void another_key_meanwhile(void) {
        char pin[DIGEST_SIZE] = "";
        SimMachine *m, *leader;
        uint64_t term, begin_ms;
        Error err = {};

        found(3, 3);
        run_ms(10000); /* certificates of replicas arrive */
        UNTIL("three-hosts-vote", all_vote(3));
        leader = leader_with(machine(0));
        m = machine((leader->index + 1 + (unsigned) world_draw(world, 2)) % 3);
        read_pin(leader, pin);
        term = state_of(leader).term;
        machine_suspect(m, world_now_ms(world), UINT64_MAX);
        for (unsigned i = 0; i < 3; i++)
                if (machine(i) != m)
                        sim_net_cut(cluster->net, m->host, machine(i)->host, true);
        begin_ms = world_now_ms(world);
        if (membership_rekey_host(daemon_host(leader->daemon)->membership, &err) < 0)
                world_failed(world, "a-host-makes-a-key", "%s", err.message);
        UNTIL("one-key-is-valid", has_other_key(leader, leader, pin));
        run_ms(30000); /* no session outlives that */
        for (unsigned i = 0; i < 3; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, false);
        run_ms(60000);
        if (has_other_key(m, leader, pin))
                world_failed(world, "another-key-is-rejected-at-first", "%s", m->name);
        UNTIL_EACH(SILENT_MS, 500, "a-later-certificate-counts", has_other_key(m, leader, pin));
        if (world_now_ms(world) < begin_ms + SILENT_MS - 60000)
                world_failed(world, "another-key-is-rejected-at-first", "%s", m->name);
        UNTIL("three-hosts-vote", all_vote(3));
        if (leader_with(machine(0)) != leader || state_of(leader).term != term)
                world_failed(world, "the-leader-leads-on", "%s", leader->name);
        over();
}

/* All replicas get other keys while a host without a replica is off. By its stored list, it returns at once
 * as long as one of the keys is in it. Then, it accepts certificates that were issued later than the list,
 * but not before it has been without a leader for long. */
static void other_keys_of_all_replicas(void) {
        MadeToken token;
        uint64_t begin_ms;
        SimMachine *m;

        found(4, 3);
        run_ms(10000); /* certificates of replicas arrive */
        UNTIL("three-hosts-vote", all_vote(3));
        m = machine(3);
        token = make_token_of(machine(0), &(TokenRequest) { .uses = 1, .restricted = true, .by = "root" });
        join_with(m, &token);
        for (unsigned i = 0; i < 3; i++) {
                char pin[DIGEST_SIZE] = "";
                Error err = {};

                UNTIL("an-attached-host-returns-by-its-list", state_of(m).attached && is_ready(m));
                run_ms(5000); /* the list is stored */
                stop_host(m);
                for (unsigned k = 0; k < 3; k++) {
                        if (i < 2 && k != i) /* at last, those of all */
                                continue;
                        read_pin(machine(k), pin);
                        if (membership_rekey_host(daemon_host(machine(k)->daemon)->membership, &err) < 0)
                                world_failed(world, "a-host-makes-a-key", "%s", err.message);
                        UNTIL("one-key-is-valid",
                              leader_with(machine(0)) &&
                                      has_other_key(leader_with(machine(0)), machine(k), pin));
                }
                begin_ms = world_now_ms(world);
                machine_start_daemon(m);
        }
        run_ms(60000);
        if (is_ready(m))
                world_failed(world, "other-keys-are-rejected-at-first", "%s", m->name);
        UNTIL_EACH(SILENT_MS, 500, "a-later-certificate-counts", is_ready(m));
        if (world_now_ms(world) < begin_ms + SILENT_MS - 60000)
                world_failed(world, "other-keys-are-rejected-at-first", "%s", m->name);
        over();
}

/* -- Names, addresses, versions -- */

static void renamed_host(void) {
        SimMachine *m;
        const ClusterMachine *other;

        found(3, 3);
        m = machine(1);
        stop_host(m);
        free(m->settings.name);
        m->settings.name = strdup("h3"); /* another host has that name */
        (void) pairs_set(&m->settings.metadata, "host", "h3");
        machine_start_daemon(m);
        UNTIL("a-renamed-host-is-a-member", is_member(machine(0), m) && all_vote(3));
        UNTIL("its-name-is-known",
              leader_with(machine(0)) && streq(cluster_machine_name(seen(leader_with(machine(0)), m)), "h3"));
        other = seen(leader_with(machine(0)), machine(2));
        if (!streq(cluster_machine_name(other), "h3") || problem_of(m)[0])
                world_failed(world, "two-hosts-may-have-one-name", "%s: %s", cluster_machine_name(other),
                             problem_of(m));
        over();
}

static void launch_on(SimMachine *m, const char *name) {
        char text[128];

        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n",
                 m->machine_id);
        launch(m, name, text);
}

static void isolate(const SimMachine *m, bool is_cut) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (machine(i) != m)
                        sim_net_cut(cluster->net, m->host, machine(i)->host, is_cut);
}

/* A host boots without contact: it starts its last assignments after BootWaitSec=. It is removed while it is
 * down, boots, and is rejected: nothing starts, because its units may run elsewhere. */
static void removed_host_boots(void) {
        static const char *const units[] = { "a.service", "b.service" };
        SimMachine *m, *leader;
        uint64_t boot_ms;

        found(3, 3);
        m = machine((unsigned) world_draw(world, 3));
        for (unsigned i = 0; i < ELEMENTS(units); i++)
                launch_on(m, units[i]);
        run_ms(3000); /* the starts are recorded */

        isolate(m, true);
        machine_power_cut(m);
        run_ms(1000);
        machine_power_on(m);
        boot_ms = world_now_ms(world);
        UNTIL("a-host-without-contact-starts-its-units",
              sim_systemd_runs(m->systemd, units[0]) && sim_systemd_runs(m->systemd, units[1]));
        if (world_now_ms(world) < boot_ms + m->settings.boot_wait_ms)
                world_failed(world, "a-host-without-contact-waits", "%llu ms",
                             (unsigned long long) (world_now_ms(world) - boot_ms));
        run_ms(3000);

        machine_power_cut(m);
        UNTIL("a-silent-host-is-lost", (leader = leader_with(machine((m->index + 1) % 3))) && leader != m &&
                                               seen(leader, m)->presence == PRESENCE_LOST);
        if (registry_remove_machine(daemon_host(leader->daemon)->registry, seen(leader, m), "root", NULL,
                                    on_removed, NULL) < 0)
                abort();
        UNTIL("a-removed-host-is-no-member", seen(leader, m)->removed && state_of(leader).n_members == 2);
        isolate(m, false);
        machine_power_on(m);
        UNTIL("a-removed-host-reports-it", state_of(m).removed);
        for (unsigned i = 0; i < 4 * m->settings.boot_wait_ms / 100; i++) {
                run_ms(100);
                for (unsigned k = 0; k < ELEMENTS(units); k++)
                        if (sim_systemd_runs(m->systemd, units[k]))
                                world_failed(world, "a-removed-host-starts-nothing", "%s runs on %s",
                                             units[k], m->name);
        }

        /* The tree of a replica without a leader may be old: the host may have joined again. */
        machine_power_cut(m);
        machine_power_cut(leader);
        run_ms(8000);
        machine_power_on(m);
        UNTIL("a-replica-without-a-leader-removes-no-host",
              sim_systemd_runs(m->systemd, units[0]) && sim_systemd_runs(m->systemd, units[1]));
        if (state_of(m).removed)
                world_failed(world, "a-replica-without-a-leader-removes-no-host", "removed");
        over();
}

/* All addresses change at once; each daemon starts with a Join= of the others, and the keys authenticate. */
static void renumber_all(void) {
        found(3, 3);
        for (unsigned i = 0; i < 3; i++)
                stop_host(machine(i));
        for (unsigned i = 0; i < 3; i++) {
                SimMachine *m = machine(i);
                _cleanup_text_ Text file = {};

                text_printf(&file, "[Fleetd]\nListenPeer=%s:2390\nJoin=", m->address);
                for (unsigned k = 0; k < 3; k++)
                        if (k != i)
                                text_printf(&file, "%s:2390 ", machine(k)->address);
                text_append(&file, "\n");
                if (cluster_file_write(m->settings.cluster_file, file.chars) < 0)
                        abort();
                machine_start_daemon(m);
        }
        UNTIL("three-hosts-vote", all_vote(3));
        for (unsigned i = 0; i < 3; i++)
                UNTIL("a-new-address-is-recorded",
                      leader_with(machine(0)) &&
                              strstr(seen(leader_with(machine(0)), machine(i))->member.peer, ":2390"));
        over();
}

static void (*const scenarios[])(void) = {
        clone,
        old_image,
        replaced_host,
        an_unknown_leader,
        another_key_meanwhile,
        other_keys_of_all_replicas,
        renamed_host,
        renumber_all,
        removed_host_boots,
};

int main(int argc, char *argv[]) {
        return tokens_main(argc, argv, "tests/sim/test-rejoin", scenarios, ELEMENTS(scenarios), NULL,
                           "copies are rejected, and hosts return");
}
