/* The calls that tests/lib/power_calls.c records and tests/lib/power.c executes again. */
#pragma once

#include "base/memory.h"
#include "tests/lib/power.h"

enum { PATH_SIZE = 512 };

#define MUST(expression)                                                                         \
        do {                                                                                     \
                if (!(expression)) {                                                             \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #expression); \
                        abort();                                                                 \
                }                                                                                \
        } while (false)

typedef enum CallKind {
        CALL_MAKE,
        CALL_MAKE_DIR,
        CALL_WRITE,
        CALL_SIZE,
        CALL_SYNC,
        CALL_RENAME,
        CALL_EXCHANGE,
        CALL_REMOVE,
        CALL_PROMISE
} CallKind;

typedef struct Call {
        CallKind kind;
        char *path, *to; /* below the root; of a promise its text */
        uint8_t *bytes;
        size_t size;
        uint64_t offset; /* of CALL_SIZE the size */
        bool syncs;      /* a write that is durable when it returns */
} Call;

/* A file or folder, independent of its name. */
typedef struct Node {
        bool is_dir;
        uint8_t *now, *durable;
        size_t now_size, durable_size;
        const Call **pending; /* writes and sizes since the last sync; borrowed */
        size_t n, capacity;
} Node;

typedef struct Name {
        const char *path; /* of a call, or one of Names.moved */
        Node *node;
} Name;

typedef struct Names {
        Name *items;
        size_t n, capacity;
        char **moved; /* paths below a renamed folder; owned */
        size_t n_moved, moved_capacity;
} Names;

/* A change of names: 'from' goes, 'to' comes, or both. */
typedef struct Change {
        const char *from, *to;
        Node *node;
        bool exchange; /* both names are folders, which change their places */
} Change;

/* A recorded run, and its state at one moment. */
struct Power {
        char *root;
        Call *calls;
        size_t n_calls, calls_capacity;

        size_t moment; /* executed calls; 'half': the next one, too, except for its durability */
        bool half;
        Node **nodes;
        size_t n_nodes, nodes_capacity;
        Names now, durable;
        Change *changes;
        size_t n_changes, changes_capacity;
        char *distrusted;
};
