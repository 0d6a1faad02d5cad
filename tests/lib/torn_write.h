/* What a power cut leaves of a write that was not synced: each sector of 512 bytes is there or not. */
#pragma once

#include "base/clock.h"
#include "base/memory.h"

enum { DISK_SECTOR = 512 };

/* Copy each sector of 'from' to 'file' + 'offset' with a chance of 'percent'. Return the offset in the file
 * where the last of them ends; 0: none was copied. */
static inline uint64_t torn_write(uint8_t *file, const uint8_t *from, size_t size, uint64_t offset,
                                  Random *random, unsigned percent) {
        uint64_t end = 0;

        for (size_t at = 0, part; at < size; at += part) {
                part = MIN(DISK_SECTOR - (offset + at) % DISK_SECTOR, size - at);
                if (random_below(random, 100) >= percent)
                        continue;
                memcpy(file + offset + at, from + at, part);
                end = offset + at + part;
        }
        return end;
}
