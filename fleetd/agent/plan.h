/* The next step of one unit on this host.
 *
 * Pure: assignment, record and observed state in, one step out, with its reason. The agent executes the step,
 * refreshes the unit and plans again, so that it may be interrupted after any step. */
#pragma once

#include "fleetd/agent/records.h"
#include "fleetd/registry/cluster.h"
#include "fleetd/systemd/systemd.h"

typedef enum AgentStep {
        AGENT_NOTHING,
        AGENT_WRITE,   /* put the text in force: write the file, link, reload if systemd requires it */
        AGENT_RECORD,  /* copy the assignment to the record; the unit is not touched */
        AGENT_ADOPT,   /* the unit runs as assigned: record it as started */
        AGENT_START,   /* record it as started, then start */
        AGENT_RELOAD,  /* reload the process, whose file is in force, then record that text */
        AGENT_STOP,    /* record it as not started, then stop */
        AGENT_REMOVE,  /* it has stopped: unlink, remove file and record */
        AGENT_DONE,    /* nothing of it is left: report that, which ends the assignment */
        AGENT_REFUSE,  /* conflicting unit: do not touch it */
        AGENT_RESTART, /* HealthAction=restart; never planned: the health decides */
        _AGENT_STEP_MAX,
} AgentStep;

const char *agent_step_to_string(AgentStep step);

typedef struct AgentView {
        const ClusterAssignment *assignment; /* NULL: none, so no action */
        const ClusterUnit *unit;             /* NULL: removed, or unknown; its key may be unreadable */
        const Unit *text;                    /* that the assignment names; NULL: not known here, or not yet */
        const AssignmentRecord *record;      /* NULL: none */
        const SystemdUnit *seen;             /* NULL: not read yet */
        const char *boot_id;
        bool leased;       /* the lease of singletons is valid */
        bool fresh;        /* the view is of this lineage and not older than the records: assignments count */
        bool use_records;  /* a boot without the cluster, after BootWaitSec=: records count */
        bool removed;      /* the cluster has removed this host: records start nothing */
        bool stopping;     /* systemd is stopping: start nothing */
        bool link_refused; /* systemd rejected the last text: one of its names conflicts with the host */
        bool outdated;     /* the running invocation may have the former text */
        uint64_t alone_ms; /* time without contact to the cluster, as OnPartition= counts it; 0 while 'fresh'
                            */
        bool inherited;    /* the assignment precedes the restore or recovery of the cluster */
        uint64_t content;  /* number of the content that the files of the unit have; 0: none */
} AgentView;

/* Return whether the load state is 'foreign'. The host has a unit of that name; or it has another name of
 * this unit, which does not run. 'record' may be NULL. */
bool agent_is_conflicting(const SystemdUnit *seen, const AssignmentRecord *record, const char *boot_id,
                          bool link_refused);

/* *ret_reason is static. */
AgentStep agent_plan(const AgentView *view, const char **ret_reason);

/* Return whether the unit is neither inactive nor failed: it is up, or on the way to or from there. */
bool agent_is_started(const SystemdUnit *seen);

/* Return whether the unit is a trigger, which a failed start may leave inactive. */
bool agent_is_trigger(const AssignmentRecord *record);

/* Return whether a recorded start was never made, because the daemon died or the bus was lost. The unit
 * neither runs nor has a job, and its last invocation precedes the start. */
bool agent_start_got_lost(const AssignmentRecord *record, const SystemdUnit *seen);
/* Return whether a unit goes on that is assigned to stop unless it runs: it was started in this boot, and
 * runs.
 */
bool agent_is_kept(const ClusterAssignment *assignment, const AssignmentRecord *record,
                   const SystemdUnit *seen, const char *boot_id);
/* Return whether systemd stopped a unit that was started here because of another unit; it is started again
 * when that unit is back. An unobserved stop (see record->stopped) counts as one if a unit that it is bound
 * to does not run. Return false if systemd did not begin its last start. */
bool agent_is_stopped_for(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id);

/* Return whether the unit has completed under 'assignment' by the state that this host published, although
 * its record does not say so: the host has lost the record ('record' is NULL), or the cluster was restored
 * from a backup that precedes the record, whose run completed, too. Any argument but 'seen' may be NULL. */
bool agent_has_completed_before(const ClusterAssignment *assignment, const Unit *text,
                                const ClusterState *published, const AssignmentRecord *record,
                                const SystemdUnit *seen);

/* Return whether the unit has completed on its former machine, and came from there by 'assignment', which
 * this host has not executed yet. Any argument but 'seen' may be NULL. */
bool agent_takes_finished(const ClusterAssignment *assignment, const Unit *text,
                          const AssignmentRecord *record, const SystemdUnit *seen);

/* Return whether a unit that was started here has completed, so that it runs nowhere again: it ended by
 * itself. A unit that was stopped, or whose condition did not hold, has not completed. If the end was not
 * observed, only a oneshot unit that was observed running counts as completed. */
bool agent_is_done(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id,
                   bool job_ended);
