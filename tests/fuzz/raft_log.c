/* Any bytes as the files of a log: it opens or is refused with a sentence; what opens takes an entry, and opens again with it.
 * The input: per file a byte (0 to 3: log.00000001 ..., 4, 5: meta.a, meta.b) and a size of two bytes, then its bytes. The meta
 * files are good ones unless the input has them. */
#include <assert.h>
#include <errno.h>

#include "kvstore/raft/log.h"
#include "tests/lib/memory_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct FuzzLoop {
        Loop base;
        Work *queued[2]; /* the writer's, and the making of the next file */
        size_t n;
} FuzzLoop;

static uint64_t no_time(const Loop *loop) {
        return 1;
}

static void no_wake(Loop *loop, uint64_t due_ms) {
}

static int queue(Loop *base, Work *work) {
        FuzzLoop *loop = container_of(base, FuzzLoop, base);

        assert(loop->n < ELEMENTS(loop->queued));
        loop->queued[loop->n++] = work;
        return 0;
}

static void run_all(FuzzLoop *loop) {
        while (loop->n > 0) {
                Work *work = loop->queued[0];

                loop->queued[0] = loop->queued[1];
                loop->n--;
                work->work(work->userdata);
                work->done(work->userdata);
        }
}

static void no_report(void *userdata, uint64_t generation, uint64_t last_index) {
}

static void no_failure(void *userdata, int error, const char *sentence) {
}

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
        static const LoopOps loop_ops = { .now_ms = no_time, .wall_ms = no_time, .wake_at = no_wake, .work = queue };
        const RaftLogMeta meta = { .cluster = 1, .id = 2, .term = 3 };
        const RaftLogOptions options = { .file_size = 4096 };
        Reader r = reader_over(bytes, size);
        RaftLog *log = NULL;
        Error err = {};
        MemoryDisk disk;
        FuzzLoop loop = {};

        loop_init(&loop.base, &loop_ops, 1);
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
                        run_all(&loop);
                        assert(raft_log_last_index(log) == last + 1);
                }
                raft_log_close(log, NULL, NULL);
        }

        memory_disk_done(&disk);
        loop_done(&loop.base);
        return 0;
}
