/* Facts of this machine, published when they change. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct Facts Facts;

int facts_new(Facts **ret, Loop *loop, Registry *registry, const Machine *facts); /* copies */
/* Copy all but 'checks', which stays; published if anything differs. */
int facts_set(Facts *f, const Machine *facts);
/* Set the number of soft reboots, published from KV_LEVEL_UPDATES on, and whether the boot is not complete;
 * until then, 'booting' of the facts holds for another boot than the last published one. */
void facts_systemd_ready(void *facts, uint64_t soft_reboots, bool booting);
/* Set how the health checks of this host exceed its limits; "": they do not. Published from KV_LEVEL_UPDATES
 * on. 0 or -ENOMEM. */
int facts_set_checks(Facts *f, const char *problem);
/* Ask 'needs_reboot' now and each minute; published from KV_LEVEL_UPDATES on. */
void facts_watch_reboot(Facts *f, bool (*needs_reboot)(void));
void *facts_free(void *facts);         /* returns NULL */
void facts_state_changed(void *facts); /* on_state of the store: the Raft ID may have been assigned */

/* Return the address of the services of this host: 'configured' (ServiceAddress=), else that of the facts, if
 * other hosts can reach it. "": none. Borrowed. */
const char *facts_service_address(const Facts *f, const char *configured);

/* Return the address that lists show: the first one of an interface that is up, which other hosts can reach:
 * not loopback, link-local, or of a bridge to containers or virtual machines. -ENODEV: none. */
int facts_primary_address(char *ret, size_t size);
