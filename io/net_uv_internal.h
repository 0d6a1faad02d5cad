/* What the real network's streams and the doors that make them know of each other. */
#pragma once

#include <netinet/in.h>
#include <sys/un.h>
#include <uv.h>

#include "base/memory.h"
#include "io/loop_uv.h"
#include "io/stream.h"

typedef struct Connecting Connecting;
typedef struct UvStream UvStream;

typedef struct UvNetwork {
        Network base;
        UvStream *streams; /* all that are open */
} UvNetwork;

struct UvStream {
        Stream base;
        UvLoop *loop;
        UvNetwork *net; /* NULL once it is gone */
        UvStream *next, *prev;
        Connecting *connecting; /* until connected */
        Timer *linger;          /* set while only the other side's FIN is awaited */
        int error;              /* why it ends */
        bool finishing, closing, saw_end, reading;
        bool is_tcp, probed;
        union {
                uv_handle_t handle;
                uv_stream_t stream;
                uv_tcp_t tcp;
                uv_pipe_t pipe;
        } uv;
};

typedef union Address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
} Address;

/* Not connected yet; NULL: out of memory. */
UvStream *uv_stream_new(UvLoop *loop, bool is_tcp);
/* From now on it is one of the network's, and knows its addresses. */
void uv_stream_connected(UvStream *s, UvNetwork *net);
/* Its owner hears of it from libuv's callback. */
void uv_stream_end(UvStream *s, int error);
