/* The daemon opens the components bottom-up and closes them top-down; the only file that includes all of
 * them.
 *
 * Its I/O is passed in, so that the simulator runs five whole daemons in one process on simulated I/O. */
#pragma once

#include "fleetd/host/component.h"
#include "fleetd/identity/entering.h"

typedef struct Daemon Daemon;

/* Open all components. 'settings' is borrowed until the daemon is freed. After a failure, *ret is NULL or a
 * daemon to be closed by daemon_stop(). */
int daemon_new(Daemon **ret, const DaemonIo *io, const Settings *settings, Error *err);

/* Apply what settings_take() changed. -ENOMEM: the facts of this machine are unchanged. */
int daemon_reload(Daemon *d, const Settings *settings);

/* Return whether this host must not announce its shutdown yet: other hosts start its units then, and one that
 * must not run twice has not stopped here. *ret_stopping: it is being stopped, and the cluster knows that
 * this host shuts down, so that it neither gets units nor counts as one that runs them. */
bool daemon_awaits_stop(const Daemon *d, bool *ret_stopping);

/* Transfer leadership, announce 'bye' ("stop", "shutdown", or "" for no announcement) and close. No unit
 * is touched. 'stopped' is called once, from the loop, when the daemon is freed. */
void daemon_stop(Daemon *d, const char *bye, void (*stopped)(void *userdata), void *userdata);

/* For simulation: end as by a crash, without an announcement or a write. 'stopped' as above. */
void daemon_crash(Daemon *d, void (*stopped)(void *userdata), void *userdata);

/* A request to enter the cluster of a token, or ('init') to open the peer listener. Borrowed for the call. */
typedef struct DaemonJoin {
        const char *token, *listen; /* "" if not given */
        bool discard, init;
        bool exposed; /* the token was an argument of a command */
} DaemonJoin;

/* 'done' is called once, from the loop, unless it is cancelled or this fails. Errors with a message: -EINVAL,
 * -EEXIST (content, or joined), -EALREADY (a join is under way), -EADDRNOTAVAIL. */
int daemon_join(Daemon *d, const DaemonJoin *join, EnteringDone *done, void *userdata, Error *err);

void daemon_join_cancel(Daemon *d, const void *userdata);

/* Return what its components share, borrowed. */
const ComponentHost *daemon_host(const Daemon *d);
