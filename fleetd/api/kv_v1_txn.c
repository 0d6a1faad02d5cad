/* POST /fleet/v1/kv/txn: checks, then writes; all or nothing.
 *
 *     {"checks": [{"key": "/a", "exists": false}, ...],
 *      "writes": [{"action": "set", "key": "/a", "value": "x"}, ...]}
 *
 * Unknown, missing and repeated members are rejected with their place, before anything is proposed. */
#include <strings.h>

#include "fleetd/api/kv_v1_txn.h"

static const char check_members[] = "exists key key64 modifiedIndex value value64";
static const char write_members[] = "action dir key key64 recursive refresh ttl value value64";
static const char txn_members[] = "checks writes";

static const struct {
        const char *name;
        KvOp op;
        const char *takes; /* members */
} actions[] = {
        { "set", KV_SET, "action dir key key64 refresh ttl value value64" },
        { "create", KV_CREATE, "action dir key key64 ttl value value64" },
        { "update", KV_UPDATE, "action key key64 refresh ttl value value64" },
        { "delete", KV_DELETE, "action dir key key64 recursive" },
};

/* -- Decoding -- */

typedef struct Members {
        const char *known;
        const char *takes; /* NULL: all known ones */
        const char *action;
        Error *err;
} Members;

static int check_member(void *userdata, const char *name, const JsonValue *v) {
        const Members *m = userdata;

        if (!text_has_word(m->known, name))
                return error_set(m->err, -EINVAL, "%.100s: there is no such member", name);
        if (m->takes && !text_has_word(m->takes, name))
                return error_set(m->err, -EINVAL, "%s: a %s has none", name, m->action);
        if (!v)
                return error_set(m->err, -EINVAL, "%s: expected a value, not null", name);
        return 0;
}

static int members_check(const JsonValue *object, const Members *members) {
        if (json_value_type(object) != JSON_VALUE_OBJECT)
                return error_set(members->err, -EINVAL, "expected an object");
        return json_value_each(object, check_member, (void *) members);
}

/* Return 1 if the member is present, 0 if not. */
static int read_json_bytes(const JsonValue *object, const char *name, Arena *arena, KvBytes *ret,
                           Error *err) {
        _cleanup_free_ char *bytes = NULL;
        size_t size;
        int r;

        r = json_read_bytes(object, name, &bytes, &size, err);
        if (r <= 0)
                return r;
        if (size > KV_VALUE_MAX)
                return error_set(err, -E2BIG, "%s: at most %d bytes are taken", name, KV_VALUE_MAX);
        *ret = (KvBytes) { arena_copy(arena, bytes, size), size };
        return ret->data ? 1 : -ENOMEM;
}

static int read_key(const JsonValue *object, Arena *arena, KvBytes *ret, Error *err) {
        int r = TRY(read_json_bytes(object, "key", arena, ret, err));

        if (r == 0)
                return error_set(err, -EINVAL, "key is missing");
        r = kv_key_check(*ret, err);
        if (r < 0)
                return error_prefix(err, r, "key");
        return kv_path_is_ours(*ret) ? error_set(err, -EPERM, "key: what is below /_fleet is fleet's own") :
                                       0;
}

static int read_check(const JsonValue *object, Arena *arena, KvCheck *ret, Error *err) {
        const JsonValue *exists = json_value_member(object, "exists"),
                        *index = json_value_member(object, "modifiedIndex");
        bool there = true;
        int valued;

        TRY(members_check(object, &(Members) { .known = check_members, .err = err }));
        TRY(read_key(object, arena, &ret->key, err));
        TRY(json_read_bool(object, "exists", &there, err));
        TRY(json_read_u64(object, "modifiedIndex", &ret->index, err));
        valued = TRY(read_json_bytes(object, "value", arena, &ret->value, err));
        if (!!exists + !!index + valued != 1)
                return error_set(err, -EINVAL,
                                 "exactly one of exists, modifiedIndex, value and value64 is wanted: write "
                                 "one check for each");
        if (index && ret->index == 0)
                return error_set(
                        err, -EINVAL,
                        "modifiedIndex: no key has 0; for one that is absent write \"exists\": false");
        if (valued)
                ret->kind = KV_CHECK_VALUE;
        else if (index)
                ret->kind = KV_CHECK_MODIFIED;
        else
                ret->kind = there ? KV_CHECK_EXISTS : KV_CHECK_ABSENT;
        return 0;
}

static int read_write(const JsonValue *object, Arena *arena, KvCommand *ret, Error *err) {
        static const JsonField fields[] = {
                { "dir", JSON_FIELD_BOOL, offsetof(KvCommand, dir) },
                { "recursive", JSON_FIELD_BOOL, offsetof(KvCommand, recursive) },
                { "refresh", JSON_FIELD_BOOL, offsetof(KvCommand, refresh) },
        };
        const char *action = NULL;
        uint64_t ttl = 0;
        size_t i = 0;
        int valued;

        if (json_value_type(object) != JSON_VALUE_OBJECT)
                return error_set(err, -EINVAL, "expected an object");
        TRY(json_read_string(object, "action", &action, err));
        while (i < ELEMENTS(actions) && (!action || !streq(actions[i].name, action)))
                i++;
        if (i == ELEMENTS(actions))
                return error_set(err, -EINVAL, "action: expected set, create, update or delete");

        TRY(members_check(object, &(Members) { .known = write_members,
                                               .takes = actions[i].takes,
                                               .action = action,
                                               .err = err }));
        TRY(read_key(object, arena, &ret->key, err));
        TRY(json_read_fields(object, JSON_FIELDS(fields), ret, err));
        TRY(json_read_u64(object, "ttl", &ttl, err));
        valued = TRY(read_json_bytes(object, "value", arena, &ret->value, err));
        if (valued && (ret->dir || ret->refresh))
                return error_set(err, -EINVAL, "%s",
                                 ret->dir ? "value: a directory has none" :
                                            "value: a refresh leaves it as it is");
        if (ret->refresh && !json_value_member(object, "ttl"))
                return error_set(err, -EINVAL, "ttl is missing: a refresh renews it");
        ret->op = actions[i].op;
        request_ttl(ret, json_value_member(object, "ttl"), ttl);
        return 0;
}

/* Set an array of the transaction; NULL if it is absent. */
static int read_items(const JsonValue *root, const char *name, const JsonValue **ret, size_t *ret_n,
                      Error *err) {
        *ret = json_value_member(root, name);
        if (*ret && json_value_type(*ret) != JSON_VALUE_ARRAY)
                return error_set(err, -EINVAL, "%s: expected an array", name);
        *ret_n = json_value_count(*ret);
        return 0;
}

/* Name the place of item 'i' of all checks, and then all writes. */
static void at_set(char ret[static 32], const KvCommand *txn, size_t i) {
        if (i < txn->n_checks)
                snprintf(ret, 32, "checks[%zu]", i);
        else
                snprintf(ret, 32, "writes[%zu]", i - txn->n_checks);
}

/* Explain what is valid JSON for some parsers, and rejected here. */
static int parse(const void *json, size_t size, JsonValue **ret, Error *err) {
        int r = json_value_parse(json, size, ret, err);

        if (r == -EBADMSG && err && strstr(err->message, "\\u0000"))
                return error_set(err, r, "a text with NUL goes in base64, as key64 or value64");
        if (r == -EBADMSG && err && (strstr(err->message, "UTF-8") || strstr(err->message, "decode byte")))
                return error_set(err, r, "JSON is UTF-8: other bytes go in base64, as key64 or value64");
        return r;
}

int kv_txn_decode(const void *json, size_t size, Arena *arena, KvCommand *ret, char ret_at[static 32],
                  Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *checks, *writes;
        KvCommand cmd = { .op = KV_TXN };

        ret_at[0] = 0;
        TRY(parse(json, size, &root, err));
        TRY(members_check(root, &(Members) { .known = txn_members, .err = err }));
        TRY(read_items(root, "checks", &checks, &cmd.n_checks, err));
        TRY(read_items(root, "writes", &writes, &cmd.n_writes, err));
        if (cmd.n_checks + cmd.n_writes == 0)
                return error_set(
                        err, -EINVAL,
                        "nothing to check and nothing to write: {\"checks\": [...], \"writes\": [...]}");
        if (cmd.n_checks + cmd.n_writes > KV_TXN_ITEMS_MAX)
                return error_set(err, -E2BIG, "a transaction has at most %d checks and writes",
                                 KV_TXN_ITEMS_MAX);

        cmd.checks = arena_alloc(arena, (cmd.n_checks + 1) * sizeof(KvCheck));
        cmd.writes = arena_alloc(arena, (cmd.n_writes + 1) * sizeof(KvCommand));
        if (!cmd.checks || !cmd.writes)
                return -ENOMEM;
        memset(cmd.checks, 0, cmd.n_checks * sizeof(KvCheck));
        memset(cmd.writes, 0, cmd.n_writes * sizeof(KvCommand));
        for (size_t i = 0; i < cmd.n_checks + cmd.n_writes; i++) {
                size_t k = i - cmd.n_checks;

                at_set(ret_at, &cmd, i);
                TRY(i < cmd.n_checks ? read_check(json_value_item(checks, i), arena, &cmd.checks[i], err) :
                                       read_write(json_value_item(writes, k), arena, &cmd.writes[k], err));
        }
        ret_at[0] = 0;
        *ret = cmd;
        return 0;
}

/* -- Answering -- */

static void explain_check(const KvCheck *check, const KvNode *found, Error *err) {
        if (check->kind == KV_CHECK_ABSENT)
                error_set(err, -EEXIST, "the key exists");
        else if (!found)
                error_set(err, -ENOENT, "the key does not exist");
        else if (check->kind == KV_CHECK_MODIFIED)
                error_set(err, -ESTALE, "the modified index is %llu, not %llu",
                          (unsigned long long) found->modified, (unsigned long long) check->index);
        else
                error_set(err, -ESTALE, "%s",
                          found->dir ? "it is a directory, and has no value" : "the value is another one");
}

static void refuse_txn(Request *request, const KvResult *result) {
        const KvRequest *kv = request->state;
        KvRefusal refusal = { .now_ms = result->now_ms };
        size_t at = result->refused_at;

        kv_refusal_of(&refusal, request, result);
        if (at > 0 && at <= kv->command.n_checks) {
                const KvCheck *check = &kv->command.checks[at - 1];
                bool found = result->has_found && request_may_check(request, check);

                explain_check(check, found ? &result->found : NULL, &refusal.err);
                refusal.found = found ? &result->found : NULL;
        }
        if (at > 0) {
                at_set(refusal.at, &kv->command, at - 1);
                error_prefix(&refusal.err, refusal.err.code, "%s", refusal.at);
        }
        kv_refuse(request, &refusal);
}

static void txn_on_done(Request *request, const KvResult *result) {
        _cleanup_text_ Text t = {};

        if (result->status != KV_OK) {
                refuse_txn(request, result);
                return;
        }
        json_open(&t, NULL, '{');
        json_add_u64(&t, "index", result->index);
        json_open(&t, "writes", '[');
        for (const KvWritten *w = result->written; w < result->written + result->n_written; w++) {
                json_open(&t, NULL, '{');
                json_add_string(&t, "action", kv_action_name(w->action));
                kv_node_write(&t, "node", &w->node, w->action != KV_ACTION_DELETE, result->now_ms);
                if (w->has_prev)
                        kv_node_write(&t, "prevNode", &w->prev, !w->prev_cut, result->now_ms);
                json_close(&t, '}');
        }
        json_close(&t, ']');
        text_append(&t, "}\n");
        request_answer_json(request, 200, &t);
}

static bool type_is_json(const char *type) {
        return type && strncasecmp(type, "application/json", 16) == 0 && strchr("; \t", type[16]);
}

static int txn_read(Request *request, KvRequest *kv, KvRefusal *refusal) {
        const HttpRequest *http = request->http;
        int r;

        r = kv_txn_decode(http->body, http->body_size, &kv->arena, &kv->command, refusal->at, &refusal->err);
        for (size_t i = 0; r == 0 && i < kv->command.n_writes; i++) {
                r = kv_limits_check(request, &kv->command.writes[i], &refusal->err);
                if (r < 0)
                        at_set(refusal->at, &kv->command, kv->command.n_checks + i);
        }
        return r;
}

static unsigned txn_status(int error) {
        switch (error) {
        case -E2BIG:
                return 413;
        case -EPERM:
                return 403;
        case -ENOMEM:
                return 503;
        default:
                return 400;
        }
}

unsigned kv_txn_handle(Request *request, Error *err) {
        KvRequest *kv = kv_request_new(request);
        KvRefusal refusal = {};
        int r;

        if (!kv)
                return 0;
        if (!type_is_json(request->http->content_type))
                return kv_refuse_text(request, 415, "only an application/json body is taken");
        r = txn_read(request, kv, &refusal);
        if (r == 0) {
                kv_request_propose(request, txn_on_done);
                return 0;
        }
        if (r == -ENOMEM)
                error_set(&refusal.err, r, "out of memory");
        if (refusal.at[0])
                error_prefix(&refusal.err, r, "%s", refusal.at);
        refusal.status = txn_status(r);
        return kv_refuse(request, &refusal);
}
