/* The log in memory: the entries themselves, which the engine does not keep. */
#pragma once

#include "base/blocks.h"
#include "kvstore/raft/message.h"

typedef struct RaftEntries {
        RaftEntry *items; /* items[0] has index 'first'; data is owned, and in blocks */
        size_t n, capacity;
        uint64_t first;
        uint64_t bytes; /* of all entries, by raft_entry_bytes() */
        Blocks data;
} RaftEntries;

/* Return the memory of an entry in bytes. */
static inline uint64_t raft_entry_bytes(const RaftEntry *entry) {
        return entry->size + sizeof(*entry) + 2 * sizeof(void *);
}

static inline uint64_t raft_entries_last(const RaftEntries *e) {
        return e->first + e->n - 1;
}

static inline const RaftEntry *raft_entries_get(const RaftEntries *e, uint64_t index) {
        return index >= e->first && index - e->first < e->n ? &e->items[index - e->first] : NULL;
}

int raft_entries_append(RaftEntries *e, const RaftEntry *entry); /* copies the data */
/* Take the data, which belongs to other RaftEntries, from 'entry'. -ENOMEM: nothing was taken. */
int raft_entries_take(RaftEntries *e, RaftEntry *entry);
void raft_entries_truncate(RaftEntries *e, uint64_t index); /* removes 'index' and all after it */
void raft_entries_cut(RaftEntries *e, uint64_t index);      /* removes 'index' and all before it */
void raft_entries_reset(RaftEntries *e, uint64_t first);
/* Return how many of the first entries are not needed once those up to 'index' are applied: all before
 * 'index' but the last 'bytes' of the log. */
size_t raft_entries_needless(const RaftEntries *e, uint64_t index, uint64_t bytes);
