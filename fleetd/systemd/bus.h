/* The real systemd, over its private bus: without a broker, without a limit on calls in flight, for root
 * only. After systemd was re-executed, the connection is made again: subscribe first, then read everything.
 */
#pragma once

#include "fleetd/systemd/systemd.h"
#include "io/loop.h"

typedef struct SystemdBusOptions {
        const char *directory; /* of our unit files */
        const char *address;   /* NULL: unix:path=/run/systemd/private */
        const char *quadlets;  /* folder that podman's generator reads; NULL: /run/containers/systemd */
        const char *links;     /* folder of systemd's runtime links; NULL: /run/systemd/system */
        const char *const *generators; /* folders of generators, by precedence; NULL: systemd's */
} SystemdBusOptions;

int systemd_bus_new(Systemd **ret, Loop *loop, const SystemdBusOptions *options, Error *err);
Systemd *systemd_bus_free(Systemd *s); /* calls under way end with -ECANCELED, later */

/* Read whether the host is shutting down. 'done' is called once, from the loop, within 300 ms. */
void systemd_bus_read_stopping(Systemd *s, void (*done)(void *userdata, bool stopping), void *userdata);

/* Return the number of reads of one or more signals. */
uint64_t systemd_bus_batches(Systemd *s);
