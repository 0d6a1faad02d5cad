/* Rights, and lists of rights as people grant them: to users (/_fleet/cluster/principal/NAME), to groups of
 * this host (LocalRights=), and to a restricted host.
 *
 * The text of a right is its name, for rights to keys followed by a prefix: "units-see", "keys-write:/app". A
 * prefix covers the key itself and all below it, never /_fleet. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "kvstore/command/command.h"
#include "units/stored_cluster.h"

typedef enum Right {
        RIGHT_NONE,         /* no principal has it: a route without a right is closed */
        RIGHT_STATUS_SEE,   /* version, health and members of the cluster */
        RIGHT_KEYS_READ,    /* of keys, and to watch them */
        RIGHT_KEYS_WRITE,   /* of keys; in a list, includes the right to read them: a write returns the
                             * previous value */
        RIGHT_UNITS_SEE,    /* units, their states and logs; machines; figures of the daemon */
        RIGHT_UNITS_CHANGE, /* submit, start, stop and destroy units; metadata of machines */
        RIGHT_LEAVE,        /* the leave of the host that gets the request; granted with the next one */
        RIGHT_ADMINISTER,   /* settings, hosts and principals of the whole cluster */
        RIGHT_REPORT,       /* facts, states and problems of a machine */
        _RIGHT_MAX
} Right;

enum { RIGHTS_MAX = 256 }; /* of one list */

typedef struct RightItem {
        Right right;
        KvBytes prefix; /* of a right to keys; owned */
} RightItem;

/* Immutable once it is shared; only the loop's thread takes and releases references. */
typedef struct RightList {
        unsigned refs;
        size_t n;
        RightItem items[];
} RightList;

RightList *right_list_ref(RightList *list);   /* NULL allowed */
RightList *right_list_unref(RightList *list); /* NULL allowed; returns NULL */
DEFINE_CLEANUP(RightList *, right_list_unref)
#define _cleanup_right_list_ _cleanup_(right_list_unrefp)

const char *right_name(Right right); /* NULL: it cannot be granted */

/* Add the right of this name to *list, which is not shared (NULL: an empty one). 'prefix' is copied; NULL:
 * none. -EINVAL, -E2BIG or -EPERM (a prefix below /_fleet), and a message; -ENOMEM. */
int right_list_add(RightList **list, const char *name, const KvBytes *prefix, Error *err);
/* The same with a text of 'size' bytes. */
int right_list_add_text(RightList **list, const char *text, size_t size, Error *err);
/* The reverse of right_list_of(): set the rights of a user. -E2BIG: more than PRINCIPAL_RIGHTS_MAX, or a
 * prefix of PRINCIPAL_PREFIX_SIZE bytes or more; with a message. */
int right_list_record(const RightList *list, PrincipalRecord *ret, Error *err);
/* Append the text of a right of a user. */
void right_append(Text *t, const PrincipalRight *right);
/* Set the rights of a user. One that cannot be granted is skipped. 0 or -ENOMEM. */
int right_list_of(const PrincipalRecord *user, RightList **ret);

/* Return whether the list, NULL is an empty one, has a right; to keys: to this key, or with size 0 to any. */
bool right_list_has(const RightList *list, Right right, KvBytes key);
/* Return whether a prefix of the list is below 'key'. */
bool right_list_is_below(const RightList *list, KvBytes key);
/* Check the prefixes of a restricted host: "/app,/logs", "" for none. -EINVAL, -EPERM or -E2BIG, and a
 * message; -ENOMEM. */
int prefixes_check(const char *prefixes, Error *err);
/* Return whether the key is one of these prefixes, or below one; with size 0: whether there is one. */
bool prefixes_have(const char *prefixes, KvBytes key);
/* Return whether the prefixes have all keys of 'other'. */
bool prefixes_cover(const char *prefixes, const char *other);
/* Return whether the list has all rights of 'other'. */
bool right_list_covers(const RightList *list, const RightList *other);
