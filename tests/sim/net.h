/* The simulated network: hosts by address, streams with delay, cuts that make a link silent, kernels that
 * live or not.
 *
 * A stream delivers in order. While its link is cut, or the other host has no power, nothing is delivered and
 * nothing is said; bytes wait, and arrive when the link heals. A daemon that dies on a living host is noticed
 * at once (RST). */
#pragma once

#include "io/stream.h"
#include "tests/sim/world.h"

typedef struct SimNet SimNet;   /* all of it */
typedef struct SimHost SimHost; /* one network card */

SimNet *sim_net_new(World *w, uint64_t least_ms, uint64_t most_ms); /* delay of one way */
SimNet *sim_net_free(SimNet *net);

/* 'address' without port: connections to "ADDRESS:PORT" find it. */
SimHost *sim_host_new(SimNet *net, const char *address);
Network *sim_host_network(SimHost *h,
                          WorldLoop *loop); /* for a daemon that starts on it; valid until sim_host_reset() */

/* The daemon is gone: its streams are reset ('silent': without a word, as when power is cut), its listeners
 * closed. */
void sim_host_reset(SimHost *h, bool silent);
/* The loop has dropped what was to come (world_loop_drop_work()): streams that were being closed still end.
 */
void sim_host_dropped(SimHost *h);
void sim_host_power(SimHost *h, bool on);
void sim_net_cut(SimNet *net, SimHost *a, SimHost *b, bool cut); /* both ways */
void sim_net_cut_one_way(SimNet *net, SimHost *from, SimHost *to,
                         bool cut); /* what 'from' says does not arrive */
void sim_net_set_delay(SimNet *net, uint64_t least_ms, uint64_t most_ms); /* of what is sent from now on */
void sim_net_set_rate(
        SimNet *net,
        uint64_t bytes_per_ms); /* what one direction of a stream carries from now on; 0: anything */
bool sim_net_is_cut(const SimNet *net, const SimHost *a, const SimHost *b);
/* How long the kernel of 'from' has been silent for 'to', in ms, as a stream between them reports it. A
 * silence that ended at most 'ago_ms' ago counts as it was. */
uint64_t sim_net_silent_ms(const SimNet *net, const SimHost *from, const SimHost *to, uint64_t ago_ms);
