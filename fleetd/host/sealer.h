/* Seals the cluster keys of this host, and the credentials of its units, with a key of the host or of its
 * TPM, so that its disk alone does not contain them. An I/O interface: systemd-creds (fleetd/creds.h), or
 * simulated. */
#pragma once

#include "base/error.h"
#include "base/parse.h"

typedef enum SealWith {
        SEAL_WITH_NO, /* the file has the key as it is */
        SEAL_WITH_HOST,
        SEAL_WITH_TPM2,
        SEAL_WITH_HOST_TPM2,
        _SEAL_WITH_MAX,
        _SEAL_WITH_INVALID = -EINVAL,
} SealWith;

ENUM_NAMES(seal_with, SealWith, _SEAL_WITH_MAX)

/* Read the value of SealWith= into *(SealWith *) field. */
int seal_with_set(const char *value, void *field, Error *err);

enum {
        SEALED_MAX = 16384,   /* bytes of a sealed key */
        SEALER_MAX = 65536,   /* bytes that a call seals or opens */
        SEALER_NAME_MAX = 64, /* bytes of a name */
};

/* 'bytes' is borrowed for the call; NULL after a failure, with a negative errno and a message for people. */
typedef void SealerDone(void *userdata, int error, const char *message, const void *bytes, size_t size);

typedef struct Sealer Sealer;

/* A call. All is borrowed for the duration of seal() or open(), but userdata. */
typedef struct SealerCall {
        SealWith form;    /* of seal() */
        const char *name; /* what was sealed under one name opens under this name only; of a credential, its
                             own one */
        const void *bytes;
        size_t size;
        SealerDone *done;
        void *userdata;
} SealerCall;

/* At most one call is in flight. 'done' is called once, from the loop, unless the function fails, or cancel()
 * is called. */
typedef struct SealerOps {
        int (*seal)(Sealer *s, const SealerCall *call, Error *err);
        int (*open)(Sealer *s, const SealerCall *call, Error *err);
        void (*cancel)(Sealer *s); /* without effect if no call is in flight */
} SealerOps;

struct Sealer {
        const SealerOps *ops;
};
