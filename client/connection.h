/* Requests to a fleetd: over its socket or TCP, one after the other, or as a stream of lines. The only home
 * of curl.h.
 *
 * Errors are sentences with the next step. -EREMOTEIO: fleetd answered, and its answer is an error; all
 * others: there was no answer. */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

enum {
        REPLY_SIZE_MAX = 16 * 1024 * 1024,
        LINE_SIZE_MAX = 4 * 1024 * 1024
}; /* bytes of an answer, of a stream's line */

typedef struct Connection Connection;

typedef struct ConnectionSettings {
        const char *endpoint; /* unix:///PATH, file:///PATH, http://HOST:PORT, https://HOST:PORT */
        uint64_t read_ms;     /* what a question may take */
        uint64_t write_ms;    /* what a change may take: fleetd itself says after some seconds that it has no
                                 quorum */
        const char *ca_file, *cert_file, *key_file; /* "" for none */
        bool debug;                                 /* requests on stderr */
} ConnectionSettings;

/* Nothing is sent yet. -EINVAL for an endpoint that is none, in fleet's words. Strings are copied. */
int connection_new(const ConnectionSettings *settings, Connection **ret, Error *err);
Connection *connection_free(Connection *c); /* returns NULL */
DEFINE_CLEANUP(Connection *, connection_free)
#define _cleanup_connection_ _cleanup_(connection_freep)

typedef struct Reply {
        long status; /* HTTP's, 0: none came */
        Text body;
        uint64_t index; /* X-Etcd-Index, 0: absent */
} Reply;

void reply_done(Reply *reply);
#define _cleanup_reply_ _cleanup_(reply_done)

/* One request; 'body' may be NULL, its type is 'type'. 0 for any answer, also an error's: ask reply_check().
 */
int connection_request(Connection *c, const char *method, const char *path, const char *type,
                       const char *body, Reply *ret, Error *err);

/* From now on no request takes longer than 'limit_ms', whatever the settings allow; 0: as the settings say.
 */
void connection_limit(Connection *c, uint64_t limit_ms);

/* From now on a request for which one of these signals, which are blocked, is pending waits 3 s longer for
 * its answer at most: -EINTR. The signal stays pending. NULL: as before. Borrowed. */
void connection_interrupt(Connection *c, const sigset_t *signals);

/* Is it a success? -EREMOTEIO with "googleapi: Error 404: unit does not exist" otherwise, the words that
 * fleetctl always had for what the API says. */
int reply_check(const Reply *reply, Error *err);

/* A line of a stream, terminated, without its newline. A negative errno ends the stream and is what the
 * caller gets. */
typedef int (*StreamLine)(void *userdata, const char *line, size_t size);

typedef struct Stream Stream;

/* Asks for 'path' and goes on; lines come during stream_wait(). */
int stream_new(Connection *c, const char *path, StreamLine line, void *userdata, Stream **ret, Error *err);
Stream *stream_free(Stream *s); /* returns NULL */
DEFINE_CLEANUP(Stream *, stream_free)
#define _cleanup_stream_ _cleanup_(stream_freep)

/* Waits for lines, at most 'timeout_ms', and hands them to the callback. 1: there were some; 0: the time is
 * over; -ENODATA: the stream has ended; others as a request's. */
int stream_wait(Stream *s, uint64_t timeout_ms, Error *err);

/* What came so far of its head, and of the body of an error. Borrowed. */
const Reply *stream_reply(const Stream *s);

/* All of a stream, to its end: 0, what the callback returned, or an error. */
int connection_follow(Connection *c, const char *method, const char *path, StreamLine line, void *userdata,
                      Error *err);

/* Appends 's' as a part of a path or of a form; slashes stay where 'keep_slashes' says so. */
void append_escaped(Text *t, const char *s, bool keep_slashes);
void append_escaped_bytes(Text *t, const void *bytes, size_t size, bool keep_slashes);
