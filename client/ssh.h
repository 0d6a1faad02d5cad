/* OpenSSH as fleetctl uses it: to log in to machines, and to reach a fleetd that is elsewhere. */
#pragma once

#include "client/client.h"

/* A tunnel to the endpoint as seen from the host of --tunnel: a socket of ours that leads there while it is
 * open. */
typedef struct Tunnel Tunnel;

/* Waits until it stands, at most --ssh-timeout. *ret_endpoint is the endpoint to use instead; it borrows from
 * the tunnel. */
int tunnel_open(const Options *options, const char *endpoint, Tunnel **ret, const char **ret_endpoint,
                Error *err);
Tunnel *tunnel_close(Tunnel *tunnel); /* NULL allowed; returns NULL */

/* Run by ssh as its SSH_ASKPASS where no terminal can be asked: the question on stderr, one line of stdin as
 * the answer. */
int ssh_ask(const char *question);
#define SSH_ASK_VARIABLE "FLEETCTL_ASKS"
