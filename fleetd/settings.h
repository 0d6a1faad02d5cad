/* What the daemon was told: fleetd.conf, its drop-ins, and the command line, as one table. fleetd.conf(5)
 * documents the same names. Later sources win; lists of the command line replace those of the files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "io/http.h"
#include "units/machine.h"

typedef enum ClientAccess { CLIENT_READ_WRITE, CLIENT_READ_ONLY, CLIENT_OFF } ClientAccess;

/* What one client's request may be and ask for; fleet-api(7) says what is answered beyond. */
typedef struct ApiLimits {
        uint64_t key_size, value_size, body_size; /* the store has the last word: KV_KEY_MAX, KV_VALUE_MAX */
        uint64_t answer_nodes, answer_size;       /* of one listing */
        uint64_t watches;                         /* clients that wait for a key */
} ApiLimits;

extern const ApiLimits api_limits_default;

typedef struct Settings {
        char *state_directory;   /* /var/lib/fleet */
        char *runtime_directory; /* /run/fleet: unit files in force */
        char *unit_directory;    /* /etc/fleet/units: the watched folder; "" for none */
        char *cluster_file; /* /etc/fleet/fleetd.conf.d/50-cluster.conf: where the other hosts are remembered;
                               "" for none */
        char *listen_client;    /* 127.0.0.1:2379; "" for none */
        char *advertise_client; /* URL, "" for none */
        char *listen_peer;      /* "" for none */
        char *listen_socket;    /* /run/fleet.sock; "" for none */
        char *peer_key;         /* file, "" for none */
        Names join;             /* ADDR:PORT of peers */
        char *name;             /* what people call this machine */
        char *machine_id;       /* 32 hex digits */
        Pairs metadata;
        bool agent, engine;
        ClientAccess client_access;
        uint64_t brake_ms, boot_wait_ms;
        uint64_t quota, quota_keys; /* of users' keys: bytes; how many, 0: as many as the bytes allow */
        uint64_t voters;            /* 0: the cluster decides (3, when there are so many) */
        ApiLimits limits;
        HttpLimits http; /* of each door */
        bool debug;
        bool recover,
                force; /* of the command line alone: what to do instead of running (fleetd/maintenance.h) */
        char *backup, *restore; /* files; NULL: neither */
} Settings;

void settings_done(Settings *s);
#define _cleanup_settings_ _cleanup_(settings_done)

/* Reads 'config' (NULL: /etc/fleet/fleetd.conf and /etc/fleet/fleetd.conf.d/ in the order of names, where
 * absent ones are fine), then the options. Fails with a sentence naming file, line and remedy. Returns 1 when
 * --help or --version was answered. */
int settings_read(Settings *ret, int argc, char *const argv[], Error *err);

/* Reads the drop-ins of 'dir' over 's'. A symbolic link that leads nowhere is skipped with a warning, as
 * systemd does. */
int settings_read_drop_ins(Settings *s, const char *dir, Error *err);

/* Where settings_read() looks, for a sentence. Borrows from argv. */
const char *settings_source(int argc, char *const argv[]);

/* Moves what a running daemon can take over from 'now', read anew, to 's'. Returns the keys that were taken,
 * and of those that need a restart the ones that differ. -ENOMEM. */
int settings_take(Settings *s, Settings *now, Names *ret_taken, Names *ret_restart);
