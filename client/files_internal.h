/* Files of units, for the submission: client/files.c and client/submit.c. */
#pragma once

#include "client/client.h"

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
