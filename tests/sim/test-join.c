/* Joining by a token: whole daemons with certificates, the real authority and the real tree. A host or the
 * leader crashes at each step of a join; tokens are used twice, and by several hosts at once. A join ends by
 * itself or by the same command, with exactly one use of its token.
 *
 *      test-join [--seed N] [--runs N] [--trace]; with CHECK_ALL=yes, each step with each kind of crash
 */

#include "fleetd/identity/authority_internal.h"
#include "peers/peers_internal.h"
#include "tests/sim/tokens.h"

enum {
        RESTART_MS = 2000, /* from a crash to the next start */
        REPEAT_MS = 1000,  /* from the failure of a command to its repetition */
        TURN_SEC = 6,      /* until a host that joins has its turn, after as many as are admitted at once */
};

static bool joining_logged; /* a member has reported the session of a joining host */
static bool warned;         /* a host has reported that it gets no certificate */

static void on_message(const char *message) {
        joining_logged |= starts_with(message, "session from the joining host");
        warned |= starts_with(message, "Failed to get a certificate");
}

static void over(void) {
        cluster = cluster_free(cluster);
}

/* -- A crash at each step -- */

typedef enum Step {
        STEP_COMMAND,   /* J1: the request has not arrived */
        STEP_KEY,       /* J2 */
        STEP_SESSION,   /* J3 */
        STEP_REQUESTED, /* J4: a member has the request */
        STEP_RECORDED,  /* J5 */
        STEP_STORED,    /* J6 */
        STEP_ENTERED,   /* J7 */
        STEP_UP,        /* J8 */
        STEP_RAFT_ID,   /* J9: it has a member key, and is not in the configuration */
        STEP_SECRETS,   /* it has the cluster key */
        STEP_REPLICA,   /* it is in the configuration */
        STEP_VOTER,
        _STEP_MAX,
} Step;

static bool has_request(const SimMachine *at, const SimMachine *of) {
        const AuthorityOp *op;

        if (serves(at))
                LIST_FOREACH(op, &daemon_host(at->daemon)->authority->operations, ops)
                        if (op->request.token[0] && streq(op->machine, of->machine_id))
                                return true;
        return false;
}

/* Return whether the configuration has the replica of 'm', as a voter or not. */
static bool has_role(const SimMachine *m, bool voter) {
        const SimMachine *leader = leader_with(machine(0));
        const ClusterMachine *host = leader ? seen(leader, m) : NULL;
        KvState state = leader ? state_of(leader) : (KvState) {};

        for (size_t i = 0; host && i < state.n_members; i++)
                if (state.members[i].raft_id == host->member.raft_id)
                        return !voter || state.members[i].role == KV_MEMBER_VOTER;
        return false;
}

/* Return whether 'm' is at a step, and set *ret_server to the member that it uses. */
static bool is_at(Step step, SimMachine *m, unsigned members, SimMachine **ret_server) {
        for (unsigned i = 0; i < members; i++)
                if (has_request(machine(i), m))
                        *ret_server = machine(i);
        switch (step) {
        case STEP_SESSION:
                return joining_logged;
        case STEP_REQUESTED:
                return *ret_server != NULL;
        case STEP_RECORDED:
                for (unsigned i = 0; i < members; i++)
                        if (has_record(machine(i), m))
                                return true;
                return false;
        case STEP_STORED:
                return exists(m, "identity.new/entering");
        case STEP_ENTERED:
                return exists(m, "old/1");
        case STEP_UP:
                return leader_with(machine(0)) && seen(leader_with(machine(0)), m) &&
                       seen(leader_with(machine(0)), m)->presence == PRESENCE_UP;
        case STEP_RAFT_ID:
                return leader_with(machine(0)) && seen(leader_with(machine(0)), m) &&
                       seen(leader_with(machine(0)), m)->member.raft_id != 0;
        case STEP_SECRETS:
                return exists(m, "secrets/key.1");
        case STEP_REPLICA:
        case STEP_VOTER:
                return has_role(m, step == STEP_VOTER);
        default:
                return true;
        }
}

static void on_return(void *userdata) {
        SimMachine *m = userdata;

        if (m->power)
                machine_start_daemon(m);
        else
                machine_power_on(m);
}

static void crash(SimMachine *m, bool power) {
        world_trace(world, m->name, "crashes");
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        if (power)
                machine_power_cut(m);
        else
                machine_crash_daemon(m);
        if (user_of(m)->pending) /* the daemon is freed after the end of the join */
                daemon_join_cancel(m->daemon, user_of(m));
        user_of(m)->pending = false;
        user_of(m)->stored = false;
        world_at(world, RESTART_MS, NULL, on_return, m);
}

/* The command is repeated after each failure until the answer of the cluster is stored; from then on, the
 * host continues by itself. */
static void drive(SimMachine *m, const MadeToken *token) {
        static uint64_t failed_ms;
        User *u = user_of(m);

        if (u->pending || exists(m, "identity.new/entering") || exists(m, "identity") || !is_ready(m)) {
                failed_ms = 0;
                return;
        }
        if (failed_ms == 0)
                failed_ms = world_now_ms(world);
        if (world_now_ms(world) >= failed_ms + REPEAT_MS)
                (void) command(m, false, token->text);
}

static void check_joined(const SimMachine *m, const MadeToken *token, const char *pin) {
        const SimMachine *leader = leader_with(machine(0));
        const ClusterToken *t = token_at(leader, token);
        const ClusterMachine *host = seen(leader, m);
        static const char *const names[] = { "old/1/tree", "identity.new", "identity/entering", "old.new",
                                             "old/2" };

        if (!t || t->record.uses != 0 || t->record.total != 1)
                world_failed(world, "one-use-is-spent", "%s", t ? "another number is left" : "no token");
        if (host->host->pins.n != 1 || !streq(host->host->token, token->id))
                world_failed(world, "a-host-has-one-key", "%zu pins, token %s", host->host->pins.n,
                             host->host->token);
        if (pin[0] && !streq(host->host->pins.items[0], pin))
                world_failed(world, "the-key-is-used-again", "%s, before %s", host->host->pins.items[0], pin);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (exists(m, names[i]) != (i == 0))
                        world_failed(world, "a-join-leaves-complete-folders", "%s", names[i]);
}

typedef enum Victim { VICTIM_NONE, VICTIM_HOST, VICTIM_LEADER, VICTIM_SERVER, _VICTIM_MAX } Victim;

static void join_crash_at(Step step, Victim victim, bool power, unsigned members) {
        SimMachine *m, *server = NULL, *leader;
        char pin[DIGEST_SIZE] = "";
        MadeToken token;

        world_trace(world, "test", "step %d, victim %d, %s, %u members", step, victim,
                    power ? "power cut" : "crash", members);
        found(members + 1, members);
        joining_logged = false;
        m = machine(members);
        token = make_token(machine((unsigned) world_draw(world, members)), NULL);
        UNTIL("a-host-is-ready", is_ready(m));
        if (step > STEP_COMMAND)
                (void) command(m, false, token.text);
        if (step == STEP_KEY && !exists(m, "identity.new/key"))
                world_failed(world, "a-key-is-stored-first", "%s", m->folder);
        UNTIL_EACH(TOKENS_PATIENCE_MS, 1, "a-step-is-reached", is_at(step, m, members, &server));
        read_pin(m, pin);
        leader = leader_with(machine(0));
        if (victim == VICTIM_HOST)
                crash(m, power);
        else if (victim == VICTIM_SERVER && server)
                crash(server, power);
        else if (victim == VICTIM_LEADER && leader)
                crash(leader, power);
        for (uint64_t end_ms = world_now_ms(world) + TOKENS_PATIENCE_MS;
             !is_member(machine(0), m) || n_voters(machine(0)) != (members < 2 ? 1 : 3);) {
                if (world_now_ms(world) > end_ms)
                        world_failed(world, "a-join-ends", "step %d, victim %d, %u members: %s", step, victim,
                                     members, user_of(m)->message);
                drive(m, &token);
                run_ms(20);
        }
        run_ms(2000);
        check_joined(m, &token, pin);
        if (user_of(m)->n_joins > 2)
                world_failed(world, "a-command-is-repeated-once", "%u commands", user_of(m)->n_joins);
        over();
}

static bool all;

static void join_crash_each_step(void) {
        for (Step step = STEP_COMMAND; step < _STEP_MAX; step++)
                for (Victim victim = VICTIM_HOST; victim < _VICTIM_MAX; victim++) {
                        bool power = world_draw(world, 2) == 0;
                        unsigned members = world_draw(world, 2) == 0 ? 1 : 3;

                        if (victim == VICTIM_SERVER && (step < STEP_REQUESTED || step > STEP_RECORDED))
                                continue;
                        if (victim == VICTIM_SERVER)
                                members = 3;
                        if (step == STEP_VOTER) /* the third host */
                                members = 2;
                        join_crash_at(step, victim, power, members);
                        if (all)
                                join_crash_at(step, victim, !power, members);
                        if (all && victim != VICTIM_SERVER && step != STEP_VOTER)
                                join_crash_at(step, victim, power, 4 - members);
                }
}

/* -- Commands that are repeated, and tokens that are shared -- */

/* Two commands at once on one host; the same one again when it is joined; two hosts at once. */
static void join_twice(void) {
        MadeToken token, other;

        found(3, 1);
        token = make_token(machine(0), NULL);
        other = make_token(machine(0), NULL);
        UNTIL("a-host-is-ready", is_ready(machine(1)) && is_ready(machine(2)));
        (void) command(machine(1), false, token.text);
        if (command(machine(1), false, token.text) ||
            !strstr(user_of(machine(1))->message, "another fleetctl init or join is under way"))
                world_failed(world, "a-second-command-is-rejected", "%s", user_of(machine(1))->message);
        user_of(machine(1))->pending = true; /* the first one */
        (void) command(machine(2), false, other.text);
        UNTIL("both-hosts-join", is_member(machine(0), machine(1)) && is_member(machine(0), machine(2)));
        UNTIL("both-hosts-vote", n_voters(machine(0)) == 3);
        check_joined(machine(1), &token, "");
        check_joined(machine(2), &other, "");
        UNTIL("a-host-is-ready", is_ready(machine(1)));
        if (command(machine(1), false, other.text) ||
            !strstr(user_of(machine(1))->message, "this host is joined already, to the cluster with h1, h3"))
                world_failed(world, "a-joined-host-names-its-cluster", "%s", user_of(machine(1))->message);
        over();
}

/* The host has its record, and crashes before its answer. It joins with another token, of which no use is
 * spent: the key is that of the record. */
static void two_tokens_one_host(void) {
        SimMachine *server = NULL;
        MadeToken first, second;
        char pin[DIGEST_SIZE] = "";

        found(2, 1);
        first = make_token(machine(0), NULL);
        second = make_token(machine(0), NULL);
        UNTIL("a-host-is-ready", is_ready(machine(1)));
        (void) command(machine(1), false, first.text);
        UNTIL_EACH(TOKENS_PATIENCE_MS, 1, "a-host-requests", is_at(STEP_REQUESTED, machine(1), 1, &server));
        sim_net_cut_one_way(cluster->net, machine(0)->host, machine(1)->host, true);
        UNTIL("a-host-is-recorded", is_at(STEP_RECORDED, machine(1), 1, &server));
        read_pin(machine(1), pin);
        crash(machine(1), true);
        sim_net_cut_one_way(cluster->net, machine(0)->host, machine(1)->host, false);
        UNTIL("a-host-is-back", !machine(1)->loop);
        UNTIL("a-host-is-back", is_ready(machine(1)));
        join_with(machine(1), &second);
        UNTIL("a-host-is-a-member", is_member(machine(0), machine(1)));
        check_joined(machine(1), &first, pin);
        if (uses_left(&second) != 1)
                world_failed(world, "one-use-is-spent", "%u left of the second", uses_left(&second));
        over();
}

/* One use, and four hosts, which ask three members. */
static void token_race(void) {
        unsigned n = 0;
        MadeToken token;

        for (unsigned members = 1; members <= 3; members += 2) {
                found(5, members);
                token = make_token(machine(0), NULL);
                for (unsigned i = members; i < 5; i++) {
                        UNTIL("a-host-is-ready", is_ready(machine(i)));
                        (void) command(machine(i), false, token.text);
                }
                n = 0;
                for (unsigned i = members; i < 5; i++) {
                        UNTIL("a-join-ends", !user_of(machine(i))->pending);
                        n += user_of(machine(i))->stored;
                        if (!user_of(machine(i))->stored)
                                expect_failure(machine(i), "was used by");
                }
                if (n != 1)
                        world_failed(world, "one-use-admits-one-host", "%u hosts", n);
                for (unsigned i = members; i < 5; i++)
                        if (user_of(machine(i))->stored)
                                UNTIL("a-host-is-a-member", is_member(machine(0), machine(i)));
                for (unsigned i = members; i < 5; i++)
                        if (!user_of(machine(i))->stored &&
                            (!is_ready(machine(i)) ||
                             state_of(machine(i)).cluster_id == state_of(machine(0)).cluster_id))
                                world_failed(world, "a-rejected-host-stays-what-it-was", "%s",
                                             machine(i)->name);
                over();
        }
}

/* Five hosts hold a replica with three voters. */
static void six_hosts(void) {
        MadeToken token;

        warned = false;
        found(6, 5);
        token = make_token(machine(0), NULL);
        join_with(machine(5), &token);
        UNTIL("a-sixth-host-is-attached", state_of(machine(5)).attached && is_ready(machine(5)));
        run_ms(10000);
        if (is_member(machine(0), machine(5)) || seen(machine(0), machine(5))->member.raft_id != 0)
                world_failed(world, "five-hosts-hold-a-replica", "%s is a member", machine(5)->name);
        if (warned)
                world_failed(world, "a-join-needs-no-warning", "of a certificate");
        over();
}

/* -- Units -- */

#define SLEEPS "[Service]\nExecStart=/bin/sleep 1000\n"

/* Units of the former cluster of a host run on, and units of its new cluster start there. */
static void units_run_on(void) {
        uint64_t own, theirs;
        MadeToken token;
        SimMachine *m;

        found(2, 1);
        m = machine(1);
        UNTIL("a-host-is-ready", is_ready(m));
        for (unsigned i = 0; i < 2; i++) {
                snprintf(cluster->units[i].name, sizeof(cluster->units[i].name), "%s",
                         i == 0 ? "own.service" : "their.service");
                cluster->units[i].touched_ms = UINT64_MAX; /* may start; check_stop() judges each stop */
                cluster->n_units++;
        }
        launch(m, "own.service", SLEEPS);
        launch(machine(0), "their.service", SLEEPS);
        own = sim_systemd_invocation(m->systemd, "own.service");
        theirs = sim_systemd_invocation(machine(0)->systemd, "their.service");
        token = make_token(machine(0), NULL);
        join_with(m, &token);
        UNTIL("a-host-is-a-member", is_member(machine(0), m));
        run_ms(60000);
        if (!sim_systemd_runs(m->systemd, "own.service") ||
            sim_systemd_invocation(m->systemd, "own.service") != own ||
            !sim_systemd_runs(machine(0)->systemd, "their.service") ||
            sim_systemd_invocation(machine(0)->systemd, "their.service") != theirs)
                world_failed(world, "a-join-touches-no-unit", "a unit was stopped or started again");
        over();
}

/* A program that supports less than the level in force is rejected with both levels, and spends no use. */
static void old_program(void) {
        MadeToken token;

        found(2, 1);
        stop_host(machine(1));
        machine_wipe(machine(1), WIPE_ALL);
        machine(1)->level_max = KV_LEVEL_IDENTITY - 1;
        machine_start_daemon(machine(1));
        token = make_token(machine(0), NULL);
        UNTIL("a-host-is-ready", is_ready(machine(1)));
        (void) command(machine(1), false, token.text);
        expect_failure(machine(1), "this host supports feature level");
        if (uses_left(&token) != 1 || has_record(machine(0), machine(1)))
                world_failed(world, "a-rejected-host-spends-no-use", "%u left", uses_left(&token));
        over();
}

/* A host that has to wait for its turn is no host without an answer: it waits longer than for one. */
static void join_above_the_limit(void) {
        MadeToken token;
        Pace *joins;

        found(2, 1);
        token = make_token(machine(0), NULL);
        UNTIL("a-host-is-ready", is_ready(machine(1)));
        (void) command(machine(1), false, token.text);
        joins = &daemon_host(machine(0)->daemon)->peers->strangers.joins;
        (void) pace_wait_ms(joins, STRANGERS_JOINS_PER_SECOND, STRANGERS_JOINS_PER_SECOND,
                            loop_now_ms(world_loop(machine(0)->loop)));
        pace_take(joins, TURN_SEC * STRANGERS_JOINS_PER_SECOND + STRANGERS_JOINS_PER_SECOND);
        run_ms(1000 * TURN_SEC);
        if (user_of(machine(1))->stored)
                world_failed(world, "joins-are-limited", "%s has joined", machine(1)->name);
        UNTIL("a-host-is-a-member", is_member(machine(0), machine(1)));
        over();
}

static void (*const scenarios[])(void) = {
        join_crash_each_step, join_twice,  two_tokens_one_host,  token_race, six_hosts,
        units_run_on,         old_program, join_above_the_limit,
};

int main(int argc, char *argv[]) {
        all = getenv("CHECK_ALL") != NULL;
        return tokens_main(argc, argv, "tests/sim/test-join", scenarios, ELEMENTS(scenarios), on_message,
                           "hosts join once, with one use of a token");
}
