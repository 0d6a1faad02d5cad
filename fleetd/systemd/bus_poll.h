/* What the loop waits for on behalf of a connection of sd-bus. */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

/* Return the descriptor, its events, and the time in ms until the connection has to be processed without an
 * event (UINT64_MAX: never). 0 or a negative errno: the connection is lost. */
int bus_poll(sd_bus *bus, uint64_t now_ms, int *ret_fd, short *ret_events, uint64_t *ret_timeout_ms);
