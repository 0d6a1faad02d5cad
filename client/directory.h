/* Problems of unit directories that need a decision of an administrator. */
#pragma once

#include "client/client.h"

/* Read {"problems":[{"confirmed","kind","machineID","name","reason"}]}. */
int client_problems(Client *c, JsonValue **ret, Error *err);
