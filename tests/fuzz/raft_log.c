/* Any bytes as the files of a log: it opens or is rejected with a message; a log that opens takes an entry,
 * and opens again with it. The input: per file a byte (0 to 3: log.00000001 ..., 4, 5: meta.a, meta.b) and a
 * size of two bytes, then its bytes. The meta files are good ones unless the input has them. */

#include "kvstore/raft/log.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/memory_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void no_report(void *userdata, uint64_t generation, uint64_t last_index) {}

static void no_failure(void *userdata, int error, const char *message) {}

static const RaftLogEvents events = { .appended = no_report, .failed = no_failure };

static void read_files(MemoryDisk *disk, Reader *r) {
        static const char *const names[] = { "log.00000001", "log.00000002", "log.00000003",
                                             "log.00000004", "meta.a",       "meta.b" };

        while (r->left > 0) {
                uint8_t which = read_u8(r);
                uint16_t size = read_u16(r);
                const void *content = read_raw(r, MIN(size, r->left));

                if (r->failed || which >= ELEMENTS(names))
                        return;
                (void) memory_disk_put(disk, names[which], content,
                                       (size_t) ((const uint8_t *) r->bytes - (const uint8_t *) content));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        const RaftLogMeta meta = { .cluster = 1, .id = 2, .term = 3 };
        const RaftLogOptions options = { .file_size = 4096 };
        Reader r = reader_over(bytes, size);
        RaftLog *log = NULL;
        Error err = {};
        MemoryDisk disk;
        ManualLoop loop;

        manual_loop_init(&loop, 1);
        memory_disk_init(&disk, 1);
        (void) raft_log_create(&disk.base, &meta, 1, NULL, 0, &options, &err);
        read_files(&disk, &r);

        for (unsigned turn = 0; turn < 2; turn++) {
                RaftEntry entry = { .term = 9, .type = RAFT_ENTRY_COMMAND, .data = "fuzz", .size = 4 };
                uint64_t last;
                int e;

                err = (Error) {};
                e = raft_log_open(&disk.base, &loop.base, &options, &events, NULL, &log, &err);
                assert(turn == 0 || e == 0);
                if (e < 0) {
                        assert(err.message[0] != '\0');
                        break;
                }
                last = raft_log_last_index(log);
                if (last < UINT64_MAX / 2) {
                        e = raft_log_append(log, 1, last + 1, &entry, 1);
                        assert(e == 0);
                        while (manual_loop_work(&loop))
                                ;
                        assert(raft_log_last_index(log) == last + 1);
                }
                raft_log_close(log, NULL, NULL);
        }

        memory_disk_done(&disk);
        loop_done(&loop.base);
        return 0;
}
