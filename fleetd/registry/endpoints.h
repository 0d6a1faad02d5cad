/* Endpoints that hosts register: what a host without a replica may write, and how often. An endpoint goes to
 * all hosts. A restricted host could take the name of another service, or send clients to another host. Pure.
 */
#pragma once

#include "fleetd/registry/cluster.h"

enum {
        ENDPOINT_SPARE_MAX = 128, /* bytes of a value beyond those that this version writes */
        ENDPOINT_AUTO_MIN = 1024, /* the lowest number of a port that a host selects */
        /* New or changed endpoints of one host. Withdrawals do not count: */
        ENDPOINTS_PER_SECOND = 20,
        ENDPOINTS_BURST = 100,
};

/* Return the name of the machine in its endpoints. Of a restricted one, it is the short ID: the host cannot
 * know whether another one has the name that it states, and takes no name from others. */
const char *endpoint_host_name(const ClusterMachine *m);

/* Return 0 if the machine may register the endpoint; or -EACCES and a message that names it, the unit and a
 * service. 'text' is that of its assignment; NULL: none. */
int endpoint_check(const Cluster *c, const ClusterMachine *m, const char *unit, const Unit *text,
                   const EndpointRecord *endpoint, Error *err);

/* How far a leader has looked at the endpoints of hosts without a replica. Zero at first. */
typedef struct EndpointLook {
        uint64_t term, begun_ms;       /* since when this host looks */
        char machine[MACHINE_ID_SIZE]; /* the last one of this round; "": the next step begins one */
        uint64_t index;                /* of the cluster view, when it began */
        bool unfit;                    /* it has found an endpoint that does not fit */
        uint64_t due_ms;               /* the next step */
} EndpointLook;

/* The pace of a machine, which is kept in the cluster view: return the ms until n more may be registered, at
 * most ENDPOINTS_BURST, 0: now; and take n. An unknown machine has no limit. */
uint64_t endpoints_wait_ms(const Cluster *c, const char *machine_id, uint64_t n);
void endpoints_take(const Cluster *c, const char *machine_id, uint64_t n);
