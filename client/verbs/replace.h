/* New texts of started units: the sets of a command, one after the other. */
#pragma once

#include "client/verbs/rollout.h"

/* A template of the cluster. */
typedef struct ReplaceTemplate {
        char *name;         /* owned */
        JsonValue *rollout; /* owned: of its set; NULL: the cluster has no such template */
} ReplaceTemplate;

typedef struct ReplaceTemplates {
        ReplaceTemplate *items;
        size_t n, capacity;
} ReplaceTemplates;

void replace_templates_done(ReplaceTemplates *all);

/* The hash of its text; "": the cluster has no such template. Borrowed. */
const char *replace_template_hash(const ReplaceTemplate *t);

/* Return whether an instance that is to run follows the template, as its answer shows; false if that is
 * unknown: the daemon has no rollouts yet. */
bool replace_template_has(const ReplaceTemplate *t, const char *instance);
/* The same of one that has a text of its own. */
bool replace_template_lacks(const ReplaceTemplate *t, const char *instance);
/* Return 1 if the instance has the wanted text of the template, alone or with drop-ins of its own; else 0, or
 * -ENOMEM. */
int replace_template_has_text(Client *c, const ReplaceTemplate *t, const Unit *instance);

/* Append that an instance got a text of its own, and how it follows the template again. */
void replace_append_apart(Text *t, const ReplaceTemplate *template, const char *instance);

/* Print which instances do not follow a template that was submitted, and which bounds its set cannot satisfy.
 * Errors are ignored. */
void replace_note_set(Client *c, const char *template);

/* Find the template of an instance, which the cluster may lack; it is read once. 0 or a negative errno. */
int replace_template(Client *c, ReplaceTemplates *all, const char *instance, const ReplaceTemplate **ret,
                     Error *err);

/* Print that a template does not get the target state 'target', and the next step. 'given': its argument;
 * 'exists': in the cluster. */
void replace_refuse_template(const Client *c, const char *name, const char *given, bool exists,
                             TargetState target);

/* Check --canary and --on-failure, before a file is read. Return an exit status. */
int replace_check_options(const Client *c);

/* With --canary or --on-failure, print that they have no effect on this unit; 'stored': it has the text, and
 * perhaps a rollout. Return whether that was printed. */
bool replace_note_unused(const Client *c, const char *name, const char *why, bool stored);

/* Print how units that are of 'n' sets get their new texts. */
void replace_note(const Client *c, size_t n_units, size_t n_sets);

/* Print that the goals from 'at' on are not 'done' ("replaced"), and the command that continues; nothing if
 * there are none. */
void replace_note_rest(const Client *c, const char *done, const RolloutGoals *goals, size_t at);

/* Ask at a terminal whether a change with this effect is wanted. Elsewhere the answer is no; with
 * 'only_warns', it is yes, after a warning. */
bool replace_ask(Client *c, bool only_warns, const char *effect);

/* Plan new texts. Print before a change which units would stop, because no machine qualifies for the new
 * text, and ask at a terminal. Elsewhere the answer is no; yes if 'only_warns'. Nothing is printed if the
 * daemon does not plan them. *ret_where: the machines on which the units stop, or "". 0 or an error;
 * -ECANCELED: the answer was no. */
int replace_confirm(Client *c, const ApiUnit *units, size_t n, bool only_warns, Text *ret_where, Error *err);

/* Wait for the rollouts of the goals, and submit the text of each set when the sets before it have ended
 * well. If one has not, the others are not submitted, which is printed with the next command. An exit status
 * as that of rollout_wait(). */
int replace_wait(Client *c, const RolloutGoals *goals, Error *err);
