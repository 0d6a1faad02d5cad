/* Assignment records: the assignments of this host and which of them were started, on disk.
 *
 * They outlive daemon and host: a crash, an upgrade or a boot without quorum needs no other source. A record
 * is on disk before the call that it describes: no daemon starts a unit twice that ended on purpose. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "base/table.h"
#include "units/state.h"
#include "units/unit.h"
#include "units/name.h"

enum { RECORD_JOB_SIZE = 16, RECORD_ERA_SIZE = 64 };

/* The numbers of ports that this host has selected (Port=NAME:auto), by name. What is unused is zero. */
typedef struct RecordPorts {
        struct RecordPort {
                char name[PORT_NAME_MAX + 1];
                uint16_t number;
        } items[PORTS_MAX];
        size_t n;
} RecordPorts;

/* Return the number of a port of the unit: its own, or the selected one. 0: none is selected. */
uint16_t record_ports_number(const RecordPorts *ports, const ServicePort *port);
/* Add the number of that name. At most PORTS_MAX. */
void record_ports_add(RecordPorts *ports, const char *name, uint16_t number);
/* Return whether a unit with these selected numbers has the port. */
bool record_ports_have(const RecordPorts *ports, const ServicePolicy *service, uint16_t number,
                       PortProtocol protocol);

typedef struct AssignmentRecord {
        char name[UNIT_NAME_MAX + 1];
        AssignmentKind kind;             /* run or load */
        Unit *unit;                      /* the text that was put in force */
        uint64_t unit_index;             /* of the unit's key that the assignment was planned on */
        uint64_t index;                  /* of the last assignment that was executed */
        uint64_t since_ms;               /* its time; a rewrite in place keeps it. 0: of an older version */
        char started_boot[BOOT_ID_SIZE]; /* boot in which it was started by this record; "": not yet */
        char owned_boot[BOOT_ID_SIZE]; /* boot in which systemd had our file: a unit that runs without a file
                                          is ours; "": none */
        bool starting;                 /* recorded, but systemd has not confirmed the call */
        char before[INVOCATION_ID_SIZE]; /* of a start: the invocation before it; while it stays, the start
                                            was not made. While 'replacing', before the start: the invocation
                                            that was stopped */
        char invocation[INVOCATION_ID_SIZE]; /* last invocation observed with our file; written with other
                                                changes, or when 'taken_over' changes */
        bool taken_over;                     /* another file has its name while it runs; not on disk */
        uint64_t checked; /* by bit: HealthExec= of this check of 'unit' has run on this host */
        bool ran;         /* observed running since its start, and not observed failed or stopped */
        bool done;        /* completed */
        bool stopping;  /* assigned to stop and not gone yet, or assigned to be loaded and still running: the
                           running unit is ours. 'kind' is ASSIGNMENT_LOAD, so that nothing starts it */
        bool replacing; /* stopped so that 'unit' replaces the former text */
        bool reloading; /* the process was reloaded, or is about to be, with another text than 'unit' */
        bool finishing; /* this daemon stopped it for that, or has begun to start it: it starts the unit even
                           without the cluster; not on disk */
        char job[RECORD_JOB_SIZE]; /* why systemd did not begin its last start: "condition", or the result of
                         the job; "": it began, or is about to */
        RecordPorts ports;         /* on disk before the start of the unit */
        uint64_t inputs;           /* number of the content that it had, or is to have, at its last start;
                                      0: none, or not known */
        bool text_stored;          /* 'unit' is in a file of its own */
        char *template; /* owned; of a socket with Accept=yes: the text whose instances it starts; NULL: none
                         */
        bool stopped;   /* stopped by hand since its start: not started again because of another unit */
        bool stopped_for; /* systemd stopped it because of another unit: it is started again when that unit is
                             back; until it is observed running */
        UT_hash_handle hh;
} AssignmentRecord;

/* One port of a unit with a record. */
typedef struct HeldPort {
        uint32_t port; /* number and protocol */
        bool selected; /* by this host, for Port=NAME:auto */
        const AssignmentRecord *record;
} HeldPort;

typedef struct AssignmentRecords {
        AssignmentRecord *table; /* by name */
        HeldPort *held;          /* by number and protocol: derived from the table */
        size_t n_held, held_capacity;
        uint64_t lineage;     /* of the registry that made the assignments; 0: none yet */
        uint64_t acted_index; /* highest index acted on */
        char boot[BOOT_ID_SIZE], era[RECORD_ERA_SIZE]; /* of the last write: the boot, and the uptime period
                                             within it (SystemdOps.era()); "": unknown */
        char machine[MACHINE_ID_SIZE]; /* whose assignments these are; "": unknown, of an older version */
        char *path;                    /* of the folder */
        int dir_fd;
        unsigned n_reopened;     /* times that the folder was opened again; earlier writes are gone */
        bool dirty, dirty_texts; /* 'dirty_texts': there may be files of unused texts */
} AssignmentRecords;

enum {
        RECORDS_SIZE_MAX = 16 * 1024 * 1024, /* of the file, written or read; some 20,000 units */
        RECORDS_INLINE_MAX = 1024 * 1024, /* texts of all units; above it, each has a file of its own, named
                                             by its hash and written once */
};

/* Read the records from folder 'dir', which is made if absent.
 *
 * A file that cannot be read is renamed to assignment.bad, with a warning. The records are empty then: units
 * continue to run, and are adopted. Entries that cannot be read are dropped, each with a warning, and the
 * file is kept as assignment.bad, too. Without memory nothing is renamed, and -ENOMEM is returned. */
int records_open(AssignmentRecords *records, const char *dir, Error *err);
void records_close(AssignmentRecords *records);

/* Let the records be those of this machine. -EPERM: they are of another one, which may run the units. */
int records_take(AssignmentRecords *records, const char *machine_id, Error *err);

/* Make the folder again if it was removed or replaced, log that, and mark all records dirty. 0 or a negative
 * errno. */
int records_check_dir(AssignmentRecords *records);

AssignmentRecord *records_get(const AssignmentRecords *records, const char *name);
/* Add or change the record of 'unit'; copy the unit. 0 or -ENOMEM. */
int records_put(AssignmentRecords *records, const Unit *unit, AssignmentKind kind, uint64_t unit_index,
                uint64_t index, AssignmentRecord **ret);
void records_remove(AssignmentRecords *records, const char *name);
/* Change the selected numbers of a record. 0 or -ENOMEM. */
int records_set_ports(AssignmentRecords *records, AssignmentRecord *record, const RecordPorts *ports);
/* Return the ports of all units with this number and protocol, which are *ret_n. Borrowed until a record
 * changes. */
const HeldPort *records_holders(const AssignmentRecords *records, uint16_t number, PortProtocol protocol,
                                size_t *ret_n);

/* Set boot and era of this host. In a new era of the same boot (a soft reboot, a return from rescue.target)
 * systemd has stopped all units, as in a boot. */
void records_set_era(AssignmentRecords *records, const char *boot, const char *era);

/* Write changes, durably. Blocks. The caller reports a negative errno and continues. -EFBIG: the records are
 * above RECORDS_SIZE_MAX, and the file is unchanged. */
int records_save(AssignmentRecords *records);

/* records_save() in three steps. The second may run off the loop: it uses nothing but 'w'. The records may
 * change or be closed meanwhile. One write ends before the next begins. */
typedef struct RecordsWrite RecordsWrite;

/* Return 1, 0 if there is nothing to write, or a negative errno as records_save() does. */
int records_write_new(AssignmentRecords *records, RecordsWrite **ret);
/* Write, once even if this is called several times, on any thread. The write has ended when this returns. */
void records_write_run(RecordsWrite *w);
/* Mark in the records what was written. Return as records_save(), or -ESTALE: the folder was removed during
 * the write, and was made again; another write is due. */
int records_write_end(AssignmentRecords *records, const RecordsWrite *w);
RecordsWrite *records_write_free(RecordsWrite *w);
