/* What the verbs share: options, connection, exit statuses, error messages, and the requests that several
 * verbs send. */
#pragma once

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

enum { ATTEMPT_MS = 2000 }; /* fleet's window */

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
/* As TRY() in a function whose result is that of a verb: print the error after a text. */
#define TRY_VERB(call, err, ...)                                             \
        ({                                                                   \
                int _status = (call);                                        \
                if (_status < 0)                                             \
                        return client_fail_after(_status, err, __VA_ARGS__); \
                _status;                                                     \
        })
/* As TRY(), with the error after a text. */
#define TRY_PREFIX(call, err, ...)                                    \
        ({                                                            \
                int _code = (call);                                   \
                if (_code < 0)                                        \
                        return error_prefix(err, _code, __VA_ARGS__); \
                _code;                                                \
        })
/* Return the result of a verb unless it is EXIT_DONE. */
#define TRY_DONE(call)                    \
        ({                                \
                int _status = (call);     \
                if (_status != EXIT_DONE) \
                        return _status;   \
                _status;                  \
        })

/* Print "fleetctl: MESSAGE" and return EXIT_USAGE. */
int client_usage(const char *message);

/* Print that 'verb' has no verb 'typed', the most similar one of its usage, and that: "ca [show | rotate]".
 * Return EXIT_USAGE. */
int client_fail_verb(const char *verb, const char *typed, const char *usage);

/* Print "fleetctl: MESSAGE" on stderr. The message may contain text of hosts and files: it is kept to one
 * line, and its control characters are replaced. */
void client_note(const char *format, ...) _printf_(1, 2);

/* On a terminal, print the next step after an error of etcd about a missing leader. */
void client_note_no_leader(const Reply *reply);
/* Print how old the answers may be, if the daemon has no leader. */
void client_note_stale(const Client *c);

/* Run a verb; after one that prints what it has read, print how old that may be. The other lists and the
 * status do that before their rows. */
int client_run(Client *c, const Verb *verb, char **args, size_t n, Error *err);

/* Print the effect, then ask 'question' at the terminal. Return true for "y" and with --yes. Otherwise print
 * that nothing changed; without a terminal also name --yes. */
bool client_confirm(const Client *c, const char *question, const char *effect, ...) _printf_(3, 4);

/* -- Requests -- */

/* Send a request and check that the answer is a success. 'path' NULL is -ENOMEM, see client_path(). 'json' is
 * the body, or NULL. 'ret' may be NULL. */
int client_request(Client *c, const char *method, const char *path, const Text *json, Reply *ret, Error *err);

/* Send a request that changes the cluster, and print 'done'. A failure is printed after 'failed'. Return an
 * exit status. */
int client_order(Client *c, const char *method, const char *path, const Text *json, const char *failed,
                 const char *done, ...) _printf_(6, 7);

/* Send a request without a body about an object that may not exist. Return 1, or 0 if the answer is 404. */
int client_find(Client *c, const char *method, const char *path, Reply *ret, Error *err);

/* Send a GET request and parse the answer. */
int client_get_json(Client *c, const char *path, JsonValue **ret, Error *err);
/* The same, as client_find(): replace *value. */
int client_refresh_json(Client *c, const char *path, JsonValue **value, Error *err);

bool client_prints_json(const Client *c); /* --output=json */
/* Append the answer to a GET request as it is; or print it, and return an exit status. */
int client_append_answer(Client *c, const char *path, Text *t, Error *err);
int client_print_answer(Client *c, const char *path, Error *err);
/* Print an answer with --output=json, else parse it: *ret stays NULL if it was printed. 0 or an error. */
int client_take_answer(Client *c, const Reply *reply, JsonValue **ret, Error *err);
/* Send a GET request, and print the answer with --output=json, else parse it as client_take_answer(). */
int client_read(Client *c, const char *path, JsonValue **ret, Error *err);

/* Read the time span of a flag (NULL: not given, which keeps *ret). -EINVAL: it is none, or 0; that is
 * printed. */
int client_read_span(const char *flag, const char *value, uint64_t *ret);

/* Return the limit of a wait, by --timeout or --block-attempts, in ms; 0: none. */
uint64_t client_limit_ms(const Client *c);

/* Return the characters of a path, or NULL if an append failed. */
const char *client_path(const Text *path);
/* The same, after appending 'before', the escaped name, and 'after'. */
const char *client_path_of(Text *path, const char *before, const char *name, const char *after);

/* Add the words of a list, which commas separate, as an array. */
void client_add_words(Text *json, const char *name, const char *list);

/* Return a member of a JSON object of fleetd; "", 0 or false if it is absent or of another type. */
const char *member_text(const JsonValue *object, const char *name); /* borrowed */
/* The role of a member, and what is assigned to a machine. Daemons of former versions name them "seat" and
 * "order". */
const char *member_role(const JsonValue *member);
const char *member_assignment(const JsonValue *machine);
/* The same of the ID of a cluster, without leading zeros: daemons of former versions omit them. */
const char *member_short_id(const JsonValue *object, const char *name);
const char *member_name(const JsonValue *object, const char *name); /* "id" if that is empty */
/* The name of a member of the cluster; without one, its ID or its address. A member that was replaced a
 * moment ago has none of them. */
const char *member_label(const JsonValue *member); /* borrowed */
uint64_t member_number(const JsonValue *object, const char *name);
bool member_bool(const JsonValue *object, const char *name);
