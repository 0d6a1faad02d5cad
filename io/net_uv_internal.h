/* Shared by the streams of the real network (stream_uv.c) and its listeners and connects (net_uv.c). */
#pragma once

#include <netinet/in.h>
#include <sys/un.h>
#include <uv.h>

#include "io/loop_uv.h"
#include "io/stream.h"

typedef struct Connecting Connecting;
typedef struct UvStream UvStream;

typedef struct UvNetwork {
        Network base;
        LIST_HEAD(, UvStream) streams; /* open ones */
} UvNetwork;

typedef union UvHandle {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
} UvHandle;

struct UvStream {
        Stream base;
        UvLoop *loop;
        UvNetwork *net; /* NULL when the stream is not in its list */
        LIST_ENTRY(UvStream) streams;
        Connecting *connecting; /* until connected */
        Timer *linger;          /* set while the stream only waits for the peer's FIN */
        int error;              /* reason of the end */
        bool finishing, closing, saw_end, reading;
        bool is_tcp, probed;
        UvHandle uv;
};

typedef union Address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
} Address;

/* Initialize a handle without a socket. */
void uv_handle_start(UvHandle *uv, UvLoop *loop, bool is_tcp, void *owner);
/* Return a stream that is not connected yet, or NULL without memory. */
UvStream *uv_stream_new(UvLoop *loop, bool is_tcp);
/* Add a connected stream to the network, and read the address of its peer. */
void uv_stream_connected(UvStream *s, UvNetwork *net);
/* End a stream; on_close is called from libuv's close callback. */
void uv_stream_end(UvStream *s, int error);
