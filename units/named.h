/* Tables of structs that begin with a name: of a unit, or a machine ID. */
#pragma once

#include "base/table.h"
#include "units/name.h"

typedef struct Named {
        char name[UNIT_NAME_MAX + 1];
        UT_hash_handle hh; /* iterates in the order of addition */
} Named;

/* Return the entry of that name, or NULL. */
void *named_find(const Named *table, const char *name);
/* The same, by the name of an element of another table, which has its hash. */
void *named_find_of(const Named *table, const UT_hash_handle *element);
/* Return the entry of that name. Add one of 'size' bytes, zero after the name, if there is none; NULL without
 * memory. */
void *named_get(Named **table, const char *name, size_t size);
void named_remove(Named **table, const char *name);
void named_clear(Named **table);
