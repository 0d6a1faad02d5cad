/* The watch of /_fleet, and the operations in flight.
 *
 * A scan reads all keys in slices, so that no turn of the loop is long. A watch from the index after the
 * scan's start reports the changes during and after the scan. A slice may be newer than the events that
 * follow: an older event puts a previous value back, until the newer event follows. So the new cluster view
 * is complete when the scan is, and no event is left; until then, the previous one is in use. After the watch
 * lost events (a snapshot, a full event window), the registry scans again. */
#include "fleetd/registry/view.h"

#include "base/log.h"
#include "fleetd/registry/cluster_keys.h"
#include "fleetd/registry/data.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/principal.h"
#include "fleetd/registry/proposal_rights.h"
#include "fleetd/registry/slice.h"

enum {
        RETRY_MS = 100,
        SLICE_NODES = 500, /* some ms; a count, not a time, so that simulations are deterministic */
        SLICE_BYTES = 256 * 1024,
        MESSAGE_SIZE = 256, /* of a result, for people */
};

typedef struct Op Op;

struct Registry {
        Loop *loop;
        KvStore *store;
        char machine_id[MACHINE_ID_SIZE];
        char principal[PRINCIPAL_TEXT_SIZE]; /* of the next transaction; "": this host */
        Cluster views[3]; /* what the next three point to; a view has lists, so that it cannot be copied */
        Cluster *cluster; /* current, or the last one that was complete */
        Cluster *next;    /* being read */
        Cluster *old;     /* being released */
        bool complete;    /* 'cluster' is; it follows the events */
        bool codeless;
        char scanned_to[LAYOUT_KEY_MAX]; /* last key of the previous slice; "": none */
        bool scan_complete;
        size_t n_nodes, n_bytes; /* of this slice */
        Deferred slice, drain;
        KvWatch *watch;
        Timer retry;
        LIST_HEAD(, RegistryObserver) observers;
        LIST_HEAD(, Op) ops; /* in flight */
        RegistryCounts counts;
        uint64_t refused_at; /* KvResult.refused_at of the transaction whose 'done' is being called */
};

struct Op {
        Registry *registry;
        RegistryDone done;
        void *userdata;
        uint64_t number;
        HistoryEvent *events; /* owned; rows that are logged when they are written */
        size_t n_events;
        Deferred empty;                      /* reports the result of a transaction without writes */
        RegistrySequence sequence;           /* owned; without 'next': one transaction */
        char principal[PRINCIPAL_TEXT_SIZE]; /* of the sequence */
        LIST_ENTRY(Op) ops;
};

static const char registry_root[] = "/_fleet";

/* -- Scan and watch -- */

/* Return the view that receives nodes and events, at the present cluster time. */
static Cluster *registry_target(Registry *r) {
        Cluster *c = r->complete ? r->cluster : r->next;

        c->now_ms = kv_cluster_ms(r->store);
        return c;
}

static int registry_put_node(Registry *r, const KvNode *node) {
        Error err = {};
        bool known;
        int e;

        if (node->dir)
                return 1;
        known = cluster_is_unreadable(r->cluster, node->key);
        e = cluster_put(registry_target(r), node, &err);
        if (e == -ENOMEM)
                return e;
        if (e < 0 && !known)
                log_warning(
                        ((LogFields) { .error = e, .index = node->modified }),
                        "a key cannot be read by this fleetd; its unit or machine is left unchanged until "
                        "this host is upgraded: %s",
                        error_text(&err, e));
        return 1;
}

static int registry_on_node(void *userdata, const KvNode *node) {
        Registry *r = userdata;
        LayoutKey k;

        TRY(registry_put_node(r, node));

        r->n_nodes++;
        r->n_bytes += node->value.size;
        if ((r->n_nodes < SLICE_NODES && r->n_bytes < SLICE_BYTES) || node->dir ||
            !layout_parse(node->key, &k))
                return 1;
        snprintf(r->scanned_to, sizeof(r->scanned_to), "%.*s", (int) node->key.size,
                 (const char *) node->key.data);
        r->scan_complete = false;
        return 0;
}

static void registry_on_touched(void *userdata, const char *machine, const LayoutKey *key) {
        Registry *r = userdata;
        char path[LAYOUT_KEY_MAX];

        layout_key(path, key->kind, key->unit, key->machine);
        kv_slice_touched(r->store, machine, kv_string(path));
}

static void registry_notify(Registry *r, const RegistryChange *change) {
        if (change->key)
                slice_route(r->cluster, change, registry_on_touched, r);
        else
                kv_slices_reset(r->store);
        kv_slices_advanced(r->store);
        for (RegistryObserver *o = LIST_FIRST(&r->observers), *next; o; o = next) {
                next = LIST_NEXT(o, observers);
                o->on_change(o->userdata, change);
        }
}

static void registry_scan_later(Registry *r, uint64_t delay_ms) {
        r->complete = false;
        r->watch = kv_watch_close(r->watch);
        deferred_cancel(&r->slice);
        /* Without memory for a timer, the store's next reset starts the scan. */
        (void) timer_start(&r->retry, r->loop, delay_ms);
}

static void registry_on_drain(void *userdata) {
        Registry *r = userdata;

        if (!cluster_drain(r->old, SLICE_NODES))
                loop_defer(r->loop, &r->drain);
}

/* Replace the cluster view by the one that is now complete. */
static void registry_finish_scan(Registry *r) {
        KvPosition position;
        Cluster *empty;

        kv_position(r->store, &position);
        cluster_done(r->old);
        empty = r->old;
        r->old = r->cluster;
        r->cluster = r->next;
        r->next = empty;
        r->cluster->lineage = position.lineage;
        r->complete = true;
        registry_on_drain(r);
        registry_notify(r, &(RegistryChange) { .kind = CHANGED_ALL, .index = r->cluster->index });
}

/* Write the owner of the unit whose key this is; "" for other keys, and units without an owner. */
static void registry_read_owner(const Cluster *c, KvBytes key, char ret[static MACHINE_ID_SIZE]) {
        const ClusterUnit *u;
        LayoutKey k;

        u = layout_parse(key, &k) && k.kind == LAYOUT_UNIT ? cluster_any_unit(c, k.unit) : NULL;
        if (u && u->owner)
                memcpy(ret, u->owner->machine, MACHINE_ID_SIZE);
}

static bool registry_has_owner(const Cluster *c, const char *unit, const char *owner) {
        const ClusterUnit *u = cluster_any_unit(c, unit);

        return u && u->owner && streq(u->owner->machine, owner);
}

static void registry_on_event(void *userdata, KvWatchEvent *event) {
        Registry *r = userdata;
        Cluster *target = registry_target(r);
        const KvEvent *e = &event->event;
        bool removed = e->action == KV_ACTION_DELETE || e->action == KV_ACTION_EXPIRE ||
                       e->action == KV_ACTION_CAD;
        char former_owner[MACHINE_ID_SIZE] = "";
        char services[SERVICES_MAX][SERVICE_NAME_MAX + 1];
        const ClusterEndpoint *endpoint = NULL;
        unsigned groups = 0;
        RegistryChange change;
        LayoutKey k;
        int result;

        registry_read_owner(target, e->node.key, former_owner);
        if (layout_parse(e->node.key, &k)) {
                groups = slice_groups(target, k.machine);
                endpoint = cluster_endpoint(target, k.machine, k.unit);
        }
        if (endpoint)
                memcpy(services, endpoint->record.services, sizeof(services));
        target->index = MAX(target->index, e->index);
        result = removed ? cluster_remove(target, e->node.key) : registry_put_node(r, &e->node);
        /* Charge the loop for the index of rules: a small request may remove a unit with thousands of them.
         */
        loop_count(r->loop, target->filed.nodes, target->filed.bytes);
        target->filed = (TurnWork) {};
        if (result < 0) {
                log_error(((LogFields) { .error = result, .index = e->index }),
                          "Failed to apply a change to the registry: %s; reading all keys again",
                          strerror(-result));
                registry_scan_later(r, RETRY_MS);
                return;
        }
        if (!r->complete) {
                if (r->scan_complete)
                        loop_defer(r->loop, &r->slice);
                return;
        }

        if (layout_parse(e->node.key, &k))
                change = kinds_change(&k, e->index, removed);
        else if (removed)
                change = (RegistryChange) { .kind = CHANGED_ALL, .index = e->index }; /* a directory */
        else
                return;
        if (former_owner[0] && !registry_has_owner(target, k.unit, former_owner))
                change.former_owner = former_owner;
        if (endpoint && k.kind == LAYOUT_ENDPOINT)
                change.former_services = services;
        change.groups = groups;
        registry_notify(r, &change);
}

static void registry_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Registry *r = userdata;

        /* The hub is closing the watch: open the next one after this callback. */
        r->watch = NULL;
        log_debug(NO_FIELDS, "the registry's watch lost events; reading all keys again");
        registry_scan_later(r, 0);
}

static void registry_scan_failed(Registry *r, int error) {
        log_debug(((LogFields) { .error = error }), "Failed to read the registry: %s; trying again",
                  strerror(-error));
        registry_scan_later(r, RETRY_MS);
}

/* Return false after a failure: the scan begins again. */
static bool registry_scan_slice(Registry *r) {
        KvRange range = { .key = kv_string(registry_root),
                          .after = kv_string(r->scanned_to),
                          .recursive = true };
        int e;

        r->scan_complete = true;
        r->n_nodes = r->n_bytes = 0;
        e = kv_local_walk(r->store, &range, registry_on_node, r);
        if (r->scan_complete && e >= 0)
                r->next->index = MAX(r->next->index, kv_index(r->store));
        if (e >= 0 || e == -ENOENT)
                return true;
        registry_scan_failed(r, e);
        return false;
}

/* Finish after the last slice, if no event is left. */
static void registry_continue_scan(Registry *r, bool no_event_left) {
        if (r->scan_complete && no_event_left)
                registry_finish_scan(r);
        else
                loop_defer(r->loop, &r->slice);
}

static void registry_on_slice(void *userdata) {
        Registry *r = userdata;

        if (registry_scan_slice(r))
                registry_continue_scan(r, kv_watch_is_current(r->watch));
}

void registry_reset(Registry *r) {
        static const KvWatchOps events = { .on_event = registry_on_event, .on_cleared = registry_on_cleared };
        uint64_t oldest = 0, index = kv_index(r->store);
        const KvWatchOptions options = { .key = kv_string(registry_root),
                                         .recursive = true,
                                         .since = index + 1,
                                         .internal = true,
                                         .slice = true };
        int e;

        r->watch = kv_watch_close(r->watch);
        timer_stop(&r->retry);
        deferred_cancel(&r->slice);
        cluster_done(r->next);
        r->complete = false;
        r->scanned_to[0] = 0;

        if (!registry_scan_slice(r))
                return;
        e = kv_watch(r->store, &options, &events, r, &r->watch, &oldest);
        if (e < 0)
                registry_scan_failed(r, e);
        else
                registry_continue_scan(r, true); /* one read transaction: no event is missing */
}

static void registry_on_retry(void *userdata) {
        registry_reset(userdata);
}

const Cluster *registry_cluster(const Registry *r) {
        /* Time, lineage and level are not keys: the watch does not report them. */
        Cluster *c = r->cluster;
        KvPosition position;

        kv_position(r->store, &position);
        c->now_ms = kv_cluster_ms(r->store);
        if (c->level != position.level || c->lineage != position.lineage) {
                c->level = position.level;
                c->lineage = position.lineage;
                cluster_update_all_sticky(c);
        }
        return c;
}

bool registry_ready(const Registry *r) {
        return r->complete && registry_cluster(r)->lineage != 0;
}

bool registry_is_current(const Registry *r) {
        return r->complete && kv_watch_is_current(r->watch);
}

void registry_be_codeless(Registry *r) {
        r->codeless = true;
}

bool registry_is_codeless(const Registry *r) {
        return r->codeless;
}

KvStore *registry_store(const Registry *r) {
        return r->store;
}

void registry_count(const Registry *r, uint64_t nodes, uint64_t bytes) {
        loop_count(r->loop, nodes, bytes);
}

const char *registry_machine_id(const Registry *r) {
        return r->machine_id;
}

uint64_t registry_wall_ms(const Registry *r) {
        return loop_wall_ms(r->loop);
}

void registry_observe(Registry *r, RegistryObserver *observer) {
        LIST_INSERT_HEAD(&r->observers, observer, observers);
}

void registry_unobserve(Registry *r, RegistryObserver *observer) {
        RegistryObserver *o = LIST_FIRST(&r->observers);

        while (o && o != observer) /* an owner that failed to start may not be registered */
                o = LIST_NEXT(o, observers);
        if (o)
                LIST_REMOVE(o, observers);
}

uint64_t registry_refused_at(const Registry *r) {
        return r->refused_at;
}

/* -- Slices -- */

typedef struct SliceKeys {
        int (*found)(void *userdata, KvBytes key);
        void *userdata;
} SliceKeys;

static int registry_on_slice_key(void *userdata, const LayoutKey *key) {
        const SliceKeys *keys = userdata;
        char path[LAYOUT_KEY_MAX];

        layout_key(path, key->kind, key->unit, key->machine);
        return keys->found(keys->userdata, kv_string(path));
}

static int registry_each_slice_key(void *userdata, const char *machine,
                                   int (*found)(void *userdata, KvBytes key), void *found_userdata) {
        const Registry *r = userdata;
        SliceKeys keys = { found, found_userdata };

        return slice_each(r->cluster, machine, registry_on_slice_key, &keys);
}

static bool registry_slice_has(void *userdata, const char *machine, KvBytes key) {
        const Registry *r = userdata;
        LayoutKey k;

        return layout_parse(key, &k) && slice_has(r->cluster, machine, &k);
}

static bool registry_slice_may_read(void *userdata, const char *machine, KvBytes key) {
        const Registry *r = userdata;

        return host_may_read(r->cluster, machine, key);
}

uint64_t registry_index(const Registry *r) {
        uint64_t index = kv_index(r->store);

        if (!r->complete)
                return 0;
        /* Other changes of the last index may still be to be applied. */
        return kv_watch_progress(r->watch, &index) ? index : r->cluster->index - (r->cluster->index > 0);
}

static uint64_t registry_slices_index(void *userdata) {
        return registry_index(userdata);
}

/* -- Operations -- */

static const char *op_message(const KvResult *result, char buffer[static MESSAGE_SIZE]) {
        switch (result->status) {
        case KV_OK:
                return "";
        case KV_COMPARE_FAILED:
                snprintf(buffer, MESSAGE_SIZE, "it was changed at the same time (%.*s)",
                         (int) MIN(result->cause.size, 150), (const char *) result->cause.data);
                return buffer;
        case KV_UNKNOWN:
                return "the leader was lost: the change may have taken effect, or may still do so";
        default:
                if (result->cause.size == 0)
                        return kv_status_name(result->status);
                snprintf(buffer, MESSAGE_SIZE, "%.*s", (int) MIN(result->cause.size, MESSAGE_SIZE - 1),
                         (const char *) result->cause.data);
                return buffer;
        }
}

const RegistryCounts *registry_counts(const Registry *r) {
        return &r->counts;
}

/* Presences, rejections and denied requests are logged where they are found. */
static bool op_logs(unsigned kind) {
        return history_message_id(kind) && kind != HISTORY_PRESENCE && kind != HISTORY_REJECTED &&
               kind != HISTORY_DENIED;
}

/* Keep the rows of the transaction that are logged. 0 or -ENOMEM. */
static int op_keep_events(Op *op, const KvCommand *transaction) {
        size_t capacity = 0;
        HistoryEvent event;

        for (size_t i = 0; i < transaction->n_writes; i++) {
                KvBytes body = transaction->writes[i].note.body;

                if (body.size == 0 || history_decode(body, &event) < 0 || !op_logs(event.kind))
                        continue;
                TRY(GROW(op->events, capacity, op->n_events + 1));
                op->events[op->n_events++] = event;
        }
        return 0;
}

static Op *op_free(Op *op) {
        if (!op)
                return NULL;
        free(op->events);
        if (op->sequence.free)
                op->sequence.free(op->sequence.userdata);
        free(op);
        return NULL;
}
DEFINE_CLEANUP(Op *, op_free);

static void op_log(const Op *op, uint64_t index) {
        for (size_t i = 0; i < op->n_events; i++) {
                const HistoryEvent *e = &op->events[i];

                history_log(e, e->machine[0] ? cluster_name_of(op->registry->cluster, e->machine) : "",
                            index);
        }
}

static void op_finish(Op *op, KvStatus status, const char *message, uint64_t index) {
        RegistryDone done = op->done;
        void *userdata = op->userdata;

        *(status == KV_OK ? &op->registry->counts.done : &op->registry->counts.failed) += 1;
        LIST_REMOVE(op, ops);
        if (status == KV_OK)
                op_log(op, index);
        op_free(op);
        if (done)
                done(userdata, status, message, index);
}

static int op_propose_next(Op *op);

static void op_on_result(void *userdata, const KvResult *result) {
        char buffer[MESSAGE_SIZE];
        Op *op = userdata;
        int e = 0;

        op->registry->refused_at = result->status == KV_OK ? 0 : result->refused_at;
        if (result->status == KV_OK && op->sequence.next)
                e = op_propose_next(op);
        if (e < 0)
                op_finish(op, KV_NO_LEADER, strerror(-e), 0);
        else if (e == 0)
                op_finish(op, result->status, op_message(result, buffer), result->index);
}

/* Return 1, 0 at the end of the sequence, or a negative errno. */
static int op_propose_next(Op *op) {
        KvCommand command = { .op = KV_TXN, .internal = true, .principal = kv_string(op->principal) };
        int e;

        if (!op->sequence.next(op->sequence.userdata, &command))
                return 0;
        e = op_keep_events(op, &command);
        if (e >= 0)
                e = kv_propose(op->registry->store, &command, op_on_result, op, &op->number);
        return e < 0 ? e : 1;
}

static void op_on_empty(void *userdata) {
        Op *op = userdata;

        op_finish(op, KV_OK, "", kv_index(op->registry->store));
}

void registry_propose_for(Registry *r, const char *principal) {
        snprintf(r->principal, sizeof(r->principal), "%s", principal);
}

int registry_propose(Registry *r, const KvCommand *transaction, RegistryDone done, void *userdata) {
        _cleanup_(op_freep) Op *op = NEW0(Op, 1);
        char principal[PRINCIPAL_TEXT_SIZE];
        KvCommand command = *transaction;

        memcpy(principal, r->principal, sizeof(principal));
        command.principal = kv_string(principal);
        registry_propose_for(r, "");

        if (!op)
                return -ENOMEM;
        *op = (Op) { .registry = r, .done = done, .userdata = userdata };
        TRY(op_keep_events(op, transaction));

        if (transaction->n_writes == 0) {
                op->empty = DEFERRED(op_on_empty, op);
                loop_defer(r->loop, &op->empty);
        } else {
                TRY(kv_propose(r->store, &command, op_on_result, op, &op->number));
        }

        LIST_INSERT_HEAD(&r->ops, op, ops);
        (void) TAKE_PTR(op);
        return 0;
}

int registry_propose_sequence(Registry *r, const RegistrySequence *sequence, RegistryDone done,
                              void *userdata) {
        _cleanup_(op_freep) Op *op = NEW0(Op, 1);
        int e;

        if (op) {
                *op = (Op) { .registry = r, .done = done, .userdata = userdata, .sequence = *sequence };
                memcpy(op->principal, r->principal, sizeof(r->principal));
        } else
                sequence->free(sequence->userdata);
        registry_propose_for(r, "");
        e = TRY(op ? op_propose_next(op) : -ENOMEM);
        assert(e > 0);
        LIST_INSERT_HEAD(&r->ops, op, ops);
        (void) TAKE_PTR(op);
        return 0;
}

void registry_cancel(Registry *r, const void *userdata) {
        for (Op *op = LIST_FIRST(&r->ops); op; op = LIST_NEXT(op, ops))
                if (op->userdata == userdata)
                        op->done = NULL;
}

/* -- Lifetime -- */

int registry_new(Registry **ret, Loop *loop, KvStore *store, const char *machine_id) {
        Registry *r = NEW0(Registry, 1);
        Error err = {};

        if (!r)
                return -ENOMEM;
        if (kinds_check(kinds, &err) < 0) {
                log_error(NO_FIELDS, "%s", err.message);
                free(r);
                return -EINVAL;
        }

        r->loop = loop;
        r->store = store;
        r->cluster = &r->views[0];
        r->next = &r->views[1];
        r->old = &r->views[2];
        snprintf(r->machine_id, sizeof(r->machine_id), "%s", machine_id);
        r->retry = TIMER(registry_on_retry, r);
        r->slice = DEFERRED(registry_on_slice, r);
        r->drain = DEFERRED(registry_on_drain, r);
        kv_set_slices(store, &(KvSlices) { .each = registry_each_slice_key,
                                           .has = registry_slice_has,
                                           .may_read = registry_slice_may_read,
                                           .index = registry_slices_index,
                                           .userdata = r });
        registry_reset(r);
        *ret = r;
        return 0;
}

Registry *registry_free(Registry *r) {
        if (!r)
                return NULL;

        assert(LIST_EMPTY(&r->observers));
        kv_set_slices(r->store, NULL);
        for (Op *op = LIST_FIRST(&r->ops), *next; op; op = next) {
                next = LIST_NEXT(op, ops);
                if (op->number > 0)
                        kv_cancel(r->store, op->number);
                deferred_cancel(&op->empty);
                op_free(op);
        }
        r->watch = kv_watch_close(r->watch);
        timer_stop(&r->retry);
        deferred_cancel(&r->slice);
        deferred_cancel(&r->drain);
        for (size_t i = 0; i < ELEMENTS(r->views); i++)
                cluster_done(&r->views[i]);
        free(r);
        return NULL;
}
