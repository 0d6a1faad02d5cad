/* Secrets, for other verbs. */
#pragma once

#include "client/core/client.h"

/* Print the secrets that are to be set again after the cluster key was compromised. */
void secrets_print_all(Client *c);
