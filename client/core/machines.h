/* Machines by name: from a name to the machine, and from a machine to its name. */
#pragma once

#include "client/core/listing.h"

enum { MACHINE_GONE_MS = 3600000 };

/* Return whether 'name' is the hostname of the machine 'id', or a prefix of the ID. */
bool machine_has_name(const Listing *machines, const char *id, const char *name);

/* Count the machines of this hostname or ID, or without any, those whose ID begins with it; *ret is one of
 * them, borrowed. An empty name matches none. A replaced machine counts only without another one of its name.
 */
size_t listing_find_machine(const Listing *machines, const char *name, const ApiMachine **ret);

/* Print that the states of units on the machine of --machine are not known, because it is lost or shut down,
 * and how its units are listed. Return false if it has no units, or is there. */
bool client_note_unknown_states(Client *c, const Listing *machines);

/* Print that several machines or none ('n' is 0) have this name, and the next step: on a terminal, also the
 * most similar name of the list. 'flag' precedes the name. */
void client_note_machine(const Listing *machines, size_t n, const char *flag, const char *name);

/* Find the only machine of this name. -ENOENT: there is none; -EINVAL: there are several. */
int client_find_machine(const Listing *machines, const char *name, const ApiMachine **ret, Error *err);
/* The same, for verbs that mean a host that is in use: of several with the name, the only one that is up. */
int client_find_host(const Listing *machines, const char *name, const ApiMachine **ret, Error *err);
/* Print why no machine was found. Return EXIT_ABSENT if there is none, else EXIT_FAILED. */
int client_fail_machine(int r, const Error *err);

/* Return for how long the machine has had its presence, by the cluster time of the answer about the cluster
 * (NULL: none): that clock stands while there is no leader. UINT64_MAX: unknown. */
uint64_t machine_age(const JsonValue *cluster, const ApiMachine *m);

bool machine_is_there(const ApiMachine *m); /* up or away */
/* Return the presence as messages and terminals have it: "shut down" for "left". */
const char *presence_word(const char *presence);
/* Return whether another machine is up at its address. */
bool machine_is_replaced(const ApiMachine *m);

/* Append "11111111.../10.0.0.1", as fleet names machines; with 'full' the whole ID. A machine that is gone
 * has no address. */
void append_machine_legend(Text *t, const Listing *machines, const char *id, bool full);

/* Append the hostname, or the first 8 characters of the ID. */
void append_machine_name(Text *t, const Listing *machines, const char *id);

/* Append " is lost since 18:20" for a machine that is not up, with a request for the time. Return whether it
 * is not up. */
bool append_absence(Text *t, Client *c, const ApiMachine *m);
/* Append " since 18:20" for the presence of a machine, with the daemon's answer about the cluster; nothing if
 * its begin is unknown. */
void append_since(Text *t, const JsonValue *cluster, const ApiMachine *m);

/* Return what a list prints of a restricted host or its token: the prefixes that it writes (borrowed), or
 * "no writes"; of another one, "". 'write' may be NULL. */
const char *client_restriction(bool restricted, const char *write);

/* Append one operation of a patch of the metadata of a machine. The value "" removes the key. */
void append_metadata_change(Text *patch, const char *machine, const char *key, const char *value);
