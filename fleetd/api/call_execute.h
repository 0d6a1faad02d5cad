/* Calls that are executed on this host: a child process, whose output goes to a request of this host, or to a
 * session. remote_command.c describes the frames. Within fleetd/api only. */
#pragma once

#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/request.h"

/* Execute the command of a request, and answer it. */
void call_execute_request(Request *request, const RemoteCommandSpec *spec);

/* Handlers of frames of a host that calls; the last two pass on those of a call that is relayed. */
void call_execute_on_call(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size);
void call_execute_on_cancel(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size);
void call_execute_on_credit(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                            size_t size);
void call_execute_on_session_end(Api *api, uint64_t session);
void call_execute_review(Api *api); /* end the calls of hosts that have become restricted, or are removed */

/* Return the principal whose places the call of a request takes. */
Principal call_principal(const Request *request);
unsigned call_status(int error); /* of an HTTP answer */

/* Lines to the client: {"machine","data"}, {"exit"}. The second one ends the answer. */
int call_line_data(Request *request, const char *machine, const void *bytes, size_t size);
void call_line_exit(Request *request, int status);

int call_execute_new(Api *api); /* 0 or -ENOMEM */
void call_execute_free(Api *api);
