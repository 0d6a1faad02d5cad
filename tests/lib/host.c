#include "tests/lib/host.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "fleetd/registry/proposal_rights.h"
#include "tests/lib/scratch.h"

enum { PATIENCE_MS = 20000 };

static const char host_id[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                  boot_id[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/* -- Running -- */

static void on_tick(void *userdata) {
        loop_uv_stop(((Host *) userdata)->uv);
}

void host_turn(Host *h) {
        uint64_t now_ms = loop_now_ms(h->loop);

        if (h->deadline_ms == 0)
                h->deadline_ms = now_ms + PATIENCE_MS;
        if (now_ms > h->deadline_ms)
                fail_msg("did not happen: %s", h->wanted ?: "");
        assert_int_equal(timer_start(&h->tick, h->loop, 1), 0);
        assert_true(loop_uv_run(h->uv) >= 0);
}

void host_pause(Host *h, uint64_t ms) {
        uint64_t end_ms = loop_now_ms(h->loop) + ms;

        HOST_UNTIL(h, loop_now_ms(h->loop) >= end_ms);
}

/* -- Opening and closing -- */

static bool leads(Host *h) {
        KvState state;

        kv_state(h->store, &state);
        return state.role == KV_ROLE_LEADER && state.ready;
}

Host *host_new(bool joins) {
        return host_new_at(NULL, joins);
}

static int check_proposal(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                          const KvCommand *cmd, Error *err) {
        const Host *h = userdata;

        return proposal_check(registry_cluster(h->registry), relay, machine_id, principal, cmd, err);
}

Host *host_new_at(const char *path, bool joins) {
        Host *h = NEW0(Host, 1);
        KvOptions store = { .join = joins, .check_proposal = check_proposal, .events.userdata = h };
        PeersOptions peers = {};
        Error err = {};

        assert_non_null(h);
        memcpy(h->id, host_id, sizeof(h->id));
        assert_int_equal(loop_uv_new(&h->uv), 0);
        h->loop = loop_uv_base(h->uv);
        h->tick = (Timer) { .fire = on_tick, .userdata = h };
        assert_int_equal(net_uv_new(&h->network, h->loop), 0);
        h->stays = path;
        h->scratch = path ? strdup(path) : scratch_new();
        h->raft_path = scratch_path(h->scratch, "raft");
        h->tree_path = scratch_path(h->scratch, "tree");
        h->agent_path = scratch_path(h->scratch, "agent");
        assert_int_equal(disk_real_open(h->raft_path, &h->disk), 0);

        memcpy(peers.self.machine_id, host_id, sizeof(host_id));
        memcpy(peers.self.boot_id, boot_id, sizeof(boot_id));
        peers.self.nonce = 1;
        assert_int_equal(peers_new(&h->peers, h->loop, h->network, &peers), 0);
        store.log_disk = h->disk;
        store.tree_path = h->tree_path;
        store.read_bound_path = h->agent_path;
        store.peers = h->peers;
        memcpy(store.machine_id, host_id, sizeof(host_id));
        memcpy(store.boot_id, boot_id, sizeof(boot_id));
        if (kv_open(&h->store, h->loop, &store, &err) < 0)
                fail_msg("%s", err.message);
        if (!joins)
                HOST_UNTIL(h, leads(h));
        assert_int_equal(registry_new(&h->registry, h->loop, h->store, h->id), 0);
        if (!joins)
                HOST_UNTIL(h, registry_ready(h->registry));
        h->settings = settings_of_test(h->id);
        h->settings.state_directory = h->scratch;
        h->components = (ComponentHost) { .io = { .loop = h->loop, .network = h->network },
                                          .settings = &h->settings,
                                          .peers = h->peers,
                                          .store = h->store,
                                          .registry = h->registry };
        return h;
}

static void on_store_closed(void *userdata) {
        ((Host *) userdata)->store = NULL;
}

static void on_peers_closed(void *userdata) {
        ((Host *) userdata)->peers = NULL;
}

Host *host_free(Host *h) {
        h->registry = registry_free(h->registry);
        kv_close(h->store, on_store_closed, h);
        HOST_UNTIL(h, !h->store);
        peers_close(h->peers, "", on_peers_closed, h);
        HOST_UNTIL(h, !h->peers);
        disk_real_close(h->disk);
        net_uv_free(h->network);
        timer_stop(&h->tick);
        loop_uv_free(h->uv);
        free(h->raft_path);
        free(h->tree_path);
        free(h->agent_path);
        if (h->stays)
                free(h->scratch);
        else
                scratch_free(h->scratch);
        free(h);
        return NULL;
}

/* -- The registry's answers -- */

void host_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Host *h = userdata;

        h->answered++;
        h->status = status;
        h->index = index;
}

KvStatus host_wait(Host *h, int called) {
        assert_int_equal(called, 0);
        h->asked++;
        HOST_UNTIL(h, h->answered == h->asked);
        HOST_UNTIL(h, h->status != KV_OK || registry_cluster(h->registry)->index >= h->index);
        return h->status;
}

void host_unit(Host *h, const char *name, const char *text, TargetState target) {
        UnitChange change = { .has_target = true, .target = target };
        Unit *unit = NULL;

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, NULL), 0);
        change.unit = unit;
        assert_int_equal(host_wait(h, registry_change_units(h->registry, &change, 1, host_on_done, h)),
                         KV_OK);
        unit_free(unit);
}

static void host_on_raised(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

void host_raise(Host *h, unsigned level) {
        const KvCommand raise = { .op = KV_RAISE, .limit = level, .internal = true };
        uint64_t number;
        KvState state;

        assert_int_equal(kv_propose(h->store, &raise, host_on_raised, h, &number), 0);
        HOST_UNTIL(h, (kv_state(h->store, &state), state.level == level));
}

void host_order(Host *h, const char *name, AssignmentKind kind) {
        host_order_text(h, name, kind, 0, "");
}

void host_order_text(Host *h, const char *name, AssignmentKind kind, uint64_t revision, const char *hash) {
        const Cluster *c = registry_cluster(h->registry);
        const ClusterAssignment *there = cluster_assignment(c, h->id, name);
        const ClusterUnit *u = cluster_unit(c, name);
        AssignmentChange change = { .kind = kind,
                                    .expected_index = there ? there->index : 0,
                                    .unit_index = u ? u->index : 0,
                                    .revision = revision };
        KvState state;

        kv_state(h->store, &state);
        memcpy(change.machine, h->id, sizeof(change.machine));
        snprintf(change.unit, sizeof(change.unit), "%s", name);
        snprintf(change.hash, sizeof(change.hash), "%s", hash);
        verdict_say(&change.why, VERDICT_SAID, "a test says so");
        assert_int_equal(
                host_wait(h, registry_assign(h->registry, state.term, &change, 1, NULL, host_on_done, h)),
                KV_OK);
}

static void host_on_key(void *userdata, const KvResult *result) {
        host_on_done(userdata, result->status, "", result->index);
}

/* 'value' without bytes: delete the key. */
static void host_write_key(Host *h, LayoutKind kind, const char *name, const Text *value) {
        char key[LAYOUT_KEY_MAX];
        KvCommand cmd = { .op = value->size > 0 ? KV_SET : KV_DELETE,
                          .key = kv_string(layout_key(key, kind, name, h->id)),
                          .value = kv_string(text_chars(value)),
                          .internal = true };
        uint64_t number;

        assert_int_equal(host_wait(h, kv_propose(h->store, &cmd, host_on_key, h, &number)), KV_OK);
}

void host_assign_inputs(Host *h, const char *name, uint64_t number) {
        const ClusterAssignment *there = cluster_assignment(registry_cluster(h->registry), h->id, name);
        Assignment record;
        _cleanup_text_ Text value = {};

        assert_non_null(there);
        record = there->record;
        record.unit_index = there->of->index;
        record.inputs = number;
        stored_assignment_write(&value, &record);
        host_write_key(h, LAYOUT_ASSIGNMENT, name, &value);
}

void host_inputs(Host *h, const char *name, uint64_t number, VerdictCode problem) {
        InputsRecord record = { .number = number, .waits = problem != VERDICT_NONE };
        _cleanup_text_ Text value = {};

        if (number > 0) /* of no content of a test */
                snprintf(record.digest, sizeof(record.digest), "%040llu", (unsigned long long) number);
        verdict_set(&record.problem, problem, "%s", "pw");
        if (number > 0 || problem != VERDICT_NONE)
                stored_inputs_write(&value, &record);
        host_write_key(h, LAYOUT_INPUTS, name, &value);
}

void host_machine(Host *h) {
        const ClusterMachine *there = cluster_machine(registry_cluster(h->registry), h->id);
        PresenceChange presence = { .presence = PRESENCE_UP,
                                    .expected_index = there ? there->presence_index : 0 };
        Machine m = { .name = (char *) "alpha",
                      .address = (char *) "10.0.0.1",
                      .version = (char *) "0",
                      .boot_id = (char *) boot_id };
        KvState state;

        memcpy(m.id, h->id, sizeof(m.id));
        memcpy(presence.machine, h->id, sizeof(presence.machine));
        kv_state(h->store, &state);
        assert_int_equal(host_wait(h, registry_publish_facts(h->registry, &m, host_on_done, h)), KV_OK);
        assert_int_equal(
                host_wait(h, registry_presence(h->registry, state.term, &presence, 1, host_on_done, h)),
                KV_OK);
}

/* -- A client -- */

typedef struct Asking {
        const char *address, *request;
        size_t size;
        Text answer;
        atomic_bool done;
} Asking;

static int asking_connect(const char *address) {
        struct sockaddr_un local = { .sun_family = AF_UNIX };
        struct sockaddr_in tcp = { .sin_family = AF_INET };
        bool is_local = address[0] == '/';
        int fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char host[64];
        uint16_t port;

        if (is_local) {
                snprintf(local.sun_path, sizeof(local.sun_path), "%s", address);
        } else if (parse_address(address, host, sizeof(host), &port) == 0) {
                tcp.sin_port = htons(port);
                (void) inet_pton(AF_INET, host, &tcp.sin_addr);
        }
        if (fd >= 0 && connect(fd, is_local ? (struct sockaddr *) &local : (struct sockaddr *) &tcp,
                               is_local ? sizeof(local) : sizeof(tcp)) < 0) {
                close(fd);
                fd = -1;
        }
        return fd;
}

static void *asking_run(void *userdata) {
        Asking *a = userdata;
        char buffer[16 * 1024];
        int fd = asking_connect(a->address);
        ssize_t n;

        if (fd >= 0) {
                for (size_t sent = 0; sent < a->size; sent += n)
                        if ((n = send(fd, a->request + sent, a->size - sent, MSG_NOSIGNAL)) <= 0)
                                break;
                while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
                        text_append_bytes(&a->answer, buffer, n);
                close(fd);
        }
        atomic_store(&a->done, true);
        return NULL;
}

char *host_ask(Host *h, const char *address, const char *request, size_t size) {
        Asking a = { .address = address, .request = request, .size = size };
        pthread_t thread;
        uint64_t n_turns;
        char *answer;

        assert_int_equal(pthread_create(&thread, NULL, asking_run, &a), 0);
        HOST_UNTIL(h, atomic_load(&a.done));
        pthread_join(thread, NULL);
        /* The thread may receive the answer before the turn that sent it has ended; the work of the turn
         * counts then. */
        n_turns = loop_turns(h->loop)->n;
        HOST_UNTIL(h, loop_turns(h->loop)->n > n_turns);
        answer = a.answer.size > 0 ? text_take(&a.answer, NULL) : strdup("");
        assert_non_null(answer);
        return answer;
}
