/* The maintenance record of a machine whose host shuts down (CLUSTER_FOR_SHUTDOWN) or reboots as planned
 * (CLUSTER_FOR_REBOOT): its units move away meanwhile. The record keeps the cordon or drain of an operator,
 * which continues when the host is back. Pure: the host that announces its shutdown and the leader that
 * checks this use the same code. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Set in 'ret' the record of a machine that begins to shut down; 'now': its record, or NULL. A new one has
 * neither author nor time: the caller sets them. Return false if nothing changes: the host shuts down
 * already, leaves the cluster, or reboots as planned. */
bool shutdown_begin(const MaintenanceRecord *now, MaintenanceRecord *ret);

/* Set in 'ret' the record that follows when the host runs on, or is back. Return 1, 0 if the machine has no
 * record any more, or -ENOENT if 'now' (may be NULL) is not that of a shutdown. */
int shutdown_end(const MaintenanceRecord *now, MaintenanceRecord *ret);

/* Return whether a host may replace the record 'now' of its own machine (NULL: none) by 'next' (NULL:
 * deleted), as one of these steps. */
bool shutdown_allows(const MaintenanceRecord *now, const MaintenanceRecord *next);

/* The same for a planned reboot, whose drain has a deadline of its own. After a reboot, the operator's cordon
 * continues, and of a drain that the reboot has interrupted the cordon. */
bool reboot_begin(const MaintenanceRecord *now, uint64_t deadline_ms, MaintenanceRecord *ret);
int reboot_end(const MaintenanceRecord *now, MaintenanceRecord *ret);
