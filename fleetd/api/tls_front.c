#include "fleetd/api/tls_front.h"

#include <arpa/inet.h>
#include <strings.h>

#include "base/log.h"
#include "fleetd/identity/authority.h"
#include "fleetd/identity/renewal.h"
#include "peers/strangers.h"

enum {
        CHECK_MS = 60000, /* of the dates of certificates */
        OPEN_MS = 1000,   /* between attempts to get the first certificate */
        HOST_SIZE = 256,
};

/* For a client of plain HTTP. */
#define PLAIN_BODY                                                                                        \
        "{\"error\":{\"code\":400,\"message\":\"this listener accepts https only, with a certificate of " \
        "fleetctl cert\"}}\n"
static const char plain_answer[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: 105\r\n\r\n" PLAIN_BODY;
static_assert(sizeof(PLAIN_BODY) - 1 == 105, "the length in the head of the answer");

typedef struct Handshake {
        TlsFront *front;
        TlsHandshake *tls;
        uint64_t source; /* strangers_key() of the client */
        TAILQ_ENTRY(Handshake) handshakes;
} Handshake;

/* Why an address is trusted. */
typedef struct Trust {
        uint64_t source;     /* 0: none */
        TlsCertificate leaf; /* of the last user who was authenticated there */
} Trust;

struct TlsFront {
        Api *api; /* borrowed, as the next one */
        ApiListenerState *listener;
        Names names;                 /* of the certificate */
        TlsCredentials *credentials; /* NULL: none yet */
        uint64_t roots_index;        /* of the roots that signed them */
        TAILQ_HEAD(, Handshake) handshakes;
        unsigned n_handshakes;
        Strangers strangers;
        Trust trusts[STRANGERS_ROWS]; /* of the rows of 'strangers' */
        Timer timer;
        bool waits_logged;
};

/* -- Users -- */

/* TlsCheck.known: the keys of a user. */
static void front_known(void *userdata, TlsRole role, const char *subject, TlsKnown *ret) {
        const Api *api = userdata;
        const ClusterPrincipal *user = role == TLS_ROLE_USER ?
                                               cluster_principal(registry_cluster(api->host->registry),
                                                                 subject) :
                                               NULL;

        for (size_t i = 0; user && i < user->record.pins.n && i < TLS_PINS_MAX; i++)
                if (tls_pin_parse(user->record.pins.items[i], &ret->pins[ret->n_pins]) == 0)
                        ret->n_pins++;
        ret->state = ret->n_pins > 0 ? TLS_KNOWN : TLS_UNKNOWN;
}

/* Check that the user of a connection still has this key, and that its certificate has not expired. A user
 * could write later dates into a certificate of its own making: the dates in the tree count, too. */
static int front_check_user(const Api *api, const TlsCertificate *leaf, Error *err) {
        const ClusterPrincipal *user = cluster_principal(registry_cluster(api->host->registry),
                                                         leaf->uri.subject);
        uint64_t now_ms = loop_wall_ms(api->loop), expires_ms = leaf->not_after_ms;
        char pin[TLS_PIN_SIZE];

        tls_pin_print(&leaf->pin, pin);
        if (!user || !pins_have(&user->record.pins, pin))
                return error_set(err, -EKEYREVOKED, "user %s was revoked, or has another key",
                                 leaf->uri.subject);
        if (user->record.expires_ms > 0)
                expires_ms = MIN(expires_ms, user->record.expires_ms);
        if (now_ms > expires_ms + TLS_CLOCK_TOLERANCE_MS)
                return error_set(err, -EKEYEXPIRED,
                                 "the certificate of user %s has expired: 'fleetctl cert %s' renews it",
                                 leaf->uri.subject, leaf->uri.subject);
        return 0;
}

static bool front_ends(void *userdata, const Stream *stream) {
        return front_check_user(userdata, &tls_peer(stream)->verified.leaf, NULL) < 0;
}

void tls_front_principal(const Stream *stream, Principal *ret) {
        const TlsUri *uri = &tls_peer(stream)->verified.leaf.uri;

        ret->kind = PRINCIPAL_USER;
        snprintf(ret->name, sizeof(ret->name), "%s", uri->subject);
}

/* -- Connections -- */

static void handshake_free(Handshake *h) {
        TAILQ_REMOVE(&h->front->handshakes, h, handshakes);
        h->front->n_handshakes--;
        free(h);
}

static void front_trust(TlsFront *front, uint64_t source, const TlsCertificate *leaf) {
        size_t row = strangers_trust(&front->strangers, source, loop_now_ms(front->api->loop));

        front->trusts[row] = (Trust) { .source = source, .leaf = *leaf };
}

static void handshake_on_done(void *userdata, Stream *secure, int error, const char *reason) {
        Handshake *h = userdata;
        TlsFront *front = h->front;
        ApiListenerState *listener = front->listener;
        const TlsPeer *peer = secure ? tls_peer(secure) : NULL;
        uint64_t source = h->source;
        Error err = {};

        handshake_free(h);
        if (!secure)
                log_debug(((LogFields) { .error = error }), "a client of ListenTLS= was rejected: %s",
                          reason);
        else if (peer->kind == TLS_PEER_REJECTED)
                http_server_reject(listener->server, secure, listener, 403, peer->rejected->message);
        else if (front_check_user(front->api, &peer->verified.leaf, &err) < 0)
                http_server_reject(listener->server, secure, listener, 403, err.message);
        else {
                front_trust(front, source, &peer->verified.leaf);
                http_server_accept(listener->server, secure, listener);
        }
}

static void handshake_cut(Handshake *h) {
        tls_cancel(h->tls);
        handshake_free(h);
}

/* The trust of an address ends with its user. */
static void front_review_trusts(TlsFront *front) {
        for (size_t i = 0; i < STRANGERS_ROWS; i++) {
                Trust *trust = &front->trusts[i];

                if (trust->source == 0 || front_check_user(front->api, &trust->leaf, NULL) >= 0)
                        continue;
                strangers_distrust(&front->strangers, trust->source);
                trust->source = 0;
        }
}

/* Make room for a handshake: the oldest one of an address ends that has too many, or the oldest of all. */
static void front_make_room(TlsFront *front, uint64_t source, bool trusted) {
        unsigned n = 0, max = trusted ? STRANGERS_PENDING_MAX / STRANGERS_TRUSTED_PART :
                                        STRANGERS_PENDING_PER_ADDRESS;
        Handshake *oldest = NULL, *h;

        TAILQ_FOREACH(h, &front->handshakes, handshakes)
                if (h->source == source && n++ == 0)
                        oldest = h;
        if (n >= max)
                handshake_cut(oldest);
        else if (front->n_handshakes >= STRANGERS_PENDING_MAX)
                handshake_cut(TAILQ_FIRST(&front->handshakes));
}

static void front_on_accepted(void *userdata, Stream *stream) {
        TlsFront *front = userdata;
        TlsOptions options = {
                .side = TLS_SERVER,
                .credentials = front->credentials,
                .check = { .roles = 1u << TLS_ROLE_USER, .known = front_known, .userdata = front->api },
                .to_plain = plain_answer
        };
        uint64_t source = strangers_key(stream_peer_address(stream)), now_ms = loop_now_ms(front->api->loop);
        bool trusted = strangers_is_trusted(&front->strangers, source, now_ms);
        Handshake *h;
        KvState state;

        if (!strangers_accept(&front->strangers, source, false, STRANGERS_ADMISSION, now_ms)) {
                stream_close(stream);
                return;
        }
        front_make_room(front, source, trusted);
        kv_state(front->api->host->store, &state);
        options.check.cluster_id = state.cluster_id;
        h = NEW0(Handshake, 1);
        if (!h) {
                http_server_reject(front->listener->server, stream, front->listener, 503, "out of memory");
                return;
        }
        h->front = front;
        h->source = source;
        if (tls_start(front->api->loop, stream, &options, handshake_on_done, h, &h->tls) < 0) {
                free(h);
                return;
        }
        TAILQ_INSERT_TAIL(&front->handshakes, h, handshakes);
        front->n_handshakes++;
}

/* -- Names -- */

/* Two texts of one IP address are equal, as are names in another case. */
static bool name_equal(const char *a, const char *b) {
        static const int families[] = { AF_INET, AF_INET6 };

        for (size_t i = 0; i < ELEMENTS(families); i++) {
                struct in6_addr x = {}, y = {};

                if (inet_pton(families[i], a, &x) == 1)
                        return inet_pton(families[i], b, &y) == 1 && memcmp(&x, &y, sizeof(x)) == 0;
        }
        return strcasecmp(a, b) == 0;
}

bool tls_front_has_name(const TlsFront *front, const char *host) {
        bool bracketed = host[0] == '[';
        size_t size = bracketed ? strcspn(++host, "]") : strcspn(host, ":");
        const char *port = host + size + (bracketed && host[size] == ']');
        char name[HOST_SIZE];

        if (size >= sizeof(name) || (bracketed && !host[size]) ||
            (*port && (*port != ':' || port[1 + strspn(port + 1, "0123456789")])))
                return false;
        memcpy(name, host, size);
        name[size] = 0;
        for (size_t i = 0; i < front->names.n; i++)
                if (name_equal(front->names.items[i], name))
                        return true;
        return false;
}

/* The address, unless it stands for all of this host, and the names of ServerNames=. */
static int front_set_names(TlsFront *front) {
        const Names *more = &front->api->settings->server_names;
        char host[ADDRESS_SIZE];
        uint16_t port;
        int r = 0;

        if (parse_address(front->listener->address, host, sizeof(host), &port) >= 0 &&
            !streq(host, "0.0.0.0") && !streq(host, "::"))
                r = names_add(&front->names, host, strlen(host));
        for (size_t i = 0; r >= 0 && i < more->n; i++)
                if (!names_have(&front->names, more->items[i]))
                        r = names_add(&front->names, more->items[i], strlen(more->items[i]));
        return r;
}

/* -- The certificate -- */

static int front_open(TlsFront *front, Error *err) {
        Network *net = front->api->host->io.network;

        if (front->listener->listener)
                return 0;
        return net->ops->listen(net, front->listener->address, front_on_accepted, front,
                                &front->listener->listener, err);
}

static void front_close(TlsFront *front) {
        Network *net = front->api->host->io.network;

        net->ops->unlisten(net, front->listener->listener);
        front->listener->listener = NULL;
}

/* Return whether another certificate is needed: there is none, or it is due, or the roots are others. */
static bool front_is_due(const TlsFront *front) {
        const Cluster *c = registry_cluster(front->api->host->registry);

        return !front->credentials || front->roots_index != c->ca_roots_index ||
               loop_wall_ms(front->api->loop) >=
                       renewal_due_ms(tls_credentials_certificate(front->credentials),
                                      front->api->settings->machine_id);
}

static int front_certify(TlsFront *front, Error *err) {
        TlsCredentials *credentials;

        TRY(authority_certify_listener(front->api->host->authority, (const char *const *) front->names.items,
                                       front->names.n, &credentials, err));
        tls_credentials_free(front->credentials);
        front->credentials = credentials;
        front->roots_index = registry_cluster(front->api->host->registry)->ca_roots_index;
        return front_open(front, err);
}

static void front_report(TlsFront *front, int r, const char *message) {
        if (r >= 0 && front->waits_logged)
                log_notice(NO_FIELDS, "ListenTLS=%s accepts users", front->listener->address);
        else if (r < 0 && !front->waits_logged)
                log_notice(((LogFields) { .error = r }), "ListenTLS=%s %s: %s", front->listener->address,
                           front->listener->listener ? "keeps its certificate" : "does not listen yet",
                           message);
        front->waits_logged = r < 0;
}

static void front_check(TlsFront *front) {
        Error err = {};
        int r = 0;

        if (front_is_due(front)) {
                r = front_certify(front, &err);
                if (r != -EINPROGRESS)
                        front_report(front, r, error_text(&err, r));
        }
        (void) timer_start(&front->timer, front->api->loop,
                           front->listener->listener && r != -EINPROGRESS ? CHECK_MS : OPEN_MS);
}

void tls_front_review(TlsFront *front) {
        front_check(front);
        front_review_trusts(front);
        http_server_end(front->listener->server, front_ends, front->api);
}

static void front_on_timer(void *userdata) {
        tls_front_review(userdata);
}

int tls_front_new(TlsFront **ret, ApiListenerState *listener, Error *err) {
        TlsFront *front = NEW0(TlsFront, 1);

        if (!front)
                return -ENOMEM;
        front->api = listener->api;
        front->listener = listener;
        front->strangers.bounds_parts = true;
        front->timer = TIMER(front_on_timer, front);
        TAILQ_INIT(&front->handshakes);
        *ret = front; /* listener_free() frees it */
        TRY(front_set_names(front));
        /* An address that is no host's is an error at the start, also without a CA. */
        TRY(front_open(front, err));
        front_close(front);
        front_check(front);
        return 0;
}

TlsFront *tls_front_free(TlsFront *front) {
        Handshake *h;

        if (!front)
                return NULL;
        while ((h = TAILQ_FIRST(&front->handshakes)))
                handshake_cut(h);
        timer_stop(&front->timer);
        tls_credentials_free(front->credentials);
        names_done(&front->names);
        free(front);
        return NULL;
}
