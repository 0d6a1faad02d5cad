/* The parts of Membership. Each part owns one struct: its file changes the members, and membership.c frees
 * them. */
#pragma once

#include <sys/queue.h>

#include "base/sizes.h"
#include "fleetd/identity/authority.h"
#include "fleetd/sessions/liveness.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/identity/renewal.h"
#include "fleetd/sessions/report_hosts.h"
#include "fleetd/sessions/reports.h"
#include "fleetd/identity/revocation.h"
#include "fleetd/identity/securing.h"
#include "units/named.h"

/* dialing.c: the addresses that this host dials, and the file that keeps them for the next start. */
typedef struct Dialing {
        char listen[ADDRESS_SIZE]; /* ListenPeer= of that file, which its next content keeps; "": none */
        Deferred update;
        bool retry;     /* memory was short: update with the next tick */
        int file_error; /* of the last attempt to write the file; a new one is logged; 0: none */
} Dialing;

/* joining.c: requests of this host to join, and requests of others. */
typedef struct Joining {
        Timer timer;
        bool requested, refusal_logged;
        bool rejected; /* the last request, and no other was sent since */
        bool attach;   /* the cluster needs no replica of this host now */
        /* While this host has no replica: the Raft ID in its member key when it looked first. A replica of
         * this host may have used it before; each later one is new. */
        bool looked, keyless; /* 'keyless': nor does it have the cluster key any more */
        uint64_t former_id;
        uint64_t cluster_id;   /* recorded by identity_write_cluster(), or that of the last attempt */
        uint64_t requested_ms; /* 0: no answer is due */
        char requested_from[MACHINE_ID_SIZE];
        LIST_HEAD(, Admission) admissions; /* of others, until the registry has answered */
} Joining;

/* senders.c: hosts whose heartbeats this host has received. */
typedef struct Senders {
        Named *hosts;     /* Sender, by machine ID: since this host leads */
        Named *positions; /* Position, by machine ID: of hosts whose last heartbeat has one */
} Senders;

/* heartbeats.c: sent while this host does not lead. */
typedef struct Heartbeats {
        bool attached;   /* this host has no replica */
        bool rare;       /* ... and the one that it uses requests one heartbeat in a second */
        unsigned leaves; /* ticks in which heartbeats go to all hosts, after it was attached */
        Verdict problem;
} Heartbeats;

/* retiring.c */
typedef struct Retiring {
        uint64_t session; /* number of the one whose host may be replaced, while 'sync' is under way; or 0 */
        KvSync sync;
} Retiring;

/* A replica that this host dials while it has none, or has dialed. */
typedef struct DialedReplica {
        char machine[MACHINE_ID_SIZE];
        bool wanted;
        uint64_t since_ms, rest_until_ms; /* its turn */
} DialedReplica;

enum { DIALED_REPLICAS_MAX = 16 };

/* attaching.c: the replicas that this host uses while it has none. */
typedef struct Attaching {
        bool active;                  /* this host uses the replica of another one, or is about to */
        uint64_t failed_ms;           /* since its own replica does not work; 0: it does, or there is none */
        bool worked;                  /* its own replica, at least once since this process began */
        char in_use[MACHINE_ID_SIZE]; /* "": none */
        uint64_t moved_ms, better_ms; /* the last move; from then on, the first choice is better */
        uint64_t ready_ms;            /* when the slice was fresh last */
        uint64_t answered_ms;         /* the last answer of the replica in use that was considered */
        uint64_t asked_ms;            /* the last additional heartbeat, by attaching_ask() */
        unsigned ticks;
        bool moves;   /* the replica in use does not know yet */
        bool limited; /* only the wanted ones are dialed */
        DialedReplica dialed[DIALED_REPLICAS_MAX];
        char first[MACHINE_ID_SIZE], second[MACHINE_ID_SIZE]; /* choices of this host */
        uint64_t idle_from_ms; /* the second session may be dialed from then on; 0: not decided */
        uint64_t alone_ms;     /* when a session was open last */
} Attaching;

/* reporting.c: what this replica reports, and what the leader has. */
typedef struct Reporting {
        Reporter reporter;
        Reports reports;
        bool late; /* the tick of the leader whose signs are taken */
} Reporting;

/* conditions.c: of the attached hosts that use this replica. */
typedef struct Conditions {
        Named *hosts; /* what is not normal, by machine ID */
        bool changed; /* since the last frame to the leader */
        uint64_t sent_ms;
} Conditions;

/* sessions.c: of attached hosts, as the leader has last told them, or as this host has them from reports. */
typedef struct SessionsKnown {
        Named *hosts; /* HostSessions, by machine ID */
        bool known;
        uint64_t known_ms, asked_ms;
} SessionsKnown;

/* roles.c: the members at the last tick as leader. */
typedef struct Roles {
        uint64_t term; /* of that tick; 0: none */
        KvMember members[KV_MEMBERS_MAX];
        char machines[KV_MEMBERS_MAX][MACHINE_ID_SIZE]; /* of 'members', while the cluster had them; or "" */
        size_t n;
} Roles;

struct Membership {
        ComponentHost *host; /* borrowed, as the next six */
        const Settings *settings;
        Loop *loop;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        const char *machine_id;
        bool was_leaving; /* its own leave was seen in the tree, with the Raft ID that it has */
        bool has_left;    /* recorded on disk: it is about to start again */
        RegistryObserver observer;
        Timer tick;
        uint64_t last_tick_ms, term; /* that this host leads, or led */
        uint64_t contact_ms;         /* monotonic; the last tick at which this host had a leader, or led */
        uint64_t led_since_ms;       /* monotonic, as the next; while it leads */
        uint64_t spread_since_ms;    /* the last change for a better spread, or 'led_since_ms' */
        Liveness liveness;
        uint64_t raising; /* number of the proposal that raises the feature level; 0: none */
        bool leading;
        bool unlistened; /* the listener at ListenPeer= could not be opened: this host gets no replica */
        bool writing;    /* a transaction of presences, members or the feature level is in flight */
        char problem_of[MACHINE_ID_SIZE]; /* whose problem was written last */
        Attaching attaching;
        Timer move; /* attaching.c: a move to another replica may be due */
        Reporting reporting;
        Dialing dialing;
        Joining joining;
        Retiring retiring;
        Senders senders;
        Heartbeats heartbeats;
        Conditions conditions;
        SessionsKnown sessions;
        Named *kernels; /* kernels.c: of silent replicas, by machine ID */
        Roles roles;
        Authority *authority;
        Renewal *renewal;
        Revocation revocation;
        Securing securing;
};

/* The handlers of frames: PeerHandler, 'userdata' is the membership. */
typedef void SessionsHandler(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size);
SessionsHandler joining_on_request, joining_on_answer, retiring_on_frame, heartbeats_on_frame,
        reporting_on_frame, conditions_on_frame, kernels_on_frame, sessions_on_frame, sets_on_frame;

/* -- presences.c -- */

/* Write the changes of presence that are due, if no other transaction is in flight. */
void presences_write(Membership *m);
/* Write the problem of one machine, or its end: of another one than the last time. */
void presences_write_problems(Membership *m, const KvState *state);
/* RegistryDone of each transaction that sets 'writing'. */
void presences_on_written(void *userdata, KvStatus status, const char *message, uint64_t index);
/* Set the problem of this host's replica, or why it cannot sign. */
void replica_problem(const Membership *m, const KvState *state, Verdict *ret);

void dialing_init(Membership *m);
void dialing_done(Membership *m);
/* Update the addresses after this turn of the loop. */
void dialing_update_later(Membership *m);

void attaching_init(Membership *m);
/* Choose the replica that this host uses, if it has none. */
void attaching_update(Membership *m, const KvState *state);
/* The same, if the replica in use has answered since the last call. */
void attaching_state_changed(Membership *m, const KvState *state);

/* -- in_use.c -- */

/* Return whether to dial that machine. An attached host that knows the replicas dials two. */
bool attaching_dials(const Membership *m, const char *machine_id);
/* Return whether a session to that replica has begun, and no answer has arrived on it. */
bool attaching_is_unanswered(const Membership *m, const char *machine_id);
/* Return whether the replica in use has had no leader for too long, by its last answer. */
bool attaching_is_leaderless(const Membership *m);
/* Return whether to ask the other replica for a leader, too. If no replica finds one for long, the ordinary
 * heartbeats are enough: they must not become more while many hosts wait. */
bool attaching_asks(const Membership *m);
/* Return whether a heartbeat to that replica is due. */
bool attaching_heartbeat_is_due(const Membership *m, const char *machine_id);
/* Return whether this host uses the replica of that machine. */
bool attaching_uses(const Membership *m, const char *machine_id);

/* -- reporting.c: reports of attached hosts -- */

/* Count a heartbeat; 'signs': SIGN_IN_USE and SIGN_ALONE. Return whether an answer to it is due. */
bool reporting_on_heartbeat(Membership *m, PeerSession *session, bool attached, uint8_t signs);
/* Count the signs of attached hosts, and report them to the leader, if this host has a replica. */
void reporting_tick(Membership *m, const KvState *state, bool late);
/* This host begins to lead; the former leader had contact 'since_ms' ago. */
void reporting_lead(Membership *m, uint64_t since_ms);
/* A tick as leader: take the signs of all hosts. */
void reporting_count(Membership *m, const KvState *state, bool late);
void reporting_on_change(Membership *m, const RegistryChange *change);

/* -- conditions.c: of attached hosts -- */

/* An attached host is normal after so long without a heartbeat to the leader and without a condition: a
 * replica repeats conditions each 5 s. */
enum { CONDITION_VALID_MS = 12 * 1000 };

/* A host that uses this replica has sent a heartbeat: "" and about 0 are normal. */
void conditions_note(Membership *m, const char *machine_id, const Verdict *problem, int64_t clock_ms);
void conditions_peer_changed(Membership *m, const char *machine_id);
/* If this host has a replica, send the conditions to the leader, or take them as the leader. */
void conditions_tick(Membership *m, const KvState *state);

/* -- kernels.c: of silent replicas -- */

/* If the kernel of a replica is silent for this host, which leads: request the signs that the other replicas
 * have of it, and add those of the last half second. */
void kernels_complete(Membership *m, const char *machine_id, LivenessSign *sign);

void sessions_tick(Membership *m);

int joining_init(Membership *m);
void joining_done(Membership *m);
/* Start to request membership if the replica was lost. */
void joining_state_changed(Membership *m);
void joining_peer_changed(Membership *m, const char *machine_id);
/* Become a replica if the leader has assigned a Raft ID to this host, which has none. */
void joining_take_replica(Membership *m, const KvState *state);
/* Publish the start of this host's daemon if the cluster view lacks it. */
void joining_publish_start(Membership *m, const KvState *state);

/* Notify the host of a session if its Raft ID is in no configuration and in no member key. */
void retiring_check(Membership *m, PeerSession *session);

/* Add a row to the history for each member whose role has changed since the tick before of this term. */
void roles_observe(Membership *m, const KvState *state);

/* Send a heartbeat to the leader, or to all hosts while the leader is unknown. */
void heartbeats_send(Membership *m, const KvState *state);

/* -- senders.c -- */

/* What a heartbeat has. */
typedef struct HeartbeatFacts {
        bool has_clock, has_position;
        bool attached, in_use, rare; /* in use: the replica that receives this; rare: once in a second */
        uint64_t wall_ms, term, index;
        int64_t clock_ms; /* the wall clock of the sender minus that of this host; 0: it sends none */
        Verdict problem;  /* of the replica of the sender */
} HeartbeatFacts;

/* A heartbeat of the machine has arrived. */
void senders_take(Membership *m, const char *machine_id, const HeartbeatFacts *facts);
/* On the leader, in each tick, before it writes presences: end the conditions that were not repeated, and
 * decide which differences of clocks count. */
void senders_tick(Membership *m);
/* Set how the wall clock of a host differs from that of this one, which leads. False: by less than 30 s, or
 * its heartbeats have no clock. */
bool senders_clock(const Membership *m, const char *machine_id, Verdict *ret);
/* Return the sign of life of one host that is not attached, since the call before. */
LivenessSign senders_sign(Membership *m, const char *machine_id);
/* The same without its heartbeats. */
LivenessSign senders_session_sign(const Membership *m, const char *machine_id);
/* Each host with a heartbeat or a condition that this one knows, and that is not attached. */
void senders_each_sender(Membership *m, void (*each)(Membership *m, const char *machine_id));
bool senders_has_sender(const Membership *m, const char *machine_id);
/* Return whether such a host has just sent a heartbeat to this one. */
bool senders_has_contact(const Membership *m, const char *machine_id);
/* Take the condition of an attached host, as a replica reports it, whose wall clock differs from that of this
 * host by 'replica_ms': as if the host had sent a heartbeat. */
void senders_take_condition(Membership *m, const HostCondition *c, int64_t replica_ms);
/* Return CONDITION_CLONE and CONDITION_KEY of a machine that a replica reports; a key no longer if the record
 * of the host has changed since, as when the host joins with it. */
uint8_t senders_rejected(Membership *m, const char *machine_id);
/* Return the problem of the machine's replica as its heartbeat reports it; NULL: no heartbeat yet. */
const Verdict *senders_problem(const Membership *m, const char *machine_id);
/* Return whether the machine has lacked the cluster key for some seconds only, in which the leader sends it.
 */
bool senders_awaits_key(const Membership *m, const char *machine_id);
