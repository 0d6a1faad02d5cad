/* Bytes both ways, with back-pressure: a TCP connection, a unix socket, TLS over either, a simulated link.
 *
 * Stream is an interface. Its events are called from the loop, never from inside stream_write() or
 * stream_open functions. After 'on_close' (exactly once, also after stream_close()) nothing more is called
 * and the stream is gone; a stream that fails closes itself. Between stream_close() and 'on_close' nothing
 * else is called. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/sizes.h"
#include "io/loop.h"

typedef struct Stream Stream;

typedef struct StreamEvents {
        /* 'bytes' are borrowed for the call. size 0: the other side sends no more (its FIN). */
        void (*on_read)(void *userdata, const void *bytes, size_t size);
        /* Everything written so far has left; called only after stream_held() had been above zero. */
        void (*on_drain)(void *userdata);
        /* The end: 0 after an orderly one, else a negative errno; 'reason' one sentence, borrowed for the
         * call. */
        void (*on_close)(void *userdata, int error, const char *reason);
        const char *name; /* in the figures of a turn; static */
} StreamEvents;

const char *stream_events_name(const Stream *s); /* "stream" where nobody named them */
void stream_set_events(Stream *s, const StreamEvents *events, void *userdata);

/* Queues a copy of the bytes. Never blocks, never calls back. 0, -ENOMEM, or -EPIPE once closing. The caller
 * bounds what it queues by looking at stream_held(). */
int stream_write(Stream *s, const void *bytes, size_t size);

/* Bytes that more than one stream sends: counted, freed with the last holder. */
typedef struct Shared {
        unsigned refs;
        size_t size;
        uint8_t bytes[];
} Shared;

Shared *shared_new(const void *bytes, size_t size); /* one reference; NULL without memory */
Shared *shared_ref(Shared *shared);
Shared *shared_unref(Shared *shared);               /* returns NULL */
int stream_write_shared(Stream *s, Shared *shared); /* takes a reference of its own */

size_t stream_queued(
        const Stream *s); /* bytes not yet taken by the kernel: falls with each piece of a large write */
size_t stream_held(
        const Stream *s); /* bytes in memory: a write's own are freed when the kernel has taken all of it */
void stream_pause(Stream *s, bool paused); /* stop or go on reading; a new stream is paused */
void stream_close(Stream *s); /* drop what is queued (TCP: by a reset then), close; on_close follows */
/* Sends what is queued, says FIN, waits up to 2 s for the other side's FIN (else a reset could overtake the
 * last bytes), then closes. Nothing is read any more. How long the sending may take is for the caller to
 * bound, by stream_close(). */
void stream_finish(Stream *s);

/* How long the other kernel has been silent, in ms, from TCP's own acknowledgements; UINT64_MAX when the
 * stream cannot tell (unix sockets). The first asking turns keep-alive probes from every 15 s to every second
 * when idle (and the stream fails after five unanswered ones), so ask from the beginning where it matters. */
uint64_t stream_kernel_silent_ms(const Stream *s);

/* Who is at the other end of a unix socket (SO_PEERCRED). -ENOTSUP elsewhere. */
int stream_peer_credentials(const Stream *s, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);

/* "10.0.0.1:2380" of the other and of this end; "" for unix sockets. Borrowed from the stream. */
const char *stream_peer_address(const Stream *s);
const char *stream_local_address(const Stream *s);

/* -- Network: who makes streams. Two implementations: net_uv() and the simulator's -- */

typedef struct Network Network;
typedef struct Listener Listener;

typedef struct NetworkOps {
        /* Connects to "ADDR:PORT". Exactly one call of 'done' later: a paused stream, or NULL and a negative
         * errno. -ECONNREFUSED tells that the host's kernel lives. Gives up after 'timeout_ms' (-ETIMEDOUT).
         * Returns a handle for cancelling until 'done' came, or NULL with *ret_error set (then 'done' does
         * not come). */
        void *(*connect)(Network *net, const char *address, uint64_t timeout_ms,
                         void (*done)(void *userdata, Stream *s, int error), void *userdata, int *ret_error);
        void (*cancel)(Network *net, void *handle); /* 'done' will not be called */
        int (*listen)(Network *net, const char *address, void (*accepted)(void *userdata, Stream *s),
                      void *userdata, Listener **ret, Error *err);
        void (*unlisten)(Network *net, Listener *listener);
} NetworkOps;

struct Network {
        const NetworkOps *ops;
        Loop *loop; /* borrowed */
};

/* libuv's. Addresses: "ADDR:PORT", "[ADDR6]:PORT", or "/path" for a unix socket (mode 0660; an old socket
 * that nobody answers is replaced, one that is answered fails with -EADDRINUSE). Accepts at most 64 a turn.
 */
int net_uv_new(Network **ret, Loop *loop);
/* Listeners and connects must have been ended; streams that are still open (waiting for a FIN, say) are
 * closed: on_close follows. Returns NULL. */
Network *net_uv_free(Network *net);
/* Listens on a descriptor that systemd handed over; takes the descriptor, also when it fails. */
int net_uv_listen_fd(Network *net, int fd, void (*accepted)(void *userdata, Stream *s), void *userdata,
                     Listener **ret, Error *err);

/* -- For implementations -- */

typedef struct StreamOps {
        int (*write)(Stream *s, const void *bytes, size_t size,
                     Shared *shared); /* 'shared' NULL: copy the bytes */
        void (*pause)(Stream *s, bool paused);
        void (*close)(Stream *s);
        void (*finish)(Stream *s);
        size_t (*queued)(const Stream *s); /* NULL: all that is held */
        uint64_t (*kernel_silent_ms)(const Stream *s);
        int (*peer_credentials)(const Stream *s, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid);
} StreamOps;

struct Stream {
        const StreamOps *ops;
        const StreamEvents *events; /* NULL until set */
        void *userdata;
        size_t held;
        const Stream
                *inner; /* a stream over another: what that one holds and has queued counts too; else NULL */
        char peer_address[ADDRESS_SIZE], local_address[ADDRESS_SIZE];
};
