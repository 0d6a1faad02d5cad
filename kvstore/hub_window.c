#include "kvstore/hub_window.h"

#include "kvstore/apply/events.h"

/* -- Events -- */

size_t hub_event_size(const KvEvent *e) {
        return sizeof(KvWatchEvent) + e->node.key.size + e->node.value.size +
               (e->has_prev ? e->prev.value.size : 0);
}

static KvWatchEvent *event_new(HubWindow *window, const KvEvent *event) {
        KvWatchEvent *e = blocks_alloc(&window->memory, hub_event_size(event));
        char *at;

        if (!e)
                return NULL;
        *e = (KvWatchEvent) { .refs = 1, .event = *event };
        at = (char *) (e + 1);
        kv_node_place(&at, &e->event.node);
        if (event->has_prev) {
                kv_bytes_place(&at, &e->event.prev.value);
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

/* -- The ring -- */

static void window_drop_first(HubWindow *w) {
        KvWatchEvent *e = w->events[w->first];

        w->oldest = e->event.index + 1;
        w->bytes -= event_weight(&e->event);
        hub_event_unref(e);
        w->first = (w->first + 1) % w->size;
        w->n--;
}

KvWatchEvent *hub_window_add(HubWindow *w, const KvEvent *event) {
        KvWatchEvent *e = event_new(w, event);

        if (!e)
                return NULL;
        if (w->n == w->size)
                window_drop_first(w);
        w->events[(w->first + w->n++) % w->size] = hub_event_ref(e);
        w->bytes += event_weight(event);
        while (w->bytes > TREE_WINDOW_BYTES && w->n > 1)
                window_drop_first(w);
        return e;
}

void hub_window_clear(HubWindow *w, uint64_t index) {
        while (w->n > 0)
                window_drop_first(w);
        w->oldest = index + 1;
}

KvWatchEvent *hub_window_at(const HubWindow *w, size_t i) {
        return w->events[(w->first + i) % w->size];
}

size_t hub_window_find(const HubWindow *w, uint64_t index) {
        size_t low = 0, high = w->n;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (hub_window_at(w, middle)->event.index < index)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

size_t hub_window_memory(const HubWindow *w) {
        size_t bytes = 0;

        for (size_t i = 0; i < w->n; i++) {
                const KvWatchEvent *e = hub_window_at(w, i);

                bytes += hub_event_size(&e->event) + (e->encoded ? e->encoded->size : 0) +
                         (e->line ? e->line->size : 0);
        }
        return bytes;
}

int hub_window_init(HubWindow *w, size_t size, uint64_t index) {
        *w = (HubWindow) { .events = NEW0(KvWatchEvent *, size), .size = size, .oldest = index + 1 };
        return w->events ? 0 : -ENOMEM;
}

void hub_window_done(HubWindow *w) {
        hub_window_clear(w, 0);
        free(w->events);
        blocks_done(&w->memory);
}
