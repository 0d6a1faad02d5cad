/* Where the data of units is that stay there: /_fleet/data/NAME names the machine on which the unit last ran.
 *
 * The leader writes it when the unit is up, never with the assignment: a start that fails binds nothing. The
 * record is of the name, and outlives the unit. Of units that do not exist, the newest ones are kept. */
#pragma once

#include "fleetd/registry/transaction.h"

enum {
        DATA_STEP_MAX = 100,  /* records in one transaction */
        DATA_LEFT_MAX = 1000, /* of units that do not exist */
};

/* Add the records that are due: none while a new lineage is adopted. */
void data_step(Transaction *t, const Cluster *c);
