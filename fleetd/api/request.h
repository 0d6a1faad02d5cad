/* One request as its handler uses it: path, parameters, sender; and the ways to answer. Within fleetd/api
 * only. */
#pragma once

#include <sys/queue.h>

#include "base/sizes.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/server.h"
#include "fleetd/policy.h"
#include "io/http.h"

enum { API_PARKED_MAX = 20000 };

typedef struct Request Request;

/* A listing that waits for a turn of the loop in which there is room for it. */
typedef struct ApiListing {
        TAILQ_ENTRY(ApiListing) listings;
        void (*run)(void *userdata); /* again */
        void *userdata;
        bool waiting;
} ApiListing;

enum {
        API_LISTED_WORK = TURN_WORK_MAX / 8, /* a turn with so much work begins no further listing: the rest
                                                is left to those that ask for little */
        API_LARGE_NODES = 1000,              /* an answer of more nodes or bytes is made by a worker ... */
        API_LARGE_BYTES = 1024 * 1024,
        API_LARGE_VISITS = API_LARGE_NODES + 24, /* ... and so is one that passes more nodes, shown or not */
};

/* The form of errors, redirects and paths that are no route: as fleet's server answers, or etcd's. */
typedef enum ApiDialect { DIALECT_FLEET, DIALECT_ETCD } ApiDialect;

typedef struct ApiListenerState {
        Api *api;
        Principal principal; /* of the requests that arrive here, once their sender is accepted */
        ApiDialect dialect;
        bool checks_host; /* a web page in a browser on this host can send requests here */
        bool is_dialed;   /* clients dial 'address' */
        Listener *listener;
        HttpServer *server; /* of its own: connections of another listener do not count against its limits */
        char address[128];
        TAILQ_ENTRY(ApiListenerState) listeners;
} ApiListenerState;

struct Api {
        Loop *loop;
        ApiOptions options;
        char machine_id[MACHINE_ID_SIZE], name[PEER_NAME_SIZE];
        ApiLimits limits;
        HttpLimits http;
        TAILQ_HEAD(, ApiListenerState) listeners;
        TAILQ_HEAD(, Request) requests; /* those being worked on */
        struct Calls *calls;            /* requests led to and from other hosts */
        uint64_t started_ms, leader_id, leader_since_ms;
        uint64_t gets, gets_failed; /* of keys, since the start */
        unsigned n_watching;        /* clients that wait for a key */
        TAILQ_HEAD(, ApiListing)
        listings;             /* those that wait for a turn of the loop with room, in their order */
        uint64_t listed_turn; /* the last one in which one of them had its turn */
        bool lists;           /* one of them is being run */
        Deferred list;
};

/* One request while it is worked on. Handlers hang their own state on 'state'; 'forget' is called when it
 * ends before the answer (the client left, the daemon stops) and must undo whatever would call back. */
struct Request {
        Api *api;
        HttpRequest *http;
        const ApiListenerState *listener;
        Principal principal;
        const struct Route *route; /* NULL: not found yet */
        const char *rest; /* what the pattern of the route leaves open of the path; borrowed from it */
        char *path;       /* decoded; terminated; size counts NULs inside */
        size_t path_size;
        size_t steps; /* unit_check() of its units */
        const char *query;
        HttpParameters parameters; /* of the query */
        void *state;
        void (*forget)(Request *request);
        void (*drain)(Request *request);
        TAILQ_ENTRY(Request) requests;
};

/* Ends the work on a request: after each of these it is gone. */
void request_answer(Request *request, unsigned status, const char *type, const HttpField *fields,
                    const void *body, size_t size);
void request_answer_text(Request *request, unsigned status, const char *type, const HttpField *fields,
                         const char *text);
void request_answer_shared(Request *request, unsigned status, const char *type, const HttpField *fields,
                           Shared *body);
/* etcd's router: 405 with one more field ({ "Allow", "GET,HEAD" } as a rule), and 404. */
void request_not_allowed(Request *request, const HttpField *field);
void request_not_found(Request *request);

/* 400 for a target that is none, and the end of the connection. */
void request_refuse_target(Request *request);
bool request_path_is_clean(const Request *request);
void request_redirect_clean(Request *request);                           /* 301 */
void request_begin(Request *request, unsigned status, const char *type); /* of a stream: its head */
void request_answer_json(Request *request, unsigned status,
                         Text *body); /* takes the text; 500 if building it had failed */
/* Of a request that could not be read: 400, but 500 when it was for want of memory, which is not its fault.
 */
unsigned request_status_of(int error);
void request_error(Request *request, unsigned status, const char *format, ...)
        _printf_(3, 4);                             /* fleet's {"error":{...}} */
void request_end(Request *request);                 /* of a stream: the end, in order */
void request_last(Request *request, Shared *bytes); /* of a stream: these, and the end */
void request_cut(Request *request, const char *reason);
void request_free(Request *request); /* without an answer: the client has left */

/* A time to live in seconds, as clients give it. Keys expire by cluster time, which counts ms in 64 bits:
 * more than a thousand years is for ever. */
void request_ttl(KvCommand *cmd, bool given, uint64_t seconds);

/* The header that marks an answer as old (kv_stale_ms()), else one without a name; 'ret' keeps its value. */
typedef struct StaleField {
        char seconds[24];
} StaleField;
HttpField request_stale_field(const Request *request, StaleField *ret);

/* The value of a query parameter, or NULL. */
const char *request_parameter(const Request *request, const char *name);

/* Many that list much at once must not keep those that ask for little: a listing begins in a turn with little
 * work (API_LISTED_WORK). Its nodes count when they are visited, its bytes when they are answered, or given
 * up. */
bool api_has_room_to_list(const Api *api); /* this turn */
bool api_may_list(const Api *api);         /* in this turn; else: */
void api_list_later(Api *api,
                    ApiListing *listing); /* calls its 'run' in one of the next, where it may list */
void api_list_cancel(Api *api, ApiListing *listing); /* harmless if it does not wait */

/* Why a large read (kv_read_large()) gave no answer, for people; each of these is 503, and may be asked
 * again. */
const char *request_large_reason(int error);

/* Return whether the sender may read 'key'. If not, the answer is that of a key that does not exist. */
bool request_may_read(const Request *request, KvBytes key);

/* Handlers, by their routes (fleetd/api/routes.c). */
void metrics_handle(Request *request);
void directory_list_handle(Request *request);
void directory_post_handle(Request *request);
void machines_list_handle(Request *request);
void machines_patch_handle(Request *request);
void why_handle(Request *request);
void plan_handle(Request *request);
void discovery_handle(Request *request);
void cluster_handle(Request *request);
void level_handle(Request *request);
void adopting_handle(Request *request);
void events_handle(Request *request);
void remote_command_handle(Request *request);

int remote_commands_new(Api *api);
void remote_commands_free(Api *api);

bool method_is(const Request *request, const char *method);
