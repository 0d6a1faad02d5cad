/* Messages of hosts of a former version, which send and store no codes. Trees that such hosts have written
 * contain them, also after an upgrade of all hosts, and after a restore of a backup. */
#pragma once

#include "units/verdict.h"

/* Where a message stands. */
typedef enum VerdictPlace {
        VERDICT_IN_PRESENCE,  /* the reason of a presence key */
        VERDICT_IN_HEARTBEAT, /* the problem of a replica */
} VerdictPlace;

/* Read a message that comes without a code. The only place that recognizes messages. */
void verdict_read_former(VerdictPlace place, const char *message, Verdict *ret);
/* The same of the reason of a row of the history of a kind (history_kind_names), about a unit or "". */
void verdict_read_former_row(const char *kind, const char *unit, const char *reason, Verdict *ret);
/* Return the code of the reason of an inactive unit (UnitState.code), or VERDICT_SAID. */
VerdictCode verdict_read_former_stop(const char *reason);
/* Append the unit of a message of VERDICT_STOPPED_FOR, whose argument is not stored; nothing for "another
 * unit". */
void verdict_read_former_stopper(const char *reason, Text *ret);
/* Return VERDICT_INSTANCE_FAILED if the reason of a rollout is a failure of the unit, perhaps behind "revert
 * to revision 1 failed: "; else VERDICT_NONE. */
VerdictCode verdict_read_former_failure(const char *unit, const char *why);
