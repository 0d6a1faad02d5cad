/* What the files of the real systemd share: bus.c holds the connection, job.c one operation from call to JobRemoved,
 * manager.c the units as systemd sees them. bus.c calls job.c and manager.c, job.c calls manager.c. Nobody outside this folder
 * includes this file. */
#pragma once

#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "fleetd/systemd/bus.h"
#include "fleetd/systemd/unit_dir.h"
#include "io/loop_uv.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

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
        char what[300];    /* "start web.service", for sentences */
        char job[128];     /* of a stop whose job is still running */
        char **install;    /* of a link: the units to be enabled next; owned */
        size_t n_install;
        Deferred finish;   /* 'done' is never called from inside the call that began it */
        int error;
        char sentence[400];
        TAILQ_ENTRY(BusCall) calls;
};

/* One listing: states of all at once, then a few properties of each that is loaded. */
struct BusList {
        SystemdBus *bus;
        SystemdUnit *units;
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
        UnitDir dir;
        const char *const *generators;
        SystemdEvents events;
        bool ready, reloading, stopping, said_lost, closing;
        uint64_t backoff_ms;
        Timer reconnect;
        TAILQ_HEAD(, BusCall) calls;
        TAILQ_HEAD(, BusList) lists;
        char gone[BUS_JOBS_GONE][128]; /* paths of jobs that ended, the newest: a signal may overtake the reply */
        unsigned next_gone;
        Timer stopping_wait;
        void (*stopping_done)(void *userdata, bool stopping);
        void *stopping_userdata;
};

static inline SystemdBus *systemd_bus(Systemd *s) {
        return container_of(s, SystemdBus, base);
}

/* -- bus.c -- */

/* Calls 'each' for the units that systemd knows as 'known_as': that of this name, and Quadlet files of ours it was made of. */
void bus_each_unit(SystemdBus *b, const char *known_as, void (*each)(SystemdBus *b, const char *unit, const void *what), const void *what);

/* -- manager.c -- */

/* A call to systemd's manager that can be filled and sent; -ENOTCONN without one that answers. */
int manager_method(SystemdBus *b, const char *member, sd_bus_message **ret);
/* As 'list' of SystemdOps. */
int manager_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done, void *userdata);
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
