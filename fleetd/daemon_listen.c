/* The listener for other hosts. Only a host with a replica needs it. One without, whose address is gone or
 * taken, works on, and tries again: the leader gives it no replica meanwhile, by its published problem. */

#include "base/log.h"
#include "fleetd/daemon_internal.h"

enum { LISTEN_RETRY_MS = 10000 };

/* The handshake has the address only while this host listens. */
static void daemon_set_address(Daemon *d, const char *address) {
        PeerHandshake self = *peers_self(d->host.peers);

        snprintf(self.address, sizeof(self.address), "%s", address);
        peers_set_self(d->host.peers, &self);
}

static void daemon_on_listen(void *userdata) {
        Daemon *d = userdata;
        Error err = {};

        if (peers_listen(d->host.peers, d->listen_peer, &err) < 0) {
                (void) timer_start(&d->listen, d->host.io.loop, LISTEN_RETRY_MS);
                return;
        }
        log_notice(NO_FIELDS, "listening for other hosts on %s now", d->listen_peer);
        daemon_set_address(d, d->listen_peer);
        d->listen_peer[0] = 0;
        membership_set_listening(d->host.membership, true);
}

/* A host without a replica needs no listener: it warns, publishes the failure, and tries again later.
 * Otherwise, return the error. */
static int daemon_listen(Daemon *d, const char *address, Error *err) {
        Error cause = {};
        KvState state;
        int r;

        r = peers_listen(d->host.peers, address, &cause);
        if (r >= 0)
                return 0;

        kv_state(d->host.store, &state);
        if (state.raft_id != 0 || r == -ENOMEM) {
                *err = cause;
                return r;
        }
        log_warning(((LogFields) { .error = r }),
                    "%s; this host runs its units without a replica, and tries again each %d s: correct "
                    "ListenPeer=, and restart fleetd",
                    error_text(&cause, r), LISTEN_RETRY_MS / 1000);
        snprintf(d->listen_peer, sizeof(d->listen_peer), "%s", address);
        daemon_set_address(d, "");
        membership_set_listening(d->host.membership, false);
        return timer_start(&d->listen, d->host.io.loop, LISTEN_RETRY_MS);
}

static int daemon_open_listen(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Daemon *d = (Daemon *) host;

        *ret = d;
        d->listen = TIMER(daemon_on_listen, d);
        return s->listen_peer[0] && !host->io.unidentified ? daemon_listen(d, s->listen_peer, err) : 0;
}

static void *daemon_close_listen(void *self) {
        timer_stop(&((Daemon *) self)->listen);
        return NULL;
}

const Component listen_component = { "listen", daemon_open_listen, daemon_close_listen };
