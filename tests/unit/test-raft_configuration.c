/* The bounds of a configuration, in both directions. */

#include "tests/lib/test.h"
#include "kvstore/raft/core_internal.h"
#include "tests/lib/alloc.h"

static int encode(const RaftServer *items, size_t n, bool decode) {
        RaftServers servers = { .items = (RaftServer *) items, .n = n }, back = {};
        void *bytes = NULL;
        size_t size;
        int r = raft_configuration_encode_servers(&servers, &bytes, &size);

        if (r == 0 && decode)
                r = raft_configuration_decode_servers(bytes, size, &back);
        if (r == 0 && decode)
                assert_int_equal(back.n, n);
        raft_servers_done(&back);
        free(bytes);
        return r;
}

static void a_configuration_has_bounds(void **state) {
        static char addresses[RAFT_SERVERS_MAX + 1][RAFT_ADDRESS_MAX + 2];
        RaftServer items[RAFT_SERVERS_MAX + 1];

        for (size_t i = 0; i < ELEMENTS(items); i++) {
                memset(addresses[i], 'a', RAFT_ADDRESS_MAX);
                addresses[i][snprintf(addresses[i], 16, "%02zu", i)] = 'a';
                items[i] = (RaftServer) { .id = i + 1, .address = addresses[i], .role = RAFT_ROLE_VOTER };
        }
        assert_int_equal(encode(items, RAFT_SERVERS_MAX, true), 0);
        assert_int_equal(encode(items, RAFT_SERVERS_MAX + 1, false), -EINVAL);
        addresses[1][RAFT_ADDRESS_MAX] = 'a';
        assert_int_equal(encode(items, 2, false), -EINVAL);
        addresses[1][0] = 0;
        assert_int_equal(encode(items, 2, false), -EINVAL);
        items[1].address = NULL;
        assert_int_equal(encode(items, 2, false), -EINVAL);
        items[1] = (RaftServer) { .id = 0, .address = (char *) "b:1", .role = RAFT_ROLE_VOTER };
        assert_int_equal(encode(items, 2, false), -EINVAL);
        items[1].id = 2;
        items[1].role = RAFT_ROLE_NONE;
        assert_int_equal(encode(items, 2, false), -EINVAL);
        items[1].role = RAFT_ROLE_SPARE;
        assert_int_equal(encode(items, 2, true), 0);
}

/* Bytes of one server. */
static void write_server(Writer *w, uint64_t id, size_t address, uint8_t role) {
        write_u64(w, id);
        for (size_t i = 0; i < address; i++)
                write_u8(w, 'a');
        write_u8(w, 0);
        write_u8(w, role);
}

static void bytes_beyond_the_bounds_are_no_configuration(void **state) {
        static const struct {
                size_t address, padding;
                uint8_t role;
                int result;
        } cases[] = { { RAFT_ADDRESS_MAX, 7, 2, 0 },
                      { RAFT_ADDRESS_MAX + 1, 0, 1, -EBADMSG },
                      { 0, 0, 1, -EBADMSG },
                      { 3, 8, 1, -EBADMSG },
                      { 3, 0, 3, -EBADMSG } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                RaftServers servers = {};
                _cleanup_writer_ Writer w = {};

                write_u8(&w, 1);
                write_u64(&w, 1);
                write_server(&w, 1, cases[i].address, cases[i].role);
                for (size_t k = 0; k < cases[i].padding; k++)
                        write_u8(&w, 0);
                assert_int_equal(raft_configuration_decode_servers(w.bytes, w.size, &servers),
                                 cases[i].result);
                raft_servers_done(&servers);
        }
}

static void a_configuration_has_one_to_64_servers(void **state) {
        for (uint64_t n = 0; n <= RAFT_SERVERS_MAX + 1; n++) {
                _cleanup_writer_ Writer w = {};

                write_u8(&w, 1);
                write_u64(&w, n);
                for (uint64_t id = 1; id <= n; id++)
                        write_server(&w, id, RAFT_ADDRESS_MAX, 1);
                assert_int_equal(raft_configuration_check(w.bytes, w.size),
                                 n >= 1 && n <= RAFT_SERVERS_MAX ? 0 : -EBADMSG);
                assert_in_range(w.size, 0, RAFT_CONFIGURATION_SIZE_MAX);
                for (size_t size = 0; n == 1 && size < w.size; size++)
                        assert_int_equal(raft_configuration_check(w.bytes, size), -EBADMSG);
        }
}

static void without_memory_there_is_neither_bytes_nor_servers(void **state) {
        RaftServer items[] = { { .id = 1, .address = (char *) "a:1", .role = RAFT_ROLE_VOTER },
                               { .id = 2, .address = (char *) "b:1", .role = RAFT_ROLE_STANDBY } };
        unsigned failures = 0;

        for (bool failed = true; failed; failures++) {
                int r;

                alloc_fail_at(failures + 1);
                r = encode(items, ELEMENTS(items), true);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                assert_int_equal(r, failed ? -ENOMEM : 0);
        }
        assert_true(failures >= 5); /* the bytes, the servers and their addresses */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_configuration_has_bounds),
                cmocka_unit_test(bytes_beyond_the_bounds_are_no_configuration),
                cmocka_unit_test(a_configuration_has_one_to_64_servers),
                cmocka_unit_test(without_memory_there_is_neither_bytes_nor_servers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
