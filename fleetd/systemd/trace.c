#include "fleetd/systemd/trace.h"

void systemd_trace_begin(SystemdTrace *t) {
        if (t->running)
                return;
        t->end = SYSTEMD_END_UNKNOWN;
        t->by_job = t->undecided = t->killed = t->skipped = false;
        t->canceled_us = 0;
}

void systemd_trace_running(SystemdTrace *t, uint64_t signal, bool stopping) {
        if (!t->running) {
                t->n_movers = 0;
                t->begun_signal = stopping ? 0 : signal;
        }
        systemd_trace_begin(t);
        t->running = true;
}

static void trace_ended(SystemdTrace *t, const SystemdChange *c) {
        bool was_active = c->left_us != t->left_us; /* a oneshot unit ends during its start job */

        t->running = false;
        if ((was_active || t->canceled_us != 0) && (t->by_job || c->job != 0)) {
                t->end = t->with_target ? SYSTEMD_END_STOPPED_FOR : SYSTEMD_END_STOPPED;
                t->undecided = !t->with_target;
                t->stopped_us = was_active ? c->left_us : t->canceled_us;
        } else if (t->skipped)
                t->end = SYSTEMD_END_SKIPPED;
        else if (streq(c->active, "failed"))
                t->end = SYSTEMD_END_FAILED;
        else
                t->end = t->killed ? SYSTEMD_END_STOPPED : SYSTEMD_END_ITSELF;
        t->by_job = t->with_target = false;
}

void systemd_trace_change(SystemdTrace *t, const SystemdChange *c) {
        bool inactive = streq(c->active, "inactive") || streq(c->active, "failed");

        if (streq(c->active, "deactivating")) {
                systemd_trace_running(t, c->signal, true);
                t->by_job |= c->job != 0;
        } else if (!inactive) {
                systemd_trace_running(t, c->signal, false);
                t->by_job = false;
                t->left_us = c->left_us;
                if (streq(c->active, "active"))
                        t->canceled_us = 0;
        } else if (t->running && c->ended_us != 0)
                trace_ended(t, c);
        else if (!t->running && c->checked_us != 0 && c->checked_us != t->checked_us &&
                 (!c->condition || t->skipped))
                t->end = SYSTEMD_END_SKIPPED;
        if (c->checked_us != 0)
                t->checked_us = c->checked_us;
}

void systemd_trace_job_canceled(SystemdTrace *t, uint64_t now_us) {
        if (t->running)
                t->canceled_us = now_us;
}

/* FNV-1a. A collision costs one superfluous start. */
static uint64_t trace_hash(const char *name) {
        uint64_t h = UINT64_C(14695981039346656037);

        for (const char *p = name; *p; p++)
                h = (h ^ (unsigned char) *p) * UINT64_C(1099511628211);
        return h;
}

void systemd_trace_stopped_for(SystemdTrace *t, const char *name) {
        t->end = SYSTEMD_END_STOPPED_FOR;
        if (t->n_movers < SYSTEMD_MOVERS)
                t->movers[t->n_movers] = trace_hash(name);
        if (t->n_movers <= SYSTEMD_MOVERS)
                t->n_movers++;
}

bool systemd_trace_may_be_for(const SystemdTrace *t, const char *name) {
        uint64_t hash = trace_hash(name);

        for (unsigned i = 0; t->n_movers <= SYSTEMD_MOVERS && i < t->n_movers; i++)
                if (t->movers[i] == hash)
                        return true;
        return t->n_movers == 0 || t->n_movers > SYSTEMD_MOVERS;
}

void systemd_moves_add(SystemdMove **moves, const char *name, uint64_t when_us, uint64_t signal) {
        uint64_t hash = trace_hash(name);
        SystemdMove *move;

        HASH_FIND(hh, *moves, &hash, sizeof(hash), move);
        if (!move && HASH_COUNT(*moves) >= SYSTEMD_MOVES_MAX)
                move = *moves;
        if (move)
                HASH_DEL(*moves, move);
        else if (!(move = NEW0(SystemdMove, 1)))
                return;
        *move = (SystemdMove) { .name = hash, .when_us = when_us, .signal = signal };
        HASH_ADD(hh, *moves, name, sizeof(move->name), move);
        if (!TABLE_ADDED(move))
                free(move);
}

bool systemd_moves_have(const SystemdMove *moves, const char *name, uint64_t since_us,
                        uint64_t since_signal) {
        uint64_t hash = trace_hash(name);
        const SystemdMove *move;

        HASH_FIND(hh, moves, &hash, sizeof(hash), move);
        return move && move->when_us >= since_us && move->signal >= since_signal;
}

void systemd_moves_clear(SystemdMove **moves) {
        SystemdMove *move, *next;

        HASH_ITER(hh, *moves, move, next) {
                HASH_DEL(*moves, move);
                free(move);
        }
}
