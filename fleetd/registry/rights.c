#include "fleetd/registry/rights.h"

/* The rights that can be granted. */
static const Right grantable[_GRANT_MAX] = {
        [GRANT_KEYS_READ] = RIGHT_KEYS_READ,   [GRANT_KEYS_WRITE] = RIGHT_KEYS_WRITE,
        [GRANT_UNITS_SEE] = RIGHT_UNITS_SEE,   [GRANT_UNITS_CHANGE] = RIGHT_UNITS_CHANGE,
        [GRANT_ADMINISTER] = RIGHT_ADMINISTER,
};

#define EXPECTED "expected keys-read:PREFIX, keys-write:PREFIX, units-see, units-change or administer"

const char *right_name(Right right) {
        if (right == RIGHT_LEAVE)
                right = RIGHT_ADMINISTER;
        for (GrantedRight granted = 0; granted < _GRANT_MAX; granted++)
                if (grantable[granted] == right)
                        return granted_right_to_string(granted);
        return NULL;
}

RightList *right_list_ref(RightList *list) {
        if (list)
                list->refs++;
        return list;
}

RightList *right_list_unref(RightList *list) {
        if (!list || --list->refs > 0)
                return NULL;
        for (size_t i = 0; i < list->n; i++)
                free((void *) list->items[i].prefix.data);
        free(list);
        return NULL;
}

static int right_check_prefix(KvBytes prefix, Error *err) {
        _cleanup_free_ char *clean = NULL;
        size_t size;
        int r = kv_path_clean(prefix.data, prefix.size, &clean, &size);

        if (r == -ENOMEM)
                return r;
        if (r < 0 || !kv_bytes_equal(prefix, (KvBytes) { clean, size }))
                return error_set(err, -EINVAL,
                                 "expected a prefix that begins with '/' and has no empty part, none of '.' "
                                 "and '..', and no '/' at its end, for example /app");
        if (kv_path_is_ours(prefix))
                return error_set(err, -EPERM,
                                 "no right extends to keys below /_fleet: they are fleet's own; grant "
                                 "units-see, units-change or administer");
        return 0;
}

int right_list_add(RightList **list, const char *name, const KvBytes *prefix, Error *err) {
        GrantedRight granted = granted_right_from_string(name);
        bool of_keys = granted == GRANT_KEYS_READ || granted == GRANT_KEYS_WRITE;
        size_t n = *list ? (*list)->n : 0;
        RightItem item = {};
        RightList *grown;

        if (granted < 0)
                return error_set(err, -EINVAL, "there is no right '%.40s': " EXPECTED, name);
        item.right = grantable[granted];
        if (prefix && !of_keys)
                return error_set(err, -EINVAL, "%s has no prefix", name);
        if (!prefix && of_keys)
                return error_set(err, -EINVAL, "%s requires a prefix, for example %s:/app", name, name);
        if (n == RIGHTS_MAX)
                return error_set(err, -E2BIG, "a list has at most %d rights", RIGHTS_MAX);
        TRY(prefix ? right_check_prefix(*prefix, err) : 0);

        grown = realloc(*list, sizeof(RightList) + (n + 1) * sizeof(RightItem));
        if (!grown)
                return -ENOMEM;
        *list = grown;
        grown->refs = 1;
        grown->n = n;
        if (prefix) {
                char *copy = malloc(prefix->size);

                if (!copy)
                        return -ENOMEM;
                item.prefix = (KvBytes) { memcpy(copy, prefix->data, prefix->size), prefix->size };
        }
        grown->items[grown->n++] = item;
        return 0;
}

int right_list_add_text(RightList **list, const char *text, size_t size, Error *err) {
        const char *colon = memchr(text, ':', size);
        size_t n = colon ? (size_t) (colon - text) : size;
        KvBytes prefix = { text + n + 1, size - n - !!colon };
        char name[64];

        snprintf(name, sizeof(name), "%.*s", (int) MIN(n, sizeof(name) - 1), text);
        return right_list_add(list, name, colon ? &prefix : NULL, err);
}

int right_list_of(const PrincipalRecord *user, RightList **ret) {
        _cleanup_right_list_ RightList *list = NULL;

        for (size_t i = 0; i < user->n_rights; i++) {
                const PrincipalRight *granted = &user->rights[i];
                KvBytes prefix = kv_string(granted->prefix[0] ? granted->prefix : "/");
                bool of_keys = granted->right == GRANT_KEYS_READ || granted->right == GRANT_KEYS_WRITE;

                if (right_list_add(&list, granted_right_to_string(granted->right), of_keys ? &prefix : NULL,
                                   NULL) == -ENOMEM)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int right_list_record(const RightList *list, PrincipalRecord *ret, Error *err) {
        PrincipalRight rights[PRINCIPAL_RIGHTS_MAX] = {};
        size_t n = list ? list->n : 0;

        if (n > PRINCIPAL_RIGHTS_MAX)
                return error_set(err, -E2BIG, "a user has at most %d rights", PRINCIPAL_RIGHTS_MAX);
        for (size_t i = 0; i < n; i++) {
                const RightItem *item = &list->items[i];

                if (item->prefix.size >= PRINCIPAL_PREFIX_SIZE)
                        return error_set(err, -E2BIG, "the prefix of a right has at most %d bytes",
                                         PRINCIPAL_PREFIX_SIZE - 1);
                rights[i].right = granted_right_from_string(right_name(item->right));
                if (item->prefix.size > 0)
                        memcpy(rights[i].prefix, item->prefix.data, item->prefix.size);
        }
        memcpy(ret->rights, rights, sizeof(rights));
        ret->n_rights = n;
        return 0;
}

void right_append(Text *t, const PrincipalRight *right) {
        bool of_keys = right->right == GRANT_KEYS_READ || right->right == GRANT_KEYS_WRITE;

        text_append(t, granted_right_to_string(right->right));
        if (of_keys)
                text_printf(t, ":%s", right->prefix[0] ? right->prefix : "/");
}

static bool item_covers(const RightItem *item, Right right, KvBytes key) {
        if (item->right != right && !(right == RIGHT_KEYS_READ && item->right == RIGHT_KEYS_WRITE))
                return false;
        if (item->prefix.size == 0 || key.size == 0)
                return true;
        return !kv_path_is_ours(key) &&
               (kv_bytes_equal(key, item->prefix) || kv_path_is_below(key, item->prefix));
}

bool right_list_has(const RightList *list, Right right, KvBytes key) {
        for (size_t i = 0; list && i < list->n; i++)
                if (item_covers(&list->items[i], right, key))
                        return true;
        return false;
}

bool right_list_is_below(const RightList *list, KvBytes key) {
        for (size_t i = 0; list && i < list->n; i++)
                if (list->items[i].prefix.size > 0 && kv_path_is_below(list->items[i].prefix, key))
                        return true;
        return false;
}

bool right_list_covers(const RightList *list, const RightList *other) {
        for (size_t i = 0; other && i < other->n; i++)
                if (!right_list_has(list, other->items[i].right, other->items[i].prefix))
                        return false;
        return true;
}

/* -- Prefixes of a restricted host -- */

/* Set the next prefix of a text, and move *text behind it. Return false after the last one. */
static bool prefixes_next(const char **text, KvBytes *ret) {
        size_t n = strcspn(*text, ",");

        if (**text == 0)
                return false;
        *ret = (KvBytes) { *text, n };
        *text += n + ((*text)[n] == ',');
        return true;
}

int prefixes_check(const char *prefixes, Error *err) {
        const char *text = prefixes;
        KvBytes prefix;

        if (strlen(prefixes) >= PREFIXES_SIZE)
                return error_set(err, -E2BIG, "write: expected prefixes of at most %d bytes in all",
                                 PREFIXES_SIZE - 1);
        if (*text && text[strlen(text) - 1] == ',')
                return error_set(err, -EINVAL, "write: expected a prefix after the last comma");
        for (const char *c = text; *c; c++)
                if ((unsigned char) *c < ' ' || *c == 0x7f)
                        return error_set(err, -EINVAL, "write: a prefix has no control characters");
        while (prefixes_next(&text, &prefix)) {
                int r;

                if (kv_path_is_ours(prefix))
                        return error_set(
                                err, -EPERM,
                                "write: keys below /_fleet are fleet's own: remove %.*s from --write",
                                (int) prefix.size, (const char *) prefix.data);
                r = right_check_prefix(prefix, err);
                if (r < 0)
                        return error_prefix(err, r, "write");
        }
        return 0;
}

bool prefixes_have(const char *prefixes, KvBytes key) {
        KvBytes prefix;

        if (kv_path_is_ours(key))
                return false;
        while (prefixes_next(&prefixes, &prefix))
                if (prefix.size > 0 &&
                    (key.size == 0 || kv_bytes_equal(key, prefix) || kv_path_is_below(key, prefix)))
                        return true;
        return false;
}

bool prefixes_cover(const char *prefixes, const char *other) {
        KvBytes prefix;

        while (prefixes_next(&other, &prefix))
                if (!prefixes_have(prefixes, prefix))
                        return false;
        return true;
}
