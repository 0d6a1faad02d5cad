#include "fleetd/directory/diff.h"

#include <errno.h>
#include <stdio.h>

enum {
        HELD_MIN = 3,
        HELD_PART = 3,            /* a third of the files, and at least three, are not removed at once */
        DEAD_MS = 10 * 60 * 1000, /* an owner that is lost for so long has nothing to say any more */
};

void directory_diff_done(DirectoryDiff *diff) {
        free(diff->tasks);
        free(diff->held);
        *diff = (DirectoryDiff) {};
}

static int file_by_name(const void *name, const void *file) {
        return strcmp(name, ((const DirectoryFile *) file)->name);
}

DirectoryFile *directory_file(const DirectoryView *view, const char *name) {
        return view->n_files == 0 ?
                       NULL :
                       bsearch(name, view->files, view->n_files, sizeof(*view->files), file_by_name);
}

static int diff_add(DirectoryDiff *diff, DirectoryTask task) {
        if (GROW(diff->tasks, diff->capacity, diff->n + 1) < 0)
                return -ENOMEM;
        diff->tasks[diff->n++] = task;
        return 0;
}

static bool owned_by(const ClusterUnit *u, const char *machine_id) {
        return u->unit && u->unit->owner && streq(u->unit->owner, machine_id);
}

static bool owner_is_gone(const Cluster *c, const ClusterUnit *u) {
        const ClusterMachine *owner = u->unit->owner ? cluster_machine(c, u->unit->owner) : NULL;

        if (!u->unit->owner)
                return false;
        if (!owner || owner->presence == PRESENCE_LEFT)
                return true;
        return owner->presence == PRESENCE_LOST && c->now_ms >= owner->since_ms &&
               c->now_ms - owner->since_ms >= DEAD_MS;
}

/* The problem that this machine has told of the unit as it is now. */
static const Problem *told(const Cluster *c, const DirectoryView *view, const ClusterUnit *u,
                           ProblemKind kind) {
        const ClusterProblem *p = cluster_problem(c, view->machine_id, u->name);

        return p && p->problem.kind == kind && p->problem.unit_index == u->index ? &p->problem : NULL;
}

static void say_taken(const Cluster *c, const DirectoryView *view, const ClusterUnit *u, DirectoryFile *f) {
        f->kind = PROBLEM_TAKEN;
        if (asprintf(&f->error,
                     "%s: the cluster has another unit of this name, submitted %s%s; it keeps it. Give the "
                     "file another name, or: fleetctl directory take-over %s --machine=%s",
                     f->name, u->unit->owner ? "by the directory of " : "by fleetctl",
                     u->unit->owner ? cluster_name_of(c, u->unit->owner) : "", f->name,
                     cluster_name_of(c, view->machine_id)) < 0)
                f->error = NULL;
}

static void say_unreadable(DirectoryFile *f) {
        f->kind = PROBLEM_REFUSED;
        if (asprintf(&f->error, "%s: the cluster has a unit of this name, and %s", f->name,
                     CLUSTER_UNREADABLE) < 0)
                f->error = NULL;
}

static int say_refused(DirectoryFile *f) {
        f->kind = PROBLEM_REFUSED;
        f->error = strdup(f->fault);
        return f->error ? 0 : -ENOMEM;
}

static bool same_text(const Unit *a, const Unit *b) {
        return a->text_size == b->text_size && memcmp(a->text, b->text, b->text_size) == 0;
}

/* 'any' is what the cluster has of this name, or NULL. */
static int diff_file(const Cluster *c, const DirectoryView *view, DirectoryFile *f, const ClusterUnit *any,
                     DirectoryDiff *ret) {
        const ClusterUnit *u = any && any->unit ? any : NULL;
        DirectoryTask task = {
                .kind = DIRECTORY_UPDATE, .name = f->name, .unit = f->unit, .expected_index = u ? u->index : 0
        };

        if (!f->unit)
                return 0;
        free(f->error); /* of the diff before: what can be read has no other */
        f->error = NULL;
        if (f->fault && !(u && same_text(u->unit, f->unit)))
                return say_refused(f);
        if (any && cluster_unit_lacks(any, LAYOUT_UNIT)) {
                say_unreadable(f);
                return 0;
        }
        if (!u)
                task.kind = DIRECTORY_SUBMIT;
        else if (owned_by(u, view->machine_id)) {
                if (same_text(u->unit, f->unit))
                        return 0;
        } else if (unit_equal(u->unit, f->unit)) {
                if (!owner_is_gone(c, u))
                        return 0;
                task.kind = DIRECTORY_ADOPT;
        } else {
                const Problem *p = told(c, view, u, PROBLEM_TAKEN);

                if (!p || !p->confirmed) {
                        say_taken(c, view, u, f);
                        return 0;
                }
                task.kind = DIRECTORY_TAKE_OVER;
        }
        return diff_add(ret, task);
}

/* A unit without a file here. */
static int diff_no_file(const DirectoryView *view, const ClusterUnit *u, DirectoryDiff *ret) {
        SeenFile *seen;

        if (!view->complete || !owned_by(u, view->machine_id))
                return 0;
        if (GROW(ret->held, ret->held_capacity, ret->n_held + 1) < 0)
                return -ENOMEM;
        HASH_FIND_STR(view->record, u->name, seen);
        ret->held[ret->n_held++] = (DirectoryHeld) { .unit = u, .seen = seen && view->same };
        return 0;
}

/* Of the units in 'held': which are removed. The others stay there. */
static int judge_gone(const Cluster *c, const DirectoryView *view, DirectoryDiff *ret) {
        size_t n_seen = HASH_COUNT(view->record), n_gone = 0, n = ret->n_held;
        bool many;

        for (size_t i = 0; i < n; i++)
                n_gone += ret->held[i].seen;
        many = n_gone >= HELD_MIN && n_gone * HELD_PART >= n_seen;

        ret->n_held = 0;
        for (size_t i = 0; i < n; i++) {
                DirectoryHeld held = ret->held[i];
                const Problem *p = told(c, view, held.unit, PROBLEM_HELD);

                if (p ? !p->confirmed : many || !held.seen)
                        ret->held[ret->n_held++] = held;
                else if (diff_add(ret, (DirectoryTask) { .kind = DIRECTORY_REMOVE,
                                                         .name = held.unit->name,
                                                         .expected_index = held.unit->index }) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Both are sorted by name, and read side by side. */
int directory_diff(const Cluster *cluster, const DirectoryView *view, DirectoryDiff *ret) {
        size_t n_units = HASH_COUNT(cluster->units), at = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < view->n_files; i++) {
                int order = 1;

                while (r == 0 && at < n_units &&
                       (order = strcmp(cluster->by_name[at]->name, view->files[i].name)) < 0)
                        r = diff_no_file(view, cluster->by_name[at++], ret);
                if (r == 0)
                        r = diff_file(cluster, view, &view->files[i],
                                      at < n_units && order == 0 ? cluster->by_name[at++] : NULL, ret);
        }
        while (r == 0 && at < n_units)
                r = diff_no_file(view, cluster->by_name[at++], ret);
        return r < 0 || !view->complete ? r : judge_gone(cluster, view, ret);
}
