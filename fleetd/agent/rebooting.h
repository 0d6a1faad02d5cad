/* The planned reboot of this host: when its record says that no unit is left (engine/reboot.h), call logind.
 *
 * The record names the boot in which the drain began. Only the host in that boot acts: a host that has just
 * returned, or that reads an old view, does not reboot again. A leader transfers leadership before
 * (hand_over.h). If logind rejects the reboot, the host writes that. */
#pragma once

#include "fleetd/registry/registry.h"
#include "fleetd/systemd/logind.h"

typedef struct Rebooting Rebooting;

/* 'logind' and 'registry' are borrowed. 0 or -ENOMEM. */
int rebooting_new(Rebooting **ret, Loop *loop, Registry *registry, Logind *logind, const char *machine_id,
                  const char *boot_id);
Rebooting *rebooting_free(Rebooting *r);    /* returns NULL */
void rebooting_state_changed(Rebooting *r); /* on_state of the store */
/* Set the number of soft reboots since the boot. Until it is known, nothing is done. */
void rebooting_set_soft_reboots(Rebooting *r, uint64_t n);
