/* The content of a unit: what its inputs (units/inputs.h) are at one index of the store, as credentials,
 * variables and files; or the problem of its inputs. Pure.
 *
 * Source: fleet-secrets(7); names of variables: environ(7), EnvironmentFile= of systemd.exec(5). */
#pragma once

#include "base/text.h"
#include "units/hash.h"
#include "units/inputs.h"
#include "units/verdict.h"

/* A key at or below a path. Borrowed. */
typedef struct InputNode {
        const char *key; /* whole; no directory; without NUL */
        const void *value;
        size_t size;
} InputNode;

/* What there is at one path. Borrowed. */
typedef struct InputListing {
        bool exists;            /* also an empty directory */
        const InputNode *nodes; /* in the order of the store; hidden ones are left out */
        size_t n;
        const char *refused; /* why it is not read to its end, which is a problem; NULL: it is */
} InputListing;

/* A secret of the unit. Borrowed. */
typedef struct InputSecret {
        uint64_t version, set_ms; /* version 0: it is not set */
        bool is_for;              /* its patterns have the unit */
        const char *units;        /* the patterns, for a message; may be NULL */
        const void *value;        /* NULL: only the digest, and problems, are wanted */
        size_t size;              /* also without the value */
} InputSecret;

/* In the order of the lists of the policy, and of equal number. Borrowed. */
typedef struct InputValues {
        const InputSecret *secrets;
        const InputListing *environment, *files;
} InputValues;

typedef struct ContentItem {
        const char *name;  /* of the variable or credential; path of the file below FLEET_CONFIG */
        const void *value; /* borrowed */
        size_t size;
        const InputNode *node; /* while content_build() runs, as the next: of a variable or file */
        size_t path;           /* place of its path among those of the option */
} ContentItem;

enum { CONTENT_LISTS = 3 };

typedef struct Content {
        char digest[UNIT_HASH_SIZE]; /* of the credentials, versions and times of secrets, and of the keys
                                        and values at each path; equal digests: equal variables and files */
        Verdict problem;             /* VERDICT_NONE: there is a content */
        bool waits;                  /* the problem is an input that is missing */
        union {                      /* owned, with their names */
                struct {
                        ContentItem *credentials, *variables, *files;
                };
                ContentItem *lists[CONTENT_LISTS];
        };
        union {
                struct {
                        size_t n_credentials, n_variables, n_files;
                };
                size_t n[CONTENT_LISTS];
        };
} Content;

void content_done(Content *content);
#define _cleanup_content_ _cleanup_(content_done)

/* Return whether 'name' is a path of a file below a folder: at most INPUT_FILE_PATH_MAX bytes, each component
 * at most INPUT_FILE_NAME_MAX, and none empty, "." or "..". */
bool input_file_is_valid(const char *name);

/* Build the content of a unit. With a problem, which is no error, the lists and the digest are empty: the
 * first one of secrets, then of variables, then of files, each in the order of the options; a name that two
 * keys share, and the sum of a list, are checked last. Variables and files are sorted by name.
 *
 * 0, -ENOMEM, or an error of bytes_sha256(). */
int content_build(const InputPolicy *policy, const char *unit, const InputValues *values, Content *ret);

/* Append the variables as a file of EnvironmentFile=; of a container, as podman reads it: without quotes, and
 * without escapes. */
void content_append_environment(Text *t, const Content *content, bool container);
