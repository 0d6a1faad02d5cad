/* Rights: what the sender of a request may do to a resource.
 *
 * Pure: one table of principals and rights. The server (fleetd/api/server.c) determines the principal of each
 * request, the table of routes (fleetd/api/routes.c) names the right that a route requires, and handlers ask
 * for keys. What the table does not grant is denied. */
#pragma once

#include <stdbool.h>

#include "kvstore/command/command.h"

/* The authenticated sender of a request. */
typedef enum Principal {
        PRINCIPAL_NONE,          /* not authenticated */
        PRINCIPAL_ADMINISTRATOR, /* root or group fleet, by peer credentials of the local socket */
        PRINCIPAL_WRITER,        /* a client on loopback, with ClientAccess=read-write */
        PRINCIPAL_READER,        /* a client on loopback, with ClientAccess=read-only */
        _PRINCIPAL_MAX
} Principal;

typedef enum Right {
        RIGHT_NONE,         /* no principal has it: a route without a right is closed */
        RIGHT_STATUS_SEE,   /* version, health and members of the cluster */
        RIGHT_KEYS_READ,    /* of one key, and to watch it */
        RIGHT_KEYS_WRITE,   /* of one key; and to send any request that may change something */
        RIGHT_UNITS_SEE,    /* units, their states and logs; machines; figures of the daemon */
        RIGHT_UNITS_CHANGE, /* submit, start, stop and destroy units; metadata of machines */
        RIGHT_ADMINISTER,   /* settings of the whole cluster */
        _RIGHT_MAX
} Right;

typedef enum Resource {
        RESOURCE_CLUSTER,    /* the cluster as a whole: status, units, machines */
        RESOURCE_USER_KEYS,  /* keys of users */
        RESOURCE_FLEET_KEYS, /* /_fleet and all below it: the registry */
        _RESOURCE_MAX
} Resource;

/* Return the resource that 'key' belongs to. */
Resource resource_of_key(KvBytes key);

/* Return whether 'principal' has 'right' on 'resource'. Only the registry writes keys below /_fleet, by
 * internal commands: no principal has RIGHT_KEYS_WRITE there, and the state machine refuses such a command as
 * well. */
bool policy_allows(Principal principal, Right right, Resource resource);
