/* Quadlet files: units that podman's generator makes services of, NAME.container and its kin
 * (podman-systemd.unit(5)).
 *
 * For the cluster the file is the unit, under its own name and by its own text. systemd on the machine that
 * runs it knows the generated service alone, whose name follows from the file's; only who speaks to systemd
 * translates. */
#pragma once

#include <stdbool.h>

#include "units/name.h"
#include "units/unit_file.h"

bool quadlet_is(const char *name); /* by its type */

/* The name under which systemd knows a unit: of a Quadlet file that of its service ("data-volume.service" of
 * "data.volume"), of all others their own. */
void quadlet_service(const char *name, char ret[static UNIT_NAME_MAX + 32]);

/* Calls 'each' with the name of every file that could be made into 'service': "web.container" and "web.kube"
 * of "web.service". */
void quadlet_each_source(const char *service, void (*each)(void *userdata, const char *name), void *userdata);

/* What podman's generator would refuse, or we cannot follow: the section of the type is missing, or what it
 * cannot do without; a section of another type; a service of another name. -EINVAL, -EBADMSG with a sentence.
 */
int quadlet_check(const char *name, const char *text, const UnitFile *file, Error *err);
