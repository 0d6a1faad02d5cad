/* The objects of fleet's API, for the daemon and for fleetctl: each writes what the other reads.
 *
 * For writing, the structs borrow. After reading, strings borrow from 'source' of the page or unit, and the
 * *_done() function frees all. Fields that are NULL, empty or invalid are left out. */
#pragma once

#include "units/json.h"
#include "units/lists.h"
#include "units/state.h"
#include "units/unit.h"

/* {"currentState","desiredState","global","hash","machineID","name","options":[],"owner","reason",
 * "reasonKind","text"}; "global", "hash", "owner", "reason", "reasonKind" and "text" extend fleet's API;
 * fleet's clients ignore them. So do "replace", "destroy", "expectedHash" and "expectedState" of a request.
 */
typedef struct ApiUnit {
        const char *name;
        const UnitFile *file;      /* "options"; NULL or empty: left out */
        TargetState desired_state; /* _TARGET_INVALID: absent */
        TargetState current_state;
        const char *machine_id;
        const char *hash;        /* 40 hex digits */
        const char *reason;      /* of its assignment, or of the lack of one */
        const char *reason_kind; /* API_REASON_*; NULL: another one, or of an older daemon */
        const char *text;        /* the unit file as submitted, comments included */
        const char *owner;       /* id of the machine whose unit directory has the file */
        bool global;             /* on every machine that qualifies */
        /* Of a request: */
        bool keep;          /* "replace" is false, what is there stays */
        bool destroy;       /* the unit is removed; in a batch */
        const char *canary; /* of the rollout of the text, as the next; NULL: as the unit says */
        const char *on_failure;
        const char *expected_hash;  /* only if this is its hash; NULL: any */
        TargetState expected_state; /* only if this is its target state; _TARGET_INVALID: any */
        JsonValue *source;          /* set by api_unit_read(), owned, as 'file' is then */
} ApiUnit;

/* The kinds of the reason of a unit that is to be on a machine. */
#define API_REASON_FINISHED "finished" /* it ended successfully, and is not run again */
#define API_REASON_HELD     "held"    /* until the brake or the adoption ends; API_REASON_WAITING otherwise */
#define API_REASON_INPUTS   "inputs"  /* its secrets and configuration have a problem: it waits for them */
#define API_REASON_MOVING   "moving"  /* another machine has it, or a requested move is under way */
#define API_REASON_WAITING  "waiting" /* for a machine, or on one that it is to leave */

/* An ApiUnit without any field. */
#define API_UNIT_EMPTY                                 \
        ((ApiUnit) { .desired_state = _TARGET_INVALID, \
                     .current_state = _TARGET_INVALID, \
                     .expected_state = _TARGET_INVALID })

void api_unit_write(Text *t, const ApiUnit *unit);

/* Read one unit, the body of a request. An unknown state is -EINVAL, all other errors are -EBADMSG. */
int api_unit_read(const char *json, size_t size, ApiUnit *ret, Error *err);
/* Read one unit of an answer, without the limits of a request: there, options may be empty objects. */
int api_unit_read_answer(const char *json, size_t size, ApiUnit *ret, Error *err);

/* Whether it has contents, as "text" or as "options". */
bool api_unit_has_contents(const ApiUnit *unit);

/* Parse its contents: "text" if it exists, otherwise the printed options. Errors as unit_read()'s, with the
 * lines of that text. A submitted unit also has to pass unit_check(). */
int api_unit_contents(const char *name, const ApiUnit *unit, Unit **ret, Error *err);
void api_unit_done(ApiUnit *unit);
#define _cleanup_api_unit_ _cleanup_(api_unit_done)

/* {"hash","machineID","name","systemdActiveState","systemdLoadState","systemdSubState"}, and beyond fleet's
 * API "available", "finished", "health", "job", "reason", "reasonCode", "since" (ms) and "why" */
typedef struct ApiState {
        const char *name, *machine_id, *hash, *load, *active, *sub;
        uint64_t since_ms;
        const char *job, *reason, *reason_code; /* as those of UnitState */
        bool finished;                          /* as UnitState.done */
        const char *health; /* NULL: none; "unknown" of a machine that is not up, without the next two */
        const char *why;    /* as UnitState.why */
        bool available;
} ApiState;

void api_state_write(Text *t, const ApiState *state);
/* Return UnitState.code, also of an older daemon. */
VerdictCode api_state_code(const ApiState *state);

/* {"id","metadata":{},"primaryIP"}, and beyond fleet's API "checksProblem", "clockProblem" (its clock differs
 * from the leader's), "hostname", "identityProblem" (another host with its ID was rejected), "maintenance"
 * (its mode), "presence", "problem" (of its replica), "reboot" (state of a planned one), "role",
 * "session" and "idleSession" (on request), "sessionProblem" (an attached host without an idle session),
 * "since" (ms), "units", "version" */
typedef struct ApiMachine {
        const char *id, *primary_ip;
        Pairs metadata; /* for writing, may be a shallow copy; after reading, owned */
        const char *hostname, *presence, *version, *role, *problem, *identity_problem, *clock_problem,
                *session_problem,           /* it is attached, and has no idle session */
                *checks_problem,            /* its health checks exceed the limits of a host */
                *replaced_by;               /* ID of the machine that is up at its address */
        const char *session, *idle_session; /* of an attached host: IDs of the replica that it uses, and of
                                               the other one; NULL: not known */
        const char *kind;                   /* voter, standby or attached; NULL: it is removed */
        const char *reboot;                 /* state of its planned reboot; NULL: none */
        const char *maintenance;            /* cordoned, draining or drained; NULL: none */
        uint64_t since_ms;                  /* of its presence */
        uint64_t away_ms;                   /* of a lost machine: when its absence began; 0: with the loss */
        const char *reason;                 /* of its presence, unless it is up; NULL: none */
        uint64_t n_units;                   /* assigned to it */
        /* Its capacity, the requests of its units, and their sizes; 0: the capacity is not known. */
        uint64_t memory_mib, memory_requested_mib, memory_load_mib;
        uint64_t cpu_percent, cpu_requested_percent, cpu_load_percent;
        uint64_t certificate_ms; /* when the last one that was issued for it ends; 0: it has none */
        bool agentless;          /* it runs no units */
        bool needs_reboot;       /* its system asks for a reboot */
        bool restricted;         /* a restricted host */
        const char *write;       /* the prefixes below which it writes users' keys; NULL: none */
} ApiMachine;

/* {"endpoints","machine","machines":[],"name","ports":[],"reason","reasonCode","state","unit","wanted"}: a
 * service. "unit" is the first wanted one without an endpoint, and "machine" its machine. */
typedef struct ApiService {
        const char *name;
        Names ports, machines; /* "http/tcp"; names of those with endpoints. For writing, they may be shallow
                                  copies; after reading, owned */
        uint64_t n_endpoints, n_wanted; /* wanted: endpoints, and wanted units without one */
        const char *unit, *machine, *state, *reason, *reason_code; /* NULL: each has one */
} ApiService;

/* {"address","endpoint","machine","machineID","ports":[],"reason","reasonCode","state","unit","zone"}: an
 * endpoint of a service, or a wanted unit that has none. */
typedef struct ApiEndpoint {
        const char *unit;
        const char *endpoint, *address; /* the name of the endpoint; NULL: there is none */
        const char *machine_id, *machine, *zone;
        Names ports; /* "http/tcp:8080"; as those of ApiService */
        /* Why there is none: a word for what the unit or its machine is instead (NULL: none), the details,
         * and a code. */
        const char *state, *reason, *reason_code;
} ApiEndpoint;

/* A kind of pages: {"machines":[...]}, {"states":[...]}, {"units":[...]} and so on, and "nextPageToken"
 * unless it is the last page. An empty array is left out. */
typedef struct ApiPageKind {
        const char *name; /* of the array */
        const char *item; /* for people */
        size_t size, key; /* of an item, in bytes; offset of its name or ID */
        const struct JsonField *fields;
        size_t n_fields;
        const void *initial; /* item without members; NULL: zero */
} ApiPageKind;

extern const ApiPageKind api_units_page, api_states_page, api_machines_page, api_services_page,
        api_endpoints_page;

enum { API_PAGE_MAX = 65536 }; /* items of one page, for a reader */

typedef struct ApiPage {
        const ApiPageKind *kind;
        union { /* of this kind */
                char *items;
                ApiUnit *units;
                ApiState *states;
                ApiMachine *machines;
                ApiService *services;
                ApiEndpoint *endpoints;
        };
        size_t n;
        const char *next_token; /* NULL on the last page */
        JsonValue *source;      /* owned */
} ApiPage;

void api_page_write(Text *t, const ApiPageKind *kind, const void *items, size_t n, const char *next_token);
/* Read a page of an answer, with the limits of json_value_parse_large(). */
int api_page_read(const ApiPageKind *kind, const char *json, size_t size, ApiPage *ret, Error *err);
/* Read the units of a request; -E2BIG: more than 'max'. */
int api_units_read(const char *json, size_t size, size_t max, ApiPage *ret, Error *err);
void api_page_done(ApiPage *page);
#define _cleanup_api_page_ _cleanup_(api_page_done)

/* {"error":{"code":N,"message":"...","cause":"..."}}; the message is never left out, the cause without one.
 */
void api_error_write(Text *t, int code, const char *message, const char *cause);

/* Read such an error; *ret is "MESSAGE" or "MESSAGE; CAUSE". -EBADMSG: another object. */
int api_error_read(const char *json, size_t size, int *ret_code, char *ret, size_t ret_size);
