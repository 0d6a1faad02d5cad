#include "fleetd/identity/key_file.h"

#include <fcntl.h>

#define KEY_FILE_HEAD "fleet cluster keys "
#define KEY_FILE_END  "end"
enum { KEY_FILE_VERSION = 1, KEY_FILE_DIGITS = 2 * SEAL_KEY_BYTES };

void key_file_wipe(KeyFile *f) {
        explicit_bzero(f, sizeof(*f));
}

static void key_file_wipe_text(char *text, size_t size) {
        if (text)
                explicit_bzero(text, size);
        free(text);
}

/* -- The text -- */

/* Read "key NUMBER HEX" into the next key. Numbers rise. */
static bool key_file_parse_key(char *line, KeyFile *f) {
        ClusterKey *key = &f->keys[f->n];
        char *digits = starts_with(line, "key ") ? strchr(line + 4, ' ') : NULL;

        if (!digits || f->n == KEY_FILE_KEYS_MAX)
                return false;
        *digits++ = 0;
        if (parse_u64(line + 4, &key->number) < 0 || key->number == 0 ||
            (f->n > 0 && key->number <= key[-1].number) || strlen(digits) != KEY_FILE_DIGITS ||
            hex_read(digits, key->bytes, SEAL_KEY_BYTES) < 0)
                return false;
        f->n++;
        return true;
}

static int key_file_parse_lines(char *text, KeyFile *f) {
        char *line = strsep(&text, "\n");
        uint64_t version;

        if (!starts_with(line, KEY_FILE_HEAD) || parse_u64(line + strlen(KEY_FILE_HEAD), &version) < 0)
                return -EBADMSG;
        if (version > KEY_FILE_VERSION)
                return -ENOTSUP;
        line = strsep(&text, "\n");
        if (!line || !starts_with(line, "cluster ") || strlen(line) != 8 + 16 ||
            parse_hex_id(line + 8, 16) < 0)
                return -EBADMSG;
        f->cluster_id = strtoull(line + 8, NULL, 16);
        while ((line = strsep(&text, "\n")) && !streq(line, KEY_FILE_END))
                if (!key_file_parse_key(line, f))
                        return -EBADMSG;
        return line && text && !*text && f->n > 0 && f->cluster_id != 0 ? 0 : -EBADMSG;
}

int key_file_parse(const char *text, size_t size, KeyFile *ret) {
        _cleanup_key_file_ KeyFile f = {};
        char *copy;
        int r = -EBADMSG;

        if (size == 0 || size > KEY_FILE_MAX)
                return -EBADMSG;
        /* Not strndup(): with a NUL in the text, its copy would be shorter than what is wiped. */
        copy = malloc(size + 1);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, text, size);
        copy[size] = 0;
        if (strlen(copy) == size)
                r = key_file_parse_lines(copy, &f);
        key_file_wipe_text(copy, size);
        if (r == 0)
                *ret = f;
        return r;
}

static void key_file_print(Text *t, const KeyFile *f) {
        char digits[KEY_FILE_DIGITS + 1];

        text_printf(t, KEY_FILE_HEAD "%d\ncluster %016llx\n", KEY_FILE_VERSION,
                    (unsigned long long) f->cluster_id);
        for (size_t i = 0; i < f->n; i++) {
                hex_print(f->keys[i].bytes, SEAL_KEY_BYTES, digits);
                text_printf(t, "key %llu %s\n", (unsigned long long) f->keys[i].number, digits);
        }
        explicit_bzero(digits, sizeof(digits));
        text_append(t, KEY_FILE_END "\n");
}

/* -- The file -- */

int key_file_read(const char *file, KeyFile *ret, Error *err) {
        char *text = NULL;
        size_t size = 0;
        int r;

        r = read_file_at(AT_FDCWD, file, KEY_FILE_MAX, &text, &size);
        if (r < 0)
                return r == -EFBIG ?
                               error_set(err, r,
                                         "%s is no file of fleetctl backup --cluster-key: it is too large",
                                         file) :
                               error_set(err, r, "Failed to read %s: %s", file, strerror(-r));
        r = key_file_parse(text, size, ret);
        key_file_wipe_text(text, size);
        if (r == -ENOTSUP)
                return error_set(err, r, "%s was written by a newer fleetd; upgrade this host", file);
        return r < 0 ? error_set(err, r,
                                 "%s is no file of fleetctl backup --cluster-key, or truncated; use "
                                 "another copy",
                                 file) :
                       0;
}

static int key_file_write_all(int fd, const Text *t) {
        TRY(pwrite_all(fd, t->chars, t->size, 0));
        return fsync(fd) < 0 ? -errno : 0;
}

static int key_file_sync_folder(const char *file) {
        const char *slash = strrchr(file, '/');
        _cleanup_free_ char *folder = slash ? strndup(file, slash == file ? 1 : (size_t) (slash - file)) :
                                              strdup(".");
        _cleanup_close_ int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

        if (!folder)
                return -ENOMEM;
        return fd < 0 ? -errno : fsync_dir(fd);
}

int key_file_write(const char *file, const KeyFile *f, Error *err) {
        _cleanup_close_ int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        Text t = {};
        int r;

        if (fd < 0 && errno == EEXIST)
                return error_set(err, -EEXIST,
                                 "%s exists: cluster keys do not replace a file; choose another name", file);
        if (fd < 0)
                return error_set(err, -errno, "Failed to create %s: %s", file, strerror(errno));
        key_file_print(&t, f);
        r = t.error ?: key_file_write_all(fd, &t);
        if (t.chars)
                explicit_bzero(t.chars, t.size);
        text_done(&t);
        if (r >= 0)
                r = key_file_sync_folder(file);
        if (r >= 0)
                return 0;
        (void) unlink(file);
        return error_set(err, r, "Failed to write %s: %s", file, strerror(-r));
}

/* -- The keys of a host -- */

static int key_file_read_key(const char *state_directory, uint64_t number, KeyFileOpen *open, ClusterKey *ret,
                             Error *err) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};

        TRY(cluster_key_file_read(state_directory, number, &file, err));
        if (file.form != SEAL_WITH_NO)
                return open(&file, ret, err);
        *ret = file.key;
        return 0;
}

int key_file_collect(const char *state_directory, KeyFileOpen *open, KeyFile *ret, Error *err) {
        _cleanup_key_file_ KeyFile f = {};
        _cleanup_free_ uint64_t *numbers = NULL;
        size_t n = 0;

        TRY(cluster_key_list(state_directory, &numbers, &n, err));
        if (n > KEY_FILE_KEYS_MAX)
                return error_set(err, -E2BIG, "%s/secrets has more than %d cluster keys", state_directory,
                                 KEY_FILE_KEYS_MAX);
        if (n == 0)
                return error_set(err, -ENOENT,
                                 "this host has no cluster key: run the command on a voter or standby; a "
                                 "cluster without certificates has none");
        for (; f.n < n; f.n++)
                TRY(key_file_read_key(state_directory, numbers[f.n], open, &f.keys[f.n], err));
        *ret = f;
        return 0;
}

int key_file_store(const KeyFile *f, const char *state_directory, KeyFileOpen *open, Error *err) {
        int r = 0;

        for (size_t i = 0; i < f->n; i++) {
                _cleanup_cluster_key_ ClusterKey own = {};

                r = key_file_read_key(state_directory, f->keys[i].number, open, &own, err);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r >= 0 && memcmp(own.bytes, f->keys[i].bytes, sizeof(own.bytes)) != 0)
                        return error_set(
                                err, -EEXIST,
                                "%s/secrets/key.%llu is the key of another cluster, or of another time: "
                                "move the folder secrets away, and repeat the command",
                                state_directory, (unsigned long long) own.number);
        }
        for (size_t i = 0; i < f->n; i++)
                TRY(cluster_key_write(state_directory, &f->keys[i], err));
        return 0;
}
