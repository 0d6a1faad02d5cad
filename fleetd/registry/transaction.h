/* Transactions of the registry, for the files that build them: units.c, schedule.c, states.c, machines.c,
 * adoption.c, feature_level.c, revisions.c, rollouts.c, inputs.c and identities.c. */
#pragma once

#include "base/text.h"
#include "fleetd/registry/history.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/registry.h"

/* A transaction that is being built. It copies keys and values. The first failure is kept, so that only
 * transaction_send() is checked. */
typedef struct Transaction {
        KvCheck *checks;
        size_t n_checks, checks_capacity;
        KvCommand *writes;
        size_t n_writes, writes_capacity;
        size_t n_notes;
        unsigned level; /* the highest of the kinds of its keys */
        Names strings;  /* copies of keys, values and bodies of notes */
        bool later;     /* of low priority (KvCommand.later) */
        int coded;      /* notes have codes: 1, they have not: -1; 0: not asked yet */
        int error;
} Transaction;

enum { NOTES_MAX = 300 };

void transaction_done(Transaction *t);
#define _cleanup_transaction_ _cleanup_(transaction_done)

/* 'index' is for KV_CHECK_MODIFIED. */
void transaction_check(Transaction *t, KvCheckKind kind, uint64_t index, LayoutKind key, const char *unit,
                       const char *machine);
/* Check the modified index of the key; 0: that it is absent. */
void transaction_check_index(Transaction *t, uint64_t index, LayoutKind key, const char *unit,
                             const char *machine);
/* The same; 0: any. */
void transaction_expect(Transaction *t, uint64_t index, LayoutKind key, const char *unit,
                        const char *machine);
/* Return the modified index of the key in this host's tree; 0: absent. */
uint64_t transaction_key_index(Transaction *t, Registry *r, LayoutKind key, const char *unit,
                               const char *machine);
/* Check that the key has this value. */
void transaction_check_value(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                             KvBytes value);
void transaction_write(Transaction *t, KvOp op, LayoutKind key, const char *unit, const char *machine,
                       KvBytes value);
/* Set a key to a record of its kind; NULL: delete it. */
void transaction_put(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                     const void *record);
void transaction_delete(Transaction *t, LayoutKind key, const char *unit, const char *machine);
/* Give the key of the last write a time to live. */
void transaction_expire(Transaction *t, uint64_t ttl_ms);
/* Add a row of the history to the last write, to at most NOTES_MAX of a transaction: more, with many writes,
 * would exceed the cost of a command. The store omits it below KV_LEVEL_HISTORY. */
void transaction_note(Transaction *t, const Registry *r, const HistoryNote *note);
/* Below KV_LEVEL_VERDICTS, replace the code of a record by its message. */
void transaction_say_former(Transaction *t, const Registry *r, Verdict *v);
/* Return an upper bound of the encoded size: at most KV_COMMAND_MAX is accepted, with fewer rows of the
 * history if need be. */
size_t transaction_size(const Transaction *t);
/* Return whether it is accepted with what it has, without rows of the history. If not, keep what it had
 * 'before', a copy. */
bool transaction_fits(Transaction *t, const Transaction *before);
/* Return the text as a value. If it has failed, so does the transaction. */
KvBytes transaction_text(Transaction *t, const Text *text);
/* Propose the transaction, valid in 'term' (0: any). Return 0, -ENOMEM or -E2BIG; the result follows through
 * 'done'. One without writes gets KV_OK from the loop. */
int transaction_send(Registry *r, const Transaction *t, uint64_t term, RegistryDone done, void *userdata);
/* Propose 'former', and 't' when that has taken effect: as one transaction if both fit into it, else 'former'
 * in parts. Each write of 'former' has one check, in the same order. Takes both, also on failure. */
int transaction_send_after(Registry *r, Transaction *former, Transaction *t, RegistryDone done,
                           void *userdata);
