/* Programs that fleetctl leaves work to: an editor, diff, ssh, and the commands behind a key. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Runs 'command' (found in PATH) on our own streams to its end, with 'environment' (names and values in turn,
 * NULL at the end; may be NULL) added to ours. Interrupts go to the command, also where the caller has
 * blocked them. Return its exit status, 128 and the signal that ended it, or 127, with a message on stderr,
 * when it cannot be run.
 *
 * While it runs, 'tick' is called (NULL: never). It returns in how many ms it is to be called again, and may
 * set *ret_signal to a signal that the command gets. With a tick, the command gets its signals with all that
 * descends from it; if it got any, its end is that of them all. Of the signals that fleetctl itself got
 * meanwhile, *ret_signal (may be NULL) is the last one; 0: none. */
int subprocess_run(const char *const *command, const char *const environment[],
                   uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata, int *ret_signal);

/* The signals that such a program and its end concern; to be blocked while they are waited for. */
void subprocess_signals(sigset_t *ret);
/* Waits for one of them. The signal, or 0 when the time is over. */
int subprocess_wait_signal(const sigset_t *set, uint64_t ms);
