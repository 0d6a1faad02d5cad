/* Members of a struct, by a table of fields; and records, which are stored or sent as one JSON object. */
#pragma once

#include "units/json.h"

typedef enum JsonFieldType {
        JSON_FIELD_TEXT,          /* const char *: borrowed from the object */
        JSON_FIELD_OWNED,         /* char *: "" if absent */
        JSON_FIELD_OWNED_OR_NULL, /* char *: NULL if absent or empty */
        JSON_FIELD_CHARS,         /* char[size]: a longer text is an error */
        JSON_FIELD_CHARS_CUT,     /* char[size]: a longer text is cut */
        JSON_FIELD_CHARS_SKIPPED, /* char[size]: a longer text counts as absent */
        JSON_FIELD_U64,           /* uint64_t */
        JSON_FIELD_BOOL,          /* bool */
        JSON_FIELD_NOT,           /* bool: whether the member is false */
        JSON_FIELD_WORD,          /* enum, by its names; absent or "" if optional */
        JSON_FIELD_PAIRS,         /* Pairs */
        JSON_FIELD_LIST,          /* structs or strings, and their number: see JsonList */
        JSON_FIELD_OTHER,         /* any type, by 'write' and 'read'; 'size' is that of the field */
} JsonFieldType;

/* The names of an enum, which is read and written as an int. */
static_assert(sizeof(JsonFieldType) == sizeof(int), "the compiler has no short enums");
typedef struct JsonWords {
        const char *const *names;
        int n;
        int error; /* for a word that is none of them */
} JsonWords;

typedef struct JsonList JsonList;

typedef struct JsonField {
        const char *name;
        JsonFieldType type : 8;
        uint16_t offset; /* in the struct */
        bool required;   /* a number has to be greater than 0 */
        uint16_t size;   /* of JSON_FIELD_CHARS* */
        union {
                const JsonWords *words;
                const JsonList *list;
                struct { /* read: 'member' is NULL if it is absent */
                        void (*write)(Text *t, const char *name, const void *field);
                        int (*read)(const JsonValue *member, void *field, Error *err);
                };
        };
} JsonField;

#define JSON_FIELDS(table) (table), ELEMENTS(table)

/* A list of objects of one kind, as structs; or of strings, as char[size]. */
struct JsonList {
        const JsonField *fields;
        size_t n_fields, size, max; /* size: bytes of an item */
        size_t n;                   /* offset in the record of the number of items, a size_t */
        bool owned; /* the field is a pointer to an array that the record owns; otherwise, it is an array of
                       'max' items. It is left out if it is empty, and so is one of strings */
        bool (*is_valid)(const char *s); /* a string, which is then shorter than 'size'; NULL: objects */
};

/* A type of records: structs that are stored or sent as one JSON object. */
typedef struct JsonRecord {
        const JsonField *fields;
        size_t n_fields, size;
        int (*check)(void *record, Error *err); /* after reading: returns 0, or an error if the value has no
                                                   meaning; it may complete the record; NULL: always 0 */
} JsonRecord;

/* Read members of an object into 'record'; a member that is absent leaves its field unchanged. Errors are
 * -EBADMSG, or that of the words, with "NAME: rule". The caller frees what was read, also after an error. */
int json_read_fields(const JsonValue *object, const JsonField *fields, size_t n, void *record, Error *err);

/* Free the strings, pairs and lists that a record owns. */
void json_free_fields(const JsonField *fields, size_t n, void *record);

/* Parse an object, and read its fields into a record of 'ret_size' bytes, which replace *ret; fields that are
 * absent are zero. On failure, *ret is untouched. */
int json_read_record(const char *json, size_t size, const JsonField *fields, size_t n, void *ret,
                     size_t ret_size, Error *err);

/* Write fields as members, in the order of the table, which is alphabetical. Empty strings and pairs, zeros,
 * false (JSON_FIELD_NOT: true) and values without a name are left out. */
void json_write_fields(Text *t, const JsonField *fields, size_t n, const void *record);
void json_write_object(Text *t, const JsonField *fields, size_t n, const void *record); /* with its braces */

/* The same for a record of a type. json_record_new() returns one on the heap, which the caller frees with
 * json_record_free(). */
int json_record_new(const JsonRecord *type, const char *json, size_t size, void **ret, Error *err);
int json_record_read(const JsonRecord *type, const char *json, size_t size, void *ret, Error *err);
void json_record_write(Text *t, const JsonRecord *type, const void *record);
int json_record_copy(const JsonRecord *type, const void *record, void *ret); /* 0 or -ENOMEM */
bool json_record_equal(const JsonRecord *type, const void *a, const void *b);
void json_record_done(const JsonRecord *type, void *record); /* all members are zero then */
void json_record_free(const JsonRecord *type, void *record); /* NULL is allowed */

/* Declare NAME_record, and stored_NAME_read(), stored_NAME_write() and NAME_record_done() for it. */
#define STORED_READ(name, Type)                                                                        \
        extern const JsonRecord name##_record;                                                         \
        static inline int stored_##name##_read(const char *json, size_t size, Type *ret, Error *err) { \
                return json_record_read(&name##_record, json, size, ret, err);                         \
        }                                                                                              \
        static inline void name##_record_done(Type *record) {                                          \
                json_record_done(&name##_record, record);                                              \
        }
#define STORED(name, Type)                                                     \
        STORED_READ(name, Type)                                                \
        static inline void stored_##name##_write(Text *t, const Type *value) { \
                json_record_write(t, &name##_record, value);                   \
        }
