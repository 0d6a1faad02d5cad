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
        const InputNode *nodes; /* sorted by key; hidden ones may be among them, and are left out */
        size_t n;
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
        char *name;        /* owned: of the variable or credential; path of the file below FLEET_CONFIG */
        const void *value; /* borrowed from the values */
        size_t size;
} ContentItem;

typedef struct Content {
        char digest[UNIT_HASH_SIZE]; /* of the credentials, versions and times of secrets, and of the keys
                                        and values at each path; equal digests: equal variables and files */
        Verdict problem;             /* VERDICT_NONE: there is a content */
        bool waits;                  /* the problem is an input that is missing */
        ContentItem *credentials, *variables, *files; /* owned */
        size_t n_credentials, n_variables, n_files;
} Content;

void content_done(Content *content);
#define _cleanup_content_ _cleanup_(content_done)

/* Build the content of a unit. With a problem, which is no error, the lists and the digest are empty: the
 * first one of secrets, then of variables, then of files, each in the order of the options; a name that two
 * keys share, and the sum of a list, are checked last. Variables and files are sorted by name.
 *
 * 0, -ENOMEM, or an error of bytes_sha256(). */
int content_build(const InputPolicy *policy, const char *unit, const InputValues *values, Content *ret);

/* Append the variables as a file of EnvironmentFile=; of a container, as podman reads it: without quotes, and
 * without escapes. */
void content_append_environment(Text *t, const Content *content, bool container);
