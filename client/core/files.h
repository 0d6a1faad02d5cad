/* The files of units: their names, their drop-ins, and what is wrong with them. */
#pragma once

#include "client/core/client.h"

/* Append the text of the file at 'path', then the drop-ins of the unit 'name' from the same folder. */
int files_read(const char *path, const char *name, Text *t, Error *err);

/* Read the file of an argument like "web@1": its own file, or that of its template. The caller frees
 * *ret_path and *ret_name, also after an error. */
int files_find(const char *argument, char **ret_path, char **ret_name, Text *t, Error *err);

/* Print "fleetctl: NAME: line N: KIND MESSAGE" for each warning; without the line number if there is none. */
void files_print_warnings(const char *name, const Warnings *warnings, const char *kind);

/* Add the names of the units that the arguments name, in order. Return 0 or -ENOMEM. */
int files_names(char **args, size_t n, Names *ret);

/* Append the drop-ins from the folder of 'path'; with 'own' without those of the template of an instance. */
int files_read_drop_ins(const char *path, const char *name, bool own, Text *t, Error *err);

/* Append the reason why this argument is not the file of a unit: it is a folder, or with 'missing', because
 * the file with the unit type in its name is missing, it has no unit type. Nothing is appended for other
 * files. */
void files_explain(const char *argument, bool missing, Text *t);

/* Find the file of a unit: 'path', or for an instance its template in the same folder. Return 0 if neither
 * exists. */
int files_find_path(const char *path, const char *name, Text *ret, bool *ret_from_template);

/* Return the argument with its type as a path, and the name of the unit. */
int files_parse_argument(const char *argument, char **ret_path, char **ret_name, Error *err);
