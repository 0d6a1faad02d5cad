#include "kvstore/hub.h"

#include <assert.h>

#include "base/table.h"
#include "kvstore/events.h"

/* Watches hang in a tree of their own, one place for each segment that somebody watches: an event walks down from the root
 * along its key and meets, in turn, the recursive watches of its ancestors and those of its very key; a deleted directory
 * has the watched places below it under it. Places without watches and children are gone. */

typedef struct Place {
        UT_hash_handle hh;
        struct Place *parent, *children;
        Watch *exact, *recursive;
        bool absent; /* see WatchOptions; events keep it true to the tree */
        size_t size;
        char segment[];
} Place;

struct Watch {
        Hub *hub;
        const WatchEvents *events;
        void *userdata;
        Place *place;                    /* NULL: no longer told of new events */
        Watch *next, *prev;              /* at the place */
        Watch *all_next, *all_prev;      /* all that have a place */
        Watch *ready_next, *ready_prev;  /* those with something to tell */
        bool recursive, internal, hidden_rule, refreshes, once;
        bool ready, calling, closed, cleared;
        uint64_t since;
        HubEvent **pending;
        size_t first, n_pending, capacity;
        size_t key_size;
        char key[];
};

/* The last events of one owner, bounded as the tree's own windows are. */
typedef struct Window {
        HubEvent **events; /* a ring */
        size_t size, first, n;
        uint64_t bytes;
        uint64_t oldest;   /* from this index on nothing is missing */
} Window;

struct Hub {
        Loop *loop;
        Window windows[_TREE_WINDOW_MAX];
        Place *root;
        Watch *all;
        Watch *ready_first, *ready_last;
        unsigned n_watches;
        uint64_t index; /* of the last event */
        Deferred deliver;
};

/* -- Events -- */

static size_t event_size(const KvEvent *e) {
        return sizeof(HubEvent) + e->node.key.size + e->node.value.size + (e->has_prev ? e->prev.value.size : 0);
}

static char *place_bytes(char *at, KvBytes *bytes) {
        if (bytes->size > 0)
                memcpy(at, bytes->data, bytes->size);
        bytes->data = at;
        return at + bytes->size;
}

static HubEvent *event_new(const KvEvent *event) {
        HubEvent *e = malloc(event_size(event));
        char *at;

        if (!e)
                return NULL;
        *e = (HubEvent) { .refs = 1, .event = *event };
        at = place_bytes((char *) (e + 1), &e->event.node.key);
        at = place_bytes(at, &e->event.node.value);
        if (event->has_prev) {
                (void) place_bytes(at, &e->event.prev.value);
                e->event.prev.key = e->event.node.key;
        }
        return e;
}

HubEvent *hub_event_ref(HubEvent *event) {
        event->refs++;
        return event;
}

HubEvent *hub_event_unref(HubEvent *event) {
        if (!event || --event->refs > 0)
                return NULL;
        if (event->encoded)
                shared_unref(event->encoded);
        if (event->line)
                shared_unref(event->line);
        free(event);
        return NULL;
}

/* -- Windows -- */

static void window_drop_first(Window *w) {
        HubEvent *e = w->events[w->first];

        w->oldest = e->event.index + 1;
        w->bytes -= event_weight(&e->event);
        hub_event_unref(e);
        w->first = (w->first + 1) % w->size;
        w->n--;
}

static void window_add(Window *w, HubEvent *event) {
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

static HubEvent *window_at(const Window *w, size_t i) {
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

/* The next segment of a path after 'at'; false at its end. */
static bool next_segment(KvBytes path, size_t *at, const char **ret, size_t *ret_size) {
        const char *p = path.data, *slash;
        size_t begin = *at + 1;

        if (begin >= path.size)
                return false;
        slash = memchr(p + begin, '/', path.size - begin);
        *ret = p + begin;
        *ret_size = (slash ? (size_t) (slash - p) : path.size) - begin;
        *at = begin + *ret_size;
        return true;
}

static Place *place_child(Place *place, const char *segment, size_t size) {
        Place *child;

        HASH_FIND(hh, place->children, segment, size, child);
        return child;
}

static Place *place_new(Place *parent, const char *segment, size_t size) {
        Place *place = calloc(1, sizeof(Place) + size);

        if (!place)
                return NULL;
        place->parent = parent;
        place->size = size;
        if (size > 0)
                memcpy(place->segment, segment, size);
        if (parent) {
                HASH_ADD_KEYPTR(hh, parent->children, place->segment, place->size, place);
                if (!TABLE_ADDED(place)) {
                        free(place);
                        return NULL;
                }
        }
        return place;
}

/* Takes away a place that nobody needs, and those above that were there for it alone. */
static void place_prune(Place *place) {
        while (place->parent && !place->children && !place->exact && !place->recursive) {
                Place *parent = place->parent;

                HASH_DEL(parent->children, place);
                free(place);
                place = parent;
        }
}

static Place *place_make(Place *root, KvBytes path) {
        Place *place = root, *child;
        const char *segment;
        size_t at = 0, size;

        while (next_segment(path, &at, &segment, &size)) {
                child = place_child(place, segment, size) ?: place_new(place, segment, size);
                if (!child) {
                        place_prune(place);
                        return NULL;
                }
                place = child;
        }
        return place;
}

/* -- Watches -- */

static void watch_make_ready(Watch *watch) {
        Hub *hub = watch->hub;

        if (watch->ready)
                return;
        watch->ready = true;
        watch->ready_prev = hub->ready_last;
        watch->ready_next = NULL;
        *(hub->ready_last ? &hub->ready_last->ready_next : &hub->ready_first) = watch;
        hub->ready_last = watch;
        loop_defer(hub->loop, &hub->deliver);
}

static void watch_not_ready(Watch *watch) {
        Hub *hub = watch->hub;

        if (!watch->ready)
                return;
        *(watch->ready_prev ? &watch->ready_prev->ready_next : &hub->ready_first) = watch->ready_next;
        *(watch->ready_next ? &watch->ready_next->ready_prev : &hub->ready_last) = watch->ready_prev;
        watch->ready = false;
}

static void watch_attach(Watch *watch, Place *place) {
        Watch **head = watch->recursive ? &place->recursive : &place->exact;
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

static void watch_detach(Watch *watch) {
        Place *place = watch->place;
        Hub *hub = watch->hub;

        if (!place)
                return;
        *(watch->prev ? &watch->prev->next : watch->recursive ? &place->recursive : &place->exact) = watch->next;
        if (watch->next)
                watch->next->prev = watch->prev;
        *(watch->all_prev ? &watch->all_prev->all_next : &hub->all) = watch->all_next;
        if (watch->all_next)
                watch->all_next->all_prev = watch->all_prev;
        watch->place = NULL;
        hub->n_watches--;
        place_prune(place);
}

static void watch_drop_pending(Watch *watch) {
        for (; watch->n_pending > 0; watch->n_pending--)
                hub_event_unref(watch->pending[watch->first++]);
        free(watch->pending);
        watch->pending = NULL;
        watch->first = watch->capacity = 0;
}

static void watch_free(Watch *watch) {
        watch_detach(watch);
        watch_not_ready(watch);
        watch_drop_pending(watch);
        free(watch);
}

/* The watch ends; its owner hears of it from the loop. Until then it stays where it is: we may be walking past it. */
static void watch_lose_place(Watch *watch) {
        watch_drop_pending(watch);
        watch->cleared = true;
        watch_make_ready(watch);
}

static void watch_push(Watch *watch, HubEvent *event) {
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
static HubEvent *watch_pop(Watch *watch) {
        HubEvent *event = watch->pending[watch->first++];

        if (--watch->n_pending == 0) {
                watch_drop_pending(watch);
        } else if (watch->first >= HUB_PENDING_MAX) {
                memmove(watch->pending, watch->pending + watch->first, watch->n_pending * sizeof(*watch->pending));
                watch->first = 0;
        }
        return event;
}

bool watch_is_current(const Watch *watch) {
        return watch->n_pending == 0 && !watch->cleared;
}

static KvBytes watch_key(const Watch *watch) {
        return (KvBytes) { watch->key, watch->key_size };
}

static bool watch_may_see(const Watch *watch, const KvEvent *event) {
        return !watch->cleared && (watch->refreshes || !event->refresh) && event->index >= watch->since &&
               (watch->internal || !kv_path_is_ours(event->node.key));
}

static bool event_ends_dir(const KvEvent *event) {
        return event->node.dir && (event->action == KV_ACTION_DELETE || event->action == KV_ACTION_EXPIRE);
}

/* The whole rule, for an event out of the window. Whether anything was at the watched key then, nobody knows any more. */
static bool watch_wants(const Watch *watch, const KvEvent *event) {
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

static void tell(Watch *first, HubEvent *event, bool hidden) {
        for (Watch *watch = first; watch; watch = watch->next)
                if (watch_may_see(watch, &event->event) && !(hidden && watch->hidden_rule))
                        watch_push(watch, event);
}

/* All watched places below a deleted directory where something was. */
static void tell_below(const Place *place, HubEvent *event) {
        for (Place *child = place->children; child; child = child->hh.next) {
                if (!child->absent) {
                        tell(child->recursive, event, false);
                        tell(child->exact, event, false);
                }
                child->absent = true;
                tell_below(child, event);
        }
}

/* Where the last hidden segment of a path begins; 0 if there is none. A watch of an ancestor as long as this or longer
 * has nothing hidden below it. */
static size_t last_hidden(KvBytes path) {
        const char *p = path.data;

        for (size_t i = path.size - 1; i > 0; i--)
                if (p[i] == '_' && p[i - 1] == '/')
                        return i;
        return 0;
}

static void tell_all(Hub *hub, HubEvent *event) {
        KvBytes key = event->event.node.key;
        size_t hidden = last_hidden(key), at = 0, size;
        bool gone = event->event.action == KV_ACTION_DELETE || event->event.action == KV_ACTION_CAD ||
                    event->event.action == KV_ACTION_EXPIRE;
        Place *place = hub->root;
        const char *segment;

        while (next_segment(key, &at, &segment, &size)) {
                tell(place->recursive, event, hidden > 0 && (size_t) (segment - (const char *) key.data) <= hidden);
                place = place_child(place, segment, size);
                if (!place)
                        return;
                place->absent = gone && at == key.size;
        }
        tell(place->recursive, event, false);
        tell(place->exact, event, false);
        if (event_ends_dir(&event->event))
                tell_below(place, event);
}

static Window *window_of(Hub *hub, const KvEvent *event) {
        return &hub->windows[kv_path_is_ours(event->node.key) ? TREE_WINDOW_OURS : TREE_WINDOW_USERS];
}

void hub_publish(Hub *hub, const KvEvent *event) {
        HubEvent *e = event_new(event);

        if (!e) {
                hub_cleared(hub, event->index);
                return;
        }
        hub->index = event->index;
        window_add(window_of(hub, event), e);
        tell_all(hub, e);
        hub_event_unref(e);
}

void hub_cleared(Hub *hub, uint64_t index) {
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                window_clear(&hub->windows[i], index);
        hub->index = index;
        for (Watch *watch = hub->all; watch; watch = watch->all_next)
                watch_lose_place(watch);
}

void hub_reach_back(Hub *hub, uint64_t oldest_users, uint64_t oldest_ours) {
        hub->windows[TREE_WINDOW_USERS].oldest = oldest_users;
        hub->windows[TREE_WINDOW_OURS].oldest = oldest_ours;
}

int hub_remember(Hub *hub, const KvEvent *event) {
        Window *w = window_of(hub, event);
        HubEvent *e = event_new(event);

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
static void deliver_one(Watch *watch) {
        Hub *hub = watch->hub;
        HubEvent *event;

        watch_not_ready(watch);
        watch->calling = true;
        if (watch->cleared) {
                watch_detach(watch);
                watch->events->on_cleared(watch->userdata, oldest_for(hub, watch_key(watch), watch->internal), hub->index);
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

        for (unsigned n = 0; n < HUB_WAKE_PER_TURN && hub->ready_first; n++)
                deliver_one(hub->ready_first);
        if (hub->ready_first)
                loop_defer(hub->loop, &hub->deliver);
}

/* -- Opening and closing -- */

/* What the windows have for a watch, in order of index over both. */
static void watch_look_back(Watch *watch) {
        Hub *hub = watch->hub;
        size_t at[_TREE_WINDOW_MAX];

        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++)
                at[i] = window_concerns(i, watch_key(watch), watch->internal) ? window_find(&hub->windows[i], watch->since)
                                                                             : hub->windows[i].n;
        while (!watch->cleared && !(watch->once && watch->n_pending > 0)) {
                HubEvent *first = NULL;
                size_t from = 0;

                for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                        HubEvent *e = at[i] < hub->windows[i].n ? window_at(&hub->windows[i], at[i]) : NULL;

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

int hub_watch(Hub *hub, const WatchOptions *options, const WatchEvents *events, void *userdata, Watch **ret,
              uint64_t *ret_oldest) {
        uint64_t oldest = oldest_for(hub, options->key, options->internal);
        Watch *watch;
        Place *place;

        if (options->since > 0 && options->since < oldest) {
                *ret_oldest = oldest;
                return -ESTALE;
        }
        if (hub->n_watches >= HUB_WATCHES_MAX)
                return -ENOBUFS;

        watch = calloc(1, sizeof(Watch) + options->key.size);
        if (!watch)
                return -ENOMEM;
        place = place_make(hub->root, options->key);
        if (!place) {
                free(watch);
                return -ENOMEM;
        }
        place->absent |= options->absent;
        *watch = (Watch) {
                .hub = hub, .events = events, .userdata = userdata,
                .recursive = options->recursive, .internal = options->internal, .hidden_rule = options->hidden_rule, .refreshes = options->refreshes, .once = options->once, .key_size = options->key.size,
                .since = options->since > 0 ? options->since : hub->index + 1,
        };
        memcpy(watch->key, options->key.data, options->key.size);
        watch_attach(watch, place);
        if (options->since > 0)
                watch_look_back(watch);
        *ret = watch;
        return 0;
}

Watch *watch_close(Watch *watch) {
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
        *hub = (Hub) { .loop = loop, .index = index, .deliver = { .run = deliver, .userdata = hub } };
        hub->root = place_new(NULL, NULL, 0);
        made = hub->root;
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                Window *w = &hub->windows[i];

                *w = (Window) { .size = window > 0 ? window : HUB_WINDOW, .oldest = index + 1 };
                w->events = NEW0(HubEvent *, w->size);
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
        deferred_cancel(&hub->deliver);
        for (size_t i = 0; i < _TREE_WINDOW_MAX; i++) {
                if (hub->windows[i].events)
                        window_clear(&hub->windows[i], 0);
                free(hub->windows[i].events);
        }
        free(hub->root);
        free(hub);
        return NULL;
}

unsigned hub_watches(const Hub *hub) {
        return hub->n_watches;
}
