#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "fleetd/membership/cluster_key.h"
#include "io/tls_roles.h"
#include "tests/lib/scratch.h"

static void what_was_sealed_is_opened_with_the_same_key_and_context(void **state) {
        static const char secret[] = "-----BEGIN PRIVATE KEY-----", context[] = "cluster 1, root 2";
        uint8_t key[SEAL_KEY_BYTES] = { 1 }, other[SEAL_KEY_BYTES] = { 2 };
        _cleanup_text_ Text sealed = {}, again = {};
        char *opened = NULL;
        size_t size = 0;

        assert_int_equal(seal(key, context, sizeof(context), secret, strlen(secret), &sealed), 0);
        assert_int_equal(sealed.size, strlen(secret) + SEAL_OVERHEAD);
        assert_null(memmem(sealed.bytes, sealed.size, "PRIVATE", 7));
        assert_int_equal(seal(key, context, sizeof(context), secret, strlen(secret), &again), 0);
        assert_memory_not_equal(sealed.bytes, again.bytes, sealed.size); /* another nonce */

        assert_int_equal(unseal(key, context, sizeof(context), sealed.bytes, sealed.size, &opened, &size), 0);
        assert_int_equal(size, strlen(secret));
        assert_string_equal(opened, secret);
        tls_secret_free(opened, size);
        assert_int_equal(unseal(other, context, sizeof(context), sealed.bytes, sealed.size, &opened, &size),
                         -EBADMSG);
        assert_int_equal(unseal(key, "", 0, sealed.bytes, sealed.size, &opened, &size), -EBADMSG);
        for (size_t i = 0; i < sealed.size; i++) {
                assert_int_equal(unseal(key, context, sizeof(context), sealed.bytes, i, &opened, &size),
                                 -EBADMSG);
                sealed.bytes[i] ^= 1;
                assert_int_equal(
                        unseal(key, context, sizeof(context), sealed.bytes, sealed.size, &opened, &size),
                        -EBADMSG);
                sealed.bytes[i] ^= 1;
        }
}

static void an_empty_secret_is_sealed(void **state) {
        uint8_t key[SEAL_KEY_BYTES] = {};
        _cleanup_text_ Text sealed = {};
        char *opened = NULL;
        size_t size = 1;

        assert_int_equal(seal(key, NULL, 0, "", 0, &sealed), 0);
        assert_int_equal(unseal(key, NULL, 0, sealed.bytes, sealed.size, &opened, &size), 0);
        assert_int_equal(size, 0);
        tls_secret_free(opened, size);
}

static void a_cluster_key_is_for_its_owner_only(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *path = scratch_path(scratch, "secrets/key.7");
        ClusterKey key = { .number = 7 }, read = {};
        struct stat st;
        Error err = {};

        assert_int_equal(cluster_key_read(scratch, 7, &read, &err), -ENOENT);
        assert_int_equal(secret_random(key.bytes, sizeof(key.bytes)), 0);
        assert_int_equal(cluster_key_write(scratch, &key, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(st.st_size, 65);
        assert_int_equal(cluster_key_read(scratch, 7, &read, &err), 0);
        assert_memory_equal(&read, &key, sizeof(key));
        assert_int_equal(cluster_key_read(scratch, 8, &read, &err), -ENOENT);

        assert_int_equal(chmod(path, 0640), 0);
        assert_int_equal(cluster_key_read(scratch, 7, &read, &err), -EPERM);
        assert_non_null(strstr(err.message, "chmod 600"));
        cluster_key_wipe(&key);
        assert_int_equal(key.number, 0);
        scratch_free(scratch);
}

static void other_content_is_no_cluster_key(void **state) {
        static const char digits[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
        char *scratch = scratch_new();
        _cleanup_free_ char *path = scratch_path(scratch, "secrets/key.1");
        ClusterKey key = { .number = 1 };
        char text[80];
        Error err = {};

        assert_int_equal(cluster_key_write(scratch, &key, &err), 0);
        snprintf(text, sizeof(text), "%sf\n", digits);
        scratch_write(path, text);
        assert_int_equal(cluster_key_read(scratch, 1, &key, &err), 0);
        assert_int_equal(key.bytes[31], 0xef);
        for (unsigned i = 0; i < 4; i++) {
                static const char *const ends[] = { "g\n", "f", "\n", "" };

                snprintf(text, sizeof(text), "%s%s", digits, ends[i]);
                scratch_write(path, text);
                assert_int_equal(cluster_key_read(scratch, 1, &key, &err), -EBADMSG);
                assert_non_null(strstr(err.message, "is not a cluster key"));
        }
        snprintf(text, sizeof(text), "%sf\n\n", digits);
        scratch_write(path, text);
        assert_int_equal(cluster_key_read(scratch, 1, &key, &err), -EFBIG);
        scratch_free(scratch);
}

static void former_keys_are_deleted(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *other = scratch_path(scratch, "secrets/other");
        _cleanup_cluster_key_ ClusterKey read = {};
        Error err = {};

        for (uint64_t i = 1; i <= 12; i++)
                assert_int_equal(cluster_key_write(scratch, &(ClusterKey) { .number = i }, &err), 0);
        scratch_write(other, "1");
        assert_int_equal(cluster_key_delete_below(scratch, 11, &err), 0);
        for (uint64_t i = 1; i <= 12; i++)
                assert_int_equal(cluster_key_read(scratch, i, &read, &err), i < 11 ? -ENOENT : 0);
        assert_int_equal(access(other, F_OK), 0);
        assert_int_equal(cluster_key_delete_below(scratch, 11, &err), 0);
        scratch_free(scratch);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_sealed_is_opened_with_the_same_key_and_context),
                cmocka_unit_test(an_empty_secret_is_sealed),
                cmocka_unit_test(a_cluster_key_is_for_its_owner_only),
                cmocka_unit_test(other_content_is_no_cluster_key),
                cmocka_unit_test(former_keys_are_deleted),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
