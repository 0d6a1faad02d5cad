/* The door: what the replica applies goes to the tree, then to those who proposed, then to those who watch;
 * in this file, and in this order. */
#include "kvstore/kvstore_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kvstore/apply/apply.h"
#include "kvstore/events.h"

enum {
        GRACE_MS = 3000,       /* keys written before a leader came do not expire so long ... */
        GRACE_LONG_MS = 30000, /* ... or so long, when there had been none for a while */
        LEADERLESS_MS = 10000,
        HAND_OVER_MS = 1000,
};

#define TOO_NEW "the cluster is at feature level %u, this fleetd knows %u: upgrade this host"

/* -- Applying -- */

/* What apply has to tell besides its return value. */
typedef struct Applying {
        KvStore *store;
        int error;
} Applying;

static void on_apply_result(void *userdata, uint64_t origin, uint64_t number, const KvResult *result) {
        Applying *a = userdata;

        a->store->deferred += result->status == KV_DEFERRED;
        for (size_t i = 0; !result->again && i < result->n_written; i++)
                a->store->done[result->written[i].action]++;
        if (!result->internal && result->action != KV_ACTION_EXPIRE && result->n_written == 0 &&
            !result->again && result->status != KV_LATE && result->status != KV_DEFERRED)
                (result->status == KV_OK ? a->store->done : a->store->refused)[result->action]++;

        if (proposals_waits(a->store->proposals, origin, number))
                a->error = outcomes_add_result(&a->store->results, number, result) ?: a->error;
}

static void on_apply_event(void *userdata, const KvEvent *event) {
        Applying *a = userdata;

        if (event->action == KV_ACTION_EXPIRE && !kv_path_is_ours(event->node.key))
                a->store->done[KV_ACTION_EXPIRE]++;
        a->error = outcomes_add_event(&a->store->published, event) ?: a->error;
}

static uint64_t on_held(void *userdata) {
        const KvStore *s = userdata;

        return s->results.bytes + s->published.bytes;
}

static void take_time(KvStore *s, uint64_t cluster_ms) {
        if (cluster_ms <= s->clock_ms)
                return;
        s->clock_ms = cluster_ms;
        s->clock_at_ms = loop_now_ms(s->loop);
}

static void take_meta(KvStore *s, const TreeMeta *meta) {
        s->meta = *meta;
        s->index = meta->index;
        s->level = MAX((unsigned) meta->level, (unsigned) KV_LEVEL_FIRST);
        s->entry_ms = meta->cluster_ms;
        s->kept = meta->results.bytes;
        take_time(s, meta->cluster_ms);
        data_dir_raise_quota(&s->replica->folder, meta->quota);
}

static void told_result(void *userdata, uint64_t origin, uint64_t number, const KvResult *result) {}

static void told_event(void *userdata, const KvEvent *event) {}

static int on_apply(void *userdata, TreeTxn *txn, uint64_t index, const RaftEntry *entry,
                    uint64_t *ret_cost) {
        KvStore *s = userdata;
        Applying a = { .store = s };
        bool remade = s->replica->shown;               /* all this was told when the tree before it had it */
        bool told = remade || !s->replica->in_service; /* nobody watches or has proposed yet */
        Cost cost = {};
        int r;

        r = apply_batch(txn, index, entry->term, entry->data, entry->size,
                        &(ApplySink) { .on_result = told ? told_result : on_apply_result,
                                       .on_event = told ? told_event : on_apply_event,
                                       .userdata = &a,
                                       .level_max = s->level_max,
                                       .cost = &cost });
        *ret_cost = cost.total;
        cost_add(&s->cost, &cost);
        if (cost.total > s->cost_max.total)
                s->cost_max = cost;
        if (r < 0 || remade) {
                s->remade = true;
                return r;
        }
        if (a.error < 0)
                return a.error;

        r = tree_meta(txn, &s->applied);
        s->has_applied = r >= 0;
        return r;
}

/* -- The floor: nobody is shown what this host cannot remember to have shown -- */

static void read_bound_ask(KvStore *s);

/* Whether the live tree has reached all that was served or acknowledged: one that is made again has not until
 * it replaces the one before. */
static bool read_bound_is_reached(const KvStore *s) {
        return s->floor.met && s->floor.dir_fd >= 0 && s->index >= s->promised && s->replica->tree &&
               !s->replica->shown;
}

static void read_bound_result(KvStore *s, int r) {
        if (r >= 0 && read_bound_is_reached(s))
                r = data_dir_serve(&s->replica->folder);
        if (r < 0)
                replica_fail(s->replica, r, "cannot record in %s/floor what this host shows: %s",
                             s->floor.path, strerror(-r));
}

static void read_bound_rise(KvStore *s) {
        int r = read_bound_reach(&s->floor, s->index);

        if (r < 0 || !data_dir_was_served(&s->replica->folder))
                read_bound_result(s, r);
}

static void read_bound_on_synced(void *userdata, KvStatus status) {
        KvStore *s = userdata;

        s->read_bound_asked = false;
        if (status == KV_OK)
                read_bound_result(s, read_bound_confirm(&s->floor, s->index));
        else if (!s->closing)
                read_bound_ask(s);
}

static void read_bound_ask(KvStore *s) {
        if (s->floor.met || s->read_bound_asked || s->closing || replica_leader(s->replica) == 0)
                return;
        s->read_bound_asked = true;
        s->read_bound_sync = (KvSync) { .done = read_bound_on_synced, .userdata = s };
        read_index_add(s->reads, &s->read_bound_sync);
}

static int read_bound_start(KvStore *s, const KvOptions *options, Error *err) {
        int r;

        r = read_bound_open(&s->floor, options->read_bound_path, err);
        if (r < 0)
                return r;
        r = read_bound_begin(&s->floor, s->replica->identity.lineage, s->index,
                             data_dir_was_served(&s->replica->folder));
        if (r >= 0 && s->floor.met && s->floor.dir_fd >= 0)
                r = data_dir_serve(&s->replica->folder);
        return r < 0 ? error_set(err, r, "cannot record in %s/floor what this host shows: %s", s->floor.path,
                                 strerror(-r)) :
                       0;
}

static void on_committed(void *userdata) {
        KvStore *s = userdata;
        Outcome *o;

        if (s->has_applied)
                take_meta(s, &s->applied);
        s->has_applied = false;
        read_bound_rise(s);
        outcomes_move(&s->committed, &s->results);
        while ((o = outcomes_take(&s->published))) {
                hub_publish(
                        s->hub,
                        &o->event); /* watchers are called later, from the loop: behind those who proposed */
                outcome_free(o);
        }
}

static int read_meta(KvStore *s, TreeMeta *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = kv_read(s, &txn);
        return r < 0 ? r : tree_meta(txn, ret);
}

/* The hub's windows begin as the tree's: who watched before a restart or a transfer finds his place again. */
static int load_events(KvStore *s) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = kv_read(s, &txn);
        return r < 0 ? r : events_load(txn, s->hub);
}

static void on_replaced(void *userdata) {
        KvStore *s = userdata;
        TreeMeta meta;

        if (read_meta(s, &meta) >= 0)
                take_meta(s, &meta);
        if (s->level > s->level_max)
                replica_fail(s->replica, -ENOTSUP, TOO_NEW, s->level, s->level_max);
        read_bound_rise(s);
        if (s->floor.met)
                read_bound_result(s, 0); /* it is another file now */
        s->reset = true;
}

/* -- After each input of Raft -- */

static void on_tell(void *userdata) {
        KvStore *s = userdata;

        if (s->events.on_state && !s->closing)
                s->events.on_state(s->events.userdata);
}

static bool leads(const KvStore *s) {
        return replica_is_leader(s->replica) && raft_core_leads(s->replica->core);
}

static void see_leader(KvStore *s) {
        uint64_t now = loop_now_ms(s->loop);
        bool known = replica_leader(s->replica) != 0;
        bool lead = leads(s);

        if (known)
                kv_clock_set_running(s, true);
        if (lead && !s->leads) {
                s->lead_ms = now;
                s->lead_index = s->index;
                s->grace_ms = s->leaderless_ms > 0 && now - s->leaderless_ms >= LEADERLESS_MS ?
                                      GRACE_LONG_MS :
                                      GRACE_MS;
        }
        if (!known) {
                kv_clock_set_running(s, false);
                if (s->leaderless_ms == 0)
                        s->leaderless_ms = now;
        } else if (lead || !replica_is_leader(s->replica))
                s->leaderless_ms = 0;

        if (lead != s->leads) {
                s->leads = lead;
                loop_defer(s->loop, &s->tell);
        }
}

/* Our peer door has moved since the configuration was written (a host that was alone gets an address). */
static void announce_address(KvStore *s) {
        const RaftServers *servers;

        if (!s->leads || !s->address[0] || raft_core_change_pending(s->replica->core))
                return;
        servers = raft_core_servers(s->replica->core);
        for (size_t i = 0; i < servers->n; i++) {
                Error err = {};
                int r;

                if (servers->items[i].id != raft_core_id(s->replica->core) ||
                    streq(servers->items[i].address, s->address))
                        continue;
                r = replica_change(s->replica,
                                   &(RaftChange) { .kind = RAFT_CHANGE_MOVE,
                                                   .id = servers->items[i].id,
                                                   .address = s->address },
                                   &err);
                if (r < 0)
                        log_debug(NO_FIELDS, "cannot announce our address yet: %s", error_text(&err, r));
                return; /* 'servers' is gone */
        }
}

static void on_settled(void *userdata, unsigned changed) {
        KvStore *s = userdata;
        Replica *p = s->replica;
        uint64_t applied = p->core ? raft_core_applied_index(p->core) : 0;
        Outcome *o;

        if (p->error < 0) { /* of a transaction that failed */
                s->has_applied = false;
                outcomes_clear(&s->results);
                outcomes_clear(&s->published);
        }
        if (s->reset) {
                s->reset = false;
                proposals_replaced(s->proposals);
                hub_cleared(s->hub, s->index);
                (void) load_events(s);
                if (s->events.on_reset && !s->closing)
                        s->events.on_reset(s->events.userdata);
        }
        while ((o = outcomes_take(&s->committed))) {
                proposals_result(s->proposals, o->number, o->result);
                outcome_free(o);
        }

        if (s->remade && !p->shown) {
                s->remade = false;
                read_bound_result(s, 0);
        }
        see_leader(s);
        read_bound_ask(s);
        proposals_settled(s->proposals, changed, applied);
        read_index_settled(s->reads, changed);
        if (s->closing) {
                if (s->handing_over && !replica_is_leader(p))
                        loop_defer(s->loop, &s->finish);
                return;
        }
        if (changed)
                kv_expiry_check(s);
        if (changed & ~(unsigned) RAFT_CHANGED_COMMIT) {
                announce_address(s);
                loop_defer(s->loop, &s->tell);
        }
}

static void on_failed(void *userdata, int error, const char *reason) {
        KvStore *s = userdata;

        proposals_end(s->proposals);
        read_index_end(s->reads, KV_NO_LEADER);
        if (s->events.on_failed && !s->closing)
                s->events.on_failed(s->events.userdata, error, reason);
}

/* What apply would refuse for want of room need not go through the log: by the figures of what is applied
 * here. What may be refused for another reason first, apply judges. */
static int fits(void *userdata, const KvCommand *cmd, KvStatus *ret_status, Error *err) {
        KvStore *s = userdata;
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

static void problem(void *userdata, char *ret, size_t size) {
        KvState state;

        kv_state(userdata, &state);
        snprintf(ret, size, "%s",
                 state.problem[0] ? state.problem : "the leader cannot be reached; reads still work");
}

static uint64_t known_ms(void *userdata) {
        return kv_cluster_ms(userdata);
}

static uint64_t kept(void *userdata) {
        const KvStore *s = userdata;

        return s->kept;
}

static int read_tree(void *userdata, TreeTxn **ret) {
        return kv_read(userdata, ret);
}

/* An answer of the leader's is about to be given, of a state that this tree may not have reached: nothing
 * older is served afterwards, before a restart or after it. Once the marker is withdrawn, further answers
 * write nothing until the tree has reached them all. */
static int ahead(void *userdata, uint64_t index) {
        KvStore *s = userdata;
        int r;

        s->promised = MAX(s->promised, index);
        r = read_bound_promise(&s->floor, s->promised);
        if (r >= 0 && s->promised > s->index)
                r = data_dir_unserve(&s->replica->folder);
        if (r < 0)
                log_debug(((LogFields) { .error = r }),
                          "cannot record that index %" PRIu64 " is acknowledged: %s", index, strerror(-r));
        return r;
}

/* -- What can be done -- */

void kv_sync(KvStore *s, KvSync *sync) {
        read_index_add(s->reads, sync);
}

void kv_sync_cancel(KvStore *s, KvSync *sync) {
        read_index_cancel(s->reads, sync);
}

int kv_propose(KvStore *s, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number) {
        return s->closing ? -ESHUTDOWN : proposals_add(s->proposals, cmd, done, userdata, ret_number);
}

void kv_cancel(KvStore *s, uint64_t number) {
        proposals_cancel(s->proposals, number);
}

static int change(KvStore *s, const RaftChange *change) {
        Error err = {};
        int r;

        r = replica_change(s->replica, change, &err);
        if (r < 0 && r != -EREMOTE)
                log_debug(NO_FIELDS, "replica %" PRIu64 ": %s", change->id, error_text(&err, r));
        return r;
}

int kv_member_add(KvStore *s, uint64_t raft_id, const char *address) {
        return change(s, &(RaftChange) { .kind = RAFT_CHANGE_ADD, .id = raft_id, .address = address });
}

int kv_member_promote(KvStore *s, uint64_t raft_id) {
        return change(s, &(RaftChange) { .kind = RAFT_CHANGE_PROMOTE, .id = raft_id });
}

int kv_member_demote(KvStore *s, uint64_t raft_id) {
        KvState state;

        kv_state(s, &state);
        return change(
                s, &(RaftChange) { .kind = RAFT_CHANGE_DEMOTE,
                                   .id = raft_id,
                                   .force = state.n_voters == 2 }); /* of two none may fail: one is better */
}

int kv_member_remove(KvStore *s, uint64_t raft_id) {
        return change(s, &(RaftChange) { .kind = RAFT_CHANGE_REMOVE, .id = raft_id });
}

/* A founder without a peer door has the address "-", who has left his to another one "-" and his id:
 * addresses differ. */
int kv_member_vacate(KvStore *s, uint64_t raft_id) {
        char address[32];

        snprintf(address, sizeof(address), "-%" PRIu64, raft_id);
        return change(s, &(RaftChange) { .kind = RAFT_CHANGE_MOVE, .id = raft_id, .address = address });
}

int kv_transfer(KvStore *s, uint64_t raft_id) {
        return replica_transfer(s->replica, raft_id);
}

int kv_joined(KvStore *s, uint64_t cluster_id, uint64_t lineage, uint64_t raft_id, Error *err) {
        bool lost = s->replica->lost; /* its tree is shown on, and the floor is as it was */
        int r;

        if (cluster_id == 0 || lineage == 0 || raft_id == 0)
                return error_set(err, -EINVAL, "the cluster gave no identity");
        r = replica_join(s->replica,
                         &(Identity) { .cluster_id = cluster_id, .lineage = lineage, .raft_id = raft_id },
                         err);
        if (r >= 0 && !lost)
                read_bound_result(s, read_bound_begin(&s->floor, lineage, s->index, false));
        return r;
}

/* -- Lifetime -- */

static KvStore *store_free(KvStore *s) {
        s->hub = s->hub ? hub_free(s->hub) : NULL;
        outcomes_clear(&s->results);
        outcomes_clear(&s->committed);
        outcomes_clear(&s->published);
        timer_stop(&s->tick);
        timer_stop(&s->expiry);
        timer_stop(&s->hand_over);
        deferred_cancel(&s->tell);
        deferred_cancel(&s->finish);
        read_bound_done(&s->floor);
        free(s);
        return NULL;
}

static void closed_whole(KvStore *s) {
        void (*closed)(void *userdata) = s->closed;
        void *closed_userdata = s->closed_userdata;

        store_free(s);
        if (closed)
                closed(closed_userdata);
}

static void on_closed(void *userdata) {
        KvStore *s = userdata;

        s->replica = NULL;
        if (s->n_large == 0)
                closed_whole(s);
}

void kv_large_ended(KvStore *s) {
        if (!s->replica && s->n_large == 0)
                closed_whole(s);
}

/* Deferred, after the answers that proposals_end() has made. */
static void on_finish(void *userdata) {
        KvStore *s = userdata;

        if (proposals_waiting(s->proposals) > 0) {
                loop_defer(s->loop, &s->finish);
                return;
        }
        timer_stop(&s->hand_over);
        s->handing_over = false;
        read_index_end(s->reads, KV_UNKNOWN); /* what others asked while we handed over */
        s->proposals = proposals_free(s->proposals);
        s->reads = read_index_free(s->reads);
        if (read_bound_settle(&s->floor, MAX(s->index, s->promised)) < 0)
                log_debug(NO_FIELDS, "the record of what was shown stays as it was");
        data_dir_keep_time(&s->replica->folder, kv_cluster_ms(s));
        replica_close(s->replica, on_closed, s);
}

static void on_hand_over_timer(void *userdata) {
        KvStore *s = userdata;

        loop_defer(s->loop, &s->finish); /* it may wait there already */
}

void kv_close(KvStore *s, void (*closed)(void *userdata), void *userdata) {
        assert(!s->closing);
        s->closing = true;
        s->closed = closed;
        s->closed_userdata = userdata;
        timer_stop(&s->tick);
        timer_stop(&s->expiry);
        proposals_end(s->proposals);
        read_index_end(s->reads, KV_UNKNOWN);
        kv_large_stop(s);

        if (replica_is_leader(s->replica) && replica_transfer(s->replica, 0) >= 0 &&
            timer_start(&s->hand_over, s->loop, HAND_OVER_MS) >= 0)
                s->handing_over = true;
        else
                loop_defer(s->loop, &s->finish);
}

KvStore *kv_crash(KvStore *s) {
        if (!s)
                return NULL;
        if (s->proposals)
                proposals_drop(s->proposals);
        if (s->reads)
                read_index_drop(s->reads);
        s->proposals = proposals_free(s->proposals);
        s->reads = read_index_free(s->reads);
        kv_large_drop(s);
        s->replica = replica_crash(s->replica);
        return store_free(s);
}

static void replica_options(KvStore *s, const KvOptions *options, ReplicaOptions *ret) {
        *ret = (ReplicaOptions) {
                .tree_path = options->tree_path,
                .log_disk = options->log_disk,
                .peers = options->peers,
                .quota = options->quota ? options->quota : 256 * 1024 * 1024,
                .election_ms = options->election_ms ? options->election_ms : 400,
                .heartbeat_ms = options->heartbeat_ms ? options->heartbeat_ms : 150,
                .checkpoint_entries = options->checkpoint_entries ? options->checkpoint_entries : 8192,
                .checkpoint_kept = options->checkpoint_kept ? options->checkpoint_kept : 2048,
                .checkpoint_bytes = options->checkpoint_bytes ? options->checkpoint_bytes : 32 * 1024 * 1024,
                .memory_bytes = options->memory_bytes ? options->memory_bytes : 8 * 1024 * 1024,
                .log_file_size = options->log_file_size,
                .compare_every = options->compare_every,
                .events = { .apply = on_apply,
                            .held = on_held,
                            .committed = on_committed,
                            .settled = on_settled,
                            .replaced = on_replaced,
                            .failed = on_failed,
                            .userdata = s },
        };
        snprintf(ret->machine_id, sizeof(ret->machine_id), "%s", options->machine_id);
        snprintf(ret->boot_id, sizeof(ret->boot_id), "%s", options->boot_id);
        snprintf(ret->hardware_id, sizeof(ret->hardware_id), "%s", options->hardware_id);
        snprintf(ret->address, sizeof(ret->address), "%s", options->address);
}

/* What stands on an opened replica; nothing has been applied yet. */
static int build(KvStore *s, const KvOptions *options, Error *err) {
        TreeMeta meta;
        int r;

        r = read_meta(s, &meta);
        if (r < 0)
                return error_set(err, r, "cannot read the tree in %s: %s", options->tree_path, strerror(-r));
        take_meta(s, &meta);
        take_time(s, s->replica->folder.cluster_ms);
        if (s->level > s->level_max)
                return error_set(err, -ENOTSUP, TOO_NEW, s->level, s->level_max);
        r = read_bound_start(s, options, err);
        if (r < 0)
                return r;

        r = hub_new(&s->hub, s->loop, options->window ? options->window : HUB_WINDOW, s->index);
        if (r >= 0)
                r = load_events(s);
        if (r < 0)
                return error_set(err, r, "cannot read the events in %s: %s", options->tree_path,
                                 strerror(-r));
        r = read_index_new(&s->reads, s->replica);
        if (r < 0)
                return r;
        return proposals_new(&s->proposals,
                             &(ProposalsOptions) { .loop = s->loop,
                                                   .peers = s->peers,
                                                   .replica = s->replica,
                                                   .origin = random_u64(loop_random(s->loop)) ?: 1,
                                                   .quota = options->quota,
                                                   .quota_nodes = options->quota_nodes,
                                                   .level = &s->level,
                                                   .level_max = s->level_max,
                                                   .cluster_ms = kv_clock_ms,
                                                   .known_ms = known_ms,
                                                   .kept = kept,
                                                   .read = read_tree,
                                                   .ahead = ahead,
                                                   .fits = fits,
                                                   .problem = problem,
                                                   .userdata = s });
}

/* An opening that failed halfway: the caller gets his answer at once, what is still in flight ends by itself.
 * True: he is told when. */
static bool give_up(KvStore *s) {
        bool later = s->replica && s->events.on_gone;

        s->closing = true;
        s->closed = s->events.on_gone;
        s->closed_userdata = s->events.userdata;
        s->proposals = proposals_free(s->proposals);
        s->reads = read_index_free(s->reads);
        if (s->replica)
                replica_close(s->replica, on_closed, s);
        else
                store_free(s);
        return later;
}

/* What the log brings at a start goes by the hub: its windows are read again from the tree. */
static int start(KvStore *s, Error *err) {
        uint64_t index = s->index;
        int r = replica_start(s->replica, err);

        if (r < 0 || s->index == index)
                return r;
        hub_cleared(s->hub, s->index);
        r = load_events(s);
        return r < 0 ? error_set(err, r, "cannot read the tree's events: %s", strerror(-r)) : 0;
}

int kv_open(KvStore **ret, Loop *loop, const KvOptions *options, Error *err) {
        ReplicaOptions replica;
        KvStore *s;
        int r;

        s = NEW0(KvStore, 1);
        if (!s)
                return -ENOMEM;
        s->loop = loop;
        s->events = options->events;
        s->peers = options->peers;
        s->level_max = options->level_max > 0 ? options->level_max : KV_LEVEL_MAX;
        snprintf(s->machine_id, sizeof(s->machine_id), "%s", options->machine_id);
        snprintf(s->address, sizeof(s->address), "%s", options->address);
        outcomes_init(&s->results);
        outcomes_init(&s->committed);
        outcomes_init(&s->published);
        s->clock_at_ms = s->leaderless_ms = loop_now_ms(loop);
        s->floor = (ReadBound) { .dir_fd = -1 };
        s->tick = TIMER(kv_clock_on_tick, s);
        s->expiry = TIMER(kv_expiry_on_timer, s);
        s->hand_over = TIMER(on_hand_over_timer, s);
        s->tell = DEFERRED(on_tell, s);
        s->finish = DEFERRED(on_finish, s);

        replica_options(s, options, &replica);
        r = replica_open(&s->replica, loop, &replica, options->join, err);
        if (r >= 0)
                r = build(s, options, err);
        if (r >= 0)
                r = start(s, err);
        if (r < 0) {
                if (give_up(s))
                        *ret = s;
                return r;
        }

        *ret = s;
        return 0;
}
