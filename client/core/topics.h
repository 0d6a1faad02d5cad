/* Topics of "fleetctl help": the sections of fleet(7) for the tasks of an operator. The build takes their
 * text from the page (client/core/topics.awk), so that no man(1) is needed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/core/suggest.h"

typedef struct Topic {
        const char *name;
        const char *title; /* "Form a cluster" */
        const char *text;
} Topic;

extern const Topic topics[]; /* in the order of the page; ends with an empty row */

/* Return the topic of that name, or the only one that begins with it; NULL if there is none. */
const Topic *topic_find(const char *name);

/* Return the topic about a task for which other programs have a verb and this version has none ("drain");
 * NULL if there is none. */
const Topic *topic_of_foreign_verb(const char *name);

/* Return the verb for which other programs have this one, or NULL. */
const char *verb_of_foreign(const char *name);

/* Return what replaces a flag that the verb has in other programs ("-u", "--unit"), or NULL. */
const char *flag_of_foreign(const char *verb, const char *flag);

/* Print the section, wrapped to the width of the terminal, or to 80 columns. */
void topic_print(const Topic *topic);
