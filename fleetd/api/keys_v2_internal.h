/* Shared by the files of the v2 API: keys_v2.c uses the store, keys_v2_query.c reads requests, keys_v2_text.c
 * and keys_v2_answer.c write answers. */
#pragma once

#include "fleetd/api/handlers.h"

/* -- keys_v2_query.c -- */

/* The checked parameters. The 'has_' flags distinguish absent from empty. */
typedef struct KeysQuery {
        HttpParameters form; /* body first, then query: the first of a name counts */
        KvBytes value, prev_value;
        bool has_prev_value, has_ttl, recursive, sorted, wait, dir, quorum, stream, quiet, refresh;
        int prev_exist; /* -1: absent */
        uint64_t prev_index, wait_index, ttl;
} KeysQuery;

/* Read and check the parameters of any method in etcd's order. Return 0, or etcd's code of the first failure,
 * whose cause is in 'err'. The caller frees the form of 'q' in any case. */
int keys_query_read(Request *request, KeysQuery *q, Error *err);

/* -- keys_v2_answer.c -- */

/* The four headers of every answer, with their values. */
typedef struct KeysHead {
        char cluster[17], index[TEXT_U64_SIZE], raft_index[TEXT_U64_SIZE], term[TEXT_U64_SIZE];
        HttpField fields[5];
} KeysHead;

#define KEYS_FORBIDDEN "Insufficient credentials"

/* Set the headers of an answer; those of an error are fewer. They borrow from 'ret'. */
const HttpField *keys_head(KeysHead *ret, const Request *request, uint64_t index, bool error);
KvBytes keys_cause(const char *text);
/* Answer an error; 'status' 0: the status of the code. */
void keys_answer_error(Request *request, unsigned status, unsigned code, KvBytes cause, uint64_t index);
/* Answer an error that the store did not decide: etcd's index is 0 then. */
void keys_answer_refusal(Request *request, unsigned code, const char *cause);

/* -- keys_v2_text.c -- */

unsigned keys_code(KvStatus status); /* etcd's error code */

size_t keys_node_room(const KvNode *node); /* bytes that its object usually takes: for text_reserve() */

/* Write the beginning of a node's object: all but "nodes", "modifiedIndex" and "createdIndex", which follow
 * the children. */
void keys_node_open(Text *t, const KvNode *node, bool with_value, uint64_t now_ms, uint64_t wall_ms);
void keys_node_close(Text *t, const KvNode *node);
void keys_node_write(Text *t, const KvNode *node, bool with_value, uint64_t now_ms, uint64_t wall_ms);
