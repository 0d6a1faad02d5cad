#include "units/json.h"

#include <jansson.h>
#include <malloc.h>
#include <strings.h>

#include "base/base64.h"
#include "base/parse.h"
#include "units/lists.h"

static const json_t *json_inner(const JsonValue *v) {
        return (const json_t *) v;
}

static const JsonValue *json_outer(const json_t *v) {
        return v && !json_is_null(v) ? (const JsonValue *) v : NULL;
}

/* -- Memory --
 *
 * jansson (up to 2.14) ignores a failed allocation of the buffer of its current token: it continues without
 * the rest of the token, reads and writes past the buffer, or rejects a valid text. So a failed allocation is
 * recorded, later allocations that may be such a buffer (their sizes are powers of two) come from a reserve,
 * and the result is dropped. The hooks have no userdata; so the state is a variable of the thread. */

static _Thread_local struct {
        char *reserve, *next;
        size_t left;
        bool failed;
} json_heap;

static void *json_alloc(size_t size) {
        void *p = json_heap.failed ? NULL : malloc(size);

        if (p || !json_heap.reserve)
                return p;
        json_heap.failed = true;
        if ((size & (size - 1)) != 0 || size > json_heap.left)
                return NULL;
        p = json_heap.next;
        json_heap.next += MAX(size, sizeof(max_align_t));
        json_heap.left -= MIN(json_heap.left, MAX(size, sizeof(max_align_t)));
        return p;
}

/* A text may have a secret, and its tokens are copied. */
static void json_release(void *p) {
        if (!p || (json_heap.reserve && (char *) p >= json_heap.reserve && (char *) p < json_heap.next))
                return;
        explicit_bzero(p, malloc_usable_size(p));
        free(p);
}

static json_t *json_load(const char *text, size_t size, json_error_t *ret_where, bool *ret_failed) {
        size_t reserve = 8 * size +
                         4096; /* a buffer for the whole text in each of its sizes, and some more */
        json_t *v = NULL;

        json_set_alloc_funcs(json_alloc, json_release);
        json_heap.failed = false;
        json_heap.left = reserve;
        json_heap.reserve = json_heap.next = malloc(reserve);
        if (json_heap.reserve)
                v = json_loadb(text, size, JSON_REJECT_DUPLICATES, ret_where);
        *ret_failed = !json_heap.reserve || json_heap.failed;
        if (*ret_failed) {
                json_decref(v);
                v = NULL;
        }
        free(json_heap.reserve);
        json_heap.reserve = json_heap.next = NULL;
        return v;
}

/* Return the end of the string that begins with the quotation mark at 'i'. */
static size_t json_string_end(const char *text, size_t size, size_t i) {
        for (i++; i < size && text[i] != '"'; i++)
                i += text[i] == '\\';
        return i;
}

/* Check the limits of parts that take more memory or time than their size. The text may be invalid: the
 * parser reports that, unless a limit is reached before. */
static int json_check_limits(const char *text, size_t size, Error *err) {
        size_t depth = 0, n = 0, max = MAX((size_t) JSON_CONTAINERS, size / JSON_CONTAINER_SIZE);
        unsigned members[JSON_DEPTH_MAX + 1]; /* so far, of the object at each depth */
        bool in_array[JSON_DEPTH_MAX + 1];
        char last = 0; /* the last character that is no white space */

        static_assert(JSON_DEPTH_MAX > JSON_MEMBERS_MAX && JSON_CONTAINERS > JSON_MEMBERS_MAX,
                      "each takes a character");
        if (size <= JSON_MEMBERS_MAX) /* too few characters for any limit, as in most records */
                return 0;
        members[0] = 0;
        in_array[0] = false;
        for (size_t i = 0; i < size; i++) {
                char c = text[i];
                bool opens = c == '{' || c == '[';

                if (c == '"')
                        i = json_string_end(text, size, i);
                else if (c == ':' && ++members[depth] > JSON_MEMBERS_MAX)
                        return error_set(err, -EFBIG, "more than %d members in one object", JSON_MEMBERS_MAX);
                else if ((c == '}' || c == ']') && depth > 0)
                        depth--;
                else if (opens && depth == JSON_DEPTH_MAX)
                        return error_set(err, -EFBIG, "more than %d objects and arrays in one another",
                                         JSON_DEPTH_MAX);

                /* A comma ends an item; an object or an array was counted at its begin. */
                n += opens || (c == ',' && in_array[depth] && last != '}' && last != ']');
                if (n > max)
                        return error_set(err, -EFBIG, "more than %zu objects, arrays and items in %zu bytes",
                                         max, size);
                if (opens) {
                        members[++depth] = 0;
                        in_array[depth] = c == '[';
                }
                if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != 0)
                        last = c;
        }
        return 0;
}

int json_value_parse(const char *text, size_t size, JsonValue **ret, Error *err) {
        TRY(json_check_limits(text, MIN(size, (size_t) JSON_SIZE_MAX), err));
        return json_value_parse_large(text, size, ret, err);
}

int json_value_parse_large(const char *text, size_t size, JsonValue **ret, Error *err) {
        json_error_t where = {};
        bool failed;
        json_t *v;

        if (size > JSON_SIZE_MAX)
                return error_set(err, -EFBIG, "the JSON text is too large: %zu bytes, at most %d are taken",
                                 size, JSON_SIZE_MAX);
        v = json_load(text, size, &where, &failed);
        if (failed)
                return -ENOMEM;
        if (!v)
                return error_set(err, -EBADMSG, "line %d, column %d: %s", where.line, where.column,
                                 where.text);

        *ret = (JsonValue *) v;
        return 0;
}

int json_object_parse(const char *text, size_t size, JsonValue **ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;

        TRY(json_value_parse(text, size, &root, err));
        if (json_value_type(root) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "expected a JSON object");
        *ret = TAKE_PTR(root);
        return 0;
}

JsonValue *json_value_free(JsonValue *root) {
        json_decref((json_t *) root);
        return NULL;
}

JsonType json_value_type(const JsonValue *v) {
        if (json_is_object(json_inner(v)))
                return JSON_VALUE_OBJECT;
        return json_is_array(json_inner(v)) ? JSON_VALUE_ARRAY : JSON_VALUE_OTHER;
}

/* Most names differ in their first letter, of which upper and lower case differ in one bit. */
static bool json_is_same_name(const char *a, const char *b) {
        return ((*a ^ *b) & ~('a' ^ 'A')) == 0 && strcasecmp(a, b) == 0;
}

const JsonValue *json_value_member(const JsonValue *object, const char *name) {
        const JsonValue *found = json_outer(json_object_get(json_inner(object), name));
        json_t *o = (json_t *) object;

        for (void *i = found ? NULL : json_object_iter(o); i && !found; i = json_object_iter_next(o, i))
                if (json_is_same_name(json_object_iter_key(i), name))
                        found = json_outer(json_object_iter_value(i));
        return found;
}

size_t json_value_count(const JsonValue *array) {
        return json_array_size(json_inner(array));
}

const JsonValue *json_value_item(const JsonValue *array, size_t i) {
        return json_outer(json_array_get(json_inner(array), i));
}

const char *json_value_string(const JsonValue *v) {
        return json_string_value(json_inner(v));
}

bool json_list_has(const JsonValue *array, const char *string) {
        JSON_EACH(item, array)
                if (streq(json_value_string(item) ?: "", string))
                        return true;
        return false;
}

int json_value_each(const JsonValue *object,
                    int (*each)(void *userdata, const char *name, const JsonValue *v), void *userdata) {
        json_t *o = (json_t *) object;

        for (void *i = json_object_iter(o); i; i = json_object_iter_next(o, i)) {
                int r = each(userdata, json_object_iter_key(i), json_outer(json_object_iter_value(i)));

                if (r != 0)
                        return r;
        }
        return 0;
}

int json_read_string(const JsonValue *object, const char *name, const char **ret, Error *err) {
        const JsonValue *v = json_value_member(object, name);

        if (!v)
                return 0;
        if (!json_is_string(json_inner(v)))
                return error_set(err, -EBADMSG, "%s: expected a string", name);
        *ret = json_value_string(v);
        return 0;
}

int json_value_u64(const JsonValue *v, uint64_t *ret) {
        if (!v || !json_is_integer(json_inner(v)) || json_integer_value(json_inner(v)) < 0)
                return -EBADMSG;
        *ret = json_integer_value(json_inner(v));
        return 0;
}

int json_read_u64(const JsonValue *object, const char *name, uint64_t *ret, Error *err) {
        const JsonValue *v = json_value_member(object, name);

        if (!v)
                return 0;
        return json_value_u64(v, ret) < 0 ? error_set(err, -EBADMSG, "%s: expected a whole number", name) : 0;
}

int json_read_bool(const JsonValue *object, const char *name, bool *ret, Error *err) {
        const JsonValue *v = json_value_member(object, name);

        if (!v)
                return 0;
        if (!json_is_boolean(json_inner(v)))
                return error_set(err, -EBADMSG, "%s: expected true or false", name);
        *ret = json_is_true(json_inner(v));
        return 0;
}

int json_read_bytes(const JsonValue *object, const char *name, char **ret, size_t *ret_size, Error *err) {
        const char *text = NULL, *encoded = NULL;
        char name64[32];
        int r;

        snprintf(name64, sizeof(name64), "%s64", name);
        TRY(json_read_string(object, name, &text, err));
        r = TRY(json_read_string(object, name64, &encoded, err));
        if (text && encoded)
                return error_set(err, -EBADMSG, "%s and %s exclude each other: leave one out", name, name64);
        if (encoded) {
                r = base64_decode(encoded, strlen(encoded), ret, ret_size);
                if (r == -EINVAL)
                        return error_set(err, -EBADMSG, "%s: expected base64", name64);
                return r < 0 ? r : 1;
        }
        if (!text)
                return 0;
        *ret_size = strlen(text);
        *ret = strdup(text);
        return *ret ? 1 : -ENOMEM;
}

void json_begin(Text *t, const char *name) {
        char last = t->size > 0 ? t->chars[t->size - 1] : 0;

        if (last && (strchr("\"}]", last) || (last >= '0' && last <= '9') || (last >= 'a' && last <= 'z')))
                text_append_char(t, ',');
        if (name) {
                text_append_char(t, '"');
                text_append_json(t, name, strlen(name));
                text_append(t, "\":");
        }
}

void json_open(Text *t, const char *name, char bracket) {
        assert(bracket == '{' || bracket == '[');

        json_begin(t, name);
        text_append_char(t, bracket);
}

void json_close(Text *t, char bracket) {
        assert(bracket == '}' || bracket == ']');

        text_append_char(t, bracket);
}

size_t json_open_list(Text *t, const char *name) {
        size_t list = t->size;

        json_open(t, name, '[');
        return list;
}

void json_close_list(Text *t, size_t list) {
        if (t->error < 0 || t->chars[t->size - 1] != '[') {
                json_close(t, ']');
                return;
        }
        t->size = list;
        t->chars[list] = 0;
}

void json_add_string_always(Text *t, const char *name, const char *value) {
        json_begin(t, name);
        text_append_char(t, '"');
        if (value)
                text_append_json(t, value, strlen(value));
        text_append_char(t, '"');
}

void json_add_string(Text *t, const char *name, const char *value) {
        if (value && *value)
                json_add_string_always(t, name, value);
}

void json_add_bytes(Text *t, const char *name, const void *bytes, size_t size) {
        bool plain = text_is_plain(bytes, size);
        char name64[32];

        snprintf(name64, sizeof(name64), "%s64", name);
        json_begin(t, plain ? name : name64);
        text_append_char(t, '"');
        if (plain)
                text_append_json(t, bytes, size);
        else
                text_append_base64(t, bytes, size, false);
        text_append_char(t, '"');
}

void json_add_u64(Text *t, const char *name, uint64_t value) {
        if (value == 0)
                return;
        json_begin(t, name);
        text_printf(t, "%" PRIu64, value);
}

void json_add_bool(Text *t, const char *name, bool value) {
        if (!value)
                return;
        json_begin(t, name);
        text_append(t, "true");
}

void json_add_item(Text *t, const char *value) {
        json_add_string_always(t, NULL, value);
}
