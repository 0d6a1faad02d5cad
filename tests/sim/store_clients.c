#include "tests/sim/store_clients.h"

#include <dirent.h>
#include <getopt.h>
#include <malloc.h>
#include <time.h>

Sums sums;

/* -- Histories -- */

static const char *outcome_of(const Object *o, int number) {
        static const char *const names[] = {
                [OP_UNKNOWN] = "unknown", [OP_REFUSED] = "refused", [OP_ANSWERED] = "answered"
        };

        return number >= 0 && (unsigned) number < o->history.n ? names[o->history.ops[number].outcome] :
                                                                 "never asked";
}

void clients_judge(Object *o) {
        World *w = o->test->stores.world;
        Error err = {};
        int r = history_judge(&o->history, &err);

        for (unsigned i = 0; r == -EUCLEAN && i < o->history.n; i++) {
                const Op *op = &o->history.ops[i];

                world_trace(w, "history",
                            "%u: kind %d %s, %" PRIu64 "..%" PRIu64 ", compares %d or %" PRIu64
                            ", lives %" PRIu64 " ms: %s, index %" PRIu64 " (wrote %" PRIu64 ") at %" PRIu64
                            ", found %d of %" PRIu64 ", %" PRIu64 ", expires %" PRIu64,
                            i, op->kind, outcome_of(o, (int) i), op->called, op->returned, op->compare_op,
                            op->compare_index, op->ttl_ms, kv_status_name(op->status), op->index, op->effect,
                            op->now_ms, op->found, op->found_modified, op->found_created,
                            op->found_expires_ms);
        }
        if (r == -EUCLEAN)
                world_failed(w, "histories-are-linearizable", "/%c/%u/%" PRIu64 ": %s",
                             o->history.dir ? 'd' : 'k', o->number, o->epoch, error_text(&err, 0));
        sums.undecided += r < 0;
        sums.histories++;
        for (unsigned i = 0; i < o->history.n; i++) {
                sums.judged += o->history.ops[i].outcome == OP_ANSWERED;
                sums.unknown += o->history.ops[i].outcome == OP_UNKNOWN;
        }
        o->epoch++;
        o->history = (History) { .dir = o->history.dir };
}

static bool is_full(const Object *o) {
        return o->history.n >= HISTORY_OPS || o->history.n_unknown >= N_UNKNOWN_MAX;
}

static Op *op_of(const Ask *a) {
        return &a->object->history.ops[a->number];
}

/* The answer has arrived, or will never arrive. */
static void end(Ask *a, OpOutcome outcome) {
        Object *o = TAKE_PTR(a->object);
        Op *op = &o->history.ops[a->number];

        op->outcome = outcome;
        if (outcome == OP_ANSWERED)
                op->returned = ++o->test->at;
        o->history.n_unknown += outcome == OP_UNKNOWN && op->kind != OP_READ;
        o->n_pending--;
        if (o->n_pending == 0 && is_full(o))
                clients_judge(o);
}

void clients_host_gone(void *userdata, Host *h) {
        Test *t = userdata;

        for (unsigned i = 0; i < CLIENTS; i++)
                if (t->clients[i].object && t->clients[i].host == h)
                        end(&t->clients[i], OP_UNKNOWN);
}

static void object_path(const Object *o, char ret[64]) {
        snprintf(ret, 64, "/%c/%u/%" PRIu64, o->history.dir ? 'd' : 'k', o->number, o->epoch);
}

static unsigned value_of(const Object *o, int number, char ret[2048]) {
        return (unsigned) snprintf(ret, 2048, "%-*d", (int) o->history.ops[number].pad, number);
}

/* Return the writer of the node's value; CORRUPT: none, because of a disk fault. */
static int writer_of(Ask *a, const KvNode *node, bool written) {
        Object *o = a->object;
        World *w = o->test->stores.world;
        char value[2048], text[16];
        int number;

        snprintf(text, sizeof(text), "%.*s", (int) MIN(node->value.size, (size_t) 8),
                 (const char *) node->value.data);
        number = atoi(text);
        if (history_seen(&o->history, number, node->modified) < 0 ||
            node->value.size != value_of(o, number, value) ||
            memcmp(node->value.data, value, node->value.size) != 0) {
                if (store_may_show_rot(a->host, written)) {
                        o->test->stores.counts[FAULT_ROT_SHOWN]++;
                        return CORRUPT;
                }
                world_failed(w, "nothing-is-invented",
                             "%s: %.*s holds '%s' of index %" PRIu64 " (%s, index %" PRIu64 ")",
                             a->host->name, (int) node->key.size, (const char *) node->key.data, text,
                             node->modified, outcome_of(o, number),
                             number >= 0 && (unsigned) number < o->history.n ? o->history.ops[number].effect :
                                                                               0);
        }
        return number;
}

/* Return false if the value is corrupt. */
static bool take_found(Ask *a, Op *op, const KvNode *node, bool written) {
        op->found = writer_of(a, node, written);
        op->found_modified = node->modified;
        op->found_created = node->created;
        op->found_expires_ms = node->expires_ms;
        return op->found != CORRUPT;
}

/* Where the link loses frames in one direction only, the session ends after 10 s of silence: no client waits
 * longer. */
static void check_answer_time(const Ask *a) {
        World *w = a->test->stores.world;
        uint64_t now_ms = world_now_ms(w),
                 took_ms = now_ms - MAX(a->begun_ms, MIN(a->host->paused_ms, now_ms));

        if (took_ms > ANSWER_MAX_MS && now_ms > a->test->stores.slow_until_ms)
                world_failed(w, "answers-come", "%s: after %" PRIu64 " ms, operation %d of kind %d",
                             a->host->name, took_ms, a->number, op_of(a)->kind);
}

/* -- Reading -- */

static int on_child(void *userdata, const KvNode *node) {
        Ask *a = userdata;
        int number = writer_of(a, node, false);
        char name[32];

        if (number == CORRUPT)
                return -EUCLEAN;
        snprintf(name, sizeof(name), "/%020" PRIu64, node->created);
        if (node->key.size < 21 || memcmp((const char *) node->key.data + node->key.size - 21, name, 21) != 0)
                world_failed(a->test->stores.world, "children-are-in-order", "%.*s is of index %" PRIu64,
                             (int) node->key.size, (const char *) node->key.data, node->created);
        op_of(a)->children[number / 64] |= 1ull << (number % 64);
        return 1;
}

/* Whether it was an answer that a history can explain. */
static bool read_now(Ask *a) {
        Test *t = a->test;
        Op *op = op_of(a);
        unsigned host = a->host->number;
        TreeTxn *txn;
        TreeMeta meta;
        KvNode node;
        char path[64];
        bool sound = true;

        if (kv_read(a->host->store, &txn) < 0 || tree_meta(txn, &meta) < 0)
                world_failed(t->stores.world, "a-tree-can-be-read", "%s", a->host->name);
        object_path(a->object, path);
        op->index = meta.index;
        op->now_ms = meta.cluster_ms;
        op->status = tree_get(txn, kv_string(path), &node) < 0 ? KV_NOT_FOUND : KV_OK;
        if (op->status == KV_OK && !a->object->history.dir)
                sound = take_found(a, op, &node, false);
        else if (op->status == KV_OK && tree_walk(txn, kv_string(path), false, on_child, a) < 0) {
                if (!store_may_show_rot(a->host, false))
                        world_failed(t->stores.world, "a-tree-can-be-read", "%s", a->host->name);
                sound = false;
        }
        tree_abort(txn);

        if (meta.index < t->seen_index[host])
                world_failed(t->stores.world, "reads-never-run-backward", "%s: %" PRIu64 " after %" PRIu64,
                             a->host->name, meta.index, t->seen_index[host]);
        t->seen_index[host] = meta.index;
        return sound;
}

static void on_read(void *userdata, KvStatus status) {
        Ask *a = userdata;

        check_answer_time(a);
        end(a, status == KV_OK && read_now(a) ? OP_ANSWERED : OP_REFUSED);
}

/* -- Writing -- */

/* Clocks are wrong by a hundredth at most. */
static uint64_t latest_ms(const Test *t) {
        uint64_t now_ms = world_now_ms(t->stores.world);

        return CLUSTER_START_MS + now_ms + (now_ms - WORLD_START_MS) / 100 + 2;
}

static void on_written(void *userdata, const KvResult *result) {
        Ask *a = userdata;
        Test *t = a->test;
        Op *op = op_of(a);

        check_answer_time(a);
        world_trace(t->stores.world, a->host->name,
                    "answers operation %d of /%u/%" PRIu64 ": %s, index %" PRIu64 ", entry %" PRIu64
                    " of term %" PRIu64,
                    a->number, a->object->number, a->object->epoch, kv_status_name(result->status),
                    result->index, result->raft_index, result->term);
        if (result->status == KV_NO_LEADER || result->status == KV_BUSY || result->status == KV_UNKNOWN) {
                end(a, result->status == KV_UNKNOWN ? OP_UNKNOWN : OP_REFUSED);
                return;
        }
        t->n_answers++;
        op->status = result->status;
        op->index = result->index;
        op->now_ms = result->now_ms;
        if (result->now_ms > latest_ms(t))
                world_failed(t->stores.world, "cluster-time-does-not-run-ahead", "%s: by %" PRIu64 " ms",
                             a->host->name, result->now_ms - latest_ms(t));
        if (kv_index(a->host->store) < result->index &&
            kv_can_serve(a->host->store)) /* without contact to the leader, the host serves nothing */
                world_failed(t->stores.world, "own-writes-are-read", "%s: index %" PRIu64, a->host->name,
                             result->index);
        if (result->status == KV_OK) {
                watchers_said(t->stores.watchers, result);
                op->outcome = OP_ANSWERED;
                if ((op->kind <= OP_SWAP_VALUE || op->kind == OP_POST) &&
                    writer_of(a, &result->node, false) != a->number)
                        world_failed(t->stores.world, "answers-match-their-requests", "%s: index %" PRIu64,
                                     a->host->name, result->index);
                if (result->has_prev && !a->object->history.dir && !take_found(a, op, &result->prev, true)) {
                        end(a, OP_UNKNOWN);
                        return;
                }
        }
        end(a, OP_ANSWERED);
}

/* A write that was answered and is there, or was; -1: none. */
static int some_writer(World *w, const History *h) {
        for (unsigned i = 0; i < 8 && h->n > 1; i++) {
                unsigned k = h->n - 2 - (unsigned) world_draw(w, MIN(h->n - 1, h->dir ? 60u : 6u));

                if (h->ops[k].effect > 0)
                        return (int) k;
        }
        return -1;
}

static void propose(Ask *a) {
        World *w = a->test->stores.world;
        Object *o = a->object;
        Op *op = op_of(a);
        int other = op->compare_op;
        char path[128], value[2048], compared[2048];
        KvCommand cmd = { .op = KV_SET };

        op->pad = world_chance(w, 20) ? 1500 : 8;
        cmd.value = (KvBytes) { value, value_of(o, a->number, value) };
        object_path(o, path);
        switch (op->kind) {
        case OP_CREATE:
                cmd.op = KV_CREATE;
                break;
        case OP_UPDATE:
                cmd.op = KV_UPDATE;
                break;
        case OP_POST:
                cmd.op = KV_POST;
                break;
        case OP_DELETE:
        case OP_DELETE_INDEX:
        case OP_DELETE_VALUE:
                cmd.op = KV_DELETE;
                break;
        case OP_DELETE_CHILD:
                cmd.op = KV_DELETE;
                snprintf(path + strlen(path), 32, "/%020" PRIu64, o->history.ops[other].effect);
                break;
        case OP_CLEAR:
                cmd.op = KV_DELETE;
                cmd.dir = cmd.recursive = true;
                break;
        default:
                break;
        }
        if (op->kind == OP_SWAP_INDEX || op->kind == OP_DELETE_INDEX)
                cmd.prev_index = op->compare_index = o->history.ops[other].effect;
        if (op->kind == OP_SWAP_VALUE || op->kind == OP_DELETE_VALUE) {
                cmd.has_prev_value = true;
                cmd.prev_value = (KvBytes) { compared, value_of(o, other, compared) };
        }
        if (op->kind <= OP_SWAP_VALUE && world_chance(w, 10)) {
                cmd.has_ttl = true;
                cmd.ttl_ms = op->ttl_ms = 1 + world_draw(w, 2000);
        }
        if (cmd.op == KV_DELETE)
                cmd.value = (KvBytes) {};
        cmd.key = kv_string(path);
        cmd.later = world_chance(w, 10);
        if (kv_propose(a->host->store, &cmd, on_written, a, NULL) < 0)
                abort();
}

static OpKind draw_kind(World *w, bool dir) {
        static const OpKind of_key[] = { OP_SET,          OP_SET,          OP_SET,        OP_CREATE,
                                         OP_CREATE,       OP_UPDATE,       OP_UPDATE,     OP_SWAP_INDEX,
                                         OP_SWAP_INDEX,   OP_SWAP_VALUE,   OP_SWAP_VALUE, OP_DELETE,
                                         OP_DELETE_INDEX, OP_DELETE_VALUE, OP_READ,       OP_READ,
                                         OP_READ,         OP_READ,         OP_PLAIN_READ };
        static const OpKind of_dir[] = { OP_POST,         OP_POST,         OP_POST,  OP_POST, OP_POST,
                                         OP_POST,         OP_POST,         OP_POST,  OP_POST, OP_DELETE_CHILD,
                                         OP_DELETE_CHILD, OP_DELETE_CHILD, OP_CLEAR, OP_READ, OP_READ,
                                         OP_READ,         OP_PLAIN_READ };

        return dir ? of_dir[world_draw(w, ELEMENTS(of_dir))] : of_key[world_draw(w, ELEMENTS(of_key))];
}

static void ask(Test *t, Ask *a, Host *h) {
        World *w = t->stores.world;
        Object *o = &t->objects[world_draw(w, OBJECTS)];
        OpKind kind = draw_kind(w, o->history.dir);
        bool compares = kind == OP_SWAP_INDEX || kind == OP_SWAP_VALUE || kind == OP_DELETE_INDEX ||
                        kind == OP_DELETE_VALUE || kind == OP_DELETE_CHILD;
        Op *op;
        int other;

        if (!store_is_up(h) || is_full(o))
                return;
        op = history_call(&o->history, kind, ++t->at);
        op->outcome = OP_UNKNOWN;
        *a = (Ask) { .test = t,
                     .object = o,
                     .host = h,
                     .number = history_number(&o->history, op),
                     .begun_ms = world_now_ms(w) };
        o->n_pending++;
        other = some_writer(w, &o->history);
        if (compares && other < 0)
                op->kind = kind = OP_READ;
        op->compare_op = other;
        world_trace(w, h->name, "is asked operation %d of kind %d of /%u/%" PRIu64, a->number, kind,
                    o->number, o->epoch);

        if (kind == OP_PLAIN_READ && kv_can_serve(h->store)) {
                end(a, read_now(a) ? OP_ANSWERED : OP_REFUSED);
        } else if (kind == OP_READ || kind == OP_PLAIN_READ) {
                a->sync = (KvSync) { .done = on_read, .userdata = a };
                kv_sync(h->store, &a->sync);
        } else {
                propose(a);
        }
}

/* Without a known leader, no client waits longer than promised for an answer. */
static void check_lost(Test *t) {
        uint64_t now_ms = world_now_ms(t->stores.world);

        for (unsigned i = 0; i < CLIENTS; i++) {
                const Ask *a = &t->clients[i];
                uint64_t since_ms;

                if (!a->object || !store_is_up(a->host) || a->host->lost_ms == 0)
                        continue;
                since_ms = MAX(MAX(a->begun_ms, a->host->lost_ms), a->host->paused_ms);
                if (now_ms > since_ms + LOST_MAX_MS + SLACK_MS)
                        world_failed(t->stores.world, "answers-come-after-loss",
                                     "%s: no leader for %" PRIu64 " ms, operation %d of kind %d",
                                     a->host->name, now_ms - since_ms, a->number,
                                     a->object->history.ops[a->number].kind);
        }
}

/* Bursts, in which clients ask as fast as they can and much goes wrong, and long calm spells between them. */
static void turn_spell(Test *t) {
        World *w = t->stores.world;

        if (t->stores.quiet) {
                t->stores.calm = false;
                return;
        }
        if (world_now_ms(w) < t->spell_until_ms)
                return;
        t->stores.calm = t->spell_until_ms > 0 && !t->stores.calm;
        t->spell_until_ms = world_now_ms(w) +
                            (t->stores.calm ? 60000 + world_draw(w, 1200000) : 2000 + world_draw(w, 20000));
        world_trace(w, "world", "%s", t->stores.calm ? "calm" : "a burst");
}

void clients_turn(void *userdata) {
        Test *t = userdata;
        World *w = t->stores.world;

        if (t->stores.ending)
                return;
        turn_spell(t);
        world_at(w, world_draw(w, t->stores.calm ? 4000 : 12), NULL, clients_turn, t);
        stores_turn(&t->stores);
        check_lost(t);
        if (!t->rests && t->n_turns++ % 16 == 0)
                store_note(&t->stores.hosts[t->n_turns / 16 % t->stores.n]);
        for (unsigned i = 0; i < CLIENTS && !t->rests; i++)
                if (!t->clients[i].object && world_chance(w, t->stores.quiet || t->stores.calm ? 10 : 50))
                        ask(t, &t->clients[i], stores_any(&t->stores));
        if (!t->rests && world_chance(w, t->stores.calm ? 50 : 5)) {
                Host *h = stores_any(&t->stores);

                if (store_is_up(h) && kv_can_serve(h->store))
                        watchers_turn(t->stores.watchers, h->store, h->number);
        }
}
