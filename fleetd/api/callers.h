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
        CALLER_COMMAND, /* the others, which end soon: journals do not use up their places */
        _CALLER_WORK_MAX
} CallerWork;

enum {
        CALLER_JOURNALS_MAX = 32,
        CALLER_COMMANDS_MAX = 16,
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
        unsigned n[_CALLER_WORK_MAX];
        Pace pace;
} Callers;

/* Return whether a caller with 'own' of the places that are taken gets another one of 'max': as long as it
 * has fewer than are free. Alone it gets half of them, the next one half of the rest. */
static inline bool caller_may_take(unsigned own, unsigned taken, unsigned max) {
        return taken < max && own < max - taken;
}

void callers_init(Callers *c);
void callers_done(Callers *c);
/* Take a place for a child until callers_give_back(), which is called when its process is gone. *ret is valid
 * until then. -EBUSY, -ENOMEM. */
int callers_take(Callers *c, const char *name, CallerWork work, uint64_t now_ms, Caller **ret, Error *err);
void callers_give_back(Callers *c, Caller *caller, CallerWork work);
/* Count a start for the caller, and return 0; or return the time in ms after which to ask again. */
uint64_t callers_start(Callers *c, Caller *caller, uint64_t now_ms);
