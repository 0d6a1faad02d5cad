/* A scene of tests/search/expensive: a state of the store and a request, as a row of numbers (genes). */
#pragma once

#include "base/clock.h"

enum { CLIENTS_MAX = 64, WATCHERS_MAX = 64, SCENE_UNITS_MAX = 200 };

typedef enum Kind {
        PUT,
        REFRESH,
        COMPARE,
        POST,
        DELETE_DIR,
        DELETE_ALL,
        GET_DIR,
        GET_ALL,
        WAIT,
        TXN,
        LIST,
        UNIT,
        BATCH,
        PLAN,
        UNITS,
        DESTROY,
        _KIND_MAX,
} Kind;

typedef enum Shape { FLAT, DEEP, LONG, LONG_SHARED, _SHAPE_MAX } Shape; /* of keys */
typedef enum Action {
        SET_SAME,
        SET_EACH,
        REFRESH_SAME,
        REFRESH_EACH,
        UPDATE_EACH,
        DELETE_EACH,
        CREATE,
        REMOVE_ALL,
        CHECK_VALUE,
        _ACTION_MAX
} Action;

typedef enum Form {
        COMMENTS,
        SECTION,
        PATTERNS,
        NAMES,
        ALIASES,
        UNKNOWN,
        EMPTY,
        _FORM_MAX
} Form; /* the part that a unit's text repeats */

enum { NODES, SHAPE, VALUE, TTL, WATCHERS, CLIENTS, ITEMS, ACTION, SIZE, UNITS_THERE, RULES, FORM, _GENES };

typedef struct Scene {
        Kind kind;
        uint64_t genes[_GENES];
        uint64_t request, work, turn; /* bytes sent; work in all, and of the most expensive turn */
        unsigned status;              /* of the last answer */
} Scene;

extern const char *const scene_kinds[_KIND_MAX];
Kind scene_kind_from_name(const char *name); /* _KIND_MAX: there is none */

double scene_ratio(const Scene *s); /* work for each byte of the requests */
void scene_print(FILE *f, const Scene *s);
bool scene_read(const char *line, Scene *ret);

void scene_draw(Random *random, Kind kind, Scene *ret);
void scene_change(Random *random, Scene *s); /* some genes */
