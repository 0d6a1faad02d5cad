/* The only hash table: uthash, with xxHash and reported failure.
 *
 * Include this instead of uthash.h. Adding does not abort without memory: the element then has hh.tbl ==
 * NULL; ask TABLE_ADDED(). Iteration runs in the order of insertion; where order can be seen, sort first
 * (HASH_SRT). */
#pragma once

#define XXH_INLINE_ALL
#define XXH_FORCE_MEMORY_ACCESS \
        0 /* memcpy: its packed reads break the rules of aliasing where a key is an integer */
#include <xxhash.h>

#include "base/memory.h"

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(keyptr, keylen, hashv) \
        (hashv) = (unsigned) XXH3_64bits_withSeed(keyptr, keylen, table_seed)
#include <uthash.h>

/* Set once at start-up, before any table is made, from the system's randomness: keys come from clients. Tests
 * and the simulator leave it 0. */
extern unsigned long long table_seed;

#define TABLE_ADDED(element) ((element)->hh.tbl != NULL)
