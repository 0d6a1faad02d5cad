/* Drop-ins: what a feature of fleetd adds to a unit, beside the link to its file (runtime_dir_link()),
 * LINK.d/fleet-FEATURE.conf. systemd or podman's generator reads them with the file, and a text that wants a
 * drop-in is in force only with it. They are gone after a boot. */
#pragma once

#include "base/text.h"

struct Unit;

typedef enum DropIn {
        DROP_IN_SINGLETON, /* Singleton= (fleetd/systemd/guard.h) */
        DROP_IN_PORTS,     /* Port= (fleetd/features/services/ports.h) */
        DROP_IN_INPUTS,    /* Secret=, EnvironmentKeys=, ConfigKeys= (fleetd/features/inputs/) */
        _DROP_IN_MAX,
} DropIn;

enum { DROP_IN_SIZE_MAX = 65536, DROP_IN_PATH_SIZE = 1024 };

/* Return the drop-ins that go with the text, one bit for each. Pure. */
unsigned drop_in_wanted(const struct Unit *text);

/* Append one word of a value with several ones, as of Environment=: quoted if necessary, and without
 * specifiers. Pure.
 *
 * Source: systemd.syntax(7), "Quoting", and "Specifiers" of systemd.unit(5). */
void drop_in_append_word(Text *t, const char *word);

/* Write the path of the drop-in; -ENAMETOOLONG. */
int drop_in_path(const char *link, DropIn feature, char ret[static DROP_IN_PATH_SIZE]);
/* Write the drop-in, or remove it ('sections' NULL), with its folder unless that has other files. Return 1;
 * 0: it is already so, since a new file would make systemd ask for a reload; or a negative errno. */
int drop_in_put(const char *link, DropIn feature, const char *sections);
/* Read the drop-in; the caller frees *ret. -ENOENT: there is none. */
int drop_in_get(const char *link, DropIn feature, char **ret);
/* Remove the drop-ins of the unit that are not among 'wanted'. */
void drop_in_keep(const char *link, unsigned wanted);
/* Return whether the unit has those of 'wanted'. */
bool drop_in_has(const char *link, unsigned wanted);
