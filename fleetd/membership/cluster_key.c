#include "fleetd/membership/cluster_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

static int cluster_key_open(const char *state_directory) {
        char path[KEY_PATH_SIZE];

        if (snprintf(path, sizeof(path), "%s/" FOLDER, state_directory) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        return open_dir(path, 0700);
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

int cluster_key_read(const char *state_directory, uint64_t number, ClusterKey *ret, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory);
        _cleanup_cluster_key_ ClusterKey key = { .number = number };
        char name[KEY_NAME_SIZE], *text = NULL;
        struct stat st;
        size_t size = 0;
        bool valid;
        int r;

        if (fd < 0)
                return cluster_key_failed(err, fd, "open", state_directory, number);
        snprintf(name, sizeof(name), "key.%llu", (unsigned long long) number);
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
        _cleanup_close_ int fd = cluster_key_open(state_directory);
        char name[KEY_NAME_SIZE], text[KEY_DIGITS + 2];
        int r = fd;

        snprintf(name, sizeof(name), "key.%llu", (unsigned long long) key->number);
        for (size_t i = 0; i < SEAL_KEY_BYTES; i++)
                snprintf(text + 2 * i, 3, "%02x", key->bytes[i]);
        text[KEY_DIGITS] = '\n';
        if (fd >= 0)
                r = write_file_at(fd, name, text, KEY_DIGITS + 1, 0600);
        explicit_bzero(text, sizeof(text));
        return r < 0 ? cluster_key_failed(err, r, "write", state_directory, key->number) : 0;
}

int cluster_key_delete_below(const char *state_directory, uint64_t first, Error *err) {
        _cleanup_close_ int fd = cluster_key_open(state_directory);
        char **names = NULL;
        uint64_t number = 0;
        size_t n = 0;
        int r = fd;

        if (fd >= 0)
                r = list_folder_at(fd, ".", "", KEY_FILES_MAX, &names, &n);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                if (!starts_with(names[i], KEY_PREFIX) ||
                    parse_u64(names[i] + strlen(KEY_PREFIX), &number) < 0 || number >= first)
                        continue;
                r = unlinkat(fd, names[i], 0) < 0 ? -errno : fsync_dir(fd);
        }
        strings_free(names, n);
        return r < 0 ? cluster_key_failed(err, r, "delete", state_directory, number) : 0;
}
