/* The columns of lists, which --fields= chooses, and those of list-machines, list-units and list-unit-files.
 */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"

/* The source of a row of cells. */
typedef struct Row {
        const void *item; /* as in a Listing */
        const Listing *machines;
        const JsonValue *problems; /* of unit directories; NULL: not read */
        bool full;                 /* --full */
        bool terminal;             /* names instead of IDs */
        bool stale;                /* the daemon has no leader */
} Row;

typedef struct Column {
        const char *name;
        /* Append the cell of a field of the item; without text the cell is "-". */
        void (*append)(const Row *row, const void *field, Text *t);
        size_t offset; /* of the field; 0: the item itself */
} Column;

enum { COLUMNS_MAX = 64 };

typedef struct Choice {
        const char *fields; /* names, separated by commas; borrowed */
        const Column *columns[COLUMNS_MAX];
        size_t n;
} Choice;

/* Choose columns by their names. Errors are printed with the messages of fleet: -EINVAL. */
int columns_choose(const Column *all, const char *fields, Choice *ret);
void columns_add_row(Table *table, const Choice *choice, const Row *row);
void append_string(const Row *row, const void *field, Text *t); /* of a field that is a string */

/* Return a string of an item; "" for NULL. */
static inline const char *field_text(const void *field) {
        const char *s;

        memcpy(&s, field, sizeof(s));
        return s ?: "";
}

/* Each ends with a column without a name. */
extern const Column machine_columns[], state_columns[], unit_columns[];
