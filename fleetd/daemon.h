/* The daemon opens the components bottom-up and closes them top-down; the only file that includes all of
 * them.
 *
 * Its I/O is passed in, so that the simulator runs five whole daemons in one process on simulated I/O. */
#pragma once

#include "fleetd/agent/probe.h"
#include "fleetd/registry/registry.h"
#include "base/sizes.h"
#include "fleetd/host/settings.h"
#include "fleetd/systemd/logind.h"
#include "fleetd/systemd/systemd.h"

typedef struct Daemon Daemon;

typedef struct DaemonIo {
        Loop *loop; /* all borrowed */
        Network *network;
        Disk *log_disk;    /* raft/ of the state directory */
        Systemd *systemd;  /* NULL: no agent */
        Logind *logind;    /* NULL: shutdowns are not delayed */
        Prober *prober;    /* of health checks; NULL: none */
        const TlsKey *key; /* of the key file; NULL: none. Without credentials, too: unencrypted sessions,
                            * for simulation and tests only */
        const TlsCredentials *credentials; /* the identity of this host; NULL: none */
        /* The host has addresses of a cluster, but neither an identity nor a key file: it waits for a token,
         * or, with a replica, for its first certificate, and opens no session. */
        bool unidentified;
        Sealer *sealer; /* of the cluster key; NULL: none */
        char boot_id[BOOT_ID_SIZE];
        char hardware_id[HARDWARE_ID_SIZE]; /* as in KvOptions */
        unsigned level_max;                 /* as in KvOptions, for tests; 0 */
        uint64_t level_wait_ms;             /* as in MembershipOptions, for tests; 0 */
        bool short_log;                     /* for tests: checkpoints and log files of 4 KiB */
        bool unwatched;                     /* as in DirectoryOptions, for simulation */
        /* Stop the daemon and start it again: it has joined a cluster, or opens its peer listener. NULL: it
         * cannot. Called once, from the loop. */
        void (*restart)(void *userdata);
        void *userdata;
} DaemonIo;

/* Open all components. After a failure, *ret is NULL or a daemon to be closed by daemon_stop(). */
int daemon_new(Daemon **ret, const DaemonIo *io, const Settings *settings, Error *err);

/* Apply what settings_take() changed. -ENOMEM: the facts of this machine are unchanged. */
int daemon_reload(Daemon *d, const Settings *settings);

/* Return whether this host must not announce its shutdown yet: other hosts start its units then, and one that
 * must not run twice has not stopped here. *ret_stopping: it is being stopped, and the cluster knows that
 * this host shuts down, so that it neither gets units nor counts as one that runs them. */
bool daemon_awaits_stop(const Daemon *d, bool *ret_stopping);

/* Transfer leadership, announce 'reason' ("stop", "shutdown", or "" for no announcement) and close. No unit
 * is touched. 'stopped' is called once, from the loop, when the daemon is freed. */
void daemon_stop(Daemon *d, const char *reason, void (*stopped)(void *userdata), void *userdata);

/* For simulation: end as by a crash, without an announcement or a write. 'stopped' as above. */
void daemon_crash(Daemon *d, void (*stopped)(void *userdata), void *userdata);

Registry *daemon_registry(Daemon *d);
KvStore *daemon_store(Daemon *d);
