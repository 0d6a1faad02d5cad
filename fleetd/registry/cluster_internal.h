/* Entries of the cluster view, for the files that write it: cluster.c and kinds.c. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Set or clear the text of a unit, and file its rules. cluster_set_text() takes 'unit'; -ENOMEM leaves the
 * unit without a text. */
int cluster_set_text(Cluster *c, ClusterUnit *u, Unit *unit);
void cluster_clear_text(Cluster *c, ClusterUnit *u);

/* Bring the lists up to date after any change of the unit, and drop the entry after its last key. */
void cluster_update_unit(Cluster *c, ClusterUnit *u);

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

/* Unlink from unit and machine, and free. */
void cluster_assignment_free(ClusterAssignment *a);
void cluster_state_free(ClusterState *s);
void cluster_problem_free(ClusterMachine *m, ClusterProblem *p);

/* Takes 'facts'; NULL: none. */
void cluster_set_facts(ClusterMachine *m, Machine *facts, uint64_t index);
void cluster_facts_free(Machine *facts);

/* Also an assignment whose key is unreadable. */
ClusterAssignment *cluster_any_assignment(const Cluster *c, const char *machine_id, const char *unit);
