/* Parts of the cluster view, for the effects of keys on it. */
#pragma once

#include "fleetd/registry/kinds.h"

/* Bring the lists of the cluster view up to date after any change of the unit. */
void cluster_update_lists(Cluster *c, ClusterUnit *u);

/* Take the unit from the list of its owner, if it has one. */
void cluster_owner_remove(Cluster *c, ClusterUnit *u);
void cluster_revisions_free(ClusterUnit *u);

/* Return the metadata that the machine states, if they count; NULL: none. */
const Pairs *cluster_metadata_own(const ClusterMachine *m);
/* Merge these with the pairs that people set. 0 or -ENOMEM. */
int cluster_metadata_merge(ClusterMachine *m);

/* Unlink from unit and machine, and free. */
void cluster_assignment_free(ClusterAssignment *a);
/* Count the assignment in the sums of its machine by the wanted text of its unit. */
void cluster_assignment_count(ClusterAssignment *a);
void cluster_state_free(ClusterState *s);
void cluster_problem_free(ClusterMachine *m, ClusterProblem *p);

/* Free about 'n' endpoints. Return how many there were. */
size_t cluster_endpoints_free(Cluster *c, size_t n);

/* Insert an assignment or a state into a list of its unit, which is sorted by machine id. */
#define CLUSTER_LIST_INSERT(head, element)                                          \
        do {                                                                        \
                typeof(element) _after = NULL, _at = LIST_FIRST(head);              \
                for (; _at && strcmp(_at->machine->id, (element)->machine->id) < 0; \
                     _at = LIST_NEXT(_at, of_unit))                                 \
                        _after = _at;                                               \
                if (_after)                                                         \
                        LIST_INSERT_AFTER(_after, (element), of_unit);              \
                else                                                                \
                        LIST_INSERT_HEAD((head), (element), of_unit);               \
        } while (0)
