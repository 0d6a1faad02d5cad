/* kv get, set, mk, ls, watch, exec-watch: the keys of the cluster, with the output of etcdctl. */
#include "client/verbs/kv.h"

#include "base/clock.h"
#include "client/core/subprocess.h"

/* -- get, ls -- */

/* Write the bytes to --file, or with a newline to stdout. A failed stdout is reported by output_finish(). */
static int write_value(Client *c, const Reply *reply, Error *err) {
        const char *file = c->options.file;
        bool written;
        FILE *f;

        if (!file || streq(file, "-")) {
                (void) output_text(reply->body.chars, reply->body.size);
                if (!file)
                        putchar('\n');
                return EXIT_DONE;
        }
        f = fopen(file, "we");
        written = f && fwrite(reply->body.chars, 1, reply->body.size, f) == reply->body.size;
        if (f && fclose(f) == EOF)
                written = false;
        if (written)
                return EXIT_DONE;
        return error_set(err, -EIO, "Failed to write %s: %s", file, strerror(errno));
}

/* Read the bytes of a value. -ENODATA for any other answer: the v2 API has the error message. */
static int kv_value(Client *c, const char *key, Reply *ret, Error *err) {
        _cleanup_text_ Text path = {};

        text_append(&path, "/fleet/v1/kv/value");
        kv_append_clean(&path, key, true);
        if (c->options.quorum)
                text_append(&path, "?quorum=true");
        TRY(connection_request(c->connection, "GET", client_path(&path), NULL, NULL, ret, err));
        return ret->status == 200 ? 0 : -ENODATA;
}

static int kv_get(Client *c, char **args, size_t n, Error *err) {
        _cleanup_kv_request_ KvRequest request = { .method = "GET" };
        _cleanup_reply_ Reply reply = {};
        int r;

        if (n != 1)
                return client_usage("kv get: expected one key");
        if (c->options.file || !streq(c->options.output, "json")) {
                r = kv_value(c, args[0], &reply, err);
                if (r == 0)
                        return write_value(c, &reply, err);
                if (r != -ENODATA)
                        return r;
        }
        kv_append_key(&request.path, args[0]);
        if (c->options.quorum)
                text_append(&request.path, "?quorum=true");
        r = kv_run(c, &request, err);
        if (r != EXIT_DONE || !request.node)
                return r;
        if (member_bool(request.node, "dir")) {
                fprintf(stderr, "%s: is a directory; fleetctl kv ls %s\n", args[0], args[0]);
                return EXIT_FAILED;
        }
        (void) output_line(member_text(request.node, "value"));
        return EXIT_DONE;
}

static int print_key(const JsonValue *node) {
        const char *key = member_text(node, "key");

        return output_name(key, strlen(key));
}

/* The names of a list, printed page by page. */
typedef struct ListedNames {
        size_t base_size; /* of the key that is listed */
        size_t n, limit;
        bool any;
} ListedNames;

static int print_name(void *userdata, const KvListed *node) {
        ListedNames *names = userdata;
        int r;

        names->any = true;
        if ((node->key_size == names->base_size && node->dir) || kv_is_hidden(node, names->base_size))
                return 0;
        if (names->limit > 0 && names->n == names->limit)
                return -ECANCELED;
        names->n++;
        r = output_name(node->key, node->key_size);
        puts(node->dir ? "/" : "");
        return r;
}

static int kv_ls(Client *c, char **args, size_t n, Error *err) {
        _cleanup_kv_request_ KvRequest request = { .method = "GET" };
        ListedNames names = { .limit = c->options.limit };
        const char *key = n > 0 ? args[0] : "/";
        _cleanup_text_ Text base = {};
        int r;

        if (n > 1)
                return client_usage("kv ls: expected at most one key");
        if (!client_prints_json(c)) {
                kv_append_clean(&base, key, false);
                TRY(base.error);
                names.base_size = base.size;
                names.any = base.size == 0;
                r = kv_pages(c, key, c->options.recursive ? "values=false" : "values=false&recursive=false",
                             print_name, &names, err);
                if (r == -ECANCELED || (r == 0 && names.any))
                        return EXIT_DONE;
                if (r < 0 && r != -EREMOTEIO)
                        return r;
        }
        kv_append_key(&request.path, key); /* the v2 API has the error message, and the JSON */
        text_append(&request.path, "?sorted=true");
        if (c->options.recursive)
                text_append(&request.path, "&recursive=true");
        if (c->options.quorum)
                text_append(&request.path, "&quorum=true");
        return kv_run(c, &request, err);
}

/* -- set, mk -- */

enum { KEY_NOT_FOUND = 100, COMPARE_FAILED = 101 }; /* errors of etcd */

/* Renew the time to live of a key that has this value: that notifies no watcher. Return 1, or 0 if it has
 * not. */
static int kv_refresh(Client *c, const char *key, const void *value, size_t size, Error *err) {
        _cleanup_kv_request_ KvRequest request = { .method = "PUT" };
        int r;

        if (size == 0) /* the API cannot compare it */
                return 0;
        kv_append_key(&request.path, key);
        kv_add_field(&request.form, "refresh", "true");
        kv_add_bytes(&request.form, "prevValue", value, size);
        kv_add_number(&request.form, "ttl", c->options.ttl);
        kv_add_field(&request.form, "noValueOnSuccess", "true");
        r = kv_send(c, &request, err);
        if (r < 0 && (request.code == KEY_NOT_FOUND || request.code == COMPARE_FAILED))
                return 0;
        return r < 0 ? r : 1;
}

/* Check the arguments of "kv set". Return an exit status. */
static int kv_set_check(const Options *o, size_t n) {
        if (n < 1 || n > 2)
                return client_usage("kv set: expected a key and a value; without a value, stdin is read");
        if (n == 2 && o->file)
                return client_usage("kv set: expected a value or --file, not both");
        if (o->refresh && (!o->ttl_given || o->swap_with_value || o->swap_with_index > 0 || *o->output))
                return client_usage("kv set --refresh: expected --ttl, and neither a condition nor --output");
        return EXIT_DONE;
}

static int kv_set(Client *c, char **args, size_t n, Error *err) {
        _cleanup_kv_request_ KvRequest request = { .method = "PUT" };
        _cleanup_free_ char *piped = NULL;
        const Options *o = &c->options;
        const char *file = o->file ?: "-", *value = args[n - 1];
        bool json = streq(o->output, "json");
        size_t size = 0;
        int r;

        r = TRY_DONE(kv_set_check(o, n));
        if (n == 1) {
                r = kv_read_file(file, KV_VALUE_READ_MAX, &piped, &size);
                if (r < 0)
                        return error_set(err, r, "Failed to read the value from %s: %s",
                                         streq(file, "-") ? "stdin" : file, strerror(-r));
                value = piped;
        } else
                size = strlen(value);
        r = o->refresh ? kv_refresh(c, args[0], value, size, err) : 0;
        if (r != 0)
                return MIN(r, 0);
        kv_append_key(&request.path, args[0]);
        kv_add_bytes(&request.form, "value", value, size);
        if (!json) /* an answer cannot contain bytes that are no text */
                kv_add_field(&request.form, "noValueOnSuccess", "true");
        if (o->ttl_given)
                kv_add_number(&request.form, "ttl", o->ttl);
        if (o->swap_with_value)
                kv_add_field(&request.form, "prevValue", o->swap_with_value);
        if (o->swap_with_index > 0)
                kv_add_number(&request.form, "prevIndex", o->swap_with_index);
        r = kv_run(c, &request, err);
        if (r == EXIT_DONE && !json && text_is_plain(value, size))
                (void) output_line(value);
        return r;
}

/* Create a key that does not exist; with --in-order below KEY, with a new name that is printed. */
static int kv_mk(Client *c, char **args, size_t n, Error *err) {
        const Options *o = &c->options;
        _cleanup_kv_request_ KvRequest request = { .method = o->in_order ? "POST" : "PUT" };
        int r;

        if (n < 1 || n > 2 || (o->dir && n > 1))
                return client_usage("kv mk: expected a key and a value; a directory (--dir) has no value");
        kv_append_key(&request.path, args[0]);
        if (o->dir)
                kv_add_field(&request.form, "dir", "true");
        else
                kv_add_field(&request.form, "value", n > 1 ? args[1] : "");
        if (o->ttl_given)
                kv_add_number(&request.form, "ttl", o->ttl);
        if (!o->in_order)
                kv_add_field(&request.form, "prevExist", "false");
        r = kv_run(c, &request, err);
        if (r == EXIT_DONE && request.node && (o->in_order || !o->dir))
                (void) output_line(member_text(request.node, o->in_order ? "key" : "value"));
        return r;
}

/* -- watch, exec-watch: one request per change, as in all clients of etcd --
 *
 * After its begin, a watch outlives a restart of fleetd: it continues after the last index that it has seen,
 * so that no change is missed or repeated. */

enum {
        WATCH_CLEARED = 400, /* errors of etcd: an open watch lacks changes; */
        WATCH_OUTSIDE = 401, /* changes after its index are no longer kept */
        KV_PAUSE_MS = 200,   /* before the next attempt, doubled up to PAUSE_MAX_MS */
        KV_PAUSE_MAX_MS = 1000,
        LOST_NOTE_MS = 1000, /* of a shorter interruption, nothing is printed */
        LOST_POLL_MS = 100,
        WAIT_MS = 60000,
};

typedef struct Watch {
        Client *client;
        const char *key;
        bool json;
        bool begun;       /* fleetd has answered */
        bool changed;     /* this request has returned a change */
        uint64_t index;   /* of the last change, else of the begin; 0: not known yet */
        char **command;   /* to run for each change; NULL: print it */
        Text refusal;     /* an error of etcd, in place of a change */
        uint64_t lost_ms; /* since when there is no answer; 0: there is one */
        uint64_t pause_ms;
        bool noted; /* the interruption was printed */
        Error why;  /* of the interruption */
} Watch;

/* Run the command with the variables of etcdctl. */
static int run_for_change(const Watch *watch, const JsonValue *root, const JsonValue *node) {
        int r, signal = 0;
        char index[24];
        const char *const environment[] = {
                "ETCD_WATCH_ACTION",
                member_text(root, "action"),
                "ETCD_WATCH_KEY",
                member_text(node, "key"),
                "ETCD_WATCH_VALUE",
                member_text(node, "value"),
                "ETCD_WATCH_MODIFIED_INDEX",
                index,
                NULL,
        };

        snprintf(index, sizeof(index), "%llu", (unsigned long long) watch->index);
        r = subprocess_run((const char *const *) watch->command, environment, NULL, NULL, &signal);
        if (signal != 0)
                (void) raise(signal); /* the command got it, too; end before the next command */
        return r;
}

static int on_change(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        Watch *watch = userdata;
        const JsonValue *node;
        int r;

        TRY(json_value_parse(line, size, &root, NULL));
        if (json_value_member(root, "errorCode")) {
                text_append_bytes(&watch->refusal, line, size);
                return watch->refusal.error;
        }
        node = json_value_member(root, "node");
        r = TRY(json_read_u64(node, "modifiedIndex", &watch->index, NULL));
        watch->changed = true;
        if (watch->command) {
                r = run_for_change(watch, root, node);
                if (r > 0)
                        fprintf(stderr, "fleetctl: %s failed with exit status %d\n", watch->command[0], r);
                return MIN(r, 0);
        }
        if (watch->json)
                (void) output_line(line);
        else {
                printf("%s ", member_text(root, "action"));
                TRY(print_key(node));
                if (*member_text(node, "value"))
                        putchar(' ');
                else if (member_bool(node, "dir"))
                        putchar('/');
                (void) output_line(member_text(node, "value"));
        }
        return output_flush();
}

/* Print that the watch is interrupted, after a second, and then that it continues. */
static void watch_note(Watch *watch, bool answered) {
        if (watch->lost_ms == 0)
                return;
        if (answered) {
                if (watch->noted)
                        client_note("fleetd answers again: the watch continues");
                watch->lost_ms = watch->pause_ms = 0;
                watch->noted = false;
        } else if (!watch->noted && clock_monotonic_ms() - watch->lost_ms > LOST_NOTE_MS) {
                client_note("the watch is interrupted, and continues when fleetd answers: %s",
                            watch->why.message);
                watch->noted = true;
        }
}

/* Wait for a change, and handle it. Return 0 at the end of the answer, with or without a change, or an error.
 * *ret_reply is set unless the request could not be made. */
static int watch_once(Watch *watch, const Text *path, Reply *ret_reply, Error *err) {
        _cleanup_stream_ Stream *s = NULL;
        int r;

        watch->changed = false;
        text_clear(&watch->refusal);
        r = TRY(stream_new(watch->client->connection, "GET", client_path(path), on_change, watch, &s, err));
        do {
                r = stream_wait(s, watch->lost_ms > 0 ? LOST_POLL_MS : WAIT_MS, err);
                watch_note(watch, stream_status(s) == 200);
        } while (r >= 0);
        *ret_reply = stream_take_reply(s);
        watch->begun |= ret_reply->status == 200;
        if (watch->index == 0)
                watch->index = ret_reply->index;
        if (watch->refusal.size > 0) {
                ret_reply->body.chars = text_take(&watch->refusal, &ret_reply->body.size);
                ret_reply->status = 400;
                return ret_reply->body.chars ? -EREMOTEIO : -ENOMEM;
        }
        return r == -ENODATA || (watch->changed && connection_is_lost(r) && !output_has_failed()) ? 0 : r;
}

/* Return whether the answer is an error of etcd about changes that are no longer kept, and the index of the
 * store. */
static bool is_outside_window(const Reply *reply, uint64_t *ret_index) {
        _cleanup_(kv_error_done) EtcdError e = {};

        if (kv_error_read(reply, &e) < 0)
                return false;
        *ret_index = e.index;
        return e.code == WATCH_OUTSIDE || e.code == WATCH_CLEARED;
}

/* Return whether a watch that has begun outlives this end of a request: fleetd restarts, has no leader, or is
 * busy. */
static bool watch_is_lost(const Watch *watch, int r, const Reply *reply) {
        if (!watch->begun || output_has_failed())
                return false;
        if (r == -EREMOTEIO)
                return reply->status >= 500;
        /* fleetd creates its socket before it admits group fleet. */
        return r == 0 || connection_is_lost(r) || (r == -EACCES && watch->lost_ms > 0 && !watch->noted);
}

static void watch_pause(Watch *watch, int r, const Reply *reply, const Error *err) {
        _cleanup_(kv_error_done) EtcdError e = {};

        if (r == -EREMOTEIO && kv_error_read(reply, &e) >= 0)
                (void) error_set(&watch->why, r, "%s (%s)", e.message, e.cause);
        else if (r < 0)
                (void) error_set(&watch->why, r, "%s", client_answer_text(err));
        else
                (void) error_set(&watch->why, r, "fleetd ended the answer without a change");
        if (watch->lost_ms == 0)
                watch->lost_ms = clock_monotonic_ms();
        watch->pause_ms = watch->pause_ms > 0 ? MIN(watch->pause_ms * 2, (uint64_t) KV_PAUSE_MAX_MS) :
                                                KV_PAUSE_MS;
        (void) usleep((useconds_t) watch->pause_ms * 1000);
        watch_note(watch, false);
}

static int watch_run(Watch *watch, Error *err) {
        const Options *o = &watch->client->options;

        do {
                _cleanup_reply_ Reply reply = {};
                _cleanup_text_ Text path = {};
                uint64_t now = 0;
                int r;

                kv_append_key(&path, watch->key);
                text_append(&path, "?wait=true");
                if (o->recursive)
                        text_append(&path, "&recursive=true");
                if (watch->index > 0)
                        text_printf(&path, "&waitIndex=%llu", (unsigned long long) watch->index + 1);
                r = watch_once(watch, &path, &reply, err);
                if (watch->changed && r == 0)
                        continue;
                if (r == -EREMOTEIO && is_outside_window(&reply, &now)) {
                        client_note(
                                "changes after index %llu may have been missed: they are no longer in the "
                                "event window; the watch continues after index %llu",
                                (unsigned long long) watch->index, (unsigned long long) now);
                        watch->index = now;
                        watch->begun = true;
                } else if (watch_is_lost(watch, r, &reply))
                        watch_pause(watch, r, &reply, err);
                else if (r == -EREMOTEIO)
                        return kv_fail_answer(&reply, "GET", client_path(&path), &now);
                else if (r < 0)
                        return r;
        } while (watch->command || o->forever || !watch->changed);
        return EXIT_DONE;
}

static int kv_follow(Client *c, const char *key, char **command, Error *err) {
        Watch watch = { .client = c,
                        .key = key,
                        .json = streq(c->options.output, "json"),
                        .index = c->options.after_index,
                        .command = command };
        int r = watch_run(&watch, err);

        text_done(&watch.refusal);
        return r;
}

static int kv_watch(Client *c, char **args, size_t n, Error *err) {
        if (c->options.all)
                return n <= 1 ? kv_watch_all(c, n > 0 ? args[0] : "/", err) :
                                client_usage("kv watch --all: expected at most one key");
        return n == 1 ? kv_follow(c, args[0], NULL, err) :
                        client_usage("kv watch: expected one key; kv watch --all watches all keys");
}

static int kv_exec_watch(Client *c, char **args, size_t n, Error *err) {
        return n >= 2 ? kv_follow(c, args[0], args + 1, err) :
                        client_usage("kv exec-watch: expected a key and a command: fleetctl kv exec-watch "
                                     "/config -- "
                                     "systemctl reload web");
}

VERB(kv_get, "get", "kv json", "KEY", "Print the value of a key", NULL, kv_get);

VERB(kv_set, "set", "kv json", "KEY [VALUE]", "Set a key; without a value, read stdin", NULL, kv_set);

VERB(kv_mk, "mk", "kv json", "KEY [VALUE]", "Create a key or directory that does not exist", NULL, kv_mk);

VERB(kv_ls, "ls", "kv json", "[KEY]", "List the keys in a directory", NULL, kv_ls);

VERB(kv_watch, "watch", "kv json", "KEY", "Wait for a change of a key and print it", NULL, kv_watch);

VERB(kv_exec_watch, "exec-watch", "kv", "KEY -- CMD...", "Run a command for each change",
     "Not for the value at the start. The command has ETCD_WATCH_ACTION, ETCD_WATCH_KEY, ETCD_WATCH_VALUE\n"
     "and ETCD_WATCH_MODIFIED_INDEX in its environment.\n",
     kv_exec_watch);

static const Verb *const kv_verbs[] = {
        &verb_kv_get,        &verb_kv_set,  &verb_kv_mk,  &verb_kv_ls,     &verb_kv_rm,     &verb_kv_watch,
        &verb_kv_exec_watch, &verb_kv_lock, &verb_kv_txn, &verb_kv_export, &verb_kv_import, NULL,
};

static int kv_verb_run(Client *c, char **args, size_t n, Error *err) {
        static const char *const of_etcd[][2] = {
                { "rm", "del delete" }, { "ls", "list" }, { "mk", "mkdir" }, { "set", "put update" }
        };
        const char *nearest = NULL;
        const Verb *verb;

        if (n == 0)
                return client_usage(
                        "kv: expected get, set, mk, ls, rm, watch, exec-watch, lock, txn, export or "
                        "import (fleetctl help kv)");
        verb = verb_find(kv_verbs, args[0]);
        if (verb && *c->options.output && !verb_has(verb, "json")) {
                fprintf(stderr, "fleetctl: kv %s: the verb has no output of its own; leave out --output\n",
                        verb->name);
                return EXIT_USAGE;
        }
        if (verb)
                return client_run(c, verb, args + 1, n - 1, err);

        fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl kv\"\n", args[0]);
        nearest = words_find(of_etcd, ELEMENTS(of_etcd), args[0]) ?: verb_nearest(kv_verbs, args[0]);
        if (nearest)
                fprintf(stderr, "fleetctl: did you mean kv %s?\n", nearest);
        fputs("Run 'fleetctl help kv' for usage.\n", stderr);
        return EXIT_USAGE;
}

const Verb verb_kv = {
        .name = "kv",
        .groups = "kv json",
        .arguments = "VERB ...",
        .summary = "Read, write and watch the keys of the cluster",
        .description =
                "The keys of /v2/keys, which every host serves. Exit status 4: the key does not exist, or a\n"
                "comparison failed.\n\n"
                "fleetctl kv set /config/color green --ttl=60\n"
                "fleetctl kv watch --recursive --forever /config\n",
        .run = kv_verb_run,
        .verbs = kv_verbs
};
