/* What a row of the history about a move states. The stored format has no field for it, and older daemons
 * send none: the reason of the row has it. */
#pragma once

#include "base/parse.h"

typedef enum MoveResult {
        MOVE_RESULT_REQUESTED,
        MOVE_RESULT_DONE,
        MOVE_RESULT_FAILED,
        MOVE_RESULT_LOST,  /* failed: the machine is lost, or was shut down */
        MOVE_RESULT_ENDED, /* by another request, or the unit is not to be there any more */
        _MOVE_RESULT_MAX,
        _MOVE_RESULT_INVALID = -EINVAL,
} MoveResult;

/* The two reasons of MOVE_RESULT_LOST. */
#define MOVE_WHY_LOST      "it is lost"
#define MOVE_WHY_SHUT_DOWN "it was shut down"

ENUM_NAMES(move_result, MoveResult, _MOVE_RESULT_MAX)

/* Write the reason of a row about 'unit' and the machine 'to', as text_format(). 'why': of a result other
 * than MOVE_RESULT_REQUESTED and MOVE_RESULT_DONE. */
void move_result_write(char *ret, size_t size, MoveResult result, const char *unit, const char *to,
                       const char *why);
/* Return the result that the reason of a row about 'unit' states, or _MOVE_RESULT_INVALID. */
MoveResult move_result_read(const char *unit, const char *reason);
