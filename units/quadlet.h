/* Quadlet files: NAME.container and other types, from which podman's generator makes services
 * (podman-systemd.unit(5)).
 *
 * In the cluster, the file is the unit, with its own name and text. systemd only has the generated service,
 * whose name follows from the file's; the code that calls systemd translates. */
#pragma once

#include "units/name.h"
#include "units/unit_file.h"

bool quadlet_is(const char *name); /* by its type */

/* Write the name of a unit in systemd: for a Quadlet file, that of its service ("data-volume.service" for
 * "data.volume"), for all others their own. */
void quadlet_service(const char *name, char ret[static UNIT_NAME_MAX + 32]);

/* Call 'each' with the name of every file that could generate 'service': "web.container" and "web.kube" for
 * "web.service". */
void quadlet_each_source(const char *service, void (*each)(void *userdata, const char *name), void *userdata);

/* Reject a file that podman's generator rejects: without the section of its type or a required option, or
 * with a section of another type. Reject also ServiceName=, which would change the service's name. -EINVAL,
 * -EBADMSG. */
int quadlet_check(const char *name, const char *text, const UnitFile *file, Error *err);
