/* Memory of a queue: pieces that are freed in about the order of their allocation.
 *
 * In a general heap, each long-lived allocation among short-lived ones can pin a page. Blocks group the
 * pieces instead; a block is freed with its last piece. One piece can pin up to BLOCKS_SIZE bytes. */
#pragma once

#include "base/memory.h"

enum { BLOCKS_SIZE = 32 * 1024 };

typedef struct Blocks {
        struct Block *open; /* holds the next piece; NULL: none yet */
} Blocks;

/* Return 'size' uninitialized bytes, aligned for integers and pointers; NULL without memory. */
void *blocks_alloc(Blocks *blocks, size_t size);

/* Free a piece of any Blocks, also after blocks_done(); NULL is allowed. No other thread may allocate from
 * the same Blocks meanwhile. */
void blocks_free(void *piece);

/* Forget the open block: it goes with its last piece. 'blocks' may be used again. */
void blocks_done(Blocks *blocks);
