/* Data of units: what a file keeps on the machine where it runs. Pure.
 *
 * Data are StateDirectory=, named volumes of .container and .pod files, and .volume files with local storage.
 * Of a path of the host, a file cannot tell whether it is local or shared.
 *
 * Source: systemd.exec(5), podman-systemd.unit(5). */
#pragma once

#include "units/unit_file.h"
#include "units/warnings.h"

enum { DATA_TEXT_MAX = 128 }; /* bytes of a text here; longer ones end with "..." */

/* Set *ret_data to the first option by which the file has data, as written, without the path in the container
 * and without options: "StateDirectory=db", "Volume=pgdata"; "[Volume]" for a .volume file. Set
 * *ret_host_path to the first path of the host that the unit may write. NULL: there is none. Specifiers stay.
 * 'name' NULL: of a unit of any type, except .volume.
 *
 * The caller frees both. 0 or -ENOMEM. */
int data_find(const char *name, const UnitFile *file, char **ret_data, char **ret_host_path);

/* Warn of data of a template that its instances on one machine share. 0 or -ENOMEM. */
int data_warn_shared(const char *name, const UnitFile *file, Warnings *ret);
