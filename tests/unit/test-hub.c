#include "tests/lib/test.h"

#include "base/text.h"
#include "kvstore/hub.h"
#include "kvstore/hub_places.h"
#include "kvstore/hub_window.h"

/* -- A loop that runs when the test says so -- */

static uint64_t test_now_ms(const Loop *loop) {
        return 1;
}

static void test_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps test_ops = { .now_ms = test_now_ms, .wall_ms = test_now_ms, .wake_at = test_wake_at };

typedef struct Fixture {
        Loop loop;
        Hub *hub;
        uint64_t index;
} Fixture;

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        loop_init(&f->loop, &test_ops, 1);
        f->index = 100;
        assert_int_equal(hub_new(&f->hub, &f->loop, 10, f->index), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        hub_free(f->hub);
        loop_done(&f->loop);
        free(f);
        return 0;
}

static void run(Fixture *f) {
        while (loop_run_due(&f->loop, 1000))
                ;
}

/* A watch, and its events: "set /a 101, ". */
typedef struct Watcher {
        Fixture *f;
        KvWatch *watch;
        Text received;
        bool close_inside, may_see;
        struct Watcher *closes; /* another one, closed when this one gets an event */
        unsigned *n_watches;    /* if given: how many there are behind closing inside */
        uint64_t oldest, current;
} Watcher;

static void on_event(void *userdata, KvWatchEvent *event) {
        const KvEvent *e = &event->event;
        Watcher *w = userdata;

        text_printf(&w->received, "%s %.*s %llu, ", kv_action_name(e->action), (int) e->node.key.size,
                    (const char *) e->node.key.data, (unsigned long long) e->index);
        if (w->close_inside)
                w->watch = kv_watch_close(w->watch);
        if (w->n_watches)
                *w->n_watches = hub_watches(w->f->hub);
        if (w->closes)
                w->closes->watch = kv_watch_close(w->closes->watch);
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Watcher *w = userdata;

        text_append(&w->received, "cleared");
        w->oldest = oldest;
        w->current = current;
        if (w->close_inside)
                kv_watch_close(w->watch);
        w->watch = NULL;
}

static const KvWatchOps watcher_events = { .on_event = on_event, .on_cleared = on_cleared };

static void watch_by(Fixture *f, KvWatchOptions options, const KvWatchOps *ops, void *userdata,
                     KvWatch **ret) {
        uint64_t oldest;

        assert_int_equal(hub_watch(f->hub, &options, ops, userdata, ret, &oldest), 0);
}

static void watch(Fixture *f, Watcher *w, KvWatchOptions options) {
        w->f = f;
        watch_by(f, options, &watcher_events, w, &w->watch);
        if (options.once)
                w->watch = NULL; /* it ends itself */
}

#define WATCH(f, w, path, ...) watch(f, w, (KvWatchOptions) { .key = kv_string(path), __VA_ARGS__ })

static void assert_stale(Fixture *f, Watcher *w, KvWatchOptions options, uint64_t expected) {
        uint64_t oldest;

        assert_int_equal(hub_watch(f->hub, &options, &watcher_events, w, &w->watch, &oldest), -ESTALE);
        assert_int_equal(oldest, expected);
}

static void done(Watcher *w) {
        w->watch = kv_watch_close(w->watch);
        text_done(&w->received);
}

#define _cleanup_watcher_ _cleanup_(done)

static void assert_delivered(Watcher *w, const char *expected) {
        run(w->f);
        assert_string_equal(w->received.chars ?: "", expected);
        text_clear(&w->received);
        text_append(&w->received, "");
}

static void publish(Fixture *f, KvAction action, const char *key, bool dir, bool refresh) {
        KvEvent event = { .action = action,
                          .index = ++f->index,
                          .node = { .key = kv_string(key), .dir = dir },
                          .refresh = refresh };

        hub_publish(f->hub, &event);
}

static void set(Fixture *f, const char *key) {
        publish(f, KV_ACTION_SET, key, false, false);
}

static void delete_dir(Fixture *f, const char *key) {
        publish(f, KV_ACTION_DELETE, key, true, false);
}

/* -- The watches that get an event -- */

static void a_plain_watch_sees_its_key_and_nothing_beside_or_below(void **state) {
        _cleanup_watcher_ Watcher w = {};
        Fixture *f = *state;

        WATCH(f, &w, "/a");
        set(f, "/b");
        set(f, "/a");
        set(f, "/a/b");
        set(f, "/ab");
        publish(f, KV_ACTION_DELETE, "/a", false, false);
        assert_delivered(&w, "set /a 102, delete /a 105, ");
}

static void a_recursive_watch_sees_all_that_is_below(void **state) {
        _cleanup_watcher_ Watcher w = {}, root = {};
        Fixture *f = *state;

        WATCH(f, &w, "/a", .recursive = true);
        WATCH(f, &root, "/", .recursive = true);
        set(f, "/a");
        set(f, "/a/b/c");
        set(f, "/ab");
        assert_delivered(&w, "set /a 101, set /a/b/c 102, ");
        assert_delivered(&root, "set /a 101, set /a/b/c 102, set /ab 103, ");
}

static void no_watcher_is_called_inside_of_publishing(void **state) {
        _cleanup_watcher_ Watcher w = {};
        Fixture *f = *state;

        WATCH(f, &w, "/a");
        set(f, "/a");
        assert_null(w.received.chars);
        assert_delivered(&w, "set /a 101, ");
}

static void hidden_keys_are_seen_from_inside_only(void **state) {
        _cleanup_watcher_ Watcher above = {}, inside = {}, exact = {}, unruled = {};
        Fixture *f = *state;

        WATCH(f, &above, "/a", .recursive = true, .hidden_rule = true);
        WATCH(f, &inside, "/a/_h", .recursive = true, .hidden_rule = true);
        WATCH(f, &exact, "/a/_h/x/_y", .hidden_rule = true);
        WATCH(f, &unruled, "/a", .recursive = true);
        set(f, "/a/_h/x");
        set(f, "/a/_h/x/_y");
        set(f, "/a/b_");
        assert_delivered(&above, "set /a/b_ 103, ");
        assert_delivered(&inside, "set /a/_h/x 101, ");
        assert_delivered(&exact, "set /a/_h/x/_y 102, ");
        assert_delivered(&unruled, "set /a/_h/x 101, set /a/_h/x/_y 102, set /a/b_ 103, ");
}

static bool sees(void *userdata, const KvEvent *event) {
        const Watcher *w = userdata;

        return w->may_see && !kv_path_is_below(event->node.key, kv_string("/secret"));
}

static void rights_are_asked_when_an_event_arrives_and_before_its_delivery(void **state) {
        static const KvWatchOps filtered = { .sees = sees, .on_event = on_event, .on_cleared = on_cleared };
        Fixture *f = *state;
        Watcher all = { f, .may_see = true }, once = { f, .may_see = true }, late = { f, .may_see = true };

        watch_by(f, (KvWatchOptions) { .key = kv_string("/"), .recursive = true }, &filtered, &all,
                 &all.watch);
        watch_by(f, (KvWatchOptions) { .key = kv_string("/"), .recursive = true, .once = true }, &filtered,
                 &once, &once.watch);
        set(f, "/secret/a");
        set(f, "/b"); /* the first one that it may see ends a watch for one event */
        set(f, "/secret/c");
        assert_delivered(&all, "set /b 102, ");
        assert_delivered(&once, "set /b 102, ");
        once.watch = NULL;
        done(&once);

        set(f, "/d");
        all.may_see = false; /* the right ends while the event waits */
        assert_delivered(&all, "");
        all.may_see = true;
        set(f, "/e");
        assert_delivered(&all, "set /e 105, ");
        done(&all);

        watch_by(f, (KvWatchOptions) { .key = kv_string("/"), .recursive = true, .since = 101, .once = true },
                 &filtered, &late, &late.watch);
        late.may_see = false; /* the watch stays: it had no event */
        assert_delivered(&late, "");
        late.may_see = true;
        set(f, "/secret/f");
        set(f, "/g");
        assert_delivered(&late, "set /g 107, ");
        late.watch = NULL;
        done(&late);
}

static void all_watches_below_a_deleted_directory_are_notified(void **state) {
        _cleanup_watcher_ Watcher plain = {}, recursive = {}, hidden = {}, beside = {};
        Fixture *f = *state;

        WATCH(f, &plain, "/d/a/b");
        WATCH(f, &recursive, "/d/a", .recursive = true);
        WATCH(f, &hidden, "/d/_h/x", .hidden_rule = true);
        WATCH(f, &beside, "/dog");
        delete_dir(f, "/d");
        assert_delivered(&plain, "delete /d 101, ");
        assert_delivered(&recursive, "delete /d 101, ");
        assert_delivered(&hidden, "delete /d 101, ");
        assert_delivered(&beside, "");
        publish(f, KV_ACTION_EXPIRE, "/d", true, false);
        assert_delivered(&plain, ""); /* nothing was there any more */
}

static void a_watch_of_an_absent_directory_gets_events_only_after_its_creation(void **state) {
        _cleanup_watcher_ Watcher w = {};
        Fixture *f = *state;

        WATCH(f, &w, "/d/a", .absent = true);
        delete_dir(f, "/d");
        assert_delivered(&w, "");
        set(f, "/d/a/b"); /* makes /d/a on its way */
        delete_dir(f, "/d");
        assert_delivered(&w, "delete /d 103, ");
}

static void fleets_own_keys_are_for_internal_watches(void **state) {
        _cleanup_watcher_ Watcher user = {}, root = {}, internal = {};
        Fixture *f = *state;

        WATCH(f, &user, "/_fleet/unit/a", .recursive = true);
        WATCH(f, &root, "/", .recursive = true);
        WATCH(f, &internal, "/_fleet", .recursive = true, .internal = true);
        set(f, "/_fleet/unit/a");
        delete_dir(f, "/_fleet/unit");
        set(f, "/a");
        assert_delivered(&user, "");
        assert_delivered(&root, "set /a 103, ");
        assert_delivered(&internal, "set /_fleet/unit/a 101, delete /_fleet/unit 102, ");
}

static void a_refresh_wakes_no_watcher_but_takes_a_slot_of_the_window(void **state) {
        _cleanup_watcher_ Watcher live = {}, late = {};
        Fixture *f = *state;
        uint64_t oldest;
        KvWatchOptions first = { .key = kv_string("/a"), .since = 101 };

        WATCH(f, &live, "/a");
        set(f, "/a");
        for (unsigned i = 0; i < 9; i++)
                publish(f, KV_ACTION_UPDATE, "/a", false, true);
        assert_delivered(&live, "set /a 101, ");
        watch(f, &late, first);
        assert_delivered(&late, "set /a 101, ");
        publish(f, KV_ACTION_UPDATE, "/a", false, true);
        assert_int_equal(hub_watch(f->hub, &first, &watcher_events, &late, &late.watch, &oldest), -ESTALE);
}

static void a_watch_of_refreshes_gets_them_live_and_from_the_window(void **state) {
        _cleanup_watcher_ Watcher live = {}, late = {};
        Fixture *f = *state;

        WATCH(f, &live, "/", .recursive = true, .refreshes = true);
        set(f, "/a/b");
        publish(f, KV_ACTION_UPDATE, "/a/b", false, true);
        assert_delivered(&live, "set /a/b 101, update /a/b 102, ");
        WATCH(f, &late, "/a", .recursive = true, .refreshes = true, .since = 102);
        assert_delivered(&late, "update /a/b 102, ");
}

/* -- From when on -- */

static void events_of_the_window_come_first_then_the_live_ones(void **state) {
        _cleanup_watcher_ Watcher w = {}, once = {};
        Fixture *f = *state;

        set(f, "/a");
        set(f, "/b");
        set(f, "/a");
        WATCH(f, &w, "/a", .since = 101);
        WATCH(f, &once, "/a", .since = 102, .once = true);
        set(f, "/a");
        assert_delivered(&w, "set /a 101, set /a 103, set /a 104, ");
        assert_delivered(&once, "set /a 103, ");
}

static void a_watch_from_a_future_index_skips_earlier_events(void **state) {
        _cleanup_watcher_ Watcher w = {};
        Fixture *f = *state;

        WATCH(f, &w, "/a", .since = 103);
        set(f, "/a");
        set(f, "/a");
        set(f, "/a");
        assert_delivered(&w, "set /a 103, ");
}

static void a_watch_from_before_the_window_is_refused_with_its_beginning(void **state) {
        Fixture *f = *state;
        KvWatchOptions options = { .key = kv_string("/a"), .since = 100 };
        Watcher w = { .f = f };

        assert_stale(f, &w, options, 101);
        for (unsigned i = 0; i < 15; i++)
                set(f, "/b");
        options.since = 105;
        assert_stale(f, &w, options, 106);
        options.since = 106;
        watch(f, &w, options);
        done(&w);
}

static void fleets_events_keep_the_places_of_user_watches(void **state) {
        _cleanup_watcher_ Watcher user = {}, all = {};
        Fixture *f = *state;
        KvWatchOptions options = { .key = kv_string("/"), .recursive = true, .internal = true, .since = 101 };

        set(f, "/a");
        for (unsigned i = 0; i < 30; i++)
                set(f, "/_fleet/state");
        WATCH(f, &user, "/a", .since = 101);
        assert_delivered(&user, "set /a 101, ");

        assert_stale(f, &all, options, 122);
        set(f, "/a");
        options.since = 130;
        watch(f, &all, options);
        assert_delivered(&all, "set /_fleet/state 130, set /_fleet/state 131, set /a 132, ");
}

static void history_follows_the_same_rules(void **state) {
        _cleanup_watcher_ Watcher ruled = {}, below = {}, prefix = {};
        Fixture *f = *state;

        set(f, "/d/_h");
        set(f, "/d/v");
        delete_dir(f, "/d");
        WATCH(f, &ruled, "/d", .recursive = true, .hidden_rule = true, .since = 101);
        WATCH(f, &below, "/d/x/y", .since = 101);
        WATCH(f, &prefix, "/dog", .since = 101);
        assert_delivered(&ruled, "set /d/v 102, delete /d 103, ");
        assert_delivered(&below, "delete /d 103, ");
        assert_delivered(&prefix, "");
}

/* -- Ends -- */

static void a_watch_for_one_event_ends_itself(void **state) {
        _cleanup_watcher_ Watcher w = {};
        Fixture *f = *state;

        WATCH(f, &w, "/a", .once = true);
        assert_int_equal(hub_watches(f->hub), 1);
        set(f, "/a");
        set(f, "/a");
        assert_delivered(&w, "set /a 101, ");
        assert_int_equal(hub_watches(f->hub), 0);
}

static void a_watch_may_be_closed_by_its_own_callback(void **state) {
        _cleanup_watcher_ Watcher w = { .close_inside = true };
        Fixture *f = *state;

        WATCH(f, &w, "/a");
        set(f, "/a");
        set(f, "/a");
        assert_delivered(&w, "set /a 101, ");
        assert_int_equal(hub_watches(f->hub), 0);
}

static void a_watch_closed_by_another_callback_gets_no_more_events(void **state) {
        _cleanup_watcher_ Watcher second = {}, first = { .closes = &second };
        Fixture *f = *state;

        WATCH(f, &first, "/", .recursive = true);
        WATCH(f, &second, "/a");
        set(f, "/a");
        assert_delivered(&first, "set /a 101, ");
        assert_delivered(&second, "");
}

static void a_new_tree_ends_all_watches_and_empties_the_window(void **state) {
        _cleanup_watcher_ Watcher w = {}, closes = { .close_inside = true }, later = {};
        Fixture *f = *state;
        KvWatchOptions options = { .key = kv_string("/a"), .since = 101 };

        WATCH(f, &w, "/a");
        WATCH(f, &closes, "/a/b", .recursive = true);
        set(f, "/a");
        hub_cleared(f->hub, 500);
        assert_delivered(&w, "cleared");
        assert_delivered(&closes, "cleared");
        assert_int_equal(w.oldest, 501);
        assert_int_equal(w.current, 500);
        assert_int_equal(hub_watches(f->hub), 0);
        assert_stale(f, &later, options, 501);

        f->index = 500;
        WATCH(f, &later, "/a");
        set(f, "/a");
        assert_delivered(&later, "set /a 501, ");
}

static void a_reader_that_falls_too_far_behind_loses_its_place(void **state) {
        _cleanup_watcher_ Watcher slow = {}, once = {}, fresh = {};
        Fixture *f = *state;

        WATCH(f, &once, "/a", .once = true);
        WATCH(f, &slow, "/a");
        for (unsigned i = 0; i <= 2 * HUB_PENDING_MAX; i++)
                set(f, "/a");
        assert_delivered(&slow, "cleared");
        assert_delivered(&once, "set /a 101, "); /* it wanted no more */
        assert_int_equal(slow.current, f->index);
        WATCH(f, &fresh, "/a");
        set(f, "/a");
        run(f);
        assert_int_equal(hub_watches(f->hub), 1);
}

/* -- Many -- */

static unsigned n_told;

static void count_event(void *userdata, KvWatchEvent *event) {
        KvWatchEvent **seen = userdata;

        n_told++;
        if (*seen)
                assert_ptr_equal(*seen, event);
        else
                *seen = hub_event_ref(event);
}

static void many_watchers_share_one_event_and_are_woken_in_turns(void **state) {
        static const KvWatchOps counting = { .on_event = count_event, .on_cleared = on_cleared };
        KvWatchOptions options = { .key = kv_string("/a"), .once = true };
        KvWatchEvent *seen = NULL;
        Fixture *f = *state;
        unsigned turns = 0;
        KvWatch *unused;

        n_told = 0;
        for (unsigned i = 0; i < 1000; i++)
                watch_by(f, options, &counting, &seen, &unused);
        set(f, "/a");
        do {
                unsigned before = n_told;

                loop_run_due(&f->loop, 1);
                assert_in_range(n_told - before, 1, HUB_WAKE_PER_TURN);
                turns++;
        } while (n_told < 1000);
        assert_int_equal(turns, 4);
        assert_int_equal(seen->refs, 2); /* ours and the window's */
        hub_event_unref(seen);
}

static void count_work(void *userdata, KvWatchEvent *event) {
        loop_count(userdata, 0, HUB_WORK_PER_TURN / 3 + 1);
        n_told++;
}

static void watchers_that_work_long_are_called_in_several_turns(void **state) {
        static const KvWatchOps working = { .on_event = count_work, .on_cleared = on_cleared };
        KvWatchOptions options = { .key = kv_string("/a"), .once = true };
        Fixture *f = *state;
        KvWatch *unused;

        n_told = 0;
        for (unsigned i = 0; i < 7; i++)
                watch_by(f, options, &working, &f->loop, &unused);
        set(f, "/a");
        loop_count(&f->loop, 0, TURN_WORK_MAX); /* the work of others in that turn takes none of it */
        loop_run_due(&f->loop, 1);
        assert_int_equal(n_told, 3);
        loop_run_due(&f->loop, 1);
        assert_int_equal(n_told, 6);
        loop_run_due(&f->loop, 1);
        assert_int_equal(n_told, 7);
}

static void components_of_the_daemon_are_notified_before_clients(void **state) {
        static const KvWatchOps working = { .on_event = count_work, .on_cleared = on_cleared };
        KvWatchOptions options = { .key = kv_string("/a"), .once = true };
        Fixture *f = *state;
        Watcher own = {};
        KvWatch *unused;

        n_told = 0;
        for (unsigned i = 0; i < 6; i++)
                watch_by(f, options, &working, &f->loop, &unused);
        WATCH(f, &own, "/a", .internal = true);
        set(f, "/a");
        loop_run_due(&f->loop, 1);
        assert_int_equal(n_told, 3);
        assert_string_equal(own.received.chars, "set /a 101, ");
        set(f, "/a");
        loop_run_due(&f->loop, 1);
        assert_int_equal(n_told, 6);
        assert_string_equal(own.received.chars, "set /a 101, set /a 102, ");
        done(&own);
}

/* -- Memory and work -- */

enum { DEEP = 500 };

/* "/uN/a/a/.../a": DEEP segments. */
static size_t deep_path(char *path, unsigned n) {
        size_t size = sprintf(path, "/u%u", n);

        for (unsigned i = 1; i < DEEP; i++)
                size += sprintf(path + size, "/a");
        return size;
}

/* Not one for each segment; what parts from the path of another one leaves nothing behind in it. */
static void a_deep_path_has_one_place(void **state) {
        char path[DEEP * 2 + 16];
        Place *deep, *beside[DEEP];
        Places places;

        assert_int_equal(places_init(&places), 0);
        size_t size = deep_path(path, 1);
        deep = places_add(&places, kv_string(path));
        assert_int_equal(HASH_COUNT(places.table), 1);
        for (unsigned i = 1; i < DEEP; i++) { /* each parts from it one segment later */
                path[size - 2 * i + 1] = 'b';
                beside[i] = places_add(&places, (KvBytes) { path, size - 2 * i + 2 });
                path[size - 2 * i + 1] = 'a';
        }
        assert_int_equal(HASH_COUNT(places.table), 2 * DEEP - 1);
        for (unsigned i = 1; i < DEEP; i++)
                places_prune(&places, beside[i]);
        assert_int_equal(HASH_COUNT(places.table), 1);
        places_prune(&places, deep);
        assert_null(places.table);
        places_done(&places);
}

/* The search for watchers visits no more than the way of a change, however many others wait. */
static void a_change_visits_the_places_on_its_way_and_no_others(void **state) {
        char path[DEEP * 2 + 16];
        Watcher *watchers = NEW0(Watcher, 10000);
        Fixture *f = *state;
        uint64_t before;

        for (unsigned i = 0; i < 10000; i++) {
                deep_path(path, i);
                watch(f, &watchers[i], (KvWatchOptions) { .key = kv_string(path) });
        }
        before = f->loop.turns.now.nodes;
        set(f, path);
        assert_in_range(f->loop.turns.now.nodes - before, 1, 8);
        run(f);
        for (unsigned i = 0; i < 10000; i++)
                done(&watchers[i]);
        free(watchers);
}

static void many_changes_to_what_many_watch_are_spread_over_turns(void **state) {
        enum { N_WATCHES = 2000, N_CHANGES = 100 };
        Watcher *watchers = NEW0(Watcher, N_WATCHES);
        Fixture *f = *state;
        _cleanup_watcher_ Watcher late = {};
        uint64_t most = 0;

        for (unsigned i = 0; i < N_WATCHES; i++)
                watch(f, &watchers[i], (KvWatchOptions) { .key = kv_string("/a") });
        (void) turns_end_work(&f->loop.turns);
        for (unsigned i = 0; i < N_CHANGES; i++)
                set(f, "/a");
        most = turns_end_work(&f->loop.turns).nodes;
        WATCH(f, &late, "/a");
        while (loop_run_due(&f->loop, 1000))
                most = MAX(most, turns_end_work(&f->loop.turns).nodes);
        assert_true(most <= 2 * (HUB_VISITS_PER_TURN + N_WATCHES +
                                 2)); /* two events may begin before the share is over */

        set(f, "/a");
        assert_delivered(&late, "set /a 201, "); /* and of nothing that was there before it */
        for (unsigned i = 0; i < N_WATCHES; i++) {
                unsigned n = 0;

                for (const char *p = watchers[i].received.chars; (p = strstr(p, "set /a")); p++)
                        n++;
                assert_int_equal(n, N_CHANGES + 1);
                done(&watchers[i]);
        }
        free(watchers);
}

/* What the tree was when a watch began says nothing of changes before that, which others still are to be told
 * of. */
static void a_watch_of_what_is_absent_by_now_hides_no_earlier_change_from_others(void **state) {
        enum { N_WATCHES = HUB_VISITS_PER_TURN + 1 };
        static const KvWatchOps counting = { .on_event = on_event, .on_cleared = on_cleared };
        _cleanup_watcher_ Watcher early = {}, late = {}, crowd = {};
        KvWatch **watches = NEW0(KvWatch *, N_WATCHES);
        KvWatchOptions options = { .key = kv_string("/crowd") };
        Fixture *f = *state;

        for (unsigned i = 0; i < N_WATCHES; i++)
                watch_by(f, options, &counting, &crowd, &watches[i]);
        WATCH(f, &early, "/a/b");
        set(f, "/crowd"); /* this turn has its share */
        delete_dir(f, "/a");
        WATCH(f, &late, "/a/b", .absent = true);
        assert_delivered(&early, "delete /a 102, ");
        assert_delivered(&late, "");
        delete_dir(f, "/a");
        assert_delivered(&early, "");
        for (unsigned i = 0; i < N_WATCHES; i++)
                kv_watch_close(watches[i]);
        free(watches);
}

/* -- What is kept of an event -- */

static void keep_event(void *userdata, KvWatchEvent *event) {
        KvWatchEvent **kept = userdata;

        *kept = hub_event_ref(event);
}

static void an_event_is_a_copy_of_all_that_was_published(void **state) {
        static const KvWatchOps keeping = { .on_event = keep_event, .on_cleared = on_cleared };
        KvWatchOptions options = { .key = kv_string("/k"), .once = true };
        char key[] = "/k", value[] = "new", prev[] = "old one";
        KvEvent event = {
                .action = KV_ACTION_CAS,
                .index = 101,
                .now_ms = 99,
                .node = { .key = kv_string(key), .value = kv_string(value), .created = 5, .modified = 101 },
                .has_prev = true,
                .prev = { .key = kv_string(key), .value = kv_string(prev), .created = 5, .modified = 7 }
        };
        KvWatchEvent *kept = NULL;
        Fixture *f = *state;
        size_t size, with_prev = sizeof(KvWatchEvent) + strlen(key) + strlen(value) + strlen(prev);
        KvWatch *unused;

        watch_by(f, options, &keeping, &kept, &unused);
        hub_publish(f->hub, &event);
        memset(key, 'x', sizeof(key));
        memset(value, 'x', sizeof(value));
        memset(prev, 'x', sizeof(prev));
        run(f);
        assert_non_null(kept);
        assert_true(kv_bytes_equal(kept->event.node.key, kv_string("/k")) &&
                    kv_bytes_equal(kept->event.prev.key, kv_string("/k")));
        assert_true(kv_bytes_equal(kept->event.node.value, kv_string("new")));
        assert_true(kv_bytes_equal(kept->event.prev.value, kv_string("old one")));
        assert_int_equal(kept->event.action, KV_ACTION_CAS);
        assert_int_equal(kept->event.node.created, 5);
        assert_int_equal(kept->event.prev.modified, 7);
        assert_int_equal(kept->event.now_ms, 99);
        assert_int_equal(hub_window_bytes(f->hub), with_prev);

        /* The forms that readers have made of it count, and go with it. */
        kept->encoded = shared_new("12345", 5);
        kept->line = shared_new("123", 3);
        size = hub_window_bytes(f->hub);
        assert_int_equal(size, with_prev + 8);
        assert_null(hub_event_unref(kept));
        assert_null(hub_event_unref(NULL));
        hub_cleared(f->hub, 200);
        run(f);
        assert_int_equal(hub_window_bytes(f->hub), 0);
}

/* -- Limits, at their edges -- */

/* A crowd at one key, each change of which is a turn's share. */
enum { N_CROWD = HUB_VISITS_PER_TURN };

typedef struct Crowd {
        Watcher watcher;
        KvWatch *watches[N_CROWD];
} Crowd;

static Crowd *crowd_new(Fixture *f) {
        KvWatchOptions options = { .key = kv_string("/crowd"), .refreshes = true };
        Crowd *crowd = NEW0(Crowd, 1);

        crowd->watcher.f = f;
        for (size_t i = 0; i < N_CROWD; i++)
                watch_by(f, options, &watcher_events, &crowd->watcher, &crowd->watches[i]);
        return crowd;
}

static void crowd_free(Crowd *crowd) {
        for (size_t i = 0; i < N_CROWD; i++)
                kv_watch_close(crowd->watches[i]);
        text_done(&crowd->watcher.received);
        free(crowd);
}

static void so_many_changes_wait_for_the_search_and_no_more(void **state) {
        for (unsigned more = 0; more < 2; more++) {
                _cleanup_watcher_ Watcher w = {};
                Fixture *f = *state;
                Crowd *crowd = crowd_new(f);
                uint64_t index, waiting;

                WATCH(f, &w, "/a");
                assert_true(kv_watch_is_current(w.watch));
                set(f, "/crowd");
                index = waiting = f->index;
                assert_true(kv_watch_is_current(w.watch) &&
                            kv_watch_progress(w.watch, &index)); /* that one's watchers are found */
                assert_int_equal(index, waiting);
                for (unsigned i = 0; i < HUB_PENDING_MAX + more; i++)
                        set(f, "/b");
                if (more) {
                        index = f->index;
                        assert_false(kv_watch_is_current(w.watch) || kv_watch_progress(w.watch, &index));
                        for (size_t i = 0; i < N_CROWD; i++)
                                crowd->watches[i] = NULL; /* cleared, each of them */
                        assert_delivered(&w, "cleared");
                } else {
                        index = f->index;
                        assert_false(kv_watch_is_current(w.watch));
                        assert_true(kv_watch_progress(w.watch, &index));
                        assert_int_equal(index,
                                         waiting); /* what came behind it may still concern the watch */
                        index = 5;
                        assert_true(kv_watch_progress(w.watch, &index));
                        assert_int_equal(index, 5);
                        assert_delivered(&w, "");
                        assert_true(kv_watch_is_current(w.watch));
                }
                run(f);
                crowd_free(crowd);
        }
}

static void so_many_bytes_wait_for_the_search_and_no_more(void **state) {
        enum { SIZE = 1024 * 1024 };
        _cleanup_free_ char *value = calloc(1, SIZE);
        _cleanup_watcher_ Watcher w = {};
        Fixture *f = *state;
        Crowd *crowd = crowd_new(f);
        KvEvent large = { .action = KV_ACTION_SET,
                          .node = { .key = kv_string("/b"), .value = { value, SIZE } } };
        unsigned n = 0;

        WATCH(f, &w, "/a");
        set(f, "/crowd");
        for (; n < HUB_UNSEARCHED_BYTES / SIZE - 1;
             n++) { /* with what each takes in addition to its value one less than would just fit */
                large.index = ++f->index;
                hub_publish(f->hub, &large);
        }
        assert_true(hub_watches(f->hub) == N_CROWD + 1 && kv_watch_progress(w.watch, &(uint64_t) { 0 }));
        large.index = ++f->index;
        hub_publish(f->hub, &large);
        assert_false(kv_watch_progress(w.watch, &(uint64_t) { 0 }));
        for (size_t i = 0; i < N_CROWD; i++)
                crowd->watches[i] = NULL;
        assert_delivered(&w, "cleared");
        assert_int_equal(hub_watches(f->hub), 0);
        crowd_free(crowd);
}

/* Pending events of a watch: up to the limit, and one more. */
static void a_watch_may_be_so_far_behind_and_no_further(void **state) {
        for (unsigned more = 0; more < 2; more++) {
                Fixture other = { .index = 100 };
                Watcher w = {};
                unsigned n = 0;

                loop_init(&other.loop, &test_ops, 1);
                assert_int_equal(hub_new(&other.hub, &other.loop, HUB_PENDING_MAX + 1, other.index), 0);
                for (unsigned i = 0; i < HUB_PENDING_MAX + more; i++)
                        set(&other, "/a");
                watch(&other, &w, (KvWatchOptions) { .key = kv_string("/a"), .since = 101 });
                run(&other);
                for (const char *p = w.received.chars; (p = strstr(p, "set /a")); p++)
                        n++;
                assert_int_equal(n, more ? 0 : HUB_PENDING_MAX);
                assert_int_equal(!!strstr(w.received.chars, "cleared"), more);
                done(&w);
                hub_free(other.hub);
                loop_done(&other.loop);
        }
}

static void a_watch_that_is_closed_during_delivery_is_gone_at_once(void **state) {
        _cleanup_watcher_ Watcher w = { .close_inside = true };
        Fixture *f = *state;

        WATCH(f, &w, "/a");
        w.n_watches = &(unsigned) { 9 };
        set(f, "/a");
        run(f);
        assert_int_equal(*w.n_watches, 0);
}

static void a_hidden_name_at_the_end_of_a_path_is_hidden(void **state) {
        _cleanup_watcher_ Watcher above = {}, root = {};
        Fixture *f = *state;

        WATCH(f, &above, "/a", .recursive = true, .hidden_rule = true);
        WATCH(f, &root, "/", .recursive = true, .hidden_rule = true);
        set(f, "/a/_");
        set(f, "/_");
        set(f, "/a_/b");
        assert_delivered(&above, "");
        assert_delivered(&root, "set /a_/b 103, ");
}

/* The work of finding watchers is the loop's to share out, in this turn and in the next. */
static void the_search_counts_as_work_of_the_turn_that_does_it(void **state) {
        Fixture *f = *state;
        Crowd *crowd = crowd_new(f);
        uint64_t found, later;

        (void) turns_end_work(&f->loop.turns);
        set(f, "/crowd");
        set(f, "/crowd");
        found = f->loop.turns.now.nodes;
        (void) turns_end_work(&f->loop.turns);
        loop_run_due(&f->loop, 1);
        later = f->loop.turns.now.nodes;
        crowd_free(crowd);
        run(f);
        assert_int_equal(found, N_CROWD + 2); /* the root, the place, and each watch */
        assert_int_equal(later, N_CROWD + 2);
}

static void too_many_watches_are_refused(void **state) {
        Fixture *f = *state;
        KvWatchOptions options = { .key = kv_string("/a") };
        KvWatch **watches = NEW0(KvWatch *, HUB_WATCHES_MAX), *one_more;
        Watcher w = { .f = f };
        uint64_t oldest;

        for (unsigned i = 0; i < HUB_WATCHES_MAX; i++)
                watch_by(f, options, &watcher_events, &w, &watches[i]);
        assert_int_equal(hub_watch(f->hub, &options, &watcher_events, &w, &one_more, &oldest), -ENOBUFS);
        for (unsigned i = 0; i < HUB_WATCHES_MAX; i++)
                kv_watch_close(watches[i]);
        assert_int_equal(hub_watches(f->hub), 0);
        free(watches);
}

/* -- Against the obvious: a scan over all watchers -- */

enum { N_MODEL = 40 };

typedef struct ModelWatch {
        Watcher watcher;
        char key[64];
        KvWatchOptions options;
        Text expected;
} ModelWatch;

static void random_path(Random *random, char *path, size_t size) {
        static const char *const names[] = { "a", "b", "ab", "_c", "_fleet" };
        unsigned depth = 1 + random_below(random, 6);

        *path = 0;
        for (unsigned i = 0; i < depth; i++) {
                strncat(path, "/", size - strlen(path) - 1);
                strncat(path, names[random_below(random, ELEMENTS(names))], size - strlen(path) - 1);
        }
}

static bool model_wants(const ModelWatch *m, const KvEvent *e) {
        const KvWatchOptions *o = &m->options;
        bool ends = e->node.dir && e->action == KV_ACTION_DELETE;

        if (e->refresh || (kv_path_is_ours(e->node.key) && !o->internal))
                return false;
        return kv_bytes_equal(e->node.key, o->key) || (ends && kv_path_is_below(o->key, e->node.key)) ||
               (o->recursive && kv_path_is_below(e->node.key, o->key) &&
                !(o->hidden_rule && kv_path_hidden_from(e->node.key, o->key)));
}

static void random_events_reach_the_watchers_that_a_scan_of_all_finds(void **state) {
        Fixture *f = *state;
        ModelWatch *models = NEW0(ModelWatch, N_MODEL);
        Random random;

        random_seed(&random, 7);
        for (unsigned step = 0; step < 3000; step++) {
                ModelWatch *m = &models[random_below(&random, N_MODEL)];
                char key[64];
                KvEvent e = { .action = random_below(&random, 4) == 0 ? KV_ACTION_DELETE : KV_ACTION_SET,
                              .refresh = random_below(&random, 10) == 0 };

                /* Each watch gets all events from its beginning to its end; then another one replaces it. */
                if (m->watcher.watch) {
                        run(f);
                        assert_string_equal(m->watcher.received.chars ?: "", m->expected.chars ?: "");
                        done(&m->watcher);
                        text_done(&m->expected);
                }
                memset(m, 0, sizeof(*m));
                random_path(&random, m->key, sizeof(m->key));
                m->options = (KvWatchOptions) { .key = kv_string(m->key),
                                                .recursive = random_below(&random, 2),
                                                .internal = random_below(&random, 2),
                                                .hidden_rule = random_below(&random, 2) };
                watch(f, &m->watcher, m->options);

                random_path(&random, key, sizeof(key));
                e.index = ++f->index;
                e.node = (KvNode) { .key = kv_string(key),
                                    .dir = e.action == KV_ACTION_DELETE && random_below(&random, 2) };
                for (ModelWatch *n = models; n < models + N_MODEL; n++)
                        if (n->watcher.watch && model_wants(n, &e))
                                text_printf(&n->expected, "%s %s %llu, ", kv_action_name(e.action), key,
                                            (unsigned long long) e.index);
                hub_publish(f->hub, &e);
                /* A scan does not know what a deletion left absent: the key is made again. */
                if (e.action == KV_ACTION_DELETE)
                        for (ModelWatch *n = models; n < models + N_MODEL; n++)
                                if (n->watcher.watch &&
                                    (kv_bytes_equal(n->options.key, e.node.key) ||
                                     (e.node.dir && kv_path_is_below(n->options.key, e.node.key)))) {
                                        KvEvent made = { .action = KV_ACTION_SET,
                                                         .index = ++f->index,
                                                         .node.key = n->options.key };

                                        for (ModelWatch *k = models; k < models + N_MODEL; k++)
                                                if (k->watcher.watch && model_wants(k, &made))
                                                        text_printf(&k->expected, "set %s %llu, ", n->key,
                                                                    (unsigned long long) made.index);
                                        hub_publish(f->hub, &made);
                                }
        }
        run(f);
        for (unsigned i = 0; i < N_MODEL; i++) {
                assert_string_equal(models[i].watcher.received.chars ?: "", models[i].expected.chars ?: "");
                done(&models[i].watcher);
                text_done(&models[i].expected);
        }
        free(models);
}

/* A watch that was cleared may hold its place a while: what it knew of it holds no more. */
static void what_was_absent_before_a_new_tree_may_be_there(void **state) {
        _cleanup_watcher_ Watcher before = {}, after = {};
        Fixture *f = *state;

        WATCH(f, &before, "/d/a");
        delete_dir(f, "/d");
        assert_delivered(&before, "delete /d 101, ");
        f->index = 200;
        hub_cleared(f->hub, f->index);
        WATCH(f, &after, "/d/a");
        assert_delivered(&before, "cleared");
        delete_dir(f, "/d");
        run(f);
        assert_delivered(&after, "delete /d 201, ");
}

static void what_was_absent_before_changes_were_lost_may_be_there(void **state) {
        enum { N = HUB_VISITS_PER_TURN + 1 };
        _cleanup_watcher_ Watcher before = {}, after = {}, crowd = {};
        KvWatchOptions options = { .key = kv_string("/crowd") };
        KvWatch **watches = NEW0(KvWatch *, N);
        Fixture *f = *state;

        WATCH(f, &before, "/d/a");
        delete_dir(f, "/d");
        assert_delivered(&before, "delete /d 101, ");
        for (unsigned i = 0; i < N; i++)
                watch_by(f, options, &watcher_events, &crowd, &watches[i]);
        set(f, "/crowd"); /* this turn has its share: what follows waits */
        set(f, "/d/a");
        for (unsigned i = 0; i < HUB_PENDING_MAX; i++)
                set(f, "/x");
        WATCH(f, &after, "/d/a");
        assert_delivered(&before, "cleared");
        delete_dir(f, "/d");
        run(f);
        assert_true(after.received.chars && starts_with(after.received.chars, "delete /d "));
        free(watches);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(a_plain_watch_sees_its_key_and_nothing_beside_or_below),
                TEST(a_recursive_watch_sees_all_that_is_below),
                TEST(no_watcher_is_called_inside_of_publishing),
                TEST(hidden_keys_are_seen_from_inside_only),
                TEST(rights_are_asked_when_an_event_arrives_and_before_its_delivery),
                TEST(all_watches_below_a_deleted_directory_are_notified),
                TEST(a_watch_of_an_absent_directory_gets_events_only_after_its_creation),
                TEST(fleets_own_keys_are_for_internal_watches),
                TEST(a_refresh_wakes_no_watcher_but_takes_a_slot_of_the_window),
                TEST(a_watch_of_refreshes_gets_them_live_and_from_the_window),
                TEST(events_of_the_window_come_first_then_the_live_ones),
                TEST(a_watch_from_a_future_index_skips_earlier_events),
                TEST(a_watch_from_before_the_window_is_refused_with_its_beginning),
                TEST(fleets_events_keep_the_places_of_user_watches),
                TEST(history_follows_the_same_rules),
                TEST(a_watch_for_one_event_ends_itself),
                TEST(a_watch_may_be_closed_by_its_own_callback),
                TEST(a_watch_closed_by_another_callback_gets_no_more_events),
                TEST(a_new_tree_ends_all_watches_and_empties_the_window),
                TEST(a_reader_that_falls_too_far_behind_loses_its_place),
                TEST(many_watchers_share_one_event_and_are_woken_in_turns),
                TEST(watchers_that_work_long_are_called_in_several_turns),
                TEST(components_of_the_daemon_are_notified_before_clients),
                cmocka_unit_test(a_deep_path_has_one_place),
                TEST(a_change_visits_the_places_on_its_way_and_no_others),
                TEST(many_changes_to_what_many_watch_are_spread_over_turns),
                TEST(a_watch_of_what_is_absent_by_now_hides_no_earlier_change_from_others),
                TEST(an_event_is_a_copy_of_all_that_was_published),
                TEST(so_many_changes_wait_for_the_search_and_no_more),
                TEST(so_many_bytes_wait_for_the_search_and_no_more),
                TEST(a_watch_may_be_so_far_behind_and_no_further),
                TEST(a_watch_that_is_closed_during_delivery_is_gone_at_once),
                TEST(a_hidden_name_at_the_end_of_a_path_is_hidden),
                TEST(the_search_counts_as_work_of_the_turn_that_does_it),
                TEST(too_many_watches_are_refused),
                TEST(what_was_absent_before_a_new_tree_may_be_there),
                TEST(what_was_absent_before_changes_were_lost_may_be_there),
                TEST(random_events_reach_the_watchers_that_a_scan_of_all_finds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
