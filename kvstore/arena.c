#include "kvstore/arena.h"

#include <stdalign.h>
#include <stdint.h>

enum { BLOCK_SIZE = 4096 };

typedef struct ArenaBlock {
        struct ArenaBlock *next;
        size_t size;
        alignas(max_align_t) uint8_t bytes[];
} ArenaBlock;

void arena_done(Arena *arena) {
        while (arena->blocks) {
                ArenaBlock *block = arena->blocks;

                arena->blocks = block->next;
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
                size_t room = MAX(size, (size_t) BLOCK_SIZE);

                block = malloc(sizeof(ArenaBlock) + room);
                if (!block)
                        return NULL;
                *block = (ArenaBlock) { .next = arena->blocks, .size = room };
                arena->blocks = block;
                arena->left = room;
        }
        p = arena->blocks ? arena->blocks->bytes + arena->blocks->size - arena->left : NULL;
        arena->left -= size;
        return p;
}

void *arena_copy(Arena *arena, const void *bytes, size_t size) {
        void *p = arena_alloc(arena, size + 1);

        if (p && size > 0)
                memcpy(p, bytes, size);
        return p;
}
