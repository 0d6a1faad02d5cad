/* What the two halves of HTTP share: http.c reads requests, http_answer.c writes answers. For these two files only. */
#pragma once

#include <llhttp.h>

#include "base/text.h"
#include "io/http.h"

enum {
        HTTP_LINE_MAX = 16 * 1024,  /* the target of the request line */
        HTTP_HEAD_MAX = 32 * 1024,  /* request line and fields */
        HTTP_FIELDS_MAX = 64,
        HTTP_METHOD_MAX = 31,
        HTTP_PENDING_MAX = 64 * 1024, /* of pipelined requests, read while one is being answered */
        HTTP_CROWD_MIN = 1024,        /* when so many connections have left, memory goes back to the system */
        HTTP_KEPT_MAX = 4096,         /* a larger buffer is given back between requests */
        HTTP_PROGRESS_MS = 10000,     /* within which body and answer must make ... */
        HTTP_PROGRESS_BYTES = 1024,   /* ... that much progress */
};

typedef enum HttpState {
        HTTP_IN_METHOD,   /* before or in the method: between requests */
        HTTP_IN_HEAD,     /* from the target to the blank line */
        HTTP_IN_BODY,
        HTTP_ACTIVE,   /* the handler's: answered now or later */
        HTTP_CLOSING,  /* the last answer has been written, or the stream was closed */
} HttpState;

/* Fields whose values we keep. */
typedef enum HttpKept {
        HTTP_KEPT_HOST,
        HTTP_KEPT_ORIGIN,
        HTTP_KEPT_CONTENT_TYPE,
        HTTP_KEPT_TRANSFER_ENCODING,
        HTTP_KEPT_EXPECT,
        _HTTP_KEPT_MAX,
        _HTTP_KEPT_NONE = -1,
} HttpKept;

typedef struct HttpAddress HttpAddress;

struct HttpConnection {
        HttpServer *server; /* NULL once the server is gone */
        Loop *loop;
        Stream *stream;
        HttpConnection *next, *prev;
        HttpAddress *address; /* counted there, or NULL */
        llhttp_t parser;

        HttpState state;
        bool answering;      /* in HTTP_ACTIVE: http_begin() was called */
        bool chunked;        /* ... and says where its chunks end */
        bool http10, is_head;
        bool wants_drain;    /* a chunk was refused */
        bool paused;
        bool value_open;
        int8_t field;        /* HttpKept of the value that is being read */

        /* Target, kept values (each terminated) and body of the request; offsets, because it moves when it grows. */
        Text bytes;
        size_t target_at, body_at, kept_at[_HTTP_KEPT_MAX];
        unsigned n_kept[_HTTP_KEPT_MAX], n_fields;
        char method[HTTP_METHOD_MAX + 1];
        char name[20];       /* of the field, as far as it could be one that we keep */
        uint8_t method_size, name_size;
        size_t head_size, body_limit;
        const char *span_end, *input, *input_end; /* where the last value ended, and what the parser is fed */
        unsigned refuse_status;
        const char *refuse_why;

        Text pending;        /* read, and not parsed yet */
        size_t pending_at;
        Deferred resume;

        Timer timer;         /* may fire before due_ms: then it is started again */
        uint64_t due_ms;     /* 0: nothing is due */
        uint64_t progress;   /* bytes at the last look */
        uint64_t written;    /* given to the stream */

        HttpRequest request;
};

struct HttpServer {
        Loop *loop;
        const HttpHandler *handler;
        void *userdata;
        HttpLimits limits;
        HttpConnection *connections;
        HttpAddress *addresses;
        unsigned n_connections, n_peak;
        Text out;             /* where each answer is put together */
        uint64_t date_sec;
        char date[32];        /* of date_sec */
};

/* The request has been answered in full: on to the next, or to the end. */
void http_connection_answered(HttpConnection *c);
/* Due in 'ms' from now, or in 0: nothing is. */
void http_connection_due_in(HttpConnection *c, uint64_t ms);
/* Answers what is not a request, and closes. 'why' NULL: the status alone. */
void http_refuse(HttpConnection *c, unsigned status, const char *why);
