/* A verb: the row of its name, its help, its options and its function. The file of each verb below
 * client/verbs/ ends with its row, verb_NAME, and client/verbs.c lists them. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "client/core/suggest.h"

typedef struct Client Client;

/* Return the exit status of the program, after printing a message if it is not EXIT_DONE; or a negative
 * errno: the caller prints the message in 'err'. Functions with such results serve verbs. */
typedef int VerbRun(Client *c, char **args, size_t n, Error *err);

typedef struct Verb Verb;
struct Verb {
        const char *name;
        const char *groups;    /* to which it belongs, separated by spaces; see verb_has() */
        const char *arguments; /* "UNIT..." and "FILE..." require at least one */
        const char *summary;
        const char *description; /* lines, or NULL */
        VerbRun *run;
        const Verb *const *verbs; /* below it; ends with NULL; NULL: it has none */
};

/* Return whether a verb belongs to a group. Most have flags in common (client/core/options.c). Others are:
 *   fleet         without units, print a message of fleet and succeed
 *   patterns      patterns match units with a target state above inactive
 *   patterns-all  patterns match all units
 *   alone         no connection: another program has it
 *   report        --output=json prints the result: client/core/report.h */
static inline bool verb_has(const Verb *v, const char *group) {
        return text_has_word(v->groups, group);
}

/* The row of the verb verb_ID. */
#define VERB(id, verb_name, verb_groups, verb_arguments, verb_summary, verb_description, verb_run) \
        const Verb verb_##id = { .name = verb_name,                                                \
                                 .groups = verb_groups,                                            \
                                 .arguments = verb_arguments,                                      \
                                 .summary = verb_summary,                                          \
                                 .description = verb_description,                                  \
                                 .run = verb_run }

/* End the program if a row lacks a member, or if two rows have one name. */
void verbs_check(const Verb *const *verbs);

/* Return the verb of that name, or the only one that begins with it; 'verbs' ends with NULL. */
const Verb *verb_find(const Verb *const *verbs, const char *name);
void verbs_consider(const Verb *const *verbs, Suggestion *s);
/* Append a question with the similar ones, or where all are. */
void verbs_append_similar(const Verb *const *verbs, Text *t, const char *name);
const char *verb_nearest(const Verb *const *verbs,
                         const char *name); /* "did you mean"; NULL: none is similar */
/* Print a name of a list and its meaning, which a narrow terminal continues below itself. */
void verb_print_item(size_t width, const char *name, const char *meaning);
/* Print the help of a verb. 'of' is "kv " for a verb of kv, else "". */
void verb_print_help(const Verb *v, const char *of);
