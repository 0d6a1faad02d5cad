/* What systemd's tools say of a unit on its machine, or do to it there. Any fleetd leads there. */
#pragma once

#include "client/client.h"

/* The path of such a call: "/fleet/v1/KIND/NAME?machine=ID"; 'machine' NULL: where the unit is. */
void remote_path(Text *t, const char *kind, const char *name, const char *machine);
void remote_add(Text *t, const char *parameter, const char *value); /* NULL or "": left out */

/* One line of an answer: what it says, or the exit status that ends it. */
typedef struct RemoteLine {
        const char *data; /* NULL: none */
        bool ended;
        int status;
        JsonValue *source; /* owned */
} RemoteLine;

int remote_line_read(const char *line, size_t size, RemoteLine *ret);
void remote_line_done(RemoteLine *line);

/* Prints an answer as it comes; the exit status is the remote command's. */
int remote_print(Client *c, const char *method, const Text *path, const char *name);

/* --machine is an id, its beginning, or a name; *ret becomes the whole id, or NULL without it. EXIT_DONE, or
 * it is said why not. */
int remote_machine(Client *c, char **ret);
