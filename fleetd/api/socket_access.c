#include "fleetd/api/socket_access.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#include "base/memory.h"

static const char acl_name[] = "system.posix_acl_access";

static struct posix_acl_xattr_entry acl_entry(uint16_t tag, uint16_t permissions, uint32_t id) {
        return (struct posix_acl_xattr_entry) { htole16(tag), htole16(permissions), htole32(id) };
}

int socket_admit(const char *path, const uint32_t *groups, size_t n) {
        enum { READ_WRITE = ACL_READ | ACL_WRITE, NO_ID = -1 };
        _cleanup_free_ struct posix_acl_xattr_header *acl = NULL;
        struct posix_acl_xattr_entry *e;
        size_t size = sizeof(*acl) + (n + 4) * sizeof(*e);

        if (n == 0)
                return removexattr(path, acl_name) < 0 && errno != ENODATA && errno != EOPNOTSUPP ? -errno :
                                                                                                    0;
        acl = malloc(size);
        if (!acl)
                return -ENOMEM;
        acl->a_version = htole32(POSIX_ACL_XATTR_VERSION);
        e = (struct posix_acl_xattr_entry *) (acl + 1);
        *e++ = acl_entry(ACL_USER_OBJ, READ_WRITE, NO_ID);
        *e++ = acl_entry(ACL_GROUP_OBJ, READ_WRITE, NO_ID);
        for (size_t i = 0; i < n; i++)
                *e++ = acl_entry(ACL_GROUP, READ_WRITE, groups[i]);
        *e++ = acl_entry(ACL_MASK, READ_WRITE, NO_ID);
        *e = acl_entry(ACL_OTHER, 0, NO_ID);
        return setxattr(path, acl_name, acl, size, 0) < 0 ? -errno : 0;
}
