/* Shared by the parts of HTTP: http.c reads requests, http_answer.c writes answers, http_server.c enforces
 * the limits of all connections. No other file includes this header. */
#pragma once

#include <llhttp.h>

#include "io/http.h"

enum {
        HTTP_METHOD_MAX = 31,
        HTTP_SMALL_MAX = 16 * 1024, /* bytes; such requests precede larger ones */
        HTTP_WHOLE_MAX = 96 * 1024, /* bytes; the memory of such a body does not grow: a secret has less */
        HTTP_KEPT_MAX =
                4096, /* bytes; a larger buffer is freed between requests, and counts as holding memory */
        HTTP_REJECTED_MAX = 256, /* rejected connections that wait until the client has read the answer */
};

typedef enum HttpState {
        HTTP_IN_METHOD, /* before or in the method; also between requests */
        HTTP_IN_HEAD,   /* from the target to the empty line */
        HTTP_IN_BODY,
        HTTP_WAITING, /* complete; passed to the handler in one of the next turns */
        HTTP_ACTIVE,  /* passed to the handler, which answers now or later */
        HTTP_CLOSING, /* the last answer is written, or the stream is closed */
} HttpState;

/* Fields whose values are kept. */
typedef enum HttpKept {
        HTTP_KEPT_HOST,
        HTTP_KEPT_ORIGIN,
        HTTP_KEPT_ACCEPT,
        HTTP_KEPT_CONTENT_TYPE,
        HTTP_KEPT_TRANSFER_ENCODING,
        HTTP_KEPT_EXPECT,
        HTTP_KEPT_KEY,
        HTTP_KEPT_TAG,
        _HTTP_KEPT_MAX,
        _HTTP_KEPT_NONE = -1,
} HttpKept;

typedef struct HttpClient HttpClient;
typedef struct HttpRejected HttpRejected;

struct HttpConnection {
        HttpServer *server; /* NULL after http_server_free() */
        Loop *loop;
        Stream *stream;
        LIST_ENTRY(HttpConnection) connections;
        HttpClient *client;                  /* that counts it, or NULL */
        TAILQ_ENTRY(HttpConnection) holders; /* while it holds more than HTTP_KEPT_MAX */
        TAILQ_ENTRY(HttpConnection) waiting; /* while 'in_queue' */
        size_t held;                         /* bytes, as counted last */
        llhttp_t parser;

        HttpState state;
        HttpState clock; /* which deadline applies: HTTP_IN_HEAD, HTTP_IN_BODY, or HTTP_IN_METHOD
                          * before the first byte of a request */
        bool in_queue;
        uint8_t class;
        bool answering; /* in HTTP_ACTIVE: http_begin() was called */
        bool chunked;   /* ... with chunked transfer coding */
        bool http10, is_head;
        bool wants_drain; /* http_chunk() failed with -ENOBUFS */
        bool paused;
        bool value_open;
        bool half_closed;    /* by the client, which may still wait for answers */
        bool line_over;      /* the request line was read */
        uint8_t line_spaces; /* spaces after the method */
        int8_t field;        /* HttpKept of the current value */
        uint8_t method_size, name_size;
        char before; /* last byte of the previous piece that was no space or tab */

        /* Target, kept values (each terminated) and body of the request. The members below are offsets,
         * because the buffer moves when it grows. */
        Text bytes;
        uint32_t target_at, body_at, kept_at[_HTTP_KEPT_MAX];
        uint16_t n_kept[_HTTP_KEPT_MAX];
        unsigned n_fields, reject_status;
        char method[HTTP_METHOD_MAX + 1];
        char name[20]; /* of the field, truncated: longer ones are not kept */
        size_t head_size, body_limit;
        const char *span_end, *input, *input_end; /* end of the last value; input of the parser */
        Text pending;                             /* received, and not parsed yet */
        size_t pending_at;
        Deferred resume;

        Timer timer;       /* may fire before due_ms; it is then started again */
        uint64_t due_ms;   /* 0: no deadline */
        uint64_t progress; /* bytes at the last check */
        uint64_t written;  /* bytes given to the stream */

        HttpRequest request;
};

struct HttpServer {
        Loop *loop;
        const HttpHandler *handler;
        void *userdata;
        HttpLimits limits;
        LIST_HEAD(, HttpConnection) connections;
        HttpClient *clients;
        LIST_HEAD(, HttpRejected) rejected;
        unsigned n_connections, n_rejected;
        TAILQ_HEAD(, HttpConnection)
        holders; /* that exceed HTTP_KEPT_MAX, in the order in which they began to */
        struct {
                TAILQ_HEAD(, HttpConnection) waiting; /* for a turn of the loop, in the order of completion */
                uint64_t served_turn;                 /* last turn in which one of them was handled */
        } classes[2];                                 /* of small requests, and of larger ones */
        Deferred serve;
        size_t held;
        Deferred relieve;
        HttpCounts counts; /* without 'n_connections' */
        char why[160];     /* of the current rejection */
        Text out;          /* buffer for each answer */
        uint64_t date_sec;
        char date[32]; /* of date_sec */
};

/* The answer is complete: begin the next request, or close. */
void http_connection_answered(HttpConnection *c);
/* Set the deadline to 'ms' from now; 0: none. */
void http_connection_due_in(HttpConnection *c, uint64_t ms);
/* Close the stream, after on_gone() if the handler has the request. */
void http_connection_close(HttpConnection *c);
/* Count again what the connection holds. Does not disconnect any: that is deferred. */
void http_connection_count(HttpConnection *c);
void http_connection_init(HttpConnection *c);  /* parser, timer, events of a new one */
void http_connection_begin(HttpConnection *c); /* prepare for the next request */
/* Remove the connection from its server. */
void http_connection_unlink(HttpConnection *c);
extern const llhttp_settings_t http_parser_settings;
/* Set the members of the request that lie in the buffer. */
void http_request_fill(HttpConnection *c);
/* The request is complete. Return true to handle it now; false: http_connection_handle() is called in a later
 * turn. */
bool http_server_admit(HttpConnection *c);
void http_connection_handle(HttpConnection *c);
/* Count an answer with this status. */
void http_server_answered(HttpServer *server, unsigned status);
/* Count a request that exceeds 'limit'. */
void http_server_exceeded(HttpServer *server, HttpLimit limit);
/* Answer an invalid request with an error, and close. 'why' NULL: only the status. */
void http_reject(HttpConnection *c, unsigned status, const char *why);
/* The same for a stream without connection. */
void http_reject_stream(HttpServer *server, Stream *stream, void *listener, unsigned status, const char *why);
