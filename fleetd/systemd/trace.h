/* How a unit became inactive. systemd unloads a unit after its stop, so this keeps what signals report. Pure.
 *
 * A unit that ended without a job ended by itself. A stop job means: by hand, or because of another unit,
 * which systemd does not name. In the second case, a related unit got a job or left the active state at that
 * time, or the job came with that of a target (isolate). What precedes the start is no cause: the start
 * itself begins jobs of the slice and of units that are required. systemd sends no time of a job, so the
 * order of the signals decides. */
#pragma once

#include "base/table.h"

typedef enum SystemdEnd {
        SYSTEMD_END_UNKNOWN, /* it runs, or its end was not observed */
        SYSTEMD_END_ITSELF,
        SYSTEMD_END_FAILED,  /* by itself, in state "failed", until that is reset or the unit is unloaded */
        SYSTEMD_END_SKIPPED, /* a condition did not hold (ExecCondition= included): not begun */
        SYSTEMD_END_STOPPED, /* by hand: a job of its own, or a signal */
        SYSTEMD_END_STOPPED_FOR, /* by a job because of another unit, or with the host */
} SystemdEnd;

/* Content of one PropertiesChanged; times are systemd's, in µs. */
typedef struct SystemdChange {
        uint64_t signal;     /* number of signals before it */
        const char *active;  /* ActiveState */
        uint32_t job;        /* ID of its job; 0: none */
        bool condition;      /* ConditionResult */
        uint64_t checked_us; /* ConditionTimestampMonotonic */
        uint64_t left_us;    /* ActiveExitTimestampMonotonic */
        uint64_t ended_us;   /* InactiveEnterTimestampMonotonic */
} SystemdChange;

enum { SYSTEMD_MOVERS = 8 };

typedef struct SystemdTrace {
        SystemdEnd end;
        bool running;     /* begun, and not ended; false after signals were lost: its end is unknown */
        bool by_job;      /* a job is ending it */
        bool killed;      /* its main process was ended by a signal */
        bool skipped;     /* the last result of a service is that of ExecCondition= */
        bool undecided;   /* stopped by a job, whose cause is not decided */
        bool with_target; /* its job is part of the transaction of a target */
        uint64_t checked_us, left_us;
        uint64_t begun_signal; /* number of signals before it was observed to have begun; 0: unknown */
        uint64_t canceled_us;  /* cancellation of a job before the unit was active, as by a stop during a
                                  start; 0: none */
        uint64_t stopped_us;   /* begin of its stop */
        uint64_t movers[SYSTEMD_MOVERS]; /* causes of the stop: hashes of names */
        unsigned n_movers;               /* 0: unknown; above SYSTEMD_MOVERS: more than are kept */
} SystemdTrace;

/* A start is requested: drop how the unit ended. The causes of its stop are kept until it runs. */
void systemd_trace_begin(SystemdTrace *t);
/* The unit was observed running, after 'signal' signals: its end will be observed, too. 'stopping': its stop
 * may have begun. */
void systemd_trace_running(SystemdTrace *t, uint64_t signal, bool stopping);
void systemd_trace_change(SystemdTrace *t, const SystemdChange *change);
void systemd_trace_job_canceled(SystemdTrace *t, uint64_t now_us);
/* 'name', to which the unit is bound or with which it conflicts, changed when the unit was stopped. */
void systemd_trace_stopped_for(SystemdTrace *t, const char *name);
/* Return whether 'name' may have caused the stop. Other units that are required, or did not change, do not
 * prevent the next start. */
bool systemd_trace_may_be_for(const SystemdTrace *t, const char *name);

/* Units that recently left the active state or got a job, with the last such time, and the number of signals
 * before the one that said so. */
enum { SYSTEMD_MOVES_MAX = 8192 };

typedef struct SystemdMove {
        uint64_t name, when_us, signal; /* 'name': hash */
        UT_hash_handle hh;
} SystemdMove;

/* '*moves': by name, oldest first. Without memory, the name is not added. */
void systemd_moves_add(SystemdMove **moves, const char *name, uint64_t when_us, uint64_t signal);
/* Return whether 'name' changed at 'since_us' or later, and after 'since_signal' signals. */
bool systemd_moves_have(const SystemdMove *moves, const char *name, uint64_t since_us, uint64_t since_signal);
void systemd_moves_clear(SystemdMove **moves);
