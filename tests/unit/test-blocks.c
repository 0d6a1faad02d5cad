/* Memory of a queue: pieces lie together, keep their bytes, and give their blocks back. malloc() and free()
 * of the product are counted. */

#include "tests/lib/test.h"
#include "base/blocks.h"
#include "base/clock.h"
#include "base/memory.h"

enum { PIECES = 4000, PIECE_SIZE = 200 };

void *__real_malloc(size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void __wrap_free(void *p);

static size_t n_allocated;
static bool without_memory;

void *__wrap_malloc(size_t size) {
        if (without_memory)
                return NULL;
        n_allocated++;
        return __real_malloc(size);
}

void __wrap_free(void *p) {
        n_allocated -= p != NULL;
        __real_free(p);
}

static void fill(uint8_t *piece, size_t size, size_t seed) {
        for (size_t i = 0; i < size; i++)
                piece[i] = (uint8_t) (seed * 31 + i);
}

static void assert_filled(const uint8_t *piece, size_t size, size_t seed) {
        for (size_t i = 0; i < size; i++)
                assert_int_equal(piece[i], (uint8_t) (seed * 31 + i));
}

static void a_queue_takes_few_blocks_and_gives_them_back_from_its_front(void **state) {
        size_t before = n_allocated,
               most = PIECES * (PIECE_SIZE + sizeof(uint64_t)) / (BLOCKS_SIZE / 4 * 3) + 1;
        Blocks blocks = {};
        void *pieces[PIECES];

        (void) state;
        for (size_t i = 0; i < PIECES; i++) {
                pieces[i] = blocks_alloc(&blocks, PIECE_SIZE);
                assert_non_null(pieces[i]);
        }
        assert_true(n_allocated - before <= most);
        for (size_t i = 0; i < PIECES / 2; i++)
                blocks_free(pieces[i]);
        assert_true(n_allocated - before <= most / 2 + 1);
        for (size_t i = PIECES / 2; i < PIECES; i++)
                blocks_free(pieces[i]);
        assert_int_equal(n_allocated - before, 1); /* the open one */
        blocks_done(&blocks);
        assert_int_equal(n_allocated, before);
}

static void a_short_queue_stays_in_its_block(void **state) {
        size_t before = n_allocated;
        Blocks blocks = {};
        void *piece = NULL;

        (void) state;
        for (size_t i = 0; i < PIECES; i++) {
                piece = blocks_alloc(&blocks, PIECE_SIZE);
                assert_non_null(piece);
                assert_int_equal(n_allocated - before, 1);
                blocks_free(piece);
        }
        blocks_done(&blocks);
        assert_int_equal(n_allocated, before);
}

static void a_large_piece_has_a_block_of_its_own(void **state) {
        size_t before = n_allocated;
        _cleanup_(blocks_done) Blocks blocks = {};
        void *small = blocks_alloc(&blocks, 1), *large = blocks_alloc(&blocks, 3 * BLOCKS_SIZE),
             *next = blocks_alloc(&blocks, 1);

        (void) state;
        assert_true(small && large && next);
        assert_int_equal(n_allocated - before, 2);
        memset(large, 1, 3 * BLOCKS_SIZE);
        blocks_free(large);
        assert_int_equal(n_allocated - before, 1);
        blocks_free(small);
        blocks_free(next);
}

static void pieces_outlive_their_blocks(void **state) {
        size_t before = n_allocated;
        Blocks blocks = {};
        uint8_t *a = blocks_alloc(&blocks, 100), *b;

        (void) state;
        assert_non_null(a);
        fill(a, 100, 1);
        blocks_done(&blocks);
        b = blocks_alloc(&blocks, 100);
        assert_non_null(b);
        fill(b, 100, 2);
        assert_filled(a, 100, 1);
        blocks_free(a);
        blocks_free(b);
        blocks_free(NULL);
        blocks_done(&blocks);
        blocks_done(&blocks);
        assert_int_equal(n_allocated, before);
}

static void without_memory_nothing_changes(void **state) {
        _cleanup_(blocks_done) Blocks blocks = {};
        uint8_t *a = blocks_alloc(&blocks, 100), *b;

        (void) state;
        assert_non_null(a);
        fill(a, 100, 1);
        without_memory = true;
        assert_null(blocks_alloc(&blocks, BLOCKS_SIZE));
        for (size_t i = 0; (b = blocks_alloc(&blocks, BLOCKS_SIZE / 8)); i++) {
                assert_true(i < 8);
                blocks_free(a);
                a = b;
                fill(a, 100, 1);
        }
        assert_null(blocks_alloc(&blocks, SIZE_MAX));
        without_memory = false;
        assert_filled(a, 100, 1);
        b = blocks_alloc(&blocks, BLOCKS_SIZE / 8);
        assert_non_null(b);
        blocks_free(a);
        blocks_free(b);
}

/* Sizes and order of drawn numbers: each piece keeps its bytes, is aligned, and all is given back. */
static void pieces_keep_their_bytes_in_any_order(void **state) {
        enum { SLOTS = 500, STEPS = 100000 };
        struct {
                uint8_t *piece;
                size_t size, seed;
        } slots[SLOTS] = {};
        size_t before = n_allocated;
        Random random;
        Blocks blocks = {};

        (void) state;
        random_seed(&random, 7);
        for (size_t step = 0; step < STEPS; step++) {
                size_t i = random_below(&random, SLOTS);

                if (slots[i].piece) {
                        assert_filled(slots[i].piece, slots[i].size, slots[i].seed);
                        blocks_free(slots[i].piece);
                }
                slots[i].seed = step;
                slots[i].size = random_below(&random, 100) == 0 ? random_below(&random, BLOCKS_SIZE) :
                                                                  random_below(&random, 300);
                slots[i].piece = blocks_alloc(&blocks, slots[i].size);
                assert_non_null(slots[i].piece);
                assert_int_equal((uintptr_t) slots[i].piece % sizeof(void *), 0);
                fill(slots[i].piece, slots[i].size, step);
        }
        for (size_t i = 0; i < SLOTS; i++)
                if (slots[i].piece) {
                        assert_filled(slots[i].piece, slots[i].size, slots[i].seed);
                        blocks_free(slots[i].piece);
                }
        blocks_done(&blocks);
        assert_int_equal(n_allocated, before);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_queue_takes_few_blocks_and_gives_them_back_from_its_front),
                cmocka_unit_test(a_short_queue_stays_in_its_block),
                cmocka_unit_test(a_large_piece_has_a_block_of_its_own),
                cmocka_unit_test(pieces_outlive_their_blocks),
                cmocka_unit_test(without_memory_nothing_changes),
                cmocka_unit_test(pieces_keep_their_bytes_in_any_order),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
