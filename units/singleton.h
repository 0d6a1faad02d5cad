/* Singletons: services of which at most one process runs in the cluster, at the price of availability
 * (Singleton=yes).
 *
 * The host that runs one renews a lease: it is valid for a time from the request on, read on the clock that
 * also runs while the host is suspended, if a majority confirmed the leader after the request. A guard unit
 * runs while the lease is valid, and the singleton is bound to it, so that systemd stops the singleton even
 * if fleetd hangs. The leader places the singleton on another machine after the longest time that this may
 * take: lease, watchdog of the guard, and the timeouts of the stop, with a reserve for clocks that differ. */
#pragma once

#include "units/name.h"
#include "units/unit_file.h"

enum {
        SINGLETON_NAME_MAX = 200, /* bytes of the name of a singleton: the guard's contains it */
        SINGLETON_LEASE_MS = 10000,
        SINGLETON_LEASE_MIN_MS = 2000,
        SINGLETON_LEASE_MAX_MS = 300000,
        SINGLETON_WATCHDOG_MS = 5000, /* of the guard, which sends a sign each second */
        SINGLETON_STOP_MS = 90000,    /* TimeoutStopSec= of a singleton without one */
        SINGLETON_STOP_MAX_MS = 600000,
};

/* Return the lease of a cluster with this setting in ms; 0: the default. */
uint64_t singleton_lease_ms(uint64_t setting_ms);

/* Return how long the stop of the service may take in ms, up to SINGLETON_STOP_MAX_MS: TimeoutStopSec= for
 * each ExecStop= and ExecStopPost=, and before SIGKILL. *ret_timeout_ms (may be NULL): TimeoutStopSec=; 0:
 * not set. Values that singleton_check() rejects count as the maximum.
 *
 * Source: systemd.service(5). */
uint64_t singleton_stop_ms(const UnitFile *file, uint64_t *ret_timeout_ms);

/* Return after which time without its host the process of a singleton has ended, in ms. */
uint64_t singleton_hold_ms(const UnitFile *file, uint64_t lease_ms);

/* Reject a unit that is no service, or whose stop may last, or may leave processes. -EINVAL. */
int singleton_check(const char *name, const UnitFile *file, Error *err);
