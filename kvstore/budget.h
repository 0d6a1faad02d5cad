/* What the leader lets into its log, by cost: refusals at once, the size of an entry, and the share of heavy
 * commands. Pure: time is an argument, and is counted in cost.
 *
 * A command above COST_HEAVY is heavy. At most one entry with heavy commands is in flight, and such entries
 * follow each other so that they take at most an eighth of the time that apply has: an entry of
 * COST_ENTRY_MAX takes COST_ENTRY_MS. Heavy commands that would wait for more than BUDGET_WAIT_MS are
 * refused; then an estimate ends at COST_HEAVY. Commands of this cluster's own components are never refused
 * for that.
 *
 * An estimate may have to count nodes, and the size of the command does not bound the count. Counts have a
 * quarter of the time of their own, apart from that of the commands that are taken: one half for counts of
 * any length, the other for those that begin when the first is used up, and may be as long as a command that
 * is not heavy needs. A count that ends in a refusal is not repeated for a second: commands that are refused
 * again and again delay no other one. */
#pragma once

#include "kvstore/command.h"
#include "kvstore/estimate.h"

enum {
        BUDGET_SHARE = 8,       /* heavy commands take one part in so many of apply's time */
        BUDGET_WAIT_MS = 1000,  /* that a heavy command may have to wait */
        BUDGET_COUNT_MS = 16,   /* that counts may be ahead of either share */
        BUDGET_COUNT_SHARE = 8, /* counts of each kind take one part in so many of the thread's time */
        BUDGET_COUNT_MAX = COST_ENTRY_MAX / 2, /* cost of the counts of one estimate */
        BUDGET_COUNT_LIGHT = COST_HEAVY / (COST_PASS + COST_REMOVE) *
                             COST_PASS,    /* of one that ends where its command is heavy */
        BUDGET_COUNT_MIN = 32 * COST_PASS, /* of one without a share */
        BUDGET_ON_WAY_MS =
                1000, /* values that were taken so long ago are in the tree, or with what was taken since */
};

#define BUDGET_BUSY "too many expensive commands at once: ask again in a second"

typedef struct Budget {
        Values *on_way[2]; /* of what was taken now, and before that; NULL: none yet */
        uint64_t turned_ms;
        uint64_t free_us;              /* until then heavy commands have used their share */
        uint64_t counted_us, light_us; /* until then counts of any length, and those up to BUDGET_COUNT_LIGHT,
                                          have used theirs */
        Counted counted;
        uint64_t waiting;     /* cost of the heavy commands that wait */
        uint64_t heavy_index; /* of the last entry with heavy commands; 0: it is applied */
} Budget;

void budget_done(Budget *b);

/* What 'cmd' costs, by the tree and what is on its way: 0, or a negative errno with the answer and its cause:
 * KV_TOO_LARGE, KV_BUSY. Then the cost is COST_COMMAND_MAX. */
int budget_check(Budget *b, TreeTxn *txn, uint64_t now_ms, const KvCommand *cmd, uint64_t *ret_cost,
                 KvStatus *ret_status, Error *err);
/* It was taken: what it writes is on its way, and if it is heavy it waits. */
void budget_take(Budget *b, const KvCommand *cmd, uint64_t cost);

static inline bool budget_is_heavy(uint64_t cost) {
        return cost > COST_HEAVY;
}

/* Whether an entry with heavy commands may follow now; in *ret_wait_ms when, 0: when the last one is applied.
 */
bool budget_allows(const Budget *b, uint64_t now_ms, uint64_t *ret_wait_ms);
/* An entry with heavy commands of 'cost' went into the log. */
void budget_spend(Budget *b, uint64_t now_ms, uint64_t index, uint64_t cost);
void budget_applied(Budget *b, uint64_t applied);
/* An entry that was in flight in the last term may never be applied. */
void budget_term_changed(Budget *b);
