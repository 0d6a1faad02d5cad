/* Unit files on their way into the cluster. */
#pragma once

#include "client/client.h"
#include "client/rollout.h"

/* What was submitted; each may be NULL. */
typedef struct FilesSubmitted {
        Names *names, *created;
        Names *differing; /* of each of 'names': the argument, if its file has another text than the unit,
                             which stays, and can replace it; else "" */
        RolloutGoals *rolled;
} FilesSubmitted;

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
int files_submit(Client *c, char **args, size_t n, TargetState replaceable, const FilesSubmitted *ret,
                 Error *err);

/* Append the text of the file at 'path', then the drop-ins of the unit 'name' from the same folder. */
int files_read(const char *path, const char *name, Text *t, Error *err);

/* Read the file of an argument like "web@1": its own file, or that of its template. The caller frees
 * *ret_path and *ret_name, also after an error. */
int files_find(const char *argument, char **ret_path, char **ret_name, Text *t, Error *err);

/* Print "fleetctl: NAME: line N: KIND MESSAGE" for each warning; without the line number if there is none. */
void files_print_warnings(const char *name, const Warnings *warnings, const char *kind);

/* Add the names of the units that the arguments name, in order. Return 0 or -ENOMEM. */
int files_names(char **args, size_t n, Names *ret);
