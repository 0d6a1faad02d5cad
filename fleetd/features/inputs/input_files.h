/* The files by which systemd and podman give a unit its content: credential files sealed to this host, an
 * environment file, and a folder of files with a link "current". An I/O interface: the disk
 * (input_folder.c), or simulated. All contents of one folder have the same credentials (inputs_folder()).
 *
 *   INPUTS_CREDENTIALS/FOLDER/NAME           0600, sealed by systemd-creds
 *   INPUTS_CONFIG/FOLDER/environment         0600
 *   INPUTS_CONFIG/FOLDER/vN/..., current     0755, 0644: "current" is a relative link to vN; vN is removed
 *                                            when vN+2 exists
 *   STATE/agent/config/FOLDER                0600: the copy (content_bytes.h), from which the files below
 *                                            INPUTS_CONFIG, which is memory, are made again in a boot
 */
#pragma once

#include "base/error.h"
#include "fleetd/features/inputs/content.h"
#include "io/loop.h"

#define INPUTS_CREDENTIALS "/var/lib/fleet/credentials"
#define INPUTS_CONFIG      "/run/fleet/config"
#define INPUTS_SECRETS     "/run/fleet/secrets" /* copies for containers, made by their units */

typedef ContentItem InputFile; /* borrowed, as its name */

/* All files of one content. Borrowed. */
typedef struct InputFileSet {
        const char *folder, *digest;
        uint64_t number;              /* of the content */
        const InputFile *credentials; /* sealed */
        const InputFile *files;
        size_t n_credentials, n_files;
        const char *environment; /* text of the file; "": without variables */
} InputFileSet;

/* What a folder has. */
typedef struct InputFileState {
        uint64_t number;
        char digest[UNIT_HASH_SIZE];
} InputFileState;

typedef struct InputFiles InputFiles;

typedef void InputFilesDone(void *userdata, int error, const char *message);

/* Functions return 0 or a negative errno. */
typedef struct InputFilesOps {
        /* Write all files of a content, each with a temporary name and a rename; the credentials first, then
         * the copy, durably, then "environment" and "current". Off the loop: what the set names is borrowed
         * until 'done', which is called once, from the loop, also after the end of the daemon. One call at a
         * time. After an error of 'done', the former content is in force. */
        int (*put)(InputFiles *f, const InputFileSet *set, InputFilesDone *done, void *userdata);
        /* Return whether a folder has these credentials, "environment" and "current"; without reading them.
         */
        bool (*check)(InputFiles *f, const char *folder, const Names *credentials);
        /* Make INPUTS_CONFIG/FOLDER from the copy unless it is complete. -ENOENT: there is no copy, or not
         * each of its credentials; -EBADMSG: the copy is damaged. No put of this folder is in flight, nor in
         * remove(). */
        int (*restore)(InputFiles *f, const char *folder, InputFileState *ret);
        /* List the folders, for strings_free(). -ENOENT: there are none. */
        int (*list)(InputFiles *f, char ***ret, size_t *ret_n);
        int (*remove)(InputFiles *f, const char *folder); /* all files of a folder */
} InputFilesOps;

struct InputFiles {
        const InputFilesOps *ops;
};

/* Files on the disk, in folders that are made with the first one. 'loop' is borrowed. 0 or -ENOMEM. */
int input_folder_new(InputFiles **ret, Loop *loop, const char *credentials, const char *config,
                     const char *copies);
/* A put that is under way ends with the loop. NULL allowed; returns NULL. */
InputFiles *input_folder_free(InputFiles *f);
