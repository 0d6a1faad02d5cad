/* What the files of the key API share: keys_v2.c asks the store, keys_v2_query.c reads requests,
 * keys_v2_text.c writes answers. */
#pragma once

#include "fleetd/api/keys_v2.h"

/* -- keys_v2_query.c -- */

/* What the request says, checked. 'given' flags tell absent from empty. */
typedef struct KeysQuery {
        HttpParameters form; /* body first, then query: the first of a name counts */
        KvBytes value, prev_value;
        bool has_prev_value, has_ttl, recursive, sorted, wait, dir, quorum, stream, quiet, refresh;
        int prev_exist; /* -1: absent */
        uint64_t prev_index, wait_index, ttl;
} KeysQuery;

typedef struct KeysError {
        unsigned code;
        char cause[ERROR_MESSAGE_MAX];
} KeysError;

/* The checks come in etcd's order, whatever the method; the first failure answers, with its code and cause in
 * 'e'. 'q' is filled in any case, and its form has to be freed. 0 or -EINVAL. */
int keys_query_read(Request *request, KeysQuery *q, KeysError *e);

/* -- keys_v2_text.c -- */

unsigned keys_code(KvStatus status); /* etcd's error code */

size_t keys_node_room(const KvNode *node); /* what its object takes, mostly: for text_reserve() */

/* Opens a node's object and writes all but "nodes", "modifiedIndex" and "createdIndex", which come behind the
 * children. */
void keys_node_open(Text *t, const KvNode *node, bool with_value, uint64_t now_ms, uint64_t wall_ms);
void keys_node_close(Text *t, const KvNode *node);
void keys_node_write(Text *t, const KvNode *node, bool with_value, uint64_t now_ms, uint64_t wall_ms);
bool keys_action_shows_value(KvAction action);
