/* Changes of fleet's objects, which are keys below /_fleet: each is one transaction that checks the indexes
 * on which the change was planned. */
#pragma once

#include "fleetd/registry/view.h"

/* -- units.c: changes by people and by the unit directory -- */

typedef struct UnitChange {
        const Unit *unit; /* new or replacing text; NULL: only the target changes */
        const char *name; /* without a unit */
        bool has_target;
        TargetState target;
        bool remove;              /* destroy: delete unit and target key; the engine then stops the unit */
        bool only_if_absent;      /* reject with KV_EXISTS if the unit exists */
        uint64_t expected_index;  /* of the unit key; 0: any */
        bool has_expected_target; /* reject if the target is not 'expected_target' */
        TargetState expected_target;
        const char *user; /* for the history, as HistoryNote.user */
} UnitChange;

/* Change all units or none. API and directory use the same checks. */
int registry_change_units(Registry *r, const UnitChange *changes, size_t n, RegistryDone done,
                          void *userdata);

/* Delete stored revisions of units that their keys do not name any more. 'term' of the leader. Return 0 if
 * there are none, 1 if a transaction was proposed. */
int registry_delete_surplus(Registry *r, uint64_t term, RegistryDone done, void *userdata);

typedef struct ProblemChange {
        const char *machine, *name;
        const Problem *problem;  /* borrowed; NULL: delete the key */
        uint64_t expected_index; /* of the problem's key; 0: any */
        const char *user;        /* of a confirmation, for the history; NULL: none */
} ProblemChange;

/* The same, together with the problems of a unit directory, or with people's confirmation of them. */
int registry_change_directory(Registry *r, const UnitChange *changes, size_t n, const ProblemChange *problems,
                              size_t n_problems, RegistryDone done, void *userdata);

typedef struct MetadataChange {
        const char *machine, *key, *value; /* borrowed for the call */
        const char *user;                  /* for the history */
} MetadataChange;

/* Set all in this order, or none. */
int registry_set_metadata(Registry *r, const MetadataChange *changes, size_t n, RegistryDone done,
                          void *userdata);

/* -- schedule.c: changes by the engine -- */

/* Why an assignment moves its unit from another machine. */
typedef enum MoveReason {
        MOVE_NONE,     /* it moves none */
        MOVE_LOST,     /* that machine is lost */
        MOVE_DRAINED,  /* it leaves, or has left */
        MOVE_EDITED,   /* it no longer qualifies: the unit or its metadata were changed */
        MOVE_CONFLICT, /* it has a unit that conflicts with this one, or replaces it */
        MOVE_REQUESTED,
        _MOVE_REASON_MAX,
} MoveReason;

typedef struct AssignmentChange {
        char machine[MACHINE_ID_SIZE], unit[UNIT_NAME_MAX + 1];
        union {
                Assignment record;
                struct {
                        ASSIGNMENT_MEMBERS /* base: "" as the hash; unit_index 0: absent (only to stop a unit)
                                            */
                };
        };
        uint64_t expected_index; /* of the assignment's key; 0: absent */
        uint64_t text_index;     /* of the unit key that had the text; 0: that of 'unit_index' */
        uint64_t presence_index; /* of the machine's presence key; 0: not checked (to stop a unit) */
        VerdictCode noted; /* why, in the history: of a rewrite in place for another target state; or NONE */
        MoveReason move;   /* for counts only */
} AssignmentChange;

/* Return why, for logs and the history. */
Verdict assignment_change_why(const AssignmentChange *change);

/* Send one transaction that is valid in 'term' only. It is never repeated. It has the first *ret_n changes:
 * at least one, and all that fit into it. */
int registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n, size_t *ret_n,
                    RegistryDone done, void *userdata);
/* Within 'done': return the change whose check rejected the transaction; NULL: none of these changes. */
const AssignmentChange *registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                    size_t n);

/* -- rollouts.c: changes by the engine, and by people -- */

/* A step of a rollout. Borrowed for the call. */
typedef struct RolloutWrite {
        const ClusterUnit *head;     /* of the set; it has a unit key, or the record is removed */
        const RolloutRecord *record; /* NULL: it is not changed, or */
        bool remove;                 /* removed */
        VerdictCode code;            /* of the record, for the history, as the next two */
        const char *reason, *user;   /* "" or NULL: no row; no user */
        const AssignmentChange
                *changes; /* with the wanted text of 'head', which instances that follow it get */
        size_t n_changes;
        const ClusterUnit *const *followers; /* further ones, whose keys get the wanted text */
        size_t n_followers;
        const Unit *revert; /* the new text of 'head'; NULL: it remains */
} RolloutWrite;

/* Return the number of the former revision of the unit, or of the template that it follows, that has this
 * text; 0: there is none. */
uint64_t registry_former_revision(const Registry *r, const Unit *unit);
/* Read the text of a former revision from the local tree. -ENOENT, -EBADMSG, -ENOMEM, or why the tree cannot
 * be read. */
int registry_read_revision(Registry *r, const char *unit, uint64_t number, Unit **ret);
/* The same of the text that an assignment names, if that is a former one of the unit or of its template. 0,
 * also if it cannot be read, or -ENOMEM. */
int registry_read_former_text(Registry *r, const ClusterAssignment *a, Unit **ret);
/* Send one transaction, valid in 'term' (0: any). A revert may need two, and is valid in any term, while the
 * unit and the record are those of the view. 0, -ENOMEM, -E2BIG, or of a revert -EBUSY: the unit has twice as
 * many revisions as are kept. */
int registry_roll(Registry *r, uint64_t term, const RolloutWrite *write, RegistryDone done, void *userdata);

/* -- moves.c -- */

/* Request that the unit moves to a machine, instead of where it moves to now. Requires KV_LEVEL_UPDATES.
 * KV_COMPARE_FAILED: the unit or its move was changed meanwhile. */
int registry_move(Registry *r, const ClusterUnit *unit, const MoveRecord *move, RegistryDone done,
                  void *userdata);

/* How a requested move has ended. */
typedef struct MoveEnd {
        const ClusterUnit *unit; /* borrowed; it has a move */
        Verdict result;          /* VERDICT_MOVE_DONE to VERDICT_MOVE_ENDED */
} MoveEnd;

/* End moves, all or none. 'term' of the leader, or 0. 'user' (NULL: the cluster itself) for the history.
 * KV_COMPARE_FAILED: one was changed meanwhile. */
int registry_end_moves(Registry *r, uint64_t term, const MoveEnd *ends, size_t n, const char *user,
                       RegistryDone done, void *userdata);

/* -- replicas.c: the number of instances of a template -- */

enum { REPLICAS_CHANGES_MAX = 100 };

/* One step of the set of a template, decided on the present cluster view. Borrowed for the call. */
typedef struct ReplicasWrite {
        const ClusterUnit *head;
        const ReplicasRecord *record;             /* new value; NULL: delete the key */
        UnitChange changes[REPLICAS_CHANGES_MAX]; /* at first those that destroy */
        size_t n_changes;
} ReplicasWrite;

/* Write as many changes as fit. KV_COMPARE_FAILED: the template, the number or an instance has changed. */
int registry_replicate(Registry *r, uint64_t term, const ReplicasWrite *w, RegistryDone done, void *userdata);
/* Set the number of instances, as 'user' has decided; without a scaled one, that of the text counts.
 * KV_COMPARE_FAILED: the template or the number has changed. */
int registry_scale(Registry *r, const ClusterUnit *head, const ReplicasRecord *record, const char *user,
                   RegistryDone done, void *userdata);

/* -- inputs.c: the contents of units, on the leader -- */

enum { INPUTS_WRITES_MAX = 100 };

/* Borrowed for the call. */
typedef struct InputsWrite {
        const ClusterUnit *unit;    /* it may have no unit key: its content is deleted */
        const InputsRecord *record; /* NULL: delete the key */
        const char *noted;          /* the unit or template of the row in the history; NULL: no row */
        bool begins;                /* the row states the problem, instead of the number */
} InputsWrite;

/* Write contents, decided on the present cluster view: *ret_n of them, at least one, and all that fit into
 * one transaction. KV_COMPARE_FAILED: the unit or its content has changed. */
int registry_write_inputs(Registry *r, uint64_t term, const InputsWrite *writes, size_t n, size_t *ret_n,
                          RegistryDone done, void *userdata);

/* -- states.c: changes by the agent -- */

/* What becomes of the endpoint of a unit on this host. */
typedef enum EndpointWrite {
        ENDPOINT_STAYS,     /* as it is, or absent */
        ENDPOINT_SET,       /* left out while registry_endpoint_wait_ms() is not 0 */
        ENDPOINT_WITHDRAWN, /* in the same transaction as the state, as the one before */
} EndpointWrite;

enum { STATE_NOTE_SIZE = 96 };

typedef struct StateChange {
        char unit[UNIT_NAME_MAX + 1];
        UnitState state;
        bool precedes; /* the unit has been in this state since before this daemon began */
        bool remove;   /* delete the state key */
        bool stopped;  /* the assignment to stop was executed: delete its key, if its index is
                          'assignment_index' */
        uint64_t assignment_index;
        char note[STATE_NOTE_SIZE]; /* of the history, after the state; "": none */
        EndpointWrite endpoint_write;
        EndpointRecord endpoint; /* owned; of ENDPOINT_SET */
} StateChange;

/* Write states, and with them endpoints. ENDPOINT_SET requires KV_LEVEL_SERVICES; without room, an endpoint
 * is left out: the caller compares with the cluster view again. KV_COMPARE_FAILED: the presence of this
 * machine has changed. KV_BUSY: the leader accepts no further endpoints now. */
int registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done, void *userdata);
/* Delete those endpoints of these units on this host that its tree has, at once: at most ENDPOINTS_MAX. One
 * that is being written by registry_publish() is not deleted. */
int registry_withdraw(Registry *r, const char *const *units, size_t n, RegistryDone done, void *userdata);
/* Return the ms until this host may register another endpoint, or a changed one; 0: now. UINT64_MAX: not
 * while this machine is not up, or below KV_LEVEL_SERVICES. */
uint64_t registry_endpoint_wait_ms(const Registry *r);

/* -- endpoints.c -- */

/* Return whether another host may propose a command: proposal_check(), and what it registers, which is then
 * counted; a set of KvReport, or a negative errno and a message. As KvOptions.check_proposal. A host with a
 * replica, which is never a restricted one, registers what it wants, as with its other values. */
int registry_check_proposal(Registry *r, const char *relay, const char *machine_id, KvBytes principal,
                            const KvCommand *cmd, Error *err);
struct EndpointLook;

/* On the leader: take the next step of a look at the endpoints of hosts without a replica, which may not have
 * withdrawn them. One that its host might not register now, for a minute, is deleted; the host registers it
 * again when it fits. 1: 'done' follows. 0, or a negative errno. 'now_ms' of the loop. Nothing is done while
 * nothing has changed. */
int registry_end_endpoints(Registry *r, uint64_t term, struct EndpointLook *look, uint64_t now_ms,
                           RegistryDone done, void *userdata);
int registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata);

/* -- machines.c: changes by membership, on the leader -- */

typedef struct PresenceChange {
        char machine[MACHINE_ID_SIZE];
        Presence presence;
        uint64_t expected_index;
        uint64_t away_ms; /* as that of PresenceRecord */
        bool announced;   /* as the same of presence_next() */
        Verdict verdict;
} PresenceChange;

/* Write presences: as many in one transaction as fit. With one that is lost or has left, its
 * endpoints are deleted. 'done' reports the result of the last transaction. */
int registry_presence(Registry *r, uint64_t term, const PresenceChange *changes, size_t n, RegistryDone done,
                      void *userdata);

/* A step of a rotation, or of a change of the cluster key, decided on the present cluster view. Borrowed for
 * the call. */
typedef struct CaChange {
        const CaRoots *roots;       /* NULL: unchanged */
        const CaKeys *keys;         /* NULL: unchanged */
        const CaRotation *rotation; /* NULL: the rotation ends */
        const char *const *tokens;  /* IDs of those that end */
        size_t n_tokens;
        const char *reason; /* for the history: the step */
        const char *user;   /* NULL: the cluster itself */
} CaChange;

/* Remove a machine that is lost or has left: its presence and facts, and what it has reported (problems,
 * states). Its tombstone remains, from KV_LEVEL_IDENTITY on, until it is up again. KV_COMPARE_FAILED: its
 * presence has changed. 'ca': a change of the CA in the same transaction; NULL: none.
 *
 * The public keys of a host with a certificate are deleted, too, with its member key and metadata: it returns
 * with a new token only. Of other hosts, what decides about its units stays for its return: assignments,
 * finished units, metadata that people have set. It then publishes presence, facts and states again, and the
 * engine finds what it would have found without the removal. Its member key stays, too, for its replica: a
 * standby is removed from the configuration, and added again. */
int registry_remove_machine(Registry *r, const ClusterMachine *m, const char *user, const CaChange *ca,
                            RegistryDone done, void *userdata);

/* Set how a machine is maintained. 'term' of the leader, whose change has no user, or 0. 'reason' is for the
 * history; NULL: no row. Requires KV_LEVEL_IDENTITY for a leave, else KV_LEVEL_MAINTENANCE.
 * KV_COMPARE_FAILED: it was changed meanwhile. */
int registry_maintain(Registry *r, uint64_t term, const ClusterMachine *m,
                      const MaintenanceRecord *maintenance, const char *reason, RegistryDone done,
                      void *userdata);
/* End the maintenance of a machine, which has one; that of a leave is cancelled. 'user' (NULL: the cluster
 * itself) and 'reason' are for the history. KV_COMPARE_FAILED: it has ended, or was changed meanwhile. */
int registry_end_maintenance(Registry *r, const ClusterMachine *m, const char *user, const char *reason,
                             RegistryDone done, void *userdata);
/* Write that the host of a machine shuts down, or does not any more. Requires KV_LEVEL_UPDATES. -EALREADY:
 * nothing changes, and there is no 'done'. KV_COMPARE_FAILED: the record was changed meanwhile. */
int registry_announce_shutdown(Registry *r, const ClusterMachine *m, bool stopping, RegistryDone done,
                               void *userdata);
/* The maintenance that changes with a planned reboot. */
typedef enum RebootMaintenance {
        REBOOT_KEEPS,
        REBOOT_DRAINS,   /* it begins; it keeps the cordon of an operator */
        REBOOT_LIMITS,   /* the drain gets a deadline */
        REBOOT_CORDONS,  /* the drain has ended, and the machine gets no units */
        REBOOT_RELEASES, /* it ends; a cordon of an operator continues */
} RebootMaintenance;

typedef struct RebootChange {
        const ClusterMachine *machine;
        const RebootRecord *record; /* new value; NULL: delete it */
        RebootMaintenance maintenance;
        uint64_t drain_until_ms; /* of REBOOT_DRAINS and REBOOT_LIMITS: cluster time of the deadline; 0: none
                                  */
        const char *reason;      /* for the history */
        const Verdict *verdict;  /* in place of it */
} RebootChange;

/* Change the planned reboots of machines, all or none. 'term' of the leader, or 0. 'user' (NULL: the cluster
 * itself) for the history. Requires KV_LEVEL_UPDATES. KV_COMPARE_FAILED: a record was changed meanwhile. */
int registry_reboot(Registry *r, uint64_t term, const RebootChange *changes, size_t n, const char *user,
                    RegistryDone done, void *userdata);
/* Write the tombstone of a machine that leaves the cluster and has no units any more, and delete all else of
 * it, its member key and metadata included, valid in 'term'. KV_COMPARE_FAILED: it is not leaving any more.
 */
int registry_leave(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done, void *userdata);

/* Return a removed machine of which problems or states are left; NULL: none. A removal deletes only as many
 * as one transaction has room for. */
const ClusterMachine *registry_removed_rest(const Registry *r);
/* Delete them, in several calls if they are many. It is valid in 'term'. KV_COMPARE_FAILED: the machine has
 * returned. */
int registry_remove_rest(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done,
                         void *userdata);

#define TOMBSTONE_MS ((uint64_t) 30 * 86400000)

/* Return a removed machine whose tombstone is older than TOMBSTONE_MS by the wall clock; NULL: none. */
const ClusterMachine *registry_forgettable(const Registry *r);
/* Delete all that the cluster remembers of such a machine, in several calls if it is much, and its tombstone
 * last. It is valid in 'term'. KV_COMPARE_FAILED: the machine has returned. */
int registry_forget_machine(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done,
                            void *userdata);

/* Give a machine without a member key the next Raft ID: it is to hold a replica, and writes its address into
 * the key when it does. It is valid in 'term'. KV_COMPARE_FAILED: it has a key, or the ID was given away. */
int registry_assign_replica(Registry *r, uint64_t term, const ClusterMachine *m, RegistryDone done,
                            void *userdata);
/* Give a machine a Raft id and a member key. *ret_id is the id, which it has with KV_OK. A previous member
 * key of the machine is replaced, and its Raft id is never used again. */
int registry_admit(Registry *r, const char *machine_id, const char *peer_address, uint64_t *ret_id,
                   RegistryDone done, void *userdata);
/* Record the start number and nonce with which the member's daemon runs: an old disk image has older ones,
 * and is rejected. */
int registry_record_start(Registry *r, const char *machine_id, const MemberRecord *member, RegistryDone done,
                          void *userdata);
/* Delete the member key of a machine that another host has replaced, with the reason for the history, valid
 * in 'term'. When it returns, it joins under another Raft ID. KV_COMPARE_FAILED: its presence or its member
 * key has changed. */
int registry_retire_member(Registry *r, uint64_t term, const ClusterMachine *m, const char *reason,
                           RegistryDone done, void *userdata);

/* -- cluster_settings.c -- */

/* Replace the settings of the cluster view, which the caller has changed in a copy; 'user' for the history,
 * NULL: the cluster itself. Requires KV_LEVEL_IDENTITY. -EBADMSG: this daemon cannot read them.
 * KV_COMPARE_FAILED: the tree has others than the view. */
int registry_set_settings(Registry *r, const ClusterSettings *settings, const char *user, RegistryDone done,
                          void *userdata);

/* -- identities.c: the CA, tokens and hosts -- */

/* Write the first root and its sealed key. KV_COMPARE_FAILED: the cluster has a CA. */
int registry_create_ca(Registry *r, uint64_t term, const CaRoots *roots, const CaKeys *keys,
                       RegistryDone done, void *userdata);

/* KV_COMPARE_FAILED: a key has changed; decide again. */
int registry_change_ca(Registry *r, uint64_t term, const CaChange *change, RegistryDone done, void *userdata);

/* Strings and records are borrowed for the call. */
typedef struct TokenChange {
        const char *id;
        const TokenRecord *token; /* new value */
        uint64_t ttl_ms;          /* of its key, from now on */
        const char *reason;       /* for the history: what happened to it */
        const char *user;         /* NULL: the cluster itself */
} TokenChange;

/* Create or change a token, as decided on the present cluster view: a new one is of the present roots. The
 * same view counts for hosts and users. KV_COMPARE_FAILED: a key has changed; decide again. */
int registry_set_token(Registry *r, const TokenChange *change, RegistryDone done, void *userdata);

typedef struct HostChange {
        const char *machine;
        const HostRecord *host;
        const TokenChange *token; /* of which a use is spent; NULL: none */
        const char *certificate;  /* for the history: why one is issued */
} HostChange;

/* Write the record of a host, and all that belongs to it, without its tombstone; or nothing. */
int registry_set_host(Registry *r, const HostChange *change, RegistryDone done, void *userdata);

typedef struct UserChange {
        const char *name;
        const PrincipalRecord *user; /* new value; NULL: delete the key, which revokes the user */
        bool certified;              /* for a certificate of the present roots */
        const char *by;              /* for the history, as the next */
        const char *reason;          /* what happened to the user */
} UserChange;

int registry_set_user(Registry *r, const UserChange *change, RegistryDone done, void *userdata);

/* Add rows to the history that belong to no change of a key, at most KV_TXN_ITEMS_MAX. Their failure is not
 * reported. */
void registry_note(Registry *r, const HistoryNote *notes, size_t n);

/* -- adoption.c: the begin of a new lineage, while Cluster.adopting is set -- */

/* Record that this host has reported all that it runs. KV_COMPARE_FAILED: the adoption has ended. */
int registry_report(Registry *r, RegistryDone done, void *userdata);
/* Stop waiting for hosts that have not reported, as 'user' decides. KV_COMPARE_FAILED: the adoption has
 * ended.
 */
int registry_adopt_now(Registry *r, const char *user, RegistryDone done, void *userdata);
/* End the adoption: from now on, agents execute assignments. For the engine. */
int registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata);

/* -- feature_level.c: the feature level (kvstore/command/command.h) -- */

/* Return the highest feature level that every host supports, including hosts that are away or lost, without
 * removed ones; 'own' is that of this program. A host that has not reported one has the first. *ret_behind
 * (may be NULL) is a host that supports no higher one, borrowed; NULL if 'own' is the limit. Pure. */
unsigned cluster_level(const Cluster *c, unsigned own, const ClusterMachine **ret_behind);
/* Read the recorded level, and the cluster time since which it holds. -ENOENT: none is recorded. */
int registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms);
/* Record in the history that the tree has this level now, by a request of 'user' or by itself (NULL). */
int registry_note_level(Registry *r, uint64_t level, const char *user);
int registry_record_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms, RegistryDone done,
                          void *userdata);
