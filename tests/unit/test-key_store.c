#include <sys/stat.h>
#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/identity/key_store.h"
#include "tests/lib/fake_sealer.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/scratch.h"

typedef struct Fixture {
        ManualLoop loop;
        char *scratch;
        FakeSealer sealer;
        KeyStore *store;
        unsigned changes;
        Settings settings;
        ComponentHost components;
} Fixture;

static void on_changed(void *userdata) {
        ((Fixture *) userdata)->changes++;
}

static void open_store(Fixture *f, SealWith form) {
        f->store = key_store_free(f->store);
        f->settings = (Settings) { .state_directory = f->scratch, .seal_with = form };
        f->components = (ComponentHost) { .io = { .loop = &f->loop.base, .sealer = &f->sealer.base },
                                          .settings = &f->settings };
        assert_int_equal(key_store_new(&f->store, &f->components, on_changed, f), 0);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        log_set_max_priority(LOG_EMERG);
        manual_loop_init(&f->loop, 1);
        f->scratch = scratch_new();
        fake_sealer_init(&f->sealer, &f->loop.base, 7);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        f->store = key_store_free(f->store);
        loop_done(&f->loop.base);
        scratch_free(f->scratch);
        free(f);
        return 0;
}

static void finish(Fixture *f) {
        for (unsigned turns = 0; f->sealer.done; turns++) {
                assert_true(turns < 1000);
                f->loop.now_ms++;
                (void) loop_run_due(&f->loop.base, 1000);
        }
}

static ClusterKey key_of(uint64_t number, uint8_t byte) {
        ClusterKey key = { .number = number };

        memset(key.bytes, byte, sizeof(key.bytes));
        return key;
}

/* Return the byte of the key, or a negative errno. */
static int read_key(Fixture *f, uint64_t number) {
        _cleanup_cluster_key_ ClusterKey key = {};
        Error err = {};
        int r;

        r = key_store_read(f->store, number, &key, &err);
        if (r < 0)
                assert_true(err.message[0]);
        else
                assert_int_equal(key.number, number);
        return r < 0 ? r : key.bytes[31];
}

static int write_key(Fixture *f, uint64_t number, uint8_t byte) {
        return key_store_write(f->store, &(ClusterKey[]) { key_of(number, byte) }[0], &(Error) {});
}

/* Return the form of the file, or a negative errno; no file contains the digits of a sealed key. */
static int form_of(Fixture *f, uint64_t number) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};
        int r;

        r = cluster_key_file_read(f->scratch, number, &file, &(Error) {});
        return r < 0 ? r : (int) file.form;
}

static void a_key_is_sealed_before_it_is_on_disk(void **state) {
        Fixture *f = *state;

        open_store(f, SEAL_WITH_HOST);
        assert_int_equal(write_key(f, 1, 0x11), -EAGAIN);
        assert_int_equal(write_key(f, 1, 0x11), -EAGAIN);
        assert_int_equal(read_key(f, 1), -EAGAIN);
        assert_int_equal(form_of(f, 1), -ENOENT);
        finish(f);
        assert_int_equal(form_of(f, 1), SEAL_WITH_HOST);
        assert_int_equal(read_key(f, 1), 0x11);
        assert_int_equal(f->changes, 1);
        assert_int_equal(f->sealer.sealed, 1);
        assert_int_equal(f->sealer.opened, 1); /* compared */

        /* After a start it is opened once. */
        open_store(f, SEAL_WITH_HOST);
        assert_int_equal(read_key(f, 1), -EAGAIN);
        finish(f);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(read_key(f, 1), 0x11);
        assert_int_equal(f->sealer.opened, 2);
        assert_int_equal(f->sealer.sealed, 1);
}

static void several_keys_are_sealed_one_after_the_other(void **state) {
        Fixture *f = *state;

        open_store(f, SEAL_WITH_TPM2);
        for (uint64_t i = 1; i <= 3; i++)
                assert_int_equal(write_key(f, i, (uint8_t) i), -EAGAIN);
        finish(f);
        for (uint64_t i = 1; i <= 3; i++) {
                assert_int_equal(read_key(f, i), i);
                assert_int_equal(form_of(f, i), SEAL_WITH_TPM2);
        }
        assert_int_equal(key_store_delete_below(f->store, 3, &(Error) {}), 0);
        assert_int_equal(read_key(f, 2), -ENOENT);
        assert_int_equal(read_key(f, 3), 3);
}

/* A file of another form is written again; its key is of use meanwhile. */
static void a_file_of_another_form_is_written_again(void **state) {
        static const SealWith forms[] = { SEAL_WITH_HOST, SEAL_WITH_TPM2, SEAL_WITH_NO, SEAL_WITH_HOST_TPM2,
                                          SEAL_WITH_HOST };
        Fixture *f = *state;
        SealWith former = SEAL_WITH_NO;

        assert_int_equal(cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(4, 0x44) }[0], NULL), 0);
        for (size_t i = 0; i < ELEMENTS(forms); i++) {
                open_store(f, forms[i]);
                assert_int_equal(read_key(f, 4), former == SEAL_WITH_NO ? 0x44 : -EAGAIN);
                assert_int_equal(form_of(f, 4), former);
                finish(f);
                assert_int_equal(form_of(f, 4), forms[i]);
                assert_int_equal(read_key(f, 4), 0x44);
                former = forms[i];
        }
}

/* What does not open is kept, and tried again after a while. */
static void a_file_that_cannot_be_opened_is_kept(void **state) {
        Fixture *f = *state;
        unsigned opened;

        open_store(f, SEAL_WITH_HOST);
        (void) write_key(f, 1, 0x11);
        finish(f);
        f->sealer.broken = true;
        open_store(f, SEAL_WITH_NO); /* nor is it written again */
        finish(f);
        opened = f->sealer.opened;
        for (unsigned i = 0; i < 5; i++) {
                assert_int_equal(read_key(f, 1), -ENOKEY);
                finish(f);
        }
        assert_int_equal(f->sealer.opened, opened);
        assert_int_equal(form_of(f, 1), SEAL_WITH_HOST);
        f->sealer.broken = false;
        f->loop.now_ms += 60000;
        assert_int_equal(read_key(f, 1), -EAGAIN);
        finish(f);
        assert_int_equal(read_key(f, 1), 0x11);
        assert_int_equal(form_of(f, 1), SEAL_WITH_NO);
}

static void a_key_of_another_host_does_not_open(void **state) {
        Fixture *f = *state;

        open_store(f, SEAL_WITH_HOST);
        (void) write_key(f, 1, 0x11);
        finish(f);
        f->sealer.host = 9;
        open_store(f, SEAL_WITH_HOST);
        finish(f);
        assert_int_equal(read_key(f, 1), -ENOKEY);
        assert_int_equal(form_of(f, 1), SEAL_WITH_HOST);
}

/* What cannot be sealed, or does not open again, replaces no file. */
static void a_key_that_cannot_be_sealed_replaces_nothing(void **state) {
        Fixture *f = *state;

        assert_int_equal(cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(1, 0x11) }[0], NULL), 0);
        for (unsigned i = 0; i < 2; i++) {
                f->sealer.broken = i == 0;
                f->sealer.damages = i == 1;
                open_store(f, SEAL_WITH_HOST);
                finish(f);
                assert_int_equal(read_key(f, 1), 0x11); /* a plain file is of use as it is */
                assert_int_equal(form_of(f, 1), SEAL_WITH_NO);
                assert_int_equal(write_key(f, 2, 0x22), -EAGAIN);
                finish(f);
                assert_int_equal(write_key(f, 2, 0x22), -ENOKEY);
                assert_int_equal(read_key(f, 2), -ENOKEY);
                assert_int_equal(form_of(f, 2), -ENOENT);
        }
        f->sealer.damages = false;
        f->loop.now_ms += 60000;
        assert_true(write_key(f, 2, 0x22) < 0); /* key 1 is tried first */
        finish(f);
        assert_int_equal(read_key(f, 2), 0x22);
        assert_int_equal(form_of(f, 2), SEAL_WITH_HOST);
        assert_int_equal(form_of(f, 1), SEAL_WITH_HOST);
}

/* A person replaces, moves or removes the file while the daemon runs, or while it is being opened or sealed.
 */
static void the_file_decides_which_key_is_in_memory(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = scratch_path(f->scratch, "secrets/key.1"),
                            *away = scratch_path(f->scratch, "away");

        open_store(f, SEAL_WITH_HOST);
        (void) write_key(f, 1, 0x11);
        finish(f);
        assert_int_equal(rename(path, away), 0);
        assert_int_equal(read_key(f, 1), -ENOENT);
        assert_int_equal(rename(away, path), 0);
        assert_int_equal(read_key(f, 1), -EAGAIN);
        finish(f);
        assert_int_equal(read_key(f, 1), 0x11);
        assert_int_equal(chmod(path, 0644), 0);
        assert_int_equal(read_key(f, 1), -EPERM);
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(read_key(f, 1), -EAGAIN);

        /* While it is being opened, and while it is being sealed. */
        assert_int_equal(cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(1, 0x22) }[0], NULL), 0);
        finish(f);
        assert_int_equal(read_key(f, 1), 0x22);
        assert_int_equal(cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(1, 0x33) }[0], NULL), 0);
        finish(f);
        assert_int_equal(read_key(f, 1), 0x33);
        finish(f);
        assert_int_equal(form_of(f, 1), SEAL_WITH_HOST);
        assert_int_equal(read_key(f, 1), 0x33);
}

static void a_store_ends_while_it_seals(void **state) {
        Fixture *f = *state;

        open_store(f, SEAL_WITH_HOST);
        (void) write_key(f, 1, 0x11);
        f->store = key_store_free(f->store);
        finish(f);
        assert_int_equal(form_of(f, 1), -ENOENT);
        assert_int_equal(f->changes, 0);
}

static void many_keys_take_a_bounded_memory(void **state) {
        Fixture *f = *state;

        for (uint64_t i = 1; i <= 40; i++)
                assert_int_equal(
                        cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(i, (uint8_t) i) }[0], NULL),
                        0);
        open_store(f, SEAL_WITH_HOST);
        finish(f);
        for (uint64_t i = 1; i <= 40; i++) {
                (void) read_key(f, i); /* it may have been sealed, and its slot taken */
                finish(f);
                assert_int_equal(read_key(f, i), i);
                assert_int_equal(form_of(f, i), SEAL_WITH_HOST);
        }
}

/* Without SealWith=, too, what a person has done meanwhile remains. */
static void a_file_that_a_person_replaced_is_not_written_again(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = scratch_path(f->scratch, "secrets/key.1");

        for (unsigned i = 0; i < 2; i++) {
                open_store(f, SEAL_WITH_HOST);
                (void) write_key(f, 1, 0x11);
                finish(f);
                open_store(f, SEAL_WITH_NO);
                assert_int_equal(read_key(f, 1), -EAGAIN);
                if (i == 0)
                        assert_int_equal(
                                cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(1, 0x22) }[0], NULL),
                                0);
                else
                        assert_int_equal(unlink(path), 0);
                finish(f);
                assert_int_equal(read_key(f, 1), i == 0 ? 0x22 : -ENOENT);
                assert_int_equal(form_of(f, 1), i == 0 ? (int) SEAL_WITH_NO : -ENOENT);
        }
}

/* Files that cannot be opened do not keep the store from another one. */
static void files_that_cannot_be_opened_leave_room(void **state) {
        Fixture *f = *state;
        unsigned opened;

        open_store(f, SEAL_WITH_HOST);
        for (uint64_t i = 1; i <= 18; i++) {
                (void) write_key(f, i, (uint8_t) i);
                finish(f);
        }
        f->sealer.broken = true;
        open_store(f, SEAL_WITH_HOST);
        finish(f);
        for (uint64_t i = 1; i <= 2; i++) {
                assert_int_equal(read_key(f, i), -EAGAIN);
                finish(f);
        }
        opened = f->sealer.opened; /* neither takes the place of the other */
        for (uint64_t i = 1; i <= 2; i++)
                assert_int_equal(read_key(f, i), -ENOKEY);
        assert_int_equal(f->sealer.opened, opened);
        assert_int_equal(write_key(f, 19, 19), -EAGAIN);
        f->sealer.broken = false;
        f->loop.now_ms += 60000;
        finish(f);
        for (uint64_t i = 1; i <= 2; i++) {
                (void) read_key(f, i);
                finish(f);
                assert_int_equal(read_key(f, i), i);
        }
}

static void a_key_that_cannot_be_sealed_is_reported(void **state) {
        Fixture *f = *state;
        bool on_disk = true;

        open_store(f, SEAL_WITH_HOST);
        (void) write_key(f, 1, 0x11);
        finish(f);
        f->sealer.broken = true;
        (void) write_key(f, 2, 0x22);
        assert_int_equal(key_store_unsealed(f->store, &on_disk), 0); /* not yet */
        finish(f);
        assert_int_equal(key_store_unsealed(f->store, &on_disk), 2);
        assert_false(on_disk);
        f->sealer.broken = false;
        f->loop.now_ms += 60000;
        (void) read_key(f, 2);
        finish(f);
        assert_int_equal(key_store_unsealed(f->store, &on_disk), 0);

        assert_int_equal(cluster_key_write(f->scratch, &(ClusterKey[]) { key_of(3, 0x33) }[0], NULL), 0);
        f->sealer.broken = true;
        (void) read_key(f, 3);
        finish(f);
        assert_int_equal(key_store_unsealed(f->store, &on_disk), 3);
        assert_true(on_disk);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_key_is_sealed_before_it_is_on_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(several_keys_are_sealed_one_after_the_other, setup, teardown),
                cmocka_unit_test_setup_teardown(a_file_of_another_form_is_written_again, setup, teardown),
                cmocka_unit_test_setup_teardown(a_file_that_cannot_be_opened_is_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(a_key_of_another_host_does_not_open, setup, teardown),
                cmocka_unit_test_setup_teardown(a_key_that_cannot_be_sealed_replaces_nothing, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(the_file_decides_which_key_is_in_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(a_file_that_a_person_replaced_is_not_written_again, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(files_that_cannot_be_opened_leave_room, setup, teardown),
                cmocka_unit_test_setup_teardown(a_key_that_cannot_be_sealed_is_reported, setup, teardown),
                cmocka_unit_test_setup_teardown(a_store_ends_while_it_seals, setup, teardown),
                cmocka_unit_test_setup_teardown(many_keys_take_a_bounded_memory, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
