#include "fleetd/identity/cluster_key.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FOLDER      "secrets"
#define KEY_PREFIX  "key."

#define SEALED_HEAD "fleet sealed cluster key "

enum {
        KEY_DIGITS = 2 * SEAL_KEY_BYTES,
        KEY_NAME_SIZE = 32,
        KEY_HEAD_MAX = 64,
        KEY_PATH_SIZE = 4096,
        KEY_FILES_MAX = 1000,
        SEALED_VERSION = 1,
};

void cluster_key_wipe(ClusterKey *key) {
        explicit_bzero(key, sizeof(*key));
}

static int cluster_key_failed(Error *err, int error, const char *action, const char *state_directory,
                              uint64_t number) {
        return error_set(err, error, "Failed to %s the cluster key %s/" FOLDER "/key.%llu: %s", action,
                         state_directory, (unsigned long long) number, strerror(-error));
}

/* A reader does not create the folder: a copy of it that an operator moves back would then be inside it. */
static int cluster_key_open(const char *state_directory, bool create) {
        char path[KEY_PATH_SIZE];
        int fd;

        if (snprintf(path, sizeof(path), "%s/" FOLDER, state_directory) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        if (create)
                return open_dir(path, 0700);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static void cluster_key_name(uint64_t number, char ret[static KEY_NAME_SIZE]) {
        snprintf(ret, KEY_NAME_SIZE, KEY_PREFIX "%llu", (unsigned long long) number);
}

/* Read the number of a file's name; false: another file, as a copy that a person has made. */
static bool cluster_key_number(const char *name, uint64_t *ret) {
        char own[KEY_NAME_SIZE];

        if (!starts_with(name, KEY_PREFIX) || parse_u64(name + strlen(KEY_PREFIX), ret) < 0 || *ret == 0)
                return false;
        cluster_key_name(*ret, own);
        return streq(own, name);
}

bool cluster_key_parse(const char *text, size_t size, uint8_t ret[static SEAL_KEY_BYTES]) {
        return size == CLUSTER_KEY_TEXT && text[KEY_DIGITS] == '\n' &&
               hex_read(text, ret, SEAL_KEY_BYTES) == 0;
}

void cluster_key_print(const ClusterKey *key, char ret[static CLUSTER_KEY_TEXT + 1]) {
        hex_print(key->bytes, SEAL_KEY_BYTES, ret);
        memcpy(ret + KEY_DIGITS, "\n", 2);
}

/* Read the head of a sealed key, "fleet sealed cluster key 1 FORM". */
static int cluster_key_parse_head(const char *text, size_t size, ClusterKeyFile *ret) {
        const char *end = memchr(text, '\n', MIN(size, (size_t) KEY_HEAD_MAX));
        char head[KEY_HEAD_MAX];
        char *form;
        uint64_t version;

        if (!end || !starts_with(text, SEALED_HEAD))
                return -EBADMSG;
        snprintf(head, sizeof(head), "%.*s", (int) (end - text), text);
        form = strchr(head + strlen(SEALED_HEAD), ' ');
        if (form)
                *form++ = 0;
        if (parse_u64(head + strlen(SEALED_HEAD), &version) < 0)
                return -EBADMSG;
        if (version > SEALED_VERSION)
                return -ENOTSUP;
        ret->form = form ? seal_with_from_string(form) : _SEAL_WITH_INVALID;
        ret->head_size = (size_t) (end + 1 - text);
        return (int) ret->form > SEAL_WITH_NO && size > ret->head_size ? 0 : -EBADMSG;
}

int cluster_key_file_parse(const char *text, size_t size, ClusterKeyFile *ret) {
        if (cluster_key_parse(text, size, ret->key.bytes)) {
                ret->form = SEAL_WITH_NO;
                return 0;
        }
        return cluster_key_parse_head(text, size, ret);
}

void cluster_key_file_done(ClusterKeyFile *f) {
        if (f->text)
                explicit_bzero(f->text, f->size);
        free(f->text);
        explicit_bzero(f, sizeof(*f));
}

static int cluster_key_compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

int cluster_key_list(const char *state_directory, uint64_t **ret, size_t *ret_n, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, false);
        _cleanup_free_ uint64_t *numbers = NULL;
        char **names = NULL;
        size_t n_names = 0, n = 0;
        int r = fd;

        if (fd >= 0)
                r = list_folder_at(fd, ".", "", KEY_FILES_MAX, &names, &n_names);
        if (r < 0 && r != -ENOENT)
                return error_set(err, r, "Failed to read %s/" FOLDER ": %s", state_directory, strerror(-r));
        numbers = NEW0(uint64_t, n_names + 1);
        for (size_t i = 0; numbers && i < n_names; i++)
                n += cluster_key_number(names[i], &numbers[n]);
        strings_free(names, n_names);
        if (!numbers)
                return error_set(err, -ENOMEM, "out of memory");
        qsort(numbers, n, sizeof(*numbers), cluster_key_compare);
        *ret = TAKE_PTR(numbers);
        *ret_n = n;
        return 0;
}

int cluster_key_file_read(const char *state_directory, uint64_t number, ClusterKeyFile *ret, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, false);
        _cleanup_cluster_key_file_ ClusterKeyFile file = { .key.number = number };
        char name[KEY_NAME_SIZE];
        struct stat st;
        int r;

        if (fd < 0)
                return cluster_key_failed(err, fd, "open", state_directory, number);
        cluster_key_name(number, name);
        r = file_stamp_at(fd, name, &file.stamp);
        if (r >= 0)
                r = read_file_at(fd, name, CLUSTER_KEY_FILE_MAX, &file.text, &file.size);
        if (r < 0)
                return cluster_key_failed(err, r, "read", state_directory, number);
        r = cluster_key_file_parse(file.text, file.size, &file);
        if (r == -ENOTSUP)
                return error_set(err, r, "%s/" FOLDER "/%s was written by a newer fleetd; upgrade this host",
                                 state_directory, name);
        if (r < 0)
                return error_set(err, r, "%s/" FOLDER "/%s is not a cluster key", state_directory, name);
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid != geteuid() || (st.st_mode & 077))
                return error_set(err, -EPERM,
                                 "others have access to %s/" FOLDER
                                 "/%s: chmod 600 it; its content may be known",
                                 state_directory, name);
        *ret = file;
        file = (ClusterKeyFile) {};
        return 0;
}

int cluster_key_stamp(const char *state_directory, uint64_t number, FileStamp *ret, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, false);
        char name[KEY_NAME_SIZE];
        int r = fd;

        cluster_key_name(number, name);
        if (fd >= 0)
                r = file_stamp_at(fd, name, ret);
        return r < 0 ? cluster_key_failed(err, r, "read", state_directory, number) : 0;
}

int cluster_key_read(const char *state_directory, uint64_t number, ClusterKey *ret, Error *err) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};

        TRY(cluster_key_file_read(state_directory, number, &file, err));
        if (file.form != SEAL_WITH_NO)
                return error_set(err, -ENOKEY, "%s/" FOLDER "/" KEY_PREFIX "%llu is sealed", state_directory,
                                 (unsigned long long) number);
        *ret = file.key;
        return 0;
}

static int cluster_key_write_text(const char *state_directory, uint64_t number, const void *text, size_t size,
                                  Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, true);
        char name[KEY_NAME_SIZE];
        int r = fd;

        cluster_key_name(number, name);
        if (fd >= 0)
                r = write_file_at(fd, name, text, size, 0600);
        return r < 0 ? cluster_key_failed(err, r, "write", state_directory, number) : 0;
}

int cluster_key_write(const char *state_directory, const ClusterKey *key, Error *err) {
        char text[CLUSTER_KEY_TEXT + 1];
        int r;

        cluster_key_print(key, text);
        r = cluster_key_write_text(state_directory, key->number, text, CLUSTER_KEY_TEXT, err);
        explicit_bzero(text, sizeof(text));
        return r;
}

int cluster_key_write_sealed(const char *state_directory, uint64_t number, SealWith form, const void *sealed,
                             size_t size, Error *err) {
        _cleanup_text_ Text t = {};

        text_printf(&t, SEALED_HEAD "%d %s\n", SEALED_VERSION, seal_with_to_string(form));
        text_append_bytes(&t, sealed, size);
        if (t.error)
                return error_set(err, -ENOMEM, "out of memory");
        return cluster_key_write_text(state_directory, number, t.bytes, t.size, err);
}

void cluster_key_sealed_name(uint64_t number, char ret[static CLUSTER_KEY_SEALED_NAME]) {
        snprintf(ret, CLUSTER_KEY_SEALED_NAME, "fleet-cluster-key.%llu", (unsigned long long) number);
}

int cluster_key_delete_below(const char *state_directory, uint64_t first, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, false);
        _cleanup_free_ uint64_t *numbers = NULL;
        char name[KEY_NAME_SIZE];
        size_t n = 0;
        int r;

        r = cluster_key_list(state_directory, &numbers, &n, err);
        for (size_t i = 0; r >= 0 && i < n && numbers[i] < first; i++) {
                _cleanup_cluster_key_file_ ClusterKeyFile file = {};

                if (cluster_key_file_read(state_directory, numbers[i], &file, NULL) < 0)
                        continue;
                cluster_key_name(numbers[i], name);
                if (unlinkat(fd, name, 0) < 0)
                        return cluster_key_failed(err, -errno, "delete", state_directory, numbers[i]);
                r = fsync_dir(fd);
        }
        return r;
}
