/* Status as data: a code with arguments. verdict_append() makes the message for people from the row of the
 * code (words.c). Decisions read the code and the aspect, never the message.
 *
 * A verdict is a plain value without pointers, so that structs hold and copy it as they hold a number. Its
 * arguments (names, IDs, numbers, texts of other programs) are strings in one bounded text, in the order in
 * which the row of the code counts them. A message that has no code, or comes from a host of a former
 * version, is kept as it was said. */
#pragma once

#include "units/json.h"

typedef enum VerdictCode {
        VERDICT_NONE, /* there is no status to report */
        VERDICT_SAID, /* a message without a code: it decides nothing */

        /* Why the leader counts a host as away, lost or left. */
        VERDICT_AWAY_CLOSED,
        VERDICT_AWAY_HUNG,
        VERDICT_AWAY_STOPPED,
        VERDICT_AWAY_CUT,
        VERDICT_LOST_CLOSED, /* because it was away for too long, as the next two */
        VERDICT_LOST_HUNG,
        VERDICT_LOST_STOPPED,
        VERDICT_LOST_SILENT,
        VERDICT_LOST_UNREPORTED,
        VERDICT_LEFT,

        /* Problems of a host that is up, and their ends. */
        VERDICT_REPLICA_WORKS,
        VERDICT_IDENTITY_COPY,
        VERDICT_IDENTITY_KEY, /* name of the host */
        VERDICT_IDENTITY_ALONE,
        VERDICT_CLOCK_AHEAD, /* difference, as "31 s" */
        VERDICT_CLOCK_BEHIND,
        VERDICT_CLOCK_AGREES,
        VERDICT_SESSION_SINGLE,
        VERDICT_SESSIONS_TWO,

        /* Problems of a replica. The number is that of a cluster key. */
        VERDICT_REPLICA_STOPPED, /* why */
        VERDICT_TREE_DIFFERS,
        VERDICT_TREE_UNDECIDED,
        VERDICT_TREE_REFUSED,   /* why */
        VERDICT_NO_LISTENER,    /* address */
        VERDICT_KEY_MISSING,    /* number; of a host of a former version, or the next one */
        VERDICT_KEY_DAMAGED,    /* number */
        VERDICT_KEY_SEALED,     /* number: the host has the key, and cannot open it */
        VERDICT_KEY_AS_IT_IS,   /* number: the key is of use, but it, or the next one, cannot be sealed */
        VERDICT_KEY_NOT_STORED, /* number: the same */
        VERDICT_KEY_READABLE,   /* number */
        VERDICT_KEY_UNUSABLE,   /* error */

        /* What a row of the history states. The first ones have the text of the row as it was said. */
        VERDICT_UP, /* a presence, as the next two, VERDICT_LEFT and VERDICT_LOST_UNREPORTED */
        VERDICT_AWAY,
        VERDICT_LOST,
        VERDICT_RECOVERED, /* a lineage began */
        VERDICT_RESTORED,
        VERDICT_CONFIRMED, /* a problem of a unit directory */
        VERDICT_DRAIN_LOST,
        VERDICT_LEAVE_BEGUN,
        VERDICT_REBOOT_FAILED,
        VERDICT_ROLLOUT_PAUSED,
        VERDICT_ROLLOUT_PAUSED_BY, /* a user */
        VERDICT_ROLLOUT_REVERTED,
        VERDICT_UNIT_FAILED,
        VERDICT_UNIT_NOT_LOADED,
        VERDICT_UNIT_NOT_STARTED,
        VERDICT_UNIT_RESTARTS,        /* by systemd */
        VERDICT_UNIT_RESTARTS_FAILED, /* the same, after a failure */
        VERDICT_UNIT_STOPPED,         /* by people, unobserved, or because of another unit */
        VERDICT_LEAVES_LOST,          /* machine, why the unit has another one */
        VERDICT_LEAVES_GONE,          /* the same of one that was shut down */
        VERDICT_MOVE_REQUESTED,       /* machine, unit, why; the machine alone until the third one */
        VERDICT_MOVE_DONE,
        VERDICT_MOVE_FAILED,
        VERDICT_MOVE_LOST,  /* the machine is lost, or was shut down */
        VERDICT_MOVE_ENDED, /* by another request, or the unit is not to be there any more */
        _VERDICT_MAX,
        _VERDICT_INVALID = -EINVAL,
} VerdictCode;

/* Of a verdict about a machine: which part of the machine has the problem. */
typedef enum VerdictAspect {
        VERDICT_OF_ALL,
        VERDICT_OF_CLOCK,
        VERDICT_OF_IDENTITY, /* another host has claimed its ID */
        VERDICT_OF_REPLICA,  /* the host may not vote */
        VERDICT_OF_SESSIONS,
        _VERDICT_OF_MAX,
} VerdictAspect;

enum { VERDICT_ARGS_SIZE = 256 };

/* Between two arguments. */
#define VERDICT_NEXT "\x1f"

/* All zero: none. */
typedef struct Verdict {
        VerdictCode code;
        VerdictAspect of;
        bool said; /* the first argument is the message; the second one the name of an unknown code */
        char args[VERDICT_ARGS_SIZE]; /* separated by VERDICT_NEXT */
} Verdict;

/* Set a code with its arguments: "%s" VERDICT_NEXT "%s" for two of them. They are cut if they are too long.
 */
void verdict_set(Verdict *ret, VerdictCode code, const char *args, ...) _printf_(3, 4);
/* Set a code, and the message as it is; VERDICT_NONE for "". */
void verdict_say(Verdict *ret, VerdictCode code, const char *message);

/* Return the argument of a number from 0 on, with its size; "" if there are fewer. */
const char *verdict_argument(const Verdict *v, int number, size_t *ret_size);

/* The row of a code. */
typedef struct VerdictRow {
        const char *name;    /* in keys and frames */
        const char *message; /* %1 is the first argument */
        bool bad;            /* something failed, was lost, or waits for people */
} VerdictRow;

extern const VerdictRow verdict_rows[_VERDICT_MAX]; /* words.c */

/* Append the message for people; nothing for VERDICT_NONE. The only place that makes a message. */
void verdict_append(Text *t, const Verdict *v);
/* -- Of a field of records (JSON_FIELD_OTHER), 'v' is a Verdict -- */

/* Append the message as a member of a JSON object; it is left out if it is empty. */
void verdict_add_message(Text *t, const char *name, const void *v);
/* Write a code, its arguments and the aspect as a member {"args":[],"code","of"}; it is left out without code
 * and aspect. */
void verdict_write(Text *t, const char *name, const void *v);
/* Write the members alone; without code and aspect, there are none. */
void verdict_write_members(Text *t, const Verdict *v);
/* Complete 'v', which was read from the message beside the member, by the member: the code counts. One that
 * this program does not know decides nothing, and keeps its name and the message; an aspect that it does not
 * know is VERDICT_OF_REPLICA. NULL: 'v' is unchanged. -EBADMSG: it is no such object. */
int verdict_read(const JsonValue *member, void *v, Error *err);
/* The same of a name, and of arguments as they are in 'args', with their size. */
void verdict_set_named(Verdict *v, const char *name, const char *args, size_t size);
/* Return the name of the code, also of one that this program does not know; "": it has none. */
const char *verdict_name(const Verdict *v);
/* Return how the message of each verdict of an aspect begins; "" for VERDICT_OF_ALL. */
const char *verdict_aspect_begin(VerdictAspect of);

/* Return whether both are equal; of one that was said, by the messages. */
bool verdict_equal(const Verdict *a, const Verdict *b);
