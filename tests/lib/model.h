/* A model of the state machine: slow and simple, with the nodes in one list. The results and nodes of
 * kvstore/apply/apply.c must equal those of the model. It has v2's operations, transactions and expiry, but
 * no limits. */
#pragma once

#include "base/text.h"
#include "kvstore/apply/apply.h"

typedef struct ModelNode {
        char *key, *value;
        bool dir;
        uint64_t created, modified, expires_ms;
} ModelNode;

typedef struct Model {
        ModelNode *nodes;
        size_t n, capacity;
        uint64_t index, now_ms;
        Text events;     /* as model_print_event(), since the last model_apply() began */
        Text answer;     /* as model_print_result() */
        KvStatus status; /* of the last refusal, with its cause */
        char *cause;
} Model;

void model_done(Model *model);

/* Text keys and values only. */
void model_apply(Model *model, const KvCommand *cmd, uint64_t term);

void model_print_event(Text *t, const KvEvent *event);
void model_print_result(Text *t, const KvResult *result);
void model_print_node(Text *t, const KvNode *node);
void model_print_all(Model *model, Text *t); /* in the tree's order */
