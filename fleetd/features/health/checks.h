/* The health checks of this host: when each one is probed.
 *
 * A check is probed each interval, from the end of one probe to the start of the next, and each second until
 * it has passed. Probes start at common points in time, so that many checks wake the daemon seldom. A host
 * starts at most CHECKS_PER_SECOND probes a second, and has at most CHECKS_IN_FLIGHT under way, of which
 * CHECKS_EXEC execute a command. Above these limits all intervals stretch. */
#pragma once

#include "fleetd/features/health/probe.h"

enum {
        CHECKS_PER_SECOND = 100,
        CHECKS_IN_FLIGHT = 64,
        CHECKS_EXEC = 4,
};

typedef struct Checks Checks;

/* The result of check 'i' of the unit. */
typedef void ChecksResult(void *userdata, const char *unit, size_t i, const HealthResult *result);

/* 'prober' is borrowed. 'machine_id' determines the phase of checks, with the name of the unit. */
int checks_new(Checks **ret, Loop *loop, Prober *prober, const char *machine_id, ChecksResult *on_result,
               void *userdata);
Checks *checks_free(Checks *c); /* cancel all probes; accepts NULL, returns NULL */

/* Probe the checks of a unit that runs, until checks_stop(). Another invocation or another hash of the text
 * begins again; otherwise this has no effect. 'user' of HealthExec=; "": root. 'passed': they have passed
 * before, and are not urgent. 0 or -ENOMEM. */
int checks_run(Checks *c, const char *unit, const HealthPolicy *policy, const char *user,
               const char *invocation, const char *hash, bool passed);
void checks_stop(Checks *c, const char *unit);

typedef struct ChecksCounts {
        size_t n_checks;
        size_t n_in_flight;
        uint64_t passed, failed, late; /* probes that count, and those that were discarded */
        uint64_t
                worst_interval_ms; /* of the checks that were stretched in the last minute, the longest ... */
        uint64_t worst_wanted_ms;  /* ... and its interval; 0: none was */
} ChecksCounts;

const ChecksCounts *checks_counts(const Checks *c); /* NULL for NULL */

/* Append "health checks run every 14s instead of 10s: 1400 checks"; nothing if no interval stretches by more
 * than a fifth. */
void checks_append_problem(const Checks *c, Text *t);
