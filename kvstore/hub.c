#include "kvstore/hub.h"

#include <assert.h>
#include <sys/queue.h>

#include "base/blocks.h"
#include "base/table.h"
#include "kvstore/events.h"

/* Watches hang in a compressed tree: one place for each watched path, and one where two such paths part. An
 * event walks down from the root along its key and meets, in turn, the recursive watches of its ancestors and
 * those of its very key; a deleted directory has the watched places below it under it. A watch costs memory
 * in proportion to the length of its path, not a table for each segment.
 *
 * One table finds children. The key of a place is the beginning of its path that ends with the first segment
 * behind its parent's path: no two children of one parent share that. Other places, without watches and with
 * fewer than two children, do not stay. */

typedef struct Place {
        UT_hash_handle hh;
        struct Place *parent;
        LIST_HEAD(, Place) children;
        LIST_ENTRY(Place) siblings;
        KvWatch *exact, *recursive;
        bool absent;          /* see KvWatchOptions; events keep it true to the tree */
        uint64_t absent_from; /* it was absent behind the event of this index, said a watch; 0: none did */
        size_t size;          /* 0: the root */
        char path[];
} Place;

struct KvWatch {
        Hub *hub;
        const KvWatchOps *events;
        void *userdata;
        Place *place;                     /* NULL: no longer told of new events */
        KvWatch *next, *prev;             /* at the place */
        KvWatch *all_next, *all_prev;     /* all that have a place */
        KvWatch *ready_next, *ready_prev; /* those with something to tell */
        bool recursive, internal, hidden_rule, refreshes, once;
        bool ready, calling, closed, cleared;
        uint64_t since;
        KvWatchEvent **pending;
        size_t first, n_pending, capacity;
        size_t key_size;
        char key[];
};

/* The last events of one owner, bounded as the tree's own windows are. */
typedef struct Window {
        KvWatchEvent **events; /* a ring */
        size_t size, first, n;
        uint64_t bytes;
        Blocks memory;   /* in which all of them are */
        uint64_t oldest; /* from this index on nothing is missing */
} Window;

typedef struct Waiting {
        KvWatchEvent *event;
        STAILQ_ENTRY(Waiting) entries;
} Waiting;

struct Hub {
        Loop *loop;
        Window windows[_TREE_WINDOW_MAX];
        Place *root, *places; /* all but the root, by their keys */
        size_t place_bytes;
        KvWatch *all;
        KvWatch *ready_first, *ready_last;
        unsigned n_watches;
        uint64_t index; /* of the last event */
        /* Events whose watchers are still to be found, in order; and what finding them has cost in this turn.
         */
        STAILQ_HEAD(, Waiting) waiting;
        size_t n_waiting;
        uint64_t waiting_bytes, visits;
        Deferred deliver;
};

/* -- Events -- */

static size_t event_size(const KvEvent *e) {
        return sizeof(KvWatchEvent) + e->node.key.size + e->node.value.size +
               (e->has_prev ? e->prev.value.size : 0);
}

static char *place_bytes(char *at, KvBytes *bytes) {
        if (bytes->size > 0)
                memcpy(at, bytes->data, bytes->size);
        bytes->data = at;
        return at + bytes->size;
}

static KvWatchEvent *event_new(Window *window, const KvEvent *event) {
        KvWatchEvent *e = blocks_alloc(&window->memory, event_size(event));
        char *at;

        if (!e)
                return NULL;
        *e = (KvWatchEvent) { .refs = 1, .event = *event };
        at = place_bytes((char *) (e + 1), &e->event.node.key);
        at = place_bytes(at, &e->event.node.value);
        if (event->has_prev) {
                (void) place_bytes(at, &e->event.prev.value);
                e->event.prev.key = e->event.node.key;
        }
        return e;
}

KvWatchEvent *hub_event_ref(KvWatchEvent *event) {
        event->refs++;
        return event;
}

KvWatchEvent *hub_event_unref(KvWatchEvent *event) {
        if (!event || --event->refs > 0)
                return NULL;
        if (event->encoded)
                shared_unref(event->encoded);
        if (event->line)
                shared_unref(event->line);
        blocks_free(event);
        return NULL;
}

/* -- Windows -- */

static void window_drop_first(Window *w) {
        KvWatchEvent *e = w->events[w->first];

        w->oldest = e->event.index + 1;
        w->bytes -= event_weight(&e->event);
        hub_event_unref(e);
        w->first = (w->first + 1) % w->size;
        w->n--;
}

static void window_add(Window *w, KvWatchEvent *event) {
        if (w->n == w->size)
                window_drop_first(w);
        w->events[(w->first + w->n++) % w->size] = hub_event_ref(event);
        w->bytes += event_weight(&event->event);
        while (w->bytes > TREE_WINDOW_BYTES && w->n > 1)
                window_drop_first(w);
}

static void window_clear(Window *w, uint64_t index) {
        while (w->n > 0)
                window_drop_first(w);
        w->oldest = index + 1;
}

static KvWatchEvent *window_at(const Window *w, size_t i) {
        return w->events[(w->first + i) % w->size];
}

/* The position of the first event at or after 'index'. */
static size_t window_find(const Window *w, uint64_t index) {
        size_t low = 0, high = w->n;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (window_at(w, middle)->event.index < index)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* The windows whose events a watch of 'key' may be told of. */
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

/* -- Places -- */

/* Where the segment ends that begins behind 'at', which is the end of a place's path (0: the root's). */
static size_t segment_end(KvBytes path, size_t at) {
        const char *p = path.data, *slash = memchr(p + at + 1, '/', path.size - at - 1);

        return slash ? (size_t) (slash - p) : path.size;
}

/* How much of a place's path is the beginning of 'path', too, in whole segments; both have the first 'from'
 * bytes in common. */
static size_t common_size(const Place *place, KvBytes path, size_t from) {
        const char *p = path.data;
        size_t n = MIN(place->size, path.size), i = from, common = from;

        for (; i < n && place->path[i] == p[i]; i++)
                if (p[i] == '/')
                        common = i;
        if (i == n && (i == place->size || place->path[i] == '/') && (i == path.size || p[i] == '/'))
                common = n;
        return common;
}

/* The child on the way to 'path', if there is one; it may lie beside the way, behind the segment that ends at
 * *ret_end. */
static Place *place_child(const Hub *hub, const Place *place, KvBytes path, size_t *ret_end) {
        Place *child;

        *ret_end = segment_end(path, place->size);
        HASH_FIND(hh, hub->places, path.data, *ret_end, child);
        return child;
}

static Place *place_new(Hub *hub, KvBytes path) {
        Place *place = calloc(1, sizeof(Place) + path.size);

        if (!place)
                return NULL;
        LIST_INIT(&place->children);
        place->size = path.size;
        if (path.size > 0)
                memcpy(place->path, path.data, path.size);
        hub->place_bytes += sizeof(Place) + path.size;
        return place;
}

static void place_free(Hub *hub, Place *place) {
        hub->place_bytes -= sizeof(Place) + place->size;
        free(place);
}

/* Hangs a place that is in no table below 'parent'. 0 or -ENOMEM. */
static int place_add(Hub *hub, Place *place, Place *parent) {
        size_t end = segment_end((KvBytes) { place->path, place->size }, parent->size);

        HASH_ADD_KEYPTR(hh, hub->places, place->path, end, place);
        if (!TABLE_ADDED(place))
                return -ENOMEM;
        place->parent = parent;
        LIST_INSERT_HEAD(&parent->children, place, siblings);
        return 0;
}

static void place_remove(Hub *hub, Place *place) {
        HASH_DEL(hub->places, place);
        LIST_REMOVE(place, siblings);
}

/* Hangs a place below another one. The table has others in it and does not grow, so that this needs no
 * memory. */
static void place_move(Hub *hub, Place *place, Place *parent) {
        int r;

        place_remove(hub, place);
        hub->places->hh.tbl->noexpand++;
        r = place_add(hub, place, parent);
        assert(r == 0);
        hub->places->hh.tbl->noexpand--;
}

/* Takes away what nobody needs: a place without watches and children, and then its parent; a place where only
 * one way goes on. */
static void place_prune(Hub *hub, Place *place) {
        while (place->parent && !place->exact && !place->recursive) {
                Place *parent = place->parent, *child = LIST_FIRST(&place->children);

                if (child && LIST_NEXT(child, siblings))
                        return;
                if (child)
                        place_move(hub, child, parent);
                place_remove(hub, place);
                place_free(hub, place);
                place = parent;
        }
}

/* Between 'child' and its parent, where the way to 'path' leaves that to the child. */
static Place *place_split(Hub *hub, Place *child, KvBytes path) {
        Place *place = place_new(hub, path);

        if (!place)
                return NULL;
        if (place_add(hub, place, child->parent) < 0) {
                place_free(hub, place);
                return NULL;
        }
        place_move(hub, child, place);
        return place;
}

static Place *place_make(Hub *hub, KvBytes path) {
        Place *place = hub->root, *child;
        size_t end, common;

        if (path.size == 1)
                return place;
        while (place->size < path.size) {
                child = place_child(hub, place, path, &end);
                if (!child) {
                        child = place_new(hub, path);
                        if (child && place_add(hub, child, place) < 0) {
                                place_free(hub, child);
                                child = NULL;
                        }
                } else {
                        common = common_size(child, path, end);
                        if (common < child->size)
                                child = place_split(hub, child, (KvBytes) { path.data, common });
                }
                if (!child) {
                        place_prune(hub, place);
                        return NULL;
                }
                place = child;
        }
        return place;
}

/* -- Watches -- */

static void watch_make_ready(KvWatch *watch) {
        Hub *hub = watch->hub;

        if (watch->ready)
                return;
        watch->ready = true;
        watch->ready_prev =
                watch->internal ?
                        NULL :
                        hub->ready_last; /* clients that are told much hold up none of our own parts */
        watch->ready_next = watch->internal ? hub->ready_first : NULL;
        *(watch->ready_prev ? &watch->ready_prev->ready_next : &hub->ready_first) = watch;
        *(watch->ready_next ? &watch->ready_next->ready_prev : &hub->ready_last) = watch;
        loop_defer(hub->loop, &hub->deliver);
}

static void watch_not_ready(KvWatch *watch) {
        Hub *hub = watch->hub;

        if (!watch->ready)
                return;
        *(watch->ready_prev ? &watch->ready_prev->ready_next : &hub->ready_first) = watch->ready_next;
        *(watch->ready_next ? &watch->ready_next->ready_prev : &hub->ready_last) = watch->ready_prev;
        watch->ready = false;
}

static void watch_attach(KvWatch *watch, Place *place) {
        KvWatch **head = watch->recursive ? &place->recursive : &place->exact;
        Hub *hub = watch->hub;

        watch->place = place;
        watch->next = *head;
        if (*head)
                (*head)->prev = watch;
        *head = watch;
        watch->all_next = hub->all;
        if (hub->all)
                hub->all->all_prev = watch;
        hub->all = watch;
        hub->n_watches++;
}

static void watch_detach(KvWatch *watch) {
        Place *place = watch->place;
        Hub *hub = watch->hub;

        if (!place)
                return;
        *(watch->prev      ? &watch->prev->next :
          watch->recursive ? &place->recursive :
                             &place->exact) = watch->next;
        if (watch->next)
                watch->next->prev = watch->prev;
        *(watch->all_prev ? &watch->all_prev->all_next : &hub->all) = watch->all_next;
        if (watch->all_next)
                watch->all_next->all_prev = watch->all_prev;
        watch->place = NULL;
        hub->n_watches--;
        place_prune(hub, place);
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

/* The watch ends; its owner hears of it from the loop. Until then it stays where it is: we may be walking
 * past it. */
static void watch_lose_place(KvWatch *watch) {
        watch_drop_pending(watch);
        watch->cleared = true;
        watch_make_ready(watch);
}

static void watch_push(KvWatch *watch, KvWatchEvent *event) {
        if (watch->once && watch->n_pending > 0)
                return;
        if (watch->n_pending == HUB_PENDING_MAX ||
            GROW(watch->pending, watch->capacity, watch->first + watch->n_pending + 1) < 0) {
                watch_lose_place(watch);
                return;
        }
        watch->pending[watch->first + watch->n_pending++] = hub_event_ref(event);
        watch_make_ready(watch);
}

/* The oldest; the room is given back with the last one, so that a parked watch is small. */
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
               (STAILQ_EMPTY(&watch->hub->waiting) || watch->since > watch->hub->index);
}

bool kv_watch_progress(const KvWatch *watch, uint64_t *index) {
        const Waiting *first = STAILQ_FIRST(&watch->hub->waiting);

        if (watch->n_pending > 0 || watch->cleared)
                return false;
        if (first && first->event->event.index >= watch->since)
                *index = MIN(*index, first->event->event.index - 1);
        return true;
}

static KvBytes watch_key(const KvWatch *watch) {
        return (KvBytes) { watch->key, watch->key_size };
}

static bool watch_may_see(const KvWatch *watch, const KvEvent *event) {
        return !watch->cleared && (watch->refreshes || !event->refresh) && event->index >= watch->since &&
               (watch->internal || !kv_path_is_ours(event->node.key));
}

static bool event_ends_dir(const KvEvent *event) {
        return event->node.dir && (event->action == KV_ACTION_DELETE || event->action == KV_ACTION_EXPIRE);
}

/* The whole rule, for an event out of the window. Whether anything was at the watched key then, nobody knows
 * any more. */
static bool watch_wants(const KvWatch *watch, const KvEvent *event) {
        KvBytes key = watch_key(watch);

        if (!watch_may_see(watch, event))
                return false;
        if (kv_bytes_equal(event->node.key, key))
                return true;
        if (watch->recursive && kv_path_is_below(event->node.key, key))
                return !watch->hidden_rule || !kv_path_hidden_from(event->node.key, key);
        return event_ends_dir(event) && kv_path_is_below(key, event->node.key);
}

/* -- Publishing -- */

static void tell(Hub *hub, KvWatch *first, KvWatchEvent *event, bool hidden) {
        for (KvWatch *watch = first; watch; watch = watch->next, hub->visits++)
                if (watch_may_see(watch, &event->event) && !(hidden && watch->hidden_rule))
                        watch_push(watch, event);
}

/* An event reaches a place: what a watch said of the tree behind an earlier one holds until now. */
static void place_reach(Hub *hub, Place *place, const KvWatchEvent *event) {
        hub->visits++;
        if (place->absent_from > 0 && event->event.index > place->absent_from) {
                place->absent = true;
                place->absent_from = 0;
        }
}

/* A watched place below a deleted directory, and all below it, where something was. */
static void tell_below(Hub *hub, Place *place, KvWatchEvent *event) {
        Place *child;

        place_reach(hub, place, event);
        if (!place->absent) {
                tell(hub, place->recursive, event, false);
                tell(hub, place->exact, event, false);
        }
        place->absent = true;
        LIST_FOREACH(child, &place->children, siblings)
        tell_below(hub, child, event);
}

/* Where the last hidden segment of a path begins; 0 if there is none. A watch of an ancestor as long as this
 * or longer has nothing hidden below it. */
static size_t last_hidden(KvBytes path) {
        const char *p = path.data;

        for (size_t i = path.size - 1; i > 0; i--)
                if (p[i] == '_' && p[i - 1] == '/')
                        return i;
        return 0;
}

static void tell_all(Hub *hub, KvWatchEvent *event) {
        KvBytes key = event->event.node.key;
        size_t hidden = last_hidden(key), end, common;
        bool gone = event->event.action == KV_ACTION_DELETE || event->event.action == KV_ACTION_CAD ||
                    event->event.action == KV_ACTION_EXPIRE;
        Place *place = hub->root, *child;

        hub->visits++;
        while (key.size > 1 && place->size < key.size) {
                tell(hub, place->recursive, event, hidden > 0 && place->size + 1 <= hidden);
                child = place_child(hub, place, key, &end);
                if (!child)
                        return;
                common = common_size(child, key, end);
                if (common < child->size) {
                        if (common == key.size && event_ends_dir(&event->event))
                                tell_below(hub, child, event);
                        return;
                }
                place = child;
                place_reach(hub, place, event);
                place->absent = gone && place->size == key.size;
        }
        tell(hub, place->recursive, event, false);
        tell(hub, place->exact, event, false);
        if (event_ends_dir(&event->event))
                LIST_FOREACH(child, &place->children, siblings)
        tell_below(hub, child, event);
}

static void waiting_drop_first(Hub *hub) {
        Waiting *w = STAILQ_FIRST(&hub->waiting);

        STAILQ_REMOVE_HEAD(&hub->waiting, entries);
        hub->n_waiting--;
        hub->waiting_bytes -= sizeof(Waiting) + event_size(&w->event->event);
        hub_event_unref(w->event);
        free(w);
}

/* Finds the watchers of what waits, until this turn has had its share. */
static void tell_waiting(Hub *hub) {
        Waiting *w;

        while (hub->visits < HUB_VISITS_PER_TURN && (w = STAILQ_FIRST(&hub->waiting))) {
                tell_all(hub, w->event);
                waiting_drop_first(hub);
        }
        loop_count(hub->loop, hub->visits, 0);
}

/* Not every event reaches the places: nothing is known to be absent, before a watch says so again. */
static void place_forget(Place *place) {
        Place *child;

        place->absent = false;
        place->absent_from = 0;
        LIST_FOREACH(child, &place->children, siblings)
        place_forget(child);
}

/* Too many changes for too many watches: these begin again, from the window, if they can. */
static void lose_all(Hub *hub, bool once_too) {
        if (hub->root)
                place_forget(hub->root);
        while (!STAILQ_EMPTY(&hub->waiting))
                waiting_drop_first(hub);
        for (KvWatch *watch = hub->all; watch; watch = watch->all_next)
                if (once_too || !watch->once || watch->n_pending == 0)
                        watch_lose_place(watch);
}

static void wait_to_tell(Hub *hub, KvWatchEvent *event) {
        uint64_t bytes = sizeof(Waiting) + event_size(&event->event);
        Waiting *w = NEW0(Waiting, 1);

        if (!w || hub->n_waiting == HUB_PENDING_MAX || hub->waiting_bytes + bytes > HUB_WAITING_BYTES) {
                free(w);
                lose_all(hub, false);
                return;
        }
        w->event = hub_event_ref(event);
        STAILQ_INSERT_TAIL(&hub->waiting, w, entries);
        hub->n_waiting++;
        hub->waiting_bytes += bytes;
        loop_defer(hub->loop, &hub->deliver);
}

static Window *window_of(Hub *hub, const KvEvent *event) {
        return &hub->windows[kv_path_is_ours(event->node.key) ? TREE_WINDOW_OURS : TREE_WINDOW_USERS];
}

void hub_publish(Hub *hub, const KvEvent *event) {
        Window *w = window_of(hub, event);
        KvWatchEvent *e = event_new(w, event);
        uint64_t visits = hub->visits;

        if (!e) {
                hub_cleared(hub, event->index);
                return;
        }
        hub->index = event->index;
        window_add(w, e);
        if (STAILQ_EMPTY(&hub->waiting) && hub->visits < HUB_VISITS_PER_TURN)
                tell_all(hub, e);
        else if (hub->n_watches > 0)
                wait_to_tell(hub, e);
        hub_event_unref(e);
        loop_count(hub->loop, hub->visits - visits, event_size(event));
}

void hub_cleared(Hub *hub, uint64_t index) {
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                window_clear(&hub->windows[i], index);
        hub->index = index;
        lose_all(hub, true);
}

void hub_reach_back(Hub *hub, uint64_t oldest_users, uint64_t oldest_ours) {
        hub->windows[TREE_WINDOW_USERS].oldest = oldest_users;
        hub->windows[TREE_WINDOW_OURS].oldest = oldest_ours;
}

int hub_remember(Hub *hub, const KvEvent *event) {
        Window *w = window_of(hub, event);
        KvWatchEvent *e = event_new(w, event);

        if (!e) {
                window_clear(w, event->index);
                return -ENOMEM;
        }
        window_add(w, e);
        hub_event_unref(e);
        return 0;
}

/* -- Delivery -- */

/* 'watch' may be closed inside: it is then freed here. */
static void deliver_one(KvWatch *watch) {
        Hub *hub = watch->hub;
        KvWatchEvent *event;

        watch_not_ready(watch);
        watch->calling = true;
        if (watch->cleared) {
                watch_detach(watch);
                watch->events->on_cleared(watch->userdata, oldest_for(hub, watch_key(watch), watch->internal),
                                          hub->index);
                watch->closed = true;
        } else {
                event = watch_pop(watch);
                if (watch->once)
                        watch_detach(watch);
                watch->events->on_event(watch->userdata, event);
                hub_event_unref(event);
                watch->closed |= watch->once;
        }
        watch->calling = false;

        if (watch->closed)
                watch_free(watch);
        else if (watch->n_pending > 0 || watch->cleared)
                watch_make_ready(watch);
}

static void deliver(void *userdata) {
        Hub *hub = userdata;
        uint64_t before;

        hub->visits = 0;
        tell_waiting(hub);
        before = turn_work_bytes(&loop_turns(hub->loop)->now);
        for (unsigned n = 0; n < HUB_WAKE_PER_TURN && hub->ready_first &&
                             turn_work_bytes(&loop_turns(hub->loop)->now) - before < HUB_WORK_PER_TURN;
             n++)
                deliver_one(hub->ready_first);
        if (hub->ready_first || !STAILQ_EMPTY(&hub->waiting))
                loop_defer(hub->loop, &hub->deliver);
}

/* -- Opening and closing -- */

/* What the windows have for a watch, in order of index over both. */
static void watch_look_back(KvWatch *watch) {
        Hub *hub = watch->hub;
        size_t at[_TREE_WINDOW_MAX];

        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                at[i] = window_concerns(i, watch_key(watch), watch->internal) ?
                                window_find(&hub->windows[i], watch->since) :
                                hub->windows[i].n;
        while (!watch->cleared && !(watch->once && watch->n_pending > 0)) {
                KvWatchEvent *first = NULL;
                size_t from = 0;

                for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                        KvWatchEvent *e = at[i] < hub->windows[i].n ? window_at(&hub->windows[i], at[i]) :
                                                                      NULL;

                        if (e && (!first || e->event.index < first->event.index))
                                first = e, from = i;
                }
                if (!first)
                        return;
                at[from]++;
                if (watch_wants(watch, &first->event))
                        watch_push(watch, first);
        }
}

int hub_watch(Hub *hub, const KvWatchOptions *options, const KvWatchOps *events, void *userdata,
              KvWatch **ret, uint64_t *ret_oldest) {
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
        place = place_make(hub, options->key);
        if (!place) {
                free(watch);
                return -ENOMEM;
        }
        if (options->absent && place->absent_from == 0)
                place->absent_from = MAX(hub->index, (uint64_t) 1);
        *watch = (KvWatch) {
                .hub = hub,
                .events = events,
                .userdata = userdata,
                .recursive = options->recursive,
                .internal = options->internal,
                .hidden_rule = options->hidden_rule,
                .refreshes = options->refreshes,
                .once = options->once,
                .key_size = options->key.size,
                .since = options->since > 0 ? options->since : hub->index + 1,
        };
        memcpy(watch->key, options->key.data, options->key.size);
        watch_attach(watch, place);
        if (options->since > 0) {
                watch_look_back(watch);
                watch->since = MAX(watch->since, hub->index + 1); /* of what waits it has had its part */
        }
        *ret = watch;
        return 0;
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
        bool made;

        if (!hub)
                return -ENOMEM;
        *hub = (Hub) { .loop = loop, .index = index, .deliver = DEFERRED(deliver, hub) };
        STAILQ_INIT(&hub->waiting);
        hub->root = place_new(hub, (KvBytes) {});
        made = hub->root;
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                Window *w = &hub->windows[i];

                *w = (Window) { .size = window > 0 ? window : HUB_WINDOW, .oldest = index + 1 };
                w->events = NEW0(KvWatchEvent *, w->size);
                made = made && w->events;
        }
        if (!made) {
                hub_free(hub);
                return -ENOMEM;
        }
        *ret = hub;
        return 0;
}

Hub *hub_free(Hub *hub) {
        if (!hub)
                return NULL;

        assert(hub->n_watches == 0 && !hub->ready_first);
        while (!STAILQ_EMPTY(&hub->waiting))
                waiting_drop_first(hub);
        deferred_cancel(&hub->deliver);
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                if (hub->windows[i].events)
                        window_clear(&hub->windows[i], 0);
                free(hub->windows[i].events);
                blocks_done(&hub->windows[i].memory);
        }
        free(hub->root);
        free(hub);
        return NULL;
}

size_t hub_place_bytes(const Hub *hub) {
        return hub->place_bytes + HASH_OVERHEAD(hh, hub->places);
}

size_t hub_window_bytes(const Hub *hub) {
        size_t bytes = 0;

        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                for (size_t k = 0; k < hub->windows[i].n; k++) {
                        const KvWatchEvent *e = window_at(&hub->windows[i], k);

                        bytes += event_size(&e->event) + (e->encoded ? e->encoded->size : 0) +
                                 (e->line ? e->line->size : 0);
                }
        return bytes;
}

unsigned hub_watches(const Hub *hub) {
        return hub->n_watches;
}
