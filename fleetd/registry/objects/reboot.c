/* Planned reboots. */
#include "fleetd/registry/kinds.h"

/* A host reports that logind has rejected its planned reboot. */
static bool reboot_own_change(Right right, const void *was, const void *is) {
        const RebootRecord *now = was, *next = is;
        RebootRecord expected;

        if (right != RIGHT_REPORT || !now || !next || now->state != REBOOT_REBOOTING)
                return false;
        expected = *now;
        expected.state = REBOOT_REJECTED;
        expected.why = next->why;
        return json_record_equal(&reboot_record, &expected, next);
}

/* In a new lineage, the host would reboot again. */
KIND(reboot, "machine/%m/reboot", "reboot", CHANGED_MACHINE, OF_MACHINE, KV_LEVEL_UPDATES, SLICE_MACHINE,
     { .set = RIGHT_ADMINISTER, .own_change = reboot_own_change, .reports = 1u << KV_REPORT_MAINTENANCE },
     REMOVAL_OF_MACHINE | REMOVAL_OF_UNREADABLE, kind_ends, .record = &reboot_record);
