#include "fleetd/host/sealer.h"

const char *const seal_with_names[_SEAL_WITH_MAX] = {
        [SEAL_WITH_NO] = "no",
        [SEAL_WITH_HOST] = "host",
        [SEAL_WITH_TPM2] = "tpm2",
        [SEAL_WITH_HOST_TPM2] = "host+tpm2",
};

int seal_with_set(const char *value, void *field, Error *err) {
        SealWith with = seal_with_from_string(value);

        if ((int) with < 0)
                return error_set(err, -EINVAL, "expected no, host, tpm2 or host+tpm2, not '%s'", value);
        *(SealWith *) field = with;
        return 0;
}
