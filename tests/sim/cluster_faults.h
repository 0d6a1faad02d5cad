/* Faults of hosts and links, and changes of who holds a replica, from a seed. Each kind is on in some worlds
 * only, so that one kind also happens alone and often. */
#pragma once

#include "tests/sim/tokens.h"

typedef enum Fault {
        FAULT_CRASH,
        FAULT_STOP,
        FAULT_POWER,
        FAULT_CUT,
        FAULT_ISOLATE,
        FAULT_PAUSE,
        FAULT_SLOW_DISK,
        FAULT_BUS,
        FAULT_CLOCK,
        FAULT_CRASH_ALL,
        FAULT_POWER_ALL,
        FAULT_BOND,
        FAULT_RESCUE_TARGET,
        FAULT_RACK,
        /* From here on, of worlds with attached hosts only. */
        FAULT_VOTERS,
        FAULT_LEAVE,
        FAULT_ROTATE, /* the CA or the cluster key changes; of hosts with certificates */
        _FAULT_MAX
} Fault;

typedef struct Faults {
        SimCluster *cluster;
        bool on[_FAULT_MAX];
        uint64_t every_ms;
        unsigned n_cuts;        /* under way */
        uint64_t cuts_until_ms; /* when the last of them heals */
        bool moves_replicas;    /* the number of voters has changed */
} Faults;

/* Draw the kinds and their rate. The first fault happens 'after_ms' from now; the last one before
 * cluster->quiet. */
void faults_begin(Faults *f, SimCluster *c, uint64_t after_ms);
/* Restore links and power, and start the daemons of the hosts that have not left. */
void faults_heal(Faults *f);
/* Set the number of voters; false: there is no leader. */
bool faults_set_voters(SimCluster *c, unsigned voters);
/* The daemon of a host that has left the cluster ends. */
void faults_check_left(SimCluster *c);
/* Print how often each kind happened in all worlds. */
void faults_print(void);
