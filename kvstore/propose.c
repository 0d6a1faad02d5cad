#include "kvstore/propose_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static void list_insert(List *list, Proposal *after, Proposal *x) {
        x->prev = after;
        x->next = after ? after->next : list->first;
        if (x->next)
                x->next->prev = x;
        else
                list->last = x;
        if (after)
                after->next = x;
        else
                list->first = x;
}

void proposal_list_remove(List *list, Proposal *x) {
        if (x->prev)
                x->prev->next = x->next;
        else
                list->first = x->next;
        if (x->next)
                x->next->prev = x->prev;
        else
                list->last = x->prev;
        x->next = x->prev = NULL;
}

static void proposal_free(Proposal *x) {
        free(x->bytes);
        free(x->cause);
        free(x);
}

static void forget_foreign(Proposals *p, Proposal *x) {
        proposal_list_remove(&p->queue, x);
        p->n_foreign--;
        p->foreign_bytes -= x->size;
        proposal_free(x);
}

/* Takes one of ours out of everything. */
static void detach(Proposals *p, Proposal *x) {
        if (x->state == PROPOSAL_QUEUED)
                proposal_list_remove(&p->queue, x);
        else if (x->state == PROPOSAL_ANSWERED)
                proposal_list_remove(&p->answered, x);
        HASH_DEL(p->own, x);
        p->n_own--;
        p->own_bytes -= x->size;
}

static bool gives_way(const Proposal *x) {
        return x->later || x->large;
}

void proposals_enqueue(Proposals *p, Proposal *x) {
        uint64_t now = loop_now_ms(p->options.loop);
        Proposal *after = p->queue.last;

        x->state = PROPOSAL_QUEUED;
        x->queued_ms = now;
        while (!gives_way(x) && after && gives_way(after) && now - after->queued_ms < LATER_MS)
                after = after->prev;
        list_insert(&p->queue, after, x);
}

/* Back to its place in the queue: before all that came later. */
static void enqueue_again(Proposals *p, Proposal *x) {
        Proposal *y = p->queue.first;

        while (y && (y->queued_ms < x->queued_ms ||
                     (y->queued_ms == x->queued_ms && (y->foreign || y->number < x->number))))
                y = y->next;
        x->state = PROPOSAL_QUEUED;
        list_insert(&p->queue, y ? y->prev : p->queue.last, x);
}

void proposals_refuse(Proposals *p, Proposal *x, KvStatus status, const char *cause) {
        if (x->state == PROPOSAL_ANSWERED)
                return;
        if (x->state == PROPOSAL_QUEUED)
                proposal_list_remove(&p->queue, x);
        x->state = PROPOSAL_ANSWERED;
        x->status = status;
        free(x->cause);
        x->cause = cause ? strdup(cause) : NULL;
        list_insert(&p->answered, p->answered.last, x);
        loop_defer(p->options.loop, &p->answer);
}

static void on_answer(void *userdata) {
        Proposals *p = userdata;
        Proposal *x;

        while ((x = p->answered.first)) {
                KvResult result = { .status = x->status, .cause = kv_string(x->cause ? x->cause : "") };

                detach(p, x);
                x->done(x->userdata, &result);
                proposal_free(x);
        }
}

static void no_leader(Proposals *p, Proposal *x) {
        char cause[128];

        p->options.problem(p->options.userdata, cause, sizeof(cause));
        proposals_refuse(p, x, KV_NO_LEADER, cause);
}

static void unknown(Proposals *p, Proposal *x) {
        proposals_refuse(p, x, KV_UNKNOWN, "the leader was lost before it answered");
}

/* -- Once and no more -- */

uint64_t proposals_floor(const Proposals *p) {
        return p->own ? p->own->number : p->next_number + 1;
}

void proposal_stamp(Proposal *x, uint64_t cluster_ms) {
        if (!x->foreign && !x->once && x->copies == 0)
                x->deadline_ms = cluster_ms + PROPOSE_LIFE_MS;
}

uint64_t proposals_known_ms(const Proposals *p) {
        uint64_t known = p->options.known_ms(p->options.userdata);

        return p->said_ms > 0 ? MAX(known, p->said_ms + loop_now_ms(p->options.loop) - p->said_at_ms) : known;
}

bool proposals_full(const Proposals *p) {
        return p->options.kept(p->options.userdata) >= DEDUP_MAX;
}

bool proposals_gives_room(const Proposals *p, uint64_t origin, uint64_t floor) {
        uint64_t known;
        TreeTxn *txn;

        if (p->options.read(p->options.userdata, &txn) < 0)
                return false;
        known = dedup_bound(txn, origin);
        tree_abort(txn);
        return known > 0 && floor > known;
}

/* -- Into the log -- */

static int check_cost(Proposals *p, const KvCommand *cmd, uint64_t *ret, KvStatus *ret_status, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvStatus status = KV_OK;
        int r;

        r = p->options.read(p->options.userdata, &txn);
        if (r >= 0)
                r = budget_check(&p->budget, txn, loop_now_ms(p->options.loop), cmd, ret, &status, err);
        *ret = MAX(*ret, (uint64_t) COST_COMMAND); /* a tree that cannot be read is apply's to find */
        if (status == KV_OK)
                return 0;
        *ret_status = status;
        return r;
}

/* What was taken by a host that did not lead, or from another host in a turn without room, is estimated
 * before it goes into the log, once. False: it is refused. A command that may have happened is not: its
 * verdict is the cost COST_COMMAND_MAX, and apply gives the answer. */
static bool estimate(Proposals *p, Proposal *x) {
        _cleanup_free_ void *arena = NULL;
        KvStatus status = KV_OK;
        Error err = {};
        KvCommand cmd;

        if (x->cost > 0)
                return true;
        p->has_estimated = true;
        if (kv_command_decode(x->bytes, x->size, &cmd, &arena) < 0) {
                x->cost = COST_COMMAND;
                return true;
        }
        if (x->copies > 0)
                (void) check_cost(p, &cmd, &x->cost, &status, &err);
        else if (proposals_check(p, &cmd, &x->cost, &status, &err) < 0 && status != KV_OK) {
                if (x->foreign) {
                        proposals_say_refused(p, x, status, err.message);
                        forget_foreign(p, x);
                } else
                        proposals_refuse(p, x, status, err.message);
                return false;
        }
        x->cost = MAX(x->cost, (uint64_t) COST_COMMAND);
        if (x->foreign)
                proposals_say_accepted(p, x);
        budget_take(&p->budget, &cmd, x->cost);
        return true;
}

/* What waits for its estimate, as far as this turn has room; at least one. */
static void estimate_waiting(Proposals *p) {
        Proposal *next;

        for (Proposal *x = p->queue.first; x; x = next) {
                next = x->next;
                if (x->cost == 0 && p->has_estimated && !loop_has_room(p->options.loop)) {
                        loop_defer(p->options.loop, &p->pump);
                        break;
                }
                (void) estimate(p, x);
        }
        proposals_flush_accepted(p);
}

/* True: it was refused. A heavy command that is not in the log by then gets the answer of one that comes when
 * too many wait. */
static bool waits_too_long(Proposals *p, Proposal *x, uint64_t now) {
        if (x->foreign || x->copies > 0 || now - x->queued_ms <= HEAVY_WAIT_MS)
                return false;
        proposals_refuse(p, x, KV_BUSY, BUDGET_BUSY);
        return true;
}

/* What goes into the next entry, in order, as far as size and cost allow; heavy commands that have to wait
 * are passed over. */
static size_t pick(Proposals *p, Proposal *picked[static KV_BATCH_COMMANDS_MAX], uint64_t *ret_heavy) {
        uint64_t cost = 0, wait_ms, now = loop_now_ms(p->options.loop);
        bool allowed = budget_allows(&p->budget, now, &wait_ms);
        size_t n = 0, size = BATCH_OVERHEAD;
        Proposal *next;

        *ret_heavy = 0;
        for (Proposal *x = p->queue.first; x && n < KV_BATCH_COMMANDS_MAX; x = next) {
                bool heavy;

                next = x->next;
                if (x->cost == 0)
                        break; /* in a later turn */
                heavy = budget_is_heavy(x->cost) && !x->ours;
                if (heavy && !allowed) {
                        if (!waits_too_long(p, x, now) && wait_ms > 0 && !timer_armed(&p->heavy))
                                (void) timer_start(&p->heavy, p->options.loop, wait_ms);
                        continue;
                }
                size += x->size + ITEM_OVERHEAD;
                cost += x->cost;
                if (n > 0 && (size > KV_BATCH_MAX || cost > COST_ENTRY_MAX))
                        break;
                *ret_heavy += heavy ? x->cost : 0;
                picked[n++] = x;
        }
        return n;
}

/* It is in the log. */
static void picked_logged(Proposals *p, Proposal *x, uint64_t term) {
        if (x->foreign) {
                forget_foreign(p, x);
                return;
        }
        proposal_list_remove(&p->queue, x);
        x->state = PROPOSAL_LOGGED;
        x->term = term;
        x->due_ms = 0;
        x->copies++;
}

/* One entry out of what waits; 0 when something was taken, -EAGAIN when there is nothing that may go, or the
 * log is full for now. 'empty': an entry without commands will do. */
static int submit_batch(Proposals *p, bool empty) {
        _cleanup_writer_ Writer w = {};
        uint64_t cluster_ms = p->options.cluster_ms(p->options.userdata), floor = proposals_floor(p), index,
                 term, heavy;
        Proposal *picked[KV_BATCH_COMMANDS_MAX];
        KvBatch batch;
        size_t n;
        int r;

        if (cluster_ms == 0)
                return -EAGAIN; /* what the log says of it is not applied yet */
        n = pick(p, picked, &heavy);
        if (n == 0 && !empty)
                return -EAGAIN; /* heavy commands wait, or were refused */
        kv_batch_begin(&batch, &w,
                       &(KvBatchHead) { .cluster_ms = cluster_ms,
                                        .quota = p->options.quota,
                                        .level = *p->options.level,
                                        .quota_nodes = p->options.quota_nodes });
        for (size_t i = 0; i < n; i++) {
                Proposal *x = picked[i];

                proposal_stamp(x, cluster_ms);
                kv_batch_add(&batch, &w,
                             &(KvBatchItem) {
                                     .origin = x->origin,
                                     .number = x->number,
                                     .floor = x->foreign ? x->floor : floor,
                                     .deadline_ms = x->deadline_ms,
                                     .command = x->bytes,
                                     .command_size = x->size,
                             });
        }
        if (w.error < 0)
                return w.error;

        r = replica_submit(p->options.replica, w.bytes, w.size, &index, &term);
        if (r < 0)
                return r;
        p->window[p->n_window++] = index;
        if (heavy > 0)
                budget_spend(&p->budget, loop_now_ms(p->options.loop), index, heavy);
        for (size_t i = 0; i < n; i++)
                picked_logged(p, picked[i], term);
        return 0;
}

static void count_waiting(Proposals *p) {
        p->budget.waiting = 0;
        for (const Proposal *x = p->queue.first; x; x = x->next)
                if (budget_is_heavy(x->cost) && !x->ours)
                        p->budget.waiting += x->cost;
}

static void on_heavy(void *userdata) {
        Proposals *p = userdata;

        if (p->queue.first)
                loop_defer(p->options.loop, &p->pump);
}

void proposals_keep_time(Proposals *p) {
        if (p->n_own == 0 || (p->lead && !p->queue.first && !p->any_due))
                timer_stop(&p->sweep);
        else if (!timer_armed(&p->sweep))
                (void) timer_start(&p->sweep, p->options.loop, SWEEP_MS);
}

static void drop_foreign(Proposals *p) {
        Proposal *next;

        for (Proposal *x = p->queue.first; x; x = next) {
                next = x->next;
                if (x->foreign)
                        forget_foreign(p, x);
        }
}

/* Without room for answers, ours that give none back are refused; an entry now and then lets the deadlines of
 * others pass. */
static void make_room(Proposals *p) {
        uint64_t now = loop_now_ms(p->options.loop);
        bool gives = proposals_gives_room(p, p->options.origin, proposals_floor(p));
        Proposal *next;

        for (Proposal *x = p->queue.first; x; x = next) {
                next = x->next;
                if (!gives && !x->foreign && !x->once && x->copies == 0)
                        proposals_refuse(p, x, KV_BUSY, PROPOSALS_FULL);
        }
        if (!p->queue.first && p->n_window == 0 && now - p->emptied_ms >= DEDUP_SWEEP_MS &&
            submit_batch(p, true) >= 0)
                p->emptied_ms = now;
}

/* Nobody is asked what became of these, and a replica that has stopped does not see it. */
static void refuse_once(Proposals *p) {
        Proposal *next;

        for (Proposal *x = p->queue.first; x; x = next) {
                next = x->next;
                if (x->once && x->copies == 0)
                        no_leader(p, x);
        }
}

static void on_pump(void *userdata) {
        Proposals *p = userdata;
        Replica *replica = p->options.replica;
        uint64_t leader = replica_known_leader(replica), now = loop_now_ms(p->options.loop);

        p->has_estimated = false;
        if (replica_is_leader(replica)) {
                estimate_waiting(p);
                if (proposals_full(p))
                        make_room(p);
                while (p->queue.first && p->n_window < PROPOSE_WINDOW)
                        if (submit_batch(p, false) < 0)
                                break; /* full, or handing over: what settles it wakes us */
                count_waiting(p);
        } else {
                drop_foreign(p);
                if (!replica_is_open(replica))
                        refuse_once(p);
                while (p->queue.first && leader != 0)
                        if (!proposals_send_frame(p, leader, replica_known_term(replica)))
                                break; /* no session yet: the sweep tries again */
        }

        /* What could not leave waits, but not for long. */
        for (Proposal *x = p->queue.first; x; x = x->next)
                if (x->due_ms == 0 && !x->foreign && !replica_is_leader(replica))
                        x->due_ms = now + PROPOSE_WAIT_MS;
        proposals_keep_time(p);
}

/* Its time is over. Nothing has happened only if nobody ever took it. */
static void on_due(Proposals *p, Proposal *x) {
        if (x->copies > 0)
                unknown(p, x);
        else if (x->state != PROPOSAL_QUEUED || !replica_is_leader(p->options.replica))
                no_leader(p, x);
}

static void on_sweep(void *userdata) {
        Proposals *p = userdata;
        uint64_t now = loop_now_ms(p->options.loop);
        bool asks = false;
        Proposal *x, *next;

        p->any_due = false;
        for (x = p->own; x; x = next) {
                next = x->hh.next;
                if (x->state == PROPOSAL_ANSWERED)
                        continue;
                if (x->due_ms > 0 && x->due_ms <= now)
                        on_due(p, x);
                else if (x->state == PROPOSAL_SENT && !x->once && now - x->sent_ms >= RESEND_MS &&
                         x->copies < COPIES_MAX)
                        proposals_enqueue(p, x);
                else if (x->state == PROPOSAL_ACCEPTED)
                        asks = true;
                p->any_due |= x->due_ms > now;
        }
        if (asks && p->leader != 0 && !p->lead)
                proposals_ask_outcomes(p);
        if (p->queue.first)
                loop_defer(p->options.loop, &p->pump);
        proposals_keep_time(p);
}

/* -- The leader is another one, or the same in a later term -- */

/* Whatever was asked of the last one is asked of the next, in the old order and before all else. */
static void leader_changed(Proposals *p) {
        uint64_t due = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        Proposal *after = NULL;

        for (Proposal *x = p->own; x; x = x->hh.next) {
                if (x->state == PROPOSAL_ANSWERED)
                        continue;
                if (x->due_ms == 0)
                        x->due_ms = due;
                p->any_due = true;
                if (x->state == PROPOSAL_QUEUED || x->once || x->copies >= COPIES_MAX)
                        continue;
                x->state = PROPOSAL_QUEUED;
                list_insert(&p->queue, after, x);
                after = x;
        }
        proposals_keep_time(p);
}

void proposals_settled(Proposals *p, unsigned changed, uint64_t applied) {
        size_t n = 0;

        for (size_t i = 0; i < p->n_window; i++)
                if (p->window[i] > applied)
                        p->window[n++] = p->window[i];
        p->n_window = n;
        budget_applied(&p->budget, applied);

        if (changed & (RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER)) {
                Replica *replica = p->options.replica;

                if (p->term != replica_known_term(replica) || p->leader != replica_known_leader(replica)) {
                        if (!replica_is_leader(replica) || p->term != replica_term(replica)) {
                                p->n_window = 0;
                                budget_term_changed(&p->budget);
                        }
                        leader_changed(p);
                }
                p->term = replica_known_term(replica);
                p->leader = replica_known_leader(replica);
                p->lead = replica_is_leader(replica);
        }
        if (p->queue.first)
                loop_defer(p->options.loop, &p->pump);
        proposals_keep_time(p);
}

int proposals_check(Proposals *p, const KvCommand *cmd, uint64_t *ret_cost, KvStatus *ret_status,
                    Error *err) {
        int r;

        *ret_cost = 0;
        if (replica_is_leader(p->options.replica)) {
                r = p->options.fits(p->options.userdata, cmd, ret_status, err);
                if (r < 0)
                        return r;
                r = check_cost(p, cmd, ret_cost, ret_status, err);
                if (r < 0)
                        return r;
        }
        if (cmd->op != KV_RAISE || cmd->limit <= p->options.level_max)
                return 0;
        *ret_status = KV_INVALID;
        return error_set(err, -EINVAL,
                         "feature level %" PRIu64 " is newer than the fleetd that was asked, which knows %u",
                         cmd->limit, p->options.level_max);
}

/* The answer to 'x' as the tree keeps it, here or at the leader; NULL: it makes no sense, or there is no
 * memory. */
KvResult *proposal_kept_answer(Proposals *p, const Proposal *x, const CachedResult *kept) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_arena_ Arena arena = {};
        _cleanup_free_ void *decoded = NULL;
        KvResult result;
        KvCommand cmd;

        if (kv_command_decode(x->bytes, x->size, &cmd, &decoded) < 0 ||
            p->options.read(p->options.userdata, &txn) < 0 ||
            result_decode(kept, txn, &cmd, &arena, &result) < 0)
                return NULL;
        return kv_result_copy(&result);
}

void answers_add(Answers *answers, uint64_t number, KvResult *result) {
        if (!result)
                return;
        if (GROW(answers->items, answers->capacity, answers->n + 1) < 0)
                free(result);
        else
                answers->items[answers->n].number = number, answers->items[answers->n++].result = result;
}

/* Last of all: who is answered may ask anew, or forget another one. */
void answers_give(Answers *answers, Proposals *p) {
        for (size_t i = 0; i < answers->n; i++) {
                proposals_result(p, answers->items[i].number, answers->items[i].result);
                free(answers->items[i].result);
        }
        free(answers->items);
}

/* What is past its deadline in the new tree may have been answered, and forgotten. All others may come yet.
 */
static void look_in_tree(Proposals *p, Dedup *results, Answers *answers) {
        for (Proposal *x = p->own; x; x = x->hh.next) {
                KvBatchItem item = {
                        .origin = x->origin, .number = x->number, .floor = 1, .deadline_ms = x->deadline_ms
                };
                CachedResult kept;
                int verdict;

                if (x->state == PROPOSAL_ANSWERED || x->copies == 0)
                        continue;
                verdict = x->once ? DEDUP_LATE : dedup_judge(results, &item, &kept);
                if (verdict == DEDUP_KEPT)
                        answers_add(answers, x->number, proposal_kept_answer(p, x, &kept));
                else if (verdict != DEDUP_FRESH)
                        unknown(p, x);
        }
}

static void look_for_answers(Proposals *p, Answers *answers) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_(dedup_freep) Dedup *results = NULL;
        TreeMeta meta;

        if (p->options.read(p->options.userdata, &txn) >= 0 && tree_meta(txn, &meta) >= 0 &&
            dedup_new(&results, txn, 0, 0, meta.cluster_ms) >= 0)
                look_in_tree(p, results, answers);
}

void proposals_replaced(Proposals *p) {
        Answers answers = {};

        if (!p->own)
                return;
        look_for_answers(p, &answers);
        answers_give(&answers, p);
}

/* -- The door's calls -- */

int proposals_add(Proposals *p, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number) {
        _cleanup_writer_ Writer w = {};
        KvStatus status = KV_OK;
        Error err = {};
        uint64_t cost = 0;
        Proposal *x;
        int r;

        r = kv_command_check(cmd, &status, &err);
        if (r >= 0 && status == KV_OK)
                r = proposals_check(p, cmd, &cost, &status, &err);
        if (r == -ENOMEM)
                return r;
        if (r >= 0 && status == KV_OK) {
                r = kv_command_encode(cmd, &w);
                if (w.error < 0 || r < 0)
                        return w.error < 0 ? w.error : r;
        }

        x = NEW0(Proposal, 1);
        if (!x)
                return -ENOMEM;
        x->origin = p->options.origin;
        x->once = cmd->term > 0;
        x->ours = cmd->internal;
        x->number = ++p->next_number;
        x->done = done;
        x->userdata = userdata;
        HASH_ADD(hh, p->own, number, sizeof(x->number), x);
        if (!TABLE_ADDED(x)) {
                free(x);
                return -ENOMEM;
        }
        p->n_own++;
        if (ret_number)
                *ret_number = x->number;

        x->later = cmd->later;
        x->large = !cmd->internal && w.size > PROPOSE_SMALL_MAX;
        proposals_enqueue(p, x);
        if (status != KV_OK)
                proposals_refuse(p, x, status, err.message);
        else if (w.size > KV_COMMAND_MAX) /* no host could apply it */
                proposals_refuse(p, x, KV_TOO_LARGE,
                                 "a command of more than 250 KiB does not fit into the log");
        else if (p->n_own > PROPOSE_MAX || p->own_bytes + w.size > PROPOSE_BYTES_MAX)
                proposals_refuse(p, x, KV_BUSY, "too many writes wait for an answer on this host");
        else {
                x->bytes = writer_take(&w, &x->size);
                p->own_bytes += x->size;
                x->cost = cost;
                if (cost > 0)
                        budget_take(&p->budget, cmd, cost);
                loop_defer(p->options.loop, &p->pump);
        }
        return 0;
}

void proposals_cancel(Proposals *p, uint64_t number) {
        Proposal *x;

        HASH_FIND(hh, p->own, &number, sizeof(number), x);
        if (!x)
                return;
        detach(p, x);
        proposal_free(x);
}

bool proposals_waits(const Proposals *p, uint64_t origin, uint64_t number) {
        Proposal *x;

        if (origin != p->options.origin)
                return false;
        HASH_FIND(hh, p->own, &number, sizeof(number), x);
        return x && x->state != PROPOSAL_ANSWERED;
}

/* Propose it once more; its caller waits PROPOSE_WAIT_MS at most. */
static void queue_again(Proposals *p, Proposal *x, bool in_place) {
        if (x->due_ms == 0)
                x->due_ms = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        if (x->state != PROPOSAL_QUEUED && in_place)
                enqueue_again(p, x);
        else if (x->state != PROPOSAL_QUEUED)
                proposals_enqueue(p, x);
        loop_defer(p->options.loop, &p->pump);
        proposals_keep_time(p);
}

/* It came to the log after its deadline, as all its copies will: nothing has happened. Not so if its deadline
 * is a newer one than that copy's. */
static void ask_anew(Proposals *p, Proposal *x, uint64_t entry_ms) {
        if (x->deadline_ms >= entry_ms)
                return;
        x->copies = 0;
        queue_again(p, x, false);
}

/* This copy did not fit into its entry, and had no effect; others that are on their way may have one. It
 * costs at least what apply has charged: so much is its estimate from now on. */
static void propose_again(Proposals *p, Proposal *x, uint64_t charged) {
        x->copies -= x->copies > 0;
        x->cost = MAX(x->cost, charged);
        queue_again(p, x, true);
}

void proposals_result(Proposals *p, uint64_t number, const KvResult *result) {
        Proposal *x;

        HASH_FIND(hh, p->own, &number, sizeof(number), x);
        if (!x || x->state == PROPOSAL_ANSWERED)
                return;
        if (result->status == KV_LATE) {
                ask_anew(p, x, result->now_ms);
                return;
        }
        if (result->status == KV_DEFERRED) {
                propose_again(p, x, result->charged);
                return;
        }
        detach(p, x);
        x->done(x->userdata, result);
        proposal_free(x);
}

unsigned proposals_waiting(const Proposals *p) {
        return (unsigned) p->n_own;
}

void proposals_end(Proposals *p) {
        Proposal *x, *next;

        drop_foreign(p);
        for (x = p->own; x; x = next) {
                next = x->hh.next;
                if (x->copies == 0)
                        no_leader(p, x);
                else
                        unknown(p, x);
        }
        p->n_window = 0;
        proposals_keep_time(p);
}

void proposals_drop(Proposals *p) {
        Proposal *x, *next;

        for (x = p->own; x; x = next) {
                next = x->hh.next;
                detach(p, x);
                proposal_free(x);
        }
}

int proposals_new(Proposals **ret, const ProposalsOptions *options) {
        Proposals *p = NEW0(Proposals, 1);

        if (!p)
                return -ENOMEM;
        p->options = *options;
        p->pump = DEFERRED(on_pump, p);
        p->answer = DEFERRED(on_answer, p);
        p->sweep = TIMER(on_sweep, p);
        p->heavy = TIMER(on_heavy, p);
        if (options->peers) {
                peers_handle(options->peers, PEER_PROPOSE, proposals_on_propose, p);
                peers_handle(options->peers, PEER_PROPOSE_LATER, proposals_on_propose, p);
                peers_handle(options->peers, PEER_PROPOSED, proposals_on_proposed, p);
        }
        *ret = p;
        return 0;
}

Proposals *proposals_free(Proposals *p) {
        if (!p)
                return NULL;
        drop_foreign(p);
        assert(!p->own);
        if (p->options.peers) {
                peers_handle(p->options.peers, PEER_PROPOSE, NULL, NULL);
                peers_handle(p->options.peers, PEER_PROPOSE_LATER, NULL, NULL);
                peers_handle(p->options.peers, PEER_PROPOSED, NULL, NULL);
        }
        deferred_cancel(&p->pump);
        deferred_cancel(&p->answer);
        timer_stop(&p->sweep);
        timer_stop(&p->heavy);
        budget_done(&p->budget);
        free(p);
        return NULL;
}
