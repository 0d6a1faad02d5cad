/* The things of fleet's API, both ways: what the daemon writes the client reads, and the other way round.
 *
 * For writing, fill the structs with pointers that you keep. After reading, strings borrow from the page's or
 * unit's 'source', and the *_done() function frees all of it. Fields that are NULL, empty or invalid are left
 * out. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "units/json.h"
#include "units/lists.h"
#include "units/state.h"
#include "units/unit.h"

/* {"currentState","desiredState","global","hash","machineID","name","options":[],"owner","reason","text"};
 * "global", "hash", "owner", "reason" and "text" are ours, fleet's own clients skip them; so are "replace",
 * "destroy", "expectedHash" and "expectedState" of a request. */
typedef struct ApiUnit {
        const char *name;
        const UnitFile *file;      /* "options"; NULL or empty: left out */
        TargetState desired_state; /* _TARGET_INVALID: absent */
        TargetState current_state;
        const char *machine_id;
        const char *hash;   /* 40 hex digits */
        const char *reason; /* why it is where it is, or nowhere */
        const char *text;   /* the unit file as given, comments and all */
        const char *owner;  /* the machine whose directory it comes from */
        bool global;        /* on every machine that fits */
        /* Of a request: */
        bool keep;                  /* "replace" is false, what is there stays */
        bool destroy;               /* the unit is removed; in a batch */
        const char *expected_hash;  /* only if this is its hash; NULL: whatever it is */
        TargetState expected_state; /* only if this is its target state; _TARGET_INVALID: whatever it is */
        JsonValue *source;          /* set by api_unit_read(), owned, as 'file' is then */
} ApiUnit;

/* An ApiUnit without any field. */
#define API_UNIT_EMPTY                                 \
        ((ApiUnit) { .desired_state = _TARGET_INVALID, \
                     .current_state = _TARGET_INVALID, \
                     .expected_state = _TARGET_INVALID })

void api_unit_write(Text *t, const ApiUnit *unit);

/* Reads one unit: a request's body. A state that does not exist is -EINVAL, all else that is wrong
 * -EBADMSG.
 */
int api_unit_read(const char *json, size_t size, ApiUnit *ret, Error *err);
/* The same of an answer, without the limits of a request: options without section, name and value are empty
 * objects there. */
int api_unit_read_answer(const char *json, size_t size, ApiUnit *ret, Error *err);

/* Does it bring contents, as "text" or as "options"? */
bool api_unit_has_contents(const ApiUnit *unit);

/* Make a unit of its contents: of "text" where it is there, else of the options as printed; errors as
 * unit_read()'s, with the lines of that text. What is submitted has to pass unit_check(), too. */
int api_unit_contents(const char *name, const ApiUnit *unit, Unit **ret, Error *err);
void api_unit_done(ApiUnit *unit);
#define _cleanup_api_unit_ _cleanup_(api_unit_done)

/* {"hash","machineID","name","systemdActiveState","systemdLoadState","systemdSubState"}, and our "finished",
 * "job" and "since" (ms) */
typedef struct ApiState {
        const char *name, *machine_id, *hash, *load, *active, *sub;
        uint64_t since_ms;
        const char *job; /* why its last start never began: "dependency", "unsupported", ... */
        bool finished;   /* ended as it should, and is not to be run again */
} ApiState;

void api_state_write(Text *t, const ApiState *state);

/* {"id","metadata":{},"primaryIP"} and our "hostname", "presence", "problem" (what its replica suffers from),
 * "role", "since" (ms), "units", "version" */
typedef struct ApiMachine {
        const char *id, *primary_ip;
        Pairs metadata; /* writing: a shallow copy will do; reading: owned */
        const char *hostname, *presence, *version, *role, *problem;
        uint64_t since_ms; /* of its presence */
        uint64_t n_units;  /* that it is to have */
} ApiMachine;

void api_machine_write(Text *t, const ApiMachine *machine);

/* Pages: {"machines":[...]}, {"states":[...]}, {"units":[...]}, and "nextPageToken" where more follows.
 * Without items the array is left out. */
void api_units_page_write(Text *t, const ApiUnit *units, size_t n, const char *next_token);
void api_states_page_write(Text *t, const ApiState *states, size_t n, const char *next_token);
void api_machines_page_write(Text *t, const ApiMachine *machines, size_t n, const char *next_token);

enum { API_PAGE_MAX = 65536 }; /* items that a reader takes on one page */

typedef struct ApiPage {
        ApiUnit *units; /* the array that is there depends on what was read */
        ApiState *states;
        ApiMachine *machines;
        size_t n;
        const char *next_token; /* NULL on the last page */
        JsonValue *source;      /* owned */
} ApiPage;

/* Pages of an answer; json_value_parse_large(). */
int api_units_page_read(const char *json, size_t size, ApiPage *ret, Error *err);
int api_states_page_read(const char *json, size_t size, ApiPage *ret, Error *err);
int api_machines_page_read(const char *json, size_t size, ApiPage *ret, Error *err);
/* Units of a request; -E2BIG: more than 'max', none was read. */
int api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err);
void api_page_done(ApiPage *page);
#define _cleanup_api_page_ _cleanup_(api_page_done)

/* {"error":{"code":N,"message":"..."}}; the message is always there. */
void api_error_write(Text *t, int code, const char *message);

/* -EBADMSG if the body is not of that shape. The message goes into 'ret'. */
int api_error_read(const char *json, size_t size, int *ret_code, char *ret, size_t ret_size);
