/* The help, made of the table of verbs, the rows of verbs, and the topics. */
#pragma once

#include "client/core/verb.h"

/* Print all verbs, topics and global options. */
void help_print_all(const Verb *const *verbs);

/* Print the help of a verb, or of the verb of kv that the next argument names. */
int help_print(const Verb *v, char **args, size_t n);

/* Append the next step for a verb that this version does not have. */
bool help_append_foreign(Text *t, const char *name);

bool help_note_foreign(const char *name);
