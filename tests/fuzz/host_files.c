/* Arbitrary bytes as a small file of this host's state: the agent's assignment records, the identity of the
 * store, a marker of trust, the directory's record, the read bound, the marker of a quarantined log, the keys
 * of the members, cluster keys, the copy of a content of inputs. Records are read, written and read again, or
 * moved aside; no other file stops a start. Values that were read are written and read again unchanged. The
 * first byte selects the file. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/records.h"
#include "fleetd/directory/seen_files.h"
#include "fleetd/features/inputs/content_bytes.h"
#include "fleetd/identity/identity.h"
#include "fleetd/identity/key_file.h"
#include "fleetd/identity/replica_pins.h"
#include "kvstore/read_bound.h"
#include "kvstore/tree/data_dir.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char *scratch;
static int dir_fd;

static void scratch_forget(void) {
        close(dir_fd);
        scratch = scratch_free(scratch);
}

static void put(const char *name, const uint8_t *bytes, size_t size) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert(fd >= 0 && write(fd, bytes, size) == (ssize_t) size);
        close(fd);
}

static void records(const uint8_t *bytes, size_t size) {
        uint64_t lineage, acted_index;
        unsigned count;
        AssignmentRecords n;

        put("assignment", bytes, size);
        assert(records_open(&n, scratch, NULL) == 0);
        lineage = n.lineage;
        acted_index = n.acted_index;
        count = HASH_COUNT(n.table);
        for (const AssignmentRecord *record = n.table; record; record = record->hh.next)
                assert(record->unit && (record->kind == ASSIGNMENT_RUN || record->kind == ASSIGNMENT_LOAD) &&
                       record->index <= n.acted_index);
        n.dirty = true;
        assert(records_save(&n) == 0);
        records_close(&n);

        assert(records_open(&n, scratch, NULL) == 0);
        assert(n.lineage == lineage && n.acted_index == acted_index && HASH_COUNT(n.table) == count);
        records_close(&n);
}

static void identity(const uint8_t *bytes, size_t size) {
        DataDir folder = { .fd = dir_fd };
        uint64_t cluster, lineage, again[2];

        put("cluster", bytes, size);
        if (identity_read_cluster(scratch, &cluster, NULL) == 0)
                assert(cluster != 0 && identity_write_cluster(scratch, cluster, NULL) == 0 &&
                       identity_read_cluster(scratch, again, NULL) == 0 && again[0] == cluster);
        put("identity", bytes, size);
        if (data_dir_read_identity(&folder, &cluster, &lineage) < 0)
                return;
        assert(data_dir_write_identity(&folder, cluster, lineage) == 0);
        assert(data_dir_read_identity(&folder, &again[0], &again[1]) == 0 && again[0] == cluster &&
               again[1] == lineage);
}

/* The folder opens for all contents: at worst the tree is rebuilt. */
static void trusted(const uint8_t *bytes, size_t size) {
        static unsigned turn;
        Tree *tree = NULL;
        DataDir folder;
        int r;

        put("trusted", bytes, size);
        if (turn++ % 20 != 0)
                return; /* creating a tree takes a thousand times as long as reading a marker */
        r = data_dir_open(&folder, scratch, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                          "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 0, &tree, NULL);
        assert(r == 0);
        tree_close(tree);
        data_dir_done(&folder);
}

static void directory(const uint8_t *bytes, size_t size) {
        Named *table = NULL, *again = NULL;
        uint64_t device = 1, inode = 2, same[2];
        _cleanup_text_ Text t = {};

        if (seen_files_read((const char *) bytes, size, &device, &inode, &table) < 0) {
                assert(device == 1 && inode == 2 && !table); /* a record is used as a whole or not at all */
                return;
        }
        seen_files_write(&t, device, inode, table);
        assert(t.error == 0 && seen_files_read(t.chars, t.size, &same[0], &same[1], &again) == 0);
        assert(same[0] == device && same[1] == inode && HASH_COUNT(again) == HASH_COUNT(table));
        for (const Named *r = table; r; r = r->hh.next)
                assert(!seen_files_add(&again, r->name));
        named_clear(&table);
        named_clear(&again);
}

/* A valid read bound limits the served state; with an invalid one, a read needs a ReadIndex check. */
static void read_bound_file(const uint8_t *bytes, size_t size) {
        uint64_t lineage, bound;
        Error err = {};
        ReadBound f;

        put("floor", bytes, size);
        assert(read_bound_open(&f, scratch, &err) == 0);
        lineage = f.lineage;
        bound = f.bound;
        if (!f.unknown && lineage > 0) {
                assert(read_bound_begin(&f, lineage, bound, false) == 0);
                if (bound > 0) {
                        assert(read_bound_begin(&f, lineage, bound - 1, false) == 0);
                        assert(!read_bound_allows(&f, bound - 1));
                }
        } else if (f.unknown) {
                assert(read_bound_begin(&f, 7, 1000, false) == 0);
                assert(!read_bound_allows(&f, 1000));
        }
        read_bound_done(&f);
        if (lineage == 0 || bound == 0)
                return;
        assert(read_bound_open(&f, scratch, &err) == 0);
        assert(f.unknown || (f.lineage == lineage && f.bound >= bound));
        read_bound_done(&f);
}

static void lost(const uint8_t *bytes, size_t size) {
        DataDir folder = { .fd = dir_fd };
        char reason[256];
        int r;

        put("lost", bytes, size);
        r = data_dir_is_quarantined(&folder, reason, sizeof(reason));
        assert(r != 0); /* the marker exists, with any contents */
        assert(unlinkat(dir_fd, "lost", 0) == 0);
        if (r > 0)
                for (const char *p = reason; *p; p++)
                        assert((unsigned char) *p >= ' ' && *p != 0x7f); /* it is printed */
        assert(data_dir_is_quarantined(&folder, reason, sizeof(reason)) == 0);
}

static void replicas(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *folder = scratch_path(scratch, "members");
        ReplicaPins pins, again;

        if (replica_pins_parse((const char *) bytes, size, &pins) < 0)
                return;
        (void) mkdirat(dir_fd, "members", 0700);
        (void) mkdirat(dir_fd, "members/identity", 0700);
        assert(replica_pins_write(folder, &pins, NULL) == 0 && replica_pins_read(folder, &again, NULL) == 0);
        assert(replica_pins_equal(&pins, &again));
}

static void keys(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *file = scratch_path(scratch, "keys");
        KeyFile f = {}, again = {};
        ClusterKeyFile own = {};

        if (cluster_key_file_parse((const char *) bytes, size, &own) == 0)
                assert(own.form == SEAL_WITH_NO ? size == CLUSTER_KEY_TEXT :
                                                  own.head_size < size && own.form < _SEAL_WITH_MAX);
        if (key_file_parse((const char *) bytes, size, &f) < 0)
                return;
        (void) unlink(file);
        assert(key_file_write(file, &f, NULL) == 0 && key_file_read(file, &again, NULL) == 0);
        assert(memcmp(&f, &again, sizeof(f)) == 0);
}

/* The bytes behind a right checksum. What was read is written to the disk, below the folder of its unit. */
static void inputs(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *folder = scratch_path(scratch, "inputs"),
                            *copies = scratch_path(scratch, "copies");
        _cleanup_writer_ Writer w = {};
        InputFiles *files = NULL;
        InputFileState state;
        InputCopy copy;
        int r;

        write_u8(&w, 1);
        write_u32(&w, crc32c(0, bytes, size));
        write_raw(&w, bytes, size);
        if (input_copy_read(w.bytes, w.size, &copy) < 0)
                return;

        (void) mkdirat(dir_fd, "copies", 0700);
        put("copies/a.service", w.bytes, w.size);
        assert(input_folder_new(&files, NULL, folder, folder, copies) == 0);
        r = files->ops->restore(files, "a.service", &state);
        assert(r < 0 || (copy.content.n_credentials == 0 && state.number == copy.number));
        r = files->ops->remove(files, "a.service");
        assert(r == 0);
        input_folder_free(files);
        content_done(&copy.content);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static void (*const files[])(const uint8_t *bytes,
                                     size_t size) = { records, identity, trusted, directory, read_bound_file,
                                                      lost,    replicas, keys,    inputs };

        if (!scratch) {
                scratch = scratch_new();
                dir_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert(dir_fd >= 0);
                atexit(scratch_forget);
                log_set_max_priority(LOG_EMERG);
        }
        if (size > 0)
                files[bytes[0] % ELEMENTS(files)](bytes + 1, size - 1);
        return 0;
}
