#include "kvstore/command/arena.h"

#include <stdalign.h>

enum { BLOCK_SIZE = 4096 }; /* bytes */

typedef struct ArenaBlock {
        SLIST_ENTRY(ArenaBlock) blocks;
        size_t size;
        alignas(max_align_t) uint8_t bytes[];
} ArenaBlock;

void arena_done(Arena *arena) {
        while (!SLIST_EMPTY(&arena->blocks)) {
                ArenaBlock *block = SLIST_FIRST(&arena->blocks);

                SLIST_REMOVE_HEAD(&arena->blocks, blocks);
                free(block);
        }
        arena->left = 0;
}

void *arena_alloc(Arena *arena, size_t size) {
        ArenaBlock *block;
        void *p;

        if (size > SIZE_MAX / 2)
                return NULL;
        size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
        if (size > arena->left) {
                size_t block_size = MAX(size, (size_t) BLOCK_SIZE);

                block = malloc(sizeof(ArenaBlock) + block_size);
                if (!block)
                        return NULL;
                *block = (ArenaBlock) { .size = block_size };
                SLIST_INSERT_HEAD(&arena->blocks, block, blocks);
                arena->left = block_size;
        }
        block = SLIST_FIRST(&arena->blocks);
        p = block ? block->bytes + block->size - arena->left : NULL;
        arena->left -= size;
        return p;
}

void *arena_copy(Arena *arena, const void *bytes, size_t size) {
        void *p = arena_alloc(arena, size + 1);

        if (p && size > 0)
                memcpy(p, bytes, size);
        return p;
}
