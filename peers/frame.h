/* Frames of a session as bytes. Pure; the bytes may come from any host.
 *
 * A frame is u32 size of the payload, u8 type, payload; little-endian. The components own the numbers of
 * their types (docs/FORMATS.md lists all); the numbers below belong to the session itself. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
        FRAME_HEADER_SIZE = 5,
        PEER_FRAME_TYPES = 64, /* types are less than this; frames of other types are dropped */
};

/* The number of a frame type on the wire. */
typedef uint8_t PeerFrame;

enum {
        PEER_HANDSHAKE = 1,
        PEER_REJECTED,
        PEER_PING,
        PEER_PONG,
        PEER_BYE,
        PEER_SESSION_TYPES, /* the first number that components may own */
};

typedef struct Frame {
        PeerFrame type;         /* any value: a newer daemon may send unknown types */
        const uint8_t *payload; /* borrowed from the bytes that contain the frame */
        size_t size;
} Frame;

void frame_header(uint8_t ret[static FRAME_HEADER_SIZE], PeerFrame type, size_t size);

/* Read the first frame of 'bytes'. Return the size of the frame in bytes, or 0 while it is incomplete.
 * -EMSGSIZE: its header announces a payload of more than 'max' bytes. */
ssize_t frame_take(const uint8_t *bytes, size_t size, size_t max, Frame *ret);
