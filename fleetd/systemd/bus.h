/* The real systemd, over its private bus: no broker in between, no limit on calls in flight, root only. It
 * comes back by itself after systemd was re-executed: subscribe first, then read everything again. */
#pragma once

#include "fleetd/systemd/systemd.h"
#include "io/loop.h"

typedef struct SystemdBusOptions {
        const char *directory; /* our folder of unit files */
        const char *address;   /* NULL: unix:path=/run/systemd/private */
        const char *quadlets;  /* where podman's generator looks; NULL: /run/containers/systemd */
        const char *links;     /* where systemd links unit files at runtime; NULL: /run/systemd/system */
        const char *const *generators; /* folders of systemd's generators, the first that has it counts; NULL:
                                          systemd's */
} SystemdBusOptions;

typedef struct SystemdBusCounts {
        uint64_t signals; /* about units */
        uint64_t batches; /* in which they were read */
} SystemdBusCounts;

int systemd_bus_new(Systemd **ret, Loop *loop, const SystemdBusOptions *options, Error *err);
Systemd *systemd_bus_free(Systemd *s); /* calls under way are answered -ECANCELED, later */

/* Asks whether the host is shutting down: 'done' once, from the loop, within 300 ms. */
void systemd_bus_read_stopping(Systemd *s, void (*done)(void *userdata, bool stopping), void *userdata);

const SystemdBusCounts *systemd_bus_counts(Systemd *s);
