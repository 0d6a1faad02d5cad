/* A request of people that a unit moves: whether it may, and to which machine. engine/move_end.c has how a
 * move ends. Pure. */
#pragma once

#include "fleetd/registry/registry.h"

/* Return whether the unit moves to no machine at all; then set the reason, with the next step. */
bool move_request_is_refused(const Cluster *cluster, const ClusterUnit *unit, Error *ret);
/* Find the machine. 'to': the requested one; NULL: the best other one. 'force': also with Move=no, and away
 * from its data. Return false with the reason and the next step if the unit may not leave its machine, or no
 * machine qualifies. */
bool move_request_decide(const Cluster *cluster, const ClusterUnit *unit, const ClusterMachine *to,
                         bool force, const ClusterMachine **ret, Error *ret_why);
/* Set the unit, and by name those that leave the machine after it, by MachineOf= of it or of one of them: at
 * most 'max'. 0 or -ENOMEM. */
int move_request_with_followers(const ClusterUnit *unit, const ClusterMachine *from, size_t max, Names *ret);
