/* Watches by their paths, as a compressed tree of places: one for each watched path, and one where two such
 * paths part.
 *
 * The key of an event leads from the root to the recursive watches of its ancestors, and to those of the key
 * itself. The watched places below a deleted directory are the children of its place. A watch costs memory in
 * proportion to the length of its path, and no table for each segment. */
#pragma once

#include "base/table.h"
#include "kvstore/watch.h"

typedef struct Place {
        UT_hash_handle hh;
        struct Place *parent;
        LIST_HEAD(, Place) children;
        LIST_ENTRY(Place) siblings;
        LIST_HEAD(PlaceWatches, KvWatch) exact, recursive;
        bool absent;          /* see KvWatchOptions; events keep it true to the tree */
        uint64_t absent_from; /* a watch found it absent behind the event of this index; 0: none did */
        size_t size;          /* 0: the root */
        char path[];
} Place;

typedef struct Places {
        Place *root, *table; /* all but the root, by their keys */
} Places;

int places_init(Places *places);  /* 0 or -ENOMEM */
void places_done(Places *places); /* all watches are gone; of one that was zeroed, too */

/* Return the place of 'path', a new one if necessary; NULL without memory. places_prune() releases it when
 * its last watch has left. */
Place *places_add(Places *places, KvBytes path);
void places_prune(Places *places, Place *place);

/* Return the child of 'place' on the way to 'path'; NULL: there is none. Of its path, the first *ret_common
 * bytes are the beginning of 'path', in whole segments; with fewer than the child has, 'path' ends or parts
 * before the child. */
Place *places_next(const Places *places, const Place *place, KvBytes path, size_t *ret_common);

/* Forget which places are absent: not every event reached them. A watch may set it again. */
void places_forget_absence(Places *places);
