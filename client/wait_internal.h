/* What wait.c (when to look) and wait_state.c (what is so) share. */
#pragma once

#include "client/wait.h"

enum {
        SETTLE_MS = 100, /* for so long: systemd calls active, for some ms, also what fails at once */
        STALE_MS =
                3000,   /* until an end that was there before is taken for the new one, and rest for an end */
        QUIET_MS = 500, /* that every start takes: until then there is no reason to give */
};

typedef enum WaitPhase { PHASE_STATE, PHASE_SYSTEMD, PHASE_DONE, PHASE_FAILED } WaitPhase;

/* One unit that is waited for. */
typedef struct Waited {
        const char *name; /* borrowed */
        WaitPhase phase;
        bool dirty;
        bool wanted;         /* it has been seen to be wanted as it was asked for */
        uint64_t missing_ms; /* since when it is, before it was seen as wanted; 0: it is not known to be */
        bool said;           /* on stderr, why it waits */
        bool ran;            /* it has been seen active or on its way */
        bool global;
        uint64_t deadline_ms; /* 0: none */
        uint64_t before_ms;   /* 'since' of the state before, 0: there was none */
        uint64_t launched_ms; /* when it reached its state */
        uint64_t active_ms;   /* since when it is seen active; 0: it is not */
        uint64_t idle_ms; /* since when it is seen inactive, and not as it should have ended; 0: it is not */
        char *machine;    /* id, or NULL */
        char *reason;     /* why it is where it is */
        size_t n_there, n_meant; /* of a global unit: on how many machines it is so, of how many */
        char word[32];           /* what a terminal calls its state */
        char state[64];          /* systemd's: "activating (auto-restart)" */
} Waited;

typedef struct Wait {
        Client *client;
        const WaitRequest *request;
        Waited *units;
        size_t n, n_left;
        Listing machines;
        uint64_t started_ms, allowed_ms, answered_ms;
        int result; /* of the first that failed */
        Error *err;
} Wait;

/* Looks at one unit, or at all that are not decided yet. What fleetd cannot answer just now is passed over. 0
 * or a negative errno that ends the wait, with its sentence in w->err. */
int wait_look(Wait *w, Waited *u);
int wait_look_all(Wait *w);

/* It is decided. 'wait_fail_active': by systemd, and "Failed to find an active unit NAME" goes on with
 * 'middle'. */
void wait_fail(Wait *w, Waited *u, int code, const char *sentence);
void wait_fail_active(Wait *w, Waited *u, const char *middle);
