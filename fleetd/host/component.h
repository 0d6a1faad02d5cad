/* A component of the daemon: daemon_open.c opens, informs and closes all of the table in daemon_internal.h.
 *
 * The order of the table is that of opening; a component may use those before it. A feature has its row in
 * its own folder. */
#pragma once

#include "fleetd/host/settings.h"
#include "fleetd/metrics/scrape.h"
#include "fleetd/registry/registry.h"
#include "fleetd/registry/set_health.h"
#include "fleetd/systemd/logind.h"
#include "fleetd/systemd/systemd.h"

struct Request;
struct AssignmentRecord;
struct RecordPorts;

typedef struct DaemonIo {
        Loop *loop; /* all borrowed */
        Network *network;
        Disk *log_disk;                     /* raft/ of the state directory */
        Systemd *systemd;                   /* NULL: no agent */
        Logind *logind;                     /* NULL: shutdowns are not delayed */
        struct Prober *prober;              /* of health checks; NULL: none */
        const struct PortProber *ports;     /* NULL: each port counts as free */
        struct ServiceFiles *service_files; /* NULL: the endpoints of services are listed in no files */
        struct InputFiles *input_files; /* of the contents of units; NULL: units with inputs do not start */
        const TlsKey *key; /* of the key file; NULL: none. Without credentials, too: unencrypted sessions,
                            * for simulation and tests only */
        const TlsCredentials *credentials; /* the identity of this host; NULL: none */
        /* The host has addresses of a cluster, but neither an identity nor a key file: it waits for a token,
         * or, with a replica, for its first certificate, and opens no session. */
        bool unidentified;
        Sealer *sealer;                          /* of the cluster key; NULL: none */
        Sealer *input_sealer;                    /* the same of credentials of units */
        int (*measure)(Resources *ret_physical); /* capacity_measure(); NULL: the capacity is not known */
        char boot_id[BOOT_ID_SIZE];
        char hardware_id[HARDWARE_ID_SIZE]; /* as in KvOptions */
        unsigned level_max;                 /* as in KvOptions, for tests; 0 */
        uint64_t level_wait_ms; /* for tests: how long all hosts must support a feature level; 0: a day */
        bool short_log;         /* for tests: checkpoints and log files of 4 KiB */
        bool unwatched; /* for simulation: the unit directory is scanned each two seconds, without inotify */
        uint64_t adopt_ms; /* for tests: how long the agent reports in a new lineage before its assignments
                              count; 0: 30 s */
        bool codeless;     /* for tests: it writes and sends messages without codes, as former versions */
        /* Stop the daemon and start it again: it has joined a cluster, or opens its peer listener. NULL: it
         * cannot. Called once, from the loop. */
        void (*restart)(void *userdata);
        void *userdata;
} DaemonIo;

/* What the components of one daemon share; borrowed by them. A component is NULL before it is opened, after
 * all are closed, and on a host without it. */
typedef struct ComponentHost {
        DaemonIo io;
        const Settings *settings;
        uint64_t started_ms;                       /* wall clock */
        bool shuts_down;                           /* its units are about to end: it has no endpoints */
        uint64_t leader_changes;                   /* since then, see fleet_store_leader_changes_total */
        const struct Component *const *components; /* all; NULL ends */
        void *const *selves;                       /* of components, by their places; NULL: not opened */
        Peers *peers;
        KvStore *store;
        Registry *registry;
        struct Engine *engine;
        struct Membership *membership;
        struct Authority *authority; /* of the membership */
        struct Facts *facts;
        struct Agent *agent;
        struct Directory *directory;
        struct Problems *problems;
        struct Api *api;
        /* Of the daemon, by which components use those that are opened after them; NULL: none of these. This
         * host has received a certificate, or other roots: use them from now on. */
        void (*on_identity)(struct ComponentHost *host);
        void (*on_set)(struct Agent *agent, const char *unit, const SetHealth *others);
        void (*restart)(struct ComponentHost *host);                             /* by io.restart, soon */
        int (*on_checks)(const struct ComponentHost *host, const char *problem); /* facts_set_checks() */
        int (*ask_set)(const struct ComponentHost *host, const char *unit);      /* membership_ask_set() */
        bool (*is_foreign)(const struct ComponentHost *host, const char *unit);  /* agent_has_conflict() */
        int (*metrics)(const struct ComponentHost *host, MetricsForm form, MetricsScrape **ret);
} ComponentHost;

/* Return the address of this host's listener for other hosts, "": none, or no session is opened yet. */
static inline const char *component_peer_address(const ComponentHost *host) {
        return host->io.unidentified ? "" : host->settings->listen_peer;
}

/* A unit as the agent knows it; borrowed. */
typedef struct DutyUnit {
        const char *name;
        const struct AssignmentRecord *record; /* with the text in force; NULL: none */
        const Unit *assigned;                  /* the text to be in force; NULL: none, or not known here */
        const char *invocation;                /* "": it is not active */
        bool runs;                             /* assigned to run here, and no stop of it is planned */
        bool passing;                          /* active, and all its checks pass */
        bool available;                        /* so for UpdateWatchSec= */
        bool undecided; /* active, but its checks have not decided since this daemon began */
} DutyUnit;

/* What a component does around each unit of the cluster on this host. NULL: nothing. */
typedef struct Duty {
        /* Of a text with inputs (units/inputs.h): bring the content that it is to have into files, before its
         * file is put in force, before a stop that replaces its text or content, and before its start or
         * reload by the agent. 'number': the content has at least this one; 0: any; UINT64_MAX: the present
         * one. 0; with the reason, and agent_wake_unit() follows: -EAGAIN: not yet; -ENODATA: the last
         * attempts failed; or -ENOMEM. */
        int (*provide)(void *self, const Unit *text, uint64_t number, Verdict *why);
        /* Return the number of the content that its files have; 0: none, or one of another lineage. *problem,
         * unless NULL: why this host failed to bring the one that the text is to have, if it did. */
        uint64_t (*provided)(void *self, const Unit *text, Verdict *problem);
        /* Before its file is put in force, and again when the assignment is recorded, so before each start by
         * the agent: write what goes with the file (systemd/drop_in.h). 'ports': the selected numbers of its
         * record, which is on disk before the start; change them. 'runs': the unit has not stopped. Return 0;
         * 1: that has changed, so that the file is put in force again, with a message if people should know
         * it; or a negative errno with a message: it is not started now. */
        int (*stage)(void *self, const Unit *text, struct RecordPorts *ports, bool runs, Error *err);
        int (*prepare)(void *self,
                       const char *unit); /* before its start; a negative errno: tried again later */
        /* An assigned stop is planned. 0; -EAGAIN: not yet, and agent_wake_unit() follows. It may be asked
         * again, and the stop may be planned no more (DutyUnit.runs). 'at_once': the result is not awaited.
         */
        int (*stopping)(void *self, const char *unit, bool at_once);
        /* It was read from systemd, or planned. 'change': its state is compared with the registry; add what
         * is to be published with the state. NULL: nothing can be published now. */
        void (*publish)(void *self, const DutyUnit *unit, StateChange *change);
        void (*gone)(void *self, const char *unit); /* nothing is left of it */
} Duty;

typedef struct Component {
        const char *name;
        /* Set *ret to what the other functions get, or leave NULL: this host has no such component. Without
         * open and close, it has no memory. */
        int (*open)(ComponentHost *host, const Settings *s, void **ret, Error *err);
        void *(*close)(void *self);        /* returns NULL */
        void (*state_changed)(void *self); /* KvEvents.on_state; NULL: none */
        /* Apply what settings_take() changed; NULL: nothing. */
        int (*reload)(ComponentHost *host, void *self, const Settings *s);
        /* systemd is ready, or the boot is complete now. NULL: none. */
        void (*systemd_ready)(void *self, uint64_t soft_reboots, bool booting);
        void *(*crash)(void *self); /* for simulation, instead of close; NULL: the same */
        const Duty *duty;           /* NULL: none */
        /* Also on a host that has not opened the component: */
        const struct Route *routes;
        size_t n_routes;
        /* Write members of the answer to GET /fleet/v1/cluster; NULL: none. */
        void (*write_cluster)(Text *t, const struct Request *request);
        /* The same of the answer to GET /fleet/v1/units/NAME/why. */
        void (*write_why)(Text *t, const struct Request *request, const ClusterUnit *unit);
        const struct Controller *controller; /* NULL: none */
        const struct ProblemRow *problems;   /* one without a kind ends; NULL: none */
        /* On the leader: seal something with the present cluster key that was sealed with a former one. 1:
         * 'done' follows; 0: there is nothing; or a negative errno with a message. NULL: nothing is sealed.
         */
        int (*reseal)(void *self, RegistryDone done, void *userdata, Error *err);
} Component;
