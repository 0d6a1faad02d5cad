#include "fleetd/identity/securing.h"

#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/identity.h"
#include "fleetd/registry/presence.h"

enum { NAMES_SHOWN = 5 };

/* -- Which hosts need the key file: pure -- */

/* A host without a replica has a presence, and no member key. */
bool securing_needs_certificate(const ClusterMachine *m) {
        return !cluster_machine_is_removed(m) && (m->member.raft_id != 0 || m->presence_index != 0) &&
               !(m->host && m->host->pins.n > 0);
}

/* Append the name of a host to a list. */
static void securing_add_name(Text *names, size_t *n, const ClusterMachine *m) {
        if ((*n)++ < NAMES_SHOWN)
                text_printf(names, "%s%s", names->size > 0 ? ", " : "", cluster_machine_name(m));
        else if (*n == NAMES_SHOWN + 1)
                text_append(names, ", ...");
}

/* An open session that was authenticated by the key file, although the host has a certificate. */
static bool securing_uses_key(const Peers *peers, const ClusterMachine *m) {
        PeerState state;

        return !securing_needs_certificate(m) && peers_state(peers, m->id, &state) == 0 && state.by_key;
}

/* Whether a host may have crashed before it stored its first certificate. An open session proves that it has
 * one, unless it uses the key file. */
static bool securing_is_in_doubt(const Cluster *c, const Peers *peers, const ClusterMachine *m,
                                 uint64_t now_ms) {
        uint64_t away_ms = m->presence != PRESENCE_UP && c->now_ms > m->since_ms ? c->now_ms - m->since_ms :
                                                                                   0;
        PeerState state;

        if (!m->host || m->removed || streq(m->id, peers_self(peers)->machine_id) ||
            (peers_state(peers, m->id, &state) == 0 && (state.dialed || state.accepted)))
                return false;
        return now_ms < m->host->joined_ms + away_ms + SECURING_SURE_MS;
}

int securing_check(const Cluster *c, const Peers *peers, bool force, uint64_t now_ms, Error *err) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        _cleanup_text_ Text up = {}, others = {}, sessions = {};
        size_t n = 0, n_up = 0, n_others = 0, n_sessions = 0;

        if (!c->ca_roots)
                return error_set(err, -EAGAIN, "the cluster has no certificates yet; try again");
        machines = cluster_machines_sorted(c, &n);
        if (!machines)
                return error_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++) {
                bool needs = securing_needs_certificate(machines[i]) ||
                             securing_is_in_doubt(c, peers, machines[i], now_ms);

                if (needs && machines[i]->presence == PRESENCE_UP)
                        securing_add_name(&up, &n_up, machines[i]);
                else if (needs && !force)
                        securing_add_name(&others, &n_others, machines[i]);
                else if (securing_uses_key(peers, machines[i]))
                        securing_add_name(&sessions, &n_sessions, machines[i]);
        }
        if (up.error < 0 || others.error < 0 || sessions.error < 0)
                return error_set(err, -ENOMEM, "out of memory");
        if (n_others > 0)
                return error_set(err, -EBUSY,
                                 "no certificate: %s: start fleetd there, and repeat the command; or leave "
                                 "these hosts out with --force: each of them then joins again with a token",
                                 others.chars);
        if (n_up > 0)
                return error_set(err, -EAGAIN,
                                 "%s has no certificate yet: its journal has the reason; then repeat the "
                                 "command",
                                 up.chars);
        if (n_sessions > 0)
                return error_set(err, -EAGAIN,
                                 "a session with %s still uses the key file; repeat the command in some "
                                 "seconds",
                                 sessions.chars);
        return 0;
}

bool securing_is_due(const Cluster *c, uint64_t now_ms) {
        uint64_t last_ms = 0;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                if (securing_needs_certificate(m))
                        return false;
                if (m->host && !m->removed)
                        last_ms = MAX(last_ms, m->host->joined_ms);
        }
        return last_ms > 0 && now_ms >= last_ms + SECURING_WAIT_MS;
}

const char *securing_problem(const Cluster *c, const Peers *peers, Text *text) {
        bool required = cluster_settings(c)->peer_auth == PEER_AUTH_CERTIFICATE && peers_has_key(peers) &&
                        !peers_has_certificate(peers);

        if (!required && !peers_need_certificate(peers))
                return NULL;
        text_printf(text,
                    "this host has no certificate, and the others reject its key file: on one of them, run "
                    "fleetctl token --replace=%s, then fleetctl join on this one",
                    peers_self(peers)->name);
        return text->chars;
}

/* -- This host -- */

static void securing_record(Securing *s) {
        Error err = {};
        int r;

        if (!peers_has_certificate(s->peers))
                return;
        r = identity_require(s->authority->state_directory, &err);
        s->recorded = r >= 0;
        if (r < 0 && !s->failed)
                log_error(((LogFields) { .error = r }),
                          "Failed to record that the cluster requires certificates: %s; a restart of fleetd "
                          "accepts the key file until this host has read the settings of the cluster",
                          error_text(&err, r));
        s->failed = r < 0;
}

static void securing_on_update(void *userdata) {
        Securing *s = userdata;
        const Cluster *c = registry_cluster(s->registry);
        _cleanup_text_ Text problem = {};

        if (s->ended || !registry_ready(s->registry) ||
            cluster_settings(c)->peer_auth != PEER_AUTH_CERTIFICATE)
                return;
        s->ended = true;
        peers_end_key(s->peers);
        securing_record(s);
        if (!peers_has_key(s->peers))
                return;
        if (securing_problem(c, s->peers, &problem))
                log_error(NO_FIELDS, "the cluster requires certificates: %s", problem.chars);
        else
                log_notice(NO_FIELDS,
                           "the cluster requires certificates: PeerKey= has no effect any more; remove the "
                           "setting, and the key file");
}

void securing_on_change(Securing *s, const RegistryChange *change) {
        if (change->kind == CHANGED_ALL || change->kind == CHANGED_CLUSTER)
                loop_defer(s->loop, &s->update);
}

/* -- The request of an operator: it waits until no host that is up needs the key file -- */

static int securing_require(Authority *a, const char *user, RegistryDone done, void *userdata) {
        const Cluster *c = registry_cluster(a->registry);
        ClusterSettings next = *cluster_settings(c);

        if (!cluster_decides_voters(c))
                next.voters = a->host->settings->voters;
        next.founder = false;
        next.peer_auth = PEER_AUTH_CERTIFICATE;
        return registry_set_settings(a->registry, &next, user, done, userdata);
}

static void authority_on_secured(void *userdata, KvStatus status, const char *message, uint64_t index) {
        AuthorityOp *op = userdata;

        if (authority_op_written(op, status, message))
                authority_op_end(op, NULL);
}

void authority_secure_step(AuthorityOp *op) {
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        Error err = {};
        int r;

        if (cluster_settings(c)->peer_auth == PEER_AUTH_CERTIFICATE) {
                authority_op_end(op, NULL);
                return;
        }
        if (cluster_has_unreadable(c, LAYOUT_SETTINGS)) {
                authority_op_fail(op, -EBADMSG, "settings of the cluster: " CLUSTER_UNREADABLE);
                return;
        }
        r = securing_check(c, a->peers, op->force, loop_wall_ms(a->loop), &err);
        if (r == -EAGAIN && loop_now_ms(a->loop) < op->deadline_ms)
                return; /* the next tick repeats it */
        if (r >= 0)
                r = securing_require(a, op->record.by, authority_on_secured, op);
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else
                op->writing = true;
}

int authority_secure(Authority *a, bool force, const char *user, AuthorityDone *done, void *userdata,
                     Error *err) {
        AuthorityOp *op;

        TRY(authority_op_begin(a, AUTHORITY_SECURE, done, userdata, &op, err));
        op->deadline_ms = loop_now_ms(a->loop) + AUTHORITY_SECURE_MS;
        op->force = force;
        snprintf(op->record.by, sizeof(op->record.by), "%s", user ?: "");
        return 0;
}

/* -- The leader -- */

static void securing_on_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Securing *s = userdata;

        s->writing = false;
        if (status == KV_OK)
                log_notice(
                        ((LogFields) { .index = index }),
                        "all hosts have had a certificate for 7 days: the cluster requires certificates now");
}

static void securing_lead(Securing *s, uint64_t led_ms) {
        const Cluster *c = registry_cluster(s->registry);
        Error err = {};

        if (!c->ca_roots && led_ms >= SECURING_LED_MS)
                authority_want_ca(s->authority);
        if (s->writing || cluster_settings(c)->peer_auth == PEER_AUTH_CERTIFICATE ||
            !securing_is_due(c, loop_wall_ms(s->loop)) ||
            securing_check(c, s->peers, false, loop_wall_ms(s->loop), &err) < 0)
                return;
        s->writing = securing_require(s->authority, NULL, securing_on_written, s) >= 0;
}

void securing_tick(Securing *s, uint64_t led_ms) {
        securing_on_update(s);
        if (s->ended && !s->recorded)
                securing_record(s);
        if (led_ms > 0 && peers_has_key(s->peers))
                securing_lead(s, led_ms);
}

/* -- Lifetime -- */

void securing_init(Securing *s, const ComponentHost *host, Authority *authority) {
        *s = (Securing) { .loop = host->io.loop,
                          .peers = host->peers,
                          .registry = host->registry,
                          .authority = authority,
                          .update = DEFERRED(securing_on_update, s) };
        loop_defer(s->loop, &s->update);
}

void securing_done(Securing *s) {
        if (!s->loop)
                return;
        deferred_cancel(&s->update);
        registry_cancel(s->registry, s);
}
