#include <sys/stat.h>
#include "tests/lib/test.h"
#include "fleetd/identity/cluster_key.h"
#include "fleetd/identity/key_file.h"
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
        assert_int_equal(cluster_key_read(scratch, 1, &key, &err), -EBADMSG);
        scratch_free(scratch);
}

#define SEALED "fleet sealed cluster key 1 host\n"

static void a_sealed_file_names_its_form(void **state) {
        static const struct {
                const char *text;
                int result; /* the form, or an error */
        } rows[] = {
                { SEALED "x", SEAL_WITH_HOST },
                { "fleet sealed cluster key 1 tpm2\nx", SEAL_WITH_TPM2 },
                { "fleet sealed cluster key 1 host+tpm2\n\n", SEAL_WITH_HOST_TPM2 },
                { "fleet sealed cluster key 2 another\nx", -ENOTSUP },
                { SEALED, -EBADMSG },
                { "fleet sealed cluster key 1 host", -EBADMSG },
                { "fleet sealed cluster key 1 no\nx", -EBADMSG },
                { "fleet sealed cluster key 1 tpm\nx", -EBADMSG },
                { "fleet sealed cluster key 1\nx", -EBADMSG },
                { "fleet sealed cluster key  host\nx", -EBADMSG },
                { "fleet sealed cluster key -1 host\nx", -EBADMSG },
                { "fleet sealed cluster keys 1 host\nx", -EBADMSG },
                { "", -EBADMSG },
        };
        char *scratch = scratch_new();
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};
        ClusterKey key = {};
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                ClusterKeyFile f = {};
                int r = cluster_key_file_parse(rows[i].text, strlen(rows[i].text), &f);

                assert_int_equal(r < 0 ? r : (int) f.form, rows[i].result);
        }
        assert_int_equal(cluster_key_write_sealed(scratch, 3, SEAL_WITH_HOST, "sealed", 6, &err), 0);
        assert_int_equal(cluster_key_read(scratch, 3, &key, &err), -ENOKEY);
        assert_non_null(strstr(err.message, "secrets/key.3 is sealed"));
        assert_int_equal(cluster_key_file_read(scratch, 3, &file, &err), 0);
        assert_int_equal(file.size, file.head_size + 6);
        assert_memory_equal(file.text, SEALED "sealed", file.size);
        assert_int_equal(cluster_key_delete_below(scratch, 4, &err), 0); /* it is a key */
        assert_int_equal(cluster_key_read(scratch, 3, &key, &err), -ENOENT);
        scratch_free(scratch);
}

/* Another file remains: a person may have put it there. A damaged key may be repaired. */
static void former_keys_are_deleted(void **state) {
        static const char *const others[] = { "other", "key.3.backup", "key.03", "key.+3", "key.0", "key." };
        char *scratch = scratch_new();
        _cleanup_free_ char *damaged = scratch_path(scratch, "secrets/key.5");
        _cleanup_free_ uint64_t *numbers = NULL;
        size_t n = 0;
        _cleanup_cluster_key_ ClusterKey read = {};
        Error err = {};

        for (uint64_t i = 1; i <= 12; i++)
                assert_int_equal(cluster_key_write(scratch, &(ClusterKey) { .number = i }, &err), 0);
        for (size_t i = 0; i < ELEMENTS(others); i++) {
                _cleanup_free_ char *name = NULL;

                assert_true(asprintf(&name, "%s/secrets/%s", scratch, others[i]) > 0);
                scratch_write(name, "1");
        }
        scratch_write(damaged, "1");
        for (unsigned attempt = 0; attempt < 2; attempt++) {
                assert_int_equal(cluster_key_delete_below(scratch, 11, &err), 0);
                for (uint64_t i = 1; i <= 12; i++)
                        assert_int_equal(cluster_key_read(scratch, i, &read, &err), i == 5 ? -EBADMSG :
                                                                                    i < 11 ? -ENOENT :
                                                                                             0);
                for (size_t i = 0; i < ELEMENTS(others); i++) {
                        _cleanup_free_ char *name = NULL;

                        assert_true(asprintf(&name, "%s/secrets/%s", scratch, others[i]) > 0);
                        assert_int_equal(access(name, F_OK), 0);
                }
        }
        assert_int_equal(cluster_key_list(scratch, &numbers, &n, &err), 0);
        assert_int_equal(n, 3);
        assert_true(numbers[0] == 5 && numbers[1] == 11 && numbers[2] == 12);
        scratch_free(scratch);
}

/* A missing folder is not made again: a copy that an operator moves back would then be inside it. */
static void a_missing_folder_is_not_created_by_readers(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *folder = scratch_path(scratch, "secrets");
        _cleanup_free_ uint64_t *numbers = NULL;
        ClusterKey read = {};
        size_t n = 1;
        Error err = {};

        assert_int_equal(cluster_key_read(scratch, 1, &read, &err), -ENOENT);
        assert_int_equal(cluster_key_list(scratch, &numbers, &n, &err), 0);
        assert_int_equal(n, 0);
        assert_int_equal(cluster_key_delete_below(scratch, 11, &err), 0);
        assert_int_equal(access(folder, F_OK), -1);
        scratch_free(scratch);
}

/* -- The file of fleetctl backup --cluster-key -- */

static void have_key(const char *state_directory, uint64_t number, uint8_t byte) {
        ClusterKey key = { .number = number };

        memset(key.bytes, byte, sizeof(key.bytes));
        assert_int_equal(cluster_key_write(state_directory, &key, NULL), 0);
}

static uint8_t key_byte(const char *state_directory, uint64_t number) {
        ClusterKey key = {};

        return cluster_key_read(state_directory, number, &key, NULL) < 0 ? 0 : key.bytes[31];
}

static int no_sealed_file(const ClusterKeyFile *file, ClusterKey *ret, Error *err) {
        return -ENOKEY;
}

static void the_keys_of_a_host_are_saved_and_stored_on_another_one(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *first = scratch_path(scratch, "first"),
                            *second = scratch_path(scratch, "second"), *file = scratch_path(scratch, "keys");
        KeyFile keys = {}, again = {};
        struct stat st;
        Error err = {};

        assert_int_equal(mkdir(first, 0700), 0);
        assert_int_equal(mkdir(second, 0700), 0);
        assert_int_equal(key_file_collect(first, no_sealed_file, &keys, &err), -ENOENT);
        assert_non_null(strstr(err.message, "run the command on a voter or standby"));
        have_key(first, 12, 0xcc);
        have_key(first, 3, 0x33);
        assert_int_equal(key_file_collect(first, no_sealed_file, &keys, &err), 0);
        assert_int_equal(keys.n, 2);
        keys.cluster_id = 0xabcdef;
        assert_int_equal(key_file_write(file, &keys, &err), 0);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(key_file_write(file, &keys, &err), -EEXIST);
        assert_non_null(strstr(err.message, "keys exists: cluster keys do not replace a file"));

        assert_int_equal(key_file_read(file, &again, &err), 0);
        assert_memory_equal(&again, &keys, sizeof(keys));
        assert_int_equal(key_file_store(&again, second, no_sealed_file, &err), 0);
        assert_int_equal(key_byte(second, 3), 0x33);
        assert_int_equal(key_byte(second, 12), 0xcc);
        assert_int_equal(key_file_store(&again, second, no_sealed_file, &err), 0);

        /* Another key of one number: none is stored. */
        have_key(second, 12, 0xdd);
        memset(again.keys[0].bytes, 0x44, sizeof(again.keys[0].bytes));
        again.keys[0].number = 4;
        assert_int_equal(key_file_store(&again, second, no_sealed_file, &err), -EEXIST);
        assert_non_null(strstr(err.message, "secrets/key.12 is the key of another cluster"));
        assert_int_equal(key_byte(second, 4), 0);
        assert_int_equal(key_byte(second, 12), 0xdd);
        scratch_free(scratch);
}

#define KEY_LINE(number) "key " number " 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
#define KEY_HEAD         "fleet cluster keys 1\ncluster 0123456789abcdef\n"

static void a_file_of_keys_is_read_as_a_whole_or_rejected(void **state) {
        static const char whole[] = KEY_HEAD KEY_LINE("1") KEY_LINE("7") "end\n";
        static const struct {
                const char *text;
                int error;
        } rows[] = {
                { "fleet cluster keys 2\n", -ENOTSUP },
                { KEY_HEAD "end\n", -EBADMSG },
                { KEY_HEAD KEY_LINE("7") KEY_LINE("7") "end\n", -EBADMSG },
                { KEY_HEAD KEY_LINE("0") "end\n", -EBADMSG },
                { KEY_HEAD KEY_LINE("x") "end\n", -EBADMSG },
                { KEY_HEAD KEY_LINE("1") "end\n\n", -EBADMSG },
                { KEY_HEAD "key 1 01\nend\n", -EBADMSG },
                { KEY_HEAD "key 1\nend\n", -EBADMSG },
                { "fleet cluster keys 1\ncluster 0000000000000000\n" KEY_LINE("1") "end\n", -EBADMSG },
                { "fleet cluster keys 1\ncluster 1\n" KEY_LINE("1") "end\n", -EBADMSG },
                { "fltdback", -EBADMSG },
        };
        char scratch_text[sizeof(whole)];
        KeyFile f = {};

        assert_int_equal(key_file_parse(whole, sizeof(whole) - 1, &f), 0);
        assert_int_equal(f.n, 2);
        assert_true(f.cluster_id == UINT64_C(0x0123456789abcdef) && f.keys[1].number == 7);
        assert_int_equal(f.keys[1].bytes[31], 0xef);
        for (size_t size = 0; size < sizeof(whole) - 1; size++)
                assert_int_equal(key_file_parse(whole, size, &f), -EBADMSG);
        for (size_t i = 0; i < sizeof(whole) - 1; i++) {
                memcpy(scratch_text, whole, sizeof(whole));
                scratch_text[i] = 0;
                assert_int_equal(key_file_parse(scratch_text, sizeof(whole) - 1, &f), -EBADMSG);
        }
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(key_file_parse(rows[i].text, strlen(rows[i].text), &f), rows[i].error);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_sealed_is_opened_with_the_same_key_and_context),
                cmocka_unit_test(an_empty_secret_is_sealed),
                cmocka_unit_test(a_cluster_key_is_for_its_owner_only),
                cmocka_unit_test(the_keys_of_a_host_are_saved_and_stored_on_another_one),
                cmocka_unit_test(a_file_of_keys_is_read_as_a_whole_or_rejected),
                cmocka_unit_test(other_content_is_no_cluster_key),
                cmocka_unit_test(a_sealed_file_names_its_form),
                cmocka_unit_test(former_keys_are_deleted),
                cmocka_unit_test(a_missing_folder_is_not_created_by_readers),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
