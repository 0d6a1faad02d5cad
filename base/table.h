/* Hash tables: uthash, with xxHash, a seed and reported allocation failure.
 *
 * Include this header instead of uthash.h. A failed allocation does not abort: the element then has hh.tbl ==
 * NULL; check TABLE_ADDED(). Iteration follows the order of insertion; sort first where order is visible
 * (HASH_SRT). */
#pragma once

#define XXH_NAMESPACE table_ /* compiled in table.c */
#include <xxhash.h>

#include "base/memory.h"

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(keyptr, keylen, hashv) \
        (hashv) = (unsigned) XXH3_64bits_withSeed(keyptr, keylen, table_seed)
#include <uthash.h>

/* Random, because clients select keys. Set once at start-up, before the first table is created; 0 in tests
 * and in the simulator. */
extern unsigned long long table_seed;

#define TABLE_ADDED(element) ((element)->hh.tbl != NULL)
/* The same of an element on the heap, which is freed if it was not added. */
#define TABLE_ADDED_OR_FREED(element) (TABLE_ADDED(element) || (free(element), false))

/* Return the element of that name, or NULL; tables by a string. */
#define TABLE_FIND(table, name)                       \
        ({                                            \
                typeof(&*(table)) _found;             \
                HASH_FIND_STR((table), name, _found); \
                _found;                               \
        })
