/* Several whole daemons in one process: hosts with disks, links and a systemd each, users who send requests,
 * and the invariants. */
#pragma once

#include "base/log.h"
#include "base/sizes.h"
#include "fleetd/daemon.h"
#include "fleetd/features/services/port_prober.h"
#include "io/tls_credentials.h"
#include "tests/lib/fake_sealer.h"
#include "tests/lib/memory_disk.h"
#include "tests/sim/input_files.h"
#include "tests/sim/logind.h"
#include "tests/sim/net.h"
#include "tests/sim/prober.h"
#include "tests/sim/service_files.h"
#include "tests/sim/systemd.h"
#include "tests/sim/world.h"

enum {
        CLUSTER_HOSTS_MAX = 320,
        CLUSTER_WRITERS = 4,
        CLUSTER_RUNS_MAX = 64,
        CLUSTER_WRITES_MAX = 8192,
        SIM_PORTS = 48, /* in PortRange= */
};

typedef struct SimCluster SimCluster;

/* A process of a unit on one host, for the checkers. */
typedef struct RunningUnit {
        char unit[64];
        uint64_t since_ms;   /* 0: does not run */
        uint64_t stopped_ms; /* when it ended in this boot; 0: never, or it may be started again */
        uint64_t ended_ms;   /* the last time when it ended without a request; 0: never */
} RunningUnit;

/* A unit of the host in its files of services. */
typedef struct SimListed {
        char unit[64];
        uint64_t at_ms;               /* when it was listed last; 0: never */
        uint64_t dead_ms;             /* when it was listed and ran last, or its daemon may not have known */
        uint64_t key_ms, key_seen_ms; /* the same of its key; when it was seen last */
} SimListed;

typedef struct SimMachine {
        SimCluster *cluster;
        unsigned index;
        char name[16], address[32], machine_id[MACHINE_ID_SIZE], boot_id[BOOT_ID_SIZE];
        char *folder; /* state directory: tree and assignment records */
        SimHost *host;
        MemoryDisk *disk;
        SimLogind *logind; /* owned; NULL: none */
        SimSystemd *systemd;
        WorldLoop *loop;        /* NULL: no daemon */
        SimProber *prober;      /* of that daemon */
        PortProber ports;       /* the same */
        int64_t wall_offset_ms; /* of its wall clock, from the next start on */
        Daemon *daemon;
        Settings settings;
        unsigned level_max; /* of its program; 0: that of this program */
        Resources physical; /* what its daemon measures; 0: nothing, as a former version */
        bool codeless;      /* its program writes and sends no codes of verdicts; by seed and index */
        /* Hosts authenticate each other with certificates: each one founds a cluster of its own, and joins
         * another one by a token. Its cluster file is beside the folder. */
        bool by_token;
        TlsCredentials *credentials; /* of the daemon now */
        FakeSealer sealer;           /* of the host, for settings.seal_with */
        FakeSealer input_sealer;     /* of credentials */
        SimInputFiles input_files;
        uint64_t started_ms; /* its daemon, the last time */
        /* The key whose value its program cannot parse; NULL: none. From the next start on; of the daemon
         * now. */
        const char *unreadable, *running_unreadable;
        bool power, dying, start_wanted;
        bool is_played; /* the test sends in its place: what is said about it is not checked */
        unsigned boots;
        uint64_t suspect_from_ms, suspect_until_ms; /* others may declare it lost in between */
        unsigned maintained;                        /* the state of its maintenance that drains.c has seen */
        uint64_t absent_from_ms,
                absent_until_ms; /* its daemon does not act: requests of this time take effect afterwards */
        uint64_t hashed_at;      /* applied index of the last comparison of its tree; 0: none */
        uint64_t slice_index, slice_at_ms;     /* of the last comparison of its slice */
        uint64_t slice_ms;                     /* since then it differs; 0: it does not */
        uint64_t served_ms;                    /* when its daemon last ran, or the machine was lost, */
        uint64_t served_term;                  /* or the leader was another one */
        unsigned n_endpoints;                  /* of it since then */
        const struct SimMachine *replica_used; /* by an attached host, as it was seen last; NULL: by none */
        bool was_attached;                     /* the same */
        unsigned watched_boots;                /* at that time */
        bool leaves, has_left;                 /* the cluster: it was requested to, and has one of its own */
        uint64_t left_cluster;                 /* its cluster ID */
        uint64_t overdue_ms;                   /* of its drains, the first deadline; 0: none had one */
        RunningUnit runs[CLUSTER_RUNS_MAX];
        SimServiceFiles services;
        SimListed listed[CLUSTER_RUNS_MAX];
        unsigned n_listed;                /* lines of other hosts in them, when they were looked at, */
        uint64_t listed_index, listed_ms; /* with this index of the view, which is since then */
        bool listed_fresh;                /* the view had the word of a majority then */
} SimMachine;

/* A client that writes one key after the other. A write with an unknown outcome may take effect at any later
 * time. Each write has its own key, and only acknowledged ones must exist. */
typedef struct SimWriter SimWriter;

typedef struct SimWrite {
        SimWriter *writer;
        uint64_t attempt;
} SimWrite;

struct SimWriter {
        SimCluster *cluster;
        unsigned index;
        uint64_t attempted, number;
        SimWrite writes[CLUSTER_WRITES_MAX]; /* by attempt */
        bool acknowledged[CLUSTER_WRITES_MAX];
        SimMachine *asked; /* the host that has the request; NULL: none is pending */
        uint64_t asked_incarnation;
        uint64_t n_acknowledged, n_unknown, n_refused;
};

/* A unit of the users. */
typedef struct SimUserUnit {
        char name[64];
        unsigned version;
        uint64_t touched_ms;     /* the last request to change the unit, or one that it depends on */
        uint64_t stopping_ms;    /* the same of a request that may stop it: another text, another target, its
                                    removal */
        bool changed;            /* a new text was submitted, and no answer says that it is in force */
        bool has_text, may_stop; /* the last request; 'may_stop': or one that is not answered */
        unsigned pending;        /* requests without an answer */
        const char *group;       /* units with one group name depend on each other */
        const SimMachine *left;  /* that it has left because of a drain, before it started elsewhere */
        uint64_t left_ms;        /* and when */
} SimUserUnit;

struct SimCluster {
        World *world;
        SimNet *net;
        const SimMachine *starting; /* its daemon is being opened; NULL: none is */
        const TlsKey *key;          /* the key file of all hosts; NULL: none. Borrowed */
        uint64_t level_wait_ms;     /* DaemonIo', as the next */
        bool short_log, ends;       /* no daemon starts any more */
        /* Decide the outcome of a health check; NULL: it passes. */
        SimProbe (*probe)(SimMachine *m, const ProbeRequest *request);
        void (*on_start)(SimMachine *m, const char *unit); /* a daemon starts a process; NULL: no one asks */
        SimMachine machines[CLUSTER_HOSTS_MAX];
        unsigned n;
        SimWriter writers[CLUSTER_WRITERS];
        SimUserUnit units[24];
        unsigned n_units;
        bool quiet;                             /* no more faults, no more changes */
        bool may_attach;                        /* more hosts than replicas */
        bool rotates;                           /* the CA or the cluster key changes */
        bool rolls;                             /* texts of a global unit are replaced step by step */
        bool contents;                          /* units have secrets and keys, which change */
        bool drains;                            /* hosts are cordoned and drained, */
        uint64_t maintained_ms;                 /* and units may move because of that until then */
        const SimMachine *data_on;              /* the host with the data of the unit that stays there; NULL:
                                                   none yet, or people move it */
        const SimMachine *gathered;             /* the host that gets the units of all others now, or NULL */
        uint64_t hashes_at[4096], hashes[4096]; /* of trees, by applied index */
        uint64_t n_slices, n_slices_at_once;    /* that were compared; at the index of the tree */
        uint64_t n_endpoints;                   /* that were checked */
        uint64_t sized_index;                   /* of the view that check_sizes() has seen */
        uint64_t n_sized, n_full;               /* arrivals, and whole views, that it checked */
};

SimCluster *cluster_new(World *w, unsigned hosts);
/* The same, of hosts that enter by tokens. */
SimCluster *cluster_new_by_token(World *w, unsigned hosts);
/* The same as cluster_new(), of hosts with a key file, which get certificates. */
SimCluster *cluster_new_by_key(World *w, unsigned hosts, const TlsKey *key);
/* Remove state of a host by token; its daemon does not run. */
typedef enum SimWipe {
        WIPE_STORE, /* log and tree; identity, assignment records and cluster file stay */
        WIPE_STATE, /* the state directory; the cluster file stays */
        WIPE_ALL,
} SimWipe;
void machine_wipe(SimMachine *m, SimWipe wipe);
/* Give 'm' the disks of 'of', as a copied virtual machine; the daemons of both do not run. Its cluster file
 * has its own address. */
void machine_clone(SimMachine *m, const SimMachine *of);
/* Return the machine whose daemon runs now; NULL: an event of the world. */
const SimMachine *cluster_running_machine(const SimCluster *c);
SimCluster *cluster_free(SimCluster *c);
void machine_start_daemon(SimMachine *m);
/* The same, but it may fail: then the daemon stops, and is gone when 'loop' is NULL. */
int machine_try_daemon(SimMachine *m, Error *err);
void machine_crash_daemon(SimMachine *m); /* kill -9 */
void machine_stop_daemon(SimMachine *m);  /* systemctl stop */
typedef enum SimMaintenance {
        MAINTAIN_RECOVER,
        MAINTAIN_RESET,
        MAINTAIN_BACKUP,
        MAINTAIN_RESTORE,
} SimMaintenance;
/* fleetd --recover --force, --reset, --backup and --restore of a host whose daemon does not run. */
int machine_maintain(SimMachine *m, SimMaintenance what, const char *file, Error *err);
/* The same of a recovery that has to succeed: the host is a cluster of one, of a new lineage. */
void machine_recover(SimMachine *m);
void machine_power_cut(SimMachine *m);
void machine_power_on(SimMachine *m);
/* Units that ended just now did so because of another unit, or with the host: they may start again, as after
 * a boot. */
void machine_ended_units(SimMachine *m);
void machine_suspect(SimMachine *m, uint64_t from_ms, uint64_t until_ms);
void machine_absent(SimMachine *m, uint64_t for_ms);
SimMachine *cluster_leader(SimCluster *c);     /* NULL: none that is ready */
bool machine_serves(const SimMachine *m);      /* its daemon runs, and is not about to end */
KvState machine_state(const SimMachine *m);    /* of its store; zero: it has none */
void machine_begin(void *machine);             /* machine_start_daemon(), for world_at() */
bool machine_is_attached(const SimMachine *m); /* it serves, and has no replica */
/* Return the machine whose replica an attached host uses, or NULL. */
SimMachine *cluster_replica_of(const SimMachine *m);
/* Return whether 'm' has exactly the keys of its slice, in the versions of the tree of 'replica'. */
bool cluster_slice_equals(const SimMachine *m, const SimMachine *replica);

/* Checks of invariants. A check that fails ends the run. */
void check_stop(SimMachine *m, const char *unit, bool asked);
void check_start(SimMachine *m, const char *unit);
/* For each message of the daemons: a host that is recorded as lost for its silence was silent, its kernel
 * included, for three seconds. */
void check_message(SimCluster *c, const LogFields *fields, const char *message);
/* In the view of the leader, a unit that stays where its data is, is on no other machine, and on one at most;
 * after a new record, data_on is that machine. */
void check_data(SimCluster *c);
/* In the view of the leader, a unit with a request, or with MaxPerMachine=, arrives only where there is room,
 * and no other unit waits for room. Each hundredth time, the sums of all machines are counted, too. */
void check_sizes(SimCluster *c);
void check_hashes(SimCluster *c);
void check_slices(SimCluster *c); /* of attached hosts */
void check_endpoints(SimCluster *c);
void check_healed(SimCluster *c); /* after healing: all that was promised */
