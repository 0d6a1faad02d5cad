/* The parts of the component that answer requests (rollouts_v1.c); its row is in rollouts.c. */
#pragma once

#include "fleetd/api/fleet_v1.h"
#include "fleetd/problems/problems.h"

extern const Route rollout_routes[3];
extern const ProblemRow rollout_problems[];
void rollouts_write(Text *t, const Request *request);                          /* Component.write_cluster */
void rollout_write_why(Text *t, const Request *request, const ClusterUnit *u); /* Component.write_why */
