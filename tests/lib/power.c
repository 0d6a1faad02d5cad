#include "tests/lib/power.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/lib/torn_write.h"

enum { PATH_SIZE = 512 };

#define MUST(expression)                                                                         \
        do {                                                                                     \
                if (!(expression)) {                                                             \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #expression); \
                        abort();                                                                 \
                }                                                                                \
        } while (false)

typedef enum CallKind {
        CALL_MAKE,
        CALL_MAKE_DIR,
        CALL_WRITE,
        CALL_SIZE,
        CALL_SYNC,
        CALL_RENAME,
        CALL_REMOVE,
        CALL_PROMISE
} CallKind;

typedef struct Call {
        CallKind kind;
        char *path, *to; /* below the root; of a promise its text */
        uint8_t *bytes;
        size_t size;
        uint64_t offset; /* of CALL_SIZE the size */
        bool syncs;      /* a write that is durable when it returns */
} Call;

/* A file or folder, whatever its name. */
typedef struct Node {
        bool is_dir;
        uint8_t *now, *durable;
        size_t now_size, durable_size;
        const Call **pending; /* writes and sizes since the last sync; borrowed */
        size_t n, capacity;
} Node;

typedef struct Name {
        const char *path; /* of a call */
        Node *node;
} Name;

typedef struct Names {
        Name *items;
        size_t n, capacity;
} Names;

/* A change of names: 'from' goes, 'to' comes, or both. */
typedef struct Change {
        const char *from, *to;
        Node *node;
} Change;

struct Power {
        char *root;
        Call *calls;
        size_t n_calls, calls_capacity;

        size_t moment; /* calls done; the next one is done by half: all but its durability */
        bool half;
        Node **nodes;
        size_t n_nodes, nodes_capacity;
        Names now, durable;
        Change *changes;
        size_t n_changes, changes_capacity;
        char *distrusted;
};

/* -- Writing down -- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Power *recorded; /* under the mutex */

static void lock(void) {
        MUST(pthread_mutex_lock(&mutex) == 0);
}

static void unlock(void) {
        int error = errno;

        MUST(pthread_mutex_unlock(&mutex) == 0);
        errno = error;
}

/* Under the mutex: where that is below the root, or NULL. */
static const char *below(int dir_fd, const char *name, char path[static PATH_SIZE]) {
        char link[64];
        size_t size;
        ssize_t n = 0;

        if (!recorded)
                return NULL;
        if (!name || name[0] != '/') {
                if (dir_fd == AT_FDCWD)
                        return NULL;
                snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
                n = readlink(link, path, PATH_SIZE - 1);
                if (n < 0)
                        return NULL;
        }
        if (name)
                n += snprintf(path + n, PATH_SIZE - n, "%s%s", n > 0 ? "/" : "", name);
        MUST(n < PATH_SIZE);
        path[n] = 0;
        size = strlen(recorded->root);
        if (strncmp(path, recorded->root, size) != 0 || ends_with(path, " (deleted)"))
                return NULL;
        if (path[size] == 0)
                return ".";
        return path[size] == '/' && path[size + 1] ? path + size + 1 : NULL;
}

static Call *write_down(CallKind kind, const char *path) {
        Call *call;

        MUST(GROW(recorded->calls, recorded->calls_capacity, recorded->n_calls + 1) == 0);
        call = &recorded->calls[recorded->n_calls++];
        *call = (Call) { .kind = kind, .path = strdup(path) };
        MUST(call->path);
        return call;
}

static void written(int fd, const void *bytes, size_t size, off_t offset) {
        char buffer[PATH_SIZE];
        const char *path = below(fd, NULL, buffer);
        Call *call;

        if (!path)
                return;
        call = write_down(CALL_WRITE, path);
        call->bytes = malloc(size + 1);
        MUST(call->bytes);
        memcpy(call->bytes, bytes, size);
        call->size = size;
        call->offset = offset;
        call->syncs = fcntl(fd, F_GETFL) & O_DSYNC;
}

static void sized(int fd, off_t size, bool only_grows) {
        char buffer[PATH_SIZE];
        const char *path = below(fd, NULL, buffer);
        struct stat st;

        if (path && fstat(fd, &st) == 0 && (!only_grows || st.st_size == size))
                write_down(CALL_SIZE, path)->offset = size;
}

static void synced(int fd) {
        char buffer[PATH_SIZE];
        const char *path = below(fd, NULL, buffer);

        if (path)
                write_down(CALL_SYNC, path);
}

void power_begin(const char *root) {
        Power *p = NEW0(Power, 1);

        MUST(p && !recorded && (p->root = realpath(root, NULL)));
        lock();
        recorded = p;
        unlock();
}

void power_promise(const char *promise) {
        lock();
        write_down(CALL_PROMISE, promise);
        unlock();
}

Power *power_end(void) {
        Power *p;

        lock();
        p = TAKE_PTR(recorded);
        unlock();
        return p;
}

size_t power_moments(const Power *p) {
        return p->n_calls;
}

/* -- libc's -- */

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
        ssize_t n;

        lock();
        n = syscall(SYS_pwrite64, fd, bytes, size, offset);
        if (n > 0)
                written(fd, bytes, n, offset);
        unlock();
        return n;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
        return pwrite(fd, bytes, size, offset);
}

static bool is_file(int fd) {
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Of a file: where the next write goes. */
static off_t position(int fd) {
        struct stat st;

        return fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &st) == 0 ? st.st_size : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *bytes, size_t size) {
        off_t offset;
        ssize_t n;

        if (!is_file(fd)) /* and not under the mutex: a pipe's reader may be about to write to a file */
                return syscall(SYS_write, fd, bytes, size);
        lock();
        offset = position(fd);
        n = syscall(SYS_write, fd, bytes, size);
        if (n > 0)
                written(fd, bytes, n, offset);
        unlock();
        return n;
}

static void written_parts(int fd, const struct iovec *parts, int n_parts, ssize_t n, off_t offset) {
        for (int i = 0; i < n_parts && n > 0; i++) {
                size_t size = MIN((size_t) n, parts[i].iov_len);

                written(fd, parts[i].iov_base, size, offset);
                offset += size;
                n -= size;
        }
}

ssize_t writev(int fd, const struct iovec *parts, int n_parts) {
        off_t offset;
        ssize_t n;

        if (!is_file(fd))
                return syscall(SYS_writev, fd, parts, n_parts);
        lock();
        offset = position(fd);
        n = syscall(SYS_writev, fd, parts, n_parts);
        written_parts(fd, parts, n_parts, n, offset);
        unlock();
        return n;
}

ssize_t pwritev(int fd, const struct iovec *parts, int n_parts, off_t offset) {
        ssize_t n;

        lock();
        n = syscall(SYS_pwritev, fd, parts, n_parts, offset, 0);
        written_parts(fd, parts, n_parts, n, offset);
        unlock();
        return n;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int n_parts, off64_t offset) {
        return pwritev(fd, parts, n_parts, offset);
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                        unsigned flags) {
        uint8_t *bytes;
        off_t offset;
        ssize_t n;

        lock();
        offset = out_offset ? *out_offset : position(out);
        n = syscall(SYS_copy_file_range, in, in_offset, out, out_offset, size, flags);
        if (n > 0 && recorded) {
                char link[64];
                int again;

                /* What was copied is read from where it went. */
                snprintf(link, sizeof(link), "/proc/self/fd/%d", out);
                again = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
                bytes = malloc(n);
                MUST(again >= 0 && bytes && syscall(SYS_pread64, again, bytes, n, offset) == n);
                written(out, bytes, n, offset);
                free(bytes);
                close(again);
        }
        unlock();
        return n;
}

int fsync(int fd) {
        int r;

        lock();
        r = syscall(SYS_fsync, fd);
        if (r == 0)
                synced(fd);
        unlock();
        return r;
}

int fdatasync(int fd) {
        return fsync(fd);
}

int ftruncate(int fd, off_t size) {
        int r;

        lock();
        r = syscall(SYS_ftruncate, fd, size);
        if (r == 0)
                sized(fd, size, false);
        unlock();
        return r;
}

int ftruncate64(int fd, off64_t size) {
        return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
        int r;

        lock();
        r = syscall(SYS_fallocate, fd, mode, offset, size);
        if (r == 0)
                sized(fd, offset + size, true);
        unlock();
        return r;
}

static int open_at(int dir_fd, const char *name, int flags, mode_t mode) {
        char buffer[PATH_SIZE];
        const char *path;
        struct stat st;
        bool was_there;
        int fd;

        lock();
        was_there = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        fd = syscall(SYS_openat, dir_fd, name, flags, mode);
        path = fd >= 0 && flags & (O_CREAT | O_TRUNC) ? below(dir_fd, name, buffer) : NULL;
        if (path && !was_there)
                write_down(CALL_MAKE, path);
        else if (path && flags & O_TRUNC)
                write_down(CALL_SIZE, path)->offset = 0;
        unlock();
        return fd;
}

static mode_t mode_of(int flags, va_list ap) {
        return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int openat(int dir_fd, const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open_at(dir_fd, path, flags, mode);
}

int open(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return open_at(AT_FDCWD, path, flags, mode);
}

int mkdirat(int dir_fd, const char *name, mode_t mode) {
        char buffer[PATH_SIZE];
        const char *path;
        int r;

        lock();
        r = syscall(SYS_mkdirat, dir_fd, name, mode);
        path = r == 0 ? below(dir_fd, name, buffer) : NULL;
        if (path)
                write_down(CALL_MAKE_DIR, path);
        unlock();
        return r;
}

int mkdir(const char *path, mode_t mode) {
        return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int dir_fd, const char *name, int flags) {
        char buffer[PATH_SIZE];
        const char *path;
        int r;

        lock();
        path = below(dir_fd, name, buffer);
        r = syscall(SYS_unlinkat, dir_fd, name, flags);
        if (r == 0 && path)
                write_down(CALL_REMOVE, path);
        unlock();
        return r;
}

int unlink(const char *path) {
        return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
        return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        char from_buffer[PATH_SIZE], to_buffer[PATH_SIZE];
        const char *from_path, *to_path;
        int r;

        lock();
        from_path = below(from_fd, from, from_buffer);
        to_path = below(to_fd, to, to_buffer);
        r = syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
        MUST(!from_path == !to_path);
        if (r == 0 && from_path) {
                Call *call = write_down(CALL_RENAME, from_path);

                call->to = strdup(to_path);
                MUST(call->to);
        }
        unlock();
        return r;
}

int rename(const char *from, const char *to) {
        return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* -- Doing it again -- */

static Name *names_find(const Names *names, const char *path) {
        for (size_t i = 0; i < names->n; i++)
                if (streq(names->items[i].path, path))
                        return &names->items[i];
        return NULL;
}

static void names_remove(Names *names, const char *path) {
        Name *name = names_find(names, path);

        if (name)
                *name = names->items[--names->n];
}

static void names_put(Names *names, const char *path, Node *node) {
        names_remove(names, path);
        MUST(GROW(names->items, names->capacity, names->n + 1) == 0);
        names->items[names->n++] = (Name) { path, node };
}

static void names_change(Names *names, const Change *c) {
        if (c->from)
                names_remove(names, c->from);
        if (c->to)
                names_put(names, c->to, c->node);
}

static bool is_in(const char *path, const char *dir) {
        const char *slash = path ? strrchr(path, '/') : NULL;

        if (!path)
                return false;
        if (!slash)
                return streq(dir, ".");
        return strlen(dir) == (size_t) (slash - path) && strncmp(path, dir, slash - path) == 0;
}

static void resize(uint8_t **bytes, size_t *size, size_t wanted) {
        uint8_t *new = realloc(*bytes, wanted + 1);

        MUST(new);
        if (wanted > *size)
                memset(new + *size, 0, wanted - *size);
        *bytes = new;
        *size = wanted;
}

static void patch(uint8_t **bytes, size_t *size, const uint8_t *from, size_t n, uint64_t offset) {
        if (offset + n > *size)
                resize(bytes, size, offset + n);
        memcpy(*bytes + offset, from, n);
}

static Node *node_new(Power *p, bool is_dir) {
        Node *node = NEW0(Node, 1);

        MUST(node && GROW(p->nodes, p->nodes_capacity, p->n_nodes + 1) == 0);
        p->nodes[p->n_nodes++] = node;
        node->is_dir = is_dir;
        return node;
}

static Node *node_at(const Power *p, const char *path) {
        Name *name = names_find(&p->now, path);

        if (!name)
                fprintf(stderr, "%s is not known\n", path);
        MUST(name);
        return name->node;
}

static void changed(Power *p, const char *from, const char *to, Node *node) {
        Change change = { from, to, node };

        names_change(&p->now, &change);
        MUST(GROW(p->changes, p->changes_capacity, p->n_changes + 1) == 0);
        p->changes[p->n_changes++] = change;
}

static void pend(Node *node, const Call *call) {
        MUST(GROW(node->pending, node->capacity, node->n + 1) == 0);
        node->pending[node->n++] = call;
}

static void do_half(Power *p, const Call *call) {
        Node *node;

        switch (call->kind) {
        case CALL_MAKE:
        case CALL_MAKE_DIR:
                changed(p, NULL, call->path, node_new(p, call->kind == CALL_MAKE_DIR));
                break;
        case CALL_WRITE:
                node = node_at(p, call->path);
                patch(&node->now, &node->now_size, call->bytes, call->size, call->offset);
                pend(node, call);
                break;
        case CALL_SIZE:
                node = node_at(p, call->path);
                resize(&node->now, &node->now_size, call->offset);
                pend(node, call);
                break;
        case CALL_RENAME:
                node = node_at(p, call->path);
                MUST(!node->is_dir);
                changed(p, call->path, call->to, node);
                break;
        case CALL_REMOVE:
                changed(p, call->path, NULL, node_at(p, call->path));
                break;
        case CALL_SYNC:
        case CALL_PROMISE:
                break;
        }
}

static void sync_names(Power *p, const char *dir) {
        size_t kept = 0;

        for (size_t i = 0; i < p->n_changes; i++)
                if (is_in(p->changes[i].from, dir) || is_in(p->changes[i].to, dir))
                        names_change(&p->durable, &p->changes[i]);
                else
                        p->changes[kept++] = p->changes[i];
        p->n_changes = kept;
}

static void sync_node(Node *node) {
        resize(&node->durable, &node->durable_size, node->now_size);
        memcpy(node->durable, node->now, node->now_size);
        node->n = 0;
}

static void do_rest(Power *p, const Call *call) {
        if ((call->kind != CALL_SYNC && !call->syncs) || (p->distrusted && strstr(call->path, p->distrusted)))
                return;
        if (streq(call->path, ".") || node_at(p, call->path)->is_dir)
                sync_names(p, call->path);
        else
                sync_node(node_at(p, call->path));
}

void power_go(Power *p, size_t moment) {
        MUST(moment >= p->moment && moment < p->n_calls);
        for (;;) {
                if (!p->half)
                        do_half(p, &p->calls[p->moment]);
                p->half = true;
                if (p->moment == moment)
                        return;
                do_rest(p, &p->calls[p->moment++]);
                p->half = false;
        }
}

void power_promises(const Power *p, void (*look)(void *userdata, const char *promise), void *userdata) {
        for (size_t i = 0; i < p->moment; i++)
                if (p->calls[i].kind == CALL_PROMISE)
                        look(userdata, p->calls[i].path);
}

bool power_synced_between(const Power *p, const char *path, const char *from, const char *to) {
        bool inside = false, synced = false;

        for (size_t i = 0; i < p->n_calls; i++) {
                const Call *call = &p->calls[i];

                if (call->kind == CALL_PROMISE && streq(call->path, from))
                        inside = true;
                if (call->kind == CALL_PROMISE && streq(call->path, to))
                        inside = false;
                synced |= inside && call->kind == CALL_SYNC && streq(call->path, path);
        }
        return synced;
}

void power_distrust(Power *p, const char *part) {
        free(p->distrusted);
        p->distrusted = part ? strdup(part) : NULL;
}

/* -- Images -- */

/* How much of what was not synced is there: nothing, all, or each with this chance in a hundred. */
static unsigned draw_part(Random *random) {
        static const unsigned parts[] = { 0, 100, 100, 10, 50, 90 };

        return parts[random_below(random, ELEMENTS(parts))];
}

static bool is_there(Random *random, unsigned part) {
        return random_below(random, 100) < part;
}

static void write_image(const Node *node, Random *random, const char *path) {
        _cleanup_close_ int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                                         0600);
        unsigned part = draw_part(random);
        uint8_t *bytes = NULL;
        size_t size = 0;
        uint64_t end;

        resize(&bytes, &size, node->durable_size);
        if (size > 0)
                memcpy(bytes, node->durable, size);
        for (size_t i = 0; i < node->n; i++) {
                const Call *call = node->pending[i];

                if (call->kind == CALL_SIZE && is_there(random, part))
                        resize(&bytes, &size, call->offset);
                if (call->kind == CALL_WRITE) {
                        size_t before = size;

                        if (call->offset + call->size > size)
                                resize(&bytes, &size, call->offset + call->size);
                        end = torn_write(bytes, call->bytes, call->size, call->offset, random, part);
                        resize(&bytes, &size, MAX(before, (size_t) end));
                }
        }
        MUST(fd >= 0 && (size == 0 || syscall(SYS_write, fd, bytes, size) == (ssize_t) size));
        free(bytes);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const Name *) a)->path, ((const Name *) b)->path);
}

void power_image(const Power *p, Random *random, const char *into) {
        unsigned part = draw_part(random);
        bool in_order = random_below(random, 2) == 0; /* as a journal keeps them: all up to some moment */
        size_t until = random_below(random, p->n_changes + 1);
        char path[PATH_SIZE];
        Names names = {};

        for (size_t i = 0; i < p->durable.n; i++)
                names_put(&names, p->durable.items[i].path, p->durable.items[i].node);
        for (size_t i = 0; i < p->n_changes; i++)
                if (in_order ? i < until : is_there(random, part))
                        names_change(&names, &p->changes[i]);
        if (names.n > 0)
                qsort(names.items, names.n, sizeof(*names.items), compare_names);

        MUST(syscall(SYS_mkdirat, AT_FDCWD, into, 0700) == 0);
        for (size_t i = 0; i < names.n; i++) {
                const char *slash = strrchr(names.items[i].path, '/');
                struct stat st;

                /* What lay in a folder that is not there is not there. */
                snprintf(path, sizeof(path), "%s/%.*s", into, slash ? (int) (slash - names.items[i].path) : 0,
                         names.items[i].path);
                if (stat(path, &st) < 0)
                        continue;
                snprintf(path, sizeof(path), "%s/%s", into, names.items[i].path);
                if (names.items[i].node->is_dir)
                        MUST(syscall(SYS_mkdirat, AT_FDCWD, path, 0700) == 0);
                else
                        write_image(names.items[i].node, random, path);
        }
        free(names.items);
}

static void forget_state(Power *p) {
        for (size_t i = 0; i < p->n_nodes; i++) {
                free(p->nodes[i]->now);
                free(p->nodes[i]->durable);
                free(p->nodes[i]->pending);
                free(p->nodes[i]);
        }
        free(p->nodes);
        free(p->now.items);
        free(p->durable.items);
        free(p->changes);
}

bool power_is_complete(const Power *p) {
        Power again = { .root = p->root, .calls = p->calls, .n_calls = p->n_calls };
        bool is_same = true;

        power_go(&again, p->n_calls - 1);
        for (size_t i = 0; i < again.now.n; i++) {
                const Name *name = &again.now.items[i];
                _cleanup_close_ int fd = -1;
                char path[PATH_SIZE];
                uint8_t *bytes;
                struct stat st;

                snprintf(path, sizeof(path), "%s/%s", p->root, name->path);
                fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
                /* LMDB's table of readers is shared memory. */
                if (fd >= 0 && (name->node->is_dir || ends_with(path, "/lock.mdb")))
                        continue;
                if (fd < 0 || fstat(fd, &st) < 0 || (size_t) st.st_size != name->node->now_size) {
                        fprintf(stderr, "%s is not as it was written down\n", path);
                        is_same = false;
                        continue;
                }
                bytes = malloc(st.st_size + 1);
                MUST(bytes && syscall(SYS_read, fd, bytes, st.st_size) == st.st_size);
                if (st.st_size > 0 && memcmp(bytes, name->node->now, st.st_size) != 0) {
                        fprintf(stderr, "%s has other bytes than were written down\n", path);
                        is_same = false;
                }
                free(bytes);
        }
        forget_state(&again);
        return is_same;
}

Power *power_free(Power *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n_calls; i++) {
                free(p->calls[i].path);
                free(p->calls[i].to);
                free(p->calls[i].bytes);
        }
        forget_state(p);
        free(p->calls);
        free(p->distrusted);
        free(p->root);
        free(p);
        return NULL;
}
