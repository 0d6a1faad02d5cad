/* HTTP/1.1 on a Stream: requests in, answers out.
 *
 * Each stream has an HttpConnection. It parses one request at a time, answers in order, keeps the connection
 * alive, and enforces HttpLimits. It keeps pipelined requests up to a limit, and then stops reading. A
 * request beyond a limit is answered with 408, 413, 414, 431 or 503 and a message, and the connection is
 * closed. A client that does not read its answers is disconnected. When all clients together exceed the
 * memory limit, the one that has exceeded its small buffer for longest is disconnected.
 *
 * Rejected with 400 or 505: a duplicate or missing Host, both framing headers, unknown transfer codings, a
 * space before a colon, folded fields, NUL and control characters. Supported: HEAD, Expect: 100-continue,
 * chunks in both directions, HTTP/1.0. Methods that llhttp does not know reach the handler as text. */
#pragma once

#include "base/text.h"
#include "io/stream.h"

typedef struct HttpConnection HttpConnection;
typedef struct HttpServer HttpServer;

enum {
        HTTP_REQUEST_WORK = 16, /* bytes that can be moved while a handler reads one byte of a request ... */
        HTTP_ANSWER_WORK = 4,   /* ... or writes one byte of an answer */
};

/* A complete request. Valid until its answer is complete, or on_gone() was called. */
typedef struct HttpRequest {
        const char *method; /* "GET" */
        const char *target; /* as sent: "/v2/keys/a%20b?wait=true"; absolute-form reduced to path and query */
        const char *host;   /* the Host field; "": HTTP/1.0 without one */
        const char *origin; /* the Origin field or NULL */
        const char *accept; /* the first Accept field or NULL */
        const char *key;    /* the first X-Fleet-Key field or NULL */
        const char *tag;    /* the first If-None-Match field or NULL */
        const char *content_type; /* NULL: absent */
        unsigned n_content_types; /* number of these fields */
        bool keep_alive;
        const void *body; /* a zero byte follows; valid until on_request() returns */
        size_t body_size;
        HttpConnection *connection;
        const struct HttpSink *sink; /* NULL: the request arrived on the connection */
        void *listener;              /* argument of http_server_accept(): determines the rights */
        const Stream *stream;        /* for credentials and addresses */
        void *userdata;              /* of the handler, until the answer is complete */
} HttpRequest;

typedef struct HttpHandler {
        /* Return the limit of the body in bytes; called when the head is complete (body fields are not set).
         */
        size_t (*body_limit)(void *userdata, const HttpRequest *request);
        /* A complete request. Answer now or later by the functions below. Until then it is parked: no timer
         * runs, the connection keeps the head and frees the body, and on_gone() reports when the client
         * disconnects. A client that half-closes counts as disconnected. */
        void (*on_request)(void *userdata, HttpRequest *request);
        /* The client of a parked or streaming request disconnected: cancel it. Not called after a complete
         * answer. */
        void (*on_gone)(void *userdata, HttpRequest *request);
        /* A streaming answer that exceeded the limit 'backlog_size' has drained: continue. */
        void (*on_drain)(void *userdata, HttpRequest *request);
        /* Write 'message', about an exceeded limit, in the error format of the listener, and return the
         * content type. NULL: text/plain. */
        const char *(*write_error)(void *userdata, void *listener, unsigned status, const char *message,
                                   Text *body);
} HttpHandler;

/* -- Answering: exactly one of http_answer*(), or http_begin() and then http_chunk()s and http_end() -- */

typedef struct HttpField {
        const char *name, *value;
} HttpField;

/* The answer to a request that did not arrive on a connection of this host, which then has neither
 * 'connection' nor 'stream'. After answer(), cut() and the last chunk, the sink may have freed the request.
 */
typedef struct HttpSink {
        void (*answer)(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                       const void *body, size_t size);
        void (*begin)(HttpRequest *request, unsigned status, const char *type, const HttpField *fields);
        /* 0; -ENOBUFS, unless it is the last one: the handler's on_drain() follows; or another error. */
        int (*chunk)(HttpRequest *request, const void *bytes, size_t size, bool last);
        void (*cut)(HttpRequest *request, const char *reason);
        void (*again)(HttpRequest *request); /* nothing was answered: handle the request again later */
} HttpSink;

/* Send a complete answer. 'type' NULL: no Content-Type. 'fields' end with a NULL name; NULL: none. The body
 * of HEAD is counted, not sent; 204 and 304 have none. */
void http_answer(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                 const void *body, size_t size);
void http_answer_shared(HttpRequest *request, unsigned status, const char *type, const HttpField *fields,
                        Shared *body); /* a large body is not copied */

/* Begin a streaming answer: the head is sent at once. */
void http_begin(HttpRequest *request, unsigned status, const char *type, const HttpField *fields);
/* -ENOBUFS: the limit is exceeded; wait for on_drain, or call http_cut(). */
int http_chunk(HttpRequest *request, const void *bytes, size_t size);
int http_chunk_shared(HttpRequest *request, Shared *payload);
void http_end(HttpRequest *request);
/* Send the last chunk and the end, in one write. */
void http_last(HttpRequest *request, const void *bytes, size_t size);
void http_last_shared(HttpRequest *request, Shared *payload);
/* Close without an orderly end; 'reason' is logged at debug level. */
void http_cut(HttpRequest *request, const char *reason);

/* -- Serving -- */

/* Limits of a server, all 64-bit numbers; 0: the default. */
typedef struct HttpLimits {
        uint64_t connections;            /* total: 503 */
        uint64_t connections_per_client; /* of one address, or of one user of a unix socket: 503; no limit
                                          * by default */
        uint64_t line_size;              /* the target of a request: 414 */
        uint64_t head_size, fields;      /* request line and fields: 431 */
        uint64_t ahead_size;             /* pipelined requests: not read */
        uint64_t backlog_size;           /* of a streaming answer: http_chunk() fails */
        uint64_t buffer_size; /* held for all clients, received and not yet sent: 503, or disconnected */
        uint64_t head_ms;     /* from the first to the last byte of a head: 408 */
        uint64_t body_ms,
                answer_ms; /* time to receive HTTP_PROGRESS_BYTES (408), or to send them (disconnected) */
        uint64_t idle_ms;  /* between requests: closed */
} HttpLimits;

enum { HTTP_PROGRESS_BYTES = 1024 };

extern const HttpLimits http_limits_default;

int http_server_new(HttpServer **ret, Loop *loop, const HttpHandler *handler, void *userdata,
                    const HttpLimits *limits);
enum { HTTP_CLASSES = 5 };

typedef enum HttpLimit {
        HTTP_LIMIT_CONNECTIONS,
        HTTP_LIMIT_MEMORY, /* of all clients, or of the process */
        HTTP_LIMIT_TIME,
        HTTP_LIMIT_LINE,
        HTTP_LIMIT_HEAD,
        HTTP_LIMIT_BODY,
        _HTTP_LIMIT_MAX,
} HttpLimit;

const char *http_limit_name(HttpLimit limit);

typedef struct HttpCounts {
        uint64_t answers[HTTP_CLASSES];     /* since the start, by status: [1] has 200 to 299 */
        uint64_t rejected[_HTTP_LIMIT_MAX]; /* requests and connections, by the limit that they exceeded */
        uint64_t n_connections;             /* now */
} HttpCounts;

HttpCounts http_server_counts(const HttpServer *server);

/* Apply from now on. 0s and NULL: the defaults. */
void http_server_set_limits(HttpServer *server, const HttpLimits *limits);
/* Take an accepted stream; each of its requests has 'listener'. Beyond the limit of connections, answer 503
 * and close. */
void http_server_accept(HttpServer *server, Stream *stream, void *listener);
/* Answer a stream that is not accepted with an error, and close it when the client has read the answer. */
void http_server_reject(HttpServer *server, Stream *stream, void *listener, unsigned status, const char *why);
/* Close each connection whose stream 'ends' selects; its request is gone. */
void http_server_end(HttpServer *server, bool (*ends)(void *userdata, const Stream *stream), void *userdata);
/* Close all connections, without calling on_gone. Return NULL. */
HttpServer *http_server_free(HttpServer *server);

/* -- Parts of targets -- */

/* The name=value pairs of a query or a form, percent-decoded; '+' is a space. Values may contain NUL; use
 * their sizes. */
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
/* Append the pairs of 's', at most 1024 (-E2BIG). -EINVAL with the text of Go, as in etcd: `invalid URL
 * escape "%zz"`, "invalid semicolon separator in query"; the valid pairs are appended nevertheless. */
int http_parameters_parse(HttpParameters *p, const char *s, size_t size, Error *err);
/* Return the first parameter of that name, or NULL. */
const HttpParameter *http_parameter(const HttpParameters *p, const char *name);
/* Return whether the value contains no NUL, so that it is usable as a string. */
bool http_parameter_is_text(const HttpParameter *p);

/* Parse a Content-Type as Go does. Return the size of the media type at its beginning, or -EINVAL with the
 * text of Go: "mime: no media type". */
int http_media_type(const char *s, size_t *ret_size, Error *err);

/* Split 'target' into the decoded path, which may contain NUL, and the query as sent (without '?', "" if
 * none). -EINVAL: an invalid escape. The caller frees *ret_path. */
int http_target_split(const char *target, char **ret_path, size_t *ret_path_size, const char **ret_query);
