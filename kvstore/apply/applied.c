#include "kvstore/apply/applied.h"

#include <malloc.h>

static void applied_count(Applied *a, const KvResult *result) {
        AppliedCounts *c = &a->counts;

        c->deferred += result->status == KV_DEFERRED;
        if (result->again)
                return;
        for (size_t i = 0; i < result->n_written; i++)
                c->done[result->written[i].action]++;
        if (result->internal || result->action == KV_ACTION_EXPIRE || result->n_written > 0 ||
            result->status == KV_LATE || result->status == KV_DEFERRED)
                return;
        (result->status == KV_OK ? c->done : c->refused)[result->action]++;
}

int applied_add_result(Applied *a, uint64_t origin, uint64_t number, const KvResult *result) {
        KvResult *copy;

        if (a->discard)
                return 0;
        applied_count(a, result);
        if (!a->any_origin && origin != a->origin && !(a->wants && a->wants(a->userdata, origin, number)))
                return 0;
        TRY(GROW(a->results, a->results_capacity, a->n_results + 1));
        copy = kv_result_copy(result);
        if (!copy)
                return -ENOMEM;
        a->results[a->n_results++] = (AppliedResult) { .origin = origin, .number = number, .result = copy };
        a->bytes += malloc_usable_size(copy);
        return 0;
}

int applied_add_event(Applied *a, const KvEvent *event) {
        size_t size = event->node.key.size + event->node.value.size;
        KvEvent *e;
        char *at;

        if (a->discard)
                return 0;
        if (event->action == KV_ACTION_EXPIRE && !kv_path_is_ours(event->node.key))
                a->counts.done[KV_ACTION_EXPIRE]++;
        if (event->has_prev)
                size += event->prev.key.size + event->prev.value.size;
        TRY(GROW(a->events, a->events_capacity, a->n_events + 1));
        e = malloc(sizeof(*e) + size);
        if (!e)
                return -ENOMEM;

        *e = *event;
        at = (char *) (e + 1);
        kv_node_place(&at, &e->node);
        if (event->has_prev)
                kv_node_place(&at, &e->prev);
        a->events[a->n_events++] = e;
        a->bytes += malloc_usable_size(e);
        return 0;
}

void applied_commit(Applied *a) {
        a->n_committed_results = a->n_results;
        a->n_committed_events = a->n_events;
        if (a->has_open)
                a->meta = a->open;
        a->has_meta |= a->has_open;
        a->has_open = false;
}

void applied_truncate(Applied *a, size_t n_results, size_t n_events) {
        while (a->n_results > n_results) {
                KvResult *result = a->results[--a->n_results].result;

                a->bytes -= malloc_usable_size(result);
                free(result);
        }
        while (a->n_events > n_events) {
                KvEvent *e = a->events[--a->n_events];

                a->bytes -= malloc_usable_size(e);
                free(e);
        }
}

void applied_abort(Applied *a) {
        applied_truncate(a, a->n_committed_results, a->n_committed_events);
        a->has_open = false;
}

Applied applied_take(Applied *a) {
        Applied taken = *a;

        *a = (Applied) { .any_origin = a->any_origin,
                         .origin = a->origin,
                         .wants = a->wants,
                         .userdata = a->userdata,
                         .level_max = a->level_max,
                         .counts = a->counts };
        return taken;
}

void applied_clear(Applied *a) {
        applied_truncate(a, 0, 0);
        free(a->results);
        free(a->events);
        (void) applied_take(a);
}
