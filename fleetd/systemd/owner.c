#include "fleetd/systemd/owner.h"

#include "base/memory.h"

/* The load state of the host's unit is irrelevant: a unit with a bad setting still belongs to the host. An
 * alias has no file of its own, but leads to one. Our unit without its file has no fragment, and load state
 * "not-found" or, while it runs, "error". */
SystemdOwner systemd_owner(const SystemdSource *s) {
        if (s->our_file)
                return SYSTEMD_OURS;
        if (streq(s->load, "not-found"))
                return SYSTEMD_ABSENT;
        if (streq(s->load, "masked") || s->fragment[0] || s->alias)
                return SYSTEMD_CONFLICTING;
        return SYSTEMD_ABSENT;
}
