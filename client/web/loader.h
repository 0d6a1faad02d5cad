/* Keeps the documents of a web server up to date, as long as pages ask for them.
 *
 * Requests to the daemon are GET only, and run off the loop. One piece of work is in flight at a time; it
 * waits for the next event of the cluster, then reads what is due. Without a page that asks, there is neither
 * a request nor a connection. */
#pragma once

#include "client/core/connection.h"
#include "client/web/server.h"

typedef struct WebLoader WebLoader;

enum {
        WEB_WATCHED_MS = 15000, /* after its last question, a document is not kept up to date */
        WEB_LOAD_MS = 10000,    /* the state is read at least as often, */
        WEB_PAUSE_MS = 1000,    /* and at most as often */
};

/* The settings are borrowed. */
int web_loader_new(WebLoader **ret, Loop *loop, const ConnectionSettings *settings, Error *err);
void web_loader_serve(WebLoader *l, WebServer *server);
/* Begin no further work. Return whether some is in flight: the loader may be freed after it has ended. */
bool web_loader_stop(WebLoader *l);
WebLoader *web_loader_free(WebLoader *l); /* returns NULL */
DEFINE_CLEANUP(WebLoader *, web_loader_free)

/* What the server calls; 'loader' is its userdata. */
void web_loader_on_asked(void *loader, WebDocument document);
void web_loader_on_why(void *loader, uint64_t question, bool of_machine, const char *name);
