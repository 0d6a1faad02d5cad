#include "base/blocks.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void) (at), (void) (size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void) (at), (void) (size))
#endif

typedef struct Block {
        size_t n;    /* pieces in use, and one for the Blocks to which it is open */
        size_t used; /* of 'room' */
        size_t room;
        uint8_t bytes[];
} Block;

/* Before each piece. A sanitizer reports access to it, as to all that is not in use. */
typedef struct Piece {
        uint32_t at; /* in the block's bytes */
        uint32_t size;
        uint8_t bytes[];
} Piece;

static_assert(sizeof(Piece) % sizeof(void *) == 0 && sizeof(Block) % sizeof(void *) == 0,
              "pieces are aligned for pointers");

static Block *block_new(size_t room) {
        Block *block = malloc(sizeof(Block) + room);

        if (!block)
                return NULL;
        *block = (Block) { .room = room };
        ASAN_POISON_MEMORY_REGION(block->bytes, room);
        return block;
}

static void block_unref(Block *block) {
        if (--block->n > 0)
                return;
        ASAN_UNPOISON_MEMORY_REGION(block->bytes, block->room);
        free(block);
}

static void *block_take(Block *block, size_t size, size_t room) {
        Piece *piece = (Piece *) (block->bytes + block->used);

        ASAN_UNPOISON_MEMORY_REGION(piece, sizeof(Piece) + size);
        *piece = (Piece) { .at = (uint32_t) block->used, .size = (uint32_t) size };
        ASAN_POISON_MEMORY_REGION(piece, sizeof(Piece));
        block->used += room;
        block->n++;
        return piece->bytes;
}

void *blocks_alloc(Blocks *blocks, size_t size) {
        Block *block = blocks->open;
        size_t room;

        if (size > UINT32_MAX / 2)
                return NULL;
        room = sizeof(Piece) + (size + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
        if (room > BLOCKS_SIZE / 4) { /* it would leave too much of a block unused */
                block = block_new(room);
                return block ? block_take(block, size, room) : NULL;
        }

        if (block && block->n == 1) /* no piece is left in it */
                block->used = 0;
        if (!block || block->room - block->used < room) {
                block = block_new(BLOCKS_SIZE - sizeof(Block));
                if (!block)
                        return NULL;
                block->n = 1;
                blocks_done(blocks);
                blocks->open = block;
        }
        return block_take(block, size, room);
}

void blocks_free(void *piece) {
        Piece *p = piece ? container_of(piece, Piece, bytes) : NULL;
        Block *block;

        if (!p)
                return;
        ASAN_UNPOISON_MEMORY_REGION(p, sizeof(Piece));
        block = (Block *) ((uint8_t *) p - p->at - offsetof(Block, bytes));
        ASAN_POISON_MEMORY_REGION(p, sizeof(Piece) + p->size);
        block_unref(block);
}

void blocks_done(Blocks *blocks) {
        Block *block = TAKE_PTR(blocks->open);

        if (block)
                block_unref(block);
}
