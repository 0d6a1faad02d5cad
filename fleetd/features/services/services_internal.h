/* The component of services: their ports and endpoints on this host. services.c has its row, stage.c
 * the ports of a unit (ports.h). */
#pragma once

#include "fleetd/host/component.h"

typedef struct Services {
        const ComponentHost *host; /* borrowed */
} Services;

/* -- stage.c -- */

int services_stage(void *self, const Unit *text, struct AssignmentRecord *record, bool runs,
                   Error *err); /* Duty.stage */
