/* What the verbs share: options, connection, exit statuses, error messages, and the requests that several
 * verbs send. */
#pragma once

#include <errno.h>
#include <stdio.h>

#include "client/core/connection.h"
#include "client/core/options.h"
#include "client/core/output.h"
#include "client/core/suggest.h"
#include "client/core/verb.h"
#include "units/api_json.h"
#include "units/name.h"

enum {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_INACTIVE = 3,  /* as in systemctl */
        EXIT_ABSENT = 4,    /* no such unit, as in systemctl */
        EXIT_CONTINUES = 5, /* timed out; the operation continues */
        EXIT_KV = 4,        /* no such key, or a failed comparison, as in etcdctl */
};

/* The unit files of fleet on a host, by default. */
#define RUNTIME_UNITS "/run/fleet/units"

struct Client {
        const Verb *const *verbs; /* all; ends with NULL */
        const Verb *verb;
        Options options;
        Connection *connection;        /* owned */
        struct Tunnel *tunnel;         /* owned; NULL without --tunnel */
        bool sessions;                 /* lists of machines have the sessions of attached hosts */
        bool has_changed;              /* the cluster has accepted a change */
        int signal;                    /* that has ended a wait; 0: none has */
        char next[UNIT_NAME_MAX + 32]; /* the command about the unit that has failed in a wait; "": none, or
                                        * the error has it */
};

/* -- Messages -- */

/* Return whether stdout and stderr are terminals. Then plain messages replace the texts of fleet, which
 * scripts read. */
bool client_is_interactive(void);

/* Return whether an error answer is about the daemon, not about the request: its status is 5xx. */
bool client_is_about_daemon(int r, const Error *err);

/* Return the text of an error answer, without "googleapi: Error N: ". Borrowed. */
const char *client_answer_text(const Error *err);

/* Return whether a failed read ends a wait: another attempt would fail alike. */
bool client_is_final(const Client *c, int r);

/* Print "fleetctl: MESSAGE" for a failure and return EXIT_FAILED. An error answer of fleetd (-EREMOTEIO)
 * about the request has no "fleetctl: " in a pipe: scripts know the text of fleet. */
int client_fail(int r, const Error *err);

/* Print the failure after a text of fleet ("Error creating units: ") and return EXIT_FAILED. The text
 * precedes an error answer (-EREMOTEIO) and a rejected argument (-ENOENT, -EINVAL); other failures get
 * "fleetctl: ". */
int client_fail_after(int r, const Error *err, const char *format, ...) _printf_(3, 4);

/* Print "fleetctl: MESSAGE" and return EXIT_USAGE. */
int client_usage(const char *message);

/* Print that 'verb' has no such verb, the most similar one, and its usage. Return EXIT_USAGE. */
int client_fail_verb(const char *verb, const Suggestion *s, const char *usage);

/* Print "fleetctl: MESSAGE" on stderr. The message may contain text of hosts and files: it is kept to one
 * line, and its control characters are replaced. */
void client_note(const char *format, ...) _printf_(1, 2);

/* On a terminal, print the next step after an error of etcd about a missing leader. */
void client_note_no_leader(const char *message);
/* Print how old the answers may be, if the daemon has no leader. */
void client_note_stale(const Client *c);

/* Print that a global unit fits no machine, if it does not. */
void client_note_nowhere(Client *c, const char *name);

/* Run a verb; after one that prints what it has read, print how old that may be. The other lists and the
 * status do that before their rows. */
int client_run(Client *c, const Verb *verb, char **args, size_t n, Error *err);

/* Print "Unit NAME does not exist." and a unit of the cluster with a similar name. On a terminal, print also
 * the command that has its past: the unit may have been destroyed. */
void client_note_absent(Client *c, const char *name);
/* After a restore, a unit that the backup lacks is known when its host has reported it. If hosts are awaited,
 * print them, and what follows from that ("it may run there"). */
void client_note_awaited(Client *c, const char *effect);
/* Print that command alone; 'known': a unit that is meant may be known. */
void client_note_past(Client *c, const char *name, bool known);

/* Append that a template runs nowhere, and the command that lists its instances. */
void append_template(Text *t, const char *name);

/* Call 'on_row' with each row of the history of a unit, the oldest first. Without a history there is none. */
typedef int (*HistoryOnRow)(void *userdata, const JsonValue *row); /* a negative errno ends the reading */
void client_history(Client *c, const char *unit, HistoryOnRow on_row, void *userdata);

/* Print how to keep a unit that runs although the cluster does not have it. Return whether there is one. */
bool client_note_absent_running(Client *c, const char *name);
/* Print each warning of a list of the API. */
void client_note_warnings(const JsonValue *warnings);

/* Print "did you mean UNIT?" on a terminal, if the cluster has a unit with a similar name. Return whether a
 * unit that is meant may be known. */
bool client_suggest_unit(Client *c, const char *name);

/* Print the effect, then ask 'question' at the terminal. Return true for "y" and with --yes. Otherwise print
 * that nothing changed; without a terminal also name --yes. */
bool client_confirm(const Client *c, const char *question, const char *effect, ...) _printf_(3, 4);

/* -- Requests -- */

enum { BATCH_UNITS = 200 }; /* of one transaction, which has to fit into one log entry */

/* Send a request and check that the answer is a success. 'path' NULL is -ENOMEM, see client_path(). 'json' is
 * the body, or NULL. 'ret' may be NULL. */
int client_request(Client *c, const char *method, const char *path, const Text *json, Reply *ret, Error *err);

/* Send a GET request and parse the answer. */
int client_get_json(Client *c, const char *path, JsonValue **ret, Error *err);
/* The same, of an object that may not exist: replace *value, and return 1; 0: the answer is 404. */
int client_refresh_json(Client *c, const char *path, JsonValue **value, Error *err);

bool client_prints_json(const Client *c); /* --output=json */
/* Print an answer with --output=json, else parse it: *ret stays NULL if it was printed. Return an exit
 * status. */
int client_take_answer(Client *c, const Reply *reply, JsonValue **ret, Error *err);

/* Read the time span of a flag (NULL: not given, which keeps *ret). -EINVAL: it is none, or 0; that is
 * printed. */
int client_read_span(const char *flag, const char *value, uint64_t *ret);

/* Return the characters of a path, or NULL if an append failed. */
const char *client_path(const Text *path);

/* Return a member of a JSON object of fleetd; "", 0 or false if it is absent or of another type. */
const char *member_text(const JsonValue *object, const char *name); /* borrowed */
/* Return what a list prints of a restricted host or its token: the prefixes that it writes (borrowed), or
 * "no writes"; of another one, "". 'write' may be NULL. */
const char *client_restriction(bool restricted, const char *write);
/* The same of the ID of a cluster, without leading zeros: daemons of former versions omit them. */
const char *member_short_id(const JsonValue *object, const char *name);
const char *member_name(const JsonValue *object, const char *name); /* "id" if that is empty */
/* The name of a member of the cluster; without one, its ID or its address. A member that was replaced a
 * moment ago has none of them. */
const char *member_label(const JsonValue *member); /* borrowed */
uint64_t member_number(const JsonValue *object, const char *name);
bool member_bool(const JsonValue *object, const char *name);

/* Items of a listing, in the order of one of their strings. */
typedef struct ListingKeys {
        struct ListingKey {
                const char *key;
                const void *item;
        } * items; /* owned */
        size_t n;
} ListingKeys;

/* All units, states or machines: the items of all pages. Strings and files borrow from 'pages'. */
typedef struct Listing {
        ApiPage *pages;
        size_t n_pages, capacity, size; /* size: of their texts, in bytes */
        union {                         /* of the type that was read */
                ApiUnit *units;
                ApiState *states;
                ApiMachine *machines;
                char *items;
        };
        size_t n, items_capacity;
        size_t n_removed; /* removed machines, after the others: they have a name only */
        const struct ListingKind *kind;
        ListingKeys by_name;     /* of machines, also removed ones, by the ID */
        ListingKeys by_hostname; /* machines, without removed ones */
} Listing;

void listing_done(Listing *l);
/* Sort the keys again, after items were moved. 0 or -ENOMEM: without keys, no item is found by its name. */
int listing_sort(Listing *l);
#define _cleanup_listing_ _cleanup_(listing_done)

/* Read into an empty listing. The caller frees it, also after an error. */
int client_units(Client *c, Listing *ret, Error *err);
int client_states(Client *c, const char *unit, Listing *ret, Error *err); /* 'unit' NULL: of all units */
/* The units that the agent of this host has, also without the cluster, and the host itself. */
int client_local(Client *c, Listing *ret_states, Listing *ret_machines, Error *err);
int client_machines(Client *c, Listing *ret, Error *err);
int client_all_machines(Client *c, Listing *ret, Error *err); /* also those that are gone */
/* Read the machines again while there are none: a cluster has one at least, unless no host has an agent. */
int client_wait_machines(Client *c, Listing *ret, Error *err);
/* On a terminal, print which hosts a restored or recovered cluster waits for. It begins with one member. */
void client_note_unreported(Client *c, const Listing *machines);

/* Read the machines again if this one is not among them; 'all' as client_all_machines(). Errors are ignored.
 */
void client_load_machine(Client *c, Listing *machines, const char *id, bool all);

/* Return 1 and the unit, or 0 if it does not exist. 'global' is set here and in lists even if the daemon does
 * not report it. */
int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err);

const ApiUnit *listing_unit(const Listing *units, const char *name); /* NULL if absent; borrowed */
/* Derive 'global' from the options, as clients of fleet did: the daemon of fleet does not report it. A daemon
 * that sends hashes reports it. 0 or -ENOMEM. */
int client_set_global(ApiUnit *unit);

/* Return one after the other the states of a unit, then NULL. *at is 0 at first. Borrowed. */
const ApiState *listing_next_state(const Listing *states, const char *unit, size_t *at);
/* The same of the machines with a hostname, without removed ones. */
const ApiMachine *listing_next_namesake(const Listing *machines, const char *hostname, size_t *at);

/* The text of a unit as submitted, or its printed form if the daemon has no text. */
void append_unit_text(Text *t, const ApiUnit *unit);

/* Return EXIT_DONE and a stored revision of a unit, or the wanted one if 'number' is NULL, or an exit status
 * after a message (revisions.c). */
int client_revision(Client *c, const char *name, const char *number, ApiUnit *ret);

/* Return a change of a unit that sets nothing yet. */
ApiUnit client_change_of(const char *name);

/* Create units, replace them, or set their target states. Many units go in one transaction, all or nothing,
 * as far as they fit (200 units, 100 KiB). Of each unit these fields count: name, text, desired state
 * (inactive if there is none and the text is new), 'keep', and the expected hash and state. */
int client_change(Client *c, const ApiUnit *units, size_t n, Error *err);
int client_set_state(Client *c, const char *name, TargetState state, Error *err); /* of one unit */

/* Destroy units, several in one transaction (at most BATCH_UNITS). Of each unit 'name' and 'destroy' are set.
 * A unit that is already absent counts as destroyed. */
int client_destroy(Client *c, const ApiUnit *units, size_t n, Error *err);

/* -- Machines (machines.c) -- */

enum { MACHINE_GONE_MS = 3600000 };

/* Also a removed one; NULL if absent. Borrowed. */
const ApiMachine *listing_machine(const Listing *machines, const char *id);

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

/* Return for how long the machine has had its presence, by the cluster time of the answer about the cluster
 * (NULL: none): that clock stands while there is no leader. UINT64_MAX: unknown. */
uint64_t machine_age(const JsonValue *cluster, const ApiMachine *m);

bool machine_is_there(const ApiMachine *m); /* up or away */
/* Return the presence as messages and terminals have it: "shut down" for "left". */
const char *presence_word(const char *presence);
/* Return whether another machine is up at its address. */
bool machine_is_replaced(const ApiMachine *m);

/* Return whether it is known that the machine may never return: it has been lost, or has left, for an hour,
 * or was replaced. */
bool machine_is_gone(const JsonValue *cluster, const ApiMachine *m);

/* Append "11111111.../10.0.0.1", as fleet names machines; with 'full' the whole ID. A machine that is gone
 * has no address. */
void append_machine_legend(Text *t, const Listing *machines, const char *id, bool full);

/* Append the hostname, or the first 8 characters of the ID. */
void append_machine_name(Text *t, const Listing *machines, const char *id);
/* The same of a member of the cluster, which may be no machine. */
void append_member_name(Text *t, const Listing *machines, const JsonValue *member);

/* Append " 4 min ago" in the largest unit of time, or " just now"; nothing for 0. */
void append_age(Text *t, uint64_t since_ms);
/* Append " is lost since 18:20" for a machine that is not up, with a request for the time. Return whether it
 * is not up. */
bool append_absence(Text *t, Client *c, const ApiMachine *m);
/* Append " since 18:20" for the presence of a machine, with the daemon's answer about the cluster; nothing if
 * its begin is unknown. */
void append_since(Text *t, const JsonValue *cluster, const ApiMachine *m);

/* -- Arguments that are patterns of unit names, in the syntax of systemctl (patterns.c) -- */

/* Replace patterns ("web@*") among the arguments by the units of the cluster that match, sorted by name.
 * Without 'all', patterns match neither templates nor inactive units. A pattern without a match stays: no
 * unit has such a name.
 *
 * With 'confirm', units that match a pattern require --yes, or a confirmation at the terminal. The result is
 * that of a verb. */
int patterns_expand(Client *c, char **args, size_t n, bool all, bool confirm, Names *ret, Error *err);

/* Check that no argument that names a unit ends in a misspelt type: it would name the service
 * "web.servce.service". Return an exit status. */
int patterns_check_types(const Verb *v, char **args, size_t n);

/* Read arguments that filter: names get their type, patterns stay. Return 0 or -ENOMEM. */
int patterns_read(char **args, size_t n, Names *ret);

/* Return whether 'name' is one of the names or matches one of the patterns. */
bool patterns_match(const Names *patterns, const char *name);
bool patterns_have_glob(const Names *patterns); /* whether any of them is a pattern */

/* Open the peer listener of this host, wait until it is open, and print its address on 'to': stdout, or
 * stderr if another command needs the listener. The result is that of a verb. */
int init_open(Client *c, FILE *to, Error *err);
/* The same if this host is a cluster of one without a listener; otherwise nothing. */
int init_open_alone(Client *c, FILE *to, Error *err);

/* Print the cluster, its problems first, for status without arguments. Return EXIT_FAILED if there are any.
 */
int overview(Client *c, Error *err);

/* No entry of "log" has these matches: print which unit (UNIT=) or machine (MACHINE=) of them nothing knows.
 * 'partly': other machines have not answered. The result is that of a verb. */
int events_explain_matches(Client *c, const Listing *machines, char **args, size_t n, bool partly,
                           Error *err);
/* Print which of the fields of these matches fleetd never writes. */
void events_note_fields(char **args, size_t n);

/* Append the latest changes in the presence of machines, oldest first: "12:04:11 beta is lost    12:09:40
 * beta is up". 'rows' are those of the history, oldest first. 0 or -ENOMEM. */
int events_append_recent(JsonValue *const *rows, size_t n, const Listing *machines, Text *ret);
