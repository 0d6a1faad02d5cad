/* The agent's interface to systemd: real over D-Bus (systemd_bus_new()), simulated in tests/sim.
 *
 * Operations are asynchronous: each one that returns 0 calls its 'done' exactly once, later, from the loop.
 * One that returns -ENOMEM does not. Signals are hints, properties are authoritative: on_changed() only means
 * that a unit has to be read again. Without readiness (no bus, or between Reloading(true) and (false)) no
 * unit counts as gone. */
#pragma once

#include "base/error.h"
#include "base/sizes.h"
#include "base/text.h"
#include "fleetd/systemd/drop_in.h"
#include "fleetd/systemd/trace.h"
#include "units/hash.h"
#include "units/lists.h"
#include "units/name.h"

enum {
        SYSTEMD_STATE_SIZE = 32,
        SYSTEMD_FRAGMENT_SIZE = 512,
        SYSTEMD_ERA_SIZE = 64,
        SYSTEMD_ERROR_SIZE = 200,
};

typedef struct Systemd Systemd;

typedef enum SystemdOwner {
        SYSTEMD_ABSENT,      /* the name is free */
        SYSTEMD_OURS,        /* systemd reads the unit from our file of that name */
        SYSTEMD_CONFLICTING, /* the host has the unit from another source, or masks it */
} SystemdOwner;

/* One unit in systemd, and its file in our folder. Strings are terminated, and cut to their size.
 *
 * Names are those of the cluster. The state of a Quadlet file (units/quadlet.h) is that of its service. */
typedef struct SystemdUnit {
        char name[UNIT_NAME_MAX + 1];
        /* "not-found", "inactive", "dead": not loaded */
        char load[SYSTEMD_STATE_SIZE], active[SYSTEMD_STATE_SIZE], sub[SYSTEMD_STATE_SIZE];
        char result[SYSTEMD_STATE_SIZE]; /* of services, sockets and other types with Result: "success",
                            "exit-code", ...; "": none */
        /* Of a service that failed, or waits for its restart: how its main process ended (CLD_EXITED, ...; 0:
         * none ran), and its exit status or signal. */
        int exec_code, exec_status;
        uint32_t n_restarts;                 /* of a service that is not inactive: by systemd */
        char load_error[SYSTEMD_ERROR_SIZE]; /* message of LoadError, if 'load' is an error; "": none */
        char invocation_id[INVOCATION_ID_SIZE];
        char fragment[SYSTEMD_FRAGMENT_SIZE]; /* FragmentPath; "" if that is a lost runtime link; of a Quadlet
                               file, the source of its service, if generated */
        bool alias;                           /* the name is an alias; the state is that of its unit */
        SystemdOwner owner;
        SystemdEnd end; /* how an inactive unit ended */
        bool held;      /* inactive, and a unit that it is bound to does not run, or a conflicting one does */
        char held_by[UNIT_NAME_MAX + 1]; /* that unit, or one of them; "": unknown */
        bool unguarded;                  /* inactive, and so is its guard, which starts with it */
        bool oneshot;     /* Type=oneshot without RemainAfterExit=: becomes inactive when it completes */
        bool need_reload; /* NeedDaemonReload */
        bool job;         /* a job is queued or running */
        bool has_file;    /* our folder holds its file */
        char hash[UNIT_HASH_SIZE]; /* unit hash of that file; "": no file */
} SystemdUnit;

/* Return the owner of the unit's name on this host: the one rule by which the agent touches a unit. It
 * depends on 'load', 'fragment' and 'alias'. 'our_file': 'fragment' is our file of that name, or a link to
 * it. Pure. */
SystemdOwner systemd_owner(const SystemdUnit *u, bool our_file);

/* Return whether the unit failed, and waits for RestartSec=. Pure. */
bool systemd_is_restarting(const SystemdUnit *u);

/* Append why the unit failed, is restarted, or is not loaded, in the words of systemctl ("exit status
 * 203/EXEC"); nothing for other states. Pure.
 *
 * Sources: systemd.service(5), $SERVICE_RESULT in systemd.exec(5), and "Process Exit Codes" there. */
void systemd_append_reason(Text *t, const SystemdUnit *u);

/* Return whether the error of a call means that systemd has answered, and rejected the unit: a reply that was
 * lost and a lack of resources are troubles of the host. Pure. */
bool systemd_is_refusal(int error);

/* 'error' is 0, or a negative errno with its message. */
typedef void (*SystemdDone)(void *userdata, int error, const char *message);
typedef void (*SystemdListed)(void *userdata, int error, const SystemdUnit *units, size_t n); /* borrowed */

typedef struct SystemdEvents {
        void (*on_ready)(void *userdata, bool ready);
        void (*on_changed)(void *userdata, const char *unit); /* NULL: any unit may have changed */
        /* A job of the unit was removed; 'result' as in systemd: "done", "failed", "canceled", ... */
        void (*on_job_removed)(void *userdata, const char *unit, const char *result);
        void *userdata;
} SystemdEvents;

/* The command of a health check. */
typedef struct SystemdRun {
        const Names *argv; /* at least the path of the program */
        const char *user;  /* "": root */
        uint64_t timeout_ms;
        /* systemd has accepted it; 'userdata' is that of run_check(). Not called from inside it; NULL: none
         */
        void (*on_begun)(void *userdata);
} SystemdRun;

typedef struct SystemdOps {
        void (*set_events)(Systemd *s, const SystemdEvents *events);
        bool (*is_ready)(Systemd *s);
        /* Return an ID of this uptime period within the boot: soft reboots and returns from an isolated
         * target begin a new one. "": unknown. */
        const char *(*era)(Systemd *s);
        uint64_t (*soft_reboots)(Systemd *s); /* since the boot, once it is ready; NULL: 0 */
        /* Return whether boot-complete.target has not been reached, and a unit of this boot requires or wants
         * it. Known once systemd is ready; on_ready() is called again when it has changed. NULL: false. */
        bool (*is_booting)(Systemd *s);
        bool (*is_stopping)(Systemd *s); /* systemd is shutting down: nothing is started */

        bool (*has_quadlet)(Systemd *s); /* Return whether podman's generator exists, so that Quadlet files
                                            can be put in force. NULL: false. */

        /* List the named units and, with 'files', every unit with a file in our folder. Reports an error if
         * any property could not be read; the caller lists again. */
        int (*list)(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                    void *userdata);

        /* Write to our folder, at once. 0 or a negative errno. -ESTALE: the folder was removed and made
         * again, without the files of other units. unit_name_check() has accepted the names. */
        int (*write_file)(Systemd *s, const char *name, const char *text, size_t size);
        /* Before a stop that replaces the text: ensure that write_file() will succeed, without a change that
         * systemd reads. */
        int (*stage_file)(Systemd *s, const char *name, const char *text, size_t size);
        int (*remove_file)(Systemd *s, const char *name);
        /* Put the file of a template in force, or remove it ('text' NULL), at once: systemd starts its
         * instances for a socket with Accept=yes. It is no unit of a listing. 0 or a negative errno; -EEXIST:
         * the host has a template of that name. */
        int (*put_template)(Systemd *s, const char *name, const char *text, size_t size);

        /* Write or remove ('sections' NULL) what a feature adds to the unit, at once, before its file: 1; 0:
         * it is already so; or a negative errno. A file without a drop-in that its text wants is none
         * (has_file). It is removed with the file. */
        int (*put_drop_in)(Systemd *s, const char *name, DropIn feature, const char *sections);
        int (*get_drop_in)(Systemd *s, const char *name, DropIn feature, char **ret); /* drop_in_get() */

        /* LinkUnitFiles(runtime), and EnableUnitFiles(runtime) for files with [Install]. Links of others
         * stay. */
        int (*link)(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
        /* DisableUnitFiles(runtime). Links of others stay. */
        int (*unlink)(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata);
        int (*reload)(Systemd *s, SystemdDone done, void *userdata);
        /* 'done' is called when systemd has queued the job (start) or when the job has ended (stop). Job
         * mode: replace. */
        int (*start)(Systemd *s, const char *name, SystemdDone done, void *userdata);
        int (*stop)(Systemd *s, const char *name, SystemdDone done, void *userdata);
        /* Stop and start by one job; 'done' is called when it is queued. */
        int (*restart)(Systemd *s, const char *name, SystemdDone done, void *userdata);
        /* Reload the unit. 'done' is called when the job has ended, with -EIO if it failed. Job mode:
         * replace. */
        int (*reload_unit)(Systemd *s, const char *name, SystemdDone done, void *userdata);
        int (*reset_failed)(Systemd *s, const char *name, SystemdDone done, void *userdata);

        /* Let the guard of a singleton run until 'until_ms' (loop_boot_ms()), and not longer without another
         * call. 'token': FLEET_TOKEN= of the next start; 0: as before. 'until_ms' 0: the guard ends, and does
         * not start any more. At once, without systemd. 0 or a negative errno. NULL: there are no guards. */
        int (*guard)(Systemd *s, const char *name, uint64_t until_ms, uint64_t token);

        /* Run a command once, and kill it with all its children at its timeout. 'done' is called when it has
         * ended: 0: with exit status 0; -EREMOTEIO: it failed, or was killed; -ENOEXEC: the program could
         * not be executed; other errors: it was not run.
         * NULL: no commands can be run. */
        int (*run_check)(Systemd *s, const SystemdRun *run, SystemdDone done, void *userdata);
} SystemdOps;

struct Systemd {
        const SystemdOps *ops;
};

/* Return the number of soft reboots since the boot; 0 until it is ready. */
static inline uint64_t systemd_soft_reboots(Systemd *s) {
        return s->ops->soft_reboots ? s->ops->soft_reboots(s) : 0;
}
