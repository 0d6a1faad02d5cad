/* One host of the daemon's components: a real loop, a store without other members, its log and tree in a
 * scratch folder, and the registry. A test opens the component that it tests. */
#pragma once

#include "tests/lib/components.h"
#include "base/sizes.h"
#include "io/loop_uv.h"

typedef struct Host {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        Disk *disk;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        Settings settings; /* settings_of_test() */
        ComponentHost components;
        char *scratch, *raft_path, *tree_path, *agent_path;
        char id[MACHINE_ID_SIZE]; /* of the machine */
        bool stays;               /* the folder after this is freed */
        Timer tick;
        uint64_t deadline_ms;
        const char *wanted; /* the expression of HOST_UNTIL() */
        /* of host_wait() */
        unsigned asked, answered;
        KvStatus status;
        uint64_t index;
} Host;

/* 'joins': waits for its admission, and never has a quorum. Otherwise, it leads when this returns. */
Host *host_new(bool joins);
/* The same in an existing folder, which remains. */
Host *host_new_at(const char *path, bool joins);
Host *host_free(Host *h); /* returns NULL */

/* Run one turn of the loop; fail the test after 20 s. */
void host_turn(Host *h);
#define HOST_UNTIL(h, expression)          \
        do {                               \
                (h)->deadline_ms = 0;      \
                (h)->wanted = #expression; \
                while (!(expression))      \
                        host_turn(h);      \
        } while (false)

/* Run the loop for so long, for events that must not happen. */
void host_pause(Host *h, uint64_t ms);

void host_on_done(void *userdata, KvStatus status, const char *message,
                  uint64_t index); /* for calls of the registry; userdata: the host */
/* 'called': the result of the call. Wait for the answer, and until the cluster view contains it. */
KvStatus host_wait(Host *h, int called);

/* Submit the unit to the registry. */
void host_unit(Host *h, const char *name, const char *text, TargetState target);
/* Raise the feature level. */
void host_raise(Host *h, unsigned level);
/* Write an assignment of this machine, planned on the present unit. */
void host_order(Host *h, const char *name, AssignmentKind kind);
/* The same, of a text with this number and hash. */
void host_order_text(Host *h, const char *name, AssignmentKind kind, uint64_t revision, const char *hash);
/* Write the number of the content that the assignment of this machine has. */
void host_assign_inputs(Host *h, const char *name, uint64_t number);
/* Write the key with the number of the content of the unit, and with why there is none; 0: remove the key. */
void host_inputs(Host *h, const char *name, uint64_t number, VerdictCode problem);
/* Publish this machine as known and up. */
void host_machine(Host *h);

/* Send 'request' to "ADDR:PORT" or "/socket" from a thread of its own, and return the answer until the other
 * side closes. */
char *host_ask(Host *h, const char *address, const char *request, size_t size);
