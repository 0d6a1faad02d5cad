/* Notes: what this host was told to run, and what it has already started, on disk.
 *
 * The last assignment outlives daemon and host, so that neither a crash, an upgrade nor a boot without a quorum needs
 * anybody to know what runs here. It is written before the calls that it is about (ARCHITECTURE rules 29, 30): a start is
 * noted, then made, so that no daemon ever starts twice what ended on purpose. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/table.h"
#include "units/state.h"
#include "units/unit.h"

typedef struct Note {
        char name[256];
        OrderKind kind;        /* run or load */
        Unit *unit;            /* the text that was put in force */
        uint64_t unit_index;   /* of the unit's key */
        uint64_t index;        /* of the order that was obeyed last */
        char started_boot[33]; /* boot in which it was started by this note; "" not yet */
        bool starting;         /* noted, but systemd has not yet said that it was asked */
        char before[33];       /* of a start: the invocation that systemd showed before it; the same later: it was never made */
        bool done;             /* it ended as it should */
        UT_hash_handle hh;
} Note;

typedef struct Notes {
        Note *table;           /* by name */
        uint64_t lineage;      /* of the registry that gave the orders; 0: none yet */
        uint64_t floor;        /* highest index acted on */
        int dir_fd;
        bool dirty;
} Notes;

/* Reads them from 'dir' (made if absent). A file that cannot be read is moved aside (assignment.bad) with a warning and
 * the notes are empty: units go on running, and what runs is adopted. Without memory it stays, and -ENOMEM is returned. */
int notes_open(Notes *n, const char *dir, Error *err);
void notes_close(Notes *n);

Note *notes_get(const Notes *n, const char *name);
/* Makes or changes the note of 'unit'; copies the unit. 0 or -ENOMEM. */
int notes_put(Notes *n, const Unit *unit, OrderKind kind, uint64_t unit_index, uint64_t index, Note **ret);
void notes_remove(Notes *n, const char *name);

/* Writes what changed, durably; nothing when nothing did. A negative errno is to be reported, and then gone on. */
int notes_save(Notes *n);
