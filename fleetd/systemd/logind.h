/* The shutdown and the reboot of this host, by logind on the system bus: real (logind_new()), simulated in
 * tests. Without logind, or if it rejects a call, nothing else changes: the host counts as running.
 *
 * The real one holds an inhibitor of type "delay" for "shutdown", never one of type "block". logind signals a
 * shutdown, and waits until all such inhibitors are released, at most InhibitDelayMaxSec=.
 *
 * Source: org.freedesktop.login1(5), https://systemd.io/INHIBITOR_LOCKS. */
#pragma once

#include "fleetd/systemd/systemd.h"
#include "io/loop.h"
#include "units/stored_reboot.h"

typedef struct Logind Logind;

typedef enum LogindState {
        LOGIND_UNKNOWN,  /* logind has not answered yet */
        LOGIND_RUNNING,  /* no shutdown is announced; also without logind */
        LOGIND_STOPPING, /* the host shuts down or reboots */
} LogindState;

typedef struct LogindOps {
        /* Call 'on_changed' from the loop after each change of state(); NULL: none. */
        void (*set_observer)(Logind *l, void (*on_changed)(void *userdata), void *userdata);
        LogindState (*state)(Logind *l);
        /* Return for how long logind still waits for the inhibitor; 0: it does not, or there is none. */
        uint64_t (*delay_left_ms)(Logind *l);
        /* Release the inhibitor: this daemon does not delay the shutdown any longer. */
        void (*release)(Logind *l);
        /* Reboot the host. 'done' is called once, later, from the loop, when logind has accepted or rejected
         * it. -ENOTCONN: without logind; then 'done' is not called. */
        int (*reboot)(Logind *l, RebootKind kind, SystemdDone done, void *userdata);
        /* Stop waiting for the answer of logind: 'done' is not called any more. */
        void (*forget)(Logind *l);
} LogindOps;

struct Logind {
        const LogindOps *ops;
};

typedef struct LogindOptions {
        const char *address; /* NULL: the system bus. Otherwise logind itself, without a bus, for tests */
} LogindOptions;

int logind_new(Logind **ret, Loop *loop, const LogindOptions *options);
Logind *logind_free(Logind *l); /* releases the inhibitor; a call under way ends with -ECANCELED, at once */
