/* Updates and health of a unit, as values of [X-Fleet]: how many instances may be unavailable while a text is
 * replaced, and which checks an instance has to pass. Members of Placement. Pure.
 *
 * Source: fleet.unit(5); the terms of Deployments and probes of Kubernetes. */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "base/text.h"
#include "units/lists.h"
#include "units/service.h"
#include "units/unit_file.h"
#include "units/warnings.h"

#define SPAN_MAX_MS (3650ull * 86400 * 1000) /* of a time span of [X-Fleet]: ten years */

enum {
        SHARE_MAX = 1000000, /* instances */
        UPDATE_WATCH_MS = 10000,
        UPDATE_DEADLINE_MS = 600000,
        UPDATE_START_TIMEOUT_MS = 90000, /* systemd's DefaultTimeoutStartSec= */

        HEALTH_CHECKS_MAX = 16, /* of one unit */
        HEALTH_INTERVAL_MIN_MS = 1000,
        HEALTH_INTERVAL_EXEC_MIN_MS = 5000, /* with HealthExec= */
        HEALTH_INTERVAL_MAX_MS = 3600000,
        HEALTH_INTERVAL_MS = 10000,
        HEALTH_TIMEOUT_MS = 2000,
        HEALTH_RESULTS_MAX = 100, /* of HealthFailures= and HealthSuccesses= */
        HEALTH_FAILURES = 3,
        HEALTH_SUCCESSES = 1,
};

typedef enum ShareUnit {
        SHARE_DEFAULT, /* the option is not given */
        SHARE_NUMBER,
        SHARE_PERCENT,
} ShareUnit;

/* A number of instances, or a part of all of them. */
typedef struct Share {
        ShareUnit unit;
        unsigned value; /* up to SHARE_MAX, or 100 percent */
} Share;

/* Parse "3" or "25%". Return 0 or -EINVAL. */
int share_parse(const char *s, Share *ret);
/* Return the share in instances of 'total', a fraction rounded down or up; 'none' for SHARE_DEFAULT. */
unsigned share_of(Share share, unsigned total, bool up, unsigned none);
/* Return whether the share is 0 of any number of instances; not for SHARE_DEFAULT. */
bool share_is_zero(Share share);

typedef enum UpdateFailureAction {
        UPDATE_PAUSES,
        UPDATE_REVERTS,   /* once, to the last completed revision */
        UPDATE_CONTINUES, /* failed instances count as unavailable */
        _UPDATE_FAILURE_ACTION_MAX,
        _UPDATE_FAILURE_ACTION_INVALID = -EINVAL,
} UpdateFailureAction;

ENUM_NAMES(update_failure_action, UpdateFailureAction, _UPDATE_FAILURE_ACTION_MAX)

/* The members hold what the unit says; the functions below add the defaults. */
typedef struct UpdatePolicy {
        Share max_unavailable;
        Share min_available;
        Share max_surge;
        Share canary;
        Share max_failures;
        uint64_t watch_ms;              /* UpdateWatchSec=; 0: UPDATE_WATCH_MS; a span of 0 is 1 ms */
        uint64_t pause_ms;              /* UpdatePauseSec= */
        uint64_t deadline_ms;           /* UpdateDeadlineSec=; 0: the default */
        uint64_t promote_ms;            /* Promote=; 0: manual; a span of 0 is 1 ms */
        char *by;                       /* UpdateBy=: a metadata key; NULL: none */
        UpdateFailureAction on_failure; /* UpdateOnFailure= */
} UpdatePolicy;

void update_policy_done(UpdatePolicy *policy);

/* What a request wants for the rollout of its text, instead of Canary= and UpdateOnFailure= of the unit. */
enum { UPDATE_WORD_SIZE = 12 };
typedef struct UpdateRequest {
        char canary[UPDATE_WORD_SIZE];     /* "": as the unit says, as the next */
        char on_failure[UPDATE_WORD_SIZE]; /* pause, revert, continue */
} UpdateRequest;

/* NULL is "". Return 0, or -EINVAL with the message. */
int update_request_read(const char *canary, const char *on_failure, UpdateRequest *ret, Error *err);
bool update_request_is_empty(const UpdateRequest *request);
/* Return a copy that borrows all. A word of a later version counts as none. */
UpdatePolicy update_policy_for(const UpdatePolicy *policy, const UpdateRequest *request);

/* Return the number of instances of 'total' that may be unavailable (MaxUnavailable=): at least 1, except if
 * the option is 0. MinAvailable= is a further bound. */
unsigned update_max_unavailable(const UpdatePolicy *policy, unsigned total);
/* Return the number of instances of 'total' that have to stay available (MinAvailable=); may exceed 'total'.
 */
unsigned update_min_available(const UpdatePolicy *policy, unsigned total);
/* Return the number of second instances on other machines (MaxSurge=). */
unsigned update_max_surge(const UpdatePolicy *policy, unsigned total);
/* Return the number of instances that are updated before the rollout is held (Canary=); 0: it is not held. */
unsigned update_canaries(const UpdatePolicy *policy, unsigned total);
/* Return the number of failed instances that a rollout tolerates (UpdateMaxFailures=). */
unsigned update_max_failures(const UpdatePolicy *policy, unsigned total);
/* Add a warning for each bound that a set of 'n' instances cannot satisfy: MinAvailable= of all of them,
 * where none is started first, and Canary= of all of them. 0 or -ENOMEM. */
int update_warn(const UpdatePolicy *policy, const char *name, unsigned n, bool stops_first, Warnings *ret);
/* Return the least time in ms that an update of 'n' instances takes, without their starts. */
uint64_t update_least_ms(const UpdatePolicy *policy, unsigned n);
/* Return how many of 'n' instances are updated at a time. */
unsigned update_parallel(const UpdatePolicy *policy, unsigned n);
/* Return the time in ms for which an instance is healthy before it is available. */
uint64_t update_watch_ms(const UpdatePolicy *policy);
typedef enum UnitCheckKind {
        UNIT_CHECK_HTTP,
        UNIT_CHECK_TCP,
        UNIT_CHECK_EXEC,
        _UNIT_CHECK_KIND_MAX,
        _UNIT_CHECK_KIND_INVALID = -EINVAL,
} UnitCheckKind;

ENUM_NAMES(unit_check_kind, UnitCheckKind, _UNIT_CHECK_KIND_MAX)

typedef struct UnitCheck {
        UnitCheckKind kind;
        unsigned port;                     /* of http and tcp; 0: not selected yet */
        char port_name[PORT_NAME_MAX + 1]; /* the port of the unit (Port=) that has it; "": none */
        char *address;                     /* numeric, without brackets; NULL: loopback. Of http and tcp */
        char *target;                      /* http: the path, with the first '/'; exec: the command */
} UnitCheck;

typedef enum HealthAction {
        HEALTH_ACTION_NONE,
        HEALTH_ACTION_RESTART,
} HealthAction;

/* The members hold what the unit says; the functions below add the defaults. */
typedef struct HealthPolicy {
        UnitCheck *checks; /* in the order http, tcp, exec */
        size_t n_checks;
        uint64_t interval_ms; /* HealthIntervalSec=; 0: the default */
        uint64_t timeout_ms;  /* HealthTimeoutSec=; 0: the default */
        uint64_t start_ms;    /* HealthStartSec= */
        unsigned failures;    /* HealthFailures=; 0: HEALTH_FAILURES */
        unsigned successes;   /* HealthSuccesses=; 0: HEALTH_SUCCESSES */
        HealthAction action;  /* HealthAction= */
} HealthPolicy;

void health_policy_done(HealthPolicy *policy);

/* Parse "[ADDR:]PORT/PATH" (UNIT_CHECK_HTTP), "[ADDR:]PORT" or a command, and append the check. An IPv6
 * address has brackets. The port may be a name. Errors:
 *   -EINVAL   no check of this kind: a name instead of an address, no absolute path, an open quote
 *   -E2BIG    the policy has HEALTH_CHECKS_MAX checks
 *   -ENOMEM */
int health_policy_add(HealthPolicy *policy, UnitCheckKind kind, const char *s);

/* Set the number of the port of that name, which the host has selected, in each check of it. */
void health_policy_set_port(HealthPolicy *policy, const char *name, unsigned number);

/* Append the check for people: "127.0.0.1:8080/ready", "[::1]:8080", "/usr/bin/check -q"; the name of a port
 * that is not selected yet. */
void unit_check_describe(const UnitCheck *check, Text *t);

/* Return the interval between two probes of a check, in ms. */
uint64_t health_interval_ms(const HealthPolicy *policy);
/* Return the timeout of one probe in ms: at most the interval. */
uint64_t health_timeout_ms(const HealthPolicy *policy);
/* Return the number of failed probes, and of passed ones, that change the state. */
unsigned health_failures(const HealthPolicy *policy);
unsigned health_successes(const HealthPolicy *policy);

/* Return the time in ms without a further available instance after which a rollout has failed. The default is
 * UPDATE_DEADLINE_MS, or twice the time that one instance may need, if that is longer. 'file' has the
 * timeouts of systemd. */
uint64_t update_deadline_ms(const UpdatePolicy *policy, const HealthPolicy *health,
                            const ServicePolicy *service, const UnitFile *file);

/* Check that the options can be combined with each other and with the timeouts of systemd in 'file'. -EINVAL
 * with the first broken rule. placement_check() has the rules that concern the placement. */
int update_check(const UpdatePolicy *policy, const HealthPolicy *health, const ServicePolicy *service,
                 const UnitFile *file, Error *err);

/* Append a span of 1 ms or more in the largest unit that divides it, as "100s", "250ms", "10min". */
void span_describe(uint64_t ms, Text *t);
