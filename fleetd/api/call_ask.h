/* Commands that another host executes. Within fleetd/api only. */
#pragma once

#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/request.h"

/* Have the command of a request executed on another machine, and answer the request. */
void call_ask(Request *request, const char *machine, const RemoteCommandSpec *spec);
