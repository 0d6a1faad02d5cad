/* What the files of the replica share: replica.c opens, starts and closes it; replica_recovery.c is what
 * happens when it fails, up to where it starts again; replica_reopen.c reads what it starts from;
 * replica_inputs.c takes what comes in, makes checkpoints and tells what has to be told; compaction.c bounds
 * what memory holds of the log; replica_ops.c does what the core asks for; replica_status.c is the replica as
 * others see it. Each calls only those after it. */
#pragma once

#include "kvstore/raft/replica.h"

/* -- replica.c -- */

/* Our hello says what we are. */
void replica_introduce(Replica *p);

/* -- replica_recovery.c -- */

void replica_stop_init(Replica *p);
void replica_stop_done(Replica *p); /* of what replica_stop_init() began, and the tree that is shown */
void replica_close_log(Replica *p);
/* The log is damaged: if there may be others, this replica's id is given up, durably. Else a negative errno,
 * and 'err' stays; else 'err' was said, and the replica waits for replica_join(). */
int replica_quarantine(Replica *p, Error *err);
/* What was lost makes room for what begins anew with 'identity'. */
int replica_set_aside(Replica *p, const Identity *identity, Error *err);
/* It did not begin: as before. */
void replica_lost_again(Replica *p);
/* The tree is as far as 'applied': if another one was shown meanwhile, it is not needed any more. Inside an
 * input. */
void replica_caught_up(Replica *p, uint64_t applied);

/* The tree that was received takes the place of ours, and the replica begins again with it. */
void replica_replace_tree(Replica *p);

/* -- replica_reopen.c -- */

int replica_tree_meta(Tree *tree, TreeMeta *ret);
int replica_tree_applied(Tree *tree, uint64_t *ret);
/* Opens the log that is there, as its disk has it, and sees whether it is ours. -ENOENT: none. Blocks: for a
 * start, and for a log that is new. */
int replica_open_log(Replica *p, Error *err);
/* Reads the log again, and before it rebuilds the tree if that is asked for, off the loop. Then 'done'
 * comes, once, unless the replica closes; what it does not take of 'reopening' is dropped. Neither core nor
 * log is open. Negative: it does not come. */
int replica_reopen(Replica *p, bool rebuild, void (*done)(Replica *p), Error *err);
/* Takes the log that was read, or returns the error that ended the reading. Sets 'damaged'. */
int replica_take_reopened(Replica *p, Error *err);
void replica_reopening_done(Replica *p);

/* -- replica_inputs.c -- */

/* Around every input to the core. 'r' is its answer where it can end the replica, else 0. */
void replica_enter(Replica *p);
void replica_leave(Replica *p, int r);
/* The tick of the core, when it wants it. */
void replica_arm(Replica *p);
/* An input is over: what it changed is told. */
void replica_flush_notifications(Replica *p);
/* Closing goes on once nothing is in flight. */
void replica_close_step(Replica *p);

/* What replica_transfer() does, for one that fails: to anybody, of what it has; nothing new is taken any
 * more. */
int replica_give_up_leadership(Replica *p);

/* The inputs: of timers and deferred calls, of the log, of sessions. */
void replica_on_tick(void *userdata);
void replica_on_silence(void *userdata);
void replica_on_flush(void *userdata);
void replica_on_apply(void *userdata);
void replica_on_appended(void *userdata, uint64_t generation, uint64_t last_index);
void replica_on_log_failed(void *userdata, int error, const char *sentence);
void replica_on_raft(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size);
void replica_on_snapshot(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size);
void replica_on_tree(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size);
void replica_on_snapshot_ack(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size);

/* -- compaction.c -- */

void replica_compaction_init(Replica *p);
/* The state of the live tree, in memory of our own. */
int replica_state(Replica *p, Checkpoint *ret, Error *err);
/* How many entries up to 'index' stay in memory behind a checkpoint. */
unsigned replica_trailing(Replica *p, uint64_t index);
/* Outside of an input: entries that nobody needs leave memory. */
void replica_compact(Replica *p);

/* -- replica_ops.c -- */

extern const RaftCoreOps replica_core_ops;
/* Deferred: tells followers what is committed and has not been told with anything else. */
void replica_on_notice(void *userdata);

/* -- replica_status.c -- */

bool replica_has_vote(const Replica *p);
