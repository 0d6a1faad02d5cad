#include "base/blocks.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void) (at), (void) (size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void) (at), (void) (size))
#endif

typedef struct Block {
        size_t n;    /* pieces in use, and one for the Blocks to which it is open */
        size_t used; /* bytes, of 'size' */
        size_t size;
        uint8_t bytes[];
} Block;

/* Precedes each piece. Sanitizers report access to it, as to all unused bytes. */
typedef struct Piece {
        uint32_t at; /* in the block's bytes */
        uint32_t size;
        uint8_t bytes[];
} Piece;

static_assert(sizeof(Piece) % sizeof(void *) == 0 && sizeof(Block) % sizeof(void *) == 0,
              "pieces are aligned for pointers");

static Block *block_new(size_t size) {
        Block *block = malloc(sizeof(Block) + size);

        if (!block)
                return NULL;
        *block = (Block) { .size = size };
        ASAN_POISON_MEMORY_REGION(block->bytes, size);
        return block;
}

static void block_unref(Block *block) {
        if (--block->n > 0)
                return;
        ASAN_UNPOISON_MEMORY_REGION(block->bytes, block->size);
        free(block);
}

static void *block_take(Block *block, size_t size, size_t piece_size) {
        Piece *piece = (Piece *) (block->bytes + block->used);

        ASAN_UNPOISON_MEMORY_REGION(piece, sizeof(Piece) + size);
        *piece = (Piece) { .at = (uint32_t) block->used, .size = (uint32_t) size };
        ASAN_POISON_MEMORY_REGION(piece, sizeof(Piece));
        block->used += piece_size;
        block->n++;
        return piece->bytes;
}

void *blocks_alloc(Blocks *blocks, size_t size) {
        Block *block = blocks->open;
        size_t piece_size;

        if (size > UINT32_MAX / 2)
                return NULL;
        piece_size = sizeof(Piece) + (size + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
        if (piece_size > BLOCKS_SIZE / 4) { /* a shared block would keep too many unused bytes */
                block = block_new(piece_size);
                return block ? block_take(block, size, piece_size) : NULL;
        }

        if (block && block->n == 1) /* all its pieces are freed */
                block->used = 0;
        if (!block || block->size - block->used < piece_size) {
                block = block_new(BLOCKS_SIZE - sizeof(Block));
                if (!block)
                        return NULL;
                block->n = 1;
                blocks_done(blocks);
                blocks->open = block;
        }
        return block_take(block, size, piece_size);
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
