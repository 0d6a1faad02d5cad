#include "tests/lib/model.h"

/* -- Printing -- */

static void print_bytes(Text *t, const char *name, KvBytes bytes) {
        text_printf(t, " %s=%.*s", name, (int) bytes.size, (const char *) bytes.data ?: "");
}

void model_print_node(Text *t, const KvNode *node) {
        print_bytes(t, "key", node->key);
        print_bytes(t, "value", node->value);
        text_printf(t, " %s %llu/%llu/%llu", node->dir ? "dir" : "file", (unsigned long long) node->created,
                    (unsigned long long) node->modified, (unsigned long long) node->expires_ms);
}

void model_print_event(Text *t, const KvEvent *event) {
        text_printf(t, "%s %llu%s", kv_action_name(event->action), (unsigned long long) event->index,
                    event->refresh ? " refresh" : "");
        model_print_node(t, &event->node);
        if (event->has_prev) {
                text_append(t, " <-");
                model_print_node(t, &event->prev);
        }
        text_append(t, "\n");
}

void model_print_result(Text *t, const KvResult *result) {
        text_printf(t, "%s %s %llu", kv_status_name(result->status), kv_action_name(result->action),
                    (unsigned long long) result->index);
        print_bytes(t, "cause", result->cause);
        if (result->has_node)
                model_print_node(t, &result->node);
        if (result->has_prev) {
                text_append(t, " <-");
                model_print_node(t, &result->prev);
        }
}

/* -- The list -- */

static KvNode as_node(const ModelNode *n) {
        return (KvNode) { .key = kv_string(n->key),
                          .value = kv_string(n->value),
                          .dir = n->dir,
                          .created = n->created,
                          .modified = n->modified,
                          .expires_ms = n->expires_ms };
}

static char *copy(KvBytes bytes) {
        char *s = strndup(bytes.data ?: "", bytes.size);

        assert(s);
        return s;
}

static void remove_at(Model *model, size_t i) {
        free(model->nodes[i].key);
        free(model->nodes[i].value);
        memmove(model->nodes + i, model->nodes + i + 1, (--model->n - i) * sizeof(ModelNode));
}

static ModelNode *lookup(Model *model, const char *key) {
        for (size_t i = 0; i < model->n; i++)
                if (streq(model->nodes[i].key, key))
                        return &model->nodes[i];
        return NULL;
}

static ModelNode *add(Model *model, const char *key, const char *value, bool dir, uint64_t index) {
        int r = GROW(model->nodes, model->capacity, model->n + 1);

        assert(r == 0);
        model->nodes[model->n] = (ModelNode) {
                .key = strdup(key), .value = strdup(value), .dir = dir, .created = index, .modified = index
        };
        return &model->nodes[model->n++];
}

static bool below(const char *key, const char *dir) {
        return starts_with(key, dir) && key[strlen(dir)] == '/';
}

void model_done(Model *model) {
        while (model->n > 0)
                remove_at(model, model->n - 1);
        free(model->nodes);
        text_done(&model->events);
        text_done(&model->answer);
        free(model->cause);
}

/* The end of a key sorts before the separator, the separator before all other bytes. */
static int rank_of(char c) {
        if (c == 0)
                return 0;
        return c == '/' ? 1 : 1 + (unsigned char) c;
}

static int compare_nodes(const void *a, const void *b) {
        const char *p = ((const ModelNode *) a)->key, *q = ((const ModelNode *) b)->key;

        for (; *p && *p == *q; p++, q++)
                ;
        return rank_of(*p) - rank_of(*q);
}

void model_print_all(Model *model, Text *t) {
        qsort(model->nodes, model->n, sizeof(ModelNode), compare_nodes);
        for (size_t i = 0; i < model->n; i++) {
                KvNode node = as_node(&model->nodes[i]);

                model_print_node(t, &node);
                text_append(t, "\n");
        }
}

/* -- Operations -- */

static bool fail(Model *model, KvStatus status, const char *cause) {
        char *kept = strdup(cause);
        KvResult result = { .status = status, .index = model->index, .cause = kv_string(kept) };

        free(model->cause);
        model->cause = kept;
        model->status = status;
        text_clear(&model->answer);
        model_print_result(&model->answer, &result);
        return false;
}

static bool succeed(Model *model, KvAction action, KvNode node, const KvNode *prev, bool refresh) {
        KvEvent event = {
                .action = action, .index = model->index, .node = node, .has_prev = prev, .refresh = refresh
        };
        KvResult result = {
                .action = action, .index = model->index, .has_node = true, .node = node, .has_prev = prev
        };

        if (prev)
                event.prev = result.prev = *prev;
        text_clear(&model->answer);
        model_print_result(&model->answer, &result);
        model_print_event(&model->events, &event);
        return true;
}

/* Check each directory on the path, from the top. */
static bool way_is_free(Model *model, const char *key, bool make, uint64_t index) {
        for (const char *p = strchr(key + 1, '/'); p; p = strchr(p + 1, '/')) {
                _cleanup_free_ char *dir = strndup(key, p - key);
                ModelNode *n = lookup(model, dir);

                if (n && !n->dir)
                        return fail(model, KV_NOT_DIR, dir);
                if (!n && make)
                        add(model, dir, "", true, index);
                else if (!n && index == 0)
                        return fail(model, KV_NOT_FOUND, dir);
        }
        return true;
}

static ModelNode *must_find(Model *model, const char *key) {
        ModelNode *n;

        if (!way_is_free(model, key, false, 0))
                return NULL;
        n = lookup(model, key);
        if (!n)
                fail(model, KV_NOT_FOUND, key);
        return n;
}

static uint64_t expires(Model *model, const KvCommand *cmd) {
        return cmd->has_ttl ? MAX(1u, model->now_ms + cmd->ttl_ms) : 0;
}

static bool do_set(Model *model, const KvCommand *cmd, const char *key, const char *new_value, bool replace) {
        ModelNode *old = lookup(model, key), saved = {}, *n;
        bool refresh = cmd->refresh && replace, had = old;
        KvNode prev;

        if (streq(key, "/"))
                return fail(model, KV_ROOT_READ_ONLY, "/");
        if (refresh && !must_find(model, key))
                return false;
        if (!way_is_free(model, key, false, 1))
                return false;
        if (old && !replace)
                return fail(model, KV_EXISTS, key);
        if (old && old->dir)
                return fail(model, KV_NOT_FILE, key);
        if (old) {
                saved = *old;
                saved.key = strdup(old->key);
                saved.value = strdup(old->value);
                remove_at(model, old - model->nodes);
        }
        prev = had ? as_node(&saved) : (KvNode) {};

        model->index++;
        way_is_free(model, key, true, model->index);
        n = add(model, key, cmd->dir ? "" : refresh ? saved.value : new_value, cmd->dir, model->index);
        n->expires_ms = expires(model, cmd);
        succeed(model, replace ? KV_ACTION_SET : KV_ACTION_CREATE, as_node(n), had ? &prev : NULL, refresh);
        free(saved.key);
        free(saved.value);
        return true;
}

static bool compares(Model *model, const KvCommand *cmd, const ModelNode *n, const char *prev_value) {
        char index[64] = "", cause[1024] = "";

        if (n->dir)
                return fail(model, KV_NOT_FILE, n->key);
        if (cmd->prev_index > 0 && cmd->prev_index != n->modified)
                snprintf(index, sizeof(index), "[%llu != %llu]", (unsigned long long) cmd->prev_index,
                         (unsigned long long) n->modified);
        if (cmd->has_prev_value && !streq(prev_value, n->value))
                snprintf(cause, sizeof(cause), "[%s != %s]%s%s", prev_value, n->value, *index ? " " : "",
                         index);
        else
                snprintf(cause, sizeof(cause), "%s", index);
        return *cause ? fail(model, KV_COMPARE_FAILED, cause) : true;
}

static bool do_change(Model *model, const KvCommand *cmd, const char *key, const char *value,
                      const char *prev_value) {
        bool swap = cmd->prev_index > 0 || cmd->has_prev_value, ok;
        ModelNode *n;
        KvNode prev, now;
        char *old;

        if (streq(key, "/"))
                return fail(model, KV_ROOT_READ_ONLY, "/");
        n = must_find(model, key);
        if (!n || (swap && !compares(model, cmd, n, prev_value)))
                return false;
        if (n->dir && *value)
                return fail(model, KV_NOT_FILE, key);

        old = n->value;
        prev = as_node(n);
        n->value = strdup(n->dir || cmd->refresh ? old : value);
        n->expires_ms = expires(model, cmd);
        model->index++;
        if (!n->dir)
                n->modified = model->index;
        now = as_node(n);
        now.modified = model->index;
        ok = succeed(model, swap ? KV_ACTION_CAS : KV_ACTION_UPDATE, now, &prev, cmd->refresh);
        free(old);
        return ok;
}

static void take_away(Model *model, KvAction action, ModelNode *n) {
        ModelNode gone = *n;
        KvNode node, prev = as_node(&gone);

        gone.key = strdup(n->key);
        gone.value = strdup(n->value);
        prev = as_node(&gone);
        model->index++;
        node = (KvNode) {
                .key = prev.key, .dir = prev.dir, .created = prev.created, .modified = model->index
        };
        for (size_t i = 0; i < model->n;)
                if (streq(model->nodes[i].key, gone.key) || below(model->nodes[i].key, gone.key))
                        remove_at(model, i);
                else
                        i++;
        succeed(model, action, node, &prev, false);
        free(gone.key);
        free(gone.value);
}

static bool do_delete(Model *model, const KvCommand *cmd, const char *key, const char *prev_value) {
        bool compare = cmd->prev_index > 0 || cmd->has_prev_value;
        ModelNode *n;

        if (streq(key, "/"))
                return compare ? fail(model, KV_NOT_FILE, "") : fail(model, KV_ROOT_READ_ONLY, "/");
        n = must_find(model, key);
        if (!n || (compare && !compares(model, cmd, n, prev_value)))
                return false;
        if (n->dir && !cmd->dir && !cmd->recursive)
                return fail(model, KV_NOT_FILE, key);
        for (size_t i = 0; n->dir && !cmd->recursive && i < model->n; i++)
                if (below(model->nodes[i].key, key))
                        return fail(model, KV_DIR_NOT_EMPTY, key);
        take_away(model, compare ? KV_ACTION_CAD : KV_ACTION_DELETE, n);
        return true;
}

static bool do_one(Model *model, const KvCommand *cmd) {
        _cleanup_free_ char *key = copy(cmd->key), *value = copy(cmd->value),
                            *prev_value = copy(cmd->prev_value);
        bool conditions = cmd->prev_index > 0 || cmd->has_prev_value;
        char child[1024];

        switch (cmd->op) {
        case KV_SET:
                return conditions ? do_change(model, cmd, key, value, prev_value) :
                                    do_set(model, cmd, key, value, true);
        case KV_UPDATE:
                return do_change(model, cmd, key, value, prev_value);
        case KV_CREATE:
                return do_set(model, cmd, key, value, false);
        case KV_POST:
                snprintf(child, sizeof(child), "%s/%020llu", streq(key, "/") ? "" : key,
                         (unsigned long long) model->index + 1);
                return do_set(model, cmd, child, value, false);
        case KV_DELETE:
                return do_delete(model, cmd, key, prev_value);
        default:
                assert(!"an operation that the model knows");
                return false;
        }
}

static void do_expire(Model *model, const KvCommand *cmd) {
        uint64_t left = cmd->limit;

        while (left > 0) {
                ModelNode *first = NULL;
                uint64_t n = 1;

                for (ModelNode *m = model->nodes; m < model->nodes + model->n; m++)
                        if (m->expires_ms > 0 && m->expires_ms <= model->now_ms &&
                            (!first || m->expires_ms < first->expires_ms ||
                             (m->expires_ms == first->expires_ms && m->created < first->created) ||
                             (m->expires_ms == first->expires_ms && m->created == first->created &&
                              compare_nodes(m, first) < 0)))
                                first = m;
                if (!first)
                        break;
                for (size_t i = 0; i < model->n; i++)
                        n += below(model->nodes[i].key, first->key);
                take_away(model, KV_ACTION_EXPIRE, first);
                left -= MIN(left, n);
        }
}

static bool check_holds(Model *model, const KvCheck *check) {
        _cleanup_free_ char *key = copy(check->key);
        bool root = streq(key, "/");
        ModelNode *n = lookup(model, key);

        switch (check->kind) {
        case KV_CHECK_ABSENT:
                return !n && !root;
        case KV_CHECK_EXISTS:
                return n || root;
        case KV_CHECK_VALUE:
                return n && !n->dir && kv_bytes_equal(kv_string(n->value), check->value);
        default:
                return check->index > 0 ? n && n->modified == check->index : !n && !root;
        }
}

/* Work on a copy of all nodes, so that a rejected transaction changes nothing. */
static void do_txn(Model *model, const KvCommand *cmd) {
        _cleanup_free_ ModelNode *saved = NEW0(ModelNode, model->n + 1);
        size_t n = model->n;
        uint64_t index = model->index;
        bool ok = true;

        for (size_t i = 0; i < cmd->n_checks; i++)
                if (!check_holds(model, &cmd->checks[i])) {
                        _cleanup_free_ char *key = copy(cmd->checks[i].key);

                        fail(model, KV_COMPARE_FAILED, key);
                        return;
                }
        for (size_t i = 0; i < n; i++) {
                saved[i] = model->nodes[i];
                saved[i].key = strdup(saved[i].key);
                saved[i].value = strdup(saved[i].value);
        }
        for (size_t i = 0; ok && i < cmd->n_writes; i++) {
                ok = do_one(model, &cmd->writes[i]);
                if (ok)
                        continue;
                model->index = index;
                if (model->status == KV_COMPARE_FAILED) {
                        _cleanup_free_ char *key = copy(cmd->writes[i].key);

                        fail(model, KV_COMPARE_FAILED, key);
                } else {
                        fail(model, model->status, model->cause);
                }
        }
        if (ok) {
                KvResult result = { .action = KV_ACTION_SET, .index = model->index };

                text_clear(&model->answer);
                model_print_result(&model->answer, &result);
        } else {
                text_clear(&model->events);
                while (model->n > 0)
                        remove_at(model, model->n - 1);
                model->n = n;
                if (n > 0)
                        memcpy(model->nodes, saved, n * sizeof(ModelNode));
                return;
        }
        for (size_t i = 0; i < n; i++) {
                free(saved[i].key);
                free(saved[i].value);
        }
}

void model_apply(Model *model, const KvCommand *cmd, uint64_t term) {
        KvResult result = { .action = KV_ACTION_EXPIRE };

        text_clear(&model->events);
        text_clear(&model->answer);
        if (cmd->term > 0 && cmd->term != term) {
                fail(model, KV_TERM_CHANGED, "");
        } else if (cmd->op == KV_TXN) {
                do_txn(model, cmd);
        } else if (cmd->op == KV_EXPIRE) {
                do_expire(model, cmd);
                text_clear(&model->answer);
                result.index = model->index;
                model_print_result(&model->answer, &result);
        } else {
                do_one(model, cmd);
        }
}
