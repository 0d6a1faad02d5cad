#include "fleetd/directory/diff.h"

#include "fleetd/registry/newer_options.h"
#include "fleetd/registry/unit_order.h"

enum {
        /* Units are held if at least HELD_MIN files, and 1/HELD_PART of all, disappear at once. */
        HELD_MIN = 3,
        HELD_PART = 3,
        OWNER_LOST_MS = 10 * 60 * 1000, /* after which an owner counts as gone */
};

void directory_diff_done(DirectoryDiff *diff) {
        for (size_t i = 0; i < diff->n_held; i++)
                free(diff->held[i].text);
        free(diff->tasks);
        free(diff->held);
        *diff = (DirectoryDiff) {};
}

static int directory_file_compare(const void *name, const void *file) {
        return strcmp(name, ((const DirectoryFile *) file)->name);
}

DirectoryFile *directory_file_find(DirectoryFile *files, size_t n, const char *name) {
        return n == 0 ? NULL : bsearch(name, files, n, sizeof(*files), directory_file_compare);
}

static int diff_add(DirectoryDiff *diff, DirectoryTask task) {
        TRY(GROW(diff->tasks, diff->capacity, diff->n + 1));
        diff->tasks[diff->n++] = task;
        return 0;
}

static bool diff_is_owned_by(const ClusterUnit *u, const char *machine_id) {
        return u->unit && u->unit->owner && streq(u->unit->owner, machine_id);
}

static bool diff_owner_is_gone(const Cluster *c, const ClusterUnit *u) {
        const ClusterMachine *owner = u->unit->owner ? cluster_machine(c, u->unit->owner) : NULL;

        if (!u->unit->owner)
                return false;
        if (!owner || owner->presence == PRESENCE_LEFT)
                return true;
        return owner->presence == PRESENCE_LOST && c->now_ms >= owner->since_ms &&
               c->now_ms - owner->since_ms >= OWNER_LOST_MS;
}

/* Return the problem that this machine has published about this revision of the unit. */
static const Problem *diff_problem(const Cluster *c, const DirectoryView *view, const ClusterUnit *u,
                                   ProblemKind kind) {
        const ClusterProblem *p = cluster_problem(c, view->machine_id, u->name);

        return p && p->problem.kind == kind && p->problem.unit_index == u->index ? &p->problem : NULL;
}

/* Set the problem of the file. 0 or -ENOMEM. */
_printf_(3, 4) static int diff_set_error(DirectoryFile *f, ProblemKind kind, const char *format, ...) {
        va_list ap;
        int n;

        f->kind = kind;
        va_start(ap, format);
        n = vasprintf(&f->error, format, ap);
        va_end(ap);
        if (n >= 0)
                return 0;
        f->error = NULL;
        return -ENOMEM;
}

/* The unit has the text of the file, with a warning, for example of a line without effect. 0 or -ENOMEM. */
static int diff_note_warning(DirectoryFile *f) {
        const Warnings *w = &f->unit->warnings;

        if (w->n == 0)
                return 0;
        if (w->items[0].line == 0)
                return diff_set_error(f, PROBLEM_WARNED, "%s: warning: %s", f->name, w->items[0].message);
        return diff_set_error(f, PROBLEM_WARNED, "%s: line %u: warning: %s", f->name, w->items[0].line,
                              w->items[0].message);
}

/* The unit has the text of the file, and its rollout has failed. The record of the rollout of a former text
 * remains until the engine begins that of this one. 0 or -ENOMEM. */
static int diff_note_pause(DirectoryFile *f, const ClusterUnit *u) {
        const RolloutRecord *r = u->rollout;

        if (!r || r->state != ROLLOUT_PAUSED || r->n_failed == 0 || !streq(r->to.hash, u->unit->hash) ||
            rollout_record_is_of_content(r))
                return diff_note_warning(f);
        return diff_set_error(f, PROBLEM_PAUSED,
                              "%s: the rollout of revision %llu is paused: %s; correct the file, or try the "
                              "same text again: fleetctl rollout resume %s",
                              f->name, (unsigned long long) r->to.number, r->why, f->name);
}

/* Return the text of the file if a user left it by a revert, or by the first of several reverts; or NULL. */
static const Revision *diff_left(const char *hash, const Revisions *all) {
        const Revision *next = &all->wanted;

        for (size_t i = all->n_former; i > 0 && next->how == REVISION_REVERTED; i--) {
                next = &all->former[i - 1];
                if (streq(next->hash, hash))
                        return next;
        }
        return NULL;
}

/* Set the hash of the text of the file without the drop-ins of the instance: it is that of a revision of its
 * template. 0 or -ENOMEM. */
static int diff_base(const DirectoryFile *f, char ret[static UNIT_HASH_SIZE]) {
        const char *text = f->unit->text;
        _cleanup_unit_ Unit *base = NULL;
        _cleanup_text_ Text own = {};
        int r = unit_append_own_drop_ins(&own, f->name, text);

        memcpy(ret, f->unit->hash, UNIT_HASH_SIZE);
        if (r < 0 || own.size == 0 || !streq(text + f->unit->text_size - own.size, own.chars))
                return r;
        r = unit_read(f->name, text, f->unit->text_size - own.size, &base, NULL);
        if (r >= 0)
                memcpy(ret, base->hash, UNIT_HASH_SIZE);
        return r == -ENOMEM ? r : 0;
}

/* Set *ret to the number of the text of the file if it failed and was reverted, or if a user left it by a
 * revert, and why in 'ret_why'; 0: neither. An instance has the texts of the template that it follows. Return
 * 0 or -ENOMEM. */
static int diff_reverted(const Cluster *c, const DirectoryFile *f, const ClusterUnit *u, uint64_t *ret,
                         Error *ret_why) {
        const ClusterUnit *template = u->unit->from ? cluster_unit(c, u->unit->from) : NULL,
                          *head = template && template->unit ? template : u;
        const Revisions *all = &head->unit->revisions;
        char hash[UNIT_HASH_SIZE];
        const Revision *left;
        int r = diff_base(f, hash);

        *ret = 0;
        if (r < 0)
                return r;
        if (head->rollout && head->rollout->reverted.number > 0 &&
            streq(head->rollout->reverted.hash, hash)) {
                error_set(ret_why, 0, "%s", rollout_record_reverted_why(head->rollout));
                *ret = head->rollout->reverted.number;
                return 0;
        }
        left = diff_left(hash, all);
        if (!left)
                return 0;
        error_set(ret_why, 0, "by %s", *all->wanted.by ? all->wanted.by : "fleetctl");
        *ret = left->number;
        return 0;
}

static bool diff_is_same_text(const Unit *a, const Unit *b) {
        return a->text_size == b->text_size && memcmp(a->text, b->text, b->text_size) == 0;
}

/* 'any': the unit of that name in the cluster, readable or not; or NULL. */
static int diff_file(const Cluster *c, const DirectoryView *view, DirectoryFile *f, const ClusterUnit *any,
                     DirectoryDiff *ret) {
        const ClusterUnit *u = any && any->unit ? any : NULL;
        DirectoryTask task = {
                .kind = DIRECTORY_UPDATE, .name = f->name, .unit = f->unit, .expected_index = u ? u->index : 0
        };
        uint64_t reverted;
        Error err = {};
        int r;

        if (!f->unit)
                return 0;
        free(f->error); /* of the previous diff: a readable file has no other */
        f->error = NULL;
        if (f->fault && !(u && diff_is_same_text(u->unit, f->unit)))
                return diff_set_error(f, PROBLEM_REFUSED, "%s", f->fault);
        if (any && cluster_unit_has_unreadable(any, LAYOUT_UNIT))
                return diff_set_error(f, PROBLEM_REFUSED, "%s: the cluster has a unit of this name, and %s",
                                      f->name, CLUSTER_UNREADABLE);
        if (!u)
                task.kind = DIRECTORY_SUBMIT;
        else if (diff_is_owned_by(u, view->machine_id)) {
                const Problem *p = diff_problem(c, view, u, PROBLEM_REVERTED);

                if (diff_is_same_text(u->unit, f->unit))
                        return diff_note_pause(f, u);
                r = TRY(diff_reverted(c, f, u, &reverted, &err));
                if (reverted > 0 && (!p || !p->confirmed))
                        return diff_set_error(f, PROBLEM_REVERTED,
                                              "%s: revision %llu was reverted (%s); correct the file, or: "
                                              "fleetctl directory retry %s --machine=%s",
                                              f->name, (unsigned long long) reverted, err.message, f->name,
                                              cluster_name_of(c, view->machine_id));
                task.retargets = f->unit->placement.target != u->unit->placement.target ||
                                 (f->unit->placement.replicas < 0) != (u->unit->placement.replicas < 0);
        } else if (unit_equal(u->unit, f->unit)) {
                const Problem *p = diff_problem(c, view, u, PROBLEM_UNOWNED);

                if (!u->unit->owner && (!p || !p->confirmed))
                        return diff_set_error(
                                f, PROBLEM_UNOWNED,
                                "%s: not owned: submitted by fleetctl, with this text; the removal of the "
                                "file does not destroy the unit. To own it: fleetctl directory take-over %s "
                                "--machine=%s",
                                f->name, f->name, cluster_name_of(c, view->machine_id));
                if (u->unit->owner && !diff_owner_is_gone(c, u))
                        return 0;
                task.kind = u->unit->owner ? DIRECTORY_ADOPT : DIRECTORY_TAKE_OVER;
        } else {
                const Problem *p = diff_problem(c, view, u, PROBLEM_TAKEN);

                if (!p || !p->confirmed)
                        return diff_set_error(
                                f, PROBLEM_TAKEN,
                                "%s: the cluster has another unit of this name, submitted %s%s; it keeps it. "
                                "Give the file another name, or: fleetctl directory take-over %s "
                                "--machine=%s",
                                f->name, u->unit->owner ? "by the directory of " : "by fleetctl",
                                u->unit->owner ? cluster_name_of(c, u->unit->owner) : "", f->name,
                                cluster_name_of(c, view->machine_id));
                task.kind = DIRECTORY_TAKE_OVER;
        }
        r = cluster_check_followers(c, f->unit, &ret->checked, &err);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return diff_set_error(f, PROBLEM_REFUSED, "%s: %s", f->name, err.message);
        r = task.kind == DIRECTORY_UPDATE ? diff_note_warning(f) : 0;
        return r < 0 ? r : diff_add(ret, task);
}

/* A unit without a file in this directory. */
static int diff_missing_file(const DirectoryView *view, const ClusterUnit *u, DirectoryDiff *ret) {
        const SeenFile *seen = named_find(view->record, u->name);

        if (!view->complete || !diff_is_owned_by(u, view->machine_id))
                return 0;
        TRY(GROW(ret->held, ret->held_capacity, ret->n_held + 1));
        ret->held[ret->n_held++] = (DirectoryHeld) { .unit = u, .seen = seen && view->same };
        return 0;
}

static int diff_describe_held(const Cluster *c, const DirectoryView *view, DirectoryHeld *held) {
        const char *cause = held->seen ? "at once with many others" :
                                         "which is another folder than the one it was seen in";

        return asprintf(&held->text,
                        "%s: its file is gone from %s, %s; the unit is kept. Put the file back, or: fleetctl "
                        "directory confirm %s --machine=%s",
                        held->unit->name, view->path, cause, held->unit->name,
                        cluster_name_of(c, view->machine_id));
}

/* Add a task for each unit in 'held' that is to be removed. The others remain there. */
static int diff_judge_missing(const Cluster *c, const DirectoryView *view, DirectoryDiff *ret) {
        size_t n_seen = 0, n_gone = 0, n = ret->n_held;
        bool many;

        for (const Named *seen = view->record; seen; seen = seen->hh.next)
                n_seen += unit_name_check(seen->name, NULL) == 0;
        for (size_t i = 0; i < n; i++)
                n_gone += ret->held[i].seen;
        many = n_gone >= HELD_MIN && n_gone * HELD_PART >= n_seen;

        ret->n_held = 0;
        for (size_t i = 0; i < n; i++) {
                DirectoryHeld held = ret->held[i];
                const Problem *p = diff_problem(c, view, held.unit, PROBLEM_HELD);

                if (p ? !p->confirmed : many || !held.seen) {
                        if (diff_describe_held(c, view, &held) < 0)
                                return -ENOMEM;
                        ret->held[ret->n_held++] = held;
                } else if (diff_add(ret, (DirectoryTask) { .kind = DIRECTORY_REMOVE,
                                                           .name = held.unit->name,
                                                           .expected_index = held.unit->index }) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Files and units are sorted by name, and merged. */
int directory_diff(const Cluster *cluster, const DirectoryView *view, DirectoryDiff *ret) {
        const UnitOrder *units = &cluster->by_name;
        size_t n_files = view->n_files, at_file = 0;
        UnitPosition at = {};
        const ClusterUnit *next = unit_order_next(units, &at);

        while (next || at_file < n_files) {
                const ClusterUnit *u = next;
                DirectoryFile *f = at_file < n_files ? &view->files[at_file] : NULL;
                int order = 1;

                if (u)
                        order = f ? strcmp(u->name, f->name) : -1;
                if (order <= 0)
                        next = unit_order_next(units, &at);
                at_file += order >= 0;
                TRY(order < 0 ? diff_missing_file(view, u, ret) :
                                diff_file(cluster, view, f, order == 0 ? u : NULL, ret));
        }
        return view->complete ? diff_judge_missing(cluster, view, ret) : 0;
}
