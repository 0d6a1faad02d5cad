#include "kvstore/raft/bootstrap.h"

#include "base/fault_point.h"
#include "kvstore/raft/core.h"

#define OLD "old."

static void machine_bytes(const char *machine_id, uint8_t ret[RAFT_LOG_MACHINE_SIZE]) {
        static const char digits[] = "0123456789abcdef";

        memset(ret, 0, RAFT_LOG_MACHINE_SIZE);
        for (size_t i = 0; i < 2 * RAFT_LOG_MACHINE_SIZE && machine_id[i]; i++) {
                const char *d = strchr(digits, machine_id[i]);

                ret[i / 2] |= (uint8_t) ((d ? d - digits : 0) << (i % 2 ? 0 : 4));
        }
}

static uint64_t draw(Random *random) {
        uint64_t v;

        do
                v = random_u64(random);
        while (v == 0);
        return v;
}

/* Write the identity before the log: a crash in between leaves a directory without a log, which counts as
 * new. */
static int create(DataDir *dir, Disk *disk, const Identity *identity, uint64_t term, const RaftEntry *entry,
                  uint64_t log_file_size, Error *err) {
        RaftLogMeta meta = { .cluster = identity->cluster_id, .id = identity->raft_id, .term = term };
        int r;

        machine_bytes(dir->machine_id, meta.machine);
        machine_bytes(dir->hardware_id, meta.hardware);

        r = data_dir_write_identity(dir, identity->cluster_id, identity->lineage);
        if (r < 0)
                return error_set(err, r, "Failed to write %s/identity: %s", dir->path, strerror(-r));
        fault_point("identity-written");

        return raft_log_create(disk, &meta, 1, entry, entry ? 1 : 0,
                               &(RaftLogOptions) { .file_size = log_file_size }, err);
}

int bootstrap_configuration(uint64_t raft_id, const char *address, void **ret, size_t *ret_size) {
        _cleanup_free_ char *copy = strdup(address[0] ? address : "-");
        RaftServer self = { .id = raft_id, .address = copy, .role = RAFT_ROLE_VOTER };

        if (!copy)
                return -ENOMEM;
        return raft_configuration_encode_servers(&(RaftServers) { .items = &self, .n = 1 }, ret, ret_size);
}

int bootstrap_found(DataDir *dir, Disk *disk, Random *random, const char *address, uint64_t log_file_size,
                    Error *err) {
        Identity identity = { .cluster_id = draw(random),
                              .lineage = draw(random),
                              .raft_id = BOOTSTRAP_RAFT_ID };
        _cleanup_free_ void *bytes = NULL;
        size_t size;
        int r;

        r = bootstrap_configuration(identity.raft_id, address, &bytes, &size);
        if (r < 0)
                return error_set(err, r, "Failed to create the first configuration: %s", strerror(-r));

        return create(dir, disk, &identity, 1,
                      &(RaftEntry) { .term = 1, .type = RAFT_ENTRY_CHANGE, .data = bytes, .size = size },
                      log_file_size, err);
}

int bootstrap_join(DataDir *dir, Disk *disk, const Identity *identity, uint64_t log_file_size, Error *err) {
        return create(dir, disk, identity, 0, NULL, log_file_size, err);
}

int bootstrap_restored(DataDir *dir, Disk *disk, const Identity *identity, uint64_t term, Error *err) {
        return create(dir, disk, identity, term, NULL, 0, err);
}

static bool is_of_log(const char *name) {
        return starts_with(name, "meta.") || starts_with(name, "log.");
}

/* Rename the meta files last, as they are created last: without one, nothing has to be moved aside. */
static int rename_old(Disk *disk, char *const *names, size_t n) {
        bool meta = false;
        char old[64];
        int r = 0;

        for (size_t i = 0; i < n; i++)
                meta |= starts_with(names[i], "meta.");
        if (!meta)
                return 0;
        for (size_t i = 0; r >= 0 && i < n; i++)
                if (starts_with(names[i], OLD))
                        r = disk->ops->remove(disk, names[i]);
        for (size_t i = 0; r >= 0 && i < n; i++)
                if (is_of_log(names[i])) { /* by name: log.* before meta.* */
                        snprintf(old, sizeof(old), OLD "%s", names[i]);
                        r = disk->ops->rename(disk, names[i], old);
                }
        return r;
}

int bootstrap_set_aside(Disk *disk, Error *err) {
        _cleanup_free_ char **names = NULL;
        size_t n = 0;
        int r;

        r = disk->ops->list(disk, &names, &n);
        if (r >= 0)
                r = rename_old(disk, names, n);
        for (size_t i = 0; i < n; i++)
                free(names[i]);
        return r < 0 ? error_set(err, r, "Failed to set the log aside: %s", strerror(-r)) : 0;
}

bool bootstrap_is_fresh(Disk *disk) {
        _cleanup_free_ char **names = NULL;
        bool fresh = true;
        size_t n = 0;

        if (disk->ops->list(disk, &names, &n) < 0)
                return false;
        for (size_t i = 0; i < n; i++) {
                fresh &= !is_of_log(names[i]);
                free(names[i]);
        }
        return fresh;
}

static bool is_unknown(const uint8_t hardware[RAFT_LOG_MACHINE_SIZE]) {
        static const uint8_t zeroes[RAFT_LOG_MACHINE_SIZE];

        return memcmp(hardware, zeroes, sizeof(zeroes)) == 0;
}

int bootstrap_own_hardware(const char *hardware_id, RaftLog *log, bool change) {
        uint8_t hardware[RAFT_LOG_MACHINE_SIZE];

        machine_bytes(hardware_id, hardware);
        if (is_unknown(hardware) || (!change && !is_unknown(raft_log_meta(log)->hardware)))
                return 0;
        return raft_log_write_hardware(log, hardware);
}

int bootstrap_check(const DataDir *dir, const RaftLogMeta *meta, Identity *ret, Error *err) {
        uint8_t machine[RAFT_LOG_MACHINE_SIZE], hardware[RAFT_LOG_MACHINE_SIZE];
        Identity identity = { .raft_id = meta->id };
        int r;

        machine_bytes(dir->machine_id, machine);
        if (memcmp(machine, meta->machine, sizeof(machine)) != 0)
                return error_set(
                        err, -EPERM,
                        "the log beside %s belongs to another machine (a copied disk?); " REMOVE_AND_REJOIN,
                        dir->path);

        machine_bytes(dir->hardware_id, hardware);
        if (!is_unknown(hardware) && !is_unknown(meta->hardware) &&
            memcmp(hardware, meta->hardware, sizeof(hardware)) != 0)
                return error_set(
                        err, -EPERM,
                        "the log beside %s was written on other hardware (a copied disk, or an exchanged "
                        "board?); " RESET_AND_REJOIN "; if no other host is left: fleetd --recover",
                        dir->path);

        r = data_dir_read_identity(dir, &identity.cluster_id, &identity.lineage);
        if (r < 0 && r != -ENOENT && r != -EBADMSG)
                return error_set(err, r, "Failed to read %s/identity: %s", dir->path, strerror(-r));
        if (r < 0)
                return error_set(err, -EUCLEAN,
                                 "cannot read %s/identity (%s), which belongs to the log; restore it, "
                                 "or " RESET_AND_REJOIN,
                                 dir->path, strerror(-r));
        if (identity.cluster_id != meta->cluster)
                return error_set(err, -EUCLEAN,
                                 "%s/identity has cluster %016" PRIx64 ", the log beside it %016" PRIx64
                                 "; " RESET_AND_REJOIN,
                                 dir->path, identity.cluster_id, meta->cluster);

        *ret = identity;
        return 0;
}

int bootstrap_mark_tree(Tree *tree, const Identity *identity, const char *path, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = tree_begin_write(tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, &meta);
        if (r < 0)
                return error_set(err, r, "Failed to read the tree in %s: %s", path, strerror(-r));

        if (meta.cluster_id != 0 &&
            (meta.cluster_id != identity->cluster_id || meta.lineage != identity->lineage))
                return error_set(err, -EUCLEAN,
                                 "the tree in %s belongs to another cluster than the log beside "
                                 "it; " RESET_AND_REJOIN,
                                 path);
        if (meta.cluster_id != 0)
                return 0;

        meta.cluster_id = identity->cluster_id;
        meta.lineage = identity->lineage;
        fault_point("tree-before-mark");
        r = tree_set_meta(txn, &meta);
        if (r >= 0)
                r = tree_commit(TAKE_PTR(txn));
        return r < 0 ? error_set(err, r, "Failed to write the tree in %s: %s", path, strerror(-r)) : 0;
}
