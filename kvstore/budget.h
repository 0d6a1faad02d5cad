/* Admission of commands to the leader's log, by cost: immediate rejections, the size of an entry, and the
 * share of heavy commands. Pure: time is an argument, and is measured in cost.
 *
 * A command above COST_HEAVY is heavy. At most one entry with heavy commands is in flight, and their rate is
 * limited to an eighth of the time of apply: an entry of COST_ENTRY_MAX takes COST_ENTRY_MS. A heavy command
 * that would wait for more than BUDGET_WAIT_MS is rejected; estimates then end at COST_HEAVY. Internal
 * commands are never rejected for that.
 *
 * An estimate may have to count nodes, and the size of the command does not bound the count. Counts have a
 * separate quarter of the time. One half is for counts of any length. The other is for counts that begin when
 * the first half is used up; they are limited to the length that a command needs that is not heavy. A count
 * that ends in a rejection is not repeated for one second, so that repeatedly rejected commands delay no
 * other one. */
#pragma once

#include "kvstore/estimate.h"

enum {
        BUDGET_SHARE = 8,                      /* heavy commands take up to 1/8 of the time of apply */
        BUDGET_WAIT_MS = 1000,                 /* longest wait of a heavy command */
        BUDGET_COUNT_MS = 16,                  /* counts may exceed either share by this time */
        BUDGET_COUNT_SHARE = 8,                /* counts of each kind take up to 1/8 of the thread's time */
        BUDGET_COUNT_MAX = COST_ENTRY_MAX / 2, /* cost of the counts of one estimate */
        BUDGET_COUNT_LIGHT = COST_HEAVY / (COST_PASS + COST_REMOVE) *
                             COST_PASS,    /* cost of a count for a command that
                                            * is not heavy */
        BUDGET_COUNT_MIN = 32 * COST_PASS, /* cost of a count beyond the shares */
        BUDGET_IN_FLIGHT_MS =
                1000, /* values that were admitted longer ago are in the tree, or were admitted again */
};

#define BUDGET_BUSY "too many expensive commands at once: try again in a second"

typedef struct Budget {
        Values *in_flight[2]; /* of the commands admitted in the current period, and in the previous one;
                                 NULL: none yet */
        uint64_t turned_ms;   /* begin of the current period */
        uint64_t free_us;     /* heavy commands have used their share up to this time */
        uint64_t counted_us;  /* counts of any length have used theirs up to this time */
        uint64_t light_us;    /* counts up to BUDGET_COUNT_LIGHT have used theirs up to this time */
        Counted counted;
        uint64_t waiting;     /* cost of the heavy commands that wait */
        uint64_t heavy_index; /* of the last entry with heavy commands; 0: it is applied */
} Budget;

void budget_done(Budget *b);

/* Estimate the cost of 'cmd' from the tree and the commands in flight. Return 0, or a negative errno with the
 * status of the answer, KV_TOO_LARGE or KV_BUSY, and a message; *ret_cost is COST_COMMAND_MAX then. */
int budget_check(Budget *b, TreeTxn *txn, uint64_t now_ms, const KvCommand *cmd, uint64_t *ret_cost,
                 KvStatus *ret_status, Error *err);
/* The command was admitted: its values are in flight, and it waits if it is heavy. */
void budget_take(Budget *b, const KvCommand *cmd, uint64_t cost);

static inline bool budget_is_heavy(uint64_t cost) {
        return cost > COST_HEAVY;
}

/* Return whether an entry with heavy commands may be proposed now. If not, *ret_wait_ms is the time to wait;
 * 0: until the last one is applied. */
bool budget_allows(const Budget *b, uint64_t now_ms, uint64_t *ret_wait_ms);
/* An entry with heavy commands of 'cost' was appended to the log. */
void budget_spend(Budget *b, uint64_t now_ms, uint64_t index, uint64_t cost);
void budget_applied(Budget *b, uint64_t applied);
/* An entry of the previous term may never be applied. */
void budget_term_changed(Budget *b);
