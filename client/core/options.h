/* The command line and the variables FLEETCTL_*: one table of all flags, with the verbs that accept each.
 *
 * Flags and arguments may be mixed; "--" ends the flags. The command line overrides the environment, in which
 * every global flag has a variable: --request-timeout is FLEETCTL_REQUEST_TIMEOUT. */
#pragma once

#include "base/error.h"
#include "base/text.h"

enum {
        LINES_DEFAULT = 10,
        FOLLOW_LINES = 10,  /* past ones before new ones, as in journalctl */
        LINES_MAX = 100000, /* fleetd's limit for a number of lines; with a time, it reads all of them */
};
#define LINES_ALL        UINT64_MAX

#define ENDPOINT_DEFAULT "unix:///run/fleet.sock"

typedef struct Options {
        /* Global flags. All strings are borrowed from arguments and environment. */
        const char *endpoint, *driver, *tunnel, *output, *ca_file, *cert_file, *key_file, *ssh_username,
                *known_hosts_file;
        uint64_t request_timeout_ms; /* 0: not given */
        uint64_t ssh_timeout_ms;
        bool source; /* cat */
        bool debug, help, strict_host_keys;

        const char *fields, *canary, *on_failure; /* NULL: not given */
        bool full, no_legend, local, failed, no_block, wait, replace, all_at_once, sign;
        uint64_t block_attempts; /* windows of two seconds; 0: no limit */
        uint64_t timeout_ms;     /* of --timeout; 0: no limit */

        const char *journal_output, *machine, *since, *until, *property, *signal, *kill_whom;
        uint64_t lines; /* LINES_ALL: not given */
        uint64_t last;  /* events: 0: not given */
        const char *priority, *grep;
        const char *interval, *sort; /* top; NULL: not given */
        bool once, machines;
        bool follow, quiet;

        const char *swap_with_value, *with_value, *file;
        uint64_t ttl, swap_with_index, with_index, after_index, limit;
        bool ttl_given, recursive, all, dir, forever, quorum, in_order, refresh;

        bool verify;             /* backup */
        const char *yes_name;    /* recover, restore; NULL: not given */
        const char *cluster_key; /* backup: file to write; restore: file to read; NULL: not given */
        bool verbs, topics;
        uint64_t uses;                                                       /* 0: not given */
        const char *token_ttl, *token_replace, *token_metadata, *token_from; /* NULL: not given */
        const char *rights, *out;                                            /* cert; NULL: not given */
        const char *write;
        const char *secret_units; /* NULL: not given */
        bool restricted, restricted_given, compromised;
        const char *unit, *ssh_port, *state, *etcd, *etcd_prefix;
        const char *cluster_name, *spread, *sticky, *voters; /* NULL: not given */
        bool force;                                          /* remove, drain, move */
        const char *reason, *deadline, *timeout;             /* cordon; drain; NULL: not given */
        const char *rev, *from, *to;                         /* cat; diff; NULL: not given */
        bool yes;
        const char *listen, *token_file;
        bool discard;
        bool cancel;                                             /* leave, reboot */
        bool status, resume, soft, kexec, one_by_one, if_needed; /* reboot */
        bool problems, changes;                                  /* events */
        uint64_t parallel;                                       /* 0: not given */
        uint64_t moves;                                          /* rebalance: 0: not given */
        bool plan;
        bool url;                   /* web */
        const char *by, *return_in; /* NULL: not given */
        bool forward_agent;
        const char *ignored; /* flags that only the fleetctl of fleet needs */
        bool ignored_switch;
} Options;

/* Set the defaults, then the values of the environment. An invalid value there is ignored. */
void options_init(Options *o);

/* Return the verb: the first of 'args' that is no flag and no value of a flag. NULL if there is none. */
char **options_find_verb(char **args, size_t n);

/* A flag belongs to verbs and to groups of verbs, and those with the word "global" to all. 'words' are some
 * of them, separated by spaces. */

/* Take the flags of 'words' out of 'args' and move the arguments to the front; *n becomes their number.
 * -EINVAL with the message of fleet: "unknown flag: --x". */
int options_parse(Options *o, const char *words, char **args, size_t *n, Error *err);

/* Return the flag of 'words' that is most similar to 'name', without dashes; NULL if none is similar. */
const char *options_nearest(const char *words, const char *name);

/* Return whether there is such a flag. */
bool options_any(const char *words);
/* Print the flags of 'words', one per line; only those of a verb of kv unless 'verb' is NULL. */
void options_print(const char *words, const char *verb);
