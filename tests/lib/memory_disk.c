#include "tests/lib/memory_disk.h"

#include <errno.h>

#include "base/memory.h"

enum { SECTOR = 512 };

struct MemoryFile {
        char *name;
        uint8_t *bytes;
        size_t size;
};

typedef struct MemoryHandle {
        DiskFile base;
        MemoryDisk *disk;
        char *name;
} MemoryHandle;

static MemoryFile *find(MemoryDisk *disk, const char *name) {
        for (size_t i = 0; i < disk->n; i++)
                if (streq(disk->files[i].name, name))
                        return &disk->files[i];
        return NULL;
}

static int fail_now(MemoryDisk *disk) {
        int error = disk->fail;

        if (disk->fails_once)
                disk->fail = 0;
        return error;
}

/* Before each call that changes something: 0, or why not. *ret_dies: it happens, in part, and nothing after
 * it. */
static int before_change(MemoryDisk *disk, bool *ret_dies) {
        *ret_dies = false;
        if (disk->dead)
                return -EIO;
        if (disk->fail < 0)
                return fail_now(disk);

        disk->calls++;
        if (disk->calls == disk->die_at)
                *ret_dies = disk->dead = true;
        return 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const MemoryFile *) a)->name, ((const MemoryFile *) b)->name);
}

static int add(MemoryDisk *disk, const char *name, size_t size) {
        MemoryFile file = { .name = strdup(name), .bytes = calloc(1, size + 1), .size = size };

        if (!file.name || !file.bytes || GROW(disk->files, disk->capacity, disk->n + 1) < 0)
                abort();
        disk->files[disk->n++] = file;
        qsort(disk->files, disk->n, sizeof(*disk->files), compare_names);
        return 0;
}

static int memory_open(Disk *base, const char *name, bool create, uint64_t size, DiskFile **ret) {
        MemoryDisk *disk = container_of(base, MemoryDisk, base);
        MemoryHandle *handle;
        bool dies;
        int r;

        if (disk->dead)
                return -EIO;
        if (!find(disk, name)) {
                if (!create)
                        return -ENOENT;
                r = before_change(disk, &dies);
                if (r < 0)
                        return r;
                if (!dies || random_below(&disk->random, 2))
                        (void) add(disk, name, dies && random_below(&disk->random, 2) ? 0 : size);
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

static MemoryFile *file_of(DiskFile *base) {
        MemoryHandle *handle = container_of(base, MemoryHandle, base);

        return find(handle->disk, handle->name);
}

static int memory_size(DiskFile *base, uint64_t *ret) {
        *ret = file_of(base)->size;
        return 0;
}

static int memory_read(DiskFile *base, void *bytes, size_t size, uint64_t offset) {
        const MemoryFile *file = file_of(base);

        if (offset > file->size || size > file->size - offset)
                return -ENODATA;
        memcpy(bytes, file->bytes + offset, size);
        return 0;
}

static void make_room(MemoryFile *file, size_t size) {
        if (size <= file->size)
                return;
        file->bytes = realloc(file->bytes, size + 1);
        if (!file->bytes)
                abort();
        memset(file->bytes + file->size, 0, size - file->size);
        file->size = size;
}

static int memory_write(DiskFile *base, const void *bytes, size_t size, uint64_t offset) {
        MemoryHandle *handle = container_of(base, MemoryHandle, base);
        MemoryDisk *disk = handle->disk;
        MemoryFile *file = file_of(base);
        bool dies;
        int r;

        r = before_change(disk, &dies);
        if (r < 0)
                return r;

        make_room(file, offset + size);
        for (size_t at = 0; at < size;) {
                size_t part = MIN(SECTOR - (offset + at) % SECTOR, size - at);

                if (!dies || random_below(&disk->random, 2))
                        memcpy(file->bytes + offset + at, (const uint8_t *) bytes + at, part);
                at += part;
        }
        return dies ? -EIO : 0;
}

static int memory_remove(Disk *base, const char *name) {
        MemoryDisk *disk = container_of(base, MemoryDisk, base);
        MemoryFile *file = find(disk, name);
        bool dies;
        int r;

        if (!file)
                return disk->dead ? -EIO : -ENOENT;
        r = before_change(disk, &dies);
        if (r < 0)
                return r;
        if (!dies || random_below(&disk->random, 2)) {
                free(file->name);
                free(file->bytes);
                disk->n--;
                memmove(file, file + 1, (size_t) (disk->files + disk->n - file) * sizeof(*file));
        }
        return dies ? -EIO : 0;
}

static int memory_rename(Disk *base, const char *from, const char *to) {
        MemoryDisk *disk = container_of(base, MemoryDisk, base);
        MemoryFile *file = find(disk, from);
        bool dies;
        int r;

        if (!file)
                return disk->dead ? -EIO : -ENOENT;
        r = before_change(disk, &dies);
        if (r < 0)
                return r;
        if (!dies || random_below(&disk->random, 2)) {
                if (find(disk, to))
                        return -EEXIST;
                free(file->name);
                file->name = strdup(to);
                qsort(disk->files, disk->n, sizeof(*disk->files), compare_names);
        }
        return dies ? -EIO : 0;
}

static int memory_list(Disk *base, char ***ret, size_t *ret_n) {
        MemoryDisk *disk = container_of(base, MemoryDisk, base);

        if (disk->dead)
                return -EIO;
        *ret = NEW0(char *, disk->n + 1);
        for (size_t i = 0; i < disk->n; i++)
                (*ret)[i] = strdup(disk->files[i].name);
        *ret_n = disk->n;
        return 0;
}

static int memory_settle(Disk *base) {
        return container_of(base, MemoryDisk, base)->fail;
}

static int memory_room(Disk *base, uint64_t *ret_free, uint64_t *ret_total) {
        *ret_free = *ret_total = 1024 * 1024 * 1024;
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
        .drop_caches = memory_settle,
        .space = memory_room,
        .list = memory_list,
};

void memory_disk_init(MemoryDisk *disk, uint64_t seed) {
        *disk = (MemoryDisk) { .base.ops = &ops };
        random_seed(&disk->random, seed);
}

void memory_disk_done(MemoryDisk *disk) {
        for (size_t i = 0; i < disk->n; i++) {
                free(disk->files[i].name);
                free(disk->files[i].bytes);
        }
        free(disk->files);
        *disk = (MemoryDisk) {};
}

void memory_disk_start_again(MemoryDisk *disk) {
        disk->dead = false;
        disk->die_at = 0;
        disk->calls = 0;
}

uint8_t *memory_disk_file(MemoryDisk *disk, const char *name, size_t *ret_size) {
        MemoryFile *file = find(disk, name);

        if (!file)
                return NULL;
        *ret_size = file->size;
        return file->bytes;
}

int memory_disk_put(MemoryDisk *disk, const char *name, const void *bytes, size_t size) {
        MemoryFile *file;

        if (find(disk, name))
                return -EEXIST;
        (void) add(disk, name, size);
        file = find(disk, name);
        if (size > 0)
                memcpy(file->bytes, bytes, size);
        return 0;
}
