#include "kvstore/hub.h"

#include "kvstore/apply/events.h"
#include "kvstore/hub_places.h"
#include "kvstore/hub_window.h"

struct KvWatch {
        Hub *hub;
        const KvWatchOps *ops;
        void *userdata;
        Place *place; /* NULL: no new events are queued */
        LIST_ENTRY(KvWatch) at_place;
        LIST_ENTRY(KvWatch) all; /* with a place */
        TAILQ_ENTRY(KvWatch) ready_entries;
        KvWatchOptions options; /* 'key' is the copy below */
        bool ready;             /* something is to be delivered */
        bool calling, closed, cleared;
        KvWatchEvent **pending;
        size_t first, n_pending, capacity;
        char key[];
};

struct Hub {
        Loop *loop;
        HubWindow windows[_TREE_WINDOW_MAX];
        Places places;
        LIST_HEAD(, KvWatch) all;
        TAILQ_HEAD(, KvWatch) ready;
        unsigned n_watches;
        uint64_t index;                         /* of the last event */
        uint64_t reached;                       /* see hub_reached() */
        STAILQ_HEAD(, KvWatchEvent) unsearched; /* whose watchers are still to be found, in order */
        size_t n_unsearched;
        uint64_t unsearched_bytes;
        uint64_t visits; /* what the search has cost in this turn of the loop */
        Deferred deliver;
};

/* Return whether events of the window may concern a watch of 'key'. */
static bool window_concerns(size_t window, KvBytes key, bool internal) {
        bool ours = kv_path_is_ours(key);

        return window == TREE_WINDOW_USERS ? !ours : internal && (ours || key.size == 1);
}

static uint64_t oldest_for(const Hub *hub, KvBytes key, bool internal) {
        uint64_t oldest = 0;

        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                if (window_concerns(i, key, internal))
                        oldest = MAX(oldest, hub->windows[i].oldest);
        return oldest;
}

/* -- Watches -- */

static void watch_make_ready(KvWatch *watch) {
        Hub *hub = watch->hub;

        if (watch->ready)
                return;
        watch->ready = true;
        if (watch->options.internal) /* clients with many events do not delay the daemon's own components */
                TAILQ_INSERT_HEAD(&hub->ready, watch, ready_entries);
        else
                TAILQ_INSERT_TAIL(&hub->ready, watch, ready_entries);
        loop_defer(hub->loop, &hub->deliver);
}

static void watch_not_ready(KvWatch *watch) {
        if (watch->ready)
                TAILQ_REMOVE(&watch->hub->ready, watch, ready_entries);
        watch->ready = false;
}

static void watch_attach(KvWatch *watch, Place *place) {
        Hub *hub = watch->hub;

        watch->place = place;
        if (watch->options.recursive)
                LIST_INSERT_HEAD(&place->recursive, watch, at_place);
        else
                LIST_INSERT_HEAD(&place->exact, watch, at_place);
        LIST_INSERT_HEAD(&hub->all, watch, all);
        hub->n_watches++;
}

static void watch_detach(KvWatch *watch) {
        Place *place = watch->place;
        Hub *hub = watch->hub;

        if (!place)
                return;
        LIST_REMOVE(watch, at_place);
        LIST_REMOVE(watch, all);
        watch->place = NULL;
        hub->n_watches--;
        places_prune(&hub->places, place);
}

static void watch_drop_pending(KvWatch *watch) {
        for (; watch->n_pending > 0; watch->n_pending--)
                hub_event_unref(watch->pending[watch->first++]);
        free(watch->pending);
        watch->pending = NULL;
        watch->first = watch->capacity = 0;
}

static void watch_free(KvWatch *watch) {
        watch_detach(watch);
        watch_not_ready(watch);
        watch_drop_pending(watch);
        free(watch);
}

/* End the watch; its owner is notified from the loop. It stays at its place until then, because a search may
 * be about to pass it. */
static void watch_clear(KvWatch *watch) {
        watch_drop_pending(watch);
        watch->cleared = true;
        watch_make_ready(watch);
}

static void watch_queue(KvWatch *watch, KvWatchEvent *event) {
        if (watch->options.once && watch->n_pending > 0)
                return;
        if (watch->n_pending == HUB_PENDING_MAX ||
            GROW(watch->pending, watch->capacity, watch->first + watch->n_pending + 1) < 0) {
                watch_clear(watch);
                return;
        }
        watch->pending[watch->first + watch->n_pending++] = hub_event_ref(event);
        watch_make_ready(watch);
}

/* Return the oldest event. The array is freed with the last one, so that a parked watch is small. */
static KvWatchEvent *watch_pop(KvWatch *watch) {
        KvWatchEvent *event = watch->pending[watch->first++];

        if (--watch->n_pending == 0) {
                watch_drop_pending(watch);
        } else if (watch->first >= HUB_PENDING_MAX) {
                memmove(watch->pending, watch->pending + watch->first,
                        watch->n_pending * sizeof(*watch->pending));
                watch->first = 0;
        }
        return event;
}

bool kv_watch_is_current(const KvWatch *watch) {
        return watch->n_pending == 0 && !watch->cleared &&
               (STAILQ_EMPTY(&watch->hub->unsearched) || watch->options.since > watch->hub->index);
}

bool kv_watch_progress(const KvWatch *watch, uint64_t *index) {
        const KvWatchEvent *first = STAILQ_FIRST(&watch->hub->unsearched);

        if (watch->n_pending > 0 || watch->cleared)
                return false;
        if (first && first->event.index >= watch->options.since)
                *index = MIN(*index, first->event.index - 1);
        *index = MIN(*index, watch->hub->reached);
        return true;
}

static bool watch_is_shown(const KvWatch *watch, const KvEvent *event) {
        return !watch->ops->sees || watch->ops->sees(watch->userdata, event);
}

static bool watch_may_see(const KvWatch *watch, const KvEvent *event) {
        return !watch->cleared && (watch->options.refreshes || !event->refresh) &&
               event->index >= watch->options.since &&
               (watch->options.internal || !kv_path_is_ours(event->node.key)) && watch_is_shown(watch, event);
}

static bool event_ends_dir(const KvEvent *event) {
        return event->node.dir && (event->action == KV_ACTION_DELETE || event->action == KV_ACTION_EXPIRE);
}

/* The whole rule, for an event of the window. Whether the watched key existed then is not known any more. */
static bool watch_wants(const KvWatch *watch, const KvEvent *event) {
        KvBytes key = watch->options.key;

        if (!watch_may_see(watch, event))
                return false;
        if (kv_bytes_equal(event->node.key, key))
                return true;
        if (watch->options.recursive && kv_path_is_below(event->node.key, key))
                return !watch->options.hidden_rule || !kv_path_hidden_from(event->node.key, key);
        return event_ends_dir(event) && kv_path_is_below(key, event->node.key);
}

/* -- Search for the watchers of an event -- */

static void queue_for(Hub *hub, const struct PlaceWatches *watches, KvWatchEvent *event, bool hidden) {
        KvWatch *watch;

        LIST_FOREACH(watch, watches, at_place) {
                hub->visits++;
                if (watch_may_see(watch, &event->event) && !(hidden && watch->options.hidden_rule))
                        watch_queue(watch, event);
        }
}

/* An event reaches a place: what a watch found in the tree behind an earlier event is true until now. */
static void place_reach(Hub *hub, Place *place, const KvWatchEvent *event) {
        hub->visits++;
        if (place->absent_from > 0 && event->event.index > place->absent_from) {
                place->absent = true;
                place->absent_from = 0;
        }
}

/* Queue the deletion of a directory for the watches of a place below it, if it existed, and of all places
 * below. */
static void queue_below(Hub *hub, Place *place, KvWatchEvent *event) {
        Place *child;

        place_reach(hub, place, event);
        if (!place->absent) {
                queue_for(hub, &place->recursive, event, false);
                queue_for(hub, &place->exact, event, false);
        }
        place->absent = true;
        LIST_FOREACH(child, &place->children, siblings)
                queue_below(hub, child, event);
}

/* Return where the last hidden segment of a path begins; 0 if there is none. Nothing is hidden from a watch
 * of an ancestor that is at least as long. */
static size_t last_hidden(KvBytes path) {
        const char *p = path.data;

        for (size_t i = path.size - 1; i > 0; i--)
                if (p[i] == '_' && p[i - 1] == '/')
                        return i;
        return 0;
}

static void hub_search(Hub *hub, KvWatchEvent *event) {
        KvBytes key = event->event.node.key;
        size_t hidden = last_hidden(key), common;
        bool gone = event->event.action == KV_ACTION_DELETE || event->event.action == KV_ACTION_CAD ||
                    event->event.action == KV_ACTION_EXPIRE;
        Place *place = hub->places.root, *child;

        hub->visits++;
        while (key.size > 1 && place->size < key.size) {
                queue_for(hub, &place->recursive, event, hidden > 0 && place->size + 1 <= hidden);
                child = places_next(&hub->places, place, key, &common);
                if (!child)
                        return;
                if (common < child->size) {
                        if (common == key.size && event_ends_dir(&event->event))
                                queue_below(hub, child, event);
                        return;
                }
                place = child;
                place_reach(hub, place, event);
                place->absent = gone && place->size == key.size;
        }
        queue_for(hub, &place->recursive, event, false);
        queue_for(hub, &place->exact, event, false);
        if (event_ends_dir(&event->event))
                LIST_FOREACH(child, &place->children, siblings)
                        queue_below(hub, child, event);
}

static void unsearched_drop_first(Hub *hub) {
        KvWatchEvent *e = STAILQ_FIRST(&hub->unsearched);

        STAILQ_REMOVE_HEAD(&hub->unsearched, unsearched);
        hub->n_unsearched--;
        hub->unsearched_bytes -= hub_event_size(&e->event);
        hub_event_unref(e);
}

/* Clear the watches: not every event reaches them. They may start again from the window. */
static void clear_watches(Hub *hub, bool once_too) {
        KvWatch *watch;

        places_forget_absence(&hub->places);
        while (!STAILQ_EMPTY(&hub->unsearched))
                unsearched_drop_first(hub);
        LIST_FOREACH(watch, &hub->all, all)
                if (once_too || !watch->options.once || watch->n_pending == 0)
                        watch_clear(watch);
}

static void search_later(Hub *hub, KvWatchEvent *event) {
        uint64_t bytes = hub_event_size(&event->event);

        if (hub->n_unsearched == HUB_PENDING_MAX || hub->unsearched_bytes + bytes > HUB_UNSEARCHED_BYTES) {
                clear_watches(hub, false);
                return;
        }
        event->refs++;
        STAILQ_INSERT_TAIL(&hub->unsearched, event, unsearched);
        hub->n_unsearched++;
        hub->unsearched_bytes += bytes;
        loop_defer(hub->loop, &hub->deliver);
}

/* -- Publishing -- */

void hub_reached(Hub *hub, uint64_t index) {
        hub->reached = index;
}

void hub_publish(Hub *hub, const KvEvent *event) {
        bool ours = kv_path_is_ours(event->node.key);
        KvWatchEvent *e = hub_window_add(&hub->windows[ours ? TREE_WINDOW_OURS : TREE_WINDOW_USERS], event);
        uint64_t visits = hub->visits;

        if (!e) {
                hub_cleared(hub, event->index);
                return;
        }
        hub->index = event->index;
        if (STAILQ_EMPTY(&hub->unsearched) && hub->visits < HUB_VISITS_PER_TURN)
                hub_search(hub, e);
        else if (hub->n_watches > 0)
                search_later(hub, e);
        hub_event_unref(e);
        loop_count(hub->loop, hub->visits - visits, hub_event_size(event));
}

void hub_cleared(Hub *hub, uint64_t index) {
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                hub_window_clear(&hub->windows[i], index);
        hub->index = index;
        clear_watches(hub, true);
}

void hub_set_oldest(Hub *hub, uint64_t oldest) {
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                hub->windows[i].oldest = MIN(hub->windows[i].oldest, oldest);
}

static int hub_load_event(void *userdata, uint64_t index, KvBytes bytes) {
        HubWindow *w = userdata;
        KvWatchEvent *e;
        KvEvent event;

        TRY(event_decode(index, bytes.data, bytes.size, &event));
        e = hub_window_add(w, &event);
        if (!e) {
                hub_window_clear(w, index);
                return -ENOMEM;
        }
        hub_event_unref(e);
        return 1;
}

int hub_load(Hub *hub, TreeTxn *txn) {
        TreeMeta meta;
        int r = tree_meta(txn, &meta);

        for (unsigned i = 0; r >= 0 && i < _TREE_WINDOW_MAX; i++) {
                hub->windows[i].oldest = meta.windows[i].oldest;
                r = tree_events(txn, i, hub_load_event, &hub->windows[i]);
        }
        return r;
}

/* -- Delivery -- */

/* Deliver one event, or the end of the watch. The callback may close the watch, which is then freed here. */
static void deliver_one(KvWatch *watch) {
        Hub *hub = watch->hub;
        KvWatchEvent *event;

        watch_not_ready(watch);
        watch->calling = true;
        if (watch->cleared) {
                watch_detach(watch);
                watch->ops->on_cleared(watch->userdata,
                                       oldest_for(hub, watch->options.key, watch->options.internal),
                                       hub->index);
                watch->closed = true;
        } else {
                event = watch_pop(watch);
                if (watch_is_shown(watch, &event->event)) { /* rights may have changed since it was queued */
                        if (watch->options.once)
                                watch_detach(watch);
                        watch->ops->on_event(watch->userdata, event);
                        watch->closed |= watch->options.once;
                }
                hub_event_unref(event);
        }
        watch->calling = false;

        if (watch->closed)
                watch_free(watch);
        else if (watch->n_pending > 0 || watch->cleared)
                watch_make_ready(watch);
}

static void hub_deliver(void *userdata) {
        Hub *hub = userdata;
        uint64_t before;

        hub->visits = 0;
        while (hub->visits < HUB_VISITS_PER_TURN && !STAILQ_EMPTY(&hub->unsearched)) {
                hub_search(hub, STAILQ_FIRST(&hub->unsearched));
                unsearched_drop_first(hub);
        }
        loop_count(hub->loop, hub->visits, 0);
        before = turn_work_bytes(&loop_turns(hub->loop)->now);
        for (unsigned n = 0; n < HUB_WAKE_PER_TURN && !TAILQ_EMPTY(&hub->ready) &&
                             turn_work_bytes(&loop_turns(hub->loop)->now) - before < HUB_WORK_PER_TURN;
             n++)
                deliver_one(TAILQ_FIRST(&hub->ready));
        if (!TAILQ_EMPTY(&hub->ready) || !STAILQ_EMPTY(&hub->unsearched))
                loop_defer(hub->loop, &hub->deliver);
}

/* -- Opening and closing -- */

/* Queue the events of the windows for a watch, in the order of their indexes over both windows. An
 * event that does not concern it costs a quarter of one that does. */
static void watch_read_windows(KvWatch *watch) {
        Hub *hub = watch->hub;
        size_t at[_TREE_WINDOW_MAX];
        uint64_t quarters = 0;

        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                at[i] = window_concerns(i, watch->options.key, watch->options.internal) ?
                                hub_window_find(&hub->windows[i], watch->options.since) :
                                hub->windows[i].n;
        while (!watch->cleared && !(watch->options.once && watch->n_pending > 0)) {
                KvWatchEvent *first = NULL;
                size_t from = 0;

                for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                        KvWatchEvent *e = at[i] < hub->windows[i].n ? hub_window_at(&hub->windows[i], at[i]) :
                                                                      NULL;

                        if (e && (!first || e->event.index < first->event.index))
                                first = e, from = i;
                }
                if (!first)
                        break;
                at[from]++;
                quarters++;
                if (!watch_wants(watch, &first->event))
                        continue;
                quarters += 3;
                watch_queue(watch, first);
        }
        loop_count(hub->loop, quarters / 4, 0);
}

int hub_watch(Hub *hub, const KvWatchOptions *options, const KvWatchOps *ops, void *userdata, KvWatch **ret,
              uint64_t *ret_oldest) {
        uint64_t oldest = oldest_for(hub, options->key, options->internal);
        KvWatch *watch;
        Place *place;

        if (options->since > 0 && options->since < oldest) {
                *ret_oldest = oldest;
                return -ESTALE;
        }
        if (hub->n_watches >= HUB_WATCHES_MAX)
                return -ENOBUFS;

        watch = calloc(1, sizeof(KvWatch) + options->key.size);
        if (!watch)
                return -ENOMEM;
        place = places_add(&hub->places, options->key);
        if (!place) {
                free(watch);
                return -ENOMEM;
        }
        if (options->absent && place->absent_from == 0)
                place->absent_from = MAX(hub->index, (uint64_t) 1);
        *watch = (KvWatch) { .hub = hub, .ops = ops, .userdata = userdata, .options = *options };
        watch->options.key.data = memcpy(watch->key, options->key.data, options->key.size);
        if (options->since == 0)
                watch->options.since = hub->index + 1;
        watch_attach(watch, place);
        if (options->since > 0) {
                watch_read_windows(watch);
                watch->options.since = MAX(
                        watch->options.since,
                        hub->index + 1); /* the windows had the events that are not searched yet */
        }
        *ret = watch;
        return 0;
}

static void watch_move(KvWatch *watch, Hub *to, uint64_t index) {
        uint64_t since = MAX(watch->options.since, index + 1);
        Place *place = NULL;

        assert(!watch->calling);
        watch_not_ready(watch);
        watch_detach(watch);
        watch->hub = to;
        if (!watch->cleared && to->n_watches < HUB_WATCHES_MAX &&
            since >= oldest_for(to, watch->options.key, watch->options.internal))
                place = places_add(&to->places, watch->options.key);
        if (!place) {
                watch_clear(watch);
                return;
        }
        watch_attach(watch, place);
        if (watch->n_pending > 0)
                watch_make_ready(watch);
        watch->options.since = since;
        watch_read_windows(watch);
        watch->options.since = MAX(since, to->index + 1);
}

void hub_move(Hub *from, uint64_t index, Hub *(*to)(void *userdata, const KvWatchOptions *options),
              void *userdata) {
        while (!STAILQ_EMPTY(&from->unsearched)) {
                hub_search(from, STAILQ_FIRST(&from->unsearched));
                unsearched_drop_first(from);
        }
        for (KvWatch *watch = LIST_FIRST(&from->all), *next; watch; watch = next) {
                Hub *hub = to(userdata, &watch->options);

                next = LIST_NEXT(watch, all);
                if (hub)
                        watch_move(watch, hub, index);
        }
        /* Without a place: cleared by a move before this one. */
        for (KvWatch *watch = TAILQ_FIRST(&from->ready), *next; watch; watch = next) {
                Hub *hub = watch->place ? NULL : to(userdata, &watch->options);

                next = TAILQ_NEXT(watch, ready_entries);
                if (!hub)
                        continue;
                watch_not_ready(watch);
                watch->hub = hub;
                watch_make_ready(watch);
        }
}

KvWatch *kv_watch_close(KvWatch *watch) {
        if (!watch)
                return NULL;
        if (watch->calling) {
                watch->closed = true;
                watch_detach(watch);
        } else {
                watch_free(watch);
        }
        return NULL;
}

int hub_new(Hub **ret, Loop *loop, size_t window, uint64_t index) {
        Hub *hub = NEW0(Hub, 1);
        int r;

        if (!hub)
                return -ENOMEM;
        *hub = (Hub) {
                .loop = loop, .index = index, .reached = UINT64_MAX, .deliver = DEFERRED(hub_deliver, hub)
        };
        TAILQ_INIT(&hub->ready);
        STAILQ_INIT(&hub->unsearched);
        r = places_init(&hub->places);
        for (size_t i = 0; r == 0 && i < _TREE_WINDOW_MAX; i++)
                r = hub_window_init(&hub->windows[i], window > 0 ? window : HUB_WINDOW, index);
        if (r < 0) {
                hub_free(hub);
                return r;
        }
        *ret = hub;
        return 0;
}

Hub *hub_free(Hub *hub) {
        if (!hub)
                return NULL;

        assert(hub->n_watches == 0 && TAILQ_EMPTY(&hub->ready));
        while (!STAILQ_EMPTY(&hub->unsearched))
                unsearched_drop_first(hub);
        deferred_cancel(&hub->deliver);
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                hub_window_done(&hub->windows[i]);
        places_done(&hub->places);
        free(hub);
        return NULL;
}

size_t hub_window_bytes(const Hub *hub) {
        size_t bytes = 0;

        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                bytes += hub_window_memory(&hub->windows[i]);
        return bytes;
}

unsigned hub_watches(const Hub *hub) {
        return hub->n_watches;
}
