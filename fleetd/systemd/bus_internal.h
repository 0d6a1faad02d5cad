/* Internal interface of the real systemd; only the files of this folder include it.
 *
 * bus.c keeps the connection, signals.c handles signals, job.c performs one operation from call to
 * JobRemoved, manager.c lists units. Each file calls later ones only, with one exception: signals.c reports
 * readiness and requests SystemState through bus.c. */
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

enum {
        BUS_CALL_TIMEOUT_US = 90 * 1000000,
        BUS_REMOVED_JOBS = 64,
        BUS_NAME_SIZE = UNIT_NAME_MAX + 32, /* of a unit's name in systemd: quadlet_service() */
        BUS_JOB_SIZE = 128,                 /* of the object path of a job */
        BUS_RESULT_SIZE = 32,               /* of a job, or of a service */
        BUS_MESSAGE_SIZE = 400,
        BUS_CHECK_SIZE = 64, /* of the name of the service of a command */
};

typedef struct BusCall BusCall;
typedef struct BusList BusList;
typedef struct BusProperty BusProperty;
typedef struct SystemdBus SystemdBus;

/* One call, until its 'done' is called. */
struct BusCall {
        SystemdBus *bus;
        sd_bus_slot *slot;
        void (*on_reply)(BusCall *call, sd_bus_message *reply); /* NULL: only success matters */
        SystemdDone done;
        void *userdata;
        const char *member;     /* of the manager, for messages; static */
        char job[BUS_JOB_SIZE]; /* object path of a job that runs, of a stop or a command; "": none */
        /* Of a link: its units, and those to be enabled afterwards. Of a command: its arguments, its user */
        Names names, install;
        uint64_t timeout_ms;              /* of a command, as the next one */
        void (*on_begun)(void *userdata); /* NULL: none */
        bool retried;                     /* the request for its slice */
        char unit[BUS_CHECK_SIZE];        /* of a command: its service, and as signalled: */
        int exit_code, exit_status;       /* ExecMainCode and ExecMainStatus; 0: unknown */
        char result[BUS_RESULT_SIZE];     /* Result; "": unknown */
        Deferred finish;                  /* 'done' is never called from inside the call that began it */
        int error;
        char message[BUS_MESSAGE_SIZE];
        TAILQ_ENTRY(BusCall) calls;
};

/* Index of the units of a listing. */
typedef struct BusName {
        char known_as[BUS_NAME_SIZE]; /* the name of the unit in systemd */
        /* Further units with this name, for example a service and a Quadlet file. */
        SLIST_ENTRY(BusName) same;
        UT_hash_handle by_name, by_known_as;
} BusName;

/* One listing: the states of all units at once, then a few properties of each loaded unit. */
struct BusList {
        SystemdBus *bus;
        SystemdUnit *units;
        BusName *names;                 /* names[i] belongs to units[i] */
        BusName *by_name, *by_known_as; /* tables over 'names' */
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
        sd_bus *bus; /* NULL: not connected */
        Guest *guest;
        RuntimeDir dir;
        const char *const *generators;
        SystemdEvents events;
        bool ready, reloading, stopping, lost_logged, closing;
        bool state_requested; /* SystemState is being read */
        bool state_changed;   /* SystemState may have changed during that read, which is repeated */
        uint32_t target_job;  /* the newest job of a target; the later jobs without a pause or a removed job
                                 belong to its transaction; 0: none */
        uint64_t target_us;   /* time of the newest job */
        SystemdMove *moves;
        bool boot_used, booting; /* a unit of the boot needs boot-complete.target; and it is not reached */
        uint64_t soft_reboots, left_us; /* of the era */
        char era[SYSTEMD_ERA_SIZE];
        bool has_check_slice; /* fleet-checks.slice, on this connection */
        uint64_t spent_ms;    /* rate limit: the time at which the gaps of all signals so far have passed */
        uint64_t batch_ms;    /* no read before this time unless a reply is awaited; 0: no limit */
        bool in_batch;        /* signals arrived, and not all are read */
        uint64_t n_signals, n_batches; /* signals about units, and reads of one or more of them */
        uint64_t backoff_ms;
        Timer reconnect;
        TAILQ_HEAD(, BusCall) calls;
        TAILQ_HEAD(, BusList) lists;
        /* The newest removed jobs: a signal may overtake the reply. */
        struct {
                char path[BUS_JOB_SIZE], result[BUS_RESULT_SIZE];
        } removed_jobs[BUS_REMOVED_JOBS];
        unsigned next_removed;
        Timer stopping_wait;
        void (*stopping_done)(void *userdata, bool stopping);
        void *stopping_userdata;
};

static inline SystemdBus *systemd_bus(Systemd *s) {
        return container_of(s, SystemdBus, base);
}

/* -- bus.c -- */

void bus_set_ready(SystemdBus *b, bool ready);
/* Read SystemState again. */
void bus_request_state(SystemdBus *b);
/* Read the state of boot-complete.target again. */
void bus_request_boot(SystemdBus *b);
/* Count a signal against the rate above which signals are read in batches. */
void bus_count_signal(SystemdBus *b);

/* -- signals.c -- */

/* Subscribe to the signals. 0 or a negative errno. */
int signals_match(SystemdBus *b);

/* -- job.c -- */

/* As the members of SystemdOps with these names. */
int job_start(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_stop(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_restart(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_reload_unit(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_reset_failed(Systemd *s, const char *name, SystemdDone done, void *userdata);
int job_reload(Systemd *s, SystemdDone done, void *userdata);
int job_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
int job_unlink(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
/* The job of this object path was removed, with a result as in systemd: end the call that waits for it. */
void job_removed(SystemdBus *b, const char *job, const char *result);
/* Return a call of 'member', to be sent by job_call_send(); NULL without memory. */
BusCall *job_call_new(SystemdBus *b, const char *member, SystemdDone done, void *userdata);
/* Free a call that was not sent. */
void job_call_free(BusCall *call);
/* Send 'm', and take it over; NULL with 'error' if it was not built. Failures are reported by 'done'. Return
 * 0. */
int job_call_send(BusCall *call, sd_bus_message *m, int error);
/* An 'on_reply': end the call when its job ends. */
void job_await_on_reply(BusCall *call, sd_bus_message *reply);
/* End the call with 'error' and 'message', from the loop: no reply will come. */
void job_call_fail(BusCall *call, int error, const char *message);
/* End the call now, and free it. */
void job_call_finish(void *call);

/* -- manager.c -- */

/* Return a method call of systemd's manager, to be filled and sent. -ENOTCONN: not connected, or not ready.
 */
int manager_method(SystemdBus *b, const char *member, sd_bus_message **ret);
/* Copy a message of systemd without its final period, because other text follows. */
void manager_copy_message(char *ret, size_t size, const char *message);
/* As list() of SystemdOps. */
int manager_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                 void *userdata);
/* End the listing with 'error', from the loop: no reply will come. */
void manager_list_abort(BusList *list, int error);
/* End the listing now, and free it. */
void manager_list_finish(void *list);
