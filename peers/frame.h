/* The bytes of a session: frames, hello, refusal. Pure; whatever comes in is checked here.
 *
 * A frame is u32 size of the payload, u8 type, payload; little-endian. The hello begins with a magic number
 * and the protocol versions its sender speaks; bytes behind the fields that we know come from a newer daemon,
 * and are skipped. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "peers/peers.h"

enum {
        FRAME_HEAD = 5,
        FRAME_HANDSHAKE_MAX = 512, /* payload of a hello: all that a stranger can make us keep */
        FRAME_REFUSED_MAX = 512,
        FRAME_PROTOCOL = 1,        /* the version we speak */
        FRAME_PROTOCOL_OLDEST = 1, /* the oldest one that we understand */
};

typedef struct Frame {
        PeerFrame type;         /* any byte: from a newer daemon it may be one that we do not know */
        const uint8_t *payload; /* borrowed from the bytes it was read from */
        size_t size;
} Frame;

void frame_head(uint8_t head[FRAME_HEAD], PeerFrame type, size_t size);

/* Takes the first frame off 'bytes'. Returns how many bytes it took, 0 when it is not whole yet, -EMSGSIZE as
 * soon as the head says that its payload is larger than 'max'. */
ssize_t frame_take(const uint8_t *bytes, size_t size, size_t max, Frame *ret);

void handshake_write(Writer *w, const PeerHandshake *hello);
/* -EBADMSG (not a hello), -EPROTONOSUPPORT (no common version), each with a sentence. What comes back has
 * printable strings and a machine id of 32 hex digits. */
int handshake_read(const void *bytes, size_t size, PeerHandshake *ret, Error *err);

/* Why a session was refused: a cause to act on, and a sentence to show. */
typedef enum Refusal {
        REFUSAL_OTHER,
        REFUSAL_VERSION,
        REFUSAL_SELF,
        REFUSAL_CLONE,
        REFUSAL_CLUSTER,
        REFUSAL_LINEAGE,
        REFUSAL_ADMISSION,
        _REFUSAL_MAX,
} Refusal;

void refusal_write(Writer *w, Refusal cause, const char *sentence);
/* An unknown cause reads as REFUSAL_OTHER; the sentence is made printable. -EBADMSG. */
int refusal_read(const void *bytes, size_t size, Refusal *ret, char ret_message[static FRAME_REFUSED_MAX]);

/* Copies at most ret_size - 1 bytes, with '?' for everything that is not printable ASCII or UTF-8's upper
 * half. */
void printable_copy(char *ret, size_t ret_size, const void *bytes, size_t size);
