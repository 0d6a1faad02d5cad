#include "fleetd/directory/problems.h"

#include "base/log.h"

enum { PROBLEMS_MAX = 1000 }; /* problem keys of one machine */

/* Add a problem, unless the cluster view has it. An operator's confirmation applies until the text or the
 * revision of the unit changes. */
static void problems_add(DirectoryProblems *p, const Cluster *c, const char *machine_id, const char *name,
                         Problem problem) {
        const ClusterProblem *known = cluster_problem(c, machine_id, name);

        if (++p->n_found > PROBLEMS_MAX || p->n == DIRECTORY_PROBLEM_CHANGES_MAX)
                return;
        if (known && known->problem.kind == problem.kind && known->problem.unit_index == problem.unit_index &&
            same_string(known->problem.text, problem.text))
                return;
        if (!known && problem.kind == PROBLEM_HELD) /* has no .error file */
                log_warning(((LogFields) { .unit = name }), "%s", problem.text);
        p->problems[p->n] = problem;
        p->changes[p->n] = (ProblemChange) { .machine = machine_id,
                                             .name = name,
                                             .problem = &p->problems[p->n] };
        p->n++;
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

/* Add the problems of files, or only what is no fault of a file that is applied. */
static void problems_add_files(DirectoryProblems *p, const Cluster *c, const DirectoryView *view,
                               bool notes) {
        for (size_t i = 0; i < view->n_files; i++) {
                const DirectoryFile *f = &view->files[i];
                const ClusterUnit *u = f->error ? cluster_unit(c, f->name) : NULL;

                if (f->error && (f->kind == PROBLEM_WARNED || f->kind == PROBLEM_UNOWNED) == notes)
                        problems_add(p, c, view->machine_id, f->name,
                                     (Problem) { .kind = f->kind,
                                                 .text = f->error,
                                                 .unit_index = u ? u->index : 0 });
        }
}

int directory_problems_new(const Cluster *c, const DirectoryView *view, const DirectoryDiff *diff,
                           DirectoryProblems **ret) {
        const ClusterMachine *self = cluster_machine(c, view->machine_id);
        DirectoryProblems *p = NEW0(DirectoryProblems, 1);

        if (!p)
                return -ENOMEM;
        problems_add_files(p, c, view, false);
        for (size_t i = 0; i < diff->n_held; i++) {
                const DirectoryHeld *held = &diff->held[i];

                problems_add(p, c, view->machine_id, held->unit->name,
                             (Problem) { .kind = PROBLEM_HELD,
                                         .text = held->text,
                                         .unit_index = held->unit->index });
        }
        problems_add_files(p, c, view, true);
        for (const ClusterProblem *known = self ? self->problems : NULL;
             known && p->n < DIRECTORY_PROBLEM_CHANGES_MAX; known = known->hh.next)
                if (problems_is_solved(view, diff, known->unit))
                        p->changes[p->n++] = (ProblemChange) { .machine = view->machine_id,
                                                               .name = known->unit,
                                                               .expected_index = known->index };
        *ret = p;
        return 0;
}
