#include "kvstore/raft/entries.h"

int raft_entries_take(RaftEntries *e, RaftEntry *entry) {
        TRY(GROW(e->items, e->capacity, e->n + 1));
        e->items[e->n++] = *entry;
        e->bytes += raft_entry_bytes(entry);
        entry->data = NULL;
        return 0;
}

int raft_entries_append(RaftEntries *e, const RaftEntry *entry) {
        RaftEntry copy = *entry;
        int r;

        copy.data = NULL;
        if (entry->size > 0) {
                copy.data = blocks_alloc(&e->data, entry->size);
                if (!copy.data)
                        return -ENOMEM;
                memcpy((void *) copy.data, entry->data, entry->size);
        }
        r = raft_entries_take(e, &copy);
        blocks_free((void *) copy.data);
        return r;
}

size_t raft_entries_needless(const RaftEntries *e, uint64_t index, uint64_t bytes) {
        uint64_t kept = 0;
        size_t n = e->n;

        while (n > 0 && (e->first + n > index || kept <= bytes))
                kept += raft_entry_bytes(&e->items[--n]);
        return n;
}

void raft_entries_truncate(RaftEntries *e, uint64_t index) {
        while (e->n > 0 && raft_entries_last(e) >= index) {
                e->bytes -= raft_entry_bytes(&e->items[--e->n]);
                blocks_free((void *) e->items[e->n].data);
        }
}

void raft_entries_cut(RaftEntries *e, uint64_t index) {
        size_t gone = 0;

        while (gone < e->n && e->first + gone <= index) {
                e->bytes -= raft_entry_bytes(&e->items[gone]);
                blocks_free((void *) e->items[gone++].data);
        }
        if (gone == 0)
                return;

        e->n -= gone;
        e->first += gone;
        memmove(e->items, e->items + gone, e->n * sizeof(*e->items));
}

void raft_entries_reset(RaftEntries *e, uint64_t first) {
        raft_entries_truncate(e, e->first);
        blocks_done(&e->data);
        free(e->items);
        *e = (RaftEntries) { .first = first };
}
