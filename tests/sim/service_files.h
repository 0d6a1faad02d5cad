/* The files of services of a simulated host: in memory, until the host boots. */
#pragma once

#include "fleetd/features/services/files.h"
#include "units/named.h"

typedef struct SimServiceFiles {
        ServiceFiles base;
        Named *files; /* with their texts */
        bool exists;  /* the folder */
        unsigned n_writes, n_folders;
        int error, read_error; /* of each write; of each read; 0 */
} SimServiceFiles;

void sim_service_files_init(SimServiceFiles *f);
/* Remove the folder with its files. */
void sim_service_files_clear(SimServiceFiles *f);
/* Return the text of a file, borrowed; NULL: there is none. */
const char *sim_service_file(const SimServiceFiles *f, const char *name);
