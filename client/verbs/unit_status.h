/* Requests that run systemctl or journalctl for a unit on its machine. Any fleetd forwards them. */
#pragma once

#include <signal.h>

#include "client/core/client.h"

/* Exit status: fleetd limits the processor time of what reads a journal. */
enum { UNIT_STATUS_LIMIT = 128 + SIGXCPU };
#define UNIT_STATUS_LIMIT_TEXT \
        "reading it took more processor time than fleetd permits; read less, by --since= or --lines="

/* Append "/fleet/v1/KIND/NAME?machine=ID"; 'machine' NULL: the machine of the unit. */
void unit_status_path(Text *t, const char *kind, const char *name, const char *machine);
void unit_status_add(Text *t, const char *parameter, const char *value); /* NULL or "": left out */

/* Split the output of an answer of a remote command into lines, which end with a newline; its pieces end
 * anywhere. *ret_status becomes its exit status, which ends the answer. */
int unit_status_lines(const char *json, size_t size, Text *partial, int *ret_status, StreamLine line,
                      void *userdata);

/* Print an answer as it arrives. Return the exit status of the remote command. *ret_any (may be NULL) becomes
 * true if the command printed anything. */
int unit_status_print(Client *c, const char *method, const Text *path, const char *name, bool *ret_any,
                      Error *err);

/* Find the machine of --machine: its hostname, or the beginning of its ID. *ret becomes the whole ID, or NULL
 * without --machine. The result is that of a verb. */
int unit_status_machine(Client *c, char **ret, Error *err);
