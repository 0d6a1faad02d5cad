/* The codes of verdicts, a line each: the code, its name in keys and frames, and its words, the other members
 * of VerdictRow.
 *
 * Former hosts send and store these messages, and decide by them: until the feature level of verdicts is in
 * force in all clusters, a message here does not change. */
#pragma once

/* Why the leader counts a host as away, lost or left. The first three of the lost hosts were away for too
 * long. */
#define VERDICTS_OF_PRESENCES(X)                                                                             \
        X(VERDICT_AWAY_CLOSED, "away-closed", "its fleetd lost its session")                                 \
        X(VERDICT_AWAY_HUNG, "away-hung", "its fleetd does not answer, its kernel does")                     \
        X(VERDICT_AWAY_STOPPED, "away-stopped", "its fleetd was stopped")                                    \
        X(VERDICT_AWAY_CUT, "away-cut", "it does not reach the leader, but another replica")                 \
        X(VERDICT_LOST_CLOSED, "lost-closed", "its fleetd lost its session, and has been away for too long") \
        X(VERDICT_LOST_HUNG, "lost-hung", "its fleetd does not answer, and has been away for too long")      \
        X(VERDICT_LOST_STOPPED, "lost-stopped", "its fleetd was stopped, and has been away for too long")    \
        X(VERDICT_LOST_SILENT, "lost-silent", "no message from its fleetd or its kernel")                    \
        X(VERDICT_LOST_UNREPORTED, "lost-unreported",                                                        \
          "it has not reported since the cluster was recovered or restored", true)                           \
        X(VERDICT_LEFT, "left", "it shut down")

/* Problems of a host that is up, and their ends. */
#define VERDICTS_OF_PROBLEMS(X)                                                                    \
        X(VERDICT_REPLICA_WORKS, "replica-works", "its replica works again")                       \
        X(VERDICT_IDENTITY_COPY, "identity-copy",                                                  \
          "a copy of this host was rejected; how it gets an ID of its own: fleetctl help replace") \
        X(VERDICT_IDENTITY_KEY, "identity-key",                                                    \
          "a host with this ID and another key was rejected; to admit it: fleetctl token "         \
          "--replace=%1") /* host */                                                               \
        X(VERDICT_IDENTITY_ALONE, "identity-alone", "no other host has its machine ID")            \
        X(VERDICT_CLOCK_AHEAD, "clock-ahead",                                                      \
          "clock is %1 ahead of the leader's") /* difference, as "31 s" */                         \
        X(VERDICT_CLOCK_BEHIND, "clock-behind", "clock is %1 behind the leader's")                 \
        X(VERDICT_CLOCK_AGREES, "clock-agrees", "its clock agrees with the leader's")              \
        X(VERDICT_SESSION_SINGLE, "session-single", "one only for a minute; other replicas work")  \
        X(VERDICT_SESSIONS_TWO, "sessions-two", "it has two sessions")

/* Problems of a replica. The number is that of a cluster key: it is missing, also that of a host of a former
 * version, or the next one; the host has it, and cannot open it (sealed); it is of use, but it, or the next
 * one, cannot be sealed (as it is, not stored). */
#define VERDICTS_OF_REPLICAS(X)                                                                            \
        X(VERDICT_REPLICA_STOPPED, "replica-stopped", "this host's replica has stopped: %1") /* why */     \
        X(VERDICT_TREE_DIFFERS, "tree-differs",                                                            \
          "this host's tree differs from the majority's: it will get the leader's")                        \
        X(VERDICT_TREE_UNDECIDED, "tree-undecided",                                                        \
          "the replicas' trees differ, and no majority of them agrees")                                    \
        X(VERDICT_TREE_REFUSED, "tree-refused", "cannot use the tree that the leader sends: %1") /* why */ \
        X(VERDICT_NO_LISTENER, "no-listener",                                                              \
          "none: it cannot listen on %1; correct ListenPeer=") /* address */                               \
        X(VERDICT_KEY_MISSING, "key-missing",                                                              \
          "cluster key missing: the leader sends secrets/key.%1; if it has none: fleet-security(7)")       \
        X(VERDICT_KEY_DAMAGED, "key-damaged",                                                              \
          "cluster key missing: the leader replaces secrets/key.%1; if it has none: fleet-security(7)")    \
        X(VERDICT_KEY_SEALED, "key-sealed",                                                                \
          "cluster key sealed: this host cannot open or seal secrets/key.%1; see its journal")             \
        X(VERDICT_KEY_AS_IT_IS, "key-as-it-is",                                                            \
          "cluster key not sealed: secrets/key.%1 is on disk as it is; see the journal of fleetd")         \
        X(VERDICT_KEY_NOT_STORED, "key-not-stored",                                                        \
          "cluster key not sealed: secrets/key.%1 is not on disk; see the journal of fleetd")              \
        X(VERDICT_KEY_READABLE, "key-readable",                                                            \
          "cluster key unusable: chmod 600 secrets/key.%1; others may have read it")                       \
        X(VERDICT_KEY_UNUSABLE, "key-unusable", "cluster key unusable: %1") /* error */

/* Why a machine does not qualify for a unit. VERDICT_NO_SUCH_UNIT is about the cluster, not about a machine;
 * conflicts have no predicate. */
#define VERDICTS_OF_SCHEDULER(X)                                                                             \
        X(VERDICT_SILENT, "silent", NULL, false, "does", "not answer")                                       \
        X(VERDICT_IS_AWAY, "is-away", NULL, false, "is", "away (%1)") /* why */                              \
        X(VERDICT_IS_LOST, "is-lost", NULL, false, "is", "lost")                                             \
        X(VERDICT_WAS_SHUT_DOWN, "was-shut-down", NULL, false, "was", "shut down")                           \
        X(VERDICT_UNREADABLE, "unreadable", "its key cannot be read by this fleetd: upgrade the host",       \
          false, "has", "a key that this fleetd cannot read")                                                \
        X(VERDICT_NO_AGENT, "no-agent", NULL, false, "runs", "no agent (Agent=no)")                          \
        X(VERDICT_NO_FACTS, "no-facts", NULL, false, "has", "published no facts yet")                        \
        X(VERDICT_NO_PODMAN, "no-podman", NULL, false, "has",                                                \
          "no podman 5.3 or later (podman-system-generator), which .%1 files need") /* type of the unit */   \
        X(VERDICT_OTHER_ID, "other-id", "MachineID=%1, and its id is %2", false, "has",                      \
          "another ID than %1") /* required, its ID */                                                       \
        X(VERDICT_DATA_ELSEWHERE, "data-elsewhere", "its data is on %2 (%1)", false, "does",                 \
          "not have its data (%1), which is on %2") /* by which option, machine */                           \
        X(VERDICT_DATA_NEWER, "data-newer", "its data may be newer on %1, which did not report in time",     \
          false, "has", "data that may be older than that on %1, which has not reported") /* machine */      \
        X(VERDICT_METADATA_RESTRICTED, "metadata-restricted",                                                \
          "MachineMetadata=%2, and of a restricted host, %1 of its own does not count", false, "is",         \
          "restricted, and metadata %1 of its own does not count") /* key, required */                       \
        X(VERDICT_METADATA_ABSENT, "metadata-absent", "MachineMetadata=%2, and it has no %1", false, "has",  \
          "no metadata %2") /* key, required */                                                              \
        X(VERDICT_METADATA_OTHER, "metadata-other", "MachineMetadata=%3, and it has %1=%2", false, "has",    \
          "%1=%2, not %3") /* key, value, required */                                                        \
        X(VERDICT_NO_SUCH_UNIT, "no-such-unit", "MachineOf=%1, and the cluster has no unit %1", false, NULL, \
          "the cluster has no unit %1") /* unit */                                                           \
        X(VERDICT_UNIT_ELSEWHERE, "unit-elsewhere", "MachineOf=%1, and %1 is not there", false, "has",       \
          "no unit %1") /* unit */                                                                           \
        X(VERDICT_TRIGGERED_ELSEWHERE, "triggered-elsewhere", "it triggers %1, which is not there", false,   \
          "has", "no unit %1")                                                  /* unit */                   \
        X(VERDICT_CONFLICTS, "conflicts", "Conflicts=%2, and %1 is there")      /* unit there, pattern */    \
        X(VERDICT_CONFLICTED, "conflicted", "%1 is there and has Conflicts=%2") /* unit there, pattern */    \
        X(VERDICT_PORT_TAKEN, "port-taken", NULL, false, "has", "%1, which has port %2") /* unit, port */    \
        X(VERDICT_MAX_REACHED, "max-reached", "MaxPerMachine=%2: %1 is there", false, "has",                 \
          "%1, with MaxPerMachine=%2") /* a unit, number */                                                  \
        X(VERDICT_NO_ROOM, "no-room", "%1: requests %2, %3 is free (%4)", false, "has",                      \
          "%3 of %1 free, less than %2") /* memory or cpu, request, free of all, others */                   \
        X(VERDICT_FOREIGN_UNIT, "foreign-unit", NULL, false, "has",                                          \
          "a unit of that name from another source")                                                         \
        X(VERDICT_IS_LEAVING, "is-leaving", NULL, false, "is", "leaving the cluster")                        \
        X(VERDICT_IS_STOPPING, "is-stopping", NULL, false, "is", "shutting down")                            \
        X(VERDICT_MAINTAINED, "maintained", NULL, false, "is", "%1") /* how */                               \
        X(VERDICT_OTHER_MACHINE, "other-machine", NULL, false, "is",                                         \
          "not the machine to which the unit moves")                                                         \
        X(VERDICT_DAMPED, "damped", NULL, false, "was",                                                      \
          "lost %1 in short order: nothing new for %2") /* how often, for how long */                        \
        X(VERDICT_BOUND, "bound", "Move=no") /* why it stays on a machine that is being drained */           \
        X(VERDICT_DATA_THERE, "data-there", "its data is there (%1)") /* the same; by which option */        \
        X(VERDICT_STAYS_WITH_DATA, "stays-with-data", "stays on %1: its data is there (%2)")                 \
        X(VERDICT_MAY_LEAVE_DATA, "may-leave-data",                                                          \
          "may move to a machine without its data (%1): write Sticky=yes or Sticky=no%2")                    \
        X(VERDICT_PATH_UNKNOWN, "path-unknown",                                                              \
          "fleetd cannot tell whether %1 is on each host: write Sticky=yes or Sticky=no") /* path */         \
        X(VERDICT_HAS_IT, "has-it", NULL, false, "has", "it already")

/* Why a unit is inactive that did not fail. */
#define VERDICTS_OF_STATES(X)                                                                \
        X(VERDICT_STOPPED_BY_HAND, "stopped-by-hand", "stopped by hand", true)               \
        X(VERDICT_STOPPED_UNOBSERVED, "stopped-unobserved",                                  \
          "stopped, or ended by itself, unobserved by fleetd", true)                         \
        X(VERDICT_STOPPED_FOR, "stopped-for",                                                \
          "stopped because of %1; started again when that unit permits it", true) /* unit */ \
        X(VERDICT_FAILURE_RESET, "failure-reset",                                            \
          "it failed, and its failed state was reset") /* by reset-failed */                 \
        X(VERDICT_ENDED_ITSELF, "ended-itself",                                              \
          "it ended by itself, and is not started again") /* as a mount that was unmounted */

/* What a row of the history states: "%1" of those with the text of the row as it was said. Presences are also
 * VERDICT_LEFT and VERDICT_LOST_UNREPORTED. A unit leaves a machine that is lost, or was shut down, for
 * another one: machine, why that one. A move: machine, unit, why. It is lost as its machine is lost or was
 * shut down; it ends by another request, or as the unit is not to be there any more. */
#define VERDICTS_OF_ROWS(X)                                                                                 \
        X(VERDICT_UP, "up", "%1")                                                                           \
        X(VERDICT_AWAY, "away", "%1", true)                                                                 \
        X(VERDICT_LOST, "lost", "%1", true)                                                                 \
        X(VERDICT_RECOVERED, "recovered", "%1") /* a lineage began */                                       \
        X(VERDICT_RESTORED, "restored", "%1")                                                               \
        X(VERDICT_CONFIRMED, "confirmed", "%1") /* a problem of a unit directory */                         \
        X(VERDICT_DRAIN_LOST, "drain-lost", "%1", true)                                                     \
        X(VERDICT_LEAVE_BEGUN, "leave-begun", "%1")                                                         \
        X(VERDICT_REBOOT_FAILED, "reboot-failed", "%1", true)                                               \
        X(VERDICT_REBOOTED, "rebooted", "%1")                                                               \
        X(VERDICT_ROLLOUT_PAUSED, "rollout-paused", "%1", true)                                             \
        X(VERDICT_INSTANCE_FAILED, "instance-failed", "%1")     /* RolloutRecord.code */                    \
        X(VERDICT_ROLLOUT_PAUSED_BY, "rollout-paused-by", "%1") /* a user */                                \
        X(VERDICT_ROLLOUT_REVERTED, "rollout-reverted", "%1", true)                                         \
        X(VERDICT_UNIT_FAILED, "unit-failed", "%1", true)                                                   \
        X(VERDICT_UNIT_NOT_LOADED, "unit-not-loaded", "%1", true)                                           \
        X(VERDICT_UNIT_NOT_STARTED, "unit-not-started", "%1", true)                                         \
        X(VERDICT_UNIT_RESTARTS, "unit-restarts", "%1")                     /* by systemd */                \
        X(VERDICT_UNIT_RESTARTS_FAILED, "unit-restarts-failed", "%1", true) /* the same, after a failure */ \
        X(VERDICT_LEAVES_LOST, "leaves-lost", "%1 is lost; %2%3")                                           \
        X(VERDICT_LEAVES_LEFT, "leaves-left", "%1 was shut down; %2%3")                                     \
        X(VERDICT_MOVE_REQUESTED, "move-requested", "move to %1")                                           \
        X(VERDICT_MOVE_DONE, "move-done", "moved to %1")                                                    \
        X(VERDICT_MOVE_FAILED, "move-failed", "move of %2 to %1 failed: %3", true)                          \
        X(VERDICT_MOVE_LOST, "move-lost", "move of %2 to %1 failed: %3", true)                              \
        X(VERDICT_MOVE_ENDED, "move-ended", "move of %2 to %1 ended: %3")

/* Why a unit is on a machine, or is to stop there, and from VERDICT_RUNS_AGAIN on why it waits: the machine,
 * which it leaves or on which it is; then others. "%3": how an option of a later version is taken. */
#define VERDICTS_OF_ASSIGNMENTS(X)                                                                         \
        X(VERDICT_LEAVES_REMOVED, "leaves-removed", "%1 was removed; %2%3")                                \
        X(VERDICT_LEAVES_REPLACED, "leaves-replaced", "%1 has a unit that replaces it; %2%3")              \
        X(VERDICT_LEAVES_LEAVING, "leaves-leaving", "%1 is leaving the cluster; %2%3")                     \
        X(VERDICT_LEAVES_STOPPING, "leaves-stopping", "%1 is shutting down; %2%3")                         \
        X(VERDICT_LEAVES_DRAINED, "leaves-drained", "%1 is being drained; %2%3")                           \
        X(VERDICT_LEAVES_REQUESTED, "leaves-requested", "%1 is left on request; %2%3")                     \
        X(VERDICT_LEAVES_UNFIT, "leaves-unfit", "%1 no longer qualifies; %2%3")                            \
        X(VERDICT_MOVED_ON_REQUEST, "moved-on-request", "moved from %1 to %2 on request%3")                \
        X(VERDICT_UNFIT, "unfit", "%1 no longer qualifies: %2")                                            \
        X(VERDICT_UNFIT_WAITS, "unfit-waits", "%1 no longer qualifies: %2; it waits there (Move=no)")      \
        X(VERDICT_UNFIT_NOW, "unfit-now", "%1 no longer qualifies (%2); %3")                               \
        X(VERDICT_DRAIN_OVER, "drain-over", "the deadline of the drain of %1 has passed")                  \
        X(VERDICT_DRAIN_OVER_WAITS, "drain-over-waits",                                                    \
          "the deadline of the drain of %1 has passed, and it waits there (Move=no)")                      \
        X(VERDICT_HAS_STAYED, "has-stayed", "it has stayed on %1 (Move=no)")                               \
        X(VERDICT_KEEPS_MACHINE, "keeps-machine", "start requested; keeps its machine")                    \
        X(VERDICT_RUNS_THERE, "runs-there", "already runs there")                                          \
        X(VERDICT_GLOBAL_FITS, "global-fits", "Global=yes, and the machine qualifies")                     \
        X(VERDICT_FILE_CHANGED, "file-changed", "its unit file has changed")                               \
        X(VERDICT_SURGES, "surges", "update to revision %2, started here before the stop on %1")           \
        X(VERDICT_UPDATE_PAUSED, "update-paused", "its update is paused, and it leaves %1")                \
        X(VERDICT_UPDATE_ENDED, "update-ended", "its update has ended, and it stays on %1")                \
        X(VERDICT_TO_BE_LAUNCHED, "to-be-launched", "its target state is launched")                        \
        X(VERDICT_TO_BE_LOADED, "to-be-loaded", "its target state is loaded")                              \
        X(VERDICT_TO_BE_INACTIVE, "to-be-inactive", "its target state is inactive")                        \
        X(VERDICT_DESTROYED, "destroyed", "it was destroyed")                                              \
        X(VERDICT_RUNS_ON, "runs-on", "it runs on %1 now")                                                 \
        X(VERDICT_IS_ON, "is-on", "it is on %1 now")                                                       \
        X(VERDICT_STRAYS, "strays", "it runs elsewhere")                                                   \
        X(VERDICT_RUNS_ELSEWHERE, "runs-elsewhere", "it runs elsewhere now")                               \
        X(VERDICT_IS_ELSEWHERE, "is-elsewhere", "it is elsewhere now")                                     \
        X(VERDICT_HAS_RUN_THERE, "has-run-there", "has run there all the time (OnReconnect=keep-old)")     \
        X(VERDICT_HAS_RUN_ON, "has-run-on",                                                                \
          "%1 is back, and has run it all the time (OnReconnect=keep-old)")                                \
        X(VERDICT_IS_BACK, "is-back", "%1 is back")                                                        \
        X(VERDICT_STAYS_ON, "stays-on", "it stays on %1")                                                  \
        X(VERDICT_WENT_AWAY, "went-away",                                                                  \
          "the machine went away before it was available there, and it stays on %1")                       \
        X(VERDICT_WAS_LATE, "was-late",                                                                    \
          "it was not available there within UpdateDeadlineSec=, and it stays on %1")                      \
        X(VERDICT_FAILED_THERE, "failed-there", "it failed there, and it stays on %1")                     \
        X(VERDICT_CHECKS_FAILED, "checks-failed", "it failed its checks there, and it stays on %1")        \
        X(VERDICT_START_FAILED, "start-failed", "its start failed there, and it stays on %1")              \
        X(VERDICT_MOVE_RETRIED, "move-retried", "the move to %1 failed; the next attempt is %2 s later")   \
        X(VERDICT_SINGLETON_NEW, "singleton-new", "Singleton=yes is new: it starts again with a guard")    \
        X(VERDICT_SINGLETON_OTHER, "singleton-other", "Singleton=yes, and it has another machine")         \
        X(VERDICT_SINGLETON_STRAY, "singleton-stray", "Singleton=yes, and it has no assignment there")     \
        X(VERDICT_RUNS_AGAIN, "runs-again", "%1: it has finished, and an older fleetd would run it again") \
        X(VERDICT_AWAITS_LOST, "awaits-lost", "%1 is lost, and its unit waits for it (%2)")                \
        X(VERDICT_AWAITS_LEFT, "awaits-left", "%1 was shut down, and its unit waits for it (%2)")          \
        X(VERDICT_AWAITS_DATA, "awaits-data", "waits for %1, where its data is (%2): %3")                  \
        X(VERDICT_DRAIN_OVER_DATA, "drain-over-data",                                                      \
          "the deadline of the drain of %1 has passed, and it waits there: its data is there (%2)")        \
        X(VERDICT_BEING_STOPPED, "being-stopped", "it is being stopped on %1")                             \
        X(VERDICT_MAY_RUN_IT, "may-run-it",                                                                \
          "%1 may still run it, since before Singleton=yes, and has to report its end")                    \
        X(VERDICT_STOPS_IT, "stops-it", "%1 is stopping it")                                               \
        X(VERDICT_LEASE_RUNS, "lease-runs",                                                                \
          "%1 may still run it: Singleton=yes waits until its lease has ended")                            \
        X(VERDICT_ROLLOUT_UNREADABLE, "rollout-unreadable",                                                \
          "the rollout of %1: its key cannot be read by this fleetd: upgrade the host")

/* Why a planned reboot has failed. A row of the history of a failure has VERDICT_REBOOT_FAILED. */
#define VERDICTS_OF_REBOOTS(X)                                                                           \
        X(VERDICT_REBOOT_LOST, "reboot-lost", "it was lost while it was drained")                        \
        X(VERDICT_REBOOT_LEFT, "reboot-left", "it was shut down while it was drained")                   \
        X(VERDICT_REBOOT_REJECTED, "reboot-rejected", "logind rejects the reboot: %1") /* its message */ \
        X(VERDICT_REBOOT_LATE, "reboot-late", "it is not back in time")                                  \
        X(VERDICT_REBOOT_INCOMPLETE, "reboot-incomplete",                                                \
          "it is up, but boot-complete.target is not reached in time")                                   \
        X(VERDICT_REBOOT_UNIT, "reboot-unit", "it is up, but %1 is not available again")                 \
        X(VERDICT_REBOOT_UNITS, "reboot-units", "its units are not available again in time")

/* Why an instance of a unit is no endpoint of its services. */
#define VERDICTS_OF_ENDPOINTS(X)                                                                        \
        X(VERDICT_ENDPOINT_LEVEL, "endpoint-level", "the feature level of the cluster has no services") \
        X(VERDICT_ENDPOINT_NO_SERVICE, "endpoint-no-service", "it has no Service= or Port=")            \
        X(VERDICT_ENDPOINT_NOT_ASSIGNED, "endpoint-not-assigned",                                       \
          "it is not assigned to run, or is about to stop")                                             \
        X(VERDICT_ENDPOINT_NOT_PASSING, "endpoint-not-passing",                                         \
          "it is not active, or a check is not passing")                                                \
        X(VERDICT_ENDPOINT_CRASHED, "endpoint-crashed",                                                 \
          "it ended before it was available; it is registered again when it has been healthy for "      \
          "UpdateWatchSec=")                                                                            \
        X(VERDICT_ENDPOINT_AWAITED, "endpoint-awaited",                                                 \
          "its host is about to register it; if it does not: the journal of fleetd there")              \
        X(VERDICT_ENDPOINT_NO_ADDRESS, "endpoint-no-address",                                           \
          "its host has no address; set ServiceAddress= there")                                         \
        X(VERDICT_ENDPOINTS_FULL, "endpoints-full",                                                     \
          "its host has 700 endpoints, the most that a host registers")

/* Why the inputs of a unit give no content (features/inputs/): the input first. */
#define VERDICTS_OF_INPUTS(X)                                                                              \
        X(VERDICT_AWAITS_SECRET, "awaits-secret", "waiting for secret %1: not set")                        \
        X(VERDICT_AWAITS_KEYS, "awaits-keys", "waiting for %1: no such key")                               \
        X(VERDICT_AWAITS_CONTENT, "awaits-content", "its secrets and configuration are being read")        \
        X(VERDICT_SECRET_OF_OTHERS, "secret-of-others", "secret %1 is not for %2: its units are %3", true) \
        X(VERDICT_SECRET_UNOPENED, "secret-unopened", "secret %1 cannot be opened: %2", true)              \
        X(VERDICT_SECRET_UNSEALED, "secret-unsealed", "cannot seal %1: %2", true)                          \
        X(VERDICT_INPUTS_UNWRITTEN, "inputs-unwritten",                                                    \
          "its secrets and configuration cannot be written: %1", true)                                     \
        X(VERDICT_INPUTS_COLLIDE, "inputs-collide", "%1 and %2 are both %3", true)                         \
        X(VERDICT_INPUT_INVALID, "input-invalid", "%1: %2", true) /* why */                                \
        X(VERDICT_VARIABLE_REJECTED, "variable-rejected",                                                  \
          "%1: a unit cannot get %2 from a key: it changes how programs start", true)

/* Why a unit is to move, to balance the cluster: machines with figures before the move; of fullness, with the
 * unit on either. */
#define VERDICTS_OF_BALANCE(X)                                                           \
        X(VERDICT_FEWER_SIBLINGS, "fewer-siblings", "%1 has %2 of its instances, %3 %4") \
        X(VERDICT_LESS_FULL, "less-full", "%1 is %2 full, %3 %4 after it")               \
        X(VERDICT_FEWER_UNITS, "fewer-units", "%1 has %2 units, %3 %4")

/* A message without a code (VERDICT_SAID) decides nothing. */
#define VERDICTS(X)                 \
        X(VERDICT_NONE, NULL, "")   \
        X(VERDICT_SAID, NULL, "%1") \
        VERDICTS_OF_PRESENCES(X)    \
        VERDICTS_OF_PROBLEMS(X)     \
        VERDICTS_OF_REPLICAS(X)     \
        VERDICTS_OF_SCHEDULER(X)    \
        VERDICTS_OF_STATES(X)       \
        VERDICTS_OF_ROWS(X)         \
        VERDICTS_OF_ASSIGNMENTS(X)  \
        VERDICTS_OF_REBOOTS(X) VERDICTS_OF_ENDPOINTS(X) VERDICTS_OF_BALANCE(X) VERDICTS_OF_INPUTS(X)
