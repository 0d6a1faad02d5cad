/* Shared by wait.c (when to read) and wait_state.c (which state is reached). */
#pragma once

#include "client/core/listing.h"
#include "client/core/operation.h"
#include "client/core/wait.h"

enum {
        STABLE_MS = 400, /* systemd reports a unit active for some ms even if it fails at once, and a host
                            publishes states every 250 ms */
        AGAIN_MS = 2500, /* the same after a restart: states of a unit are published each second at most */
        STALE_MS = 3000, /* until an end that was reported before the start counts as the new end */
        LOOP_MS = 5000,  /* a unit that is restarted again and again for so long does not start */
        /* Of a unit that fails within some ms, no run is published: so long a pause counts as several. */
        PAUSE_MAX_MS = 20000,
        QUIET_MS = 500, /* duration of a normal start: no reason is printed before */
};

typedef enum WaitPhase {
        PHASE_STATE,   /* the cluster has not reached the target state */
        PHASE_SYSTEMD, /* it has; systemd has not */
        PHASE_DONE,
        PHASE_FAILED,
} WaitPhase;

/* One unit of a wait. Times are those of clock_monotonic_ms(); 0: not yet. */
typedef struct WaitUnit {
        const char *name; /* borrowed */
        WaitPhase phase;
        bool target_seen;             /* the requested target state was seen */
        bool reported;                /* the reason of the delay was printed on stderr */
        bool timed_out;               /* failed by a limit of the wait, not by its state */
        bool refused;                 /* systemd did not begin its start: the journal has nothing */
        bool ran;                     /* the unit was seen active or in transition */
        bool global;                  /* see ApiUnit */
        bool waits;                   /* 'reason' states what it waits for */
        bool text_seen;               /* it had the awaited text */
        uint64_t missing_ms;          /* first seen absent, before 'target_seen' */
        uint64_t deadline_ms;         /* 0: none */
        uint64_t before_ms;           /* see WaitRequest; a time of the machine */
        uint64_t launched_ms;         /* reached the target state */
        uint64_t active_ms;           /* seen active since */
        uint64_t idle_ms;             /* seen inactive since, without a successful end */
        char *machine;                /* ID, or NULL; owned */
        char *reason;                 /* of its placement; owned */
        char *cause;                  /* reason of its state in systemd, or NULL; owned */
        uint64_t restarting_ms;       /* first seen between two runs */
        bool restarted;               /* another state was seen since */
        size_t n_reached, n_expected; /* machines of a global unit: at the goal; that it fits */
        char word[32];                /* state for the progress line */
        char state[64];               /* of systemd: "activating (auto-restart)" */
} WaitUnit;

typedef struct Wait {
        Client *client;
        const WaitRequest *request;
        WaitUnit *units;
        size_t n, n_left;
        Listing machines;
        bool machines_are_new; /* read since the time of a unit was over */
        uint64_t started_ms, allowed_ms, answered_ms;
        int result; /* of the first unit that failed */
        bool dirty; /* an event has named a unit since all were read */
        unsigned n_reads;
        uint64_t read_ms; /* of the last read */
        Operation operation;
        Error *err;
} Wait;

/* Read the states of all pending units. Error answers of fleetd are ignored. Return 0, or a negative errno
 * that ends the wait, with its message in w->err. */
int wait_refresh_all(Wait *w);

/* End the wait for one unit as failed. wait_fail_active(): in systemd, with fleet's message "Failed to find
 * an active unit NAME", followed by 'middle'. */
void wait_fail(Wait *w, WaitUnit *u, int code, const char *format, ...) _printf_(4, 5);
/* When a unit that is active now counts as started, on the monotonic clock. */
uint64_t wait_stable_ms(const WaitUnit *u);
void wait_fail_active(Wait *w, WaitUnit *u, const char *middle);
