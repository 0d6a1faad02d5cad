#include "fleetd/registry/policy.h"

enum {
        ON_CLUSTER = 1 << RESOURCE_CLUSTER,
        ON_USER_KEYS = 1 << RESOURCE_USER_KEYS,
        ON_FLEET_KEYS = 1 << RESOURCE_FLEET_KEYS,
};

/* Row: the principal. Column: the right. Bits: the resources that the right extends to. */
static const unsigned grants[_PRINCIPAL_MAX][_RIGHT_MAX] = {
        [PRINCIPAL_ADMINISTRATOR] = {
                [RIGHT_STATUS_SEE] = ON_CLUSTER,
                [RIGHT_KEYS_READ] = ON_USER_KEYS | ON_FLEET_KEYS,
                [RIGHT_KEYS_WRITE] = ON_USER_KEYS,
                [RIGHT_UNITS_SEE] = ON_CLUSTER,
                [RIGHT_UNITS_CHANGE] = ON_CLUSTER,
                [RIGHT_ADMINISTER] = ON_CLUSTER,
        },
        [PRINCIPAL_WRITER] = {
                [RIGHT_STATUS_SEE] = ON_CLUSTER,
                [RIGHT_KEYS_READ] = ON_USER_KEYS,
                [RIGHT_KEYS_WRITE] = ON_USER_KEYS,
        },
        [PRINCIPAL_READER] = {
                [RIGHT_STATUS_SEE] = ON_CLUSTER,
                [RIGHT_KEYS_READ] = ON_USER_KEYS,
        },
};

Resource resource_of_key(KvBytes key) {
        return kv_path_is_ours(key) ? RESOURCE_FLEET_KEYS : RESOURCE_USER_KEYS;
}

bool policy_allows(Principal principal, Right right, Resource resource) {
        return grants[principal][right] & 1u << resource;
}
