/* POST /fleet/v1/cluster/join: make this host a member of the cluster of a token. The answer comes when the
 * certificate of this host is stored; then the daemon restarts itself and enters the cluster.
 *
 * POST /fleet/v1/cluster/init: open the peer listener of a cluster of one, and create the cluster's CA. */

#include "base/log.h"
#include "fleetd/api/request.h"
#include "fleetd/daemon_internal.h"
#include "fleetd/host/host.h"

enum { RESTART_MS = 200 }; /* from the answer to the client to the restart */

void daemon_restart_later(ComponentHost *host) {
        Daemon *d = (Daemon *) host;

        if (!d->restarts)
                d->restarts = host->io.restart && timer_start(&d->restart, host->io.loop, RESTART_MS) >= 0;
}

static void daemon_on_restart(void *userdata) {
        Daemon *d = userdata;

        d->host.io.restart(d->host.io.userdata);
}

static void daemon_on_entering_closed(void *userdata) {
        Daemon *d = userdata;

        d->entering = NULL;
        if (d->stopped && !d->host.store && !d->leaving)
                daemon_on_store_closed(d);
}

/* Answer the client. After a success the daemon restarts, when the answer has left. */
static void daemon_on_entered(void *userdata, int error, const char *message, const EnteringResult *result) {
        Daemon *d = userdata;
        EnteringDone *done = d->join_done;

        if (error < 0)
                log_warning(((LogFields) { .error = error }), "Failed to %s: %s",
                            d->opening ? "open the cluster" : "join a cluster", message);
        d->join_done = NULL;
        if (error == 0)
                daemon_restart_later(&d->host);
        done(d->join_userdata, error, message, result);
        if (d->entering)
                entering_close(d->entering, daemon_on_entering_closed, d);
        loop_defer(d->host.io.loop, &d->opened);
}

static void daemon_on_opened(void *userdata) {
        Daemon *d = userdata;

        d->opening = opening_free(d->opening);
}

static void daemon_on_unchanged(void *userdata) {
        Daemon *d = userdata;
        EnteringDone *done = d->join_done;
        EnteringResult joined = { .cluster_id = peers_self(d->host.peers)->cluster_id };

        snprintf(joined.listen, sizeof(joined.listen), "%s", peers_self(d->host.peers)->address);
        d->join_done = NULL;
        done(d->join_userdata, 0, "", &joined);
}

static int daemon_enter(Daemon *d, const DaemonJoin *join, Error *err) {
        char listen[ADDRESS_SIZE];
        EnteringOptions options = {
                .loop = d->host.io.loop,
                .network = d->host.io.network,
                .state_directory = d->host.settings->state_directory,
                .cluster_file = d->host.settings->cluster_file,
                .self = peers_self(d->host.peers),
                .level = d->host.io.level_max,
                .listen = listen,
                .exposed = join->exposed,
                .address_towards = host_address_towards,
        };
        uint64_t n_keys = 0;
        KvState state;
        bool removed;
        Token token;
        int r;

        TRY(entering_read_listen(join->listen, listen, err) ?: peers_try_listen(d->host.peers, listen, err));
        kv_state(d->host.store, &state);
        if (state.cluster_id != 0 && !registry_ready(d->host.registry))
                return error_set(err, -EAGAIN, "fleetd is still reading the state of this host; try again");
        r = TRY(entering_count_keys(d->host.store, &n_keys, err) ?: token_read(join->token, &token, err));
        options.token = &token;
        removed = state.removed;
        /* A host of that cluster that was removed, or has only its key file, keeps nothing of its own. */
        if (token.cluster_id != state.cluster_id || (peers_has_certificate(d->host.peers) && !removed))
                r = entering_check_content(registry_cluster(d->host.registry), options.self->machine_id,
                                           removed, n_keys, join->discard, err);
        if (r >= 0)
                r = entering_new(&d->entering, &options, daemon_on_entered, d, err);
        explicit_bzero(&token, sizeof(token));
        return r;
}

/* Without --listen, the port is the default one. */
static int daemon_listen_address(const DaemonJoin *join, char ret[static ADDRESS_SIZE], Error *err) {
        char address[ADDRESS_SIZE];
        int r;

        if (join->listen[0])
                return entering_read_listen(join->listen, ret, err);
        r = host_global_address(address, err);
        return r < 0 ? r : entering_read_listen(address, ret, err);
}

static int daemon_open_cluster(Daemon *d, const DaemonJoin *join, Error *err) {
        const char *own = peers_self(d->host.peers)->address;
        char listen[ADDRESS_SIZE];

        if (!own[0] && !d->host.settings->cluster_file[0])
                return error_set(err, -EADDRNOTAVAIL,
                                 "ClusterFile= is empty, so that the address cannot be stored; set it, or "
                                 "ListenPeer=, in fleetd.conf");
        TRY(own[0] && !join->listen[0] ? entering_read_listen(own, listen, err) :
                                         daemon_listen_address(join, listen, err));
        if (own[0] && !streq(listen, own))
                return error_set(err, -EEXIST,
                                 "this host listens for other hosts on %s already; to change the address: "
                                 "ListenPeer= in fleetd.conf",
                                 own);
        TRY(peers_try_listen(d->host.peers, listen, err));
        if (!own[0] || !d->host.io.credentials)
                return opening_new(&d->opening, &d->host, listen, daemon_on_entered, d, err);
        loop_defer(d->host.io.loop, &d->unchanged);
        return 0;
}

int daemon_join(Daemon *d, const DaemonJoin *join, EnteringDone *done, void *userdata, Error *err) {
        if (d->join_done || d->entering || d->opening || d->restarts || !d->host.io.restart)
                return error_set(err, -EALREADY,
                                 "another fleetctl init or join is under way on this host: fleetctl "
                                 "cluster shows its result");
        TRY(join->init ? daemon_open_cluster(d, join, err) : daemon_enter(d, join, err));
        d->join_done = done;
        d->join_userdata = userdata;
        return 0;
}

void daemon_join_cancel(Daemon *d, const void *userdata) {
        if (!d->join_done || d->join_userdata != userdata)
                return;
        d->join_done = NULL;
        d->opening = opening_free(d->opening);
        deferred_cancel(&d->unchanged);
        if (d->entering)
                entering_close(d->entering, daemon_on_entering_closed, d);
}

/* -- Requests -- */

/* Status by the cause of a failure; all others are temporary (503). */
static unsigned join_status(int error) {
        static const struct {
                int error;
                unsigned status;
        } statuses[] = {
                { -EINVAL, 400 },   { -ENODATA, 400 },    { -EBADMSG, 400 },       { -EPROTONOSUPPORT, 400 },
                { -EEXIST, 409 },   { -EALREADY, 409 },   { -EADDRNOTAVAIL, 409 }, { -ENXIO, 409 },
                { -ENOTUNIQ, 409 }, { -EADDRINUSE, 409 }, { -EACCES, 403 },        { -ENOMEM, 500 },
        };

        for (size_t i = 0; i < ELEMENTS(statuses); i++)
                if (statuses[i].error == error)
                        return statuses[i].status;
        return 503;
}

static void join_on_end(Request *request) {
        daemon_join_cancel((Daemon *) request->api->host, request);
}

static void join_on_done(void *userdata, int error, const char *message, const EnteringResult *joined) {
        Request *request = userdata;
        _cleanup_text_ Text t = {};
        char id[HEX64_SIZE];

        request->on_end = NULL;
        if (error < 0) {
                request_error(request, join_status(error), "%s", message);
                return;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "cluster", hex64_print(joined->cluster_id, id));
        json_add_string(&t, "listen", joined->listen);
        json_add_string(&t, "machine", request->api->settings->machine_id);
        json_add_string(&t, "through", joined->through);
        json_close(&t, '}');
        request_answer_json(request, 200, &t);
}

static unsigned join_begin(Request *request, bool init, Error *err) {
        static const JsonField fields[] = {
                { "token", JSON_FIELD_TEXT, offsetof(DaemonJoin, token) },
                { "listen", JSON_FIELD_TEXT, offsetof(DaemonJoin, listen) },
                { "discard", JSON_FIELD_BOOL, offsetof(DaemonJoin, discard) },
                { "exposed", JSON_FIELD_BOOL, offsetof(DaemonJoin, exposed) },
        };
        _cleanup_json_ JsonValue *root = NULL;
        DaemonJoin join = { .init = init, .token = "", .listen = "" };
        int r;

        r = json_object_parse(request->http->body, request->http->body_size, &root, err);
        if (r >= 0)
                r = json_read_fields(root, JSON_FIELDS(fields), &join, err);
        if (r < 0)
                return request_body_refused(r, err);
        r = daemon_join((Daemon *) request->api->host, &join, join_on_done, request, err);
        if (r < 0) {
                (void) request_refused(r, err);
                return join_status(r);
        }
        request->on_end = join_on_end;
        return 0;
}

static unsigned join_handle(Request *request, Error *err) {
        return join_begin(request, false, err);
}

static unsigned init_handle(Request *request, Error *err) {
        return join_begin(request, true, err);
}

static int daemon_open_join(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Daemon *d = (Daemon *) host;

        d->opened = DEFERRED(daemon_on_opened, d);
        d->unchanged = DEFERRED(daemon_on_unchanged, d);
        d->restart = TIMER(daemon_on_restart, d);
        *ret = d;
        return 0;
}

/* Cancel what is not answered. A join under way is closed with the sessions. */
static void *daemon_close_join(void *self) {
        Daemon *d = self;

        d->opening = opening_free(d->opening);
        deferred_cancel(&d->opened);
        deferred_cancel(&d->unchanged);
        timer_stop(&d->restart);
        return NULL;
}

static const Route join_routes[] = {
        { ROUTE_FLEET, "POST", "/fleet/v1/cluster/init", RIGHT_ADMINISTER, AT_HOST, init_handle },
        { ROUTE_FLEET, "POST", "/fleet/v1/cluster/join", RIGHT_ADMINISTER, AT_HOST, join_handle },
};

const Component join_component = { "join", daemon_open_join, daemon_close_join, .routes = join_routes,
                                   .n_routes = ELEMENTS(join_routes) };
