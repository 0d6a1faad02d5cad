/* The HTTP server: listeners, senders, routes. Answers requests; starts nothing.
 *
 * Listeners: the unix socket (root and group fleet, by peer credentials: everything; other groups: what
 * LocalRights= grants), TCP on loopback (users' keys only), and TLS (users with certificates: what was
 * granted to them). A request that another host has to answer (a unit's journal, its status) is sent there
 * over a session, and its answer is streamed back. */
#pragma once

#include "fleetd/host/component.h"
#include "fleetd/host/limits.h"
#include "fleetd/metrics/scrape.h"
#include "fleetd/systemd/systemd.h"
#include "io/http.h"

typedef struct Api Api;

typedef enum ApiListener { API_SOCKET, API_LOOPBACK, API_TLS, _API_LISTENER_MAX } ApiListener;

/* A request to enter the cluster of a token, or ('init') to open the peer listener. Borrowed for the call. */
typedef struct ApiJoin {
        const char *token, *listen; /* "" if not given */
        bool discard, init;
        bool exposed; /* the token was an argument of a command */
} ApiJoin;

typedef struct ApiJoined {
        uint64_t cluster_id;
        const char *listen, *through; /* this host's listener; the host that answered, "" for none */
} ApiJoined;

/* 'joined' is NULL after a failure. */
typedef void ApiJoinDone(void *userdata, int error, const char *message, const ApiJoined *joined);

typedef struct ApiOptions {
        Network *network; /* borrowed, as all pointers here; strings are copied */
        Peers *peers;
        KvStore *store;
        Registry *registry;
        const char *machine_id, *name;
        ClientAccess access;       /* of API_LOOPBACK */
        const Names *local_rights; /* texts of LocalRights=, not kept; NULL: none */
        const Names *server_names; /* of API_TLS, in addition to its address; NULL: none; not kept */
        const ApiLimits *limits;   /* copied; NULL: the defaults */
        const ComponentHost *host; /* engine, directory, agent, and the components with routes; NULL: none */
        /* metrics_begin() of 'host'; NULL: /metrics does not exist. */
        int (*metrics)(const ComponentHost *host, MetricsForm form, MetricsScrape **ret);
        struct Membership *membership;                        /* may be NULL: no other hosts */
        struct Authority *authority;                          /* may be NULL: no tokens */
        bool (*is_foreign)(void *userdata, const char *unit); /* agent_has_conflict(); may be NULL */
        Systemd *systemd; /* of this host; may be NULL: it has only units of the cluster */
        /* May be NULL. 'done' is called once, from the loop, unless it is cancelled or this fails. Errors
         * with a message: -EINVAL, -EEXIST (content, or joined), -EALREADY (a join is under way),
         * -EADDRNOTAVAIL. */
        int (*join)(void *userdata, const ApiJoin *join, ApiJoinDone *done, void *done_userdata, Error *err);
        void (*join_cancel)(void *userdata, void *done_userdata);
        void *userdata;
        const HttpLimits *http; /* of each listener; copied; NULL: the defaults */
} ApiOptions;

/* Return 0 if no two components have routes of one path, and none has two of one method; else -EEXIST, with
 * both. */
int api_check_routes(const Component *const *components, Error *err);
int api_new(Api **ret, Loop *loop, const ApiOptions *options);
/* Open a listener. An error names the address and the remedy. API_TLS accepts connections while the cluster
 * has a CA, and not before that. */
int api_listen(Api *api, ApiListener kind, const char *address, Error *err);
void api_state_changed(void *api); /* KvEvents.on_state: the leader may have changed */
void api_set_limits(Api *api, const ApiLimits *limits,
                    const HttpLimits *http); /* copies; in force from the next request on */
/* Set the rights of local groups from now on. A stream ends within a turn of the loop if its sender has lost
 * a right. */
void api_set_local_rights(Api *api, const Names *texts, ClientAccess access); /* access: of API_LOOPBACK */
/* Call 'each' with the name ("socket", "loopback", "tls") and the counts of each listener. */
void api_each_listener(const Api *api,
                       void (*each)(void *userdata, const char *name, const HttpCounts *counts),
                       void *userdata);
uint64_t api_watches(const Api *api); /* clients that wait for a key now */
/* Close listeners and connections; parked requests end without an answer. Return NULL. */
void *api_free(void *api);
