/* What this host has for units: its memory and CPU without Reserve=. */
#pragma once

#include "base/error.h"
#include "units/resources.h"

/* Reserve= of fleetd.conf. All 0: the default. */
typedef struct Reserve {
        uint32_t memory_mib, memory_percent; /* of these, one at most is set */
        uint32_t cpu_percent;                /* of one core */
        bool memory;                         /* is set, also to 0 */
} Reserve;

/* Parse "memory:2G cpu:50%"; "" is the default; 'reserve' is a Reserve. 0 or -EINVAL with a message. */
int capacity_parse_reserve(const char *value, void *reserve, Error *err);

/* Return what is left of the physical size for units, the memory rounded down by at most 1.6 %, so that
 * machines of one model are equal. A member is 0 if nothing is left. */
Resources capacity_without(Resources physical, const Reserve *reserve);

/* Read the physical size below 'root' (a descriptor of /): memory within the limits of the control groups of
 * process 1, without huge pages; and 'cpus' that process 1 may use, within the limit of the visible root
 * group. 0 or a negative errno. */
int capacity_read(int root, unsigned cpus, Resources *ret);

/* The same of this host. */
int capacity_measure(Resources *ret_physical);
