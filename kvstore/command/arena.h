/* Memory of one batch: allocated in pieces, freed at once. */
#pragma once

#include <sys/queue.h>

#include "base/memory.h"

typedef struct Arena {
        SLIST_HEAD(, ArenaBlock) blocks;
        size_t left; /* bytes in the first block */
} Arena;

void arena_done(Arena *arena); /* free all; the arena may be used again */
#define _cleanup_arena_ _cleanup_(arena_done)

void *arena_alloc(Arena *arena, size_t size); /* aligned for any type; NULL without memory */
void *arena_copy(Arena *arena, const void *bytes, size_t size);
