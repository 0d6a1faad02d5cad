/* The floor: how far this host's tree was when somebody last looked at it, on disk, so that no restart shows
 * an older one.
 *
 * A leader may have applied what a majority holds and its own disk does not; a rebuilt tree begins at its
 * checkpoint; a host that joins anew begins with nothing. Each of them was further once, and whoever asked
 * then must not be answered from before. Where there is no record of the lineage the host is being admitted,
 * or its disk was replaced: its tree may be empty while the cluster's is not, and no read is served from it
 * until a majority has confirmed once that it is current. A founder is that majority.
 *
 * What is on disk is a bound, not the figure itself: nothing beyond it was ever shown. It is written ahead,
 * in steps, so that reading and applying cost no write; a stop in order writes the figure itself. A bound may
 * lie ahead of what was shown, and of all that the cluster has: so a tree below it is as far as it was once a
 * majority says so (a term check, kv_sync()), and the very tree that was shown last, intact
 * (data_dir_was_served()), is as far as it was by itself. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { READ_BOUND_STEP = 1 << 20 }; /* indexes: hardly ever a write while running */

typedef struct ReadBound {
        int dir_fd; /* -1: none is kept, and the tree is always far enough */
        char *path;
        uint64_t lineage; /* of the tree that was shown; 0: none was */
        uint64_t bound;   /* nothing beyond it was shown; durable */
        bool unknown;     /* there is no record of this lineage, or it cannot be read: only a majority's
                             confirmation helps */
        bool met;         /* this host's tree is as far as it was */
} ReadBound;

/* Reads what is in folder 'dir' (made if absent; NULL: none is kept). A record that cannot be read counts
 * as one of unknown height, with a warning: then only a majority's word helps. read_bound_done() is due in
 * any case.
 */
int read_bound_open(ReadBound *f, const char *dir, Error *err);
void read_bound_done(ReadBound *f);

/* The tree that is to be served: its lineage (0: it belongs to no cluster yet) and index; 'shown': it is the
 * one that was shown last, and intact. Writes if need be. */
int read_bound_begin(ReadBound *f, uint64_t lineage, uint64_t index, bool shown);
/* A majority has said that this tree, at 'index', is as far as any. */
int read_bound_confirm(ReadBound *f, uint64_t index);
/* Before anybody is shown 'index': the tree has come so far. A negative errno: it must not be shown. */
int read_bound_reach(ReadBound *f, uint64_t index);
/* Before 'index' is acknowledged, which the tree has not reached yet. */
int read_bound_promise(ReadBound *f, uint64_t index);
/* The end, in order: nothing beyond 'index' was shown, or will be. */
int read_bound_settle(ReadBound *f, uint64_t index);

/* Whether a tree at 'index' may be shown. */
static inline bool read_bound_allows(const ReadBound *f, uint64_t index) {
        return f->dir_fd < 0 || (f->met && index <= f->bound);
}
