/* The rollouts that the leader looks at: members of the component, whose row is in rollouts_v1.c. */
#pragma once

#include "fleetd/engine/controller.h"
#include "fleetd/host/component.h"

int rollouts_open(ComponentHost *host, const Settings *s, void **ret, Error *err);
void *rollouts_close(void *self);
int rollouts_control(Control *control);                         /* Controller.step */
int rollouts_planned(const Control *control, const char *unit); /* Controller.planned */
