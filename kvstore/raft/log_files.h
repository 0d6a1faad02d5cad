/* The files of the log: format, loading, writing. For log.c alone; the calls block.
 *
 * log.00000001, ... log.99999999, log.100000000, ...: a header, then records, then zeroes. A record:
 *
 *   u32 crc     Castagnoli, over the file's number and all that follows, padding included
 *   u32 size    bytes of data
 *   u64 index, u64 term
 *   u8 type     1-3 an entry (RaftEntryType), 4 truncate from index, 5 remove all up to index
 *   u8 flags    1: the last record of its write
 *   u16 0
 *   u32 write   number of its write: equal for all records of one write, one more for the next; 1 follows
 *               2^32 - 1; of two numbers, the one that is up to 2^31 ahead is later
 *   data, zeroes up to a multiple of 8
 *
 * log.next: zeroes, which become the next file by renaming. Creating a file takes as long as many writes, and
 * therefore runs in parallel to them.
 *
 * One write at a time, each durable before the next begins: so only the last write can be torn. A record of a
 * later write after an invalid record proves that the invalid one was complete once. */
#pragma once

#include "base/error.h"
#include "io/disk.h"
#include "kvstore/raft/entries.h"

typedef struct RaftLogFile {
        uint64_t number;
        DiskFile *file;
        uint64_t size, used;
        uint64_t low, high; /* the lowest index that its records name, the highest entry; 0: none */
} RaftLogFile;

typedef struct RaftLogFiles {
        Disk *disk; /* borrowed */
        uint64_t file_size;
        const _Atomic bool *cancelled; /* borrowed; true: loading ends with -ECANCELED before the next
                                          file; NULL: never */
        RaftLogFile *items;
        size_t n, capacity;
        bool has_spare; /* log.next is ready */
        uint32_t write; /* number of the next write */
        Writer buffer;  /* records of the next write, for the last file */
        size_t last_record;
} RaftLogFiles;

enum { RAFT_LOG_TORN_SIZE = 64 }; /* of the message about an interrupted write */

/* Read all files into 'ret' (the caller resets it, also after a failure), except the entries that
 * raft_entries_needless() names for 'applied' and 'bytes'. *ret_first: the first index on disk. 'torn' is set
 * to "FILE at offset N" if a torn tail was dropped, else to "". -EUCLEAN: 'err' names file and offset. */
int raft_log_files_load(RaftLogFiles *f, uint64_t applied, uint64_t bytes, RaftEntries *ret,
                        uint64_t *ret_first, char torn[static RAFT_LOG_TORN_SIZE], Error *err);

/* Add a record to the buffer, which is written when the file is full, and by flush. */
int raft_log_files_entry(RaftLogFiles *f, uint64_t index, const RaftEntry *e);
int raft_log_files_truncate(RaftLogFiles *f, uint64_t index);
int raft_log_files_reset(RaftLogFiles *f, uint64_t index); /* also removes the files before it; flushes */
int raft_log_files_flush(RaftLogFiles *f);
int raft_log_files_cut(RaftLogFiles *f, uint64_t index); /* flushes */

/* Return the number of the last file if it is half full and no next file is ready, else 0. */
uint64_t raft_log_files_wants_spare(const RaftLogFiles *f);
/* Create log.next; also during a write. */
int raft_log_files_make_spare(Disk *disk, uint64_t file_size);

uint64_t raft_log_files_first(const RaftLogFiles *f); /* 0: unknown */
int raft_log_files_remove_all(RaftLogFiles *f);       /* in the folder, loaded or not */
void raft_log_files_done(RaftLogFiles *f);
