/* The sealer on programs that stand for systemd-creds; the real one: tests/conformance/test-seal.sh. */
#include <sys/stat.h>
#include "tests/lib/test.h"
#include "fleetd/creds.h"
#include "tests/lib/scratch.h"
#include "units/inputs.h"

typedef struct Fixture {
        UvLoop *loop;
        Sealer *sealer;
        char *scratch;
        unsigned answers;
        int error;
        Text message, bytes;
} Fixture;

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        _cleanup_free_ char *path = NULL;

        f->scratch = scratch_new();
        assert_true(asprintf(&path, "%s:/usr/bin:/bin", f->scratch) > 0);
        setenv("PATH", path, 1);
        assert_int_equal(loop_uv_new(&f->loop), 0);
        assert_int_equal(creds_new(&f->sealer, f->loop), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        f->sealer = creds_free(f->sealer);
        (void) loop_uv_free(f->loop);
        text_done(&f->message);
        text_done(&f->bytes);
        scratch_free(f->scratch);
        free(f);
        return 0;
}

static void program(Fixture *f, const char *script) {
        _cleanup_free_ char *path = scratch_path(f->scratch, "systemd-creds"), *text = NULL;

        assert_true(asprintf(&text, "#!/bin/sh\n%s\n", script) > 0);
        scratch_write(path, text);
        assert_int_equal(chmod(path, 0700), 0);
}

static void on_done(void *userdata, int error, const char *message, const void *bytes, size_t size) {
        Fixture *f = userdata;

        f->answers++;
        f->error = error;
        text_clear(&f->message);
        text_clear(&f->bytes);
        text_append(&f->message, message);
        text_append_bytes(&f->bytes, bytes, size);
        assert_true(error < 0 ? !bytes : bytes != NULL);
        loop_uv_stop(f->loop);
}

static int seal_bytes(Fixture *f, const char *name, const void *bytes, size_t size) {
        SealerCall call = { .form = SEAL_WITH_HOST_TPM2,
                            .name = name,
                            .bytes = bytes,
                            .size = size,
                            .done = on_done,
                            .userdata = f };
        unsigned before = f->answers;
        Error err = {};
        int r;

        r = f->sealer->ops->seal(f->sealer, &call, &err);
        if (r < 0) {
                assert_true(err.message[0]);
                return r;
        }
        assert_int_equal(f->answers, before);
        (void) loop_uv_run(f->loop);
        assert_int_equal(f->answers, before + 1);
        return f->error;
}

static int seal_text(Fixture *f, const char *text) {
        return seal_bytes(f, "fleet-cluster-key.3", text, strlen(text));
}

static void the_secret_is_in_the_input_and_in_no_argument(void **state) {
        Fixture *f = *state;

        program(f, "echo \"$@\"; cat; echo a warning >&2");
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(seal_text(f, "planted\n"), 0);
                assert_string_equal(f->bytes.chars,
                                    "encrypt --with-key=host+tpm2 --name=fleet-cluster-key.3 - -\nplanted\n");
        }
}

static void a_failure_has_the_last_line_of_its_messages(void **state) {
        Fixture *f = *state;

        program(f, "printf 'first\\nNo\\tTPM here\\n\\n' >&2; echo out; exit 1");
        assert_int_equal(seal_text(f, "x"), -EIO);
        assert_string_equal(f->message.chars, "systemd-creds: No TPM here");
        program(f, "exit 0"); /* no output is no success */
        assert_int_equal(seal_text(f, "x"), -EIO);
        assert_string_equal(f->message.chars, "systemd-creds: no message");
        program(f, "head -c 16385 /dev/zero");
        assert_int_equal(seal_text(f, "x"), -EIO);
        program(f, "head -c 16384 /dev/zero");
        assert_int_equal(seal_text(f, "x"), 0);
        assert_int_equal(f->bytes.size, 16384);
        program(f, "kill -9 $$");
        assert_int_equal(seal_text(f, "x"), -EIO);
}

/* The longest name, and all bytes of the largest value; systemd-creds writes base64 in lines. */
static void a_credential_of_the_largest_size_is_sealed(void **state) {
        char name[SEALER_NAME_MAX + 1], begin[128];
        Fixture *f = *state;
        char *value = malloc(SECRET_SIZE_MAX + 1);

        memset(name, 'n', SEALER_NAME_MAX);
        name[SEALER_NAME_MAX] = 0;
        for (size_t i = 0; i <= SECRET_SIZE_MAX; i++)
                value[i] = (char) (i * 7 + i / 256);
        program(f, "echo \"$3\"; cat");
        assert_int_equal(seal_bytes(f, name, value, SECRET_SIZE_MAX), 0);
        snprintf(begin, sizeof(begin), "--name=%s\n", name);
        assert_int_equal(f->bytes.size, strlen(begin) + SECRET_SIZE_MAX);
        assert_memory_equal(f->bytes.chars, begin, strlen(begin));
        assert_memory_equal(f->bytes.chars + strlen(begin), value, SECRET_SIZE_MAX);
        program(f, "base64 -w 69; head -c 4096 /dev/zero");
        assert_int_equal(seal_bytes(f, "n", value, SECRET_SIZE_MAX), 0);
        assert_true(f->bytes.size > 92000);
        assert_int_equal(seal_bytes(f, "n", value, SECRET_SIZE_MAX + 1), -EFBIG);
        program(f, "cat >/dev/null; head -c 131073 /dev/zero");
        assert_int_equal(seal_bytes(f, "n", value, SECRET_SIZE_MAX), -EIO);
        program(f, "cat; exit 0");
        assert_int_equal(seal_text(f, "small"), 0);
        assert_string_equal(f->bytes.chars, "small");
        free(value);
}

/* Two sealers: a call that hangs delays no call of the other one. */
static void a_call_of_another_sealer_does_not_wait(void **state) {
        Fixture *f = *state;
        SealerCall call = { .name = "hangs", .bytes = "x", .size = 1, .done = on_done, .userdata = f };
        Sealer *other = NULL;

        assert_int_equal(creds_new(&other, f->loop), 0);
        program(f, "[ $2 != --name=hangs ] || exec sleep 1000; cat");
        assert_int_equal(other->ops->open(other, &call, NULL), 0);
        assert_int_equal(seal_text(f, "next"), 0);
        assert_string_equal(f->bytes.chars, "next");
        assert_null(creds_free(other));
}

static void a_missing_program_is_an_error(void **state) {
        Fixture *f = *state;

        setenv("PATH", f->scratch, 1);
        assert_int_equal(seal_text(f, "x"), -ENOENT);
        assert_string_equal(f->message.chars, "Failed to run systemd-creds: No such file or directory");
}

static void a_cancelled_call_has_no_answer(void **state) {
        Fixture *f = *state;
        SealerCall call = { .name = "n", .bytes = "x", .size = 1, .done = on_done, .userdata = f };

        program(f, "exec sleep 1000");
        assert_int_equal(f->sealer->ops->open(f->sealer, &call, NULL), 0);
        f->sealer->ops->cancel(f->sealer);
        f->sealer->ops->cancel(f->sealer);
        program(f, "cat");
        assert_int_equal(seal_text(f, "next"), 0);
        assert_string_equal(f->bytes.chars, "next");
        assert_int_equal(f->answers, 1);
}

static void a_file_is_opened_without_a_loop(void **state) {
        static const char digits[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        Fixture *f = *state;
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};
        _cleanup_cluster_key_ ClusterKey key = {};
        Error err = {};

        assert_int_equal(cluster_key_write_sealed(f->scratch, 5, SEAL_WITH_HOST, digits, 64, &err), 0);
        assert_int_equal(cluster_key_file_read(f->scratch, 5, &file, &err), 0);
        program(f, "[ \"$*\" = \"decrypt --name=fleet-cluster-key.5 - -\" ] && cat && echo");
        assert_int_equal(creds_open_file(&file, &key, &err), 0);
        assert_true(key.number == 5 && key.bytes[31] == 0xef);
        program(f, "echo x");
        assert_int_equal(creds_open_file(&file, &key, &err), -EBADMSG);
        assert_string_equal(err.message, "Failed to open the sealed key.5: its content is not a cluster key");
        program(f, "echo broken >&2; exit 1");
        assert_int_equal(creds_open_file(&file, &key, &err), -EIO);
        assert_string_equal(err.message, "Failed to open the sealed key.5: systemd-creds: broken");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_secret_is_in_the_input_and_in_no_argument, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_failure_has_the_last_line_of_its_messages, setup, teardown),
                cmocka_unit_test_setup_teardown(a_credential_of_the_largest_size_is_sealed, setup, teardown),
                cmocka_unit_test_setup_teardown(a_call_of_another_sealer_does_not_wait, setup, teardown),
                cmocka_unit_test_setup_teardown(a_missing_program_is_an_error, setup, teardown),
                cmocka_unit_test_setup_teardown(a_cancelled_call_has_no_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(a_file_is_opened_without_a_loop, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
