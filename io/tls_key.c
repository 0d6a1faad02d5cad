/* The key file of a cluster. */
#include "io/tls.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parse.h"
#include "io/tls_key_internal.h"

/* The hash of a pre-shared key is SHA-256, which excludes the suites of AES-256. */
static const char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+AES-128-GCM:"
                                 "+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1";

const char tls_key_name[] = "fleet";

TlsKey *tls_key_free(TlsKey *key) {
        if (!key || --key->refs > 0)
                return NULL;

        if (key->priority)
                gnutls_priority_deinit(key->priority);
        if (key->client)
                gnutls_psk_free_client_credentials(key->client);
        if (key->server)
                gnutls_psk_free_server_credentials(key->server);
        explicit_bzero(key->bytes, sizeof(key->bytes));
        free(key);
        return NULL;
}

DEFINE_CLEANUP(TlsKey *, tls_key_free);

static int key_check_file(const char *path, Error *err) {
        struct stat st;

        if (lstat(path, &st) < 0 && errno == ENOENT)
                return error_set(err, -ENOENT,
                                 "no key file %s; create it: openssl rand -hex 32 >%s; chmod 600 %s", path,
                                 path, path);
        if (lstat(path, &st) < 0)
                return error_set(err, -errno, "Failed to read the key file %s: %s", path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, "the key file %s is not a regular file", path);
        if (st.st_uid != geteuid())
                return error_set(err, -EPERM, "the key file %s belongs to another user: chown %u %s", path,
                                 geteuid(), path);
        if (st.st_mode & (S_IRWXG | S_IRWXO))
                return error_set(err, -EPERM, "other users can access the key file %s: chmod 600 %s", path,
                                 path);
        return 0;
}

static int key_decode(TlsKey *key, const char *text, size_t size) {
        while (size > 0 && strchr(" \t\r\n", text[size - 1]))
                size--;
        if (size % 2 != 0 || size < 2 * TLS_KEY_MIN || size > 2 * TLS_KEY_MAX)
                return -EINVAL;
        key->size = size / 2;
        return hex_read(text, key->bytes, key->size);
}

/* Create the credentials. Return 0 or an error of GnuTLS. */
static int key_prepare(TlsKey *key) {
        gnutls_datum_t datum = { key->bytes, key->size };

        TRY(gnutls_priority_init(&key->priority, priorities, NULL));
        TRY(gnutls_psk_allocate_client_credentials(&key->client));
        TRY(gnutls_psk_allocate_server_credentials(&key->server));
        TRY(gnutls_psk_set_client_credentials(key->client, tls_key_name, &datum, GNUTLS_PSK_KEY_RAW));
        return 0;
}

int tls_key_read(const char *path, TlsKey **ret, Error *err) {
        _cleanup_(tls_key_freep) TlsKey *key = NEW0(TlsKey, 1);
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (!key)
                return error_set(err, -ENOMEM, "Failed to read the key file %s: out of memory", path);
        key->refs = 1;

        TRY(key_check_file(path, err));
        r = read_file_at(AT_FDCWD, path, 4096, &text, &size);
        if (r < 0)
                return error_set(err, r, "Failed to read the key file %s: %s", path, strerror(-r));
        r = key_decode(key, text, size);
        explicit_bzero(text, size);
        if (r < 0)
                return error_set(err, r,
                                 "the key file %s must contain 32 to 64 bytes as hex digits on one line: "
                                 "openssl rand -hex 32 >%s",
                                 path, path);
        r = key_prepare(key);
        if (r < 0)
                r = r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EPROTO;
        if (r < 0)
                return error_set(err, r, "Failed to use the key file %s: %s", path, strerror(-r));

        *ret = TAKE_PTR(key);
        return 0;
}
