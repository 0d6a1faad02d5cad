/* Placement: the requirements of a unit for its machine, as values of [X-Fleet], and the predicates of the
 * scheduler's rules. Pure; fleetd/scheduler/ selects the machine.
 *
 * Source: fleet.unit(5), and fleet's matching (job/job.go, engine/scheduler.go). */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "units/inputs.h"
#include "units/lists.h"
#include "units/resources.h"
#include "units/service.h"
#include "units/state.h"
#include "units/update.h"

enum {
        /* Steps of glob_match_counted() in one request, to compare MachineOf= with Conflicts= and Replaces=:
         * some milliseconds. */
        PEER_STEPS_MAX = 2000000,
        /* Of Conflicts=, and of Replaces=: bytes after the first '*' or '[' of each pattern. */
        PATTERN_BYTES_MAX = 16 * 1024,
};

/* Move=: how a unit leaves a machine that is drained. */
typedef enum PlacementMove {
        PLACEMENT_MOVE_DEFAULT, /* start-first; with Singleton=yes stop-first */
        PLACEMENT_START_FIRST,  /* it runs on another machine before it stops */
        PLACEMENT_STOP_FIRST,   /* it stops before it starts on another machine */
        PLACEMENT_STAYS,        /* no: it moves by --force, and by the loss or removal of its machine only */
        PLACEMENT_MOVE_UNKNOWN, /* a value of a later version, in a stored unit: as the default */
} PlacementMove;

/* Sticky=: whether the unit keeps the machine of its data. */
typedef enum PlacementSticky {
        STICKY_DEFAULT, /* its file, and a setting of the cluster, decide */
        STICKY_YES,
        STICKY_NO,
} PlacementSticky;

enum {
        UNIT_REPLICAS_MAX = 1000,           /* of Replicas= */
        UNIT_REPLICAS_BYTES_MAX = 16 << 20, /* of their texts */
        MAX_PER_MACHINE_MAX = 10000,
        SPREAD_KEYS_MAX = 4,
};

enum {
        LOST_AFTER_MS = 3000,      /* a host without power is lost after about this time */
        STOP_AFTER_MIN_MS = 10000, /* of StopAfterSec= */
        STOP_AFTER_MS = 60000,     /* its default */
};

#define REPLACE_NEVER UINT64_MAX

typedef struct Placement {
        char *machine_id; /* MachineID=: 32 hex digits, or their first 8; NULL: any */
        Names machine_of; /* MachineOf=: units that must all be on the same machine */
        Pairs metadata;   /* MachineMetadata=: keys are ANDed, values of one key ORed */
        Names conflicts;  /* Conflicts=: globs of units that must not be on the same machine */
        Names replaces;   /* Replaces=: globs of units that are moved away from it */
        bool global;      /* Global=: run on every machine that qualifies */
        bool singleton;   /* Singleton=: at most one process in the cluster (units/singleton.h) */
        PlacementMove move;
        TargetState target;        /* TargetState=; TARGET_INACTIVE: it is not set */
        uint64_t replace_after_ms; /* ReplaceAfterSec=: from the loss of its machine to its replacement;
                                      REPLACE_NEVER */
        bool stops_alone;          /* OnPartition=stop: it stops on a host without contact to the cluster */
        uint64_t stop_after_ms;    /* StopAfterSec=: after this time; 0: STOP_AFTER_MS */
        bool keeps_old;            /* OnReconnect=keep-old: the instance on the machine that was lost stays */
        unsigned keep_revisions;   /* KeepRevisions=; 0: REVISIONS_KEPT */
        UpdatePolicy update;
        HealthPolicy health;
        ServicePolicy service;
        InputPolicy inputs;
        PlacementSticky sticky;
        int replicas;             /* Replicas= of a template; -1: none */
        unsigned max_per_machine; /* MaxPerMachine=: instances of the template on a machine; 0: any number */
        Names spread;             /* Spread=: keys of metadata, or "machine" */
        Resources request;        /* MemoryRequest=, CPURequest=: a machine has to have that free; 0: none */
        /* No options: */
        Names triggers;  /* the unit that this one starts, if it is a trigger (units/class.h) */
        Names ports;     /* the fixed ones of Port=, as "8080/tcp" */
        Names published; /* the fixed host ports of PublishPort= in a .container or .pod file, the same */
        Resources size;  /* what the choice of a machine counts for it; never 0 */
        char *data;      /* the option, as written, by which the file has data of its own on its machine:
                            "StateDirectory=db"; NULL: none */
        char *host_path; /* a path of the host of which the file cannot tell where else it is; NULL: none */
} Placement;

void placement_done(Placement *placement);
#define _cleanup_placement_ _cleanup_(placement_done)

/* Check that the options can be combined; -EINVAL with fleet's text for the first broken rule. A placement
 * whose check takes more than PEER_STEPS_MAX steps is rejected, too: *steps includes those of the previous
 * placements, which share the limit. Takes the values before specifiers are replaced (options_read() with
 * name NULL). */
int placement_check(const Placement *placement, size_t *steps, Error *err);

/* Reject patterns that take long to compare with a single name (PATTERN_BYTES_MAX): the text after a '*' may
 * be tried at each place of the name, and a class may be long. Takes the values with specifiers replaced.
 * -EINVAL. */
int placement_check_patterns(const Placement *placement, Error *err);

/* Return StopAfterSec= or its default, in ms. */
uint64_t placement_stop_after_ms(const Placement *placement);

/* Return whether the unit stops before it starts on another machine: one with Move=no, too, where a user
 * moves it. */
bool placement_stops_first(const Placement *placement);

/* Whether MachineID= allows this machine. */
bool placement_machine_id_fits(const Placement *placement, const char *machine_id);

/* Whether the machine has each key of MachineMetadata= with one of its values. If not, *ret_key (may be NULL)
 * is the first key without such a value, borrowed from 'placement'. */
bool placement_metadata_fits(const Placement *placement, const Pairs *metadata, const char **ret_key);

/* Append the requirement for one key, for people: "zone=a|b". */
void placement_metadata_describe(const Placement *placement, const char *key, Text *t);
