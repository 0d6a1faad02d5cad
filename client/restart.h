/* The steps of a restart. A unit that restart has stopped is started again, also if the command fails or is
 * interrupted meanwhile. */
#pragma once

#include <signal.h>

#include "client/progress.h"
#include "client/wait.h"

/* Return whether one of these machines is not up: it would not stop the unit. Then print which one, and the
 * next step. 'all' is the list of machines; it is read again if a machine is missing. */
bool restart_is_refused(Client *c, const char *name, const Names *machines, Listing *all);

/* Block the signals that would end the program between stop and start; *ret is the former mask. */
void restart_block_signals(sigset_t *ret);
/* Permit them again. After a failed step ('r' is negative), one that has arrived is in c->signal. */
void restart_unblock_signals(Client *c, const sigset_t *before, int r);

/* Stop a unit, and wait until it has stopped. If that wait ends early, set the target state launched again;
 * the message says so. Errors are those of wait_for(); -ECANCELED if it is not started again. */
int restart_stop(Client *c, const char *name, Progress *progress, Error *err);

/* Start a unit that was stopped. It must not stay stopped because the cluster has no leader for a moment:
 * retry for a minute, or until a blocked signal arrives. A target state that another client has changed
 * meanwhile stays. */
int restart_start(Client *c, const char *name, Error *err);
