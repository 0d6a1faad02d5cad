/* Facts of this machine, published when they change. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Facts Facts;

int facts_new(Facts **ret, Loop *loop, Registry *registry, const Machine *facts); /* copies */
int facts_set(Facts *f, const Machine *facts); /* copies; published if anything differs */
Facts *facts_free(Facts *f);
void facts_state_changed(Facts *f); /* on_state of the store: the Raft ID may have been assigned */

/* Return the address that lists show: of the first interface that is up, is not a loopback, and has one.
 * -ENODEV: none. */
int facts_primary_address(char *ret, size_t size);
