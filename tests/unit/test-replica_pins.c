#include <sys/stat.h>
#include "tests/lib/test.h"
#include "fleetd/identity/replica_pins.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/scratch.h"

#define EIGHT(s) s s s s s s s s
#define PIN_A    EIGHT("aaaaaaaa")
#define PIN_B    EIGHT("bbbbbbbb")
#define ID_A     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B     "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C     "cccccccccccccccccccccccccccccccc"
#define ID_D     "dddddddddddddddddddddddddddddddd"

static void members_with_a_key_are_stored_and_read_again(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *folder = scratch_path(scratch, "identity");
        ReplicaPins pins, read = {};
        ClusterView view = {};
        Error err = {};

        /* A member with two pins, one without a pin, a host without a replica, and a removed one. */
        cluster_view_put(&view, "/_fleet/cluster/member/" ID_B, "{\"raftId\":2}");
        cluster_view_put(&view, "/_fleet/cluster/host/" ID_B, "{\"pins\":[\"" PIN_B "\",\"" PIN_A "\"]}");
        cluster_view_put(&view, "/_fleet/cluster/member/" ID_A, "{\"raftId\":1}");
        cluster_view_put(&view, "/_fleet/cluster/host/" ID_A, "{\"pins\":[\"" PIN_A "\"]}");
        cluster_view_put(&view, "/_fleet/cluster/member/" ID_C, "{\"raftId\":3}");
        cluster_view_put(&view, "/_fleet/cluster/host/" ID_D, "{\"pins\":[\"" PIN_A "\"]}");
        replica_pins_of(&view.cluster, &pins);
        assert_int_equal(pins.n, 2);
        assert_string_equal(pins.items[0].machine, ID_A);
        assert_int_equal(replica_pins_find(&pins, ID_B)->n, 2);
        assert_null(replica_pins_find(&pins, ID_D));
        cluster_view_put(&view, "/_fleet/cluster/removed/" ID_A, "{}");
        replica_pins_of(&view.cluster, &read);
        assert_int_equal(read.n, 1);

        assert_int_equal(replica_pins_write(scratch, &pins, &err), -ENOENT);
        assert_int_equal(mkdir(folder, 0700), 0);
        assert_int_equal(replica_pins_read(scratch, &read, &err), -ENOENT);
        assert_int_equal(replica_pins_write(scratch, &pins, &err), 0);
        assert_int_equal(replica_pins_read(scratch, &read, &err), 0);
        assert_true(replica_pins_equal(&read, &pins));
        assert_in_range(read.confirmed_ms, UINT64_C(1700000000000),
                        UINT64_MAX); /* without a time: of this host */

        /* The time is that of the file: no version writes or reads it in the list. */
        pins.confirmed_ms = 1234567890123;
        assert_int_equal(replica_pins_write(scratch, &pins, &err), 0);
        assert_int_equal(replica_pins_read(scratch, &read, &err), 0);
        assert_memory_equal(&read, &pins, sizeof(pins));
        read.items[1].pins.items[0][0] ^= 1;
        assert_false(replica_pins_equal(&read, &pins));
        cluster_view_free(&view);
        scratch_free(scratch);
}

static void other_content_is_rejected(void **state) {
        static const char *const rejected[] = {
                "\n",
                ID_A "\n",
                ID_A " \n",
                ID_A " " PIN_A,
                ID_A "  " PIN_A "\n",
                ID_A " " PIN_A " \n",
                ID_A " " PIN_A "a\n",
                "a " PIN_A "\n",
                ID_A " " PIN_A " " PIN_B " " PIN_A "\n",
                "AAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa " PIN_A "\n",
        };
        char many[(KV_MEMBERS_MAX + 1) * (sizeof(ID_A " " PIN_A "\n") - 1) + 1] = "";
        ReplicaPins pins = { .n = 7 };

        for (size_t i = 0; i < ELEMENTS(rejected); i++)
                if (replica_pins_parse(rejected[i], strlen(rejected[i]), &pins) != -EBADMSG)
                        fail_msg("%zu: %s", i, rejected[i]);
        for (unsigned i = 0; i < KV_MEMBERS_MAX + 1; i++)
                strcat(many, ID_A " " PIN_A "\n");
        assert_int_equal(replica_pins_parse(many, strlen(many), &pins), -EBADMSG);
        assert_int_equal(pins.n, 7); /* unchanged */
        assert_int_equal(
                replica_pins_parse(many, strlen(many) / (KV_MEMBERS_MAX + 1) * KV_MEMBERS_MAX, &pins), 0);
        assert_int_equal(pins.n, KV_MEMBERS_MAX);
        assert_int_equal(replica_pins_parse("", 0, &pins), 0);
        assert_int_equal(pins.n, 0);
}

static void any_bytes_are_read_or_rejected(void **state) {
        static const char valid[] = ID_A " " PIN_A " " PIN_B "\n" ID_B " " PIN_B "\n";
        ReplicaPins pins;

        srand(1);
        for (unsigned i = 0; i < 20000; i++) {
                size_t size = (size_t) rand() % sizeof(valid);
                char *text = malloc(size + 1); /* exactly this size: sanitizers see each byte beyond */

                memcpy(text, valid, size);
                for (unsigned k = (unsigned) rand() % 4; k > 0 && size > 0; k--)
                        text[(size_t) rand() % size] = (char) rand();
                text = realloc(text, size + !size);
                if (replica_pins_parse(text, size, &pins) == 0)
                        for (size_t k = 0; k < pins.n; k++)
                                assert_in_range(pins.items[k].pins.n, 1, PINS_MAX);
                free(text);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(members_with_a_key_are_stored_and_read_again),
                cmocka_unit_test(other_content_is_rejected),
                cmocka_unit_test(any_bytes_are_read_or_rejected),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
