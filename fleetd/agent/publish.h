/* Publication of local states, with rate limits.
 *
 * The first change of a unit is published at once, later ones at most once a second, with the last state. A
 * host makes at most five transactions a second, one at a time, with the lowest priority. Assignments lift
 * these limits, since they come as fast as users and engine make them, and so does the first end of a unit
 * after its start, for which a user waits. Each change is compared with the registry: nothing is repeated,
 * and failed changes are offered again. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Publisher Publisher;

int publisher_new(Publisher **ret, Loop *loop, Registry *registry, void (*idle)(void *userdata),
                  void *userdata); /* 'idle': offer the changes that are due */
Publisher *publisher_free(Publisher *p);

/* Return whether changes can be sent now. If not, 'idle' is called when they can. */
bool publisher_ready(Publisher *p);
/* Return whether a change of this unit may be sent now. If not, 'idle' is called when it may. */
bool publisher_allows(Publisher *p, const char *unit);
/* Lift the limits: an assignment starts or stops the unit, and its user waits for the state. */
void publisher_expedite(Publisher *p, const char *unit);
/* Return whether a batch may have a new endpoint of the unit now: this machine is up, it keeps to its pace,
 * and no batch with it was rejected a short time ago: then each endpoint of that batch is sent at another
 * time, and its states at once. If not, 'idle' is called when it may, or the machine's key changes. */
bool publisher_takes_endpoint(Publisher *p, const char *unit);
/* Call 'idle' at 'due_ms' (loop_now_ms()) or earlier. */
void publisher_wake_at(Publisher *p, uint64_t due_ms);
/* Send the batch; each change replaces the state in the registry. */
int publisher_send(Publisher *p, const StateChange *changes, size_t n);
