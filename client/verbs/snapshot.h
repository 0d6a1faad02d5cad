/* The keys of the cluster at one index, read through the API page by page while a stream of changes is open:
 * pages are of different indexes, and the changes that follow the first one make them equal to the tree at
 * the index of the last one. Nothing is held back on the daemon meanwhile. */
#pragma once

#include "base/table.h"
#include "client/verbs/kv.h"

typedef struct SnapshotNode {
        uint64_t modified; /* index of its last change */
        size_t key_size, value_size;
        bool dir, expires; /* 'expires': it has a time to live */
        UT_hash_handle hh;
        char *value; /* after the key, both terminated */
        char key[];
} SnapshotNode;

/* Nodes, in the order of the tree after snapshot_read(): parents first. */
typedef struct SnapshotNodes {
        SnapshotNode *table;
} SnapshotNodes;

typedef struct Snapshot {
        SnapshotNodes keys;  /* of users, also hidden ones */
        SnapshotNodes fleet; /* below /_fleet: units, target states and machines only */
        uint64_t index;
        char cluster_id[24]; /* hex digits */
} Snapshot;

void snapshot_done(Snapshot *s);
#define _cleanup_snapshot_ _cleanup_(snapshot_done)

/* Read into an empty snapshot. -EREMOTEIO: the endpoint may not read all of the cluster. -ESTALE: the keys
 * change faster than they are read. */
int snapshot_read(Client *c, Snapshot *ret, Error *err);

/* Read the keys of users only, as they are while they are read: not at one index. */
int snapshot_read_keys(Client *c, SnapshotNodes *ret, Error *err);

SnapshotNode *snapshot_find(const SnapshotNodes *nodes, const char *key, size_t size); /* NULL: absent */
void snapshot_nodes_done(SnapshotNodes *nodes);

/* For tests and snapshot_read(): apply a node of a page, and a line of the stream of changes whose index is
 * at most 'limit'. 'ret_index' is the index of the line. 0, -ENOMEM, -EBADMSG, or -ESTALE for the last line
 * of a stream that has lost changes. */
int snapshot_apply_node(SnapshotNodes *nodes, const KvListed *node);
int snapshot_apply_line(SnapshotNodes *nodes, const char *line, size_t size, uint64_t limit,
                        uint64_t *ret_index);
