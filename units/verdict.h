/* Status as data: a code with arguments. verdict_append() makes the message for people from the row of the
 * code (words.h). Decisions read the code and the aspect, never the message.
 *
 * A verdict is a plain value without pointers, so that structs hold and copy it as they hold a number. Its
 * arguments (names, IDs, numbers, texts of other programs) are strings in one bounded text, in the order in
 * which the row of the code counts them. A message that has no code, or comes from a host of a former
 * version, is kept as it was said. */
#pragma once

#include <stdarg.h>

#include "units/json.h"
#include "units/words.h"

#define VERDICT_CODE(code, ...) code,

typedef enum VerdictCode {
        VERDICTS(VERDICT_CODE) _VERDICT_MAX,
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
void verdict_set_list(Verdict *ret, VerdictCode code, const char *args, va_list ap) _printf_(3, 0);
/* Set a code, and the message as it is; VERDICT_NONE for "". */
void verdict_say(Verdict *ret, VerdictCode code, const char *message);

/* Return the argument of a number from 0 on, with its size; "" if there are fewer. */
const char *verdict_argument(const Verdict *v, int number, size_t *ret_size);

/* The row of a code. */
typedef struct VerdictRow {
        const char *name;        /* in keys and frames */
        const char *message;     /* %1 is the first argument; NULL: "it VERB REST" */
        bool bad;                /* something failed, was lost, or waits for people */
        const char *verb, *rest; /* what follows the name of a machine, which has no metadata x; or NULL */
} VerdictRow;

extern const VerdictRow verdict_rows[_VERDICT_MAX];

/* Append the message for people; nothing for VERDICT_NONE. The only place that makes a message. */
void verdict_append(Text *t, const Verdict *v);
/* The same as the message of an Error. */
void verdict_print(const Verdict *v, Error *ret);
/* Append what follows the name of a machine, or of many: "has no metadata ssd=true". */
void verdict_append_predicate(Text *t, const Verdict *v, bool many);

/* -- Of a field of records (JSON_FIELD_OTHER), 'v' is a Verdict -- */

/* Append the message as a member of a JSON object; it is left out if it is empty. */
void verdict_add_message(Text *t, const char *name, const void *v);
/* The same of a message that was said; one that has a code is left out. */
void verdict_add_said(Text *t, const char *name, const void *v);
/* Write a code, its arguments and the aspect as a member {"args":[],"code","of"}; it is left out without code
 * and aspect. */
void verdict_write(Text *t, const char *name, const void *v);
/* Write the members alone; without code and aspect, there are none. */
void verdict_write_members(Text *t, const Verdict *v);
/* Complete 'v', which was read from the message beside the member, by the member: the code counts. One that
 * this program does not know decides nothing, and keeps its name and the message; an aspect that it does not
 * know is VERDICT_OF_REPLICA. NULL: 'v' is unchanged. -EBADMSG: it is no such object. */
int verdict_read(const JsonValue *member, void *v, Error *err);
/* Read the message of a member, unless 'v' has a code. NULL: 'v' is unchanged. -EBADMSG: it is no string. */
int verdict_read_said(const JsonValue *member, void *v, Error *err);
/* Append the name and the arguments for a frame, each after VERDICT_NEXT; nothing without a name. */
void verdict_append_code(Text *t, const Verdict *v);
/* Complete 'v' as verdict_read() does, by what verdict_append_code() has written; "": 'v' is unchanged. */
void verdict_set_code(Verdict *v, const char *code);
/* The same of a name, and of arguments as they are in 'args', with their size. */
void verdict_set_named(Verdict *v, const char *name, const char *args, size_t size);
/* The same for a field that is a VerdictCode, as a member with its name; VERDICT_SAID: one that this program
 * does not know. */
void verdict_code_write(Text *t, const char *name, const void *code);
int verdict_code_read(const JsonValue *member, void *code, Error *err);
VerdictCode verdict_code(const char *name);
/* Return the name of the code, also of one that this program does not know; "": it has none. */
const char *verdict_name(const Verdict *v);
/* Return how the message of each verdict of an aspect begins; "" for VERDICT_OF_ALL. */
const char *verdict_aspect_begin(VerdictAspect of);

/* Return whether both are equal; of one that was said, by the messages. */
bool verdict_equal(const Verdict *a, const Verdict *b);
