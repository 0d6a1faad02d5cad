/* From the key file to certificates: whole daemons with TLS, under load. The leader, or another host, crashes
 * at each step; the request of the administrator is repeated until it succeeds. At the end, each host has a
 * certificate and accepts nothing else, each acknowledged write exists, and no unit was touched. A host that
 * was off joins again by a token.
 *
 *      test-migrate [--seed N] [--runs N] [--trace]; with CHECK_ALL=yes, each step with each kind of crash
 */
#include <sys/stat.h>

#include "fleetd/api/api.h"
#include "fleetd/identity/securing.h"
#include "fleetd/identity/identity.h"
#include "tests/lib/scratch.h"
#include "tests/sim/load.h"
#include "tests/sim/worlds.h"

enum {
        PATIENCE_MS = 100000, /* a rejected request for a certificate is repeated after a minute */
        STEP_MS = 5,
        RESTART_MS = 2000,
        REPEAT_MS = 1000,
        WRITE_MS = 100,
        MEMBERS_MAX = 5, /* further hosts have no replica */
};

static TlsKey *key;

/* -- Users -- */

static struct {
        SimMachine *asked; /* to require certificates; NULL: no answer is due */
        uint64_t again_ms;
        bool force, done;
        char message[ERROR_MESSAGE_MAX]; /* the last refusal */
        bool redialed;                   /* a session was replaced */
        bool commanded;                  /* a host was told the command that it needs */
        char token[TOKEN_TEXT_MAX + 1];
        bool joined;
} user;

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        user.redialed |= strstr(message, "ended: replaced by a newer session") != NULL;
        user.commanded |= starts_with(message, "Failed to open a session to") &&
                          strstr(message, "fleetctl token --replace=");
        if (cluster)
                check_message(cluster, fields, message);
}

/* -- The cluster -- */

static const Cluster *view_of(const SimMachine *m) {
        return registry_cluster(daemon_host(m->daemon)->registry);
}

static SimMachine *leader(void) {
        return cluster_leader(cluster);
}

/* All of 'n' hosts are in the cluster: the first ones as members. */
static bool has_hosts(size_t hosts) {
        KvState state = leader() ? machine_state(leader()) : (KvState) {};
        size_t n_reachable = 0, n = MIN(hosts, (size_t) MEMBERS_MAX), n_attached = 0;

        for (unsigned i = 0; i < hosts; i++)
                n_attached += machine_state(&cluster->machines[i]).attached &&
                              machine_state(&cluster->machines[i]).ready;

        for (size_t i = 0; i < state.n_members; i++)
                n_reachable += state.members[i].reachable;
        return state.n_members == n && n_reachable == n && state.n_voters == 3 && n_attached == hosts - n;
}

#define UNTIL(name, expression) \
        WORLD_UNTIL(world, PATIENCE_MS, name, expression, world_run(world, world_now_ms(world) + STEP_MS))

static bool exists(const SimMachine *m, const char *name) {
        _cleanup_free_ char *path = scratch_path(m->folder, name);
        struct stat st;

        return stat(path, &st) == 0;
}

static unsigned n_with(const char *name) {
        unsigned n = 0;

        for (unsigned i = 0; i < cluster->n; i++)
                n += exists(&cluster->machines[i], name);
        return n;
}

static void on_start(void *userdata) {
        SimMachine *m = userdata;

        if (m->power)
                machine_start_daemon(m);
        else
                machine_power_on(m);
}

/* -- A unit on each host -- */

static const char unit_name[] = "everywhere.service";
static uint64_t invocations[CLUSTER_HOSTS_MAX];

static void on_submitted(void *userdata, KvStatus status, const char *message, uint64_t index) {}

static bool runs_everywhere(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (!sim_systemd_runs(cluster->machines[i].systemd, unit_name))
                        return false;
        return true;
}

static void start_unit(void) {
        static const char text[] = "[Service]\nExecStart=/bin/sleep 100\n[X-Fleet]\nGlobal=true\n";
        UnitChange change = { .name = unit_name, .has_target = true, .target = TARGET_LAUNCHED };
        Unit *unit = NULL;

        if (unit_parse(unit_name, text, strlen(text), &unit, NULL) < 0)
                abort();
        change.unit = unit;
        UNTIL("there-is-a-leader", leader());
        if (registry_change_units(daemon_host(leader()->daemon)->registry, &change, 1, on_submitted, NULL) <
            0)
                abort();
        unit_free(unit);
        UNTIL("a-unit-runs-everywhere", runs_everywhere());
        for (unsigned i = 0; i < cluster->n; i++)
                invocations[i] = sim_systemd_invocation(cluster->machines[i].systemd, unit_name);
}

/* No unit was touched, except by a power cut. */
static void check_unit(void) {
        UNTIL("a-unit-runs-everywhere", runs_everywhere());
        for (unsigned i = 0; i < cluster->n; i++) {
                const SimMachine *m = &cluster->machines[i];

                if (m->boots == 0 && sim_systemd_invocation(m->systemd, unit_name) != invocations[i])
                        world_failed(world, "no-unit-is-touched", "%s on %s was started again", unit_name,
                                     m->name);
        }
}

static void form(unsigned hosts) {
        memset(&user, 0, sizeof(user));
        cluster = cluster_new_by_key(world, hosts, key);
        for (unsigned i = 0; i < hosts; i++)
                world_at(world, i * 100, NULL, on_start, &cluster->machines[i]);
        UNTIL("a-cluster-forms", has_hosts(hosts));
        start_unit();
        load_start(cluster, WRITE_MS, NULL);
}

/* -- The request -- */

static void on_secured(void *userdata, int error, const char *message, const AuthorityResult *unused) {
        user.asked = NULL;
        user.done |= error == 0;
        user.again_ms = world_now_ms(world) + REPEAT_MS;
        snprintf(user.message, sizeof(user.message), "%s", message ?: "");
        world_trace(world, "user", "certificates: %s", error == 0 ? "required" : message);
}

/* The administrator repeats the command on another host after each failure. */
static void drive(void) {
        SimMachine *m = &cluster->machines[world_draw(world, cluster->n)];
        Error err = {};

        if (machine_state(m).attached) /* a replica gets its requests */
                return;
        if (user.asked && !machine_serves(user.asked))
                user.asked = NULL; /* the answer was lost with the daemon */
        if (user.done || user.asked || world_now_ms(world) < user.again_ms || !machine_serves(m))
                return;
        if (authority_secure(daemon_host(m->daemon)->authority, user.force, "root", on_secured, &user,
                             &err) == 0)
                user.asked = m;
}

/* -- Steps -- */

typedef enum Step {
        STEP_KEY,       /* the leader has made the cluster key */
        STEP_CONFIRMED, /* another host has it, too */
        STEP_CA,
        STEP_PIN,      /* the first host is recorded */
        STEP_IDENTITY, /* a host has stored its certificate */
        STEP_REPLACED, /* a session */
        STEP_PINS,     /* all hosts are recorded */
        STEP_REQUIRED, /* the setting is written */
        STEP_RECORDED, /* on one host */
        _STEP_MAX,
} Step;

static unsigned n_pins(const SimMachine *at) {
        unsigned n = 0;

        for (const ClusterMachine *m = view_of(at)->machines; m; m = m->hh.next)
                n += m->host && m->host->pins.n > 0;
        return n;
}

static bool is_at(Step step) {
        SimMachine *m = leader();

        switch (step) {
        case STEP_KEY:
                return n_with("secrets/key.1") > 0;
        case STEP_CONFIRMED:
                return n_with("secrets/key.1") > 1;
        case STEP_CA:
                return m && view_of(m)->ca_roots;
        case STEP_PIN:
                return m && n_pins(m) > 0;
        case STEP_IDENTITY:
                return n_with("identity/certificate.pem") > 0;
        case STEP_REPLACED:
                return user.redialed;
        case STEP_PINS:
                return m && n_pins(m) == cluster->n;
        case STEP_REQUIRED:
                return m && cluster_settings(view_of(m))->peer_auth == PEER_AUTH_CERTIFICATE;
        case STEP_RECORDED:
                return n_with("identity/certificates") > 0;
        default:
                return true;
        }
}

static void crash(SimMachine *m, bool power) {
        world_trace(world, m->name, "crashes");
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + PATIENCE_MS);
        if (power)
                machine_power_cut(m);
        else
                machine_crash_daemon(m);
        world_at(world, RESTART_MS, NULL, on_start, m);
}

static SimMachine *victim_of(bool of_leader) {
        SimMachine *m = leader();

        if (!m || of_leader)
                return m ?: &cluster->machines[0];
        return &cluster->machines[(m->index + 1 + world_draw(world, cluster->n - 1)) % cluster->n];
}

/* -- The end -- */

static bool uses_key(const SimMachine *m) {
        PeerState state;

        for (unsigned i = 0; i < cluster->n; i++)
                if (peers_state(daemon_host(m->daemon)->peers, cluster->machines[i].machine_id, &state) ==
                            0 &&
                    state.by_key)
                        return true;
        return false;
}

static bool is_over(void) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                if (!machine_serves(m) || !exists(m, "identity/certificates") || uses_key(m))
                        return false;
                if (!machine_state(m).attached &&
                    (machine_state(m).index != machine_state(leader()).index || !load_is_on(m)))
                        return false;
        }
        return true;
}

static void check_end(void) {
        UNTIL("all-hosts-are-members", has_hosts(cluster->n));
        load_stop();
        UNTIL("each-host-requires-certificates-and-has-each-write", leader() && is_over());
        load_check();
        check_hashes(cluster);
        check_unit();
        cluster = cluster_free(cluster);
}

static void migrate_with_crash(Step step, bool of_leader, bool power, unsigned hosts) {
        world_trace(world, "test", "step %d, %s, %s, %u hosts", step, of_leader ? "leader" : "another host",
                    power ? "power cut" : "crash", hosts);
        form(hosts);
        UNTIL("a-step-is-reached", (drive(), is_at(step)));
        crash(victim_of(of_leader), power);
        UNTIL("the-request-succeeds", (drive(), user.done));
        check_end();
}

static void migrate_each_step(void) {
        bool all = getenv("CHECK_ALL") != NULL;

        for (Step step = 0; step < _STEP_MAX; step++)
                for (unsigned kind = 0; kind < 4; kind++)
                        if (all || kind < 2) /* the leader, or another host */
                                migrate_with_crash(step, kind % 2 == 0, kind > 1, all ? 5 : 3);
}

/* -- Hosts that were off -- */

/* Return the host that has a certificate while the cluster knows the key of no other one; NULL: none, or the
 * leader. */
static SimMachine *first_with_certificate(void) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                if (leader() && leader() != m && n_pins(leader()) == 1 &&
                    exists(m, "identity/certificate.pem"))
                        return m;
        }
        return NULL;
}

/* A host without a replica gets a certificate by the key file, too, also if it crashes meanwhile, and none is
 * required before. */
static void migrate_with_attached_host(void) {
        SimMachine *m;

        form(MEMBERS_MAX + 1);
        for (m = cluster->machines; !machine_state(m).attached; m++)
                ;
        UNTIL("a-step-is-reached", (drive(), is_at(STEP_PIN)));
        crash(m, false);
        UNTIL("the-request-succeeds", (drive(), user.done));
        if (n_pins(leader()) != cluster->n)
                world_failed(world, "certificates-are-required-when-each-host-has-one", "%u of %u",
                             n_pins(leader()), cluster->n);
        check_end();
}

/* The first host that has a certificate crashes, and returns when the key file has ended: its tree has no key
 * of the others. */
static void migrate_with_outdated_tree(void) {
        SimMachine *m = NULL;

        while (!m) {
                form(3);
                UNTIL("a-host-has-a-certificate",
                      (drive(), (m = first_with_certificate()) || n_with("identity/certificate.pem") > 0));
                if (m)
                        break;
                load_stop();
                cluster = cluster_free(cluster);
        }
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + 4 * (uint64_t) PATIENCE_MS);
        machine_crash_daemon(m);
        UNTIL("the-request-succeeds", (drive(), user.done));
        UNTIL("all-others-require-certificates", n_with("identity/certificates") == cluster->n - 1);
        machine_start_daemon(m);
        check_end();
}

static void on_token(void *userdata, int error, const char *message, const AuthorityResult *token) {
        snprintf(user.token, sizeof(user.token), "%s", token ? token->text : "");
}

static void on_joined(void *userdata, int error, const char *message, const EnteringResult *joined) {
        if (error < 0)
                world_failed(world, "a-host-joins-again", "%s", message);
        user.joined = true;
}

static void migrate_with_absent_host(void) {
        SimMachine *absent = NULL;
        Error err = {};
        char listen[ADDRESS_SIZE];
        TokenRequest request = { .uses = 1, .by = "root" };
        DaemonJoin join = { .token = user.token, .listen = listen };

        form(5);
        for (unsigned i = 0; i < cluster->n; i++) /* a standby: the CA waits for each voter */
                if (machine_state(leader()).members[i].role != KV_MEMBER_VOTER)
                        for (unsigned k = 0; k < cluster->n; k++)
                                if (machine_state(&cluster->machines[k]).raft_id ==
                                    machine_state(leader()).members[i].raft_id)
                                        absent = &cluster->machines[k];
        machine_suspect(absent, world_now_ms(world), world_now_ms(world) + 10 * (uint64_t) PATIENCE_MS);
        machine_stop_daemon(absent);
        UNTIL("the-absent-host-is-named", (drive(), strstr(user.message, "no certificate: ")));
        user.force = true;
        UNTIL("the-request-succeeds", (drive(), user.done));
        UNTIL("all-others-require-certificates", n_with("identity/certificates") == cluster->n - 1);

        user.commanded = false;
        machine_start_daemon(absent);
        UNTIL("the-absent-host-is-told-the-command", user.commanded);
        if (machine_state(absent).ready)
                world_failed(world, "the-key-file-is-rejected", "%s has a leader", absent->name);
        request.replace = absent->machine_id;
        if (authority_create_token(daemon_host(leader()->daemon)->authority, &request, on_token, NULL, &err) <
            0)
                world_failed(world, "a-token-is-made", "%s", err.message);
        UNTIL("a-token-is-made", user.token[0]);
        snprintf(listen, sizeof(listen), "%s:2380", absent->address);
        if (daemon_join(absent->daemon, &join, on_joined, NULL, &err) < 0)
                world_failed(world, "a-host-joins-again", "%s", err.message);
        UNTIL("a-host-joins-again", user.joined);
        check_end();
}

static void (*const scenarios[])(void) = { migrate_with_attached_host, migrate_with_outdated_tree,
                                           migrate_each_step, migrate_with_absent_host };

static void read_key(void) {
        char path[] = "/tmp/test-migrate-XXXXXX", digits[66] = "";
        int fd = mkstemp(path);
        Error err = {};

        memset(digits, 'a', 64);
        digits[64] = '\n';
        if (fd < 0 || write(fd, digits, 65) != 65 || close(fd) < 0 || tls_key_read(path, &key, &err) < 0)
                abort();
        (void) unlink(path);
}

int main(int argc, char *argv[]) {
        unsigned long long runs;

        read_key();
        runs = worlds_run("tests/sim/test-migrate", (Seeds) { .seed = 1, .runs = 1 }, on_log, scenarios,
                          ELEMENTS(scenarios), argc, argv);
        tls_key_free(key);
        if (runs == 0)
                return 2;
        printf("%llu times %zu scenarios: a cluster with a key file gets certificates\n", runs,
               ELEMENTS(scenarios));
        return 0;
}
