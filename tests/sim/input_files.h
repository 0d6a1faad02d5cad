/* The files of contents of a simulated host. A put takes a moment; the end of its daemon interrupts it after
 * any of its steps. */
#pragma once

#include "fleetd/features/inputs/input_files.h"
#include "tests/sim/world.h"
#include "units/inputs.h"
#include "units/named.h"

/* What one put has written, or was to write. */
typedef struct SimContent {
        InputFileState state;
        char *environment;
        InputFile *credentials, *files; /* owned, with names and values */
        size_t n_credentials, n_files;
        LIST_ENTRY(SimContent) of_files;
} SimContent;

typedef struct SimInputFolder {
        Named named;
        const InputFile *credentials[INPUT_SECRETS_MAX]; /* on the disk; NULL at its end */
        const SimContent *copy;                          /* on the disk; NULL: none */
        const SimContent *environment, *current;         /* in memory; NULL: none */
} SimInputFolder;

typedef struct SimInputFiles {
        InputFiles base;
        World *world;
        Loop *loop; /* of the daemon */
        Named *folders;
        LIST_HEAD(, SimContent) contents;                 /* all so far */
        unsigned fail_percent;                            /* of the puts */
        void (*on_put)(void *machine, uint64_t takes_ms); /* one begins; NULL: no one asks */
        void (*on_change)(void *machine);                 /* there are others now; NULL */
        void *machine;
        uint64_t n_puts, n_interrupted, n_restored;

        SimInputFolder *folder; /* of the put in flight; NULL: none */
        const SimContent *next;
        InputFilesDone *done;
        void *userdata;
        Timer timer;
} SimInputFiles;

void sim_input_files_init(SimInputFiles *f, World *w);
void sim_input_files_clear(SimInputFiles *f); /* remove all */
void sim_input_files_crash(SimInputFiles *f); /* the daemon ends at once */
void sim_input_files_end(SimInputFiles *f);   /* its loop ends, and waits for a put */
void sim_input_files_boot(SimInputFiles *f);  /* what is in memory is gone */
/* Return whether all files of the content are there. */
bool sim_input_folder_is_complete(const SimInputFolder *folder);
