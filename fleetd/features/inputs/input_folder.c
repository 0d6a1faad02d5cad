/* The files of contents on the disk.
 *
 * A put writes all beside what is in force: credentials, copy, environment and link under hidden names, files
 * in a new folder vN. What fails for lack of space fails then, and the former content stays. Only renames
 * follow. A crash between them leaves credentials of the new content, or these and its copy, which the next
 * daemon restores. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/parse.h"
#include "fleetd/features/inputs/input_copy.h"
#include "io/loop.h"
#include "units/inputs.h"

enum {
        CONFIG_MODE = 0755,
        CONFIG_FILE_MODE = 0644,
        PRIVATE_MODE = 0700,
        PRIVATE_FILE_MODE = 0600,
        INPUT_FOLDERS_MAX = 65536,
        VERSION_SIZE = 24, /* "v", digits */
};

#define ENVIRONMENT "environment"
#define CURRENT     "current"

typedef struct InputFolder {
        InputFiles base;
        Loop *loop;                          /* borrowed */
        char *credentials, *config, *copies; /* owned: paths */
        struct InputPut *put;                /* in flight; NULL: none */
} InputFolder;

/* Only 'owner', 'done' and 'userdata' belong to the loop while the work runs. */
typedef struct InputPut {
        InputFolder *owner; /* NULL: cancelled */
        const InputFolder *paths;
        char *folder;        /* owned */
        Writer copy, sealed; /* bytes of the copy, which 'set' borrows; of the credentials */
        InputFileSet set;
        InputFile *items; /* owned: of 'set' */
        Work work;
        pthread_mutex_t lock; /* held by the work */
        atomic_bool cancelled;
        int error;
        Error err;
        InputFilesDone *done;
        void *userdata;
} InputPut;

/* Where the files of one unit are: descriptors. */
typedef struct InputPlaces {
        int credentials, config; /* its folders */
        int copies;              /* the folder of all copies */
} InputPlaces;

static void places_close(InputPlaces *p) {
        closep(&p->credentials);
        closep(&p->config);
        closep(&p->copies);
}
#define _cleanup_places_ _cleanup_(places_close)
#define PLACES_NONE \
        { -EBADF, -EBADF, -EBADF }

/* Return a path that the caller frees, or NULL. */
static char *input_join(const char *root, const char *folder) {
        char *path;

        return asprintf(&path, "%s/%s", root, folder) < 0 ? NULL : path;
}

/* Return whether it is one component of a path. */
static bool input_folder_is_valid(const char *folder) {
        return input_name_is_below(folder) && !strchr(folder, '/');
}

/* -- Folders -- */

/* Open a folder, which is made if it does not exist, with this mode under any umask. */
static int input_open_at(int dir_fd, const char *name, mode_t mode) {
        _cleanup_close_ int fd = -EBADF;

        if (mkdirat(dir_fd, name, mode) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return fchmod(fd, mode) < 0 ? -errno : TAKE_FD(fd);
}

/* Open the folder of a unit below 'root', durably. */
static int places_open_one(const char *root, const char *folder, mode_t mode) {
        _cleanup_close_ int root_fd = open_dir(root, mode), fd = -EBADF;

        if (root_fd < 0)
                return root_fd;
        if (fchmod(root_fd, mode) < 0)
                return -errno;
        fd = TRY(input_open_at(root_fd, folder, mode));
        TRY(fsync_dir(root_fd));
        return TAKE_FD(fd);
}

static int input_failed(int error, const char *root, const char *folder, Error *err) {
        return error_set(err, error, "Failed to write %s/%s: %s", root, folder, strerror(-error));
}

/* The folder of credentials is made first and removed last: list() lists it. */
static int places_open(const InputFolder *f, const char *folder, InputPlaces *ret, Error *err) {
        ret->credentials = places_open_one(f->credentials, folder, PRIVATE_MODE);
        if (ret->credentials < 0)
                return input_failed(ret->credentials, f->credentials, folder, err);
        ret->config = places_open_one(f->config, folder, CONFIG_MODE);
        if (ret->config < 0)
                return input_failed(ret->config, f->config, folder, err);
        ret->copies = open_dir(f->copies, PRIVATE_MODE);
        return ret->copies < 0 ? input_failed(ret->copies, f->copies, folder, err) : 0;
}

/* -- Configuration -- */

static const char *config_version(uint64_t number, char ret[static VERSION_SIZE]) {
        snprintf(ret, VERSION_SIZE, "v%llu", (unsigned long long) number);
        return ret;
}

/* Return N of "vN"; 0: it is another name. */
static uint64_t config_parse_version(const char *name) {
        uint64_t number;

        return name[0] == 'v' && parse_u64(name + 1, &number) >= 0 ? number : 0;
}

/* Return the number of the folder in force; 0: none. */
static uint64_t config_number(int config_fd) {
        char target[VERSION_SIZE];
        ssize_t n = readlinkat(config_fd, CURRENT, target, sizeof(target) - 1);

        target[MAX(n, 0)] = 0;
        return config_parse_version(target);
}

/* Add the number of files at and below 'path'. */
static int config_count(int dir_fd, const char *path, size_t *n) {
        char **names = NULL;
        size_t n_names = 0;
        int r = list_folder_at(dir_fd, path, NULL, INPUT_FILES_MAX, &names, &n_names);

        if (r == -ENOTDIR) {
                ++*n;
                return 0;
        }
        for (size_t i = 0; r >= 0 && i < n_names; i++) {
                _cleanup_free_ char *below = input_join(path, names[i]);

                r = below ? config_count(dir_fd, below, n) : -ENOMEM;
        }
        strings_free(names, n_names);
        return r;
}

/* Return whether the files in force are those of the content, and no others. */
static bool config_holds(int config_fd, const InputFileSet *set) {
        char version[VERSION_SIZE];
        _cleanup_close_ int fd = -EBADF;
        size_t n = 0;

        fd = openat(config_fd, config_version(config_number(config_fd), version),
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || config_count(fd, ".", &n) < 0 || n != set->n_files ||
            !file_holds_at(config_fd, ENVIRONMENT, set->environment, strlen(set->environment)))
                return false;
        for (size_t i = 0; i < set->n_files; i++)
                if (!file_holds_at(fd, set->files[i].name, set->files[i].value, set->files[i].size))
                        return false;
        return true;
}

static int config_write_file(int version_fd, const InputFile *file) {
        _cleanup_free_ char *path = strdup(file->name);
        _cleanup_close_ int fd = openat(version_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char *name = path, *end;

        if (!path)
                return -ENOMEM;
        if (fd < 0)
                return -errno;
        for (; (end = strchr(name, '/')); name = end + 1) {
                int below;

                *end = 0;
                below = TRY(input_open_at(fd, name, CONFIG_MODE));
                close(fd);
                fd = below;
        }
        return write_file_at(fd, name, file->value, file->size, CONFIG_FILE_MODE);
}

/* Write a folder vN, which nothing names yet, environment and link. 1; 0: the files in force are those. */
static int config_stage(int config_fd, const InputFileSet *set) {
        char version[VERSION_SIZE], link[FILE_TEMPORARY_SIZE];
        _cleanup_close_ int fd = -EBADF;

        if (config_holds(config_fd, set))
                return 0;
        config_version(config_number(config_fd) + 1, version);
        TRY(remove_tree_at(config_fd, version)); /* of an interrupted put */
        fd = TRY(input_open_at(config_fd, version, CONFIG_MODE));
        for (size_t i = 0; i < set->n_files; i++)
                TRY(config_write_file(fd, &set->files[i]));
        TRY(stage_file_at(config_fd, ENVIRONMENT, set->environment, strlen(set->environment),
                          PRIVATE_FILE_MODE));
        file_temporary_name(CURRENT, link);
        if ((unlinkat(config_fd, link, 0) < 0 && errno != ENOENT) || symlinkat(version, config_fd, link) < 0)
                return -errno;
        return 1;
}

static int config_commit(int config_fd) {
        TRY(commit_file_at(config_fd, ENVIRONMENT));
        return commit_file_at(config_fd, CURRENT);
}

/* -- What is not in force -- */

typedef bool InputUnused(const void *userdata, const char *name);

static void input_remove_unused(int dir_fd, InputUnused *is_unused, const void *userdata) {
        char **names;
        size_t n;

        if (list_folder_at(dir_fd, ".", NULL, INPUT_FOLDERS_MAX, &names, &n) < 0)
                return;
        for (size_t i = 0; i < n; i++)
                if (names[i][0] == '.' || is_unused(userdata, names[i]))
                        (void) remove_tree_at(dir_fd, names[i]);
        strings_free(names, n);
}

/* 'userdata': the content; NULL: each credential may be in use. */
static bool credential_is_unused(const void *userdata, const char *name) {
        const InputFileSet *set = userdata;

        for (size_t i = 0; set && i < set->n_credentials; i++)
                if (streq(set->credentials[i].name, name))
                        return false;
        return set;
}

/* 'userdata': the number in force. The one before it may still be read. */
static bool config_is_unused(const void *userdata, const char *name) {
        uint64_t in_force = *(const uint64_t *) userdata, number = config_parse_version(name);

        return number > 0 && number != in_force && number + 1 != in_force;
}

/* Remove what an interrupted put has left, the version before the last, and credentials that 'set' (may be
 * NULL) does not have. Ignore errors: it only uses space. */
static void input_clean(const InputPlaces *p, const char *folder, const InputFileSet *set) {
        uint64_t in_force = config_number(p->config);
        char copy[FILE_TEMPORARY_SIZE];

        file_temporary_name(folder, copy);
        (void) unlinkat(p->copies, copy, 0);
        input_remove_unused(p->credentials, credential_is_unused, set);
        input_remove_unused(p->config, config_is_unused, &in_force);
}

/* -- Put -- */

static int put_stage(const InputPut *put, const InputPlaces *p, Error *err) {
        const InputFolder *f = put->paths;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < put->set.n_credentials; i++)
                r = stage_file_at(p->credentials, put->set.credentials[i].name, put->set.credentials[i].value,
                                  put->set.credentials[i].size, PRIVATE_FILE_MODE);
        if (r < 0)
                return input_failed(r, f->credentials, put->folder, err);
        r = stage_file_at(p->copies, put->folder, put->copy.bytes, put->copy.size, PRIVATE_FILE_MODE);
        if (r < 0)
                return input_failed(r, f->copies, put->folder, err);
        r = config_stage(p->config, &put->set);
        return r < 0 ? input_failed(r, f->config, put->folder, err) : r;
}

static int put_commit(const InputPut *put, const InputPlaces *p, bool config, Error *err) {
        const InputFolder *f = put->paths;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < put->set.n_credentials; i++)
                r = commit_file_at(p->credentials, put->set.credentials[i].name);
        if (r < 0)
                return input_failed(r, f->credentials, put->folder, err);
        r = commit_file_at(p->copies, put->folder);
        if (r < 0)
                return input_failed(r, f->copies, put->folder, err);
        r = config ? config_commit(p->config) : 0;
        return r < 0 ? input_failed(r, f->config, put->folder, err) : 0;
}

static int put_write(const InputPut *put, Error *err) {
        _cleanup_places_ InputPlaces p = PLACES_NONE;
        int r;

        TRY(places_open(put->paths, put->folder, &p, err));
        r = put_stage(put, &p, err);
        if (r >= 0)
                r = atomic_load(&put->cancelled) ? -ECANCELED : put_commit(put, &p, r > 0, err);
        input_clean(&p, put->folder, r >= 0 ? &put->set : NULL);
        return r;
}

static void put_run(void *userdata) {
        InputPut *put = userdata;

        (void) pthread_mutex_lock(&put->lock);
        if (!atomic_load(&put->cancelled))
                put->error = put_write(put, &put->err);
        (void) pthread_mutex_unlock(&put->lock);
}

static InputPut *put_free(InputPut *put) {
        text_done(&put->copy);
        text_done(&put->sealed);
        (void) pthread_mutex_destroy(&put->lock);
        free(put->folder);
        free(put->items);
        free(put);
        return NULL;
}

static void put_on_done(void *userdata) {
        InputPut *put = userdata;

        if (put->owner) {
                put->owner->put = NULL;
                put->done(put->userdata, put->error, put->error < 0 ? error_text(&put->err, put->error) : "");
        }
        put_free(put);
}

/* Copy the content: as its copy on the disk, from which it is read. */
static int put_copy(InputPut *put, const InputFileSet *set) {
        const uint8_t *value;

        put->folder = strdup(set->folder);
        input_copy_write(&put->copy, set);
        for (size_t i = 0; i < set->n_credentials; i++)
                text_append_bytes(&put->sealed, set->credentials[i].value, set->credentials[i].size);
        if (!put->folder || put->copy.error < 0 || put->sealed.error < 0)
                return -ENOMEM;
        if (put->copy.size > INPUT_COPY_MAX)
                return -EFBIG;
        TRY(input_copy_read(put->copy.bytes, put->copy.size, &put->set, &put->items));
        value = put->sealed.bytes;
        for (size_t i = 0; i < set->n_credentials; i++) {
                put->items[i].value = value;
                put->items[i].size = set->credentials[i].size;
                value += set->credentials[i].size;
        }
        return 0;
}

static int folder_put(InputFiles *files, const InputFileSet *set, InputFilesDone *done, void *userdata) {
        InputFolder *f = container_of(files, InputFolder, base);
        InputPut *put = NULL;
        int r;

        assert(!f->put);
        if (!input_folder_is_valid(set->folder))
                return -EINVAL;
        put = NEW0(InputPut, 1);
        if (!put)
                return -ENOMEM;
        put->owner = f;
        put->paths = f;
        put->done = done;
        put->userdata = userdata;
        (void) pthread_mutex_init(&put->lock, NULL); /* cannot fail without attributes */
        put->work = WORK(put_run, put_on_done, put);
        r = put_copy(put, set);
        if (r >= 0)
                r = loop_work(f->loop, &put->work);
        if (r < 0)
                put_free(put);
        else
                f->put = put;
        return r;
}

/* Wait for the work, which ends before its renames or with them, so that nothing is written afterwards. */
static void folder_cancel(InputFiles *files) {
        InputFolder *f = container_of(files, InputFolder, base);
        InputPut *put = TAKE_PTR(f->put);

        if (!put)
                return;
        atomic_store(&put->cancelled, true);
        put->owner = NULL;
        (void) pthread_mutex_lock(&put->lock);
        (void) pthread_mutex_unlock(&put->lock);
}

/* -- Restore, list, remove -- */

static bool credentials_are_there(int credentials_fd, const InputFileSet *set) {
        for (size_t i = 0; i < set->n_credentials; i++)
                if (faccessat(credentials_fd, set->credentials[i].name, F_OK, 0) < 0)
                        return false;
        return true;
}

static int folder_restore(InputFiles *files, const char *folder, InputFileState *ret) {
        InputFolder *f = container_of(files, InputFolder, base);
        _cleanup_free_ char *path = input_join(f->copies, folder), *bytes = NULL;
        _cleanup_places_ InputPlaces p = PLACES_NONE;
        _cleanup_free_ InputFile *items = NULL;
        InputFileSet set;
        size_t size;
        int r;

        if (!path)
                return -ENOMEM;
        if (!input_folder_is_valid(folder))
                return -EINVAL;
        TRY(read_file_at(AT_FDCWD, path, INPUT_COPY_MAX, &bytes, &size));
        TRY(input_copy_read(bytes, size, &set, &items));
        TRY(places_open(f, folder, &p, NULL));
        TRY(credentials_are_there(p.credentials, &set) ? 0 : -ENOENT);
        r = config_stage(p.config, &set);
        if (r > 0)
                r = config_commit(p.config);
        input_clean(&p, folder, NULL);
        if (r < 0)
                return r;
        ret->number = set.number;
        snprintf(ret->digest, sizeof(ret->digest), "%s", set.digest);
        return 0;
}

static int folder_list(InputFiles *files, char ***ret, size_t *ret_n) {
        InputFolder *f = container_of(files, InputFolder, base);
        int r = list_folder_at(AT_FDCWD, f->credentials, NULL, INPUT_FOLDERS_MAX, ret, ret_n);

        if (r == -ENOENT) {
                *ret = NULL;
                *ret_n = 0;
        }
        return r == -ENOENT ? 0 : r;
}

static int folder_remove(InputFiles *files, const char *folder) {
        InputFolder *f = container_of(files, InputFolder, base);
        const char *const roots[] = { f->copies, f->config, f->credentials };

        if (!input_folder_is_valid(folder))
                return -EINVAL;
        for (size_t i = 0; i < ELEMENTS(roots); i++) {
                _cleanup_free_ char *path = input_join(roots[i], folder);

                TRY(path ? remove_tree_at(AT_FDCWD, path) : -ENOMEM);
        }
        return 0;
}

/* -- */

InputFiles *input_folder_free(InputFiles *files) {
        InputFolder *f = files ? container_of(files, InputFolder, base) : NULL;

        if (!f)
                return NULL;
        folder_cancel(files);
        free(f->credentials);
        free(f->config);
        free(f->copies);
        free(f);
        return NULL;
}

int input_folder_new(InputFiles **ret, Loop *loop, const char *credentials, const char *config,
                     const char *copies) {
        static const InputFilesOps ops = { folder_put, folder_cancel, folder_restore, folder_list,
                                           folder_remove };
        InputFolder *f = NEW0(InputFolder, 1);

        if (!f)
                return -ENOMEM;
        f->base.ops = &ops;
        f->loop = loop;
        f->credentials = strdup(credentials);
        f->config = strdup(config);
        f->copies = strdup(copies);
        *ret = f->credentials && f->config && f->copies ? &f->base : input_folder_free(&f->base);
        return *ret ? 0 : -ENOMEM;
}
