#include "units/verdict_former.h"

#include <stdio.h>

#include "base/parse.h"
#include "units/name.h"

/* A code whose message has arguments decides nothing by itself. */
static void former_read_presence(const char *message, Verdict *ret) {
        verdict_say(ret, VERDICT_SAID, message);
        for (VerdictCode code = VERDICT_SAID + 1; code < _VERDICT_MAX; code++)
                if (streq(verdict_rows[code].message, message) && !strchr(message, '%'))
                        *ret = (Verdict) { .code = code };
}

/* The leader decides by these who lacks the cluster key; it replaces the CA if all members lack it. */
static const struct {
        const char *begin;
        VerdictCode code;
} former_replicas[] = {
        { "cluster key missing: ", VERDICT_KEY_MISSING },
        { "cluster key sealed: ", VERDICT_KEY_SEALED },
        { "cluster key not sealed: ", VERDICT_KEY_AS_IT_IS },
};

static void former_read_replica(const char *message, Verdict *ret) {
        size_t i = 0;

        while (i < ELEMENTS(former_replicas) && !starts_with(message, former_replicas[i].begin))
                i++;
        verdict_say(ret, i < ELEMENTS(former_replicas) ? former_replicas[i].code : VERDICT_SAID, message);
}

void verdict_read_former(VerdictPlace place, const char *message, Verdict *ret) {
        VerdictAspect of = place == VERDICT_IN_PRESENCE ? _VERDICT_OF_MAX - 1 : VERDICT_OF_ALL;

        while (of > VERDICT_OF_ALL && !starts_with(message, verdict_aspect_begin(of)))
                of--;
        message += strlen(verdict_aspect_begin(of));
        if (place == VERDICT_IN_HEARTBEAT || of == VERDICT_OF_REPLICA)
                former_read_replica(message, ret);
        else
                former_read_presence(message, ret);
        ret->of = of;
}

/* -- Rows of the history -- */

/* The first row that matches counts. */
static const struct {
        const char *kind, *begin, *part; /* of the reason; NULL: any */
        VerdictCode code;
} former_rows[] = {
        { "adoption", "the cluster was recovered at index ", NULL, VERDICT_RECOVERED },
        { "adoption", "the cluster was restored at index ", NULL, VERDICT_RESTORED },
        { "assigned", NULL, " is lost; ", VERDICT_LEAVES_LOST },
        { "assigned", NULL, " was shut down; ", VERDICT_LEAVES_GONE },
        { "assigned", NULL, " has left; ", VERDICT_LEAVES_GONE },
        { "leave", "begun", NULL, VERDICT_LEAVE_BEGUN },
        { "maintenance", "cordoned: ", " while it was drained", VERDICT_DRAIN_LOST },
        { "maintenance", NULL, " while it was drained", VERDICT_REBOOT_FAILED },
        { "maintenance", NULL, " in time", VERDICT_REBOOT_FAILED },
        { "move", "move to ", NULL, VERDICT_MOVE_REQUESTED },
        { "move", "moved to ", NULL, VERDICT_MOVE_DONE },
        { "presence", "away", NULL, VERDICT_AWAY },
        { "presence", "left", NULL, VERDICT_LEFT },
        { "presence", "lost: it has not reported since ", NULL, VERDICT_LOST_UNREPORTED },
        { "presence", "lost", NULL, VERDICT_LOST },
        { "presence", "up", NULL, VERDICT_UP },
        { "problem", "confirmed: ", NULL, VERDICT_CONFIRMED },
        { "rollout", NULL, ": paused: by ", VERDICT_ROLLOUT_PAUSED_BY },
        { "rollout", NULL, ": paused: ", VERDICT_ROLLOUT_PAUSED },
        { "rollout", NULL, " is reverted to ", VERDICT_ROLLOUT_REVERTED },
        { "state", "activating (auto-restart", "): ", VERDICT_UNIT_RESTARTS_FAILED },
        { "state", "activating (auto-restart)", NULL, VERDICT_UNIT_RESTARTS },
        { "state", "active (auto-restart)", NULL, VERDICT_UNIT_RESTARTS },
        { "state", "failed", NULL, VERDICT_UNIT_FAILED },
        { "state", "inactive (dead): stopped", NULL, VERDICT_UNIT_STOPPED },
        { "state", "not loaded", NULL, VERDICT_UNIT_NOT_LOADED },
        { "state", "not started", NULL, VERDICT_UNIT_NOT_STARTED },
};

/* The end of a move: "move of UNIT to MACHINE failed: WHY". */
static VerdictCode former_move_code(const char *unit, const char *reason) {
        static const char *const down[] = { " failed: it is lost", " failed: it was shut down" };
        char begin[UNIT_NAME_MAX + 16];
        const char *rest;

        snprintf(begin, sizeof(begin), "move of %s to ", unit);
        rest = starts_with(reason, begin) ? strchr(reason + strlen(begin), ' ') : NULL;
        return !rest                           ? VERDICT_SAID :
               starts_with(rest, " ended: ")   ? VERDICT_MOVE_ENDED :
               !starts_with(rest, " failed: ") ? VERDICT_SAID :
               IS_AMONG(rest, down)            ? VERDICT_MOVE_LOST :
                                                 VERDICT_MOVE_FAILED;
}

void verdict_read_former_row(const char *kind, const char *unit, const char *reason, Verdict *ret) {
        VerdictCode code = streq(kind, "move") ? former_move_code(unit, reason) : VERDICT_SAID;
        const char *part = NULL;

        for (size_t i = 0; i < ELEMENTS(former_rows) && code == VERDICT_SAID; i++)
                if (streq(kind, former_rows[i].kind) &&
                    (!former_rows[i].begin || starts_with(reason, former_rows[i].begin)) &&
                    (!former_rows[i].part || (part = strstr(reason, former_rows[i].part))))
                        code = former_rows[i].code;
        if (part && (code == VERDICT_LEAVES_LOST || code == VERDICT_LEAVES_GONE))
                verdict_set(ret, code, "%.*s" VERDICT_NEXT "%s", (int) (part - reason), reason,
                            strchr(part, ';') + 2);
        else
                verdict_say(ret, code, reason);
}
