#include "fleetd/features/health/checks.h"

enum {
        GRAIN_MS = 500, /* probes of checks that have passed start at multiples of this */
        URGENT_GRAIN_MS = 100,
        URGENT_MS = 1000,  /* interval until the first pass */
        BURST_MS = 500,    /* probes of this time may start at once */
        WINDOW_MS = 60000, /* for which a stretched interval is reported */
};

typedef struct CheckSet CheckSet;

typedef struct CheckSlot {
        CheckSet *set;
        const UnitCheck *check;
        uint64_t due_ms;
        uint64_t late_ms;    /* of the probe under way */
        void *probe;         /* NULL: none is under way */
        bool passed, probed; /* at least once */
} CheckSlot;

/* The checks of one unit. */
struct CheckSet {
        Checks *checks;
        char unit[UNIT_NAME_MAX + 1];
        char invocation[INVOCATION_ID_SIZE], hash[UNIT_HASH_SIZE];
        char *user;
        uint64_t interval_ms, timeout_ms;
        HealthPolicy policy; /* its checks are copies; the other members are not used */
        CheckSlot *slots;
        size_t n;
        UT_hash_handle hh;
};

struct Checks {
        Loop *loop; /* borrowed, as the next one */
        Prober *prober;
        char machine_id[MACHINE_ID_SIZE];
        ChecksResult *on_result;
        void *userdata;
        CheckSet *sets; /* by unit */
        Timer tick;
        uint64_t demand;   /* probes in 1000 s, if no interval stretches */
        uint64_t spent_ms; /* rate limit: the time at which the gaps of all probes so far have passed */
        size_t n_exec;     /* under way */
        uint64_t worst_since_ms;
        ChecksCounts counts;
};

/* -- Times -- */

static uint64_t checks_hash(const Checks *c, const CheckSet *set, size_t i) {
        uint64_t hash = UINT64_C(14695981039346656037) + i; /* FNV-1a */

        for (const char *s = set->unit; *s; s++)
                hash = (hash ^ (unsigned char) *s) * UINT64_C(1099511628211);
        for (const char *s = c->machine_id; *s; s++)
                hash = (hash ^ (unsigned char) *s) * UINT64_C(1099511628211);
        return hash ^ hash >> 32;
}

/* Return the interval with all checks of the host. */
static uint64_t checks_stretch(const Checks *c, uint64_t interval_ms) {
        return interval_ms * MAX(c->demand, (uint64_t) CHECKS_PER_SECOND * 1000) / (CHECKS_PER_SECOND * 1000);
}

static uint64_t checks_align(const CheckSlot *slot, uint64_t due_ms) {
        uint64_t grain_ms = slot->passed ? GRAIN_MS : URGENT_GRAIN_MS;

        return (due_ms + grain_ms - 1) / grain_ms * grain_ms;
}

static void checks_wake_at(Checks *c, uint64_t due_ms) {
        (void) timer_start_by(&c->tick, c->loop, due_ms, 0);
}

static void checks_schedule(Checks *c, CheckSlot *slot, uint64_t delay_ms) {
        slot->due_ms = checks_align(slot, loop_now_ms(c->loop) + delay_ms);
        checks_wake_at(c, slot->due_ms);
}

/* -- Probes -- */

/* Remember the longest interval of the last minute. */
static void checks_note_wait(Checks *c, const CheckSlot *slot, uint64_t waited_ms) {
        uint64_t wanted_ms = slot->set->interval_ms, now_ms = loop_now_ms(c->loop),
                 interval_ms = checks_stretch(c, wanted_ms) + waited_ms;

        if (!slot->passed || !slot->probed || interval_ms < wanted_ms + wanted_ms / 5)
                return;
        if (c->counts.worst_interval_ms > interval_ms && now_ms - c->worst_since_ms < WINDOW_MS)
                return;
        c->counts.worst_interval_ms = interval_ms;
        c->counts.worst_wanted_ms = wanted_ms;
        c->worst_since_ms = now_ms;
}

static void checks_on_done(void *userdata, const HealthResult *result) {
        CheckSlot *slot = userdata;
        CheckSet *set = slot->set;
        Checks *c = set->checks;
        HealthResult with_late = *result;
        bool first = result->passed && !slot->passed;
        uint64_t interval_ms = checks_stretch(c, set->interval_ms);
        char unit[UNIT_NAME_MAX + 1];

        with_late.late_ms = MAX(result->late_ms, slot->late_ms);
        slot->probe = NULL;
        slot->probed = true;
        c->counts.n_in_flight--;
        c->n_exec -= slot->check->kind == UNIT_CHECK_EXEC;
        if (with_late.late_ms > HEALTH_LATE_MAX_MS)
                c->counts.late++;
        else if (result->passed)
                c->counts.passed++;
        else
                c->counts.failed++;
        slot->passed |= result->passed;
        if (first)
                interval_ms -= checks_hash(c, set, (size_t) (slot - set->slots)) % (interval_ms / 2 + 1);
        checks_schedule(c, slot, slot->passed ? interval_ms : MIN(interval_ms, (uint64_t) URGENT_MS));

        memcpy(unit, set->unit, sizeof(unit)); /* the callback may stop the checks of the unit */
        c->on_result(c->userdata, unit, (size_t) (slot - set->slots), &with_late);
}

static void checks_start(Checks *c, CheckSlot *slot, uint64_t late_ms) {
        ProbeRequest request = { .check = slot->check,
                                 .timeout_ms = slot->set->timeout_ms,
                                 .user = slot->set->user };

        slot->late_ms = late_ms;
        slot->probe = c->prober->ops->start(c->prober, &request, checks_on_done, slot);
        if (!slot->probe) { /* no memory */
                checks_schedule(c, slot, URGENT_MS);
                return;
        }
        c->counts.n_in_flight++;
        c->n_exec += slot->check->kind == UNIT_CHECK_EXEC;
        c->spent_ms += 1000 / CHECKS_PER_SECOND;
}

static int checks_by_due(const void *a, const void *b) {
        const CheckSlot *one = *(CheckSlot *const *) a, *two = *(CheckSlot *const *) b;
        int order;

        if (one->due_ms != two->due_ms)
                return one->due_ms < two->due_ms ? -1 : 1;
        order = strcmp(one->set->unit, two->set->unit);
        return order != 0 ? order : (one > two) - (one < two);
}

/* Return whether the limits of the host allow the probe now. */
static bool checks_allow(const Checks *c, const CheckSlot *slot, uint64_t now_ms) {
        return c->counts.n_in_flight < CHECKS_IN_FLIGHT && c->spent_ms < now_ms + BURST_MS &&
               (slot->check->kind != UNIT_CHECK_EXEC || c->n_exec < CHECKS_EXEC);
}

/* Start the probes that are due, the longest waiting first. */
static void checks_on_tick(void *userdata) {
        Checks *c = userdata;
        uint64_t now_ms = loop_now_ms(c->loop), late_ms = now_ms - MIN(now_ms, c->tick.due_ms),
                 next_ms = UINT64_MAX;
        _cleanup_free_ CheckSlot **due = NEW0(CheckSlot *, c->counts.n_checks + 1);
        size_t n = 0;

        if (!due) {
                checks_wake_at(c, now_ms + URGENT_MS);
                return;
        }
        for (CheckSet *set = c->sets; set; set = set->hh.next)
                for (size_t i = 0; i < set->n; i++) {
                        if (set->slots[i].probe)
                                continue;
                        if (set->slots[i].due_ms <= now_ms)
                                due[n++] = &set->slots[i];
                        else
                                next_ms = MIN(next_ms, set->slots[i].due_ms);
                }
        if (n > 0)
                qsort(due, n, sizeof(*due), checks_by_due);
        c->spent_ms = MAX(c->spent_ms, now_ms);
        for (size_t i = 0; i < n; i++) {
                if (checks_allow(c, due[i], now_ms)) {
                        checks_note_wait(c, due[i],
                                         now_ms - due[i]->due_ms - MIN(late_ms, now_ms - due[i]->due_ms));
                        checks_start(c, due[i], late_ms);
                } else
                        next_ms = MIN(next_ms, now_ms + URGENT_GRAIN_MS);
        }
        if (next_ms < UINT64_MAX)
                checks_wake_at(c, next_ms);
}

/* -- Units -- */

static void checks_free_set(Checks *c, CheckSet *set) {
        for (size_t i = 0; i < set->n; i++) {
                if (!set->slots[i].probe)
                        continue;
                c->prober->ops->cancel(c->prober, set->slots[i].probe);
                c->counts.n_in_flight--;
                c->n_exec -= set->slots[i].check->kind == UNIT_CHECK_EXEC;
        }
        c->counts.n_checks -= set->n;
        c->demand -= set->n * (1000000 / set->interval_ms);
        HASH_DEL(c->sets, set);
        health_policy_done(&set->policy);
        free(set->slots);
        free(set->user);
        free(set);
}

static int checks_copy(HealthPolicy *to, const HealthPolicy *from) {
        to->checks = NEW0(UnitCheck, from->n_checks + 1);
        if (!to->checks)
                return -ENOMEM;
        for (size_t i = 0; i < from->n_checks; i++) {
                const UnitCheck *check = &from->checks[i];
                UnitCheck *copy = &to->checks[to->n_checks++];

                *copy = (UnitCheck) { .kind = check->kind,
                                      .port = check->port,
                                      .address = check->address ? strdup(check->address) : NULL,
                                      .target = check->target ? strdup(check->target) : NULL };
                memcpy(copy->port_name, check->port_name, sizeof(copy->port_name));
                if ((check->address && !copy->address) || (check->target && !copy->target))
                        return -ENOMEM;
        }
        return 0;
}

static CheckSet *checks_new_set(Checks *c, const char *unit, const HealthPolicy *policy, const char *user) {
        CheckSet *set = NEW0(CheckSet, 1);

        if (!set)
                return NULL;
        set->checks = c;
        set->interval_ms = health_interval_ms(policy);
        set->timeout_ms = health_timeout_ms(policy);
        set->user = strdup(user);
        set->slots = NEW0(CheckSlot, policy->n_checks + 1);
        snprintf(set->unit, sizeof(set->unit), "%s", unit);
        if (set->user && set->slots && checks_copy(&set->policy, policy) == 0) {
                HASH_ADD_STR(c->sets, unit, set);
                if (TABLE_ADDED(set))
                        return set;
        }
        health_policy_done(&set->policy);
        free(set->slots);
        free(set->user);
        free(set);
        return NULL;
}

int checks_run(Checks *c, const char *unit, const HealthPolicy *policy, const char *user,
               const char *invocation, const char *hash, bool passed) {
        CheckSet *set;

        HASH_FIND_STR(c->sets, unit, set);
        if (set && streq(set->invocation, invocation) && streq(set->hash, hash))
                return 0;
        if (set)
                checks_free_set(c, set);
        set = checks_new_set(c, unit, policy, user);
        if (!set)
                return -ENOMEM;
        snprintf(set->invocation, sizeof(set->invocation), "%s", invocation);
        snprintf(set->hash, sizeof(set->hash), "%s", hash);
        set->n = policy->n_checks;
        c->counts.n_checks += set->n;
        c->demand += set->n * (1000000 / set->interval_ms);
        for (size_t i = 0; i < set->n; i++) {
                set->slots[i] = (CheckSlot) { .set = set, .check = &set->policy.checks[i], .passed = passed };
                checks_schedule(c, &set->slots[i], passed ? checks_hash(c, set, i) % set->interval_ms : 0);
        }
        return 0;
}

void checks_stop(Checks *c, const char *unit) {
        CheckSet *set;

        HASH_FIND_STR(c->sets, unit, set);
        if (set)
                checks_free_set(c, set);
}

int checks_new(Checks **ret, Loop *loop, Prober *prober, const char *machine_id, ChecksResult *on_result,
               void *userdata) {
        Checks *c = NEW0(Checks, 1);

        if (!c)
                return -ENOMEM;
        *c = (Checks) { .loop = loop,
                        .prober = prober,
                        .on_result = on_result,
                        .userdata = userdata,
                        .tick = TIMER(checks_on_tick, c) };
        snprintf(c->machine_id, sizeof(c->machine_id), "%s", machine_id);
        *ret = c;
        return 0;
}

Checks *checks_free(Checks *c) {
        CheckSet *set, *next;

        if (!c)
                return NULL;
        timer_stop(&c->tick);
        HASH_ITER(hh, c->sets, set, next)
        checks_free_set(c, set);
        free(c);
        return NULL;
}

const ChecksCounts *checks_counts(const Checks *c) {
        return c ? &c->counts : NULL;
}

void checks_append_problem(const Checks *c, Text *t) {
        if (!c || c->counts.worst_interval_ms == 0 || loop_now_ms(c->loop) - c->worst_since_ms >= WINDOW_MS)
                return;
        text_append(t, "health checks run every ");
        span_describe(c->counts.worst_interval_ms / 1000 * 1000, t);
        text_append(t, " instead of ");
        span_describe(c->counts.worst_wanted_ms, t);
        text_printf(t, ": %zu checks", c->counts.n_checks);
}
