/* Which replicas an attached host uses: weighted rendezvous hashing, so that no host needs a central table,
 * and the removal of a replica moves only its own hosts. Pure.
 *
 * Source: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous" (1996). */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct ReplicaChoice {
        const char *machine; /* of the replica; borrowed */
        uint64_t raft_id;
        unsigned weight;   /* CHOICE_VOTER or CHOICE_STANDBY: a standby has more time */
        const char *place; /* its value of the spread key; NULL: none */
} ReplicaChoice;

enum { CHOICE_VOTER = 1, CHOICE_STANDBY = 2 };

/* Sort the replicas for a machine: the first one is for the session in use, the second one for the idle
 * session. The second one is in another place than the first one, if there is such a replica. */
void choose_replicas(const char *machine_id, ReplicaChoice *choices, size_t n);
