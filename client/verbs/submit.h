/* Unit files on their way into the cluster. */
#pragma once

#include "client/verbs/rollout.h"

/* What was submitted; each may be NULL. */
typedef struct Submitted {
        Names *names, *created;
        Names *differing; /* of each of 'names': the argument, if its file has another text than the unit,
                             which stays, and can replace it; else "" */
        RolloutGoals *rolled;
} Submitted;

/* Submit each argument that the cluster does not have: its file, or for an instance its template from the
 * cluster or from the folder of the argument. With --replace, changed files replace units with a target state
 * of at most 'replaceable'.
 *
 * All files are read before the first unit is submitted; changes are printed. With 'names', the caller sets
 * target states, which templates do not have: they are rejected before that, too. Return the exit status;
 * ret->names are the names of the units. New units have the target state inactive; with
 * 'created' they have 'replaceable', and ret->created are their names. Units to be
 * launched and templates that are replaced keep their target state where the daemons roll texts out: the
 * caller calls replace_wait() for ret->rolled, of which only the first set is submitted, and frees all of
 * them, also after an error. */
int submit_files(Client *c, char **args, size_t n, TargetState replaceable, const Submitted *ret, Error *err);

/* Add the paths of keys (EnvironmentKeys=, ConfigKeys=) that a text names and its former one does not; of a
 * template also those of its instances. 'former' NULL: the unit is new, and an instance is compared with its
 * template. A text that cannot be read has none. 0 or -ENOMEM. */
int submit_add_paths(Client *c, Names *paths, const char *name, const char *text, const ApiUnit *former);
/* Print how many keys the paths from 'at' on had before a unit named them: who wrote those, decides about the
 * unit. Errors are ignored. */
void submit_note_keys(Client *c, const Names *paths, size_t at);
