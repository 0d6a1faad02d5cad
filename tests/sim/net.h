/* The simulated network: hosts by address, streams with delay, cuts that make a link silent, kernels with and
 * without power.
 *
 * A stream delivers in order. While its link is cut, or the other host has no power, nothing is delivered;
 * bytes wait, and arrive when the link heals. A daemon that dies on a host with power is noticed at once
 * (RST). */
#pragma once

#include "io/stream.h"
#include "tests/sim/world.h"

typedef struct SimNet SimNet;
typedef struct SimHost SimHost; /* one network card */

SimNet *sim_net_new(World *w, uint64_t least_ms, uint64_t most_ms); /* delay of one direction */
SimNet *sim_net_free(SimNet *net);

/* 'address' has no port: connections to "ADDRESS:PORT" reach it. */
SimHost *sim_host_new(SimNet *net, const char *address);
/* Return the network of a daemon that starts on 'loop'; valid until sim_host_reset(). */
Network *sim_host_network(SimHost *h, WorldLoop *loop);

/* End the daemon's network: reset its streams ('silent': send no RST, as when power is cut), close its
 * listeners. */
void sim_host_reset(SimHost *h, bool silent);
/* After world_loop_drop_work(): streams that are being closed end nevertheless. */
void sim_host_dropped(SimHost *h);
void sim_host_power(SimHost *h, bool on);
/* Whether a listener of the host fails to open. */
void sim_host_addressless(SimHost *h, bool on);

void sim_net_cut(SimNet *net, SimHost *a, SimHost *b, bool cut); /* both directions */
void sim_net_cut_one_way(SimNet *net, SimHost *from, SimHost *to, bool cut);
bool sim_net_is_cut(const SimNet *net, const SimHost *a, const SimHost *b);

void sim_net_set_delay(SimNet *net, uint64_t least_ms, uint64_t most_ms); /* of data sent from now on */
/* Limit each direction of a stream from now on; 0: no limit. */
void sim_net_set_rate(SimNet *net, uint64_t bytes_per_ms);

/* Return for how many ms the kernel of 'from' has been silent for 'to', as a stream between them reports it.
 * A silence that ended at most 'ago_ms' ago counts with its whole duration. */
uint64_t sim_net_silent_ms(const SimNet *net, const SimHost *from, const SimHost *to, uint64_t ago_ms);
