/* The history: what the registry records beside a change, for people, as the body of a row (KvNote).
 *
 * Bodies are equal for repetitions, which the store counts. So texts contain no process IDs, times or counts
 * that differ each time. docs/FORMATS.md has the format. */
#pragma once

#include "base/parse.h"
#include "base/sizes.h"
#include "kvstore/command/command.h"
#include "units/name.h"
#include "units/verdict.h"

/* fleet-api(7) documents the same names. The numbers are stored: append only. */
typedef enum HistoryKind {
        HISTORY_SUBMITTED, /* a unit, by a user or a unit directory, as the next three; reason: the target
                              state */
        HISTORY_UPDATED,   /* its text; reason: the revision and the hash */
        HISTORY_DESTROYED,
        HISTORY_TARGET,      /* reason: the target state */
        HISTORY_ASSIGNED,    /* with the reason of the engine */
        HISTORY_STOP,        /* assignment to stop, with the reason of the engine */
        HISTORY_STATE,       /* reason: the state of a unit on a machine, and why */
        HISTORY_PRESENCE,    /* reason: the presence of a machine, and why */
        HISTORY_JOINED,      /* a member; reason: its address */
        HISTORY_STARTED,     /* the daemon of a member */
        HISTORY_VERSION,     /* reason: the version of the daemon of a machine */
        HISTORY_PROBLEM,     /* reason: the problem of a unit directory */
        HISTORY_RESOLVED,    /* such a problem */
        HISTORY_METADATA,    /* reason: the pair that was set, or the key */
        HISTORY_LEVEL,       /* reason: the feature level */
        HISTORY_ADOPTION,    /* reason: how the wait of a new lineage ended */
        HISTORY_REMOVED,     /* a machine; reason: its host name */
        HISTORY_SETTINGS,    /* of the cluster; reason: all of them */
        HISTORY_REPLACED,    /* a machine, as a voter that was silent; reason: for how long */
        HISTORY_CERTIFICATE, /* of a machine; reason: issued or renewed, and why */
        HISTORY_TOKEN,       /* reason: its ID, and what happened to it */
        HISTORY_CA,          /* the CA or the cluster key; reason: the step of a change */
        HISTORY_ROLE,        /* of a member; reason: the role, and the one before */
        HISTORY_REJECTED,    /* a machine; reason: the cause */
        HISTORY_LEAVE,       /* of a machine from the cluster; reason: begun or cancelled */
        HISTORY_USER,        /* reason: its name, and what happened to it */
        HISTORY_DENIED,      /* a request of 'user'; reason: method and route */
        HISTORY_WAITING,     /* of a unit for a machine; reason: why no machine qualifies */
        HISTORY_LEADER,      /* a machine, which leads from now on */
        HISTORY_MAINTENANCE, /* of a machine; reason: cordoned, draining, drained or uncordoned, and why */
        HISTORY_ROLLOUT, /* of the set of a unit or template; reason: the revision, and what happens to it */
        HISTORY_MOVE,    /* of a unit to a machine, by a request; reason: its begin, or how it ended */
        HISTORY_SECRET,  /* reason: its name, and what happened to it */
        HISTORY_CONTENT, /* of a unit or template with inputs; reason: the number and the input that changed,
                            or the problem that keeps the former one in force */
        _HISTORY_KIND_MAX,
        _HISTORY_KIND_INVALID = -EINVAL,
} HistoryKind;

ENUM_NAMES(history_kind, HistoryKind, _HISTORY_KIND_MAX)

/* Return the message ID of the kind for the journal: of events of membership and security. fleetd(8) has the
 * same table. NULL: the kind has none. */
const char *history_message_id(unsigned kind);

/* The user of changes by a unit directory. */
#define HISTORY_DIRECTORY "directory"

enum { HISTORY_USER_SIZE = 33, HISTORY_REASON_SIZE = 256, HISTORY_ABOUT_SIZE = 96 };

/* What happened. A member that is NULL or "" is absent. */
typedef struct HistoryNote {
        HistoryKind kind;
        const char *unit, *machine; /* name; ID */
        const char *user; /* whose request it was, or HISTORY_DIRECTORY; absent: the cluster itself */
        const char *reason;
        VerdictCode code;       /* what the reason states */
        const Verdict *verdict; /* in place of the last two */
} HistoryNote;

/* Encode a note, and return the size. 'coded': with the code, from KV_LEVEL_VERDICTS on. The reason ends with
 * its first line; user and reason are cut at their sizes, and the reason of a unit with a long name at
 * KV_NOTE_MAX. A reason that is cut ends with "..." after a word: the beginning of a command may be another
 * command. Pure. */
size_t history_encode(const HistoryNote *note, bool coded, uint8_t ret[static KV_NOTE_MAX]);

typedef struct HistoryEvent {
        unsigned kind; /* of HistoryKind, or _HISTORY_KIND_MAX or above: of a newer version */
        char unit[UNIT_NAME_MAX + 1], machine[MACHINE_ID_SIZE], user[HISTORY_USER_SIZE];
        char reason[HISTORY_REASON_SIZE];
        Verdict verdict; /* what the reason states; VERDICT_SAID: nothing that has a code */
} HistoryEvent;

/* Decode the body of a row. -EBADMSG. Pure. */
int history_decode(KvBytes body, HistoryEvent *ret);

/* Log an event of a kind with a message ID; 'name' of its machine, or "". */
void history_log(const HistoryEvent *event, const char *name, uint64_t index);
