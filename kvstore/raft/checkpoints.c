/* Checkpoints, and compaction of the log in memory.
 *
 * On disk, the log is kept from the last checkpoint but one. Memory needs only its end: the tree holds the
 * result of the earlier entries, and only lagging followers need them. Therefore the engine receives the live
 * tree's state as a snapshot, much more often than checkpoints are made. A follower that needs removed
 * entries receives a checkpoint, which is made then if the last one is older. While a member lacks entries,
 * they stay as long as they are smaller than half of the tree, and so cheaper to send. */
#include "kvstore/raft/replica_internal.h"

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/entries.h"
#include "kvstore/raft/transfer.h"

enum { CHECKPOINT_RETRY_MS = 10000, COMPACT_AGAIN_MS = 2000 };

void replica_count_entry(Replica *p, const RaftEntry *e) {
        p->checkpoints.entries_since++;
        p->checkpoints.bytes_since += raft_entry_bytes(e);
}

void replica_checkpoint_due(Replica *p) {
        p->checkpoints.bytes_since = p->options.checkpoint_bytes;
}

void replica_checkpoint_replaced(Replica *p, uint64_t index) {
        p->checkpoints.reported = true; /* the core has the received state */
        p->checkpoints.previous = index;
        p->checkpoints.entries_since = p->checkpoints.bytes_since = 0;
}

/* -- The log before a checkpoint -- */

static void checkpoints_cut_log(Replica *p) {
        uint64_t applied = p->data_dir.checkpoint.meta.applied, kept = p->options.checkpoint_kept;
        uint64_t keep = MIN(p->checkpoints.previous, applied > kept ? applied - kept : 0);

        if (keep > 0 && p->log)
                (void) raft_log_cut(p->log, keep); /* the log reports a failed write itself */
}

/* The core takes a checkpoint only when the log is durable up to there; until then the log is not cut. */
static void checkpoints_report(Replica *p) {
        RaftStateInfo info;
        int r;

        if (p->checkpoints.reported)
                return;

        info = replica_checkpoint_info(&p->data_dir.checkpoint);
        replica_enter(p);
        r = raft_core_checkpointed(p->core, loop_now_ms(p->loop), &info, replica_trailing(p, info.index));
        replica_leave(p, r == -EAGAIN || r == -ESTALE ? 0 : r);
        if (r < 0 && r != -ESTALE)
                return;

        p->checkpoints.reported = true;
        if (r == -ESTALE)
                replica_checkpoint(p);
        else
                checkpoints_cut_log(p);
}

static bool checkpoints_are_in_doubt(const Replica *p) {
        return consistency_differs(p->consistency) || consistency_undecided(p->consistency);
}

/* -- The copy -- */

static void checkpoints_refuse_backups(Replica *p, int error, const char *reason);
static void checkpoints_serve_backups(Replica *p);

/* The last close of a file without a name frees its blocks: 30 ms for 150 MB. */
static void checkpoints_drop_run(void *userdata) {
        Replica *p = userdata;

        close(TAKE_FD(p->checkpoints.drop_fd));
}

static void checkpoints_drop_done(void *userdata) {
        Replica *p = userdata;

        p->checkpoints.dropping = false;
        replica_work_ended(p);
}

/* Replace the previous checkpoint by the copy. */
static void checkpoints_adopt(Replica *p) {
        Checkpoints *c = &p->checkpoints;

        c->previous = p->data_dir.checkpoint.fd >= 0 ? p->data_dir.checkpoint.meta.applied : 0;
        c->reported = false;
        if (!c->dropping)
                c->drop_fd = TAKE_FD(p->data_dir.checkpoint.fd);
        data_dir_adopt(&p->data_dir, &c->copied);
        if (c->dropping || c->drop_fd < 0)
                return;

        c->drop_work = WORK(checkpoints_drop_run, checkpoints_drop_done, p);
        if (loop_work(p->loop, &c->drop_work) < 0)
                close(TAKE_FD(c->drop_fd));
        else
                c->dropping = true;
}

static void checkpoints_copy_failed(Replica *p) {
        Checkpoints *c = &p->checkpoints;

        log_warning(((LogFields) { .error = c->error }), "%s: %s",
                    c->probing ? "Failed to verify the tree" : "Failed to make a checkpoint",
                    error_text(&c->text, c->error));
        c->retry_ms = loop_now_ms(p->loop) + CHECKPOINT_RETRY_MS;
        if (c->error != -EUCLEAN)
                return;
        /* Tree or copy are corrupt: in either case, checkpoint and log give a better tree. */
        data_dir_distrust(&p->data_dir);
        replica_fail(p, -EUCLEAN, "%s", error_text(&c->text, c->error));
}

static void checkpoints_copy_run(void *userdata) {
        Replica *p = userdata;
        Checkpoints *c = &p->checkpoints;
        Tree *tree = replica_live_tree(p);

        c->error = c->probing ? data_dir_probe(&p->data_dir, tree, &c->text) :
                                data_dir_copy(&p->data_dir, tree, &c->copied, &c->text);
}

static void checkpoints_copy_done(void *userdata) {
        Replica *p = userdata;
        Checkpoints *c = &p->checkpoints;

        c->copying = false;
        if (p->state == REPLICA_CLOSING) {
                checkpoint_done(&c->copied);
                checkpoints_refuse_backups(p, -ESHUTDOWN, "fleetd stops");
                replica_work_ended(p);
                return;
        }

        if (c->error < 0)
                checkpoints_copy_failed(p);
        else if (c->probing)
                log_notice(NO_FIELDS, "verified the tree of this host");
        else {
                log_debug(NO_FIELDS, "checkpoint of entry %" PRIu64 ", %" PRIu64 " bytes",
                          c->copied.meta.applied, c->copied.size);
                checkpoints_adopt(p);
        }

        if (c->error < 0)
                checkpoints_refuse_backups(p, c->error, error_text(&c->text, c->error));
        else
                checkpoints_serve_backups(p);
        if (p->core)
                transfers_step(p->transfers);
        replica_notify_later(p, 0); /* a snapshot message may have waited for this copy, too */
}

static void checkpoints_copy(Replica *p, bool probing) {
        Checkpoints *c = &p->checkpoints;

        c->copied = (Checkpoint) { .fd = -1 };
        c->text = (Error) {};
        c->work = WORK(checkpoints_copy_run, checkpoints_copy_done, p);
        c->work.nice = WORK_NICE_PATIENT;
        c->probing = probing;
        if (loop_work(p->loop, &c->work) < 0) {
                c->retry_ms = loop_now_ms(p->loop) + CHECKPOINT_RETRY_MS;
                return;
        }
        c->copying = true;
        if (!probing)
                c->entries_since = c->bytes_since = 0;
}

static bool checkpoints_may_copy(const Replica *p) {
        return !p->checkpoints.copying && replica_live_tree(p) && replica_is_open(p);
}

void replica_probe(Replica *p) {
        if (checkpoints_may_copy(p))
                checkpoints_copy(p, true);
}

/* -- Backups -- */

static void backup_end(Replica *p, KvCopyRequest *b, int result, const char *reason) {
        const Checkpoint *c = &p->data_dir.checkpoint;
        KvCopy copy = { .fd = c->fd,
                        .size = c->size,
                        .cluster_id = c->meta.cluster_id,
                        .lineage = c->meta.lineage,
                        .index = c->meta.index,
                        .raft_index = c->meta.applied,
                        .cluster_ms = c->meta.cluster_ms,
                        .level = c->meta.level };

        TAILQ_REMOVE(&p->checkpoints.backups, b, entry);
        b->done(b->userdata, result, result < 0 ? NULL : &copy, reason);
}

static void checkpoints_refuse_backups(Replica *p, int error, const char *reason) {
        KvCopyRequest *b;

        while ((b = TAILQ_FIRST(&p->checkpoints.backups)))
                backup_end(p, b, error, reason);
}

/* Give the last checkpoint to those for whom it is new enough, and make one for the others. */
static void checkpoints_serve_backups(Replica *p) {
        Checkpoints *c = &p->checkpoints;
        KvCopyRequest *b, *next;

        if (checkpoints_are_in_doubt(p)) {
                checkpoints_refuse_backups(
                        p, -EUCLEAN,
                        "the trees of the hosts differ (fleetctl status); try again on another host");
                return;
        }
        for (b = TAILQ_FIRST(&c->backups); b; b = next) {
                next = TAILQ_NEXT(b, entry);
                if (p->data_dir.checkpoint.fd >= 0 && p->data_dir.checkpoint.meta.applied >= b->applied)
                        backup_end(p, b, 0, NULL);
        }
        if (TAILQ_EMPTY(&c->backups) || c->copying)
                return;
        replica_checkpoint(p);
        if (!c->copying)
                checkpoints_refuse_backups(
                        p, -EAGAIN,
                        "the replica of this host makes no copy now (fleetctl status); try again in "
                        "10 s, or on another host");
}

void replica_backup(Replica *p, KvCopyRequest *b) {
        Tree *tree = replica_live_tree(p);
        TreeMeta meta;

        TAILQ_INSERT_TAIL(&p->checkpoints.backups, b, entry);
        if (!tree || !replica_is_open(p) || tree_read_meta(tree, &meta) < 0) {
                backup_end(p, b, -EAGAIN,
                           "the replica of this host is not in service (fleetctl status); try again on "
                           "another host");
                return;
        }
        b->applied = meta.applied;
        checkpoints_serve_backups(p);
}

void replica_backup_cancel(Replica *p, KvCopyRequest *b) {
        TAILQ_REMOVE(&p->checkpoints.backups, b, entry);
}

/* -- When -- */

void replica_checkpoint(Replica *p) {
        if (!checkpoints_may_copy(p) || loop_now_ms(p->loop) < p->checkpoints.retry_ms ||
            checkpoints_are_in_doubt(p))
                return;

        checkpoints_copy(p, false);
}

void replica_checkpoints_step(Replica *p) {
        Checkpoints *c = &p->checkpoints;
        Tree *tree = replica_live_tree(p);
        bool by_bytes, by_entries;

        if (checkpoints_are_in_doubt(p))
                return;
        checkpoints_report(p);
        if (c->copying || !tree)
                return;

        /* A copy costs the whole tree: a large one waits until the log has grown in proportion. */
        by_bytes = c->bytes_since >= p->options.checkpoint_bytes;
        by_entries = c->entries_since >= p->options.checkpoint_entries;
        if (by_bytes || (by_entries && c->bytes_since >= tree_file_size(tree) / 8))
                replica_checkpoint(p);
}

/* -- Compaction -- */

int replica_read_info(Replica *p, Checkpoint *ret, Error *err) {
        int r;

        *ret = (Checkpoint) { .fd = -1 };
        r = checkpoint_read(ret, replica_live_tree(p));
        if (r >= 0 || r == -ENOMEM)
                return r;
        return error_set(err, r, "Failed to read the tree in %s: %s", p->data_dir.path, strerror(-r));
}

/* Return the first index of the entries at the end that take up to 'max' bytes together. */
static uint64_t compaction_first_within(const RaftCore *core, uint64_t max) {
        uint64_t index = raft_core_last_index(core) + 1, bytes = 0;
        const RaftEntry *e;

        while ((e = raft_core_entry(core, index - 1)) && (bytes += raft_entry_bytes(e)) <= max)
                index--;
        return index;
}

/* Return whether this host leads, and a member lacks entries before 'index'. */
static bool compaction_is_lacked(const Replica *p, uint64_t index) {
        const RaftServers *servers = raft_core_servers(p->core);
        uint64_t match;

        for (size_t i = 0; replica_is_leader(p) && i < servers->n; i++)
                if (servers->items[i].id != raft_core_id(p->core) &&
                    servers->items[i].role != RAFT_ROLE_SPARE &&
                    raft_core_match_index(p->core, servers->items[i].id, &match) >= 0 && match + 1 < index)
                        return true;
        return false;
}

/* Return the first index that is kept in memory. *ret_max: compact when the entries take more bytes.
 * Compaction leaves half of that, so that it does not run at each entry. */
static uint64_t compaction_keep_from(const Replica *p, uint64_t *ret_max) {
        uint64_t max = p->options.memory_bytes, from = compaction_first_within(p->core, max / 2);
        Tree *tree = replica_live_tree(p);

        if (tree && compaction_is_lacked(p, from)) {
                max = MAX(max, MIN(p->options.checkpoint_bytes, tree_file_size(tree) / 2));
                from = compaction_first_within(p->core, max / 2);
        }
        *ret_max = max;
        return from;
}

unsigned replica_trailing(Replica *p, uint64_t index) {
        uint64_t max, from = compaction_keep_from(p, &max);

        return from > index ? 1 : (unsigned) MIN(index + 1 - from, (uint64_t) p->options.checkpoint_kept);
}

/* Remove the entries before 'from' that are applied and durable here. */
static void compaction_remove_before(Replica *p, uint64_t from) {
        _cleanup_(checkpoint_done) Checkpoint state = { .fd = -1 };
        uint64_t index = MIN(raft_core_applied_index(p->core), raft_core_stored_index(p->core));
        const RaftEntry *e;
        RaftStateInfo info;
        int r;

        index = MIN(index, raft_core_commit_index(p->core));
        e = raft_core_entry(p->core, index);
        if (!e || from <= raft_core_first_index(p->core) || replica_read_info(p, &state, NULL) < 0 ||
            state.meta.configuration_index > index || state.meta.applied < index)
                return;

        info = replica_checkpoint_info(&state);
        info.index = index;
        info.term = e->term;
        replica_enter_paused(p);
        r = raft_core_checkpointed(p->core, loop_now_ms(p->loop), &info,
                                   from > index ? 1 : (unsigned) (index + 1 - from));
        replica_leave(p, r == -EAGAIN || r == -ESTALE ? 0 : r);
}

void replica_compact(Replica *p) {
        uint64_t bytes = raft_core_entries_bytes(p->core), max, from;

        if (!replica_live_tree(p) || bytes <= MAX(p->options.memory_bytes, p->checkpoints.compact_bytes) ||
            raft_core_installing(p->core) || checkpoints_are_in_doubt(p))
                return;

        from = compaction_keep_from(p, &max);
        if (bytes > max)
                compaction_remove_before(p, from);
        /* Entries that a member still lacks, or that are not durable: try again with more of them, or later.
         */
        bytes = raft_core_entries_bytes(p->core);
        p->checkpoints.compact_bytes = bytes > p->options.memory_bytes ? bytes + p->options.memory_bytes / 8 :
                                                                         0;
        if (p->checkpoints.compact_bytes > 0 && !timer_armed(&p->checkpoints.compact_again))
                (void) timer_start(&p->checkpoints.compact_again, p->loop, COMPACT_AGAIN_MS);
}

static void compaction_on_again(void *userdata) {
        Replica *p = userdata;

        p->checkpoints.compact_bytes = 0;
        if (replica_is_open(p) && p->depth == 0)
                replica_compact(p);
}

void replica_checkpoints_init(Replica *p) {
        p->checkpoints.compact_again = TIMER(compaction_on_again, p);
        p->checkpoints.copied = (Checkpoint) { .fd = -1 };
        p->checkpoints.drop_fd = -1;
        TAILQ_INIT(&p->checkpoints.backups);
        p->checkpoints.reported = true; /* the core starts with the existing checkpoint */
}
