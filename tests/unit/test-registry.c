/* Registry and engine on a real store: one host, its log and tree in a scratch folder. */

#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/engine/engine.h"
#include "fleetd/features/replicas/replicas.h"
#include "fleetd/features/rollout/rollout.h"
#include "fleetd/sessions/liveness.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/newer_options.h"
#include "fleetd/registry/revision_view.h"
#include "fleetd/registry/registry.h"
#include "io/loop_uv.h"
#include "tests/lib/scratch.h"
#include "tests/lib/message.h"
#include "tests/lib/store_inside.h"
#include "tests/lib/words_of.h"
#include "units/singleton.h"

#define SINGLETON "[X-Fleet]\nSingleton=yes\n[Service]\nExecStart=/bin/true\n"

enum { PATIENCE_S = 60, PATIENCE_MS = 20000 };

static const char self[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char other[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
static const char spare[] = "cccccccccccccccccccccccccccccccc";

typedef struct World {
        UvLoop *uv;
        Loop *loop;
        char *scratch, *raft_path, *tree_path;
        Disk *disk;
        KvStore *store;
        Registry *registry;
        Engine *engine;
        RegistryObserver listener;
        unsigned notified[CHANGED_CLUSTER + 1];
        Timer timer;
        bool (*is_true)(struct World *w);
        bool was_true;
        uint64_t deadline_ms;
        /* the last answer */
        unsigned asked, answered;
        KvStatus status;
        uint64_t index;
} World;

static void look(void *userdata) {
        World *w = userdata;

        w->was_true = w->is_true(w);
        if (w->was_true || loop_now_ms(w->loop) > w->deadline_ms)
                loop_uv_stop(w->uv);
        else
                assert_int_equal(timer_start(&w->timer, w->loop, 1), 0);
}

static void run_until(World *w, bool (*is_true)(World *w)) {
        w->is_true = is_true;
        w->timer = (Timer) { .fire = look, .userdata = w };
        w->deadline_ms = loop_now_ms(w->loop) + PATIENCE_MS;
        assert_int_equal(timer_start(&w->timer, w->loop, 0), 0);
        assert_true(loop_uv_run(w->uv) >= 0);
        assert_true(w->was_true);
}

static void on_state(void *userdata) {
        World *w = userdata;

        if (w->engine)
                engine_state_changed(w->engine);
}

static bool leads(World *w) {
        KvState state;

        kv_state(w->store, &state);
        return state.role == KV_ROLE_LEADER && state.ready;
}

static void on_change(void *userdata, const RegistryChange *change) {
        ((World *) userdata)->notified[change->kind]++;
}

static const void *without_timers; /* whose timers find no memory */
static Timer *last_timer;          /* of those that were started */

int __real_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);
int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);

int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms) {
        last_timer = timer;
        return without_timers && timer->userdata == without_timers ?
                       -ENOMEM :
                       __real_timer_start(timer, loop, delay_ms);
}

static unsigned warnings;
static uint64_t failures_at_warning;
static const Engine *warning_engine; /* whose failures are counted */

/* The engine logs each of its 700 assignments. */
static void ignore_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        EngineCounts counts = {};

        if (priority > LOG_WARNING)
                return;
        warnings++;
        if (warning_engine)
                engine_counts(warning_engine, &counts);
        failures_at_warning = counts.schedule_failures;
}

static int begin(void **state) {
        World *w = NEW0(World, 1);
        KvOptions options = { .events = { .on_state = on_state, .userdata = w } };
        Error err = {};

        without_timers = NULL;
        assert_int_equal(loop_uv_new(&w->uv), 0);
        w->loop = loop_uv_base(w->uv);
        w->scratch = scratch_new();
        w->raft_path = scratch_path(w->scratch, "raft");
        w->tree_path = scratch_path(w->scratch, "tree");
        assert_int_equal(disk_real_open(w->raft_path, &w->disk), 0);
        options.log_disk = w->disk;
        options.tree_path = w->tree_path;
        memcpy(options.machine_id, self, sizeof(self));
        memcpy(options.boot_id, other, sizeof(other));
        alarm(PATIENCE_S);
        if (kv_open(&w->store, w->loop, &options, &err) < 0)
                fail_msg("%s", err.message);
        run_until(w, leads);
        assert_int_equal(registry_new(&w->registry, w->loop, w->store, self), 0);
        w->listener = (RegistryObserver) { .on_change = on_change, .userdata = w };
        registry_observe(w->registry, &w->listener);
        *state = w;
        return 0;
}

static void on_closed(void *userdata) {
        ((World *) userdata)->store = NULL;
}

static bool is_closed(World *w) {
        return !w->store;
}

static int end(void **state) {
        World *w = *state;

        registry_unobserve(w->registry, &w->listener);
        engine_free(w->engine);
        registry_free(w->registry);
        kv_close(w->store, on_closed, w);
        run_until(w, is_closed);
        disk_real_close(w->disk);
        loop_uv_free(w->uv);
        free(w->raft_path);
        free(w->tree_path);
        scratch_free(w->scratch);
        free(w);
        alarm(0);
        return 0;
}

/* -- Requests -- */

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        World *w = userdata;

        w->answered++;
        w->status = status;
        w->index = index;
        assert_int_equal(message[0] == 0, status == KV_OK);
}
/* Delete a member key, as a host that leaves does. */
static int remove_member(Registry *r, const char *id, void *userdata) {
        char path[LAYOUT_KEY_MAX];
        KvCommand write = { .op = KV_DELETE,
                            .key = kv_string(layout_key(path, LAYOUT_MEMBER, NULL, id)),
                            .internal = true };

        return registry_propose(
                r, &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 }, on_done,
                userdata);
}

static bool is_answered(World *w) {
        return w->answered == w->asked;
}

/* Return the status; after KV_OK, the cluster view has the change. */
static bool is_known(World *w) {
        return w->status != KV_OK || registry_cluster(w->registry)->index >= w->index;
}

static KvStatus answer(World *w, int called) {
        assert_int_equal(called, 0);
        w->asked++;
        assert_int_not_equal(w->asked, w->answered);
        run_until(w, is_answered);
        run_until(w, is_known);
        return w->status;
}

static KvStatus change(World *w, UnitChange c) {
        return answer(w, registry_change_units(w->registry, &c, 1, on_done, w));
}

static Unit *make_unit(const char *name, const char *text) {
        Unit *unit = NULL;
        Error err = {};

        if (unit_parse(name, text, strlen(text), &unit, &err) < 0)
                fail_msg("%s", err.message);
        return unit;
}

static KvStatus submit(World *w, const char *name, const char *text, bool has_target, TargetState target) {
        _cleanup_unit_ Unit *unit = make_unit(name, text);

        return change(w, (UnitChange) { .unit = unit, .has_target = has_target, .target = target });
}

static uint64_t term(World *w) {
        KvState state;

        kv_state(w->store, &state);
        return state.term;
}

static KvStatus presence(World *w, const char *machine, Presence is) {
        ClusterMachine *m = cluster_machine(registry_cluster(w->registry), machine);
        PresenceChange c = { .presence = is, .expected_index = m ? m->presence_index : 0 };

        verdict_say(&c.verdict, VERDICT_SAID, "a test says so");
        memcpy(c.machine, machine, sizeof(c.machine));
        return answer(w, registry_presence(w->registry, term(w), &c, 1, on_done, w));
}

static void machine(World *w, const char *id) {
        _cleanup_machine_ Machine m = { .name = strdup("m"), .version = strdup("0"), .boot_id = strdup(id) };

        memcpy(m.id, id, sizeof(m.id));
        assert_int_equal(answer(w, registry_publish_facts(w->registry, &m, on_done, w)), KV_OK);
        assert_int_equal(presence(w, id, PRESENCE_UP), KV_OK);
}

static ClusterUnit *unit(World *w, const char *name) {
        return cluster_unit(registry_cluster(w->registry), name);
}

static bool key_exists(World *w, const char *key) {
        return store_has(w->store, key);
}

/* -- Registry -- */

static void a_submitted_unit_is_in_the_view_with_its_target(void **state) {
        World *w = *state;

        assert_true(registry_ready(w->registry));
        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        assert_int_equal(unit(w, "a.service")->target, TARGET_LAUNCHED);
        assert_int_equal(unit(w, "a.service")->index,
                         w->index); /* a later target is requested without a text */
        assert_int_equal(unit(w, "a.service")->target_index, w->index - 1);
        assert_int_equal(w->notified[CHANGED_UNIT], 1);
        assert_int_equal(w->notified[CHANGED_TARGET], 1);

        /* A new text alone leaves the target; a new unit alone is inactive. */
        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/false\n", false, 0), KV_OK);
        assert_int_equal(unit(w, "a.service")->target, TARGET_LAUNCHED);
        assert_int_equal(submit(w, "b.service", "[Service]\nExecStart=/bin/false\n", false, 0), KV_OK);
        assert_int_equal(unit(w, "b.service")->target, TARGET_INACTIVE);
        assert_true(unit(w, "b.service")->target_index > 0);
}

static void a_second_scan_yields_the_same_view(void **state) {
        World *w = *state;
        uint64_t index;

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LOADED),
                         KV_OK);
        machine(w, other);
        index = unit(w, "a.service")->index;
        registry_reset(w->registry);
        assert_int_equal(w->notified[CHANGED_ALL], 1);
        assert_int_equal(unit(w, "a.service")->index, index);
        assert_int_equal(unit(w, "a.service")->target, TARGET_LOADED);
        assert_int_equal(cluster_machine(registry_cluster(w->registry), other)->presence, PRESENCE_UP);
        assert_string_equal(message_of(&cluster_machine(registry_cluster(w->registry), other)->verdict),
                            "a test says so");

        /* It follows later events. */
        assert_int_equal(
                change(w,
                       (UnitChange) { .name = "a.service", .has_target = true, .target = TARGET_LAUNCHED }),
                KV_OK);
        assert_int_equal(unit(w, "a.service")->target, TARGET_LAUNCHED);
}

static void a_change_whose_check_fails_is_rejected_and_changes_nothing(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *a = make_unit("a.service", "[Service]\nExecStart=/bin/true\n");

        assert_int_equal(
                change(w,
                       (UnitChange) { .name = "a.service", .has_target = true, .target = TARGET_LAUNCHED }),
                KV_COMPARE_FAILED);
        assert_false(key_exists(w, "/_fleet/target/a.service"));
        assert_int_equal(change(w, (UnitChange) { .unit = a, .only_if_absent = true }), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = a, .only_if_absent = true }), KV_EXISTS);
        assert_int_equal(change(w, (UnitChange) { .unit = a, .expected_index = 999 }), KV_COMPARE_FAILED);
        assert_int_equal(
                change(w, (UnitChange) { .name = "a.service", .remove = true, .expected_index = 999 }),
                KV_COMPARE_FAILED);

        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
        assert_null(cluster_any_unit(registry_cluster(w->registry), "a.service"));
        assert_false(key_exists(w, "/_fleet/target/a.service"));
        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_NOT_FOUND);
}

static void several_changes_are_all_or_nothing(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *a = make_unit("a.service", "[Service]\nExecStart=/bin/true\n");
        const UnitChange changes[] = { { .unit = a, .has_target = true, .target = TARGET_LAUNCHED },
                                       { .name = "b.service", .remove = true } };

        assert_int_equal(answer(w, registry_change_units(w->registry, changes, 2, on_done, w)), KV_NOT_FOUND);
        assert_null(unit(w, "a.service"));
        assert_int_equal(answer(w, registry_change_units(w->registry, changes, 0, on_done, w)), KV_OK);
}

static AssignmentChange assignment_for(World *w, const char *name, AssignmentKind kind) {
        ClusterAssignment *o = cluster_assignment(registry_cluster(w->registry), self, name);
        AssignmentChange c = { .kind = kind,
                               .unit_index = unit(w, name) ? unit(w, name)->index : 0,
                               .expected_index = o ? o->index : 0,
                               .why = SAID("why not") };

        memcpy(c.machine, self, sizeof(c.machine));
        snprintf(c.unit, sizeof(c.unit), "%s", name);
        return c;
}

static void an_assignment_is_valid_only_with_the_keys_it_was_planned_on(void **state) {
        World *w = *state;
        AssignmentChange c;

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        c = assignment_for(w, "a.service", ASSIGNMENT_RUN);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w) + 1, &c, 1, NULL, on_done, w)),
                         KV_TERM_CHANGED);
        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/false\n", false, 0), KV_OK);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)),
                         KV_COMPARE_FAILED);

        c = assignment_for(w, "a.service", ASSIGNMENT_RUN);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_string_equal(words_of(&LIST_FIRST(&unit(w, "a.service")->assignments)->why), "why not");
        assert_int_equal(LIST_FIRST(&unit(w, "a.service")->assignments)->term, term(w));
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)),
                         KV_EXISTS);

        c = assignment_for(w, "a.service", ASSIGNMENT_STOP);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(LIST_FIRST(&unit(w, "a.service")->assignments)->kind, ASSIGNMENT_STOP);
        assert_true(LIST_FIRST(&unit(w, "a.service")->assignments)->created <
                    LIST_FIRST(&unit(w, "a.service")->assignments)->index);
}

static void an_executed_assignment_to_stop_is_deleted_with_its_state(void **state) {
        World *w = *state;
        StateChange s = { .unit = "a.service" };
        AssignmentChange c;

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        c = assignment_for(w, "a.service", ASSIGNMENT_STOP);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(unit_state_init(&s.state, "loaded", "active", "running",
                                         unit(w, "a.service")->unit->hash, 1, false),
                         0);
        assert_int_equal(answer(w, registry_publish(w->registry, &s, 1, on_done, w)), KV_OK);
        assert_string_equal(LIST_FIRST(&unit(w, "a.service")->states)->state.sub, "running");

        /* Deleting an assignment that was replaced is rejected. */
        s.remove = s.stopped = true;
        s.assignment_index = 999;
        assert_int_equal(answer(w, registry_publish(w->registry, &s, 1, on_done, w)), KV_COMPARE_FAILED);
        s.assignment_index = LIST_FIRST(&unit(w, "a.service")->assignments)->index;
        assert_int_equal(answer(w, registry_publish(w->registry, &s, 1, on_done, w)), KV_OK);
        assert_true(LIST_EMPTY(&unit(w, "a.service")->assignments));
        assert_true(LIST_EMPTY(&unit(w, "a.service")->states));

        /* Removing an absent state is no error. */
        s.stopped = false;
        assert_int_equal(answer(w, registry_publish(w->registry, &s, 1, on_done, w)), KV_OK);
        unit_state_done(&s.state);
}

/* The change of its presence precedes the removal, which was decided before. */
static void a_machine_that_returns_meanwhile_is_not_removed(void **state) {
        World *w = *state;
        const Cluster *c = registry_cluster(w->registry);
        PresenceChange up = { .presence = PRESENCE_UP };

        machine(w, other);
        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
        assert_int_equal(presence(w, other, PRESENCE_LOST), KV_OK);
        memcpy(up.machine, other, sizeof(other));
        up.expected_index = cluster_machine(c, other)->presence_index;
        assert_int_equal(registry_presence(w->registry, term(w), &up, 1, NULL, NULL), 0);
        assert_int_equal(answer(w, registry_remove_machine(w->registry, cluster_machine(c, other), "root",
                                                           NULL, on_done, w)),
                         KV_COMPARE_FAILED);
        assert_int_equal(cluster_machine(c, other)->presence, PRESENCE_UP);
        assert_non_null(cluster_machine(c, other)->facts);

        assert_int_equal(presence(w, other, PRESENCE_LOST), KV_OK);
        assert_int_equal(answer(w, registry_remove_machine(w->registry, cluster_machine(c, other), "root",
                                                           NULL, on_done, w)),
                         KV_OK);
        assert_null(cluster_machine(c, other));
}

static void ignore_result(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

static void put_key(World *w, const char *key, const char *value) {
        KvCommand put = { .op = KV_SET, .key = kv_string(key), .value = kv_string(value), .internal = true };

        assert_int_equal(kv_propose(w->store, &put, ignore_result, NULL, NULL), 0);
}

static bool has_host_and_metadata(World *w) {
        const ClusterMachine *m = cluster_machine(registry_cluster(w->registry), other);

        return m && m->host && m->set.n == 1 && m->member.raft_id == 7;
}

static unsigned level_wanted;

static bool has_level(World *w) {
        KvState kv;

        kv_state(w->store, &kv);
        return kv.level == level_wanted;
}

static void raise_to(World *w, unsigned level) {
        KvCommand raise = { .op = KV_RAISE, .internal = true, .limit = level };

        level_wanted = level;
        assert_int_equal(kv_propose(w->store, &raise, ignore_result, NULL, NULL), 0);
        run_until(w, has_level);
}

#define PIN  "1111111111111111111111111111111111111111111111111111111111111111"
#define PIN2 "2222222222222222222222222222222222222222222222222222222222222222"

/* A host with a certificate: its keys go at once, and the tombstone has its pin. After the end of the
 * tombstone, nothing is left. */
static void a_removed_host_leaves_a_tombstone_until_it_is_forgotten(void **state) {
        World *w = *state;
        const Cluster *c = registry_cluster(w->registry);
        const ClusterMachine *m;

        raise_to(w, KV_LEVEL_IDENTITY);
        machine(w, other);
        put_key(w, "/_fleet/cluster/host/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                "{\"pins\":[\"" PIN "\",\"" PIN2 "\"]}");
        put_key(w, "/_fleet/cluster/member/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "{\"raftId\":7,\"start\":1}");
        put_key(w, "/_fleet/machine/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/metadata/zone", "a");
        run_until(w, has_host_and_metadata);
        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
        assert_int_equal(presence(w, other, PRESENCE_LOST), KV_OK);
        assert_int_equal(answer(w, registry_remove_machine(w->registry, cluster_machine(c, other), "root",
                                                           NULL, on_done, w)),
                         KV_OK);
        m = cluster_machine(c, other);
        assert_true(m && cluster_machine_is_removed(m) && !m->host && m->set.n == 0);
        assert_int_equal(m->member.raft_id, 0);
        assert_string_equal(m->removed->pin, PIN);
        assert_string_equal(m->removed->pin2, PIN2);
        assert_string_equal(m->removed->by, "root");
        assert_string_equal(m->removed->how, "lost");
        assert_null(registry_forgettable(w->registry));

        /* It is up again. */
        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
        m = cluster_machine(c, other);
        assert_true(m && !m->removed);

        put_key(w, "/_fleet/machine/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/metadata/zone", "a");
        assert_int_equal(presence(w, other, PRESENCE_LOST), KV_OK);
        assert_int_equal(answer(w, registry_remove_machine(w->registry, cluster_machine(c, other), "root",
                                                           NULL, on_done, w)),
                         KV_OK);
        assert_int_equal(cluster_machine(c, other)->set.n, 1); /* it has no certificate any more */
        assert_int_equal(answer(w, registry_forget_machine(w->registry, term(w), cluster_machine(c, other),
                                                           on_done, w)),
                         KV_OK);
        assert_null(cluster_machine(c, other));
}

static bool has_many_states(World *w) {
        const ClusterMachine *m = cluster_machine(registry_cluster(w->registry), other);

        return m && HASH_COUNT(m->states) == 1200 && m->assignments;
}

static bool has_a_rest(World *w) {
        return registry_removed_rest(w->registry);
}

/* One transaction has room for some of them. A finished unit does not run again. */
static void what_a_removal_leaves_is_deleted_in_further_transactions(void **state) {
        World *w = *state;
        const Cluster *c = registry_cluster(w->registry);
        const ClusterMachine *m;
        char key[LAYOUT_KEY_MAX];
        unsigned n = 0;

        machine(w, other);
        for (unsigned i = 0; i < 1200; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "x%u.service", i);
                put_key(w, layout_key(key, LAYOUT_STATE, unit, other),
                        i == 7 ? "{\"active\":\"inactive\",\"done\":true,\"load\":\"loaded\",\"sub\":"
                                 "\"dead\"}" :
                                 "{\"active\":\"active\",\"load\":\"loaded\",\"sub\":\"running\"}");
        }
        put_key(w, layout_key(key, LAYOUT_ASSIGNMENT, "x7.service", other), "{\"order\":\"run\"}");
        run_until(w, has_many_states);
        assert_null(registry_removed_rest(w->registry));
        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
        assert_int_equal(presence(w, other, PRESENCE_LOST), KV_OK);
        assert_null(registry_removed_rest(w->registry));
        assert_int_equal(answer(w, registry_remove_machine(w->registry, cluster_machine(c, other), "root",
                                                           NULL, on_done, w)),
                         KV_OK);
        for (; (m = registry_removed_rest(w->registry)) && n < 10; n++)
                assert_int_equal(answer(w, registry_remove_rest(w->registry, term(w), m, on_done, w)), KV_OK);
        assert_in_range(n, 1, 3);
        m = cluster_machine(c, other);
        assert_int_equal(HASH_COUNT(m->states), 1);
        assert_non_null(cluster_state_on(m, "x7.service"));

        /* It has returned meanwhile. */
        put_key(w, layout_key(key, LAYOUT_STATE, "x1.service", other), "{\"active\":\"active\"}");
        run_until(w, has_a_rest);
        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
        assert_int_equal(answer(w, registry_remove_rest(w->registry, term(w), m, on_done, w)),
                         KV_COMPARE_FAILED);
}

#define OF_OTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OLDEST   "0000000000000000000000000000000000000000000000000000000000000000"

static void delete_keys(World *w, const char *key) {
        KvCommand del = { .op = KV_DELETE, .recursive = true, .key = kv_string(key), .internal = true };

        assert_int_equal(kv_propose(w->store, &del, ignore_result, NULL, NULL), 0);
}

static bool has_tombstone(World *w) {
        const ClusterMachine *m = cluster_machine(registry_cluster(w->registry), other);

        return m && m->removed;
}

static size_t n_denied;

static bool has_denied(World *w) {
        return HASH_COUNT(registry_cluster(w->registry)->denied) == n_denied;
}

static void deny(World *w, size_t n) {
        static const char oldest[] = "/_fleet/cluster/denied/" OLDEST;

        put_key(w, oldest, "{\"since\":1}");
        for (size_t i = 1; i < n; i++) {
                char key[sizeof(oldest)];

                snprintf(key, sizeof(key), "/_fleet/cluster/denied/%064zx", i);
                put_key(w, key, "{\"since\":2}");
                n_denied = i + 1;
                if (i % 100 == 0)
                        run_until(w, has_denied);
        }
        run_until(w, has_denied);
}

/* Its tombstone ends when the host is up again, when it is forgotten, and when the host joins with another
 * key. */
static void a_compromised_key_is_denied_after_the_end_of_the_tombstone(void **state) {
        static const char compromised[] = "{\"pin\":\"" PIN "\",\"pin2\":\"" PIN2
                                          "\",\"reason\":\"compromised\",\"since\":5}";
        World *w = *state;
        const Cluster *c = registry_cluster(w->registry);
        const HostRecord host = { .pins = { .n = 1, .items = { OLDEST } } };
        const HostChange joins = { .machine = other, .host = &host, .certificate = "issued" };

        raise_to(w, KV_LEVEL_IDENTITY);
        machine(w, other);
        for (unsigned i = 0; i < 3; i++) {
                put_key(w, "/_fleet/cluster/removed/" OF_OTHER, compromised);
                run_until(w, has_tombstone);
                assert_true(cluster_is_denied(c, PIN) && cluster_is_denied(c, PIN2));
                assert_false(cluster_is_denied(c, OLDEST));
                assert_null(c->denied);
                if (i == 0)
                        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
                else if (i == 1)
                        assert_int_equal(
                                answer(w, registry_forget_machine(w->registry, term(w),
                                                                  cluster_machine(c, other), on_done, w)),
                                KV_OK);
                else
                        assert_int_equal(answer(w, registry_set_host(w->registry, &joins, on_done, w)),
                                         KV_OK);
                assert_false(has_tombstone(w));
                assert_true(cluster_is_denied(c, PIN) && cluster_is_denied(c, PIN2));
                assert_int_equal(c->denied->record.since_ms, 5);
                assert_string_equal(c->denied->record.machine, other);
                delete_keys(w, "/_fleet/cluster/denied");
                if (i == 0)
                        delete_keys(w, "/_fleet/machine/" OF_OTHER "/presence");
                n_denied = 0;
                run_until(w, has_denied);
        }
}

static void the_oldest_denied_keys_make_room(void **state) {
        World *w = *state;
        const Cluster *c = registry_cluster(w->registry);

        raise_to(w, KV_LEVEL_IDENTITY);
        machine(w, other);
        deny(w, DENIED_MAX);
        put_key(w, "/_fleet/cluster/removed/" OF_OTHER,
                "{\"pin\":\"" PIN "\",\"reason\":\"compromised\",\"since\":5}");
        run_until(w, has_tombstone);
        assert_int_equal(presence(w, other, PRESENCE_UP), KV_OK);
        assert_int_equal(HASH_COUNT(c->denied), DENIED_MAX);
        assert_true(cluster_is_denied(c, PIN));
        assert_false(cluster_is_denied(c, OLDEST));
}

static void a_raft_id_is_given_once(void **state) {
        World *w = *state;
        uint64_t first = 0, second = 0, third = 0;
        KvState kv;

        kv_state(w->store, &kv);
        assert_int_equal(answer(w, registry_admit(w->registry, self, "10.0.0.1:2380", &first, on_done, w)),
                         KV_OK);
        assert_true(first > kv.raft_id);
        assert_int_equal(cluster_machine(registry_cluster(w->registry), self)->member.raft_id, first);
        assert_string_equal(cluster_machine(registry_cluster(w->registry), self)->member.peer,
                            "10.0.0.1:2380");
        assert_int_equal(answer(w, registry_admit(w->registry, other, "10.0.0.2:2380", &second, on_done, w)),
                         KV_OK);
        assert_int_equal(second, first + 1);
        assert_int_equal(answer(w, remove_member(w->registry, other, w)), KV_OK);
        assert_null(cluster_machine(registry_cluster(w->registry), other));
        assert_int_equal(answer(w, registry_admit(w->registry, other, "10.0.0.2:2380", &third, on_done, w)),
                         KV_OK);
        assert_int_equal(third, second + 1);
}

static bool target_is_unknown(World *w) {
        return unit(w, "a.service") && cluster_unit_has_unreadable(unit(w, "a.service"), LAYOUT_TARGET);
}

static void a_value_that_cannot_be_read_is_logged_once(void **state) {
        World *w = *state;
        KvCommand nonsense = { .op = KV_SET,
                               .key = kv_string("/_fleet/target/a.service"),
                               .value = kv_string("nonsense"),
                               .internal = true };

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        assert_int_equal(kv_propose(w->store, &nonsense, ignore_result, NULL, NULL), 0);
        warnings = 0;
        run_until(w, target_is_unknown);
        registry_reset(w->registry);
        assert_true(target_is_unknown(w));
        assert_int_equal(warnings, 1);

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        assert_false(target_is_unknown(w));
}

static bool member_is_unreadable(World *w) {
        ClusterMachine *m = cluster_machine(registry_cluster(w->registry), other);

        return m && cluster_machine_has_unreadable(m, LAYOUT_MEMBER);
}

/* The level of its host is unknown: the cluster's level is not raised. */
static void a_member_that_cannot_be_read_holds_the_feature_level(void **state) {
        World *w = *state;
        KvCommand nonsense = { .op = KV_SET,
                               .key = kv_string("/_fleet/cluster/member/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
                               .value = kv_string("{"),
                               .internal = true };

        assert_int_equal(cluster_level(registry_cluster(w->registry), 2, NULL), 2);
        assert_int_equal(kv_propose(w->store, &nonsense, ignore_result, NULL, NULL), 0);
        run_until(w, member_is_unreadable);
        assert_int_equal(cluster_level(registry_cluster(w->registry), 2, NULL), 1);
}

static void a_canceled_operation_does_not_call_done(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *a = make_unit("a.service", "[Service]\nExecStart=/bin/true\n");
        const UnitChange c = { .unit = a };
        unsigned userdata;

        /* Would write into our stack as if it were a World. */
        assert_int_equal(registry_change_units(w->registry, &c, 1, on_done, &userdata), 0);
        registry_cancel(w->registry, &userdata);
        assert_int_equal(change(w, (UnitChange) { .unit = a, .only_if_absent = true }), KV_EXISTS);
}

/* -- Revisions -- */

static void start_engine(World *w) {
        assert_int_equal(
                engine_new(&w->engine, &(ComponentHost) { .io.loop = w->loop, .registry = w->registry }, 0),
                0);
}

static KvStatus submit_size(World *w, const char *name, int number, size_t size, const char *option) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "[X-Fleet]\n%s\n[Service]\nExecStart=/bin/echo %d\n", option, number);
        while (t.size < size)
                text_append(&t, "ExecStartPre=/bin/true 0123456789012345678901234567890123456789\n");
        return submit(w, name, t.chars, false, 0);
}

static const Revisions *revisions(World *w) {
        return &unit(w, "a.service")->unit->revisions;
}

static void below_the_feature_level_no_revision_is_stored(void **state) {
        World *w = *state;

        raise_to(w, KV_LEVEL_REVISIONS - 1);
        assert_int_equal(submit_size(w, "a.service", 1, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "a.service", 2, 0, ""), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 0);
        assert_int_equal(revisions(w)->n_former, 0);
        assert_false(key_exists(w, "/_fleet/revision"));

        /* Afterwards, the text of that time is revision 1. */
        raise_to(w, KV_LEVEL_REVISIONS);
        assert_int_equal(submit_size(w, "a.service", 3, 0, ""), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 2);
        assert_int_equal(revisions(w)->former[0].number, 1);
        assert_true(key_exists(w, "/_fleet/revision/a.service/1"));
}

static void a_former_text_is_stored_and_its_number_returns_with_it(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *by_user = make_unit("a.service", "[Service]\nExecStart=/bin/true\n");

        raise_to(w, KV_LEVEL_REVISIONS);
        assert_int_equal(submit_size(w, "a.service", 1, 0, ""), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 1);
        assert_false(key_exists(w, "/_fleet/revision"));
        assert_int_equal(change(w, (UnitChange) { .unit = by_user, .user = "root@alpha" }), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 2);
        assert_string_equal(revisions(w)->wanted.by, "root@alpha");
        assert_true(revisions(w)->wanted.since_ms > 0);
        assert_true(key_exists(w, "/_fleet/revision/a.service/1"));

        /* The same text changes nothing, a former one gets its number. */
        assert_int_equal(change(w, (UnitChange) { .unit = by_user, .user = "other" }), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 2);
        assert_string_equal(revisions(w)->wanted.by, "root@alpha");
        assert_int_equal(submit_size(w, "a.service", 1, 0, ""), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 1);
        assert_int_equal(revisions(w)->wanted.how, REVISION_REVERTED);
        assert_int_equal(revisions(w)->n_former, 1);
        assert_string_equal(revisions(w)->former[0].by, "root@alpha");
        assert_true(key_exists(w, "/_fleet/revision/a.service/2"));

        /* A second scan finds the same keys. */
        registry_reset(w->registry);
        assert_false(LIST_EMPTY(&unit(w, "a.service")->revisions));
        assert_true(LIST_EMPTY(&registry_cluster(w->registry)->lists[CLUSTER_SURPLUS]));
}

static void what_is_requested_for_a_rollout_is_stored_with_its_text_alone(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *first = make_unit("a.service", "[Service]\nExecStart=/bin/true\n"),
                            *next = make_unit("a.service", "[Service]\nExecStart=/bin/false\n");

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(update_request_read("25%", "revert", &first->revisions.wanted.update, NULL), 0);
        assert_int_equal(change(w, (UnitChange) { .unit = first }), KV_OK);
        assert_string_equal(revisions(w)->wanted.update.canary, "25%");
        assert_string_equal(revisions(w)->wanted.update.on_failure, "revert");
        registry_reset(w->registry); /* it reads the tree again */
        assert_string_equal(revisions(w)->wanted.update.canary, "25%");

        assert_int_equal(change(w, (UnitChange) { .unit = next }), KV_OK);
        assert_true(update_request_is_empty(&revisions(w)->wanted.update));
        assert_true(update_request_is_empty(&revisions(w)->former[0].update));
}

static const Unit *text_of(World *w, const char *name) {
        return unit(w, name)->unit;
}

static void an_instance_follows_its_template_while_it_has_its_text(void **state) {
        World *w = *state;

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(submit_size(w, "web@.service", 1, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "web@.service", 2, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "web@1.service", 2, 0, ""), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.number, 2);
        assert_false(key_exists(w, "/_fleet/revision/web@1.service"));

        /* With a text of its own, it leaves the set, and the text that it had is stored. */
        assert_int_equal(submit_size(w, "web@1.service", 7, 0, ""), KV_OK);
        assert_null(text_of(w, "web@1.service")->from);
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.number, 3);
        assert_true(key_exists(w, "/_fleet/revision/web@1.service/2"));

        /* A new text of the template changes no instance: the engine does that. */
        assert_int_equal(submit_size(w, "web@2.service", 2, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "web@.service", 3, 0, ""), KV_OK);
        assert_string_equal(text_of(w, "web@2.service")->from, "web@.service");
        assert_int_equal(text_of(w, "web@2.service")->revisions.wanted.number, 2);

        /* A unit that is no instance follows nothing. */
        assert_int_equal(submit_size(w, "web.service", 3, 0, ""), KV_OK);
        assert_null(text_of(w, "web.service")->from);
}

#define OWN_DROP_IN(value) "\n\n# web@1.service.d/own.conf\n[Service]\nEnvironment=" value "\n"
#define OWN_2(value)       "\n\n# web@2.service.d/own.conf\n[Service]\nEnvironment=" value "\n"
#define OWN_SINGLETON                                                           \
        "\n\n# web@1.service.d/one.conf\n[X-Fleet]\nSingleton=yes\n[Service]\n" \
        "TimeoutStopSec=300\n"
#define FIRST_TEXT "[Service]\nExecStart=/bin/true\n"
#define NEXT_TEXT  "[Service]\nExecStart=/bin/false\n"

static RolloutInstanceState state_in_set(World *w, const char *head) {
        RolloutSet set = {};
        RolloutInstanceState state;

        assert_int_equal(rollout_set_read(registry_cluster(w->registry), unit(w, head), &set), 0);
        assert_int_equal(set.n, 1);
        state = set.instances[0].state;
        rollout_set_done(&set);
        return state;
}

/* As the step of a rollout does. */
static const ClusterAssignment *update_one(World *w, const char *name) {
        const Cluster *c = registry_cluster(w->registry);
        RolloutInstance update = { .unit = unit(w, name), .assignment = cluster_assignment(c, self, name) };
        RolloutStep step = { .change = ROLLOUT_WRITE, .updates = &update, .n_updates = 1 };

        assert_int_equal(answer(w, rollout_step_write(w->registry, term(w), unit(w, "web@.service"), &step,
                                                      on_done, w)),
                         KV_OK);
        return cluster_assignment(c, self, name);
}

static void an_instance_with_drop_ins_of_its_own_follows_its_template(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *first = make_unit("web@.service", FIRST_TEXT),
                            *next = make_unit("web@.service", NEXT_TEXT),
                            *whole = make_unit("web@1.service", FIRST_TEXT OWN_DROP_IN("A=1")),
                            *updated = make_unit("web@1.service", NEXT_TEXT OWN_DROP_IN("A=1")),
                            *changed = make_unit("web@1.service", NEXT_TEXT OWN_DROP_IN("A=2"));
        const ClusterAssignment *a;
        AssignmentChange c;

        raise_to(w, KV_LEVEL_UPDATES);
        machine(w, self);
        assert_int_equal(change(w, (UnitChange) { .unit = first }), KV_OK);
        assert_int_equal(
                change(w, (UnitChange) { .unit = whole, .has_target = true, .target = TARGET_LAUNCHED }),
                KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        assert_string_equal(text_of(w, "web@1.service")->base, first->hash);
        assert_string_equal(text_of(w, "web@1.service")->hash, whole->hash);
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        c.revision = 1;
        memcpy(c.hash, whole->hash, sizeof(c.hash));
        memcpy(c.base, first->hash, sizeof(c.base));
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(state_in_set(w, "web@.service"), INSTANCE_UPDATING);
        assert_false(rollout_is_due(unit(w, "web@1.service"), unit(w, "web@.service")));

        /* A new text of the template comes with the drop-ins. */
        assert_int_equal(change(w, (UnitChange) { .unit = next }), KV_OK);
        assert_int_equal(state_in_set(w, "web@.service"), INSTANCE_BAD);
        assert_true(rollout_is_due(unit(w, "web@1.service"), unit(w, "web@.service")));
        a = update_one(w, "web@1.service");
        assert_string_equal(a->hash, updated->hash);
        assert_string_equal(a->base, next->hash);
        assert_int_equal(a->revision, 2);
        assert_string_equal(text_of(w, "web@1.service")->text, updated->text);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.number, 2);
        assert_int_equal(state_in_set(w, "web@.service"), INSTANCE_UPDATING);
        assert_false(rollout_is_due(unit(w, "web@1.service"), unit(w, "web@.service")));

        /* Other drop-ins are a text that its machine does not have yet. */
        assert_int_equal(change(w, (UnitChange) { .unit = changed }), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        assert_false(key_exists(w, "/_fleet/revision/web@1.service"));
        assert_int_equal(state_in_set(w, "web@.service"), INSTANCE_BAD);
        assert_string_equal(update_one(w, "web@1.service")->hash, changed->hash);

        /* Without drop-ins it has the text of the template alone. */
        assert_int_equal(submit(w, "web@1.service", NEXT_TEXT, false, 0), KV_OK);
        assert_int_equal(text_of(w, "web@1.service")->own_size, 0);
        a = update_one(w, "web@1.service");
        assert_string_equal(a->hash, next->hash);
        assert_string_equal(a->base, next->hash);
}

static bool has_rollout_of_its_own(World *w) {
        return unit(w, "web@1.service")->rollout != NULL;
}

/* The same text may come later by the template: as after a revert of the instance, then of the template. */
static void an_instance_follows_again_when_its_template_gets_its_text(void **state) {
        static const char *const texts[] = { FIRST_TEXT, NEXT_TEXT, "[Service]\nExecStart=/bin/sleep 3\n" };
        _cleanup_unit_ Unit *own = make_unit("web@2.service", NEXT_TEXT OWN_2("A=1")),
                            *apart = make_unit("web@3.service", FIRST_TEXT);
        const RolloutConditions conditions = {};
        World *w = *state;

        raise_to(w, KV_LEVEL_UPDATES);
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                assert_int_equal(submit(w, "web@.service", texts[i], false, 0), KV_OK);
        assert_int_equal(submit(w, "web@1.service", texts[2], false, 0), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");

        /* It returns to a revision of the template alone. */
        assert_int_equal(submit(w, "web@1.service", texts[1], false, 0), KV_OK);
        assert_null(text_of(w, "web@1.service")->from);
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.number, 2);
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.how, REVISION_REVERTED);
        assert_int_equal(change(w, (UnitChange) { .unit = own }), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = apart }), KV_OK);
        put_key(w, "/_fleet/rollout/web@1.service", "{\"state\":\"rolling\",\"to\":3,\"toHash\":\"h\"}");
        run_until(w, has_rollout_of_its_own);

        /* The template returns, too. */
        assert_int_equal(submit(w, "web@.service", texts[1], false, 0), KV_OK);
        assert_null(text_of(w, "web@1.service")->from);
        for (unsigned i = 0; i < 2; i++) {
                const ClusterUnit *head = unit(w, "web@.service");
                _cleanup_rollout_step_ RolloutStep step = {};

                assert_int_equal(rollout_step(registry_cluster(w->registry), head, &conditions, &step), 0);
                assert_int_equal(step.change, i == 0 ? ROLLOUT_WRITE : ROLLOUT_NOTHING);
                if (i == 0)
                        assert_int_equal(
                                answer(w, rollout_step_write(w->registry, term(w), head, &step, on_done, w)),
                                KV_OK);
        }
        for (unsigned i = 1; i <= 2; i++) {
                const Unit *u = text_of(w, i == 1 ? "web@1.service" : "web@2.service");

                assert_string_equal(u->from, "web@.service");
                assert_string_equal(u->base, text_of(w, "web@.service")->hash);
                assert_int_equal(u->revisions.wanted.number, 2);
                assert_int_equal(u->revisions.n_former, 0);
        }
        assert_string_equal(text_of(w, "web@2.service")->hash, own->hash);
        assert_int_equal(text_of(w, "web@2.service")->own_size, strlen(OWN_2("A=1")));
        assert_null(unit(w, "web@1.service")->rollout);
        assert_null(text_of(w, "web@3.service")->from);
}

/* As the files of a unit directory, or of fleetctl --no-block, that change together. */
static void instances_follow_a_template_that_changes_in_the_same_request(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *first = make_unit("web@.service", FIRST_TEXT),
                            *next = make_unit("web@.service", NEXT_TEXT),
                            *plain = make_unit("web@2.service", FIRST_TEXT),
                            *whole = make_unit("web@1.service", FIRST_TEXT OWN_DROP_IN("A=1")),
                            *plain_next = make_unit("web@2.service", NEXT_TEXT),
                            *whole_next = make_unit("web@1.service", NEXT_TEXT OWN_DROP_IN("A=1"));
        const UnitChange created[] = { { .unit = whole }, { .unit = plain }, { .unit = first } },
                         changed[] = { { .unit = whole_next }, { .unit = plain_next }, { .unit = next } },
                         removed[] = { { .unit = plain }, { .name = "web@.service", .remove = true } };

        raise_to(w, KV_LEVEL_UPDATES);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(answer(w, registry_change_units(w->registry, i == 0 ? created : changed, 3,
                                                                 on_done, w)),
                                 KV_OK);
                for (unsigned k = 1; k <= 2; k++) {
                        const Unit *u = text_of(w, k == 1 ? "web@1.service" : "web@2.service");

                        assert_string_equal(u->from, "web@.service");
                        assert_string_equal(u->base, i == 0 ? first->hash : next->hash);
                        assert_int_equal(u->revisions.wanted.number, i + 1);
                }
                assert_int_equal(text_of(w, "web@.service")->revisions.wanted.number, i + 1);
        }
        assert_int_equal(answer(w, registry_change_units(w->registry, removed, 2, on_done, w)), KV_OK);
        assert_null(text_of(w, "web@2.service")->from);
}

static void a_text_of_a_template_that_is_invalid_with_the_drop_ins_of_an_instance_is_rejected(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *next = make_unit("web@.service", NEXT_TEXT);
        Error err = {};

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(submit(w, "web@.service", "[X-Fleet]\nMaxSurge=1\n" FIRST_TEXT, false, 0), KV_OK);
        assert_int_equal(submit(w, "web@1.service",
                                "[X-Fleet]\nMaxSurge=1\n" FIRST_TEXT
                                "\n\n# web@1.service.d/own.conf\n[X-Fleet]\nMaxUnavailable=0\n",
                                false, 0),
                         KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        assert_int_equal(cluster_check_followers(registry_cluster(w->registry), next, &(size_t) { 0 }, &err),
                         -EINVAL);
        assert_string_equal(err.message, "web@1.service: MaxUnavailable=0 requires MaxSurge= of at least 1");
}

/* Its lease is held for the stop of the text that it gets, not for that of the template. */
static void a_step_holds_the_lease_of_an_instance_with_drop_ins_for_its_own_text(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *first = make_unit("web@.service", FIRST_TEXT),
                            *next = make_unit("web@.service", NEXT_TEXT),
                            *whole = make_unit("web@1.service", FIRST_TEXT OWN_SINGLETON),
                            *updated = make_unit("web@1.service", NEXT_TEXT OWN_SINGLETON);
        const uint64_t held_ms = singleton_hold_ms(&whole->file, SINGLETON_LEASE_MS);
        AssignmentChange c;

        raise_to(w, KV_LEVEL_UPDATES);
        machine(w, self);
        assert_int_equal(change(w, (UnitChange) { .unit = first }), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = whole }), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        c.hold_ms = 1;
        c.revision = 1;
        memcpy(c.hash, whole->hash, sizeof(c.hash));
        memcpy(c.base, first->hash, sizeof(c.base));
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = next }), KV_OK);
        assert_string_equal(update_one(w, "web@1.service")->hash, updated->hash);
        assert_int_equal(cluster_assignment(registry_cluster(w->registry), self, "web@1.service")->hold_ms,
                         held_ms);
}

/* What follows the text of the template is no drop-in of the instance. */
static void an_instance_with_another_end_of_its_text_leaves_its_template(void **state) {
        World *w = *state;

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(submit(w, "web@.service", FIRST_TEXT, false, 0), KV_OK);
        assert_int_equal(submit(w, "web@1.service", FIRST_TEXT "Environment=A=1\n", false, 0), KV_OK);
        assert_null(text_of(w, "web@1.service")->from);
        assert_int_equal(submit(w, "web@2.service", FIRST_TEXT OWN_DROP_IN("A=1"), false, 0), KV_OK);
        assert_null(text_of(w, "web@2.service")->from); /* it is one of web@1.service */
        assert_int_equal(submit(w, "web@1.service", FIRST_TEXT OWN_DROP_IN("A=1"), false, 0), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
}

/* The instance has a file of its own in a unit directory, with the text of the template. */
static void an_instance_that_a_rollout_updates_keeps_its_unit_directory(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *owned = make_unit("web@1.service", "[Service]\nExecStart=/bin/true\n"),
                            *first = make_unit("web@.service", "[Service]\nExecStart=/bin/true\n"),
                            *next = make_unit("web@.service", "[Service]\nExecStart=/bin/false\n");
        RolloutWrite write = { .n_changes = 1 };
        AssignmentChange c;

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(unit_set_owner(owned, self, "/etc/fleet/units/web@1.service"), 0);
        assert_int_equal(change(w, (UnitChange) { .unit = first }), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = owned, .user = HISTORY_DIRECTORY }), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        assert_int_equal(change(w, (UnitChange) { .unit = next }), KV_OK);

        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        write.head = unit(w, "web@.service");
        write.changes = &c;
        assert_int_equal(answer(w, registry_roll(w->registry, term(w), &write, on_done, w)), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->hash, next->hash);
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.number, 2);
        assert_true(same_string(text_of(w, "web@1.service")->owner, self));
        assert_true(same_string(text_of(w, "web@1.service")->path, "/etc/fleet/units/web@1.service"));
}

/* The key of the instance has its former text until the step is written. The process may have either. */
static void a_step_to_a_longer_stop_extends_the_hold_of_a_follower(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *instance = make_unit("web@1.service", SINGLETON "TimeoutStopSec=5\n"),
                            *first = make_unit("web@.service", SINGLETON "TimeoutStopSec=5\n"),
                            *next = make_unit("web@.service", SINGLETON "TimeoutStopSec=300\n");
        RolloutInstance update = {};
        RolloutStep step = { .change = ROLLOUT_WRITE, .updates = &update, .n_updates = 1 };
        const uint64_t held_ms = singleton_hold_ms(&first->file, SINGLETON_LEASE_MS);
        AssignmentChange c;

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(change(w, (UnitChange) { .unit = first }), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = instance }), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        c.hold_ms = held_ms;
        c.revision = 1;
        memcpy(c.hash, first->hash, sizeof(c.hash));
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = next }), KV_OK);

        update.unit = unit(w, "web@1.service");
        update.assignment = cluster_assignment(registry_cluster(w->registry), self, "web@1.service");
        assert_int_equal(update.assignment->hold_ms, held_ms);
        assert_int_equal(answer(w, rollout_step_write(w->registry, term(w), unit(w, "web@.service"), &step,
                                                      on_done, w)),
                         KV_OK);
        update.assignment = cluster_assignment(registry_cluster(w->registry), self, "web@1.service");
        assert_string_equal(update.assignment->hash, next->hash);
        assert_int_equal(update.assignment->hold_ms, singleton_hold_ms(&next->file, SINGLETON_LEASE_MS));
}

static bool has_content(World *w) {
        return unit(w, "web@1.service")->inputs != NULL;
}

/* Without a key of its inputs, no number is known. */
static void a_step_assigns_the_content_of_its_unit(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *text = make_unit("web@.service", FIRST_TEXT "[X-Fleet]\nSecret=pw\n"),
                            *instance = make_unit("web@1.service", FIRST_TEXT "[X-Fleet]\nSecret=pw\n");
        AssignmentChange c;

        raise_to(w, KV_LEVEL_INPUTS);
        machine(w, self);
        assert_int_equal(change(w, (UnitChange) { .unit = text }), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = instance }), KV_OK);
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        c.revision = 1;
        memcpy(c.hash, text->hash, sizeof(c.hash));
        c.inputs = 2;
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(cluster_assignment(registry_cluster(w->registry), self, c.unit)->inputs, 2);
        assert_int_equal(update_one(w, "web@1.service")->inputs, 0);
        put_key(w, "/_fleet/inputs/web@1.service", "{\"number\":3}");
        run_until(w, has_content);
        assert_int_equal(update_one(w, "web@1.service")->inputs, 3);
}

static int replicate(World *w, TargetState target, bool remove, const Unit *text, size_t n) {
        _cleanup_free_ ReplicasWrite *write = NEW0(ReplicasWrite, 1);
        static Unit units[8];
        static char names[8][32];
        ReplicasRecord record = { .slots = n };

        assert_non_null(write);
        write->head = unit(w, "web@.service");
        write->record = &record;
        write->n_changes = n;
        for (size_t i = 0; i < n; i++) {
                snprintf(names[i], sizeof(names[i]), "web@%zu.service", i + 1);
                if (text) {
                        units[i] = *text; /* it borrows */
                        units[i].name = names[i];
                }
                write->changes[i] = (UnitChange) { .unit = text ? &units[i] : NULL,
                                                   .name = names[i],
                                                   .only_if_absent = text != NULL,
                                                   .has_target = !remove,
                                                   .target = target,
                                                   .remove = remove };
        }
        return registry_replicate(w->registry, term(w), write, on_done, w);
}

/* Each step checks the indexes of the template, of the number and of the instances. */
static void a_step_of_replicas_is_rejected_after_a_change_of_what_it_was_decided_on(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *text = make_unit("web@.service", FIRST_TEXT);
        UnitChange changes[] = {
                { .name = "web@.service", .has_target = true, .target = TARGET_LOADED },
                { .unit = text, .name = "web@.service" },
                { .name = "web@1.service", .has_target = true, .target = TARGET_LOADED },
                { .name = "web@1.service", .remove = true },
        };
        ReplicasRecord scaled = { .is_scaled = true, .count = 2, .slots = 2 };

        raise_to(w, KV_LEVEL_SCHEDULING);
        assert_int_equal(change(w, (UnitChange) { .unit = text }), KV_OK);
        assert_int_equal(answer(w, replicate(w, TARGET_LAUNCHED, false, text, 2)), KV_OK);
        assert_string_equal(text_of(w, "web@2.service")->from, "web@.service");
        assert_null(text_of(w, "web@2.service")->owner);
        assert_int_equal(unit(w, "web@2.service")->target, TARGET_LAUNCHED);
        assert_int_equal(unit(w, "web@.service")->replicas->slots, 2);
        assert_int_equal(answer(w, replicate(w, TARGET_LAUNCHED, false, text, 2)), KV_EXISTS);
        for (size_t i = 0; i < ELEMENTS(changes); i++) {
                assert_int_equal(registry_change_units(w->registry, &changes[i], 1, NULL, NULL), 0);
                assert_int_equal(answer(w, replicate(w, TARGET_INACTIVE, true, NULL, 2)), KV_COMPARE_FAILED);
                assert_non_null(unit(w, "web@2.service"));
        }
        assert_int_equal(registry_scale(w->registry, unit(w, "web@.service"), &scaled, "root", NULL, NULL),
                         0);
        assert_int_equal(answer(w, replicate(w, TARGET_LAUNCHED, false, text, 1)), KV_COMPARE_FAILED);
        assert_int_equal(answer(w, replicate(w, TARGET_LAUNCHED, false, text, 1)), KV_OK);
        assert_int_equal(answer(w, replicate(w, TARGET_INACTIVE, true, NULL, 2)), KV_OK);
        assert_null(unit(w, "web@2.service"));
}

/* 100 large texts fit into no command: the next step has the others. */
static void a_step_of_replicas_has_as_many_texts_as_fit(void **state) {
        World *w = *state;
        _cleanup_text_ Text t = {};
        _cleanup_unit_ Unit *text = NULL;
        size_t n = 0;

        text_append(&t, FIRST_TEXT);
        while (t.size < 60 * 1024)
                text_append(
                        &t,
                        "Environment=A=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n");
        text = make_unit("web@.service", t.chars);
        raise_to(w, KV_LEVEL_SCHEDULING);
        assert_int_equal(change(w, (UnitChange) { .unit = text }), KV_OK);
        assert_int_equal(answer(w, replicate(w, TARGET_LAUNCHED, false, text, 8)), KV_OK);
        for (unsigned i = 1; i <= 8; i++) {
                char name[32];

                snprintf(name, sizeof(name), "web@%u.service", i);
                n += unit(w, name) != NULL;
        }
        assert_in_range(n, 2, 4);
}

/* Let the controller know of a unit that was planned, and write the step that is due. Return whether one was.
 */
static bool control_set(World *w, void *controller, const char *unit) {
        Control control = {
                .self = controller, .registry = w->registry, .term = term(w), .done = on_done, .userdata = w
        };
        int r;

        if (unit)
                assert_int_equal(replicas_controller.planned(&control, unit), 0);
        r = replicas_controller.step(&control);
        assert_in_range(r, 0, 1);
        if (r > 0)
                assert_int_equal(answer(w, 0), KV_OK);
        return r > 0;
}

static void scale_set(World *w, unsigned n) {
        const ClusterUnit *head = unit(w, "web@.service");
        ReplicasRecord scaled = { .is_scaled = true,
                                  .count = n,
                                  .file = (uint64_t) head->unit->placement.replicas,
                                  .slots = head->replicas->slots };

        assert_int_equal(answer(w, registry_scale(w->registry, head, &scaled, "root", on_done, w)), KV_OK);
}

/* A step looks at each slot. It is taken after a change of the template, or of a slot that is not as
 * demanded. */
static void a_set_is_looked_at_after_a_change_that_may_demand_a_step(void **state) {
        static const struct {
                const char *name;
                bool remove, due;
        } rows[] = {
                { "web@2.service", true, true },    { "web@3.service", false, false },
                { "web@9.service", true, false },   { "web@blue.service", true, false },
                { "web@02.service", false, false }, { "web@.service", false, true },
                { "web@1.service", false, false },
        };
        World *w = *state;
        _cleanup_unit_ Unit *text = make_unit("web@.service", FIRST_TEXT "[X-Fleet]\nReplicas=3\n");
        void *controller = NULL;

        assert_int_equal(replicas_open(NULL, NULL, &controller, NULL), 0);
        raise_to(w, KV_LEVEL_SERVICES);
        assert_int_equal(change(w, (UnitChange) { .unit = text }), KV_OK);
        assert_false(control_set(w, controller, "web@.service")); /* below its level */
        assert_null(unit(w, "web@1.service"));
        raise_to(w, KV_LEVEL_SCHEDULING);
        assert_true(control_set(w, controller, NULL));
        assert_non_null(unit(w, "web@3.service"));
        assert_false(control_set(w, controller, NULL));
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const ClusterUnit *u = unit(w, rows[i].name);

                if (u && rows[i].remove)
                        assert_int_equal(change(w, (UnitChange) { .name = rows[i].name, .remove = true }),
                                         KV_OK);
                /* The step that is due now shows whether the set is looked at. */
                scale_set(w, 4 + (unsigned) i);
                if (control_set(w, controller, rows[i].name) != rows[i].due)
                        fail_msg("after a change of %s", rows[i].name);
                if (rows[i].due)
                        assert_false(control_set(w, controller, NULL));
                assert_non_null(unit(w, "web@2.service"));
        }
        scale_set(w, 2);
        assert_true(control_set(w, controller, "web@3.service")); /* above the number, and one of the set */
        assert_null(unit(w, "web@3.service"));
        replicas_close(controller);
}

static void below_the_feature_level_of_updates_no_instance_follows(void **state) {
        World *w = *state;
        AssignmentChange c = { .unit = "web@1.service", .kind = ASSIGNMENT_RUN, .revision = 1 };

        raise_to(w, KV_LEVEL_REVISIONS);
        machine(w, other);
        assert_int_equal(submit_size(w, "web@.service", 1, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "web@1.service", 1, 0, ""), KV_OK);
        assert_null(text_of(w, "web@1.service")->from);

        /* When its assignment names its text for the first time, it does. */
        raise_to(w, KV_LEVEL_UPDATES);
        snprintf(c.machine, sizeof(c.machine), "%s", other);
        c.unit_index = unit(w, "web@1.service")->index;
        c.revision = 0;
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_null(text_of(w, "web@1.service")->from);
        c.expected_index = cluster_assignment(registry_cluster(w->registry), other, "web@1.service")->index;
        c.revision = 1;
        snprintf(c.hash, sizeof(c.hash), "%s", text_of(w, "web@1.service")->hash);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
}

/* Below the feature level, all of its text counts. */
static void after_the_raise_an_assignment_names_the_drop_ins_of_the_instance(void **state) {
        World *w = *state;
        const ClusterAssignment *a;
        AssignmentChange c;

        raise_to(w, KV_LEVEL_REVISIONS);
        machine(w, self);
        assert_int_equal(submit(w, "web@.service", FIRST_TEXT, false, 0), KV_OK);
        assert_int_equal(submit(w, "web@1.service", FIRST_TEXT OWN_DROP_IN("A=1"), false, 0), KV_OK);
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(text_of(w, "web@1.service")->own, 0);

        raise_to(w, KV_LEVEL_UPDATES);
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        c.revision = 1;
        snprintf(c.hash, sizeof(c.hash), "%s", text_of(w, "web@1.service")->hash);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_string_equal(text_of(w, "web@1.service")->from, "web@.service");
        a = cluster_assignment(registry_cluster(w->registry), self, "web@1.service");
        assert_string_equal(a->base, text_of(w, "web@.service")->hash);
        assert_true(a->own > 0 && a->own == text_of(w, "web@1.service")->own);
}

/* Its own number of the text is another one. */
static void after_the_raise_a_follower_names_the_number_of_its_template(void **state) {
        World *w = *state;
        AssignmentChange c;

        raise_to(w, KV_LEVEL_REVISIONS);
        machine(w, self);
        for (int i = 1; i <= 5; i++)
                assert_int_equal(submit_size(w, "web@.service", i, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "web@1.service", 4, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "web@1.service", 5, 0, ""), KV_OK);
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);

        raise_to(w, KV_LEVEL_UPDATES);
        c = assignment_for(w, "web@1.service", ASSIGNMENT_RUN);
        c.revision = revisions_wanted(&text_of(w, "web@1.service")->revisions);
        assert_int_equal(c.revision, 2);
        snprintf(c.hash, sizeof(c.hash), "%s", text_of(w, "web@1.service")->hash);
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(text_of(w, "web@1.service")->revisions.wanted.number, 5);
        assert_int_equal(cluster_assignment(registry_cluster(w->registry), self, "web@1.service")->revision,
                         5);
}

/* As the engine writes its plan after the raise of the feature level. */
static void the_raise_of_the_level_writes_large_followers_in_parts(void **state) {
        World *w = *state;
        AssignmentChange changes[150] = {};
        size_t n = 0, n_parts = 0, written = 0;

        raise_to(w, KV_LEVEL_REVISIONS);
        machine(w, other);
        assert_int_equal(submit_size(w, "web@.service", 1, 2 * 1024, ""), KV_OK);
        for (unsigned i = 0; i < ELEMENTS(changes); i++) {
                AssignmentChange *c = &changes[i];

                snprintf(c->unit, sizeof(c->unit), "web@%u.service", i);
                snprintf(c->machine, sizeof(c->machine), "%s", other);
                assert_int_equal(submit_size(w, c->unit, 1, 2 * 1024, ""), KV_OK);
                c->unit_index = unit(w, c->unit)->index;
        }
        assert_int_equal(
                answer(w, registry_assign(w->registry, term(w), changes, ELEMENTS(changes), &n, on_done, w)),
                KV_OK);
        assert_int_equal(n, ELEMENTS(changes)); /* assignments alone are small */

        raise_to(w, KV_LEVEL_UPDATES);
        for (unsigned i = 0; i < ELEMENTS(changes); i++) {
                changes[i].expected_index =
                        cluster_assignment(registry_cluster(w->registry), other, changes[i].unit)->index;
                changes[i].revision = 1;
                snprintf(changes[i].hash, sizeof(changes[i].hash), "%s", text_of(w, changes[i].unit)->hash);
        }
        for (; written < ELEMENTS(changes); written += n, n_parts++)
                assert_int_equal(answer(w, registry_assign(w->registry, term(w), changes + written,
                                                           ELEMENTS(changes) - written, &n, on_done, w)),
                                 KV_OK);
        assert_in_range(n_parts, 2, 3);
        for (unsigned i = 0; i < ELEMENTS(changes); i++)
                assert_string_equal(text_of(w, changes[i].unit)->from, "web@.service");
}

/* Of updates that fit into no common transaction, the first ones are written. */
static void the_updates_of_a_step_fit_into_one_transaction(void **state) {
        World *w = *state;
        AssignmentChange changes[30] = {};
        char name[32];

        raise_to(w, KV_LEVEL_UPDATES);
        machine(w, other);
        assert_int_equal(submit_size(w, "web@.service", 1, 16 * 1024, ""), KV_OK);
        for (unsigned i = 0; i < ELEMENTS(changes); i++) {
                AssignmentChange *c = &changes[i];

                snprintf(name, sizeof(name), "web@%u.service", i);
                assert_int_equal(submit_size(w, name, 1, 16 * 1024, ""), KV_OK);
                *c = (AssignmentChange) { .kind = ASSIGNMENT_RUN,
                                          .unit_index = unit(w, name)->index,
                                          .revision = 1 };
                snprintf(c->unit, sizeof(c->unit), "%s", name);
                snprintf(c->machine, sizeof(c->machine), "%s", other);
                snprintf(c->hash, sizeof(c->hash), "%s", text_of(w, name)->hash);
        }
        assert_int_equal(answer(w, registry_roll(w->registry, term(w),
                                                 &(RolloutWrite) { .head = unit(w, "web@.service"),
                                                                   .changes = changes,
                                                                   .n_changes = ELEMENTS(changes) },
                                                 on_done, w)),
                         KV_OK);
        assert_non_null(cluster_assignment(registry_cluster(w->registry), other, "web@0.service"));
        assert_null(cluster_assignment(registry_cluster(w->registry), other, "web@29.service"));
}

/* Otherwise it is tried again for ever. */
static void a_revert_that_the_store_rejects_becomes_a_pause(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *first = NULL;
        _cleanup_rollout_step_ RolloutStep step = { .change = ROLLOUT_REVERT,
                                                    .has_record = true,
                                                    .reason = "reverted" };
        const RolloutRecord *record;

        raise_to(w, KV_LEVEL_UPDATES);
        for (int i = 1; i <= 4; i++)
                assert_int_equal(submit_size(w, "a.service", i, 0, "KeepRevisions=2"), KV_OK);
        assert_int_equal(registry_read_revision(w->registry, "a.service", 1, &first), 0);
        step.next = (RolloutRecord) { .state = ROLLOUT_REVERTING, .why = "it failed" };
        step.next.to.number = 1;
        snprintf(step.next.to.hash, sizeof(step.next.to.hash), "%s", first->hash);
        step.next.reverted = (RolloutText) { .number = 4 };
        snprintf(step.next.reverted.hash, sizeof(step.next.reverted.hash), "%s",
                 text_of(w, "a.service")->hash);
        assert_int_equal(
                answer(w, rollout_step_write(w->registry, term(w), unit(w, "a.service"), &step, on_done, w)),
                KV_OK);
        record = unit(w, "a.service")->rollout;
        assert_int_equal(record->state, ROLLOUT_PAUSED);
        assert_int_equal(record->to.number, 4);
        assert_string_equal(record->why, "it failed; too many revisions are stored (KeepRevisions=)");
        assert_int_equal(revisions(w)->wanted.number, 4);
}

/* The step changes assignments only, and was planned before the pause. */
static void a_step_after_a_pause_is_rejected(void **state) {
        World *w = *state;
        RolloutRecord record = { .state = ROLLOUT_ROLLING, .to = { .number = 1, .hash = "1" } };
        ClusterUnit before;
        AssignmentChange c;

        raise_to(w, KV_LEVEL_UPDATES);
        machine(w, self);
        assert_int_equal(submit_size(w, "a.service", 1, 0, ""), KV_OK);
        assert_int_equal(
                answer(w, registry_roll(w->registry, term(w),
                                        &(RolloutWrite) { .head = unit(w, "a.service"), .record = &record },
                                        on_done, w)),
                KV_OK);
        before = *unit(w, "a.service");
        record.state = ROLLOUT_PAUSED;
        assert_int_equal(
                answer(w, registry_roll(w->registry, 0,
                                        &(RolloutWrite) { .head = unit(w, "a.service"), .record = &record },
                                        on_done, w)),
                KV_OK);
        c = assignment_for(w, "a.service", ASSIGNMENT_RUN);
        before.rollout = unit(w, "a.service")->rollout;
        assert_int_equal(
                answer(w, registry_roll(w->registry, term(w),
                                        &(RolloutWrite) { .head = &before, .changes = &c, .n_changes = 1 },
                                        on_done, w)),
                KV_COMPARE_FAILED);
        assert_null(cluster_assignment(registry_cluster(w->registry), self, "a.service"));
}

/* A revert of two texts that fit into no common transaction. */
static void a_revert_of_large_texts_is_written(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *former = NULL;
        RolloutRecord record = { .state = ROLLOUT_REVERTING, .to = { .number = 1 } };

        raise_to(w, KV_LEVEL_UPDATES);
        assert_int_equal(submit_size(w, "a.service", 1, 126 * 1024, ""), KV_OK);
        assert_int_equal(submit_size(w, "a.service", 2, 126 * 1024, ""), KV_OK);
        assert_int_equal(registry_read_revision(w->registry, "a.service", 1, &former), 0);
        snprintf(record.to.hash, sizeof(record.to.hash), "%s", former->hash);
        assert_int_equal(answer(w, registry_roll(w->registry, term(w),
                                                 &(RolloutWrite) { .head = unit(w, "a.service"),
                                                                   .record = &record,
                                                                   .reason = "reverted",
                                                                   .revert = former },
                                                 on_done, w)),
                         KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 1);
        assert_true(key_exists(w, "/_fleet/revision/a.service/2"));
        assert_true(key_exists(w, "/_fleet/rollout/a.service"));
}

/* An instance that was not updated, as its machine was away, may move with its text. */
static void the_text_of_an_instance_that_is_behind_is_kept(void **state) {
        World *w = *state;
        AssignmentChange c = { .unit = "web@1.service", .kind = ASSIGNMENT_RUN, .revision = 1 };

        raise_to(w, KV_LEVEL_UPDATES);
        machine(w, other);
        assert_int_equal(submit_size(w, "web@.service", 1, 0, "KeepRevisions=2"), KV_OK);
        assert_int_equal(submit_size(w, "web@1.service", 1, 0, "KeepRevisions=2"), KV_OK);
        snprintf(c.machine, sizeof(c.machine), "%s", other);
        snprintf(c.hash, sizeof(c.hash), "%s", text_of(w, "web@1.service")->hash);
        c.unit_index = unit(w, "web@1.service")->index;
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        for (int i = 2; i <= 3; i++)
                assert_int_equal(submit_size(w, "web@.service", i, 0, "KeepRevisions=2"), KV_OK);
        assert_false(LIST_EMPTY(&registry_cluster(w->registry)->lists[CLUSTER_SURPLUS]));
        assert_int_equal(registry_delete_surplus(w->registry, term(w), on_done, w), 0);
        assert_true(key_exists(w, "/_fleet/revision/web@.service/1"));

        c.expected_index = cluster_assignment(registry_cluster(w->registry), other, "web@1.service")->index;
        c.revision = 3;
        assert_int_equal(answer(w, registry_assign(w->registry, term(w), &c, 1, NULL, on_done, w)), KV_OK);
        assert_int_equal(registry_delete_surplus(w->registry, term(w), on_done, w), 1);
        assert_int_equal(answer(w, 0), KV_OK);
        assert_false(key_exists(w, "/_fleet/revision/web@.service/1"));
}

static void texts_that_fit_into_no_common_transaction_are_stored_one_after_the_other(void **state) {
        World *w = *state;

        raise_to(w, KV_LEVEL_REVISIONS);
        for (int i = 1; i <= 3; i++)
                assert_int_equal(submit_size(w, "a.service", i, 126 * 1024, ""), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 3);
        assert_int_equal(revisions(w)->n_former, 2);
        assert_true(key_exists(w, "/_fleet/revision/a.service/1"));
        assert_true(key_exists(w, "/_fleet/revision/a.service/2"));
}

/* The first of two transactions has taken effect, the second one is rejected: nothing is lost. */
static void a_change_that_loses_against_another_one_leaves_the_revisions_as_they_are(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *a = make_unit("a.service", "[Service]\nExecStart=/bin/true\n");

        raise_to(w, KV_LEVEL_REVISIONS);
        assert_int_equal(submit_size(w, "a.service", 1, 126 * 1024, ""), KV_OK);
        assert_int_equal(submit_size(w, "a.service", 2, 126 * 1024, ""), KV_OK);
        assert_int_equal(change(w, (UnitChange) { .unit = a, .expected_index = 1 }), KV_COMPARE_FAILED);
        assert_int_equal(revisions(w)->wanted.number, 2);
        assert_int_equal(revisions(w)->n_former, 1);
        assert_true(LIST_EMPTY(&registry_cluster(w->registry)->lists[CLUSTER_SURPLUS]));
}

static bool has_no_surplus(World *w) {
        return LIST_EMPTY(&registry_cluster(w->registry)->lists[CLUSTER_SURPLUS]);
}

static bool has_two_revisions(World *w) {
        return has_no_surplus(w) && !key_exists(w, "/_fleet/revision/a.service/4");
}

static bool has_no_revision(World *w) {
        return !key_exists(w, "/_fleet/revision") || !key_exists(w, "/_fleet/revision/a.service/5");
}

static void the_leader_deletes_what_is_not_kept(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *next = make_unit("a.service", "[X-Fleet]\nKeepRevisions=3\n");

        raise_to(w, KV_LEVEL_REVISIONS);
        for (int i = 1; i <= 5; i++)
                assert_int_equal(submit_size(w, "a.service", i, 0, "KeepRevisions=3"), KV_OK);
        assert_int_equal(revisions(w)->n_former, 2);
        assert_true(key_exists(w, "/_fleet/revision/a.service/1"));
        assert_int_equal(submit_size(w, "a.service", 6, 0, "KeepRevisions=3"), KV_OK);

        /* With twice as many as are kept, the next text is rejected. */
        assert_int_equal(registry_change_units(w->registry, &(UnitChange) { .unit = next }, 1, on_done, w),
                         -EBUSY);
        assert_int_equal(revisions(w)->wanted.number, 6);

        start_engine(w);
        run_until(w, has_no_surplus);
        assert_false(key_exists(w, "/_fleet/revision/a.service/1"));
        assert_false(key_exists(w, "/_fleet/revision/a.service/3"));
        assert_true(key_exists(w, "/_fleet/revision/a.service/4"));
        assert_true(key_exists(w, "/_fleet/revision/a.service/5"));
        assert_int_equal(change(w, (UnitChange) { .unit = next }), KV_OK);
        run_until(w, has_two_revisions);
        assert_true(key_exists(w, "/_fleet/revision/a.service/6"));

        /* A destroyed unit has none. */
        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
        run_until(w, has_no_revision);
        run_until(w, has_no_surplus);
        assert_null(cluster_any_unit(registry_cluster(w->registry), "a.service"));
        assert_int_equal(submit_size(w, "a.service", 1, 0, ""), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 1);
}

/* A person named the machine, and the unit runs nowhere. */
static void a_move_of_a_unit_that_is_only_loaded_moves_the_record_of_its_data(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *next = make_unit("db.service", "[X-Fleet]\nSticky=yes\n");
        MoveRecord move = { .by = "root", .since_ms = 1, .force = true };
        MoveEnd end;

        raise_to(w, KV_LEVEL_SCHEDULING);
        memcpy(move.to, other, sizeof(move.to));
        assert_int_equal(
                change(w, (UnitChange) { .unit = next, .has_target = true, .target = TARGET_LOADED }), KV_OK);
        for (VerdictCode result = VERDICT_MOVE_DONE; result <= VERDICT_MOVE_ENDED; result++) {
                const ClusterUnit *u = unit(w, "db.service");

                put_key(w, "/_fleet/data/db.service",
                        "{\"machine\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"since\":1}");
                assert_int_equal(answer(w, registry_move(w->registry, u, &move, on_done, w)), KV_OK);
                end.unit = u;
                verdict_set(&end.result, result, "%s", "beta");
                assert_int_equal(
                        answer(w, registry_end_moves(w->registry, term(w), &end, 1, NULL, on_done, w)),
                        KV_OK);
                assert_int_equal(streq(u->data->machine, other), result == VERDICT_MOVE_DONE);
        }
}

/* A revert returns to it. */
static void the_completed_revision_is_kept(void **state) {
        World *w = *state;
        _cleanup_unit_ Unit *first = NULL;
        _cleanup_rollout_ RolloutRecord record = { .state = ROLLOUT_DONE, .completed.number = 1 };
        _cleanup_text_ Text t = {};

        raise_to(w, KV_LEVEL_UPDATES);
        for (int i = 1; i <= 5; i++)
                assert_int_equal(submit_size(w, "a.service", i, 0, "KeepRevisions=3"), KV_OK);
        assert_int_equal(registry_read_revision(w->registry, "a.service", 1, &first), 0);
        snprintf(record.completed.hash, sizeof(record.completed.hash), "%s", first->hash);
        record.to = record.from = record.completed;
        stored_rollout_write(&t, &record);
        put_key(w, "/_fleet/rollout/a.service", t.chars);
        start_engine(w);
        assert_int_equal(submit_size(w, "a.service", 6, 0, "KeepRevisions=3"), KV_OK);
        run_until(w, has_no_surplus);
        assert_true(key_exists(w, "/_fleet/revision/a.service/1"));
        assert_false(key_exists(w, "/_fleet/revision/a.service/2"));
        assert_true(key_exists(w, "/_fleet/revision/a.service/5"));
}

static bool has_one_former_text(World *w) {
        return has_no_surplus(w) && !key_exists(w, "/_fleet/revision/a.service/9");
}

/* Texts that the present one keeps do not forbid a text that keeps fewer. */
static void a_text_that_keeps_fewer_revisions_is_accepted(void **state) {
        World *w = *state;

        raise_to(w, KV_LEVEL_REVISIONS);
        for (int i = 1; i <= REVISIONS_KEPT; i++)
                assert_int_equal(submit_size(w, "a.service", i, 0, ""), KV_OK);
        assert_int_equal(submit_size(w, "a.service", 11, 0, "KeepRevisions=2"), KV_OK);
        assert_int_equal(revisions(w)->wanted.number, 11);
        assert_int_equal(revisions(w)->n_former, 1);
        start_engine(w);
        run_until(w, has_one_former_text);
        assert_int_equal(submit_size(w, "a.service", 12, 0, "KeepRevisions=2"), KV_OK);
}

/* One transaction for all of them would cost more than one may. */
static void large_revisions_are_deleted_in_parts(void **state) {
        World *w = *state;

        raise_to(w, KV_LEVEL_REVISIONS);
        for (int i = 1; i <= 30; i++)
                assert_int_equal(submit_size(w, "a.service", i, 126 * 1024, "KeepRevisions=100"), KV_OK);
        assert_true(key_exists(w, "/_fleet/revision/a.service/29"));
        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
        start_engine(w);
        run_until(w, has_no_surplus);
        assert_false(key_exists(w, "/_fleet/revision/a.service/1"));
        assert_false(key_exists(w, "/_fleet/revision/a.service/29"));
}

/* -- Engine -- */

static bool runs_on_self(World *w) {
        ClusterAssignment *o = cluster_assignment(registry_cluster(w->registry), self, "a.service");

        return o && o->kind == ASSIGNMENT_RUN;
}

static bool runs_on_other(World *w) {
        ClusterAssignment *o = cluster_assignment(registry_cluster(w->registry), other, "a.service");

        return o && o->kind == ASSIGNMENT_RUN;
}

static bool stops_on_self(World *w) {
        ClusterAssignment *o = cluster_assignment(registry_cluster(w->registry), self, "a.service");

        return o && o->kind == ASSIGNMENT_STOP;
}

static bool two_assignments_are_counted(World *w) {
        EngineCounts counts;

        engine_counts(w->engine, &counts);
        return counts.scheduled + counts.unscheduled == 2;
}

static void the_engine_assigns_the_requested_units(void **state) {
        World *w = *state;
        EngineCounts counts;

        start_engine(w);
        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        machine(w, self);
        run_until(w, runs_on_self);
        assert_string_equal(words_of(&LIST_FIRST(&unit(w, "a.service")->assignments)->why),
                            "m was the only machine that qualified");
        assert_int_equal(LIST_FIRST(&unit(w, "a.service")->assignments)->term, term(w));

        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
        run_until(w, stops_on_self);
        run_until(w, two_assignments_are_counted);
        engine_counts(w->engine, &counts);
        assert_int_equal(counts.unscheduled, 1);
}

static void the_engine_moves_the_units_of_a_lost_machine(void **state) {
        World *w = *state;

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        machine(w, self);
        machine(w, other);
        start_engine(w);
        run_until(w, runs_on_self);
        assert_int_equal(presence(w, self, PRESENCE_LOST), KV_OK);
        run_until(w, runs_on_other);
        assert_true(runs_on_self(w));

        assert_int_equal(presence(w, self, PRESENCE_UP), KV_OK);
        static const char key[] = "/_fleet/machine/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/unit/a.service";

        assert_true(key_exists(w, key));
        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
        run_until(w, stops_on_self);
}

static bool runs_on_spare(World *w) {
        ClusterAssignment *o = cluster_assignment(registry_cluster(w->registry), spare, "a.service");

        return o && o->kind == ASSIGNMENT_RUN;
}

static bool has_planned(World *w) {
        EngineCounts counts;

        engine_counts(w->engine, &counts);
        return counts.passes > 0;
}

/* By time alone. */
static void a_brake_that_is_shortened_ends_when_its_time_is_over(void **state) {
        World *w = *state;

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        machine(w, self);
        machine(w, other);
        machine(w, spare);
        start_engine(w);
        run_until(w, runs_on_self);
        w->engine = engine_free(w->engine);
        assert_int_equal(presence(w, self, PRESENCE_LOST), KV_OK);
        assert_int_equal(presence(w, other, PRESENCE_LOST), KV_OK);

        start_engine(w);
        run_until(w, has_planned);
        assert_false(runs_on_spare(w));
        engine_set_brake(w->engine, 1000);
        run_until(w, runs_on_spare);
}

static bool five_hundred_and_more_run(World *w) {
        ClusterMachine *m = cluster_machine(registry_cluster(w->registry), self);

        return m && m->load == 700;
}

/* The longest values that the leader writes for so many hosts at once. */
static void one_transaction_has_all_changes_of_presence(void **state) {
        World *w = *state;
        PresenceChange *changes = NEW0(PresenceChange, LIVENESS_CHANGES_MAX);

        for (unsigned i = 0; i < LIVENESS_CHANGES_MAX; i++) {
                snprintf(changes[i].machine, sizeof(changes[i].machine), "%032x", i + 1);
                changes[i].presence = PRESENCE_LOST;
                changes[i].away_ms = UINT64_C(1764500000000);
                changes[i].announced = true;
                changes[i].verdict.code = VERDICT_LOST_UNREPORTED;
        }
        assert_int_equal(
                answer(w, registry_presence(w->registry, term(w), changes, LIVENESS_CHANGES_MAX, on_done, w)),
                KV_OK);
        free(changes);
}

static void the_presence_key_counts_losses(void **state) {
        World *w = *state;
        ClusterMachine *m;

        machine(w, self);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(presence(w, self, PRESENCE_LOST), KV_OK);
                assert_int_equal(presence(w, self, PRESENCE_UP), KV_OK);
        }
        registry_reset(w->registry);
        m = cluster_machine(registry_cluster(w->registry), self);
        assert_int_equal(m->losses, 2);
        assert_int_equal(m->hold_off_until_ms, m->since_ms + 30000);
}

static void submit_700(World *w) {
        Unit *units[700];
        UnitChange changes[700] = {};

        for (unsigned i = 0; i < ELEMENTS(units); i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%03u.service", i);
                units[i] = make_unit(name, "[Service]\nExecStart=/bin/true\n");
                changes[i] = (UnitChange) { .unit = units[i],
                                            .has_target = true,
                                            .target = TARGET_LAUNCHED,
                                            .only_if_absent = true };
        }
        assert_int_equal(answer(w, registry_change_units(w->registry, changes, 700, on_done, w)), KV_OK);
        for (unsigned i = 0; i < ELEMENTS(units); i++)
                unit_free(units[i]);
}

static void assignments_beyond_one_transaction_are_written_in_parts(void **state) {
        World *w = *state;
        EngineCounts counts;

        start_engine(w);
        machine(w, self);
        submit_700(w);
        run_until(w, five_hundred_and_more_run);
        engine_counts(w->engine, &counts);
        assert_int_equal(counts.schedule_failures, 0); /* no part is written twice */
}

static void a_starting_engine_plans_all_units_in_several_turns(void **state) {
        World *w = *state;

        machine(w, self);
        submit_700(w);
        start_engine(w);
        run_until(w, five_hundred_and_more_run);
}

static bool is_ready(World *w) {
        return registry_ready(w->registry);
}

static void a_change_during_a_scan_is_in_the_view(void **state) {
        World *w = *state;

        submit_700(w);
        registry_reset(w->registry);
        assert_false(registry_ready(w->registry));
        assert_non_null(unit(w, "u699.service")); /* the one before is there until then */
        assert_int_equal(change(w, (UnitChange) { .name = "u000.service", .remove = true }), KV_OK);
        assert_int_equal(
                change(w,
                       (UnitChange) { .name = "u001.service", .has_target = true, .target = TARGET_LOADED }),
                KV_OK);
        assert_int_equal(change(w, (UnitChange) { .name = "u698.service", .remove = true }), KV_OK);
        run_until(w, is_ready);

        assert_null(cluster_any_unit(registry_cluster(w->registry), "u000.service"));
        assert_null(cluster_any_unit(registry_cluster(w->registry), "u698.service"));
        assert_int_equal(unit(w, "u001.service")->target, TARGET_LOADED);
        assert_int_equal(unit(w, "u699.service")->target, TARGET_LAUNCHED);
        assert_int_equal(HASH_COUNT(registry_cluster(w->registry)->units), 698);
}

static bool none_is_left(World *w) {
        return !registry_cluster(w->registry)->units;
}

/* A request of some hundred bytes may remove texts with thousands of rules. */
static void units_with_many_rules_are_removed_in_several_turns(void **state) {
        World *w = *state;
        UnitChange changes[40];
        char names[40][24];

        for (unsigned i = 0; i < ELEMENTS(changes); i++) {
                _cleanup_text_ Text t = {};

                text_append(&t, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n");
                for (unsigned k = 0; k < 1000; k++)
                        text_printf(&t, "Conflicts=*%x\n", i * 1000 + k);
                snprintf(names[i], sizeof(names[i]), "rules-%u.service", i);
                assert_int_equal(submit(w, names[i], t.chars, false, TARGET_INACTIVE), KV_OK);
                changes[i] = (UnitChange) { .name = names[i], .remove = true };
        }
        (void) answer(w, registry_change_units(w->registry, changes, ELEMENTS(changes), on_done, w));
        run_until(w, none_is_left);
        assert_in_range(loop_turns(w->loop)->most.nodes, 1000,
                        2 * (HUB_WORK_PER_TURN / TURN_NODE + 1100)); /* a turn may deliver twice */
}

static bool another_one_runs(World *w) {
        ClusterAssignment *o = cluster_assignment(registry_cluster(w->registry), self, "c.service");

        return o && o->kind == ASSIGNMENT_RUN;
}

/* Begin with an assignment that is rejected, and another one. The cluster view does not contain the reason:
 * another key below the unit's key. */
static void begin_with_a_rejected_assignment(World *w) {
        KvCommand below = { .op = KV_SET,
                            .key = kv_string("/_fleet/unit/a.service/below"),
                            .value = kv_string("1"),
                            .internal = true };

        machine(w, self);
        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        start_engine(w);
        run_until(w, runs_on_self);
        w->engine = engine_free(w->engine);
        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
        assert_int_equal(kv_propose(w->store, &below, ignore_result, NULL, NULL), 0);
        assert_int_equal(submit(w, "c.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);

        warnings = 0;
        start_engine(w);
}

static void an_assignment_that_is_rejected_twice_is_left_out_and_the_others_are_written(void **state) {
        KvCommand below = { .op = KV_DELETE,
                            .key = kv_string("/_fleet/unit/a.service"),
                            .recursive = true,
                            .internal = true };
        World *w = *state;

        begin_with_a_rejected_assignment(w);
        warning_engine = w->engine;
        run_until(w, another_one_runs);
        warning_engine = NULL;
        assert_true(runs_on_self(w));
        assert_int_equal(warnings, 1);
        assert_int_equal(failures_at_warning,
                         2); /* of the other one, in both transactions; not with the first */

        /* It is tried again when something changes. */
        assert_int_equal(kv_propose(w->store, &below, ignore_result, NULL, NULL), 0);
        run_until(w, stops_on_self);
}

static void after_a_rejection_an_engine_plans_again_also_without_memory_for_a_timer(void **state) {
        World *w = *state;

        begin_with_a_rejected_assignment(w);
        without_timers = w->engine;
        run_until(w, another_one_runs);
        without_timers = NULL;
}

static void after_a_resync_there_is_a_next_one(void **state) {
        World *w = *state;
        Timer *resync;

        start_engine(w);
        resync = last_timer;
        for (unsigned i = 0; i < 3; i++) {
                assert_true(timer_armed(resync));
                timer_stop(resync);
                resync->fire(resync->userdata);
        }
        assert_true(timer_armed(resync));
}

static void an_engine_may_end_while_it_writes(void **state) {
        World *w = *state;

        assert_int_equal(submit(w, "a.service", "[Service]\nExecStart=/bin/true\n", true, TARGET_LAUNCHED),
                         KV_OK);
        machine(w, self);
        start_engine(w);
        registry_reset(w->registry);
        w->engine = engine_free(w->engine);
        assert_int_equal(change(w, (UnitChange) { .name = "a.service", .remove = true }), KV_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void) {
        log_set_sink(ignore_log, NULL);
        const struct CMUnitTest tests[] = {
                TEST(a_submitted_unit_is_in_the_view_with_its_target),
                TEST(a_second_scan_yields_the_same_view),
                TEST(a_change_whose_check_fails_is_rejected_and_changes_nothing),
                TEST(several_changes_are_all_or_nothing),
                TEST(an_assignment_is_valid_only_with_the_keys_it_was_planned_on),
                TEST(an_executed_assignment_to_stop_is_deleted_with_its_state),
                TEST(a_machine_that_returns_meanwhile_is_not_removed),
                TEST(a_removed_host_leaves_a_tombstone_until_it_is_forgotten),
                TEST(what_a_removal_leaves_is_deleted_in_further_transactions),
                TEST(a_compromised_key_is_denied_after_the_end_of_the_tombstone),
                TEST(the_oldest_denied_keys_make_room),
                TEST(a_raft_id_is_given_once),
                TEST(a_value_that_cannot_be_read_is_logged_once),
                TEST(a_member_that_cannot_be_read_holds_the_feature_level),
                TEST(a_canceled_operation_does_not_call_done),
                TEST(below_the_feature_level_no_revision_is_stored),
                TEST(a_former_text_is_stored_and_its_number_returns_with_it),
                TEST(what_is_requested_for_a_rollout_is_stored_with_its_text_alone),
                TEST(a_step_of_replicas_is_rejected_after_a_change_of_what_it_was_decided_on),
                TEST(a_step_of_replicas_has_as_many_texts_as_fit),
                TEST(a_set_is_looked_at_after_a_change_that_may_demand_a_step),
                TEST(an_instance_that_a_rollout_updates_keeps_its_unit_directory),
                TEST(a_step_to_a_longer_stop_extends_the_hold_of_a_follower),
                TEST(a_step_assigns_the_content_of_its_unit),
                TEST(below_the_feature_level_of_updates_no_instance_follows),
                TEST(after_the_raise_an_assignment_names_the_drop_ins_of_the_instance),
                TEST(after_the_raise_a_follower_names_the_number_of_its_template),
                TEST(the_raise_of_the_level_writes_large_followers_in_parts),
                TEST(an_instance_follows_its_template_while_it_has_its_text),
                TEST(an_instance_with_drop_ins_of_its_own_follows_its_template),
                TEST(an_instance_follows_again_when_its_template_gets_its_text),
                TEST(instances_follow_a_template_that_changes_in_the_same_request),
                TEST(a_text_of_a_template_that_is_invalid_with_the_drop_ins_of_an_instance_is_rejected),
                TEST(a_step_holds_the_lease_of_an_instance_with_drop_ins_for_its_own_text),
                TEST(an_instance_with_another_end_of_its_text_leaves_its_template),
                TEST(texts_that_fit_into_no_common_transaction_are_stored_one_after_the_other),
                TEST(the_text_of_an_instance_that_is_behind_is_kept),
                TEST(the_updates_of_a_step_fit_into_one_transaction),
                TEST(a_step_after_a_pause_is_rejected),
                TEST(a_revert_that_the_store_rejects_becomes_a_pause),
                TEST(a_revert_of_large_texts_is_written),
                TEST(a_change_that_loses_against_another_one_leaves_the_revisions_as_they_are),
                TEST(the_leader_deletes_what_is_not_kept),
                TEST(a_move_of_a_unit_that_is_only_loaded_moves_the_record_of_its_data),
                TEST(the_completed_revision_is_kept),
                TEST(a_text_that_keeps_fewer_revisions_is_accepted),
                TEST(large_revisions_are_deleted_in_parts),
                TEST(the_engine_assigns_the_requested_units),
                TEST(the_engine_moves_the_units_of_a_lost_machine),
                TEST(a_brake_that_is_shortened_ends_when_its_time_is_over),
                TEST(one_transaction_has_all_changes_of_presence),
                TEST(the_presence_key_counts_losses),
                TEST(assignments_beyond_one_transaction_are_written_in_parts),
                TEST(a_starting_engine_plans_all_units_in_several_turns),
                TEST(a_change_during_a_scan_is_in_the_view),
                TEST(units_with_many_rules_are_removed_in_several_turns),
                TEST(an_assignment_that_is_rejected_twice_is_left_out_and_the_others_are_written),
                TEST(after_a_rejection_an_engine_plans_again_also_without_memory_for_a_timer),
                TEST(after_a_resync_there_is_a_next_one),
                TEST(an_engine_may_end_while_it_writes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
