/* The HTTP server: listeners, senders, routes. Answers requests; starts nothing.
 *
 * Listeners: the unix socket (root and group fleet, by peer credentials: everything; other groups: what
 * LocalRights= grants), TCP on loopback (users' keys only), and TLS (users with certificates: what was
 * granted to them). A request that another host has to answer (a unit's journal, its status) is sent there
 * over a session, and its answer is streamed back. */
#pragma once

#include "fleetd/host/component.h"
#include "io/http.h"

typedef struct Api Api;

typedef enum ApiListener { API_SOCKET, API_LOOPBACK, API_TLS, _API_LISTENER_MAX } ApiListener;

/* Return 0 if no two components have routes of one path, and none has two of one method; else -EEXIST, with
 * both. */
int api_check_routes(const Component *const *components, Error *err);
/* 'host' is borrowed, with its settings. Its systemd (then this host has only units of the cluster),
 * membership, authority and components may be NULL. */
int api_new(Api **ret, ComponentHost *host);
/* Open a listener. An error names the address and the remedy. API_TLS accepts connections while the cluster
 * has a CA, and not before that. */
int api_listen(Api *api, ApiListener kind, const char *address, Error *err);
void api_state_changed(void *api); /* KvEvents.on_state: the leader may have changed */
/* Component.reload: the limits are in force from the next request on. A stream ends within a turn of the loop
 * if its sender has lost a right by LocalRights=. */
int api_reload(ComponentHost *host, void *api, const Settings *s);
/* Call 'each' with the name ("socket", "loopback", "tls") and the counts of each listener. */
void api_each_listener(const Api *api,
                       void (*each)(void *userdata, const char *name, const HttpCounts *counts),
                       void *userdata);
uint64_t api_watches(const Api *api); /* clients that wait for a key now */
/* Close listeners and connections; parked requests end without an answer. Return NULL. */
void *api_free(void *api);
