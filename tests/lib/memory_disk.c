#include "tests/lib/memory_disk.h"

#include "tests/lib/torn_write.h"

struct MemoryFile {
        char *name;
        uint8_t *bytes;
        size_t size;
        uint64_t last_write; /* offset of the last write */
        uint8_t *durable;    /* what the medium holds, where a failed write left other bytes in memory; NULL:
                                the same */
        size_t durable_size;
};

typedef struct MemoryHandle {
        DiskFile base;
        MemoryDisk *disk;
        char *name;
} MemoryHandle;

static void *must(void *p) {
        if (!p)
                abort();
        return p;
}

static void *copy_of(const void *bytes, size_t size) {
        return memcpy(must(malloc(size + 1)), bytes, size);
}

static MemoryDisk *disk_of(Disk *base) {
        return container_of(base, MemoryDisk, base);
}

static MemoryFile *find(const MemoryDisk *disk, const char *name) {
        for (size_t i = 0; i < disk->n; i++)
                if (streq(disk->files[i].name, name))
                        return &disk->files[i];
        return NULL;
}

static MemoryFile *file_of(DiskFile *base) {
        MemoryHandle *handle = container_of(base, MemoryHandle, base);

        return find(handle->disk, handle->name);
}

/* Return the error of a changing call, or 0. *ret_dies: do it in part, and fail. */
static int before_change(MemoryDisk *disk, bool needs_space, bool *ret_dies) {
        int error = disk->fail;

        *ret_dies = false;
        if (disk->state == MEMORY_DISK_DEAD)
                return -EIO;
        if (error < 0 && (needs_space || error != -ENOSPC)) {
                if (disk->fails_once)
                        disk->fail = 0;
                return error;
        }

        disk->calls++;
        *ret_dies = disk->state == MEMORY_DISK_DYING;
        if (disk->calls == disk->die_at) {
                *ret_dies = true;
                disk->state = MEMORY_DISK_DEAD;
        }
        return 0;
}

/* Whether an interrupted change of a name takes effect. */
static bool takes_effect(MemoryDisk *disk, bool dies) {
        return !dies || random_below(disk->random, 2);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const MemoryFile *) a)->name, ((const MemoryFile *) b)->name);
}

static void add(MemoryDisk *disk, MemoryFile file) {
        if (GROW(disk->files, disk->capacity, disk->n + 1) < 0)
                abort();
        disk->files[disk->n++] = file;
        qsort(disk->files, disk->n, sizeof(*disk->files), compare_names);
}

static void add_empty(MemoryDisk *disk, const char *name, size_t size) {
        add(disk,
            (MemoryFile) { .name = must(strdup(name)), .bytes = must(calloc(1, size + 1)), .size = size });
}

static void file_free(MemoryFile *file) {
        free(file->name);
        free(file->bytes);
        free(file->durable);
}

static void remove_file(MemoryDisk *disk, MemoryFile *file) {
        file_free(file);
        disk->n--;
        memmove(file, file + 1, (size_t) (disk->files + disk->n - file) * sizeof(*file));
}

static int memory_open(Disk *base, const char *name, bool create, uint64_t size, DiskFile **ret) {
        MemoryDisk *disk = disk_of(base);
        MemoryHandle *handle;
        bool dies;
        int r;

        if (disk->state == MEMORY_DISK_DEAD)
                return -EIO;
        if (!find(disk, name)) {
                if (!create)
                        return -ENOENT;
                r = before_change(disk, true, &dies);
                if (r < 0)
                        return r;
                if (takes_effect(disk, dies))
                        add_empty(disk, name, dies && random_below(disk->random, 2) ? 0 : size);
                if (dies)
                        return -EIO;
        }

        handle = NEW0(MemoryHandle, 1);
        if (!handle)
                return -ENOMEM;
        *handle = (MemoryHandle) { .base.ops = base->ops, .disk = disk, .name = strdup(name) };
        *ret = &handle->base;
        return 0;
}

static void memory_close(DiskFile *base) {
        MemoryHandle *handle = container_of(base, MemoryHandle, base);

        free(handle->name);
        free(handle);
}

static int memory_size(DiskFile *base, uint64_t *ret) {
        const MemoryFile *file = file_of(base);

        if (!file)
                return -ENOENT;
        *ret = file->size;
        return 0;
}

static int memory_read(DiskFile *base, void *bytes, size_t size, uint64_t offset) {
        const MemoryDisk *disk = container_of(base, MemoryHandle, base)->disk;
        const MemoryFile *file = file_of(base);

        if (disk->read_fail < 0)
                return disk->read_fail;
        if (!file || offset > file->size || size > file->size - offset)
                return -ENODATA;
        memcpy(bytes, file->bytes + offset, size);
        if (disk->on_read)
                disk->on_read(size);
        return 0;
}

static void reserve(uint8_t **bytes, size_t *size, size_t wanted) {
        if (wanted <= *size)
                return;
        *bytes = must(realloc(*bytes, wanted + 1));
        memset(*bytes + *size, 0, wanted - *size);
        *size = wanted;
}

static void remember(MemoryDisk *disk, const MemoryFile *file, uint64_t offset, size_t size) {
        if (disk->n_undo == MEMORY_DISK_UNDO_MAX) {
                free(disk->undo[0].name);
                free(disk->undo[0].bytes);
                memmove(&disk->undo[0], &disk->undo[1], (MEMORY_DISK_UNDO_MAX - 1) * sizeof(disk->undo[0]));
                disk->n_undo--;
        }
        disk->undo[disk->n_undo++] = (MemoryDiskUndo) { .name = must(strdup(file->name)),
                                                        .bytes = copy_of(file->bytes + offset, size),
                                                        .size = size,
                                                        .offset = offset };
}

/* Take back a random number of the last writes. */
static void lose_unsynced(MemoryDisk *disk) {
        uint64_t n = disk->n_undo > 0 ? random_below(disk->random, disk->n_undo + 1) : 0;

        for (; disk->n_undo > 0; disk->n_undo--) {
                MemoryDiskUndo *undo = &disk->undo[disk->n_undo - 1];
                MemoryFile *file = find(disk, undo->name);

                if (n > 0 && n-- > 0 && file && undo->offset + undo->size <= file->size)
                        memcpy(file->bytes + undo->offset, undo->bytes, undo->size);
                free(undo->name);
                free(undo->bytes);
        }
}

/* Keep what the medium holds apart from what memory holds: the write fails, and its bytes are read back. */
static void split(MemoryFile *file) {
        if (file->durable)
                return;
        file->durable = copy_of(file->bytes, file->size);
        file->durable_size = file->size;
}

static void drop_cached(MemoryFile *file) {
        if (!file->durable)
                return;
        free(file->bytes);
        file->bytes = TAKE_PTR(file->durable);
        file->size = file->durable_size;
}

static int memory_write(DiskFile *base, const void *bytes, size_t size, uint64_t offset) {
        MemoryDisk *disk = container_of(base, MemoryHandle, base)->disk;
        MemoryFile *file = file_of(base);
        bool dies;
        int r;

        if (!file)
                return -ENOENT;
        r = before_change(disk, true, &dies);
        if (r < 0 && !disk->in_memory)
                return r;
        if (r < 0)
                split(file);
        else if (file->durable) {
                reserve(&file->durable, &file->durable_size, offset + size);
                memcpy(file->durable + offset, bytes, size);
        }

        reserve(&file->bytes, &file->size, offset + size);
        if (disk->unsynced)
                remember(disk, file, offset, size);
        if (dies)
                (void) torn_write(file->bytes, bytes, size, offset, disk->random, 50);
        else
                memcpy(file->bytes + offset, bytes, size);
        file->last_write = offset;
        return dies ? -EIO : r;
}

static int memory_remove(Disk *base, const char *name) {
        MemoryDisk *disk = disk_of(base);
        MemoryFile *file = find(disk, name);
        bool dies;
        int r;

        if (!file)
                return disk->state == MEMORY_DISK_DEAD ? -EIO : -ENOENT;
        r = before_change(disk, false, &dies);
        if (r < 0)
                return r;
        if (takes_effect(disk, dies))
                remove_file(disk, file);
        return dies ? -EIO : 0;
}

static int memory_rename(Disk *base, const char *from, const char *to) {
        MemoryDisk *disk = disk_of(base);
        MemoryFile *file = find(disk, from);
        bool dies;
        int r;

        if (!file)
                return disk->state == MEMORY_DISK_DEAD ? -EIO : -ENOENT;
        r = before_change(disk, false, &dies);
        if (r < 0)
                return r;
        if (takes_effect(disk, dies)) {
                if (find(disk, to)) /* the log renames no file over another */
                        return -EEXIST;
                free(file->name);
                file->name = must(strdup(to));
                qsort(disk->files, disk->n, sizeof(*disk->files), compare_names);
        }
        return dies ? -EIO : 0;
}

static int memory_list(Disk *base, char ***ret, size_t *ret_n) {
        const MemoryDisk *disk = disk_of(base);

        if (disk->state == MEMORY_DISK_DEAD)
                return -EIO;
        *ret = must(NEW0(char *, disk->n + 1));
        for (size_t i = 0; i < disk->n; i++)
                (*ret)[i] = must(strdup(disk->files[i].name));
        *ret_n = disk->n;
        return 0;
}

static int memory_drop_caches(Disk *base) {
        MemoryDisk *disk = disk_of(base);

        if (disk->fail < 0 && disk->fail != -ENOSPC)
                return disk->fail;
        for (size_t i = 0; i < disk->n; i++)
                drop_cached(&disk->files[i]);
        return 0;
}

static int memory_space(Disk *base, uint64_t *ret_free, uint64_t *ret_total) {
        *ret_total = 1024 * 1024 * 1024;
        *ret_free = disk_of(base)->fail == -ENOSPC ? 0 : *ret_total;
        return 0;
}

static const DiskOps ops = {
        .open = memory_open,
        .close = memory_close,
        .size = memory_size,
        .read = memory_read,
        .write = memory_write,
        .remove = memory_remove,
        .rename = memory_rename,
        .drop_caches = memory_drop_caches,
        .space = memory_space,
        .list = memory_list,
};

void memory_disk_init(MemoryDisk *disk, uint64_t seed) {
        *disk = (MemoryDisk) { .base.ops = &ops, .random = &disk->own };
        random_seed(&disk->own, seed);
}

void memory_disk_done(MemoryDisk *disk) {
        for (size_t i = 0; i < disk->n; i++)
                file_free(&disk->files[i]);
        for (unsigned i = 0; i < disk->n_undo; i++) {
                free(disk->undo[i].name);
                free(disk->undo[i].bytes);
        }
        free(disk->files);
        *disk = (MemoryDisk) {};
}

MemoryDisk *memory_disk_new(Random *random, void (*on_read)(uint64_t bytes)) {
        MemoryDisk *disk = must(NEW0(MemoryDisk, 1));

        *disk = (MemoryDisk) { .base.ops = &ops, .random = random, .on_read = on_read };
        return disk;
}

MemoryDisk *memory_disk_copy(const MemoryDisk *disk) {
        MemoryDisk *copy = memory_disk_new(disk->random, disk->on_read);

        for (size_t i = 0; i < disk->n; i++) {
                MemoryFile file = disk->files[i];

                file.name = must(strdup(file.name));
                file.bytes = copy_of(file.bytes, file.size);
                if (file.durable)
                        file.durable = copy_of(file.durable, file.durable_size);
                add(copy, file);
        }
        return copy;
}

MemoryDisk *memory_disk_free(MemoryDisk *disk) {
        memory_disk_done(disk);
        free(disk);
        return NULL;
}

void memory_disk_cut_power(MemoryDisk *disk) {
        for (size_t i = 0; i < disk->n; i++)
                drop_cached(&disk->files[i]);
        lose_unsynced(disk);
        disk->state = MEMORY_DISK_DYING;
}

void memory_disk_start_again(MemoryDisk *disk) {
        disk->state = MEMORY_DISK_WORKS;
        disk->die_at = 0;
        disk->calls = 0;
}

void memory_disk_set_error(MemoryDisk *disk, int error, bool in_memory) {
        disk->fail = error;
        disk->in_memory = in_memory;
}

uint8_t *memory_disk_file(MemoryDisk *disk, const char *name, size_t *ret_size) {
        MemoryFile *file = find(disk, name);

        if (!file)
                return NULL;
        *ret_size = file->size;
        return file->bytes;
}

int memory_disk_put(MemoryDisk *disk, const char *name, const void *bytes, size_t size) {
        if (find(disk, name))
                return -EEXIST;
        add_empty(disk, name, size);
        if (size > 0)
                memcpy(find(disk, name)->bytes, bytes, size);
        return 0;
}

/* Choose a log file that was written more than once. */
static MemoryFile *some_log(MemoryDisk *disk) {
        MemoryFile *found = NULL;
        uint64_t n = 0;

        for (size_t i = 0; i < disk->n; i++)
                if (starts_with(disk->files[i].name, "log.") &&
                    disk->files[i].last_write >= 2 * DISK_SECTOR && random_below(disk->random, ++n) == 0)
                        found = &disk->files[i];
        return found;
}

int memory_disk_damage(MemoryDisk *disk, MemoryDiskDamage damage) {
        const MemoryFile *file = some_log(disk);
        uint8_t sector[DISK_SECTOR], *one, *other;

        if (!file)
                return -ENOENT;
        one = file->bytes + random_below(disk->random, file->last_write / DISK_SECTOR) * DISK_SECTOR;
        other = file->bytes + random_below(disk->random, file->last_write / DISK_SECTOR) * DISK_SECTOR;
        switch (damage) {
        case MEMORY_DISK_FLIP_BIT:
                file->bytes[random_below(disk->random, file->last_write)] ^=
                        (uint8_t) (1 << random_below(disk->random, 8));
                break;
        case MEMORY_DISK_LOSE_SECTOR:
                memset(one, 0, DISK_SECTOR);
                break;
        case MEMORY_DISK_SWAP_SECTORS:
                memcpy(sector, one, DISK_SECTOR);
                memcpy(one, other, DISK_SECTOR);
                memcpy(other, sector, DISK_SECTOR);
                break;
        }
        return 0;
}
