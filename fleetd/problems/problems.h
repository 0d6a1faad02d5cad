/* The problems of the cluster, as one table: each row is a kind of problem with its search. The API, the
 * metrics and, through the API, fleetctl status have all of them from here.
 *
 * A search visits hosts, then units, in the order of the table and of names, and ends at a limit of work; the
 * next one continues after the last object. It reads the cluster view and the state of the store alone. */
#pragma once

#include "fleetd/engine/plan.h"
#include "fleetd/host/component.h"
#include "fleetd/registry/history.h"
#include "fleetd/registry/rights.h"
#include "fleetd/scheduler/scheduler.h"

typedef enum ProblemSeverity {
        SEVERITY_INFO, /* it may stay */
        SEVERITY_WARNING,
        SEVERITY_CRITICAL, /* the cluster does not do its work */
        _SEVERITY_MAX,
} ProblemSeverity;

extern const char *const problem_severity_names[_SEVERITY_MAX];

/* What the search of a row is called for. Rows that follow each other with the same value search each object
 * together. */
typedef enum ProblemObject {
        ABOUT_HOST,     /* once: this host, which may have no replica */
        ABOUT_CLUSTER,  /* once */
        ABOUT_MACHINE,  /* each machine */
        ABOUT_PRESENCE, /* each machine, but the voters that are unreachable */
        ABOUT_FILE,     /* each problem of a unit directory, by machine */
        ABOUT_MOVE,     /* each unit, also without a unit key; as the next ones */
        ABOUT_ROLLOUT,
        ABOUT_UNIT,
        ABOUT_STATE, /* each state of a unit on a machine that is not down */
} ProblemObject;

typedef struct ProblemSearch ProblemSearch;

typedef struct ProblemRow {
        const char *kind; /* in the API and in metrics; fleetctl(1) has all. Rows may share one */
        ProblemSeverity severity;
        Right right; /* of those who see it */
        ProblemObject of;
        bool (*find)(ProblemSearch *s, const struct ProblemRow *row); /* true: no next row has the object */
        const char *next;                                             /* as ProblemSearch.next; NULL: "" */
        int what;                                                     /* the search's */
} ProblemRow;

/* A unit that restarts again and again on a machine, as the history counts it. Times: wall clock. */
typedef struct ProblemLoop {
        HistoryEvent event;
        uint64_t count, first_ms, last_ms;
} ProblemLoop;

enum { PROBLEM_ROWS_MAX = 64 };

struct ProblemSearch {
        /* Given; borrowed: */
        const Cluster *cluster;
        const Component *const *components; /* their rows, too; NULL: none */
        KvState state;
        const char *self, *name; /* ID and name of the host that is asked; "" without one */
        uint64_t wall_ms, brake_ms;
        int64_t zone_ms;                          /* what the local time of the reader is ahead of UTC */
        bool (*may)(void *userdata, Right right); /* NULL: all */
        void *userdata;
        size_t *counts; /* by row, in place of 'list'; NULL: none */

        /* Where it begins, and then continues: */
        size_t row;                    /* the first one for the same objects */
        char after[UNIT_NAME_MAX + 1]; /* the last object, by its name or ID */

        Text list; /* the problems that were found, as items of a JSON array */
        size_t n;

        /* For the rows: */
        uint64_t now_ms; /* cluster time, which goes on without a leader */
        EngineBrake brake;
        Text replica, rejection; /* what is wrong with the replica of this host, but that it has no leader,
                                    and with its sessions */
        ProblemLoop *loops;      /* owned; the last one first */
        size_t n_loops, loops_capacity;
        ClusterMachine **machines; /* all, by ID */
        size_t n_machines;
        SchedulerView *view; /* see problems_view() */
        const ClusterMachine *machine;
        const ClusterUnit *unit;
        const ClusterState *on;
        const ClusterProblem *file;
        char place[CLUSTER_LABEL_SIZE]; /* the name of that machine */

        /* What problems_add() adds: 'subject' is the object, unless the row sets another one. 'next':
         * arguments of fleetctl for the next step, "" for none; if it ends with a space or "=", the subject
         * follows, of a machine "NAME (ID)" the ID. 'what' is the begin of the description. */
        const char *subject, *next;
        char command[UNIT_NAME_MAX + 16]; /* where a row writes its 'next' */
        Text what;
        size_t at, visits, max, work;
};

/* Search, until 'max' problems are found or 'work' objects are visited. Return 1 if it is to be continued, 0
 * at the end, or -ENOMEM. */
int problems_search(ProblemSearch *s, size_t max, size_t work);
void problems_done(ProblemSearch *s);
/* Return a row of the table with those of the components; NULL: there are fewer. */
const ProblemRow *problems_row(const Component *const *components, size_t i);
/* -- For rows -- */

bool problems_add(ProblemSearch *s, const ProblemRow *row, const char *format, ...) _printf_(3, 4); /* true */
/* Return the view of the scheduler, as s->view; NULL: no memory, which the search reports. */
const SchedulerView *problems_view(ProblemSearch *s);
/* Append a time of the wall clock to s->what: "18:20", with the date if that is not today's. */
void problems_append_clock(ProblemSearch *s, uint64_t wall_ms, bool seconds);
