/* Memory and CPU of units and machines. Pure.
 *
 * Whole MiB and percent of one core, rounded up and limited to UINT32_MAX: a sum of 64 bits cannot overflow.
 */
#pragma once

#include "units/unit_file.h"

typedef struct Resources {
        uint32_t memory_mib, cpu_percent;
} Resources;

extern const Resources resources_default; /* the size of a unit of which nothing is declared */

static inline bool resources_are_set(Resources r) {
        return r.memory_mib > 0 || r.cpu_percent > 0;
}

static inline bool resources_equal(Resources a, Resources b) {
        return a.memory_mib == b.memory_mib && a.cpu_percent == b.cpu_percent;
}

enum {
        MEMORY_REQUEST_MAX_MIB = 16 << 20, /* of MemoryRequest=: 16 TiB */
        CPU_REQUEST_MAX_PERCENT = 100000,  /* of CPURequest= */
};

/* Parse a size, base 1024: "300M" or "1.5G" as systemd does; of podman "300m", "1.5gb" and "2GiB", too. A
 * plain number is in bytes. 0, or -EINVAL for other texts, also for "infinity" and percentages. */
int resources_parse_memory(const char *s, bool podman, uint32_t *ret_mib);

/* Append "1.2G" or "300M" of MiB, or "80%", rounded down. */
void resources_append(Text *t, uint64_t n, bool memory);

/* Parse a percentage of one core: "50%" or "12.5%". 0 or -EINVAL. */
int resources_parse_percent(const char *s, uint32_t *ret_percent);

/* Set *ret to what the choice of a machine counts for a unit: the requests, otherwise what the file's
 * settings of systemd and podman say, otherwise a default. Neither member is 0. Set *ret_max_mib
 * to MemoryMax=; 0: there is none. 'name' NULL: of a unit of any type.
 *
 * As systemd does, of an option the last valid value counts, and an empty one resets. "infinity" and a
 * percentage of the memory count as none. -ENOMEM. */
int resources_of_file(const char *name, const UnitFile *file, Resources request, Resources *ret,
                      uint32_t *ret_max_mib);
