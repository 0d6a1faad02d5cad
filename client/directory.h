/* What the unit directories of hosts cannot do by themselves, as fleetd tells it. */
#pragma once

#include "client/client.h"

/* {"problems":[{"confirmed","kind","machineID","name","reason"}]} */
int client_problems(Client *c, JsonValue **ret, Error *err);
const char *problem_member(const JsonValue *problem,
                           const char *member); /* "" when it is not there; borrowed */
