/* Transactions under way: what units.c, schedule.c, states.c and machines.c share. Within the registry only.
 */
#pragma once

#include <stdarg.h>

#include "base/text.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/registry.h"

/* A transaction being built: its keys and values live until it is sent, which copies. Building remembers its
 * first failure. */
typedef struct Transaction {
        KvCheck *checks;
        size_t n_checks, checks_capacity;
        KvCommand *writes;
        size_t n_writes, writes_capacity;
        char **strings;
        size_t n_strings, strings_capacity;
        bool later;                 /* gives way to what others ask */
        uint64_t value, *ret_value; /* if set, what is handed out once it is done */
        int error;
} Transaction;

void transaction_done(Transaction *t);
#define _cleanup_transaction_ _cleanup_(transaction_done)

/* 'index' is for KV_CHECK_MODIFIED. */
void transaction_check(Transaction *t, KvCheckKind kind, uint64_t index, LayoutKind key, const char *unit,
                       const char *machine);
/* The value at 'key' is this one; 'value' is taken (and emptied). */
void transaction_check_value(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                             Text *value);
/* 'value' is taken (and emptied); for KV_DELETE it is NULL. */
void transaction_write(Transaction *t, KvOp op, LayoutKind key, const char *unit, const char *machine,
                       Text *value);
/* Sends it; 'term' 0: any. 0 or -ENOMEM, -E2BIG; answers come by 'done'. An empty one is answered KV_OK from
 * the loop. */
int transaction_send(Registry *r, Transaction *t, uint64_t term, RegistryDone done, void *userdata);

/* Whether a key is in this host's tree now, and its modified index (0: absent). */
int registry_key_index(Registry *r, LayoutKind key, const char *unit, const char *machine, uint64_t *ret);
/* Within 'done': which of the checks, then of the writes, rejected the transaction, counted from 1; 0: none
 * of them. */
uint64_t registry_refused_at(const Registry *r);
const char *registry_machine_id(const Registry *r);
