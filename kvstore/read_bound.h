/* Read bound: an upper bound of the highest index that this host has ever served or acknowledged. It is
 * persisted, so that reads are monotonic across restarts.
 *
 * A restarted host may have an older tree than the one that it served. A leader may have applied entries that
 * a majority holds and its own disk does not; a rebuilt tree starts from its checkpoint; a host that joins
 * again starts with an empty tree. If there is no record of the lineage, the host was just admitted or its
 * disk was replaced. Then it serves no read until a majority has confirmed its tree once. A founder is that
 * majority.
 *
 * The record is a bound, not the index itself: nothing beyond it was served. It is written ahead, in steps,
 * so that reading and applying need no write; an orderly stop writes the index itself. A bound may be ahead
 * of all that the cluster has. So a tree below it is served after a majority has confirmed it (a ReadIndex
 * check), and the very tree that was served last, intact (data_dir_was_served()), is served at once. */
#pragma once

#include "base/error.h"

enum { READ_BOUND_STEP = 1 << 20 }; /* indexes between two writes */

typedef struct ReadBound {
        int dir_fd; /* -1: no record; each tree is served */
        char *path;
        uint64_t lineage; /* of the tree that served; 0: none */
        uint64_t bound;   /* durable: nothing beyond it was served */
        bool unknown;     /* no readable record of this lineage: a majority has to confirm the tree */
        bool met;         /* this host's tree has reached what was served before */
} ReadBound;

/* Read the record in directory 'dir', which is made if absent; NULL: keep no record. An unreadable record
 * counts as an unknown bound, with a warning. Call read_bound_done() in any case. */
int read_bound_open(ReadBound *f, const char *dir, Error *err);
void read_bound_done(ReadBound *f);

/* Begin with a tree of 'lineage' (0: it belongs to no cluster yet) at 'index'. 'shown': it served last, and
 * is intact. Writes if needed. */
int read_bound_begin(ReadBound *f, uint64_t lineage, uint64_t index, bool shown);
/* A majority has confirmed that this tree, at 'index', is current. */
int read_bound_confirm(ReadBound *f, uint64_t index);
/* The tree has reached 'index': raise the bound before a read is served from it. A negative errno: do not
 * serve it. */
int read_bound_reach(ReadBound *f, uint64_t index);
/* Raise the bound before 'index', which the tree has not reached, is acknowledged. */
int read_bound_promise(ReadBound *f, uint64_t index);
/* Record an orderly end: nothing beyond 'index' was or will be served. */
int read_bound_end(ReadBound *f, uint64_t index);

/* A tree at 'index' may be served. */
static inline bool read_bound_allows(const ReadBound *f, uint64_t index) {
        return f->dir_fd < 0 || (f->met && index <= f->bound);
}
