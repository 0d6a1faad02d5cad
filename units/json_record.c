#include "units/json_record.h"

#include "base/parse.h"
#include "units/lists.h"

/* -- Reading -- */

/* No key is repeated (JSON_REJECT_DUPLICATES). */
static int json_add_pair(void *userdata, const char *key, const JsonValue *v) {
        return json_value_string(v) ? pairs_add(userdata, key, json_value_string(v)) : -EBADMSG;
}

static int json_read_pairs(const JsonValue *object, const char *name, Pairs *ret, Error *err) {
        const JsonValue *v = json_value_member(object, name);
        int r;

        if (v && json_value_type(v) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "%s: expected an object of strings", name);
        r = json_value_each(v, json_add_pair, ret);
        if (r == -EBADMSG)
                return error_set(err, r, "%s: expected an object of strings", name);
        return r;
}

static int json_read_word(const JsonField *f, const char *word, int *ret, Error *err) {
        _cleanup_text_ Text names = {};
        int value;

        if (!word && !f->required)
                return 0;
        value = parse_name(word ?: "", f->words->names, f->words->n);
        if (value >= 0) {
                *ret = value;
                return 0;
        }
        for (int i = 0; i < f->words->n; i++)
                text_printf(&names, "%s%s", i > 0 ? ", " : "", f->words->names[i]);
        TRY(names.error);
        return error_set(err, f->words->error, "%s: '%.32s' is none of %s", f->name, word ?: "", names.chars);
}

static int json_read_chars(const JsonField *f, const char *text, char *ret, Error *err) {
        size_t n = strlen(text);

        if (n >= f->size && f->type == JSON_FIELD_CHARS)
                return error_set(err, -EBADMSG, "%s: longer than %d bytes", f->name, f->size - 1);
        if (n >= f->size && f->type != JSON_FIELD_CHARS_CUT)
                return 0;
        n = MIN(n, f->size - 1u);
        memcpy(ret, text, n);
        ret[n] = 0;
        return 0;
}

static int json_read_owned(const char *text, char **ret) {
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        free(*ret);
        *ret = copy;
        return 0;
}

/* A field whose member is a string. */
static int json_read_text(const JsonValue *object, const JsonField *f, void *field, Error *err) {
        const char *text = NULL;

        TRY(json_read_string(object, f->name, &text, err));
        if (f->type == JSON_FIELD_WORD)
                return json_read_word(f, text && *text ? text : NULL, field, err);
        if (!text && f->required)
                return error_set(err, -EBADMSG, "%s: missing", f->name);

        switch (f->type) {
        case JSON_FIELD_OWNED:
                return json_read_owned(text ?: "", field);
        case JSON_FIELD_OWNED_OR_NULL:
                return text && *text ? json_read_owned(text, field) : 0;
        case JSON_FIELD_TEXT:
                if (text)
                        memcpy(field, &text, sizeof(text)); /* the field may be a char * */
                return 0;
        default:
                return text ? json_read_chars(f, text, field, err) : 0;
        }
}

static void *json_list_items(const JsonField *f, const void *record) {
        void *field = (char *) record + f->offset;

        return f->list->owned ? *(void **) field : field;
}

static size_t *json_list_n(const JsonField *f, const void *record) {
        return (size_t *) ((char *) record + f->list->n);
}

/* Read the items in their order. Their number counts those that were begun, so that they are freed. */
static int json_read_list(const JsonValue *object, const JsonField *f, void *record, Error *err) {
        const JsonValue *array = json_value_member(object, f->name);
        size_t n = json_value_count(array), *ret_n = json_list_n(f, record);
        const JsonList *list = f->list;
        char *items;
        int r = 0;

        if (array && (json_value_type(array) != JSON_VALUE_ARRAY || n > list->max))
                return error_set(err, -EBADMSG, "%s: expected a list of at most %zu %s", f->name, list->max,
                                 list->is_valid ? "strings" : "objects");
        if (list->owned && n > 0) {
                items = calloc(n, list->size);
                if (!items)
                        return -ENOMEM;
                memcpy((char *) record + f->offset, &items, sizeof(items));
        }
        items = json_list_items(f, record);
        for (size_t i = 0; i < n && r >= 0; i++) {
                const JsonValue *item = json_value_item(array, i);
                const char *text = json_value_string(item);

                if (list->is_valid) {
                        if (!text || !list->is_valid(text))
                                return error_set(err, -EBADMSG, "%s: an item is invalid", f->name);
                        snprintf(items + i * list->size, list->size, "%s", text);
                        *ret_n = i + 1;
                        continue;
                }
                if (json_value_type(item) != JSON_VALUE_OBJECT)
                        return error_set(err, -EBADMSG, "%s: expected objects", f->name);
                *ret_n = i + 1;
                r = json_read_fields(item, list->fields, list->n_fields, items + i * list->size, err);
        }
        return r;
}

static int json_read_field(const JsonValue *object, const JsonField *f, void *record, Error *err) {
        void *field = (char *) record + f->offset;
        bool flag;
        int r;

        switch (f->type) {
        case JSON_FIELD_U64:
                r = json_read_u64(object, f->name, field, err);
                if (r >= 0 && f->required && *(uint64_t *) field == 0)
                        return error_set(err, -EBADMSG, "%s: missing", f->name);
                return r;
        case JSON_FIELD_BOOL:
                return json_read_bool(object, f->name, field, err);
        case JSON_FIELD_NOT:
                flag = !*(bool *) field;
                r = json_read_bool(object, f->name, &flag, err);
                *(bool *) field = !flag;
                return r;
        case JSON_FIELD_PAIRS:
                return json_read_pairs(object, f->name, field, err);
        case JSON_FIELD_LIST:
                return json_read_list(object, f, record, err);
        case JSON_FIELD_OTHER:
                return f->read(json_value_member(object, f->name), field, err);
        default:
                return json_read_text(object, f, field, err);
        }
}

int json_read_fields(const JsonValue *object, const JsonField *fields, size_t n, void *record, Error *err) {
        for (size_t i = 0; i < n; i++)
                TRY(json_read_field(object, &fields[i], record, err));
        return 0;
}

static void json_free_list(const JsonField *f, void *record) {
        char *items = json_list_items(f, record);

        for (size_t i = 0; i < *json_list_n(f, record); i++)
                json_free_fields(f->list->fields, f->list->n_fields, items + i * f->list->size);
        if (f->list->owned)
                free(items);
}

void json_free_fields(const JsonField *fields, size_t n, void *record) {
        for (size_t i = 0; i < n; i++) {
                void *field = (char *) record + fields[i].offset;

                if (fields[i].type == JSON_FIELD_OWNED || fields[i].type == JSON_FIELD_OWNED_OR_NULL)
                        free(*(char **) field);
                else if (fields[i].type == JSON_FIELD_PAIRS)
                        pairs_done(field);
                else if (fields[i].type == JSON_FIELD_LIST)
                        json_free_list(&fields[i], record);
        }
}

/* -- Records -- */

int json_record_new(const JsonRecord *type, const char *json, size_t size, void **ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        void *record;
        int r;

        TRY(json_object_parse(json, size, &root, err));
        record = calloc(1, type->size);
        if (!record)
                return -ENOMEM;
        r = json_read_fields(root, type->fields, type->n_fields, record, err);
        if (r >= 0 && type->check)
                r = type->check(record, err);
        if (r < 0) {
                json_record_free(type, record);
                return r;
        }
        *ret = record;
        return 0;
}

int json_record_read(const JsonRecord *type, const char *json, size_t size, void *ret, Error *err) {
        _cleanup_free_ void *record = NULL;

        TRY(json_record_new(type, json, size, &record, err));
        memcpy(ret, record, type->size);
        return 0;
}

int json_read_record(const char *json, size_t size, const JsonField *fields, size_t n, void *ret,
                     size_t ret_size, Error *err) {
        return json_record_read(&(JsonRecord) { fields, n, ret_size }, json, size, ret, err);
}

static int json_copy_fields(const JsonField *fields, size_t n, const void *from, void *to);

static int json_copy_list(const JsonField *f, const void *from, void *to) {
        const JsonList *list = f->list;
        size_t n = *json_list_n(f, from);
        char *items = json_list_items(f, to);
        int r = 0;

        if (list->owned) {
                *json_list_n(f, to) = 0;
                items = n > 0 ? calloc(n, list->size) : NULL;
                memcpy((char *) to + f->offset, &items, sizeof(items));
                if (!items)
                        return n > 0 ? -ENOMEM : 0;
                memcpy(items, json_list_items(f, from), n * list->size);
                *json_list_n(f, to) = n;
        }
        for (size_t i = 0; i < n; i++) {
                int copied = json_copy_fields(list->fields, list->n_fields,
                                              (const char *) json_list_items(f, from) + i * list->size,
                                              items + i * list->size);

                r = MIN(r, copied);
        }
        return r;
}

/* Copy what the fields of 'from' own into 'to', which has its bytes. After an error, the rest is empty. */
static int json_copy_fields(const JsonField *fields, size_t n, const void *from, void *to) {
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                const void *field = (const char *) from + fields[i].offset;
                void *ret = (char *) to + fields[i].offset;
                int copied = 0;

                if (fields[i].type == JSON_FIELD_OWNED || fields[i].type == JSON_FIELD_OWNED_OR_NULL) {
                        *(char **) ret = NULL;
                        copied = copy_string(*(char *const *) field, ret);
                } else if (fields[i].type == JSON_FIELD_PAIRS) {
                        *(Pairs *) ret = (Pairs) {};
                        copied = pairs_copy(field, ret);
                } else if (fields[i].type == JSON_FIELD_LIST)
                        copied = json_copy_list(&fields[i], from, to);
                r = MIN(r, copied);
        }
        return r;
}

int json_record_copy(const JsonRecord *type, const void *record, void *ret) {
        _cleanup_free_ void *copy = malloc(type->size);
        int r;

        if (!copy)
                return -ENOMEM;
        memcpy(copy, record, type->size);
        r = json_copy_fields(type->fields, type->n_fields, record, copy);
        if (r < 0)
                json_free_fields(type->fields, type->n_fields, copy);
        else
                memcpy(ret, copy, type->size);
        return r;
}

static bool json_fields_equal(const JsonField *fields, size_t n, const void *a, const void *b);

static bool json_lists_equal(const JsonField *f, const void *a, const void *b) {
        const char *items_a = json_list_items(f, a), *items_b = json_list_items(f, b);
        size_t n = *json_list_n(f, a);
        bool equal = n == *json_list_n(f, b);

        for (size_t i = 0; i < n * f->list->size && equal; i += f->list->size)
                equal = f->list->is_valid ? streq(items_a + i, items_b + i) :
                                            json_fields_equal(f->list->fields, f->list->n_fields, items_a + i,
                                                              items_b + i);
        return equal;
}

static bool json_field_equal(const JsonField *f, const void *record_a, const void *record_b) {
        const void *a = (const char *) record_a + f->offset, *b = (const char *) record_b + f->offset;

        switch (f->type) {
        case JSON_FIELD_TEXT:
        case JSON_FIELD_OWNED:
        case JSON_FIELD_OWNED_OR_NULL:
                return same_string(*(char *const *) a, *(char *const *) b);
        case JSON_FIELD_CHARS:
        case JSON_FIELD_CHARS_CUT:
        case JSON_FIELD_CHARS_SKIPPED:
                return streq(a, b);
        case JSON_FIELD_U64:
                return *(const uint64_t *) a == *(const uint64_t *) b;
        case JSON_FIELD_BOOL:
        case JSON_FIELD_NOT:
                return *(const bool *) a == *(const bool *) b;
        case JSON_FIELD_WORD:
                return *(const int *) a == *(const int *) b;
        case JSON_FIELD_PAIRS:
                return pairs_equal(a, b);
        case JSON_FIELD_LIST:
                return json_lists_equal(f, record_a, record_b);
        default:
                return memcmp(a, b, f->size) == 0;
        }
}

static bool json_fields_equal(const JsonField *fields, size_t n, const void *a, const void *b) {
        bool equal = true;

        for (size_t i = 0; i < n && equal; i++)
                equal = json_field_equal(&fields[i], a, b);
        return equal;
}

bool json_record_equal(const JsonRecord *type, const void *a, const void *b) {
        return json_fields_equal(type->fields, type->n_fields, a, b);
}

void json_record_done(const JsonRecord *type, void *record) {
        json_free_fields(type->fields, type->n_fields, record);
        memset(record, 0, type->size);
}

void json_record_free(const JsonRecord *type, void *record) {
        if (record)
                json_free_fields(type->fields, type->n_fields, record);
        free(record);
}

/* -- Writing -- */

static void json_add_pairs(Text *t, const char *name, const Pairs *pairs) {
        if (pairs->n == 0)
                return;
        json_open(t, name, '{');
        for (size_t i = 0; i < pairs->n; i++)
                json_add_string_always(t, pairs->items[i].key, pairs->items[i].value);
        json_close(t, '}');
}

static void json_write_list(Text *t, const JsonField *f, const void *record) {
        const char *items = json_list_items(f, record);
        size_t n = *json_list_n(f, record);

        if ((f->list->owned || f->list->is_valid) && n == 0)
                return;
        json_open(t, f->name, '[');
        for (size_t i = 0; i < n * f->list->size; i += f->list->size)
                if (f->list->is_valid)
                        json_add_item(t, items + i);
                else
                        json_write_object(t, f->list->fields, f->list->n_fields, items + i);
        json_close(t, ']');
}

static void json_write_field(Text *t, const JsonField *f, const void *record) {
        const void *field = (const char *) record + f->offset;
        const char *text;

        switch (f->type) {
        case JSON_FIELD_TEXT:
        case JSON_FIELD_OWNED:
        case JSON_FIELD_OWNED_OR_NULL:
                memcpy(&text, field, sizeof(text));
                json_add_string(t, f->name, text);
                break;
        case JSON_FIELD_CHARS:
        case JSON_FIELD_CHARS_CUT:
        case JSON_FIELD_CHARS_SKIPPED:
                json_add_string(t, f->name, field);
                break;
        case JSON_FIELD_U64:
                json_add_u64(t, f->name, *(const uint64_t *) field);
                break;
        case JSON_FIELD_BOOL:
                json_add_bool(t, f->name, *(const bool *) field);
                break;
        case JSON_FIELD_NOT:
                if (*(const bool *) field) {
                        json_begin(t, f->name);
                        text_append(t, "false");
                }
                break;
        case JSON_FIELD_WORD:
                json_add_string(t, f->name, enum_name(f->words->names, f->words->n, *(const int *) field));
                break;
        case JSON_FIELD_PAIRS:
                json_add_pairs(t, f->name, field);
                break;
        case JSON_FIELD_LIST:
                json_write_list(t, f, record);
                break;
        case JSON_FIELD_OTHER:
                f->write(t, f->name, field);
                break;
        }
}

void json_write_fields(Text *t, const JsonField *fields, size_t n, const void *record) {
        for (size_t i = 0; i < n; i++)
                json_write_field(t, &fields[i], record);
}

void json_write_object(Text *t, const JsonField *fields, size_t n, const void *record) {
        json_open(t, NULL, '{');
        json_write_fields(t, fields, n, record);
        json_close(t, '}');
}

void json_record_write(Text *t, const JsonRecord *type, const void *record) {
        json_write_object(t, type->fields, type->n_fields, record);
}
