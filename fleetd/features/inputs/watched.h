/* What the leader watches: the inputs of all units, and the units to be looked at. watcher.c looks at them.
 */
#pragma once

#include "fleetd/features/inputs/inputs_internal.h"

enum { WATCH_INPUTS_MAX = INPUT_SECRETS_MAX + 2 * INPUT_PATHS_MAX }; /* of one unit */

/* A path, or the name of a secret: only a path begins with '/'. */
typedef struct WatchedInput {
        Watcher *watcher;
        KvWatch *watch;  /* NULL: of a secret, or it could not be opened */
        size_t n_units;  /* references by units */
        uint64_t due_ms; /* when its units are looked at; 0: it has not changed */
        uint64_t looked_ms;
        struct {
                TAILQ_ENTRY(WatchedInput) changed; /* while 'due_ms' is set */
        };
        UT_hash_handle hh;
        char text[];
} WatchedInput;

typedef enum WatchedState {
        WATCHED_IDLE,
        WATCHED_DUE,  /* to be looked at */
        WATCHED_HELD, /* its number has to rise after the rollout of its set; a key of it cannot be read; or,
                         without 'values', see watched_unit_lags() */
        WATCHED_SENT, /* its record is being written */
        _WATCHED_STATE_MAX,
} WatchedState;

typedef struct WatchedUnit {
        Named named;
        WatchedInput *inputs[WATCH_INPUTS_MAX];
        size_t n_inputs;
        WatchedState state;
        struct {
                TAILQ_ENTRY(WatchedUnit) of_state; /* but for WATCHED_IDLE */
        };
        uint64_t look;               /* the last one in which it was marked */
        uint64_t sent_index;         /* WATCHED_SENT: of its key before */
        bool values;                 /* an input may have changed, not only the text */
        bool again;                  /* WATCHED_SENT: it is due after that */
        char what[INPUTS_WHAT_SIZE]; /* the input that changed last; "": unknown */
} WatchedUnit;

struct Watcher {
        ComponentHost *host; /* borrowed */
        RegistryObserver observer;
        Timer timer;   /* wakes the engine for the next input that is due */
        uint64_t term; /* 0: nothing is watched */
        uint64_t look; /* the last one */
        Named *units;  /* WatchedUnit: those with inputs, or with a content */
        Named *sets;   /* WatchedSet: until no unit is due, and all records are written */
        WatchedInput *inputs;
        struct {
                TAILQ_HEAD(, WatchedInput) changed;
                TAILQ_HEAD(, WatchedUnit) of_state[_WATCHED_STATE_MAX];
        };
        bool lags;                      /* a held unit does */
        bool scanning;                  /* all units of the view are marked from 'cursor' on */
        char cursor[UNIT_NAME_MAX + 1]; /* "": the first one */
};

/* Forget all: the term has ended. */
void watched_clear(Watcher *w);
/* Mark all units again: those of the view follow in steps. */
void watched_rescan(Watcher *w);
/* Take the next step of that. 0 or -ENOMEM. */
int watched_scan(Watcher *w, const Cluster *c);
/* Mark the units of all inputs that are due, as one look. Return when the next input is due; UINT64_MAX:
 * none. */
uint64_t watched_collect(Watcher *w, const Cluster *c);
/* Look again at the units that lagged. */
void watched_retry(Watcher *w);
void watched_unit_move(Watcher *w, WatchedUnit *u, WatchedState to);
/* What it was marked for is done; with a problem, no number counts the values that have changed yet. */
void watched_unit_done(Watcher *w, WatchedUnit *u, bool has_problem);
void watched_unit_forget(Watcher *w, WatchedUnit *u);
/* Return whether a change of an input may be in the tree that has not marked the unit yet: the events of
 * users' keys come after those of the registry. */
bool watched_unit_lags(const WatchedUnit *u);
/* The inputs of a unit that may have a content; NULL: it has none. 'u' may be NULL. */
const InputPolicy *watched_policy(const ClusterUnit *u);
/* Return whether a rollout of the set of this head rolls, as far as is known. */
bool watched_set_rolls(const ClusterUnit *head);
