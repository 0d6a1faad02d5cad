#include "fleetd/features/health/health.h"

#include <limits.h>

/* Another process, another text or other checks: nothing that was measured counts. */
static void health_begin(HealthState *s, const SystemdUnit *seen, bool same_run, bool same_checks) {
        bool same_text = s->observed && streq(s->hash, seen->hash);

        /* Restarts count since the start of the text. A text that was put in force without a start has the
         * restarts of the former one in its number, and so has a unit that is older than this daemon. */
        if (!same_text) {
                s->n_discarded = s->observed && !same_run ? 0 : seen->n_restarts;
                s->ended[0] = 0;
        }
        s->inherits = !s->observed;
        s->observed = true;
        s->served &= same_text && same_checks;
        s->available = s->healthy = false;
        s->running &= same_run;
        memset(s->checks, 0, sizeof(s->checks));
        s->why[0] = s->unchecked[0] = 0;
        snprintf(s->invocation, sizeof(s->invocation), "%s", seen->invocation_id);
        snprintf(s->hash, sizeof(s->hash), "%s", seen->hash);
}

/* Return the state of all checks together: each must pass. */
static UnitHealth health_of_checks(const HealthState *s) {
        UnitHealth health = UNIT_HEALTH_PASSING;

        for (size_t i = 0; i < s->n_checks; i++) {
                if (s->checks[i].state == UNIT_HEALTH_FAILING)
                        return UNIT_HEALTH_FAILING;
                if (s->checks[i].state != UNIT_HEALTH_PASSING)
                        health = UNIT_HEALTH_STARTING;
        }
        return health;
}

static bool health_last_failed(const HealthState *s) {
        for (size_t i = 0; i < s->n_checks; i++)
                if (s->checks[i].last_failed)
                        return true;
        return false;
}

/* Return whether the last results of a check, at least so many, are unknown. */
static bool health_last_unknown(const HealthState *s, unsigned n) {
        for (size_t i = 0; i < s->n_checks; i++)
                if (s->checks[i].n_unknown >= n)
                        return true;
        return false;
}

/* An available unit stays so until a check is failing. Before, a single probe that did not pass is an
 * interruption: otherwise an instance that answers every second probe would become available. */
static void health_watch(HealthState *s, uint64_t watch_ms, uint64_t now_ms) {
        bool healthy = s->running && s->health == UNIT_HEALTH_PASSING &&
                       (s->available || (!health_last_failed(s) && !health_last_unknown(s, 1)));

        if (healthy && !s->healthy)
                s->healthy_ms = now_ms;
        s->healthy = healthy;
        s->available = healthy && (s->available || now_ms - s->healthy_ms >= watch_ms);
        s->due_ms = healthy && !s->available ? s->healthy_ms + watch_ms : 0;
        s->served |= s->available;
        s->lapsed = s->served && !s->available;
        if (s->available) {
                s->n_actions = 0;
                s->n_discarded = s->n_restarts;
                s->ended[0] = 0;
        }
}

/* Keep why the unit ended, while systemd is about to restart it: the next run has no trace of that. */
static void health_note_end(HealthState *s, const SystemdUnit *seen) {
        _cleanup_text_ Text reason = {};

        if (s->ended[0] || !systemd_is_restarting(seen))
                return;
        systemd_append_reason(&reason, seen);
        text_format(s->ended, sizeof(s->ended), "%s", reason.chars ?: "");
}

static void health_update(HealthState *s, const HealthOptions *options, uint64_t now_ms) {
        s->health = s->running ? health_of_checks(s) : s->at_rest;
        if (!s->running || !health_last_unknown(s, MAX(options->failures, 1u)))
                s->unchecked[0] = 0;
        if (!s->running || s->health == UNIT_HEALTH_FAILING)
                s->inherits = false;
        health_watch(s, options->watch_ms, now_ms);
        if (s->health != UNIT_HEALTH_NONE && s->n_restarts - s->n_discarded >= HEALTH_RESTARTS_MAX) {
                s->health = UNIT_HEALTH_FAILING;
                if (s->ended[0])
                        text_format(s->why, sizeof(s->why), "%s, %d times", s->ended, HEALTH_RESTARTS_MAX);
                else
                        text_format(s->why, sizeof(s->why),
                                    "systemd restarted it %d times before it was available",
                                    HEALTH_RESTARTS_MAX);
        } else if (!s->running || s->health != UNIT_HEALTH_FAILING)
                s->why[0] = 0;
}

static UnitHealth health_at_rest(const HealthState *s, const SystemdUnit *seen) {
        if (streq(seen->active, "failed"))
                return s->former_end ? UNIT_HEALTH_NONE : UNIT_HEALTH_FAILING;
        return streq(seen->active, "activating") ? UNIT_HEALTH_STARTING : UNIT_HEALTH_NONE;
}

/* Whether the text changed in [X-Fleet] alone, and the same process runs on: that changes no health. The
 * result of a check does not count for other checks. */
static bool health_continues(const HealthState *s, const HealthOptions *options, bool same_run,
                             bool running) {
        return same_run && running && s->running && options->process && *s->process &&
               streq(s->process, options->process) && s->n_checks == 0 && options->n_checks == 0;
}

void health_observe(HealthState *s, const SystemdUnit *seen, const HealthOptions *options, uint64_t now_ms) {
        bool same_run = s->observed && streq(s->invocation, seen->invocation_id),
             same_checks = streq(s->policy, options->policy ?: ""),
             running = active_state_is_up(seen->active);

        if (health_continues(s, options, same_run, running))
                snprintf(s->hash, sizeof(s->hash), "%s", seen->hash);
        else if (!same_run || !streq(s->hash, seen->hash) || !same_checks) {
                s->former_end = same_run && !running;
                health_begin(s, seen, same_run, same_checks);
        }
        s->former_end &= !options->in_force;
        snprintf(s->policy, sizeof(s->policy), "%s", options->policy ?: "");
        snprintf(s->process, sizeof(s->process), "%s", options->process ?: "");
        s->n_checks = MIN(options->n_checks, (size_t) HEALTH_CHECKS_MAX);
        if (running && !s->running)
                s->running_ms = now_ms;
        s->running = running;
        s->at_rest = health_at_rest(s, seen);
        s->served &= !streq(seen->active,
                            "inactive"); /* it was stopped, and is not expected to be available */
        if (running || s->at_rest != UNIT_HEALTH_NONE) { /* of an inactive unit there is no number */
                s->n_restarts = seen->n_restarts;
                s->n_discarded = MIN(s->n_discarded, s->n_restarts); /* a start has reset it */
        }
        health_note_end(s, seen);
        health_update(s, options, now_ms);
}

void health_begin_watch(HealthState *s) {
        s->available = s->healthy = s->inherits = s->served = s->lapsed = false;
}

void health_inherit(HealthState *s, const UnitState *published, const HealthOptions *options,
                    uint64_t now_ms) {
        if (!s->inherits || !s->running || !published || !*s->invocation ||
            !streq(published->invocation, s->invocation) || !same_string(published->hash, s->hash) ||
            (published->health != UNIT_HEALTH_PASSING && published->health != UNIT_HEALTH_FAILING))
                return;
        for (size_t i = 0; i < s->n_checks; i++)
                if (s->checks[i].state == UNIT_HEALTH_NONE) {
                        s->checks[i].state = published->health;
                        s->checks[i].passed = true; /* or its start period is over */
                }
        if (published->health == UNIT_HEALTH_FAILING)
                text_format(s->why, sizeof(s->why), "%s", published->why ?: "");
        s->inherits = false;
        s->available |= published->available; /* or for the watch time of this daemon */
        s->served |= published->lapsed;
        health_update(s, options, now_ms);
}

bool health_is_undecided(const HealthState *s) {
        return s->inherits && s->running && s->health == UNIT_HEALTH_STARTING;
}

static void health_set_why(HealthState *s, size_t i, const char *why, uint64_t now_ms) {
        unsigned n = s->checks[i].n_failed;

        if (n > 1 && !s->checks[i].passed)
                text_format(s->why, sizeof(s->why),
                            "%s, %u times; the check has not passed in the %llu s since the start "
                            "(HealthStartSec=)",
                            why ?: "", n, (unsigned long long) (now_ms - s->running_ms) / 1000);
        else if (n > 1)
                text_format(s->why, sizeof(s->why), "%s, %u times", why ?: "", n);
        else
                text_format(s->why, sizeof(s->why), "%s", why ?: "");
        s->why_check = i;
}

/* Failures do not count in the start period, unless the check has passed. */
static bool health_counts(const HealthState *s, const HealthCheck *check, const HealthOptions *options,
                          uint64_t now_ms) {
        return check->passed || now_ms - s->running_ms >= options->start_ms;
}

bool health_is_unknown(const HealthResult *result, size_t i, const HealthOptions *options) {
        return result->unknown || (result->not_executed && options->ran & UINT32_C(1) << i);
}

/* An error of this host is no fact about the unit: it stays what it was. */
static void health_note_unknown(HealthState *s, HealthCheck *check, const HealthResult *result,
                                const HealthOptions *options) {
        check->n_unknown = MIN(check->n_unknown + 1, (unsigned) INT_MAX);
        if (check->n_unknown >= options->failures && !s->unchecked[0])
                text_format(s->unchecked, sizeof(s->unchecked), "%s", result->why ?: "unknown");
}

void health_count(HealthState *s, size_t i, const HealthResult *result, const HealthOptions *options,
                  uint64_t now_ms) {
        HealthCheck *check = &s->checks[i];

        if (i >= s->n_checks || !s->running || result->late_ms > HEALTH_LATE_MAX_MS)
                return;
        if (health_is_unknown(result, i, options)) {
                health_note_unknown(s, check, result, options);
                health_update(s, options, now_ms);
                return;
        }
        check->n_unknown = 0;
        check->last_failed = !result->passed;
        check->not_executed = result->not_executed;
        if (result->passed) {
                check->passed = true;
                check->n_failed = 0;
                check->n_passed = MIN(check->n_passed + 1, (unsigned) INT_MAX);
                if (check->n_passed >= options->successes && check->state != UNIT_HEALTH_PASSING) {
                        check->state = UNIT_HEALTH_PASSING;
                        if (s->why_check == i)
                                s->why[0] = 0;
                }
        } else if (health_counts(s, check, options, now_ms)) {
                check->n_passed = 0;
                check->n_failed = MIN(check->n_failed + 1, (unsigned) INT_MAX);
                if (check->n_failed >= options->failures)
                        check->state = UNIT_HEALTH_FAILING;
                if (check->state == UNIT_HEALTH_FAILING && !s->why[0]) /* a changed reason needs no write */
                        health_set_why(s, i, result->why, now_ms);
        }
        health_update(s, options, now_ms);
}

/* A state that was published before this daemon began is no proof, nor is one that cannot be checked: the
 * unit may have recovered since. */
bool health_is_failing_check(const HealthState *s) {
        for (size_t i = 0; s->running && i < s->n_checks; i++)
                if (s->checks[i].state == UNIT_HEALTH_FAILING && s->checks[i].n_failed > 0 &&
                    s->checks[i].n_unknown == 0 && !s->checks[i].not_executed)
                        return true;
        return false;
}

bool health_is_suspended(size_t n_unhealthy, size_t n_set) {
        return n_unhealthy >= 2 && n_unhealthy > n_set - MIN(n_unhealthy, n_set);
}

bool health_must_restart(const HealthState *s, uint64_t now_ms, uint64_t *ret_due_ms) {
        enum { DOUBLINGS = 5 }; /* 30 s to 10 min */
        uint64_t due_ms = now_ms;

        *ret_due_ms = 0;
        if (!health_is_failing_check(s))
                return false;
        if (s->n_actions > 0)
                due_ms = s->restarted_ms +
                         MIN((uint64_t) HEALTH_RESTART_MIN_MS << MIN(s->n_actions - 1, (unsigned) DOUBLINGS),
                             (uint64_t) HEALTH_RESTART_MAX_MS);
        *ret_due_ms = due_ms > now_ms ? due_ms : 0;
        return due_ms <= now_ms;
}

void health_count_restart(HealthState *s, uint64_t now_ms) {
        s->restarted_ms = now_ms;
        s->n_actions++;
}
