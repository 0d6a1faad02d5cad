/* The state of a unit on one machine as a message: since when, why, and the verb for the next step. */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"

typedef enum StateKind {
        STATE_RUNS,     /* active */
        STATE_ENDED,    /* ended successfully: not started again */
        STATE_TROUBLE,  /* failed, restarted after a failure, not started, not loaded, or stopped */
        STATE_CHANGING, /* in transition */
        STATE_INACTIVE, /* inactive without a known reason: about to be started, or an older daemon
                         * reports it
                         */
} StateKind;

StateKind state_kind(const ApiState *s);

/* Of the daemon's answer to "why" about a unit, and one of its machines: the state that the machine reports.
 * 'active' is NULL without one, and of older daemons. Borrowed. */
ApiState state_reported(const JsonValue *why, const JsonValue *machine);
/* The name of that machine for people: with its short ID, if another machine has the same name. */
const char *state_place(const JsonValue *machine);

/* Return whether a reason of this kind states what the unit waits for. */
bool reason_is_of_wait(const char *kind);
/* Return the reason of a unit without its first word "waiting: ", for a message that has it; NULL: "". */
const char *reason_after_waiting(const char *reason);
/* Return whether the unit has ended successfully, and is not run again. */
bool unit_has_finished(const ApiUnit *unit);

/* Return whether systemd is about to restart the unit (RestartSec=), after a failure or a successful end. */
bool state_is_between_runs(const ApiState *s);
/* Return whether it does after a failure: only that has a reason. */
bool state_is_restarting(const ApiState *s);
/* Return whether only another text of the unit can change this load state. */
bool state_cannot_load(const char *load);

/* Return whether a unit that systemd reports as active is unhealthy: it has a reason (ApiState.why). */
bool state_is_unhealthy(const ApiState *s);

/* Append "web.service failed on newton 2 min ago: exit status 1". */
void append_state(Text *t, const ApiState *s, const char *machine);

/* The next step for a unit in trouble or unhealthy: it shows more, or mends the unit. */
typedef enum NextStep {
        NEXT_NONE,    /* of all other units */
        NEXT_CORRECT, /* the host or the unit file: systemd refuses to start it */
        NEXT_HOST,    /* the host: it cannot write its secrets and configuration */
        NEXT_JOURNAL,
        NEXT_RESTART,
        NEXT_STATUS,
        NEXT_WHY, /* another unit prevents its start */
} NextStep;

/* Return whether systemd stopped the unit because of another one, which prevents its start; append the name
 * of that unit to 'ret' (may be NULL), if it is known. */
bool state_is_stopped_for(const ApiState *s, Text *ret);

/* Return whether the unit is not started, or runs with its former content, because its host cannot write its
 * secrets and configuration. */
bool state_is_unprovided(const ApiState *s);

NextStep state_next_step(const ApiState *s);
/* Append it: "fleetctl journal web.service". 'global_on': of a global unit, the name of the machine; else
 * NULL.
 */
void append_next_step(Text *t, const ApiState *s, const char *global_on);

/* Print the state of a unit that start leaves as it is, unless it runs. Return the exit status. 'file': its
 * argument, if the local file has another text; else "". */
int state_report(const ApiState *s, bool global, const char *file, const Listing *machines);

/* Print the state that the machine of a unit last reported, if that machine is away. 'machines' is read if it
 * lacks the machine. Return 1; 0: it is not away, or since a moment only, or the unit had ended; or a
 * negative errno. */
int state_report_away(Client *c, const char *unit, const char *machine, Listing *machines, Error *err);
