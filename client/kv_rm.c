/* kv rm. A directory with so much below it that the server refuses to remove it at once goes in parts: the
 * leaves of the first page in one transaction, again and again, until the rest can go at once. A directory
 * goes only while it is empty, so that nothing that was made meanwhile and is not in the listing goes with it
 * before the last request, which is the one that was given. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/client.h"
#include "client/kv.h"

enum {
        PART_MAX = 1000,  /* nodes of one listing, and of one transaction */
        IN_VAIN_MAX = 60, /* attempts without progress: the server is busy, or others write below the key */
        PAUSE_US = 1000000,
};

typedef struct Part {
        struct PartNode {
                char *key;
                size_t size;
                bool dir;
        } nodes[PART_MAX];
        size_t n, max;
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

        if (part->n == part->max) {
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

static bool is_below(const struct PartNode *node, const struct PartNode *above) {
        return node->size > above->size && node->key[above->size] == '/' &&
               memcmp(node->key, above->key, above->size) == 0;
}

/* Parents come first: what is followed by nothing below it is a leaf. What follows the last one is not known.
 */
static bool is_leaf(const Part *part, size_t i) {
        if (i == 0)
                return false; /* the key itself */
        return i + 1 < part->n ? !is_below(&part->nodes[i + 1], &part->nodes[i]) :
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
                if (part->nodes[i].dir)
                        json_add_bool(t, "dir", true);
                json_close(t, '}');
        }
        text_append(t, "]}");
        return n;
}

/* Of one listing, at most *max leaves: 1 when some went, 0 when others write there, or fewer are to be tried;
 * -EBUSY when the server is busy. */
static int remove_part(Client *c, const Part *part, size_t *max, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        size_t n = write_leaves(part, *max, &body);
        int r;

        if (body.error < 0)
                return body.error;
        if (n == 0)
                return 0;
        r = connection_request(c->connection, "POST", "/fleet/v1/kv/txn", "application/json", body.chars,
                               &reply, err);
        if (r < 0)
                return r;
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
        case 404: /* somebody else removes, or adds */
        case 409:
                return 0;
        default:
                r = reply_check(&reply, err);
                return r < 0 ? r : -EBADMSG;
        }
}

/* Until what is left fits into one listing, of which the caller's request removes the rest. */
static int remove_leaves(Client *c, const char *key, Error *err) {
        Part part = { .max = PART_MAX };
        size_t max = PART_MAX, in_vain = 0;
        bool busy;
        int r = 0;

        for (bool more = true; r >= 0 && more && in_vain < IN_VAIN_MAX; part_clear(&part)) {
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
        return r < 0 ? r :
               in_vain == IN_VAIN_MAX ?
                       error_set(err, -EBUSY,
                                 "others write below it, or the server is busy: a part is left") :
                       0;
}

/* What the server is too busy for has not happened: it is asked again. */
static int remove_below(Client *c, const char *key, const Text *path, uint64_t *ret_code, Error *err) {
        bool in_parts = false;
        int r;

        for (unsigned in_vain = 0; in_vain < IN_VAIN_MAX; in_vain++) {
                _cleanup_json_ JsonValue *answer = NULL;
                const JsonValue *node = NULL;

                r = kv_ask(c, "DELETE", path, NULL, &answer, &node, NULL, ret_code, err);
                if (r == -EREMOTEIO &&
                    *ret_code == 210) { /* the rest, too, where others have written below it since */
                        if (in_parts)
                                (void) usleep(PAUSE_US);
                        in_parts = true;
                        *err = (Error) {}; /* a failure to come has its own reason */
                        r = remove_leaves(c, key, err);
                        if (r < 0)
                                return r;
                } else if (r == -EBUSY)
                        (void) usleep(PAUSE_US);
                else
                        return r;
        }
        return error_set(err, -EBUSY,
                         in_parts ? "others write below it, or the server is busy: a part is left" :
                                    "the server is busy");
}

int kv_rm(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, query = {};
        const JsonValue *node = NULL;
        const Options *o = &c->options;
        uint64_t code = 0;
        Error err = {};
        int r;

        if (n != 1)
                return kv_usage("kv rm takes one key");
        kv_append_key(&path, args[0]);
        if (o->recursive)
                kv_add_field(&query, "recursive", "true");
        if (o->dir)
                kv_add_field(&query, "dir", "true");
        if (o->with_value)
                kv_add_field(&query, "prevValue", o->with_value);
        if (o->with_index > 0)
                kv_add_number(&query, "prevIndex", o->with_index);
        if (query.size > 0)
                text_printf(&path, "?%s", query.chars);
        if (query.error < 0)
                return client_fail(query.error, NULL, "%s", "");
        if (o->recursive && !o->with_value && o->with_index == 0 && !streq(o->output, "json")) {
                r = remove_below(c, args[0], &path, &code, &err);
                if (r >= 0)
                        return EXIT_DONE;
                if (r != -EREMOTEIO ||
                    code >= 200) /* else it did nothing, and the second attempt says so in etcdctl's words */
                        return client_fail(r, &err, "%s", "");
        }
        return kv_request(c, "DELETE", &path, NULL, &root, &node);
}
