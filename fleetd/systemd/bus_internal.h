/* What the files of the real systemd share: bus.c holds the connection, job.c one operation from call to
 * JobRemoved, manager.c the units as systemd sees them. bus.c calls job.c and manager.c, job.c calls
 * manager.c. Nobody outside this folder includes this file. */
#pragma once

#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "fleetd/systemd/bus.h"
#include "fleetd/systemd/runtime_dir.h"
#include "io/loop_uv.h"
#include "units/lists.h"
#include "units/name.h"

#define SYSTEMD      "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER      "org.freedesktop.systemd1.Manager"
#define PROPERTIES   "org.freedesktop.DBus.Properties"

enum { BUS_CALL_TIMEOUT_US = 90 * 1000000, BUS_JOBS_GONE = 64 };

typedef struct BusCall BusCall;
typedef struct BusList BusList;
typedef struct BusProperty BusProperty;
typedef struct SystemdBus SystemdBus;

/* One call: from its beginning until 'done' was called. */
struct BusCall {
        SystemdBus *bus;
        sd_bus_slot *slot;
        void (*answer)(BusCall *call, sd_bus_message *reply); /* NULL: only success matters */
        SystemdDone done;
        void *userdata;
        char what[300];       /* "start web.service", for sentences */
        char job[128];        /* of a stop whose job is still running */
        Names names, install; /* of a link: the units, and those of them that are enabled next */
        Deferred finish;      /* 'done' is never called from inside the call that began it */
        int error;
        char sentence[400];
        TAILQ_ENTRY(BusCall) calls;
};

/* By which a unit of a listing is found. */
typedef struct BusName {
        char known_as[UNIT_NAME_MAX + 32]; /* by systemd */
        struct BusName *same; /* the next unit that systemd knows by that name: a service and a Quadlet file,
                                 for example */
        UT_hash_handle by_name, by_known_as;
} BusName;

/* One listing: states of all at once, then a few properties of each that is loaded. */
struct BusList {
        SystemdBus *bus;
        SystemdUnit *units;
        BusName *names;                 /* of units[i]: names[i] */
        BusName *by_name, *by_known_as; /* tables of them */
        size_t n;
        unsigned pending;
        TAILQ_HEAD(, BusProperty) properties;
        int error;
        SystemdListed done;
        void *userdata;
        Deferred finish;
        TAILQ_ENTRY(BusList) lists;
};

struct SystemdBus {
        Systemd base;
        Loop *loop; /* borrowed */
        char *address;
        sd_bus *bus; /* NULL while there is none */
        Guest *guest;
        RuntimeDir dir;
        const char *const *generators;
        SystemdEvents events;
        bool ready, reloading, stopping, said_lost, closing;
        bool state_requested; /* SystemState is being read */
        bool state_changed;   /* and may have changed since: it is read again after that */
        uint32_t target_job;  /* of a target, new, while no job has ended since, and the jobs after it come
                                 without a pause; 0: none */
        uint64_t target_us;   /* when the last of them came */
        SystemdMoves moves;
        uint64_t soft_reboots, left_us; /* of the era */
        char era[64];
        uint64_t spent_ms; /* up to when the gaps of all signals so far reach */
        uint64_t batch_ms; /* nothing is read before, unless it is awaited; 0: at once */
        bool in_batch;     /* signals have come, and what has come is not yet read */
        SystemdBusCounts counts;
        uint64_t backoff_ms;
        Timer reconnect;
        TAILQ_HEAD(, BusCall) calls;
        TAILQ_HEAD(, BusList) lists;
        char gone[BUS_JOBS_GONE]
                 [128]; /* paths of jobs that ended, the newest: a signal may overtake the reply */
        unsigned next_gone;
        Timer stopping_wait;
        void (*stopping_done)(void *userdata, bool stopping);
        void *stopping_userdata;
};

static inline SystemdBus *systemd_bus(Systemd *s) {
        return container_of(s, SystemdBus, base);
}

/* -- bus.c -- */

/* A signal about the unit that systemd knows as 'known_as': calls 'each' for that of this name, and for
 * Quadlet files of ours it was made of. One about shutdown.target is a hint that the system begins to stop,
 * or no longer does: SystemState says which. */
void bus_each_unit(SystemdBus *b, const char *known_as,
                   void (*each)(SystemdBus *b, const char *unit, const void *what), const void *what);

/* -- manager.c -- */

/* A call to systemd's manager that can be filled and sent; -ENOTCONN without one that answers. */
int manager_method(SystemdBus *b, const char *member, sd_bus_message **ret);
/* As 'list' of SystemdOps. */
int manager_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                 void *userdata);
/* Nothing more will come: the listing is answered with 'error', from the loop. */
void manager_list_abort(BusList *list, int error);
/* Answers it now, and frees it. */
void manager_list_finish(void *list);

/* -- job.c -- */

/* As their namesakes of SystemdOps. */
int job_start(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_stop(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_reset_failed(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_reload(Systemd *s, SystemdDone done, void *userdata);
int job_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
int job_unlink(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
/* Handles the signal. */
int job_on_removed(sd_bus_message *m, void *userdata, sd_bus_error *unused);
/* No answer will come: the call ends with 'error', from the loop. */
void job_call_fail(BusCall *call, int error, const char *sentence);
/* Ends it now, and frees it. */
void job_call_finish(BusCall *call);
