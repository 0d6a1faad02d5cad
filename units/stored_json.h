/* The values below /_fleet as JSON, without those of units (units/unit.h); other hosts, also with older and
 * newer versions, read them.
 *
 * Writers append to a Text; its error is checked once. Readers copy, ignore unknown members, and treat an
 * absent member as empty. They fail (-EBADMSG with a message) only if the value has no meaning. */
#pragma once

#include "base/text.h"
#include "units/hash.h"
#include "units/json_record.h"
#include "units/machine.h"
#include "units/state.h"
#include "units/verdict.h"

/* /_fleet/machine/ID/facts:
 * {"address","boot","checks","metadata":{},"name","peer","quadlet","raftId","users","version"}. A host writes
 * its own facts: an address that is no IP address is read as none. The ID is in the key alone. */
STORED(facts, Machine)

enum { PRESENCE_REASON_SIZE = 128 }; /* of the message of its verdict */

/* /_fleet/machine/ID/presence:
 * {"announced","away","losses","lost","quiet","reason","since","state","verdict"} */
typedef struct PresenceRecord {
        Presence presence;
        uint64_t since_ms;          /* cluster time, as all times here */
        uint64_t away_ms;           /* of a lost machine: when its absence began; 0: with the loss */
        uint64_t losses;            /* in a row, each within FLAP_WINDOW_MS of the previous one */
        uint64_t lost_ms;           /* of the last loss; 0: none */
        uint64_t hold_off_until_ms; /* flap damping; 0: none */
        bool announced;             /* away or lost: its host had announced that it stops */
        Verdict verdict;
} PresenceRecord;

STORED(presence, PresenceRecord)
extern const JsonWords presence_words, assignment_words, problem_words;

enum {
        CLUSTER_URL_SIZE = 256,
        START_NONCE_SIZE = 17, /* 64 bits in hex */
        HOST_NAME_SIZE = 65,   /* HOST_NAME_MAX of Linux */
};

/* /_fleet/cluster/member/ID: {"agentless","client","level","name","nonce","peer","raftId","start"} */
typedef struct MemberRecord {
        uint64_t raft_id;      /* of its replica; not 0 */
        uint64_t start_number; /* of the daemon's last start that the cluster has recorded */
        uint64_t level;        /* feature level of the program of that start; 0: not reported */
        bool agentless;        /* Agent=no: the host runs no units */
        /* Of that start: after an old disk image was put back, two starts may have the same number. */
        char start_nonce[START_NONCE_SIZE];
        char peer[ADDRESS_SIZE];
        char client[CLUSTER_URL_SIZE]; /* "" also for a longer one */
        char name[HOST_NAME_SIZE];     /* of the host; "" also for a longer one, and from older versions */
} MemberRecord;

STORED(member, MemberRecord)

/* /_fleet/machine/ID/unit/NAME:
 * {"base","finished","hash","hold","instead","moveAfter","moveFailed","moveFailures","order","own","reason",
 * "rev","since","term","unit","unlessRunning","verdict"}; "reason" is a message without a code. The
 * members are those of other structs, too. */
#define ASSIGNMENT_MEMBERS                                                                                   \
        AssignmentKind kind;                                                                                 \
        uint64_t unit_index; /* modified index of the unit's key that it was planned on */                   \
        Verdict why;         /* the unit is on the machine, or is to stop there */                           \
        uint64_t term;       /* of the engine that wrote it */                                               \
        uint64_t since_ms;   /* cluster time; a rewrite in place keeps it, but for a start of a loaded unit, \
                                and for another request to be loaded only */                                 \
        uint64_t hold_ms; /* of a singleton: singleton_hold_ms(), the longest of its texts so far; else 0 */ \
        /* Of a unit that failed on the machine to which it was moved, and stays here for now: */            \
        uint64_t move_failures;            /* moves in a row that failed */                                  \
        uint64_t move_after_ms;            /* cluster time before which it is not moved again */             \
        char move_failed[MACHINE_ID_SIZE]; /* the last machine on which it failed; "": none */               \
        /* The text, from KV_LEVEL_UPDATES on: */                                                            \
        uint64_t revision;         /* its number; 0: the text of 'unit_index' */                             \
        char hash[UNIT_HASH_SIZE]; /* "" with it */                                                          \
        char base[UNIT_HASH_SIZE]; /* of the text without the drop-ins of the instance (Unit.base); "": it   \
                                      has none */                                                            \
        uint64_t own;              /* the hash of these drop-ins (Unit.own); 0: none */                      \
        char instead[MACHINE_ID_SIZE]; /* of a surge instance: the machine whose instance stops when this    \
                                          one is available; "": none */                                      \
        bool unless_running;           /* of a stop: a unit that runs goes on, and the engine decides */     \
        bool finished;   /* the unit had finished on its former machine: its file is put in force, and it is \
                            not started */                                                                   \
        uint64_t inputs; /* number of the content that the instance is to have; 0: none */

typedef struct Assignment {
        ASSIGNMENT_MEMBERS
} Assignment;

STORED(assignment, Assignment)

/* /_fleet/machine/ID/problem/NAME: {"confirmed","kind","text","unit","unowned","warning"} */
typedef struct Problem {
        ProblemKind kind;
        char *text;          /* owned; a message for people */
        uint64_t unit_index; /* modified index of the unit's key; 0: no such unit */
        bool confirmed;      /* people confirmed that the unit is taken over, or removed */
        bool warning;        /* of the stored form of PROBLEM_WARNED: older daemons read PROBLEM_REFUSED */
        bool unowned;        /* of that of PROBLEM_UNOWNED, which is also a warning to older daemons */
} Problem;

STORED_READ(problem, Problem)
#define _cleanup_problem_ _cleanup_(problem_record_done)
void stored_problem_write(Text *t, const Problem *problem);

/* /_fleet/state/NAME/ID:
 * {"active","available","done","hash","health","invocation","job","kept","lapsed","load","reason","since",
 * "sub","why"}; "available", "health", "kept", "lapsed" and "why" from KV_LEVEL_UPDATES on */
STORED(state, UnitState)
