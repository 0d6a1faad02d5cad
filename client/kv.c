/* kv get, set, mk, ls, rm, watch, exec-watch: the cluster's keys, as etcdctl showed them. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/file.h"
#include "client/subprocess.h"
#include "client/client.h"
#include "client/kv.h"
#include "client/output.h"
#include "client/suggest.h"
#include "client/verbs.h"

void kv_append_key(Text *t, const char *key) {
        text_append(t, key[0] == '/' ? "/v2/keys" : "/v2/keys/");
        append_escaped(t, key, true);
}

/* What etcdctl said, with its exit status: "Error:  100: Key not found (/a) [17]". */
static int fail_answer(const Reply *reply) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *message = "", *cause = "";
        uint64_t code = 0, index = 0;
        _cleanup_text_ Text t = {};

        if (!reply->body.chars || json_value_parse(reply->body.chars, reply->body.size, &root, NULL) < 0 ||
            json_read_u64(root, "errorCode", &code, NULL) < 0 || code == 0 ||
            json_read_string(root, "message", &message, NULL) < 0 ||
            json_read_string(root, "cause", &cause, NULL) < 0 ||
            json_read_u64(root, "index", &index, NULL) < 0) {
                Error err = {};
                int r = reply_check(reply, &err);

                return client_fail(r < 0 ? r : -EBADMSG, &err, "Error:  ");
        }
        text_append_printable(&t, message);
        text_append(&t, " (");
        text_append_printable(&t, cause); /* a key: anybody's words */
        fprintf(stderr, "Error:  %llu: %s) [%llu]\n", (unsigned long long) code, t.chars ?: "",
                (unsigned long long) index);
        return EXIT_KV;
}

int kv_request(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root,
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
                (void) output_text(reply.body.chars, reply.body.size);
                return EXIT_DONE;
        }

        r = json_value_parse(reply.body.chars, reply.body.size, ret_root, &err);
        if (r < 0)
                return client_fail(error_prefix(&err, r, "fleetd's answer"), &err, "%s", "");
        *ret_node = json_value_member(*ret_root, "node");
        return EXIT_DONE;
}

int kv_ask(Client *c, const char *method, const Text *path, const Text *form, JsonValue **ret_root,
           const JsonValue **ret_node, uint64_t *ret_index, uint64_t *ret_code, Error *err) {
        _cleanup_reply_ Reply reply = {};
        const char *message = "", *cause = "";
        int r;

        *ret_code = 0;
        if (path->error < 0 || (form && form->error < 0))
                return -ENOMEM;
        r = connection_request(c->connection, method, path->chars, "application/x-www-form-urlencoded",
                               form ? form->chars ? form->chars : "" : NULL, &reply, err);
        if (r < 0)
                return r;
        if (ret_index)
                *ret_index = reply.index;
        r = json_value_parse(reply.body.chars ? reply.body.chars : "", reply.body.size, ret_root, NULL);
        if (reply.status >= 200 && reply.status < 300) {
                if (r < 0)
                        return error_set(err, r, "fleetd's answer is no JSON");
                *ret_node = json_value_member(*ret_root, "node");
                return 0;
        }
        if (r < 0 || json_read_u64(*ret_root, "errorCode", ret_code, NULL) < 0 || *ret_code == 0 ||
            json_read_string(*ret_root, "message", &message, NULL) < 0 ||
            json_read_string(*ret_root, "cause", &cause, NULL) < 0)
                return reply_check(&reply, err);
        return error_set(err, reply.status == 503 ? -EBUSY : -EREMOTEIO, "%llu: %s (%s)",
                         (unsigned long long) *ret_code, message, cause);
}

const char *kv_text_of(const JsonValue *node, const char *name) {
        const char *s = NULL;

        return json_read_string(node, name, &s, NULL) < 0 || !s ? "" : s;
}

bool kv_is_dir(const JsonValue *node) {
        bool dir = false;

        return json_read_bool(node, "dir", &dir, NULL) >= 0 && dir;
}

int kv_usage(const char *sentence) {
        fprintf(stderr, "fleetctl: %s\n", sentence);
        return EXIT_USAGE;
}

/* The bytes as they are, to all but a terminal; without --file a newline behind them. */
static int put_value(Client *c, const Reply *reply) {
        const char *file = c->options.file;
        FILE *f = file && !streq(file, "-") ? fopen(file, "we") : stdout;
        bool written = f == stdout ?
                               output_text(reply->body.chars, reply->body.size) >= 0 || output_has_failed() :
                               f && fwrite(reply->body.chars, 1, reply->body.size, f) == reply->body.size;

        if (!file)
                putchar('\n');
        if (f && f != stdout && fclose(f) == EOF)
                written = false;
        if (written)
                return EXIT_DONE;
        fprintf(stderr, "fleetctl: cannot write %s: %s\n", file ?: "it", strerror(errno));
        return EXIT_FAILED;
}

static int kv_get(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        const JsonValue *node = NULL;
        _cleanup_text_ Text path = {};
        int r;

        if (n != 1)
                return kv_usage("kv get takes one key");
        if (c->options.file || !streq(c->options.output, "json")) {
                Error err = {};

                r = kv_value(c, args[0], &reply, &err);
                if (r == 0)
                        return put_value(c, &reply);
                if (r != -ENODATA)
                        return client_fail(r, &err, "%s", "");
        }
        kv_append_key(&path, args[0]);
        if (c->options.quorum)
                text_append(&path, "?quorum=true");
        r = kv_request(c, "GET", &path, NULL, &root, &node);
        if (r != EXIT_DONE || !node)
                return r;
        if (kv_is_dir(node)) {
                fprintf(stderr, "%s: is a directory; fleetctl kv ls %s\n", args[0], args[0]);
                return EXIT_FAILED;
        }
        (void) output_line(kv_text_of(node, "value"));
        return EXIT_DONE;
}

static int print_key(const JsonValue *node) {
        const char *key = kv_text_of(node, "key");

        return output_name(key, strlen(key));
}

static int print_names(const JsonValue *node, bool recursive, unsigned level) {
        const JsonValue *nodes = json_value_member(node, "nodes");
        int r = 0;

        for (size_t i = 0; i < json_value_count(nodes) && r >= 0; i++) {
                const JsonValue *child = json_value_item(nodes, i);

                r = print_key(child);
                puts(kv_is_dir(child) ? "/" : "");
                if (r >= 0 && recursive && level < KV_LEVELS_MAX)
                        r = print_names(child, recursive, level + 1);
        }
        return r;
}

/* Names as they come, page by page. */
typedef struct ListedNames {
        size_t base_size; /* of the key that is listed */
        size_t n, limit;
        bool any;
} ListedNames;

static bool is_hidden(const KvListed *node, size_t base) {
        for (size_t i = base; i + 1 < node->key_size; i++)
                if (node->key[i] == '/' && node->key[i + 1] == '_')
                        return true;
        return false;
}

static int print_name(void *userdata, const KvListed *node) {
        ListedNames *names = userdata;
        int r;

        names->any = true;
        if ((node->key_size == names->base_size && node->dir) || is_hidden(node, names->base_size))
                return 0;
        if (names->limit > 0 && names->n == names->limit)
                return -ECANCELED;
        names->n++;
        r = output_name(node->key, node->key_size);
        puts(node->dir ? "/" : "");
        return r;
}

/* 1: done; 0: there is nothing, or no such answer: v2 has the words for it; -1: failed, and said so. */
static int ls_in_pages(Client *c, const char *key) {
        _cleanup_text_ Text base = {};
        ListedNames names = { .limit = c->options.limit };
        Error err = {};
        int r;

        kv_append_clean(&base, key, false);
        if (base.error < 0) {
                client_fail(base.error, NULL, "%s", "");
                return -1;
        }
        names.base_size = base.size;
        names.any = base.size == 0;
        r = kv_pages(c, key, c->options.recursive ? "values=false" : "values=false&recursive=false",
                     print_name, &names, &err);
        if (r < 0 && r != -ECANCELED && r != -EREMOTEIO) {
                if (!output_has_failed())
                        client_fail(r, &err, "%s", "");
                return -1;
        }
        return r == -ECANCELED || (r == 0 && names.any);
}

static int kv_ls(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *node = NULL;
        _cleanup_text_ Text path = {};
        int r;

        if (n > 1)
                return kv_usage("kv ls takes at most one key");
        if (!streq(c->options.output, "json")) {
                r = ls_in_pages(c, n > 0 ? args[0] : "/");
                if (r != 0)
                        return r == 1 ? EXIT_DONE : EXIT_FAILED;
        }
        kv_append_key(&path, n > 0 ? args[0] : "/");
        text_append(&path, "?sorted=true");
        if (c->options.recursive)
                text_append(&path, "&recursive=true");
        if (c->options.quorum)
                text_append(&path, "&quorum=true");
        r = kv_request(c, "GET", &path, NULL, &root, &node);
        if (r != EXIT_DONE || !node)
                return r;
        r = kv_is_dir(node) ? print_names(node, c->options.recursive, 0) :
                              output_line(kv_text_of(node, "key"));
        return r < 0 && !output_has_failed() ? client_fail(r, NULL, "%s", "") : EXIT_DONE;
}

void kv_add_field(Text *form, const char *name, const char *value) {
        text_printf(form, "%s%s=", form->size > 0 ? "&" : "", name);
        append_escaped(form, value, false);
}

void kv_add_bytes(Text *form, const char *name, const void *bytes, size_t size) {
        text_printf(form, "%s%s=", form->size > 0 ? "&" : "", name);
        append_escaped_bytes(form, bytes, size, false);
}

void kv_add_number(Text *form, const char *name, uint64_t value) {
        text_printf(form, "%s%s=%llu", form->size > 0 ? "&" : "", name, (unsigned long long) value);
}

static int kv_set(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, form = {};
        const JsonValue *node = NULL;
        _cleanup_free_ char *piped = NULL;
        const Options *o = &c->options;
        const char *file = o->file ?: "-", *value = args[n - 1];
        bool json = streq(o->output, "json");
        size_t size = 0;
        int r;

        if (n < 1 || n > 2)
                return kv_usage("kv set takes a key and a value; without a value it is read from stdin");
        if (n == 2 && o->file)
                return kv_usage("kv set takes a value, or a file, not both");
        if (n == 1) {
                r = kv_read_file(file, KV_VALUE_READ_MAX, &piped, &size);
                if (r < 0) {
                        fprintf(stderr, "fleetctl: cannot take a value from %s: %s\n",
                                streq(file, "-") ? "stdin" : file, strerror(-r));
                        return EXIT_FAILED;
                }
                value = piped;
        } else
                size = strlen(value);
        kv_append_key(&path, args[0]);
        kv_add_bytes(&form, "value", value, size);
        if (!json) /* what an answer shows of bytes that are no text is not them */
                kv_add_field(&form, "noValueOnSuccess", "true");
        if (o->ttl_given)
                kv_add_number(&form, "ttl", o->ttl);
        if (o->swap_with_value)
                kv_add_field(&form, "prevValue", o->swap_with_value);
        if (o->swap_with_index > 0)
                kv_add_number(&form, "prevIndex", o->swap_with_index);
        r = kv_request(c, "PUT", &path, &form, &root, &node);
        if (r == EXIT_DONE && !json && text_is_plain(value, size))
                (void) output_line(value);
        return r;
}

/* Only if there is nothing; with --in-order below KEY, by a name of its own, which is printed. */
static int kv_mk(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, form = {};
        const JsonValue *node = NULL;
        const Options *o = &c->options;
        int r;

        if (n < 1 || n > 2 || (o->dir && n > 1))
                return kv_usage("kv mk takes a key and a value; a directory (--dir) has no value");
        kv_append_key(&path, args[0]);
        if (o->dir)
                kv_add_field(&form, "dir", "true");
        else
                kv_add_field(&form, "value", n > 1 ? args[1] : "");
        if (o->ttl_given)
                kv_add_number(&form, "ttl", o->ttl);
        if (!o->in_order)
                kv_add_field(&form, "prevExist", "false");
        r = kv_request(c, o->in_order ? "POST" : "PUT", &path, &form, &root, &node);
        if (r == EXIT_DONE && node && (o->in_order || !o->dir))
                (void) output_line(kv_text_of(node, o->in_order ? "key" : "value"));
        return r;
}

/* -- watch: one plain wait after the other, as all clients of etcd do -- */

typedef struct Watch {
        bool json;
        bool told;      /* this wait has brought a change */
        uint64_t index; /* of the last change seen; 0: none yet */
        char **command; /* to be run for each; NULL: printed */
} Watch;

/* etcdctl's variables. */
static int run_for_change(const Watch *watch, const JsonValue *root, const JsonValue *node) {
        int r, signal = 0;
        char index[24];
        const char *const environment[] = {
                "ETCD_WATCH_ACTION",
                kv_text_of(root, "action"),
                "ETCD_WATCH_KEY",
                kv_text_of(node, "key"),
                "ETCD_WATCH_VALUE",
                kv_text_of(node, "value"),
                "ETCD_WATCH_MODIFIED_INDEX",
                index,
                NULL,
        };

        snprintf(index, sizeof(index), "%llu", (unsigned long long) watch->index);
        r = subprocess_run((const char *const *) watch->command, environment, NULL, NULL, &signal);
        if (signal != 0)
                (void) raise(signal); /* it had its part: no other command is run */
        return r;
}

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
        if (watch->command) {
                r = run_for_change(watch, root, node);
                if (r > 0)
                        fprintf(stderr, "fleetctl: %s ended with exit status %d\n", watch->command[0], r);
                return MIN(r, 0);
        }
        if (watch->json)
                (void) output_line(line);
        else {
                printf("%s ", kv_text_of(root, "action"));
                r = print_key(node);
                if (r < 0)
                        return r;
                fputs(*kv_text_of(node, "value") ? " " : kv_is_dir(node) ? "/" : "", stdout);
                (void) output_line(kv_text_of(node, "value"));
        }
        return fflush(stdout) == EOF ? -errno : 0;
}

/* Is it etcd's 401: so much has happened that changes after that index are no longer known? */
static bool is_forgotten(const Reply *reply, uint64_t *ret_index) {
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t code = 0;

        return reply->body.chars && json_value_parse(reply->body.chars, reply->body.size, &root, NULL) >= 0 &&
               json_read_u64(root, "errorCode", &code, NULL) >= 0 && code == 401 &&
               json_read_u64(root, "index", ret_index, NULL) >= 0;
}

static int follow(Client *c, const char *key, char **command) {
        Watch watch = { .json = streq(c->options.output, "json"),
                        .index = c->options.after_index,
                        .command = command };

        do {
                _cleanup_stream_ Stream *stream = NULL;
                _cleanup_text_ Text path = {};
                uint64_t now = 0;
                Error err = {};
                int r;

                watch.told = false;
                kv_append_key(&path, key);
                text_append(&path, "?wait=true");
                if (c->options.recursive)
                        text_append(&path, "&recursive=true");
                if (watch.index > 0)
                        text_printf(&path, "&waitIndex=%llu", (unsigned long long) watch.index + 1);
                r = path.error < 0 ? path.error :
                                     stream_new(c->connection, path.chars, on_change, &watch, &stream, &err);
                while (r >= 0)
                        r = stream_wait(stream, 60000, &err);

                if (r == -EREMOTEIO && is_forgotten(stream_reply(stream), &now)) {
                        fprintf(stderr,
                                "fleetctl: changes before index %llu are forgotten, and some of them may be "
                                "missing here\n",
                                (unsigned long long) now);
                        watch.index = now;
                } else if (r == -EREMOTEIO)
                        return fail_answer(stream_reply(stream));
                else if (r != -ENODATA)
                        return output_has_failed() ? EXIT_FAILED : client_fail(r, &err, "%s", "");
                else if (watch.index == 0)
                        watch.index =
                                stream_reply(stream)->index; /* ended early: go on from where it began */
        } while (command || c->options.forever || !watch.told);
        return EXIT_DONE;
}

static int kv_watch(Client *c, char **args, size_t n) {
        if (c->options.all)
                return n <= 1 ? kv_watch_all(c, n > 0 ? args[0] : "/") :
                                kv_usage("kv watch --all takes one key at most");
        return n == 1 ? follow(c, args[0], NULL) :
                        kv_usage("kv watch takes one key; kv watch --all without one is of all keys");
}

int kv_exec_watch(Client *c, char **args, size_t n) {
        return n >= 2 ? follow(c, args[0], args + 1) :
                        kv_usage("kv exec-watch takes a key and a command: fleetctl kv exec-watch /config -- "
                                 "systemctl reload web");
}

static const KvVerb verbs[] = {
        { "get", "KEY", "Print the value of a key", kv_get },
        { "set", "KEY [VALUE]", "Set a key, from stdin without a value", kv_set },
        { "mk", "KEY [VALUE]", "Make a key or directory that is not there", kv_mk },
        { "ls", "[KEY]", "List the keys in a directory", kv_ls },
        { "rm", "KEY", "Remove a key", kv_rm },
        { "watch", "KEY", "Wait for a change of a key, and print it", kv_watch },
        { "exec-watch", "KEY -- CMD...", "Run a command for each change", kv_exec_watch },
        { "lock", "NAME -- CMD...", "Run a command that runs once in the cluster", kv_lock },
        { "txn", "[FILE]", "Check and write many keys, all or nothing", kv_txn },
        { "export", "[KEY [DIR]]", "Print all below a key as JSON, or write it to files", kv_export },
        { "import", "KEY [FILE|DIR]", "Set keys from JSON, or from files", kv_import },
};

const KvVerb *kv_verbs(size_t *ret_n) {
        *ret_n = ELEMENTS(verbs);
        return verbs;
}

int verb_kv(Client *c, char **args, size_t n) {
        const KvVerb *found = NULL;
        bool exact = false, ambiguous = false;

        if (n == 0)
                return kv_usage("kv get, set, mk, ls, rm, watch, exec-watch, lock, txn, export or import? "
                                "fleetctl help kv");
        for (size_t i = 0; i < ELEMENTS(verbs) && !exact; i++)
                if (*args[0] && starts_with(verbs[i].name, args[0])) {
                        exact = streq(verbs[i].name, args[0]);
                        ambiguous = found && !exact;
                        found = &verbs[i];
                }
        if (!found || ambiguous) {
                size_t best = SIZE_MAX, distance;
                const char *meant = NULL;

                fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl kv\"\n", args[0]);
                for (size_t i = 0; i < ELEMENTS(verbs) && client_talks_to_people(); i++)
                        if (is_spelt_alike(args[0], verbs[i].name, &distance) && distance < best) {
                                best = distance;
                                meant = verbs[i].name;
                        }
                if (meant)
                        fprintf(stderr, "fleetctl: did you mean kv %s?\n", meant);
                fputs("Run 'fleetctl help kv' for usage.\n", stderr);
                return EXIT_USAGE;
        }
        return found->run(c, args + 1, n - 1);
}
