/* Joining another cluster, and opening this one: fleetctl join and init. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fleetd/daemon_internal.h"
#include "fleetd/host/host.h"

enum { RESTART_MS = 200 }; /* from the answer to the client to the restart */

void daemon_restart_later(Daemon *d) {
        d->restarts = d->io.restart && timer_start(&d->restart, d->io.loop, RESTART_MS) >= 0;
}

static void daemon_on_restart(void *userdata) {
        Daemon *d = userdata;

        d->io.restart(d->io.userdata);
}

static void daemon_on_entering_closed(void *userdata) {
        Daemon *d = userdata;

        d->entering = NULL;
        if (d->stopped && !d->store && !d->leaving)
                daemon_on_store_closed(d);
}

/* Answer the client. After a success the daemon restarts, when the answer has left. */
static void daemon_on_entered(void *userdata, int error, const char *message, const EnteringResult *result) {
        Daemon *d = userdata;
        ApiJoinDone *done = d->join_done;
        ApiJoined joined = {};

        if (result)
                joined = (ApiJoined) { .cluster_id = result->cluster_id,
                                       .listen = result->listen,
                                       .through = result->through };
        if (error < 0)
                log_warning(((LogFields) { .error = error }), "Failed to %s: %s",
                            d->opening ? "open the cluster" : "join a cluster", message);
        d->join_done = NULL;
        if (error == 0)
                daemon_restart_later(d);
        done(d->join_userdata, error, message, result ? &joined : NULL);
        if (d->entering)
                entering_close(d->entering, daemon_on_entering_closed, d);
        loop_defer(d->io.loop, &d->opened);
}

static void daemon_on_opened(void *userdata) {
        Daemon *d = userdata;

        d->opening = opening_free(d->opening);
}

static void daemon_on_unchanged(void *userdata) {
        Daemon *d = userdata;
        ApiJoinDone *done = d->join_done;
        ApiJoined joined = { .cluster_id = peers_self(d->peers)->cluster_id,
                             .listen = peers_self(d->peers)->address,
                             .through = "" };
        d->join_done = NULL;
        done(d->join_userdata, 0, "", &joined);
}

static int daemon_enter(Daemon *d, const ApiJoin *join, Error *err) {
        char listen[ADDRESS_SIZE];
        EnteringOptions options = {
                .loop = d->io.loop,
                .network = d->io.network,
                .state_directory = d->state_directory,
                .cluster_file = d->cluster_file,
                .self = peers_self(d->peers),
                .level = d->level_max,
                .listen = listen,
                .exposed = join->exposed,
                .address_towards = host_address_towards,
        };
        uint64_t n_keys = 0;
        KvState state;
        bool removed;
        Token token;
        int r;

        r = entering_read_listen(join->listen, listen, err) ?: peers_try_listen(d->peers, listen, err);
        if (r < 0)
                return r;
        kv_state(d->store, &state);
        if (state.cluster_id != 0 && !registry_ready(d->registry))
                return error_set(err, -EAGAIN, "fleetd is still reading the state of this host; try again");
        r = entering_count_keys(d->store, &n_keys, err) ?: token_read(join->token, &token, err);
        if (r < 0)
                return r;
        options.token = &token;
        removed = state.removed;
        /* A host of that cluster that was removed, or has only its key file, keeps nothing of its own. */
        if (token.cluster_id != state.cluster_id || (peers_has_certificate(d->peers) && !removed))
                r = entering_check_content(registry_cluster(d->registry), options.self->machine_id, removed,
                                           n_keys, join->discard, err);
        if (r >= 0)
                r = entering_new(&d->entering, &options, daemon_on_entered, d, err);
        explicit_bzero(&token, sizeof(token));
        return r;
}

/* Without --listen, the port is the default one. */
static int daemon_listen_address(const ApiJoin *join, char ret[static ADDRESS_SIZE], Error *err) {
        char address[ADDRESS_SIZE];
        int r;

        if (join->listen[0])
                return entering_read_listen(join->listen, ret, err);
        r = host_global_address(address, err);
        return r < 0 ? r : entering_read_listen(address, ret, err);
}

static int daemon_open_cluster(Daemon *d, const ApiJoin *join, Error *err) {
        const char *own = peers_self(d->peers)->address;
        char listen[ADDRESS_SIZE];
        OpeningOptions options = { .loop = d->io.loop,
                                   .authority = membership_authority(d->membership),
                                   .state_directory = d->state_directory,
                                   .cluster_file = own[0] ? "" : d->cluster_file,
                                   .listen = listen };
        int r;

        if (!own[0] && !d->cluster_file[0])
                return error_set(err, -EADDRNOTAVAIL,
                                 "ClusterFile= is empty, so that the address cannot be stored; set it, or "
                                 "ListenPeer=, in fleetd.conf");
        r = own[0] && !join->listen[0] ? entering_read_listen(own, listen, err) :
                                         daemon_listen_address(join, listen, err);
        if (r < 0)
                return r;
        if (own[0] && !streq(listen, own))
                return error_set(err, -EEXIST,
                                 "this host listens for other hosts on %s already; to change the address: "
                                 "ListenPeer= in fleetd.conf",
                                 own);
        r = peers_try_listen(d->peers, listen, err);
        if (r < 0)
                return r;
        if (!own[0] || !d->io.credentials)
                return opening_new(&d->opening, &options, daemon_on_entered, d, err);
        loop_defer(d->io.loop, &d->unchanged);
        return 0;
}

int daemon_join(void *userdata, const ApiJoin *join, ApiJoinDone *done, void *done_userdata, Error *err) {
        Daemon *d = userdata;
        int r;

        if (d->join_done || d->entering || d->opening || d->restarts || !d->io.restart)
                return error_set(err, -EALREADY,
                                 "another fleetctl init or join is under way on this host: fleetctl "
                                 "cluster shows its result");
        r = join->init ? daemon_open_cluster(d, join, err) : daemon_enter(d, join, err);
        if (r < 0)
                return r;
        d->join_done = done;
        d->join_userdata = done_userdata;
        return 0;
}

void daemon_join_cancel(void *userdata, void *done_userdata) {
        Daemon *d = userdata;

        if (!d->join_done || d->join_userdata != done_userdata)
                return;
        d->join_done = NULL;
        d->opening = opening_free(d->opening);
        deferred_cancel(&d->unchanged);
        if (d->entering)
                entering_close(d->entering, daemon_on_entering_closed, d);
}

void daemon_join_init(Daemon *d) {
        d->opened = DEFERRED(daemon_on_opened, d);
        d->unchanged = DEFERRED(daemon_on_unchanged, d);
        d->restart = TIMER(daemon_on_restart, d);
}

void daemon_join_done(Daemon *d) {
        d->opening = opening_free(d->opening);
        deferred_cancel(&d->opened);
        deferred_cancel(&d->unchanged);
        timer_stop(&d->restart);
}
