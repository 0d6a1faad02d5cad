/* One host made of the daemon's own rooms: a real loop, a store that is alone, its log and tree in a scratch
 * folder, and the registry over it. What a test is about, it opens itself on top. */
#pragma once

#include "fleetd/registry/registry.h"
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
        char *scratch, *raft_path, *tree_path, *agent_path;
        char id[MACHINE_ID_SIZE]; /* of the machine */
        bool stays;               /* the folder, when this is freed */
        Timer tick;
        uint64_t deadline_ms;
        /* of host_wait() */
        unsigned asked, answered;
        KvStatus status;
        uint64_t index;
} Host;

/* 'joins': waits to be let in by others, so that it has no quorum and never will. Else it leads when this
 * returns. */
Host *host_new(bool joins);
/* The same in a folder that was there before and stays. */
Host *host_new_at(const char *path, bool joins);
Host *host_free(Host *h); /* returns NULL */

/* Runs the loop for one look at the world; fails the test when that goes on for 20 s. */
void host_turn(Host *h);
#define HOST_UNTIL(h, expression)     \
        do {                          \
                (h)->deadline_ms = 0; \
                while (!(expression)) \
                        host_turn(h); \
        } while (false)

/* Runs the loop for so long: for what must not happen. */
void host_pause(Host *h, uint64_t ms);

void host_on_done(void *userdata, KvStatus status, const char *sentence,
                  uint64_t index); /* for calls of the registry; userdata: the host */
/* 'called': what the call returned. Waits for its answer, and until the picture knows of it. */
KvStatus host_wait(Host *h, int called);

/* Makes the unit in the registry. */
void host_unit(Host *h, const char *name, const char *text, TargetState target);
/* Gives this machine the order, planned on the unit that is there. */
void host_order(Host *h, const char *name, AssignmentKind kind);
/* This machine is known and up. */
void host_machine(Host *h);

/* Sends 'request' to "ADDR:PORT" or "/socket" from a thread of its own, and returns all that comes until the
 * other side closes. */
char *host_ask(Host *h, const char *address, const char *request, size_t size);
