/* Requests that the v2 API of etcd does not have: binary values, pages, transactions, the stream of all
 * changes (fleet-api(7)). */
#include <fcntl.h>

#include "base/file.h"
#include "client/verbs/kv.h"
#include "units/json_record.h"

enum { TXN_SIZE_MAX = 2 * 1024 * 1024 };

/* -- Values -- */

int kv_read_stdin(size_t max, char **ret, size_t *ret_size) {
        _cleanup_text_ Text t = {};
        char bytes[4096];
        size_t n;

        if (isatty(STDIN_FILENO))
                client_note("reading standard input; end with Ctrl-D");
        while (!feof(stdin) && (n = fread(bytes, 1, sizeof(bytes), stdin)) > 0) { /* Ctrl-D once */
                text_append_bytes(&t, bytes, n);
                if (t.size > max)
                        return -EFBIG;
        }
        if (ferror(stdin))
                return -EIO;
        *ret = text_take(&t, ret_size);
        return *ret ? 0 : -ENOMEM;
}

int kv_read_file(const char *path, size_t max, char **ret, size_t *ret_size) {
        return streq(path, "-") ? kv_read_stdin(max, ret, ret_size) :
                                  read_file_at(AT_FDCWD, path, max, ret, ret_size);
}

void kv_append_clean(Text *t, const char *key, bool escaped) {
        for (size_t n; *key; key += n) {
                n = strspn(key, "/");
                if (n > 0)
                        continue;
                n = strcspn(key, "/");
                text_append_char(t, '/');
                if (escaped)
                        append_escaped_bytes(t, key, n, false);
                else
                        text_append_bytes(t, key, n);
        }
}

static void append_prefix(Text *path, const char *key) {
        if (strspn(key, "/") == strlen(key))
                return; /* the root */
        text_append(path, "&prefix=");
        kv_append_clean(path, key, true);
}

/* -- Pages -- */

void kv_listed_done(KvListed *l) {
        free(l->key);
        free(l->value);
        *l = (KvListed) {};
}

int kv_listed_read(const JsonValue *node, KvListed *ret, Error *err) {
        static const JsonField fields[] = {
                { "dir", JSON_FIELD_BOOL, offsetof(KvListed, dir) },
                { "modifiedIndex", JSON_FIELD_U64, offsetof(KvListed, modified) },
                { "ttl", JSON_FIELD_U64, offsetof(KvListed, ttl) },
        };

        TRY(json_read_fields(node, JSON_FIELDS(fields), ret, err));
        if (TRY(json_read_bytes(node, "key", &ret->key, &ret->key_size, err)) == 0)
                return error_set(err, -EBADMSG, "a node without a key");
        return json_read_bytes(node, "value", &ret->value, &ret->value_size, err);
}

/* Of all pages: no answer is without end. */
static const uint64_t KV_PAGES_SIZE_MAX = 1ull << 36;

int kv_pages(Client *c, const char *prefix, const char *parameters,
             int (*each)(void *userdata, const KvListed *node), void *userdata, Error *err) {
        _cleanup_json_ JsonValue *page = NULL;
        _cleanup_free_ char *former = NULL;
        const char *token = NULL; /* of the previous page, borrowed */
        uint64_t size = 0;

        do {
                _cleanup_reply_ Reply reply = {};
                _cleanup_text_ Text path = {};

                text_printf(&path, "/fleet/v1/kv/list?%s", parameters);
                if (c->options.quorum)
                        text_append(&path, "&quorum=true");
                append_prefix(&path, prefix);
                if (token)
                        text_printf(&path, "&nextPageToken=%s", token);
                TRY(client_request(c, "GET", client_path(&path), NULL, &reply, err));

                size += reply.body.size;
                if (size > KV_PAGES_SIZE_MAX)
                        return error_set(err, -EBADMSG, "fleetd's answer has more than %llu bytes",
                                         (unsigned long long) KV_PAGES_SIZE_MAX);
                free(former);
                former = token ? strdup(token) : NULL;
                token = NULL;
                page = json_value_free(page);
                TRY_PREFIX(json_value_parse(reply.body.chars, reply.body.size, &page, err), err,
                           "fleetd's answer");
                JSON_EACH(item, json_value_member(page, "nodes")) {
                        _cleanup_kv_listed_ KvListed node = {};

                        TRY_PREFIX(kv_listed_read(item, &node, err), err, "fleetd's answer");
                        TRY(each(userdata, &node));
                }
                TRY(json_read_string(page, "nextPageToken", &token, err));
                if (token && same_string(token, former))
                        return error_set(err, -EBADMSG, "fleetd's answer repeats a page");
        } while (token);
        return 0;
}

bool kv_is_hidden(const KvListed *node, size_t base) {
        for (size_t i = base; i + 1 < node->key_size; i++)
                if (node->key[i] == '/' && node->key[i + 1] == '_')
                        return true;
        return false;
}

/* -- Transactions -- */

/* Print "Error:  412: checks[0]: ...", like other verbs of kv, and return their exit status. */
static int fail_reply(const Reply *reply) {
        char message[ERROR_MESSAGE_MAX];
        Error err = {};
        int code, r;

        if (api_error_read(reply->body.chars ?: "", reply->body.size, &code, message, sizeof(message)) == 0 &&
            message[0]) {
                fprintf(stderr, "Error:  %d: %s\n", code, text_keep_to_one_line(message));
                client_note_no_leader(reply);
                return kv_is_rejected(reply->status) ? EXIT_KV : EXIT_FAILED;
        }
        r = reply_check(reply, &err);
        return client_fail_after(r < 0 ? r : -EBADMSG, &err, "Error:  ");
}

/* Print a member after a space, or nothing if it is absent. */
static int print_bytes(const JsonValue *object, const char *name) {
        _cleanup_free_ char *bytes = NULL;
        size_t size;
        int r;

        r = json_read_bytes(object, name, &bytes, &size, NULL);
        if (r <= 0)
                return r == -ENOMEM ? r : 0;
        putchar(' ');
        return streq(name, "key") ? output_name(bytes, size) : output_text(bytes, size);
}

static int print_change(const JsonValue *change) {
        const JsonValue *node = json_value_member(change, "node");
        int r;

        fputs(member_text(change, "action"), stdout);
        TRY(print_bytes(node, "key"));
        if (member_bool(node, "dir"))
                putchar('/');
        r = print_bytes(node, "value");
        putchar('\n');
        return r;
}

static int kv_txn(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        const JsonValue *writes;
        int r;

        if (n > 1)
                return client_usage("kv txn: expected a JSON file; without one, stdin is read");
        r = kv_read_file(n > 0 ? args[0] : "-", TXN_SIZE_MAX, &body.chars, &body.size);
        if (r < 0)
                return error_set(err, r, "Failed to read %s: %s", n > 0 ? args[0] : "stdin", strerror(-r));
        if (memchr(body.chars, 0, body.size))
                return error_set(
                        err, -EINVAL,
                        "a NUL byte is not valid in JSON; write such a value in base64 as \"value64\"");
        TRY(connection_request(c->connection, "POST", "/fleet/v1/kv/txn", CONTENT_JSON, &body, &reply, err));
        if (reply.status != 200)
                return fail_reply(&reply);
        if (streq(c->options.output, "json")) {
                (void) output_text(reply.body.chars, reply.body.size);
                return EXIT_DONE;
        }
        r = TRY_PREFIX(json_value_parse(reply.body.chars, reply.body.size, &root, err), err,
                       "fleetd's answer");
        writes = json_value_member(root, "writes");
        for (size_t i = 0; i < json_value_count(writes) && r >= 0; i++)
                r = print_change(json_value_item(writes, i));
        return r;
}

/* -- The stream of all changes -- */

typedef struct All {
        bool json;
        uint64_t index; /* all changes up to here were printed */
        int status;     /* not EXIT_DONE: the error was printed */
} All;

static int on_line(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        All *all = userdata;
        char message[ERROR_MESSAGE_MAX] = "";
        int code = 0;

        TRY(json_value_parse(line, size, &root, NULL));
        if (json_value_member(root, "error")) {
                (void) api_error_read(line, size, &code, message, sizeof(message));
                fprintf(stderr, "Error:  %d: %s\n", code, message);
                all->status = kv_is_rejected(code) ? EXIT_KV : EXIT_FAILED;
                return 0;
        }
        TRY(json_read_u64(root, "index", &all->index, NULL));
        if (all->json)
                (void) output_line(line);
        else if (json_value_member(root, "action")) {
                printf("%llu ", (unsigned long long) all->index);
                TRY(print_change(root));
        }
        return output_flush();
}

int kv_watch_all(Client *c, const char *key, Error *err) {
        All all = { .json = streq(c->options.output, "json") };
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        int r;

        text_append(&path, "/fleet/v1/kv/changes?progress=10");
        append_prefix(&path, key);
        if (c->options.after_index > 0)
                text_printf(&path, "&after=%llu", (unsigned long long) c->options.after_index);
        r = connection_follow(c->connection, "GET", client_path(&path), on_line, &all, &reply, err);
        if (r == -EREMOTEIO)
                return fail_reply(&reply);
        if (all.status != EXIT_DONE)
                return all.status;
        if (all.index > 0 && !output_has_failed())
                client_note("the stream has ended; to continue: --after-index=%llu",
                            (unsigned long long) all.index);
        else if (r == 0)
                client_note("the stream has ended");
        return r ?: EXIT_FAILED;
}

VERB(kv_txn, "txn", "kv json", "[FILE]", "Check and write many keys in one transaction", NULL, kv_txn);
