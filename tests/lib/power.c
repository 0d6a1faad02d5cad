#include "tests/lib/power.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/lib/power_internal.h"
#include "tests/lib/torn_write.h"

/* -- Executing again -- */

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

static bool is_below(const char *path, const char *dir) {
        size_t size = strlen(dir);

        return strncmp(path, dir, size) == 0 && path[size] == '/';
}

/* Rename what is below a renamed folder. */
static void names_move(Names *names, const char *from, const char *to) {
        for (size_t i = 0; i < names->n; i++) {
                char *path;

                if (!is_below(names->items[i].path, from))
                        continue;
                MUST(asprintf(&path, "%s%s", to, names->items[i].path + strlen(from)) >= 0);
                MUST(GROW(names->moved, names->moved_capacity, names->n_moved + 1) == 0);
                names->moved[names->n_moved++] = path;
                names->items[i].path = path;
        }
}

static void names_done(Names *names) {
        for (size_t i = 0; i < names->n_moved; i++)
                free(names->moved[i]);
        free(names->moved);
        free(names->items);
}

/* Exchange two folders, or do nothing while one of them is not there. */
static void names_exchange(Names *names, const char *from, const char *to) {
        static const char between[] = "*";
        Name *a = names_find(names, from), *b = names_find(names, to);

        if (!a || !b)
                return;
        a->path = to;
        b->path = from;
        names_move(names, from, between);
        names_move(names, to, from);
        names_move(names, between, to);
}

static void names_change(Names *names, const Change *c) {
        if (c->exchange) {
                names_exchange(names, c->from, c->to);
                return;
        }
        if (c->from && c->to && c->node->is_dir)
                names_move(names, c->from, c->to);
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

/* The number of bytes that a file of this size has in memory: a power of two, as files grow by small writes.
 */
static size_t capacity_of(size_t size) {
        size_t capacity = 64;

        while (capacity < size + 1)
                capacity *= 2;
        return capacity;
}

static void resize(uint8_t **bytes, size_t *size, size_t wanted) {
        if (!*bytes || capacity_of(wanted) != capacity_of(*size)) {
                *bytes = realloc(*bytes, capacity_of(wanted));
                MUST(*bytes);
        }
        if (wanted > *size)
                memset(*bytes + *size, 0, wanted - *size);
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

static void record_change(Power *p, Change change) {
        names_change(&p->now, &change);
        MUST(GROW(p->changes, p->changes_capacity, p->n_changes + 1) == 0);
        p->changes[p->n_changes++] = change;
}

static void changed(Power *p, const char *from, const char *to, Node *node) {
        record_change(p, (Change) { from, to, node });
}

static bool is_change_below(const Change *c, const char *dir) {
        return (c->from && is_below(c->from, dir)) || (c->to && is_below(c->to, dir));
}

/* Changes of names inside a folder have to be durable before the folder is renamed: this model knows them by
 * their former paths only. */
static bool is_durable_below(const Power *p, const char *dir) {
        for (size_t i = 0; i < p->n_changes; i++)
                if (is_change_below(&p->changes[i], dir))
                        return false;
        return true;
}

/* The same without folders that were removed since. */
static bool is_complete_below(const Power *p, const char *dir) {
        for (size_t i = 0; i < p->n_changes; i++) {
                const Change *c = &p->changes[i];
                const char *path = c->to ?: c->from, *slash = strrchr(path, '/');
                char parent[PATH_SIZE];

                snprintf(parent, sizeof(parent), "%.*s", slash ? (int) (slash - path) : 0, path);
                if (is_change_below(c, dir) && names_find(&p->now, parent))
                        return false;
        }
        return true;
}

/* Let all changes below a folder be durable. */
static void complete_below(Power *p, const char *dir) {
        size_t kept = 0;

        for (size_t i = 0; i < p->n_changes; i++)
                if (is_change_below(&p->changes[i], dir))
                        names_change(&p->durable, &p->changes[i]);
                else
                        p->changes[kept++] = p->changes[i];
        p->n_changes = kept;
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
                MUST(!node->is_dir || is_durable_below(p, call->path) ||
                     (is_complete_below(p, call->path) && (complete_below(p, call->path), true)));
                changed(p, call->path, call->to, node);
                break;
        case CALL_EXCHANGE:
                MUST(is_complete_below(p, call->path)); /* the other one is not needed any more */
                complete_below(p, call->path);
                complete_below(p, call->to);
                record_change(p, (Change) { call->path, call->to, .exchange = true });
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

/* Draw which part of the unsynced changes survives: none, all, or each with a chance of so many percent. */
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
        bool in_order = random_below(random, 2) ==
                        0; /* as a journaling file system does: all up to some moment */
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

                /* A file whose folder is lost is lost. */
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
        names_done(&names);
}

static void forget_state(Power *p) {
        for (size_t i = 0; i < p->n_nodes; i++) {
                free(p->nodes[i]->now);
                free(p->nodes[i]->durable);
                free(p->nodes[i]->pending);
                free(p->nodes[i]);
        }
        free(p->nodes);
        names_done(&p->now);
        names_done(&p->durable);
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
                /* LMDB writes its table of readers through shared memory. */
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
