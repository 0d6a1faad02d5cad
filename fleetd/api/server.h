/* The HTTP face: doors, rights, routes. Answers; starts nothing.
 *
 * Doors: the unix socket (root and group fleet, by peer credentials: everything) and TCP on loopback (the key
 * API alone, users' keys alone). A request for what only another host can tell (a unit's journal, its status)
 * is led there over the peers' sessions, and its answer is streamed back. */
#pragma once

#include "fleetd/registry/registry.h"
#include "fleetd/settings.h"

typedef struct Api Api;

typedef enum ApiListener { API_SOCKET, API_LOOPBACK } ApiListener;

typedef struct ApiOptions {
        Network *network; /* borrowed, as all pointers here; strings are copied */
        Peers *peers;
        KvStore *store;
        Registry *registry;
        const char *machine_id, *name;
        ClientAccess access;                                  /* of API_LOOPBACK */
        const ApiLimits *limits;                              /* copied; NULL: the defaults */
        void (*metrics)(void *userdata, Text *t);             /* writes the daemon's figures; may be NULL */
        uint64_t (*brake_ms)(void *userdata);                 /* BrakeSec= as it is now; may be NULL */
        bool (*is_foreign)(void *userdata, const char *unit); /* agent_sees_foreign(); may be NULL */
        void *userdata;
        const HttpLimits *http; /* of each door; copied; NULL: the defaults */
} ApiOptions;

int api_new(Api **ret, Loop *loop, const ApiOptions *options);
/* Opens a door; fails with a sentence that names address and remedy. */
int api_listen(Api *api, ApiListener door, const char *address, Error *err);
void api_state_changed(Api *api); /* the store's on_state: another leader, perhaps */
void api_set_limits(Api *api, const ApiLimits *limits,
                    const HttpLimits *http); /* copies; in force from the next request on */
/* Closes doors and connections; parked requests end without an answer. Returns NULL. */
Api *api_free(Api *api);
