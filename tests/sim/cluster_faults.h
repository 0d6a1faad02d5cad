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

/* What happens to hosts because of faults and requests, counted over all worlds. */
typedef enum Change {
        CHANGE_JOIN,          /* a host that began while faults happened is part of the cluster at the end */
        CHANGE_JOIN_BY_TOKEN, /* before the faults */
        CHANGE_MOVE,          /* of an attached host, whose daemon runs on */
        CHANGE_ATTACHED,      /* in the running daemon, as the next */
        CHANGE_REPLICA,
        CHANGE_ROTATED,  /* a world in which a rotation began, and none is under way at the end */
        CHANGE_COMPARED, /* a slice, at the index of the tree */
        _CHANGE_MAX
} Change;

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
void faults_count(Change change, uint64_t n);
/* Count the changes of hosts since the last call. */
void faults_watch_changes(SimCluster *c);
/* Print how often each kind of fault and of change happened in all worlds. */
void faults_print(void);
