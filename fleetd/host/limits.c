#include "fleetd/host/limits.h"

#include "kvstore/command/command.h"

const ApiLimits api_limits_default = {
        .key_size = KV_KEY_MAX,
        .value_size = KV_VALUE_MAX,
        .body_size = 2 << 20, /* a value and its previous one, each byte as %XX, and a margin */
        .answer_nodes = 100000,
        .answer_size = 32 << 20,
        .watches = 100000,
};
