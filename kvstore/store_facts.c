/* What the parts of the store read of it: the tree that serves and its figures, cluster time, the index that
 * was acknowledged. */
#include "kvstore/kvstore_internal.h"

#include "base/log.h"
#include "kvstore/apply/apply.h"

enum {
        TICK_MS = 400, /* the clock is read so long after the last time, while it runs: a gap above
                          KV_STALL_MS was a stall */
        TICK_SLACK_MS = 250,
};

/* -- The tree that serves -- */

int kv_read(KvStore *s, TreeTxn **ret) {
        Tree *tree = replica_serving(s->replica);

        if (!tree)
                return -EUCLEAN;
        tree_set_work(tree, &s->loop->turns.now);
        return tree_begin_read(tree, ret);
}

int kv_read_meta(KvStore *s, TreeMeta *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = kv_read(s, &txn);
        return r < 0 ? r : tree_meta(txn, ret);
}

unsigned kv_level(const KvStore *s) {
        return s->level;
}

uint64_t kv_kept_bytes(const KvStore *s) {
        return s->meta.results.bytes;
}

uint64_t kv_index(const KvStore *s) {
        return s->index;
}

void kv_position(const KvStore *s, KvPosition *ret) {
        const Identity *identity = replica_identity(s->replica);
        const RaftCore *core = replica_core(s->replica);
        const RemoteCurrent *current;

        if (s->attached) {
                current = remote_current(s->remote);
                *ret = (KvPosition) { current->cluster_id, current->lineage, current->raft_index,
                                      current->term, current->level };
                return;
        }
        *ret = (KvPosition) { .cluster_id = identity->cluster_id,
                              .lineage = identity->lineage,
                              .level = s->level };
        if (!core || replica_error(s->replica, NULL) < 0)
                return;
        ret->raft_index = raft_core_applied_index(core);
        ret->term = raft_core_term(core);
}

bool kv_can_serve(const KvStore *s) {
        if (s->attached)
                return remote_has_slice(s->remote);
        return read_bound_allows(&s->read_bound, s->index) && s->index >= s->promised;
}

int kv_check_room(KvStore *s, const KvCommand *cmd, KvStatus *ret_status, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvNode prev;
        Error why = {};
        bool there, plain = cmd->op == KV_POST || (cmd->op == KV_SET && cmd->prev_index == 0 &&
                                                   !cmd->has_prev_value && !cmd->refresh);

        if (cmd->internal || !plain || apply_room(&s->meta, cmd, NULL, &why) >= 0)
                return 0;
        if (kv_read(s, &txn) < 0)
                return 0;
        there = cmd->op != KV_POST && tree_get(txn, cmd->key, &prev) >= 0;
        if (there && (prev.dir || apply_room(&s->meta, cmd, &prev, &why) >= 0))
                return 0;
        *ret_status = KV_TOO_LARGE;
        return error_set(err, -EDQUOT, "%s", why.message);
}

int kv_acknowledge(KvStore *s, uint64_t index) {
        int r;

        if (s->attached) {
                remote_saw(s->remote, index);
                return 0;
        }
        s->promised = MAX(s->promised, index);
        r = read_bound_promise(&s->read_bound, s->promised);
        if (r >= 0 && s->promised > s->index)
                r = data_dir_unserve(replica_data_dir(s->replica));
        if (r < 0)
                log_debug(((LogFields) { .error = r }),
                          "Failed to record that index %" PRIu64 " is acknowledged: %s", index, strerror(-r));
        return r;
}

bool kv_is_attached(const KvStore *s) {
        return s->attached;
}

const char *kv_other_replica(const KvStore *s) {
        return s->attached ? remote_other(s->remote) : NULL;
}

/* -- Cluster time: monotonic; it runs while there is a leader, and counts a stall as KV_STALL_MS -- */

void kv_take_time(KvStore *s, uint64_t cluster_ms) {
        if (cluster_ms <= s->clock_ms)
                return;
        s->clock_ms = cluster_ms;
        s->clock_at_ms = loop_now_ms(s->loop);
}

uint64_t kv_cluster_ms(const KvStore *s) {
        uint64_t now = loop_now_ms(s->loop);

        if (!s->clock_runs || s->clock_ms == 0)
                return s->clock_ms;
        return s->clock_ms + MIN(now - s->clock_at_ms, (uint64_t) KV_STALL_MS);
}

static void clock_refresh(KvStore *s) {
        s->clock_ms = kv_cluster_ms(s);
        s->clock_at_ms = loop_now_ms(s->loop);
}

void kv_clock_set_running(KvStore *s, bool runs) {
        clock_refresh(s);
        s->clock_runs = runs;
        if (!runs)
                timer_stop(&s->tick);
        else
                /* Heartbeats, which are received or sent, come sooner, so this wakes no idle host. */
                (void) timer_start_with_slack(&s->tick, s->loop, TICK_MS, TICK_SLACK_MS);
}

void kv_clock_on_tick(void *userdata) {
        kv_clock_set_running(userdata, true);
}

uint64_t kv_clock_ms(KvStore *s) {
        clock_refresh(s);
        if (s->clock_ms == 0 && s->leads) /* the first leader of a cluster begins with its own; before it has
                                             applied all, who knows */
                s->clock_ms = loop_wall_ms(s->loop);
        return s->clock_ms;
}
