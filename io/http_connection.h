/* What the three parts of HTTP share: http.c reads requests, http_answer.c writes answers, http_server.c
 * counts what its connections have. For these files only. */
#pragma once

#include <llhttp.h>
#include <sys/queue.h>

#include "base/text.h"
#include "io/http.h"

enum {
        HTTP_METHOD_MAX = 31,
        HTTP_REQUEST_WORK = 16, /* bytes that could be moved in the time in which a handler reads one byte of
                                   a request ... */
        HTTP_ANSWER_WORK = 4,   /* ... or writes one of an answer */
        HTTP_SMALL_MAX = 16 * 1024, /* bytes of a request that goes before larger ones */
        HTTP_KEPT_MAX =
                4096, /* a larger buffer is given back between requests; who holds less is not looked at */
        HTTP_STRAYS_MAX = 256, /* refused ones whose farewell is waited for */
};

typedef enum HttpState {
        HTTP_IN_METHOD, /* before or in the method: between requests */
        HTTP_IN_HEAD,   /* from the target to the blank line */
        HTTP_IN_BODY,
        HTTP_WAITING, /* complete; the handler gets it in one of the next turns of the loop */
        HTTP_ACTIVE,  /* the handler's: answered now or later */
        HTTP_CLOSING, /* the last answer has been written, or the stream was closed */
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

typedef struct HttpClient HttpClient;
typedef struct HttpStray HttpStray;

struct HttpConnection {
        HttpServer *server; /* NULL once the server is gone */
        Loop *loop;
        Stream *stream;
        HttpConnection *next, *prev;
        HttpClient *client;                  /* counted there, or NULL */
        TAILQ_ENTRY(HttpConnection) holders; /* while it holds more than HTTP_KEPT_MAX */
        TAILQ_ENTRY(HttpConnection) waiting; /* while 'in_queue' */
        size_t held;                         /* as it was counted last */
        llhttp_t parser;

        HttpState state;
        HttpState clock; /* of the request that is being read: HTTP_IN_HEAD, HTTP_IN_BODY, or HTTP_IN_METHOD
                            before its first byte */
        bool in_queue;
        uint8_t lane;
        bool answering; /* in HTTP_ACTIVE: http_begin() was called */
        bool chunked;   /* ... and says where its chunks end */
        bool http10, is_head;
        bool wants_drain; /* a chunk was refused */
        bool paused;
        bool value_open;
        bool says_no_more;   /* the client; it may wait for answers all the same */
        bool line_over;      /* the request line has been read */
        uint8_t line_blanks; /* behind its method */
        int8_t field;        /* HttpKept of the value that is being read */

        /* Target, kept values (each terminated) and body of the request; offsets, because it moves when it
         * grows. */
        Text bytes;
        uint32_t target_at, body_at, kept_at[_HTTP_KEPT_MAX];
        uint16_t n_kept[_HTTP_KEPT_MAX];
        unsigned n_fields;
        char method[HTTP_METHOD_MAX + 1];
        char name[20]; /* of the field, as far as it could be one that we keep */
        uint8_t method_size, name_size;
        size_t head_size, body_limit;
        char before;                              /* the last byte that was no blank, of the piece before */
        const char *span_end, *input, *input_end; /* where the last value ended, and what the parser is fed */
        unsigned refuse_status;
        Text pending; /* read, and not parsed yet */
        size_t pending_at;
        Deferred resume;

        Timer timer;       /* may fire before due_ms: then it is started again */
        uint64_t due_ms;   /* 0: nothing is due */
        uint64_t progress; /* bytes at the last look */
        uint64_t written;  /* given to the stream */

        HttpRequest request;
};

struct HttpServer {
        Loop *loop;
        const HttpHandler *handler;
        void *userdata;
        HttpLimits limits;
        HttpConnection *connections;
        HttpClient *clients;
        HttpStray *strays;
        unsigned n_connections, n_strays;
        TAILQ_HEAD(, HttpConnection) holders; /* by when they began to hold much */
        struct {
                TAILQ_HEAD(, HttpConnection)
                waiting; /* whose requests wait for a turn of the loop, by when they were complete */
                uint64_t served_turn; /* the last turn in which one of them did not have to wait any more */
        } lanes[2];                   /* of small requests, and of larger ones */
        Deferred serve;
        size_t held;
        Deferred relieve;
        char why[160]; /* of the refusal that is being made */
        Text out;      /* where each answer is put together */
        uint64_t date_sec;
        char date[32]; /* of date_sec */
};

/* The request has been answered in full: on to the next, or to the end. */
void http_connection_answered(HttpConnection *c);
/* Due in 'ms' from now, or in 0: nothing is. */
void http_connection_due_in(HttpConnection *c, uint64_t ms);
void http_connection_close(HttpConnection *c);
/* The handler hears, if it has the request, that nobody waits for it any more. */
void http_connection_gone(HttpConnection *c);
/* Counts anew what it holds. Cuts nobody at once: whoever has to go, goes from the loop. */
void http_connection_count(HttpConnection *c);
void http_connection_begin(HttpConnection *c); /* ready for the next request */
void http_connection_init(HttpConnection *c);  /* of a new one: parser, timer, events */
/* Takes it off its server, which forgets it. */
void http_connection_unlink(HttpConnection *c);
/* Its request is complete. True: the handler gets it now; false: in one of the next turns, by
 * http_connection_handle(). */
bool http_server_admit(HttpConnection *c);
void http_connection_handle(HttpConnection *c);
/* Answers what is not a request, and closes. 'why' NULL: the status alone. */
void http_refuse(HttpConnection *c, unsigned status, const char *why);
/* The same for a stream that gets no connection. */
void http_refuse_stream(HttpServer *server, Stream *stream, void *door, unsigned status, const char *why);
