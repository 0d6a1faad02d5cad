/* What should happen next with one unit on this host. Pure: order, note and what systemd says in, one step
 * out, with its reason. The agent takes the step, looks again, and asks again, so that it may be interrupted
 * after any of them. */
#pragma once

#include "fleetd/agent/records.h"
#include "fleetd/registry/cluster.h"
#include "fleetd/systemd/systemd.h"

typedef enum AgentStep {
        AGENT_NOTHING,
        AGENT_WRITE,  /* put the text in force: write the file, link, reload if systemd says so */
        AGENT_RECORD, /* the note follows the order; nothing is touched */
        AGENT_ADOPT,  /* it runs already as wanted: note it as started */
        AGENT_START,  /* note it as started, then start */
        AGENT_STOP,   /* note it as not started, then stop */
        AGENT_REMOVE, /* it has stopped: unlink, remove the file, forget the note */
        AGENT_DONE,   /* nothing of it is left: report, so that the order goes */
        AGENT_REFUSE, /* the host has a unit of that name from elsewhere: hands off */
        _AGENT_STEP_MAX,
} AgentStep;

const char *agent_step_to_string(AgentStep step);

typedef struct AgentView {
        const ClusterAssignment *assignment; /* NULL: none; "no key is no order" */
        const ClusterUnit *unit;             /* NULL: gone, or unknown */
        const AssignmentRecord *record;      /* NULL: none */
        const SystemdUnit *seen;             /* NULL: not looked at yet */
        const char *boot_id;
        bool fresh;        /* the picture is this cluster's and as new as our notes: orders may be obeyed */
        bool use_records;  /* a boot without the cluster, and the wait is over */
        bool stopping;     /* systemd is stopping: nothing is started */
        bool link_refused; /* its last text was refused: a name that it would have is the host's */
        bool outdated;     /* what runs may have been started before systemd had read the new text */
} AgentView;

/* Whether this unit is told as foreign: its name is the host's, or a name that it would have is and it does
 * not run. */
bool agent_is_conflicting(const SystemdUnit *seen, const AssignmentRecord *record, const char *boot_id,
                          bool link_refused); /* 'record': or NULL */

/* *ret_reason is static text. */
AgentStep agent_plan(const AgentView *view, const char **ret_reason);

bool agent_is_running(const SystemdUnit *seen);

/* A start that was noted, then never made: the daemon died in between, or the bus was lost, and systemd shows
 * no trace of one: nothing runs, or is about to, and the last invocation is the one from before. */
bool agent_start_got_lost(const AssignmentRecord *record, const SystemdUnit *seen);
/* Whether systemd stopped a unit that was started here for the sake of another one: it is started again when
 * that one is back. Nobody may have seen it stop, now or before (note->stopped): then it counts that what it
 * is bound to does not run. False if systemd did not begin the last start of it. */
bool agent_is_stopped_for(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id);

/* Whether a unit that was started here has ended as it should, so that it is run nowhere again: it ended by
 * itself. One that was stopped, or whose condition did not hold, has not. Of one that nobody saw end a
 * oneshot alone counts as finished, and only if it was seen to run. */
bool agent_is_done(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id,
                   bool job_ended);
