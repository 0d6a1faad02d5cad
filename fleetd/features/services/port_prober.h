/* Tests of ports of this host: real, or simulated (DaemonIo.ports). */
#pragma once

#include "units/service.h"

typedef struct PortProber {
        /* Return whether no process of this host has the port, at any address. */
        bool (*is_free)(const struct PortProber *p, uint16_t number, PortProtocol protocol);
        /* host_local_ports(). 0 or a negative errno: unknown. */
        int (*local_ports)(uint16_t *ret_first, uint16_t *ret_last);
} PortProber;

extern const PortProber port_prober; /* the real one */
