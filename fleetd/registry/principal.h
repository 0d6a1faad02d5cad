/* Principal: the authenticated sender of a request or of a command, as a plain value.
 *
 * Its text goes into proposals, logs and the history:
 *
 *     machine:ID                  a host: its agent, its unit directory, its facts
 *     user:NAME                   a user with a certificate
 *     local:UID[,GID...]@ID       a user of the host ID, by the credentials of the local socket
 *     anonymous@ID                a client on the loopback listener of the host ID
 *     token:ID                    a joining host
 *
 * Each value has one text, and each text one value. */
#pragma once

#include "base/sizes.h"
#include "units/stored_cluster.h"

typedef enum PrincipalKind {
        PRINCIPAL_NONE, /* not authenticated; its text is "" */
        PRINCIPAL_MACHINE,
        PRINCIPAL_USER,
        PRINCIPAL_LOCAL,
        PRINCIPAL_ANONYMOUS,
        PRINCIPAL_TOKEN,
        _PRINCIPAL_KIND_MAX
} PrincipalKind;

enum {
        PRINCIPAL_GROUPS_MAX = 16, /* of the groups of a user, those that have rights */
        PRINCIPAL_TEXT_SIZE = 256,
};

typedef struct Principal {
        PrincipalKind kind;
        char name[PRINCIPAL_NAME_MAX + 1]; /* of a user or token */
        char machine[MACHINE_ID_SIZE];     /* the host itself, or that of a local or anonymous sender */
        uint32_t uid;
        uint32_t groups[PRINCIPAL_GROUPS_MAX]; /* ascending */
        size_t n_groups;
} Principal;

/* Add a group. Return false if there is no room. */
bool principal_add_group(Principal *p, uint32_t group);

/* Write the text into 'ret', and return it. */
const char *principal_text(const Principal *p, char ret[static PRINCIPAL_TEXT_SIZE]);

/* Parse 'size' bytes, which need no terminator. -EINVAL: not the text of a principal; *ret is unchanged. */
int principal_parse(const char *text, size_t size, Principal *ret);

bool principal_equal(const Principal *a, const Principal *b);
