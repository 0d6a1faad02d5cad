/* Inputs: the secrets and keys of the store that a unit names, and what happens to its instances when they
 * change. Values of Secret=, EnvironmentKeys=, ConfigKeys= and OnChange= of [X-Fleet] (a member of
 * Placement). Pure.
 *
 * Source: fleet.unit(5), fleet-secrets(7); names of credentials: systemd.exec(5). */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "units/lists.h"
#include "units/unit_file.h"

enum {
        SECRET_NAME_MAX = 64,                /* bytes; also of a credential */
        SECRET_SIZE_MAX = 64 * 1024,         /* bytes of a value */
        INPUT_SECRETS_MAX = 16,              /* of one unit, as all that follows */
        INPUT_SECRETS_SIZE_MAX = 512 * 1024, /* bytes; systemd permits 1 MiB */
        INPUT_PATHS_MAX = 8,                 /* of EnvironmentKeys=, and of ConfigKeys= */
        INPUT_PATH_MAX = 512,                /* bytes of one */
        INPUT_DEPTH_MAX = 16,                /* its components: each directory above it is protected, too */
        INPUT_VARIABLES_MAX = 500,
        INPUT_VARIABLE_SIZE_MAX = 32 * 1024,   /* bytes of a value */
        INPUT_VARIABLES_SIZE_MAX = 128 * 1024, /* bytes of all, with their names */
        INPUT_FILES_MAX = 1000,
        INPUT_FILE_NAME_MAX = 255,  /* bytes of one component */
        INPUT_FILE_PATH_MAX = 1024, /* bytes of all components: below PATH_MAX with the unit's folder */
        INPUT_FILES_SIZE_MAX = 1024 * 1024, /* bytes of all, without their names */
};

typedef enum OnChange {
        ON_CHANGE_NONE,    /* used at the next start */
        ON_CHANGE_RELOAD,  /* each host reloads the unit by itself */
        ON_CHANGE_RESTART, /* a rollout restarts the instances of the set */
        _ON_CHANGE_MAX,
        _ON_CHANGE_INVALID = -EINVAL,
} OnChange;

/* All in the order of the options. A path has no '/' at its end; one with "-" before it may be absent. */
typedef struct InputPolicy {
        Names secrets;     /* Secret=: names; of equal number and order as: */
        Names credentials; /* the names of their credentials */
        Names environment; /* EnvironmentKeys=: paths */
        Names files;       /* ConfigKeys=: paths; of equal number and order as: */
        Names directories; /* the directories of their files; "": none */
        Names shared;      /* of a template, whose other lists have no path with a specifier: the part of such
                              a path, without "-", that is equal for all instances */
        OnChange on_change;
} InputPolicy;

void input_policy_done(InputPolicy *policy);
/* Return whether the unit names any secret or path. */
bool input_policy_is_set(const InputPolicy *policy);
/* Return whether an instance has to be started again to have another content. */
static inline bool input_policy_restarts(const InputPolicy *policy) {
        return policy->on_change == ON_CHANGE_RESTART && input_policy_is_set(policy);
}
/* Return the path of an item of 'environment' or 'files', without "-"; *ret_optional: it may be absent. */
const char *input_path(const char *item, bool *ret_optional);
/* Return a path of the policy by its number, from 0 on; NULL after the last one. */
const char *input_policy_path(const InputPolicy *policy, size_t i);

/* Return what is protected because of the policy (registry/protect.h): these, then 'shared'. */
const char *input_policy_protected(const InputPolicy *policy, size_t i);

/* Add the value of one Secret=, EnvironmentKeys= or ConfigKeys=. -EINVAL with the rule that the value breaks;
 * -ENOMEM. */
int input_policy_add_secret(InputPolicy *policy, const char *value, Error *err);
int input_policy_add_environment(InputPolicy *policy, const char *value, Error *err);
int input_policy_add_files(InputPolicy *policy, const char *value, Error *err);
/* Add to 'shared' what a value of EnvironmentKeys= or, with 'is_files', ConfigKeys= has before its first
 * component with a specifier that depends on the instance. -EINVAL: that is its first component; -ENOMEM. */
int input_policy_add_shared(InputPolicy *policy, const char *template, const char *value, bool is_files,
                            Error *err);

/* Check that a unit of this file can have the policy: OnChange=reload requires a reload. -EINVAL with the
 * line of the option. */
int input_policy_check(const InputPolicy *policy, const UnitFile *file, Error *err);

/* Return whether a secret may have this name: 1 to SECRET_NAME_MAX bytes of letters, digits, '.', '_', '-',
 * of which the first one is a letter or a digit. */
bool secret_name_is_valid(const char *name);
