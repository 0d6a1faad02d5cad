#include "kvstore/budget.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"

/* Time after which so much work is the share of one part in BUDGET_SHARE. */
static uint64_t time_of_us(uint64_t cost) {
        return cost * (BUDGET_SHARE * COST_ENTRY_MS * 1000) / COST_ENTRY_MAX;
}

static uint64_t left_us(uint64_t free_us, uint64_t now_ms) {
        return free_us > now_ms * 1000 ? free_us - now_ms * 1000 : 0;
}

static void spend(uint64_t *free_us, uint64_t now_ms, uint64_t cost) {
        *free_us = MAX(*free_us, now_ms * 1000) + time_of_us(cost);
}

/* Whether a heavy command that comes now has to wait for too long. */
static bool is_full(const Budget *b, uint64_t now_ms) {
        return left_us(b->free_us, now_ms) + time_of_us(b->waiting) > BUDGET_WAIT_MS * 1000;
}

void budget_done(Budget *b) {
        free(b->on_way[0]);
        free(b->on_way[1]);
        *b = (Budget) {};
}

static int busy(KvStatus *ret_status, Error *err) {
        *ret_status = KV_BUSY;
        return error_set(err, -EBUSY, "%s", BUDGET_BUSY);
}

static int too_large(uint64_t total, KvStatus *ret_status, Error *err) {
        char sentence[COST_SENTENCE_SIZE];

        cost_sentence(total, sentence);
        *ret_status = KV_TOO_LARGE;
        return error_set(err, -E2BIG, "%s", sentence);
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

/* Counts have a share of time as heavy commands do. The closer it is to its end, the shorter a count may be: what needs a long one is
 * refused first, and an ordinary write never. */
static uint64_t count_max(const Budget *b, uint64_t now_ms) {
        uint64_t left = left_us(b->counted_us, now_ms);

        if (left <= BUDGET_COUNT_MS * 1000)
                return BUDGET_COUNT_MAX;
        return left <= 2 * BUDGET_COUNT_MS * 1000 ? BUDGET_COUNT_MAX / 64 : BUDGET_COUNT_MAX / 2048;
}

int budget_check(Budget *b, TreeTxn *txn, uint64_t now_ms, const KvCommand *cmd, uint64_t *ret_cost, KvStatus *ret_status, Error *err) {
        bool full = !cmd->internal && is_full(b, now_ms);
        uint64_t cost_max = full ? COST_HEAVY : COST_COMMAND_MAX, counts = cmd->internal ? BUDGET_COUNT_MAX : count_max(b, now_ms);
        Values *on_way[3] = {};
        Estimated e;
        size_t n = 0;
        int r;

        turn(b, now_ms);
        for (size_t i = 0; i < ELEMENTS(b->on_way); i++)
                if (b->on_way[i] && b->on_way[i]->n > 0)
                        on_way[n++] = b->on_way[i];
        r = cost_estimate(txn, on_way, cmd, cost_max, counts, &e);
        spend(&b->counted_us, now_ms, e.counted.total);
        if (r < 0)
                return r;
        *ret_cost = MIN(e.cost.total, (uint64_t) COST_COMMAND_MAX);
        if (e.cost.total <= cost_max && e.counted.total <= counts)
                return 0;
        *ret_cost = COST_COMMAND_MAX; /* or more: it was not estimated to its end */
        if (cmd->internal && e.on_way)
                return 0;
        if (counts < BUDGET_COUNT_MAX || full || e.on_way) /* what is on its way may change, or be refused */
                return busy(ret_status, err);
        return too_large(MAX(e.cost.total, (uint64_t) COST_COMMAND_MAX + 1), ret_status, err);
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
        *ret_wait_ms = (left_us(b->free_us, now_ms) + 999) / 1000;
        return b->heavy_index == 0 && *ret_wait_ms == 0;
}

void budget_spend(Budget *b, uint64_t now_ms, uint64_t index, uint64_t cost) {
        b->heavy_index = index;
        spend(&b->free_us, now_ms, cost);
}

void budget_applied(Budget *b, uint64_t applied) {
        if (applied >= b->heavy_index)
                b->heavy_index = 0;
}

void budget_term_changed(Budget *b) {
        b->heavy_index = 0;
        b->waiting = 0;
}
