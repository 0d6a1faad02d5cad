/* kv rm. The server rejects the removal of a directory with too many keys. Then fleetctl removes it in parts:
 * the leaves of the first page in one transaction, again and again, until the rest fits into one request. A
 * part removes only empty directories, so that keys created meanwhile stay until the last request, which is
 * the requested one. */
#include "client/verbs/kv.h"

enum {
        PART_MAX = 1000, /* nodes of one listing, and of one transaction */
        REMOVE_ATTEMPTS_MAX =
                60, /* without progress: the server is busy, or other clients write below the key */
        PAUSE_US = 1000000,
};

enum { CODE_NOT_FILE = 102, CODE_TOO_MANY = 210 };

static const char message_incomplete[] =
        "some keys remain: the server is busy, or other clients write below the key";

/* The nodes of one list. */
typedef struct Part {
        struct PartNode {
                char *key;
                size_t size;
                bool dir;
        } nodes[PART_MAX];
        size_t n;
        bool more;
} Part;

static void part_clear(Part *part) {
        while (part->n > 0)
                free(part->nodes[--part->n].key);
        part->more = false;
}

static int part_add(void *userdata, const KvListed *node) {
        Part *part = userdata;
        char *key;

        if (part->n == PART_MAX) {
                part->more = true;
                return -ECANCELED;
        }
        key = malloc(node->key_size + 1);
        if (!key)
                return -ENOMEM;
        memcpy(key, node->key, node->key_size);
        part->nodes[part->n++] = (struct PartNode) { key, node->key_size, node->dir };
        return 0;
}

static bool part_is_below(const struct PartNode *node, const struct PartNode *above) {
        return node->size > above->size && node->key[above->size] == '/' &&
               memcmp(node->key, above->key, above->size) == 0;
}

/* Return whether no key follows below the node: parents come first. The node after the last one is unknown.
 */
static bool is_leaf(const Part *part, size_t i) {
        if (i == 0)
                return false; /* the directory of the request */
        return i + 1 < part->n ? !part_is_below(&part->nodes[i + 1], &part->nodes[i]) :
                                 !part->nodes[i].dir || !part->more;
}

static size_t write_leaves(const Part *part, size_t max, Text *t) {
        size_t n = 0;

        text_append(t, "{\"writes\":[");
        for (size_t i = 0; i < part->n && n < max; i++) {
                if (!is_leaf(part, i))
                        continue;
                text_append(t, n++ > 0 ? "," : "");
                json_open(t, NULL, '{');
                json_add_string(t, "action", "delete");
                json_add_bytes(t, "key", part->nodes[i].key, part->nodes[i].size);
                json_add_bool(t, "dir", part->nodes[i].dir);
                json_close(t, '}');
        }
        text_append(t, "]}");
        return n;
}

/* Remove at most *max leaves of a list. Return 1 after progress, 0 if other clients write there, or if fewer
 * leaves have to be tried; -EBUSY if the server is busy. */
static int remove_part(Client *c, const Part *part, size_t *max, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        size_t n = write_leaves(part, *max, &body);

        if (n == 0)
                return 0;
        TRY(connection_request(c->connection, "POST", "/fleet/v1/kv/txn", CONTENT_JSON, &body, &reply, err));
        switch (reply.status) {
        case 200:
                return 1;
        case 413:
                if (n == 1)
                        return reply_check(&reply, err);
                *max = MIN(*max, n) / 2;
                return 0;
        case 503:
                return -EBUSY;
        case 404: /* another client has removed or added keys */
        case 409:
                return 0;
        default:
                TRY(reply_check(&reply, err));
                return -EBADMSG;
        }
}

/* Remove leaves until the rest fits into one list; the request of the caller removes the rest. */
static int remove_leaves(Client *c, const char *key, Error *err) {
        Part part = {};
        size_t max = PART_MAX, in_vain = 0;
        bool busy;
        int r = 0;

        for (bool more = true; r >= 0 && more && in_vain < REMOVE_ATTEMPTS_MAX; part_clear(&part)) {
                r = kv_pages(c, key, "values=false&limit=1000", part_add, &part, err);
                if (r < 0 && r != -ECANCELED)
                        break;
                r = remove_part(c, &part, &max, err);
                busy = r == -EBUSY;
                if (busy) {
                        (void) usleep(PAUSE_US);
                        r = 0;
                }
                in_vain = r == 0 ? in_vain + 1 : 0;
                more = part.n > 1 && (busy || part.more || max < PART_MAX);
        }
        part_clear(&part);
        if (r < 0)
                return r;
        return in_vain == REMOVE_ATTEMPTS_MAX ? error_set(err, -EBUSY, "%s", message_incomplete) : 0;
}

/* Remove a directory. Retry while the server is busy: such a request had no effect. */
static int remove_below(Client *c, const char *key, KvRequest *request, Error *err) {
        bool in_parts = false;
        int r;

        for (unsigned in_vain = 0; in_vain < REMOVE_ATTEMPTS_MAX; in_vain++) {
                r = kv_send(c, request, err);
                if (r == -EREMOTEIO && request->code == CODE_TOO_MANY) {
                        if (in_parts)
                                (void) usleep(PAUSE_US);
                        in_parts = true;
                        *err = (Error) {};
                        r = TRY(remove_leaves(c, key, err));
                } else if (r == -EBUSY)
                        (void) usleep(PAUSE_US);
                else
                        return r;
        }
        return error_set(err, -EBUSY, "%s",
                         in_parts ? message_incomplete : "the server is busy; nothing was removed");
}

static int kv_rm(Client *c, char **args, size_t n, Error *err) {
        _cleanup_kv_request_ KvRequest request = { .method = "DELETE" };
        _cleanup_text_ Text query = {};
        const Options *o = &c->options;
        int r;

        if (n != 1)
                return client_usage("kv rm: expected one key");
        kv_append_key(&request.path, args[0]);
        if (o->recursive)
                kv_add_field(&query, "recursive", "true");
        if (o->dir)
                kv_add_field(&query, "dir", "true");
        if (o->with_value)
                kv_add_field(&query, "prevValue", o->with_value);
        if (o->with_index > 0)
                kv_add_number(&query, "prevIndex", o->with_index);
        if (query.size > 0)
                text_printf(&request.path, "?%s", query.chars);
        TRY(query.error);
        if (o->recursive && !o->with_value && o->with_index == 0 && !streq(o->output, "json")) {
                r = remove_below(c, args[0], &request, err);
                if (r >= 0)
                        return EXIT_DONE;
                if (r != -EREMOTEIO || request.code >= 200)
                        return r;
                /* The first request had no effect; the second one prints the error of etcdctl. */
        }
        r = kv_run(c, &request, err);
        if (request.code == CODE_NOT_FILE && !o->dir && !o->recursive)
                client_note(
                        "%s is a directory; to remove it with all keys below: fleetctl kv rm --recursive %s",
                        args[0], args[0]);
        return r;
}

VERB(kv_rm, "rm", "kv json", "KEY", "Remove a key", NULL, kv_rm);
