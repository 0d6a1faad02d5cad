/* Notes: what this host was told to run, and what it has already started, on disk.
 *
 * The last assignment outlives daemon and host, so that neither a crash, an upgrade nor a boot without a
 * quorum needs anybody to know what runs here. It is written before the calls that it is about (ARCHITECTURE
 * rules 29, 30): a start is noted, then made, so that no daemon ever starts twice what ended on purpose. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sizes.h"
#include "base/table.h"
#include "units/state.h"
#include "units/unit.h"
#include "units/name.h"

typedef struct AssignmentRecord {
        char name[UNIT_NAME_MAX + 1];
        AssignmentKind kind;             /* run or load */
        Unit *unit;                      /* the text that was put in force */
        uint64_t unit_index;             /* of the unit's key */
        uint64_t index;                  /* of the order that was obeyed last */
        char started_boot[BOOT_ID_SIZE]; /* boot in which it was started by this note; "" not yet */
        char owned_boot[BOOT_ID_SIZE]; /* boot in which systemd had it from our file: what runs under its name
                                without any file is ours; "" none */
        bool starting;                 /* noted, but systemd has not yet said that it was asked */
        char before[INVOCATION_ID_SIZE]; /* of a start: the invocation that systemd showed before it; the same
                                          * later: it was never made. While 'replacing', before the start: the
                                          * invocation that was stopped
                                          */
        char invocation[INVOCATION_ID_SIZE]; /* when it was seen to run under our file last; what changes is
                                written with other changes, or once 'taken_over' */
        bool taken_over;                     /* another file has its name while it runs; not on disk */
        bool ran;       /* it was seen to run since it was started, and not seen to fail or to be stopped */
        bool done;      /* it ended as it should */
        bool stopping;  /* it was ordered to stop, and is not gone yet, or to be loaded only, and runs: what
                           runs is ours. 'kind' is ASSIGNMENT_LOAD, so that nothing starts it */
        bool replacing; /* stopped so that 'unit' takes the place of the text before */
        bool finishing; /* this daemon stopped it for that, or has begun to start it: it starts it even
                           without the cluster; not on disk */
        char job[16]; /* why systemd did not begin its last start: "condition", or the result of the job; "":
                         it began, or is about to */
        bool stored;  /* 'unit' is in a file of its own */
        bool stopped; /* it was stopped by hand since it was started: it is not started again for the sake of
                         another unit */
        bool stopped_for; /* systemd stopped it for the sake of another unit: it is started again when that
                             one is back; until it is seen to run */
        UT_hash_handle hh;
} AssignmentRecord;

typedef struct AssignmentRecords {
        AssignmentRecord *table; /* by name */
        uint64_t lineage;        /* of the registry that gave the orders; 0: none yet */
        uint64_t acted_index;    /* highest index acted on */
        char boot[BOOT_ID_SIZE],
                era[64]; /* of the boot, the time of the host being up, in which it was written last;
                  "": not known */
        char *path;      /* of the folder */
        int dir_fd;
        unsigned n_reopened;     /* so many times it was opened again: what was written before is gone */
        bool dirty, dirty_texts; /* there may be files of texts that nothing names */
} AssignmentRecords;

enum {
        RECORDS_SIZE_MAX = 16 * 1024 * 1024, /* of the file, written or read; some 20,000 units */
        RECORDS_INLINE_MAX = 1024 * 1024, /* texts of all units: with more, each has a file of its own, named
                                           by its hash, written once */
};

/* Reads them from 'dir' (made if absent). A file that cannot be read is moved aside (assignment.bad) with
 * a warning and the notes are empty: units go on running, and what runs is adopted. Of one whose entries
 * cannot all be read those are left out, with a warning each, and the file is kept as assignment.bad, too.
 * Without memory it stays, and -ENOMEM is returned. */
int records_open(AssignmentRecords *records, const char *dir, Error *err);
void records_close(AssignmentRecords *records);

/* The folder may be removed, or another one put in its place: it is made again, and all is to be written.
 * That is logged. 0 or a negative errno. */
int records_check_dir(AssignmentRecords *records);

AssignmentRecord *records_get(const AssignmentRecords *records, const char *name);
/* Makes or changes the note of 'unit'; copies the unit. 0 or -ENOMEM. */
int records_put(AssignmentRecords *records, const Unit *unit, AssignmentKind kind, uint64_t unit_index,
                uint64_t index, AssignmentRecord **ret);
void records_remove(AssignmentRecords *records, const char *name);

/* The host is up in this boot and era. Where it is another era of the same boot (a soft reboot, a way back
 * from rescue.target), what was started in it was ended by systemd, as by a boot. */
void records_set_era(AssignmentRecords *records, const char *boot, const char *era);

/* Writes what changed, durably; nothing when nothing did. Blocks. A negative errno is to be reported, and
 * then gone on; -EFBIG: there is more than could be read again, and the file stays as it was. */
int records_save(AssignmentRecords *records);

/* The same in three steps, of which the second may be made off the loop: it uses nothing but 'w', and is made
 * before another write begins. The notes may change meanwhile, and be closed. */
typedef struct RecordsWrite RecordsWrite;

/* 1, 0: there is nothing to write, or a negative errno as of records_save(). */
int records_write_new(AssignmentRecords *records, RecordsWrite **ret);
/* Writes once, however often and from wherever it is called: it is written when this returns. */
void records_write_run(RecordsWrite *w);
/* The notes learn what was written; what was not is still to be. Returns what records_save() would, or
 * -ESTALE: the folder was removed meanwhile, and is made again; another write is due. */
int records_write_end(AssignmentRecords *records, const RecordsWrite *w);
RecordsWrite *records_write_free(RecordsWrite *w);
