/* The authority on a host with a real loop, store and sessions. The test plays the hosts that join. */
#include <sys/stat.h>
#include "tests/lib/test.h"
#include "base/base64.h"
#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"

enum { GUESTS = 50 };

/* Another host: its sessions, its key, and what it has received. */
typedef struct Guest {
        struct Fixture *fixture;
        Peers *peers;
        TlsPrivateKey *key;
        char id[MACHINE_ID_SIZE];
        EnterAnswer answer;
        unsigned answers;
        ClusterKey cluster_key;
        unsigned keys;   /* received */
        bool silent;     /* does not confirm the cluster key */
        PeerFrame frame; /* of the last answer */
} Guest;

typedef struct Fixture {
        Host *host;
        Authority *authority;
        Timer tick;
        char address[ADDRESS_SIZE];
        Guest guests[GUESTS];
        size_t n_guests;

        /* of the last token */
        unsigned tokens;
        int error;
        char message[ERROR_MESSAGE_MAX + 1], text[TOKEN_TEXT_MAX + 1], id[TOKEN_ID_SIZE];
        /* of the last enrolment */
        unsigned enrolled;
        EnterAnswer own;
} Fixture;

static const Cluster *view(Fixture *f) {
        return registry_cluster(f->host->registry);
}

static void on_tick(void *userdata) {
        Fixture *f = userdata;

        authority_tick(f->authority);
        assert_int_equal(timer_start(&f->tick, f->host->loop, 20), 0);
}

/* Propose a command, and wait. */
static void propose(Fixture *f, KvCommand command) {
        command.internal = true;
        f->host->asked++;
        assert_int_equal(
                registry_propose(
                        f->host->registry,
                        &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &command, .n_writes = 1 },
                        host_on_done, f->host),
                0);
        HOST_UNTIL(f->host, f->host->answered == f->host->asked);
        assert_int_equal(f->host->status, KV_OK);
}

/* Write the member key of this host. */
static void become_member(Fixture *f) {
        char path[96], value[64];
        KvState kv;

        kv_state(f->host->store, &kv);
        snprintf(path, sizeof(path), "/_fleet/cluster/member/%s", f->host->id);
        snprintf(value, sizeof(value), "{\"raftId\":%llu}", (unsigned long long) kv.raft_id);
        propose(f, (KvCommand) { .op = KV_SET, .key = kv_string(path), .value = kv_string(value) });
        HOST_UNTIL(f->host, cluster_machine(view(f), f->host->id));
}

static int low_setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        Error err = {};

        f->host = host_new(false);
        snprintf(f->address, sizeof(f->address), "127.0.0.1:%d", scratch_port());
        f->host->settings.listen_peer = f->address;
        assert_int_equal(peers_listen(f->host->peers, f->address, &err), 0);
        assert_int_equal(authority_new(&f->authority, &f->host->components), 0);
        f->tick = TIMER(on_tick, f);
        on_tick(f);
        *state = f;
        return 0;
}

static int setup(void **state) {
        int r = low_setup(state);

        host_raise(((Fixture *) *state)->host, KV_LEVEL_IDENTITY);
        return r;
}

static void on_closed(void *userdata) {
        *(Peers **) userdata = NULL;
}

static int teardown(void **state) {
        Fixture *f = *state;

        for (size_t i = 0; i < f->n_guests; i++) {
                Guest *g = &f->guests[i];

                peers_close(g->peers, "", on_closed, &g->peers);
                HOST_UNTIL(f->host, !g->peers);
                tls_private_key_free(g->key);
                enter_answer_done(&g->answer);
        }
        log_set_sink(NULL, NULL);
        timer_stop(&f->tick);
        authority_free(f->authority);
        enter_answer_done(&f->own);
        host_free(f->host);
        free(f);
        return 0;
}

/* -- Tokens -- */

static void on_token(void *userdata, int error, const char *message, const AuthorityResult *token) {
        Fixture *f = userdata;

        f->tokens++;
        f->error = error;
        snprintf(f->message, sizeof(f->message), "%s", message ?: "");
        snprintf(f->text, sizeof(f->text), "%s", token ? token->text : "");
        snprintf(f->id, sizeof(f->id), "%s", token ? token->id : "");
}

static int create_token(Fixture *f, TokenRequest request) {
        unsigned before = f->tokens;
        Error err = {};
        int r;

        r = authority_create_token(f->authority, &request, on_token, f, &err);
        if (r < 0) {
                snprintf(f->message, sizeof(f->message), "%s", err.message);
                return r;
        }
        HOST_UNTIL(f->host, f->tokens > before);
        return f->error;
}

static Verdict problem_of(Fixture *f) {
        Verdict problem;

        authority_problem(f->authority, &problem);
        return problem;
}

static Token read_token(Fixture *f) {
        Token token = {};
        Error err = {};

        assert_int_equal(token_read(f->text, &token, &err), 0);
        return token;
}

static void hex_of(const void *bytes, size_t size, char *ret) {
        for (size_t i = 0; i < size; i++)
                snprintf(ret + 2 * i, 3, "%02x", ((const uint8_t *) bytes)[i]);
}

/* -- Hosts -- */

static void on_entered(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size) {
        Guest *g = userdata;
        Error err = {};

        enter_answer_done(&g->answer);
        assert_int_equal(enter_answer_read(payload, size, &g->answer, &err), 0);
        g->frame = type;
        g->answers++;
}

static void on_cluster_key(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Guest *g = userdata;
        _cleanup_writer_ Writer w = {};
        Reader r = reader_over(payload, size);

        assert_int_equal(read_u8(&r), 1);
        g->cluster_key.number = read_u64(&r);
        memcpy(g->cluster_key.bytes, read_raw(&r, SEAL_KEY_BYTES), SEAL_KEY_BYTES);
        assert_int_equal(reader_end(&r), 0);
        g->keys++;
        write_u8(&w, 1);
        write_u64(&w, g->cluster_key.number);
        if (!g->silent)
                assert_int_equal(peer_reply(session, PEER_CLUSTER_KEY_STORED, w.bytes, w.size), 0);
}

static const PeerFrameType guest_frames[] = {
        { PEER_ENTERED, on_entered },
        { PEER_RENEWED, on_entered },
        { PEER_CLUSTER_KEY, on_cluster_key },
};

/* A host with the ID "bbb...", "ccc...", connected to the authority; with 'address', also in the other
 * direction. */
static Guest *guest_new(Fixture *f, const char *address) {
        Guest *g = &f->guests[f->n_guests];
        PeersOptions options = { .self = { .nonce = 2 + f->n_guests } };
        PeerAddress to = {}, back = {};
        Error err = {};

        if (f->n_guests == 0)
                memset(g->id, 'b', MACHINE_ID_SIZE - 1);
        else
                snprintf(g->id, sizeof(g->id), "%032zx", f->n_guests);
        f->n_guests++;
        g->fixture = f;
        memcpy(options.self.machine_id, g->id, sizeof(g->id));
        snprintf(options.self.name, sizeof(options.self.name), "%.4s", g->id);
        assert_int_equal(peers_new(&g->peers, f->host->loop, f->host->network, &options), 0);
        peers_register(g->peers, guest_frames, ELEMENTS(guest_frames), g);
        assert_int_equal(tls_private_key_new(&g->key, &err), 0);
        snprintf(to.address, sizeof(to.address), "%s", f->address);
        assert_int_equal(peers_set_known(g->peers, &to, 1), 0);
        HOST_UNTIL(f->host, peers_dialed(g->peers, f->host->id));
        if (address) {
                assert_int_equal(peers_listen(g->peers, address, &err), 0);
                snprintf(back.address, sizeof(back.address), "%s", address);
                assert_int_equal(peers_set_known(f->host->peers, &back, 1), 0);
                HOST_UNTIL(f->host, peers_dialed(f->host->peers, g->id));
        }
        return g;
}

static void send_request(Guest *g, const Token *token) {
        _cleanup_text_ Text csr = {};
        _cleanup_writer_ Writer w = {};
        EnterRequest request = { .level = KV_LEVEL_MAX };
        Error err = {};

        assert_int_equal(tls_request_create(g->key, &csr, &err), 0);
        memcpy(request.token, token->id, sizeof(request.token));
        memcpy(request.secret, token->secret, sizeof(request.secret));
        request.csr = csr.chars;
        enter_request_write(&request, &w);
        assert_int_equal(peers_send(g->peers, g->fixture->host->id, PEER_ENTER, w.bytes, w.size), 0);
}

static void send_renewal(Guest *g) {
        _cleanup_text_ Text csr = {};
        _cleanup_writer_ Writer w = {};

        assert_int_equal(tls_request_create(g->key, &csr, &(Error) {}), 0);
        write_u8(&w, 1);
        write_string(&w, csr.chars);
        assert_int_equal(peers_send(g->peers, g->fixture->host->id, PEER_RENEW, w.bytes, w.size), 0);
}

/* Return the refusal, or "" with a certificate. */
static const char *wait_answer(Guest *g, unsigned n) {
        HOST_UNTIL(g->fixture->host, g->answers == n);
        return g->answer.refusal ?: "";
}

static const char *join(Guest *g, const Token *token) {
        unsigned n = g->answers + 1;

        send_request(g, token);
        return wait_answer(g, n);
}

static void check_certificate(Guest *g, TlsRole role) {
        TlsPin pin, own;
        TlsCertificate leaf, root;
        char id[TLS_PIN_SIZE];
        Error err = {};

        assert_int_equal(
                tls_certificate_read(g->answer.certificate, strlen(g->answer.certificate), &leaf, &err), 0);
        assert_int_equal(tls_certificate_read(g->answer.roots, strlen(g->answer.roots), &root, &err), 0);
        tls_private_key_pin(g->key, &own);
        assert_true(tls_pin_equal(&leaf.pin, &own));
        assert_string_equal(leaf.uri.subject, g->id);
        assert_int_equal(leaf.uri.role, role);
        assert_true(leaf.uri.cluster_id == g->answer.cluster_id && leaf.uri.cluster_id != 0);
        tls_pin_print(&root.pin, id);
        assert_string_equal(ca_roots_current(view(g->fixture)->ca_roots)->id, id);
        pin = leaf.pin;
        tls_pin_print(&pin, id);
        assert_true(pins_have(&cluster_machine(view(g->fixture), g->id)->host->pins, id));
}

/* -- The history -- */

static int on_row(void *userdata, const KvHistoryRow *row) {
        HistoryEvent e;
        Text *t = userdata;

        assert_int_equal(history_decode(row->body, &e), 0);
        text_printf(t, "%s %.4s%s%s %s\n", history_kind_to_string((HistoryKind) e.kind), e.machine,
                    *e.user ? " by " : "", e.user, e.reason);
        return 1;
}

static unsigned count_rows(Fixture *f, const char *line) {
        _cleanup_text_ Text t = {};
        unsigned n = 0;

        assert_int_equal(kv_local_history(f->host->store, 0, false, on_row, &t), 0);
        for (const char *at = t.chars; at && (at = strstr(at, line)); at++)
                n++;
        return n;
}

/* -- Tests -- */

static void tokens_begin_at_their_feature_level(void **state) {
        Fixture *f = *state;

        assert_int_equal(create_token(f, (TokenRequest) {}), -EOPNOTSUPP);
        assert_non_null(
                strstr(f->message,
                       "tokens and certificates begin at feature level 5, and this cluster has level 1"));
        assert_null(view(f)->ca_roots);
}

/* What a backup contains of the private key of the CA. */
static void assert_private_key_is_sealed(const char *text) {
        _cleanup_free_ char *bytes = NULL;
        size_t size;

        assert_int_equal(base64_decode(text, strlen(text), &bytes, &size), 0);
        assert_null(memmem(bytes, size, "PRIVATE KEY", strlen("PRIVATE KEY")));
}

static void the_first_token_creates_the_ca(void **state) {
        Fixture *f = *state;
        _cleanup_cluster_key_ ClusterKey key = {};
        char root[DIGEST_SIZE], hash[TOKEN_HASH_SIZE];
        const ClusterToken *stored;
        KvState kv;
        Token token;
        Error err = {};

        assert_int_equal(create_token(f, (TokenRequest) { .by = "root", .uses = 3 }), 0);
        token = read_token(f);
        kv_state(f->host->store, &kv);
        assert_true(token.cluster_id == kv.cluster_id);
        hex_of(token.root, sizeof(token.root), root);
        assert_string_equal(ca_roots_current(view(f)->ca_roots)->id, root);
        assert_int_equal(token.n_endpoints, 1);
        assert_string_equal(token.endpoints[0], f->address);
        assert_int_equal(cluster_key_read(f->host->scratch, 1, &key, &err), 0);
        assert_int_equal(view(f)->ca_keys->items[0].cluster_key, 1);
        assert_private_key_is_sealed(view(f)->ca_keys->items[0].sealed);

        stored = cluster_token(view(f), token.id);
        assert_non_null(stored);
        assert_int_equal(token_secret_hash(token.secret, hash), 0);
        assert_string_equal(stored->record.hash, hash);
        assert_string_equal(stored->record.by, "root");
        assert_int_equal(stored->record.uses, 3);

        /* The second one uses the same CA. */
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        assert_memory_equal(read_token(f).root, token.root, sizeof(token.root));
        assert_string_not_equal(read_token(f).id, token.id);
        assert_int_equal(view(f)->ca_roots->n, 1);
        assert_int_equal(create_token(f, (TokenRequest) { .restricted = true }), -EINVAL);
}

static void a_host_joins_once_with_a_token(void **state) {
        Fixture *f = *state;
        Guest *g = guest_new(f, NULL), *other = guest_new(f, NULL);
        const HostRecord *host;
        Token token;

        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        token = read_token(f);
        assert_string_equal(join(g, &token), "");
        check_certificate(g, TLS_ROLE_HOST);
        assert_int_equal(g->answer.n_endpoints, 1);
        host = cluster_machine(view(f), g->id)->host;
        assert_string_equal(host->token, token.id);
        assert_int_equal(strlen(host->serial), 32);
        assert_true(host->expires_ms > loop_wall_ms(f->host->loop));
        assert_int_equal(cluster_token(view(f), token.id)->record.uses, 0);

        /* A repetition is the same join. */
        assert_string_equal(join(g, &token), "");
        check_certificate(g, TLS_ROLE_HOST);
        assert_non_null(strstr(join(other, &token), "was used by bbbbbbbb"));
        assert_null(cluster_machine(view(f), other->id));
}

static void one_use_admits_one_of_several_hosts(void **state) {
        Fixture *f = *state;
        unsigned admitted = 0;
        Token token;

        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        token = read_token(f);
        for (unsigned i = 0; i < GUESTS; i++)
                guest_new(f, NULL);
        for (unsigned i = 0; i < GUESTS; i++)
                send_request(&f->guests[i], &token);
        for (unsigned i = 0; i < GUESTS; i++) {
                const char *refusal = wait_answer(&f->guests[i], 1);

                admitted += !*refusal;
                if (*refusal)
                        assert_non_null(strstr(refusal, "was used by"));
        }
        assert_int_equal(admitted, 1);
}

static void wrong_secrets_revoke_a_token(void **state) {
        Fixture *f = *state;
        Guest *g = guest_new(f, NULL);
        Token token, wrong;

        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        token = wrong = read_token(f);
        wrong.secret[0] ^= 1;
        for (unsigned i = 0; i < TOKEN_WRONG_SECRETS_MAX; i++)
                assert_non_null(strstr(join(g, &wrong), "wrong secret"));
        HOST_UNTIL(f->host, cluster_token(view(f), token.id)->record.revoked);
        assert_non_null(strstr(join(g, &token), "was revoked"));
}

static void a_revoked_token_admits_no_host(void **state) {
        Fixture *f = *state;
        Guest *g = guest_new(f, NULL);
        Token token;
        Error err = {};

        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        token = read_token(f);
        assert_int_equal(
                authority_revoke_token(f->authority, "000000000000", "root", host_on_done, f->host, &err),
                -ENOENT);
        assert_int_equal(host_wait(f->host, authority_revoke_token(f->authority, token.id, "root",
                                                                   host_on_done, f->host, &err)),
                         KV_OK);
        assert_int_equal(authority_revoke_token(f->authority, token.id, "root", host_on_done, f->host, &err),
                         -EALREADY);
        assert_non_null(strstr(join(g, &token), "was revoked"));
}

/* Without the cluster key, a host spends no use of a token. A key that an administrator can make usable is
 * not replaced. */
static void a_host_without_the_cluster_key_signs_nothing(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *path = scratch_path(f->host->scratch, "secrets/key.1");
        Guest *g = guest_new(f, NULL);
        char root[DIGEST_SIZE];
        Token token;

        become_member(f);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        token = read_token(f);
        snprintf(root, sizeof(root), "%s", ca_roots_current(view(f)->ca_roots)->id);
        assert_int_equal(chmod(path, 0644), 0);
        assert_non_null(strstr(join(g, &token), "secrets/key.1: chmod 600"));
        assert_int_equal(cluster_token(view(f), token.id)->record.uses, 1);
        HOST_UNTIL(f->host, problem_of(f).code == VERDICT_KEY_READABLE);
        assert_string_equal(ca_roots_current(view(f)->ca_roots)->id, root);
        assert_int_equal(chmod(path, 0600), 0);
        assert_string_equal(join(g, &token), "");
}

/* The tree was restored, or recovered, at this index. */
static void write_lineage(Fixture *f, uint64_t index) {
        char path[96], value[160];
        KvState kv;

        kv_state(f->host->store, &kv);
        snprintf(path, sizeof(path), "/_fleet/cluster/lineage/%016llx", (unsigned long long) kv.lineage);
        snprintf(
                value, sizeof(value),
                "{\"ancestor\":\"0000000000000001\",\"index\":%llu,\"kind\":\"restored\",\"machine\":\"%s\"}",
                (unsigned long long) index, f->host->id);
        propose(f, (KvCommand) { .op = KV_SET, .key = kv_string(path), .value = kv_string(value) });
}

/* A folder that is away for a while, as on a disk that is not mounted, is no loss; nor is it for a change of
 * the key, which needs the former one. */
static void a_key_that_is_away_is_waited_for(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *folder = scratch_path(f->host->scratch, "secrets"),
                            *away = scratch_path(f->host->scratch, "away");
        Guest *g = guest_new(f, NULL);
        char root[DIGEST_SIZE];
        Token token;
        Error err = {};

        become_member(f);
        write_lineage(f, 1); /* a former restore, before the key was written */
        assert_int_equal(create_token(f, (TokenRequest) { .uses = 2 }), 0);
        token = read_token(f);
        snprintf(root, sizeof(root), "%s", ca_roots_current(view(f)->ca_roots)->id);
        assert_int_equal(rename(folder, away), 0);
        assert_string_not_equal(join(g, &token), "");
        HOST_UNTIL(f->host, problem_of(f).code == VERDICT_KEY_MISSING);
        assert_int_equal(
                host_wait(f->host, authority_rekey(f->authority, "root", host_on_done, f->host, &err)),
                KV_OK);
        for (unsigned tick = 0; tick < 10; tick++)
                authority_tick(f->authority);
        assert_string_equal(ca_roots_current(view(f)->ca_roots)->id, root);
        assert_int_equal(access(folder, F_OK), -1);

        assert_int_equal(rename(away, folder), 0);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0); /* this host detects it */
        assert_string_equal(join(g, &token), "");
        HOST_UNTIL(f->host, !view(f)->ca_rotation);
        assert_int_equal(view(f)->ca_keys->items[0].cluster_key, 2);
        assert_string_equal(ca_roots_current(view(f)->ca_roots)->id, root);
}

/* A key of another lineage, which opens its backups, is not overwritten. */
static void a_new_key_replaces_no_file(void **state) {
        Fixture *f = *state;
        ClusterKey former = { .number = 4, .bytes = { 7 } };
        Error err = {};

        become_member(f);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        assert_int_equal(cluster_key_write(f->host->scratch, &former, &err), 0);
        for (unsigned number = 6; number <= 7; number++) {
                assert_int_equal(host_wait(f->host, authority_rekey(f->authority, "root", host_on_done,
                                                                    f->host, &err)),
                                 KV_OK);
                HOST_UNTIL(f->host, !view(f)->ca_rotation);
                assert_int_equal(view(f)->ca_keys->items[0].cluster_key, number);
        }
}

/* After a failure before the next key has a number, the present one is not taken for it. */
static void a_key_that_was_not_made_is_made_later(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *folder = scratch_path(f->host->scratch, "secrets"),
                            *away = scratch_path(f->host->scratch, "away");
        Error err = {};

        become_member(f);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        assert_int_equal(
                host_wait(f->host, authority_rekey(f->authority, "root", host_on_done, f->host, &err)),
                KV_OK);
        HOST_UNTIL(f->host,
                   !view(f)->ca_rotation && f->authority->keys.checked_index == view(f)->ca_keys_index);
        assert_int_equal(view(f)->ca_keys->items[0].cluster_key, 2);
        timer_stop(&f->tick);
        assert_int_equal(
                host_wait(f->host, authority_rotate(f->authority, true, "root", host_on_done, f->host, &err)),
                KV_OK);
        HOST_UNTIL(f->host, view(f)->ca_rotation);
        assert_int_equal(rename(folder, away), 0);
        assert_int_equal(symlink("secrets", folder), 0); /* -ELOOP */
        authority_tick(f->authority);
        assert_true(f->authority->failure_logged);
        assert_int_equal(unlink(folder), 0);
        assert_int_equal(rename(away, folder), 0);
        on_tick(f);
        HOST_UNTIL(f->host, view(f)->ca_keys->items[0].cluster_key != 2 ||
                                    count_rows(f, "ca  the cluster key has changed; rotation") > 0);
        assert_int_equal(view(f)->ca_keys->items[0].cluster_key, 3);
}

/* After a restore on another host, or when an administrator gives the keys up, the tree has a CA that no host
 * can open: a file of the same number is missing, or of another cluster. */
static void a_lost_cluster_key_is_replaced_with_the_ca(void **state) {
        Fixture *f = *state;
        ClusterKey other = { .number = 2, .bytes = { 1 } };
        Guest *g = guest_new(f, NULL);
        Error err = {};

        become_member(f);
        for (unsigned number = 1; number <= 2; number++) {
                char root[DIGEST_SIZE], path[64];
                _cleanup_free_ char *file = NULL;
                Token token;

                assert_int_equal(create_token(f, (TokenRequest) {}), 0);
                token = read_token(f);
                snprintf(root, sizeof(root), "%s", ca_roots_current(view(f)->ca_roots)->id);
                assert_int_equal(view(f)->ca_keys->items[0].cluster_key, number);
                snprintf(path, sizeof(path), "secrets/key.%u", number);
                file = scratch_path(f->host->scratch, path);
                if (number == 2) { /* a damaged file is no loss: it may be repaired */
                        assert_int_equal(cluster_key_write(f->host->scratch, &other, &err), 0);
                        assert_string_not_equal(join(g, &token), ""); /* this host detects it */
                        for (unsigned tick = 0; tick < 10; tick++)
                                authority_tick(f->authority);
                        assert_int_equal(problem_of(f).code, VERDICT_KEY_DAMAGED);
                        assert_string_equal(ca_roots_current(view(f)->ca_roots)->id, root);
                }
                assert_int_equal(unlink(file), 0);
                assert_string_not_equal(join(g, &token), "");
                if (number == 1)
                        write_lineage(f, view(f)->ca_keys_index);
                else
                        assert_int_equal(host_wait(f->host, authority_rotate(f->authority, true, "root",
                                                                             host_on_done, f->host, &err)),
                                         KV_OK);
                HOST_UNTIL(f->host, view(f)->ca_keys->items[0].cluster_key == number + 1);
                assert_null(view(f)->ca_rotation);
                assert_int_equal(view(f)->ca_roots->n, 1);
                assert_int_equal(view(f)->ca_keys->n, 1);
                assert_string_not_equal(ca_roots_current(view(f)->ca_roots)->id, root);
                assert_null(cluster_token(view(f), token.id)); /* of the former root */
        }
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        assert_int_equal(problem_of(f).code, VERDICT_NONE);
        assert_string_equal(join(g, &(Token[]) { read_token(f) }[0]), "");
        check_certificate(g, TLS_ROLE_HOST);

        /* The changes of keys work again. */
        assert_int_equal(
                host_wait(f->host, authority_rekey(f->authority, "root", host_on_done, f->host, &err)),
                KV_OK);
        HOST_UNTIL(f->host, !view(f)->ca_rotation);
        assert_int_equal(view(f)->ca_keys->items[0].cluster_key, 4);
        HOST_UNTIL(f->host, count_rows(f, "ca  no member has the cluster key: a new CA") > 0);
}

static void collect_keys(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (starts_with(message, "This member "))
                text_printf(userdata, "%d %s\n", priority, message);
}

/* A host that has just joined lacks the key, which the leader sends within seconds: the first check is no
 * warning, the second one is, and there is no third. */
static void a_missing_cluster_key_is_a_warning_if_it_stays_missing(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *file = scratch_path(f->host->scratch, "secrets/key.1");
        Guest *g = guest_new(f, NULL);
        _cleanup_text_ Text said = {}, missing = {}, expected = {};
        Token token;

        become_member(f);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        token = read_token(f);
        assert_int_equal(unlink(file), 0);
        text_printf(&missing, "Failed to read the cluster key %s: No such file or directory", file);
        log_set_sink(collect_keys, &said);
        for (unsigned i = 0; i < 3; i++) {
                assert_string_not_equal(join(g, &token), ""); /* the next tick checks again */
                for (unsigned tick = 0; tick < 10; tick++)
                        authority_tick(f->authority);
                text_clear(&expected);
                text_printf(&expected, "%d This member waits for the cluster key from the leader: %s\n",
                            LOG_INFO, missing.chars);
                if (i > 0)
                        text_printf(
                                &expected,
                                "%d This member cannot use the cluster key: %s; the leader has not sent it: "
                                "see fleet-security(7)\n",
                                LOG_WARNING, missing.chars);
                assert_string_equal(said.chars, expected.chars);
        }
        log_set_sink(NULL, NULL);
}

/* The restored host has no file of the former one, and waits for its certificate: its member key is written
 * when it listens. */
static void a_restored_host_replaces_the_ca_before_it_is_a_member(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *file = scratch_path(f->host->scratch, "secrets/key.1");
        char root[DIGEST_SIZE];

        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        snprintf(root, sizeof(root), "%s", ca_roots_current(view(f)->ca_roots)->id);
        assert_int_equal(unlink(file), 0);
        write_lineage(f, view(f)->ca_keys_index);
        HOST_UNTIL(f->host, view(f)->ca_keys->items[0].cluster_key == 2);
        assert_null(cluster_machine(view(f), f->host->id));
        assert_string_not_equal(ca_roots_current(view(f)->ca_roots)->id, root);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
}

/* The CA is created when each member has the cluster key on disk. */
static void the_cluster_key_reaches_all_members_first(void **state) {
        Fixture *f = *state;
        _cleanup_cluster_key_ ClusterKey own = {};
        char address[ADDRESS_SIZE];
        Guest *g;
        Error err = {};

        snprintf(address, sizeof(address), "127.0.0.1:%d", scratch_port());
        g = guest_new(f, address);
        g->silent = true;
        propose(f, (KvCommand) { .op = KV_SET,
                                 .key = kv_string("/_fleet/cluster/member/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
                                 .value = kv_string("{\"raftId\":7}") });
        assert_int_equal(authority_create_token(f->authority, &(TokenRequest) {}, on_token, f, &err), 0);
        HOST_UNTIL(f->host, g->keys >= 2); /* repeated */
        assert_int_equal(f->tokens, 0);
        assert_null(view(f)->ca_roots);
        g->silent = false;
        HOST_UNTIL(f->host, f->tokens == 1);
        assert_int_equal(f->error, 0);
        assert_int_equal(cluster_key_read(f->host->scratch, 1, &own, &err), 0);
        assert_memory_equal(&own, &g->cluster_key, sizeof(own));
        assert_true(authority_may_add(f->authority, g->id));
        assert_false(authority_may_add(f->authority, "cccccccccccccccccccccccccccccccc"));
}

/* A member without a pin gets one, as replica; later only its key renews. */
static void a_member_renews_its_certificate_with_its_key(void **state) {
        Fixture *f = *state;
        char address[ADDRESS_SIZE];
        Guest *g;

        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        snprintf(address, sizeof(address), "127.0.0.1:%d", scratch_port());
        g = guest_new(f, address);
        send_renewal(g);
        assert_non_null(strstr(wait_answer(g, 1), "does not have this host"));
        propose(f, (KvCommand) { .op = KV_SET,
                                 .key = kv_string("/_fleet/cluster/member/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
                                 .value = kv_string("{\"raftId\":7}") });
        HOST_UNTIL(f->host, cluster_machine(view(f), g->id));
        send_renewal(g);
        assert_string_equal(wait_answer(g, 2), "");
        assert_int_equal(g->frame, PEER_RENEWED);
        check_certificate(g, TLS_ROLE_REPLICA);
        send_renewal(g);
        assert_string_equal(wait_answer(g, 3), "");

        tls_private_key_free(g->key);
        assert_int_equal(tls_private_key_new(&g->key, &(Error) {}), 0);
        send_renewal(g);
        assert_non_null(strstr(wait_answer(g, 4), "with another key"));
        propose(f, (KvCommand) { .op = KV_SET,
                                 .key = kv_string("/_fleet/cluster/removed/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
                                 .value = kv_string("{}") });
        HOST_UNTIL(f->host, cluster_machine(view(f), g->id)->removed);
        send_renewal(g);
        assert_non_null(strstr(wait_answer(g, 5), "was removed"));
}

/* Its requests fill neither the list of the operations nor the time of the others. */
static void a_host_that_renews_without_end_delays_no_others(void **state) {
        enum { SENT = 300 };
        Fixture *f = *state;
        Guest *g = guest_new(f, NULL), *other = guest_new(f, NULL);
        uint64_t begun_ms, passed_ms;
        Token token;

        assert_int_equal(create_token(f, (TokenRequest) { .uses = 2 }), 0);
        token = read_token(f);
        assert_string_equal(join(g, &token), "");
        g->answers = 0;
        begun_ms = loop_now_ms(f->host->loop);
        for (unsigned i = 0; i < SENT; i++)
                send_renewal(g);
        send_request(other, &token);
        assert_int_equal(create_token(f, (TokenRequest) {}), 0);
        assert_string_equal(wait_answer(other, 1), "");
        HOST_UNTIL(f->host, g->answers > 0);
        send_renewal(g);
        HOST_UNTIL(f->host, g->answers > 1);
        for (unsigned i = 0; i < SENT; i++) {
                unsigned answers = g->answers;

                send_renewal(g);
                for (unsigned turns = 0; turns < 5 && g->answers == answers; turns++)
                        host_turn(f->host);
        }
        passed_ms = loop_now_ms(f->host->loop) - begun_ms;
        assert_in_range(g->answers, 2, 5 + passed_ms / 1000 + 1);
}

static void on_enrolled(void *userdata, int error, const char *message, const AuthorityResult *result) {
        const EnterAnswer *answer = result ? result->answer : NULL;
        Fixture *f = userdata;

        f->enrolled++;
        f->error = error;
        enter_answer_done(&f->own);
        if (answer)
                f->own = (EnterAnswer) { .certificate = strdup(answer->certificate),
                                         .roots = strdup(answer->roots) };
}

static void the_first_host_gets_a_certificate_of_its_own_ca(void **state) {
        Fixture *f = *state;
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_text_ Text csr = {};
        char path[128], pin[DIGEST_SIZE];
        TlsCertificate leaf;
        Error err = {};

        assert_int_equal(tls_private_key_new(&key, &err), 0);
        assert_int_equal(tls_request_create(key, &csr, &err), 0);
        assert_int_equal(authority_enroll(f->authority, "no request", on_enrolled, f, &err), -EBADMSG);
        assert_int_equal(authority_enroll(f->authority, csr.chars, on_enrolled, f, &err), 0);
        HOST_UNTIL(f->host, f->enrolled == 1);
        assert_int_equal(f->error, 0);
        assert_int_equal(tls_certificate_read(f->own.certificate, strlen(f->own.certificate), &leaf, &err),
                         0);
        assert_string_equal(leaf.uri.subject, f->host->id);
        assert_int_equal(leaf.uri.role, TLS_ROLE_REPLICA); /* without a member key */
        assert_non_null(cluster_machine(view(f), f->host->id)->host);
        assert_non_null(view(f)->ca_roots);

        /* After a restore, the tree may have a former key of the only host, or its tombstone. */
        tls_private_key_free(key);
        text_done(&csr);
        csr = (Text) {};
        assert_int_equal(tls_private_key_new(&key, &err), 0);
        assert_int_equal(tls_request_create(key, &csr, &err), 0);
        snprintf(path, sizeof(path), "/_fleet/cluster/removed/%s", f->host->id);
        propose(f, (KvCommand) { .op = KV_SET, .key = kv_string(path), .value = kv_string("{\"since\":9}") });
        HOST_UNTIL(f->host, cluster_machine(view(f), f->host->id)->removed);
        assert_int_equal(authority_enroll(f->authority, csr.chars, on_enrolled, f, &err), 0);
        HOST_UNTIL(f->host, f->enrolled == 2);
        assert_int_equal(f->error, 0);
        tls_private_key_pin(key, &leaf.pin);
        tls_pin_print(&leaf.pin, pin);
        assert_true(pins_have(&cluster_machine(view(f), f->host->id)->host->pins, pin));
        assert_null(cluster_machine(view(f), f->host->id)->removed);

        /* Cancelled, and at the end of the authority, nothing is called. */
        assert_int_equal(authority_enroll(f->authority, csr.chars, on_enrolled, f, &err), 0);
        authority_cancel(f->authority, f);
        assert_int_equal(authority_enroll(f->authority, csr.chars, on_enrolled, f, &err), 0);
}

static unsigned n_rejections_logged, n_steps_logged;

static void count_rejections(void *userdata, int priority, const LogFields *fields, const char *message) {
        n_rejections_logged += starts_with(message, "rejected ") && strstr(message, "was used");
        n_steps_logged += starts_with(message, "rejected ") && strstr(message, CLUSTER_NEW_MACHINE_ID);
}

static void changes_of_identity_have_rows_in_the_history(void **state) {
        Fixture *f = *state;
        Guest *g = guest_new(f, NULL), *other = guest_new(f, NULL);
        _cleanup_text_ Text line = {}, all = {};
        char pin[DIGEST_SIZE];
        Token token;
        TlsPin own;
        Error err = {};

        assert_int_equal(create_token(f, (TokenRequest) { .by = "root", .uses = 1 }), 0);
        token = read_token(f);
        HOST_UNTIL(f->host, count_rows(f, "ca  the CA was created\n") == 1);
        text_printf(&line, "token  by root %s created, 1 use\n", token.id);
        HOST_UNTIL(f->host, count_rows(f, line.chars) == 1);

        assert_string_equal(join(g, &token), "");
        tls_private_key_pin(g->key, &own);
        tls_pin_print(&own, pin);
        text_clear(&line);
        text_printf(&line, "certificate bbbb issued, key %.8s\ntoken bbbb %s used, 0 uses left\n", pin,
                    token.id);
        HOST_UNTIL(f->host, count_rows(f, line.chars) == 1);
        assert_string_equal(join(g, &token), "");
        HOST_UNTIL(f->host, count_rows(f, "certificate bbbb renewed, key ") == 1);

        /* The cause, without the secret; strangers cause one row in ten seconds. */
        n_rejections_logged = 0;
        log_set_sink(count_rejections, NULL);
        assert_non_null(strstr(join(other, &token), "was used"));
        assert_non_null(strstr(join(other, &token), "was used"));
        text_clear(&line);
        tls_private_key_pin(other->key, &own);
        tls_pin_print(&own, pin);
        text_printf(&line, ", key %.8s: token %s was used by bbbbbbbb", pin, token.id);
        HOST_UNTIL(f->host, count_rows(f, line.chars) == 1);
        assert_int_equal(count_rows(f, "rejected  a host at 127.0.0.1:"), 1); /* of no machine */
        assert_int_equal(count_rows(f, "rejected "), 1);
        assert_int_equal(n_rejections_logged, 1); /* of an address in a minute */

        assert_int_equal(host_wait(f->host, authority_revoke_token(f->authority, token.id, "alice",
                                                                   host_on_done, f->host, &err)),
                         KV_OK);
        text_clear(&line);
        text_printf(&line, "token  by alice %s revoked\n", token.id);
        HOST_UNTIL(f->host, count_rows(f, line.chars) == 1);
        assert_int_equal(kv_local_history(f->host->store, 0, false, on_row, &all), 0);
        hex_of(token.secret, sizeof(token.secret), pin);
        assert_null(strstr(all.chars, pin));
        assert_null(strstr(all.chars, f->text));
}

/* A command with a list of folders, of which an event shows the first ones, would delete these. */
static void the_steps_on_a_copy_are_in_the_log_and_not_in_an_event(void **state) {
        Fixture *f = *state;
        Guest *g = guest_new(f, NULL);
        _cleanup_text_ Text line = {};
        char pin[DIGEST_SIZE];
        Token token;
        TlsPin own;

        assert_int_equal(create_token(f, (TokenRequest) { .by = "root", .uses = 2 }), 0);
        token = read_token(f);
        assert_string_equal(join(g, &token), "");
        tls_private_key_free(g->key);
        assert_int_equal(tls_private_key_new(&g->key, &(Error) {}), 0);
        n_steps_logged = 0;
        log_set_sink(count_rejections, NULL);
        assert_non_null(strstr(join(g, &token), "with another key (bbbbbbbb)"));
        assert_int_equal(n_steps_logged, 1);
        tls_private_key_pin(g->key, &own);
        tls_pin_print(&own, pin);
        text_printf(&line,
                    ", key %.8s: the cluster has this machine ID with another key (bbbbbbbb); if installed "
                    "again, "
                    "on another host: fleetctl token --replace=bbbbbbbb; if a copy: fleetctl help add\n",
                    pin);
        HOST_UNTIL(f->host, count_rows(f, line.chars) == 1);
        assert_int_equal(count_rows(f, "rm -r"), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(tokens_begin_at_their_feature_level, low_setup, teardown),
                cmocka_unit_test_setup_teardown(the_first_token_creates_the_ca, setup, teardown),
                cmocka_unit_test_setup_teardown(a_host_joins_once_with_a_token, setup, teardown),
                cmocka_unit_test_setup_teardown(one_use_admits_one_of_several_hosts, setup, teardown),
                cmocka_unit_test_setup_teardown(wrong_secrets_revoke_a_token, setup, teardown),
                cmocka_unit_test_setup_teardown(a_revoked_token_admits_no_host, setup, teardown),
                cmocka_unit_test_setup_teardown(a_host_without_the_cluster_key_signs_nothing, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_lost_cluster_key_is_replaced_with_the_ca, setup, teardown),
                cmocka_unit_test_setup_teardown(a_missing_cluster_key_is_a_warning_if_it_stays_missing, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_restored_host_replaces_the_ca_before_it_is_a_member, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_key_that_is_away_is_waited_for, setup, teardown),
                cmocka_unit_test_setup_teardown(a_new_key_replaces_no_file, setup, teardown),
                cmocka_unit_test_setup_teardown(a_key_that_was_not_made_is_made_later, setup, teardown),
                cmocka_unit_test_setup_teardown(the_cluster_key_reaches_all_members_first, setup, teardown),
                cmocka_unit_test_setup_teardown(a_member_renews_its_certificate_with_its_key, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_host_that_renews_without_end_delays_no_others, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(changes_of_identity_have_rows_in_the_history, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(the_steps_on_a_copy_are_in_the_log_and_not_in_an_event, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(the_first_host_gets_a_certificate_of_its_own_ca, setup,
                                                teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
