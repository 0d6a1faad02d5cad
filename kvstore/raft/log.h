/* The durable log: Raft's entries, term and vote, and whose they are, in one folder.
 *
 *   meta.a, meta.b   128 bytes, written alternately: the newer valid one counts. Term and vote in one write,
 * so that no crash can lose a vote and keep the term. log.00000001 ... preallocated, append-only, records
 * with checksums. Cutting off a conflicting tail is a record like any other ("truncate from i"), so a torn
 * tail is the only damage a crash can do.
 *
 * A write of entries runs off the loop; one is in flight, and carries everything that was queued when it
 * began. Opening tells a torn tail (dropped, and reported by raft_log_torn()) from corruption (-EUCLEAN,
 * naming file and offset): a record is torn only if no *later write* left anything behind it, which each
 * record's write number tells. After a failed write nothing is retried: page cache and disk may differ. The
 * owner closes the log, and says so.
 *
 * Loop's side: all calls but raft_log_create(), raft_log_open() and those that only ask come from the loop.
 */
#pragma once

#include "base/error.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/raft/message.h"

enum { RAFT_LOG_MACHINE_SIZE = 16 };

typedef struct RaftLogMeta {
        uint64_t cluster;                        /* the cluster's id */
        uint64_t id;                             /* our Raft id in it */
        uint8_t machine[RAFT_LOG_MACHINE_SIZE];  /* the machine that this folder belongs to */
        uint64_t start_number;                   /* how often it was opened */
        uint64_t term, vote;                     /* vote 0: none in this term */
        uint8_t hardware[RAFT_LOG_MACHINE_SIZE]; /* that it has; zeroes: not known */
} RaftLogMeta;

typedef struct RaftLogOptions {
        uint64_t file_size; /* bytes of one log file; 0: 4 MiB. An entry that is larger gets a larger file */
        /* What opening keeps in memory: entry 'applied' and those behind it, and the last 'loaded_bytes' of
         * all. */
        uint64_t applied, loaded_bytes;
        const _Atomic bool *cancelled; /* opening ends soon, with -ECANCELED, once this is true; borrowed
                                          until the log is closed; NULL: never */
} RaftLogOptions;

typedef struct RaftLogEvents {
        /* Everything of raft_log_append(generation, ...) and before is durable. */
        void (*appended)(void *userdata, uint64_t generation, uint64_t last_index);
        /* A write failed: the log accepts nothing any more (each call gives 'error'). Comes once. */
        void (*failed)(void *userdata, int error, const char *sentence);
} RaftLogEvents;

typedef struct RaftLog RaftLog;

/* Makes a fresh folder's files: for a founder, for one that joins ('n' 0, term 0), for recovery.
 * 'first_index' is the index of entries[0]; blocks. -EEXIST when the folder holds a log already. If it fails
 * halfway, the folder still counts as fresh: the meta files come last. */
int raft_log_create(Disk *disk, const RaftLogMeta *meta, uint64_t first_index, const RaftEntry *entries,
                    size_t n, const RaftLogOptions *options, Error *err);

/* Reads the whole folder (blocks: at a start, or off the loop) and raises the start number durably.
 * 'disk' is borrowed until closed. -ENOENT    no log here yet -EUCLEAN   corrupt: 'err' names the file and
 * the offset. This replica must be wiped, and join under a new id. */
int raft_log_open(Disk *disk, Loop *loop, const RaftLogOptions *options, const RaftLogEvents *events,
                  void *userdata, RaftLog **ret, Error *err);

/* Waits for nothing: a write in flight ends by itself later, without an event. NULL allowed; returns NULL.
 * The Disk must outlive the write in flight: 'closed' (may be NULL) is called when nothing uses it any more,
 * perhaps at once. */
RaftLog *raft_log_close(RaftLog *log, void (*closed)(void *userdata), void *userdata);

/* For simulation: gone at once, as by a crash; a write in flight must never come back. NULL allowed; returns
 * NULL. */
RaftLog *raft_log_crash(RaftLog *log);

const RaftLogMeta *raft_log_meta(const RaftLog *log);

/* What was dropped at opening: true if there was a torn tail; the text "FILE at offset N" borrows. */
bool raft_log_torn(const RaftLog *log, const char **ret_where);

/* The entries found at opening, as far as it kept them; may be asked once, directly after it. entries[0] has
 * index *ret_first; with none, *ret_first is what the next append will have to begin with (1 in a fresh log).
 * Entries and data are one allocation each way: raft_log_entries_free(). */
int raft_log_take_entries(RaftLog *log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first);
/* The same, without taking them. */
const RaftEntry *raft_log_entries(const RaftLog *log, size_t *ret_n, uint64_t *ret_first);
RaftEntry *raft_log_entries_free(RaftEntry *entries, size_t n); /* returns NULL */

/* Writes term and vote; durable when it returns 0. The one write that blocks the loop. */
int raft_log_write_meta(RaftLog *log, uint64_t term, uint64_t vote);

/* From now on this folder belongs to that hardware; durable when it returns 0. */
int raft_log_write_hardware(RaftLog *log, const uint8_t hardware[RAFT_LOG_MACHINE_SIZE]);

/* Queues entries first_index ...: what the log holds from first_index on is truncated first. The data is
 * copied. 'generation' comes back in 'appended' (the core's). first_index must not be behind the end + 1
 * (asserted). */
int raft_log_append(RaftLog *log, uint64_t generation, uint64_t first_index, const RaftEntry *entries,
                    size_t n);

/* Queues: forget all entries; the next append begins at index + 1. For a received snapshot, and for the
 * start's rule that a log which does not fit the state is dropped. */
int raft_log_reset(RaftLog *log, uint64_t index);

/* Queues the removal of files that hold only entries at or below 'index'. */
int raft_log_cut(RaftLog *log, uint64_t index);

/* Calls 'done' once everything queued so far is durable or has failed. One at a time (-EBUSY). */
int raft_log_flush(RaftLog *log, void (*done)(void *userdata, int error), void *userdata);

uint64_t raft_log_first_index(const RaftLog *log); /* of what is on disk, queued writes included */
uint64_t raft_log_last_index(const RaftLog *log);  /* first - 1 when empty */
uint64_t raft_log_size(const RaftLog *log);        /* bytes of all its files */
uint64_t raft_log_oldest_write_ms(
        const RaftLog *log); /* when the write in flight began (loop_now_ms()), 0: none; for a watchdog */
