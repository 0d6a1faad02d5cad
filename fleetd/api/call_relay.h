/* Calls to hosts without a replica: only a replica to which such a host has a session reaches it. Another
 * replica asks it to relay the call. Within fleetd/api only.
 *
 * PEER_CALL_VIA: u64 number, string machine, remote_command_spec_write(). The answers are those of PEER_CALL;
 * PEER_CALL_END with CALL_NOT_HERE: this replica has no session to the machine. */
#pragma once

#include "fleetd/api/callers.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/request.h"

enum {
        CALL_RELAYS_MAX = 256,
        CALL_RELAYS_HOST_MAX = 32, /* of one session */
        CALL_RELAY_LEFT_MS = 1000, /* one that was cancelled counts: its child is still to end */
};

/* Return a session on which a host can be called, or NULL. */
PeerSession *call_session(const Api *api, const char *machine);
/* Return a session to the replica of rank *rank or later in the order of the machine, and the rank after it;
 * NULL: there is none. */
PeerSession *call_replica(const Api *api, const char *machine, unsigned *rank);

void call_relay_on_via(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size);
/* A frame of the host that is called, or of the host that calls: pass it on, if it is of a call that is
 * relayed. */
void call_relay_answer(Api *api, PeerSession *session, PeerFrame type, const void *payload, size_t size);
void call_relay_request(Api *api, PeerSession *session, PeerFrame type, const void *payload, size_t size);
void call_relay_on_session_end(Api *api, uint64_t session);
void call_relay_free(Api *api);
/* Add the calls that are relayed to the machine to 'taken'. */
void call_relay_count(const Api *api, const char *machine, unsigned taken[static _CALLER_TRUST_MAX]);

/* NULL: of another host. */
CallerTrust call_trust(const Request *request, const RemoteCommandSpec *spec);

/* -- Answers to calls -- */

/* Return whether the other host may send the command for a machine: its requests have no more rights than an
 * operator on it. If these see units only, restrict the command to those of the cluster. */
bool call_is_permitted(const Api *api, const PeerSession *session, const char *machine,
                       RemoteCommandSpec *spec);
#define CALL_FORBIDDEN "the other host rejected the request: this host is restricted or removed"
int call_reply_chunk(PeerSession *session, uint64_t number, const void *bytes, size_t size);
void call_reply_end(PeerSession *session, uint64_t number, uint32_t status);
/* Refuse it, with the status of an HTTP answer. */
void call_refuse(PeerSession *session, uint64_t number, unsigned status, const char *message);

uint64_t calls_number(Api *api); /* remote_command.c: a new number of a call */
