/* The command line and the variables FLEETCTL_*: one table of all flags, in groups. Each verb accepts some
 * groups.
 *
 * Flags and arguments may be mixed; "--" ends the flags. The command line overrides the environment, in which
 * every global flag has a variable: --request-timeout is FLEETCTL_REQUEST_TIMEOUT. */
#pragma once

#include <stdio.h>

#include "base/error.h"
#include "base/text.h"

enum {
        LINES_DEFAULT = 10,
        FOLLOW_LINES = 10,  /* past ones before new ones, as in journalctl */
        LINES_MAX = 100000, /* fleetd's limit for a number of lines; with a time, it reads all of them */
};
#define LINES_ALL UINT64_MAX

typedef enum FlagGroup {
        FLAGS_GLOBAL = 1 << 0,
        FLAGS_LIST = 1 << 1,     /* --full, --no-legend, --fields */
        FLAGS_NO_BLOCK = 1 << 2, /* --no-block */
        FLAGS_ATTEMPTS = 1 << 3, /* --block-attempts, --timeout */
        FLAGS_REPLACE = 1 << 4,  /* --replace, --all-at-once, --sign */
        FLAGS_JOURNAL = 1 << 5,  /* --lines, --follow, --output */
        FLAGS_REMOTE = 1 << 6,   /* --machine, and flags for the ssh of fleet */
        FLAGS_KV = 1 << 7,
        FLAGS_HELP = 1 << 8,          /* --verbs, --topics */
        FLAGS_SHOW = 1 << 9,          /* --property */
        FLAGS_KILL = 1 << 10,         /* --signal, --kill-whom */
        FLAGS_QUIET = 1 << 11,        /* --quiet */
        FLAGS_LINES = 1 << 12,        /* --lines */
        FLAGS_STATE = 1 << 14,        /* --state */
        FLAGS_PATTERNS = 1 << 15,     /* no flag: patterns match units with a target state above inactive */
        FLAGS_PATTERNS_ALL = 1 << 16, /* no flag: patterns match all units */
        FLAGS_YES = 1 << 17,          /* --yes */
        FLAGS_IMPORT = 1 << 19,       /* --etcd, --replace */
        FLAGS_MACHINE = 1 << 18,      /* --machine */
        FLAGS_SOURCE = 1 << 20,       /* --source */
        FLAGS_WAIT = 1 << 21,         /* --wait */
        FLAGS_EVENTS =
                1 << 22,     /* --lines, --follow, --since, --until, --after-index, --machine, --problems */
        FLAGS_SSH = 1 << 13, /* --unit, --forward-agent, --ssh-port */
        FLAGS_LOG =
                1 << 28, /* --lines, --follow, --since, --until, --priority, --grep, --machine, --output */
        FLAGS_BACKUP = 1 << 24, /* --verify */
        FLAGS_FLEET = 1 << 23,  /* no flag: without units, print a message of fleet and succeed */
        FLAGS_JSON = 1 << 27,   /* --output=json */
        FLAGS_INIT = 1 << 25,   /* --name, --spread, --voters, --listen */
        FLAGS_TOKEN = 1 << 29,  /* --uses, --ttl, --restricted, --replace, --metadata, --from, --listen */
        FLAGS_REMOVE = 1 << 26, /* --force */
        FLAGS_CA = 1 << 30,     /* --compromised */
        FLAGS_JOIN = INT64_C(1) << 31,    /* --listen, --token-file, --discard */
        FLAGS_RECOVER = INT64_C(1) << 32, /* --yes=NAME */
        FLAGS_CERT = INT64_C(1) << 40,    /* --rights, --ttl, --out, --replace */
        FLAGS_LEAVE = INT64_C(1) << 41,   /* --cancel, --timeout */
        FLAGS_SECURE = INT64_C(1) << 36,  /* --force */
        FLAGS_RESTORE = INT64_C(1) << 42, /* --cluster-key */
        FLAGS_CORDON = INT64_C(1) << 43,  /* --reason */
        FLAGS_DRAIN = INT64_C(1) << 44,   /* --deadline, --force, --timeout */
        FLAGS_REV = INT64_C(1) << 45,     /* --rev */
        FLAGS_BETWEEN = INT64_C(1) << 46, /* --from, --to */
        FLAGS_LAST = INT64_C(1) << 47,    /* --lines */
        FLAGS_ROLLOUT = INT64_C(1) << 48, /* --wait, --follow, --timeout */
        FLAGS_TIMEOUT = INT64_C(1) << 52, /* --timeout */
        FLAGS_REPORT = INT64_C(1) << 53,  /* --output=json, for the result: client/core/report.h */
        FLAGS_UPDATE = INT64_C(1) << 54,  /* --canary, --on-failure */
        FLAGS_STATUS = INT64_C(1) << 56,  /* --full */
        FLAGS_LOCAL = INT64_C(1) << 55,   /* --local, --failed */
        FLAGS_ALL = INT64_C(1) << 50,     /* --all */
        FLAGS_REBOOT = INT64_C(1) << 49,  /* --all, --by, --cancel, --deadline, ... */
        FLAGS_MOVE = INT64_C(1) << 51,    /* --force, --timeout */
        FLAGS_NO_FLAG = FLAGS_PATTERNS | FLAGS_PATTERNS_ALL | FLAGS_FLEET,
} FlagGroup;

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
        bool restricted, restricted_given, compromised;
        const char *unit, *ssh_port, *state, *etcd, *etcd_prefix;
        const char *cluster_name, *spread, *voters; /* NULL: not given */
        bool force;                                 /* remove, drain, move */
        const char *reason, *deadline, *timeout;    /* cordon; drain; NULL: not given */
        const char *rev, *from, *to;                /* cat; diff; NULL: not given */
        bool yes;
        const char *listen, *token_file;
        bool discard;
        bool cancel;                                             /* leave, reboot */
        bool status, resume, soft, kexec, one_by_one, if_needed; /* reboot */
        bool problems, changes;                                  /* events */
        uint64_t parallel;                                       /* 0: not given */
        const char *by, *return_in;                              /* NULL: not given */
        bool forward_agent;
        const char *ignored; /* flags that only the fleetctl of fleet needs */
        bool ignored_switch;
} Options;

/* Set the defaults, then the values of the environment. An invalid value there is ignored. */
void options_init(Options *o);

/* Return the verb: the first of 'args' that is no flag and no value of a flag. NULL if there is none. */
char **options_find_verb(char **args, size_t n);

/* Take the flags of 'groups' out of 'args' and move the arguments to the front; *n becomes their number.
 * -EINVAL with the message of fleet: "unknown flag: --x". */
int options_parse(Options *o, uint64_t groups, char **args, size_t *n, Error *err);

/* Return the flag of 'groups' that is most similar to 'name', without dashes; NULL if none is similar. */
const char *options_nearest(uint64_t groups, const char *name);

/* Print the flags of 'groups', one per line; only those of a verb of kv unless 'verb' is NULL. */
void options_print(uint64_t groups, const char *verb);
