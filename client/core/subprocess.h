/* Programs that fleetctl runs: an editor, diff, ssh, and the commands of kv lock and kv exec-watch. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Run 'command' (found in PATH) with the streams of fleetctl until it ends. 'environment' (names and values
 * in turn, NULL at the end; may be NULL) is added. The command receives interrupts, even if the caller has
 * blocked them. Return its exit status, 128 plus the signal that killed it, or 127 after an error message if
 * it cannot be run.
 *
 * While the command runs, 'tick' is called (NULL: never). It returns the ms until its next call, and may set
 * *ret_signal to a signal for the command. With a tick, signals go to the command and all its descendants;
 * after a signal, subprocess_run() returns when all of them have ended. *ret_signal (may be NULL) is the last
 * signal that fleetctl received meanwhile; 0: none. */
int subprocess_run(const char *const *command, const char *const environment[],
                   uint64_t (*tick)(void *userdata, int *ret_signal), void *userdata, int *ret_signal);

/* Return the signals of a subprocess: SIGCHLD, and those that fleetctl forwards. */
void subprocess_signals(sigset_t *ret);
/* Wait for one of these blocked signals. Return it, or 0 after the timeout. */
int subprocess_wait_signal(const sigset_t *set, uint64_t ms);

/* Set the signals that end the program. An ignored one, as in a job of a script, would be pending while it is
 * blocked. */
void subprocess_ending_signals(sigset_t *ret);
