/* Access to the local socket for groups in addition to its own: an access control list (acl(5)), so that the
 * kernel rejects all other users. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Let exactly these groups connect to the socket at 'path', in addition to its owner and its group. Return 0,
 * or a negative errno: then none of them can, unless they could before. */
int socket_admit(const char *path, const uint32_t *groups, size_t n);
