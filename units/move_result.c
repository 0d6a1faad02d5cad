#include "units/move_result.h"

#include <stdio.h>

#include "base/text.h"
#include "units/name.h"

const char *const move_result_names[_MOVE_RESULT_MAX] = {
        [MOVE_RESULT_REQUESTED] = "requested", [MOVE_RESULT_DONE] = "done",   [MOVE_RESULT_FAILED] = "failed",
        [MOVE_RESULT_LOST] = "lost",           [MOVE_RESULT_ENDED] = "ended",
};

static const char requested_text[] = "move to ", done_text[] = "moved to ",
                  failed_text[] = " failed: ", ended_text[] = " ended: ";

void move_result_write(char *ret, size_t size, MoveResult result, const char *unit, const char *to,
                       const char *why) {
        if (result == MOVE_RESULT_REQUESTED || result == MOVE_RESULT_DONE)
                text_format(ret, size, "%s%s", result == MOVE_RESULT_DONE ? done_text : requested_text, to);
        else
                text_format(ret, size, "move of %s to %s%s%s", unit, to,
                            result == MOVE_RESULT_ENDED ? ended_text : failed_text, why);
}

MoveResult move_result_read(const char *unit, const char *reason) {
        static const char *const down[] = { MOVE_WHY_LOST, MOVE_WHY_SHUT_DOWN };
        char begin[UNIT_NAME_MAX + 16];
        const char *rest;

        if (starts_with(reason, requested_text))
                return MOVE_RESULT_REQUESTED;
        if (starts_with(reason, done_text))
                return MOVE_RESULT_DONE;
        snprintf(begin, sizeof(begin), "move of %s to ", unit);
        rest = starts_with(reason, begin) ? strchr(reason + strlen(begin), ' ') : NULL;
        if (!rest)
                return _MOVE_RESULT_INVALID;
        if (starts_with(rest, ended_text))
                return MOVE_RESULT_ENDED;
        if (!starts_with(rest, failed_text))
                return _MOVE_RESULT_INVALID;
        return IS_AMONG(rest + strlen(failed_text), down) ? MOVE_RESULT_LOST : MOVE_RESULT_FAILED;
}
