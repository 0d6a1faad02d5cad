/* The announced shutdown of this host (systemctl reboot, a power button): its units move to other machines
 * while logind waits for this daemon, at most until 1 s before the end of logind's delay.
 *
 * This module writes the maintenance record of the machine (registry/shutdown.h), and the engine moves the
 * units and writes when none can move any more. Then another host takes the leadership (hand_over.h). Without
 * a leader, or below KV_LEVEL_UPDATES, the shutdown goes on at once. When the host is back, or the shutdown
 * was cancelled, it ends the record. It compares the record with logind's state each time: no memory, so that
 * a restarted daemon continues. */
#pragma once

#include "fleetd/host/component.h"

extern const Component inhibitor_component; /* its close releases the inhibitor of logind */
