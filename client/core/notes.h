/* Messages that need further requests: what a name may mean, and the past of a unit. */
#pragma once

#include "client/core/listing.h"

enum {
        DATA_NOTES_MAX =
                20, /* units, or templates with their instances, that a command asks for their data */
        APART_NAMED = 8,
};

/* Print that a global unit fits no machine, if it does not. */
void client_note_nowhere(Client *c, const char *name);

/* Print "Unit NAME does not exist." and a unit of the cluster with a similar name. On a terminal, print also
 * the command that has its past: the unit may have been destroyed. Return EXIT_ABSENT. */
int client_note_absent(Client *c, const char *name);
/* After a restore, a unit that the backup lacks is known when its host has reported it. If hosts are awaited,
 * print them, and what follows from that ("it may run there"). */
void client_note_awaited(Client *c, const char *effect);
/* Print that command alone; 'known': a unit that is meant may be known. */
void client_note_past(Client *c, const char *name, bool known);

/* If the name is that of a template, print how to run this verb with its instances. Return whether it is. */
bool client_note_template(const Client *c, const char *name);
/* Append that a template runs nowhere, and the command that lists its instances. */
void append_template(Text *t, const char *name);
/* The same of one with Replicas=, by its answer of GET /fleet/v1/units/NAME/replicas: how many it has. */
void append_replicas(Text *t, const char *name, const JsonValue *set);

/* Call 'on_row' with each row of the history of a unit, the oldest first. Without a history there is none. */
typedef int (*HistoryOnRow)(void *userdata, const JsonValue *row); /* a negative errno ends the reading */
void client_history(Client *c, const char *unit, HistoryOnRow on_row, void *userdata);

/* Print how to keep a unit that runs although the cluster does not have it. Return whether there is one. */
bool client_note_absent_running(Client *c, const char *name);
/* Read the next page of what is known of data: 'query' is "?unit=" or "?machine=" and its value, or "".
 * '*page' is NULL before the first one; the caller frees it. Return false after the last one, and if there is
 * none, as of a former fleetd. */
bool client_next_data(Client *c, const char *query, const char *value, JsonValue **page);
/* Visit the units of all pages; "break" ends the visit of one. */
#define DATA_EACH(unit, c, query, value, page)                  \
        while (client_next_data((c), (query), (value), (page))) \
                JSON_EACH(unit, json_value_member(*(page), "units"))
/* Print on a terminal that a unit may move to a machine without its data, or that this is not known. */
void client_note_data(Client *c, const char *name);
/* Print where the data of those of the names is that are this unit, or a template or one of its instances.
 * 'starts': such a unit is created, or else destroyed. */
void client_note_kept_data(Client *c, const char *unit, const Names *names, bool starts);
/* Append which instances of a template have texts of their own, and the command that lets them follow;
 * nothing if none has. 'answer': of its rollout, or of its replicas. */
void append_apart(Text *t, const JsonValue *answer);
/* Print each warning of a list of the API. */
void client_note_warnings(const JsonValue *warnings);

/* Print "did you mean UNIT?" on a terminal, if the cluster has a unit with a similar name. Return whether a
 * unit that is meant may be known. */
bool client_suggest_unit(Client *c, const char *name);
