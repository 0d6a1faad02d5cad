#include "units/verdict_former.h"

#include "base/parse.h"
#include "units/name.h"

static const char stopped_for[] = "stopped because of ";

/* By the kind of a row of the history; "stopped": of an inactive unit; "replica": the leader decides by these
 * who lacks the cluster key, and replaces the CA if all members lack it. The first one that matches counts.
 */
static const struct {
        const char *kind, *begin, *part; /* of the message; NULL: any */
        VerdictCode code;
} formers[] = {
        { "", "Move=no", NULL, VERDICT_BOUND }, /* of a drain */
        { "adoption", "the cluster was recovered at index ", NULL, VERDICT_RECOVERED },
        { "adoption", "the cluster was restored at index ", NULL, VERDICT_RESTORED },
        { "assigned", NULL, " is lost; ", VERDICT_LEAVES_LOST },
        { "assigned", NULL, " was shut down; ", VERDICT_LEAVES_LEFT },
        { "assigned", NULL, " has left; ", VERDICT_LEAVES_LEFT },
        { "leave", "begun", NULL, VERDICT_LEAVE_BEGUN },
        { "maintenance", "cordoned: ", " while it was drained", VERDICT_DRAIN_LOST },
        { "maintenance", NULL, " while it was drained", VERDICT_REBOOT_FAILED },
        { "maintenance", NULL, " in time", VERDICT_REBOOT_FAILED },
        { "maintenance", "rebooted", NULL, VERDICT_REBOOTED },
        { "move", "move to ", NULL, VERDICT_MOVE_REQUESTED },
        { "move", "moved to ", NULL, VERDICT_MOVE_DONE },
        { "presence", "away", NULL, VERDICT_AWAY },
        { "presence", "left", NULL, VERDICT_LEFT },
        { "presence", "lost: it has not reported since ", NULL, VERDICT_LOST_UNREPORTED },
        { "presence", "lost", NULL, VERDICT_LOST },
        { "presence", "up", NULL, VERDICT_UP },
        { "problem", "confirmed: ", NULL, VERDICT_CONFIRMED },
        { "replica", "cluster key missing: ", NULL, VERDICT_KEY_MISSING },
        { "replica", "cluster key sealed: ", NULL, VERDICT_KEY_SEALED },
        { "replica", "cluster key not sealed: ", NULL, VERDICT_KEY_AS_IT_IS },
        { "rollout", NULL, ": paused: by ", VERDICT_ROLLOUT_PAUSED_BY },
        { "rollout", NULL, ": paused: ", VERDICT_ROLLOUT_PAUSED },
        { "rollout", NULL, " is reverted to ", VERDICT_ROLLOUT_REVERTED },
        { "state", "activating (auto-restart", "): ", VERDICT_UNIT_RESTARTS_FAILED },
        { "state", "activating (auto-restart)", NULL, VERDICT_UNIT_RESTARTS },
        { "state", "active (auto-restart)", NULL, VERDICT_UNIT_RESTARTS },
        { "state", "failed", NULL, VERDICT_UNIT_FAILED },
        { "state", "not loaded", NULL, VERDICT_UNIT_NOT_LOADED },
        { "state", "not started", NULL, VERDICT_UNIT_NOT_STARTED },
        { "stopped", "it ended by itself, and is not started again", NULL, VERDICT_ENDED_ITSELF },
        { "stopped", "it failed, and its failed state was reset", NULL, VERDICT_FAILURE_RESET },
        { "stopped", stopped_for, NULL, VERDICT_STOPPED_FOR },
        { "stopped", "stopped by hand", NULL, VERDICT_STOPPED_BY_HAND },
        { "stopped", "stopped", NULL, VERDICT_STOPPED_UNOBSERVED },
};

/* Return the code of a message, or VERDICT_SAID. *ret_part: where 'part' stands in it. */
static VerdictCode former_code(const char *kind, const char *message, const char **ret_part) {
        *ret_part = message;
        for (size_t i = 0; i < ELEMENTS(formers); i++)
                if (streq(kind, formers[i].kind) &&
                    (!formers[i].begin || starts_with(message, formers[i].begin)) &&
                    (!formers[i].part || (*ret_part = strstr(message, formers[i].part))))
                        return formers[i].code;
        return VERDICT_SAID;
}

void verdict_read_former(VerdictPlace place, const char *message, Verdict *ret) {
        VerdictAspect of = place == VERDICT_IN_PRESENCE ? _VERDICT_OF_MAX - 1 : VERDICT_OF_ALL;
        VerdictCode code = VERDICT_SAID;
        const char *part;

        while (of > VERDICT_OF_ALL && !starts_with(message, verdict_aspect_begin(of)))
                of--;
        message += strlen(verdict_aspect_begin(of));
        if (place == VERDICT_IN_HEARTBEAT || of == VERDICT_OF_REPLICA)
                code = former_code("replica", message, &part);
        verdict_say(ret, code, message);
        /* A code whose message has arguments decides nothing by itself. */
        for (code = VERDICT_AWAY_CLOSED;
             place == VERDICT_IN_PRESENCE && of != VERDICT_OF_REPLICA && code <= VERDICT_SESSIONS_TWO; code++)
                if (streq(verdict_rows[code].message, message) && !strchr(message, '%'))
                        *ret = (Verdict) { .code = code };
        ret->of = of;
}

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

VerdictCode verdict_read_former_stop(const char *reason) {
        const char *part;

        return former_code("stopped", reason, &part);
}

void verdict_read_former_stopper(const char *reason, Text *ret) {
        const char *name = starts_with(reason, stopped_for) ? reason + strlen(stopped_for) : " ";
        size_t size = strcspn(name, "; ");

        if (name[size] != ' ')
                text_append_bytes(ret, name, size);
}

void verdict_read_former_row(const char *kind, const char *unit, const char *reason, Verdict *ret) {
        const char *part;
        VerdictCode code = former_code(kind, reason, &part);
        static const char inactive[] = "inactive (dead): ";

        if (code == VERDICT_SAID && streq(kind, "move"))
                code = former_move_code(unit, reason);
        if (streq(kind, "state") && starts_with(reason, inactive))
                code = verdict_read_former_stop(reason + strlen(inactive));
        if (code == VERDICT_LEAVES_LOST || code == VERDICT_LEAVES_LEFT)
                verdict_set(ret, code, "%.*s" VERDICT_NEXT "%s", (int) (part - reason), reason,
                            strchr(part, ';') + 2);
        else
                verdict_say(ret, code, reason);
}

VerdictCode verdict_read_former_failure(const char *unit, const char *why) {
        char begin[UNIT_NAME_MAX + 8];
        const char *at;

        snprintf(begin, sizeof(begin), "%s on ", unit);
        at = strstr(why, begin);
        return at && (at == why || at[-1] == ' ') ? VERDICT_INSTANCE_FAILED : VERDICT_NONE;
}
