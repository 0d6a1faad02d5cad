#include "kvstore/budget.h"

/* Return the time in which 'cost' is the fraction 1/share of the available work. */
static uint64_t time_of_us(uint64_t cost, unsigned share) {
        return cost * (share * COST_ENTRY_MS * 1000ull) / COST_ENTRY_MAX;
}

static uint64_t left_us(uint64_t free_us, uint64_t now_ms) {
        return free_us > now_ms * 1000 ? free_us - now_ms * 1000 : 0;
}

static void spend(uint64_t *free_us, uint64_t now_ms, uint64_t cost, unsigned share) {
        *free_us = MAX(*free_us, now_ms * 1000) + time_of_us(cost, share);
}

/* Return whether a new heavy command would have to wait for too long. */
static bool budget_is_full(const Budget *b, uint64_t now_ms) {
        return left_us(b->free_us, now_ms) + time_of_us(b->waiting, BUDGET_SHARE) > BUDGET_WAIT_MS * 1000;
}

void budget_done(Budget *b) {
        free(b->in_flight[0]);
        free(b->in_flight[1]);
        *b = (Budget) {};
}

static void budget_turn(Budget *b, uint64_t now_ms) {
        uint64_t turns = (now_ms - b->turned_ms) / BUDGET_IN_FLIGHT_MS;

        for (uint64_t i = 0; i < MIN(turns, 2u); i++) {
                Values *spare = b->in_flight[1];

                b->in_flight[1] = b->in_flight[0];
                b->in_flight[0] = spare;
                if (spare)
                        *spare = (Values) {};
        }
        if (turns > 0)
                b->turned_ms = now_ms;
}

/* Return the limit of a count that begins now, and the share of time that it uses. Commands with long counts
 * are rejected first, then heavy ones; ordinary writes never are. */
static uint64_t count_max(Budget *b, uint64_t now_ms, bool internal, uint64_t **ret_share) {
        *ret_share = &b->counted_us;
        if (internal || left_us(b->counted_us, now_ms) <= BUDGET_COUNT_MS * 1000)
                return BUDGET_COUNT_MAX;
        *ret_share = &b->light_us;
        return left_us(b->light_us, now_ms) <= BUDGET_COUNT_MS * 1000 ? BUDGET_COUNT_LIGHT : BUDGET_COUNT_MIN;
}

int budget_check(Budget *b, TreeTxn *txn, uint64_t now_ms, const KvCommand *cmd, uint64_t *ret_cost,
                 KvStatus *ret_status, Error *err) {
        bool full = !cmd->internal && budget_is_full(b, now_ms);
        EstimateLimits limits = { .cost = full ? COST_HEAVY : COST_COMMAND_MAX };
        uint64_t *share;
        Values *in_flight[3] = {};
        Estimated e;
        size_t n = 0;
        int r;

        budget_turn(b, now_ms);
        for (size_t i = 0; i < ELEMENTS(b->in_flight); i++)
                if (b->in_flight[i] && b->in_flight[i]->n > 0)
                        in_flight[n++] = b->in_flight[i];
        limits.counted = count_max(b, now_ms, cmd->internal, &share);
        b->counted.now_ms = now_ms;
        r = cost_estimate(txn, in_flight, cmd->internal ? NULL : &b->counted, cmd, &limits, &e);
        spend(share, now_ms, e.counted.total, BUDGET_COUNT_SHARE);
        if (r < 0)
                return r;
        *ret_cost = MIN(e.cost.total, (uint64_t) COST_COMMAND_MAX);
        if (e.cost.total <= limits.cost && e.counted.total + e.known <= limits.counted)
                return 0;
        *ret_cost = COST_COMMAND_MAX; /* or more: the estimate stopped early */
        if (cmd->internal && e.in_flight)
                return 0;
        /* It may be admitted when the limit is higher; commands in flight may change, or be rejected. */
        if ((e.counted.total + e.known <= BUDGET_COUNT_MAX && e.cost.total <= COST_COMMAND_MAX) || e.stale ||
            e.in_flight) {
                *ret_status = KV_BUSY;
                return error_set(err, -EBUSY, "%s", BUDGET_BUSY);
        }
        *ret_status = KV_TOO_LARGE;
        return cost_error(MAX(e.cost.total, (uint64_t) COST_COMMAND_MAX + 1), err);
}

void budget_take(Budget *b, const KvCommand *cmd, uint64_t cost) {
        if (!cmd->internal && budget_is_heavy(cost))
                b->waiting += cost;
        if (!b->in_flight[0])
                b->in_flight[0] = NEW0(Values, 1);
        if (b->in_flight[0]) /* if the allocation fails, estimates are lower, and apply defers more */
                values_add_command(b->in_flight[0], cmd);
}

bool budget_allows(const Budget *b, uint64_t now_ms, uint64_t *ret_wait_ms) {
        *ret_wait_ms = (left_us(b->free_us, now_ms) + 999) / 1000;
        return b->heavy_index == 0 && *ret_wait_ms == 0;
}

void budget_spend(Budget *b, uint64_t now_ms, uint64_t index, uint64_t cost) {
        b->heavy_index = index;
        spend(&b->free_us, now_ms, cost, BUDGET_SHARE);
}

void budget_applied(Budget *b, uint64_t applied) {
        if (applied >= b->heavy_index)
                b->heavy_index = 0;
}

void budget_term_changed(Budget *b) {
        b->heavy_index = 0;
        b->waiting = 0;
}
