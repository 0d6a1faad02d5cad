/* What this machine is: published when it changes, and only then. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Facts Facts;

int facts_new(Facts **ret, Loop *loop, Registry *registry, const Machine *facts); /* copies */
int facts_set(Facts *f, const Machine *facts); /* copies; published if anything differs */
Facts *facts_free(Facts *f);
void facts_state_changed(Facts *f); /* the store's on_state: the Raft id may have been given */

/* The address that lists show: of the first interface that is up, is no loopback, and has one. -ENODEV. */
int facts_primary_address(char *ret, size_t size);
