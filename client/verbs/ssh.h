/* OpenSSH: to log in to machines, and to reach the fleetd of another host. */
#pragma once

#include "client/core/client.h"

/* A forwarded local socket or port, through the host of --tunnel to the endpoint. */
typedef struct Tunnel Tunnel;

/* Open a tunnel within --ssh-timeout. *ret_endpoint replaces the endpoint; it borrows from the tunnel. */
int tunnel_open(const Options *options, const char *endpoint, Tunnel **ret, const char **ret_endpoint,
                Error *err);
Tunnel *tunnel_close(Tunnel *tunnel); /* returns NULL */

/* Act as SSH_ASKPASS of ssh, which has no terminal: print the question on stderr and one line of stdin on
 * stdout. */
int ssh_askpass(const char *question);
#define SSH_ASKPASS_VARIABLE "FLEETCTL_ASKPASS"
