/* Secrets, and the contents of units with inputs. */
#include "fleetd/registry/cluster_parts.h"

/* The view has no sealed value, which is large: it is read from the store. */
static int secret_applied(Cluster *c, const KindEntries *e, const void *was, const KindValue *is) {
        SecretRecord *secret = is->record;

        if (secret) {
                free(secret->sealed);
                secret->sealed = NULL;
        }
        return 0;
}

KIND(secret, "secret/%u", "secret", CHANGED_SECRET, OF_CLUSTER, KV_LEVEL_INPUTS, SLICE_NONE,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .record = &secret_record,
     .name_is_valid = secret_name_is_valid, .applied = secret_applied);

KIND(inputs, "inputs/%u", "inputs", CHANGED_INPUTS, OF_UNIT, KV_LEVEL_INPUTS, SLICE_UNIT, { .leader = true },
     REMOVAL_KEEPS, kind_stays, .record = &inputs_record);
