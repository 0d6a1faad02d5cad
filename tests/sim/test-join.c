/* Joining by a token: whole daemons with certificates, the real authority and the real tree. A host or the
 * leader crashes at each step of a join, tokens are used twice and by several hosts at once, hosts are
 * copied, wiped and renamed. A join ends by itself or by the same command, with exactly one use of its token,
 * and no unit is touched.
 *
 *      test-join [--seed N] [--runs N] [--trace]; with CHECK_ALL=yes, each step with each kind of crash
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fleetd/api/api.h"
#include "fleetd/membership/authority_internal.h"
#include "fleetd/membership/identity.h"
#include "tests/lib/scratch.h"
#include "tests/sim/cluster.h"
#include "tests/sim/seeds.h"

enum {
        PATIENCE_MS = 60000,
        RESTART_MS = 2000, /* from a crash to the next start */
        REPEAT_MS = 1000,  /* from the failure of a command to its repetition */
        TOKENS = 4,
};

static World *world;
static SimCluster *cluster;

/* -- Users -- */

/* Commands of a user on one host. */
typedef struct User {
        ApiOptions api; /* of the daemon that was opened last */
        bool pending, stored;
        unsigned n_joins; /* commands that were accepted */
        int error;        /* of the last command */
        char message[ERROR_MESSAGE_MAX];
} User;

static User users[CLUSTER_HOSTS_MAX];

static User *user_of(const SimMachine *m) {
        return &users[m->index];
}

/* The requests of users begin at the options of the API: there is no listener in a simulation. */
int __real_api_new(Api **ret, Loop *loop, const ApiOptions *options);
int __wrap_api_new(Api **ret, Loop *loop, const ApiOptions *options);
int __wrap_api_new(Api **ret, Loop *loop, const ApiOptions *options) {
        user_of(cluster_running_machine(cluster))->api = *options;
        return __real_api_new(ret, loop, options);
}

static bool joining_logged; /* "session from the joining host" since the last command */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        joining_logged |= starts_with(message, "session from the joining host");
        if (cluster)
                check_message(cluster, fields, message);
}

/* -- The cluster -- */

static bool serves(const SimMachine *m) {
        return m->daemon && !m->dying && daemon_store(m->daemon);
}

static KvState state_of(const SimMachine *m) {
        KvState state = {};

        if (serves(m))
                kv_state(daemon_store(m->daemon), &state);
        return state;
}

static const Cluster *view_of(const SimMachine *m) {
        return registry_cluster(daemon_registry(m->daemon));
}

/* Return the leader of the cluster of 'of', or NULL. */
static SimMachine *leader_with(const SimMachine *of) {
        SimMachine *found = NULL;
        uint64_t term = 0;

        for (unsigned i = 0; i < cluster->n; i++) {
                KvState state = state_of(&cluster->machines[i]);

                if (state.role == KV_ROLE_LEADER && state.ready && state.term > term &&
                    state.cluster_id == state_of(of).cluster_id) {
                        found = &cluster->machines[i];
                        term = state.term;
                }
        }
        return found;
}

#define UNTIL_EACH(ms, step_ms, name, expression)                                                  \
        do {                                                                                       \
                uint64_t until_ms_ = world_now_ms(world) + (ms);                                   \
                while (!(expression)) {                                                            \
                        if (world_now_ms(world) > until_ms_)                                       \
                                world_failed(world, name, "not within %d s", (int) ((ms) / 1000)); \
                        world_run(world, world_now_ms(world) + (step_ms));                         \
                }                                                                                  \
        } while (false)
#define UNTIL(name, expression) UNTIL_EACH(PATIENCE_MS, 20, name, expression)

static void run_ms(uint64_t ms) {
        world_run(world, world_now_ms(world) + ms);
}

static SimMachine *machine(unsigned i) {
        return &cluster->machines[i];
}

static bool is_ready(const SimMachine *m) {
        return state_of(m).ready && registry_ready(daemon_registry(m->daemon));
}

/* -- Commands -- */

static void on_joined(void *userdata, int error, const char *message, const ApiJoined *joined) {
        User *u = userdata;

        u->pending = false;
        u->stored = error == 0;
        u->error = error;
        snprintf(u->message, sizeof(u->message), "%s", message);
        if (error < 0)
                world_trace(world, "user", "%s", message);
}

/* Run fleetctl init or join. Return whether the daemon accepted the command. */
static bool command(SimMachine *m, bool init, const char *token) {
        User *u = user_of(m);
        char listen[ADDRESS_SIZE];
        ApiJoin join = { .token = token, .listen = listen, .init = init, .discard = true };
        Error err = {};
        int r;

        snprintf(listen, sizeof(listen), "%s:2380", m->address);
        joining_logged = false;
        r = u->api.join(u->api.userdata, &join, on_joined, u, &err);
        world_trace(world, m->name, "fleetctl %s: %s", init ? "init" : "join",
                    r < 0 ? err.message : "accepted");
        u->pending = r == 0;
        u->stored = false;
        if (r < 0) {
                u->error = r;
                snprintf(u->message, sizeof(u->message), "%s", err.message);
        } else
                u->n_joins++;
        return r == 0;
}

typedef struct MadeToken {
        bool done;
        char text[TOKEN_TEXT_MAX + 1], id[TOKEN_ID_SIZE];
} MadeToken;

static void on_token(void *userdata, int error, const char *message, const AuthorityToken *token) {
        MadeToken *made = userdata;

        made->done = true;
        if (!token) {
                world_trace(world, "token", "%s", message);
                return;
        }
        snprintf(made->text, sizeof(made->text), "%s", token->text);
        snprintf(made->id, sizeof(made->id), "%s", token->id);
}

static MadeToken make_token(SimMachine *m, const char *replace) {
        TokenRequest request = { .uses = 1, .replace = replace, .by = "root" };
        MadeToken made = {};
        Error err = {};

        UNTIL("a-host-makes-tokens", is_ready(m));
        if (authority_create_token(user_of(m)->api.authority, &request, on_token, &made, &err) < 0)
                world_failed(world, "a-token-is-made", "%s", err.message);
        UNTIL("a-token-is-made", made.done);
        if (!made.text[0])
                world_failed(world, "a-token-is-made", "no token");
        return made;
}

static const ClusterToken *token_at(const SimMachine *m, const MadeToken *made) {
        return cluster_token(view_of(m), made->id);
}

/* -- Hosts of the cluster -- */

static const ClusterMachine *seen(const SimMachine *at, const SimMachine *m) {
        return serves(at) ? cluster_machine(view_of(at), m->machine_id) : NULL;
}

static bool has_record(const SimMachine *at, const SimMachine *m) {
        const ClusterMachine *machine = seen(at, m);

        return machine && machine->host;
}

/* Return whether 'm' is up, as its cluster has recorded, and has a replica there. */
static bool is_member(const SimMachine *of, const SimMachine *m) {
        const SimMachine *leader = leader_with(of);
        const ClusterMachine *machine = leader ? seen(leader, m) : NULL;
        KvState state = leader ? state_of(leader) : (KvState) {};

        if (!machine || machine->presence != PRESENCE_UP || state_of(m).cluster_id != state.cluster_id)
                return false;
        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id == state_of(m).raft_id)
                        return state.members[i].reachable || leader == m;
        return false;
}

static size_t n_voters(const SimMachine *of) {
        const SimMachine *leader = leader_with(of);

        return leader ? state_of(leader).n_voters_reachable : 0;
}

static void join_with(SimMachine *m, const MadeToken *token) {
        UNTIL("a-host-is-ready", is_ready(m) || (m->settings.join.n > 0 && serves(m)));
        if (!command(m, false, token->text))
                world_failed(world, "a-host-joins", "%s", user_of(m)->message);
        UNTIL("a-join-ends", !user_of(m)->pending);
        if (!user_of(m)->stored)
                world_failed(world, "a-host-joins", "%s", user_of(m)->message);
}

/* Found a cluster of the first 'members' of 'hosts' hosts; the others are clusters of one. */
static void found(unsigned hosts, unsigned members) {
        memset(users, 0, sizeof(users));
        cluster = cluster_new_by_token(world, hosts);
        for (unsigned i = 0; i < hosts; i++)
                machine_start_daemon(machine(i));
        UNTIL("a-host-founds-a-cluster", is_ready(machine(0)));
        if (!command(machine(0), true, ""))
                world_failed(world, "a-cluster-opens", "%s", user_of(machine(0))->message);
        UNTIL("a-cluster-opens", state_of(machine(0)).ready && machine(0)->settings.listen_peer[0]);
        for (unsigned i = 1; i < members; i++) {
                MadeToken token = make_token(machine(0), NULL);

                join_with(machine(i), &token);
                UNTIL("a-host-is-a-member", is_member(machine(0), machine(i)));
        }
        UNTIL("the-voters-are-up", n_voters(machine(0)) == (members < 3 ? 1 : 3));
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
        STEP_REPLICA,   /* J9 */
        _STEP_MAX,
} Step;

static bool exists(const SimMachine *m, const char *name) {
        _cleanup_free_ char *path = scratch_path(m->folder, name);
        struct stat st;

        return stat(path, &st) == 0;
}

static bool has_request(const SimMachine *at, const SimMachine *of) {
        const AuthorityOp *op;

        if (serves(at))
                LIST_FOREACH(op, &user_of(at)->api.authority->operations, ops)
                        if (op->kind == AUTHORITY_JOIN && streq(op->machine, of->machine_id))
                                return true;
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
        case STEP_REPLICA:
                return is_member(machine(0), m);
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
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + PATIENCE_MS);
        if (power)
                machine_power_cut(m);
        else
                machine_crash_daemon(m);
        if (user_of(m)->pending) /* the daemon is freed after the end of the join */
                user_of(m)->api.join_cancel(user_of(m)->api.userdata, user_of(m));
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

static void read_pin(const SimMachine *m, char ret[static DIGEST_SIZE]) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        Error err = {};
        char *pem;
        TlsPin pin;

        if (identity_read_key(m->folder, &pem, &err) < 0)
                return;
        if (tls_private_key_read(pem, strlen(pem), &key, &err) < 0)
                abort();
        tls_private_key_pin(key, &pin);
        tls_pin_print(&pin, ret);
        identity_wipe(pem);
}

typedef enum Victim { VICTIM_NONE, VICTIM_HOST, VICTIM_LEADER, VICTIM_SERVER, _VICTIM_MAX } Victim;

static void join_crash_at(Step step, Victim victim, bool power, unsigned members) {
        SimMachine *m, *server = NULL, *leader;
        char pin[DIGEST_SIZE] = "";
        MadeToken token;

        world_trace(world, "test", "step %d, victim %d, %s, %u members", step, victim,
                    power ? "power cut" : "crash", members);
        found(members + 1, members);
        m = machine(members);
        token = make_token(machine((unsigned) world_draw(world, members)), NULL);
        UNTIL("a-host-is-ready", is_ready(m));
        if (step > STEP_COMMAND)
                (void) command(m, false, token.text);
        if (step == STEP_KEY && !exists(m, "identity.new/key"))
                world_failed(world, "a-key-is-stored-first", "%s", m->folder);
        UNTIL_EACH(PATIENCE_MS, 1, "a-step-is-reached", is_at(step, m, members, &server));
        read_pin(m, pin);
        leader = leader_with(machine(0));
        if (victim == VICTIM_HOST)
                crash(m, power);
        else if (victim == VICTIM_SERVER && server)
                crash(server, power);
        else if (victim == VICTIM_LEADER && leader)
                crash(leader, power);
        for (uint64_t end_ms = world_now_ms(world) + PATIENCE_MS;
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
                        join_crash_at(step, victim, power, members);
                        if (all)
                                join_crash_at(step, victim, !power, members);
                        if (all && victim != VICTIM_SERVER)
                                join_crash_at(step, victim, power, 4 - members);
                }
}

/* -- Commands that are repeated, and tokens that are shared -- */

static void expect_failure(SimMachine *m, const char *text) {
        UNTIL("a-command-ends", !user_of(m)->pending);
        if (user_of(m)->stored || !strstr(user_of(m)->message, text))
                world_failed(world, "a-command-fails-with-the-reason", "'%s' instead of '%s'",
                             user_of(m)->message, text);
}

static unsigned uses_left(const MadeToken *token) {
        const ClusterToken *t = token_at(leader_with(machine(0)), token);

        return t ? (unsigned) t->record.uses : 0;
}

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
        UNTIL_EACH(PATIENCE_MS, 1, "a-host-requests", is_at(STEP_REQUESTED, machine(1), 1, &server));
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
                run_ms(3000);
                for (unsigned i = members; i < 5; i++)
                        if (!is_ready(machine(i)) ||
                            is_member(machine(0), machine(i)) !=
                                    (state_of(machine(i)).cluster_id == state_of(machine(0)).cluster_id))
                                world_failed(world, "a-rejected-host-stays-what-it-was", "%s",
                                             machine(i)->name);
                over();
        }
}

/* Five hosts are the limit with three voters. */
static void five_hosts(void) {
        MadeToken token;

        found(6, 5);
        token = make_token(machine(0), NULL);
        UNTIL("a-host-is-ready", is_ready(machine(5)));
        (void) command(machine(5), false, token.text);
        expect_failure(machine(5), "the cluster has 5 hosts");
        if (uses_left(&token) != 1)
                world_failed(world, "a-rejected-host-spends-no-use", "%u left", uses_left(&token));
        over();
}

static void (*const scenarios[])(void) = {
        join_crash_each_step, join_twice, two_tokens_one_host, token_race, five_hosts,
};

int main(int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = 1 };

        all = getenv("CHECK_ALL") != NULL;
        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);

        for (uint64_t i = 0; i < o.runs; i++)
                for (unsigned k = 0; k < ELEMENTS(scenarios); k++) {
                        world = world_new(o.seed + i, o.trace);
                        world_set_replay(world, "tests/sim/test-join");
                        scenarios[k]();
                        world_free(world);
                        world = NULL;
                }
        printf("%llu times %zu scenarios: hosts join once, with one use of a token\n",
               (unsigned long long) o.runs, ELEMENTS(scenarios));
        return 0;
}
