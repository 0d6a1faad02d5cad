/* Memory of a queue: pieces that are freed in about the order in which they were allocated.
 *
 * Between short-lived allocations, each long-lived one would keep a page of its own from the system. Pieces
 * lie together in blocks instead; a block is freed with its last piece. One piece thus keeps up to
 * BLOCKS_SIZE bytes. */
#pragma once

#include <stddef.h>

enum { BLOCKS_SIZE = 32 * 1024 };

typedef struct Blocks {
        struct Block *open; /* where the next piece goes; NULL: none yet */
} Blocks;

/* Return 'size' uninitialized bytes, aligned for integers and pointers; NULL without memory. */
void *blocks_alloc(Blocks *blocks, size_t size);

/* Free a piece of any Blocks, whether or not they are done; NULL is allowed. Not while another thread
 * allocates from them. */
void blocks_free(void *piece);

/* Forget the open block: it goes with its last piece. 'blocks' may be used again. */
void blocks_done(Blocks *blocks);
