#include "kvstore/hub_places.h"

/* One table holds the children of all places. The key of a place is the beginning of its path, up to the end
 * of the first segment behind its parent's path: no two children of one parent share it. A place without
 * watches and with fewer than two children is removed. */

/* Return where the segment ends that begins at 'at', the end of a place's path (0: the root's). */
static size_t segment_end(KvBytes path, size_t at) {
        const char *p = path.data, *slash = memchr(p + at + 1, '/', path.size - at - 1);

        return slash ? (size_t) (slash - p) : path.size;
}

/* Return how much of a place's path is the beginning of 'path', too, in whole segments; both share the first
 * 'from' bytes. */
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

Place *places_next(const Places *places, const Place *place, KvBytes path, size_t *ret_common) {
        size_t end = segment_end(path, place->size);
        Place *child;

        HASH_FIND(hh, places->table, path.data, end, child);
        if (child)
                *ret_common = common_size(child, path, end);
        return child;
}

static Place *place_new(KvBytes path) {
        Place *place = calloc(1, sizeof(Place) + path.size);

        if (!place)
                return NULL;
        place->size = path.size;
        if (path.size > 0)
                memcpy(place->path, path.data, path.size);
        return place;
}

/* Insert a place that is in no table below 'parent'. 0 or -ENOMEM. */
static int place_insert(Places *places, Place *place, Place *parent) {
        size_t end = segment_end((KvBytes) { place->path, place->size }, parent->size);

        HASH_ADD_KEYPTR(hh, places->table, place->path, end, place);
        if (!TABLE_ADDED(place))
                return -ENOMEM;
        place->parent = parent;
        LIST_INSERT_HEAD(&parent->children, place, siblings);
        return 0;
}

static void place_remove(Places *places, Place *place) {
        HASH_DEL(places->table, place);
        LIST_REMOVE(place, siblings);
}

/* Move a place below another parent. The table has other places and does not grow, so that this needs no
 * memory. */
static void place_move(Places *places, Place *place, Place *parent) {
        int r;

        place_remove(places, place);
        places->table->hh.tbl->noexpand++;
        r = place_insert(places, place, parent);
        assert(r == 0);
        places->table->hh.tbl->noexpand--;
}

void places_prune(Places *places, Place *place) {
        while (place->parent && LIST_EMPTY(&place->exact) && LIST_EMPTY(&place->recursive)) {
                Place *parent = place->parent, *child = LIST_FIRST(&place->children);

                if (child && LIST_NEXT(child, siblings))
                        return;
                if (child)
                        place_move(places, child, parent);
                place_remove(places, place);
                free(place);
                place = parent;
        }
}

static Place *place_new_below(Places *places, KvBytes path, Place *parent) {
        Place *place = place_new(path);

        if (!place)
                return NULL;
        if (place_insert(places, place, parent) < 0) {
                free(place);
                return NULL;
        }
        return place;
}

/* Insert a place between 'child' and its parent, where 'path' parts from the path of the child. */
static Place *place_split(Places *places, Place *child, KvBytes path) {
        Place *place = place_new_below(places, path, child->parent);

        if (place)
                place_move(places, child, place);
        return place;
}

Place *places_add(Places *places, KvBytes path) {
        Place *place = places->root, *child;
        size_t common;

        if (path.size == 1)
                return place;
        while (place->size < path.size) {
                child = places_next(places, place, path, &common);
                if (!child)
                        child = place_new_below(places, path, place);
                else if (common < child->size)
                        child = place_split(places, child, (KvBytes) { path.data, common });
                if (!child) {
                        places_prune(places, place);
                        return NULL;
                }
                place = child;
        }
        return place;
}

static void place_forget_absence(Place *place) {
        Place *child;

        place->absent = false;
        place->absent_from = 0;
        LIST_FOREACH(child, &place->children, siblings)
                place_forget_absence(child);
}

void places_forget_absence(Places *places) {
        if (places->root)
                place_forget_absence(places->root);
}

int places_init(Places *places) {
        *places = (Places) {};
        places->root = place_new((KvBytes) {});
        return places->root ? 0 : -ENOMEM;
}

void places_done(Places *places) {
        free(places->root);
        *places = (Places) {};
}
