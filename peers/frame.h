/* Frames of a session as bytes. Pure; the bytes may come from any host.
 *
 * A frame is u32 size of the payload, u8 type, payload; little-endian. frames.h lists
 * the types. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "peers/frames.h"

enum { FRAME_HEADER_SIZE = 5 };

typedef struct Frame {
        PeerFrame type;         /* any value: a newer daemon may send unknown types */
        const uint8_t *payload; /* borrowed from the bytes that contain the frame */
        size_t size;
} Frame;

void frame_header(uint8_t ret[static FRAME_HEADER_SIZE], PeerFrame type, size_t size);

/* Read the first frame of 'bytes'. Return the size of the frame in bytes, or 0 while it is incomplete.
 * -EMSGSIZE: its header announces a payload of more than 'max' bytes. */
ssize_t frame_take(const uint8_t *bytes, size_t size, size_t max, Frame *ret);
