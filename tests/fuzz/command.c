/* Arbitrary bytes as a command, a batch, a cached result, an event, a path. Decoded values have one encoding;
 * a command passes the check or is rejected with a message. */

#include "kvstore/command/command.h"
#include "kvstore/apply/events.h"
#include "kvstore/apply/dedup.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_command(const void *bytes, size_t size) {
        _cleanup_free_ void *arena = NULL;
        _cleanup_writer_ Writer again = {};
        KvStatus status;
        KvCommand cmd;
        Error err = {};
        int r;

        if (kv_command_decode(bytes, size, &cmd, &arena) < 0)
                return;
        r = kv_command_encode(&cmd, KV_LEVEL_MAX, &again);
        assert(r == 0);
        assert(again.size == size && memcmp(again.bytes, bytes, size) == 0);
        r = kv_command_check(&cmd, &status, &err);
        assert(r == 0 ? status == KV_OK : status != KV_OK && err.message[0] != 0);
}

static void read_batch(const void *bytes, size_t size) {
        _cleanup_writer_ Writer again = {};
        KvBatchHead head;
        KvBatchItem item;
        KvBatch items, copy;
        int r;

        if (kv_batch_open(&items, bytes, size, &head) < 0)
                return;
        kv_batch_begin(&copy, &again, &head);
        while ((r = kv_batch_next(&items, &item)) > 0) {
                read_command(item.command, item.command_size);
                kv_batch_add(&copy, &again, &item);
        }
        assert(r < 0 || items.version == 1 || (again.size == size && memcmp(again.bytes, bytes, size) == 0));
}

/* To a command with a key of its own, and to a transaction. */
static void read_answer(const void *bytes, size_t size) {
        KvCheck check = { .kind = KV_CHECK_EXISTS, .key = kv_string("/a") };
        KvCommand writes[] = { { .op = KV_SET, .key = kv_string("/a"), .value = kv_string("1") },
                               { .op = KV_DELETE, .key = kv_string("/b") } };
        const KvCommand commands[] = {
                { .op = KV_POST, .key = kv_string("/q"), .value = kv_string("1") },
                { .op = KV_TXN, .checks = &check, .n_checks = 1, .writes = writes, .n_writes = 2 },
        };

        for (size_t i = 0; i < ELEMENTS(commands); i++) {
                _cleanup_arena_ Arena arena = {};
                CachedResult kept = { .entry = 1, .term = 1, .now_ms = 1, .bytes = { bytes, size } };
                KvResult result;

                if (result_decode(&kept, NULL, &commands[i], &arena, &result) < 0)
                        continue;
                assert((unsigned) result.status < _KV_STATUS_MAX && result.again);
                free(kv_result_copy(&result));
        }
}

static void read_event(const void *bytes, size_t size) {
        _cleanup_writer_ Writer again = {};
        KvEvent event;
        int r;

        if (event_decode(1, bytes, size, &event) < 0)
                return;
        r = event_encode(&event, &again);
        assert(r == 0);
        assert(again.size == size && memcmp(again.bytes, bytes, size) == 0);
}

static void clean_path(const void *bytes, size_t size) {
        _cleanup_free_ char *path = NULL, *again = NULL;
        size_t path_size, again_size;
        KvStatus status;
        KvCommand cmd = { .op = KV_SET, .internal = true };
        int r;

        if (kv_path_clean(bytes, size, &path, &path_size) < 0)
                return;
        r = kv_path_clean(path, path_size, &again, &again_size);
        assert(r == 0 && again_size == path_size && memcmp(again, path, path_size) == 0);
        cmd.key = (KvBytes) { path, path_size };
        r = kv_command_check(&cmd, &status, NULL);
        assert(r == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        read_command(bytes, size);
        read_batch(bytes, size);
        read_answer(bytes, size);
        read_event(bytes, size);
        clean_path(bytes, size);
        return 0;
}
