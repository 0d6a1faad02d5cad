/* Local states to the registry, coalesced: a unit's state goes out at most once a second, the first at once
 * and the last that it had by then; the host's in at most five transactions a second. What an order brings
 * about counts anew: orders come as fast as people and engine give them. One transaction at a time, which
 * gives way to all that others ask. What is published is compared with the registry's picture, so nothing is
 * repeated, and nothing that failed is forgotten. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Publisher Publisher;

int publisher_new(Publisher **ret, Loop *loop, Registry *registry, void (*idle)(void *userdata),
                  void *userdata); /* 'idle': offer again what is due */
Publisher *publisher_free(Publisher *p);

/* Whether an offer can be taken now; if not, 'idle' comes when it can. */
bool publisher_ready(Publisher *p);
/* May this unit's change go out now? If not, 'idle' comes when it may. */
bool publisher_allows(Publisher *p, const char *unit);
/* The unit is being started or stopped by order: somebody waits to hear of it. */
void publisher_expedite(Publisher *p, const char *unit);
/* 'idle' comes at 'due_ms' (loop_now_ms()), or before. */
void publisher_wake_at(Publisher *p, uint64_t due_ms);
/* Takes the batch; each change replaces what the registry has. */
int publisher_send(Publisher *p, const StateChange *changes, size_t n);
