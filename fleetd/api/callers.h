/* Places and pace of those for whom this host starts child processes: each principal and each calling host by
 * itself, so that none of them keeps the others from a journal, or the loop from its work. Pure. Within
 * fleetd/api only. */
#pragma once

#include <sys/queue.h>

#include "base/error.h"
#include "base/pace.h"
#include "fleetd/registry/principal.h"

typedef enum CallerWork {
        CALLER_JOURNAL, /* a reader of a journal, which may have no end */
        CALLER_COMMAND, /* which ends soon: journals do not use up its places */
        CALLER_USAGE,   /* a reader of what units use */
        _CALLER_WORK_MAX
} CallerWork;

typedef enum CallerTrust {
        CALLER_READS,    /* restricted hosts, and users who may not change units */
        CALLER_CHANGES,  /* other hosts, and users of the cluster */
        CALLER_OPERATOR, /* of this host */
        _CALLER_TRUST_MAX
} CallerTrust;

enum {
        CALLER_JOURNALS_MAX = 32,
        CALLER_COMMANDS_MAX = 16,
        CALLER_USAGES_MAX = 16,
        CALLER_STARTS_S = 20, /* of children, for one caller */
        CALLER_BURST = 16,
        CALLERS_STARTS_S = 60, /* for all */
        CALLERS_BURST = 64,
};

typedef struct Caller {
        char name[PRINCIPAL_TEXT_SIZE];
        unsigned n[_CALLER_WORK_MAX]; /* its places */
        Pace pace;
        TAILQ_ENTRY(Caller) all;
} Caller;

typedef struct Callers {
        TAILQ_HEAD(, Caller) all; /* those with a place, and those whose last start was a moment ago */
        unsigned n[_CALLER_WORK_MAX][_CALLER_TRUST_MAX];
        Pace pace;
} Callers;

/* Return whether a caller with 'own' of the places that are taken gets another one of 'max': as long as it
 * has fewer than are free. Alone it gets half of them, the next one half of the rest. Those that only read
 * share one half of the places in this way, and a quarter is for operators of this host alone. */
static inline bool caller_may_take(const unsigned taken[static _CALLER_TRUST_MAX], CallerTrust trust,
                                   unsigned own, unsigned max) {
        unsigned others = taken[CALLER_READS] + taken[CALLER_CHANGES];

        return own + others + taken[CALLER_OPERATOR] < max &&
               (trust == CALLER_OPERATOR || others < max - max / 4) &&
               (trust != CALLER_READS || own + taken[CALLER_READS] < max / 2);
}

/* Return how many places a caller has at most. One reader of usage is enough for a principal; a host has
 * those of its users. */
static inline unsigned caller_own_max(CallerWork work, const Principal *caller) {
        return work == CALLER_USAGE && caller->kind != PRINCIPAL_MACHINE ? 1 : UINT32_MAX;
}
/* Return half of the places for work on another host: what all users of this one have there. */
unsigned caller_places_there(CallerWork work);

void callers_init(Callers *c);
void callers_done(Callers *c);
/* Take a place for a child until callers_give_back(), which is called when its process is gone. *ret is valid
 * until then. -EBUSY, -ENOMEM. */
int callers_take(Callers *c, const Principal *principal, CallerWork work, CallerTrust trust, uint64_t now_ms,
                 Caller **ret, Error *err);
void callers_give_back(Callers *c, Caller *caller, CallerWork work, CallerTrust trust);
/* Count a start for the caller, and return 0; or return the time in ms after which to ask again. */
uint64_t callers_start(Callers *c, Caller *caller, uint64_t now_ms);
