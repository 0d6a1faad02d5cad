/* Why a unit became inactive: what systemd's signals say in passing, kept, since systemd forgets a unit as
 * soon as it has stopped. Pure.
 *
 * A unit that ended without a job ended by itself. One that a stop job ended was stopped: by hand, or for the
 * sake of another unit. systemd does not say for whose; but then a unit that it is bound to, or in conflict
 * with, had a job or left the active state at the same time, or the job came with that of a target (isolate).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/table.h"

typedef enum SystemdEnd {
        SYSTEMD_END_UNKNOWN, /* it runs, or nobody saw how it ended */
        SYSTEMD_END_ITSELF,
        SYSTEMD_END_FAILED,  /* by itself, in state "failed", which systemd forgets when it is reset or the
                                unit is collected */
        SYSTEMD_END_SKIPPED, /* a condition did not hold (ExecCondition= too): it did not begin */
        SYSTEMD_END_STOPPED, /* by hand: a job for its own sake, or a signal */
        SYSTEMD_END_STOPPED_FOR, /* a job for the sake of another unit, or with the host */
} SystemdEnd;

/* What one PropertiesChanged says of a unit; times are systemd's, in µs. */
typedef struct SystemdChange {
        const char *active;  /* ActiveState */
        uint32_t job;        /* the id of its job; 0: none */
        bool condition;      /* ConditionResult */
        uint64_t checked_us; /* ConditionTimestampMonotonic */
        uint64_t left_us;    /* ActiveExitTimestampMonotonic */
        uint64_t ended_us;   /* InactiveEnterTimestampMonotonic */
} SystemdChange;

enum { SYSTEMD_MOVERS = 8 };

typedef struct SystemdTrace {
        SystemdEnd end;
        bool running;     /* it has begun, and not ended */
        bool by_job;      /* and a job is ending it */
        bool killed;      /* its main process ended by a signal */
        bool skipped;     /* the last result of a service is that of ExecCondition= */
        bool undecided;   /* stopped: for whose sake is still to be found out */
        bool with_target; /* its job came with that of a target */
        uint64_t checked_us, left_us;
        uint64_t canceled_us; /* when a job of it was canceled before it was active, as a stop does to a
                                 start; 0: none was */
        uint64_t stopped_us;  /* when its stop began */
        uint64_t movers[SYSTEMD_MOVERS]; /* for whose sake: hashes of names */
        unsigned n_movers;               /* 0: not known; above SYSTEMD_MOVERS: more than are kept */
} SystemdTrace;

/* It is to be started: what is known of its last end is not about this start, but for whose sake it was
 * stopped, until it runs. */
void systemd_trace_begin(SystemdTrace *t);
/* Signals were lost: how it ends is not known if it ran. */
void systemd_trace_lost(SystemdTrace *t);
/* It was seen running: from then on its end is noticed. */
void systemd_trace_running(SystemdTrace *t);
void systemd_trace_change(SystemdTrace *t, const SystemdChange *change);
/* A job of it is new. 'with_target': in one transaction with the job of a target. */
void systemd_trace_job(SystemdTrace *t, bool with_target);
void systemd_trace_job_canceled(SystemdTrace *t, uint64_t now_us);
/* 'name', which it is bound to, or in conflict with, moved when it was stopped. */
void systemd_trace_stopped_for(SystemdTrace *t, const char *name);
/* Whether it may have been stopped for the sake of 'name': what it needs otherwise, and what did not move,
 * does not keep it from its start. */
bool systemd_trace_may_be_for(const SystemdTrace *t, const char *name);

/* Units that left the active state, or got a job, lately: when each did so last. */
enum { SYSTEMD_MOVES_MAX = 8192 };

typedef struct SystemdMove {
        uint64_t name, when_us; /* hash of the name */
        UT_hash_handle hh;
} SystemdMove;

typedef struct SystemdMoves {
        SystemdMove *all; /* table by name, the oldest first */
} SystemdMoves;

void systemd_moves_add(SystemdMoves *m, const char *name,
                       uint64_t when_us); /* without memory: it is not known */
/* Whether 'name' moved at 'since_us' or later. */
bool systemd_moves_have(const SystemdMoves *m, const char *name, uint64_t since_us);
void systemd_moves_clear(SystemdMoves *m);
