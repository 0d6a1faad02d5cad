/* Rights of local groups: LocalRights= of fleetd.conf(5). */
#pragma once

#include "fleetd/registry/principal.h"
#include "fleetd/registry/rights.h"
#include "units/lists.h"

enum { LOCAL_GROUPS_MAX = PRINCIPAL_GROUPS_MAX - 1 }; /* group fleet is the other one */

typedef struct LocalGroup {
        uint32_t gid;
        RightList *rights;
} LocalGroup;

typedef struct LocalRights {
        LocalGroup groups[LOCAL_GROUPS_MAX];
        size_t n;
} LocalRights;

void local_rights_done(LocalRights *l);
#define _cleanup_local_rights_ _cleanup_(local_rights_done)

/* Add "GROUP:RIGHT[,RIGHT...]", with the name or the number of a group. Return 1 and a warning if there is no
 * such group: then nothing is added. -EINVAL, -EPERM or -E2BIG, and a message; -ENOMEM. */
int local_rights_add(LocalRights *l, const char *text, Error *err);

/* Add a text to a setting, the Names at 'texts', which keeps all that local_rights_add() accepts together; ""
 * removes all. Return as local_rights_add(). */
int local_rights_set(const char *value, void *texts, Error *err);

/* Return whether one of these texts has a right to keys, also of a group that does not exist yet. */
bool local_rights_have_keys(const Names *texts);

/* Return the groups with rights among 'groups' in 'p', and the sum of their rights in *ret (NULL: none). 0 or
 * -ENOMEM. */
int local_rights_of(const LocalRights *l, const uint32_t *groups, size_t n, Principal *p, RightList **ret);
