#include "fleetd/identity/entering.h"

#include <arpa/inet.h>

#include "base/log.h"
#include "fleetd/identity/cluster_file.h"
#include "fleetd/identity/enter_message.h"
#include "fleetd/identity/identity.h"

#define DEFAULT_PORT "2380"

enum {
        CONTENT_NAMES = 3,              /* hosts that a message names */
        ENTERING_FIRST_CHECK_MS = 4000, /* each endpoint was dialed several times */
        ENTERING_CHECK_MS = 250,
        ENTERING_KEYS_MAX = 100000, /* that are counted */
};

struct Entering {
        EnteringOptions options; /* loop, state_directory, level, exposed and address_towards only */
        Token token;
        char listen[ADDRESS_SIZE], machine_id[MACHINE_ID_SIZE];
        TlsCredentials *credentials; /* without a certificate */
        TlsPin root;                 /* of the token */
        TlsPrivateKey *key;
        char *key_pem;
        Text request;
        Peers *peers; /* of this join only: they trust the root of the token, and no other one */
        Timer check;
        uint64_t deadline_ms;
        Deferred end; /* calls 'done' */
        bool ended;
        int error;
        char message[ERROR_MESSAGE_MAX];
        EnteringResult result;
        uint64_t requested; /* number of the session on which the request was sent; 0: none */
        EnteringDone *done;
        void *userdata;
        void (*closed)(void *userdata);
        void *closed_userdata;
};

/* Accept 'address' if it is "ADDR:PORT" of one address, in numbers. */
static bool entering_take_listen(const Text *address, char ret[static ADDRESS_SIZE]) {
        uint8_t bytes[sizeof(struct in6_addr)];
        char host[ADDRESS_SIZE];
        uint16_t port;

        if (address->error < 0 || address->size >= ADDRESS_SIZE ||
            parse_address(address->chars, host, sizeof(host), &port) < 0 ||
            (inet_pton(AF_INET, host, bytes) != 1 && inet_pton(AF_INET6, host, bytes) != 1) ||
            streq(host, "0.0.0.0") || streq(host, "::"))
                return false;
        memcpy(ret, address->chars, address->size + 1);
        return true;
}

int entering_read_listen(const char *text, char ret[static ADDRESS_SIZE], Error *err) {
        _cleanup_text_ Text given = {}, plain = {}, bracketed = {};

        text_append(&given, text);
        text_printf(&plain, "%s:" DEFAULT_PORT, text);
        if (strchr(text, ':') != strrchr(text, ':')) /* IPv6 */
                text_printf(&bracketed, "[%s]:" DEFAULT_PORT, text);
        else
                text_append(&bracketed, "");
        if (!text[0])
                snprintf(ret, ADDRESS_SIZE, ":" DEFAULT_PORT);
        else if (!entering_take_listen(&given, ret) && !entering_take_listen(&plain, ret) &&
                 !entering_take_listen(&bracketed, ret))
                return error_set(err, -EINVAL,
                                 "--listen=%.100s: expected the one address at which other hosts reach this "
                                 "one, ADDR or ADDR:PORT, in numbers",
                                 text);
        return 0;
}

/* -- Content of the former cluster -- */

static int entering_refuse_hosts(const Cluster *cluster, const char *machine_id, Error *err) {
        const ClusterMachine *self = cluster_machine(cluster, machine_id);
        _cleanup_free_ ClusterMachine **machines = NULL;
        _cleanup_text_ Text names = {};
        size_t n = 0, n_others = 0;
        bool alone = true;

        machines = cluster_machines_sorted(cluster, &n);
        if (!machines)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (streq(machines[i]->id, machine_id) ||
                    (cluster_machine_is_removed(machines[i]) && machines[i]->member.raft_id == 0))
                        continue;
                alone = alone && machines[i]->member.raft_id == 0 && machines[i]->presence != PRESENCE_UP;
                if (n_others++ < CONTENT_NAMES)
                        text_printf(&names, "%s%s", n_others > 1 ? ", " : "",
                                    cluster_machine_name(machines[i]));
        }
        if (names.error < 0)
                return names.error;
        if (n_others > 0 && self && cluster_machine_is_leaving(self))
                return error_set(
                        err, -EEXIST,
                        "this host is leaving the cluster with %s%s: join when fleetctl leave, which "
                        "shows the step, reports the end; to stay: fleetctl leave --cancel",
                        names.chars, n_others > CONTENT_NAMES ? ", ..." : "");
        return n_others == 0 ?
                       0 :
                       error_set(err, -EEXIST, "this host is joined already, to the cluster with %s%s; to %s",
                                 names.chars, n_others > CONTENT_NAMES ? ", ..." : "",
                                 alone ? "give up that one first: systemctl stop fleetd; fleetd "
                                         "--reset; systemctl start fleetd" :
                                         "leave it first: fleetctl leave");
}

static int entering_count_key(void *userdata, const KvNode *node) {
        uint64_t *n = userdata;

        *n += !node->dir && !kv_path_is_ours(node->key);
        return *n < ENTERING_KEYS_MAX;
}

int entering_count_keys(KvStore *store, uint64_t *ret, Error *err) {
        const KvRange all = { .key = kv_string("/"), .recursive = true };
        uint64_t n = 0;
        int r;

        r = kv_local_walk(store, &all, entering_count_key, &n);
        if (r < 0)
                return error_set(err, r, "Failed to read the keys of this host: %s", strerror(-r));
        *ret = n;
        return 0;
}

int entering_check_content(const Cluster *cluster, const char *machine_id, bool removed, uint64_t n_keys,
                           bool discard, Error *err) {
        size_t n_units = 0;
        int r;

        r = removed ? 0 : entering_refuse_hosts(cluster, machine_id, err);
        if (r < 0 || discard)
                return r;
        for (const ClusterUnit *u = cluster->units; u; u = u->hh.next)
                n_units += cluster_unit_exists(u) &&
                           !(u->unit && u->unit->owner && streq(u->unit->owner, machine_id));
        if (n_units == 0 && n_keys == 0)
                return 0;
        return error_set(
                err, -EEXIST,
                "this host has %zu unit%s and %llu key%s of its own: fleetctl export DIR, then fleetctl "
                "join --discard",
                n_units, plural(n_units), (unsigned long long) n_keys, plural(n_keys));
}

/* -- The end -- */

static void entering_on_end(void *userdata) {
        Entering *e = userdata;

        e->done(e->userdata, e->error, e->message, e->error < 0 ? NULL : &e->result);
}

/* Report the end once, from the loop. */
static void entering_end(Entering *e, int error, const char *message) {
        if (e->ended)
                return;
        e->ended = true;
        e->error = error;
        snprintf(e->message, sizeof(e->message), "%s", message);
        timer_stop(&e->check);
        loop_defer(e->options.loop, &e->end);
}

/* The state of the endpoints: their problems, and whether one of them may still answer. */
typedef struct EnteringEndpoints {
        const Entering *e;
        Text text;
        bool hopeful;
} EnteringEndpoints;

static void entering_add_endpoint(void *userdata, const PeerState *peer) {
        EnteringEndpoints *all = userdata;
        bool other = peer->dialed && peer->handshake.cluster_id != all->e->token.cluster_id;
        const char *problem = peer->problem[0] ? peer->problem : "no answer";

        if (other)
                problem = "a host of another cluster";
        else if (peer->dialed || !peer->problem[0] || peer->busy)
                all->hopeful = true;
        text_printf(&all->text, "%s%s: %s", all->text.size > 0 ? "; " : "",
                    peer->handshake.address[0] ? peer->handshake.address : handshake_name(&peer->handshake),
                    problem);
}

/* End when no endpoint can answer any more, or the time is over. */
static void entering_on_check(void *userdata) {
        Entering *e = userdata;
        EnteringEndpoints all = { .e = e };
        Error err = {};

        peers_each(e->peers, entering_add_endpoint, &all);
        if (!all.hopeful || loop_now_ms(e->options.loop) >= e->deadline_ms) {
                error_set(&err, -EHOSTUNREACH,
                          "no host of the cluster answers: %s; expected the peer listener of a host of that "
                          "cluster. For a token with other addresses: fleetctl token",
                          all.text.chars ?: "");
                entering_end(e, -EHOSTUNREACH, err.message);
        } else
                (void) timer_start(&e->check, e->options.loop, ENTERING_CHECK_MS);
        text_done(&all.text);
}

/* -- The answer -- */

/* Check that the certificate is of this host and cluster, and that the roots contain that of the token: with
 * another one, this host could not open a session any more. */
static int entering_check_answer(const Entering *e, const EnterAnswer *answer, Error *err) {
        _cleanup_(tls_roots_freep) TlsRoots *roots = NULL;
        TlsCertificate certificate;
        bool found = false;
        TlsPin pin;

        tls_private_key_pin(e->key, &pin);
        TRY(tls_certificate_read(answer->certificate, strlen(answer->certificate), &certificate, err));
        if (!tls_pin_equal(&certificate.pin, &pin) || certificate.uri.cluster_id != e->token.cluster_id ||
            answer->cluster_id != e->token.cluster_id || !streq(certificate.uri.subject, e->machine_id))
                return error_set(err, -EBADMSG, "it is the certificate of another host or cluster");
        TRY(tls_roots_read(answer->roots, strlen(answer->roots), &roots, err));
        for (size_t i = 0; i < tls_roots_count(roots) && !found; i++) {
                tls_roots_get(roots, i, &certificate);
                found = memcmp(certificate.pin.bytes, e->token.root, sizeof(e->token.root)) == 0;
        }
        return found ? 0 : error_set(err, -EBADMSG, "the roots lack that of the token");
}

static int entering_store(Entering *e, const EnterAnswer *answer, Error *err) {
        _cleanup_text_ Text join = {}, file = {};
        char address[ADDRESS_SIZE];
        int r;

        snprintf(e->result.listen, sizeof(e->result.listen), "%s", e->listen);
        if (e->listen[0] == ':') {
                r = e->options.address_towards(answer->endpoints[0], address);
                if (r < 0)
                        return error_set(
                                err, r,
                                "Failed to find the address of this host on the way to %s: %s; choose "
                                "it with --listen=ADDR",
                                answer->endpoints[0], strerror(-r));
                snprintf(e->result.listen, sizeof(e->result.listen), strchr(address, ':') ? "[%s]%s" : "%s%s",
                         address, e->listen);
        }
        for (size_t i = 0; i < answer->n_endpoints; i++)
                text_printf(&join, "%s%s", i > 0 ? " " : "", answer->endpoints[i]);
        cluster_file_print(&file, e->result.listen, join.chars);
        if (join.error < 0 || file.error < 0)
                return -ENOMEM;
        return identity_store(e->options.state_directory, e->key_pem, answer->certificate, answer->roots,
                              file.chars, err);
}

static void entering_on_answer(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        _cleanup_enter_answer_ EnterAnswer answer = {};
        const char *name = handshake_name(peer_handshake(session));
        Entering *e = userdata;
        Error err = {};
        int r;

        if (e->ended)
                return;
        r = enter_answer_read(payload, size, &answer, &err);
        if (r >= 0 && answer.refusal) {
                error_set(&err, -EACCES, "%s rejected the join: %s", name, answer.refusal);
                entering_end(e, -EACCES, err.message);
                return;
        }
        if (r >= 0)
                r = entering_check_answer(e, &answer, &err);
        if (r < 0)
                error_prefix(&err, r, "invalid answer of %s", name);
        else
                r = entering_store(e, &answer, &err);
        if (r < 0) {
                entering_end(e, r, error_text(&err, r));
                return;
        }
        e->result.cluster_id = answer.cluster_id;
        snprintf(e->result.through, sizeof(e->result.through), "%s", name);
        log_notice(((LogFields) { .machine = peer_handshake(session)->machine_id }),
                   "received the certificate of this host for cluster %016llx through %s",
                   (unsigned long long) answer.cluster_id, name);
        entering_end(e, 0, "");
}

/* -- The request -- */

static const PeerFrameType enter_frame_types[] = {
        { PEER_ENTERED, entering_on_answer },
};

static void entering_request_from(void *userdata, const PeerState *peer) {
        EnterRequest request = {};
        Entering *e = userdata;
        _cleanup_writer_ Writer w = {};
        PeerSession *session = peers_dialed(e->peers, peer->handshake.machine_id);

        if (e->requested != 0 || !session || peer->handshake.cluster_id != e->token.cluster_id)
                return;
        request.csr = e->request.chars; /* borrowed */
        memcpy(request.token, e->token.id, sizeof(request.token));
        memcpy(request.secret, e->token.secret, sizeof(request.secret));
        request.level = e->options.level;
        request.exposed = e->options.exposed;
        enter_request_write(&request, &w);
        explicit_bzero(&request, sizeof(request));
        if (w.error == 0 &&
            peers_send(e->peers, peer->handshake.machine_id, PEER_ENTER, w.bytes, w.size) == 0)
                e->requested = peer_number(session);
        if (w.bytes)
                explicit_bzero(w.bytes, w.size);
}

/* A session has begun or ended. A request whose session has ended may have had its effect: it is sent again
 * on another one, and is the same join. */
static void entering_on_change(void *userdata, const char *machine_id) {
        Entering *e = userdata;

        if (e->ended)
                return;
        if (e->requested != 0 && !peers_session(e->peers, e->requested))
                e->requested = 0;
        peers_each(e->peers, entering_request_from, e);
}

/* -- Lifetime -- */

static int entering_prepare_key(Entering *e, Error *err) {
        int r = identity_key(e->options.state_directory, &e->key_pem, &e->key, err);

        return r < 0 ? r : tls_request_create(e->key, &e->request, err);
}

static Entering *entering_free(Entering *e) {
        timer_stop(&e->check);
        deferred_cancel(&e->end);
        e->key = tls_private_key_free(e->key);
        e->credentials = tls_credentials_free(e->credentials);
        identity_wipe(e->key_pem);
        text_done(&e->request);
        explicit_bzero(&e->token, sizeof(e->token));
        free(e);
        return NULL;
}

static void entering_on_peers_closed(void *userdata) {
        Entering *e = userdata;
        void (*closed)(void *userdata) = e->closed;
        void *closed_userdata = e->closed_userdata;

        entering_free(e);
        closed(closed_userdata);
}

static int entering_open(Entering *e, const EnteringOptions *options, Error *err) {
        PeerAddress endpoints[TOKEN_ENDPOINTS_MAX] = {};
        PeersOptions peers = { .self = *options->self, .on_change = entering_on_change, .userdata = e };

        TRY(entering_prepare_key(e, err));
        if (!options->plain) {
                TRY(tls_credentials_new(NULL, NULL, NULL, &e->credentials, err));
                memcpy(e->root.bytes, e->token.root, sizeof(e->root.bytes));
                peers.credentials = e->credentials;
                peers.token_root = &e->root;
                peers.token_cluster_id = e->token.cluster_id;
        }
        e->deadline_ms = loop_now_ms(options->loop) + ENTERING_MS;
        TRY(timer_start(&e->check, options->loop, ENTERING_FIRST_CHECK_MS));
        peers.self.cluster_id = peers.self.lineage = peers.self.raft_id = 0;
        TRY(peers_new(&e->peers, options->loop, options->network, &peers));
        peers_register(e->peers, enter_frame_types, ELEMENTS(enter_frame_types), e);
        for (unsigned i = 0; i < e->token.n_endpoints; i++)
                snprintf(endpoints[i].address, sizeof(endpoints[i].address), "%s", e->token.endpoints[i]);
        return peers_set_known(e->peers, endpoints, e->token.n_endpoints);
}

static void entering_ignore(void *userdata) {}

int entering_new(Entering **ret, const EnteringOptions *options, EnteringDone *done, void *userdata,
                 Error *err) {
        Entering *e = NEW0(Entering, 1);
        int r;

        if (!e)
                return -ENOMEM;
        *e = (Entering) { .options = *options,
                          .token = *options->token,
                          .check = TIMER(entering_on_check, e),
                          .end = DEFERRED(entering_on_end, e),
                          .done = done,
                          .userdata = userdata };
        snprintf(e->listen, sizeof(e->listen), "%s", options->listen);
        snprintf(e->machine_id, sizeof(e->machine_id), "%s", options->self->machine_id);
        r = cluster_file_check(options->cluster_file, err);
        if (r >= 0)
                r = entering_open(e, options, err);
        if (r < 0) {
                entering_close(e, entering_ignore, NULL);
                return r;
        }
        *ret = e;
        return 0;
}

void entering_close(Entering *e, void (*closed)(void *userdata), void *userdata) {
        e->ended = true;
        timer_stop(&e->check);
        deferred_cancel(&e->end);
        e->closed = closed;
        e->closed_userdata = userdata;
        if (e->peers)
                peers_close(e->peers, "", entering_on_peers_closed, e);
        else
                entering_on_peers_closed(e);
}
