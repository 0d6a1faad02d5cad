#include "units/named.h"

void *named_find(const Named *table, const char *name) {
        Named *entry;

        HASH_FIND_STR(table, name, entry);
        return entry;
}

void *named_find_of(const Named *table, const UT_hash_handle *element) {
        Named *found;

        HASH_FIND_BYHASHVALUE(hh, table, element->key, element->keylen, element->hashv, found);
        return found;
}

void *named_get(Named **table, const char *name, size_t size) {
        Named *entry = named_find(*table, name);

        assert(size >= sizeof(Named));
        if (entry)
                return entry;
        entry = (Named *) NEW0(char, size);
        if (!entry)
                return NULL;
        snprintf(entry->name, sizeof(entry->name), "%s", name);
        HASH_ADD_STR(*table, name, entry);
        return TABLE_ADDED_OR_FREED(entry) ? entry : NULL;
}

void named_remove(Named **table, const char *name) {
        Named *entry = named_find(*table, name);

        if (!entry)
                return;
        HASH_DEL(*table, entry);
        free(entry);
}

void named_clear(Named **table) {
        Named *entry, *next;

        HASH_ITER(hh, *table, entry, next) {
                HASH_DEL(*table, entry);
                free(entry);
        }
}
