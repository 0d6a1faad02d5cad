#include "client/core/listing.h"

#include "client/core/unit.h"

/* Of all pages: an answer without end does not fill the memory. */
enum { PAGES_MAX = 100000, LISTING_SIZE_MAX = 1 << 30 };

/* -- By name -- */

static void keys_done(ListingKeys *keys) {
        free(keys->items);
        *keys = (ListingKeys) {};
}

/* Sort the first 'n' items by the string at this offset; one without it has no key. 0 or -ENOMEM. */
static int keys_sort(ListingKeys *keys, const Listing *l, size_t n, size_t offset) {
        keys_done(keys);
        keys->items = NEW0(struct ListingKey, n + 1);
        if (!keys->items)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const char *item = l->items + i * l->kind->size, *key;

                memcpy(&key, item + offset, sizeof(key));
                if (key)
                        keys->items[keys->n++] = (struct ListingKey) { key, item };
        }
        if (keys->n > 0)
                qsort(keys->items, keys->n, sizeof(*keys->items), text_compare);
        return 0;
}

int listing_sort(Listing *l) {
        int r = keys_sort(&l->by_name, l, l->n + l->n_removed, l->kind->key);

        return r < 0 || l->kind != &api_machines_page ?
                       r :
                       keys_sort(&l->by_hostname, l, l->n, offsetof(ApiMachine, hostname));
}

static size_t keys_find(const ListingKeys *keys, const char *key) {
        size_t low = 0, high = keys->n;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (strcmp(keys->items[middle].key, key) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/* Return the item at *at, and advance that, if it has this name. NULL: the items of that name have ended. */
static const void *keys_next(const ListingKeys *keys, const char *name, size_t *at) {
        if (*at == 0)
                *at = keys_find(keys, name);
        return *at < keys->n && streq(keys->items[*at].key, name) ? keys->items[(*at)++].item : NULL;
}

const ApiUnit *listing_unit(const Listing *units, const char *name) {
        return keys_next(&units->by_name, name, &(size_t) { 0 });
}

const ApiMachine *listing_machine(const Listing *machines, const char *id) {
        return id ? keys_next(&machines->by_name, id, &(size_t) { 0 }) : NULL;
}

const ApiState *listing_next_state(const Listing *states, const char *unit, size_t *at) {
        return keys_next(&states->by_name, unit, at);
}

const ApiMachine *listing_next_namesake(const Listing *machines, const char *hostname, size_t *at) {
        return keys_next(&machines->by_hostname, hostname, at);
}

/* -- Pages -- */

void listing_done(Listing *l) {
        for (size_t i = 0; i < l->n_pages; i++)
                api_page_done(&l->pages[i]);
        free(l->pages);
        free(l->items);
        keys_done(&l->by_name);
        keys_done(&l->by_hostname);
        *l = (Listing) {};
}

static int listing_read_page(Client *c, const char *path, const ApiPageKind *kind, Listing *l, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text t = {};
        const ApiPage *page;

        text_append(&t, path);
        if (l->n_pages > 0) {
                text_append(&t, strchr(path, '?') ? "&nextPageToken=" : "?nextPageToken=");
                append_escaped(&t, l->pages[l->n_pages - 1].next_token, false);
        }
        TRY(GROW(l->pages, l->capacity, l->n_pages + 1));
        l->absent = TRY(client_find(c, "GET", client_path(&t), &reply, err)) == 0;
        TRY(reply_check(&reply, err));

        l->pages[l->n_pages] = (ApiPage) {};
        TRY_PREFIX(api_page_read(kind, reply.body.chars, reply.body.size, &l->pages[l->n_pages], err), err,
                   "fleetd's answer to %s", path);
        page = &l->pages[l->n_pages++];
        l->size += reply.body.size;
        if (l->n_pages > 1 && same_string(page[-1].next_token, page->next_token))
                return error_set(err, -EBADMSG, "fleetd's answer to %s repeats a page", path);
        if (grow(&l->items, &l->items_capacity, l->n + page->n, kind->size) < 0)
                return -ENOMEM;
        if (page->n > 0)
                memcpy(l->items + l->n * kind->size, page->items, page->n * kind->size);
        l->n += page->n;
        return 0;
}

static int listing_read(Client *c, const char *path, const ApiPageKind *kind, Listing *l, Error *err) {
        l->kind = kind;
        do {
                TRY(listing_read_page(c, path, kind, l, err));
                if (l->n_pages > PAGES_MAX || l->size > LISTING_SIZE_MAX)
                        return error_set(err, -EBADMSG,
                                         "fleetd's answer to %s has more than %d pages, or %d bytes", path,
                                         PAGES_MAX, LISTING_SIZE_MAX);
        } while (l->pages[l->n_pages - 1].next_token);
        return listing_sort(l);
}

int client_units(Client *c, Listing *ret, Error *err) {
        return listing_read(c, "/fleet/v1/units?texts=false", &api_units_page, ret, err);
}

int client_unit_files(Client *c, Listing *ret, Error *err) {
        return listing_read(c, "/fleet/v1/units", &api_units_page, ret, err);
}

int client_states(Client *c, const char *unit, Listing *ret, Error *err) {
        _cleanup_text_ Text path = {};

        text_append(&path, "/fleet/v1/state");
        if (unit) {
                text_append(&path, "?unitName=");
                append_escaped(&path, unit, false);
        }
        return path.error < 0 ? path.error : listing_read(c, path.chars, &api_states_page, ret, err);
}

int client_local(Client *c, Listing *ret_states, Listing *ret_machines, Error *err) {
        static const char path[] = "/fleet/v1/local";

        TRY(listing_read(c, path, &api_states_page, ret_states, err));
        return listing_read(c, path, &api_machines_page, ret_machines, err);
}

int client_services(Client *c, const char *service, Listing *ret, Error *err) {
        static const char path[] = "/fleet/v1/services";
        _cleanup_text_ Text of = {};

        return service ? listing_read(c, client_path_of(&of, "/fleet/v1/services/", service, ""),
                                      &api_endpoints_page, ret, err) :
                         listing_read(c, path, &api_services_page, ret, err);
}

int client_machines(Client *c, Listing *ret, Error *err) {
        return listing_read(c, c->sessions ? "/fleet/v1/machines?sessions=true" : "/fleet/v1/machines",
                            &api_machines_page, ret, err);
}

int client_all_machines(Client *c, Listing *ret, Error *err) {
        TRY(listing_read(
                c, c->sessions ? "/fleet/v1/machines?all=true&sessions=true" : "/fleet/v1/machines?all=true",
                &api_machines_page, ret, err));
        for (size_t i = 0; i < ret->n;) {
                ApiMachine m = ret->machines[i];

                if (!same_string(m.presence, "removed")) {
                        i++;
                        continue;
                }
                ret->n--;
                ret->n_removed++;
                memmove(&ret->machines[i], &ret->machines[i + 1],
                        (ret->n + ret->n_removed - 1 - i) * sizeof(m));
                ret->machines[ret->n + ret->n_removed - 1] = m;
        }
        return listing_sort(ret);
}

void client_load_machine(Client *c, Listing *machines, const char *id, bool all) {
        _cleanup_listing_ Listing now = {};
        Listing before = *machines;

        if (!id || !*id || listing_machine(machines, id) ||
            (all ? client_all_machines : client_machines)(c, &now, NULL) < 0)
                return;
        *machines = now;
        now = before;
}
