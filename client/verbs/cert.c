/* cert: users of the cluster, and their certificates. The private key is made here, and never leaves this
 * host: the daemon gets a certificate signing request. */
#include <fcntl.h>
#include <time.h>

#include "base/file.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/times.h"
#include "io/tls_roles.h"
#include "units/stored_cluster.h"

enum {
        FILE_NAME_SIZE = PRINCIPAL_NAME_MAX + 8,
        KEY_FILE_MAX = 4096,
};

/* The files of a user in the folder of --out. */
typedef struct CertFiles {
        const char *folder;
        int fd;
        char key[FILE_NAME_SIZE], certificate[FILE_NAME_SIZE];
} CertFiles;

static void cert_files_done(CertFiles *f) {
        closep(&f->fd);
}

static int cert_files_open(CertFiles *f, const char *folder, const char *name, Error *err) {
        f->folder = folder;
        snprintf(f->key, sizeof(f->key), "%s.key", name);
        snprintf(f->certificate, sizeof(f->certificate), "%s.pem", name);
        f->fd = open_dir(folder, 0755);
        return f->fd < 0 ? error_set(err, f->fd, "Failed to open %s: %s", folder, strerror(-f->fd)) : 0;
}

static int cert_write(const CertFiles *f, const char *name, const char *bytes, size_t size, mode_t mode,
                      Error *err) {
        int r = write_file_at(f->fd, name, bytes, size, mode);

        return r < 0 ? error_set(err, r, "Failed to write %s/%s: %s", f->folder, name, strerror(-r)) : 0;
}

/* Read the key, or make it. It is written before the request, so that a repetition uses the same key. */
static int cert_key(const CertFiles *f, TlsPrivateKey **ret, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        char *pem = NULL;
        size_t size = 0;
        int r;

        r = read_file_at(f->fd, f->key, KEY_FILE_MAX, &pem, &size);
        if (r == -ENOENT) {
                TRY(tls_private_key_new(&key, err));
                r = tls_private_key_print(key, &pem, &size, err);
                if (r >= 0)
                        r = cert_write(f, f->key, pem, size, 0600, err);
        } else if (r >= 0) {
                r = tls_private_key_read(pem, size, &key, err);
                if (r < 0)
                        r = error_prefix(err, -EBADMSG, "%s/%s", f->folder, f->key);
        } else
                r = error_set(err, r, "Failed to read %s/%s: %s", f->folder, f->key, strerror(-r));
        tls_secret_free(pem, size);
        if (r >= 0)
                *ret = TAKE_PTR(key);
        return r;
}

/* -- Requests -- */

/* 'csr' NULL: only the rights change. */
static int cert_write_request(const Options *o, const char *csr, Text *body, Error *err) {
        uint64_t ttl_ms = 0;

        if (o->token_ttl && (parse_span_ms(o->token_ttl, &ttl_ms) < 0 || ttl_ms < 1000))
                return error_set(err, -EINVAL,
                                 "--ttl=%.32s: expected a time span up to 365d, for example 30d",
                                 o->token_ttl);
        json_open(body, NULL, '{');
        json_add_string(body, "csr", csr);
        json_add_bool(body, "replace", o->replace);
        if (o->rights)
                client_add_words(body, "rights", o->rights);
        json_add_u64(body, "ttl", ttl_ms / 1000);
        json_close(body, '}');
        return body->error;
}

static int cert_check_name(const char *verb, char **args, size_t n) {
        if (n != 1) {
                client_note("%s: expected the name of one user", verb);
                return EXIT_USAGE;
        }
        if (principal_name_is_valid(args[0]))
                return EXIT_DONE;
        client_note(
                "'%.80s' is no name of a user: expected 1 to %d of a-z 0-9 . _ - that begin with a letter or "
                "digit",
                args[0], PRINCIPAL_NAME_MAX);
        return EXIT_USAGE;
}

static const char *cert_path(Text *t, const char *name) {
        return client_path_of(t, "/fleet/v1/cluster/users/", name, "");
}

/* -- create -- */

static int cert_store(const CertFiles *f, const JsonValue *answer, Error *err) {
        const char *certificate = member_text(answer, "certificate"), *roots = member_text(answer, "roots");
        char date[32];

        if (!*certificate || !*roots)
                return error_set(err, -EBADMSG, "the answer of fleetd contains no certificate");
        TRY(cert_write(f, f->certificate, certificate, strlen(certificate), 0644, err));
        TRY(cert_write(f, "ca.pem", roots, strlen(roots), 0644, err));
        printf("Certificate in %s/%s, key in %s/%s, roots in %s/ca.pem; valid until %s\n", f->folder,
               f->certificate, f->folder, f->key, f->folder,
               times_date(member_number(answer, "expires"), date));
        if (client_is_interactive())
                printf("\nOn a host that has these files: fleetctl --endpoint=https://HOST:PORT "
                       "--cert-file=%s --key-file=%s --ca-file=ca.pem list-units\n"
                       "HOST:PORT is a listener of ListenTLS=.\n",
                       f->certificate, f->key);
        return 0;
}

/* Get a certificate for the key of the folder. */
static int cert_get(Client *c, const CertFiles *f, const char *name, JsonValue **ret, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_text_ Text csr = {}, body = {}, path = {};
        _cleanup_reply_ Reply reply = {};
        int r;

        r = cert_write_request(&c->options, "", &body, err); /* a message before a key is made */
        if (r < 0)
                return r;
        text_clear(&body);
        TRY(cert_key(f, &key, err));
        TRY(tls_request_create(key, &csr, err));
        TRY(csr.error < 0 ? csr.error : cert_write_request(&c->options, csr.chars, &body, err));
        TRY(client_request(c, "PUT", cert_path(&path, name), &body, &reply, err));
        return json_value_parse(reply.body.chars, reply.body.size, ret, err);
}

static int cert_create(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(cert_files_done) CertFiles files = { .fd = -1 };
        _cleanup_json_ JsonValue *answer = NULL;
        int r;

        TRY_DONE(cert_check_name("cert", args, n));
        r = cert_files_open(&files, c->options.out ?: ".", args[0], err);
        if (r >= 0)
                r = cert_get(c, &files, args[0], &answer, err);
        if (r == -EINVAL)
                return client_usage(error_text(err, r));
        if (r >= 0)
                r = cert_store(&files, answer, err);
        return r < 0 ? client_fail_after(r, err, "Failed to create a certificate: ") : EXIT_DONE;
}

/* -- set, revoke -- */

static int cert_set(Client *c, char **args, size_t n, Error *err) {
        _cleanup_text_ Text body = {}, path = {};
        int r;

        TRY_DONE(cert_check_name("cert set", args, n));
        if (!c->options.rights)
                return client_usage("cert set: expected --rights=, which replace those of the user");
        r = cert_write_request(&c->options, NULL, &body, err);
        if (r == -EINVAL)
                return client_usage(error_text(err, r));
        if (r < 0)
                return client_fail(r, err);
        return client_order(c, "PUT", cert_path(&path, args[0]), &body,
                            "Failed to change the rights: ", "User %s has these rights from now on\n",
                            args[0]);
}

static int cert_revoke(Client *c, char **args, size_t n, Error *err) {
        _cleanup_text_ Text path = {};
        int r = cert_check_name("cert revoke", args, n);

        return r != EXIT_DONE ? r :
                                client_order(c, "DELETE", cert_path(&path, args[0]), NULL,
                                             "Failed to revoke the user: ",
                                             "User %s is revoked; its connections end\n", args[0]);
}

/* -- ls -- */

static void cert_add_row(Table *table, const JsonValue *user) {
        _cleanup_text_ Text rights = {};
        char date[32];

        JSON_EACH(item, json_value_member(user, "rights"))
                text_printf(&rights, "%s%s", item_i > 0 ? "," : "", json_value_string(item) ?: "");
        table_cell(table, "%s", member_text(user, "name"));
        table_cell(table, "%s", times_date(member_number(user, "expires"), date));
        table_cell(table, "%.8s", member_text(user, "key"));
        table_add(table, &rights);
}

static int cert_list(Client *c, char **args, size_t n, Error *err) {
        _cleanup_table_ Table table = table_begin("USER,EXPIRES,KEY,RIGHTS");
        _cleanup_json_ JsonValue *root = NULL;

        if (n > 0)
                return client_usage("cert ls: expected no arguments");
        TRY_VERB(client_read(c, "/fleet/v1/cluster/users", &root, err), err, "Failed to list users: ");
        JSON_EACH(item, json_value_member(root, "users"))
                cert_add_row(&table, item);
        return root ? table_print(&table, true) : EXIT_DONE;
}

static int cert_run(Client *c, char **args, size_t n, Error *err) {
        static const struct {
                const char *name;
                int (*run)(Client *c, char **args, size_t n, Error *err);
        } cert_verbs[] = {
                { "create", cert_create }, { "ls", cert_list }, { "revoke", cert_revoke }, { "set", cert_set }
        };

        for (size_t i = 0; n > 0 && i < ELEMENTS(cert_verbs); i++)
                if (streq(cert_verbs[i].name, args[0]))
                        return cert_verbs[i].run(c, args + 1, n - 1, err);
        return cert_create(c, args, n, err);
}

VERB(cert, "cert", "json", "[create] NAME | ls | set NAME | revoke NAME",
     "Create, list, change and revoke users with certificates",
     "Makes the key of the user here: NAME.key, and gets NAME.pem, its certificate, and ca.pem, for\n"
     "the verification of ListenTLS=. An existing NAME.key is used again: that renews the certificate.\n"
     "set replaces the rights of a user, revoke ends them; both take effect at once.\n\n"
     "fleetctl cert backup --rights=keys-read:/,units-see --ttl=365d --out=users\n",
     cert_run);
