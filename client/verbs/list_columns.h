/* The columns of list-machines, list-units and list-unit-files. */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"

/* The source of a row of cells. */
typedef struct Row {
        const void *item; /* ApiMachine, ApiState or ApiUnit */
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

/* Return a string of an item; "" for NULL. */
static inline const char *field_text(const void *field) {
        const char *s;

        memcpy(&s, field, sizeof(s));
        return s ?: "";
}

/* Each ends with a column without a name. */
extern const Column machine_columns[], state_columns[], unit_columns[];
