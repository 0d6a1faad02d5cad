#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/alloc.h"
#include "tests/lib/engine_fixture.h"

Fixture room;

/* -- The surroundings of the engine -- */

int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);
void __wrap_timer_stop(Timer *timer);
void __wrap_loop_defer(Loop *loop, Deferred *deferred);
void __wrap_deferred_cancel(Deferred *deferred);
void __wrap_kv_state(KvStore *store, KvState *ret);
const Cluster *__wrap_registry_cluster(const Registry *r);
bool __wrap_registry_ready(const Registry *r);
bool __wrap_registry_is_current(const Registry *r);
KvStore *__wrap_registry_store(const Registry *r);
void __wrap_registry_observe(Registry *r, RegistryObserver *listener);
void __wrap_registry_unobserve(Registry *r, RegistryObserver *listener);
void __wrap_registry_cancel(Registry *r, const void *userdata);
int __wrap_registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n,
                           RegistryDone done, void *userdata);
const AssignmentChange *__wrap_registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                           size_t n);
int __wrap_registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata);
int __real_engine_plan_within(const Cluster *cluster, const char *const *units, size_t n_units,
                              uint64_t brake_ms, const EnginePlanLimits *limits, EnginePlan *ret);
int __wrap_engine_plan_within(const Cluster *cluster, const char *const *units, size_t n_units,
                              uint64_t brake_ms, const EnginePlanLimits *limits, EnginePlan *ret);

static Clock *clock_of(const Timer *timer) {
        return streq(timer->name, "engine.c:engine_on_resync") ? &room.sweep : &room.again;
}

int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms) {
        if (room.without_timers)
                return -ENOMEM;
        *clock_of(timer) = (Clock) { .timer = timer, .armed = true, .delay_ms = delay_ms };
        return 0;
}

void __wrap_timer_stop(Timer *timer) {
        clock_of(timer)->armed = false;
}

void __wrap_loop_defer(Loop *loop, Deferred *deferred) {
        room.wake = deferred;
        room.woken = true;
        room.n_wakes++;
}

void __wrap_deferred_cancel(Deferred *deferred) {
        room.woken = false;
}

void __wrap_kv_state(KvStore *store, KvState *ret) {
        *ret = room.state;
}

/* The only one that the engine may ask. */
static Registry *the_registry(void) {
        return (Registry *) &room;
}

const Cluster *__wrap_registry_cluster(const Registry *r) {
        assert_ptr_equal(r, the_registry());
        return &room.picture.cluster;
}

bool __wrap_registry_ready(const Registry *r) {
        return room.ready;
}

bool __wrap_registry_is_current(const Registry *r) {
        return room.current;
}

KvStore *__wrap_registry_store(const Registry *r) {
        return NULL;
}

void __wrap_registry_observe(Registry *r, RegistryObserver *listener) {
        room.listener = listener;
}

void __wrap_registry_unobserve(Registry *r, RegistryObserver *listener) {
        room.listener = NULL;
}

void __wrap_registry_cancel(Registry *r, const void *userdata) {
        if (room.userdata == userdata)
                room.done = NULL;
}

/* One at a time. */
static int ask(uint64_t term, const AssignmentChange *changes, size_t n, RegistryDone done, void *userdata) {
        int r = room.error;

        assert_false(room.done != NULL);
        assert_true(room.n_calls < CALLS_MAX && n <= ORDERS_MAX);
        room.calls[room.n_calls++] = (Call) { .n = n, .term = term, .n_plans = room.n_plans };
        room.error = 0;
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                room.changes[i] = changes[i];
        room.n_changes = n;
        room.done = done;
        room.userdata = userdata;
        return 0;
}

int __wrap_registry_assign(Registry *r, uint64_t term, const AssignmentChange *changes, size_t n,
                           RegistryDone done, void *userdata) {
        assert_true(n > 0);
        return ask(term, changes, n, done, userdata);
}

int __wrap_registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata) {
        return ask(term, NULL, 0, done, userdata);
}

const AssignmentChange *__wrap_registry_refused_assignment(const Registry *r, const AssignmentChange *changes,
                                                           size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (!room.refused || !streq(changes[i].unit, room.refused))
                        continue;
                room.refusal = changes[i];
                room.refusal.machine[0] += room.other == FIELD_MACHINE;
                room.refusal.expected_index += room.other == FIELD_ORDER;
                room.refusal.unit_index += room.other == FIELD_UNIT;
                room.refusal.presence_index += room.other == FIELD_PRESENCE;
                return &room.refusal;
        }
        return NULL;
}

int __wrap_engine_plan_within(const Cluster *cluster, const char *const *units, size_t n_units,
                              uint64_t brake_ms, const EnginePlanLimits *limits, EnginePlan *ret) {
        Planned *p = &room.plans[room.n_plans];
        int r = room.plan_error;

        assert_true(room.n_plans < PLANS_MAX);
        room.n_plans++;
        *p = (Planned) {
                .n = n_units, .brake_ms = brake_ms, .work_max = limits->work_max, .freed = limits->freed
        };
        for (size_t i = 0; i < n_units; i++)
                snprintf(p->names + strlen(p->names), sizeof(p->names) - strlen(p->names), "%s ", units[i]);
        room.plan_error = 0;
        if (r < 0)
                return r;

        assert_int_equal(__real_engine_plan_within(cluster, units, n_units, brake_ms, limits, ret), 0);
        p->work = ret->work;
        ret->freed = room.freed;
        ret->again_ms = room.again_ms ?: ret->again_ms;
        for (size_t i = 0; i < room.n_rest; i++)
                assert_int_equal(names_add(&ret->rest, room.rest[i], strlen(room.rest[i])), 0);
        room.n_rest = 0;
        alloc_fail_at(room.fail_after_plan);
        room.fail_after_plan = 0;
        return 0;
}

void fixture_on_log(void *userdata, int priority, const LogFields *fields, const char *sentence) {
        room.n_warnings += priority == LOG_WARNING;
        room.n_told += fields->message_id != NULL;
        if (!starts_with(sentence, "the cluster was recovered or restored"))
                return;
        room.n_notices++;
        snprintf(room.notice, sizeof(room.notice), "%s", sentence);
}

/* -- Events -- */

/* All passes that need neither an answer nor time. */
void fixture_turn(void) {
        for (unsigned i = 0; room.woken; i++) {
                if (i == TURNS_MAX)
                        fail_msg("the engine has been woken %d times", TURNS_MAX);
                room.woken = false;
                room.wake->run(room.wake->userdata);
        }
}

void fixture_engine(void) {
        assert_int_equal(engine_new(&room.engine, &room.loop.base, the_registry(), &(EngineOptions) {}), 0);
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

void fixture_hear(RegistryChange change) {
        room.listener->on_change(room.listener->userdata, &change);
}

/* The cluster view follows the picture, and the engine is told of it. */
void fixture_changed(RegistryChange change) {
        room.picture.cluster.index = room.picture.index;
        fixture_hear(change);
        fixture_turn();
}

void fixture_answer_at(KvStatus status, uint64_t index) {
        RegistryDone done = room.done;

        assert_true(done != NULL);
        room.done = NULL;
        done(room.userdata, status, status == KV_OK ? "" : "a test says so", index);
        fixture_turn();
}

/* The events of what is done come later, by fixture_tell(). */
void fixture_answer(KvStatus status) {
        fixture_answer_at(status, room.picture.index + 1);
}

void fixture_tell(void) {
        cluster_view_apply(&room.picture, &(EnginePlan) { .changes = room.changes, .n = room.n_changes });
        room.picture.cluster.index = room.picture.index;
        for (size_t i = 0; i < room.n_changes; i++)
                fixture_hear((RegistryChange) { .kind = CHANGED_ASSIGNMENT,
                                                .unit = room.changes[i].unit,
                                                .machine = room.changes[i].machine });
        fixture_turn();
}

void fixture_carry_out(void) {
        fixture_answer(KV_OK);
        fixture_tell();
}

void fixture_refuse(void) {
        fixture_answer(KV_COMPARE_FAILED);
        fixture_fire(&room.again);
}

int fixture_setup(void **state) {
        memset(&room, 0, sizeof(room));
        room.ready = room.current = true;
        room.state = (KvState) { .role = KV_ROLE_LEADER, .ready = true, .term = TERM };
        room.picture.cluster.now_ms = 1000000;
        manual_loop_init(&room.loop, 1);
        cluster_view_machine(&room.picture, "A", "", PRESENCE_UP);
        cluster_view_machine(&room.picture, "B", "", PRESENCE_UP);
        return 0;
}

void fixture_end(void) {
        room.engine = engine_free(room.engine);
        assert_false(room.done != NULL);
        assert_null(room.listener);
        assert_false(room.woken || room.again.armed || room.sweep.armed);
}

int fixture_teardown(void **state) {
        fixture_end();
        cluster_view_free(&room.picture);
        loop_done(&room.loop.base);
        return 0;
}
