#include "tests/lib/test.h"
#include "tests/lib/alloc.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/words_of.h"

Fixture fixture;

/* -- The interfaces that the engine uses -- */

int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);
int __wrap_timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms);
void __wrap_timer_stop(Timer *timer);
void __wrap_loop_defer(Loop *loop, Deferred *deferred);
void __wrap_deferred_cancel(Deferred *deferred);
void __wrap_kv_state(KvStore *store, KvState *ret);
uint64_t __wrap_kv_leads(const KvStore *store);
uint64_t __wrap_kv_cluster_ms(const KvStore *store);
const Cluster *__wrap_registry_cluster(const Registry *r);
bool __wrap_registry_ready(const Registry *r);
bool __wrap_registry_is_current(const Registry *r);
KvStore *__wrap_registry_store(const Registry *r);
void __wrap_registry_observe(Registry *r, RegistryObserver *listener);
void __wrap_registry_unobserve(Registry *r, RegistryObserver *listener);
void __wrap_registry_cancel(Registry *r, const void *userdata);
int __wrap_registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n,
                           size_t *ret_n, RegistryDone done, void *userdata);
const AssignmentChange *__wrap_registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                           size_t n);
int __wrap_registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata);
void __wrap_registry_note(Registry *r, const HistoryNote *notes, size_t n);
int __real_engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                       const EnginePlanLimits *limits, EnginePlan *ret);
int __wrap_engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                       const EnginePlanLimits *limits, EnginePlan *ret);

static Clock *fixture_clock(const Timer *timer) {
        if (streq(timer->name, "waits.c:waits_on_timer"))
                return &fixture.waits;
        return streq(timer->name, "engine.c:engine_on_resync") ? &fixture.resync : &fixture.retry;
}

int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms) {
        if (fixture.without_timers)
                return -ENOMEM;
        *fixture_clock(timer) = (Clock) { .timer = timer, .armed = true, .delay_ms = delay_ms };
        return 0;
}

int __wrap_timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms) {
        return __wrap_timer_start(timer, loop, due_ms - loop_now_ms(loop));
}

void __wrap_timer_stop(Timer *timer) {
        fixture_clock(timer)->armed = false;
}

void __wrap_loop_defer(Loop *loop, Deferred *deferred) {
        fixture.wake = deferred;
        fixture.woken = true;
        fixture.n_wakes++;
}

void __wrap_deferred_cancel(Deferred *deferred) {
        fixture.woken = false;
}

void __wrap_kv_state(KvStore *store, KvState *ret) {
        *ret = fixture.state;
}

uint64_t __wrap_kv_leads(const KvStore *store) {
        return fixture.state.role == KV_ROLE_LEADER && fixture.state.ready ? fixture.state.term : 0;
}

uint64_t __wrap_kv_cluster_ms(const KvStore *store) {
        return fixture.view.cluster.now_ms;
}

/* The only registry that the engine may call. */
static Registry *fixture_registry(void) {
        return (Registry *) &fixture;
}

const Cluster *__wrap_registry_cluster(const Registry *r) {
        assert_ptr_equal(r, fixture_registry());
        return &fixture.view.cluster;
}

bool __wrap_registry_ready(const Registry *r) {
        return fixture.ready;
}

bool __wrap_registry_is_current(const Registry *r) {
        return fixture.current;
}

KvStore *__wrap_registry_store(const Registry *r) {
        return NULL;
}

void __wrap_registry_observe(Registry *r, RegistryObserver *listener) {
        fixture.listener = listener;
}

void __wrap_registry_unobserve(Registry *r, RegistryObserver *listener) {
        fixture.listener = NULL;
}

void __wrap_registry_cancel(Registry *r, const void *userdata) {
        if (fixture.userdata == userdata)
                fixture.done = NULL;
}

/* One transaction at a time. */
static int fixture_call(uint64_t term, const AssignmentChange *changes, size_t n, RegistryDone done,
                        void *userdata) {
        int r = fixture.error;

        assert_false(fixture.done != NULL);
        assert_true(fixture.n_calls < CALLS_MAX && n <= CHANGES_MAX);
        fixture.calls[fixture.n_calls++] = (Call) { .n = n, .term = term, .n_plans = fixture.n_plans };
        fixture.error = 0;
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                fixture.changes[i] = changes[i];
        fixture.n_changes = n;
        fixture.done = done;
        fixture.userdata = userdata;
        return 0;
}

int __wrap_registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n,
                           size_t *ret_n, RegistryDone done, void *userdata) {
        assert_true(n > 0);
        *ret_n = fixture.fits > 0 ? MIN(n, fixture.fits) : n;
        return fixture_call(term, changes, *ret_n, done, userdata);
}

int __wrap_registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata) {
        return fixture_call(term, NULL, 0, done, userdata);
}

void __wrap_registry_note(Registry *r, const HistoryNote *notes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(notes[i].kind, HISTORY_WAITING);
                snprintf(fixture.note, sizeof(fixture.note), "%s%s%.1s: %s", notes[i].unit,
                         notes[i].machine ? " on " : "", notes[i].machine ?: "", words_of(notes[i].verdict));
        }
        fixture.n_notes += (unsigned) n;
}

const AssignmentChange *__wrap_registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                           size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (!fixture.refused || !streq(changes[i].unit, fixture.refused))
                        continue;
                fixture.refusal = changes[i];
                fixture.refusal.machine[0] += fixture.other == FIELD_MACHINE;
                fixture.refusal.expected_index += fixture.other == FIELD_ASSIGNMENT;
                fixture.refusal.unit_index += fixture.other == FIELD_UNIT;
                fixture.refusal.presence_index += fixture.other == FIELD_PRESENCE;
                return &fixture.refusal;
        }
        return NULL;
}

int __wrap_engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                       const EnginePlanLimits *limits, EnginePlan *ret) {
        Planned *p = &fixture.plans[fixture.n_plans];
        int r = fixture.plan_error;

        assert_true(fixture.n_plans < PLANS_MAX);
        fixture.n_plans++;
        *p = (Planned) {
                .n = n_units, .brake_ms = brake_ms, .work_max = limits->work_max, .freed = limits->freed
        };
        for (size_t i = 0; i < n_units; i++)
                snprintf(p->names + strlen(p->names), sizeof(p->names) - strlen(p->names), "%s ", units[i]);
        fixture.plan_error = 0;
        if (r < 0)
                return r;

        assert_int_equal(__real_engine_plan(cluster, units, n_units, brake_ms, limits, ret), 0);
        p->work = ret->work;
        ret->freed = fixture.freed;
        ret->again_ms = fixture.again_ms ?: ret->again_ms;
        for (size_t i = 0; i < fixture.n_rest; i++)
                assert_int_equal(names_add(&ret->rest, fixture.rest[i], strlen(fixture.rest[i])), 0);
        fixture.n_rest = 0;
        alloc_fail_at(fixture.fail_after_plan);
        fixture.fail_after_plan = 0;
        return 0;
}

void fixture_on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        fixture.n_warnings += priority == LOG_WARNING;
        fixture.n_logged += fields->message_id != NULL;
        if (!starts_with(message, "the cluster was recovered or restored"))
                return;
        fixture.n_notices++;
        snprintf(fixture.notice, sizeof(fixture.notice), "%s", message);
}

/* -- Events -- */

/* Run all passes that need neither an answer nor time. */
void fixture_turn(void) {
        for (unsigned i = 0; fixture.woken; i++) {
                if (i == TURNS_MAX)
                        fail_msg("the engine has been woken %d times", TURNS_MAX);
                fixture.woken = false;
                fixture.wake->run(fixture.wake->userdata);
        }
}

void fixture_engine(void) {
        assert_int_equal(
                engine_new(&fixture.engine,
                           &(ComponentHost) { .io.loop = &fixture.loop.base, .registry = fixture_registry() },
                           0),
                0);
}

void fixture_begin(void) {
        fixture_engine();
        fixture_turn();
}

void fixture_fire(Clock *c) {
        assert_true(c->armed);
        c->armed = false;
        c->timer->fire(c->timer->userdata);
        fixture_turn();
}

void fixture_report(RegistryChange change) {
        fixture.listener->on_change(fixture.listener->userdata, &change);
}

/* The cluster view becomes current, and the engine is notified. */
void fixture_changed(RegistryChange change) {
        fixture.view.cluster.index = fixture.view.index;
        fixture_report(change);
        fixture_turn();
}

void fixture_answer_at(KvStatus status, uint64_t index) {
        RegistryDone done = fixture.done;

        assert_true(done != NULL);
        fixture.done = NULL;
        done(fixture.userdata, status, status == KV_OK ? "" : "rejected by the test", index);
        fixture_turn();
}

/* The events of the change follow with fixture_notify(). */
void fixture_answer(KvStatus status) {
        fixture_answer_at(status, fixture.view.index + 1);
}

void fixture_notify(void) {
        cluster_view_apply(&fixture.view,
                           &(EnginePlan) { .changes = fixture.changes, .n = fixture.n_changes });
        fixture.view.cluster.index = fixture.view.index;
        for (size_t i = 0; i < fixture.n_changes; i++)
                fixture_report((RegistryChange) { .kind = CHANGED_ASSIGNMENT,
                                                  .unit = fixture.changes[i].unit,
                                                  .machine = fixture.changes[i].machine });
        fixture_turn();
}

void fixture_complete(void) {
        fixture_answer(KV_OK);
        fixture_notify();
}

void fixture_reject(void) {
        fixture_answer(KV_COMPARE_FAILED);
        fixture_fire(&fixture.retry);
}

int fixture_setup(void **state) {
        memset(&fixture, 0, sizeof(fixture));
        fixture.ready = fixture.current = true;
        fixture.state = (KvState) { .role = KV_ROLE_LEADER, .ready = true, .term = TERM };
        fixture.view.cluster.now_ms = 1000000;
        manual_loop_init(&fixture.loop, 1);
        cluster_view_machine(&fixture.view, "A", "", PRESENCE_UP);
        cluster_view_machine(&fixture.view, "B", "", PRESENCE_UP);
        return 0;
}

void fixture_end(void) {
        fixture.engine = engine_free(fixture.engine);
        assert_false(fixture.done != NULL);
        assert_null(fixture.listener);
        assert_false(fixture.woken || fixture.retry.armed || fixture.resync.armed || fixture.waits.armed);
}

int fixture_teardown(void **state) {
        fixture_end();
        cluster_view_free(&fixture.view);
        loop_done(&fixture.loop.base);
        return 0;
}
