/* The table of services: the files of /run/fleet/services in memory.
 *
 * fleetd replaces the files, and inotify reports it. The table stays as it is while the folder is absent, so
 * that names keep their answers. Source: units/service.h has the lines of the files. */
#pragma once

#include <netinet/in.h>

#include "base/table.h"
#include "units/service.h"

enum {
        TABLE_SERVICES_MAX = 65536, /* files that are read */
        TABLE_LOOK_MS = 1000,       /* between two looks for an absent folder */
        TABLE_REMOVED_MS = 20,      /* after the removal of a file: is the whole folder being removed? */
};

/* An endpoint and one of its ports. */
typedef struct TableLine {
        EndpointLine endpoint;   /* borrowed from the text of the service, but without 'unit' */
        const char *instance;    /* of the unit, if it is a label; otherwise "" */
        struct in6_addr address; /* IPv4 is mapped, ::ffff:10.0.0.1 */
        bool is_first;           /* of the lines of this endpoint in the file */
} TableLine;

typedef struct TableService {
        char *name, *text; /* owned, as the next */
        TableLine *lines;  /* sorted by address */
        size_t n_lines;    /* 0: the service does not exist */
        bool has_a_fault;  /* that was logged */
        UT_hash_handle hh;
} TableService;

typedef struct Table {
        TableService *services; /* by name */
        char *host_text;        /* owned */
        EndpointHost host;
        bool is_known; /* the folder was read once */
} Table;

void table_done(Table *table);

/* Return the service of this name, or NULL. 'name' needs no termination. */
const TableService *table_find(const Table *table, const char *name, size_t size);

/* Replace, add or remove one file of the table. 'text' is terminated, and owned by the table, also after a
 * failure; NULL: the file was removed. Return 0 or -ENOMEM. */
int table_take(Table *table, const char *name, char *text);

/* Follow the folder: read it now, and each changed file from 'event' on. The caller frees *ret before
 * 'table'. Return 0 or a negative errno; an absent folder is no error. */
typedef struct sd_event sd_event;
typedef struct TableWatch TableWatch;
int table_watch_new(Table *table, sd_event *event, const char *folder, TableWatch **ret);
TableWatch *table_watch_free(TableWatch *watch);
DEFINE_CLEANUP(TableWatch *, table_watch_free)
