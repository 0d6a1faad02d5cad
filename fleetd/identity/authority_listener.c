/* Certificates of the listeners at which users arrive. They have no record, since clients verify them by the
 * roots. A host without a replica does not have the cluster key: the replica in use signs for it.
 *
 * PEER_CERTIFY: u8 version, string request (PEM), varint n, and n strings: the names. PEER_CERTIFIED is an
 * EnterAnswer. */

#include "fleetd/identity/authority_internal.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/slice.h"

enum {
        CERTIFY_PROTOCOL = 1,
        CERTIFY_ANSWER_MS = 5000,
        CERTIFY_NAME_MAX = 256, /* bytes */
};

/* A request for the certificate of a listener; 'csr' is PEM. */
typedef struct Certify {
        const char *machine, *name; /* of the host */
        const char *csr;
        const char *const *names;
        size_t n_names;
} Certify;

static int certify_sign(Authority *a, const Certify *request, Text *ret, Error *err) {
        const CaRoot *root = ca_roots_current(registry_cluster(a->registry)->ca_roots);
        _cleanup_(tls_private_key_freep) TlsPrivateKey *ca_key = NULL;
        TlsIssue issue = { .uri.role = TLS_ROLE_LISTENER,
                           .common_name = request->name,
                           .names = request->names,
                           .n_names = request->n_names,
                           .now_ms = loop_wall_ms(a->loop),
                           .lifetime_ms = TLS_LEAF_LIFETIME_MS,
                           .request = request->csr,
                           .request_size = strlen(request->csr),
                           .root = root->pem,
                           .root_size = strlen(root->pem) };
        KvState state;
        int r;

        kv_state(a->store, &state);
        issue.uri.cluster_id = state.cluster_id;
        snprintf(issue.uri.subject, sizeof(issue.uri.subject), "%s", request->machine);
        TRY(keys_open_ca(a, root, &ca_key, err));
        if (secret_random(issue.serial, sizeof(issue.serial)) < 0)
                return error_set(err, -EIO, "the system has no random numbers");
        r = tls_issue(&issue, ca_key, ret, err);
        return r < 0 ? r : ret->error;
}

static int certify_check_ready(const Authority *a, Error *err) {
        if (!registry_ready(a->registry))
                return error_set(err, -EAGAIN, "the state of the cluster is not known yet");
        if (!registry_cluster(a->registry)->ca_roots)
                return error_set(
                        err, -ENOKEY,
                        "the cluster has no CA; the first 'fleetctl cert' or 'fleetctl token' creates it");
        return 0;
}

/* -- The host -- */

static void certify_forget(ListenerRequest *l) {
        tls_private_key_free(l->key);
        free(l->certificate);
        *l = (ListenerRequest) {};
}

/* Send the request to the replica in use: -EINPROGRESS. */
static int certify_request(Authority *a, TlsPrivateKey *key, const Certify *request, Error *err) {
        const char *replica = kv_replica_in_use(a->store);
        _cleanup_writer_ Writer w = {};
        int r;

        write_u8(&w, CERTIFY_PROTOCOL);
        write_string(&w, request->csr);
        write_varint(&w, request->n_names);
        for (size_t i = 0; i < request->n_names; i++)
                write_string(&w, request->names[i]);
        r = w.error < 0 ? w.error : peers_send(a->peers, replica, PEER_CERTIFY, w.bytes, w.size);
        if (r < 0) {
                tls_private_key_free(key);
                return error_set(err, r, "the replica in use cannot be reached: %s", strerror(-r));
        }
        a->listener = (ListenerRequest) { .key = key, .until_ms = loop_now_ms(a->loop) + CERTIFY_ANSWER_MS };
        return error_set(err, -EINPROGRESS, "the replica in use has not issued its certificate yet");
}

static void authority_on_certified(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                   size_t size) {
        ListenerRequest *l = &((Authority *) userdata)->listener;
        _cleanup_enter_answer_ EnterAnswer answer = {};

        if (!l->key || l->certificate || enter_answer_read(payload, size, &answer, &(Error) {}) < 0)
                return;
        if (answer.refusal)
                snprintf(l->refusal, sizeof(l->refusal), "%s", answer.refusal);
        else
                l->certificate = TAKE_PTR(answer.certificate);
}

static int certify_finish(Authority *a, TlsPrivateKey *key, const char *certificate, TlsCredentials **ret,
                          Error *err) {
        _cleanup_text_ Text pem = {};

        authority_append_roots(a, &pem);
        if (pem.error < 0)
                return error_set(err, -ENOMEM, "out of memory");
        return tls_credentials_new(key, certificate, pem.chars, ret, err);
}

/* Take the answer to the last request: 1; 0: there is none, and another request is to be sent. */
static int certify_take(Authority *a, TlsCredentials **ret, Error *err) {
        ListenerRequest *l = &a->listener;
        int r = 0;

        if (l->certificate)
                r = certify_finish(a, l->key, l->certificate, ret, err) ?: 1;
        else if (l->refusal[0])
                r = error_set(err, -EACCES, "%s", l->refusal);
        else if (l->key && loop_now_ms(a->loop) < l->until_ms)
                return error_set(err, -EINPROGRESS, "the replica in use has not issued its certificate yet");
        certify_forget(l);
        return r;
}

int authority_certify_listener(Authority *a, const char *const *names, size_t n_names, TlsCredentials **ret,
                               Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_text_ Text certificate = {}, csr = {};
        Certify request = { .names = names, .n_names = n_names };
        int r;

        r = certify_check_ready(a, err);
        if (r >= 0 && kv_is_attached(a->store))
                r = certify_take(a, ret, err);
        if (r != 0)
                return MIN(r, 0);
        r = tls_private_key_new(&key, err);
        if (r >= 0)
                r = tls_request_create(key, &csr, err);
        if (r < 0 || csr.error < 0)
                return r < 0 ? r : error_set(err, -ENOMEM, "out of memory");
        request.machine = a->machine_id;
        request.name = peers_self(a->peers)->name;
        request.csr = csr.chars;
        if (kv_is_attached(a->store))
                return certify_request(a, TAKE_PTR(key), &request, err);
        r = certify_sign(a, &request, &certificate, err);
        return r < 0 ? r : certify_finish(a, key, certificate.chars, ret, err);
}

/* -- The replica -- */

/* A restricted host could show its users another cluster in the name of any other host. */
static int certify_check_host(const Authority *a, const PeerSession *session, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *m = cluster_machine(c, peer_handshake(session)->machine_id);

        if (!m || m->removed)
                return error_set(err, -EKEYREVOKED, "this host is not of the cluster");
        if (m->host && m->host->restricted)
                return error_set(err, -EACCES, "this host is restricted: it gets no certificate for users");
        if (!(slice_groups(c, m->id) & 1u << SLICE_USERS)) /* it would reject all users as unknown */
                return error_set(err, -EAGAIN,
                                 "the facts of this host do not say yet that it accepts users; its agent "
                                 "publishes them (Agent=yes)");
        return 0;
}

static int certify_answer(Authority *a, const PeerSession *session, const void *payload, size_t size,
                          Text *ret, Error *err) {
        const PeerHandshake *host = peer_handshake(session);
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        _cleanup_free_ char *csr = read_string(&r, ENTER_CSR_MAX);
        Certify request = { .machine = host->machine_id, .name = handshake_name(host), .csr = csr };
        uint64_t n = read_varint(&r);
        _cleanup_names_ Names names = {};
        int e = 0;

        for (uint64_t i = 0; i < n && n <= TLS_NAMES_MAX && !r.failed && e >= 0; i++) {
                _cleanup_free_ char *name = read_string(&r, CERTIFY_NAME_MAX);

                e = name ? names_add(&names, name, strlen(name)) : -EBADMSG;
        }
        if (e < 0 || !csr || reader_end(&r) < 0 || version != CERTIFY_PROTOCOL || n > TLS_NAMES_MAX)
                return error_set(err, -EBADMSG, "invalid request; upgrade the older of the two hosts");
        e = certify_check_ready(a, err);
        if (e >= 0)
                e = certify_check_host(a, session, err);
        if (e >= 0 && !authority_may_issue(a))
                e = error_set(err, -EAGAIN, "too many certificates at once; trying again");
        request.names = (const char *const *) names.items;
        request.n_names = names.n;
        return e < 0 ? e : certify_sign(a, &request, ret, err);
}

static void authority_on_certify(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                 size_t size) {
        _cleanup_text_ Text certificate = {}, roots = {};
        _cleanup_writer_ Writer w = {};
        EnterAnswer answer = {};
        Authority *a = userdata;
        Error err = {};
        int r;

        r = certify_answer(a, session, payload, size, &certificate, &err);
        if (r < 0)
                answer.refusal = (char *) error_text(&err, r);
        else
                authority_answer_of(a, &certificate, &roots, &answer);
        enter_answer_write(&answer, &w);
        if (w.error == 0 && roots.error == 0)
                (void) peer_reply(session, PEER_CERTIFIED, w.bytes, w.size);
}

/* -- Lifetime -- */

static const PeerFrameType listener_frame_types[] = {
        { PEER_CERTIFY, authority_on_certify },
        { PEER_CERTIFIED, authority_on_certified },
};

void authority_listener_init(Authority *a) {
        peers_register(a->peers, listener_frame_types, ELEMENTS(listener_frame_types), a);
}

void authority_listener_done(Authority *a) {
        peers_unregister(a->peers, listener_frame_types, ELEMENTS(listener_frame_types));
        certify_forget(&a->listener);
}
