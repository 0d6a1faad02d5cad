/* Commands of health checks, as transient services of systemd: each one has a control group of its own in
 * fleet-checks.slice, and all of it is killed at the timeout. */
#pragma once

#include "fleetd/systemd/systemd.h"

#define TRANSIENT_SLICE  "fleet-checks.slice"
#define TRANSIENT_PREFIX "fleet-check-" /* of the names of these services */

/* As run_check() of SystemdOps. */
int transient_run(Systemd *s, const SystemdRun *run, SystemdDone done, void *userdata);
