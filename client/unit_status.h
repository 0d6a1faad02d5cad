/* What systemd's tools say of a unit on its machine, or do to it there. Any fleetd leads there. */
#pragma once

#include "client/client.h"

/* The path of such a call: "/fleet/v1/KIND/NAME?machine=ID"; 'machine' NULL: where the unit is. */
void unit_status_path(Text *t, const char *kind, const char *name, const char *machine);
void unit_status_add(Text *t, const char *parameter, const char *value); /* NULL or "": left out */

/* One line of an answer: what it says, or the exit status that ends it. */
typedef struct UnitStatusLine {
        const char *data; /* NULL: none */
        bool ended;
        int status;
        JsonValue *source; /* owned */
} UnitStatusLine;

int unit_status_line_read(const char *line, size_t size, UnitStatusLine *ret);
void unit_status_line_done(UnitStatusLine *line);

/* Prints an answer as it comes; the exit status is the remote command's. */
int unit_status_print(Client *c, const char *method, const Text *path, const char *name);

/* --machine is an id, its beginning, or a name; *ret becomes the whole id, or NULL without it. EXIT_DONE, or
 * it is said why not. */
int unit_status_machine(Client *c, char **ret);
