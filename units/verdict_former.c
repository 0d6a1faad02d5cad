#include "units/verdict_former.h"

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
