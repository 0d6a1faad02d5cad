/* JSON: a bounded, strict reader, and functions that append to a Text.
 *
 * Reading: duplicate names, invalid UTF-8, NUL in strings and text after the value are errors; unknown
 * members are ignored. A JsonValue borrows from its root; only the root is freed.
 *
 * Writing: members are written in the order of the calls, which is alphabetical. As in fleet, empty strings
 * and zeros are left out. The end of the text decides whether a comma is written first. */
#pragma once

#include "base/error.h"
#include "base/text.h"

enum {
        JSON_SIZE_MAX = 16 * 1024 * 1024, /* bytes of one text: a page of units fits */

        /* Objects, arrays and other items of arrays of one text: this number, or one per 8 bytes of text if
         * that is more. An empty object takes 80 bytes of memory per byte of text; with this limit, the worst
         * text takes 55. An object with a member has 8 bytes and a comma. The limit is
         * for time, too: a text of items 1 takes 120 ns per byte. Names and IDs are longer. */
        JSON_CONTAINERS = 4096,
        JSON_CONTAINER_SIZE = 8,

        /* Of one object: an absent name is compared with each member, and the table of a large object is slow
         * to fill. */
        JSON_MEMBERS_MAX = 1000,

        JSON_DEPTH_MAX = 2048, /* jansson has the same limit */
};

typedef struct JsonValue JsonValue;

typedef enum JsonType {
        JSON_VALUE_OTHER, /* absent, null, a boolean, a number or a string */
        JSON_VALUE_ARRAY,
        JSON_VALUE_OBJECT,
} JsonType;

/* Parse a text; -EBADMSG with "line 1, column 7: ...", -EFBIG above one of the limits, which are checked
 * first. */
int json_value_parse(const char *text, size_t size, JsonValue **ret, Error *err);
/* The same with JSON_SIZE_MAX as the only limit: for fleetctl, which reads its user's files and the daemon's
 * answers. */
int json_value_parse_large(const char *text, size_t size, JsonValue **ret, Error *err);
/* As json_value_parse(); -EBADMSG also for a value that is no object. */
int json_object_parse(const char *text, size_t size, JsonValue **ret, Error *err);
JsonValue *json_value_free(JsonValue *root); /* returns NULL */
DEFINE_CLEANUP(JsonValue *, json_value_free)
#define _cleanup_json_ _cleanup_(json_value_freep)

/* All accept NULL for an absent value, and return the same as for an empty one. */
JsonType json_value_type(const JsonValue *v);
/* NULL if absent or null. Without an exact name, a name in other case counts, as in Go. */
const JsonValue *json_value_member(const JsonValue *object, const char *name);
size_t json_value_count(const JsonValue *array); /* 0 for a value of another type */
const JsonValue *json_value_item(const JsonValue *array, size_t i);
/* For each item of an array, an expression without effects; 'item_i' is its position. */
#define JSON_EACH(item, array)                                                                    \
        for (size_t item##_i = 0, item##_go = 1; item##_go && item##_i < json_value_count(array); \
             item##_go = !item##_go, item##_i++)                                                  \
                for (const JsonValue *item = json_value_item(array, item##_i); item##_go;         \
                     item##_go = !item##_go)
bool json_list_has(const JsonValue *array, const char *string);
const char *json_value_string(const JsonValue *v);     /* NULL for a value of another type */
int json_value_u64(const JsonValue *v, uint64_t *ret); /* -EBADMSG: no integer from 0 to 2^63-1 */

/* Call 'each' for every member of an object, until it returns non-zero, and return that. */
int json_value_each(const JsonValue *object,
                    int (*each)(void *userdata, const char *name, const JsonValue *v), void *userdata);

/* Read a member of an object, and check its type. An absent member leaves *ret unchanged and returns 0;
 * another type is -EBADMSG with "NAME: expected a string" and so on. Strings are borrowed. */
int json_read_string(const JsonValue *object, const char *name, const char **ret, Error *err);
int json_read_u64(const JsonValue *object, const char *name, uint64_t *ret, Error *err);
int json_read_bool(const JsonValue *object, const char *name, bool *ret, Error *err);

/* Read what json_add_bytes() writes. Return 1 and the bytes, which the caller frees (a zero byte follows
 * them), 0 if both members are absent; -EBADMSG if both exist, or for invalid base64. */
int json_read_bytes(const JsonValue *object, const char *name, char **ret, size_t *ret_size, Error *err);

/* Write a name, if it is not NULL, after a comma if the text ends in a value. */
void json_begin(Text *t, const char *name);
void json_open(Text *t, const char *name, char bracket); /* '{' or '['; 'name' NULL: not a member */
void json_close(Text *t, char bracket);                  /* '}' or ']' */
/* Write an array that is left out if it stays empty; json_close_list() gets the result. */
size_t json_open_list(Text *t, const char *name);
void json_close_list(Text *t, size_t list);
void json_add_string(Text *t, const char *name, const char *value);        /* left out if NULL or "" */
void json_add_string_always(Text *t, const char *name, const char *value); /* NULL is written as "" */
/* Any bytes: as a string if they are text, otherwise in base64 under the name with "64" appended. Never left
 * out. */
void json_add_bytes(Text *t, const char *name, const void *bytes, size_t size);
void json_add_u64(Text *t, const char *name, uint64_t value); /* left out if 0 */
void json_add_bool(Text *t, const char *name, bool value);    /* left out if false */
void json_add_item(Text *t, const char *value);               /* a string in an array */
