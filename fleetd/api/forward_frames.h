/* The frames by which a host without a replica forwards requests of its clients to a replica, as bytes. Pure;
 * the bytes may come from any host.
 *
 * A request travels as its parsed fields, with the principal of its sender; the answer as its status, its
 * fields, and pieces of its body. The host gives credit for the pieces, so that a slow client holds up
 * nothing else. */
#pragma once

#include "base/bytes.h"
#include "fleetd/registry/history.h"
#include "fleetd/registry/principal.h"
#include "fleetd/registry/rights.h"
#include "io/http.h"
#include "peers/frames.h"

enum {
        FORWARD_VERSION = 1,
        FORWARD_METHOD_SIZE = 32,
        FORWARD_PATH_MAX = 16 * 1024,       /* bytes, as a line of HTTP */
        FORWARD_PARAMETERS_MAX = 1024,      /* of one request */
        FORWARD_VALUE_MAX = 64 * 1024,      /* bytes of a name or value of a parameter */
        FORWARD_BODY_MAX = 4 * 1024 * 1024, /* bytes */
        FORWARD_FIELDS_MAX = 10,            /* of an answer */
        FORWARD_FIELD_SIZE = 1024,
        FORWARD_ANSWER_MAX = 64 * 1024 * 1024, /* bytes of an answer that is not a stream */
        FORWARD_CHUNK = 64 * 1024,             /* bytes in a piece, at most */
};

/* The claim of a host about the sender of a request: its listener, and what its own settings state. */
typedef struct ForwardSender {
        Principal principal;
        uint8_t listener; /* ApiListener */
        bool is_operator, reads, writes;
        char user[HISTORY_USER_SIZE]; /* its name, for the history */
        RightList *granted;           /* by LocalRights= of that host; owned */
} ForwardSender;

/* PEER_FORWARD. Texts and bytes are borrowed from the frame, or from the request that is written. */
typedef struct ForwardRequest {
        uint32_t number;         /* of the session's host; not in use */
        uint64_t lineage, bound; /* of the host: the replica has to have applied the bound */
        ForwardSender sender;
        char method[FORWARD_METHOD_SIZE];
        KvBytes path, body;
        char content_type[FORWARD_FIELD_SIZE]; /* "": none */
        uint32_t n_content_types;
        HttpParameters parameters; /* owned, if they were read */
} ForwardRequest;

/* Write the part of the request that is the same for each replica, which follows forward_request_begin(). */
void forward_request_write(const ForwardRequest *request, Writer *w);
void forward_request_begin(uint32_t number, uint64_t lineage, uint64_t bound, Writer *w);
/* 0, -EBADMSG or -ENOMEM. The caller frees what *ret owns. */
int forward_request_read(const void *bytes, size_t size, ForwardRequest *ret);
void forward_request_done(ForwardRequest *request);

/* PEER_FORWARD_HEAD: pieces of the body follow. */
typedef struct ForwardHead {
        uint32_t number;
        uint16_t status;
        bool streams;  /* the size is not known */
        uint64_t size; /* otherwise */
        bool has_type;
        char type[FORWARD_FIELD_SIZE];
        HttpField fields[FORWARD_FIELDS_MAX + 1]; /* ends with a NULL name; borrowed, or from 'texts' */
        char *texts;                              /* owned, if the head was read */
} ForwardHead;

void forward_head_write(const ForwardHead *head, Writer *w);
int forward_head_read(const void *bytes, size_t size, ForwardHead *ret); /* as forward_request_read() */

/* PEER_FORWARD_CHUNK: bytes of the body, borrowed. */
void forward_chunk_write(uint32_t number, const void *bytes, size_t size, Writer *w);
int forward_chunk_read(const void *bytes, size_t size, KvBytes *ret);

/* PEER_FORWARD_END. */
typedef enum ForwardEnd {
        FORWARD_COMPLETE,
        FORWARD_CUT,     /* without an orderly end, for a reason */
        FORWARD_BEHIND,  /* nothing was done: the replica has not reached the bound */
        FORWARD_REFUSED, /* nothing was done: too many requests, no replica, or not of this principal */
        _FORWARD_END_MAX,
} ForwardEnd;

enum { FORWARD_REASON_SIZE = 256 };

typedef struct ForwardEnding {
        uint32_t number;
        ForwardEnd end;
        uint64_t index; /* of the tree that answered */
        char reason[FORWARD_REASON_SIZE];
} ForwardEnding;

void forward_end_write(const ForwardEnding *ending, Writer *w);
int forward_end_read(const void *bytes, size_t size, ForwardEnding *ret);
