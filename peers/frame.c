#include "peers/frame.h"

#include "base/bytes.h"

void frame_header(uint8_t ret[static FRAME_HEADER_SIZE], PeerFrame type, size_t size) {
        for (size_t i = 0; i < 4; i++)
                ret[i] = size >> (8 * i);
        ret[4] = type;
}

ssize_t frame_take(const uint8_t *bytes, size_t size, size_t max, Frame *ret) {
        Reader r = reader_over(bytes, size);
        size_t payload = read_u32(&r);
        unsigned type = read_u8(&r);

        if (r.failed)
                return 0;
        if (payload > max)
                return -EMSGSIZE;
        if (payload > r.left)
                return 0;

        *ret = (Frame) { .type = type, .payload = r.bytes, .size = payload };
        return FRAME_HEADER_SIZE + payload;
}

PeerFrameRule peer_frame_rule(PeerFrame type) {
        switch (type) {
#define RULE(name, number, direction, priority) \
        case number:                            \
                return (PeerFrameRule) { direction, PEER_PRIORITY_##priority };
                PEER_FRAMES(RULE)
        }
        return (PeerFrameRule) {};
}
