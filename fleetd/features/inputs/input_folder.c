/* The files of contents on the disk.
 *
 * A put writes all beside what is in force: credentials, copy, environment and link under hidden names, files
 * in a new folder vN. What fails for lack of space fails then, and the former content stays. Only renames
 * follow. A crash between them leaves credentials of the new content, or these and its copy, which the next
 * daemon restores: the copy has the N to which the link leads when all is in force. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parse.h"
#include "fleetd/features/inputs/content_bytes.h"

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
        bool putting;                        /* a put is in flight */
        bool ended;                          /* freed when that has ended */
} InputFolder;

typedef struct InputPut {
        InputFolder *owner;
        char *folder;   /* owned */
        InputCopy copy; /* its lists and 'environment' are borrowed */
        Writer bytes;   /* of the copy */
        ContentItem environment;
        Work work;
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
static char *input_join(const char *folder, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* Open the folder of a unit below 'root', both with this mode under any umask. */
static int places_open_one(const char *root, const char *folder, mode_t mode) {
        _cleanup_free_ char *path = input_join(root, folder);
        _cleanup_close_ int fd = path ? open_dir(path, mode) : -ENOMEM;

        if (fd < 0)
                return fd;
        return fchmod(fd, mode) < 0 || fchmodat(fd, "..", mode, 0) < 0 ? -errno : TAKE_FD(fd);
}

/* The folder of credentials is made first and removed last: list() lists it. *ret_root: what has failed. */
static int places_open(const InputFolder *f, const char *folder, InputPlaces *ret, const char **ret_root) {
        *ret_root = f->credentials;
        ret->credentials = TRY(places_open_one(f->credentials, folder, PRIVATE_MODE));
        *ret_root = f->config;
        ret->config = TRY(places_open_one(f->config, folder, CONFIG_MODE));
        *ret_root = f->copies;
        ret->copies = TRY(open_dir(f->copies, PRIVATE_MODE));
        return 0;
}

/* -- Configuration -- */

static const char *config_version(uint64_t number, char ret[static VERSION_SIZE]) {
        snprintf(ret, VERSION_SIZE, "v%llu", (unsigned long long) number);
        return ret;
}

/* Return N of the folder vN in force; 0: none. */
static uint64_t config_number(int config_fd) {
        char target[VERSION_SIZE];
        ssize_t n = readlinkat(config_fd, CURRENT, target, sizeof(target) - 1);
        uint64_t number;

        target[MAX(n, 0)] = 0;
        return target[0] == 'v' && parse_u64(target + 1, &number) >= 0 ? number : 0;
}

static int config_make_folder(int config_fd, const char *path) {
        if (mkdirat(config_fd, path, CONFIG_MODE) < 0 && errno != EEXIST)
                return -errno;
        return fchmodat(config_fd, path, CONFIG_MODE, 0) < 0 ? -errno : 0;
}

static int config_write_file(int config_fd, const char *version, const ContentItem *file) {
        _cleanup_free_ char *path = input_join(version, file->name);

        if (!path)
                return -ENOMEM;
        for (char *end = path; (end = strchr(end, '/')); *end++ = '/') {
                *end = 0;
                TRY(config_make_folder(config_fd, path));
        }
        return write_file_at(config_fd, path, file->value, file->size, CONFIG_FILE_MODE);
}

/* -- Put -- */

typedef enum PutStep { PUT_STAGE, PUT_COMMIT, PUT_ABANDON } PutStep;

static int put_file(PutStep step, int dir_fd, const char *name, const void *bytes, size_t size) {
        char temporary[FILE_TEMPORARY_SIZE];

        if (step == PUT_STAGE)
                return stage_file_at(dir_fd, name, bytes, size, PRIVATE_FILE_MODE);
        if (step == PUT_COMMIT)
                return commit_file_at(dir_fd, name);
        file_temporary_name(name, temporary);
        (void) unlinkat(dir_fd, temporary, 0);
        return 0;
}

/* The folder vN, which nothing names before, environment and link. */
static int put_config(PutStep step, int config_fd, uint64_t number, const Content *c) {
        char version[VERSION_SIZE], link[FILE_TEMPORARY_SIZE];

        for (size_t i = 0; i < c->n_variables; i++)
                TRY(put_file(step, config_fd, ENVIRONMENT, c->variables[i].value, c->variables[i].size));
        if (step == PUT_COMMIT) {
                TRY(commit_file_at(config_fd, CURRENT));
                /* The one before may still be read. */
                return number > 2 ? remove_tree_at(config_fd, config_version(number - 2, version)) : 0;
        }
        TRY(remove_tree_at(config_fd, config_version(number, version)));
        (void) put_file(PUT_ABANDON, config_fd, CURRENT, NULL, 0);
        if (step == PUT_ABANDON)
                return 0;
        TRY(config_make_folder(config_fd, version));
        for (size_t i = 0; i < c->n_files; i++)
                TRY(config_write_file(config_fd, version, &c->files[i]));
        file_temporary_name(CURRENT, link);
        return symlinkat(version, config_fd, link) < 0 ? -errno : 0;
}

/* Perform a step for all files of a content. *ret_root: what has failed. */
static int put_all(const InputPut *put, PutStep step, const InputPlaces *p, const char **ret_root) {
        const Content *c = &put->copy.content;

        *ret_root = put->owner->credentials;
        for (size_t i = 0; i < c->n_credentials; i++)
                TRY(put_file(step, p->credentials, c->credentials[i].name, c->credentials[i].value,
                             c->credentials[i].size));
        *ret_root = put->owner->copies;
        TRY(put_file(step, p->copies, put->folder, put->bytes.bytes, put->bytes.size));
        *ret_root = put->owner->config;
        return put_config(step, p->config, put->copy.version, c);
}

static int put_write(InputPut *put, const char **ret_root) {
        _cleanup_places_ InputPlaces p = PLACES_NONE;
        const char *unused;
        int r;

        TRY(places_open(put->owner, put->folder, &p, ret_root));
        put->copy.version = config_number(p.config) + 1;
        input_copy_write(&put->copy, &put->bytes);
        TRY(put->bytes.error);
        r = put_all(put, PUT_STAGE, &p, ret_root);
        if (r < 0) {
                (void) put_all(put, PUT_ABANDON, &p, &unused);
                return r;
        }
        return put_all(put, PUT_COMMIT, &p, ret_root);
}

static void put_run(void *userdata) {
        InputPut *put = userdata;
        const char *root = "";

        put->error = put_write(put, &root);
        if (put->error < 0)
                (void) error_set(&put->err, put->error, "Failed to write %s/%s: %s", root, put->folder,
                                 strerror(-put->error));
}

static InputPut *put_free(InputPut *put) {
        text_done(&put->bytes);
        free(put->folder);
        free(put);
        return NULL;
}

static void put_on_done(void *userdata) {
        InputPut *put = userdata;
        InputFolder *f = put->owner;

        f->putting = false;
        put->done(put->userdata, put->error, put->error < 0 ? error_text(&put->err, put->error) : "");
        put_free(put);
        if (f->ended)
                input_folder_free(&f->base);
}

static int folder_put(InputFiles *files, const InputFileSet *set, InputFilesDone *done, void *userdata) {
        InputFolder *f = container_of(files, InputFolder, base);
        InputPut *put = NEW0(InputPut, 1);
        Content *c;
        int r;

        assert(!f->putting);
        if (!put)
                return -ENOMEM;
        put->owner = f;
        put->folder = strdup(set->folder);
        put->done = done;
        put->userdata = userdata;
        put->environment = (ContentItem) { ENVIRONMENT, set->environment, strlen(set->environment) };
        put->copy.number = set->number;
        c = &put->copy.content;
        *c = (Content) { .credentials = (ContentItem *) set->credentials,
                         .variables = &put->environment,
                         .files = (ContentItem *) set->files,
                         .n_credentials = set->n_credentials,
                         .n_variables = 1,
                         .n_files = set->n_files };
        snprintf(c->digest, sizeof(c->digest), "%s", set->digest);
        put->work = WORK(put_run, put_on_done, put);
        r = put->folder ? loop_work(f->loop, &put->work) : -ENOMEM;
        f->putting = r >= 0;
        if (r < 0)
                put_free(put);
        return r;
}

/* -- Restore, list, remove -- */

static bool config_has(int config_fd, const char *name) {
        return faccessat(config_fd, name, F_OK, 0) == 0;
}

static bool folder_check(InputFiles *files, const char *folder, const Names *credentials) {
        const InputFolder *f = container_of(files, InputFolder, base);
        _cleanup_free_ char *config = input_join(f->config, folder);
        _cleanup_close_ int config_fd = config ? open(config, O_PATH | O_DIRECTORY | O_CLOEXEC) : -ENOMEM;
        bool complete = config_fd >= 0 && config_has(config_fd, CURRENT "/.") &&
                        config_has(config_fd, ENVIRONMENT);

        for (size_t i = 0; i < credentials->n && complete; i++) {
                _cleanup_free_ char *path = NULL;

                complete = asprintf(&path, "%s/%s/%s", f->credentials, folder, credentials->items[i]) >= 0 &&
                           access(path, F_OK) == 0;
        }
        return complete;
}

static int restore_config(const InputPut *put, const InputPlaces *p) {
        const Content *c = &put->copy.content;
        InputPut next = *put;
        const char *unused;

        for (size_t i = 0; i < c->n_credentials; i++)
                if (faccessat(p->credentials, c->credentials[i].name, F_OK, 0) < 0)
                        return -errno;
        next.copy.version++;
        (void) put_all(&next, PUT_ABANDON, p, &unused); /* an interrupted put */
        if (config_number(p->config) != put->copy.version || !config_has(p->config, CURRENT "/.")) {
                TRY(put_config(PUT_STAGE, p->config, put->copy.version, c));
                return put_config(PUT_COMMIT, p->config, put->copy.version, c);
        }
        /* A unit that runs may be reading the other files. */
        for (PutStep step = PUT_STAGE; step <= PUT_COMMIT && !config_has(p->config, ENVIRONMENT); step++)
                TRY(put_file(step, p->config, ENVIRONMENT, c->variables[0].value, c->variables[0].size));
        return 0;
}

static int folder_restore(InputFiles *files, const char *folder, InputFileState *ret) {
        InputPut put = { .owner = container_of(files, InputFolder, base), .folder = (char *) folder };
        _cleanup_places_ InputPlaces p = PLACES_NONE;
        _cleanup_free_ char *path = input_join(put.owner->copies, folder), *bytes = NULL;
        const char *unused;
        size_t size;
        int r;

        TRY(path ? read_file_at(AT_FDCWD, path, CONTENT_BYTES_MAX, &bytes, &size) : -ENOMEM);
        TRY(places_open(put.owner, folder, &p, &unused));
        TRY(input_copy_read(bytes, size, &put.copy));
        r = restore_config(&put, &p);
        if (r == 0) {
                ret->number = put.copy.number;
                snprintf(ret->digest, sizeof(ret->digest), "%s", put.copy.content.digest);
        }
        content_done(&put.copy.content);
        return r;
}

static int folder_list(InputFiles *files, char ***ret, size_t *ret_n) {
        return list_folder_at(AT_FDCWD, container_of(files, InputFolder, base)->credentials, NULL,
                              INPUT_FOLDERS_MAX, ret, ret_n);
}

static int folder_remove(InputFiles *files, const char *folder) {
        InputFolder *f = container_of(files, InputFolder, base);
        const char *const roots[] = { f->copies, f->config, f->credentials };

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
        f->ended = true;
        if (f->putting)
                return NULL;
        free(f->credentials);
        free(f->config);
        free(f->copies);
        free(f);
        return NULL;
}

int input_folder_new(InputFiles **ret, Loop *loop, const char *credentials, const char *config,
                     const char *copies) {
        static const InputFilesOps ops = { folder_put, folder_check, folder_restore, folder_list,
                                           folder_remove };
        InputFolder *f = NEW0(InputFolder, 1);

        if (!f)
                return -ENOMEM;
        *f = (InputFolder) { .base.ops = &ops,
                             .loop = loop,
                             .credentials = strdup(credentials),
                             .config = strdup(config),
                             .copies = strdup(copies) };
        *ret = f->credentials && f->config && f->copies ? &f->base : input_folder_free(&f->base);
        return *ret ? 0 : -ENOMEM;
}
