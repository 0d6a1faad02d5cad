/* The store and its sessions: as a host without a replica, and as the replica that such hosts use.
 *
 * A host whose replica fails serves its tree until the slice is complete; it uses its replica again when that
 * has reached what the host has seen meanwhile. */
#include "kvstore/kvstore_internal.h"

#include "base/log.h"

static void store_on_slice_event(void *userdata, const KvEvent *event) {
        KvStore *s = userdata;

        if (!s->attached)
                return;
        s->index = event->index;
        hub_publish(s->hub, event);
}

static void store_on_slice_reset(void *userdata) {
        KvStore *s = userdata;

        if (!s->attached)
                return;
        s->index = remote_index(s->remote);
        hub_cleared(s->hub, s->index);
        if (s->events.on_reset && !s->closing)
                s->events.on_reset(s->events.userdata);
}

static void store_take_slice_state(KvStore *s) {
        const RemoteCurrent *current = remote_current(s->remote);

        kv_take_time(s, current->cluster_ms);
        s->level = MAX(current->level, (unsigned) KV_LEVEL_FIRST);
        kv_clock_set_running(s, remote_is_fresh(s->remote));
        if (remote_is_fresh(s->remote))
                s->leaderless_ms = 0;
        else if (s->leaderless_ms == 0)
                s->leaderless_ms = loop_now_ms(s->loop);
        loop_defer(s->loop, &s->notify);
}

/* -- A replica that does not work -- */

/* After a restart, this tree may be older than what the host has read from other ones: it has to be confirmed
 * first. */
static void store_leave_tree(KvStore *s) {
        int r = data_dir_unserve(replica_data_dir(s->replica));

        if (r < 0)
                log_debug(((LogFields) { .error = r }), "Failed to withdraw the mark of the tree: %s",
                          strerror(-r));
}

static void store_begin_slice(KvStore *s) {
        store_leave_tree(s);
        serve_end(s->serve);
        remote_adopt_watches(s->remote, s->hub, s->index);
        s->attaching = false;
        s->attached = true;
        proposals_attach(s->proposals, true, remote_session_number(s->remote));
        store_on_slice_reset(s);
        store_take_slice_state(s);
}

static void store_on_slice_state(void *userdata) {
        KvStore *s = userdata;

        if (s->attached)
                store_take_slice_state(s);
        else if (s->attaching && !s->closing && remote_is_fresh(s->remote) &&
                 remote_current(s->remote)->lineage == replica_identity(s->replica)->lineage)
                store_begin_slice(s);
}

/* Whether this host has served a tree, or was admitted as a member. */
static bool store_has_tree(const KvStore *s) {
        return replica_identity(s->replica)->raft_id != 0 || replica_state(s->replica) == REPLICA_QUARANTINED;
}

void kv_attach(KvStore *s, const char *machine_id) {
        if (!s->remote || s->closing)
                return;
        if (!s->attached && store_has_tree(s)) {
                s->attaching = true;
                remote_saw(s->remote, MAX(s->index, s->promised));
                remote_use(s->remote, machine_id);
                return;
        }
        s->attached = true;
        remote_use(s->remote, machine_id);
        proposals_attach(s->proposals, true, remote_session_number(s->remote));
}

void kv_attach_no_more(KvStore *s) {
        if (!s->attaching)
                return;
        s->attaching = false;
        remote_use(s->remote, NULL);
}

/* -- The replica works again -- */

/* Whether the tree is not older than the slice, nor than what was read from other hosts. */
static bool store_has_caught_up(KvStore *s) {
        TreeMeta meta;

        return replica_identity(s->replica)->raft_id != 0 && replica_is_open(s->replica) &&
               !replica_is_rebuilding(s->replica) && replica_leader(s->replica) != 0 &&
               kv_read_meta(s, &meta) >= 0 && meta.index >= remote_seen(s->remote);
}

bool kv_detach(KvStore *s) {
        if (!s->attached || s->closing || !store_has_caught_up(s))
                return false;
        s->attached = false;
        remote_use(s->remote, NULL);
        proposals_attach(s->proposals, false, 0);
        s->reset = true;
        return true;
}

void kv_take_over(KvStore *s) {
        KvSync *sync;
        KvGet *get;

        remote_release_watches(s->remote, s->hub);
        while ((sync = remote_take_sync(s->remote)))
                read_index_add(s->reads, sync);
        while ((get = remote_take_get(s->remote)))
                kv_get(s, get);
        remote_end(s->remote);
}

/* -- Lifetime -- */

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
        s->attached = s->attaching = false;
        if (s->remote)
                remote_end(s->remote);
        s->serve = serve_free(s->serve);
        s->remote = remote_free(s->remote);
}
