#include "tests/sim/tokens.h"

#include <sys/stat.h>

#include "fleetd/identity/identity.h"
#include "tests/lib/scratch.h"
#include "tests/sim/seeds.h"

World *world;
SimCluster *cluster;
unsigned program_level;
bool api_listens;

static void (*message_observer)(const char *message);
static User users[CLUSTER_HOSTS_MAX];

User *user_of(const SimMachine *m) {
        return &users[m->index];
}

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        if (message_observer)
                message_observer(message);
        if (cluster)
                check_message(cluster, fields, message);
}

/* -- The cluster -- */

bool serves(const SimMachine *m) {
        return machine_serves(m);
}

KvState state_of(const SimMachine *m) {
        KvState state = {};

        if (serves(m))
                kv_state(daemon_host(m->daemon)->store, &state);
        return state;
}

static const Cluster *view_of(const SimMachine *m) {
        return registry_cluster(daemon_host(m->daemon)->registry);
}

SimMachine *leader_with(const SimMachine *of) {
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

void run_ms(uint64_t ms) {
        world_run(world, world_now_ms(world) + ms);
}

SimMachine *machine(unsigned i) {
        return &cluster->machines[i];
}

bool is_ready(const SimMachine *m) {
        return state_of(m).ready && registry_ready(daemon_host(m->daemon)->registry);
}

/* -- Commands -- */

static void on_joined(void *userdata, int error, const char *message, const EnteringResult *joined) {
        User *u = userdata;

        u->pending = false;
        u->stored = error == 0;
        u->error = error;
        snprintf(u->message, sizeof(u->message), "%s", message);
        if (error < 0)
                world_trace(world, "user", "%s", message);
}

bool command(SimMachine *m, bool init, const char *token) {
        User *u = user_of(m);
        char listen[ADDRESS_SIZE];
        DaemonJoin join = { .token = token, .listen = listen, .init = init, .discard = !u->keeps };
        Error err = {};
        int r;

        snprintf(listen, sizeof(listen), "%s:2380", m->address);
        r = daemon_join(m->daemon, &join, on_joined, u, &err);
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

static void on_token(void *userdata, int error, const char *message, const AuthorityResult *token) {
        MadeToken *made = userdata;

        made->done = true;
        if (!token) {
                world_trace(world, "token", "%s", message);
                return;
        }
        snprintf(made->text, sizeof(made->text), "%s", token->text);
        snprintf(made->id, sizeof(made->id), "%s", token->id);
}

MadeToken make_token(SimMachine *m, const char *replace) {
        return make_token_of(m, &(TokenRequest) { .uses = 1, .replace = replace, .by = "root" });
}

MadeToken make_token_of(SimMachine *m, const TokenRequest *request) {
        MadeToken made = {};
        Error err = {};

        UNTIL("a-host-makes-tokens", is_ready(m));
        if (authority_create_token(daemon_host(m->daemon)->authority, request, on_token, &made, &err) < 0)
                world_failed(world, "a-token-is-made", "%s", err.message);
        UNTIL("a-token-is-made", made.done);
        if (!made.text[0])
                world_failed(world, "a-token-is-made", "no token");
        return made;
}

const ClusterToken *token_at(const SimMachine *m, const MadeToken *made) {
        return cluster_token(view_of(m), made->id);
}

/* -- Hosts of the cluster -- */

const ClusterMachine *seen(const SimMachine *at, const SimMachine *m) {
        return serves(at) ? cluster_machine(view_of(at), m->machine_id) : NULL;
}

bool has_record(const SimMachine *at, const SimMachine *m) {
        const ClusterMachine *machine = seen(at, m);

        return machine && machine->host;
}

bool is_member(const SimMachine *of, const SimMachine *m) {
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

size_t n_voters(const SimMachine *of) {
        const SimMachine *leader = leader_with(of);

        return leader ? state_of(leader).n_voters_reachable : 0;
}

void join_with(SimMachine *m, const MadeToken *token) {
        UNTIL("a-host-is-ready", is_ready(m) || (m->settings.join.n > 0 && serves(m)));
        if (!command(m, false, token->text))
                world_failed(world, "a-host-joins", "%s", user_of(m)->message);
        UNTIL("a-join-ends", !user_of(m)->pending);
        if (!user_of(m)->stored)
                world_failed(world, "a-host-joins", "%s", user_of(m)->message);
}

void found(unsigned hosts, unsigned members) {
        memset(users, 0, sizeof(users));
        cluster = cluster_new_by_token(world, hosts);
        cluster->may_attach = hosts > 5;
        for (unsigned i = 0; i < hosts; i++) {
                machine(i)->level_max = program_level;
                free(machine(i)->settings.listen_socket);
                if (asprintf(&machine(i)->settings.listen_socket, api_listens ? "%s:80" : "",
                             machine(i)->address) < 0)
                        abort();
                machine_start_daemon(machine(i));
        }
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

bool exists(const SimMachine *m, const char *name) {
        _cleanup_free_ char *path = scratch_path(m->folder, name);
        struct stat st;

        return stat(path, &st) == 0;
}

void read_pin(const SimMachine *m, char ret[static DIGEST_SIZE]) {
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

unsigned uses_left(const MadeToken *token) {
        const ClusterToken *t = token_at(leader_with(machine(0)), token);

        return t ? (unsigned) t->record.uses : 0;
}

void expect_failure(SimMachine *m, const char *text) {
        UNTIL("a-command-ends", !user_of(m)->pending);
        if (user_of(m)->stored || !strstr(user_of(m)->message, text))
                world_failed(world, "a-command-fails-with-the-reason", "'%s' instead of '%s'",
                             user_of(m)->message, text);
}

static void on_launched(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(bool *) userdata = status == KV_OK;
}

void launch(SimMachine *m, const char *name, const char *text) {
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        bool done = false;
        Unit *unit;

        if (unit_parse(name, text, strlen(text), &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_host(m->daemon)->registry, &change, 1, on_launched, &done) < 0)
                abort();
        UNTIL("a-unit-is-launched", done && sim_systemd_runs(m->systemd, name));
        unit_free(unit);
}

void stop_host(SimMachine *m) {
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        machine_stop_daemon(m);
        UNTIL("a-daemon-ends", !m->loop);
}

int tokens_main(int argc, char *argv[], const char *replay, void (*const *scenarios)(void), size_t n,
                void (*on_message)(const char *message), const char *result) {
        Seeds o = { .seed = 1, .runs = 1 };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        message_observer = on_message;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace || on_message ? LOG_DEBUG : LOG_INFO);
        for (uint64_t i = 0; i < o.runs; i++)
                for (size_t k = 0; k < n; k++) {
                        world = world_new(o.seed + i, o.trace);
                        world_set_replay(world, replay);
                        scenarios[k]();
                        world_free(world);
                        world = NULL;
                }
        printf("%llu times %zu scenarios: %s\n", (unsigned long long) o.runs, n, result);
        return 0;
}
