/* What several files write in transactions: identities.c, revisions.c and schedule.c define it. */
#pragma once

#include "fleetd/registry/transaction.h"

/* identities.c: if the machine was removed because others may have its keys, write the keys that remain
 * denied when its tombstone is deleted or replaced. */
void transaction_deny_keys(Transaction *t, const Registry *r, const ClusterMachine *machine);
/* identities.c: what registry_change_ca() writes. */
void transaction_change_ca(Transaction *t, const Registry *r, const CaChange *change);
typedef struct UnitRequest {
        const UnitChange *changes;
        size_t n;
} UnitRequest;

/* revisions.c: write the new text of a unit, with its revision, into 't', and the text that it replaces, if
 * that is another revision, into 'former'. Return the number; 0: below KV_LEVEL_REVISIONS. With twice as many
 * revisions as are kept, the error is -EBUSY. 'request': all changes of the transaction, which may have the
 * template of the unit, too. */
uint64_t transaction_write_unit(Transaction *t, Transaction *former, Registry *r, const UnitRequest *request,
                                const UnitChange *change);
/* units.c: write a change of a unit. 'former' as above. */
void transaction_change_unit(Registry *r, Transaction *t, Transaction *former, const UnitRequest *request,
                             const UnitChange *change);
/* schedule.c: write an assignment, with its preconditions and its row in the history. */
void transaction_assign(Registry *r, Transaction *t, uint64_t term, const AssignmentChange *change);
/* revisions.c: write a text of an instance that follows a template: the wanted one of the template, or one
 * with the same hash. It has the number of the template's, and its unit directory stays. */
void transaction_write_follower(Transaction *t, const ClusterUnit *instance, const ClusterUnit *template,
                                const Unit *text);
/* revisions.c: let an instance follow its template if it has the wanted text of that, and does not follow it
 * yet: it was submitted below KV_LEVEL_UPDATES. If 'change' names this text, it gets the template's number.
 */
void transaction_follow(Transaction *t, Registry *r, AssignmentChange *change);
