/* Revisions in the cluster view: the keys of former texts, and which of them are kept. */
#pragma once

#include "fleetd/registry/cluster.h"

ClusterRevision *cluster_revision(const ClusterUnit *u, uint64_t number); /* NULL: it is not stored */
/* Return whether the key of the unit, which can be read, does not name a stored revision. */
bool cluster_revision_is_surplus(const ClusterUnit *u, const ClusterRevision *revision);
bool cluster_unit_has_surplus(const ClusterUnit *u);
/* Return whether so many revisions are stored that the leader has to delete some before another text. */
bool cluster_revisions_are_full(const ClusterUnit *known, const Placement *next);
