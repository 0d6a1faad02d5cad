#include "fleetd/identity/renewal.h"

#include "base/log.h"
#include "fleetd/identity/identity.h"

enum {
        RENEWAL_CHECK_MS = 60000,  /* between two checks, also after a failure */
        RENEWAL_RETRY_MS = 5000,   /* the same after no answer, without a session to the leader, or while this
                                      host gets another key */
        RENEWAL_ANSWER_MS = 15000, /* for an answer; the authority gives up earlier */
        RENEWAL_QUIET_MS =
                30000, /* of failures, before a warning: while a cluster is formed, leaders change */
        ISSUED_BEFORE_MS = 3600000 /* a certificate is valid from an hour before its issue */
};

struct Renewal {
        ComponentHost *host; /* borrowed, as the next seven */
        Loop *loop;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        Authority *authority;
        const char *machine_id, *state_directory;
        uint64_t next_ms;     /* of the next check */
        uint64_t answer_ms;   /* until which an answer is awaited; 0: none is */
        uint64_t failed_ms;   /* the first failure since the last certificate; 0: none */
        uint64_t roots_index; /* as of the last check, as the next two */
        uint64_t term;
        bool replica, failure_logged;
};

/* The seed of tables differs between starts, and this hash must not. */
static uint64_t renewal_hash(const char *machine_id) {
        return XXH3_64bits(machine_id, strlen(machine_id));
}

uint64_t renewal_due_ms(const TlsCertificate *certificate, const char *machine_id) {
        uint64_t issued_ms = certificate->not_before_ms + ISSUED_BEFORE_MS, life_ms, tenth_ms;

        if (certificate->not_after_ms <= issued_ms)
                return 0;
        life_ms = certificate->not_after_ms - issued_ms;
        tenth_ms = life_ms / 10;
        return issued_ms + life_ms / 3 * 2 - tenth_ms + renewal_hash(machine_id) % (2 * tenth_ms + 1);
}

/* -- Answers -- */

static void renewal_failed(Renewal *r, int error, const char *message) {
        uint64_t now_ms = loop_now_ms(r->loop);

        r->answer_ms = 0;
        if (error == -ENOTCONN || error == -ETIMEDOUT)
                r->next_ms = now_ms + RENEWAL_RETRY_MS;
        if (r->failed_ms == 0)
                r->failed_ms = now_ms;
        if (r->failure_logged || now_ms - r->failed_ms < RENEWAL_QUIET_MS)
                return;
        r->failure_logged = true;
        log_warning(((LogFields) { .machine = r->machine_id, .error = error }),
                    "Failed to get a certificate for this host: %s; trying again", message);
}

static bool renewal_is_root(const CaRoots *roots, const TlsCertificate *root) {
        char id[TLS_PIN_SIZE];

        tls_pin_print(&root->pin, id);
        for (size_t i = 0; i < roots->n; i++)
                if (streq(roots->items[i].id, id))
                        return true;
        return false;
}

int renewal_check(const EnterAnswer *answer, const CaRoots *roots, const TlsPin *pin, const char *machine_id,
                  uint64_t cluster_id, Error *err) {
        _cleanup_(tls_roots_freep) TlsRoots *sent = NULL;
        _cleanup_text_ Text chain = {};
        TlsCertificate certificate, root;
        int e;

        TRY(tls_certificate_read(answer->certificate, strlen(answer->certificate), &certificate, err));
        if (!tls_pin_equal(pin, &certificate.pin) || !streq(certificate.uri.subject, machine_id) ||
            (certificate.uri.role != TLS_ROLE_REPLICA && certificate.uri.role != TLS_ROLE_HOST))
                return error_set(err, -EBADMSG, "the certificate is for another key or machine");
        if (certificate.uri.cluster_id != cluster_id)
                return error_set(err, -EBADMSG, "the certificate is of another cluster");
        TRY(tls_roots_read(answer->roots, strlen(answer->roots), &sent, err));
        for (size_t i = 0; i < tls_roots_count(sent); i++) {
                tls_roots_get(sent, i, &root);
                if (!roots || !renewal_is_root(roots, &root))
                        return error_set(err, -ENOTCONN,
                                         "the tree of this host does not have a root of the answer");
        }
        e = tls_roots_chain(sent, answer->certificate, strlen(answer->certificate), &chain, err);
        if (e < 0 || chain.error < 0)
                return e < 0 ? e : -ENOMEM;
        return strstr(chain.chars + 1, "-----BEGIN") ?
                       0 :
                       error_set(err, -EBADMSG, "no root of the answer has signed the certificate");
}

/* -- Keys -- */

/* The present key of this host, and the next one if there is one. */
typedef struct HostKeys {
        TlsPrivateKey *present, *next;
        char *present_pem;
        TlsPin present_pin, next_pin;
} HostKeys;

static void host_keys_done(HostKeys *keys) {
        tls_private_key_free(keys->present);
        tls_private_key_free(keys->next);
        identity_wipe(keys->present_pem);
}

static int renewal_read_keys(const Renewal *r, HostKeys *ret, Error *err) {
        int e;

        TRY(identity_key(r->state_directory, &ret->present_pem, &ret->present, err));
        tls_private_key_pin(ret->present, &ret->present_pin);
        e = identity_next_key(r->state_directory, &ret->next, err);
        if (e == -ENOENT) {
                *err = (Error) {};
                return 0;
        }
        if (e < 0)
                return e;
        tls_private_key_pin(ret->next, &ret->next_pin);
        return 0;
}

static bool renewal_has_pin(const Pins *pins, const TlsPin *pin) {
        char text[TLS_PIN_SIZE];

        tls_pin_print(pin, text);
        return pins_have(pins, text);
}

/* Return the key to request a certificate for. The next one only takes the place of a former key that the
 * host does not use any more: the cluster has the present key alone, or already the next one. Otherwise a
 * lost answer would leave this host with a key that the cluster has dropped. */
static TlsPrivateKey *renewal_key(const HostKeys *keys, const HostRecord *recorded) {
        if (keys->next && recorded &&
            (renewal_has_pin(&recorded->pins, &keys->next_pin) ||
             (recorded->pins.n == 1 && renewal_has_pin(&recorded->pins, &keys->present_pin))))
                return keys->next;
        return keys->present;
}

/* Check that the answer is for a key of this host, and store it. */
static int renewal_store(Renewal *r, const EnterAnswer *answer, Error *err) {
        _cleanup_(host_keys_done) HostKeys keys = {};
        _cleanup_identity_ HostIdentity identity = {};
        TlsCertificate certificate;
        const TlsPin *pin;
        KvState state;
        int e;

        e = renewal_read_keys(r, &keys, err);
        if (e >= 0)
                e = tls_certificate_read(answer->certificate, strlen(answer->certificate), &certificate, err);
        if (e < 0)
                return e;
        pin = keys.next && tls_pin_equal(&keys.next_pin, &certificate.pin) ? &keys.next_pin :
                                                                             &keys.present_pin;
        kv_state(r->store, &state);
        e = renewal_check(answer, registry_cluster(r->registry)->ca_roots, pin, r->machine_id,
                          state.cluster_id, err);
        if (e >= 0 && identity_read(r->state_directory, &identity, NULL) < 0)
                e = identity_store_first(r->state_directory, keys.present_pem, answer->certificate,
                                         answer->roots, err);
        else if (e >= 0)
                e = identity_renew(r->state_directory, answer->certificate, answer->roots, err);
        return e;
}

static void renewal_on_answer(Renewal *r, int error, const char *message, const EnterAnswer *answer) {
        Error err = {};

        if (r->answer_ms == 0)
                return;
        if (error < 0) {
                renewal_failed(r, error, message);
                return;
        }
        error = renewal_store(r, answer, &err);
        if (error < 0) {
                renewal_failed(r, error, error_text(&err, error));
                return;
        }
        r->answer_ms = 0;
        r->next_ms = MIN(r->next_ms, loop_now_ms(r->loop) + RENEWAL_RETRY_MS);
        r->failure_logged = false;
        r->failed_ms = 0;
        log_notice(((LogFields) { .machine = r->machine_id }), "received a certificate for this host");
        if (r->host->on_identity)
                r->host->on_identity(r->host);
}

static void renewal_on_issued(void *userdata, int error, const char *message, const AuthorityResult *result) {
        renewal_on_answer(userdata, error, message, result ? result->answer : NULL);
}

static void renewal_on_renewed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        _cleanup_enter_answer_ EnterAnswer answer = {};
        Error err = {};
        int error;

        error = enter_answer_read(payload, size, &answer, &err);
        if (error >= 0 && answer.refusal)
                error = error_set(&err, -EACCES, "%s", answer.refusal);
        renewal_on_answer(userdata, error, err.message, &answer);
}

/* -- Requests -- */

/* A replica that does not lead issues certificates, too: a host without one has sessions to two of them, and
 * the leader may be none of these. */
static int renewal_request(Renewal *r, const ClusterMachine *self, const KvState *state, Error *err) {
        const char *replica = state->attached ? kv_replica_in_use(r->store) : state->leader_machine_id;
        _cleanup_(host_keys_done) HostKeys keys = {};
        _cleanup_writer_ Writer w = {};
        _cleanup_text_ Text csr = {};
        int e;

        e = renewal_read_keys(r, &keys, err);
        if (e >= 0)
                e = tls_request_create(renewal_key(&keys, self->host), &csr, err);
        if (e < 0)
                return e;
        if (csr.error < 0)
                return error_set(err, -ENOMEM, "out of memory");
        if (state->role == KV_ROLE_LEADER)
                return authority_enroll(r->authority, csr.chars, renewal_on_issued, r, err);
        write_u8(&w, RENEWAL_PROTOCOL);
        write_string(&w, csr.chars);
        e = w.error < 0 ? w.error : peers_send(r->peers, replica, PEER_RENEW, w.bytes, w.size);
        return e < 0 ? error_set(err, e, "%s cannot be reached: %s",
                                 state->attached ? "the replica in use" : "the leader", strerror(-e)) :
                       0;
}

/* Whether this host has stored each root of the cluster that is not on its way out, and no other one: the
 * answer with which a former root ends may be lost. */
static bool renewal_has_roots(const char *stored, const CaRoots *roots) {
        size_t n_stored = 0;

        for (const char *pem = stored; (pem = strstr(pem, "-----BEGIN")); pem++)
                n_stored++;
        for (size_t i = 0; i < roots->n; i++) {
                bool has = strstr(stored, roots->items[i].pem);

                if (roots->items[i].state != CA_ROOT_FORMER && !has)
                        return false;
                n_stored -= has;
        }
        return n_stored == 0;
}

/* The former key is valid until the next one was used: the next request proves that. */
static bool renewal_has_two_keys(const ClusterMachine *self) {
        return self->host && self->host->pins.n > 1;
}

/* Whether the record of this host lacks the key of its certificate: the tree is from before that key, for
 * example after a restore. The tree of a host that does not lead may only be behind. */
static bool renewal_lacks_key(const ClusterMachine *self, const TlsCertificate *certificate, bool leads) {
        return leads && self->host && !renewal_has_pin(&self->host->pins, &certificate->pin);
}

/* Whether a certificate is needed: there is none, or it is due, or of another role or key, or older than the
 * roots. */
static bool renewal_is_due(const Renewal *r, const Cluster *c, const ClusterMachine *self, TlsRole role,
                           bool leads) {
        _cleanup_identity_ HostIdentity identity = {};
        TlsCertificate certificate;

        if (identity_read(r->state_directory, &identity, NULL) < 0 ||
            tls_certificate_read(identity.certificate, strlen(identity.certificate), &certificate, NULL) < 0)
                return true;
        return certificate.uri.role != role || self->host_index < c->ca_roots_index ||
               identity_has_next_key(r->state_directory) || renewal_has_two_keys(self) ||
               renewal_lacks_key(self, &certificate, leads) ||
               !renewal_has_roots(identity.roots, c->ca_roots) ||
               loop_wall_ms(r->loop) >= renewal_due_ms(&certificate, r->machine_id);
}

void renewal_tick(Renewal *r) {
        const Cluster *c = registry_cluster(r->registry);
        const ClusterMachine *self = cluster_machine(c, r->machine_id);
        uint64_t now_ms = loop_now_ms(r->loop);
        KvState state;
        Error err = {};
        bool replica;
        int e;

        kv_state(r->store, &state);
        replica = state.role == KV_ROLE_LEADER ||
                  (self && self->member.raft_id != 0); /* as authority_uri() */
        if (!state.ready || !registry_ready(r->registry) || !c->ca_roots ||
            !(self && (self->member.raft_id != 0 || self->host || state.attached)))
                return;
        if (state.term != r->term) /* the leader that was asked may be gone */
                r->answer_ms = r->next_ms = 0;
        r->term = state.term;
        if (now_ms >= r->answer_ms && r->answer_ms > 0)
                renewal_failed(r, -ETIMEDOUT, "no answer");
        if (r->answer_ms > 0 ||
            (now_ms < r->next_ms && r->roots_index == c->ca_roots_index && r->replica == replica))
                return;
        r->next_ms = now_ms + (renewal_has_two_keys(self) || identity_has_next_key(r->state_directory) ?
                                       RENEWAL_RETRY_MS :
                                       RENEWAL_CHECK_MS);
        r->roots_index = c->ca_roots_index;
        r->replica = replica;
        if (!renewal_is_due(r, c, self, replica ? TLS_ROLE_REPLICA : TLS_ROLE_HOST,
                            state.role == KV_ROLE_LEADER))
                return;
        r->answer_ms = now_ms + RENEWAL_ANSWER_MS;
        e = renewal_request(r, self, &state, &err);
        if (e < 0)
                renewal_failed(r, e, error_text(&err, e));
}

int renewal_rekey(Renewal *r, Error *err) {
        int e = identity_rekey(r->state_directory, err);

        if (e >= 0)
                r->next_ms = 0;
        return e;
}

/* -- Lifetime -- */

static const PeerFrameType renewal_frame_types[] = {
        { PEER_RENEWED, renewal_on_renewed },
};

int renewal_new(Renewal **ret, ComponentHost *host, Authority *authority) {
        Renewal *r = NEW0(Renewal, 1);

        if (!r)
                return -ENOMEM;
        *r = (Renewal) { .host = host,
                         .loop = host->io.loop,
                         .peers = host->peers,
                         .store = host->store,
                         .registry = host->registry,
                         .authority = authority,
                         .machine_id = host->settings->machine_id,
                         .state_directory = host->settings->state_directory };
        peers_register(r->peers, renewal_frame_types, ELEMENTS(renewal_frame_types), r);
        *ret = r;
        return 0;
}

Renewal *renewal_free(Renewal *r) {
        if (!r)
                return NULL;
        authority_cancel(r->authority, r);
        peers_unregister(r->peers, renewal_frame_types, ELEMENTS(renewal_frame_types));
        free(r);
        return NULL;
}
