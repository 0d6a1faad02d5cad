/* HTTP/1.1 on a Stream: requests in, answers out (the one home of llhttp).
 *
 * One HttpConnection per stream; it parses one request at a time (what a client sends ahead is kept up to a
 * bound, and then not read), answers in order, keeps alive, and knows the limits of HttpLimits. What is
 * beyond is answered 408, 413, 414, 431 or 503 with one sentence, and closed; a client that does not read is
 * cut, and so is who has held most for longest when all together hold too much. Refused with 400 or 505:
 * doubled or missing Host, both framing headers, unknown transfer codings, a blank before a colon, folded
 * fields, NUL and control bytes. HEAD, Expect: 100-continue, chunks both ways and HTTP/1.0 work. A method
 * that llhttp does not know reaches the handler as its text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "io/stream.h"

typedef struct HttpConnection HttpConnection;
typedef struct HttpServer HttpServer;

/* One request, complete. Valid until it has been answered in full, or 'gone' was called. */
typedef struct HttpRequest {
        const char *method; /* "GET" */
        const char *target; /* as sent: "/v2/keys/a%20b?wait=true"; absolute-form reduced to path and query */
        const char *host;   /* the Host field, "" for HTTP/1.0 without */
        const char *origin; /* the Origin field or NULL */
        const char *content_type; /* NULL when absent */
        unsigned n_content_types; /* how often it was sent */
        const void *body; /* a zero byte follows, which is not counted; gone when on_request() has returned */
        size_t body_size;
        bool keep_alive;
        HttpConnection *connection;
        void *door;           /* what http_server_new() was given for the listener: rights of this door */
        const Stream *stream; /* for credentials and addresses */
        void *userdata;       /* the handler's, while it works on the answer */
} HttpRequest;

typedef struct HttpHandler {
        /* How large a body this request may have; called when the head is there (body fields are not). */
        size_t (*body_limit)(void *userdata, const HttpRequest *request);
        /* A complete request. Answer now or later by the functions below; until then it is parked: no timer
         * runs, one record and the head are kept, not the body, and the client's leaving is noticed. A client
         * that half-closes has left. */
        void (*on_request)(void *userdata, HttpRequest *request);
        /* The client of a parked or streaming request left: forget it. Not called after the answer was
         * completed. */
        void (*on_gone)(void *userdata, HttpRequest *request);
        /* A stream that had more than the limit 'backlog_size' queued has drained: go on. */
        void (*on_drain)(void *userdata, HttpRequest *request);
        /* Says 'sentence', of what is beyond a limit, in this door's way, and returns the content type. NULL:
         * text/plain. */
        const char *(*write_refusal)(void *userdata, void *door, unsigned status, const char *sentence,
                                     Text *body);
} HttpHandler;

/* -- Answering: exactly one of http_answer*(), or http_begin() and then http_chunk()s and http_end() -- */

typedef struct HttpField {
        const char *name, *value;
} HttpField;

/* A whole answer. 'type' NULL: no Content-Type. 'fields' end with a NULL name, or NULL. For HEAD the body is
 * counted, not sent; 204 and 304 have none. */
void http_answer(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                 const void *body, size_t size);
void http_answer_shared(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                        Shared *body); /* not copied if large */
void http_answer_text(HttpRequest *request, unsigned status, const char *format, ...)
        _printf_(3, 4); /* text/plain, newline added */

/* A stream: head now (flushed at once), chunks as they come. */
void http_begin(HttpRequest *request, unsigned status, const char *type, const HttpField *fields);
int http_chunk(HttpRequest *request, const void *bytes,
               size_t size); /* -ENOBUFS: over the bound; wait for on_drain, or cut */
int http_chunk_shared(HttpRequest *request, Shared *payload);
void http_end(HttpRequest *request);
void http_last(HttpRequest *request, const void *bytes,
               size_t size); /* the last chunk and the end, in one write */
void http_last_shared(HttpRequest *request, Shared *payload);
void http_cut(HttpRequest *request, const char *reason); /* close without an orderly end; logged at debug */

/* -- Serving -- */

/* What one server lets its clients have; 0 takes the default. */
typedef struct HttpLimits {
        uint64_t connections;            /* in all: 503 */
        uint64_t connections_per_client; /* of one address, or of one user of a unix socket: 503; by default
                                            no limit of its own */
        uint64_t line_size;              /* the target of a request: 414 */
        uint64_t head_size, fields;      /* request line and fields: 431 */
        uint64_t ahead_size;             /* requests sent ahead: not read */
        uint64_t backlog_size;           /* of a stream: http_chunk() fails */
        uint64_t buffer_size; /* held for all clients, read and not yet sent: 503, or cut, the oldest first */
        uint64_t head_ms;     /* from its first byte to its last: 408 */
        uint64_t body_ms, answer_ms; /* within which HTTP_PROGRESS_BYTES must come (408), or be taken (cut) */
        uint64_t idle_ms;            /* between requests: closed */
} HttpLimits;

enum { HTTP_PROGRESS_BYTES = 1024 };

extern const HttpLimits http_limits_default;

int http_server_new(HttpServer **ret, Loop *loop, const HttpHandler *handler, void *userdata,
                    const HttpLimits *limits);
void http_server_set_limits(HttpServer *server,
                            const HttpLimits *limits); /* from now on; 0s and NULL: the defaults */
/* Takes over an accepted stream; 'door' comes back in each request. Over the limit it is answered 503 and
 * closed. */
void http_server_accept(HttpServer *server, Stream *stream, void *door);
HttpServer *http_server_free(
        HttpServer *server); /* closes all connections, without calling on_gone; returns NULL */
unsigned http_server_connections(const HttpServer *server);
size_t http_server_held(const HttpServer *server); /* bytes that count against 'buffer_size' */

/* -- Parts of targets -- */

/* A name=value pair list out of a query or a form: percent-decoding, '+' is a space. Values may hold NUL:
 * sizes count. */
typedef struct HttpParameter {
        char *name;
        char *value;
        size_t value_size;
} HttpParameter;

typedef struct HttpParameters {
        HttpParameter *items;
        size_t n, capacity;
} HttpParameters;

void http_parameters_done(HttpParameters *p);
/* Appends the pairs of 's', at most 1024 (-E2BIG). -EINVAL with etcd's (Go's) words in 'err': `invalid URL
 * escape "%zz"`, "invalid semicolon separator in query"; the good pairs are there nevertheless. */
int http_parameters_parse(HttpParameters *p, const char *s, size_t size, Error *err);
const HttpParameter *http_parameter(const HttpParameters *p,
                                    const char *name); /* the first of that name, or NULL */
bool http_parameter_is_text(
        const HttpParameter *p); /* no NUL in the value, which then is all that strings are */

/* Reads a Content-Type as Go does: 0 and the size of the media type at its beginning, or -EINVAL with
 * Go's words in 'err': "mime: no media type". */
int http_media_type(const char *s, size_t *ret_size, Error *err);

/* Splits 'target' into decoded path (NUL allowed: size counts) and query as sent (without '?', "" if none).
 * -EINVAL for a bad escape. The caller frees *ret_path. */
int http_target_split(const char *target, char **ret_path, size_t *ret_path_size, const char **ret_query);
