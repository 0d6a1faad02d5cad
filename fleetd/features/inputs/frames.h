/* The frames by which an attached host asks a replica for the content of a unit, as bytes. Pure; the bytes
 * may come from any host.
 *
 * An answer travels in parts, so that frames of a higher priority do not wait for all of it. */
#pragma once

#include "base/bytes.h"
#include "fleetd/features/inputs/inputs_internal.h"

enum {
        INPUTS_PART_HEAD = 9,
        INPUTS_PART_MAX = 4096 - INPUTS_PART_HEAD, /* bytes: sessions wipe the memory of small frames */
        INPUTS_ANSWER_MAX = 12 * 1024 * 1024,      /* bytes; names of files have up to KV_KEY_MAX each */
};

/* PEER_INPUTS. The strings are owned if the request was read. */
typedef struct InputsRequest {
        uint32_t number; /* of the session's host */
        char *unit;
        char *hash;     /* of the assigned text */
        uint64_t index; /* of the store, at least */
} InputsRequest;

void inputs_request_write(const InputsRequest *request, Writer *w);
/* 0, -EBADMSG or -ENOMEM. The caller frees what *ret owns, also after a failure. */
int inputs_request_read(const void *bytes, size_t size, InputsRequest *ret);
void inputs_request_done(InputsRequest *request);

/* PEER_INPUTS_PART. */
typedef struct InputsPart {
        uint32_t number;
        uint32_t left; /* bytes of the answer that follow in further parts */
        KvBytes bytes; /* borrowed; at least one */
} InputsPart;

void inputs_part_write(const InputsPart *part, Writer *w);
int inputs_part_read(const void *bytes, size_t size, InputsPart *ret); /* 0 or -EBADMSG */

typedef enum InputsStatus {
        INPUTS_RESOLVED,
        INPUTS_BEHIND,     /* the replica has not reached the index, or has much to do */
        INPUTS_UNASSIGNED, /* the host does not have this unit with this text */
        INPUTS_NO_KEY,     /* the replica cannot open a secret */
        _INPUTS_STATUS_MAX,
} InputsStatus;

/* Write an answer; 'resolved' with INPUTS_RESOLVED only. The memory is reserved before: no copy of a value is
 * left in memory that grew. */
void inputs_answer_write(InputsStatus status, const Resolved *resolved, Writer *w);
/* Read the parts of an answer together. 0, -EBADMSG or -ENOMEM. With INPUTS_RESOLVED, the values are borrowed
 * from 'bytes', and the caller calls content_done(). Each name is that of a variable, or of a file below its
 * folder. */
int inputs_answer_read(const void *bytes, size_t size, InputsStatus *ret_status, Resolved *ret);
