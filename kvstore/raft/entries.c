#include "kvstore/raft/entries.h"

#include <errno.h>

int raft_entries_append(RaftEntries *e, const RaftEntry *entry) {
        void *data = NULL;
        int r;

        r = GROW(e->items, e->capacity, e->n + 1);
        if (r < 0)
                return r;

        if (entry->size > 0) {
                data = malloc(entry->size);
                if (!data)
                        return -ENOMEM;
                memcpy(data, entry->data, entry->size);
        }

        e->items[e->n++] = (RaftEntry) { .term = entry->term, .type = entry->type, .data = data, .size = entry->size };
        e->bytes += raft_entry_bytes(entry);
        return 0;
}

void raft_entries_truncate(RaftEntries *e, uint64_t index) {
        while (e->n > 0 && raft_entries_last(e) >= index) {
                e->bytes -= raft_entry_bytes(&e->items[--e->n]);
                free((void *) e->items[e->n].data);
        }
}

void raft_entries_cut(RaftEntries *e, uint64_t index) {
        size_t gone = 0;

        while (gone < e->n && e->first + gone <= index) {
                e->bytes -= raft_entry_bytes(&e->items[gone]);
                free((void *) e->items[gone++].data);
        }
        if (gone == 0)
                return;

        e->n -= gone;
        e->first += gone;
        memmove(e->items, e->items + gone, e->n * sizeof(*e->items));
}

void raft_entries_reset(RaftEntries *e, uint64_t first) {
        raft_entries_truncate(e, e->first);
        free(e->items);
        *e = (RaftEntries) { .first = first };
}
