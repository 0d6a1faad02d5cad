#include "tests/sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { SECTOR = 512, UNDO_MAX = 16 };

typedef struct Content {
        char name[64];
        uint8_t *bytes;
        uint64_t size, last_write; /* where the last write began */
        uint8_t *durable; /* what the medium holds, where a failed write has left something else in memory;
                             NULL: the same */
        uint64_t durable_size;
        struct Content *next;
} Content;

typedef struct SimDisk {
        Disk base;
        World *world;
        Content *files;
        bool torn, never_syncs;
        struct {
                char name[64];
                uint8_t *bytes; /* that were there before */
                uint64_t size, offset;
        } undo[UNDO_MAX]; /* the last writes, while nothing is synced */
        unsigned n_undo;
        int error, read_error;
        bool in_memory; /* what fails has been written all the same, but for the medium */
} SimDisk;

typedef struct SimFile {
        DiskFile base;
        SimDisk *disk;
        char name[64];
} SimFile;

static SimDisk *of(Disk *disk) {
        return container_of(disk, SimDisk, base);
}

static Content **find(SimDisk *d, const char *name) {
        Content **at = &d->files;

        while (*at && !streq((*at)->name, name))
                at = &(*at)->next;
        return at;
}

static int sim_open(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret);

static void sim_close(DiskFile *file) {
        free(container_of(file, SimFile, base));
}

static int sim_size(DiskFile *file, uint64_t *ret) {
        SimFile *f = container_of(file, SimFile, base);
        Content *c = *find(f->disk, f->name);

        if (!c)
                return -ENOENT;
        *ret = c->size;
        return 0;
}

static int sim_read(DiskFile *file, void *bytes, size_t size, uint64_t offset) {
        SimFile *f = container_of(file, SimFile, base);
        Content *c = *find(f->disk, f->name);

        if (f->disk->read_error < 0)
                return f->disk->read_error;
        if (!c || offset + size > c->size)
                return -ENODATA;
        memcpy(bytes, c->bytes + offset, size);
        world_read(size);
        return 0;
}

static void remember(SimDisk *d, const Content *c, uint64_t offset, size_t size) {
        if (d->n_undo == UNDO_MAX) {
                free(d->undo[0].bytes);
                memmove(&d->undo[0], &d->undo[1], (UNDO_MAX - 1) * sizeof(d->undo[0]));
                d->n_undo--;
        }
        snprintf(d->undo[d->n_undo].name, sizeof(d->undo[0].name), "%s", c->name);
        d->undo[d->n_undo].bytes = malloc(size + 1);
        memcpy(d->undo[d->n_undo].bytes, c->bytes + offset, size);
        d->undo[d->n_undo].size = size;
        d->undo[d->n_undo++].offset = offset;
}

/* The last writes were never there; their number is drawn. */
static void forget_writes(SimDisk *d) {
        uint64_t n = d->n_undo > 0 ? world_draw(d->world, d->n_undo + 1) : 0;

        for (; d->n_undo > 0; d->n_undo--) {
                Content *c = *find(d, d->undo[d->n_undo - 1].name);

                if (n > 0 && n-- > 0 && c &&
                    d->undo[d->n_undo - 1].offset + d->undo[d->n_undo - 1].size <= c->size)
                        memcpy(c->bytes + d->undo[d->n_undo - 1].offset, d->undo[d->n_undo - 1].bytes,
                               d->undo[d->n_undo - 1].size);
                free(d->undo[d->n_undo - 1].bytes);
        }
}

static int sim_write(DiskFile *file, const void *bytes, size_t size, uint64_t offset) {
        SimFile *f = container_of(file, SimFile, base);
        Content *c = *find(f->disk, f->name);
        int r = 0;

        if (!c)
                return -ENOENT;
        if (f->disk->error < 0 && !f->disk->in_memory)
                return f->disk->error;
        if (f->disk->error < 0 && !c->durable) {
                c->durable = malloc(c->size + 1);
                memcpy(c->durable, c->bytes, c->size);
                c->durable_size = c->size;
        }
        if (f->disk->error == 0 && c->durable) {
                c->durable_size = MAX(c->durable_size, offset + size);
                c->durable = realloc(c->durable,
                                     c->durable_size + 1); /* log files are made whole: there are no holes */
                memcpy(c->durable + offset, bytes, size);
        }
        if (f->disk->error < 0)
                r = f->disk->error;
        if (f->disk->torn) {
                size_t done = world_draw(f->disk->world, size + 1);

                /* A sector is written or not. */
                if (offset / SECTOR == (offset + size - 1) / SECTOR)
                        done = 2 * done < size ? 0 : size;
                size = done;
                r = -EIO;
        }
        if (offset + size > c->size) {
                uint8_t *more = realloc(c->bytes, offset + size);

                if (!more)
                        return -ENOMEM;
                memset(more + c->size, 0, offset + size - c->size);
                c->bytes = more;
                c->size = offset + size;
        }
        if (f->disk->never_syncs)
                remember(f->disk, c, offset, size);
        memcpy(c->bytes + offset, bytes, size);
        c->last_write = offset;
        return r;
}

static int sim_remove(Disk *disk, const char *name) {
        Content **at = find(of(disk), name), *c = *at;

        if (!c)
                return -ENOENT;
        if (of(disk)->torn)
                return -EIO;
        *at = c->next;
        free(c->bytes);
        free(c->durable);
        free(c);
        return 0;
}

static int sim_rename(Disk *disk, const char *from, const char *to) {
        Content *c = *find(of(disk), from);

        if (!c)
                return -ENOENT;
        if (of(disk)->torn)
                return -EIO;
        if (!streq(from, to) && *find(of(disk), to))
                (void) sim_remove(disk, to);
        snprintf(c->name, sizeof(c->name), "%s", to);
        return 0;
}

static void settle(Content *c) {
        if (!c->durable)
                return;
        free(c->bytes);
        c->bytes = TAKE_PTR(c->durable);
        c->size = c->durable_size;
}

static int sim_settle(Disk *disk) {
        if (of(disk)->error == -EIO)
                return -EIO;
        for (Content *c = of(disk)->files; c; c = c->next)
                settle(c);
        return 0;
}

static int sim_room(Disk *disk, uint64_t *ret_free, uint64_t *ret_total) {
        *ret_total = 1024 * 1024 * 1024;
        *ret_free = of(disk)->error == -ENOSPC ? 0 : *ret_total;
        return 0;
}

static int by_text(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int sim_list(Disk *disk, char ***ret, size_t *ret_n) {
        size_t n = 0;
        char **names;

        for (Content *c = of(disk)->files; c; c = c->next)
                n++;
        names = NEW0(char *, n + 1);
        n = 0;
        for (Content *c = of(disk)->files; c; c = c->next)
                names[n++] = strdup(c->name);
        if (n > 0)
                qsort(names, n, sizeof(*names), by_text);
        *ret = names;
        *ret_n = n;
        return 0;
}

static const DiskOps sim_ops = { .open = sim_open,
                                 .close = sim_close,
                                 .size = sim_size,
                                 .read = sim_read,
                                 .write = sim_write,
                                 .remove = sim_remove,
                                 .rename = sim_rename,
                                 .drop_caches = sim_settle,
                                 .space = sim_room,
                                 .list = sim_list };

static int sim_open(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret) {
        SimDisk *d = of(disk);
        Content *c = *find(d, name);
        SimFile *f;

        if (!c) {
                if (!create)
                        return -ENOENT;
                if (d->torn)
                        return -EIO;
                if (d->error < 0)
                        return d->error;
                c = NEW0(Content, 1);
                snprintf(c->name, sizeof(c->name), "%s", name);
                c->bytes = calloc(1, size + 1);
                c->size = size;
                c->next = d->files;
                d->files = c;
        }
        f = NEW0(SimFile, 1);
        f->base.ops = &sim_ops;
        f->disk = d;
        snprintf(f->name, sizeof(f->name), "%s", name);
        *ret = &f->base;
        return 0;
}

Disk *sim_disk_new(World *w) {
        SimDisk *d = NEW0(SimDisk, 1);

        d->base.ops = &sim_ops;
        d->world = w;
        return &d->base;
}

Disk *sim_disk_copy(Disk *disk) {
        Disk *copy = sim_disk_new(of(disk)->world);

        for (const Content *c = of(disk)->files; c; c = c->next) {
                Content *d = NEW0(Content, 1);

                *d = *c;
                d->bytes = malloc(c->size + 1);
                memcpy(d->bytes, c->bytes, c->size);
                d->next = of(copy)->files;
                of(copy)->files = d;
        }
        return copy;
}

Disk *sim_disk_free(Disk *disk) {
        SimDisk *d = of(disk);

        while (d->files) {
                Content *c = d->files;

                d->files = c->next;
                free(c->bytes);
                free(c->durable);
                free(c);
        }
        for (unsigned i = 0; i < d->n_undo; i++)
                free(d->undo[i].bytes);
        free(d);
        return NULL;
}

void sim_disk_tear(Disk *disk, bool torn) {
        for (Content *c = of(disk)->files; torn && c; c = c->next)
                settle(c);
        if (torn)
                forget_writes(of(disk));
        of(disk)->torn = torn;
}

void sim_disk_set_error(Disk *disk, int error, bool in_memory) {
        of(disk)->error = error;
        of(disk)->in_memory = in_memory;
}

void sim_disk_set_read_error(Disk *disk, int error) {
        of(disk)->read_error = error;
}

/* A log file that has been written more than once; of several any one. */
static Content *some_log(SimDisk *d) {
        Content *found = NULL;
        uint64_t n = 0;

        for (Content *c = d->files; c; c = c->next)
                if (starts_with(c->name, "log.") && c->last_write >= 2 * SECTOR &&
                    world_draw(d->world, ++n) == 0)
                        found = c;
        return found;
}

int sim_disk_damage(Disk *disk, SimDamage damage) {
        SimDisk *d = of(disk);
        Content *c = some_log(d);
        uint64_t at, other;
        uint8_t sector[SECTOR];

        if (!c)
                return -ENOENT;
        at = world_draw(d->world, c->last_write / SECTOR) * SECTOR;
        other = world_draw(d->world, c->last_write / SECTOR) * SECTOR;
        switch (damage) {
        case SIM_FLIP_BIT:
                at = world_draw(d->world, c->last_write);
                c->bytes[at] ^= (uint8_t) (1 << world_draw(d->world, 8));
                break;
        case SIM_LOSE_SECTOR:
                memset(c->bytes + at, 0, SECTOR);
                break;
        case SIM_SWAP_SECTORS:
                memcpy(sector, c->bytes + at, SECTOR);
                memcpy(c->bytes + at, c->bytes + other, SECTOR);
                memcpy(c->bytes + other, sector, SECTOR);
                break;
        }
        return 0;
}

void sim_disk_never_sync(Disk *disk) {
        of(disk)->never_syncs = true;
}
