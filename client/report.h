/* The result of a verb that changes units, with --output=json. */
#pragma once

#include "client/client.h"

/* Run the verb. With --output=json, one that changes units prints a single object: "result" by its exit
 * status (done, failed, absent, continues), and the units that the arguments name, with their states, as they
 * are then. Messages go to stderr. */
int report_run(Client *c, char **args, size_t n, Error *err);
