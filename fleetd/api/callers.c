#include "fleetd/api/callers.h"

static const struct {
        unsigned max;
        const char *things;
} works[_CALLER_WORK_MAX] = {
        [CALLER_JOURNAL] = { CALLER_JOURNALS_MAX, "journals" },
        [CALLER_COMMAND] = { CALLER_COMMANDS_MAX, "commands about units" },
        [CALLER_USAGE] = { CALLER_USAGES_MAX, "readers of usage" },
};

static void caller_free(Callers *c, Caller *caller) {
        TAILQ_REMOVE(&c->all, caller, all);
        free(caller);
}

/* A caller without a place is kept while its pace would still delay it: starts for all callers have a pace,
 * too, and bound their number. */
static Caller *callers_find(Callers *c, const char *name, uint64_t now_ms) {
        Caller *caller, *next, *found = NULL;

        for (caller = TAILQ_FIRST(&c->all); caller; caller = next) {
                next = TAILQ_NEXT(caller, all);
                if (streq(caller->name, name))
                        found = caller;
                else if (caller->n[CALLER_JOURNAL] + caller->n[CALLER_COMMAND] + caller->n[CALLER_USAGE] ==
                                 0 &&
                         pace_wait_ms(&caller->pace, CALLER_STARTS_S, 1, now_ms) == 0)
                        caller_free(c, caller);
        }
        return found;
}

unsigned caller_places_there(CallerWork work) {
        return works[work].max / 2;
}

void callers_init(Callers *c) {
        *c = (Callers) {};
        TAILQ_INIT(&c->all);
}

void callers_done(Callers *c) {
        while (!TAILQ_EMPTY(&c->all))
                caller_free(c, TAILQ_FIRST(&c->all));
}

int callers_take(Callers *c, const Principal *principal, CallerWork work, CallerTrust trust, uint64_t now_ms,
                 Caller **ret, Error *err) {
        char name[PRINCIPAL_TEXT_SIZE];
        Caller *caller = callers_find(c, principal_text(principal, name), now_ms);
        unsigned own = caller ? caller->n[work] : 0, *taken = c->n[work];

        if (own >= caller_own_max(work, principal))
                return error_set(
                        err, -EBUSY,
                        "this user has one of the %s on this host already: end it, or try again later",
                        works[work].things);
        if (!caller_may_take(taken, trust, own, works[work].max))
                return error_set(err, -EBUSY,
                                 "%u of %u places for %s on this host are taken, %u of them for this user or "
                                 "host, which gets no more of them now; end one, or try again later",
                                 taken[CALLER_READS] + taken[CALLER_CHANGES] + taken[CALLER_OPERATOR],
                                 works[work].max, works[work].things, own);
        if (!caller) {
                caller = NEW0(Caller, 1);
                if (!caller)
                        return error_set(err, -ENOMEM, "out of memory");
                snprintf(caller->name, sizeof(caller->name), "%s", name);
                TAILQ_INSERT_TAIL(&c->all, caller, all);
        }
        caller->n[work]++;
        taken[trust]++;
        *ret = caller;
        return 0;
}

void callers_give_back(Callers *c, Caller *caller, CallerWork work, CallerTrust trust) {
        caller->n[work]--;
        c->n[work][trust]--;
}

uint64_t callers_start(Callers *c, Caller *caller, uint64_t now_ms) {
        uint64_t own_ms = pace_wait_ms(&caller->pace, CALLER_STARTS_S, CALLER_BURST, now_ms),
                 all_ms = pace_wait_ms(&c->pace, CALLERS_STARTS_S, CALLERS_BURST, now_ms);

        if (own_ms > 0 || all_ms > 0)
                return MAX(own_ms, all_ms);
        pace_take(&caller->pace, 1);
        pace_take(&c->pace, 1);
        return 0;
}
