/* The parts of the component: reboots_v1.c has its row and its routes, reboot.c plans the queue, and writes
 * its steps, reboot_why.c explains it, rebooting.c reboots this host. */
#pragma once

#include "fleetd/engine/controller.h"
#include "fleetd/features/reboot/reboot.h"
#include "fleetd/host/settings.h"

/* Controller.step: write and log the step that is due. While a reboot is planned, look again each second: a
 * voter that catches up changes no key. */
int reboot_control(Control *control);

/* The reboot of this host by logind (rebooting.c): members of the component. */
int rebooting_open(ComponentHost *host, const Settings *s, void **ret, Error *err);
void *rebooting_close(void *self);
void rebooting_state_changed(void *self);
void rebooting_systemd_ready(void *self, uint64_t soft_reboots, bool booting);
