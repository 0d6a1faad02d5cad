#include "fleetd/directory/problems.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"

enum { PROBLEMS_MAX = 1000 }; /* problem keys of one machine */

DirectoryProblems *directory_problems_free(DirectoryProblems *problems) {
        for (size_t i = 0; problems && i < problems->n; i++)
                free(problems->texts[i]);
        free(problems);
        return NULL;
}

/* Add a problem, unless the cluster view has it. Takes 'text'. An operator's confirmation applies until the
 * text or the revision of the unit changes. */
static void problems_add(DirectoryProblems *p, const ClusterProblem *known, const char *machine_id,
                         const char *name, Problem problem) {
        _cleanup_free_ char *owned = (char *) problem.text;

        if (!problem.text || ++p->n_found > PROBLEMS_MAX || p->n == DIRECTORY_PROBLEM_CHANGES_MAX)
                return;
        if (known && known->problem.kind == problem.kind && known->problem.unit_index == problem.unit_index &&
            known->problem.text && streq(known->problem.text, problem.text))
                return;
        if (!known && problem.kind == PROBLEM_HELD) /* has no .error file */
                log_warning(((LogFields) { .unit = name }), "%s", problem.text);
        p->texts[p->n] = TAKE_PTR(owned);
        p->problems[p->n] = problem;
        p->changes[p->n] = (ProblemChange) { .machine = machine_id,
                                             .name = name,
                                             .problem = &p->problems[p->n] };
        p->n++;
}

static char *problems_describe_held(const Cluster *c, const DirectoryView *view, const DirectoryHeld *held) {
        const char *cause = held->seen ? "at once with many others" :
                                         "which is another folder than the one it was seen in";
        char *text;

        if (asprintf(&text,
                     "%s: its file is gone from %s, %s; the unit is kept. Put the file back, or: fleetctl "
                     "directory confirm %s --machine=%s",
                     held->unit->name, view->path, cause, held->unit->name,
                     cluster_name_of(c, view->machine_id)) < 0)
                return NULL;
        return text;
}

static int problems_compare_held(const void *name, const void *held) {
        return strcmp(name, ((const DirectoryHeld *) held)->unit->name);
}

/* Return whether the problem of that name is no longer present. */
static bool problems_is_solved(const DirectoryView *view, const DirectoryDiff *diff, const char *name) {
        const DirectoryFile *f = directory_file_find(view->files, view->n_files, name);

        if ((f && (f->error || f->unfinished)) || !view->complete)
                return false;
        return diff->n_held == 0 ||
               !bsearch(name, diff->held, diff->n_held, sizeof(*diff->held), problems_compare_held);
}

int directory_problems_new(const Cluster *c, const DirectoryView *view, const DirectoryDiff *diff,
                           DirectoryProblems **ret) {
        const ClusterMachine *self = cluster_machine(c, view->machine_id);
        DirectoryProblems *p = NEW0(DirectoryProblems, 1);

        if (!p)
                return -ENOMEM;
        for (size_t i = 0; i < view->n_files; i++) {
                const DirectoryFile *f = &view->files[i];
                const ClusterUnit *u = f->error ? cluster_unit(c, f->name) : NULL;

                if (f->error)
                        problems_add(p, cluster_problem(c, view->machine_id, f->name), view->machine_id,
                                     f->name,
                                     (Problem) { .kind = f->kind,
                                                 .text = strdup(f->error),
                                                 .unit_index = u ? u->index : 0 });
        }
        for (size_t i = 0; i < diff->n_held; i++) {
                const ClusterUnit *u = diff->held[i].unit;

                problems_add(p, cluster_problem(c, view->machine_id, u->name), view->machine_id, u->name,
                             (Problem) { .kind = PROBLEM_HELD,
                                         .text = problems_describe_held(c, view, &diff->held[i]),
                                         .unit_index = u->index });
        }
        for (const ClusterProblem *known = self ? self->problems : NULL;
             known && p->n < DIRECTORY_PROBLEM_CHANGES_MAX; known = known->hh.next)
                if (problems_is_solved(view, diff, known->unit))
                        p->changes[p->n++] = (ProblemChange) { .machine = view->machine_id,
                                                               .name = known->unit,
                                                               .expected_index = known->index };
        *ret = p;
        return 0;
}
