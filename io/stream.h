/* Bytes in both directions, with back-pressure: a TCP connection, a unix socket, TLS over either, a simulated
 * link.
 *
 * Stream is an interface. Its events are called from the loop, never from inside stream_write() or the
 * functions that create a stream. A stream that fails closes itself. 'on_close' is called exactly once, also
 * after stream_close(); then the stream is freed. No other event is called after stream_close(). */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "base/sizes.h"
#include "io/loop.h"

typedef struct Stream Stream;

typedef struct StreamEvents {
        /* 'bytes' are borrowed for the call. size 0: the peer sends no more (FIN). */
        void (*on_read)(void *userdata, const void *bytes, size_t size);
        /* All queued bytes were sent; called only after stream_held() was above 0. */
        void (*on_drain)(void *userdata);
        /* The end. 'error' is 0 after an orderly one, otherwise a negative errno. 'reason' is borrowed for
         * the call. */
        void (*on_close)(void *userdata, int error, const char *reason);
        const char *name; /* in the figures of a turn; static */
} StreamEvents;

const char *stream_events_name(const Stream *s); /* "stream" by default */
void stream_set_events(Stream *s, const StreamEvents *events, void *userdata);

/* Queue a copy of the bytes. Does not block, and calls no event. 0, -ENOMEM, or -EPIPE while closing. The
 * caller bounds its queue by means of stream_held(). */
int stream_write(Stream *s, const void *bytes, size_t size);

/* Bytes that several streams send, with a reference count. */
typedef struct Shared {
        unsigned refs;
        size_t size;
        uint8_t bytes[];
} Shared;

Shared *shared_new(const void *bytes, size_t size); /* one reference; NULL without memory */
Shared *shared_ref(Shared *shared);
Shared *shared_unref(Shared *shared);               /* returns NULL */
int stream_write_shared(Stream *s, Shared *shared); /* takes its own reference */

/* Return the bytes that the kernel has not accepted yet; decreases with each piece of a large write. */
size_t stream_queued(const Stream *s);
/* Return the bytes in memory; those of one write are freed when the kernel has accepted all of them. */
size_t stream_held(const Stream *s);
/* Pause or resume reading; a new stream is paused. */
void stream_pause(Stream *s, bool paused);
/* Drop queued bytes (TCP then sends a reset), and close; on_close follows. */
void stream_close(Stream *s);
/* Send queued bytes and FIN, wait up to 2 s for the peer's FIN (otherwise a reset could overtake the last
 * bytes), then close. No further bytes are read. The caller bounds the time of sending, by stream_close(). */
void stream_finish(Stream *s);

/* Return the ms since the last TCP acknowledgement of the peer's kernel; UINT64_MAX if unknown (unix
 * sockets). The first call changes the interval of keep-alive probes from 15 s to 1 s (five unanswered ones
 * end the stream); call it early where it matters. */
uint64_t stream_kernel_silent_ms(const Stream *s);

/* Return the user of the peer of a unix socket (SO_PEERCRED). -ENOTSUP: another kind of stream. */
int stream_peer_uid(const Stream *s, uid_t *ret);
/* Return the groups of that user, its primary one included, as they were when it connected. The caller frees
 * them. -ENOTSUP: another kind of stream; -ENOMEM. */
int stream_peer_groups(const Stream *s, gid_t **ret, size_t *ret_n);

/* Return the address of the peer, "10.0.0.1:2380"; "" for unix sockets. Borrowed from the stream. */
const char *stream_peer_address(const Stream *s);

/* -- Network: connects and listens. Two implementations: net_uv and the simulator's -- */

typedef struct Network Network;
typedef struct Listener Listener;

typedef void StreamAccepted(void *userdata, Stream *s);
typedef void StreamConnected(void *userdata, Stream *s, int error);

typedef struct NetworkOps {
        /* Connect to "ADDR:PORT". Exactly one call of 'done' follows: with a paused stream, or with NULL and
         * a negative errno. -ECONNREFUSED: the kernel of the host runs. -ETIMEDOUT: after 'timeout_ms'.
         * Return a handle, which is valid until 'done', or NULL with *ret_error set; 'done' is not called
         * then. */
        void *(*connect)(Network *net, const char *address, uint64_t timeout_ms, StreamConnected *done,
                         void *userdata, int *ret_error);
        void (*cancel)(Network *net, void *handle); /* 'done' is not called any more */
        int (*listen)(Network *net, const char *address, StreamAccepted *accepted, void *userdata,
                      Listener **ret, Error *err);
        void (*unlisten)(Network *net, Listener *listener);
} NetworkOps;

struct Network {
        const NetworkOps *ops;
        Loop *loop; /* borrowed */
};

/* The real network. Addresses: "ADDR:PORT", "[ADDR6]:PORT", or "/path" for a unix socket (mode 0660; a socket
 * without listener is replaced; -EADDRINUSE: it has a listener). Accepts at most 64 connections per turn. */
int net_uv_new(Network **ret, Loop *loop);
/* Listen on a bound socket, and take it, also on failure. */
int net_uv_listen_fd(Network *net, int fd, StreamAccepted *accepted, void *userdata, Listener **ret);
/* Close the streams that are still open, for example waiting for a FIN; on_close follows. The caller has
 * closed listeners and cancelled connects. Return NULL. */
Network *net_uv_free(Network *net);

/* -- For implementations -- */

typedef struct StreamOps {
        /* 'shared' NULL: copy the bytes. */
        int (*write)(Stream *s, const void *bytes, size_t size, Shared *shared);
        void (*pause)(Stream *s, bool paused);
        void (*close)(Stream *s);
        void (*finish)(Stream *s);
        size_t (*queued)(const Stream *s);             /* NULL: equal to 'held' */
        uint64_t (*kernel_silent_ms)(const Stream *s); /* NULL: that of 'inner', or unknown */
        int (*peer_uid)(const Stream *s, uid_t *ret);  /* likewise */
        int (*peer_groups)(const Stream *s, gid_t **ret, size_t *ret_n); /* likewise */
} StreamOps;

struct Stream {
        const StreamOps *ops;
        const StreamEvents *events; /* NULL until set */
        void *userdata;
        size_t held;
        Stream *inner; /* below this one, or NULL: its held and queued bytes count, too */
        char peer_address[ADDRESS_SIZE];
};
