/* The component of services: their ports and endpoints on this host. services.c has its row, stage.c
 * the ports of a unit (ports.h). */
#pragma once

#include "fleetd/api/request.h"
#include "fleetd/problems/problems.h"

typedef struct Services {
        const ComponentHost *host; /* borrowed */
} Services;

/* -- stage.c -- */

int services_stage(void *self, const Unit *text, struct AssignmentRecord *record, bool runs,
                   Error *err); /* Duty.stage */

/* -- services_v1.c -- */

enum { SERVICES_ROUTES = 2 };

extern const Route services_routes[SERVICES_ROUTES];
extern const ProblemRow services_problems[];
