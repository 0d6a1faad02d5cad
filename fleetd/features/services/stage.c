/* What goes with the file of a unit that has ports. */
#include "fleetd/features/services/services_internal.h"

int services_stage(void *self, const Unit *text, struct AssignmentRecord *record, bool runs, Error *err) {
        return 0;
}
