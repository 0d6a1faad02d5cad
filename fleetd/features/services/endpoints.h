/* Whether an instance of a unit is registered as an endpoint of its services, and why not.
 *
 * Pure: its host decides by it about its own units, and the API explains by it what the cluster view has. */
#pragma once

#include "fleetd/agent/records.h"
#include "fleetd/registry/cluster.h"

typedef struct EndpointFacts {
        const Unit *text; /* in force, or assigned; NULL: none */
        bool level;       /* the feature level of the cluster has services */
        bool runs;        /* assigned to run there, and no stop of it is planned */
        bool passing;     /* the health of the unit there */
        bool crashed; /* its last registration ended before it was available, and it is not available since */
        const char *address; /* of the host; "": not known */
        size_t n_others;     /* other endpoints of the host */
} EndpointFacts;

/* Return VERDICT_NONE if it is registered, else the first reason. */
VerdictCode endpoint_why_not(const EndpointFacts *facts);

/* Write the record of an endpoint of 'text', for which these ports were selected. 'zone': NULL or "" for
 * none. 0, -ENOMEM, or -ENOENT: a port has no number yet. */
int endpoint_describe(const Unit *text, const RecordPorts *selected, const char *address, const char *name,
                      const char *zone, EndpointRecord *ret);

/* Return whether it is one of the service. */
bool endpoint_is_of(const EndpointRecord *record, const char *service);
