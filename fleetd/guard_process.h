/* The process of a guard (fleetd/systemd/guard.h). It depends on nothing but the clock and the file of the
 * lease. */
#pragma once

/* Run with this file of a lease. Return when the lease has ended: the exit status, 1 if
 * it was not valid at the start. */
int guard_run(const char *lease);
