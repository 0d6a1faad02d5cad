/* The planned reboot of this host: when its record says that no unit is left (engine/reboot.h), call logind.
 *
 * The record names the boot in which the drain began. Only the host in that boot acts: a host that has just
 * returned, or that reads an old view, does not reboot again. A leader transfers leadership before
 * (hand_over.h). If logind rejects the reboot, the host writes that. Until the number of soft reboots is
 * known, nothing is done. */
#pragma once

#include "fleetd/host/component.h"

extern const Component rebooting_component;
