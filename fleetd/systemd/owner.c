#include "fleetd/systemd/systemd.h"

/* The load state of the host's unit is irrelevant: a unit with a bad setting still belongs to the host. An
 * alias has no file of its own, but leads to one. Our unit without its file has no fragment, and load state
 * "not-found" or, while it runs, "error". */
SystemdOwner systemd_owner(const SystemdUnit *u, bool our_file) {
        if (our_file)
                return SYSTEMD_OURS;
        if (!streq(u->load, "not-found") && (streq(u->load, "masked") || u->fragment[0] || u->alias))
                return SYSTEMD_CONFLICTING;
        return SYSTEMD_ABSENT;
}
