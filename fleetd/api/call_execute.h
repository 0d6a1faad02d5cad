/* Calls that are executed on this host, by a child process. call_ask.c describes the frames. Within
 * fleetd/api only. */
#pragma once

#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/request.h"

/* Execute the command of a request, and answer it. */
void call_execute_request(Request *request, const RemoteCommandSpec *spec);

void call_execute_on_call(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size);
void call_execute_review(Api *api); /* end the calls of hosts that have become restricted, or are removed */

int call_execute_new(Api *api); /* 0 or -ENOMEM */
void call_execute_free(Api *api);
