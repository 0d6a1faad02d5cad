/* Follow the cluster until a requested state is reached: subscribe to the events of fleetd, read the state,
 * and read again the units that events name. Without events, read four times a second.
 *
 * In a pipe each unit that reaches its state is one line in the format of fleet: "Unit web.service launched
 * on 11111111.../10.0.0.1". On a terminal each unit has a progress line from the start
 * (client/core/progress.h).
 */
#pragma once

#include <signal.h>

#include "client/core/client.h"
#include "client/core/progress.h"

enum { UNITS_MANY = 8 }; /* more units are read with one list */

typedef enum WaitGoal {
        WAIT_STATE,   /* the state of the unit is 'target' */
        WAIT_RUNNING, /* also: the unit is active in systemd, or its job has ended successfully */
        WAIT_ENDED,   /* the unit was started and has ended: by itself, or stopped by a user */
        WAIT_STOPPED, /* the state is 'target', and no systemd reports the unit active or in transition */
        WAIT_GONE,    /* no machine reports the unit */
} WaitGoal;

typedef struct WaitRequest {
        WaitGoal goal;
        TargetState target;
        const Names *names;
        const uint64_t
                *before_ms;  /* of each unit: 'since' of the state before its start, 0: none; NULL: of none */
        const Names *loaded; /* WAIT_STOPPED: units that were loaded before, not started; NULL: none were */
        const char *hash;    /* of the text that all units are to run with, borrowed; NULL: of any */
        bool quiet;          /* print errors only */
        Progress *progress;  /* borrowed; has lines of these units, perhaps of more; NULL: none */
        bool more;           /* of 'progress': another wait for these units follows */
        bool restarts; /* the first half of a start with new texts: after it ends, nothing starts the units */
        const char *interrupted; /* message about the units after an interrupt; NULL: by the goal */
} WaitRequest;

/* Return whether a wait was ended by a signal or by --timeout, and not by its units. */
bool wait_was_ended(const Client *c, int r);

/* Wait until all units have reached the goal. A global unit has to reach it on all machines that it fits. On
 * failure the message is about the first unit that failed. Errors, and those of the connection:
 *   -ETIMEDOUT   --block-attempts have elapsed before the state was 'target', or --timeout has elapsed
 *   -ENOEXEC     the unit is launched, but systemd does not report it active, or reports a failure
 *   -ECANCELED   another client has changed the target state or the awaited text, or destroyed the unit; or
 *                --timeout has elapsed with 'restarts'
 *   -EINTR       c->signal: Ctrl-C or SIGTERM; the message states what the cluster continues to do
 *   -EACCES      the user has no right to read the units; the message names them
 * Other error answers of fleetd do not end the wait. */
int wait_for(Client *c, const WaitRequest *request, Error *err);

/* Print the error of a wait. A limited wait (--block-attempts) has two lines of fleet, one about the wait and
 * one of the verb. A terminal gets one line, or none if the progress line of a failed unit has the reason.
 * After a signal the program ends by that signal, as shells expect. Return EXIT_FAILED, or EXIT_CONTINUES
 * after
 * --timeout. */
int wait_print_error(const Client *c, int r, const Progress *progress, const Error *err);

/* Return whether a machine reports the unit as active, and since when it has failed; 0: it has not. */
int wait_read_run(Client *c, const char *name, bool *ret_runs, uint64_t *ret_failed_ms, Error *err);

/* Wait until the unit runs with the text of this hash. 'failed_ms': of wait_read_run() before the change; its
 * machine reports the failure of the run before also when it has the new text already. 'which': "former" or
 * "new". Return an exit status. */
int wait_for_text(Client *c, const char *name, const char *hash, uint64_t failed_ms, const char *which,
                  Error *err);
