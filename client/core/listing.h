/* Lists of the API, page by page, and their items by name. */
#pragma once

#include "client/core/client.h"

/* Items of a listing, in the order of one of their strings. */
typedef struct ListingKeys {
        struct ListingKey {
                const char *key;
                const void *item;
        } * items; /* owned */
        size_t n;
} ListingKeys;

/* All units, states or machines: the items of all pages. Strings and files borrow from 'pages'. */
typedef struct Listing {
        ApiPage *pages;
        size_t n_pages, capacity, size; /* size: of their texts, in bytes */
        union {                         /* of the type that was read */
                ApiUnit *units;
                ApiState *states;
                ApiMachine *machines;
                ApiService *services;
                ApiEndpoint *endpoints;
                char *items;
        };
        size_t n, items_capacity;
        size_t n_removed; /* removed machines, after the others: they have a name only */
        const ApiPageKind *kind;
        bool absent;             /* after an error: the daemon has no such object */
        ListingKeys by_name;     /* of machines, also removed ones, by the ID */
        ListingKeys by_hostname; /* machines, without removed ones */
} Listing;

void listing_done(Listing *l);
/* Sort the keys again, after items were moved. 0 or -ENOMEM: without keys, no item is found by its name. */
int listing_sort(Listing *l);
#define _cleanup_listing_ _cleanup_(listing_done)

/* Read into an empty listing. The caller frees it, also after an error. */
int client_units(Client *c, Listing *ret, Error *err); /* without their contents */
int client_unit_files(Client *c, Listing *ret, Error *err);
int client_states(Client *c, const char *unit, Listing *ret, Error *err); /* 'unit' NULL: of all units */
/* The units that the agent of this host has, also without the cluster, and the host itself. */
int client_local(Client *c, Listing *ret_states, Listing *ret_machines, Error *err);
/* The services; those with a name: its endpoints, and the wanted units that have none. */
int client_services(Client *c, const char *service, Listing *ret, Error *err);
int client_machines(Client *c, Listing *ret, Error *err);
int client_all_machines(Client *c, Listing *ret, Error *err); /* also those that are gone */
/* Read the machines again if this one is not among them; 'all' as client_all_machines(). Errors are ignored.
 */
void client_load_machine(Client *c, Listing *machines, const char *id, bool all);

const ApiUnit *listing_unit(const Listing *units, const char *name); /* NULL if absent; borrowed */
/* Return one after the other the states of a unit, then NULL. *at is 0 at first. Borrowed. */
const ApiState *listing_next_state(const Listing *states, const char *unit, size_t *at);
/* The same of the machines with a hostname, without removed ones. */
const ApiMachine *listing_next_namesake(const Listing *machines, const char *hostname, size_t *at);

/* Also a removed one; NULL if absent. Borrowed. */
const ApiMachine *listing_machine(const Listing *machines, const char *id);
