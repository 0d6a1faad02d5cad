/* Unit files on their way into the cluster. */
#pragma once

#include "client/client.h"

/* Brings each argument into the cluster that is not there yet: from the file here, or for an instance from
 * its template in the cluster or here. With --replace, files that differ go over units whose desired state is
 * at most 'replaceable'.
 *
 * All files here are read before anything is submitted; what happened is printed. The exit status; *ret_names
 * (may be NULL) become the units' names. */
int files_submit(Client *c, char **args, size_t n, TargetState replaceable, Names *ret_names);

/* Appends the text of the file at 'path' with the drop-ins that lie beside it for a unit 'name'. */
int files_read(const char *path, const char *name, Text *t, Error *err);

/* The same for an argument as 'start' takes it, "web@1" for one: its own file, or its template's. What is
 * returned is also to be freed after an error. */
int files_find(const char *argument, char **ret_path, char **ret_name, Text *t, Error *err);

/* "fleetctl: NAME: line N: WORD..." for each of them, without the line where there is none. */
void files_print_notes(const char *name, const Warnings *notes, const char *word);

/* Their names, in order; 0 or -ENOMEM. */
int files_names(char **args, size_t n, Names *ret);
