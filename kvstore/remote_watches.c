/* Watches of clients of a host without a replica. Watches of one key, or of all below it, share a
 * subscription, whose events a hub of its own delivers: the indexes of two subscriptions are in no order. A
 * subscription continues by index on the next replica, and ends some time after its last watch. */
#include "base/log.h"
#include "kvstore/remote_internal.h"

enum { WATCHES_WINDOW = 256 }; /* events that a later watch of the same key finds here */

struct RemoteWatches {
        Remote *remote;
        uint32_t number;
        RemoteKind kind;
        Hub *hub;
        uint64_t from;      /* first index of its events */
        uint64_t current;   /* all events up to this index have arrived */
        uint64_t unused_ms; /* since it has no watch; 0: it has one */
        uint64_t again_ms;  /* subscribe again then; 0: it is subscribed, or waits for a replica */
        bool known;         /* the replica in use has answered with a page */
        bool cleared;       /* it has ended the watches: not kept for later ones */
        LIST_ENTRY(RemoteWatches) watches;
        KvBytes key;
        char bytes[];
};

static void watches_free(RemoteWatches *w) {
        LIST_REMOVE(w, watches);
        w->remote->n_watches--;
        hub_free(w->hub);
        free(w);
}

static void watches_subscribe(RemoteWatches *w) {
        _cleanup_writer_ Writer frame = {};

        w->number = ++w->remote->number;
        w->again_ms = 0;
        w->known = false;
        remote_subscribe_write(&(RemoteSubscribe) { .number = w->number,
                                                    .kind = w->kind,
                                                    .key = w->key,
                                                    .since = w->current + 1,
                                                    .lineage = w->remote->lineage,
                                                    .bound = w->remote->bound },
                               NULL, 0, &frame);
        if (remote_send(w->remote, PEER_SUBSCRIBE, &frame) < 0)
                w->again_ms = loop_now_ms(w->remote->loop) + REMOTE_WAIT_MS;
}

static RemoteKind watches_kind(const KvWatchOptions *options) {
        if (options->absent)
                return options->recursive ? REMOTE_BELOW_V2 : REMOTE_KEY_V2;
        return options->recursive ? REMOTE_BELOW : REMOTE_KEY;
}

static RemoteWatches *watches_new(Remote *r, const KvWatchOptions *options) {
        RemoteWatches *w = r->n_watches < REMOTE_WATCHES_MAX ? calloc(1, sizeof(*w) + options->key.size) :
                                                               NULL;
        char *at;

        if (!w)
                return NULL;
        *w = (RemoteWatches) {
                .remote = r, .kind = watches_kind(options), .from = options->since, .key = options->key
        };
        w->current = w->from - 1;
        at = w->bytes;
        kv_bytes_place(&at, &w->key);
        if (hub_new(&w->hub, r->loop, WATCHES_WINDOW, w->current) < 0) {
                free(w);
                return NULL;
        }
        hub_reached(w->hub, w->current);
        LIST_INSERT_HEAD(&r->watches, w, watches);
        r->n_watches++;
        watches_subscribe(w);
        remote_keep_time(r);
        return w;
}

int remote_watch(Remote *r, const KvWatchOptions *options, const KvWatchOps *ops, void *userdata,
                 KvWatch **ret, uint64_t *ret_oldest) {
        RemoteKind kind = watches_kind(options);
        KvWatchOptions here = *options;
        RemoteWatches *w;
        int e;

        if (here.since == 0) /* from now on: from the state on that this host has seen */
                here.since = remote_seen(r) + 1;
        LIST_FOREACH(w, &r->watches, watches) {
                if (w->kind != kind || !kv_bytes_equal(w->key, here.key) || here.since < w->from)
                        continue;
                /* The window of the replica may begin later than the one here. */
                if (here.since + HUB_WINDOW <= MAX(r->bound, w->current))
                        continue;
                /* The replica knows whether the key exists. */
                here.absent = false;
                e = hub_watch(w->hub, &here, ops, userdata, ret, ret_oldest);
                if (e != -ESTALE) {
                        w->unused_ms = 0;
                        w->cleared = false;
                        return e;
                }
        }
        here.absent = options->absent;
        w = watches_new(r, &here);
        here.absent = false;
        return w ? hub_watch(w->hub, &here, ops, userdata, ret, ret_oldest) : -ENOBUFS;
}

static RemoteWatches *watches_find(Remote *r, uint32_t number) {
        RemoteWatches *w = LIST_FIRST(&r->watches);

        while (w && w->number != number)
                w = LIST_NEXT(w, watches);
        return w;
}

void watches_on_events(Remote *r, RemotePage *page) {
        RemoteWatches *w = watches_find(r, page->number);
        uint64_t seen = page->index;
        RemoteItem item;

        if (!w)
                return;
        while (remote_next_item(page, &item) > 0)
                if (item.kind == REMOTE_EVENT && item.event.index > w->current) {
                        w->current = item.event.index;
                        seen = MAX(seen, w->current);
                        hub_publish(w->hub, &item.event);
                }
        w->known |= page->index > 0; /* 0: more events follow, which no answer to a heartbeat may pass */
        w->current = MAX(w->current, page->index);
        hub_reached(w->hub, w->current);
        remote_saw(r, seen); /* a watch may wait for an index of the future */
}

void watches_on_current(Remote *r, uint64_t index) {
        RemoteWatches *w;

        LIST_FOREACH(w, &r->watches, watches)
                if (w->known && index > w->current) {
                        w->current = index;
                        hub_reached(w->hub, index);
                }
}

bool watches_on_gone(Remote *r, const RemoteEnd *end) {
        RemoteWatches *w = watches_find(r, end->number);

        if (!w)
                return false;
        if (end->cause == REMOTE_GONE_FULL && r->full_on != r->session) {
                r->full_on = r->session;
                log_warning(((LogFields) { .machine = r->machine }),
                            "the replica in use serves as many watches as it can: it rejects those of %s",
                            "this host");
        }
        if (end->cause == REMOTE_GONE_WINDOW || end->cause == REMOTE_GONE_LINEAGE ||
            end->cause == REMOTE_GONE_RIGHTS || end->cause == REMOTE_GONE_FULL) {
                hub_cleared(w->hub, MAX(end->index, w->current));
                if (end->oldest > 0)
                        hub_set_oldest(w->hub,
                                       end->oldest); /* 'from' keeps later watches from these events */
                w->current = MAX(end->index, w->current);
                w->from = w->current + 1;
                w->cleared = true;
        }
        w->known = false;
        w->again_ms = loop_now_ms(r->loop) + end->retry_ms + 1;
        return true;
}

void watches_subscribe_all(Remote *r) {
        RemoteWatches *w;

        LIST_FOREACH(w, &r->watches, watches)
                watches_subscribe(w);
}

static void watches_unsubscribe(RemoteWatches *w) {
        _cleanup_writer_ Writer frame = {};

        remote_unsubscribe_write(w->number, &frame);
        (void) remote_send(w->remote, PEER_UNSUBSCRIBE, &frame);
        watches_free(w);
}

bool watches_on_due(Remote *r) {
        uint64_t now = loop_now_ms(r->loop);

        for (RemoteWatches *w = LIST_FIRST(&r->watches), *next; w; w = next) {
                next = LIST_NEXT(w, watches);
                if (hub_watches(w->hub) > 0)
                        w->unused_ms = 0;
                else if (w->cleared || (w->unused_ms > 0 && now - w->unused_ms >= REMOTE_UNUSED_MS)) {
                        watches_unsubscribe(w);
                        continue;
                } else if (w->unused_ms == 0)
                        w->unused_ms = now;
                if (w->again_ms > 0 && now >= w->again_ms)
                        watches_subscribe(w);
        }
        return !LIST_EMPTY(&r->watches);
}

/* -- The replica of this host -- */

static Hub *watches_to_hub(void *userdata, const KvWatchOptions *options) {
        return userdata;
}

void remote_release_watches(Remote *r, Hub *to) {
        RemoteWatches *w;

        LIST_FOREACH(w, &r->watches, watches)
                hub_move(w->hub, w->current, watches_to_hub, to);
        watches_drop(r);
}

typedef struct Adoption {
        Remote *remote;
        uint64_t index;
} Adoption;

/* The registry reads the slice again. */
static Hub *watches_adopting(void *userdata, const KvWatchOptions *options) {
        const Adoption *adoption = userdata;
        const KvWatchOptions from = { .key = options->key,
                                      .recursive = options->recursive,
                                      .since = adoption->index + 1 };
        RemoteKind kind = options->recursive ? REMOTE_BELOW : REMOTE_KEY;
        RemoteWatches *w;

        if (options->slice)
                return NULL;
        LIST_FOREACH(w, &adoption->remote->watches, watches)
                if (w->kind == kind && kv_bytes_equal(w->key, options->key))
                        return w->hub;
        w = watches_new(adoption->remote, &from);
        return w ? w->hub : NULL;
}

void remote_adopt_watches(Remote *r, Hub *from, uint64_t index) {
        hub_move(from, index, watches_adopting, &(Adoption) { r, index });
}

void watches_drop(Remote *r) {
        while (!LIST_EMPTY(&r->watches))
                watches_free(LIST_FIRST(&r->watches));
}
