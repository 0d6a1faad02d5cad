/* Settings: fleetd.conf, its drop-ins and the command line as one table; fleetd.conf(5) documents the same
 * names. Later sources override earlier ones; lists of the command line replace those of files. */
#pragma once

#include "base/error.h"
#include "fleetd/host/capacity.h"
#include "fleetd/host/limits.h"
#include "fleetd/host/sealer.h"
#include "io/http.h"
#include "units/machine.h"
#include "units/service.h"

typedef struct Settings {
        char *state_directory;   /* /var/lib/fleet */
        char *runtime_directory; /* /run/fleet: unit files in force */
        char *unit_directory;    /* /etc/fleet/units: the watched folder; "": none */
        char *cluster_file;     /* /etc/fleet/fleetd.conf.d/50-cluster.conf: addresses of the other hosts; "":
                                   none */
        char *listen_client;    /* 127.0.0.1:2379; "": none */
        char *advertise_client; /* URL; "": none */
        char *listen_peer;      /* "": none */
        char *listen_socket;    /* /run/fleet.sock; "": none */
        char *listen_tls;       /* "": none */
        Names server_names;     /* DNS names and IP addresses of listen_tls, in addition to its own */
        char *peer_key;         /* file; "": none */
        Names join;             /* ADDR:PORT of peers */
        char *name;             /* name of this machine for people */
        char *machine_id;       /* 32 hex digits */
        Pairs metadata;
        Reserve reserve; /* of memory and CPU, for what is not a unit */
        bool agent, engine;
        ClientAccess client_access; /* see settings_client_access() */
        Names local_rights;         /* texts of local_rights_add() */
        uint64_t brake_ms, boot_wait_ms;
        uint64_t quota, quota_keys;  /* of users' keys: bytes, and number; 0: as many as the bytes allow */
        uint64_t voters;             /* 0: as many as there are hosts for, mostly 3 */
        uint64_t singleton_lease_ms; /* of a cluster that this host founds; 0: the default */
        SealWith seal_with;          /* of the cluster key on disk */
        uint64_t admission;          /* connections of other hosts in a second; 0: the default */
        uint64_t sessions;           /* that other hosts dial; 0: the default */
        uint64_t metrics_units;      /* units of this host with metrics of their own */
        char service_address[ENDPOINT_ADDRESS_SIZE]; /* of endpoints; "": that of the facts */
        uint16_t port_first, port_last;              /* of dynamic ports */
        ApiLimits limits;
        HttpLimits http; /* of each listener */
        bool debug;
        bool reset;
        bool recover, force;            /* command line only: maintenance (fleetd/maintenance.h) */
        char *backup, *restore;         /* files, as the next; NULL: none */
        bool dry_run;                   /* of a restore */
        char *backup_key, *restore_key; /* cluster keys: to write; of a restore */
} Settings;

void settings_done(Settings *s);
#define _cleanup_settings_ _cleanup_(settings_done)

/* Read 'config' (NULL: /etc/fleet/fleetd.conf and /etc/fleet/fleetd.conf.d/, sorted by name, if they exist),
 * then the options. The error names file, line and remedy. Return 1 after --help or --version. */
int settings_read(Settings *ret, int argc, char *const argv[], Error *err);

/* Return whether the state directory has a replica (settings_check.c). */
bool settings_has_replica(const Settings *s);

/* Write the path of the folder for the records of agent and directory, and for the read bound. -ENOMEM. */
int settings_agent_path(const Settings *s, char **ret);

/* Return whether a cluster has admitted this host, perhaps without a replica. */
bool settings_has_cluster(const Settings *s);

/* Return what ListenClient= permits; not CLIENT_UNSET (settings_check.c). */
ClientAccess settings_client_access(const Settings *s);

/* Check what concerns several settings (settings_check.c): settings_read() does. -EINVAL with the setting and
 * the remedy. */
int settings_check(const Settings *s, Error *err);

/* Return the value of option 'name' at argv[*i], which is "--name=value" or "--name value", or NULL. */
const char *settings_option_value(const char *name, int argc, char *const argv[], int *i);
/* Return 1 if argv[*i] is an option for maintenance, else 0; -ENOMEM. */
int settings_read_maintenance(Settings *s, int argc, char *const argv[], int *i);

/* Read the drop-ins of 'dir' over 's'. Skip a dangling symbolic link with a warning, as systemd does. */
int settings_read_drop_ins(Settings *s, const char *dir, Error *err);

/* Return the source of settings_read(), for messages. Borrows from argv. */
const char *settings_source(int argc, char *const argv[]);

/* Move from 'now' to 's' what a running daemon can apply. Return the keys that changed: those applied, and
 * those that require a restart. -ENOMEM. */
int settings_take(Settings *s, Settings *now, Names *ret_taken, Names *ret_restart);
