#include "kvstore/apply/outcomes.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void outcomes_init(Outcomes *list) {
        list->first = NULL;
        list->last = &list->first;
        list->bytes = 0;
}

static size_t bytes_of(Outcome *o) {
        return malloc_usable_size(o) + (o->result ? malloc_usable_size(o->result) : 0);
}

static void add(Outcomes *list, Outcome *o) {
        o->next = NULL;
        *list->last = o;
        list->last = &o->next;
        list->bytes += bytes_of(o);
}

Outcome *outcomes_take(Outcomes *list) {
        Outcome *o = list->first;

        if (o) {
                list->first = o->next;
                list->bytes -= bytes_of(o);
                if (!list->first)
                        list->last = &list->first;
        }
        return o;
}

void outcomes_move(Outcomes *to, Outcomes *from) {
        if (!from->first)
                return;
        *to->last = from->first;
        to->last = from->last;
        to->bytes += from->bytes;
        outcomes_init(from);
}

void outcome_free(Outcome *o) {
        free(o->result);
        free(o);
}

void outcomes_clear(Outcomes *list) {
        Outcome *o;

        while ((o = outcomes_take(list)))
                outcome_free(o);
}

int outcomes_add_result(Outcomes *list, uint64_t number, const KvResult *result) {
        Outcome *o = malloc(sizeof(*o));

        if (!o || !(o->result = kv_result_copy(result))) {
                free(o);
                return -ENOMEM;
        }
        o->number = number;
        add(list, o);
        return 0;
}

static KvBytes keep_bytes(uint8_t **at, KvBytes b) {
        KvBytes kept = { *at, b.size };

        if (b.size > 0)
                memcpy(*at, b.data, b.size);
        *at += b.size;
        return kept;
}

int outcomes_add_event(Outcomes *list, const KvEvent *event) {
        size_t size = event->node.key.size + event->node.value.size;
        uint8_t *at;
        Outcome *o;

        if (event->has_prev)
                size += event->prev.key.size + event->prev.value.size;
        o = malloc(sizeof(*o) + size);
        if (!o)
                return -ENOMEM;
        o->result = NULL;
        o->event = *event;
        at = o->bytes;
        o->event.node.key = keep_bytes(&at, event->node.key);
        o->event.node.value = keep_bytes(&at, event->node.value);
        if (event->has_prev) {
                o->event.prev.key = keep_bytes(&at, event->prev.key);
                o->event.prev.value = keep_bytes(&at, event->prev.value);
        }
        add(list, o);
        return 0;
}
