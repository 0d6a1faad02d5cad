/* The words of each code. */
#include "units/verdict.h"

/* Former hosts send and store these messages, and decide by them: until the feature level of verdicts is in
 * force in all clusters, a message here does not change. */
const VerdictRow verdict_rows[_VERDICT_MAX] = {
        [VERDICT_NONE] = { "" },
        [VERDICT_SAID] = { "%1" },

        [VERDICT_AWAY_CLOSED] = { "its fleetd lost its session" },
        [VERDICT_AWAY_HUNG] = { "its fleetd does not answer, its kernel does" },
        [VERDICT_AWAY_STOPPED] = { "its fleetd was stopped" },
        [VERDICT_AWAY_CUT] = { "it does not reach the leader, but another replica" },
        [VERDICT_LOST_CLOSED] = { "its fleetd lost its session, and has been away for too long" },
        [VERDICT_LOST_HUNG] = { "its fleetd does not answer, and has been away for too long" },
        [VERDICT_LOST_STOPPED] = { "its fleetd was stopped, and has been away for too long" },
        [VERDICT_LOST_SILENT] = { "no message from its fleetd or its kernel" },
        [VERDICT_LOST_UNREPORTED] = { "it has not reported since the cluster was recovered or restored" },
        [VERDICT_LEFT] = { "it shut down" },

        [VERDICT_REPLICA_WORKS] = { "its replica works again" },
        [VERDICT_IDENTITY_COPY] = { "a copy of this host was rejected; how it gets an ID of its own: "
                                    "fleetctl help replace" },
        [VERDICT_IDENTITY_KEY] = { "a host with this ID and another key was rejected; to admit it: fleetctl "
                                   "token --replace=%1" },
        [VERDICT_IDENTITY_ALONE] = { "no other host has its machine ID" },
        [VERDICT_CLOCK_AHEAD] = { "clock is %1 ahead of the leader's" },
        [VERDICT_CLOCK_BEHIND] = { "clock is %1 behind the leader's" },
        [VERDICT_CLOCK_AGREES] = { "its clock agrees with the leader's" },
        [VERDICT_SESSION_SINGLE] = { "one only for a minute; other replicas work" },
        [VERDICT_SESSIONS_TWO] = { "it has two sessions" },

        [VERDICT_NO_LISTENER] = { "none: it cannot listen on %1; correct ListenPeer=" },
        [VERDICT_KEY_MISSING] = { "cluster key missing: the leader sends secrets/key.%1; if it has none: "
                                  "fleet-security(7)" },
        [VERDICT_KEY_DAMAGED] = { "cluster key missing: the leader replaces secrets/key.%1; if it has none: "
                                  "fleet-security(7)" },
        [VERDICT_KEY_SEALED] = { "cluster key sealed: this host cannot open or seal secrets/key.%1; see its "
                                 "journal" },
        [VERDICT_KEY_AS_IT_IS] = { "cluster key not sealed: secrets/key.%1 is on disk as it is; see the "
                                   "journal of fleetd" },
        [VERDICT_KEY_NOT_STORED] = { "cluster key not sealed: secrets/key.%1 is not on disk; see the journal "
                                     "of fleetd" },
        [VERDICT_KEY_READABLE] = { "cluster key unusable: chmod 600 secrets/key.%1; others may have read "
                                   "it" },
        [VERDICT_KEY_UNUSABLE] = { "cluster key unusable: %1" },
};
