/* The store and its sessions: as a host without a replica, and as the replica that such hosts use. */
#include "kvstore/kvstore_internal.h"

bool kv_has_caught_up(KvStore *s) {
        const Identity *identity = replica_identity(s->replica);
        TreeMeta meta;

        return identity->raft_id != 0 && replica_is_open(s->replica) && !replica_is_rebuilding(s->replica) &&
               replica_leader(s->replica) != 0 && kv_read_meta(s, &meta) >= 0 &&
               meta.index >= remote_seen(s->remote);
}

static void store_on_slice_event(void *userdata, const KvEvent *event) {
        KvStore *s = userdata;

        s->index = event->index;
        hub_publish(s->hub, event);
}

static void store_on_slice_reset(void *userdata) {
        KvStore *s = userdata;

        s->index = remote_index(s->remote);
        hub_cleared(s->hub, s->index);
        if (s->events.on_reset && !s->closing)
                s->events.on_reset(s->events.userdata);
}

static void store_on_slice_state(void *userdata) {
        KvStore *s = userdata;
        const RemoteCurrent *current = remote_current(s->remote);

        kv_take_time(s, current->cluster_ms);
        s->level = MAX(current->level, (unsigned) KV_LEVEL_FIRST);
        kv_clock_set_running(s, remote_is_fresh(s->remote));
        if (remote_is_fresh(s->remote))
                s->leaderless_ms = 0;
        else if (s->leaderless_ms == 0)
                s->leaderless_ms = loop_now_ms(s->loop);
        loop_defer(s->loop, &s->tell);
}

void kv_attach(KvStore *s, const char *machine_id) {
        s->attached = true;
        remote_use(s->remote, machine_id);
        proposals_attach(s->proposals, true, remote_session_number(s->remote));
}

void kv_set_slices(KvStore *s, const KvSlices *slices) {
        if (s->serve)
                serve_set_slices(s->serve, slices);
}

void kv_slice_touched(KvStore *s, const char *machine, KvBytes key) {
        if (s->serve)
                serve_touched(s->serve, machine, key);
}

void kv_slices_advanced(KvStore *s) {
        if (s->serve)
                serve_advanced(s->serve);
}

void kv_slices_reset(KvStore *s) {
        if (s->serve)
                serve_reset(s->serve);
}

int kv_open_sessions(KvStore *s) {
        const RemoteEvents events = { .on_event = store_on_slice_event,
                                      .on_reset = store_on_slice_reset,
                                      .on_state = store_on_slice_state,
                                      .userdata = s };
        int r;

        if (!s->peers)
                return 0;
        r = serve_new(&s->serve, s->loop, s->peers, s);
        return r < 0 ? r : remote_new(&s->remote, s->loop, s->peers, &events);
}

void kv_close_sessions(KvStore *s) {
        s->attached = false;
        if (s->remote)
                remote_end(s->remote);
        s->serve = serve_free(s->serve);
        s->remote = remote_free(s->remote);
}
