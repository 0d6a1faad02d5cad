#include "fleetd/membership/cluster_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parse.h"

#define FOLDER     "secrets"
#define KEY_PREFIX "key."

enum { KEY_DIGITS = 2 * SEAL_KEY_BYTES, KEY_NAME_SIZE = 32, KEY_PATH_SIZE = 4096, KEY_FILES_MAX = 1000 };

void cluster_key_wipe(ClusterKey *key) {
        explicit_bzero(key, sizeof(*key));
}

static int cluster_key_failed(Error *err, int error, const char *action, const char *state_directory,
                              uint64_t number) {
        return error_set(err, error, "Failed to %s the cluster key %s/" FOLDER "/key.%llu: %s", action,
                         state_directory, (unsigned long long) number, strerror(-error));
}

/* A reader does not create the folder: one that is away for a while would return inside of it. */
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

/* Read the number of a file's name; false: another file, as a copy that a person has made. */
static bool cluster_key_number(const char *name, uint64_t *ret) {
        char own[KEY_NAME_SIZE];

        if (!starts_with(name, KEY_PREFIX) || parse_u64(name + strlen(KEY_PREFIX), ret) < 0 || *ret == 0)
                return false;
        snprintf(own, sizeof(own), KEY_PREFIX "%llu", (unsigned long long) *ret);
        return streq(own, name);
}

/* Read 64 hex digits and a newline. */
static bool cluster_key_parse(const char *text, size_t size, uint8_t ret[static SEAL_KEY_BYTES]) {
        if (size != KEY_DIGITS + 1 || text[KEY_DIGITS] != '\n')
                return false;
        for (size_t i = 0; i < SEAL_KEY_BYTES; i++) {
                int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return false;
                ret[i] = (uint8_t) (high << 4 | low);
        }
        return true;
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

int cluster_key_read(const char *state_directory, uint64_t number, ClusterKey *ret, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, false);
        _cleanup_cluster_key_ ClusterKey key = { .number = number };
        char name[KEY_NAME_SIZE], *text = NULL;
        struct stat st;
        size_t size = 0;
        bool valid;
        int r;

        if (fd < 0)
                return cluster_key_failed(err, fd, "open", state_directory, number);
        snprintf(name, sizeof(name), KEY_PREFIX "%llu", (unsigned long long) number);
        r = read_file_at(fd, name, KEY_DIGITS + 1, &text, &size);
        if (r < 0)
                return cluster_key_failed(err, r, "read", state_directory, number);
        valid = cluster_key_parse(text, size, key.bytes);
        explicit_bzero(text, size);
        free(text);
        if (!valid)
                return error_set(err, -EBADMSG, "%s/" FOLDER "/%s is not a cluster key", state_directory,
                                 name);
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid != geteuid() || (st.st_mode & 077))
                return error_set(err, -EPERM,
                                 "others have access to %s/" FOLDER
                                 "/%s: chmod 600 it; its content may be known",
                                 state_directory, name);
        *ret = key;
        return 0;
}

int cluster_key_write(const char *state_directory, const ClusterKey *key, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, true);
        char name[KEY_NAME_SIZE], text[KEY_DIGITS + 2];
        int r = fd;

        snprintf(name, sizeof(name), KEY_PREFIX "%llu", (unsigned long long) key->number);
        for (size_t i = 0; i < SEAL_KEY_BYTES; i++)
                snprintf(text + 2 * i, 3, "%02x", key->bytes[i]);
        text[KEY_DIGITS] = '\n';
        if (fd >= 0)
                r = write_file_at(fd, name, text, KEY_DIGITS + 1, 0600);
        explicit_bzero(text, sizeof(text));
        return r < 0 ? cluster_key_failed(err, r, "write", state_directory, key->number) : 0;
}

int cluster_key_delete_below(const char *state_directory, uint64_t first, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory, false);
        _cleanup_free_ uint64_t *numbers = NULL;
        char name[KEY_NAME_SIZE];
        size_t n = 0;
        int r;

        r = cluster_key_list(state_directory, &numbers, &n, err);
        for (size_t i = 0; r >= 0 && i < n && numbers[i] < first; i++) {
                _cleanup_cluster_key_ ClusterKey key = {};

                if (cluster_key_read(state_directory, numbers[i], &key, NULL) < 0)
                        continue;
                snprintf(name, sizeof(name), KEY_PREFIX "%llu", (unsigned long long) numbers[i]);
                if (unlinkat(fd, name, 0) < 0)
                        return cluster_key_failed(err, -errno, "delete", state_directory, numbers[i]);
                r = fsync_dir(fd);
        }
        return r;
}
