/* The clients of tests/sim/test-stores: their requests to stores, and the checks of every answer. */
#pragma once

#include "kvstore/kvstore_internal.h"
#include "tests/sim/history.h"
#include "tests/sim/stores.h"

enum {
        KEYS = 4,
        OBJECTS = 6,
        CLIENTS = 12,
        WATCHERS = 8,
        N_UNKNOWN_MAX = 12,
        CORRUPT = -2,
        HEAL_MS = 30000,
        REST_MS = 8000,
        IDLE_MS = 60000,
        IDLE_WAKES_MAX = 30,
        IDLE_BYTES_MAX = 16384,
        ANSWER_MAX_MS = 15000,
        LOST_MAX_MS = 1500,
        SLACK_MS = 400,
};

/* The initial value of all wall clocks, and of cluster time. */
#define CLUSTER_START_MS UINT64_C(1700000000000)

typedef struct Test Test;

/* A key /k/NUMBER/EPOCH, or a directory /d/NUMBER/EPOCH; with a full history its name is never used again. */
typedef struct Object {
        Test *test;
        unsigned number, n_pending;
        uint64_t epoch;
        History history;
} Object;

typedef struct Ask {
        Test *test;
        Object *object; /* NULL: nothing is under way */
        Host *host;
        int number;
        uint64_t begun_ms;
        KvSync sync;
} Ask;

struct Test {
        Stores stores;
        Object objects[OBJECTS];
        Ask clients[CLIENTS];
        uint64_t at;                     /* in the order of all that clients see */
        uint64_t seen_index[STORES_MAX]; /* highest index that each host served, over all its failures */
        uint64_t n_answers, spell_until_ms;
        unsigned n_turns;
        bool rests;
};

typedef struct Sums {
        uint64_t judged, unknown, undecided, histories, events, moves, cleared, compared, elections,
                idle_wakes, ms, store_ms, faults[_FAULT_MAX];
} Sums;

extern Sums sums;

void clients_turn(void *userdata);               /* of the Test: send requests, and schedule the next turn */
void clients_host_gone(void *userdata, Host *h); /* its questions have no answer */
void clients_judge(Object *o);                   /* fails unless the history is linearizable */
