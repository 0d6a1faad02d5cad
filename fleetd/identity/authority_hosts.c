/* Hosts that join with a token, hosts that renew their certificate, and this host itself: the record of the
 * host is written first, with the indexes on which it was decided, then the certificate is signed. */

#include "base/fault_point.h"
#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/voters_limit.h"

enum { RENEW_PROTOCOL = 1, WHY_SIZE = 80, REJECTION_NOTED_MS = 10000, RENEWING_MAX = 1000 };

/* Wrong secrets for one token. */
typedef struct WrongSecrets {
        Named named; /* the ID; first */
        unsigned n;
} WrongSecrets;

/* The renewals that one host has requested. */
typedef struct RenewalPace {
        Named named; /* the machine ID; first */
        Pace pace;
} RenewalPace;

/* -- Answers -- */

static void authority_send(AuthorityOp *op, const EnterAnswer *answer) {
        PeerSession *session = peers_session(op->authority->peers, op->session);
        _cleanup_writer_ Writer w = {};

        enter_answer_write(answer, &w);
        if (session && w.error == 0)
                (void) peer_reply(session, op->kind == AUTHORITY_RENEW ? PEER_RENEWED : PEER_ENTERED, w.bytes,
                                  w.size);
}

/* Hosts without a key of the cluster cause these rows, so their number is limited. The
 * machine ID of a joining host is not authenticated: the row is of no machine. */
static void authority_note_rejection(const AuthorityOp *op, const char *message) {
        bool joins = op->kind == AUTHORITY_JOIN;
        char reason[HISTORY_REASON_SIZE];
        Authority *a = op->authority;
        uint64_t now_ms = loop_now_ms(a->loop);

        if (joins)
                text_format(reason, sizeof(reason), "a host at %s, key %.8s: %s", op->remote, op->pin,
                            message);
        else
                text_format(reason, sizeof(reason), "%s", message);
        if (now_ms < a->rejection_noted_ms + REJECTION_NOTED_MS)
                return;
        a->rejection_noted_ms = now_ms;
        registry_note(a->registry,
                      &(HistoryNote) { .kind = HISTORY_REJECTED,
                                       .machine = joins ? NULL : op->machine,
                                       .reason = reason },
                      1);
}

/* Of joining hosts, one line per address and minute, as of all strangers. The host receives each message.
 * Only the log has room for the steps on a copy (join_decide() has the code for no other reason). */
static void authority_log_rejection(const AuthorityOp *op, int error, const char *message) {
        bool joins = op->kind == AUTHORITY_JOIN;
        char omitted[PEERS_OMITTED_SIZE] = "";

        if (!joins || peers_log_stranger(op->authority->peers, op->remote, omitted))
                log_warning(((LogFields) { .machine = joins ? NULL : op->machine,
                                           .error = error,
                                           .message_id = PEERS_MESSAGE_REJECTED }),
                            "rejected %s from %s: %s%s%s", op->name, op->remote, message,
                            joins && error == -EEXIST ? "; on a copy: " CLUSTER_NEW_MACHINE_ID : "", omitted);
}

void authority_host_refuse(AuthorityOp *op, int error, const char *message) {
        EnterAnswer answer = { .refusal = (char *) message };

        authority_log_rejection(op, error, message);
        if (error != -EBUSY) /* the host repeats the request */
                authority_note_rejection(op, message);
        authority_send(op, &answer);
}

/* The leader is a replica, also before its member key is written: hosts join through it at once. */
static TlsUri authority_uri(const AuthorityOp *op, uint64_t cluster_id) {
        const ClusterMachine *m = cluster_machine(registry_cluster(op->authority->registry), op->machine);
        bool replica = op->kind == AUTHORITY_ENROLL || (m && m->member.raft_id != 0);
        TlsUri uri = { .cluster_id = cluster_id, .role = replica ? TLS_ROLE_REPLICA : TLS_ROLE_HOST };

        if (op->kind == AUTHORITY_USER)
                uri.role = TLS_ROLE_USER;
        snprintf(uri.subject, sizeof(uri.subject), "%.64s",
                 op->kind == AUTHORITY_USER ? op->name : op->machine);
        return uri;
}

static int authority_sign(AuthorityOp *op, const CaRoot *root, Text *ret, Error *err) {
        Authority *a = op->authority;
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        TlsIssue issue = { .common_name = op->name,
                           .now_ms = op->issued_ms,
                           .lifetime_ms = op->lifetime_ms,
                           .request = op->request.csr,
                           .request_size = strlen(op->request.csr),
                           .root = root->pem,
                           .root_size = strlen(root->pem) };
        KvState state;
        int r;

        kv_state(a->store, &state);
        issue.uri = authority_uri(op, state.cluster_id);
        memcpy(issue.serial, op->serial, sizeof(issue.serial));
        r = keys_open_ca(a, root, &key, err);
        return r < 0 ? r : tls_issue(&issue, key, ret, err);
}

static void authority_answer(AuthorityOp *op, const Text *certificate) {
        _cleanup_text_ Text roots = {};
        EnterAnswer answer;

        authority_answer_of(op->authority, certificate, &roots, &answer);
        if (roots.error < 0 || certificate->error < 0) {
                authority_op_fail(op, -ENOMEM, "out of memory");
                return;
        }
        log_info(((LogFields) { .machine = op->machine }),
                 "issued a certificate for %s%s, key %.8s, valid for %llu h%s%s",
                 op->kind == AUTHORITY_USER ? "user " : "", op->name, op->pin,
                 (unsigned long long) (op->lifetime_ms / 3600000), *op->by ? ", by " : "", op->by);
        if (op->session == 0) {
                authority_op_end(op, &(AuthorityResult) { .answer = &answer });
                return;
        }
        authority_send(op, &answer);
        authority_op_free(op);
}

void authority_on_recorded(void *userdata, KvStatus status, const char *message, uint64_t index) {
        AuthorityOp *op = userdata;
        const CaRoots *roots = registry_cluster(op->authority->registry)->ca_roots;
        _cleanup_text_ Text certificate = {};
        Error err = {};
        int r;

        if (!authority_op_written(op, status, message))
                return;
        if (!roots) {
                authority_op_fail(op, -EAGAIN, "the cluster has no CA");
                return;
        }
        if (op->kind == AUTHORITY_JOIN)
                fault_point("join-recorded");
        r = authority_sign(op, ca_roots_current(roots), &certificate, &err);
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else
                authority_answer(op, &certificate);
}

/* -- Wrong secrets -- */

/* The count is this host's: each secret has 128 bits, and the limit only stops an attempt early. */
static void authority_count_wrong(AuthorityOp *op, const char *token) {
        PeerSession *session = peers_session(op->authority->peers, op->session);
        Authority *a = op->authority;
        WrongSecrets *wrong;

        if (session)
                peers_wrong_token(a->peers, session);
        if (!cluster_token(registry_cluster(a->registry), token))
                return;
        if (HASH_COUNT(a->wrong) >= TOKENS_MAX)
                named_clear(&a->wrong);
        wrong = named_get(&a->wrong, token, sizeof(*wrong));
        if (!wrong || ++wrong->n != TOKEN_WRONG_SECRETS_MAX)
                return;
        named_remove(&a->wrong, token);
        log_warning(NO_FIELDS, "%d wrong secrets for token %s: revoking it", TOKEN_WRONG_SECRETS_MAX, token);
        (void) authority_revoke_token(a, token, NULL, NULL, NULL, &(Error) {});
}

/* -- Decisions -- */

/* Whether the request is of this host, which leads a cluster of its own, for example after a restore: the
 * tree may be older than its key, and no other host can decide. */
static bool authority_is_alone(const AuthorityOp *op) {
        KvState state;

        kv_state(op->authority->store, &state);
        return op->session == 0 && state.role == KV_ROLE_LEADER && state.n_members == 1;
}

static void authority_replace_pins(const AuthorityOp *op, Pins *ret) {
        *ret = (Pins) { .n = 1 };
        memcpy(ret->items[0], op->pin, DIGEST_SIZE);
}

/* Whether a host without a record is of the cluster: a member, or by the key file, with which all hosts
 * authenticate each other before they have certificates. */
static bool authority_is_host(const AuthorityOp *op, const ClusterMachine *m) {
        return m && (m->member.raft_id != 0 || (!op->used_pin[0] && m->presence_index != 0));
}

/* A host of the cluster has one of its pins, or none yet. */
static int authority_decide_renewal(const AuthorityOp *op, const Cluster *c, HostRecord *ret, Error *err) {
        const RenewingHost host = {
                .machine_id = op->machine, .pin = op->pin, .used_pin = op->used_pin, .before = &op->pins
        };
        const ClusterMachine *m = cluster_machine(c, op->machine);
        bool alone = authority_is_alone(op);
        int r;

        if (m && m->removed && !alone)
                return error_set(err, -EKEYREVOKED, "this host was removed from the cluster");
        if (m && m->host) {
                *ret = *m->host;
                r = renewal_decide(&host, &ret->pins, err);
                if (r != -EKEYREJECTED || !alone)
                        return r;
                *err = (Error) {};
                authority_replace_pins(op, &ret->pins);
                return 0;
        }
        if (op->kind == AUTHORITY_RENEW && !authority_is_host(op, m))
                return error_set(err, -EKEYREJECTED,
                                 "the cluster does not have this host; create a token on one of its hosts: "
                                 "fleetctl token");
        *ret = (HostRecord) { .joined_ms = op->issued_ms };
        authority_replace_pins(op, &ret->pins);
        return 0;
}

static int authority_decide(AuthorityOp *op, const Cluster *c, const ClusterToken **ret_token, Error *err) {
        const JoiningHost host = { .machine_id = op->machine,
                                   .name = op->name,
                                   .address = op->remote,
                                   .pin = op->pin,
                                   .token = op->request.token,
                                   .secret_hash = op->secret_hash,
                                   .level = op->request.level,
                                   .exposed = op->request.exposed };
        JoinDecision decision;
        KvState state;
        int r;

        *ret_token = NULL;
        if (op->kind != AUTHORITY_JOIN)
                return authority_decide_renewal(op, c, &op->host, err);
        kv_state(op->authority->store, &state);
        r = join_decide(c, &host, state.level,
                        voters_hosts_limit(c, (unsigned) op->authority->host->settings->voters),
                        op->issued_ms, &decision, err);
        if (r == -EKEYREJECTED)
                authority_count_wrong(op, host.token);
        if (r == -EEXIST)
                peers_report_key(op->authority->peers, op->machine);
        if (r < 0)
                return r;
        op->host = decision.host;
        *ret_token = decision.token;
        return 0;
}

/* Return the reason of a certificate, for the history. Equal reasons of renewals are one row with a count. */
static const char *authority_why_issued(const AuthorityOp *op, const ClusterMachine *m,
                                        char ret[static WHY_SIZE]) {
        const HostRecord *known = m ? m->host : NULL;

        snprintf(ret, WHY_SIZE, "%s, key %.8s%s", known ? "renewed" : "issued", op->pin,
                 known && known->expires_ms > 0 && known->expires_ms <= op->issued_ms ?
                         ", after the former one had expired" :
                         "");
        return ret;
}

static int authority_write_host(AuthorityOp *op, const Cluster *c, const ClusterToken *token) {
        const ClusterMachine *m = cluster_machine(c, op->machine);
        TokenRecord record = token ? token->record : (TokenRecord) {}; /* borrows its metadata */
        TokenChange spent = { .token = &record };
        char reason[HISTORY_REASON_SIZE], why[WHY_SIZE];
        HostChange change = { .machine = op->machine,
                              .host = &op->host,
                              .certificate = authority_why_issued(op, m, why) };

        op->host.expires_ms = op->issued_ms + TLS_LEAF_LIFETIME_MS;
        hex_print(op->serial, sizeof(op->serial), op->host.serial);
        if (token) {
                record.uses--;
                spent.id = token->name;
                spent.ttl_ms = record.expires_ms + TOKEN_KEPT_MS - op->issued_ms;
                text_format(reason, sizeof(reason), "used, %llu uses left", (unsigned long long) record.uses);
                spent.reason = reason;
                change.token = &spent;
        }
        return registry_set_host(op->authority->registry, &change, authority_on_recorded, op);
}

static void authority_on_synced(void *userdata, KvStatus status) {
        AuthorityOp *op = userdata;

        op->syncing = false;
        op->current = status == KV_OK;
        authority_op_again(op);
}

/* Wait until the view of this host suffices for a decision: -EAGAIN, and a later step continues. Then check
 * what this host needs to sign, before a use of a token is spent. */
static int authority_check_ready(AuthorityOp *op, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        kv_state(a->store, &state);
        if (state.attached) /* its part of the tree lacks the keys of the CA */
                return error_set(err, -EAGAIN, "this host does not have its replica yet; try again");
        if (!state.ready || !registry_ready(a->registry))
                return error_set(err, -EAGAIN, "the cluster has no leader now; try again");
        if (op->session != 0 && !op->current) {
                op->syncing = op->writing = true;
                op->sync = (KvSync) { .done = authority_on_synced, .userdata = op };
                kv_sync(a->store, &op->sync);
                return error_set(err, -EAGAIN, "no majority of the cluster answers; try again");
        }
        if (op->session != 0 && !registry_is_current(a->registry))
                return error_set(err, -EAGAIN, "this host is reading the state of the cluster; try again");
        if (!c->ca_roots)
                return error_set(err, -ENOKEY,
                                 "the cluster has no certificates: create a token on one of its hosts: "
                                 "fleetctl token");
        return keys_open_ca(a, ca_roots_current(c->ca_roots), &key, err);
}

void authority_host_step(AuthorityOp *op) {
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        const ClusterToken *token = NULL;
        Error err = {};
        int r;

        r = authority_check_ready(op, &err);
        if (r == -EAGAIN && loop_now_ms(a->loop) < op->deadline_ms) {
                if (!op->writing)
                        authority_op_again(op);
                return;
        }
        if (r >= 0 && !authority_may_issue(a)) {
                authority_op_again(op);
                return;
        }
        op->issued_ms = loop_wall_ms(a->loop);
        if (r >= 0)
                r = authority_decide(op, c, &token, &err);
        if (r >= 0)
                r = secret_random(op->serial, sizeof(op->serial));
        if (r >= 0)
                r = authority_write_host(op, c, token);
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else
                op->writing = true;
}

/* -- Requests -- */

int authority_read_csr(AuthorityOp *op, Error *err) {
        TlsPin pin;
        int r;

        r = tls_request_read(op->request.csr, strlen(op->request.csr), &pin, err);
        if (r >= 0)
                tls_pin_print(&pin, op->pin);
        return r;
}

/* Keep the recorded keys of the host that sent the request, and the key by which it is authenticated. */
static void authority_keep_keys(AuthorityOp *op, const TlsPin *used) {
        const ClusterMachine *m = cluster_machine(registry_cluster(op->authority->registry), op->machine);

        if (used)
                tls_pin_print(used, op->used_pin);
        if (m && m->host)
                op->pins = m->host->pins;
}

/* Begin an operation for the host of a session. NULL: the frame is dropped; the host repeats it. */
static AuthorityOp *authority_begin(Authority *a, AuthorityOpKind kind, PeerSession *session) {
        AuthorityOp *op = authority_op_new(a, kind);
        const PeerHandshake *peer = peer_handshake(session);

        if (!op)
                return NULL;
        op->session = peer_number(session);
        snprintf(op->machine, sizeof(op->machine), "%s", peer->machine_id);
        snprintf(op->name, sizeof(op->name), "%s", peer->name);
        snprintf(op->remote, sizeof(op->remote), "%s", peer_remote(session));
        authority_keep_keys(op, peer_pin(session));
        return op;
}

static int authority_check_join(AuthorityOp *op, const void *payload, size_t size, Error *err) {
        TRY(enter_request_read(payload, size, &op->request, err));
        if (token_secret_hash(op->request.secret, op->secret_hash) < 0)
                return error_set(err, -EIO, "the secret of the token cannot be checked");
        return authority_read_csr(op, err);
}

static void authority_on_enter(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        AuthorityOp *op = authority_begin(userdata, AUTHORITY_JOIN, session);
        Error err = {};
        int r;

        if (!op)
                return;
        fault_point("join-requested");
        r = authority_check_join(op, payload, size, &err);
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
}

static int authority_check_renewal(AuthorityOp *op, const void *payload, size_t size, Error *err) {
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);

        op->request.csr = read_string(&r, ENTER_CSR_MAX);
        if (reader_end(&r) < 0 || version != RENEW_PROTOCOL)
                return error_set(err, -EBADMSG, "invalid renewal; upgrade the older of the two hosts");
        return authority_read_csr(op, err);
}

/* Return whether the host may request a renewal now: one at a time, at a pace, so that its requests delay no
 * others. A renewal is a write, a signature and a line in the log. */
static bool authority_may_renew(Authority *a, const char *machine) {
        const AuthorityOp *op;
        RenewalPace *x;

        LIST_FOREACH(op, &a->operations, ops)
                if (op->kind == AUTHORITY_RENEW && streq(op->machine, machine))
                        return false;
        if (HASH_COUNT(a->renewing) >= RENEWING_MAX && !named_find(a->renewing, machine))
                named_clear(&a->renewing);
        x = named_get(&a->renewing, machine, sizeof(*x));
        return x &&
               pace_try(&x->pace, AUTHORITY_RENEWALS_SEC, AUTHORITY_RENEWALS_BURST, loop_now_ms(a->loop));
}

static void authority_on_renew(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        AuthorityOp *op;
        Error err = {};
        int r;

        if (!authority_may_renew(userdata, peer_handshake(session)->machine_id))
                return;
        op = authority_begin(userdata, AUTHORITY_RENEW, session);
        if (!op)
                return;
        r = authority_check_renewal(op, payload, size, &err);
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
}

int authority_enroll(Authority *a, const char *csr, AuthorityDone *done, void *userdata, Error *err) {
        AuthorityOp *op;
        int r;

        TRY(authority_op_begin(a, AUTHORITY_ENROLL, done, userdata, &op, err));
        snprintf(op->machine, sizeof(op->machine), "%s", a->machine_id);
        snprintf(op->name, sizeof(op->name), "%s", peers_self(a->peers)->name);
        authority_keep_keys(op, peers_own_pin(a->peers));
        op->request.csr = strdup(csr);
        r = op->request.csr ? authority_read_csr(op, err) : error_set(err, -ENOMEM, "out of memory");
        if (r < 0)
                authority_op_free(op);
        return r;
}

/* -- Lifetime -- */

static const PeerFrameType host_frame_types[] = {
        { PEER_ENTER, authority_on_enter },
        { PEER_RENEW, authority_on_renew },
};

void authority_hosts_init(Authority *a) {
        peers_register(a->peers, host_frame_types, ELEMENTS(host_frame_types), a);
}

void authority_hosts_done(Authority *a) {
        peers_unregister(a->peers, host_frame_types, ELEMENTS(host_frame_types));
        named_clear(&a->wrong);
        named_clear(&a->renewing);
}
