/* What the server permits its clients: plain values, which the daemon reads from its settings. */
#pragma once

#include <stdint.h>

typedef enum ClientAccess {
        CLIENT_READ_WRITE,
        CLIENT_READ_ONLY,
        CLIENT_OFF,
        CLIENT_CLOSED, /* as off: it is not set, and LocalRights= grants rights to keys */
        CLIENT_UNSET,  /* of the settings alone */
} ClientAccess;

/* Limits of one client's request; fleet-api(7) documents the responses above them. */
typedef struct ApiLimits {
        uint64_t key_size, value_size, body_size; /* at most KV_KEY_MAX, KV_VALUE_MAX */
        uint64_t answer_nodes, answer_size;       /* of one listing */
        uint64_t watches;                         /* clients that watch a key */
} ApiLimits;

extern const ApiLimits api_limits_default;
