/* What the daemon reads from this host and sets in its own process: IDs, descriptor limit, SIGBUS. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"

/* Return an ID that differs between boots: the kernel's, combined with the start time of process 1. In a
 * container the kernel's ID outlives a boot, and a sandboxed service may read the ID of the machine instead.
 */
int host_read_boot_id(char ret[static BOOT_ID_SIZE], Error *err);
/* Return whether the system asks for a reboot, after an update: as packages of Debian and SUSE do. */
bool host_needs_reboot(void);
/* Return whether systemd can reboot the userspace alone: since version 254. */
bool host_has_soft_reboot(void);
/* Return the UUID that the firmware of the mainboard or virtual machine reports, or "": a copied disk does
 * not contain it. */
void host_read_hardware_id(char ret[static HARDWARE_ID_SIZE]);

/* Read net.ipv4.ip_local_port_range: the ports that the kernel gives to connections. A negative errno. */
int host_local_ports(uint16_t *ret_first, uint16_t *ret_last);
/* Log a warning if PortRange= overlaps that range. */
void host_check_port_range(uint16_t first, uint16_t last);

/* Return the one global address of this host: its only one of IPv4, else of IPv6. -ENXIO: none; -ENOTUNIQ:
 * several. The message lists them. */
int host_global_address(char ret[static ADDRESS_SIZE], Error *err);
/* Return the address of this host on the way to 'endpoint', "ADDR:PORT" or "[ADDR6]:PORT". */
int host_address_towards(const char *endpoint, char ret[static ADDRESS_SIZE]);

/* Raise the limit of descriptors for *connections at each of 'n_listeners', or reduce *connections, at least
 * to 16. Log, tree and the sessions of replicas keep the descriptors that they need. 'sessions' of other
 * hosts have them as far as the host allows so many. */
void host_reserve_descriptors(unsigned n_listeners, uint64_t sessions, uint64_t *connections);

/* On SIGBUS, remove the marker of the tree in 'state_directory', so that the next start rebuilds the tree.
 * The cause is an unreadable page: a truncated file, or a failing disk. The signal still ends the process. */
int host_distrust_tree_on_sigbus(const char *state_directory, Error *err);
