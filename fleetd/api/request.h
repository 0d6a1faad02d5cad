/* One request as its handler uses it: path, parameters, sender; and the ways to answer. Within fleetd/api
 * only. */
#pragma once

#include <sys/queue.h>

#include "base/sizes.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/server.h"
#include "fleetd/registry/policy.h"
#include "io/http.h"

enum { API_PARKED_MAX = 20000 };

typedef struct Request Request;

/* A listing that waits for a turn of the loop with little work. */
typedef struct ApiListing {
        TAILQ_ENTRY(ApiListing) listings;
        void (*run)(void *userdata);
        void *userdata;
        bool waiting;
} ApiListing;

enum {
        API_LISTED_WORK = TURN_WORK_MAX /
                          8,    /* bytes of work in a turn after which no further listing begins */
        API_LARGE_NODES = 1000, /* an answer with more nodes or bytes is made by a worker ... */
        API_LARGE_BYTES = 1024 * 1024,
        API_LARGE_VISITS = API_LARGE_NODES + 24, /* ... and one that visits more nodes, shown or not */
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
        struct Calls *calls;            /* remote commands from and to other hosts */
        uint64_t started_ms, leader_id, leader_since_ms;
        uint64_t gets, gets_failed;        /* of keys, since the start */
        unsigned n_watching;               /* clients that wait for a key */
        TAILQ_HEAD(, ApiListing) listings; /* waiting, in order */
        uint64_t listed_turn;              /* the last turn in which a waiting listing ran */
        bool lists;                        /* a waiting listing runs */
        Deferred list;
};

/* A request until it is answered. 'state' belongs to the handler. 'forget' is called when the request ends
 * without an answer (the client has left, the daemon stops), and cancels everything that would call back. */
struct Request {
        Api *api;
        HttpRequest *http;
        const ApiListenerState *listener;
        Principal principal;
        const struct Route *route; /* NULL: not found yet */
        const char *rest; /* what the pattern of the route leaves open of the path; borrowed from it */
        char *path;       /* decoded; terminated; size counts NULs inside */
        size_t path_size;
        size_t steps; /* work of unit_check() on its units */
        const char *query;
        HttpParameters parameters; /* of the query */
        void *state;
        void (*forget)(Request *request);
        void (*drain)(Request *request);
        TAILQ_ENTRY(Request) requests;
};

/* Answer. The request is freed by each of these. */
void request_answer(Request *request, unsigned status, const char *type, const HttpField *fields,
                    const void *body, size_t size);
void request_answer_text(Request *request, unsigned status, const char *type, const HttpField *fields,
                         const char *text);
void request_answer_shared(Request *request, unsigned status, const char *type, const HttpField *fields,
                           Shared *body);
/* Answer as etcd's router: 405 with one more field, such as { "Allow", "GET,HEAD" }; 404. */
void request_not_allowed(Request *request, const HttpField *field);
void request_not_found(Request *request);

/* Answer 400 to an invalid target, and close the connection. */
void request_refuse_target(Request *request);
bool request_path_is_clean(const Request *request);
void request_redirect_clean(Request *request);                           /* 301 */
void request_begin(Request *request, unsigned status, const char *type); /* the head of a stream */
void request_answer_json(Request *request, unsigned status,
                         Text *body); /* frees the text; 500 if it is incomplete */
/* Return the status for a request that cannot be read: 400, or 500 if memory is short. */
unsigned request_status_of(int error);
void request_error(Request *request, unsigned status, const char *format, ...)
        _printf_(3, 4);                             /* fleet's {"error":{...}} */
void request_end(Request *request);                 /* the regular end of a stream */
void request_last(Request *request, Shared *bytes); /* the last bytes of a stream, and its end */
void request_cut(Request *request, const char *reason);
void request_free(Request *request); /* without an answer */

/* Set the time to live of a command. Cluster time counts ms in 64 bits: more than a thousand years is no
 * expiry. */
void request_ttl(KvCommand *cmd, bool given, uint64_t seconds);

/* Return the header that marks an answer as stale (kv_stale_ms()), or a field without a name. 'ret' holds the
 * value. */
typedef struct StaleField {
        char seconds[24];
} StaleField;
HttpField request_stale_field(const Request *request, StaleField *ret);

/* The value of a query parameter, or NULL. */
const char *request_parameter(const Request *request, const char *name);

/* Many large listings must not delay small requests: a listing begins in a turn with less work than
 * API_LISTED_WORK. Its nodes count as work when they are visited, its bytes when they are sent or dropped. */
bool api_has_room_to_list(const Api *api);
bool api_may_list(const Api *api); /* in this turn */
void api_list_later(Api *api,
                    ApiListing *listing); /* calls its 'run' in a later turn, in which it may list */
void api_list_cancel(Api *api, ApiListing *listing); /* allowed if it does not wait */

/* Return the message for a failed kv_list(). Its status is 503: the client may try again. */
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
