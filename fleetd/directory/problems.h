/* The problem keys of a unit directory: what it rejects or holds, so that an operator has to decide. */
#pragma once

#include "fleetd/directory/diff.h"
#include "fleetd/registry/registry.h"

enum { DIRECTORY_PROBLEM_CHANGES_MAX = 64 }; /* in one transaction */

typedef struct DirectoryProblems {
        ProblemChange
                changes[DIRECTORY_PROBLEM_CHANGES_MAX]; /* borrow from the cluster view and from 'view' */
        Problem problems[DIRECTORY_PROBLEM_CHANGES_MAX];
        char *texts[DIRECTORY_PROBLEM_CHANGES_MAX]; /* owned */
        size_t n, n_found;
} DirectoryProblems;

/* Compute the changes that bring the problem keys of this machine to the state of its directory. 0 or
 * -ENOMEM. */
int directory_problems_new(const Cluster *cluster, const DirectoryView *view, const DirectoryDiff *diff,
                           DirectoryProblems **ret);
DirectoryProblems *directory_problems_free(DirectoryProblems *problems);
DEFINE_CLEANUP(DirectoryProblems *, directory_problems_free)
