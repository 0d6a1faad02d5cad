/* The identity folder: what a power cut at any moment of a join leaves is either the former cluster of the
 * host, with the key of the attempt, or the new one. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/identity/identity.h"
#include "tests/lib/power.h"
#include "tests/lib/scratch.h"

#define CLUSTER_FILE "[Fleetd]\nListenPeer=10.0.0.2:2380\nJoin=10.0.0.1:2380\n"

static char *text_of(const char *folder, const char *name) {
        _cleanup_free_ char *path = scratch_path(folder, name);
        char *text = NULL;

        return read_file_at(AT_FDCWD, path, 65536, &text, NULL) < 0 ? NULL : text;
}

static bool holds(const char *folder, const char *name, const char *expected) {
        _cleanup_free_ char *text = text_of(folder, name);

        return expected ? text && streq(text, expected) : !text;
}

static int begin(const char *folder, Error *err) {
        _cleanup_free_ char *cluster_file = scratch_path(folder, "etc/50-cluster.conf");

        return identity_begin(folder, cluster_file, err);
}

static void make_file(const char *folder, const char *dir, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(folder, dir);
        _cleanup_close_ int fd = open_dir(path, 0700);

        assert_true(fd >= 0);
        assert_int_equal(write_file_at(fd, name, text, strlen(text), 0600), 0);
}

static void make_store(const char *folder) {
        make_file(folder, "raft", "log", "former");
        make_file(folder, "tree", "identity", "former");
        make_file(folder, "agent", "assignments", "kept");
}

/* -- A power cut at each moment -- */

/* A host keeps its key. */
static const char *key_of(bool has_identity) {
        return has_identity ? "former key" : "new key";
}

static void join(const char *folder, bool has_identity) {
        const char *key = key_of(has_identity);
        Error err = {};

        make_store(folder);
        if (has_identity)
                assert_int_equal(identity_store_first(folder, "former key", "former", "former", &err), 0);
        power_promise("begun");
        assert_int_equal(identity_write_key(folder, key, &err), 0);
        power_promise("key");
        assert_int_equal(identity_store(folder, key, "certificate", "roots", CLUSTER_FILE, &err), 0);
        power_promise("stored");
        assert_int_equal(begin(folder, &err), 1);
        power_promise("entered");
}

typedef struct Promises {
        bool begun, key, stored, entered;
} Promises;

static void note_promise(void *userdata, const char *promise) {
        Promises *p = userdata;

        p->begun |= streq(promise, "begun");
        p->key |= streq(promise, "key");
        p->stored |= streq(promise, "stored");
        p->entered |= streq(promise, "entered");
}

static void check_entered(const char *image, bool has_identity) {
        assert_true(holds(image, "identity/key", key_of(has_identity)));
        assert_true(holds(image, "identity/certificate.pem", "certificate"));
        assert_true(holds(image, "identity/roots.pem", "roots"));
        assert_true(holds(image, "identity/entering", NULL));
        assert_true(holds(image, "raft/log", NULL));
        assert_true(holds(image, "tree/identity", NULL));
        assert_true(holds(image, "old/1/raft/log", "former"));
        assert_true(holds(image, "old/1/tree/identity", "former"));
        assert_true(holds(image, "old/1/identity/key", has_identity ? "former key" : NULL));
        assert_true(holds(image, "etc/50-cluster.conf", CLUSTER_FILE));
        assert_true(holds(image, "agent/assignments", "kept"));
}

static void check_image(const Power *p, const char *image, bool has_identity) {
        _cleanup_identity_ HostIdentity identity = {};
        Promises promises = {};
        Error err = {};
        int r;

        power_promises(p, note_promise, &promises);
        if (!promises.begun)
                return;
        r = begin(image, &err);
        if (r < 0)
                fail_msg("the start fails: %s", err.message);
        assert_false(promises.entered && r == 1);
        assert_int_equal(begin(image, &err), 0);
        if (r == 1 || promises.stored) { /* or the cut came after the last step */
                check_entered(image, has_identity);
                assert_int_equal(identity_read(image, &identity, &err), 0);
                return;
        }
        assert_true(holds(image, "raft/log", "former"));
        assert_true(holds(image, "tree/identity", "former"));
        assert_int_equal(identity_read(image, &identity, &err), has_identity ? 0 : -ENOENT);
        if (promises.key) {
                char *key = NULL;

                assert_int_equal(identity_read_key(image, &key, &err), 0);
                assert_string_equal(key, key_of(has_identity));
                identity_wipe(key);
        }
}

static void cut(bool has_identity) {
        char *scratch = scratch_new();
        _cleanup_free_ char *folder = scratch_path(scratch, "folder"),
                            *image = scratch_path(scratch, "image");
        Random random;
        Power *p;

        assert_int_equal(mkdir(folder, 0700), 0);
        power_begin(folder);
        join(folder, has_identity);
        p = power_end();
        assert_true(power_is_complete(p));
        random_seed(&random, 1);
        for (size_t moment = 0; moment < power_moments(p); moment++) {
                power_go(p, moment);
                for (unsigned i = 0; i < 8; i++) {
                        power_image(p, &random, image);
                        check_image(p, image, has_identity);
                        assert_int_equal(remove_tree_at(AT_FDCWD, image), 0);
                }
        }
        power_free(p);
        scratch_free(scratch);
}

static void a_power_cut_leaves_the_former_cluster_or_the_new_one(void **state) {
        cut(false);
}

static void a_power_cut_leaves_the_former_identity_or_the_new_one(void **state) {
        cut(true);
}

/* -- Without a crash -- */

static void an_interrupted_join_continues_with_its_key(void **state) {
        char *scratch = scratch_new(), *key = NULL;

        assert_int_equal(identity_read_key(scratch, &key, NULL), -ENOENT);
        assert_int_equal(identity_write_key(scratch, "first", NULL), 0);
        assert_int_equal(identity_read_key(scratch, &key, NULL), 0);
        assert_string_equal(key, "first");
        identity_wipe(key);
        scratch_free(scratch);
}

static void a_host_with_an_identity_keeps_its_key(void **state) {
        char *scratch = scratch_new(), *key = NULL;
        Error err = {};

        assert_int_equal(identity_store_first(scratch, "key", "certificate", "roots", &err), 0);
        assert_int_equal(identity_store_first(scratch, "other", "certificate", "roots", &err), -EEXIST);
        assert_int_equal(identity_read_key(scratch, &key, NULL), 0);
        assert_string_equal(key, "key");
        identity_wipe(key);
        /* Of a join that was interrupted before the host had an identity. */
        assert_int_equal(identity_write_key(scratch, "interrupted", &err), 0);
        assert_int_equal(identity_read_key(scratch, &key, NULL), 0);
        assert_string_equal(key, "key");
        identity_wipe(key);
        assert_int_equal(begin(scratch, &err), 0);
        scratch_free(scratch);
}

static void a_second_join_keeps_what_the_first_has_replaced(void **state) {
        char *scratch = scratch_new();
        Error err = {};

        for (unsigned i = 0; i < 2; i++) {
                make_store(scratch);
                assert_int_equal(identity_store(scratch, "key", "certificate", "roots", CLUSTER_FILE, &err),
                                 0);
                assert_int_equal(begin(scratch, &err), 1);
        }
        assert_true(holds(scratch, "old/1/raft/log", "former"));
        assert_true(holds(scratch, "old/2/raft/log", "former"));
        assert_true(holds(scratch, "old/2/identity/key", "key"));
        /* A reset that was interrupted has moved the log only. */
        make_file(scratch, "old.new/raft", "log", "interrupted");
        make_store(scratch);
        assert_int_equal(identity_store(scratch, "key", "certificate", "roots", CLUSTER_FILE, &err), 0);
        assert_int_equal(begin(scratch, &err), 1);
        assert_true(holds(scratch, "old/3/raft/log", "interrupted"));
        assert_true(holds(scratch, "old/4/raft/log", "former"));
        scratch_free(scratch);
}

static void a_renewal_replaces_certificate_and_roots_and_keeps_the_key(void **state) {
        char *scratch = scratch_new();
        _cleanup_identity_ HostIdentity identity = {};
        Error err = {};

        assert_int_equal(identity_renew(scratch, "second", "second roots", &err), -ENOENT);
        assert_int_equal(identity_store_first(scratch, "key", "certificate", "roots", &err), 0);
        assert_int_equal(identity_renew(scratch, "second", "second roots", &err), 0);
        assert_int_equal(identity_read(scratch, &identity, &err), 0);
        assert_string_equal(identity.key, "key");
        assert_string_equal(identity.certificate, "second");
        assert_string_equal(identity.roots, "second roots");
        scratch_free(scratch);
}

static void a_key_that_others_can_read_is_refused_with_the_command(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *key = scratch_path(scratch, "identity/key");
        _cleanup_identity_ HostIdentity identity = {};
        Error err = {};

        assert_int_equal(identity_store_first(scratch, "key", "certificate", "roots", &err), 0);
        assert_int_equal(chmod(key, 0640), 0);
        assert_int_equal(identity_read(scratch, &identity, &err), -EPERM);
        assert_non_null(strstr(err.message, "chmod -R go= "));
        assert_int_equal(chmod(key, 0600), 0);
        assert_int_equal(identity_read(scratch, &identity, &err), 0);
        scratch_free(scratch);
}

static void a_missing_file_of_the_identity_is_named(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *roots = scratch_path(scratch, "identity/roots.pem");
        _cleanup_identity_ HostIdentity identity = {};
        Error err = {};

        assert_int_equal(identity_read(scratch, &identity, &err), -ENOENT);
        assert_int_equal(identity_store_first(scratch, "key", "certificate", "roots", &err), 0);
        assert_int_equal(unlink(roots), 0);
        assert_int_equal(identity_read(scratch, &identity, &err), -EBADMSG);
        assert_non_null(strstr(err.message, "roots.pem is missing"));
        scratch_free(scratch);
}

static void the_cluster_of_an_attached_host_is_kept_until_a_join_or_a_leave(void **state) {
        static const char *const invalid[] = { "", "c1\n", "00000000000000c1", "00000000000000cg\n",
                                               "0000000000000000\n" };
        char *scratch = scratch_new();
        uint64_t id = 0;
        Error err = {};

        assert_int_equal(identity_read_cluster(scratch, &id, &err), -ENOENT);
        for (size_t i = 0; i < ELEMENTS(invalid); i++) {
                make_file(scratch, ".", "cluster", invalid[i]);
                assert_int_equal(identity_read_cluster(scratch, &id, &err), -EBADMSG);
                assert_non_null(strstr(err.message, "/cluster has other content than the ID of a cluster"));
        }
        make_file(scratch, ".", "cluster", "00000000000000c1\n0");
        assert_true(identity_read_cluster(scratch, &id, &err) < 0);
        assert_int_equal(id, 0);
        assert_int_equal(identity_write_cluster(scratch, 0xfedcba9876543210, &err), 0);
        assert_true(holds(scratch, "cluster", "fedcba9876543210\n"));
        assert_int_equal(begin(scratch, &err), 0);
        assert_int_equal(identity_read_cluster(scratch, &id, &err), 0);
        assert_true(id == 0xfedcba9876543210);

        assert_int_equal(identity_store(scratch, "key", "certificate", "roots", CLUSTER_FILE, &err), 0);
        assert_int_equal(begin(scratch, &err), 1);
        assert_true(holds(scratch, "old/1/cluster", "fedcba9876543210\n"));
        assert_int_equal(identity_write_cluster(scratch, 0xc2, &err), 0);
        assert_int_equal(identity_leave(scratch, &err), 0);
        assert_int_equal(begin(scratch, &err), 1);
        assert_true(holds(scratch, "old/2/cluster", "00000000000000c2\n"));
        assert_int_equal(identity_read_cluster(scratch, &id, &err), -ENOENT);
        scratch_free(scratch);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_power_cut_leaves_the_former_cluster_or_the_new_one),
                cmocka_unit_test(a_power_cut_leaves_the_former_identity_or_the_new_one),
                cmocka_unit_test(an_interrupted_join_continues_with_its_key),
                cmocka_unit_test(a_host_with_an_identity_keeps_its_key),
                cmocka_unit_test(a_second_join_keeps_what_the_first_has_replaced),
                cmocka_unit_test(a_renewal_replaces_certificate_and_roots_and_keeps_the_key),
                cmocka_unit_test(a_key_that_others_can_read_is_refused_with_the_command),
                cmocka_unit_test(a_missing_file_of_the_identity_is_named),
                cmocka_unit_test(the_cluster_of_an_attached_host_is_kept_until_a_join_or_a_leave),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
