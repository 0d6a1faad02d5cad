/* kv get, set, ls, rm, watch: the cluster's keys, as etcdctl showed them. */
#include <errno.h>
#include <stdio.h>

#include "base/file.h"
#include "client/client.h"
#include "client/kv.h"

enum { KV_VALUE_MAX = 1024 * 1024, LEVELS_MAX = 200 }; /* bytes read from stdin; of directories */

static void append_key(Text *t, const char *key) {
        text_append(t, key[0] == '/' ? "/v2/keys" : "/v2/keys/");
        append_escaped(t, key, true);
}

/* What etcdctl said, with its exit status: "Error:  100: Key not found (/a) [17]". */
static int fail_answer(const Reply *reply) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *message = "", *cause = "";
        uint64_t code = 0, index = 0;

        if (!reply->body.chars || json_value_parse(reply->body.chars, reply->body.size, &root, NULL) < 0
            || json_read_u64(root, "errorCode", &code, NULL) < 0 || code == 0
            || json_read_string(root, "message", &message, NULL) < 0 || json_read_string(root, "cause", &cause, NULL) < 0
            || json_read_u64(root, "index", &index, NULL) < 0) {
                Error err = {};
                int r = reply_check(reply, &err);

                return client_fail(r < 0 ? r : -EBADMSG, &err, "Error:  ");
        }
        fprintf(stderr, "Error:  %llu: %s (%s) [%llu]\n", (unsigned long long) code, message, cause,
                (unsigned long long) index);
        return EXIT_KV;
}

/* One request. EXIT_DONE, or an exit status that is said already. With --output=json the answer is printed as it is, and
 * *ret_node stays NULL; else it borrows from *ret_root. */
static int request(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root,
                   const JsonValue **ret_node) {
        _cleanup_reply_ Reply reply = {};
        Error err = {};
        int r;

        if (path->error < 0 || (form && form->error < 0))
                return client_fail(-ENOMEM, NULL, "%s", "");
        r = connection_request(c->connection, method, path->chars, "application/x-www-form-urlencoded",
                               form ? form->chars ? form->chars : "" : NULL, &reply, &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        if (reply.status < 200 || reply.status >= 300)
                return fail_answer(&reply);
        if (streq(c->options.output, "json")) {
                fputs(reply.body.chars, stdout);
                return EXIT_DONE;
        }

        r = json_value_parse(reply.body.chars, reply.body.size, ret_root, &err);
        if (r < 0)
                return client_fail(error_prefix(&err, r, "fleetd's answer"), &err, "%s", "");
        *ret_node = json_value_member(*ret_root, "node");
        return EXIT_DONE;
}

static const char *text_of(const JsonValue *node, const char *name) {
        const char *s = NULL;

        return json_read_string(node, name, &s, NULL) < 0 || !s ? "" : s;
}

static bool is_dir(const JsonValue *node) {
        bool dir = false;

        return json_read_bool(node, "dir", &dir, NULL) >= 0 && dir;
}

static int usage(const char *sentence) {
        fprintf(stderr, "fleetctl: %s\n", sentence);
        return EXIT_USAGE;
}

static int kv_get(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *node = NULL;
        _cleanup_text_ Text path = {};
        int r;

        if (n != 1)
                return usage("kv get takes one key");
        append_key(&path, args[0]);
        if (c->options.quorum)
                text_append(&path, "?quorum=true");
        r = request(c, "GET", &path, NULL, &root, &node);
        if (r != EXIT_DONE || !node)
                return r;
        if (is_dir(node)) {
                fprintf(stderr, "%s: is a directory; fleetctl kv ls %s\n", args[0], args[0]);
                return EXIT_FAILED;
        }
        puts(text_of(node, "value"));
        return EXIT_DONE;
}

static void print_names(const JsonValue *node, bool recursive, unsigned level) {
        const JsonValue *nodes = json_value_member(node, "nodes");

        for (size_t i = 0; i < json_value_count(nodes); i++) {
                const JsonValue *child = json_value_item(nodes, i);

                printf("%s%s\n", text_of(child, "key"), is_dir(child) ? "/" : "");
                if (recursive && level < LEVELS_MAX)
                        print_names(child, recursive, level + 1);
        }
}

static int kv_ls(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *node = NULL;
        _cleanup_text_ Text path = {};
        int r;

        if (n > 1)
                return usage("kv ls takes at most one key");
        append_key(&path, n > 0 ? args[0] : "/");
        text_append(&path, "?sorted=true");
        if (c->options.recursive)
                text_append(&path, "&recursive=true");
        if (c->options.quorum)
                text_append(&path, "&quorum=true");
        r = request(c, "GET", &path, NULL, &root, &node);
        if (r != EXIT_DONE || !node)
                return r;
        if (is_dir(node))
                print_names(node, c->options.recursive, 0);
        else
                puts(text_of(node, "key"));
        return EXIT_DONE;
}

static void add_field(Text *form, const char *name, const char *value) {
        text_printf(form, "%s%s=", form->size > 0 ? "&" : "", name);
        append_escaped(form, value, false);
}

static void add_number(Text *form, const char *name, uint64_t value) {
        text_printf(form, "%s%s=%llu", form->size > 0 ? "&" : "", name, (unsigned long long) value);
}

/* The value from stdin, as it is: a file may be piped in. */
static int read_value(char **ret) {
        _cleanup_text_ Text t = {};
        char bytes[4096];
        size_t n;

        while ((n = fread(bytes, 1, sizeof(bytes), stdin)) > 0) {
                text_append_bytes(&t, bytes, n);
                if (t.size > KV_VALUE_MAX || memchr(bytes, 0, n))
                        return t.size > KV_VALUE_MAX ? -EFBIG : -EINVAL;
        }
        if (ferror(stdin))
                return -EIO;
        *ret = text_take(&t, NULL);
        return *ret ? 0 : -ENOMEM;
}

static int kv_set(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, form = {};
        const JsonValue *node = NULL;
        _cleanup_free_ char *piped = NULL;
        const Options *o = &c->options;
        int r;

        if (n < 1 || n > 2)
                return usage("kv set takes a key and a value; without a value it is read from stdin");
        if (n == 1) {
                r = read_value(&piped);
                if (r < 0) {
                        fprintf(stderr, "fleetctl: cannot take a value from stdin: %s\n",
                                r == -EINVAL ? "there is a NUL byte in it" : strerror(-r));
                        return EXIT_FAILED;
                }
        }
        append_key(&path, args[0]);
        add_field(&form, "value", n > 1 ? args[1] : piped);
        if (o->ttl_given)
                add_number(&form, "ttl", o->ttl);
        if (o->swap_with_value)
                add_field(&form, "prevValue", o->swap_with_value);
        if (o->swap_with_index > 0)
                add_number(&form, "prevIndex", o->swap_with_index);
        r = request(c, "PUT", &path, &form, &root, &node);
        if (r == EXIT_DONE && node)
                puts(text_of(node, "value"));
        return r;
}

static int kv_rm(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, query = {};
        const JsonValue *node = NULL;
        const Options *o = &c->options;

        if (n != 1)
                return usage("kv rm takes one key");
        append_key(&path, args[0]);
        if (o->recursive)
                add_field(&query, "recursive", "true");
        if (o->dir)
                add_field(&query, "dir", "true");
        if (o->with_value)
                add_field(&query, "prevValue", o->with_value);
        if (o->with_index > 0)
                add_number(&query, "prevIndex", o->with_index);
        if (query.size > 0)
                text_printf(&path, "?%s", query.chars);
        if (query.error < 0)
                return client_fail(query.error, NULL, "%s", "");
        return request(c, "DELETE", &path, NULL, &root, &node);
}

/* -- watch: one plain wait after the other, as all clients of etcd do -- */

typedef struct Watch {
        bool json;
        bool told;      /* this wait has brought a change */
        uint64_t index; /* of the last change seen; 0: none yet */
} Watch;

static int on_change(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        Watch *watch = userdata;
        const JsonValue *node;
        int r;

        r = json_value_parse(line, size, &root, NULL);
        if (r < 0)
                return r;
        node = json_value_member(root, "node");
        r = json_read_u64(node, "modifiedIndex", &watch->index, NULL);
        if (r < 0)
                return r;
        watch->told = true;
        if (watch->json)
                puts(line);
        else if (*text_of(node, "value"))
                printf("%s %s %s\n", text_of(root, "action"), text_of(node, "key"), text_of(node, "value"));
        else
                printf("%s %s%s\n", text_of(root, "action"), text_of(node, "key"), is_dir(node) ? "/" : "");
        (void) fflush(stdout);
        return 0;
}

/* Is it etcd's 401: so much has happened that changes after that index are no longer known? */
static bool is_forgotten(const Reply *reply, uint64_t *ret_index) {
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t code = 0;

        return reply->body.chars && json_value_parse(reply->body.chars, reply->body.size, &root, NULL) >= 0
               && json_read_u64(root, "errorCode", &code, NULL) >= 0 && code == 401
               && json_read_u64(root, "index", ret_index, NULL) >= 0;
}

static int kv_watch(Client *c, char **args, size_t n) {
        Watch watch = { .json = streq(c->options.output, "json"), .index = c->options.after_index };

        if (n != 1)
                return usage("kv watch takes one key");
        do {
                _cleanup_stream_ Stream *stream = NULL;
                _cleanup_text_ Text path = {};
                uint64_t now = 0;
                Error err = {};
                int r;

                watch.told = false;
                append_key(&path, args[0]);
                text_append(&path, "?wait=true");
                if (c->options.recursive)
                        text_append(&path, "&recursive=true");
                if (watch.index > 0)
                        text_printf(&path, "&waitIndex=%llu", (unsigned long long) watch.index + 1);
                r = path.error < 0 ? path.error : stream_new(c->connection, path.chars, on_change, &watch, &stream, &err);
                while (r >= 0)
                        r = stream_wait(stream, 60000, &err);

                if (r == -EREMOTEIO && is_forgotten(stream_reply(stream), &now)) {
                        fprintf(stderr, "fleetctl: changes before index %llu are forgotten, and some of them may be missing here\n",
                                (unsigned long long) now);
                        watch.index = now;
                } else if (r == -EREMOTEIO)
                        return fail_answer(stream_reply(stream));
                else if (r != -ENODATA)
                        return client_fail(r, &err, "%s", "");
                else if (watch.index == 0)
                        watch.index = stream_reply(stream)->index; /* ended early: go on from where it began */
        } while (c->options.forever || !watch.told);
        return EXIT_DONE;
}

static const KvVerb verbs[] = {
        { "get", "KEY", "Print the value of a key", kv_get },
        { "set", "KEY [VALUE]", "Set a key, from stdin without a value", kv_set },
        { "ls", "[KEY]", "List the keys in a directory", kv_ls },
        { "rm", "KEY", "Remove a key", kv_rm },
        { "watch", "KEY", "Wait for a change of a key, and print it", kv_watch },
};

const KvVerb *kv_verbs(size_t *ret_n) {
        *ret_n = ELEMENTS(verbs);
        return verbs;
}

int verb_kv(Client *c, char **args, size_t n) {
        const KvVerb *found = NULL;

        if (n == 0)
                return usage("kv get, set, ls, rm or watch? fleetctl help kv");
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (*args[0] && starts_with(verbs[i].name, args[0])) /* no two begin alike */
                        found = &verbs[i];
        if (!found) {
                fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl kv\"\n", args[0]);
                fputs("Run 'fleetctl help kv' for usage.\n", stderr);
                return EXIT_USAGE;
        }
        return found->run(c, args + 1, n - 1);
}
