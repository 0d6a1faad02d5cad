/* What the costliest entries take: the charged cost, and the thread's processor time beside it. The prices of
 * kvstore/command/cost.h were found with it: an entry of COST_ENTRY_MAX should take at most COST_ENTRY_MS.
 *
 * Then the prices of single calls.
 *
 *     cost [--level N] [NAME...] */
#include <stdarg.h>
#include <sys/resource.h>
#include <time.h>

#include "kvstore/apply/apply.h"
#include "kvstore/apply/applied.h"
#include "tests/bench/prices.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

enum { ORIGIN = 7 };

static Tree *tree;
static Applied applied = { .any_origin = true };
static uint64_t n_entries, n_numbers, now_ms = 1000000;
static unsigned level = KV_LEVEL_MAX;

/* One entry under way, as the leader makes it. */
typedef struct Entry {
        Writer w;
        KvBatch batch;
        size_t n;
} Entry;

static double cpu_ms(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static Entry begin(void) {
        Entry e = {};

        now_ms++;
        kv_batch_begin(&e.batch, &e.w,
                       &(KvBatchHead) { .cluster_ms = now_ms, .quota = 2ull << 30, .level = MIN(level, 2u) });
        return e;
}

/* False: the entry is full. */
static bool add(Entry *e, const KvCommand *cmd) {
        _cleanup_writer_ Writer w = {};

        assert(kv_command_encode(cmd, KV_LEVEL_MAX, &w) == 0);
        if (e->n == KV_BATCH_COMMANDS_MAX || (e->n > 0 && e->w.size + w.size + 48 > KV_BATCH_MAX))
                return false;
        n_numbers++;
        kv_batch_add(&e->batch, &e->w,
                     &(KvBatchItem) { .origin = ORIGIN,
                                      .number = n_numbers,
                                      .acknowledged = MAX(1u, n_numbers - e->n),
                                      .deadline_ms = now_ms + 10000,
                                      .command = w.bytes,
                                      .command_size = w.size });
        e->n++;
        return true;
}

static unsigned n_done, n_refused, n_deferred;

static void count(const KvResult *result) {
        n_done += result->status == KV_OK;
        n_deferred += result->status == KV_DEFERRED;
        n_refused += result->status != KV_OK && result->status != KV_DEFERRED;
}

static Cost apply(Entry *e, double *ret_ms) {
        double began = cpu_ms();
        TreeTxn *txn;
        Cost cost;
        int r;

        n_done = n_refused = n_deferred = 0;
        assert(tree_begin_write(tree, &txn) == 0);
        r = apply_batch(txn, ++n_entries, 1, e->w.bytes, e->w.size, &applied);
        assert(r == 0);
        for (size_t i = 0; i < applied.n_results; i++)
                count(applied.results[i].result);
        cost = applied.cost;
        assert(tree_commit(txn) == 0);
        applied_clear(&applied);
        *ret_ms = cpu_ms() - began;
        writer_done(&e->w);
        return cost;
}

static void quiet(Entry *e) {
        double ms;

        (void) apply(e, &ms);
}

static void report(const char *name, Entry *e) {
        size_t size = e->w.size;
        double ms;
        Cost cost = apply(e, &ms);

        printf("%-34s %7zu B  cost %9llu (%9llu bytes, %6llu nodes)  %7.2f ms  %6.2f ns/unit  %6.1f ms at "
               "the limit   done %u refused %u deferred %u\n",
               name, size, (unsigned long long) cost.total, (unsigned long long) cost.bytes,
               (unsigned long long) cost.nodes, ms, ms * 1e6 / (double) cost.total,
               ms * COST_ENTRY_MAX / (double) cost.total, n_done, n_refused, n_deferred);
}

static char large[KV_VALUE_MAX];

static KvBytes text(Arena *arena, const char *format, ...) _printf_(2, 3);

static KvBytes text(Arena *arena, const char *format, ...) {
        char room[1024];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(room, sizeof(room), format, ap);
        va_end(ap);
        return (KvBytes) { arena_copy(arena, room, n), n };
}

static void put(const char *key, size_t size) {
        Entry e = begin();

        assert(add(&e, &COMMAND(KV_SET, key, .value = { large, size })));
        quiet(&e);
}

/* 'n' keys below 'dir', of 'size' bytes each, without expiry or with one. */
static void fill(const char *dir, unsigned n, size_t size, uint64_t ttl_ms) {
        for (unsigned i = 0; i < n;) {
                Entry e = begin();

                for (;; i++) {
                        char key[1024];

                        snprintf(key, sizeof(key), "%s/%06u", dir, i * 2654435761u % 1000000);
                        if (i == n || !add(&e, &COMMAND(KV_SET, key, .value = { large, size },
                                                        .has_ttl = ttl_ms > 0, .ttl_ms = ttl_ms)))
                                break;
                }
                quiet(&e);
                i -= n_deferred;
        }
}

typedef struct Scene {
        const char *name;
        void (*run)(const char *name);
} Scene;

static void small_sets(const char *name) {
        for (unsigned round = 0; round < 3; round++) {
                _cleanup_arena_ Arena arena = {};
                Entry e = begin();

                for (unsigned i = 0; i < 1000; i++)
                        (void) add(&e, &(KvCommand) { .op = KV_SET,
                                                      .key = text(&arena, "/small/%u/%u",
                                                                  round * 7919 + i * 104729 % 1000, i),
                                                      .value = kv_string("v") });
                report(name, &e);
        }
}

static void txn_of(const char *name, unsigned n, size_t size, bool same, bool refresh, uint64_t ttl,
                   const char *dir) {
        _cleanup_arena_ Arena arena = {};
        KvCommand *writes = arena_alloc(&arena, n * sizeof(*writes));
        Entry e = begin();

        for (unsigned i = 0; i < n; i++)
                writes[i] = (KvCommand) { .op = KV_SET,
                                          .key = same ? kv_string(dir) :
                                                        text(&arena, "%s/%06u", dir,
                                                             i * 2654435761u % 1000000),
                                          .value = { large, size },
                                          .refresh = refresh,
                                          .has_ttl = ttl > 0,
                                          .ttl_ms = ttl + i };
        assert(add(&e, &(KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = n }));
        report(name, &e);
}

static void txn_small(const char *name) {
        for (unsigned i = 1; i <= 3; i++)
                txn_of(name, 4096, 1, false, false, 0, "/t");
}

static void txn_small_ttl(const char *name) {
        for (unsigned i = 0; i < 2; i++)
                txn_of(name, 3500, 1, false, false, 100000, "/tt");
}

static void txn_small_full(const char *name) {
        fill("/full", 300000, 100, 50000000);
        for (unsigned i = 0; i < 4; i++)
                txn_of(name, 2000, 30, false, false, 100000, "/full");
}

static void txn_small_plain(const char *name) {
        fill("/full", 300000, 100, 0);
        for (unsigned i = 0; i < 4; i++)
                txn_of(name, 3000, 30, false, false, 0, "/full");
}

/* Rows of a full history, with bodies as long as fleetd's. */
static void noted(const char *name) {
        enum { N = 700, ENTRIES = 150 };

        for (unsigned round = 0; round < ENTRIES + 4; round++) {
                _cleanup_arena_ Arena arena = {};
                KvCommand *writes = arena_alloc(&arena, N * sizeof(*writes));
                Entry e = begin();

                for (unsigned i = 0; i < N; i++)
                        writes[i] = (KvCommand) { .op = KV_SET,
                                                  .key = text(&arena, "/_fleet/noted/%u", i),
                                                  .note = { now_ms, text(&arena, "%0105u",
                                                                         (round * N + i) * 2654435761u) } };
                assert(add(&e,
                           &(KvCommand) { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = N }));
                if (round < ENTRIES)
                        quiet(&e);
                else
                        report(name, &e);
        }
}

static void txns(const char *name) {
        _cleanup_arena_ Arena arena = {};
        Entry e = begin();

        for (unsigned i = 0; i < 1000; i++) {
                KvCommand *w = arena_alloc(&arena, 2 * sizeof(*w));

                for (unsigned k = 0; k < 2; k++)
                        w[k] = (KvCommand) { .op = KV_SET,
                                             .key = text(&arena, "/x/%u/%u", i * 104729 % 1000, k),
                                             .value = kv_string("v") };
                if (!add(&e, &(KvCommand) { .op = KV_TXN, .writes = w, .n_writes = 2 }))
                        break;
        }
        report(name, &e);
}

static void set_large(const char *name) {
        for (unsigned i = 0; i < 3; i++) {
                Entry e = begin();

                assert(add(&e, &COMMAND(KV_SET, "/large", .value = { large, sizeof(large) })));
                report(name, &e);
        }
}

static void refreshes(const char *name) {
        put("/r", sizeof(large));
        for (unsigned round = 0; round < 3; round++) {
                Entry e = begin();

                for (unsigned i = 0; i < 1000; i++)
                        (void) add(&e, &COMMAND(KV_SET, "/r", .refresh = true, TTL(1000000)));
                report(name, &e);
        }
}

static void txn_refreshes(const char *name) {
        put("/r", sizeof(large));
        for (unsigned n = 5; n <= 4000; n = n < 40 ? n * 2 : n * 100)
                txn_of(name, n, 0, true, true, 1000000, "/r");
}

static void small_over_large(const char *name) {
        _cleanup_arena_ Arena arena = {};
        Entry e;

        for (unsigned round = 0; round < 2; round++) {
                for (unsigned i = 0; i < 40; i++)
                        put(text(&arena, "/over/%u", i).data, sizeof(large));
                e = begin();
                for (unsigned i = 0; i < 40; i++)
                        (void) add(&e, &(KvCommand) { .op = KV_SET,
                                                      .key = text(&arena, "/over/%u", i),
                                                      .value = kv_string("v") });
                report(name, &e);
        }
}

static void txn_over_large(const char *name) {
        _cleanup_arena_ Arena arena = {};

        for (unsigned n = 5; n <= 40; n *= 2) {
                for (unsigned i = 0; i < 40; i++) {
                        KvBytes key = text(&arena, "/over/%06u", i * 2654435761u % 1000000);

                        put(key.data, sizeof(large));
                }
                txn_of(name, n, 1, false, false, 0, "/over");
        }
}

static void mid_values(const char *name) {
        for (unsigned round = 0; round < 3; round++) {
                for (unsigned i = 0; i < 3; i++)
                        fill("/mid", 300, 8000, 0);
                txn_of(name, 300, 1, false, false, 0, "/mid");
        }
}

static void txn_mid(const char *name, size_t size) {
        unsigned n = 240000 / (size + 30);

        for (unsigned i = 0; i < 3; i++)
                txn_of(name, n, size, false, false, 0, "/midt");
}

static void txn_mid_500(const char *name) {
        txn_mid(name, 500);
}

static void txn_mid_2000(const char *name) {
        txn_mid(name, 2000);
}

static void txn_mid_6000(const char *name) {
        txn_mid(name, 6000);
}

static void remove_dir(const char *name, unsigned n, size_t size, uint64_t ttl_ms) {
        Entry e;

        fill("/rm", n, size, ttl_ms);
        e = begin();
        assert(add(&e, &COMMAND(KV_DELETE, "/rm", .recursive = true)));
        report(name, &e);
        if (n_refused > 0) {
                e = begin();
                (void) add(&e, &COMMAND(KV_SET, "/rm", .dir = true, .has_ttl = true));
                (void) add(&e, &COMMAND(KV_UPDATE, "/rm", .dir = true, .has_ttl = true));
                quiet(&e);
        }
        for (unsigned i = 0; i < 1000; i++) {
                e = begin();
                (void) add(&e, &COMMAND(KV_EXPIRE, "/", .internal = true, .limit = 1000));
                if (i < 2 && n_refused > 0)
                        report("  its expiry", &e);
                else
                        quiet(&e);
        }
}

static void remove_small(const char *name) {
        remove_dir(name, 5000, 10, 0);
        remove_dir(name, 40000, 10, 0);
        remove_dir(name, 100000, 10, 0);
}

static void remove_ttl(const char *name) {
        remove_dir(name, 5000, 10, 90000000);
        remove_dir(name, 8000, 10, 90000000);
}

static void remove_large(const char *name) {
        remove_dir(name, 60, sizeof(large), 0);
        remove_dir(name, 2000, 7000, 0);
}

static void missing_deep(const char *name) {
        _cleanup_arena_ Arena arena = {};
        char *key = arena_alloc(&arena, 8192);
        Entry e = begin();

        for (unsigned i = 0; i < 1024; i += 2)
                memcpy(key + i, "/q", 2);
        for (unsigned i = 0; i < 1000; i++)
                (void) add(&e,
                           &(KvCommand) { .op = KV_UPDATE, .key = { key, 1024 }, .value = kv_string("v") });
        report(name, &e);
}

static void make_deep(const char *name) {
        _cleanup_arena_ Arena arena = {};
        Entry e = begin();

        for (unsigned i = 0; i < 100; i++) {
                char *key = arena_alloc(&arena, 1024);

                for (unsigned k = 0; k < 1024; k += 2)
                        memcpy(key + k, "/q", 2);
                snprintf(key, 1024, "/deep%u/%u", i, i);
                key[strlen(key)] = '/';
                key[1023] = 'z';
                for (unsigned k = 1; k < 1024; k++)
                        if (key[k] == '/' && key[k - 1] == '/')
                                key[k] = 'w';
                (void) add(&e, &(KvCommand) { .op = KV_SET, .key = { key, 1024 }, .value = kv_string("v") });
        }
        report(name, &e);
}

static void long_keys(const char *name) {
        _cleanup_arena_ Arena arena = {};
        char dir[600];

        memset(dir, 'd', sizeof(dir));
        dir[0] = '/';
        for (unsigned k = 0; k < 20; k++) {
                Entry e = begin();

                for (unsigned i = 0; i < 400; i++) {
                        char *key = arena_alloc(&arena, 600);

                        memcpy(key, dir, 486);
                        snprintf(key + 486, 100, "/%06u", k * 400 + i);
                        if (!add(&e, &SET(key, "v")))
                                break;
                }
                if (k % 4 == 3)
                        report(name, &e);
                else
                        quiet(&e);
        }
        for (unsigned round = 0; round < 2; round++) {
                Entry e = begin();

                for (unsigned i = 0; i < 500; i++)
                        (void) add(&e, &(KvCommand) { .op = KV_DELETE, .key = { dir, 486 }, .dir = true });
                report("  DELETE ?dir=true of their parent", &e);
        }
}

static void refused_compares(const char *name) {
        Entry e = begin();

        put("/cmp", sizeof(large));
        for (unsigned i = 0; i < 1000; i++)
                (void) add(&e, &SET("/cmp", "v", IF_VALUE("x")));
        report(name, &e);
}

static void checks(const char *name) {
        _cleanup_arena_ Arena arena = {};
        KvCheck *c = arena_alloc(&arena, 4096 * sizeof(*c));
        Entry e = begin();

        for (unsigned i = 0; i < 4096; i++)
                c[i] = (KvCheck) { .kind = KV_CHECK_ABSENT, .key = text(&arena, "/none/%u", i) };
        (void) add(&e, &(KvCommand) { .op = KV_TXN, .checks = c, .n_checks = 4096 });
        report(name, &e);
}

static const Scene scenes[] = {
        { "1000 small sets", small_sets },
        { "transaction of 4096 small sets", txn_small },
        { "transaction of 3500 with expiry", txn_small_ttl },
        { "transaction of 2000 in a large tree", txn_small_full },
        { "transaction of 3000, without expiry", txn_small_plain },
        { "transactions of two", txns },
        { "transaction of 700 rows of history", noted },
        { "set 240 KiB over 240 KiB", set_large },
        { "refreshes of 240 KiB", refreshes },
        { "transaction of refreshes of 240 KiB", txn_refreshes },
        { "sets of one byte over 240 KiB", small_over_large },
        { "transaction of one byte over 240 KiB", txn_over_large },
        { "transaction over 8000 bytes", mid_values },
        { "transaction, 500 bytes", txn_mid_500 },
        { "transaction, 2000 bytes", txn_mid_2000 },
        { "transaction, 6000 bytes", txn_mid_6000 },
        { "delete of small nodes", remove_small },
        { "delete of nodes with expiry", remove_ttl },
        { "delete of large nodes", remove_large },
        { "updates of a deep missing key", missing_deep },
        { "sets of deep keys", make_deep },
        { "sets of long keys", long_keys },
        { "refused compares of 240 KiB", refused_compares },
        { "4096 checks", checks },
};

int main(int argc, char **argv) {
        _cleanup_free_ char *scratch = NULL, *path = NULL;
        bool named = false;

        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--level") && i + 1 < argc)
                        level = (unsigned) atoi(argv[++i]);
                else
                        named = true;
        }
        memset(large, 'x', sizeof(large));
        for (size_t i = 0; i < ELEMENTS(scenes); i++) {
                bool wanted = !named;
                Entry e = {};

                for (int k = 1; k < argc; k++)
                        wanted |= strstr(scenes[i].name, argv[k]) != NULL;
                if (!wanted)
                        continue;
                scratch = scratch_new();
                path = scratch_path(scratch, "tree");
                assert(tree_open(path, &(TreeOptions) { .quota = 256ull << 20 }, &tree, NULL) == 0);
                n_entries = n_numbers = 0;
                kv_batch_begin(&e.batch, &e.w,
                               &(KvBatchHead) { .cluster_ms = now_ms, .quota = 2ull << 30, .level = 1 });
                assert(add(&e, &(KvCommand) { .op = KV_RAISE, .internal = true, .limit = level }));
                quiet(&e);
                scenes[i].run(scenes[i].name);
                tree_close(tree);
                scratch_free(scratch);
                free(path);
                scratch = path = NULL;
        }
        if (!named || streq(argv[argc - 1], "prices"))
                prices();
        return 0;
}
