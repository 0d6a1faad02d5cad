/* The HTTP server: listeners, senders, routes. Answers requests; starts nothing.
 *
 * Listeners: the unix socket (root and group fleet, by peer credentials: everything) and TCP on loopback
 * (users' keys only). A request that another host has to answer (a unit's journal, its status) is sent there
 * over a session, and its answer is streamed back. */
#pragma once

#include "fleetd/api/limits.h"
#include "fleetd/metrics/scrape.h"
#include "fleetd/registry/registry.h"
#include "io/http.h"

typedef struct Api Api;

typedef enum ApiListener { API_SOCKET, API_LOOPBACK } ApiListener;

typedef struct ApiOptions {
        Network *network; /* borrowed, as all pointers here; strings are copied */
        Peers *peers;
        KvStore *store;
        Registry *registry;
        const char *machine_id, *name;
        ClientAccess access;     /* of API_LOOPBACK */
        const ApiLimits *limits; /* copied; NULL: the defaults */
        /* metrics_begin() of this daemon; NULL: /metrics does not exist. */
        int (*metrics)(void *userdata, MetricsForm form, MetricsScrape **ret);
        uint64_t (*brake_ms)(void *userdata);                 /* the value of BrakeSec=; may be NULL */
        bool (*is_foreign)(void *userdata, const char *unit); /* agent_sees_foreign(); may be NULL */
        void *userdata;
        const HttpLimits *http; /* of each listener; copied; NULL: the defaults */
} ApiOptions;

int api_new(Api **ret, Loop *loop, const ApiOptions *options);
/* Open a listener. An error names the address and the remedy. */
int api_listen(Api *api, ApiListener kind, const char *address, Error *err);
void api_state_changed(Api *api); /* KvEvents.on_state: the leader may have changed */
void api_set_limits(Api *api, const ApiLimits *limits,
                    const HttpLimits *http); /* copies; in force from the next request on */
/* Call 'each' with the name ("socket", "loopback") and the counts of each listener. */
void api_each_listener(const Api *api,
                       void (*each)(void *userdata, const char *name, const HttpCounts *counts),
                       void *userdata);
uint64_t api_watches(const Api *api); /* clients that wait for a key now */
/* Close listeners and connections; parked requests end without an answer. Return NULL. */
Api *api_free(Api *api);
