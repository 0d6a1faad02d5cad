/* Checkpoints: when one is due, its copy off the loop, and the log before it. */
#include "kvstore/raft/replica_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/entries.h"
#include "kvstore/raft/transfer.h"

enum { CHECKPOINT_RETRY_MS = 10000 };

bool replica_is_copying(const Replica *p) {
        return p->checkpoints.copying;
}

bool replica_checkpoints_busy(const Replica *p) {
        return p->checkpoints.copying || p->checkpoints.dropping;
}

void replica_count_entry(Replica *p, const RaftEntry *e) {
        p->checkpoints.entries_since++;
        p->checkpoints.bytes_since += raft_entry_bytes(e);
}

void replica_checkpoint_due(Replica *p) {
        p->checkpoints.bytes_since = p->options.checkpoint_bytes;
}

void replica_checkpoint_replaced(Replica *p, uint64_t index) {
        p->checkpoints.reported = true; /* the core has the received state already */
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

/* -- The copy -- */

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

        c->drop_work = (Work) { .name = LOOP_NAME(checkpoints_drop_done),
                                .work = checkpoints_drop_run,
                                .done = checkpoints_drop_done,
                                .userdata = p };
        if (loop_work(p->loop, &c->drop_work) < 0)
                close(TAKE_FD(c->drop_fd));
        else
                c->dropping = true;
}

static void checkpoints_copy_failed(Replica *p) {
        Checkpoints *c = &p->checkpoints;

        log_warning(((LogFields) { .error = c->error }), "%s: %s",
                    c->probing ? "the tree cannot be looked at" : "no checkpoint",
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
                replica_work_ended(p);
                return;
        }

        if (c->error < 0)
                checkpoints_copy_failed(p);
        else if (c->probing)
                log_notice(NO_FIELDS, "the tree of this host holds what was written to it");
        else {
                log_debug(NO_FIELDS, "checkpoint of entry %" PRIu64 ", %" PRIu64 " bytes",
                          c->copied.meta.applied, c->copied.size);
                checkpoints_adopt(p);
        }

        if (p->core)
                transfers_step(p->transfers);
        replica_notify_later(p, 0); /* a snapshot message may have waited for this copy, too */
}

static void checkpoints_copy(Replica *p, bool probing) {
        Checkpoints *c = &p->checkpoints;

        c->copied = (Checkpoint) { .fd = -1 };
        c->text = (Error) {};
        c->work = (Work) { .name = LOOP_NAME(checkpoints_copy_done),
                           .work = checkpoints_copy_run,
                           .done = checkpoints_copy_done,
                           .userdata = p,
                           .nice = WORK_NICE_PATIENT };
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

/* -- When -- */

static bool checkpoints_are_in_doubt(const Replica *p) {
        return consistency_differs(p->consistency) || consistency_undecided(p->consistency);
}

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

void replica_checkpoints_init(Replica *p) {
        p->checkpoints.copied = (Checkpoint) { .fd = -1 };
        p->checkpoints.drop_fd = -1;
        p->checkpoints.reported = true; /* the core starts with the checkpoint that is there */
}

void replica_checkpoints_done(Replica *p) {
        checkpoint_done(&p->checkpoints.copied);
        closep(&p->checkpoints.drop_fd);
}
