/* One request as its handler uses it: path, parameters, sender; and the ways to answer. Within fleetd/api
 * only. */
#pragma once

#include <sys/queue.h>

#include "base/pace.h"
#include "base/sizes.h"
#include "fleetd/api/remote_command_spec.h"
#include "peers/call.h"
#include "fleetd/api/api.h"
#include "fleetd/api/denials.h"
#include "fleetd/api/sender.h"
#include "fleetd/registry/history.h"
#include "fleetd/registry/local_rights.h"
#include "fleetd/scheduler/scheduler.h"
#include "io/http.h"

typedef struct Request Request;

enum {
        API_LARGE_NODES = 1000, /* an answer with more nodes or bytes is made by a worker ... */
        API_LARGE_BYTES = 1024 * 1024,
        API_LARGE_VISITS = API_LARGE_NODES + 24, /* ... and one that visits more nodes, shown or not */
        PLAN_SENDERS_MAX = 64,                   /* of plans at a time */
        REQUEST_DECISIONS_MAX = 5,               /* on one change, while its keys change */
};

/* One sender of plans. */
typedef struct PlanSender {
        char name[PRINCIPAL_TEXT_SIZE];
        Pace pace;
        TAILQ_HEAD(, Planning)
        plans; /* the first one is made, or waits for the pace; the others wait for it */
} PlanSender;

/* The form of errors, redirects and paths that are no route: as fleet's server answers, or etcd's. */
typedef enum ApiDialect { DIALECT_FLEET, DIALECT_ETCD } ApiDialect;

typedef struct ApiListenerState {
        Api *api;
        Sender *sender; /* of the last request, until rights change; NULL: none */
        ApiDialect dialect;
        ApiListener kind;
        const char *name;       /* in metrics */
        const char *grants;     /* what grants rights to its senders; NULL: it is for keys only */
        Listener *listener;     /* NULL: the one for TLS has no certificate */
        struct TlsFront *front; /* of the one for TLS */
        HttpServer *server; /* of its own: connections of another listener do not count against its limits */
        HttpServer *groups; /* of the socket: the same for users that are no operators */
        char address[128];
        TAILQ_ENTRY(ApiListenerState) listeners;
} ApiListenerState;

struct Api {
        Loop *loop;
        ComponentHost *host; /* borrowed, as the next */
        const Settings *settings;
        LocalRights local_rights;
        uint32_t operators;      /* the group that may do everything on the socket; UINT32_MAX: none */
        RegistryObserver rights; /* rights or roots may have changed: */
        Deferred review;
        bool regrant; /* LocalRights= have changed */
        Denials denials;
        TAILQ_HEAD(, ApiListenerState) listeners;
        TAILQ_HEAD(, Request) requests; /* those being worked on */
        Calls calls;                    /* remote commands, from and to other hosts */
        TAILQ_HEAD(, Asking) asking;    /* those that other hosts execute */
        struct Executing *executing;    /* those that this host executes */
        struct Forwards *forwards;      /* requests that a replica answers */
        struct Servings *servings;      /* requests of hosts without a replica */
        uint64_t started_ms, leader_id, leader_since_ms;
        uint64_t gets, gets_failed;     /* of keys, since the start */
        struct Scraping *scraping;      /* the scrape of the metrics that is under way; NULL: none */
        MetricsScrape *scraped;         /* the one before it, to resume; NULL: none */
        TAILQ_HEAD(, Request) scrapes;  /* that wait for its end, in order */
        unsigned n_watching;            /* clients that wait for a key */
        Timer parked;                   /* look for a replica for them */
        uint64_t parked_ms;             /* since when there is none; 0: there is one */
        TAILQ_HEAD(, Request) listings; /* whose listings wait, in order */
        uint64_t listed_turn;           /* the last turn in which a waiting listing ran */
        bool lists;                     /* a waiting listing runs */
        PlanSender plans[PLAN_SENDERS_MAX];
        size_t plan_bytes;           /* bodies of plans of this host's clients that wait */
        bool backing_up;             /* a backup is being made or sent; one at a time */
        char user[RECORDED_BY_SIZE]; /* the last result of request_user() */
        Deferred list;
};

/* Routes of one family share a form of errors, and the checks of a path before a route is searched. */
typedef enum RouteFamily {
        ROUTE_KEYS,    /* /v2/keys: the path is a key of any bytes */
        ROUTE_KV,      /* /fleet/v1/kv: the same */
        ROUTE_ETCD,    /* /v2 except keys, /version, /health */
        ROUTE_METRICS, /* /metrics */
        ROUTE_FLEET,   /* /fleet/v1 except kv; /v1-alpha is another name of it */
        ROUTE_UNKNOWN,
} RouteFamily;

/* Where a host without a replica answers. */
typedef enum RoutePlace {
        AT_HOST,  /* itself */
        AT_STORE, /* itself, by calls of the store */
        AT_VIEW,  /* a replica, which has the whole cluster view */
        AT_UNIT,  /* the host of the unit: itself, or a replica calls that host */
        AT_BOTH,  /* a replica; without one, itself */
} RoutePlace;

typedef struct Route {
        RouteFamily family;
        const char *methods; /* words; NULL: any, and the handler rejects what it does not support */
        /* "/a": this path. "/a/ *" without the space: one more segment, which is Request.rest. "/a/ **": this
         * path and all below it; Request.rest is what follows "/a". */
        const char *pattern;
        Right right;
        RoutePlace place;
        /* Answers, or leaves the request parked: 0. Or returns the status of an error, for request_run(). */
        unsigned (*handle)(Request *request, Error *err);
        const char *parameters;    /* ROUTE_KV: words; all other parameters are rejected */
        RemoteCommandKind command; /* of remote_command_handle() */
} Route;

/* The host without a replica that has forwarded the request of one of its clients. Borrowed. */
typedef struct RequestOrigin {
        const char *machine, *host, *user; /* ID; name; the user of request_user_name() */
} RequestOrigin;

/* A request until it is answered. Its end, also without an answer (the client has left, the daemon stops),
 * cancels all that would call back: what is under way in the store and the registry by itself, the rest by
 * 'on_end'. */
struct Request {
        Api *api;
        HttpRequest *http;
        ApiListenerState *listener;
        Sender *sender;              /* NULL: not known yet */
        const RequestOrigin *origin; /* NULL: a client of this host sent it */
        const Route *route;          /* NULL: not found yet */
        const char *rest; /* what the pattern of the route leaves open of the path; borrowed from it */
        char *path;       /* decoded; terminated; size counts NULs inside */
        size_t path_size;
        size_t steps;   /* work of unit_check() on its units */
        size_t options; /* of its units, by units_count_options() */
        size_t checked; /* options of instances, by cluster_check_followers() */
        const char *query;
        HttpParameters parameters;        /* of the query */
        void *state;                      /* of the handler */
        void (*on_end)(Request *request); /* frees 'state'; may be NULL */
        void (*on_drain)(Request *request);
        /* Answers a stream whose sender has lost a right; NULL: the stream is cut. */
        void (*on_revoked)(Request *request);

        /* Under way in the store, one at a time; thousands of requests wait with a watch: */
        union {
                KvSync sync;
                KvGet get;
        };
        bool syncing, getting;
        bool listing;      /* it waits for a turn of the loop with little work */
        bool watching;     /* counted in api->n_watching */
        bool streams;      /* the head of an answer that lasts is sent */
        bool changing;     /* the registry */
        uint16_t success;  /* of that change: the status when all went well */
        uint64_t proposal; /* its number; 0: none */
        KvList *list;      /* a large one; NULL: none */
        KvWatch *watch;    /* NULL: none */
        union {
                void (*on_synced)(Request *request, KvStatus status);
                void (*on_result)(Request *request, const KvResult *result);
                void (*on_turn)(Request *request);
        };
        union { /* waits for a turn of the loop; for another scrape of the metrics */
                TAILQ_ENTRY(Request) listings;
                TAILQ_ENTRY(Request) scrapes;
        };

        const char *subject;  /* static; of the change of the registry, for errors */
        const char *type;     /* of its empty answer; may be NULL */
        unsigned n_decisions; /* of request_decide_again() */

        TAILQ_ENTRY(Request) requests;
};

/* Run the handler of the route, and answer its error. */
void request_run(Request *request);

/* Answer, and return 0. The request is freed by each of these. */
unsigned request_answer(Request *request, unsigned status, const char *type, const HttpField *fields,
                        const void *body, size_t size);
unsigned request_answer_text(Request *request, unsigned status, const char *type, const HttpField *fields,
                             const char *text);
unsigned request_answer_shared(Request *request, unsigned status, const char *type, const HttpField *fields,
                               Shared *body);
/* The same with a text; 500 if it is incomplete. JSON is marked if it is stale. */
unsigned request_answer_built(Request *request, unsigned status, const char *type, const HttpField *fields,
                              const Text *body);
unsigned request_answer_json(Request *request, unsigned status, const Text *body);
/* Answer as etcd's router: 405 with one more field, such as { "Allow", "GET,HEAD" }; 404. */
unsigned request_not_allowed(Request *request, HttpField field);
void request_not_found(Request *request);

/* Answer 400 to an invalid target, and close the connection. */
void request_refuse_target(Request *request);
/* Add "clientAccess" if the key API of this host is closed by its LocalRights=. */
void request_append_access(const Request *request, Text *t);
bool request_path_is_clean(const Request *request);
void request_redirect_clean(Request *request); /* 301 */
/* Send the head of a stream, with status 200; 'fields' NULL: none of its own. */
void request_begin(Request *request, const char *type, const HttpField *fields);
/* Return the status for a request that cannot be read: 400, or 500 if memory is short. */
unsigned request_status_of(int error);
void request_error(Request *request, unsigned status, const char *format, ...)
        _printf_(3, 4); /* fleet's {"error":{...}} */
/* Return the status for an error of the parameters, or of the body (-EINVAL: it is readable, and invalid),
 * and complete its message. */
unsigned request_refused(int error, Error *err);
unsigned request_body_refused(int error, Error *err);
void request_end(Request *request);                 /* the regular end of a stream */
void request_last(Request *request, Shared *bytes); /* the last bytes of a stream, and its end */
void request_cut(Request *request, const char *reason);
void request_free(Request *request); /* without an answer; no effect on 'http' */

/* Set the time to live of a command. Cluster time counts ms in 64 bits: more than a thousand years is no
 * expiry. */
void request_ttl(KvCommand *cmd, bool given, uint64_t seconds);

bool action_removes(KvAction action);                  /* the node of its event has no value any more */
unsigned request_write_status(const KvResult *result); /* of an accepted change: 200, or 201 for a new key */

/* Return the name of the user who sent the request, without its host: a name of /etc/passwd, else "uid 1000";
 * "user:NAME" of a user with a certificate; "" if unknown. */
const char *request_user_name(const Request *request, char ret[static HISTORY_USER_SIZE]);
/* Return the principal in words for people: "user anna" of this host, not its numbers. */
const char *request_sender(const Request *request, char ret[static PRINCIPAL_TEXT_SIZE]);

/* Return the same for records and the history, with the host of the client: "root@alpha". A user with a
 * certificate is one of the whole cluster, and has none. Borrowed until the next call. */
const char *request_user(const Request *request);

/* Return ID and name of the host whose client sent the request. */
const char *request_machine(const Request *request);
const char *request_host(const Request *request);

/* Return the view of the cluster of this host. */
static inline const Cluster *request_cluster(const Request *request) {
        return registry_cluster(request->api->host->registry);
}

unsigned request_level(const Request *request); /* the feature level of the cluster */
/* Return whether the cluster is below a level; then set the reason, with the next step. 'needs': "move
 * requires". */
bool request_is_below(const Request *request, unsigned level, const char *needs, Error *ret);

uint64_t request_brake_ms(const Request *request); /* BrakeSec=; 0: the default */
/* Return whether the mass-failure brake is on; without memory, too. */
bool request_is_braked(const Request *request);

/* As engine_explain_unit(). */
const char *request_explain(const Request *request, const SchedulerView *view, const ClusterUnit *unit,
                            Error *ret);
/* Return whether the sender may read state and journal of a unit on a machine. Without the right to change
 * units, it may read only those of the cluster. */
bool unit_is_readable(const Request *request, const ClusterMachine *machine, const char *unit);

/* The value of a query parameter, or NULL. */
const char *request_parameter(const Request *request, const char *name);

/* -- Work of the store for a request. The callbacks are called at most once: not after its end -- */

void request_sync(Request *request, void (*done)(Request *request, KvStatus status));
/* Propose a command. -EACCES: the sender may not write one of its keys. -EPERM, and a message: the same,
 * because a unit reads it (inputs_check_write()). Checks of keys that the sender may not read have the result
 * that they have for absent keys. */
int request_propose(Request *request, const KvCommand *cmd,
                    void (*done)(Request *request, const KvResult *result), Error *err);
/* Log that the sender lacks a right for this request. */
void request_denied(const Request *request);
/* Return the registry, for one change on behalf of the sender: the next transaction. */
Registry *request_registry(const Request *request);
/* The tree has rejected a change of the registry, because it was decided on a view older than the tree. Wait
 * until the view has caught up, then run the handler again, which checks the conditions again and answers.
 * Return false after REQUEST_DECISIONS_MAX attempts: the request is still to be answered. */
bool request_decide_again(Request *request);
/* Read one key. 'done' has the request as its userdata, and may be called before this returns. */
void request_get(Request *request, KvBytes key,
                 void (*done)(void *userdata, int result, const KvFound *found));
/* As kv_list(); KvListOps.done sets request->list to NULL. */
void request_list(Request *request, const KvRange *range, const KvListOps *ops, void *userdata);

/* Return whether a listing may begin now; if not, 'again' is called in a later turn, in which it may. Many
 * large listings must not delay small requests: they begin in a turn with little work. The nodes of a listing
 * count as work when they are visited, its bytes when they are sent or dropped. */
bool request_may_list(Request *request, void (*again)(Request *request));
/* Call 'again' in a later turn, after the listings that wait already. */
void request_list_later(Request *request, void (*again)(Request *request));
void api_on_list(void *userdata); /* Api.list */

/* Return why this host, which has no replica, reaches none: for a read that failed with 'error'. 'state'
 * holds the text. NULL: the error has another cause. */
const char *request_unreachable(const Request *request, int error, KvState *state);
/* Return whether a failed kv_list() of another host's client is repeated, when a worker is free. */
bool request_lists_later(Request *request, int error);
/* Return the message for a failed kv_list(). Its status is 503: the client may try again. */
const char *request_large_reason(int error);

/* Return a reference to the sender, for a listing to ask for each node; NULL: it sees all. */
Sender *request_filter(const Request *request);
/* Return whether a watch of the sender gets an event, for KvWatchOps.sees. Set it only where the sender does
 * not see all keys. */
bool request_sees_event(const Request *request, KvBytes watched, const KvEvent *event);
/* Return whether a check of a transaction may depend on its key: the root always exists. */
bool request_may_check(const Request *request, const KvCheck *check);
/* Return whether an event has a previous node that the sender may not see: encode a copy without it. */
bool request_hides_prev(const Request *request, const KvEvent *event);

bool method_is(const Request *request, const char *method);
