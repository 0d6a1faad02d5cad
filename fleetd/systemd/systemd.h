/* systemd as the agent needs it: an interface with two implementations, the real one over D-Bus
 * (systemd_bus_new()) and the simulator's model.
 *
 * Everything is asynchronous: each call that was begun (0) ends in exactly one 'done', later, from the loop;
 * without memory it is not (-ENOMEM), and no 'done' comes. Signals are hints, properties are the truth:
 * 'on_changed' says only that a unit wants to be looked at again. While 'ready' is false (no bus, or between
 * Reloading(true) and (false)) nothing is known and nothing is "gone" (rule 35). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sizes.h"
#include "fleetd/systemd/owner.h"
#include "fleetd/systemd/trace.h"
#include "units/name.h"

typedef struct Systemd Systemd;

/* Names are the cluster's everywhere here; of a Quadlet file (units/quadlet.h) all that is told is its
 * service's.
 *
 * One unit as systemd sees it, and its file in our folder. Strings are fixed, terminated, cut when longer. */
typedef struct SystemdUnit {
        char name[UNIT_NAME_MAX + 1];
        char load[32], active[32], sub[32]; /* "not-found" "inactive" "dead" when systemd does not know it */
        char result[32]; /* of services and kin: "success", "exit-code", ...; "" otherwise */
        char invocation_id[INVOCATION_ID_SIZE];
        char fragment[512]; /* FragmentPath, "" if that is a runtime link that is gone; of a Quadlet file the
                               file that its service was made of, if it was */
        bool alias;         /* systemd knows it by another name: all of this is about that one */
        SystemdOwner owner;
        SystemdEnd end;   /* of one that is inactive: why */
        bool held;        /* and a unit that it is bound to does not run, or one in conflict with it does */
        bool oneshot;     /* Type=oneshot without RemainAfterExit=: inactive is how it ends */
        bool need_reload; /* NeedDaemonReload */
        bool job;         /* a job is queued or running */
        bool has_file;    /* our folder holds its file */
        char hash[41];    /* unit hash of that file; "" without */
} SystemdUnit;

typedef void (*SystemdDone)(void *userdata, int error,
                            const char *sentence); /* 0: done; sentence "" or why not */
typedef void (*SystemdListed)(void *userdata, int error, const SystemdUnit *units, size_t n); /* borrowed */

typedef struct SystemdEvents {
        void (*on_ready)(void *userdata, bool ready);
        void (*on_changed)(void *userdata, const char *unit); /* NULL: anything may have changed */
        /* A job of that unit ended; 'result' as systemd says it: "done", "failed", "canceled", ... */
        void (*on_job_removed)(void *userdata, const char *unit, const char *result);
        void *userdata;
} SystemdEvents;

typedef struct SystemdOps {
        void (*set_events)(Systemd *s, const SystemdEvents *events);
        bool (*is_ready)(Systemd *s);
        /* What tells this time of the host being up from others of the same boot: soft reboots, and ways back
         * from an isolated target.
         * "": not known. */
        const char *(*era)(Systemd *s);
        bool (*is_stopping)(Systemd *s); /* systemd is shutting the host down: nothing is started */

        bool (*has_quadlet)(Systemd *s); /* it has podman's generator, so that Quadlet files can be put in
                                            force; NULL: it has not */

        /* The named units and, with 'files', every unit with a file in our folder. An error where any of it
         * could not be read: the caller asks again. */
        int (*list)(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                    void *userdata);

        /* Our folder, at once: 0 or a negative errno; -ESTALE where it had been removed, is made anew, and
         * lacks the files of other units, too. Names were checked by unit_name_check(). */
        int (*write_file)(Systemd *s, const char *name, const char *text, size_t size);
        /* Before a unit is stopped for another text: makes sure that write_file() of it will succeed. Nothing
         * that systemd reads changes. */
        int (*stage_file)(Systemd *s, const char *name, const char *text, size_t size);
        int (*remove_file)(Systemd *s, const char *name);

        /* LinkUnitFiles(runtime), and EnableUnitFiles(runtime) for those with [Install]; never over what
         * others have linked. */
        int (*link)(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
        /* DisableUnitFiles(runtime); a name that others have linked is left alone. */
        int (*unlink)(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
        int (*reload)(Systemd *s, SystemdDone done, void *userdata);
        /* 'done' when systemd has queued the job (start) or when it has ended (stop). Job mode: replace. */
        int (*start)(Systemd *s, const char *name, SystemdDone done, void *userdata);
        int (*stop)(Systemd *s, const char *name, SystemdDone done, void *userdata);
        int (*reset_failed)(Systemd *s, const char *name, SystemdDone done, void *userdata);
} SystemdOps;

struct Systemd {
        const SystemdOps *ops;
};
