/* The durable log: Raft's entries, term and vote, and their owner, in one folder.
 *
 *   meta.a, meta.b     128 bytes, written alternately: the newer valid one counts. Term and vote are one
 *                      write, so that no crash can lose a vote and keep the term.
 *   log.00000001 ...   preallocated, append-only: records with checksums. The removal of a conflicting tail
 *                      is a record, too ("truncate from i"), so a crash can damage only the tail.
 *
 * A write of entries runs off the loop. One is in flight, and carries all that was queued when it began.
 * Opening distinguishes a torn tail (dropped, and reported by raft_log_torn()) from corruption (-EUCLEAN,
 * with file and offset): a record is torn only if no record of a *later write* follows it; each record has
 * its write's number. A failed write is not retried, because page cache and disk may differ. The owner closes
 * the log.
 *
 * All calls come from the loop, except raft_log_create(), raft_log_open() and those that only read. */
#pragma once

#include "base/duration.h"
#include "base/error.h"
#include "io/disk.h"
#include "io/loop.h"
#include "kvstore/raft/message.h"

enum { RAFT_LOG_MACHINE_SIZE = 16 };

typedef struct RaftLogMeta {
        uint64_t cluster;                        /* ID of the cluster */
        uint64_t id;                             /* Raft ID of this host in it */
        uint8_t machine[RAFT_LOG_MACHINE_SIZE];  /* the machine that owns this folder */
        uint64_t start_number;                   /* number of openings */
        uint64_t term, vote;                     /* vote 0: none in this term */
        uint8_t hardware[RAFT_LOG_MACHINE_SIZE]; /* of the machine; zeroes: unknown */
} RaftLogMeta;

typedef struct RaftLogOptions {
        uint64_t file_size; /* bytes of one log file; 0: 4 MiB. An entry that is larger gets a larger file */
        /* Opening keeps entry 'applied' and later ones in memory, and the last 'loaded_bytes' of all. */
        uint64_t applied, loaded_bytes;
        const _Atomic bool *cancelled; /* true: opening ends soon with -ECANCELED; borrowed
                                          until the log is closed; NULL: never */
} RaftLogOptions;

typedef struct RaftLogEvents {
        /* All entries up to those of raft_log_append(generation, ...) are durable. */
        void (*appended)(void *userdata, uint64_t generation, uint64_t last_index);
        /* A write failed: the log accepts no further operation (each call returns 'error'). Called once. */
        void (*failed)(void *userdata, int error, const char *message);
} RaftLogEvents;

typedef struct RaftLog RaftLog;

/* Create the files of a log in an empty folder. 'first_index' is the index of entries[0]. Blocks. -EEXIST:
 * the folder holds a log already. The meta files are created last: after a failure, the folder counts as
 * empty. */
int raft_log_create(Disk *disk, const RaftLogMeta *meta, uint64_t first_index, const RaftEntry *entries,
                    size_t n, const RaftLogOptions *options, Error *err);

/* Read the whole folder (blocks: at a start, or off the loop) and increment the start number durably. 'disk'
 * is borrowed until the log is closed. Errors:
 *   -ENOENT    there is no log
 *   -EUCLEAN   corrupt: 'err' names file and offset. This replica must be wiped, and join under a new ID. */
int raft_log_open(Disk *disk, Loop *loop, const RaftLogOptions *options, const RaftLogEvents *events,
                  void *userdata, RaftLog **ret, Error *err);

/* Close without waiting: a write in flight ends later, without an event. NULL allowed; returns NULL. The Disk
 * must outlive the write in flight: 'closed' (may be NULL) is called when the Disk is not used any more,
 * perhaps at once. */
RaftLog *raft_log_close(RaftLog *log, void (*closed)(void *userdata), void *userdata);

/* Free the log at once, as a crash would: for simulation. A write in flight must not end. NULL allowed;
 * returns NULL. */
RaftLog *raft_log_crash(RaftLog *log);

const RaftLogMeta *raft_log_meta(const RaftLog *log);

/* Return whether opening dropped a torn tail. *ret_where, "FILE at offset N", borrows. */
bool raft_log_torn(const RaftLog *log, const char **ret_where);

/* Take the entries that opening kept, once, directly after it. entries[0] has index *ret_first; with none,
 * *ret_first is the index of the next append (1 in a new log). Free with raft_log_entries_free(). */
int raft_log_take_entries(RaftLog *log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first);
/* The same, borrowed. */
const RaftEntry *raft_log_entries(const RaftLog *log, size_t *ret_n, uint64_t *ret_first);
RaftEntry *raft_log_entries_free(RaftEntry *entries, size_t n); /* returns NULL */

/* Write term and vote; durable when it returns 0. The one write that blocks the loop. */
int raft_log_write_meta(RaftLog *log, uint64_t term, uint64_t vote);

/* Record that the folder belongs to this hardware; durable when it returns 0. */
int raft_log_write_hardware(RaftLog *log, const uint8_t hardware[RAFT_LOG_MACHINE_SIZE]);

/* Queue entries first_index ..., after a truncation of the log from first_index on. The data is copied.
 * 'appended' reports 'generation'. first_index is at most the last index + 1 (asserted). */
int raft_log_append(RaftLog *log, uint64_t generation, uint64_t first_index, const RaftEntry *entries,
                    size_t n);

/* Queue the removal of all entries; the next append begins at index + 1. For a received snapshot, and at the
 * start for a log that does not fit the state. */
int raft_log_reset(RaftLog *log, uint64_t index);

/* Queue the removal of files that hold only entries at or below 'index'. */
int raft_log_cut(RaftLog *log, uint64_t index);

uint64_t raft_log_first_index(const RaftLog *log); /* on disk, queued writes included */
uint64_t raft_log_last_index(const RaftLog *log);  /* first - 1 if the log is empty */
/* Return the time (loop_now_ms()) when the write in flight began, for a watchdog; 0: there is none. */
uint64_t raft_log_oldest_write_ms(const RaftLog *log);
/* Return how long the writes took, with their syncs, since the log was opened. */
const DurationCounts *raft_log_writes(const RaftLog *log);
