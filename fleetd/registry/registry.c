/* Watching and sending. Everything below /_fleet is read in slices, so that no turn of the loop is long, and
 * a watch from the index behind the beginning tells what changes meanwhile and later. A slice may be ahead of
 * the events that are told then: an older one puts its key back, until the newer one follows. So the picture
 * is whole when all is read and no event is left to tell; the one before it, if there was one, stays until
 * then. When the place is lost (a snapshot, a full window) all is read anew. */
#include "fleetd/registry/registry.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "base/sizes.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/transaction.h"

enum {
        READ_AGAIN_MS = 100,
        SLICE_NODES = 500, /* some ms; counted, not timed: the same run is the same slices */
        SLICE_BYTES = 256 * 1024,
};

typedef struct Op Op;

struct Registry {
        Loop *loop;
        KvStore *store;
        char machine_id[MACHINE_ID_SIZE];
        Cluster cluster;
        Cluster next; /* the one being read, until it is whole */
        Cluster old;  /* the one before, being given back */
        bool whole;
        char read_to[LAYOUT_KEY_MAX]; /* the last key of the slice before; "": none */
        bool read_all;                /* nothing is behind it */
        size_t n_nodes, n_bytes;      /* of this slice */
        Deferred slice, drain;
        Watch *watch;
        Timer again;
        RegistryListener *listeners;
        Op *ops; /* under way */
        RegistryCounts counts;
        uint64_t refused_at; /* of the transaction whose 'done' is being called: KvResult's */
};

struct Op {
        Registry *registry;
        RegistryDone done;
        void *userdata;
        uint64_t value, *ret_value;
        uint64_t number;
        Deferred empty; /* nothing was to be written */
        Op *next, *prev;
};

static const char root[] = "/_fleet";

/* -- Reading -- */

static Cluster *current(Registry *r) {
        return r->whole ? &r->cluster : &r->next;
}

/* The rules of a text are found by name, also when it goes: what a small request removes may have thousands
 * of them. */
static void count_filed(Registry *r) {
        TurnWork *filed = &current(r)->filed;

        loop_count(r->loop, filed->nodes, filed->bytes);
        *filed = (TurnWork) {};
}

static int put_node(Registry *r, const KvNode *node) {
        Error err = {};
        bool known;
        int e;

        if (node->dir)
                return 1;
        known = cluster_is_unreadable(&r->cluster, node->key.data, node->key.size);
        e = cluster_put(current(r), node->key.data, node->key.size, node->value.data, node->value.size,
                        node->created, node->modified, &err);
        if (e == -ENOMEM)
                return e;
        if (e < 0 && !known)
                log_warning(((LogFields) { .error = e, .index = node->modified }),
                            "a key cannot be read by this fleetd; what it is about is left as it is until "
                            "this host is upgraded: %s",
                            error_text(&err, e));
        return 1;
}

static int on_node(void *userdata, const KvNode *node) {
        Registry *r = userdata;
        LayoutKey k;
        int e;

        e = put_node(r, node);
        if (e < 0)
                return e;

        r->n_nodes++;
        r->n_bytes += node->value.size;
        if ((r->n_nodes < SLICE_NODES && r->n_bytes < SLICE_BYTES) || node->dir ||
            !layout_parse(node->key, &k))
                return 1;
        snprintf(r->read_to, sizeof(r->read_to), "%.*s", (int) node->key.size, (const char *) node->key.data);
        r->read_all = false;
        return 0;
}

static RegistryChange change_of(const LayoutKey *k, uint64_t index, bool removed) {
        RegistryChange change = { .kind = CHANGED_CLUSTER, .index = index, .removed = removed };

        switch (k->kind) {
        case LAYOUT_UNIT:
                change.kind = CHANGED_UNIT;
                change.unit = k->unit;
                break;
        case LAYOUT_TARGET:
                change.kind = CHANGED_TARGET;
                change.unit = k->unit;
                break;
        case LAYOUT_FACTS:
        case LAYOUT_METADATA:
                change.kind = CHANGED_MACHINE;
                change.machine = k->machine;
                break;
        case LAYOUT_PRESENCE:
                change.kind = CHANGED_PRESENCE;
                change.machine = k->machine;
                break;
        case LAYOUT_ASSIGNMENT:
        case LAYOUT_STATE:
                change.kind = k->kind == LAYOUT_ASSIGNMENT ? CHANGED_ASSIGNMENT : CHANGED_STATE;
                change.unit = k->unit;
                change.machine = k->machine;
                break;
        case LAYOUT_PROBLEM:
                change.kind = CHANGED_PROBLEM;
                change.unit = k->unit;
                change.machine = k->machine;
                break;
        case LAYOUT_REPORTED:
        case LAYOUT_MEMBER:
                change.machine = k->machine;
                break;
        case LAYOUT_CLUSTER:
        case _LAYOUT_MAX:
        case _LAYOUT_OTHER:
                break;
        }
        return change;
}

static void tell(Registry *r, const RegistryChange *change) {
        for (RegistryListener *l = r->listeners, *next; l; l = next) {
                next = l->next;
                l->on_change(l->userdata, change);
        }
}

static void read_later(Registry *r, uint64_t delay_ms) {
        r->whole = false;
        r->watch = watch_close(r->watch);
        deferred_cancel(&r->slice);
        /* Without memory for a timer the next on_reset or state change of the store brings us back. */
        (void) timer_start(&r->again, r->loop, delay_ms);
}

static void on_drain(void *userdata) {
        Registry *r = userdata;

        if (!cluster_drain(&r->old, SLICE_NODES))
                loop_defer(r->loop, &r->drain);
}

static void finish(Registry *r) {
        KvPosition position;

        kv_position(r->store, &position);
        cluster_done(&r->old);
        r->old = r->cluster;
        r->cluster = r->next;
        r->next = (Cluster) {};
        r->cluster.lineage = position.lineage;
        r->whole = true;
        on_drain(r);
        tell(r, &(RegistryChange) { .kind = CHANGED_ALL, .index = r->cluster.index });
}

static void on_event(void *userdata, HubEvent *event) {
        Registry *r = userdata;
        const KvEvent *e = &event->event;
        bool removed = e->action == KV_ACTION_DELETE || e->action == KV_ACTION_EXPIRE ||
                       e->action == KV_ACTION_CAD;
        RegistryChange change;
        LayoutKey k;
        int result;

        if (e->index > current(r)->index)
                current(r)->index = e->index;

        if (removed)
                result = cluster_remove(current(r), e->node.key.data, e->node.key.size);
        else
                result = put_node(r, &e->node);
        count_filed(r);
        if (result < 0) {
                log_error(((LogFields) { .error = result, .index = e->index }),
                          "the registry has to be read anew: %s", strerror(-result));
                read_later(r, READ_AGAIN_MS);
                return;
        }
        if (!r->whole) {
                if (r->read_all)
                        loop_defer(r->loop, &r->slice);
                return;
        }

        if (layout_parse(e->node.key, &k))
                change = change_of(&k, e->index, removed);
        else if (removed)
                change = (RegistryChange) { .kind = CHANGED_ALL, .index = e->index }; /* a directory */
        else
                return;
        tell(r, &change);
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Registry *r = userdata;

        /* The hub closes it, and is in the middle of that: the new one is asked for later. */
        r->watch = NULL;
        log_debug(NO_FIELDS, "the registry's watch lost its place; reading all anew");
        read_later(r, 0);
}

static int read_slice(Registry *r) {
        TreeTxn *txn;
        int e;

        e = kv_read(r->store, &txn);
        if (e < 0)
                return e;
        r->read_all = true;
        r->n_nodes = r->n_bytes = 0;
        e = tree_walk_from(txn, kv_string(root), kv_string(r->read_to), true, on_node, r);
        tree_abort(txn);
        if (r->read_all && e >= 0)
                r->next.index = MAX(r->next.index, kv_index(r->store));
        return e < 0 && e != -ENOENT ? e : 0;
}

static void cannot_read(Registry *r, int error) {
        log_debug(((LogFields) { .error = error }), "the registry cannot be read yet: %s", strerror(-error));
        read_later(r, READ_AGAIN_MS);
}

static void on_slice(void *userdata) {
        Registry *r = userdata;
        int e;

        e = read_slice(r);
        if (e < 0)
                cannot_read(r, e);
        else if (r->read_all && watch_is_current(r->watch))
                finish(r);
        else
                loop_defer(r->loop, &r->slice);
}

void registry_reset(Registry *r) {
        static const WatchEvents events = { .on_event = on_event, .on_cleared = on_cleared };
        uint64_t oldest = 0, index = kv_index(r->store);
        int e;

        r->watch = watch_close(r->watch);
        timer_stop(&r->again);
        deferred_cancel(&r->slice);
        cluster_done(&r->next);
        r->whole = false;
        r->read_to[0] = 0;

        e = read_slice(r);
        if (e >= 0)
                e = hub_watch(kv_hub(r->store),
                              &(WatchOptions) { .key = kv_string(root),
                                                .recursive = true,
                                                .since = index + 1,
                                                .internal = true },
                              &events, r, &r->watch, &oldest);
        if (e < 0)
                cannot_read(r, e);
        else if (r->read_all)
                finish(r); /* of one transaction: nothing to wait for */
        else
                loop_defer(r->loop, &r->slice);
}

static void read_again(void *userdata) {
        registry_reset(userdata);
}

const Cluster *registry_cluster(const Registry *r) {
        /* The two that are not keys: time, and whose tree it is. */
        Cluster *c = &((Registry *) r)->cluster;
        KvPosition position;

        kv_position(r->store, &position);
        c->now_ms = kv_cluster_ms(r->store);
        c->lineage = position.lineage;
        return c;
}

bool registry_ready(const Registry *r) {
        return r->whole && registry_cluster(r)->lineage != 0;
}

bool registry_is_current(const Registry *r) {
        return r->whole && watch_is_current(r->watch);
}

KvStore *registry_store(const Registry *r) {
        return r->store;
}

const char *registry_machine_id(const Registry *r) {
        return r->machine_id;
}

void registry_listen(Registry *r, RegistryListener *listener) {
        listener->next = r->listeners;
        r->listeners = listener;
}

void registry_unlisten(Registry *r, RegistryListener *listener) {
        for (RegistryListener **at = &r->listeners; *at; at = &(*at)->next)
                if (*at == listener) {
                        *at = listener->next;
                        return;
                }
}

int registry_key_index(Registry *r, LayoutKind key, const char *unit, const char *machine, uint64_t *ret) {
        char path[LAYOUT_KEY_MAX];
        TreeTxn *txn;
        KvNode node;
        int e;

        e = kv_read(r->store, &txn);
        if (e < 0)
                return e;
        e = tree_get(txn, kv_string(layout_key(path, key, unit, machine)), &node);
        if (e >= 0)
                *ret = node.modified;
        else if (e == -ENOENT) {
                *ret = 0;
                e = 0;
        }
        tree_abort(txn);
        return e < 0 ? e : 0;
}

uint64_t registry_refused_at(const Registry *r) {
        return r->refused_at;
}

/* -- Sending -- */

void transaction_done(Transaction *t) {
        for (size_t i = 0; i < t->n_strings; i++)
                free(t->strings[i]);
        free(t->strings);
        free(t->checks);
        free(t->writes);
        *t = (Transaction) {};
}

/* Owns 's' from now on; NULL is what a failed allocation left. */
static KvBytes hold(Transaction *t, char *s, size_t size) {
        if (!s || GROW(t->strings, t->strings_capacity, t->n_strings + 1) < 0) {
                free(s);
                t->error = -ENOMEM;
                return (KvBytes) {};
        }
        t->strings[t->n_strings++] = s;
        return (KvBytes) { s, size };
}

static KvBytes hold_key(Transaction *t, LayoutKind key, const char *unit, const char *machine) {
        char path[LAYOUT_KEY_MAX];
        size_t size = strlen(layout_key(path, key, unit, machine));

        return hold(t, strdup(path), size);
}

void transaction_check(Transaction *t, KvCheckKind kind, uint64_t index, LayoutKind key, const char *unit,
                       const char *machine) {
        KvBytes path = hold_key(t, key, unit, machine);

        if (t->error < 0 || GROW(t->checks, t->checks_capacity, t->n_checks + 1) < 0) {
                t->error = -ENOMEM;
                return;
        }
        t->checks[t->n_checks++] = (KvCheck) { .kind = kind, .key = path, .index = index };
}

static KvBytes hold_text(Transaction *t, Text *value) {
        size_t size = 0;
        char *chars = text_take(value, &size);

        return hold(t, chars, size);
}

void transaction_check_value(Transaction *t, LayoutKind key, const char *unit, const char *machine,
                             Text *value) {
        KvBytes bytes = hold_text(t, value);

        transaction_check(t, KV_CHECK_VALUE, 0, key, unit, machine);
        if (t->error >= 0)
                t->checks[t->n_checks - 1].value = bytes;
}

void transaction_write(Transaction *t, KvOp op, LayoutKind key, const char *unit, const char *machine,
                       Text *value) {
        KvCommand write = { .op = op, .key = hold_key(t, key, unit, machine), .internal = true };

        if (value)
                write.value = hold_text(t, value);
        if (t->error < 0 || GROW(t->writes, t->writes_capacity, t->n_writes + 1) < 0) {
                t->error = -ENOMEM;
                return;
        }
        t->writes[t->n_writes++] = write;
}

static void op_unlink(Op *op) {
        if (op->prev)
                op->prev->next = op->next;
        else
                op->registry->ops = op->next;
        if (op->next)
                op->next->prev = op->prev;
}

static const char *sentence_of(const KvResult *result, char buffer[static 256]) {
        switch (result->status) {
        case KV_OK:
                return "";
        case KV_COMPARE_FAILED:
                snprintf(buffer, 256, "somebody else changed it at the same time (%.*s)",
                         (int) MIN(result->cause.size, 150), (const char *) result->cause.data);
                return buffer;
        case KV_UNKNOWN:
                return "the leader was lost: it may have happened, or may yet";
        default:
                if (result->cause.size == 0)
                        return kv_status_name(result->status);
                snprintf(buffer, 256, "%.*s", (int) MIN(result->cause.size, 255),
                         (const char *) result->cause.data);
                return buffer;
        }
}

const RegistryCounts *registry_counts(const Registry *r) {
        return &r->counts;
}

static void op_finish(Op *op, KvStatus status, const char *sentence, uint64_t index) {
        RegistryDone done = op->done;
        void *userdata = op->userdata;

        *(status == KV_OK ? &op->registry->counts.done : &op->registry->counts.failed) += 1;
        if (status == KV_OK && op->ret_value)
                *op->ret_value = op->value;
        op_unlink(op);
        free(op);
        if (done)
                done(userdata, status, sentence, index);
}

static void op_on_result(void *userdata, const KvResult *result) {
        char buffer[256];

        ((Op *) userdata)->registry->refused_at = result->status == KV_OK ? 0 : result->refused_at;
        op_finish(userdata, result->status, sentence_of(result, buffer), result->index);
}

static void op_on_empty(void *userdata) {
        Op *op = userdata;

        op_finish(op, KV_OK, "", kv_index(op->registry->store));
}

int transaction_send(Registry *r, Transaction *t, uint64_t term, RegistryDone done, void *userdata) {
        _cleanup_free_ Op *op = NULL;
        int e;

        if (t->error < 0)
                return t->error;
        if (t->n_checks + t->n_writes > KV_TXN_ITEMS_MAX)
                return -E2BIG;

        op = NEW0(Op, 1);
        if (!op)
                return -ENOMEM;
        *op = (Op) { .registry = r,
                     .done = done,
                     .userdata = userdata,
                     .value = t->value,
                     .ret_value = t->ret_value };

        if (t->n_writes == 0) {
                op->empty = DEFERRED(op_on_empty, op);
                loop_defer(r->loop, &op->empty);
        } else {
                e = kv_propose(r->store,
                               &(KvCommand) { .op = KV_TXN,
                                              .internal = true,
                                              .later = t->later,
                                              .term = term,
                                              .checks = t->checks,
                                              .n_checks = t->n_checks,
                                              .writes = t->writes,
                                              .n_writes = t->n_writes },
                               op_on_result, op, &op->number);
                if (e < 0)
                        return e;
        }

        op->next = r->ops;
        if (op->next)
                op->next->prev = op;
        r->ops = op;
        (void) TAKE_PTR(op);
        return 0;
}

void registry_forget(Registry *r, const void *userdata) {
        for (Op *op = r->ops; op; op = op->next)
                if (op->userdata == userdata) {
                        op->done = NULL;
                        op->ret_value = NULL;
                }
}

/* -- Life -- */

int registry_new(Registry **ret, Loop *loop, KvStore *store, const char *machine_id) {
        Registry *r = NEW0(Registry, 1);

        if (!r)
                return -ENOMEM;

        r->loop = loop;
        r->store = store;
        snprintf(r->machine_id, sizeof(r->machine_id), "%s", machine_id);
        r->again = TIMER(read_again, r);
        r->slice = DEFERRED(on_slice, r);
        r->drain = DEFERRED(on_drain, r);
        registry_reset(r);
        *ret = r;
        return 0;
}

Registry *registry_free(Registry *r) {
        if (!r)
                return NULL;

        assert(!r->listeners);
        for (Op *op = r->ops, *next; op; op = next) {
                next = op->next;
                if (op->number > 0)
                        kv_cancel(r->store, op->number);
                deferred_cancel(&op->empty);
                free(op);
        }
        r->watch = watch_close(r->watch);
        timer_stop(&r->again);
        deferred_cancel(&r->slice);
        deferred_cancel(&r->drain);
        cluster_done(&r->cluster);
        cluster_done(&r->next);
        cluster_done(&r->old);
        free(r);
        return NULL;
}
