/* The log's files: format, loading, writing. For log.c alone; the calls block.
 *
 * log.00000001, ... log.99999999, log.100000000, ...: a head, then records, then zeroes. A record:
 *
 *   u32 crc     Castagnoli, over the file's number and all that follows, padding included
 *   u32 size    bytes of data
 *   u64 index, u64 term
 *   u8 type     1-3 an entry (RaftEntryType), 4 truncate from index, 5 forget all up to index
 *   u8 flags    1: the last record of its write
 *   u16 0
 *   u32 write   number of the write that brought it: the same for all records of one write, one more for the
 * next; 1 follows 2^32 - 1, and of two numbers the one that is up to 2^31 ahead is later data, zeroes up to a
 * multiple of 8
 *
 * log.next: zeroes, which become the next file by a new name. To make one takes as long as many writes, and
 * is done beside them.
 *
 * One write at a time, each durable before the next begins: so what is torn belongs to the last write, and a
 * record of a later write behind a bad one proves that the bad one was whole once. */
#pragma once

#include "base/error.h"
#include "io/disk.h"
#include "kvstore/raft/entries.h"

typedef struct RaftLogFile {
        uint64_t number;
        DiskFile *file;
        uint64_t size, used;
        uint64_t low, high; /* the lowest index it establishes, the highest it holds; 0: none */
} RaftLogFile;

typedef struct RaftLogFiles {
        Disk *disk; /* borrowed */
        uint64_t file_size;
        const _Atomic bool *cancelled; /* borrowed; loading ends with -ECANCELED before the next file once
                                          this is true; NULL: never */
        RaftLogFile *items;
        size_t n, capacity;
        bool has_spare; /* there is a file of zeroes for what comes after the last one */
        uint32_t write; /* number of the next write */
        Writer buffer;  /* records of the next write, for the last file */
        size_t last_record;
} RaftLogFiles;

enum { RAFT_LOG_TORN_SIZE = 64 }; /* of the message about an interrupted write */

/* Reads all files into 'ret' (to be reset by the caller on failure, too), but what
 * raft_entries_needless() says of 'applied' and 'bytes'. *ret_first: where the log on disk begins. 'torn'
 * gets "FILE at offset N" if a torn tail was dropped, else "". -EUCLEAN names file and offset. */
int raft_log_files_load(RaftLogFiles *f, uint64_t applied, uint64_t bytes, RaftEntries *ret,
                        uint64_t *ret_first, char torn[static RAFT_LOG_TORN_SIZE], Error *err);

/* Records go into a buffer, which is written when the file is full, and by flush. */
int raft_log_files_entry(RaftLogFiles *f, uint64_t index, const RaftEntry *e);
int raft_log_files_truncate(RaftLogFiles *f, uint64_t index);
int raft_log_files_reset(RaftLogFiles *f, uint64_t index); /* also removes all files before; flushes */
int raft_log_files_flush(RaftLogFiles *f);
int raft_log_files_cut(RaftLogFiles *f, uint64_t index); /* flushes */

/* The number of the last file, if it is half full and nothing is ready for what comes after it, else 0; and
 * making that, also during a write. */
uint64_t raft_log_files_wants_spare(const RaftLogFiles *f);
int raft_log_files_make_spare(Disk *disk, uint64_t file_size);

uint64_t raft_log_files_first(const RaftLogFiles *f); /* 0: nothing says */
uint64_t raft_log_files_bytes(const RaftLogFiles *f);
int raft_log_files_remove_all(RaftLogFiles *f); /* what lies in the folder, loaded or not */
void raft_log_files_done(RaftLogFiles *f);
