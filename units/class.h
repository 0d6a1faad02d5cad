/* Classes of units, by their type and text: whether their work ends, and what starts and stops them.
 *
 * Pure. Engine and agent read one table; fleet.unit(5) shows it. */
#pragma once

#include "units/name.h"
#include "units/unit_file.h"

typedef enum UnitClass {
        CLASS_ENDING,  /* a service whose work can end */
        CLASS_LASTING, /* one that is restarted after each end, or is active after it (RemainAfterExit=) */
        CLASS_TRIGGER, /* timer, path, socket, automount: starts another unit */
        CLASS_MOUNT,   /* mount, swap */
        CLASS_TARGET,
        _CLASS_MAX,
} UnitClass;

typedef struct UnitClassRules {
        bool finishes; /* it may finish: then a boot, or its next machine, puts its file in force, and starts
                          nothing */
        bool triggers; /* it moves with the unit that it triggers, starts when that is loaded, and stops
                          before that */
} UnitClassRules;

extern const UnitClassRules unit_classes[_CLASS_MAX];

UnitClass unit_class(const char *name, const UnitFile *file);

/* Return whether a section has the settings of the unit's processes and of their resources: [Service], also
 * of a Quadlet file, [Socket], [Mount] or [Swap]. 'name' NULL: of any unit.
 *
 * Source: systemd.exec(5), systemd.resource-control(5), podman-systemd.unit(5). */
bool unit_class_has_processes(const char *name, const char *section);

/* Return whether a section has the settings of containers: [Container] of a .container file, [Pod] of a .pod
 * file. 'name' NULL: of any unit. */
bool unit_class_has_container(const char *name, const char *section);

/* Set 'ret' to the unit that a trigger starts; "": it is none, or starts the instances of a template (a
 * socket with Accept=yes). 0 or -ENOMEM.
 *
 * Source: Unit= in systemd.timer(5) and systemd.path(5), Service= in systemd.socket(5), systemd.automount(5).
 */
int unit_class_triggered(const char *name, const UnitFile *file, char ret[static UNIT_NAME_MAX + 1]);

/* Set 'ret' to the template whose instances a socket starts, one for each connection: foo@.service of a
 * foo.socket with Accept=yes. False: it starts none. 'file' NULL: Accept= is not considered. */
bool unit_class_accepts(const char *name, const UnitFile *file, char ret[static UNIT_NAME_MAX + 1]);
/* Set 'ret' to the socket that starts instances of the template if it has Accept=yes. False: it is none. */
bool unit_class_accepting(const char *template, char ret[static UNIT_NAME_MAX + 1]);
