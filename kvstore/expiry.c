/* Expiry: the leader proposes it when a key is due. */
#include "kvstore/kvstore_internal.h"

enum {
        EXPIRE_LIMIT = 1000, /* nodes that one entry removes */
        EXPIRE_RETRY_MS = 500,
        INPUT_WAIT_MS =
                1, /* from finding something due to its end: turns of the loop, that read what has come */
};

static void expiry_on_done(void *userdata, const KvResult *result) {
        KvStore *s = userdata;

        s->expiring = false;
        if (result->status == KV_OK)
                kv_expiry_check(s);
        else if (s->leads && !s->closing)
                (void) timer_start(&s->expiry, s->loop, EXPIRE_RETRY_MS);
}

static void expiry_propose(KvStore *s, const KvNode *first, bool in_grace) {
        KvCommand cmd = {
                .op = KV_EXPIRE,
                .key = kv_string("/"),
                .internal = true,
                .term = replica_term(s->replica),
                /* In order of their expiry: one at a time while older keys are still in their grace period.
                 */
                .limit = in_grace ? 1 : EXPIRE_LIMIT,
        };

        /* The next key may be in its grace period: it must not expire in place of one that was renewed
         * meanwhile. */
        if (in_grace && s->level >= KV_LEVEL_COST) {
                cmd.has_ttl = true;
                cmd.ttl_ms = first->expires_ms;
                cmd.prev_index = first->created;
        }

        if (proposals_add(s->proposals, &cmd, expiry_on_done, s, NULL) >= 0)
                s->expiring = true;
        else
                (void) timer_start(&s->expiry, s->loop, EXPIRE_RETRY_MS);
}

/* Return in how many ms the first node is due that this leader may let expire; -1: there is none. */
static int64_t expiry_next(KvStore *s, KvNode *ret, bool *ret_in_grace) {
        uint64_t now = loop_now_ms(s->loop), time, delay, grace_left;
        TreeTxn *txn;
        KvNode node;
        int r;

        if (!s->leads || s->expiring || s->closing || kv_read(s, &txn) < 0)
                return -1;
        r = tree_first_due(txn, UINT64_MAX, &node);
        tree_abort(txn); /* only numbers of 'node' are used below */
        if (r < 0)
                return -1;

        time = kv_clock_ms(s);
        delay = node.expires_ms > time ? node.expires_ms - time : 0;
        grace_left = s->lead_ms + s->grace_ms > now ? s->lead_ms + s->grace_ms - now : 0;
        if (node.modified <= s->lead_index)
                delay = MAX(delay, grace_left);
        *ret = (KvNode) { .created = node.created, .expires_ms = node.expires_ms };
        *ret_in_grace = grace_left > 0;
        return (int64_t) MIN(delay, (uint64_t) INT64_MAX);
}

/* Input that arrived during a stall may renew a key: when a key is due, the loop reads all input first, and
 * then this checks again. */
void kv_expiry_check(KvStore *s) {
        bool in_grace;
        KvNode first;
        int64_t delay = expiry_next(s, &first, &in_grace);

        if (delay == 0 && s->expiry_input_read && timer_armed(&s->expiry))
                return;
        timer_stop(&s->expiry);
        s->expiry_input_read = delay == 0;
        if (delay >= 0)
                (void) timer_start(&s->expiry, s->loop, MAX((uint64_t) delay, (uint64_t) INPUT_WAIT_MS));
}

void kv_expiry_on_timer(void *userdata) {
        KvStore *s = userdata;
        bool in_grace;
        KvNode first;
        int64_t delay = expiry_next(s, &first, &in_grace);

        if (delay == 0 && s->expiry_input_read) {
                s->expiry_input_read = false;
                expiry_propose(s, &first, in_grace);
                return;
        }
        kv_expiry_check(s);
}
