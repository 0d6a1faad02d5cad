/* The store: what the replica has applied is served, then answered to proposers, then reported to watchers.
 */
#include "kvstore/kvstore_internal.h"

#include "base/log.h"

enum {
        GRACE_MS = 3000,       /* keys written before this leader do not expire for so long ... */
        GRACE_LONG_MS = 30000, /* ... or for so long after a time without a leader */
        NOTICE_MAX_MS = 1000,  /* about twice the election timeout */
        LEADERLESS_MS = 10000,
        CLOSE_TRANSFER_MS = 1000, /* a store that closes waits so long for another leader */
};

#define TOO_NEW "the cluster is at feature level %u, this fleetd supports %u at most: upgrade this host"

/* -- The tree that serves -- */

static void store_take_meta(KvStore *s, const TreeMeta *meta) {
        s->meta = *meta;
        s->index = meta->index;
        s->level = MAX((unsigned) meta->level, (unsigned) KV_LEVEL_FIRST);
        kv_take_time(s, meta->cluster_ms);
        data_dir_raise_quota(replica_data_dir(s->replica), meta->quota);
}

/* -- Read bound: never serve state beyond the persisted bound -- */

static void read_bound_ask(KvStore *s);

/* The live tree has reached all that was served or acknowledged. A tree that is being rebuilt has not, until
 * it serves. */
static bool read_bound_is_reached(const KvStore *s) {
        return s->read_bound.met && s->read_bound.dir_fd >= 0 && s->index >= s->promised &&
               replica_live_tree(s->replica) && !replica_is_rebuilding(s->replica);
}

static void read_bound_result(KvStore *s, int r) {
        if (r >= 0 && read_bound_is_reached(s))
                r = data_dir_serve(replica_data_dir(s->replica));
        if (r < 0)
                replica_fail(s->replica, r, "Failed to record in %s/floor what this host serves: %s",
                             s->read_bound.path, strerror(-r));
}

static void read_bound_rise(KvStore *s) {
        int r = read_bound_reach(&s->read_bound, s->index);

        if (r < 0 || !data_dir_was_served(replica_data_dir(s->replica)))
                read_bound_result(s, r);
}

static void read_bound_on_synced(void *userdata, KvStatus status) {
        KvStore *s = userdata;

        s->read_bound_asked = false;
        if (status == KV_OK)
                read_bound_result(s, read_bound_confirm(&s->read_bound, s->index));
        else if (!s->closing)
                read_bound_ask(s);
}

static void read_bound_ask(KvStore *s) {
        if (s->read_bound.met || s->read_bound_asked || s->closing || replica_leader(s->replica) == 0)
                return;
        s->read_bound_asked = true;
        s->read_bound_sync = (KvSync) { .done = read_bound_on_synced, .userdata = s };
        read_index_add(s->reads, &s->read_bound_sync);
}

static int read_bound_start(KvStore *s, const KvOptions *options, Error *err) {
        int r;

        TRY(read_bound_open(&s->read_bound, options->read_bound_path, err));
        r = read_bound_begin(&s->read_bound, replica_identity(s->replica)->lineage, s->index,
                             data_dir_was_served(replica_data_dir(s->replica)));
        if (r >= 0 && s->read_bound.met && s->read_bound.dir_fd >= 0)
                r = data_dir_serve(replica_data_dir(s->replica));
        return r < 0 ? error_set(err, r, "Failed to record in %s/floor what this host serves: %s",
                                 s->read_bound.path, strerror(-r)) :
                       0;
}

static int store_load_events(KvStore *s) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = kv_read(s, &txn);
        return r < 0 ? r : hub_load(s->hub, txn);
}

/* Another tree serves: what observers have read before is void. */
static void store_on_replaced(KvStore *s) {
        TreeMeta meta;

        if (kv_read_meta(s, &meta) >= 0)
                store_take_meta(s, &meta);
        if (s->level > s->level_max)
                replica_fail(s->replica, -ENOTSUP, TOO_NEW, s->level, s->level_max);
        read_bound_rise(s);
        if (s->read_bound.met)
                read_bound_result(s, 0); /* the tree is another file now */
        s->reset = true;
}

/* Make the tree that was just committed the one that reads see: its index, cluster time and read bound. */
static void store_serve_tree(KvStore *s, const ReplicaNews *news) {
        if (news->applied.has_meta)
                store_take_meta(s, &news->applied.meta);
        read_bound_rise(
                s); /* also after a no-op: a rebuilt tree may have reached the bound without a command */
        if (news->replaced)
                store_on_replaced(s);
        s->rebuilt |= news->rebuilt;
        if (s->rebuilt && !replica_is_rebuilding(s->replica)) {
                s->rebuilt = false;
                read_bound_result(s, 0);
        }
}

/* Add events to the hub's windows, before proposers are answered: a watch that a proposer then opens does not
 * report the proposer's own change. The hub calls watchers from the loop, after the proposers. */
static void store_publish_events(KvStore *s, const ReplicaNews *news) {
        if (!s->reset) {
                for (size_t i = 0; i < news->applied.n_events; i++)
                        hub_publish(s->hub, news->applied.events[i]);
                return;
        }

        s->reset = false;
        proposals_replaced(s->proposals);
        hub_cleared(s->hub, s->index);
        (void) store_load_events(s);
        if (s->events.on_reset && !s->closing)
                s->events.on_reset(s->events.userdata);
}

/* -- After each input of Raft -- */

static void store_on_notify(void *userdata) {
        KvStore *s = userdata;

        if (s->events.on_state && !s->closing)
                s->events.on_state(s->events.userdata);
}

/* Return since when there is no leader, of which this host learns now: a follower notices that some time
 * after the last message. */
static uint64_t store_leader_left_ms(const KvStore *s, uint64_t now) {
        if (s->leads || now < NOTICE_MAX_MS)
                return now;
        return MAX(replica_leader_ms(s->replica), now - NOTICE_MAX_MS);
}

static void store_follow_leader(KvStore *s) {
        uint64_t now = loop_now_ms(s->loop);
        bool known = replica_leader(s->replica) != 0;
        bool lead = kv_leads(s) > 0;

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
                        s->leaderless_ms = store_leader_left_ms(s, now);
        } else if (lead || !replica_is_leader(s->replica))
                s->leaderless_ms = 0;

        if (lead != s->leads) {
                s->leads = lead;
                loop_defer(s->loop, &s->notify);
        }
}

/* This host's address has changed since the configuration was written (a host that was alone gets an
 * address). */
static void store_announce_address(KvStore *s) {
        const char *address = replica_options(s->replica)->address;
        const RaftServers *servers;

        if (!s->leads || !address[0] || raft_core_change_pending(replica_core(s->replica)))
                return;
        servers = raft_core_servers(replica_core(s->replica));
        for (size_t i = 0; i < servers->n; i++) {
                Error err = {};
                int r;

                if (servers->items[i].id != raft_core_id(replica_core(s->replica)) ||
                    streq(servers->items[i].address, address))
                        continue;
                r = replica_change(s->replica,
                                   &(RaftChange) { .kind = RAFT_CHANGE_MOVE,
                                                   .id = servers->items[i].id,
                                                   .address = address },
                                   &err);
                if (r < 0)
                        log_debug(NO_FIELDS, "Failed to announce our address: %s; trying again",
                                  error_text(&err, r));
                return; /* 'servers' is gone */
        }
}

/* Reads continue; the replica recovers by itself. */
static void store_report_failure(KvStore *s, const ReplicaNews *news) {
        const char *reason = "";
        int error = replica_error(s->replica, &reason);

        if (news->failed && s->events.on_failed && !s->closing)
                s->events.on_failed(s->events.userdata, error, reason);
}

static void store_on_failed(KvStore *s, const ReplicaNews *news) {
        proposals_end(s->proposals);
        read_index_end(s->reads, KV_NO_LEADER);
        store_report_failure(s, news);
}

/* An input of the replica is complete. The order is: serving tree, proposers, watchers. */
static void store_on_news(void *userdata, const ReplicaNews *news) {
        KvStore *s = userdata;
        const RaftCore *core = replica_core(s->replica);
        uint64_t applied = core ? raft_core_applied_index(core) : 0;
        unsigned changed = news->changed, level = s->level;
        bool detached = kv_detach(s);

        if (s->attached) {
                store_report_failure(s, news);
                return;
        }
        if (detached) {
                store_on_replaced(s);
                changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER;
        }
        store_serve_tree(s, news);
        store_publish_events(s, news);
        if (detached)
                kv_take_over(s);
        proposals_results(s->proposals, &news->applied);

        store_follow_leader(s);
        read_bound_ask(s);
        proposals_on_input(s->proposals, changed, applied);
        read_index_on_flush(s->reads, news->changed);
        if (s->closing && s->handing_over && !replica_is_leader(s->replica))
                loop_defer(s->loop, &s->finish);
        if (!s->closing && news->changed)
                kv_expiry_check(s);
        if (!s->closing && (news->changed & ~(unsigned) RAFT_CHANGED_COMMIT)) {
                store_announce_address(s);
                loop_defer(s->loop, &s->notify);
        }
        if (!s->closing && s->level != level) /* what hosts publish depends on it */
                loop_defer(s->loop, &s->notify);
        if (news->failed)
                store_on_failed(s, news);
}

/* -- Calls of the owner -- */

int kv_propose(KvStore *s, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number) {
        return s->closing ? -ESHUTDOWN : proposals_add(s->proposals, cmd, done, userdata, ret_number);
}

bool kv_take_write(KvStore *s, const char *machine_id) {
        return proposals_take_write(s->proposals, machine_id);
}

void kv_cancel(KvStore *s, uint64_t number) {
        proposals_cancel(s->proposals, number);
}

static int store_change(KvStore *s, const RaftChange *change) {
        Error err = {};
        int r;

        r = replica_change(s->replica, change, &err);
        if (r < 0 && r != -EREMOTE)
                log_debug(NO_FIELDS, "replica %" PRIu64 ": %s", change->id, error_text(&err, r));
        return r;
}

int kv_member_add(KvStore *s, uint64_t raft_id, const char *address) {
        return store_change(s, &(RaftChange) { .kind = RAFT_CHANGE_ADD, .id = raft_id, .address = address });
}

int kv_member_promote(KvStore *s, uint64_t raft_id) {
        return store_change(s, &(RaftChange) { .kind = RAFT_CHANGE_PROMOTE, .id = raft_id });
}

int kv_member_demote(KvStore *s, uint64_t raft_id) {
        KvState state;

        kv_state(s, &state);
        return store_change(s,
                            &(RaftChange) { .kind = RAFT_CHANGE_DEMOTE,
                                            .id = raft_id,
                                            .force = state.n_voters ==
                                                     2 }); /* of two voters neither may fail: one is better */
}

int kv_member_remove(KvStore *s, uint64_t raft_id) {
        return store_change(s, &(RaftChange) { .kind = RAFT_CHANGE_REMOVE, .id = raft_id });
}

int kv_member_shrink(KvStore *s, uint64_t raft_id, bool remove) {
        return store_change(s, &(RaftChange) { .kind = remove ? RAFT_CHANGE_REMOVE : RAFT_CHANGE_DEMOTE,
                                               .id = raft_id,
                                               .force = true });
}

int kv_transfer(KvStore *s, uint64_t raft_id) {
        return replica_transfer(s->replica, raft_id);
}

/* Addresses differ: a founder without a listener has "-", and a member that gave up its address has "-" and
 * its ID. */
int kv_member_vacate(KvStore *s, uint64_t raft_id) {
        char address[32];

        snprintf(address, sizeof(address), "-%" PRIu64, raft_id);
        return store_change(s, &(RaftChange) { .kind = RAFT_CHANGE_MOVE, .id = raft_id, .address = address });
}

int kv_retire(KvStore *s, const char *reason) {
        return replica_retire(s->replica, reason);
}

int kv_joined(KvStore *s, uint64_t cluster_id, uint64_t lineage, uint64_t raft_id, Error *err) {
        bool lost = replica_state(s->replica) ==
                    REPLICA_QUARANTINED; /* its tree keeps serving, and the read bound stays */
        int r;

        if (cluster_id == 0 || lineage == 0 || raft_id == 0)
                return error_set(err, -EINVAL, "the answer to the join request has no identity");
        r = replica_join(s->replica,
                         &(Identity) { .cluster_id = cluster_id, .lineage = lineage, .raft_id = raft_id },
                         err);
        if (r >= 0 && !lost)
                read_bound_result(s, read_bound_begin(&s->read_bound, lineage, s->index, false));
        return r;
}

/* -- Lifetime -- */

static KvStore *store_free(KvStore *s) {
        s->hub = s->hub ? hub_free(s->hub) : NULL;
        timer_stop(&s->tick);
        timer_stop(&s->expiry);
        timer_stop(&s->hand_over);
        deferred_cancel(&s->notify);
        deferred_cancel(&s->finish);
        read_bound_done(&s->read_bound);
        free(s);
        return NULL;
}

static void store_closed(KvStore *s) {
        void (*closed)(void *userdata) = s->closed;
        void *closed_userdata = s->closed_userdata;

        store_free(s);
        if (closed)
                closed(closed_userdata);
}

static void store_on_replica_closed(void *userdata) {
        KvStore *s = userdata;

        s->replica = NULL;
        if (s->n_lists == 0)
                loop_defer(s->loop, &s->finish);
}

/* Deferred, after the answers of proposals_end(); again without a replica and large reads. */
static void store_on_finish(void *userdata) {
        KvStore *s = userdata;

        if (!s->replica) {
                store_closed(s);
                return;
        }
        if (proposals_waiting(s->proposals) > 0) {
                loop_defer(s->loop, &s->finish);
                return;
        }
        timer_stop(&s->hand_over);
        s->handing_over = false;
        read_index_end(s->reads, KV_UNKNOWN); /* requests of other hosts during the leadership transfer */
        s->proposals = proposals_free(s->proposals);
        s->reads = read_index_free(s->reads);
        if (read_bound_end(&s->read_bound, MAX(s->index, s->promised)) < 0)
                log_debug(NO_FIELDS, "Failed to write the read bound; the previous one stays");
        data_dir_keep_time(replica_data_dir(s->replica), kv_cluster_ms(s));
        replica_close(s->replica, store_on_replica_closed, s);
}

static void store_on_transfer_timer(void *userdata) {
        KvStore *s = userdata;

        loop_defer(s->loop, &s->finish); /* it may be queued already */
}

void kv_close(KvStore *s, void (*closed)(void *userdata), void *userdata) {
        assert(!s->closing);
        s->closing = true;
        s->closed = closed;
        s->closed_userdata = userdata;
        timer_stop(&s->tick);
        timer_stop(&s->expiry);
        kv_close_sessions(s);
        proposals_drop_relayed(s->proposals);
        proposals_end(s->proposals);
        read_index_end(s->reads, KV_UNKNOWN);
        kv_lists_stop(s);

        if (replica_is_leader(s->replica) && replica_transfer(s->replica, 0) >= 0 &&
            timer_start(&s->hand_over, s->loop, CLOSE_TRANSFER_MS) >= 0)
                s->handing_over = true;
        else
                loop_defer(s->loop, &s->finish);
}

KvStore *kv_crash(KvStore *s) {
        if (!s)
                return NULL;
        s->serve = serve_free(s->serve);
        s->remote = remote_free(s->remote);
        s->proposals = proposals_free(s->proposals);
        s->reads = read_index_free(s->reads);
        kv_lists_drop(s);
        s->replica = replica_crash(s->replica);
        return store_free(s);
}

static void kv_replica_options(KvStore *s, const KvOptions *options, ReplicaOptions *ret) {
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
                .notify = store_on_news,
                .userdata = s,
        };
        snprintf(ret->machine_id, sizeof(ret->machine_id), "%s", options->machine_id);
        snprintf(ret->boot_id, sizeof(ret->boot_id), "%s", options->boot_id);
        snprintf(ret->hardware_id, sizeof(ret->hardware_id), "%s", options->hardware_id);
        snprintf(ret->address, sizeof(ret->address), "%s", options->address);
}

/* Build the parts above an opened replica; nothing has been applied yet. */
static int store_build(KvStore *s, const KvOptions *options, Error *err) {
        Applied *applied;
        TreeMeta meta;
        int r;

        r = kv_read_meta(s, &meta);
        if (r < 0)
                return error_set(err, r, "Failed to read the tree in %s: %s", options->tree_path,
                                 strerror(-r));
        store_take_meta(s, &meta);
        kv_take_time(s, replica_data_dir(s->replica)->cluster_ms);
        if (s->level > s->level_max)
                return error_set(err, -ENOTSUP, TOO_NEW, s->level, s->level_max);
        TRY(read_bound_start(s, options, err));

        r = hub_new(&s->hub, s->loop, options->window ? options->window : HUB_WINDOW, s->index);
        if (r >= 0)
                r = store_load_events(s);
        if (r < 0)
                return error_set(err, r, "Failed to read the events in %s: %s", options->tree_path,
                                 strerror(-r));
        TRY(read_index_new(&s->reads, s->replica));
        applied = replica_applied(s->replica);
        applied->origin = random_u64(loop_random(s->loop)) ?: 1;
        applied->level_max = s->level_max;
        r = proposals_new(&s->proposals, &(ProposalsOptions) { .store = s,
                                                               .loop = s->loop,
                                                               .peers = s->peers,
                                                               .replica = s->replica,
                                                               .origin = applied->origin,
                                                               .commits = &s->commits,
                                                               .quota = options->quota,
                                                               .quota_nodes = options->quota_nodes,
                                                               .level_max = s->level_max,
                                                               .check = options->check_proposal,
                                                               .userdata = options->events.userdata });
        applied->wants = proposals_wants;
        applied->userdata = s->proposals;
        return r;
}

/* Close a store whose opening has failed: the caller gets the error at once. True: events.on_gone reports the
 * end of what is still in flight. */
static bool store_give_up(KvStore *s) {
        bool later = s->replica && s->events.on_gone;

        s->closing = true;
        kv_close_sessions(s);
        s->closed = s->events.on_gone;
        s->closed_userdata = s->events.userdata;
        s->proposals = proposals_free(s->proposals);
        s->reads = read_index_free(s->reads);
        if (s->replica)
                replica_close(s->replica, store_on_replica_closed, s);
        else
                store_free(s);
        return later;
}

/* Entries that the log adds at a start are in the tree, whose events the hub reads again. */
static int store_start(KvStore *s, Error *err) {
        uint64_t index = s->index;
        ReplicaNews news;
        int r;

        r = replica_start(s->replica, err);
        news = replica_take_news(s->replica);
        store_serve_tree(s, &news);
        applied_clear(&news.applied);
        if (r < 0 || s->index == index)
                return r;
        hub_cleared(s->hub, s->index);
        r = store_load_events(s);
        return r < 0 ? error_set(err, r, "Failed to read the tree's events: %s", strerror(-r)) : 0;
}

static int store_open(KvStore *s, const KvOptions *options, Error *err) {
        ReplicaOptions replica;
        int r;

        kv_replica_options(s, options, &replica);
        TRY(replica_open(&s->replica, s->loop, &replica, options->join, err));
        r = store_build(s, options, err);
        if (r >= 0)
                r = kv_open_sessions(s);
        return r < 0 ? r : store_start(s, err);
}

int kv_open(KvStore **ret, Loop *loop, const KvOptions *options, Error *err) {
        KvStore *s;
        int r;

        s = NEW0(KvStore, 1);
        if (!s)
                return -ENOMEM;
        s->loop = loop;
        s->events = options->events;
        s->peers = options->peers;
        s->level_max = options->level_max > 0 ? options->level_max : KV_LEVEL_MAX;
        s->waits = options->waits;
        s->clock_at_ms = s->leaderless_ms = loop_now_ms(loop);
        s->read_bound = (ReadBound) { .dir_fd = -1 };
        s->tick = TIMER(kv_clock_on_tick, s);
        s->expiry = TIMER(kv_expiry_on_timer, s);
        s->hand_over = TIMER(store_on_transfer_timer, s);
        s->notify = DEFERRED(store_on_notify, s);
        s->finish = DEFERRED(store_on_finish, s);

        r = store_open(s, options, err);
        if (r < 0) {
                if (store_give_up(s))
                        *ret = s;
                return r;
        }

        *ret = s;
        return 0;
}
