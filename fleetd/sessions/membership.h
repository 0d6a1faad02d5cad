/* Membership: which hosts are members, which of them vote, and which are alive.
 *
 * A host that is to join requests membership from the hosts of Join= until one of them admits it. Each host
 * sends two heartbeats a second to the leader. The leader counts ticks, writes changes of presence, and makes
 * at most one change of the voters at a time. Each host keeps the addresses of all others, on disk, too. */
#pragma once

#include "fleetd/directory/directory.h"
#include "fleetd/engine/engine.h"
#include "fleetd/identity/revocation.h"
#include "fleetd/host/component.h"
#include "peers/frames.h"

typedef struct Membership Membership;
typedef struct Authority Authority; /* fleetd/identity/authority.h */

/* 'host' is borrowed, with its settings; its engine and its directory may be NULL. */
int membership_new(Membership **ret, ComponentHost *host);
void *membership_free(void *membership);
/* As renewal_rekey(). */
int membership_rekey_host(Membership *m, Error *err);
/* Return what revocation_known() needs, borrowed. NULL allowed; then NULL. */
const Revocation *membership_revocation(const Membership *m);
/* Return whether a machine has sent the end of its log with its last heartbeat, within two seconds, and what:
 * term and index of its last entry, committed or not. Hosts send it while they know no leader. */
bool membership_position(const Membership *m, const char *machine_id, uint64_t *ret_term,
                         uint64_t *ret_index);
/* On an attached host, ask the replica that it uses for the health of the set of a unit. 0, or a negative
 * errno: no answer comes. It may not come after 0 either. */
int membership_ask_set(Membership *m, const char *unit);
/* If this host has a replica, find which replicas serve the attached hosts: 0. -EAGAIN: the leader was asked,
 * and may answer in a moment. -ENOTCONN: there is no leader. */
int membership_ask_sessions(Membership *m);
/* Return the ID of the replica that an attached host uses, or ('in_use' false) has an idle session to, as the
 * last answer has it, borrowed until the next call; NULL: none is known. */
const char *membership_session(const Membership *m, const char *machine_id, bool in_use);
/* Whether the listener at ListenPeer= is open, as it is at first. Otherwise, this host
 * joins without a replica, gets none, and publishes that. */
void membership_set_listening(Membership *m, bool listening);
void membership_state_changed(void *membership); /* the store's on_state */
void membership_peer_changed(Membership *m, const char *machine_id);

/* Reject an outdated image of a host (-ESTALE: the cluster has recorded a later start of it), and a host that
 * has left, with the state that it had (-EKEYREVOKED). 0: admitted. For Peers.admit. */
int membership_admit(const Membership *m, const PeerHandshake *peer, Error *err);
