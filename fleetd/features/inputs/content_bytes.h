/* Contents of units as bytes: an answer to an attached host that has asked a replica (resolver_call.c), and
 * the copy on the disk from which the files in memory are made again in a boot (input_folder.c).
 *
 *   content   string digest; credentials, variables, files: varint n, and n of string name, blob value
 *   answer    u8 status, and with INPUTS_RESOLVED: u64 index, string problem, content
 *   copy      u8 version 1, u32 CRC-32C of what follows, u64 number, u64 version of the folder, content, of
 *             which credentials have no values, and the only variable is the text of the environment file
 *
 * Pure. The bytes may be any; of what is read, each name is that of a credential, of a variable, or of a file
 * below a folder. */
#pragma once

#include "base/bytes.h"
#include "fleetd/features/inputs/inputs_internal.h"

enum {
        CONTENT_BYTES_MAX = 4 * 1024 * 1024, /* of an answer or copy of the largest content */
        INPUTS_PART_HEAD = 4,
        INPUTS_PART_MAX = 4096 - INPUTS_PART_HEAD, /* bytes of an answer in one frame */
};

typedef enum InputsStatus {
        INPUTS_RESOLVED,
        INPUTS_BEHIND,     /* the replica has not reached the index, or has much to do */
        INPUTS_UNASSIGNED, /* the host does not have this unit with this text */
        INPUTS_NO_KEY,     /* the replica cannot open a secret */
        _INPUTS_STATUS_MAX,
} InputsStatus;

/* Write an answer; 'resolved' is used with INPUTS_RESOLVED only. The memory is reserved before: no copy of a
 * value is left in memory that grew. */
void inputs_answer_write(InputsStatus status, const Resolved *resolved, Writer *w);
/* 0, -EBADMSG or -ENOMEM. With INPUTS_RESOLVED, the values are borrowed from 'bytes', and the caller calls
 * content_done(). */
int inputs_answer_read(const void *bytes, size_t size, InputsStatus *ret_status, Resolved *ret);

/* What a copy has beside the content. */
typedef struct InputCopy {
        uint64_t number;  /* of the content */
        uint64_t version; /* N of its folder "vN" */
        Content content;
} InputCopy;

void input_copy_write(const InputCopy *copy, Writer *w);
/* 0; -ENOMEM; -EBADMSG: it is damaged, or a name is invalid. The values are borrowed from 'bytes', and the
 * caller calls content_done(). */
int input_copy_read(const void *bytes, size_t size, InputCopy *ret);
