/* The HTTP of fleet-web: three files for all clients, and documents for those that have the key.
 *
 * A question for a document waits until there is a newer one. Nothing of a request reaches the daemon but the
 * name in "why". */
#pragma once

#include "io/http.h"

enum {
        WEB_KEY_SIZE = 23, /* 128 bits in base64url, terminated */
        WEB_WAIT_MS = 10000,
        WEB_IDLE_MS = 5 * 60 * 1000,
};

typedef enum WebDocument {
        WEB_VIEW,
        WEB_USAGE,
        _WEB_DOCUMENT_MAX,
} WebDocument;

typedef struct WebServer WebServer;

typedef struct WebEvents {
        /* A page asks for the document: it is shown. */
        void (*on_asked)(void *userdata, WebDocument document);
        /* A page asks about the unit, or the machine with this ID: web_server_answer() follows, also at once.
         */
        void (*on_why)(void *userdata, uint64_t question, bool of_machine, const char *name);
        void (*on_idle)(void *userdata); /* no request for WEB_IDLE_MS */
} WebEvents;

/* 'key' and 'program', a text of the documents that differs between starts, are copied. */
int web_server_new(WebServer **ret, Loop *loop, const char *key, const char *program, const WebEvents *events,
                   void *userdata);
/* Close all connections. Return NULL. */
WebServer *web_server_free(WebServer *s);
DEFINE_CLEANUP(WebServer *, web_server_free)

void web_server_accept(WebServer *s, Stream *stream);
/* For requests without a connection. */
extern const HttpHandler web_handler; /* its userdata is the server */

/* Replace a document, whose members 'rest' has, without the opening brace and the members that differ
 * between equal states. Pages that wait get it, unless it is as before. */
int web_server_publish(WebServer *s, WebDocument document, const Text *rest);
/* No page asks for the document any more: the next question waits for a new one. */
void web_server_forget(WebServer *s, WebDocument document);
/* Answer the question of on_why(), unless its page has left: a document with status 200, else a message. */
void web_server_answer(WebServer *s, uint64_t question, unsigned status, const char *text);
