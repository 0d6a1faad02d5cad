#include "kvstore/budget.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"

static uint64_t time_of_us(uint64_t cost) {
        return cost * (BUDGET_SHARE * COST_ENTRY_MS * 1000) / COST_ENTRY_MAX;
}

/* How long a heavy command that comes now has to wait. */
static uint64_t wait_ms(const Budget *b, uint64_t now_ms) {
        uint64_t now_us = now_ms * 1000, left = b->free_us > now_us ? b->free_us - now_us : 0;

        return (left + time_of_us(b->waiting)) / 1000;
}

void budget_done(Budget *b) {
        free(b->on_way[0]);
        free(b->on_way[1]);
        *b = (Budget) {};
}

/* Time that an estimate took counts: a count of what is below a directory is as long as its removal. */
static void spend(Budget *b, uint64_t now_ms, uint64_t cost) {
        b->free_us = MAX(b->free_us, now_ms * 1000) + time_of_us(cost);
}

static bool is_recursive(const KvCommand *cmd) {
        bool recursive = cmd->op == KV_DELETE && cmd->recursive;

        for (size_t i = 0; cmd->op == KV_TXN && i < cmd->n_writes && !recursive; i++)
                recursive = cmd->writes[i].op == KV_DELETE && cmd->writes[i].recursive;
        return recursive;
}

static int busy(KvStatus *ret_status, Error *err) {
        *ret_status = KV_BUSY;
        return error_set(err, -EBUSY, "too many expensive commands at once: ask again in a second");
}

static int estimate(Budget *b, TreeTxn *txn, uint64_t now_ms, Values *const *on_way, const KvCommand *cmd, uint64_t *ret) {
        Cost cost = {}, work = {};
        int r;

        r = cost_estimate(txn, on_way, cmd, &cost, &work);
        if (work.total > COST_HEAVY / 4)
                spend(b, now_ms, work.total);
        *ret = cost.total;
        return r;
}

static void turn(Budget *b, uint64_t now_ms) {
        uint64_t turns = (now_ms - b->turned_ms) / BUDGET_ON_WAY_MS;

        for (uint64_t i = 0; i < MIN(turns, 2u); i++) {
                Values *spare = b->on_way[1];

                b->on_way[1] = b->on_way[0];
                b->on_way[0] = spare;
                if (spare)
                        *spare = (Values) {};
        }
        if (turns > 0)
                b->turned_ms = now_ms;
}

int budget_check(Budget *b, TreeTxn *txn, uint64_t now_ms, const KvCommand *cmd, uint64_t *ret_cost, KvStatus *ret_status, Error *err) {
        Values *on_way[3] = {};
        uint64_t cost = 0;
        size_t n = 0;
        int r;

        turn(b, now_ms);
        for (size_t i = 0; i < ELEMENTS(b->on_way); i++)
                if (b->on_way[i] && b->on_way[i]->n > 0)
                        on_way[n++] = b->on_way[i];
        if (!cmd->internal && is_recursive(cmd) && wait_ms(b, now_ms) > BUDGET_COUNT_MS)
                return busy(ret_status, err);
        r = estimate(b, txn, now_ms, on_way, cmd, &cost);
        if (r < 0)
                return r;
        if (cost > COST_COMMAND_MAX) {
                /* By the tree alone? What is on its way may change, or be refused. */
                uint64_t sure = cost;
                char sentence[COST_SENTENCE_SIZE];

                if (n > 0) {
                        r = estimate(b, txn, now_ms, NULL, cmd, &sure);
                        if (r < 0)
                                return r;
                }
                cost_sentence(sure, sentence);
                if (sure > COST_COMMAND_MAX) {
                        *ret_status = KV_TOO_LARGE;
                        return error_set(err, -E2BIG, "%s", sentence);
                }
                if (!cmd->internal)
                        return busy(ret_status, err);
                cost = COST_COMMAND_MAX;
        }
        if (!cmd->internal && budget_is_heavy(cost) && wait_ms(b, now_ms) > BUDGET_WAIT_MS)
                return busy(ret_status, err);
        *ret_cost = cost;
        return 0;
}

static bool has_values(const KvCommand *cmd) {
        bool has = cmd->value.size >= VALUES_SIZE_MIN;

        for (size_t i = 0; cmd->op == KV_TXN && i < cmd->n_writes && !has; i++)
                has = cmd->writes[i].value.size >= VALUES_SIZE_MIN;
        return has;
}

void budget_take(Budget *b, const KvCommand *cmd, uint64_t cost) {
        if (!cmd->internal && budget_is_heavy(cost))
                b->waiting += cost;
        if (!has_values(cmd))
                return;
        if (!b->on_way[0])
                b->on_way[0] = NEW0(Values, 1);
        if (b->on_way[0]) /* without memory the estimates are lower, and apply defers more */
                values_add_command(b->on_way[0], cmd);
}

bool budget_allows(const Budget *b, uint64_t now_ms, uint64_t *ret_wait_ms) {
        *ret_wait_ms = b->free_us > now_ms * 1000 ? (b->free_us - now_ms * 1000 + 999) / 1000 : 0;
        return b->heavy_index == 0 && *ret_wait_ms == 0;
}

void budget_spend(Budget *b, uint64_t now_ms, uint64_t index, uint64_t cost) {
        b->heavy_index = index;
        spend(b, now_ms, cost);
}

void budget_applied(Budget *b, uint64_t applied) {
        if (applied >= b->heavy_index)
                b->heavy_index = 0;
}
