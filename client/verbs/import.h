/* Units and metadata that are imported: compared with the cluster, listed, and submitted after a
 * confirmation. */
#pragma once

#include "client/core/client.h"
#include "units/machine.h"

typedef enum ImportAction {
        IMPORT_CREATE,   /* a new unit */
        IMPORT_EXISTS,   /* with the same text, which stays */
        IMPORT_REPLACE,  /* exists with another text or target state, and is replaced */
        IMPORT_DIFFERS,  /* exists with another text, which stays */
        IMPORT_REJECTED, /* by the rules for units */
        _IMPORT_ACTION_MAX,
} ImportAction;

typedef struct ImportUnit {
        char *name, *text; /* owned */
        TargetState target;
        ImportAction action;
        char *rejected; /* reason, owned; NULL: it is not */
} ImportUnit;

typedef struct ImportMetadata {
        char machine[MACHINE_ID_SIZE];
        char *key, *value; /* owned */
        bool exists;       /* the machine has it already: set to this value, or removed */
} ImportMetadata;

typedef struct ImportUnits {
        ImportUnit *items;
        size_t n, capacity;
        size_t counts[_IMPORT_ACTION_MAX]; /* after import_compare() */
        ImportMetadata *metadata;
        size_t n_metadata, metadata_capacity;
        size_t n_metadata_new; /* after import_compare(): not yet there */
} ImportUnits;

void import_units_done(ImportUnits *units);

/* Add a unit, and check whether this cluster accepts it. Takes 'text'. */
int import_add(ImportUnits *units, const char *name, char *text, TargetState target, Error *err);

/* Add metadata; "" removes it. Metadata that no machine may have is skipped. */
int import_add_metadata(ImportUnits *units, const char *machine, const char *key, const char *value);

/* Sort the units by name, and set their actions; with 'replace', other texts and target states are replaced.
 * Compare the metadata, too; where the daemon shows none that is set, all is new. */
int import_compare(Client *c, ImportUnits *units, bool replace, Error *err);

int import_print(const ImportUnits *units); /* a table; 0 or -ENOMEM */
const char *import_action_name(const ImportUnit *unit);
int import_send(Client *c, ImportUnits *units, Error *err);

/* Print the error of a step that changes nothing. */
int import_fail_unchanged(int r, const Error *err);

int import_folder(Client *c, const char *dir, Error *err); /* import_folder.c */
