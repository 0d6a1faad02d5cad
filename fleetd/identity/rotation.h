/* The states of a rotation of the CA. Pure: each leader continues from the keys alone.
 *
 *   begin        the leader makes a new root
 *   rekey        members store another cluster key: authority_rekey.c continues
 *   distribute   there is a new root; hosts store it, so that no certificate is of a root that they do not
 * know issue        the new root signs; hosts get new certificates end          the former root, its private
 * key and its tokens are removed
 *
 * A host that is not up is not waited for: it is authenticated by its key, and renews when it returns. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Of each state, if the former root is compromised. */
#define ROTATION_COMPROMISED_MS (UINT64_C(1800) * 1000)

typedef enum RotationStep {
        ROTATION_WAIT,  /* or there is none */
        ROTATION_ADD,   /* the next root */
        ROTATION_ISSUE, /* the next root signs */
        ROTATION_END,
} RotationStep;

/* Return the step that is due. *ret_waits is a host without a certificate since the last step, or a member
 * that is not up and lacks the next cluster key, borrowed; NULL: none. A host has received the roots with a
 * certificate that was issued after they were written. */
RotationStep rotation_step(const Cluster *c, uint64_t now_ms, const ClusterMachine **ret_waits);

/* Return whether the cluster key is being changed. */
bool rotation_is_rekey(const Cluster *c);

/* Write the roots after that step into *ret, and their number into ret->n. Texts are borrowed. */
void rotation_roots(const CaRoots *roots, RotationStep step, CaRoots *ret);
