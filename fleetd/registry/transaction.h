/* Transactions of the registry, for the files that build them: units.c, schedule.c, states.c, machines.c,
 * adoption.c and feature_level.c. */
#pragma once

#include "base/text.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/registry.h"

/* A transaction that is being built. Keys and values live until it is sent, which copies them. The first
 * failure is kept, so that only transaction_send() is checked. */
typedef struct Transaction {
        KvCheck *checks;
        size_t n_checks, checks_capacity;
        KvCommand *writes;
        size_t n_writes, writes_capacity;
        char **strings;
        size_t n_strings, strings_capacity;
        bool later;                 /* of low priority (KvCommand.later) */
        uint64_t value, *ret_value; /* *ret_value becomes 'value' with KV_OK; may be NULL */
        int error;
} Transaction;

void transaction_done(Transaction *t);
#define _cleanup_transaction_ _cleanup_(transaction_done)

/* 'index' is for KV_CHECK_MODIFIED. */
void transaction_check(Transaction *t, KvCheckKind kind, uint64_t index, LayoutKind key, const char *unit,
                       const char *machine);
/* Check that the key has this value, which is taken and emptied. */
void transaction_check_value(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                             Text *value);
/* 'value' is taken and emptied; NULL for KV_DELETE. */
void transaction_write(Transaction *t, KvOp op, LayoutKind key, const char *unit, const char *machine,
                       Text *value);
/* Propose the transaction, valid in 'term' (0: any). Return 0, -ENOMEM or -E2BIG; the result follows through
 * 'done'. One without writes gets KV_OK from the loop. */
int transaction_send(Registry *r, Transaction *t, uint64_t term, RegistryDone done, void *userdata);

/* Read the modified index of a key in this host's tree; 0: absent. */
int registry_key_index(Registry *r, LayoutKind key, const char *unit, const char *machine, uint64_t *ret);
/* Within 'done': the check, or after the checks the write, that rejected the transaction, counted from 1; 0:
 * none. */
uint64_t registry_refused_at(const Registry *r);
const char *registry_machine_id(const Registry *r);
