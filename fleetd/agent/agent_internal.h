/* Internal interface of the agent; only the files of this folder include it.
 *
 * agent.c runs the pass and handles events. states.c publishes states, and unit_health.c measures the health
 * in them. execute.c saves the assignment records and begins steps; calls.c has the calls to systemd that are
 * under way. duties.c lists what goes with a unit. next_step.c finds what is to be done. refresh.c reads
 * units from systemd. lease.c renews the lease of singletons. partition.c counts the time without contact to
 * the cluster. record_updates.c changes the records. observed.c keeps the observed state of each unit.
 * texts.c finds the texts of assignments. */
#pragma once

#include <sys/queue.h>

#include "fleetd/agent/agent.h"
#include "base/sizes.h"
#include "fleetd/features/health/health.h"
#include "fleetd/agent/plan.h"
#include "fleetd/agent/publish.h"
#include "units/name.h"
#include "units/named.h"

/* A former text of a unit that an assignment names, read from the tree. */
typedef struct AgentText {
        struct Agent *agent;
        uint64_t revision;
        char key[LAYOUT_KEY_MAX];
        KvGet get;
        bool reading, failed; /* 'failed': as logged */
        uint64_t retry_ms;    /* no other attempt before */
        Unit *unit;           /* owned; NULL: not read */
} AgentText;

/* One unit on this host, as the agent observed it. */
typedef struct AgentUnit {
        char name[UNIT_NAME_MAX + 1];
        SystemdUnit seen;
        bool observed;      /* 'seen' was read at least once */
        bool must_refresh;  /* 'seen' has to be read again before a step is planned */
        bool changed;       /* systemd signalled a change; 'seen' is used until it is read again */
        bool refreshing;    /* a listing that contains the unit is under way */
        bool refreshed;     /* 'seen' was read since the last pass */
        bool busy;          /* a step is under way */
        bool planned;       /* in this pass: no step is left */
        bool published;     /* in this pass: the registry has the state */
        bool stopping;      /* an assigned stop is planned, or under way */
        uint64_t spent_ms;  /* rate limit of refreshes: the time at which their gaps so far have passed */
        bool job_ended;     /* a job succeeded since the last start, or the unit is older than this daemon */
        uint64_t done_save; /* the save that records the completion, which is published after it; 0: none */
        bool refused;       /* the last pass refused the unit as conflicting, and logged it */
        uint64_t outdated_listing; /* from this listing on, the invocation decides whether the running text is
                                    * outdated; 0: decided */
        char outdated_invocation[INVOCATION_ID_SIZE]; /* may run the former text; "": none */
        bool must_reload; /* systemd has the unit without the last change of what goes with its file: no start
                             before a reload */
        bool link_refused; /* not started: its file or a name in [Install] conflicts with a file of the host
                            */
        char note[STATE_NOTE_SIZE];    /* of the history, with the next state; "": none */
        char last_error[256];          /* of the last call to systemd that failed; or what the step awaits */
        bool waits;                    /* for another unit, or: */
        VerdictCode unprovided;        /* why this host cannot write its inputs; or none */
        bool start_counts;             /* started by the agent, and not active since */
        bool start_refused;            /* that was a start, which systemd rejected */
        bool reload_failed;            /* the last reload for a new ReloadTrigger= */
        struct AgentCall *reload;      /* under way; a stop does not await it; NULL: none */
        unsigned n_failures, n_writes; /* in a row, for this assignment */
        uint64_t assignment_index;     /* 0: none */
        uint64_t retry_ms;             /* no step before this time */
        uint64_t trigger_until_ms; /* so long its stop waits for that of its trigger; 0: did not wait yet */
        uint64_t recheck_ms; /* of a unit stopped because of another one: the next check or start; 0: none */
        uint64_t restart_ms; /* no further start of such a unit before this time */
        unsigned n_restarts; /* such starts in a row after which the unit did not run */
        /* Start of a transition that is not published, short pauses included; 0: none. */
        uint64_t changing_ms;
        uint64_t steady_ms; /* start of the current steady state; 0: none */
        uint64_t since_ms; /* wall clock of the last change of load, active or sub state, or of a new start */
        bool precedes;     /* none was observed: the state may be older than this daemon */
        unsigned ends;     /* kinds of ends (AgentEnd) since its last start by the agent */
        bool ended_first;  /* the present state is the first end of its kind: published at once */
        HealthState health;
        uint64_t health_restart_ms;          /* HealthAction=restart is due; 0: not before a change */
        bool restart_suspended;              /* most instances of its set are unhealthy, or: */
        bool set_unanswered;                 /* a replica was asked for its set, and has not answered */
        uint64_t set_asked_ms, set_known_ms; /* 0: never */
        SetHealth set_others;                /* the answer, without this instance */
        bool unchecked;                      /* health.unchecked, as counted and logged */
        bool singleton;                      /* assigned to run here, with Singleton=yes */
        uint64_t content;                    /* that its files had when it was last read; 0: not known */
        AgentText *text;                     /* owned; NULL: no text was needed that only the tree has */
        bool dirty;                          /* in the dirty set */
        TAILQ_ENTRY(AgentUnit) dirty_units;
        UT_hash_handle hh;
} AgentUnit;

/* The lease of the singletons of this host. All times are of loop_boot_ms(). */
typedef struct AgentLease {
        size_t n_units;        /* AgentUnit.singleton */
        KvSync sync;           /* the request under way */
        bool requesting;       /* it is under way */
        uint64_t requested_ms; /* when the last request began */
        uint64_t
                granted_ms; /* when a granted request began whose index the cluster view has not reached; 0 */
        uint64_t granted_index;
        uint64_t until_ms; /* end of the lease */
        bool valid;        /* it was valid when it was last looked at */
        Timer tick;
} AgentLease;

/* A time without contact to the cluster, for OnPartition=stop. Times are of loop_boot_ms(). */
typedef struct AgentPartition {
        uint64_t ms;      /* counted so far; 0: none, or nothing depends on it */
        uint64_t tick_ms; /* when it was counted */
        Timer tick;
} AgentPartition;

typedef struct AgentCall AgentCall;

struct Agent {
        const ComponentHost *host; /* borrowed, as the next five */
        Loop *loop;
        Registry *registry;
        Systemd *systemd;
        const char *machine_id, *boot_id;
        AssignmentRecords records;
        AgentUnit *units;                        /* by name */
        TAILQ_HEAD(AgentDirty, AgentUnit) dirty; /* units to be read, planned or published by the next pass */
        bool all_dirty;                          /* the next pass adds every unit that anything names */
        Named *triggered; /* units that are to leave this host after their triggers; made by each pass */
        Publisher *publisher;
        RegistryObserver observer;
        Deferred pass;
        Timer period, wake, boot_wait, adopt;
        bool adopting;  /* the cluster has a new lineage: report what runs, execute no assignment */
        bool reporting; /* the end of that report is being written */
        bool reported;  /* it is written, or the engine has decided about all that runs here */
        KvSync sync;
        bool syncing, fresh, use_records, refresh_all, closing;
        bool synced; /* the check has passed, and the view is to reach this index: */
        uint64_t synced_index;
        bool removed;   /* the cluster has removed this host: its units may run elsewhere */
        unsigned calls; /* operations under way; the last one frees a closing agent */
        bool refreshing, removing;
        unsigned writing;    /* calls that put texts in force */
        int save_error;      /* of the last save, logged once */
        RecordsWrite *write; /* the save under way, off the loop; NULL: none */
        Work save_work;
        uint64_t n_saves, n_saved;                 /* begun; ended */
        uint64_t n_listings;                       /* begun, those after links included */
        TAILQ_HEAD(AgentCalls, AgentCall) waiting; /* for a save */
        AgentLease lease;
        AgentPartition partition;
        Checks *checks;              /* NULL: none */
        size_t n_unchecked;          /* AgentUnit.unchecked */
        bool checks_reported;        /* that checks cannot run, or are stretched */
        uint64_t checks_reported_ms; /* when that was */
        Timer health;                /* the next unit that becomes available */
        bool publishes_health;       /* the feature level of the cluster allows it */
        bool attached;               /* the view has no states of other machines */
        AgentCounts counts;
};

/* -- duties.c -- */

/* Return the number of the content that the files of the unit have; 0: none, or it needs none. As
 * Duty.provided. */
uint64_t agent_content(const Agent *a, const Unit *text, Verdict *problem);
/* Bring the content that a text with inputs is to have: as Duty.provide. */
int agent_provide(const Agent *a, const Unit *text, uint64_t number, Verdict *why);
/* Write what goes with the file of the unit, which is to have this text: as Duty.stage. */
int agent_stage_duties(Agent *a, AgentUnit *u, const Unit *text, Error *err);
/* Begin what goes with a start or an assigned stop of the unit. 0, or a negative errno: it is not started. */
int agent_begin_duties(Agent *a, const AgentUnit *u, AgentStep s);
/* Return whether a component delays the assigned stop, which is then planned again. */
bool agent_delays_stop(const Agent *a, const AgentUnit *u);
/* Let the components add to the change of the state, or, with NULL, note what became of the unit. */
void agent_publish_duties(const Agent *a, const DutyUnit *unit, StateChange *change);
/* systemd is ready: tell the components. */
void agent_tell_ready(const Agent *a);
/* End all that goes with the unit: nothing names it any more. */
void agent_unit_gone(Agent *a, AgentUnit *u);

/* -- observed.c: units, the dirty set, refreshing -- */

/* Schedule a pass over the dirty set. */
void agent_wake(Agent *a);
/* Schedule a pass at 'due_ms' (loop_now_ms()) or earlier. */
void agent_wake_at(Agent *a, uint64_t due_ms);
/* Return whether the cluster view has all changes up to 'index'; if not, the next pass follows soon. */
bool agent_view_has(Agent *a, uint64_t index);
/* Schedule a pass soon, after an operation failed to begin: no memory, or no answer from systemd. */
void agent_retry_soon(Agent *a);
size_t agent_count_dirty(const Agent *a);
/* Add 'u' to the dirty set and schedule a pass. */
void agent_dirty(Agent *a, AgentUnit *u);
/* Schedule a pass over all units. */
void agent_dirty_all(Agent *a);
/* Return the unit, or NULL if it is unknown or, with 'make', without memory. */
AgentUnit *agent_unit(Agent *a, const char *name, bool make);
/* Return this host's assignment of the unit in the cluster view, or NULL. */
const ClusterAssignment *agent_assignment(const Agent *a, const char *name);
/* Add all known units to the dirty set, and those that an assignment, a state, an endpoint or a record names.
 */
void agent_collect(Agent *a);
/* Remove units from the dirty set that need no read, step or publication. Free units that nothing names. */
void agent_clean(Agent *a);
/* Return whether the unit was started in this boot, by its present record. */
bool agent_has_started(const Agent *a, const AgentUnit *u);
/* Request a refresh without limit: this daemon changed the unit. */
void agent_refresh_now(Agent *a, AgentUnit *u);
/* Log the failed step 'what' once, and delay the next step. */
void agent_unit_failed(Agent *a, AgentUnit *u, const char *what, const char *message);
/* Log what people should know of the unit, and keep it for the history; nothing if the error is not set. */
void agent_note(AgentUnit *u, const Error *what);
/* Return the invocation of an active unit; "": it is not active, or systemd does not report it. */
const char *agent_active_invocation(const SystemdUnit *seen);
/* Take over what systemd returned in the listing of this number (a->n_listings). */
void agent_refresh_unit(Agent *a, const SystemdUnit *seen, uint64_t listing);
/* Return whether 'u' may have changed since it was read. Plans use such a state, or a unit that changes all
 * the time would never be planned. Calls to systemd require a newer one. */
bool agent_is_stale(const AgentUnit *u);

/* -- next_step.c -- */

/* Find the units whose triggers run here, and leave this host, too: a trigger stops first. */
void agent_find_triggered(Agent *a);
/* Return whether a step waits for another unit on this host, with the reason in u->last_error: a start until
 * the unit that has its port has stopped, the start of a trigger until its unit is loaded, and the stop of a
 * unit for that of its trigger. The last one waits for TRIGGER_MS only: the engine may leave the trigger here
 * (Move=no), or be of a version that does not let it follow. */
bool agent_awaits_another(Agent *a, AgentUnit *u, AgentStep s);
/* Return whether the files of the unit have what the step requires; if not, why is in u->last_error. */
bool agent_is_provided(Agent *a, AgentUnit *u, AgentStep s);
/* Return agent_plan() for the present state. */
AgentStep agent_next_step(Agent *a, const AgentUnit *u, const char **ret_reason);

/* -- texts.c -- */

/* Return the entry of the unit, also while its key is unreadable; NULL: it was removed, or is unknown. */
const ClusterUnit *agent_cluster_unit(const Agent *a, const AgentUnit *u);
/* Return the text that this host's assignment names, borrowed; NULL: it is not known here. */
const Unit *agent_assigned_text(const Agent *a, const AgentUnit *u);
/* Read that text from the tree if it is not known; when the read has ended, the unit is dirty. Forget a text
 * that is not needed any more. */
void agent_read_text(Agent *a, AgentUnit *u);
/* Return the text to put in force: the assigned one, or the record's while the view is not fresh. */
const Unit *agent_unit_text(const Agent *a, const AgentUnit *u);
/* Put the template of a socket with Accept=yes in force, and record its text. 0, also for any other unit, or
 * a negative errno. */
int agent_put_template(Agent *a, const AgentUnit *u);
/* The unit is removed, and with it what is in force for it. */
void agent_remove_template(Agent *a, const char *name);
void agent_forget_text(Agent *a, AgentUnit *u);

/* -- lease.c -- */

/* Update u->singleton: renew the lease while there is such a unit. */
void agent_note_singleton(Agent *a, AgentUnit *u);
void agent_forget_singleton(Agent *a, AgentUnit *u);
/* Request, take over and pass on the lease, as far as it is due. */
void agent_update_lease(Agent *a);
/* Return whether the lease is valid at this moment. */
bool agent_has_lease(const Agent *a);
/* Pass the lease on to the guard of a singleton that is about to be started, with its token. 0 or a negative
 * errno. */
int agent_begin_guard(Agent *a, const AgentUnit *u);
/* The unit is to stop: its guard ends, and starts no more. */
void agent_end_guard(Agent *a, const AgentUnit *u);
void agent_end_lease(Agent *a);

/* -- partition.c -- */

/* Begin, continue or end the count. */
void agent_update_partition(Agent *a);
void agent_on_partition_tick(void *userdata);

/* -- record_updates.c -- */

/* Return whether the unit has completed, and record it. */
bool agent_record_done(Agent *a, AgentUnit *u, AssignmentRecord *record);
/* Record what was observed: the invocation, and how it ended. A finished unit that was started again, by hand
 * or by another unit, has not completed. */
void agent_record_observed(Agent *a, AgentUnit *u);
/* Record that the unit has completed if only the cluster has that; see agent_has_completed_before(). */
void agent_record_completed(Agent *a, AgentUnit *u);
/* Record the content that the unit has, as far as it was not started by the agent. */
void agent_record_content(Agent *a, AgentUnit *u);
/* Record the content that a start or a reload has given to the unit. */
void agent_record_provided(Agent *a, AssignmentRecord *record, uint64_t content);
/* Record the time of the assignment that was executed, which records of older versions lack, and its content
 * if that of the running unit is not known. */
void agent_record_since(Agent *a, const AgentUnit *u);
/* Keep the record that the unit was stopped because of another one if its start was lost. */
void agent_record_lost_start(Agent *a, AgentUnit *u);
/* Record the result of a job that systemd did not begin: the unit stays inactive and does not show it. All
 * other results make the unit failed, or are not results of a start. */
void agent_record_job_result(Agent *a, const char *unit, const char *result);
void agent_record_started(Agent *a, AssignmentRecord *record);
/* The recorded start got no job: it is still to be made. */
void agent_record_not_started(AssignmentRecord *record);
/* As agent_record_not_started(), after systemd was not called or refused. */
void agent_cancel_start(Agent *a, AssignmentRecord *record, AgentUnit *u);
/* Copy the assignment to the record. 'started': the unit runs in this boot, or ('starting') is about to be
 * started. This daemon makes the start until it succeeds. The record that the unit was stopped because of
 * another one stays until the unit runs. 0 or -ENOMEM. */
int agent_record_assignment(Agent *a, const AgentUnit *unit, bool started, bool starting);
/* Record that 'u' is about to be reloaded, or that the reload with the recorded text has succeeded. */
void agent_record_reload(Agent *a, const AgentUnit *u, bool reloading);
/* Record that 'unit' is about to be stopped or removed. The plan guarantees an assignment for a stop and, if
 * the unit is to run, its text. */
void agent_record_stop(Agent *a, const AgentUnit *unit, AgentStep s);

/* -- execute.c -- */

/* Read the units of the dirty set that require a refresh, within the limit of each. */
void agent_refresh(Agent *a);
/* Execute steps[i] on units[i]: update the records, save them, then call systemd, in batches where possible.
 * Delay steps for which memory is missing. Return true if records changed and a new plan is due. */
bool agent_execute(Agent *a, AgentUnit **units, AgentStep *steps, size_t n);
/* Restart 'u', which runs and is not busy, by one job of systemd. Its record stays: it was started, and is
 * not to be started again. Return false if that was not requested: no memory, or no contact to systemd. */
bool agent_restart(Agent *a, AgentUnit *u);
/* Write the records off the loop if they changed. Log a failure once. */
void agent_save(Agent *a);
/* Drop the calls that wait for a save. 'save': write the records before this returns; otherwise the result of
 * a write under way is never reported. */
void agent_end_saves(Agent *a, bool save);

/* -- unit_health.c -- */

/* Measure the health of 'u', as last read. */
void agent_update_health(Agent *a, AgentUnit *u);
void agent_on_health_tick(void *userdata);
/* Report whether checks cannot run on this host, or exceed its limits, if that changed. */
void agent_report_checks(Agent *a);
void agent_on_check(void *userdata, const char *unit, size_t i, const HealthResult *result);
/* The agent forgets 'u', or stops it. */
void agent_end_checks(Agent *a, AgentUnit *u);
/* Return whether the unit is active, and all its checks pass. */
bool agent_is_passing(const Agent *a, const AgentUnit *u);
/* Add what was measured to a state that is about to be published; nothing below KV_LEVEL_UPDATES. 0 or
 * -ENOMEM. */
int agent_add_health(const Agent *a, const AgentUnit *u, UnitState *state);

/* -- states.c -- */

/* Publish the states that differ from the registry's. */
void agent_publish(Agent *a);

/* -- calls.c -- */

/* One call to systemd about some units. It keeps their names, since the agent may be freed before it ends. */
struct AgentCall {
        Agent *agent;
        AgentStep step;
        Names names; /* of its units, in order */
        bool reloaded;
        bool all;                  /* of a listing: all units with a file, too */
        uint64_t save;             /* of the records, for which the call waits */
        char hash[UNIT_HASH_SIZE]; /* of a reload: the text that is in force */
        uint64_t content;          /* of a reload: what its files have */
        uint64_t listing;          /* its number among a->n_listings */
        TAILQ_ENTRY(AgentCall) waiting_calls;
};

AgentCall *agent_call_free(AgentCall *call); /* returns NULL */
DEFINE_CLEANUP(AgentCall *, agent_call_free)
/* Return NULL without memory; a pass that comes soon makes the call. */
AgentCall *agent_call_new(Agent *a, AgentStep step, AgentUnit *const *units, size_t n);
const char *const *agent_call_names(const AgentCall *call);
/* Never NULL: agent_clean() keeps units that are busy or being refreshed. */
AgentUnit *agent_call_unit(const AgentCall *call, size_t i);
/* Count the end of an operation. Return false when the agent is closing; the last operation frees it. */
bool agent_call_ended(Agent *a);
