/* The problem keys of a unit directory: what it rejects or holds, so that an operator has to decide. */
#pragma once

#include "fleetd/directory/diff.h"
#include "fleetd/registry/registry.h"

enum { DIRECTORY_PROBLEM_CHANGES_MAX = 64 }; /* in one transaction */

/* Borrows from the cluster view, from the view of the directory, and from the diff. */
typedef struct DirectoryProblems {
        ProblemChange changes[DIRECTORY_PROBLEM_CHANGES_MAX];
        Problem problems[DIRECTORY_PROBLEM_CHANGES_MAX];
        size_t n, n_found;
} DirectoryProblems;

/* Compute the changes that bring the problem keys of this machine to the state of its directory. The caller
 * frees *ret. 0 or -ENOMEM. */
int directory_problems_new(const Cluster *cluster, const DirectoryView *view, const DirectoryDiff *diff,
                           DirectoryProblems **ret);
