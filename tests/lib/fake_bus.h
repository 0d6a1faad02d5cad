/* A systemd that exists only on its bus: real D-Bus on a unix socket, on the test's loop, and units that
 * behave as the test defines. It writes down the calls. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/text.h"
#include "io/loop_uv.h"

enum { FAKE_UNITS_MAX = 16, FAKE_HELD_MAX = 16 };

typedef struct FakeUnit {
        char name[64], load[16], active[16], sub[16], fragment[300], source[300], result[16];
        char alias[64]; /* its other name */
        char binds_to[64], requires[64], conflicts[64];
        unsigned n_idle; /* number of conflicts with idle.service listed before that */
        int exec_code, exec_status;
        unsigned n_restarts;
        char load_error[64];   /* message of LoadError */
        bool oneshot, remains; /* Type=oneshot, RemainAfterExit=yes */
        bool need_reload, job;
        unsigned char invocation[16];
        size_t invocation_size; /* 0 or 16 */
} FakeUnit;

typedef struct FakeBus {
        UvLoop *uv;
        int listen_fd;
        Guest *listener, *guest;
        sd_bus *bus;       /* the one connection; NULL: none */
        char address[300]; /* of the socket */
        FakeUnit units[FAKE_UNITS_MAX];
        size_t n_units;
        Text call_log; /* "StartUnit web.service replace; " for each call except reads */
        unsigned connections, calls, n_jobs, n_new_jobs, starts, stops;
        const char *hold;                             /* calls of this member get no reply yet */
        const char *fail, *fail_name, *fail_message;  /* calls of this member are rejected */
        const char *fail_part;                        /* only those that contain this; NULL: all */
        const char *fail_property, *fail_property_of; /* this property of that unit gets no reply in time */
        bool fails_typed;                             /* it gets a reply of another type */
        unsigned n_failed_properties;
        bool executes; /* links, starts and stops change its units; jobs end at once, with their signal */
        bool deaf;     /* but held calls are executed, as when only the reply is lost */
        bool no_idle;  /* CPUWeight=idle is invalid, as before systemd 252 */
        bool signals_first;        /* JobRemoved precedes the reply that names the job */
        char command[64];          /* the last transient service */
        const char *links;         /* folder in which runtime links are made and removed; NULL: none */
        unsigned unlinked_in_vain; /* names without a link that were to be disabled: systemd rejects the whole
                                      call */
        const char *state;         /* SystemState */
        const char *boot_user;     /* requires boot-complete.target; NULL: no unit does */
        uint64_t basic_us;         /* when basic.target became active; 0: unknown */
        uint64_t left_us;          /* when multi-user.target became inactive */
        unsigned soft_reboots;
        /* As logind: */
        uint64_t delay_us; /* InhibitDelayMaxUSec */
        bool preparing;    /* PreparingForShutdown */
        int inhibitor_fd;  /* our end of the newest inhibitor; -1: none was taken */
        unsigned inhibitors;
        sd_bus_message *held[FAKE_HELD_MAX];
        size_t n_held;
} FakeBus;

FakeBus *fake_bus_new(UvLoop *uv, const char *path);
FakeBus *fake_bus_free(FakeBus *f); /* returns NULL */

FakeUnit *fake_bus_unit(FakeBus *f, const char *name, const char *load, const char *active, const char *sub);
void fake_bus_release(FakeBus *f);    /* reply to held calls */
void fake_bus_disconnect(FakeBus *f); /* as when systemd is re-executed: held calls never get a reply */
void fake_bus_job_removed(FakeBus *f, unsigned job, const char *unit, const char *result);
void fake_bus_job_new(FakeBus *f, const char *unit);
/* The main process of a service has ended, and it has failed. */
void fake_bus_exit(FakeBus *f, const char *unit, const char *result, int code, int status);
void fake_bus_reloading(FakeBus *f, bool active);
void fake_bus_changed(FakeBus *f, const char *unit); /* PropertiesChanged */
/* The same with what changed: 'unit' is in this state now, with this job (0: none); 'left' and 'ended': it
 * has just left the active state, and become inactive; 'skipped': its condition does not hold; 'result': of
 * the service, sent before (NULL: not sent). */
typedef struct FakeChange {
        const char *active;
        unsigned job;
        bool left, ended, skipped;
        const char *result;
} FakeChange;
void fake_bus_change(FakeBus *f, const char *unit, FakeChange change);

/* logind announces a shutdown, or that it was cancelled. */
void fake_bus_prepare_for_shutdown(FakeBus *f, bool stopping);
bool fake_bus_is_inhibited(FakeBus *f); /* the newest inhibitor is held */
