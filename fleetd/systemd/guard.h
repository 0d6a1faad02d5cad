/* Guards of singletons (units/singleton.h): a service of systemd for each, which runs while the lease of its
 * singleton is valid, and to which the singleton is bound.
 *
 * fleetd writes the end of the lease to a file. The guard reads it each second, and exits after that time;
 * systemd then stops the singleton. systemd's watchdog ends a guard that hangs. A guard without a valid lease
 * does not start, and then the singleton does not, either. So the process of a singleton ends without fleetd,
 * too.
 *
 * Files: SYSTEMD/fleet-singleton@.service, SYSTEMD/NAME.d/fleet-singleton.conf, FOLDER/.leases/NAME (the end
 * of the lease in ms of CLOCK_BOOTTIME, decimal), FOLDER/.leases/NAME.env (FLEET_TOKEN=). SYSTEMD is the
 * folder of systemd's runtime units, FOLDER that of the unit files in force. Both are gone after a boot, as
 * the clock. */
#pragma once

#include "units/unit_file.h"

/* Write the guard's service, and the drop-in that binds the unit to it. 0 or a negative errno. */
int guard_bind(const char *systemd, const char *folder, const char *name, const UnitFile *file);
/* The drop-in is gone: remove the lease, if there is one. */
void guard_unbind(const char *folder, const char *name);

/* Write the lease: it is valid until 'until_ms' (loop_boot_ms()); 0: there is none any more. 'token': for the
 * next start of the unit; 0: unchanged. 0 or a negative errno. */
int guard_set_lease(const char *folder, const char *name, uint64_t until_ms, uint64_t token);
