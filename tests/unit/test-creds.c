/* The sealer on programs that stand for systemd-creds; the real one: tests/conformance/test-seal.sh. */
#include <sys/stat.h>
#include "tests/lib/test.h"
#include "fleetd/creds.h"
#include "tests/lib/scratch.h"

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

static int seal_text(Fixture *f, const char *text) {
        SealerCall call = { .form = SEAL_WITH_HOST_TPM2,
                            .name = "fleet-cluster-key.3",
                            .bytes = text,
                            .size = strlen(text),
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

static void a_missing_program_is_an_error(void **state) {
        Fixture *f = *state;

        setenv("PATH", f->scratch, 1);
        assert_int_equal(seal_text(f, "x"), -ENOENT);
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
                cmocka_unit_test_setup_teardown(a_missing_program_is_an_error, setup, teardown),
                cmocka_unit_test_setup_teardown(a_cancelled_call_has_no_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(a_file_is_opened_without_a_loop, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
