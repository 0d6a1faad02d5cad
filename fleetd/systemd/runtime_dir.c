#include "fleetd/systemd/runtime_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fault_point.h"
#include "base/log.h"
#include "fleetd/systemd/guard.h"
#include "units/install.h"
#include "units/quadlet.h"
#include "units/unit.h"

enum {
        LINKS_MAX = 8, /* followed from a name to its file */
        /* Of /run. Below it, systemd rejects a daemon-reload (RELOAD_DISK_SPACE_MIN). */
        RELOAD_ROOM_MIN = 16 * 1024 * 1024,
        DROP_INS_MAX = 65536, /* folders of drop-ins of the host */
};

const char *runtime_dir_link(const RuntimeDir *d, const char *name, char ret[static RUNTIME_PATH_SIZE]) {
        snprintf(ret, RUNTIME_PATH_SIZE, "%s/%s", quadlet_is(name) ? d->quadlets : d->links, name);
        return ret;
}

static void runtime_dir_unstage(const RuntimeDir *d, const char *name) {
        char staged[FILE_TEMPORARY_SIZE];

        file_temporary_name(name, staged);
        (void) unlinkat(d->fd, staged, 0);
}

/* 'stamp' precedes the read of the file: a later change has another stamp. */
static int runtime_dir_set(RuntimeDir *d, const char *name, const char *text, size_t size,
                           const FileStamp *stamp) {
        _cleanup_unit_ Unit *unit = NULL;
        RuntimeDirEntry *e;

        TRY(unit_read(name, text, size, &unit, NULL));

        e = named_get(&d->entries, name, sizeof(*e));
        if (!e)
                return -ENOMEM;
        memcpy(e->hash, unit->hash, sizeof(e->hash));
        e->install = unit_file_has_section(&unit->file, "Install");
        e->drop_ins = drop_in_wanted(unit);
        e->stamp = *stamp;
        return 0;
}

static int runtime_dir_read(RuntimeDir *d, const char *name, const FileStamp *stamp) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        d->reads++;
        r = read_file_at(d->fd, name, UNIT_SIZE_MAX, &text, &size);
        return r < 0 ? r : runtime_dir_set(d, name, text, size, stamp);
}

/* Return 1 if 'path' is a link to our file, 0 if it is another link or a file, or a negative errno. */
static int runtime_dir_follow(const RuntimeDir *d, const char *name, const char *path) {
        char ours[RUNTIME_PATH_SIZE], target[RUNTIME_PATH_SIZE];
        ssize_t n;

        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0)
                return errno == EINVAL ? 0 : -errno;
        target[n] = 0;
        snprintf(ours, sizeof(ours), "%s/%s", d->path, name);
        return streq(target, ours);
}

/* Remove drop-ins that a crash has left without the file of their unit. */
static void runtime_dir_remove_unused(const RuntimeDir *d, const char *folder) {
        char link[RUNTIME_PATH_SIZE], **names;
        size_t n;

        if (list_folder_at(AT_FDCWD, folder, ".d", DROP_INS_MAX, &names, &n) < 0)
                return;
        for (size_t i = 0; i < n; i++) {
                names[i][strlen(names[i]) - strlen(".d")] = 0;
                snprintf(link, sizeof(link), "%s/%s", folder, names[i]);
                /* A file that cannot be read is not absent. A link to another folder is of another daemon. */
                if (faccessat(d->fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
                    runtime_dir_follow(d, names[i], link) != 0)
                        drop_in_keep(link, 0);
        }
        strings_free(names, n);
}

int runtime_dir_open(RuntimeDir *d, const char *path, const char *quadlets, const char *links, Error *err) {
        bool without_memory = false;
        struct dirent **names;
        int n;

        *d = (RuntimeDir) { .fd = open_dir(path, 0755) };
        if (d->fd < 0)
                return error_set(err, d->fd, "Failed to open %s: %s", path, strerror(-d->fd));
        snprintf(d->path, sizeof(d->path), "%s", path);
        snprintf(d->quadlets, sizeof(d->quadlets), "%s", quadlets);
        snprintf(d->links, sizeof(d->links), "%s", links);

        n = scandir(path, &names, NULL, alphasort);
        if (n < 0)
                return error_set(err, -errno, "Failed to list %s: %s", path, strerror(errno));
        for (int i = 0; i < n; i++) {
                const char *name = names[i]->d_name;

                if (name[0] != '.' && !unit_name_is_template(name)) { /* that of a socket has no entry */
                        bool unit = unit_name_check(name, NULL) == 0;
                        int r = unit ? runtime_dir_read(d, name, &(FileStamp) {}) : -EINVAL;

                        if (r == -ENOMEM)
                                without_memory = true;
                        else if (r < 0)
                                log_warning(((LogFields) { .unit = name, .error = r }), "ignoring %s/%s: %s",
                                            path, name, strerror(-r));
                }
                free(names[i]);
        }
        free(names);
        if (without_memory)
                return -ENOMEM;
        runtime_dir_remove_unused(d, d->links);
        runtime_dir_remove_unused(d, d->quadlets);
        return 0;
}

void runtime_dir_close(RuntimeDir *d) {
        named_clear(&d->entries);
        if (d->fd >= 0)
                close(d->fd);
        d->fd = -1;
}

int runtime_dir_check(RuntimeDir *d) {
        int r = reopen_dir(d->path, 0755, &d->fd);

        if (r > 0)
                log_warning(NO_FIELDS,
                            "folder %s was removed or replaced; writing the files of all units again",
                            d->path);
        return r;
}

int runtime_dir_stage(RuntimeDir *d, const char *name, const char *text, size_t size) {
        uint64_t n_free, total;

        TRY(stage_file_at(d->fd, name, text, size, 0644));
        if (space_at(d->fd, &n_free, &total) < 0 || total < RELOAD_ROOM_MIN || n_free >= RELOAD_ROOM_MIN)
                return 0;
        runtime_dir_unstage(d, name);
        return -ENOSPC;
}

static void runtime_dir_keep(const RuntimeDir *d, const char *name, unsigned drop_ins) {
        char link[RUNTIME_PATH_SIZE];

        if (!(drop_ins & 1U << DROP_IN_SINGLETON))
                guard_unbind(d->path, name);
        drop_in_keep(runtime_dir_link(d, name, link), drop_ins);
}

/* Bind a singleton to its guard before its text is in force; other features have written their drop-ins. */
static int runtime_dir_bind(const RuntimeDir *d, const char *name, const char *text, size_t size) {
        _cleanup_unit_ Unit *unit = NULL;

        TRY(unit_read(name, text, size, &unit, NULL));
        runtime_dir_keep(d, name, drop_in_wanted(unit));
        return unit->placement.singleton ? guard_bind(d->links, d->path, name, &unit->file) : 0;
}

int runtime_dir_write(RuntimeDir *d, const char *name, const char *text, size_t size) {
        char staged[FILE_TEMPORARY_SIZE];
        int r;

        TRY(runtime_dir_bind(d, name, text, size));
        file_temporary_name(name, staged);
        r = file_holds_at(d->fd, staged, text, size) ? commit_file_at(d->fd, name) :
                                                       write_file_at(d->fd, name, text, size, 0644);
        return r < 0 ? r : runtime_dir_set(d, name, text, size, &(FileStamp) {});
}

int runtime_dir_remove(RuntimeDir *d, const char *name) {
        int r;

        named_remove(&d->entries, name);
        runtime_dir_unstage(d, name);
        fault_point("unit-file-before-remove");
        r = unlinkat(d->fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        if (r == 0)
                runtime_dir_keep(d, name, 0);
        fault_point("unit-file-removed");
        return r;
}

int runtime_dir_get(RuntimeDir *d, const char *name, const RuntimeDirEntry **ret) {
        RuntimeDirEntry *e = runtime_dir_find(d, name);
        char link[RUNTIME_PATH_SIZE];
        FileStamp stamp;
        int r;

        r = file_stamp_at(d->fd, name, &stamp);
        if (r == 0 && (!e || memcmp(&e->stamp, &stamp, sizeof(stamp)) != 0))
                r = runtime_dir_read(d, name, &stamp);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                named_remove(&d->entries, name);
        e = runtime_dir_find(d, name);
        *ret = e && drop_in_has(runtime_dir_link(d, name, link), e->drop_ins) ? e : NULL;
        return 0;
}

/* Where systemd finds templates of the host. */
static const char *const host_folders[] = { "/etc/systemd/system", "/usr/local/lib/systemd/system",
                                            "/usr/lib/systemd/system", "/lib/systemd/system" };

int runtime_dir_put_template(const RuntimeDir *d, const char *name, const char *text, size_t size) {
        char link[RUNTIME_PATH_SIZE], path[RUNTIME_PATH_SIZE];
        int linked, r;

        for (size_t i = 0; i < ELEMENTS(host_folders); i++) {
                snprintf(path, sizeof(path), "%s/%s", host_folders[i], name);
                if (access(path, F_OK) == 0)
                        return -EEXIST;
        }
        snprintf(link, sizeof(link), "%s/%s", d->links, name);
        linked = runtime_dir_follow(d, name, link);
        if (linked == 0 || (linked < 0 && linked != -ENOENT))
                return linked == 0 ? -EEXIST : linked;
        r = file_holds_at(d->fd, name, text, size) ? 0 : write_file_at(d->fd, name, text, size, 0644);
        if (r < 0 || linked == 1)
                return r;
        snprintf(path, sizeof(path), "%s/%s", d->path, name);
        return symlink(path, link) < 0 ? -errno : 0;
}

void runtime_dir_remove_template(const RuntimeDir *d, const char *name) {
        char link[RUNTIME_PATH_SIZE];

        snprintf(link, sizeof(link), "%s/%s", d->links, name);
        if (runtime_dir_follow(d, name, link) == 1)
                (void) unlink(link);
        (void) unlinkat(d->fd, name, 0);
}

int runtime_dir_offer(RuntimeDir *d, const char *name) {
        char link[RUNTIME_PATH_SIZE], ours[RUNTIME_PATH_SIZE];
        int r;

        snprintf(link, sizeof(link), "%s/%s", d->quadlets, name);
        r = runtime_dir_follow(d, name, link);
        if (r >= 0)
                return r == 1 ? 0 : -EEXIST;
        if (r != -ENOENT)
                return r;
        for (char *slash = strchr(link + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                r = mkdir(link, 0755) < 0 && errno != EEXIST ? -errno : 0;
                *slash = '/';
                if (r < 0)
                        return r;
        }
        snprintf(ours, sizeof(ours), "%s/%s", d->path, name);
        return symlink(ours, link) < 0 ? -errno : 0;
}

void runtime_dir_withdraw(RuntimeDir *d, const char *name) {
        char link[RUNTIME_PATH_SIZE];

        snprintf(link, sizeof(link), "%s/%s", d->quadlets, name);
        if (runtime_dir_follow(d, name, link) == 1)
                (void) unlink(link);
}

bool runtime_dir_owns(const RuntimeDir *d, const char *name, const char *fragment) {
        char ours[RUNTIME_PATH_SIZE];
        int r;

        if (!quadlet_is(name)) {
                snprintf(ours, sizeof(ours), "%s/%s", d->path, name);
                return streq(fragment, ours) || runtime_dir_follow(d, name, fragment) == 1;
        }
        snprintf(ours, sizeof(ours), "%s/%s", d->quadlets, name);
        if (!streq(fragment, ours))
                return false;
        r = runtime_dir_follow(d, name, fragment);
        return r == 1 || r == -ENOENT;
}

/* Return whether 'path' names a file of this folder, which need not exist. */
static bool runtime_dir_contains(const RuntimeDir *d, const char *path) {
        size_t n = strlen(d->path);

        return strncmp(path, d->path, n) == 0 && path[n] == '/' && unit_name_check(path + n + 1, NULL) == 0;
}

bool runtime_dir_has(const RuntimeDir *d, const char *fragment) {
        char path[RUNTIME_PATH_SIZE], target[RUNTIME_PATH_SIZE];

        if (fragment[0] != '/' || snprintf(path, sizeof(path), "%s", fragment) >= (int) sizeof(path))
                return false;
        for (unsigned i = 0; i < LINKS_MAX && !runtime_dir_contains(d, path); i++) {
                ssize_t n = readlink(path, target, sizeof(target) - 1);
                size_t folder;

                if (n <= 0 || (size_t) n == sizeof(target) - 1)
                        return false;
                target[n] = 0;
                folder = target[0] == '/' ? 0 : (size_t) (strrchr(path, '/') + 1 - path);
                if (folder + (size_t) n >= sizeof(path))
                        return false;
                memcpy(path + folder, target, (size_t) n + 1);
        }
        return runtime_dir_contains(d, path);
}

bool runtime_dir_lost_link(const RuntimeDir *d, const char *name, const char *fragment) {
        char link[RUNTIME_PATH_SIZE];

        snprintf(link, sizeof(link), "%s/%s", d->links, name);
        return streq(fragment, link) && runtime_dir_follow(d, name, link) == -ENOENT;
}

bool runtime_dir_links(const RuntimeDir *d, const char *name) {
        char link[RUNTIME_PATH_SIZE];

        snprintf(link, sizeof(link), "%s/%s", d->links, name);
        return runtime_dir_follow(d, name, link) == 1;
}

int runtime_dir_each_installed(const RuntimeDir *d, const char *name,
                               int (*each)(void *userdata, const UnitOption *option, const char *name),
                               void *userdata) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        TRY(read_file_at(d->fd, name, UNIT_SIZE_MAX, &text, &size));
        r = unit_file_parse(text, size, UNIT_FILE_LITERAL, &file, NULL);
        return r < 0 ? r : install_each_name(name, &file, each, userdata);
}
