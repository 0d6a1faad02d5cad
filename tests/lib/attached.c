#include "tests/lib/attached.h"

#include "tests/lib/test.h"
#include "tests/lib/scratch.h"

enum { HEARTBEAT_MS = 100 };

static const char id[] = "cccccccccccccccccccccccccccccccc", boot_id[] = "dddddddddddddddddddddddddddddddd";

static void on_heartbeat(void *userdata) {
        Attached *a = userdata;
        PeerSession *session = peers_accepted(a->replica->peers, a->id);

        if (session)
                kv_answer_heartbeat(a->replica->store, session, false);
        assert_int_equal(timer_start(&a->heartbeat, a->replica->loop, HEARTBEAT_MS), 0);
}

static void on_reset(void *userdata) {
        Attached *a = userdata;

        if (a->registry)
                registry_reset(a->registry);
}

static void on_state(void *userdata) {}

static bool is_ready(const Attached *a) {
        KvState state;

        kv_state(a->store, &state);
        return state.attached && state.ready && registry_ready(a->registry);
}

Attached *attached_new(Host *replica) {
        PeersOptions peers = { .self.nonce = 2 };
        KvOptions store = { .join = true };
        Attached *a = NEW0(Attached, 1);
        PeerAddress known = {};
        Error err = {};

        assert_non_null(a);
        a->replica = replica;
        memcpy(a->id, id, sizeof(a->id));
        a->scratch = scratch_new();
        a->raft_path = scratch_path(a->scratch, "raft");
        a->tree_path = scratch_path(a->scratch, "tree");
        assert_int_equal(disk_real_open(a->raft_path, &a->disk), 0);
        memcpy(peers.self.machine_id, id, sizeof(id));
        memcpy(peers.self.boot_id, boot_id, sizeof(boot_id));
        assert_int_equal(peers_new(&a->peers, replica->loop, replica->network, &peers), 0);
        store.events = (KvEvents) { .on_reset = on_reset, .on_state = on_state, .userdata = a };
        store.log_disk = a->disk;
        store.tree_path = a->tree_path;
        store.peers = a->peers;
        memcpy(store.machine_id, id, sizeof(id));
        memcpy(store.boot_id, boot_id, sizeof(boot_id));
        if (kv_open(&a->store, replica->loop, &store, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(registry_new(&a->registry, replica->loop, a->store, a->id), 0);
        a->settings = settings_of_test(a->id);
        a->settings.state_directory = a->scratch;
        a->components = (ComponentHost) { .io = replica->components.io,
                                          .settings = &a->settings,
                                          .peers = a->peers,
                                          .store = a->store,
                                          .registry = a->registry };

        host_raise(replica, KV_LEVEL_ATTACHED); /* hosts without a replica have a feature level */
        host_machine(replica);                  /* no slice is empty */
        snprintf(known.address, sizeof(known.address), "127.0.0.1:%d", scratch_port());
        if (peers_listen(replica->peers, known.address, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(peers_set_known(a->peers, &known, 1), 0);
        HOST_UNTIL(replica, peers_dialed(a->peers, replica->id));
        a->heartbeat = TIMER(on_heartbeat, a);
        on_heartbeat(a);
        kv_attach(a->store, replica->id);
        HOST_UNTIL(replica, is_ready(a));
        return a;
}

static void on_store_closed(void *userdata) {
        ((Attached *) userdata)->store = NULL;
}

static void on_peers_closed(void *userdata) {
        ((Attached *) userdata)->peers = NULL;
}

Attached *attached_free(Attached *a) {
        Host *h = a->replica;

        a->registry = registry_free(a->registry);
        kv_close(a->store, on_store_closed, a);
        HOST_UNTIL(h, !a->store);
        peers_close(a->peers, "", on_peers_closed, a);
        HOST_UNTIL(h, !a->peers);
        timer_stop(&a->heartbeat);
        disk_real_close(a->disk);
        free(a->raft_path);
        free(a->tree_path);
        scratch_free(a->scratch);
        free(a);
        return NULL;
}
