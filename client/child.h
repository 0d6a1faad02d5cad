/* Programs that fleetctl leaves work to: an editor, diff, ssh, and the commands behind a key. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Runs 'command' (found in PATH) on our own streams to its end, with 'environment' (names and values in turn, NULL at the end; may be
 * NULL) added to ours. While it runs 'tick' is called every 'tick_ms' (NULL: never); a false from it sends SIGTERM. Interrupts go to the
 * command. Its exit status, 128 and the signal that ended it, or 127, with a sentence on stderr, when it cannot be run. */
int child_run(const char *const *command, const char *const environment[], bool (*tick)(void *userdata), void *userdata, uint64_t tick_ms);

/* The signals that such a program and its end concern; to be blocked while they are waited for. */
void child_signals(sigset_t *ret);
/* Waits for one of them. The signal, or 0 when the time is over. */
int child_wait_signal(const sigset_t *set, uint64_t ms);
