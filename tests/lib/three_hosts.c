#include "tests/lib/commands.h"
#include "tests/lib/three_hosts.h"

#include <limits.h>

#include "tests/lib/scratch.h"
#include "tests/lib/store_inside.h"

enum { ELECTION_MS = 150, HEARTBEAT_MS = 30 };

#define MUST(expression)                                                                         \
        do {                                                                                     \
                if (!(expression)) {                                                             \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #expression); \
                        abort();                                                                 \
                }                                                                                \
        } while (false)

typedef struct Waiting {
        ThreeHosts *trio;
        bool (*is_true)(void *userdata);
        void *userdata;
        Timer timer;
        uint64_t deadline_ms;
        bool was_true;
} Waiting;

static void look(void *userdata) {
        Waiting *w = userdata;

        w->was_true = w->is_true(w->userdata);
        if (w->was_true || loop_now_ms(w->trio->loop) > w->deadline_ms ||
            timer_start(&w->timer, w->trio->loop, 1) < 0)
                loop_uv_stop(w->trio->uv);
}

bool three_hosts_until_for(ThreeHosts *t, uint64_t patience_ms, bool (*is_true)(void *userdata),
                           void *userdata) {
        Waiting w = { .trio = t, .is_true = is_true, .userdata = userdata };

        if (is_true(userdata))
                return true;
        w.timer = (Timer) { .fire = look, .userdata = &w };
        w.deadline_ms = loop_now_ms(t->loop) + patience_ms;
        while (!w.was_true && loop_now_ms(t->loop) <= w.deadline_ms) {
                (void) timer_start(&w.timer, t->loop, 0);
                (void) loop_uv_run(t->uv); /* a failing call may end it early */
        }
        timer_stop(&w.timer);
        return w.was_true;
}

bool three_hosts_until(ThreeHosts *t, bool (*is_true)(void *userdata), void *userdata) {
        return three_hosts_until_for(t, TRIO_PATIENCE_MS, is_true, userdata);
}

void three_hosts_new(ThreeHosts *t, const char *path, bool with_network) {
        *t = (ThreeHosts) { .path = path, .boot = 1 };
        MUST(loop_uv_new(&t->uv) == 0 || loop_uv_new(&t->uv) == 0); /* a test may let one call fail */
        t->loop = loop_uv_base(t->uv);
        if (with_network)
                MUST(net_uv_new(&t->network, t->loop) == 0);
        for (unsigned i = 0; i < TRIO_MAX; i++) {
                ThreeHostsHost *h = &t->hosts[i];
                char name[16];

                h->trio = t;
                h->number = i;
                snprintf(name, sizeof(name), "raft%u", i);
                h->raft_path = scratch_path(path, name);
                snprintf(name, sizeof(name), "tree%u", i);
                h->tree_path = scratch_path(path, name);
                if (with_network)
                        snprintf(h->address, sizeof(h->address), "127.0.0.1:%d", scratch_port());
        }
}

static void on_reset(void *userdata) {
        ((ThreeHostsHost *) userdata)->resets++;
}

static void on_failed(void *userdata, int error, const char *reason) {
        ThreeHostsHost *h = userdata;

        h->failed = error;
        snprintf(h->failure, sizeof(h->failure), "%s", reason);
}

static int open_peers(ThreeHostsHost *h, const KvOptions *store) {
        PeersOptions options = { .self = { .nonce = random_u64(loop_random(h->trio->loop)) } };
        PeerAddress known[TRIO_MAX] = {};
        size_t n = 0;
        int r;

        memcpy(options.self.machine_id, store->machine_id, sizeof(options.self.machine_id));
        memcpy(options.self.boot_id, store->boot_id, sizeof(options.self.boot_id));
        snprintf(options.self.address, sizeof(options.self.address), "%s", h->address);
        r = peers_new(&h->peers, h->trio->loop, h->trio->network, &options);
        r = r ?: peers_listen(h->peers, h->address, NULL);
        for (unsigned i = 0; i < TRIO_MAX; i++)
                if (i != h->number)
                        snprintf(known[n++].address, sizeof(known[0].address), "%s",
                                 h->trio->hosts[i].address);
        return r ?: peers_set_known(h->peers, known, n);
}

int three_hosts_open(ThreeHosts *t, unsigned number, bool join, Error *err) {
        ThreeHostsHost *h = &t->hosts[number];
        KvOptions options = {
                .tree_path = h->tree_path,
                .join = join,
                .checkpoint_entries = t->checkpoint_entries,
                .checkpoint_kept = t->checkpoint_entries ? 1 : 0,
                .log_file_size = t->log_file_size,
                .election_ms = ELECTION_MS,
                .heartbeat_ms = HEARTBEAT_MS,
                .events = { .on_reset = on_reset, .on_failed = on_failed, .userdata = h },
        };
        int r;

        h->failed = 0;
        snprintf(options.machine_id, sizeof(options.machine_id), "%032x", number + 0xa0);
        snprintf(options.boot_id, sizeof(options.boot_id), "%032x", t->boot);
        snprintf(options.address, sizeof(options.address), "%s", h->address);
        r = h->disk ? 0 : disk_real_open(h->raft_path, &h->disk);
        if (r == 0 && t->network && !h->peers)
                r = open_peers(h, &options);
        if (r < 0)
                return r;
        options.log_disk = h->disk;
        options.peers = h->peers;
        return kv_open(&h->store, t->loop, &options, err);
}

static void on_store_closed(void *userdata) {
        ((ThreeHostsHost *) userdata)->store = NULL;
}

static void on_peers_closed(void *userdata) {
        ((ThreeHostsHost *) userdata)->peers = NULL;
}

static bool store_is_closed(void *userdata) {
        return !((ThreeHostsHost *) userdata)->store;
}

static bool peers_are_closed(void *userdata) {
        return !((ThreeHostsHost *) userdata)->peers;
}

void three_hosts_close(ThreeHosts *t, unsigned number) {
        ThreeHostsHost *h = &t->hosts[number];

        if (h->store) {
                kv_close(h->store, on_store_closed, h);
                MUST(three_hosts_until(t, store_is_closed, h));
        }
        if (h->peers) {
                peers_close(h->peers, "stop", on_peers_closed, h);
                MUST(three_hosts_until(t, peers_are_closed, h));
        }
        h->disk = disk_real_close(h->disk);
}

void three_hosts_free(ThreeHosts *t) {
        for (unsigned i = 0; i < TRIO_MAX; i++) {
                three_hosts_close(t, i);
                free(t->hosts[i].raft_path);
                free(t->hosts[i].tree_path);
        }
        if (t->network)
                net_uv_free(t->network);
        loop_uv_free(t->uv);
}

/* -- Asking -- */

typedef struct Answer {
        bool came;
        KvStatus status;
} Answer;

static void on_answer(void *userdata, const KvResult *result) {
        *(Answer *) userdata = (Answer) { true, result->status };
}

static void on_synced(void *userdata, KvStatus status) {
        *(Answer *) userdata = (Answer) { true, status };
}

static bool answer_came(void *userdata) {
        return ((Answer *) userdata)->came;
}

KvStatus three_hosts_put(ThreeHostsHost *h, const char *key, const char *value) {
        Answer a = {};

        if (kv_propose(h->store, &SET(key, value), on_answer, &a, NULL) < 0)
                return KV_UNKNOWN;
        MUST(three_hosts_until(h->trio, answer_came, &a));
        return a.status;
}

/* -- Cutting the log -- */

enum { CUT_KEYS = 10, CUT_MS = 20 };

static bool is_removed(void *path) {
        return access(path, F_OK) < 0;
}

void three_hosts_cut_log(ThreeHostsHost *h,
                         void (*put_many)(ThreeHostsHost *h, const char *prefix, unsigned n)) {
        uint64_t end_ms = loop_now_ms(h->trio->loop) + TRIO_PATIENCE_MS;
        char prefix[32], path[PATH_MAX], last[PATH_MAX] = "";

        for (unsigned number = 1; number < 1000; number++) {
                snprintf(path, sizeof(path), "%s/log.%08u", h->raft_path, number);
                if (access(path, F_OK) == 0)
                        memcpy(last, path, sizeof(path));
        }
        for (unsigned i = 0; loop_now_ms(h->trio->loop) < end_ms && !is_removed(last); i++) {
                snprintf(prefix, sizeof(prefix), "cut%u", i);
                put_many(h, prefix, CUT_KEYS);
                (void) three_hosts_until_for(h->trio, CUT_MS, is_removed, last);
        }
        MUST(is_removed(last));
}

KvStatus three_hosts_sync(ThreeHostsHost *h) {
        Answer a = {};
        KvSync sync = { .done = on_synced, .userdata = &a };

        kv_sync(h->store, &sync);
        MUST(three_hosts_until(h->trio, answer_came, &a));
        return a.status;
}

const char *three_hosts_get(ThreeHostsHost *h, const char *key, char value[static 512]) {
        KvNode node;

        if (store_node(h->store, key, &node) < 0)
                snprintf(value, 512, "-");
        else
                snprintf(value, 512, "%.*s", (int) node.value.size, (const char *) node.value.data);
        return value;
}

/* -- Members -- */

bool three_hosts_is_led(void *host) {
        KvState state;

        kv_state(((ThreeHostsHost *) host)->store, &state);
        return state.ready;
}

typedef struct Joining {
        ThreeHostsHost *leader, *host;
} Joining;

static const KvMember *member(const Joining *j, KvState *state) {
        kv_state(j->leader->store, state);
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == j->host->number + 1)
                        return &state->members[i];
        return NULL;
}

static bool is_added(void *userdata) {
        const Joining *j = userdata;
        int r = kv_member_add(j->leader->store, j->host->number + 1, j->host->address);

        MUST(r == 0 || r == -EBUSY);
        return r == 0;
}

static bool is_caught_up(void *userdata) {
        KvState state;
        const KvMember *m = member(userdata, &state);

        return m && m->match > 0 && m->match == state.commit;
}

static bool is_voter(void *userdata) {
        const Joining *j = userdata;
        KvState state;
        const KvMember *m = member(j, &state);
        int r;

        if (m && m->role == KV_MEMBER_VOTER)
                return true;
        r = kv_member_promote(j->leader->store, j->host->number + 1);
        MUST(r == 0 || r == -EAGAIN || r == -EBUSY || r == -EEXIST);
        return false;
}

void three_hosts_let_in(ThreeHosts *t, unsigned leader, unsigned number, bool votes) {
        Joining j = { &t->hosts[leader], &t->hosts[number] };
        KvState state;
        Error err = {};

        if (three_hosts_open(t, number, true, &err) < 0) {
                fprintf(stderr, "cannot open host %u: %s\n", number, err.message);
                abort();
        }
        kv_state(j.leader->store, &state);
        MUST(kv_joined(j.host->store, state.cluster_id, state.lineage, number + 1, &err) == 0);
        MUST(three_hosts_until(t, is_added, &j));
        MUST(three_hosts_until(t, is_caught_up, &j));
        if (votes)
                MUST(three_hosts_until(t, is_voter, &j));
}
