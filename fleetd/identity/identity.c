#include "fleetd/identity/identity.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parse.h"
#include "fleetd/identity/cluster_file.h"

#define CURRENT     "identity"
#define NEXT        "identity.new"
#define KEY         "key"
#define KEY_NEXT    "key.next"
#define CERTIFICATE "certificate.pem"
#define ROOTS       "roots.pem"
#define ENTERING    "entering"
#define LEAVING     "leaving" /* of the state directory, as the next one */
#define CLUSTER     "cluster"
#define SECRETS     "secrets" /* cluster_key.c */
#define REQUIRED    "certificates"
#define OLD         "old"
#define OLD_NEXT    "old.new" /* becomes old/N when all that a join replaces is in it */

enum { OLD_MAX = 1000 };

void identity_wipe(char *text) {
        if (text)
                explicit_bzero(text, strlen(text));
        free(text);
}

void identity_done(HostIdentity *identity) {
        identity_wipe(identity->key);
        free(identity->certificate);
        free(identity->roots);
        *identity = (HostIdentity) {};
}

static int identity_failed(Error *err, int error, const char *action, const char *state_directory,
                           const char *name) {
        return error_set(err, error, "Failed to %s %s/%s: %s", action, state_directory, name,
                         strerror(-error));
}

static int identity_sync(int fd, const char *state_directory, const char *name, Error *err) {
        int r = fsync_dir(fd);

        return r < 0 ? identity_failed(err, r, "sync", state_directory, name) : 0;
}

static int identity_open_state(const char *state_directory, Error *err) {
        int fd = open_dir(state_directory, 0700);

        return fd < 0 ? error_set(err, fd, "Failed to open the state directory %s: %s", state_directory,
                                  strerror(-fd)) :
                        fd;
}

static bool identity_exists(int dir_fd, const char *path) {
        struct stat st;

        return fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Open a folder for its files. -ENOENT; -EPERM: other users have access to the folder or its key. */
static int identity_open(int state_fd, const char *state_directory, const char *name, Error *err) {
        _cleanup_close_ int fd = -1;
        struct stat st = {}, key = {};

        fd = openat(state_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return errno == ENOENT ? -ENOENT :
                                         identity_failed(err, -errno, "open", state_directory, name);
        if (fstatat(fd, KEY, &key, AT_SYMLINK_NOFOLLOW) < 0)
                key = st;
        if (st.st_uid != geteuid() || key.st_uid != geteuid())
                return error_set(err, -EPERM,
                                 "%s/%s or its key belongs to another user; expected user %u: "
                                 "chown -R %u %s/%s",
                                 state_directory, name, geteuid(), geteuid(), state_directory, name);
        if ((st.st_mode | key.st_mode) & 077)
                return error_set(
                        err, -EPERM,
                        "other users have access to %s/%s; if no other user has read the key: chmod -R "
                        "go= %s/%s",
                        state_directory, name, state_directory, name);
        return TAKE_FD(fd);
}

static int identity_open_current(const char *state_directory, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);

        return state_fd < 0 ? state_fd : identity_open(state_fd, state_directory, CURRENT, err);
}

/* -- Reading -- */

int identity_read(const char *state_directory, HostIdentity *ret, Error *err) {
        _cleanup_close_ int fd = identity_open_current(state_directory, err);
        _cleanup_identity_ HostIdentity read = {};
        const struct {
                const char *name;
                size_t max;
                char **text;
        } files[] = { { KEY, IDENTITY_KEY_MAX, &read.key },
                      { CERTIFICATE, IDENTITY_CERT_MAX, &read.certificate },
                      { ROOTS, IDENTITY_ROOTS_MAX, &read.roots } };
        int r;

        if (fd < 0)
                return fd;
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                r = read_file_at(fd, files[i].name, files[i].max, files[i].text, NULL);
                if (r == -ENOENT)
                        return error_set(err, -EBADMSG,
                                         "%s/" CURRENT "/%s is missing; restore the folder, or move it away "
                                         "and join again",
                                         state_directory, files[i].name);
                if (r < 0)
                        return error_set(err, r, "Failed to read %s/" CURRENT "/%s: %s", state_directory,
                                         files[i].name, strerror(-r));
        }
        *ret = TAKE_STRUCT(read);
        return 0;
}

int identity_read_credentials(const char *state_directory, TlsCredentials **ret, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_identity_ HostIdentity identity = {};
        int r;

        TRY(identity_read(state_directory, &identity, err));
        r = tls_private_key_read(identity.key, strlen(identity.key), &key, err);
        if (r >= 0)
                r = tls_credentials_new(key, identity.certificate, identity.roots, ret, err);
        return r < 0 ? error_prefix(err, r, "%s/" CURRENT, state_directory) : 0;
}

int identity_check_machine(const char *state_directory, const char *machine_id, Error *err) {
        _cleanup_identity_ HostIdentity identity = {};
        TlsCertificate fields;
        int r;

        r = identity_read(state_directory, &identity, err);
        if (r >= 0)
                r = tls_certificate_read(identity.certificate, strlen(identity.certificate), &fields, err);
        if (r < 0 || streq(fields.uri.subject, machine_id))
                return r;
        return error_set(err, -EPERM,
                         "%s/" CURRENT " belongs to machine %.8s, and this host is %.8s (a copied "
                         "disk, or a changed machine ID?). Restore /etc/machine-id; or, if that machine is "
                         "gone or runs elsewhere: move %s away, start fleetd, and join by a token",
                         state_directory, fields.uri.subject, machine_id, state_directory);
}

int identity_read_key(const char *state_directory, char **ret, Error *err) {
        static const char *const folders[] = { CURRENT, NEXT };
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);
        int r = state_fd < 0 ? state_fd : -ENOENT;

        for (size_t i = 0; i < ELEMENTS(folders) && r == -ENOENT; i++) {
                _cleanup_close_ int fd = identity_open(state_fd, state_directory, folders[i], err);

                if (fd < 0) {
                        r = fd;
                        continue;
                }
                r = read_file_at(fd, KEY, IDENTITY_KEY_MAX, ret, NULL);
                if (r < 0 && r != -ENOENT)
                        return error_set(err, r, "Failed to read %s/%s/" KEY ": %s", state_directory,
                                         folders[i], strerror(-r));
        }
        return r;
}

/* -- Writing -- */

/* Create a folder durably: nothing may be moved into a folder that a power cut could remove. */
static int identity_make_dir(int state_fd, const char *state_directory, const char *name, Error *err) {
        if (mkdirat(state_fd, name, 0700) < 0 && errno != EEXIST)
                return identity_failed(err, -errno, "create", state_directory, name);
        return identity_sync(state_fd, state_directory, name, err);
}

static int identity_open_next(int state_fd, const char *state_directory, Error *err) {
        int r = identity_make_dir(state_fd, state_directory, NEXT, err);

        return r < 0 ? r : identity_open(state_fd, state_directory, NEXT, err);
}

static int identity_write(int fd, const char *state_directory, const char *folder, const char *name,
                          const char *text, Error *err) {
        int r;

        if (file_holds_at(fd, name, text, strlen(text)))
                return fsync_dir(fd); /* of a crash: written, and perhaps not durable by name */
        r = write_file_at(fd, name, text, strlen(text), 0600);
        return r < 0 ? error_set(err, r, "Failed to write %s/%s/%s: %s", state_directory, folder, name,
                                 strerror(-r)) :
                       0;
}

int identity_write_key(const char *state_directory, const char *key, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err), fd = -1;

        if (state_fd < 0)
                return state_fd;
        fd = identity_open_next(state_fd, state_directory, err);
        return fd < 0 ? fd : identity_write(fd, state_directory, NEXT, KEY, key, err);
}

/* Make a key; its text is for identity_wipe(). */
static int identity_make_key(TlsPrivateKey **ret, char **ret_pem, Error *err) {
        size_t size;
        int r;

        r = tls_private_key_new(ret, err);
        return r < 0 ? r : tls_private_key_print(*ret, ret_pem, &size, err);
}

int identity_key(const char *state_directory, char **ret_pem, TlsPrivateKey **ret, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        char *pem = NULL;
        int r;

        r = identity_read_key(state_directory, &pem, err);
        if (r == -ENOENT) {
                err->message[0] = 0;
                r = identity_make_key(&key, &pem, err);
                if (r >= 0)
                        r = identity_write_key(state_directory, pem, err);
        } else if (r >= 0)
                r = tls_private_key_read(pem, strlen(pem), &key, err);
        if (r < 0) {
                identity_wipe(pem);
                return r;
        }
        *ret_pem = pem;
        *ret = TAKE_PTR(key);
        return 0;
}

/* -- The next key -- */

bool identity_has_next_key(const char *state_directory) {
        _cleanup_close_ int fd = identity_open_current(state_directory, &(Error) {});

        return fd >= 0 && identity_exists(fd, KEY_NEXT);
}

int identity_rekey(const char *state_directory, Error *err) {
        _cleanup_close_ int fd = identity_open_current(state_directory, err);
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        char *pem = NULL;
        int r;

        if (fd == -ENOENT)
                return error_set(err, -ENOENT,
                                 "this host has no key; it gets one when it joins, or with the first token");
        if (fd < 0)
                return fd;
        if (identity_exists(fd, KEY_NEXT))
                return 0;
        r = identity_make_key(&key, &pem, err);
        if (r >= 0)
                r = identity_write(fd, state_directory, CURRENT, KEY_NEXT, pem, err);
        identity_wipe(pem);
        return r;
}

int identity_next_key(const char *state_directory, TlsPrivateKey **ret, Error *err) {
        _cleanup_close_ int fd = identity_open_current(state_directory, err);
        char *pem = NULL;
        int r;

        if (fd < 0)
                return fd;
        r = read_file_at(fd, KEY_NEXT, IDENTITY_KEY_MAX, &pem, NULL);
        if (r < 0)
                return r == -ENOENT ? r :
                                      identity_failed(err, r, "read", state_directory, CURRENT "/" KEY_NEXT);
        r = tls_private_key_read(pem, strlen(pem), ret, err);
        identity_wipe(pem);
        return r;
}

/* Put the next key in force if the certificate is for it. */
static int identity_complete_rekey(int fd, const char *state_directory, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_free_ char *certificate = NULL;
        char *pem = NULL;
        TlsCertificate fields;
        TlsPin pin;
        int r;

        r = read_file_at(fd, KEY_NEXT, IDENTITY_KEY_MAX, &pem, NULL);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = read_file_at(fd, CERTIFICATE, IDENTITY_CERT_MAX, &certificate, NULL);
        if (r >= 0)
                r = tls_private_key_read(pem, strlen(pem), &key, err);
        if (r >= 0)
                r = tls_certificate_read(certificate, strlen(certificate), &fields, err);
        identity_wipe(pem);
        if (r < 0)
                return identity_failed(err, r, "use", state_directory, CURRENT "/" KEY_NEXT);
        tls_private_key_pin(key, &pin);
        if (!tls_pin_equal(&pin, &fields.pin))
                return 0;
        if (renameat(fd, KEY_NEXT, fd, KEY) < 0)
                return identity_failed(err, -errno, "rename", state_directory, CURRENT "/" KEY_NEXT);
        return identity_sync(fd, state_directory, CURRENT, err);
}

/* Write the files in this order; 'entering' NULL: without that file. */
static int identity_write_next(int state_fd, const char *state_directory, const char *key,
                               const char *certificate, const char *roots, const char *entering, Error *err) {
        const struct {
                const char *name, *text;
        } files[] = { { KEY, key }, { CERTIFICATE, certificate }, { ROOTS, roots }, { ENTERING, entering } };
        _cleanup_close_ int fd = identity_open_next(state_fd, state_directory, err);
        int r = MIN(fd, 0);

        for (size_t i = 0; r == 0 && i < ELEMENTS(files) && files[i].text; i++)
                r = identity_write(fd, state_directory, NEXT, files[i].name, files[i].text, err);
        return r;
}

int identity_store(const char *state_directory, const char *key, const char *certificate, const char *roots,
                   const char *cluster_file, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);

        return state_fd < 0 ? state_fd :
                              identity_write_next(state_fd, state_directory, key, certificate, roots,
                                                  cluster_file, err);
}

int identity_store_first(const char *state_directory, const char *key, const char *certificate,
                         const char *roots, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);

        if (state_fd < 0)
                return state_fd;
        if (identity_exists(state_fd, CURRENT))
                return error_set(err, -EEXIST, "this host has an identity already: %s/" CURRENT,
                                 state_directory);
        TRY(identity_write_next(state_fd, state_directory, key, certificate, roots, NULL, err));
        if (renameat(state_fd, NEXT, state_fd, CURRENT) < 0)
                return identity_failed(err, -errno, "rename", state_directory, NEXT);
        return fsync_dir(state_fd);
}

int identity_renew(const char *state_directory, const char *certificate, const char *roots, Error *err) {
        _cleanup_close_ int fd = identity_open_current(state_directory, err);
        int r;

        if (fd < 0)
                return fd;
        r = identity_write(fd, state_directory, CURRENT, ROOTS, roots, err);
        if (r >= 0)
                r = identity_write(fd, state_directory, CURRENT, CERTIFICATE, certificate, err);
        return r < 0 ? r : identity_complete_rekey(fd, state_directory, err);
}

int identity_require(const char *state_directory, Error *err) {
        _cleanup_close_ int fd = identity_open_current(state_directory, err);

        return fd < 0 ? fd : identity_write(fd, state_directory, CURRENT, REQUIRED, "", err);
}

bool identity_is_required(const char *state_directory) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, NULL);

        return state_fd >= 0 && identity_exists(state_fd, CURRENT "/" REQUIRED);
}

/* -- The cluster of a host with a key file -- */

int identity_write_cluster(const char *state_directory, uint64_t cluster_id, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);
        char line[HEX64_SIZE];
        int r;

        if (state_fd < 0)
                return state_fd;
        hex64_print(cluster_id, line);
        line[HEX64_SIZE - 1] = '\n';
        r = write_file_at(state_fd, CLUSTER, line, HEX64_SIZE, 0600);
        return r < 0 ? identity_failed(err, r, "write", state_directory, CLUSTER) : 0;
}

int identity_read_cluster(const char *state_directory, uint64_t *ret, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);
        _cleanup_free_ char *text = NULL;
        uint64_t id = 0;
        size_t size = 0;
        int r;

        if (state_fd < 0)
                return state_fd;
        r = read_file_at(state_fd, CLUSTER, HEX64_SIZE, &text, &size);
        if (r < 0)
                return identity_failed(err, r, "read", state_directory, CLUSTER);
        for (size_t i = 0; r == 0 && i < HEX64_SIZE - 1 && i < size; i++) {
                id = id << 4 | (uint64_t) (hex_digit(text[i]) & 15);
                r = hex_digit(text[i]) < 0 ? -EBADMSG : 0;
        }
        if (r < 0 || size != HEX64_SIZE || text[HEX64_SIZE - 1] != '\n' || id == 0)
                return error_set(err, -EBADMSG,
                                 "%s/" CLUSTER
                                 " has other content than the ID of a cluster; remove the file: it is "
                                 "written again when this host has a session to a replica",
                                 state_directory);
        *ret = id;
        return 0;
}

/* -- Entering, at a start -- */

/* Move what exists of 'name' into the folder of replaced state. If that folder has the name, it is of another
 * command that was interrupted: it is completed first. */
static int identity_move_old(int state_fd, const char *state_directory, const char *name, Error *err) {
        _cleanup_close_ int old_fd = -1;
        char path[64];
        int r;

        if (!identity_exists(state_fd, name))
                return 0;
        snprintf(path, sizeof(path), OLD_NEXT "/%s", name);
        r = identity_exists(state_fd, path) ? identity_keep_old(state_fd, state_directory, NULL, err) : 0;
        if (r >= 0)
                r = identity_make_dir(state_fd, state_directory, OLD_NEXT, err);
        if (r < 0)
                return r;
        old_fd = openat(state_fd, OLD_NEXT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (old_fd < 0)
                return identity_failed(err, -errno, "open", state_directory, OLD_NEXT);
        if (renameat(state_fd, name, old_fd, name) < 0)
                return identity_failed(err, -errno, "move", state_directory, name);
        r = identity_sync(old_fd, state_directory, OLD_NEXT, err);
        return r < 0 ? r : identity_sync(state_fd, state_directory, OLD_NEXT, err);
}

int identity_keep_old(int state_fd, const char *state_directory, unsigned *ret_number, Error *err) {
        char name[32];
        int r;

        if (!identity_exists(state_fd, OLD_NEXT))
                return 0;
        r = TRY(identity_make_dir(state_fd, state_directory, OLD, err));
        for (unsigned i = 1; i <= OLD_MAX; i++) {
                _cleanup_close_ int old_fd = -1;

                snprintf(name, sizeof(name), OLD "/%u", i);
                if (identity_exists(state_fd, name))
                        continue;
                if (renameat(state_fd, OLD_NEXT, state_fd, name) < 0)
                        return identity_failed(err, -errno, "rename", state_directory, OLD_NEXT);
                if (ret_number)
                        *ret_number = i;
                old_fd = openat(state_fd, OLD, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = old_fd < 0 ? identity_failed(err, -errno, "sync", state_directory, OLD) :
                                 identity_sync(old_fd, state_directory, OLD, err);
                return r < 0 ? r : identity_sync(state_fd, state_directory, OLD, err);
        }
        return error_set(err, -EEXIST, "%s/" OLD " has %u folders of former clusters; remove some of them",
                         state_directory, OLD_MAX);
}

/* Move all of these to a new folder of old state. */
static int identity_retire(int state_fd, const char *state_directory, const char *const names[], size_t n,
                           Error *err) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = identity_move_old(state_fd, state_directory, names[i], err);
        return r < 0 ? r : identity_keep_old(state_fd, state_directory, NULL, err);
}

/* Put a complete next identity in force. The former one is moved first, so after a crash in between there is
 * none: the next call continues. */
static int identity_put_in_force(int state_fd, const char *state_directory, Error *err) {
        if (!identity_exists(state_fd, NEXT "/" ENTERING))
                return 0;
        TRY(identity_move_old(state_fd, state_directory, CURRENT, err));
        if (renameat(state_fd, NEXT, state_fd, CURRENT) < 0)
                return identity_failed(err, -errno, "rename", state_directory, NEXT);
        return identity_sync(state_fd, state_directory, CURRENT, err);
}

/* -- Leaving -- */

int identity_leave(const char *state_directory, Error *err) {
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err);
        int r;

        if (state_fd < 0)
                return state_fd;
        r = write_file_at(state_fd, LEAVING, "", 0, 0600);
        return r < 0 ? identity_failed(err, r, "write", state_directory, LEAVING) : 0;
}

/* Move all state of the cluster to old/N, except its keys, which are deleted: no host that has left keeps
 * what opens the secrets of the cluster. */
static int identity_finish_leave(int state_fd, const char *state_directory, const char *cluster_file,
                                 Error *err) {
        static const char *const state[] = { "raft", "tree", "agent", CLUSTER, CURRENT };
        _cleanup_text_ Text empty = {};
        int r;

        TRY(identity_retire(state_fd, state_directory, state, ELEMENTS(state), err));
        r = remove_tree_at(state_fd, SECRETS);
        if (r < 0)
                return identity_failed(err, r, "remove", state_directory, SECRETS);
        cluster_file_print(&empty, "", "");
        r = empty.error;
        if (r >= 0 && cluster_file[0] && access(cluster_file, F_OK) == 0)
                r = cluster_file_write(cluster_file, empty.chars);
        if (r < 0)
                return error_set(err, r, "Failed to write %s: %s", cluster_file, strerror(-r));
        if (unlinkat(state_fd, LEAVING, 0) < 0)
                return identity_failed(err, -errno, "remove", state_directory, LEAVING);
        r = identity_sync(state_fd, state_directory, LEAVING, err);
        return r < 0 ? r : 1;
}

int identity_begin(const char *state_directory, const char *cluster_file, Error *err) {
        static const char *const store[] = { "raft", "tree", CLUSTER };
        _cleanup_close_ int state_fd = identity_open_state(state_directory, err), fd = -1;
        _cleanup_free_ char *entering = NULL;
        int r;

        if (state_fd < 0)
                return state_fd;
        if (identity_exists(state_fd, LEAVING))
                return identity_finish_leave(state_fd, state_directory, cluster_file, err);
        TRY(identity_put_in_force(state_fd, state_directory, err));
        fd = openat(state_fd, CURRENT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        TRY(fd < 0 ? 0 : identity_complete_rekey(fd, state_directory, err));
        r = fd < 0 ? -errno : read_file_at(fd, ENTERING, IDENTITY_ENTERING_MAX, &entering, NULL);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return identity_failed(err, r, "read", state_directory, CURRENT "/" ENTERING);
        TRY(identity_retire(state_fd, state_directory, store, ELEMENTS(store), err));
        r = cluster_file[0] ? cluster_file_write(cluster_file, entering) : 0;
        if (r < 0)
                return error_set(err, r, "Failed to write %s: %s", cluster_file, strerror(-r));
        if (unlinkat(fd, ENTERING, 0) < 0)
                return identity_failed(err, -errno, "remove", state_directory, CURRENT "/" ENTERING);
        r = identity_sync(fd, state_directory, CURRENT, err);
        return r < 0 ? r : 1;
}
