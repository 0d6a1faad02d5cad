/* Records in bytes: what is written is read, what is cut or odd is refused, and the checksum is the known
 * one. */
#include <time.h>

#include "tests/lib/test.h"
#include "base/bytes.h"
#include "base/clock.h"

static void what_is_written_is_read(void **state) {
        static const uint64_t varints[] = { 0, 1, 127, 128, 300, 16383, 16384, UINT32_MAX, UINT64_MAX };
        _cleanup_writer_ Writer w = {};
        size_t size;

        write_u8(&w, 0xab);
        write_u16(&w, 0x1234);
        write_u32(&w, 0xdeadbeef);
        write_u64(&w, 0x0123456789abcdef);
        for (size_t i = 0; i < ELEMENTS(varints); i++)
                write_varint(&w, varints[i]);
        write_string(&w, "name");
        write_string(&w, NULL);
        write_blob(&w, "a\0b", 3);
        assert_int_equal(w.error, 0);
        assert_memory_equal(w.bytes, "\xab\x34\x12\xef\xbe\xad\xde\xef\xcd\xab\x89\x67\x45\x23\x01", 15);

        Reader r = reader_over(w.bytes, w.size);
        assert_int_equal(read_u8(&r), 0xab);
        assert_int_equal(read_u16(&r), 0x1234);
        assert_int_equal(read_u32(&r), 0xdeadbeef);
        assert_int_equal(read_u64(&r), 0x0123456789abcdef);
        for (size_t i = 0; i < ELEMENTS(varints); i++)
                assert_int_equal(read_varint(&r), varints[i]);
        _cleanup_free_ char *name = read_string(&r, 4), *empty = read_string(&r, 0);
        assert_string_equal(name, "name");
        assert_string_equal(empty, "");
        assert_memory_equal(read_blob(&r, 3, &size), "a\0b", 3);
        assert_int_equal(size, 3);
        assert_int_equal(reader_end(&r), 0);
}

static void a_record_cut_anywhere_is_refused_and_never_read_beyond(void **state) {
        _cleanup_writer_ Writer w = {};

        write_u32(&w, 1);
        write_varint(&w, 300);
        write_blob(&w, "hello", 5);
        write_u64(&w, 2);
        for (size_t cut = 0; cut < w.size; cut++) {
                _cleanup_free_ uint8_t *copy = malloc(
                        cut + 1); /* exact, so that a sanitizer sees one byte too many */
                size_t size;

                copy = realloc(copy, cut ?: 1);
                memcpy(copy, w.bytes, cut);
                Reader r = reader_over(copy, cut);
                (void) read_u32(&r);
                (void) read_varint(&r);
                (void) read_blob(&r, 100, &size);
                (void) read_u64(&r);
                assert_int_equal(reader_end(&r), -EBADMSG);
        }
}

static void a_failed_reader_gives_nothing_more(void **state) {
        Reader r = reader_over("\x01\x02", 2);
        size_t size = 9;

        assert_int_equal(read_u32(&r), 0);
        assert_int_equal(read_u8(&r), 0);
        assert_null(read_raw(&r, 1));
        assert_null(read_blob(&r, 10, &size));
        assert_int_equal(size, 0);
        assert_null(read_string(&r, 10));
}

static void what_is_left_over_is_refused(void **state) {
        Reader r = reader_over("\x01\x02", 2);

        (void) read_u8(&r);
        assert_int_equal(reader_end(&r), -EBADMSG);
}

static void numbers_in_another_than_the_shortest_form_are_refused(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
        } odd[] = {
                { "\x80\x00", 2 },
                { "\xff\x80\x00", 3 },
                { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10 },
                { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },
                { "\x80", 1 },
        };

        for (size_t i = 0; i < ELEMENTS(odd); i++) {
                Reader r = reader_over(odd[i].bytes, odd[i].size);

                assert_int_equal(read_varint(&r), 0);
                assert_true(r.failed);
        }
}

static void strings_with_nul_and_blobs_above_their_bound_are_refused(void **state) {
        Reader nul = reader_over("\x03"
                                 "a\0b",
                                 4),
               large = reader_over("\x03"
                                   "abc",
                                   4),
               lying = reader_over("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
        size_t size;

        assert_null(read_string(&nul, 10));
        assert_true(nul.failed);
        assert_null(read_blob(&large, 2, &size));
        assert_true(large.failed);
        assert_null(read_blob(&lying, SIZE_MAX, &size));
        assert_true(lying.failed);
}

static void the_writer_remembers_its_failure(void **state) {
        Writer w = {};
        size_t size;

        write_u8(&w, 1);
        write_raw(&w, "x", SIZE_MAX / 2);
        write_u8(&w, 2);
        assert_int_equal(w.error, -ENOMEM);
        assert_int_equal(w.size, 1);
        assert_null(writer_take(&w, &size));

        _cleanup_free_ uint8_t *empty = writer_take(&(Writer) {}, &size);
        assert_non_null(empty);
        assert_int_equal(size, 0);
}

static void the_checksum_is_castagnolis_with_and_without_the_processor(void **state) {
        uint8_t bytes[1000];
        Random random;

        assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
        assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
        assert_int_equal(crc32c(0, "", 0), 0);
        assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);

        random_seed(&random, 3);
        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = random_u64(&random);
        for (size_t offset = 0; offset < 9; offset++)
                for (size_t size = 0; size + offset <= sizeof(bytes); size += 7)
                        assert_int_equal(crc32c(5, bytes + offset, size),
                                         crc32c_portable(5, bytes + offset, size));
}

static void a_seed_decides_every_number_and_numbers_stay_below_their_bound(void **state) {
        Random a, b, c;
        unsigned seen[10] = {};

        random_seed(&a, 42);
        random_seed(&b, 42);
        random_seed(&c, 43);
        for (int i = 0; i < 100; i++) {
                uint64_t v = random_u64(&a);

                assert_int_equal(v, random_u64(&b));
                assert_int_not_equal(v, random_u64(&c));
        }
        for (int i = 0; i < 10000; i++)
                seen[random_below(&a, 10)]++;
        for (int i = 0; i < 10; i++)
                assert_in_range(seen[i], 800, 1200);
        assert_int_equal(random_below(&a, 1), 0);
}

/* By another implementation of the same generator (xoshiro256** of a state that splitmix64 made of 42). */
static void numbers_of_a_seed_are_those_of_the_generator(void **state) {
        static const uint64_t expected[] = { 0x15780b2e0c2ec716, 0x6104d9866d113a7e, 0xae17533239e499a1,
                                             0xecb8ad4703b360a1, 0xfde6dc7fe2ec5e64, 0xc50da53101795238 };
        Random r, same;

        random_seed(&r, 42);
        random_seed(&same, 42);
        for (size_t i = 0; i < ELEMENTS(expected); i++) {
                assert_true(random_u64(&r) == expected[i]);
                assert_true(random_below(&same, 1000) ==
                            (expected[i] >> 32) * 1000 >> 32); /* the upper bits say enough */
        }
        assert_int_equal(random_seed_from_system(&r), 0);
        assert_int_equal(random_seed_from_system(&same), 0);
        assert_true(random_u64(&r) != random_u64(&same));
}

static uint64_t ms_of(clockid_t id) {
        struct timespec ts;

        assert_int_equal(clock_gettime(id, &ts), 0);
        return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}

/* The machine may set its real clock between two readings: not each of them has to fit. */
static void clocks_count_milliseconds(void **state) {
        unsigned n_real = 0;

        for (unsigned i = 0; i < 1000; i++) {
                uint64_t monotonic = ms_of(CLOCK_MONOTONIC), now_monotonic = clock_monotonic_ms(),
                         real = ms_of(CLOCK_REALTIME), now = clock_real_ms();

                n_real += now >= real && now <= ms_of(CLOCK_REALTIME);
                assert_in_range(now_monotonic, monotonic, ms_of(CLOCK_MONOTONIC));
        }
        assert_in_range(n_real, 990, 1000);
}

static void arrays_grow_to_twice_their_size_or_what_is_wanted(void **state) {
        static const struct {
                size_t capacity, n, then;
        } rows[] = { { 0, 0, 0 }, { 0, 1, 8 },  { 0, 8, 8 },   { 0, 9, 9 },   { 7, 8, 8 },
                     { 8, 8, 8 }, { 8, 9, 16 }, { 8, 16, 16 }, { 8, 17, 17 }, { 100, 50, 100 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                uint32_t *items = NULL;
                size_t capacity = rows[i].capacity;

                assert_int_equal(GROW(items, capacity, rows[i].n), 0);
                assert_int_equal(capacity, rows[i].then);
                assert_int_equal(items != NULL, rows[i].then != rows[i].capacity);
                free(items);
        }
        uint32_t *items = NULL;
        size_t capacity = 0;

        assert_int_equal(GROW(items, capacity, SIZE_MAX / sizeof(*items) + 1),
                         -ENOMEM); /* its size is no size_t */
        assert_int_equal(capacity, 0);
        assert_null(items);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_written_is_read),
                cmocka_unit_test(a_record_cut_anywhere_is_refused_and_never_read_beyond),
                cmocka_unit_test(a_failed_reader_gives_nothing_more),
                cmocka_unit_test(what_is_left_over_is_refused),
                cmocka_unit_test(numbers_in_another_than_the_shortest_form_are_refused),
                cmocka_unit_test(strings_with_nul_and_blobs_above_their_bound_are_refused),
                cmocka_unit_test(the_writer_remembers_its_failure),
                cmocka_unit_test(the_checksum_is_castagnolis_with_and_without_the_processor),
                cmocka_unit_test(a_seed_decides_every_number_and_numbers_stay_below_their_bound),
                cmocka_unit_test(numbers_of_a_seed_are_those_of_the_generator),
                cmocka_unit_test(clocks_count_milliseconds),
                cmocka_unit_test(arrays_grow_to_twice_their_size_or_what_is_wanted),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
