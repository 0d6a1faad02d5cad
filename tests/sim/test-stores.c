/* What clients see of five stores under faults (tests/sim/stores.h): every answer judged.
 *
 *   tests/sim/test-stores [--seed N] [--runs N] [--seconds N] [--hosts N] [--without FAULT ... | --only FAULT
 * ...] [--unsynced] [--trace] [--twice]
 *                         [--shrink]
 *
 * --twice runs each seed twice, and compares; --shrink looks for a smaller run in which the same check fails:
 * shorter, with fewer hosts, without each kind of fault.
 *
 * Checked: histories of keys and directories are linearizable (tests/sim/history.h); plain reads are never
 * invented, and never run backward at one host, whatever it died of meanwhile and whatever became of its
 * replica; watches are complete (tests/sim/watchers.h); who is told "written" finds it applied there; answers
 * come in time, and within 1.5 s of the leader's loss; equal applied index, equal tree; after healing
 * everybody writes, follows, has caught up, nothing that is due still stands; a minute of nothing writes
 * nothing, grows nothing, and wakes few. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "kvstore/kvstore_internal.h"
#include "tests/sim/history.h"
#include "tests/sim/shrink.h"
#include "tests/sim/stores.h"

enum {
        KEYS = 4,
        OBJECTS = 6,
        CLIENTS = 12,
        WATCHERS = 8,
        N_UNKNOWN_MAX = 12,
        ROTTEN = -2,
        HEAL_MS = 30000,
        REST_MS = 8000,
        IDLE_MS = 60000,
        IDLE_WAKES_MAX = 30,
        IDLE_BYTES_MAX = 16384,
        ANSWER_MAX_MS = 15000,
        LOST_MAX_MS = 1500,
        SLACK_MS = 400,
};

/* All hosts' wall clocks say so at the world's beginning, and so does cluster time. */
#define CLUSTER_START_MS UINT64_C(1700000000000)

typedef struct Test Test;

/* A key /k/NUMBER/EPOCH, or a directory /d/NUMBER/EPOCH; with a full history its name is never used again. */
typedef struct Object {
        Test *test;
        unsigned number, n_pending;
        uint64_t epoch;
        History history;
} Object;

typedef struct Ask {
        Test *test;
        Object *object; /* NULL: nothing is under way */
        Host *host;
        int number;
        uint64_t begun_ms;
        KvSync sync;
} Ask;

struct Test {
        Stores stores;
        Object objects[OBJECTS];
        Ask clients[CLIENTS];
        uint64_t at;                     /* in the order of all that clients see */
        uint64_t seen_index[STORES_MAX]; /* whatever dies meanwhile, or is exchanged: a host remembers what it
                                            showed */
        uint64_t n_answers, spell_until_ms;
        bool rests;
};

typedef struct Sums {
        uint64_t judged, unknown, undecided, histories, events, moves, cleared, compared, elections,
                idle_wakes, ms, store_ms, faults[_FAULT_MAX];
} Sums;

static Sums sums;
static Test *running; /* for the log's sink, which has no other way */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *sentence) {
        if (running)
                stores_log(&running->stores, sentence);
}

/* -- Histories -- */

static const char *outcome_of(const Object *o, int number) {
        static const char *const names[] = {
                [OP_UNKNOWN] = "unknown", [OP_REFUSED] = "refused", [OP_ANSWERED] = "answered"
        };

        return number >= 0 && (unsigned) number < o->history.n ? names[o->history.ops[number].outcome] :
                                                                 "never asked";
}

static void judge(Object *o) {
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

/* The answer came, or never will. */
static void end(Ask *a, OpOutcome outcome) {
        Object *o = TAKE_PTR(a->object);
        Op *op = &o->history.ops[a->number];

        op->outcome = outcome;
        if (outcome == OP_ANSWERED)
                op->returned = ++o->test->at;
        o->history.n_unknown += outcome == OP_UNKNOWN && op->kind != OP_READ;
        o->n_pending--;
        if (o->n_pending == 0 && is_full(o))
                judge(o);
}

static void on_gone(void *userdata, Host *h) {
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

/* Who wrote what is there; ROTTEN: nobody, and that is the disk's fault. */
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
                        return ROTTEN;
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

/* False: it is rotten. */
static bool take_found(Ask *a, Op *op, const KvNode *node, bool written) {
        op->found = writer_of(a, node, written);
        op->found_modified = node->modified;
        op->found_created = node->created;
        op->found_expires_ms = node->expires_ms;
        return op->found != ROTTEN;
}

/* Where what we say is lost and what we hear is not, the session ends after 10 s of silence: nobody waits for
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

        if (number == ROTTEN)
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
            kv_can_serve(a->host->store)) /* by the leader's word, then nothing is shown */
                world_failed(t->stores.world, "own-writes-are-read", "%s: index %" PRIu64, a->host->name,
                             result->index);
        if (result->status == KV_OK) {
                watchers_said(t->stores.watchers, result);
                op->outcome = OP_ANSWERED;
                if ((op->kind <= OP_SWAP_VALUE || op->kind == OP_POST) &&
                    writer_of(a, &result->node, false) != a->number)
                        world_failed(t->stores.world, "answers-are-to-the-question", "%s: index %" PRIu64,
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

/* Nobody waits longer than promised for an answer where no leader is known. */
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

static void on_turn(void *userdata) {
        Test *t = userdata;
        World *w = t->stores.world;

        if (t->stores.ending)
                return;
        turn_spell(t);
        world_at(w, world_draw(w, t->stores.calm ? 4000 : 12), NULL, on_turn, t);
        stores_turn(&t->stores);
        check_lost(t);
        for (unsigned i = 0; i < CLIENTS && !t->rests; i++)
                if (!t->clients[i].object && world_chance(w, t->stores.quiet || t->stores.calm ? 10 : 50))
                        ask(t, &t->clients[i], stores_any(&t->stores));
        if (!t->rests && world_chance(w, t->stores.calm ? 50 : 5)) {
                Host *h = stores_any(&t->stores);

                if (store_is_up(h) && kv_can_serve(h->store))
                        watchers_turn(t->stores.watchers, h->store, h->number);
        }
}

/* -- Runs -- */

static void check_healed(Test *t) {
        Stores *all = &t->stores;
        Host *leader = stores_leader(all);
        KvState leads, state;
        TreeTxn *txn;
        KvNode node;

        if (!leader)
                world_failed(all->world, "there-is-a-leader", "none");
        kv_state(leader->store, &leads);
        for (size_t i = 0; i < leads.n_members; i++)
                world_trace(all->world, leader->name,
                            "leads replica %" PRIu64 " at %s, %s, %s, which holds entry %" PRIu64,
                            leads.members[i].raft_id, leads.members[i].address,
                            kv_member_role_name(leads.members[i].seat),
                            leads.members[i].reachable ? "reachable" : "not reachable",
                            leads.members[i].match);
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];

                if (!store_is_up(h))
                        world_failed(all->world, "everybody-lives", "%s", h->name);
                kv_state(h->store, &state);
                if (store_is_flipped(h))
                        world_failed(all->world, "who-differs-is-found", "%s: %s", h->name, state.problem);
                if (!state.ready)
                        world_failed(all->world, "everybody-follows",
                                     "%s (replica %" PRIu64 " of cluster %" PRIx64 "%s%s%s): %s", h->name,
                                     h->raft_id, state.cluster_id, h->wipe ? ", to be wiped" : "",
                                     h->leaving ? ", leaving" : "", h->disk_breaks ? ", without a disk" : "",
                                     state.problem);
                if (state.raft_index != leads.raft_index)
                        world_failed(all->world, "everybody-catches-up", "%s: entry %" PRIu64 " of %" PRIu64,
                                     h->name, state.raft_index, leads.raft_index);
                stores_check_hash(all, h);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
                if (t->clients[i].object)
                        world_failed(all->world, "everybody-is-answered", "client %u", i);
        if (kv_read(leader->store, &txn) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", leader->name);
        if (tree_first_due(txn, leads.cluster_ms - REST_MS / 2, &node) >= 0)
                world_failed(all->world, "what-is-due-goes", "%.*s", (int) node.key.size,
                             (const char *) node.key.data);
        tree_abort(txn);
        watchers_judge(all->watchers, leads.index);
}

/* Where everybody stands, for whoever reads a trace. */
static void trace_all(Test *t) {
        Stores *all = &t->stores;

        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];
                KvState state;

                if (!store_is_up(h)) {
                        world_trace(all->world, h->name, "is down");
                        continue;
                }
                kv_state(h->store, &state);
                world_trace(all->world, h->name,
                            "replica %" PRIu64 ", %s, term %" PRIu64 ", applied %" PRIu64 ", commit %" PRIu64
                            ": %s",
                            state.raft_id, kv_role_name(state.role), state.term, state.raft_index,
                            state.commit, state.problem);
                for (size_t k = 0; k < state.n_members; k++)
                        world_trace(all->world, h->name, "  replica %" PRIu64 " is %s",
                                    state.members[k].raft_id, kv_member_role_name(state.members[k].seat));
        }
        for (unsigned i = 0; i < CLIENTS; i++)
                if (t->clients[i].object)
                        world_trace(all->world, "clients", "client %u waits for %s for %" PRIu64 " ms", i,
                                    t->clients[i].host->name,
                                    world_now_ms(all->world) - t->clients[i].begun_ms);
}

static unsigned n_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (dir && readdir(dir))
                n++;
        if (dir)
                closedir(dir);
        return n;
}

/* Nothing is asked and nothing is due: nothing enters the log, nobody grows, and few wake. Those who watched
 * are gone. */
static void check_idle(Test *t) {
        Stores *all = &t->stores;
        uint64_t entry[STORES_MAX], wakes;
        unsigned descriptors;
        size_t used;
        KvState state;

        for (unsigned i = 0; i < all->n; i++)
                watchers_leave(all->watchers, i);
        world_run(all->world, world_now_ms(all->world) + 1000);
        for (unsigned i = 0; i < all->n; i++) {
                if (hub_watches(kv_hub(all->hosts[i].store)) > 0)
                        world_failed(all->world, "who-left-is-gone", "%s keeps %u watches",
                                     all->hosts[i].name, hub_watches(kv_hub(all->hosts[i].store)));
                kv_state(all->hosts[i].store, &state);
                entry[i] = state.commit;
        }
        wakes = world_wakes(all->world);
        descriptors = n_descriptors();
        used = mallinfo2().uordblks;
        world_run(all->world, world_now_ms(all->world) + IDLE_MS);

        for (unsigned i = 0; i < all->n; i++) {
                kv_state(all->hosts[i].store, &state);
                if (state.commit != entry[i])
                        world_failed(all->world, "idle-is-idle", "%s: %" PRIu64 " entries in %d s of nothing",
                                     all->hosts[i].name, state.commit - entry[i], IDLE_MS / 1000);
        }
        wakes = (world_wakes(all->world) - wakes) * 1000 / IDLE_MS / all->n;
        sums.idle_wakes = MAX(sums.idle_wakes, wakes);
        if (wakes > IDLE_WAKES_MAX)
                world_failed(all->world, "idle-is-idle", "%" PRIu64 " wake-ups a second and host", wakes);
        if (n_descriptors() != descriptors)
                world_failed(all->world, "idle-is-bounded", "%u descriptors, %u before", n_descriptors(),
                             descriptors);
        if (mallinfo2().uordblks > used + IDLE_BYTES_MAX * all->n)
                world_failed(all->world, "idle-is-bounded", "%zu bytes more", mallinfo2().uordblks - used);
}

/* A leader that came late spares what was written before it came. */
static uint64_t spares_until_ms(Stores *all) {
        const Host *leader = stores_leader(all);

        return leader ? leader->store->lead_ms + leader->store->grace_ms : 0;
}

static void heal_and_check(Test *t) {
        Stores *all = &t->stores;
        uint64_t before;

        stores_heal(all);
        world_run(all->world, world_now_ms(all->world) + HEAL_MS / 2);
        before = t->n_answers;
        (void) stores_flip(all);
        world_run(all->world, world_now_ms(all->world) + HEAL_MS / 2);
        if (t->n_answers == before)
                trace_all(t);
        if (t->n_answers == before)
                world_failed(all->world, "everybody-writes-again", "no answer in %d ms", HEAL_MS / 2);
        t->rests = true;
        world_run(all->world, MAX(world_now_ms(all->world), spares_until_ms(all)) + REST_MS);
        check_healed(t);
        check_idle(t);
        for (unsigned i = 0; i < OBJECTS; i++)
                judge(&t->objects[i]);
}

typedef struct Options {
        uint64_t seed, runs, seconds;
        unsigned hosts;
        bool off[_FAULT_MAX];
        bool trace, twice, shrink;
        bool unsynced; /* disks acknowledge a sync and do none */
} Options;

/* The command line that does this run again, without its seed. */
static void print_options(const Options *o, char *ret, size_t size) {
        unsigned n_off = 0;
        size_t n = (size_t) snprintf(ret, size, "tests/sim/test-stores --seconds %" PRIu64, o->seconds);

        if (o->hosts > 0)
                n += (size_t) snprintf(ret + n, size - n, " --hosts %u", o->hosts);
        for (FaultKind k = 0; k <= FAULT_LOST_PAGES; k++)
                n_off += o->off[k];
        for (FaultKind k = 0; k <= FAULT_LOST_PAGES; k++)
                if (o->off[k] == (n_off <= FAULT_LOST_PAGES / 2))
                        n += (size_t) snprintf(ret + n, size - n, " --%s %s", o->off[k] ? "without" : "only",
                                               fault_name(k));
        if (o->unsynced)
                snprintf(ret + n, size - n, " --unsynced");
}

static uint64_t run_once(uint64_t seed, const Options *o) {
        Test *t = NEW0(Test, 1);
        Stores *all;
        char replay[2048];
        uint64_t hash;

        if (!t)
                abort();
        all = &t->stores;
        *all = (Stores) { .world = world_new(seed, o->trace),
                          .unsynced = o->unsynced,
                          .gone = on_gone,
                          .userdata = t,
                          .n = o->hosts };
        memcpy(all->off, o->off, sizeof(all->off));
        all->watchers = watchers_new(all->world, WATCHERS);
        print_options(o, replay, sizeof(replay));
        world_set_replay(all->world, replay);
        for (unsigned i = 0; i < OBJECTS; i++)
                t->objects[i] = (Object) { .test = t,
                                           .number = i < KEYS ? i : i - KEYS,
                                           .history.dir = i >= KEYS };
        running = t;
        stores_begin(all);
        on_turn(t);
        world_run(all->world, world_now_ms(all->world) + o->seconds * 1000);
        heal_and_check(t);

        sums.events += watchers_events(all->watchers);
        sums.moves += watchers_moves(all->watchers);
        sums.cleared += watchers_cleared(all->watchers);
        sums.compared += all->n_compared;
        sums.elections += all->n_elections;
        sums.ms += world_now_ms(all->world) - WORLD_START_MS;
        sums.store_ms += (world_now_ms(all->world) - WORLD_START_MS) * all->n;
        for (unsigned i = 0; i < _FAULT_MAX; i++)
                sums.faults[i] += all->counts[i];
        stores_end(all);
        hash = world_hash(all->world);
        running = NULL;
        watchers_free(all->watchers);
        world_free(all->world);
        free(t);
        return hash;
}

/* -- Smaller -- */

static void run_alone(void *userdata) {
        const Options *o = userdata;

        (void) run_once(o->seed, o);
}

/* Takes 'less' if the same check fails, with its seed or, the draws being others, with one of those that
 * follow. */
static bool fails_with(Options *o, Options less, unsigned seeds, const Verdict *verdict) {
        for (unsigned i = 0; i < seeds; i++, less.seed++) {
                Verdict now = shrink_try(run_alone, &less);

                if (!shrink_same(&now, verdict))
                        continue;
                *o = less;
                o->seconds = MIN(o->seconds, now.at_s);
                return true;
        }
        return false;
}

static int shrink(Options *o) {
        Verdict verdict = shrink_try(run_alone, o);
        char line[2048];
        Options less;

        if (!verdict.checker[0]) {
                printf("seed %" PRIu64 " holds\n", o->seed);
                return 0;
        }
        less = *o;
        less.seconds = MIN(o->seconds, verdict.at_s);
        (void) fails_with(o, less, 1, &verdict);
        for (unsigned hosts = 1; hosts <= 5; hosts++) {
                less = *o;
                less.hosts = hosts;
                if (fails_with(o, less, 10, &verdict))
                        break;
        }
        for (FaultKind k = 0; k <= FAULT_LOST_PAGES; k++) {
                less = *o;
                less.off[k] = true;
                if (!o->off[k])
                        (void) fails_with(o, less, 1, &verdict);
        }
        print_options(o, line, sizeof(line));
        printf("FAILED %s\nreplay: %s --seed %" PRIu64 " --trace\n", verdict.checker, line, o->seed);
        return 1;
}

static void print_sums(const Options *o) {
        double cpu_s = (double) clock() / CLOCKS_PER_SEC;

        printf("%" PRIu64 " runs of %" PRIu64 " s and healing passed: %.2f cluster-hours simulated, %" PRIu64
               " operations judged in %" PRIu64 " histories, %" PRIu64 " unknown outcomes, %" PRIu64
               " histories undecided\n",
               o->runs, o->seconds, (double) sums.ms / 3600000, sums.judged, sums.histories, sums.unknown,
               sums.undecided);
        printf("%" PRIu64 " leaders, %" PRIu64 " events told, %" PRIu64 " watches moved, %" PRIu64
               " places lost; %" PRIu64 " trees compared\n",
               sums.elections, sums.events, sums.moves, sums.cleared, sums.compared);
        printf("at most %" PRIu64 " wake-ups a second and idle host\n", sums.idle_wakes);
        printf("%.0f host-hours; %.0f times real time and %.0f operations on a second of one core\n",
               (double) sums.store_ms / 3600000, (double) sums.ms / 1000 / cpu_s,
               (double) sums.judged / cpu_s);
        for (FaultKind i = 0; i < _FAULT_MAX; i++)
                printf("fault %s %" PRIu64 "\n", fault_name(i), sums.faults[i]);
}

int main(int argc, char *argv[]) {
        static const struct option table[] = {
                { "seed", required_argument, NULL, 's' },
                { "runs", required_argument, NULL, 'r' },
                { "trace", no_argument, NULL, 't' },
                { "seconds", required_argument, NULL, 'S' },
                { "unsynced", no_argument, NULL, 'u' },
                { "twice", no_argument, NULL, '2' },
                { "hosts", required_argument, NULL, 'h' },
                { "without", required_argument, NULL, 'w' },
                { "only", required_argument, NULL, 'o' },
                { "shrink", no_argument, NULL, 'k' },
                {},
        };
        Options o = { .seed = 1, .seconds = 120 };
        bool only = false;
        int c;

        while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0)
                switch (c) {
                case 's':
                        o.seed = strtoull(optarg, NULL, 10);
                        o.runs = o.runs ?: 1;
                        break;
                case 'r':
                        o.runs = strtoull(optarg, NULL, 10);
                        break;
                case 't':
                        o.trace = true;
                        break;
                case 'S':
                        o.seconds = strtoull(optarg, NULL, 10);
                        break;
                case 'u':
                        o.unsynced = true;
                        break;
                case '2':
                        o.twice = true;
                        break;
                case 'k':
                        o.shrink = true;
                        break;
                case 'h':
                        o.hosts = (unsigned) strtoul(optarg, NULL, 10);
                        break;
                case 'w':
                case 'o':
                        if (fault_named(optarg) > FAULT_LOST_PAGES)
                                return 2;
                        for (FaultKind k = 0; c == 'o' && !only && k <= FAULT_LOST_PAGES; k++)
                                o.off[k] = true;
                        only |= c == 'o';
                        o.off[fault_named(optarg)] = c == 'w';
                        break;
                default:
                        return 2;
                }
        o.runs = o.runs ?: 4;
        setvbuf(stdout, NULL, _IOLBF, 0);
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_DEBUG);

        if (o.shrink)
                return shrink(&o);
        for (uint64_t i = 0; i < o.runs; i++) {
                uint64_t hash = run_once(o.seed + i, &o);

                if (o.twice && run_once(o.seed + i, &o) != hash) {
                        printf("FAILED one-seed-is-one-run seed=%" PRIu64 "\n", o.seed + i);
                        return 1;
                }
        }
        print_sums(&o);
        return 0;
}
