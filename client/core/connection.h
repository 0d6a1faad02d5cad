/* Requests to a fleetd over a unix socket or TCP: one after the other, or as a stream of lines. connection.c
 * is the only file that includes curl.h.
 *
 * Error messages name the next step. -EREMOTEIO: the answer of fleetd is an error. All other errors: no
 * answer. */
#pragma once

#include <signal.h>

#include "base/error.h"
#include "base/text.h"

enum {
        REPLY_SIZE_MAX = 16 * 1024 * 1024, /* bytes of an answer */
        HTTP_NOT_FOUND = 404,
        LINE_SIZE_MAX = 4 * 1024 * 1024, /* bytes of one line of a stream */
};

typedef struct Connection Connection;

typedef struct ConnectionSettings {
        const char *endpoint; /* unix:///PATH, file:///PATH, http://HOST:PORT, https://HOST:PORT */
        uint64_t read_ms;     /* timeout of GET requests */
        uint64_t write_ms; /* timeout of changes: fleetd itself reports a missing quorum after some seconds */
        const char *ca_file, *cert_file, *key_file; /* NULL or "" for none */
        bool debug;                                 /* print requests on stderr */
        bool plain; /* errors of requests without "googleapi: Error 409: ": the verb is none of fleet */
} ConnectionSettings;

/* Prepare a connection without sending anything. The names of files are borrowed. -EINVAL for an invalid
 * endpoint, with the message of fleet. */
int connection_new(const ConnectionSettings *settings, Connection **ret, Error *err);
Connection *connection_free(Connection *c); /* returns NULL */
DEFINE_CLEANUP(Connection *, connection_free)
#define _cleanup_connection_ _cleanup_(connection_freep)

typedef struct Reply {
        long status; /* of HTTP; 0: no answer */
        Text body;
        uint64_t index;   /* X-Etcd-Index, 0: absent */
        uint64_t stale_s; /* X-Fleet-Stale: the time without a leader, in seconds; 0: absent */
        bool plain;       /* ConnectionSettings.plain */
} Reply;

void reply_done(Reply *reply);
#define _cleanup_reply_ _cleanup_(reply_done)

#define CONTENT_JSON    "Content-Type: application/json"
#define CONTENT_FORM    "Content-Type: application/x-www-form-urlencoded"

/* Return whether the last request was rejected for lack of a right. */
bool connection_is_denied(const Connection *c);
/* Return whether a request has failed without an answer: fleetd restarts, or cannot be reached. */
bool connection_is_lost(int r);
/* Return the longest time without a leader that an answer has reported, in seconds; 0: none has. */
uint64_t connection_stale_s(const Connection *c);
/* Return whether the last answer was of a daemon without a leader. */
bool connection_is_stale(const Connection *c);

/* Send one request. 'path' NULL is -ENOMEM. 'body' of the type CONTENT_* may be NULL or empty. Return 0 for
 * any answer, also for an error answer: see reply_check(). */
int connection_request(Connection *c, const char *method, const char *path, const char *type,
                       const Text *body, Reply *ret, Error *err);

/* Send a GET request, and write the body of a success to 'fd', as it arrives: it may be of any size, and
 * takes any time while at least one byte arrives in 'silence_ms'. -EFBIG above 'limit' bytes. *ret is as that
 * of connection_request(), without that body. */
int connection_download(Connection *c, const char *path, int fd, uint64_t limit, uint64_t silence_ms,
                        Reply *ret, Error *err);

/* Limit later requests to 'limit_ms' below their timeout; 0 removes the limit. */
void connection_limit(Connection *c, uint64_t limit_ms);

/* Interrupt later requests: after one of these blocked signals becomes pending, a request waits for its
 * answer for 3 s at most, then fails with -EINTR. The signal stays pending. NULL removes the signals.
 * Borrowed. */
void connection_interrupt(Connection *c, const sigset_t *signals);

#define NEXT_WITHOUT_LEADER "fleetctl status; if the majority is lost: fleetctl help recovery"

/* Return whether a daemon without a leader has answered an error that is not about the request. */
bool reply_lacks_leader(const Reply *reply);
/* Return 0 for a success, else -EREMOTEIO with the message of fleet's fleetctl: "googleapi: Error 404: unit
 * does not exist"; with ConnectionSettings.plain "unit does not exist", if the status is below 500. */
int reply_check(const Reply *reply, Error *err);

/* The parts of such a message, perhaps behind the context that callers have put in front. Borrowed. */
typedef struct AnswerError {
        long status;      /* of HTTP */
        const char *mark; /* "googleapi: Error 404: " */
        const char *text; /* of the daemon */
} AnswerError;

/* Return false if the message of a failure with 'r' has no mark. */
bool answer_error_read(int r, const char *message, AnswerError *ret);
/* Receive a line of a stream: terminated, without its newline. A negative result ends the stream and is
 * returned to its reader. */
typedef int (*StreamLine)(void *userdata, const char *line, size_t size);

typedef struct Stream Stream;

/* Start a request without a body. Lines arrive during stream_wait(). 'path' NULL is -ENOMEM. */
int stream_new(Connection *c, const char *method, const char *path, StreamLine line, void *userdata,
               Stream **ret, Error *err);
long stream_status(const Stream *s); /* of HTTP; 0: the answer has not begun */
/* Return the header, and the body of an error answer, also after an error. The caller frees it. */
Reply stream_take_reply(Stream *s);
Stream *stream_free(Stream *s); /* returns NULL */
DEFINE_CLEANUP(Stream *, stream_free)
#define _cleanup_stream_ _cleanup_(stream_freep)

/* Wait for lines for at most 'timeout_ms' and pass them to the callback. Return 1 after some lines, 0 after
 * the timeout, -ENODATA at the end of the stream; other errors as for a request. */
int stream_wait(Stream *s, uint64_t timeout_ms, Error *err);

/* Read a stream to its end. Return 0, the result of the callback, or an error. 'path' NULL is -ENOMEM.
 * *ret_reply (may be NULL) is the header, and the body of an error answer; it is set also after an error. */
int connection_follow(Connection *c, const char *method, const char *path, StreamLine line, void *userdata,
                      Reply *ret_reply, Error *err);

/* Append 's' percent-encoded, for a path or a form. */
void append_escaped(Text *t, const char *s, bool keep_slashes);
void append_escaped_bytes(Text *t, const void *bytes, size_t size, bool keep_slashes);
