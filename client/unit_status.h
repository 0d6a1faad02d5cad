/* Requests that run systemctl or journalctl for a unit on its machine. Any fleetd forwards them. */
#pragma once

#include "client/client.h"

/* Append "/fleet/v1/KIND/NAME?machine=ID"; 'machine' NULL: the machine of the unit. */
void unit_status_path(Text *t, const char *kind, const char *name, const char *machine);
void unit_status_add(Text *t, const char *parameter, const char *value); /* NULL or "": left out */

/* One line of an answer: output of the remote command, or the exit status that ends it. */
typedef struct UnitStatusLine {
        const char *data; /* NULL: none */
        bool ended;
        int status;
        JsonValue *source; /* owned */
} UnitStatusLine;

int unit_status_line_read(const char *line, size_t size, UnitStatusLine *ret);
void unit_status_line_done(UnitStatusLine *line);

/* Print an answer as it arrives. Return the exit status of the remote command. */
int unit_status_print(Client *c, const char *method, const Text *path, const char *name, Error *err);

/* Find the machine of --machine: its hostname, or the beginning of its ID. *ret becomes the whole ID, or NULL
 * without
 * --machine. Return an exit status; errors are printed. */
int unit_status_machine(Client *c, char **ret, Error *err);
