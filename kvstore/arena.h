/* Memory of one step: given piece by piece, taken back all at once. */
#pragma once

#include <stddef.h>

#include "base/memory.h"

typedef struct Arena {
        struct ArenaBlock *blocks;
        size_t left; /* in the first block */
} Arena;

void arena_done(Arena *arena); /* frees all; the arena may be used again */
#define _cleanup_arena_ _cleanup_(arena_done)

void *arena_alloc(Arena *arena, size_t size); /* aligned for any type; NULL without memory */
void *arena_copy(Arena *arena, const void *bytes, size_t size);
