/* The power is cut at any moment of the life of stores and of an agent's assignment records: any part of
 * unsynced writes is lost or torn, and names in an unsynced folder are those from before. The remaining files
 * open without manual repair, and have all acknowledged data. CHECK_ALL=yes checks 10,000 such folders. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/records.h"
#include "kvstore/offline.h"
#include "tests/lib/power.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tree_file.h"
#include "tests/lib/three_hosts.h"
#include "tests/lib/store_inside.h"

typedef struct Look {
        ThreeHosts trio;
        AssignmentRecords notes;
        unsigned wrong;
        bool quiet;
} Look;

static void wrong(Look *l, const char *format, ...) _printf_(2, 3);
static void wrong(Look *l, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        if (!l->quiet)
                vfprintf(stderr, format, ap);
        va_end(ap);
        if (!l->quiet)
                fputc('\n', stderr);
        l->wrong++;
}

/* -- What is done until the power is cut -- */

static void must_open(ThreeHosts *t, unsigned number) {
        Error err = {};

        if (three_hosts_open(t, number, false, &err) < 0)
                fail_msg("host %u does not open: %s", number, err.message);
}

static void put_many(ThreeHostsHost *h, const char *prefix, unsigned n) {
        char key[64], value[400];

        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/%s/%u", prefix, i);
                /* Long enough that files of the log are rolled. */
                memset(value, 'x', sizeof(value) - 1);
                value[sizeof(value) - 1] = 0;
                memcpy(value, key, strlen(key));
                if (three_hosts_put(h, key, value) == KV_OK)
                        power_promise(key);
        }
}

static void note_orders(const char *folder, unsigned from, unsigned n) {
        _cleanup_free_ char *path = scratch_path(folder, "agent");
        char promise[32];
        Unit *unit = NULL;
        AssignmentRecords notes;

        assert_int_equal(unit_read("a.service", "[Service]\nExecStart=/bin/x\n", 27, &unit, NULL), 0);
        assert_int_equal(records_open(&notes, path, NULL), 0);
        for (unsigned i = from; i < from + n; i++) {
                assert_int_equal(records_put(&notes, unit, ASSIGNMENT_RUN, 1, i, NULL), 0);
                assert_int_equal(records_save(&notes), 0);
                snprintf(promise, sizeof(promise), "note %u", i);
                power_promise(promise);
        }
        records_close(&notes);
        unit_free(unit);
}

/* One host founds, writes, makes checkpoints, cuts its log; is started again, and again after the machine
 * was. */
static void live_alone(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        for (unsigned life = 0; life < 3; life++) {
                static const char *const prefixes[] = { "first", "second", "third" };

                t.boot = life < 2 ? 1 : 2;
                must_open(&t, 0);
                assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
                put_many(&t.hosts[0], prefixes[life], 24);
                note_orders(folder, 1 + life * 4, 4);
                three_hosts_close(&t, 0);
        }
}

/* Its file of the keys is mostly free at a start, and a smaller one takes its place. */
static void live_with_a_file_that_shrinks(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        must_open(&t, 0);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "first", 12);
        three_hosts_close(&t, 0);
        tree_file_swell(t.hosts[0].tree_path, 24, false);
        must_open(&t, 0);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "second", 12);
}

static bool was_reset(void *host) {
        return ((ThreeHostsHost *) host)->resets > 0;
}

/* A standby falls behind, and is given the tree. */
static void live_with_a_standby(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, true);
        t.checkpoint_entries = 10;
        t.log_file_size = 4096;
        must_open(&t, 0);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "early", 5);
        three_hosts_let_in(&t, 0, 1, false);
        put_many(&t.hosts[1], "follower", 5);
        three_hosts_close(&t, 1);
        three_hosts_cut_log(&t.hosts[0], put_many);
        must_open(&t, 1);
        assert_true(three_hosts_until(&t, was_reset, &t.hosts[1]));
        assert_int_equal(three_hosts_sync(&t.hosts[1]), KV_OK);
        put_many(&t.hosts[1], "late", 5);
}

/* Both vote, so that neither forgets what the other counts on. */
static void live_as_two_voters(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, true);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        must_open(&t, 0);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "early", 3);
        three_hosts_let_in(&t, 0, 1, true);
        put_many(&t.hosts[0], "leader", 20);
        put_many(&t.hosts[1], "follower", 20);
}

/* -- Recovery and restore: steps S3 to S5 -- */

enum { N_SAVED = 24 };

static KvOfflineOptions offline_begin(ThreeHosts *t, unsigned number) {
        KvOfflineOptions o = { .loop = t->loop, .tree_path = t->hosts[number].tree_path };

        assert_int_equal(disk_real_open(t->hosts[number].raft_path, &o.log_disk), 0);
        snprintf(o.machine_id, sizeof(o.machine_id), "%032x", number + 0xa0);
        snprintf(o.boot_id, sizeof(o.boot_id), "%032x", 77);
        return o;
}

static void live_with_a_recovery(const char *folder) {
        KvOffline recovered = {};
        KvOfflineOptions o;
        char promise[64];
        Error err = {};
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        must_open(&t, 0);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "first", N_SAVED);
        three_hosts_close(&t, 0);
        o = offline_begin(&t, 0);
        if (kv_recover(&o, false, &recovered, &err) < 0)
                fail_msg("%s", err.message);
        snprintf(promise, sizeof(promise), "lineage %" PRIx64, recovered.new_lineage);
        power_promise(promise);
        disk_real_close(o.log_disk);
}

static char *backup_path(const char *folder) {
        return scratch_path(folder, "backup");
}

static int restore(ThreeHosts *t, const char *folder, KvOffline *ret, Error *err) {
        _cleanup_free_ char *file = backup_path(folder);
        KvOfflineOptions o = offline_begin(t, 0);
        int r = kv_restore(&o, file, ret, err);

        disk_real_close(o.log_disk);
        return r;
}

/* A backup of the second host is restored on the first one. */
static void live_with_a_restore(const char *folder) {
        _cleanup_free_ char *file = backup_path(folder);
        KvOffline saved = {}, restored = {};
        char key[32], promise[64];
        KvOfflineOptions o;
        Error err = {};
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        must_open(&t, 1);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[1]));
        for (unsigned i = 0; i < N_SAVED; i++) {
                snprintf(key, sizeof(key), "/saved/%u", i);
                assert_int_equal(three_hosts_put(&t.hosts[1], key, key), KV_OK);
        }
        three_hosts_close(&t, 1);
        o = offline_begin(&t, 1);
        if (kv_backup(&o, file, &saved, &err) < 0)
                fail_msg("%s", err.message);
        disk_real_close(o.log_disk);
        power_promise("backup");
        if (restore(&t, folder, &restored, &err) < 0)
                fail_msg("%s", err.message);
        snprintf(promise, sizeof(promise), "lineage %" PRIx64, restored.new_lineage);
        power_promise(promise);
}

/* -- What is there afterwards -- */

static void look_at_promise(void *userdata, const char *promise) {
        Look *l = userdata;
        char value[512];
        uint64_t index;

        if (sscanf(promise, "lineage %" SCNx64, &index) == 1) {
                KvState state = {};

                kv_state(l->trio.hosts[0].store, &state);
                if (state.lineage != index)
                        wrong(l, "the lineage is %" PRIx64 ", not %" PRIx64, state.lineage, index);
        } else if (streq(promise, "backup")) {
                return; /* of look_at_restored() */
        } else if (sscanf(promise, "note %" SCNu64, &index) == 1) {
                const AssignmentRecord *note = records_get(&l->notes, "a.service");

                if (!note || note->index < index)
                        wrong(l, "the note of order %" PRIu64 " is missing", index);
        } else if (!starts_with(three_hosts_get(&l->trio.hosts[0], promise, value), promise)) {
                wrong(l, "%s was acknowledged, and is missing", promise);
        }
}

static bool folder_is_there(const char *path) {
        struct stat st;

        return stat(path, &st) == 0;
}

static bool open_host(Look *l, unsigned number, bool join) {
        Error err = {};
        int r = three_hosts_open(&l->trio, number, join, &err);

        if (r < 0)
                wrong(l, "host %u does not open: %s", number, error_text(&err, r));
        return r == 0;
}

static bool is_led_or_failed(void *host) {
        return three_hosts_is_led(host) || ((ThreeHostsHost *) host)->failed != 0;
}

/* Two voters may elect again while this process waits for a processor: then the store is asked again. */
enum { ELECTIONS_MAX = 100 };

static bool is_asked(ThreeHostsHost *h, KvStatus (*ask)(ThreeHostsHost *h)) {
        for (unsigned i = 0; i < ELECTIONS_MAX; i++) {
                if (!three_hosts_until(h->trio, is_led_or_failed, h) || !three_hosts_is_led(h))
                        return false;
                if (ask(h) == KV_OK)
                        return true;
        }
        return false;
}

static KvStatus put_after(ThreeHostsHost *h) {
        return three_hosts_put(h, "/after", "1");
}

static void look_at_stores(Look *l, const Power *p, bool both) {
        ThreeHostsHost *first = &l->trio.hosts[0];
        Error err = {};

        if (!open_host(l, 0, false) ||
            (both && folder_is_there(l->trio.hosts[1].raft_path) && !open_host(l, 1, true)))
                return;
        if (!is_asked(first, three_hosts_sync)) {
                wrong(l, "there is no leader, or its index is unknown: %s", first->failure);
                return;
        }
        for (unsigned i = 0; i < (both ? 2 : 1); i++) {
                KvState state = {};

                if (l->trio.hosts[i].store)
                        kv_state(l->trio.hosts[i].store, &state);
                if (state.lost)
                        wrong(l, "host %u has lost what it had: %s", i, state.problem);
        }
        power_promises(p, look_at_promise, l);
        if (store_check(first->store, &err) < 0)
                wrong(l, "the tree is not whole: %s", err.message);
        if (!is_asked(first, put_after))
                wrong(l, "nothing can be written");
}

static void note_backup(void *userdata, const char *promise) {
        *(bool *) userdata |= streq(promise, "backup");
}

/* Before the rename, the restore is repeated; after it, the host starts with all keys. */
static void look_at_restored(Look *l, const Power *p, const char *folder, bool both) {
        char key[32], value[512];
        KvOffline restored = {};
        bool saved = false;
        Error err = {};

        power_promises(p, note_backup, &saved);
        if (!saved)
                return;
        three_hosts_new(&l->trio, folder, false);
        l->trio.boot = 9;
        if (!folder_is_there(l->trio.hosts[0].tree_path) && restore(&l->trio, folder, &restored, &err) < 0)
                wrong(l, "the restore cannot be repeated: %s", err.message);
        else
                look_at_stores(l, p, false);
        for (unsigned i = 0; l->wrong == 0 && i < N_SAVED; i++) {
                snprintf(key, sizeof(key), "/saved/%u", i);
                if (!streq(three_hosts_get(&l->trio.hosts[0], key, value), key))
                        wrong(l, "%s was in the backup, and is missing", key);
        }
        three_hosts_free(&l->trio);
}

static void look_at_image(Look *l, const Power *p, const char *folder, bool both) {
        _cleanup_free_ char *agent = scratch_path(folder, "agent"),
                            *bad = scratch_path(agent, "assignment.bad");

        three_hosts_new(&l->trio, folder, both);
        l->trio.boot = 9;
        assert_int_equal(records_open(&l->notes, agent, NULL), 0);
        if (folder_is_there(bad))
                wrong(l, "the notes are torn");
        look_at_stores(l, p, both);
        records_close(&l->notes);
        three_hosts_free(&l->trio);
}

/* -- Cutting -- */

typedef struct Cut {
        void (*live)(const char *folder);
        void (*look)(Look *l, const Power *p, const char *folder, bool both); /* NULL: look_at_image() */
        bool both;                                                            /* hosts */
        unsigned n;                                                           /* images */
        uint64_t seed;
        const char *distrusted; /* this is not synced, and it has to be found out */
} Cut;

static int compare_moments(const void *a, const void *b) {
        size_t x = *(const size_t *) a, y = *(const size_t *) b;

        return x < y ? -1 : x > y;
}

/* Returns how many images were not as promised. */
static unsigned cut(const Cut *c) {
        char *scratch = scratch_new();
        _cleanup_free_ char *folder = scratch_path(scratch, "folder"),
                            *image = scratch_path(scratch, "image");
        _cleanup_free_ size_t *moments = NEW0(size_t, c->n);
        unsigned failed = 0;
        Random random;
        Power *p;

        assert_non_null(moments);
        assert_int_equal(mkdir(folder, 0700), 0);
        power_begin(folder);
        c->live(folder);
        p = power_end();
        assert_true(power_is_complete(p));
        power_distrust(p, c->distrusted);

        random_seed(&random, c->seed);
        for (unsigned i = 0; i < c->n; i++)
                moments[i] = random_below(&random, power_moments(p));
        qsort(moments, c->n, sizeof(*moments), compare_moments);
        for (unsigned i = 0; i < c->n; i++) {
                Look look = { .quiet = c->distrusted };

                power_go(p, moments[i]);
                power_image(p, &random, image);
                (c->look ?: look_at_image)(&look, p, image, c->both);
                if (look.wrong > 0 && !c->distrusted)
                        fprintf(stderr, "after a cut at call %zu of %zu (image %u)\n", moments[i],
                                power_moments(p), i);
                failed += look.wrong > 0;
                assert_int_equal(remove_tree_at(AT_FDCWD, image), 0);
        }
        printf("%zu calls, %u images\n", power_moments(p), c->n);
        power_free(p);
        scratch_free(scratch);
        return failed;
}

static unsigned many(unsigned n, unsigned n_all) {
        return getenv("CHECK_ALL") ? n_all : n;
}

static void a_store_that_is_alone_and_its_records_have_all_acknowledged_data(void **state) {
        assert_int_equal(cut(&(Cut) { live_alone, .n = many(420, 8000), .seed = 1 }), 0);
}

static void a_store_whose_file_shrinks_has_all_that_was_promised(void **state) {
        assert_int_equal(cut(&(Cut) { live_with_a_file_that_shrinks, .n = many(40, 1000), .seed = 5 }), 0);
}

static void a_standby_that_was_given_the_tree_opens_and_the_leader_has_all(void **state) {
        assert_int_equal(cut(&(Cut) { live_with_a_standby, .both = true, .n = many(60, 1000), .seed = 2 }),
                         0);
}

static void two_voters_whose_power_is_cut_together_have_all(void **state) {
        assert_int_equal(cut(&(Cut) { live_as_two_voters, .both = true, .n = many(30, 1000), .seed = 3 }), 0);
}

static void a_recovery_leaves_the_former_cluster_or_the_new_one(void **state) {
        assert_int_equal(cut(&(Cut) { live_with_a_recovery, .n = many(120, 4000), .seed = 6 }), 0);
}

static void a_restore_is_repeated_or_complete(void **state) {
        assert_int_equal(
                cut(&(Cut) { live_with_a_restore, look_at_restored, .n = many(120, 4000), .seed = 7 }), 0);
}

/* A daemon may be killed between the making of a name and the sync of its folder: what the next one finds
 * there, it must not count on before it has synced the folder itself. */
static void a_start_syncs_the_folders_whose_names_it_finds(void **state) {
        static const char *const folders[] = { "tree0", "tree0/checkpoint", "raft0" };
        char *scratch = scratch_new();
        _cleanup_free_ char *folder = scratch_path(scratch, "folder");
        Power *p;
        ThreeHosts t;

        assert_int_equal(mkdir(folder, 0700), 0);
        power_begin(folder);
        three_hosts_new(&t, folder, false);
        must_open(&t, 0);
        assert_true(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        three_hosts_close(&t, 0);
        power_promise("the first daemon has ended");
        must_open(&t, 0);
        power_promise("the second one has begun");
        three_hosts_close(&t, 0);
        three_hosts_free(&t);
        p = power_end();
        for (size_t i = 0; i < ELEMENTS(folders); i++)
                if (!power_synced_between(p, folders[i], "the first daemon has ended",
                                          "the second one has begun"))
                        fail_msg("%s is not synced by the second start", folders[i]);
        power_free(p);
        scratch_free(scratch);
}

/* Its name follows: then nothing checks any more whether it is whole. */
static void a_received_tree_is_synced_before_it_counts(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *folder = scratch_path(scratch, "folder");
        Power *p;

        assert_int_equal(mkdir(folder, 0700), 0);
        power_begin(folder);
        power_promise("begun");
        live_with_a_standby(folder);
        power_promise("over");
        p = power_end();
        assert_true(power_synced_between(p, "tree1/incoming/data.mdb", "begun", "over"));
        power_free(p);
        scratch_free(scratch);
}

/* This would see it if something were not synced: the log, the checkpoint's name, the notes. */
enum { SEEDS_MAX = 10 }; /* of the next one, until it is found */

static void what_is_not_synced_is_found_out(void **state) {
        static const char *const parts[] = { "raft0/log", "raft0", "tree0/checkpoint", "agent" };

        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                size_t found = 0;

                /* Where the cuts fall depends on threads, too. */
                for (unsigned seed = 4; seed < 4 + SEEDS_MAX && found == 0; seed++)
                        found = cut(&(Cut) { live_alone, .n = 24, .seed = seed, .distrusted = parts[i] });
                if (found == 0)
                        fail_msg("no test detects that %s is not synced", parts[i]);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_store_that_is_alone_and_its_records_have_all_acknowledged_data),
                cmocka_unit_test(a_store_whose_file_shrinks_has_all_that_was_promised),
                cmocka_unit_test(a_standby_that_was_given_the_tree_opens_and_the_leader_has_all),
                cmocka_unit_test(two_voters_whose_power_is_cut_together_have_all),
                cmocka_unit_test(a_recovery_leaves_the_former_cluster_or_the_new_one),
                cmocka_unit_test(a_restore_is_repeated_or_complete),
                cmocka_unit_test(a_start_syncs_the_folders_whose_names_it_finds),
                cmocka_unit_test(a_received_tree_is_synced_before_it_counts),
                cmocka_unit_test(what_is_not_synced_is_found_out),
        };

        signal(SIGPIPE, SIG_IGN);
        log_set_max_priority(LOG_EMERG);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
