/* Contents of units on the leader: their numbers, their pace, and what is read of the tree. A real store, and
 * a clock that the test sets. */
#include "tests/lib/test.h"

#include "fleetd/features/inputs/inputs_internal.h"
#include "tests/lib/commands.h"
#include "tests/lib/host.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/store_inside.h"

#define RESTARTS "[Service]\nExecStart=/bin/true\n[X-Fleet]\nEnvironmentKeys=/config/shop\nOnChange=restart\n"
#define SET_NAME "shop@.service"

enum { LOOK_MS = 200, PAUSE_MS = 2000, STEPS_MAX = 50 };

typedef struct World {
        Host *host;
        ManualLoop loop; /* of the watcher: nothing runs on it by itself */
        ComponentHost components;
        Inputs inputs;
        KvWatch *all; /* of all users' keys: its last event is known to the watcher, too */
        uint64_t seen, asked, answered;
        KvStatus status;
        uint64_t index, again_ms;
        bool cleared; /* 'all' is */
} World;

static void on_any(void *userdata, KvWatchEvent *event) {
        ((World *) userdata)->seen = event->event.index;
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        ((World *) userdata)->cleared = true;
}

static void watch_all(World *w) {
        static const KvWatchOps ops = { .on_event = on_any, .on_cleared = on_cleared };
        uint64_t oldest;

        (void) kv_watch_close(w->all);
        assert_int_equal(kv_watch(w->host->store,
                                  &(KvWatchOptions) { .key = kv_string("/"), .recursive = true }, &ops, w,
                                  &w->all, &oldest),
                         0);
}

static int begin_at(void **state, unsigned level) {
        World *w = NEW0(World, 1);

        w->host = host_new(false);
        if (level > 0)
                host_raise(w->host, level);
        manual_loop_init(&w->loop, 1);
        w->components = w->host->components;
        w->components.io.loop = &w->loop.base;
        w->inputs.host = &w->components;
        assert_int_equal(watcher_new(&w->inputs.watcher, &w->components), 0);
        watch_all(w);
        *state = w;
        return 0;
}

static int begin(void **state) {
        return begin_at(state, KV_LEVEL_INPUTS);
}

static int begin_below(void **state) {
        return begin_at(state, KV_LEVEL_SCHEDULING);
}

static int end(void **state) {
        World *w = *state;

        w->inputs.watcher = watcher_free(w->inputs.watcher);
        loop_done(&w->loop.base);
        (void) kv_watch_close(w->all);
        host_free(w->host);
        free(w);
        return 0;
}

/* -- Writes of others -- */

static void on_result(void *userdata, const KvResult *result) {
        World *w = userdata;

        w->answered++;
        w->status = result->status;
        w->index = result->index;
}

static void propose(World *w, const KvCommand *cmd) {
        uint64_t number;

        assert_int_equal(kv_propose(w->host->store, cmd, on_result, w, &number), 0);
        w->asked++;
}

/* Wait until the registry, or the watches, have what was proposed. */
static void await(World *w, bool ours) {
        HOST_UNTIL(w->host, w->answered == w->asked);
        assert_int_equal(w->status, KV_OK);
        HOST_UNTIL(w->host, (ours ? registry_cluster(w->host->registry)->index : w->seen) >= w->index);
}

static void put(World *w, const char *key, const char *value) {
        propose(w, &SET(key, value));
        await(w, false);
}

static void drop(World *w, const char *key) {
        propose(w, &COMMAND(KV_DELETE, key, .recursive = true, .dir = true));
        await(w, false);
}

static void put_ours(World *w, const char *key, const char *value) {
        propose(w, &SET(key, value, .internal = true));
        await(w, true);
}

static void put_secret(World *w, const char *name, unsigned version, const char *units) {
        char key[64], value[128];

        snprintf(key, sizeof(key), "/_fleet/secret/%s", name);
        snprintf(value, sizeof(value),
                 "{\"clusterKey\":1,\"set\":7,\"size\":3,\"units\":[%s],\"version\":%u}", units, version);
        put_ours(w, key, value);
}

static void roll_content(World *w, const char *head, RolloutState rollout_state, uint64_t number) {
        RolloutRecord record = { .state = rollout_state,
                                 .to = { .number = 1, .hash = "abc", .inputs = number } };
        char key[LAYOUT_KEY_MAX];
        _cleanup_text_ Text t = {};

        stored_rollout_write(&t, &record);
        put_ours(w, layout_key(key, LAYOUT_ROLLOUT, head, NULL), t.chars);
}

static void roll(World *w, const char *head, RolloutState rollout_state) {
        roll_content(w, head, rollout_state, 0);
}

/* A machine has the unit with this number: in its assignment, or as published. */
static void put_number(World *w, LayoutKind kind, const char *unit, uint64_t number) {
        char key[LAYOUT_KEY_MAX], value[64];

        snprintf(value, sizeof(value), "{\"%s\",\"inputs\":%llu}",
                 kind == LAYOUT_STATE ? "active\":\"active" : "order\":\"run", (unsigned long long) number);
        put_ours(w, layout_key(key, kind, unit, w->host->id), value);
}

/* An instance as the API creates it from its template. */
static void follow(World *w, const char *name, const char *text) {
        UnitChange change = { .has_target = true, .target = TARGET_LAUNCHED };
        Unit *unit = NULL;

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, NULL), 0);
        unit->from = strdup(SET_NAME);
        change.unit = unit;
        assert_int_equal(host_wait(w->host, registry_change_units(w->host->registry, &change, 1, host_on_done,
                                                                  w->host)),
                         KV_OK);
        unit_free(unit);
}

static void destroy(World *w, const char *name) {
        const UnitChange change = { .name = name, .remove = true };

        assert_int_equal(host_wait(w->host, registry_change_units(w->host->registry, &change, 1, host_on_done,
                                                                  w->host)),
                         KV_OK);
}

/* -- Steps -- */

static int step_once(World *w) {
        Control control = { .self = &w->inputs,
                            .registry = w->host->registry,
                            .term = kv_leads(w->host->store),
                            .done = host_on_done,
                            .userdata = w->host,
                            .again_ms = UINT64_MAX };
        int r = watcher_step(&control);

        w->again_ms = control.again_ms;
        (void) turns_end_work(&w->loop.base.turns);
        return r;
}

/* Step until only time or a change continues, as the engine does. Return the number of transactions. */
static unsigned step(World *w) {
        unsigned n = 0;

        for (int i = 0; i < STEPS_MAX; i++) {
                int r = step_once(w);

                assert_true(r >= 0);
                if (r == 0 && w->again_ms > 0)
                        return n;
                if (r == 0)
                        continue;
                assert_int_equal(host_wait(w->host, 0), KV_OK);
                n++;
        }
        fail_msg("it does not end");
        return n;
}

static unsigned step_after(World *w, uint64_t ms) {
        w->loop.now_ms += ms;
        return step(w);
}

static const InputsRecord *content(World *w, const char *unit) {
        static const InputsRecord none;
        const ClusterUnit *u = cluster_any_unit(registry_cluster(w->host->registry), unit);

        return u && u->inputs ? u->inputs : &none;
}

static bool has_content(World *w, const char *unit) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(w->host->registry), unit);

        return u && u->inputs_index > 0;
}

static int on_row(void *userdata, const KvHistoryRow *row) {
        Text *t = userdata;
        HistoryEvent event;

        assert_int_equal(history_decode(row->body, &event), 0);
        if (event.kind == HISTORY_CONTENT)
                text_printf(t, "%s: %s%s", event.unit, event.reason, row->count > 1 ? " (again)\n" : "\n");
        return 1;
}

static void assert_rows(World *w, const char *expected) {
        _cleanup_text_ Text t = {};

        assert_int_equal(kv_local_history(w->host->store, 0, false, on_row, &t), 0);
        assert_string_equal(text_chars(&t), expected);
}

/* -- One unit -- */

static void a_change_of_a_value_takes_the_next_number_and_an_equal_value_none(void **state) {
        World *w = *state;
        char digest[UNIT_HASH_SIZE];

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_NONE);
        assert_string_equal(content(w, "shop.service")->what, "");
        memcpy(digest, content(w, "shop.service")->digest, sizeof(digest));

        put(w, "/config/shop/a", "1");
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_string_equal(content(w, "shop.service")->what, "/config/shop");
        assert_string_not_equal(content(w, "shop.service")->digest, digest);
        put(w, "/config/shop/_hidden", "x");
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        put(w, "/config/shopping", "x");
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        assert_rows(w, "shop.service: content 2 (/config/shop)\n");
}

static void a_problem_keeps_the_former_digest_and_number(void **state) {
        World *w = *state;
        char digest[UNIT_HASH_SIZE];

        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 0);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_AWAITS_KEYS);
        assert_true(content(w, "shop.service")->waits);

        put(w, "/config/shop/a", "1");
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_false(content(w, "shop.service")->waits);
        memcpy(digest, content(w, "shop.service")->digest, sizeof(digest));

        drop(w, "/config"); /* above the path */
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_string_equal(content(w, "shop.service")->digest, digest);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_AWAITS_KEYS);
        assert_int_equal(step_after(w, PAUSE_MS), 0);

        put(w, "/config/shop/a", "1"); /* the former value returns */
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_NONE);

        put(w, "/config/shop/LD_PRELOAD", "x");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_VARIABLE_REJECTED);
        assert_string_equal(content(w, "shop.service")->digest, digest);
        drop(w, "/config/shop/LD_PRELOAD");
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_rows(
                w,
                "shop.service: waiting for /config/shop: no such key (again)\n"
                "shop.service: /config/shop/LD_PRELOAD: a unit cannot get LD_PRELOAD from a key: it changes "
                "how programs start\n"
                "shop.service: content 2 (/config/shop)\n");
}

/* In two steps: the store makes no directory where a key is. */
static void a_key_that_becomes_a_directory_gives_another_content(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nEnvironmentKeys=/config/shop\n"
                                   "ConfigKeys=/config/shop\n";
        World *w = *state;

        put(w, "/config/shop", "a key");
        host_unit(w->host, "shop.service", text, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        drop(w, "/config/shop");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_AWAITS_KEYS);
        put(w, "/config/shop/a", "1");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_NONE);

        drop(w, "/config/shop");
        put(w, "/config/shop", "a key");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 3);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_NONE);
}

static void a_change_is_looked_at_after_200_ms_and_once_in_2_s(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "0");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);

        put(w, "/config/shop/a", "1");
        assert_int_equal(step(w), 0);
        assert_int_equal(w->again_ms, LOOK_MS);
        assert_int_equal(step_after(w, LOOK_MS - 1), 0);
        assert_int_equal(w->again_ms, 1);
        assert_int_equal(step_after(w, 1), 1);
        for (unsigned i = 0; i < 1000; i++) {
                char value[8];

                snprintf(value, sizeof(value), "%u", 2 + i);
                propose(w, &SET("/config/shop/a", value));
        }
        await(w, false);
        assert_int_equal(step_after(w, LOOK_MS), 0);
        assert_int_equal(step_after(w, PAUSE_MS - LOOK_MS - 1), 0);
        assert_int_equal(step_after(w, 1), 1);
        assert_int_equal(content(w, "shop.service")->number, 3);
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        assert_int_equal(w->again_ms, UINT64_MAX);
}

static void a_secret_counts_by_its_version_and_its_patterns(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nSecret=db\n";
        World *w = *state;

        host_unit(w->host, "shop.service", text, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_AWAITS_SECRET);
        put_secret(w, "db", 1, "");
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        put_secret(w, "db", 2, "\"shop*\"");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_string_equal(content(w, "shop.service")->what, "secret db");
        put_secret(w, "db", 2, "\"web*\"");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_SECRET_OF_OTHERS);
        put_secret(w, "other", 1, "");
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        assert_rows(w, "shop.service: waiting for secret db: not set\n"
                       "shop.service: content 2 (secret db)\n"
                       "shop.service: secret db is not for shop.service: its units are web*\n");
}

/* The rollout of a set waits for it. */
static void a_record_has_the_secrets_for_which_it_was_decided(void **state) {
        static const char text[] = RESTARTS "Secret=db\nSecret=other\n";
        World *w = *state;

        put_secret(w, "db", 1, "");
        host_unit(w->host, "shop.service", text, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->secrets, 8);
        put_secret(w, "db", 2, ""); /* it waits for the other one as before */
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->secrets, 9);
        put_secret(w, "other", 1, "");
        put(w, "/config/shop/a", "1");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_int_equal(content(w, "shop.service")->secrets, 17);
        roll(w, "shop.service", ROLLOUT_ROLLING);
        put_secret(w, "db", 3, "");
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        assert_int_equal(content(w, "shop.service")->secrets, 17);
        roll(w, "shop.service", ROLLOUT_DONE);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_int_equal(content(w, "shop.service")->secrets, 18);
}

static void a_unit_without_a_content_is_looked_at_at_once(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        put(w, "/config/shop/a", "2");
        host_unit(w->host, "new.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1); /* although the path is not due */
        assert_int_equal(w->again_ms, LOOK_MS);
        assert_int_equal(content(w, "new.service")->number, 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_string_not_equal(content(w, "new.service")->digest, content(w, "shop.service")->digest);
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_int_equal(content(w, "new.service")->number, 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_string_equal(content(w, "new.service")->digest, content(w, "shop.service")->digest);
}

/* A rollout gives the text to the instances, and the present content with it. */
static void a_change_of_the_text_alone_takes_no_number(void **state) {
        static const char more[] = RESTARTS "EnvironmentKeys=/config/more\n";
        World *w = *state;
        char digest[UNIT_HASH_SIZE];

        put(w, "/config/shop/a", "1");
        put(w, "/config/more", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        memcpy(digest, content(w, "shop.service")->digest, sizeof(digest));
        host_unit(w->host, "shop.service", more, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        assert_string_not_equal(content(w, "shop.service")->digest, digest);
        put(w, "/config/more", "2"); /* it is watched now */
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_string_equal(content(w, "shop.service")->what, "/config/more");

        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        put(w, "/config/shop/a", "2"); /* both: which content an instance has is open */
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 3);
        put(w, "/config/shop/a", "3");
        host_unit(w->host, "shop.service", more, TARGET_LAUNCHED);
        assert_int_equal(step(w),
                         0); /* the change of the key is not looked at yet: which one it is, is open */
        assert_int_equal(w->again_ms, 100);
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 4);
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 4);
        put(w, "/config/more", "3"); /* no unit names it */
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        assert_int_equal(w->again_ms, UINT64_MAX);
}

/* The value changed while the text named an input that is missing: hosts have files of the former value. */
static void a_value_that_changes_during_a_problem_counts_when_the_text_ends_it(void **state) {
        static const char more[] = RESTARTS "EnvironmentKeys=/config/more\n";
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        for (unsigned k = 0; k < 2; k++) {
                host_unit(w->host, "shop.service", more, TARGET_LAUNCHED);
                assert_int_equal(step(w), 1);
                assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_AWAITS_KEYS);
                if (k > 0)
                        put(w, "/config/shop/a", "2");
                assert_int_equal(step_after(w, PAUSE_MS), 0);
                host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
                assert_int_equal(step(w), 1);
                assert_int_equal(content(w, "shop.service")->problem.code, VERDICT_NONE);
                assert_int_equal(content(w, "shop.service")->number, 1 + k);
        }
}

static void the_content_ends_with_the_inputs_and_with_the_unit(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_INACTIVE);
        assert_int_equal(step(w), 0);
        assert_false(has_content(w, "shop.service")); /* no instance is to run */
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LOADED);
        assert_int_equal(step(w), 1);
        assert_true(has_content(w, "shop.service"));
        host_unit(w->host, "shop.service", RESTARTS, TARGET_INACTIVE);
        assert_int_equal(step(w), 0);
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 1); /* as long as it has one */
        assert_int_equal(content(w, "shop.service")->number, 2);
        host_unit(w->host, "shop.service", "[Service]\nExecStart=/bin/true\n", TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_false(has_content(w, "shop.service"));

        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
        destroy(w, "shop.service");
        assert_int_equal(step(w), 1);
        assert_false(has_content(w, "shop.service"));
        assert_int_equal(step_after(w, PAUSE_MS), 0);
}

/* -- Sets -- */

static void submit_set(World *w, unsigned n) {
        char name[32];

        host_unit(w->host, SET_NAME, RESTARTS, TARGET_INACTIVE);
        for (unsigned i = 1; i <= n; i++) {
                snprintf(name, sizeof(name), "shop@%u.service", i);
                follow(w, name, RESTARTS);
        }
}

static void assert_numbers(World *w, unsigned n, uint64_t number) {
        char name[32];

        for (unsigned i = 1; i <= n; i++) {
                snprintf(name, sizeof(name), "shop@%u.service", i);
                if (content(w, name)->number != number)
                        fail_msg("%s: %llu, not %llu", name, (unsigned long long) content(w, name)->number,
                                 (unsigned long long) number);
        }
}

static void a_set_has_one_number_for_each_change(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        submit_set(w, 3);
        assert_int_equal(step(w), 1);
        assert_numbers(w, 3, 1);
        assert_false(has_content(w, SET_NAME));
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_numbers(w, 3, 2);
        follow(w, "shop@4.service", RESTARTS); /* a new member takes the number as it is */
        assert_int_equal(step(w), 1);
        assert_numbers(w, 4, 2);
        assert_rows(w, SET_NAME ": content 2 (/config/shop)\n");
}

static void a_member_that_changed_alone_takes_a_number_above_all(void **state) {
        static const char own[] = RESTARTS "EnvironmentKeys=-/config/%i\n";
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, SET_NAME, own, TARGET_INACTIVE);
        follow(w, "shop@1.service", own);
        follow(w, "shop@2.service", own);
        assert_int_equal(step(w), 1);
        put(w, "/config/2/x", "1");
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_int_equal(content(w, "shop@1.service")->number, 1);
        assert_int_equal(content(w, "shop@2.service")->number, 2);
        put(w, "/config/1/x", "1");
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_int_equal(content(w, "shop@1.service")->number, 3);
        assert_int_equal(content(w, "shop@2.service")->number, 2);
}

static void more_than_100_members_of_a_set_take_one_number_in_two_transactions(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        submit_set(w, 130);
        assert_int_equal(step(w), 2);
        put(w, "/config/shop/a", "2");
        w->loop.now_ms += LOOK_MS;
        assert_int_equal(step_once(w), 1);
        assert_int_equal(host_wait(w->host, 0), KV_OK);
        roll(w, SET_NAME, ROLLOUT_ROLLING); /* it begins with the first of them, and the others follow */
        assert_int_equal(step(w), 1);
        assert_numbers(w, 130, 2);
        assert_rows(w, SET_NAME ": content 2 (/config/shop)\n");
}

static void a_number_waits_for_a_rollout_that_rolls_and_not_for_others(void **state) {
        static const struct {
                RolloutState state;
                bool holds;
        } rows[] = { { ROLLOUT_CANARY, true },  { ROLLOUT_HELD, false },
                     { ROLLOUT_ROLLING, true }, { ROLLOUT_BETWEEN_BATCHES, true },
                     { ROLLOUT_PAUSED, false }, { ROLLOUT_REVERTING, true },
                     { ROLLOUT_DONE, false } };
        World *w = *state;
        uint64_t number = 1;

        put(w, "/config/shop/a", "first");
        submit_set(w, 2);
        assert_int_equal(step(w), 1);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char value[8];

                snprintf(value, sizeof(value), "%zu", i);
                roll(w, SET_NAME, rows[i].state);
                put(w, "/config/shop/a", value);
                assert_int_equal(step_after(w, PAUSE_MS), !rows[i].holds);
                number += !rows[i].holds;
                assert_numbers(w, 2, number);
                if (!rows[i].holds)
                        continue;
                put(w, "/config/shop/b/c", "x"); /* a problem does not wait, nor does its end */
                put(w, "/config/shop/b_c", "x");
                assert_int_equal(step_after(w, PAUSE_MS), 1);
                assert_numbers(w, 2, number);
                assert_int_equal(content(w, "shop@1.service")->problem.code, VERDICT_INPUTS_COLLIDE);
                drop(w, "/config/shop/b");
                drop(w, "/config/shop/b_c");
                assert_int_equal(step_after(w, PAUSE_MS), 1);
                assert_int_equal(content(w, "shop@1.service")->problem.code, VERDICT_NONE);
                assert_numbers(w, 2, number);
                roll(w, SET_NAME, ROLLOUT_DONE);
                assert_int_equal(step(w), 1);
                assert_numbers(w, 2, ++number);
        }
}

/* After the restore of a backup, or of members that were destroyed. */
static void a_number_is_above_those_that_hosts_have(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "first");
        submit_set(w, 3);
        assert_int_equal(step(w), 1);
        roll_content(w, SET_NAME, ROLLOUT_DONE, 7);
        put(w, "/config/shop/a", "1");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_numbers(w, 3, 8);
        put_number(w, LAYOUT_ASSIGNMENT, "shop@1.service", 10);
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_numbers(w, 3, 11);
        put_number(w, LAYOUT_STATE, "shop@2.service", 20);
        put(w, "/config/shop/a", "3");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_numbers(w, 3, 21);
        put_number(w, LAYOUT_STATE, "shop@3.service", 30);
        destroy(w, "shop@3.service");
        put(w, "/config/shop/a", "4");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_numbers(w, 2, 31);
        follow(w, "shop@4.service", RESTARTS);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop@4.service")->number, 31);
}

/* Its digest is unknown: the present content takes another number. */
static void a_content_whose_key_is_lost_is_not_taken_for_the_present_one(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        put_number(w, LAYOUT_ASSIGNMENT, "shop.service", 5);
        host_unit(w->host, "shop.service", "[Service]\nExecStart=/bin/true\n", TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_false(has_content(w, "shop.service"));
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 6);
}

static void without_restarts_no_number_waits(void **state) {
        static const char reloads[] = "[Service]\nType=notify-reload\nExecStart=/bin/true\n[X-Fleet]\n"
                                      "ConfigKeys=/config/shop\nOnChange=reload\n";
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", reloads, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        roll(w, "shop.service", ROLLOUT_ROLLING);
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
}

/* -- Leaders -- */

static void succeed(World *w) {
        w->inputs.watcher = watcher_free(w->inputs.watcher);
        assert_int_equal(watcher_new(&w->inputs.watcher, &w->components), 0);
}

static void a_new_leader_looks_at_all_units_once(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        submit_set(w, 3);
        assert_int_equal(step(w), 1);
        succeed(w);
        assert_int_equal(step(w), 0); /* nothing has changed */
        assert_numbers(w, 3, 1);
        succeed(w);
        put(w, "/config/shop/a", "2"); /* without a leader */
        destroy(w, "shop@3.service");
        assert_int_equal(step(w), 1);
        assert_numbers(w, 2, 2);
        assert_false(has_content(w, "shop@3.service"));
        assert_string_equal(content(w, "shop@1.service")->what, "");
        put(w, "/config/shop/a", "3");
        assert_int_equal(step_after(w, LOOK_MS), 1);
        assert_numbers(w, 2, 3);
        assert_rows(w, SET_NAME ": content 2\n" SET_NAME ": content 3 (/config/shop)\n");
}

static void the_first_look_of_a_leader_has_steps_of_limited_work(void **state) {
        World *w = *state;
        char name[32], text[160], value[1024] = {};
        unsigned n = 0;
        int r;

        memset(value, 'x', sizeof(value) - 1);
        for (unsigned i = 0; i < 500; i++) {
                char key[32];

                snprintf(key, sizeof(key), "/config/shop/%u", i);
                propose(w, &SET(key, value));
        }
        await(w, false);
        for (unsigned i = 0; i < 20; i++) { /* no two have equal inputs */
                snprintf(name, sizeof(name), "a%u.service", i);
                snprintf(text, sizeof(text),
                         "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConfigKeys=/config/shop:%u\n", i);
                host_unit(w->host, name, text, TARGET_LAUNCHED);
        }
        for (r = step_once(w); r > 0; r = step_once(w)) {
                assert_int_equal(host_wait(w->host, 0), KV_OK);
                n++;
        }
        assert_int_equal(r, 0);
        assert_true(n >= 10 && n <= 20); /* two of them are 1 MiB */
        for (unsigned i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "a%u.service", i);
                assert_int_equal(content(w, name)->number, 1);
        }
}

static void a_lost_watch_is_opened_again(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        w->all = NULL;
        store_clear_watches(w->host->store, kv_index(w->host->store));
        HOST_UNTIL(w->host, w->cleared && registry_ready(w->host->registry));
        watch_all(w);
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        put(w, "/config/shop/a", "3");
        assert_int_equal(step_after(w, PAUSE_MS), 1);
        assert_int_equal(content(w, "shop.service")->number, 3);
}

/* Another write comes first: nothing is lost, and the history has one row. */
static void a_rejected_write_is_decided_again(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        put(w, "/config/shop/a", "2");
        w->loop.now_ms += LOOK_MS;
        propose(w, &SET("/_fleet/unit/shop.service", "{\"text\":\"[Service]\\n\"}", .internal = true));
        assert_int_equal(step_once(w), 1);
        assert_int_equal(host_wait(w->host, 0), KV_COMPARE_FAILED);
        await(w, true);
        assert_int_equal(content(w, "shop.service")->number, 1);
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 2);
        assert_rows(w, "shop.service: content 2 (/config/shop)\n");
}

/* -- What is read -- */

static Verdict resolve(World *w, const char *options, size_t *ret_n) {
        _cleanup_free_ char *text = NULL;
        ResolverValues *values;
        Resolved read = {};
        Unit *unit = NULL;
        Verdict problem;

        assert_true(asprintf(&text, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n%s", options) > 0);
        assert_int_equal(unit_parse("a.service", text, strlen(text), &unit, NULL), 0);
        assert_int_equal(
                resolver_read(&w->components, "a.service", &unit->placement.inputs, false, &read, &values),
                0);
        assert_int_equal(read.index, kv_index(w->host->store));
        problem = read.content.problem;
        *ret_n = read.content.n_variables + read.content.n_files;
        content_done(&read.content);
        resolver_values_free(values);
        unit_free(unit);
        return problem;
}

static void put_many(World *w, const char *prefix, unsigned n, const char *value) {
        for (unsigned i = 0; i < n; i++) {
                char key[64];

                snprintf(key, sizeof(key), "%s%u", prefix, i);
                propose(w, &SET(key, value));
        }
        await(w, false);
}

static void a_path_is_read_up_to_the_limits(void **state) {
        static char large[200 * 1024];
        World *w = *state;
        Verdict problem;
        size_t n;

        put(w, "/config/one", "1");
        assert_int_equal(resolve(w, "EnvironmentKeys=/config/one\n", &n).code, VERDICT_NONE);
        assert_int_equal(n, 1);
        assert_int_equal(resolve(w, "EnvironmentKeys=-/config/none\n", &n).code, VERDICT_NONE);
        assert_int_equal(n, 0);
        assert_int_equal(resolve(w, "ConfigKeys=/config/none\n", &n).code, VERDICT_AWAITS_KEYS);

        put_many(w, "/many/", 500, "x");
        put_many(w, "/many/_hidden/", 600, "x");
        assert_int_equal(resolve(w, "EnvironmentKeys=/many\n", &n).code, VERDICT_INPUT_INVALID); /* digits */
        assert_int_equal(resolve(w, "ConfigKeys=/many\n", &n).code, VERDICT_NONE);
        assert_int_equal(n, 500);
        problem = resolve(w, "ConfigKeys=/many:a\nConfigKeys=/many:b\n", &n);
        assert_int_equal(problem.code, VERDICT_NONE);
        assert_int_equal(n, 1000);
        put(w, "/config/b", "1");
        problem = resolve(w, "ConfigKeys=/many:a\nConfigKeys=/many:b\nConfigKeys=/config/b\n", &n);
        assert_string_equal(problem.args, "/config/b" VERDICT_NEXT "more keys or bytes than a unit may have");
        put_many(w, "/names/n", 500, "x"); /* variables of a later path replace them */
        assert_int_equal(resolve(w, "EnvironmentKeys=\"/names\" \"/names\"\nConfigKeys=/many\n", &n).code,
                         VERDICT_NONE);
        assert_int_equal(n, 1000);
        put_many(w, "/many/a", 501, "x");
        problem = resolve(w, "ConfigKeys=/many\n", &n);
        assert_int_equal(problem.code, VERDICT_INPUT_INVALID);
        assert_string_equal(problem.args, "/many" VERDICT_NEXT "more keys or bytes than a unit may have");

        memset(large, 'x', sizeof(large) - 1);
        put_many(w, "/large/", 5, large);
        assert_int_equal(resolve(w, "ConfigKeys=/large\n", &n).code, VERDICT_NONE);
        problem = resolve(w, "ConfigKeys=/large:a\nConfigKeys=/config/b\nConfigKeys=/large/0\n", &n);
        assert_string_equal(problem.args, "/large/0" VERDICT_NEXT "more keys or bytes than a unit may have");
        put(w, "/large/5", large);
        problem = resolve(w, "ConfigKeys=/large\n", &n);
        assert_string_equal(problem.args, "/large" VERDICT_NEXT "more keys or bytes than a unit may have");
        problem = resolve(w, "EnvironmentKeys=/large\n", &n);
        assert_string_equal(problem.args, "/large" VERDICT_NEXT "more keys or bytes than a unit may have");

        put_many(w, "/hidden/_a", 1500, "x"); /* of all paths together, 10,000 are read */
        problem = resolve(
                w,
                "ConfigKeys=\"/hidden\" \"/hidden\" \"/hidden\" \"/hidden\" \"/hidden\" \"/hidden\"\n"
                "EnvironmentKeys=/hidden\n",
                &n);
        assert_string_equal(problem.args, "/hidden" VERDICT_NEXT "too many keys and directories");

        propose(w, &(KvCommand) { .op = KV_SET, .key = { "/nul/a\0b", 8 }, .value = kv_string("x") });
        await(w, false);
        problem = resolve(w, "ConfigKeys=/nul\n", &n);
        assert_string_equal(problem.args, "/nul" VERDICT_NEXT "a key with NUL");
}

static void below_the_feature_level_nothing_is_written(void **state) {
        World *w = *state;

        put(w, "/config/shop/a", "1");
        host_unit(w->host, "shop.service", RESTARTS, TARGET_LAUNCHED);
        assert_int_equal(step(w), 0);
        put(w, "/config/shop/a", "2");
        assert_int_equal(step_after(w, PAUSE_MS), 0);
        host_raise(w->host, KV_LEVEL_INPUTS);
        assert_int_equal(step(w), 1);
        assert_int_equal(content(w, "shop.service")->number, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(
                        a_change_of_a_value_takes_the_next_number_and_an_equal_value_none, begin, end),
                cmocka_unit_test_setup_teardown(a_problem_keeps_the_former_digest_and_number, begin, end),
                cmocka_unit_test_setup_teardown(a_key_that_becomes_a_directory_gives_another_content, begin,
                                                end),
                cmocka_unit_test_setup_teardown(a_change_is_looked_at_after_200_ms_and_once_in_2_s, begin,
                                                end),
                cmocka_unit_test_setup_teardown(a_secret_counts_by_its_version_and_its_patterns, begin, end),
                cmocka_unit_test_setup_teardown(a_record_has_the_secrets_for_which_it_was_decided, begin,
                                                end),
                cmocka_unit_test_setup_teardown(a_unit_without_a_content_is_looked_at_at_once, begin, end),
                cmocka_unit_test_setup_teardown(a_change_of_the_text_alone_takes_no_number, begin, end),
                cmocka_unit_test_setup_teardown(
                        a_value_that_changes_during_a_problem_counts_when_the_text_ends_it, begin, end),
                cmocka_unit_test_setup_teardown(the_content_ends_with_the_inputs_and_with_the_unit, begin,
                                                end),
                cmocka_unit_test_setup_teardown(a_set_has_one_number_for_each_change, begin, end),
                cmocka_unit_test_setup_teardown(a_member_that_changed_alone_takes_a_number_above_all, begin,
                                                end),
                cmocka_unit_test_setup_teardown(
                        more_than_100_members_of_a_set_take_one_number_in_two_transactions, begin, end),
                cmocka_unit_test_setup_teardown(a_number_waits_for_a_rollout_that_rolls_and_not_for_others,
                                                begin, end),
                cmocka_unit_test_setup_teardown(a_number_is_above_those_that_hosts_have, begin, end),
                cmocka_unit_test_setup_teardown(a_content_whose_key_is_lost_is_not_taken_for_the_present_one,
                                                begin, end),
                cmocka_unit_test_setup_teardown(without_restarts_no_number_waits, begin, end),
                cmocka_unit_test_setup_teardown(a_new_leader_looks_at_all_units_once, begin, end),
                cmocka_unit_test_setup_teardown(the_first_look_of_a_leader_has_steps_of_limited_work, begin,
                                                end),
                cmocka_unit_test_setup_teardown(a_lost_watch_is_opened_again, begin, end),
                cmocka_unit_test_setup_teardown(a_rejected_write_is_decided_again, begin, end),
                cmocka_unit_test_setup_teardown(a_path_is_read_up_to_the_limits, begin, end),
                cmocka_unit_test_setup_teardown(below_the_feature_level_nothing_is_written, begin_below, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
