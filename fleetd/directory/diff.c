#include "fleetd/directory/diff.h"

#include <errno.h>
#include <stdio.h>

enum { HELD_MIN = 3, HELD_PART = 3 }; /* a third of the files, and at least three, are not removed at once */

void directory_diff_done(DirectoryDiff *diff) {
        free(diff->tasks);
        *diff = (DirectoryDiff) {};
}

static int diff_add(DirectoryDiff *diff, DirectoryTask task) {
        if (GROW(diff->tasks, diff->capacity, diff->n + 1) < 0)
                return -ENOMEM;
        diff->tasks[diff->n++] = task;
        return 0;
}

static bool owned_by(const ClusterUnit *u, const char *machine_id) {
        return u && u->unit && u->unit->owner && streq(u->unit->owner, machine_id);
}

static int diff_file(const Cluster *c, const char *machine_id, DirectoryFile *f, DirectoryDiff *ret) {
        const ClusterUnit *u = cluster_unit(c, f->name);

        if (!f->unit)
                return 0;
        if (!u)
                return diff_add(ret, (DirectoryTask) { .kind = DIRECTORY_SUBMIT, .name = f->name, .unit = f->unit });
        if (!owned_by(u, machine_id)) {
                const ClusterMachine *owner = u->unit->owner ? cluster_machine(c, u->unit->owner) : NULL;

                if (unit_equal(u->unit, f->unit))
                        return 0;
                if (asprintf(&f->error, "%s: the cluster has another unit of this name, submitted %s%s; it keeps it. Destroy it there first, or choose another name",
                             f->name, !u->unit->owner ? "by fleetctl" : "by the directory of ",
                             !u->unit->owner ? "" : owner && owner->facts && owner->facts->name ? owner->facts->name : u->unit->owner) < 0)
                        f->error = NULL;
                return 0;
        }
        if (u->unit->text_size == f->unit->text_size && memcmp(u->unit->text, f->unit->text, f->unit->text_size) == 0)
                return 0;
        return diff_add(ret, (DirectoryTask) { .kind = DIRECTORY_UPDATE, .name = f->name, .unit = f->unit, .expected_index = u->index });
}

static bool has_file(const DirectoryFile *files, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (streq(files[i].name, name))
                        return true;
        return false;
}

int directory_diff(const Cluster *cluster, const char *machine_id, DirectoryFile *files, size_t n_files, const DirectoryRecord *record,
                   bool complete, DirectoryDiff *ret) {
        size_t n_seen = 0, n_gone = 0, first;
        int r = 0;

        for (size_t i = 0; r == 0 && i < n_files; i++)
                r = diff_file(cluster, machine_id, &files[i], ret);

        first = ret->n;
        for (const DirectoryRecord *seen = record; r == 0 && complete && seen; seen = seen->hh.next) {
                const ClusterUnit *u = cluster_unit(cluster, seen->name);

                n_seen++;
                if (has_file(files, n_files, seen->name) || !owned_by(u, machine_id))
                        continue;
                n_gone++;
                r = diff_add(ret, (DirectoryTask) { .kind = DIRECTORY_REMOVE, .name = seen->name, .expected_index = u->index });
        }
        if (n_gone >= HELD_MIN && n_gone * HELD_PART >= n_seen) {
                ret->n = first;
                ret->n_held = n_gone;
        }
        return r;
}
