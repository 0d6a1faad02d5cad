/* Health and availability of one unit on this host.
 *
 * Pure: what systemd reports, the results of checks and the time in; health and availability out. A unit is
 * healthy while systemd reports it as active and no check fails. It is available once it has been healthy
 * for UpdateWatchSec= without interruption, in one invocation and with one text. The agent measures that,
 * because published states are coalesced: a reader cannot see an interruption between two of them.
 *
 * Times are of loop_now_ms(). */
#pragma once

#include "fleetd/systemd/systemd.h"
#include "units/state.h"
#include "units/update.h"

enum {
        HEALTH_RESTARTS_MAX = 3,       /* restarts by systemd before the unit is available: it is failing */
        HEALTH_LATE_MAX_MS = 250,      /* a probe that began later than this after its time is discarded */
        HEALTH_RESTART_MIN_MS = 30000, /* between two restarts by HealthAction=restart: doubles */
        HEALTH_RESTART_MAX_MS = 600000,
};

/* Options of the unit's text, and its assignment. */
typedef struct HealthOptions {
        const char *process; /* identifies the text but for [X-Fleet], borrowed; NULL: unknown */
        const char *policy;  /* identifies the text that these options are of, borrowed; NULL: none */
        bool in_force;       /* that is the text of the file, and no start with it is due */
        size_t n_checks;
        unsigned failures,
                successes; /* consecutive results that change the state of a check; 0 counts as 1 */
        uint32_t ran;      /* by bit: the command of this check has run on this host */
        uint64_t watch_ms; /* UpdateWatchSec= */
        uint64_t start_ms; /* HealthStartSec=: failures of a check do not count before this time since the
                              start, unless that check has passed */
} HealthOptions;

typedef struct HealthCheck {
        UnitHealth state;            /* UNIT_HEALTH_NONE: neither passing nor failing yet */
        bool passed;                 /* at least once */
        bool last_failed;            /* whether or not that counts */
        bool not_executed;           /* that is the last result */
        unsigned n_passed, n_failed; /* consecutive results that count: one of them is 0 */
        unsigned n_unknown;          /* consecutive ones, since the last other result */
} HealthCheck;

enum { HEALTH_ENDED_SIZE = 160 };

typedef struct HealthState {
        /* Results of health_observe(). */
        UnitHealth health;
        bool available;
        bool lapsed;                      /* it was available with this text, and is not any more */
        char why[UNIT_STATE_REASON_SIZE]; /* of a failing unit; "": systemd's state is the reason */
        /* Why a check cannot run on this host: for so long that failures would count. "": each can. */
        char unchecked[UNIT_STATE_REASON_SIZE];
        uint64_t due_ms; /* observe again at this time, when the unit becomes available; 0: none */

        /* Private. */
        bool observed; /* at least once */
        bool served;   /* it was available with this text, since it was last inactive */
        bool inherits; /* nothing since the start of this daemon contradicts the published health */
        char invocation[INVOCATION_ID_SIZE], hash[UNIT_HASH_SIZE], process[UNIT_HASH_SIZE];
        char policy[UNIT_HASH_SIZE]; /* 'checks' are of this text */
        bool running;
        UnitHealth at_rest;  /* health of a unit that does not run */
        bool former_end;     /* it ended with another text than the present one, which is to be started */
        uint64_t running_ms; /* since then, with 'running' */
        bool healthy;
        uint64_t healthy_ms;              /* since then without interruption, with 'healthy' */
        uint32_t n_restarts, n_discarded; /* by systemd: all, and those before it was available */
        char ended[HEALTH_ENDED_SIZE];    /* why, at the first of the others that was observed; "": unknown */
        HealthCheck checks[HEALTH_CHECKS_MAX];
        size_t n_checks, why_check; /* 'why' is of this check */
        uint64_t restarted_ms;      /* by HealthAction=restart, with 'n_actions' */
        unsigned n_actions;         /* such restarts in a row after which the unit was not available */
} HealthState;

/* Take over what systemd reports at 'now_ms', and update the results. Idempotent. */
void health_observe(HealthState *s, const SystemdUnit *seen, const HealthOptions *options, uint64_t now_ms);

/* The unit was reloaded: its process has another text since then. It is available with that after another
 * UpdateWatchSec=, and was not before: nothing has lapsed. */
void health_begin_watch(HealthState *s);

/* Take over the health that this host published before the daemon was restarted, if the same invocation with
 * the same text still runs. 'published' may be NULL. Call it after health_observe(). It has no effect once
 * this daemon has observed that the unit was unhealthy or was started again. */
void health_inherit(HealthState *s, const UnitState *published, const HealthOptions *options,
                    uint64_t now_ms);

/* Return whether the unit runs, and neither its checks nor the published health have decided about it since
 * this daemon began. */
bool health_is_undecided(const HealthState *s);

typedef struct HealthResult {
        bool passed;
        bool unknown;      /* it neither passed nor failed: this host could not run it */
        bool not_executed; /* systemd could not execute the program: unknown if it ran here before */
        uint64_t late_ms;  /* from its time until it began */
        const char *why;   /* it did not pass, for people: "HTTP 503 from 127.0.0.1:8080/ready" */
} HealthResult;

/* Count the result of check 'i' and update the results. Discard it if the probe was late, or if the unit does
 * not run. An unknown result changes no health. */
void health_count(HealthState *s, size_t i, const HealthResult *result, const HealthOptions *options,
                  uint64_t now_ms);

/* Return whether the result is unknown: of a program that is missing, if it ran here before. */
bool health_is_unknown(const HealthResult *result, size_t i, const HealthOptions *options);

/* Return whether the unit runs, and one of its checks is failing; its last result, of this daemon, is a
 * failure of a check that ran. */
bool health_is_failing_check(const HealthState *s);

/* Return whether restarts are suspended: more than half of the set, and at least two instances, are
 * unhealthy. Then overload is likelier than a fault of this instance. */
bool health_is_suspended(size_t n_unhealthy, size_t n_set);

/* Return whether a unit with HealthAction=restart is to be restarted now, unless restarts are suspended: a
 * check is failing, and the delay since the last such restart is over. The delay doubles from 30 s to 10 min,
 * and is reset when the unit is available. '*ret_due_ms': when to call again; 0: after the
 * next change. */
bool health_must_restart(const HealthState *s, uint64_t now_ms, uint64_t *ret_due_ms);
/* The unit was restarted for that reason. */
void health_count_restart(HealthState *s, uint64_t now_ms);
