/* The words of each code. */
#include "units/verdict.h"

/* Former hosts send and store these messages, and decide by them: until the feature level of verdicts is in
 * force in all clusters, a message here does not change. */
const VerdictRow verdict_rows[_VERDICT_MAX] = {
        [VERDICT_NONE] = { .message = "" },
        [VERDICT_SAID] = { .message = "%1" },

        [VERDICT_AWAY_CLOSED] = { "away-closed", "its fleetd lost its session" },
        [VERDICT_AWAY_HUNG] = { "away-hung", "its fleetd does not answer, its kernel does" },
        [VERDICT_AWAY_STOPPED] = { "away-stopped", "its fleetd was stopped" },
        [VERDICT_AWAY_CUT] = { "away-cut", "it does not reach the leader, but another replica" },
        [VERDICT_LOST_CLOSED] = { "lost-closed",
                                  "its fleetd lost its session, and has been away for too long" },
        [VERDICT_LOST_HUNG] = { "lost-hung", "its fleetd does not answer, and has been away for too long" },
        [VERDICT_LOST_STOPPED] = { "lost-stopped", "its fleetd was stopped, and has been away for too long" },
        [VERDICT_LOST_SILENT] = { "lost-silent", "no message from its fleetd or its kernel" },
        [VERDICT_LOST_UNREPORTED] = { "lost-unreported",
                                      "it has not reported since the cluster was recovered or restored",
                                      true },
        [VERDICT_LEFT] = { "left", "it shut down" },

        [VERDICT_REPLICA_WORKS] = { "replica-works", "its replica works again" },
        [VERDICT_IDENTITY_COPY] = { "identity-copy",
                                    "a copy of this host was rejected; how it gets an ID of its own: "
                                    "fleetctl help replace" },
        [VERDICT_IDENTITY_KEY] = { "identity-key",
                                   "a host with this ID and another key was rejected; to admit it: fleetctl "
                                   "token --replace=%1" },
        [VERDICT_IDENTITY_ALONE] = { "identity-alone", "no other host has its machine ID" },
        [VERDICT_CLOCK_AHEAD] = { "clock-ahead", "clock is %1 ahead of the leader's" },
        [VERDICT_CLOCK_BEHIND] = { "clock-behind", "clock is %1 behind the leader's" },
        [VERDICT_CLOCK_AGREES] = { "clock-agrees", "its clock agrees with the leader's" },
        [VERDICT_SESSION_SINGLE] = { "session-single", "one only for a minute; other replicas work" },
        [VERDICT_SESSIONS_TWO] = { "sessions-two", "it has two sessions" },

        [VERDICT_REPLICA_STOPPED] = { "replica-stopped", "this host's replica has stopped: %1" },
        [VERDICT_TREE_DIFFERS] = { "tree-differs",
                                   "this host's tree differs from the majority's: it will get the leader's" },
        [VERDICT_TREE_UNDECIDED] = { "tree-undecided",
                                     "the replicas' trees differ, and no majority of them agrees" },
        [VERDICT_TREE_REFUSED] = { "tree-refused", "cannot use the tree that the leader sends: %1" },
        [VERDICT_NO_LISTENER] = { "no-listener", "none: it cannot listen on %1; correct ListenPeer=" },
        [VERDICT_KEY_MISSING] = { "key-missing",
                                  "cluster key missing: the leader sends secrets/key.%1; if it has none: "
                                  "fleet-security(7)" },
        [VERDICT_KEY_DAMAGED] = { "key-damaged",
                                  "cluster key missing: the leader replaces secrets/key.%1; if it has none: "
                                  "fleet-security(7)" },
        [VERDICT_KEY_SEALED] = { "key-sealed",
                                 "cluster key sealed: this host cannot open or seal secrets/key.%1; see its "
                                 "journal" },
        [VERDICT_KEY_AS_IT_IS] = { "key-as-it-is",
                                   "cluster key not sealed: secrets/key.%1 is on disk as it is; see the "
                                   "journal of fleetd" },
        [VERDICT_KEY_NOT_STORED] = { "key-not-stored",
                                     "cluster key not sealed: secrets/key.%1 is not on disk; see the journal "
                                     "of fleetd" },
        [VERDICT_KEY_READABLE] = { "key-readable",
                                   "cluster key unusable: chmod 600 secrets/key.%1; others may have read "
                                   "it" },
        [VERDICT_KEY_UNUSABLE] = { "key-unusable", "cluster key unusable: %1" },

        [VERDICT_UP] = { "up", "%1" },
        [VERDICT_AWAY] = { "away", "%1", true },
        [VERDICT_LOST] = { "lost", "%1", true },
        [VERDICT_RECOVERED] = { "recovered", "%1" },
        [VERDICT_RESTORED] = { "restored", "%1" },
        [VERDICT_CONFIRMED] = { "confirmed", "%1" },
        [VERDICT_DRAIN_LOST] = { "drain-lost", "%1", true },
        [VERDICT_LEAVE_BEGUN] = { "leave-begun", "%1" },
        [VERDICT_REBOOT_FAILED] = { "reboot-failed", "%1", true },
        [VERDICT_ROLLOUT_PAUSED] = { "rollout-paused", "%1", true },
        [VERDICT_ROLLOUT_PAUSED_BY] = { "rollout-paused-by", "%1" },
        [VERDICT_ROLLOUT_REVERTED] = { "rollout-reverted", "%1", true },
        [VERDICT_UNIT_FAILED] = { "unit-failed", "%1", true },
        [VERDICT_UNIT_NOT_LOADED] = { "unit-not-loaded", "%1", true },
        [VERDICT_UNIT_NOT_STARTED] = { "unit-not-started", "%1", true },
        [VERDICT_UNIT_RESTARTS] = { "unit-restarts", "%1" },
        [VERDICT_UNIT_RESTARTS_FAILED] = { "unit-restarts-failed", "%1", true },
        [VERDICT_UNIT_STOPPED] = { "unit-stopped", "%1", true },
        [VERDICT_LEAVES_LOST] = { "leaves-lost", "%1 is lost; %2" },
        [VERDICT_LEAVES_GONE] = { "leaves-gone", "%1 was shut down; %2" },
        [VERDICT_MOVE_REQUESTED] = { "move-requested", "move to %1" },
        [VERDICT_MOVE_DONE] = { "move-done", "moved to %1" },
        [VERDICT_MOVE_FAILED] = { "move-failed", "move of %2 to %1 failed: %3", true },
        [VERDICT_MOVE_LOST] = { "move-lost", "move of %2 to %1 failed: %3", true },
        [VERDICT_MOVE_ENDED] = { "move-ended", "move of %2 to %1 ended: %3" },
};
