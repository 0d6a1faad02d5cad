/* The daemon: opens the rooms from the ground up, closes them from the top down; it alone knows everybody.
 *
 * Its edges are handed in, so that the simulator runs whole daemons, five to a process, over edges of its
 * own. */
#pragma once

#include "fleetd/registry/registry.h"
#include "base/sizes.h"
#include "fleetd/settings.h"
#include "fleetd/systemd/systemd.h"

typedef struct Daemon Daemon;

typedef struct DaemonIo {
        Loop *loop; /* all borrowed */
        Network *network;
        Disk *log_disk;    /* the folder raft/ of the state directory */
        Systemd *systemd;  /* NULL: no agent */
        const TlsKey *key; /* NULL: sessions in plain (simulation and tests only) */
        char boot_id[BOOT_ID_SIZE];
        char hardware_id[HARDWARE_ID_SIZE]; /* KvOptions' */
        unsigned level_max;                 /* KvOptions', for tests; 0 */
        uint64_t level_wait_ms;             /* MembershipOptions', for tests; 0 */
        bool short_log;                     /* for tests: checkpoints and files of the log at 4 KiB */
} DaemonIo;

/* Opens everything. Fails with one sentence; what was opened is closed again by daemon_stop(), so *ret is set
 * even then when closing takes time (may be NULL). */
int daemon_new(Daemon **ret, const DaemonIo *edges, const Settings *settings, Error *err);

/* Takes over what settings_take() changed. -ENOMEM: what this machine is stays as it was. */
int daemon_reload(Daemon *d, const Settings *settings);

/* Hands over, says goodbye ('reason': "stop", "shutdown", or "" to vanish without a word) and closes. No unit
 * is touched. 'stopped' comes once, from the loop; the daemon is gone then. */
void daemon_stop(Daemon *d, const char *reason, void (*stopped)(void *userdata), void *userdata);

/* For simulation: gone as by a crash, without a word, and without writing anything. 'stopped' as above. */
void daemon_crash(Daemon *d, void (*stopped)(void *userdata), void *userdata);

Registry *daemon_registry(Daemon *d);
KvStore *daemon_store(Daemon *d);
