/* The cluster key on its way to the members: PEER_CLUSTER_KEY from the leader, PEER_CLUSTER_KEY_STORED when
 * the member has it on disk. */

#include "base/base64.h"
#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/rotation.h"
#include "fleetd/registry/presence.h"

enum { KEY_PROTOCOL = 1, KEYS_CHECK_MS = 10000, KEYS_TRANSFER_MS = 60000 };

void keys_ca_context(uint64_t cluster_id, const char *root, char ret[static CA_CONTEXT_SIZE]) {
        snprintf(ret, CA_CONTEXT_SIZE, "fleet-ca %016llx %s", (unsigned long long) cluster_id, root);
}

static int keys_unseal(const ClusterKey *key, const CaKey *sealed, uint64_t cluster_id, char **ret,
                       size_t *ret_size) {
        char context[CA_CONTEXT_SIZE], *bytes;
        size_t size;
        int r;

        r = base64_decode(sealed->sealed, strlen(sealed->sealed), &bytes, &size);
        if (r < 0)
                return r == -ENOMEM ? r : -EBADMSG;
        keys_ca_context(cluster_id, sealed->root, context);
        r = unseal(key->bytes, context, strlen(context), bytes, size, ret, ret_size);
        free(bytes);
        return r;
}

static int keys_open(Authority *a, const CaRoot *root, TlsPrivateKey **ret, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        const CaKey *sealed = c->ca_keys ? ca_keys_find(c->ca_keys, root->id) : NULL;
        _cleanup_cluster_key_ ClusterKey key = {};
        char *pem = NULL;
        size_t size = 0;
        KvState state;
        int r;

        if (!sealed)
                return error_set(err, -EBADMSG, "the cluster has no private key of its root %.8s", root->id);
        TRY(key_store_read(a->key_store, sealed->cluster_key, &key, err));
        kv_state(a->store, &state);
        r = keys_unseal(&key, sealed, state.cluster_id, &pem, &size);
        if (r < 0)
                return error_set(err, r,
                                 "Failed to open the private key of the CA with %s/secrets/key.%llu: %s",
                                 a->state_directory, (unsigned long long) key.number, strerror(-r));
        r = tls_private_key_read(pem, size, ret, err);
        tls_secret_free(pem, size);
        return r;
}

int keys_open_ca(Authority *a, const CaRoot *root, TlsPrivateKey **ret, Error *err) {
        int r = keys_open(a, root, ret, err);

        if (r < 0)
                a->keys.checked_index = 0; /* check again */
        return r;
}

int keys_seal_ca(Authority *a, const char *root, const TlsPrivateKey *private_key, const ClusterKey *key,
                 CaKey *ret, Error *err) {
        char context[CA_CONTEXT_SIZE], *secret = NULL;
        _cleanup_text_ Text sealed = {}, text = {};
        size_t size = 0;
        KvState state;
        int r;

        TRY(tls_private_key_print(private_key, &secret, &size, err));
        kv_state(a->store, &state);
        keys_ca_context(state.cluster_id, root, context);
        r = seal(key->bytes, context, strlen(context), secret, size, &sealed);
        tls_secret_free(secret, size);
        if (r < 0)
                return error_set(err, r, "Failed to seal the private key of the CA: %s", strerror(-r));
        text_append_base64(&text, sealed.bytes, sealed.size, false);
        if (sealed.error < 0 || text.error < 0)
                return error_set(err, -ENOMEM, "out of memory");
        snprintf(ret->root, sizeof(ret->root), "%s", root);
        ret->cluster_key = key->number;
        ret->sealed = text_take(&text, &size);
        return 0;
}

/* -- The leader -- */

/* Of the number in force and the next one, one is even and one is odd. */
typedef struct KeyHolder {
        Named named; /* the machine ID; first */
        uint64_t confirmed[2];
        bool works, lacks; /* its last heartbeat reports no problem, or that the key is missing */
} KeyHolder;

static bool keys_has(const Authority *a, const char *machine_id, uint64_t number) {
        const KeyHolder *holder = (const KeyHolder *) named_find(a->keys.holders, machine_id);

        return holder && holder->confirmed[number % 2] == number;
}

void keys_begin_term(Authority *a, uint64_t term) {
        if (a->keys.term != term)
                named_clear(&a->keys.holders);
        a->keys.term = term;
}

void authority_member_problem(Authority *a, const char *machine_id, const Verdict *problem) {
        const Cluster *c = registry_cluster(a->registry);
        KeyHolder *holder = NULL;

        if (c->ca_keys && c->ca_keys->n > 0)
                holder = named_get(&a->keys.holders, machine_id, sizeof(*holder));
        if (!holder)
                return;
        holder->works = problem->code == VERDICT_NONE || problem->code == VERDICT_KEY_AS_IT_IS ||
                        problem->code == VERDICT_KEY_NOT_STORED;
        holder->lacks = problem->code == VERDICT_KEY_MISSING || problem->code == VERDICT_KEY_DAMAGED;
        /* It was lost after the confirmation. The key of a sealed file can be stored again. */
        if (holder->lacks || problem->code == VERDICT_KEY_SEALED)
                holder->confirmed[c->ca_keys->items[0].cluster_key % 2] = 0;
}

/* Return a number above all files of keys, which may be of another lineage, and that of its backups. Of it
 * and 'present', one is even and one is odd. */
static int keys_next_number(const Authority *a, uint64_t present, uint64_t *ret, Error *err) {
        _cleanup_free_ uint64_t *numbers = NULL;
        uint64_t last = present;
        size_t n = 0;

        TRY(cluster_key_list(a->state_directory, &numbers, &n, err));
        if (n > 0)
                last = MAX(last, numbers[n - 1]);
        if (last > UINT64_MAX - 2)
                return error_set(err, -EOVERFLOW,
                                 "no number is above that of %s/secrets/key.%llu: move the file away",
                                 a->state_directory, (unsigned long long) last);
        *ret = last + 1 + ((last + 1) % 2 == present % 2);
        return 0;
}

int keys_make(Authority *a, uint64_t present, ClusterKey *ret, Error *err) {
        uint64_t number = 0;

        a->keys.next_number = 0; /* after a failure, the former one is not used in its place */
        TRY(keys_next_number(a, present, &number, err));
        ret->number = number;
        if (secret_random(ret->bytes, sizeof(ret->bytes)) < 0)
                return error_set(err, -EIO, "the system has no random numbers");
        for (Named *n = a->keys.holders; n; n = n->hh.next)
                ((KeyHolder *) n)->confirmed[number % 2] = 0;
        a->keys.next_number = number;
        return key_store_write(a->key_store, ret, err);
}

static bool keys_is_member(const Authority *a, const ClusterMachine *m) {
        return m->member.raft_id != 0 && !m->removed && !streq(m->id, a->machine_id);
}

static void keys_send(Authority *a, const char *machine_id, const ClusterKey *key) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, KEY_PROTOCOL);
        write_u64(&w, key->number);
        write_raw(&w, key->bytes, sizeof(key->bytes));
        if (w.error == 0)
                (void) peers_send(a->peers, machine_id, PEER_CLUSTER_KEY, w.bytes, w.size);
        if (w.bytes)
                explicit_bzero(w.bytes, w.size);
}

/* A host without a replica deletes the key. One that was removed may join again, with an empty disk. */
static void keys_forget_former(Authority *a) {
        for (Named *n = a->keys.holders, *next; n; n = next) {
                const ClusterMachine *m = cluster_machine(registry_cluster(a->registry), n->name);

                next = n->hh.next;
                if (!m || m->member.raft_id == 0)
                        named_remove(&a->keys.holders, n->name);
        }
}

/* A standby that is off gets the key when it returns, and before it becomes a voter. */
static bool keys_is_standby(const KvState *state, const ClusterMachine *m) {
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == m->member.raft_id)
                        return state->members[i].role != KV_MEMBER_VOTER;
        return false;
}

int keys_distribute(Authority *a, const KvState *state, uint64_t number, bool absent, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *missing = NULL;
        _cleanup_cluster_key_ ClusterKey key = {};

        keys_begin_term(a, state->term);
        keys_forget_former(a);
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                if (!keys_is_member(a, m) || keys_has(a, m->id, number))
                        continue;
                TRY(key.number > 0 ? 0 : key_store_read(a->key_store, number, &key, err));
                keys_send(a, m->id, &key);
                if (!keys_is_standby(state, m) && (absent || m->presence == PRESENCE_UP))
                        missing = m;
        }
        return missing ? error_set(err, -EAGAIN, "%s has not confirmed the cluster key yet",
                                   cluster_machine_name(missing)) :
                         0;
}

static void keys_on_stored(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        uint64_t number = read_u64(&r);
        Authority *a = userdata;
        KeyHolder *holder;

        if (reader_end(&r) < 0 || version != KEY_PROTOCOL)
                return;
        /* Without memory, the key is sent and confirmed again. */
        holder = named_get(&a->keys.holders, peer_handshake(session)->machine_id, sizeof(*holder));
        if (holder)
                holder->confirmed[number % 2] = number;
        loop_defer(a->loop, &a->update);
}

/* -- A missing key -- */

void authority_problem(const Authority *a, Verdict *ret) {
        bool on_disk = false;
        uint64_t unsealed = a->key_store && a->keys.problem.code == VERDICT_NONE ?
                                    key_store_unsealed(a->key_store, &on_disk) :
                                    0;

        *ret = a->keys.problem;
        if (unsealed > 0)
                verdict_set(ret, on_disk ? VERDICT_KEY_AS_IT_IS : VERDICT_KEY_NOT_STORED, "%" PRIu64,
                            unsealed);
}

int keys_check_problem(const Authority *a, int code, const char *what, Error *err) {
        _cleanup_text_ Text why = {};

        if (a->keys.problem.code == VERDICT_NONE)
                return 0;
        verdict_append(&why, &a->keys.problem);
        return error_set(err, code, "%s%s", what, text_chars(&why));
}

/* Log why this member cannot use the key, once. The leader sends a key that is missing, or replaces one of a
 * former cluster, soon after the member has joined: that is a problem if the next check finds it, too. */
static void keys_log_problem(Authority *a, int error, bool again, const Error *err) {
        bool expected = error == -ENOENT || error == -EBADMSG;

        a->keys.warned = again && a->keys.warned;
        if (a->keys.warned)
                return;
        a->keys.warned = again || !expected;
        if (a->keys.warned)
                log_warning(((LogFields) { .error = error }), "This member cannot use the cluster key: %s%s",
                            error_text(err, error),
                            expected ? "; the leader has not sent it: see fleet-security(7)" : "");
        else
                log_info(((LogFields) { .error = error }),
                         "This member waits for the cluster key from the leader: %s", error_text(err, error));
}

/* Other failures than a missing or wrong file are corrected by an administrator: the key may be in use. */
static const struct {
        int error;
        VerdictCode code;
} key_problems[] = {
        { -EBADMSG, VERDICT_KEY_DAMAGED },
        { -ENOENT, VERDICT_KEY_MISSING },
        { -ENOKEY, VERDICT_KEY_SEALED },
        { -EPERM, VERDICT_KEY_READABLE },
};

static void keys_set_problem(Authority *a, int error, uint64_t number, const Error *err) {
        Verdict former = a->keys.problem;
        size_t i = 0;

        a->keys.problem = (Verdict) {};
        if (error >= 0)
                return;
        while (i < ELEMENTS(key_problems) && key_problems[i].error != error)
                i++;
        if (i < ELEMENTS(key_problems))
                verdict_set(&a->keys.problem, key_problems[i].code, "%" PRIu64, number);
        else
                verdict_set(&a->keys.problem, VERDICT_KEY_UNUSABLE, "%.*s", KEYS_ERROR_MAX,
                            error_text(err, error));
        keys_log_problem(a, error, verdict_equal(&former, &a->keys.problem), err);
}

void keys_check(Authority *a, const KvState *state) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *self = cluster_machine(c, a->machine_id);
        const CaRoot *root = c->ca_roots ? ca_roots_current(c->ca_roots) : NULL;
        const CaKey *sealed = root && c->ca_keys ? ca_keys_find(c->ca_keys, root->id) : NULL;
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        uint64_t now_ms = loop_now_ms(a->loop);
        Error err = {};
        int r;

        /* A tree that is behind names a key that was replaced. A restored host leads before it has a member
         * key, which waits for its certificate. */
        if (!sealed || state->n_members == 0 ||
            (state->role != KV_ROLE_LEADER && (!self || self->member.raft_id == 0)) ||
            !registry_is_current(a->registry) || !kv_can_serve(a->store) ||
            (c->ca_keys_index == a->keys.checked_index && now_ms < a->keys.check_ms))
                return;
        r = keys_open(a, root, &key, &err);
        a->keys.opening = r == -EAGAIN;
        if (a->keys.opening)
                return;
        keys_set_problem(a, r, sealed->cluster_key, &err);
        a->keys.checked_index = c->ca_keys_index;
        a->keys.check_ms = now_ms + KEYS_CHECK_MS;
}

static const KeyHolder *keys_holder_of(const Authority *a, const KvMember *member) {
        const ClusterMachine *m = cluster_machine_of_member(registry_cluster(a->registry), member->raft_id);

        return m ? (const KeyHolder *) named_find(a->keys.holders, m->id) : NULL;
}

/* Whether another CA may replace one that no member can open: the tree was restored or recovered after the
 * key was written, or an administrator has given the keys up. Otherwise, the file may return: the disk is not
 * mounted, or a person has moved the folder. */
static bool keys_are_given_up(const Cluster *c, const KvState *state) {
        char name[LINEAGE_SIZE];
        const ClusterLineage *lineage;

        lineage = cluster_lineage(c, hex64_print(state->lineage, name));
        return (rotation_is_rekey(c) && c->ca_rotation->compromised) ||
               (lineage && c->ca_keys_index <= lineage->record.index);
}

bool keys_are_lost(const Authority *a, const KvState *state) {
        /* Not of a former key: the present one may be there. A person may repair a damaged file. */
        if (a->keys.problem.code != VERDICT_KEY_MISSING ||
            a->keys.checked_index != registry_cluster(a->registry)->ca_keys_index ||
            !keys_are_given_up(registry_cluster(a->registry), state))
                return false;
        for (size_t i = 0; i < state->n_members; i++) {
                const KeyHolder *holder = keys_holder_of(a, &state->members[i]);

                if (state->members[i].raft_id != state->raft_id && !(holder && holder->lacks))
                        return false;
        }
        return state->n_members > 0;
}

/* The next leader sends the key to this host, so this happens once. A voter that reports no problem but does
 * not have the key, as one of a former version, keeps the leadership. */
void keys_transfer(Authority *a, const KvState *state) {
        uint64_t now_ms = loop_now_ms(a->loop);

        if (now_ms < a->keys.transfer_ms)
                return;
        for (size_t i = 0; i < state->n_members; i++) {
                const KvMember *member = &state->members[i];
                const KeyHolder *holder = keys_holder_of(a, member);

                if (member->role != KV_MEMBER_VOTER || !member->reachable || !holder || !holder->works ||
                    member->raft_id == state->raft_id || kv_transfer(a->store, member->raft_id) < 0)
                        continue;
                a->keys.transfer_ms = now_ms + KEYS_TRANSFER_MS;
                log_notice(((LogFields) { .machine = holder->named.name, .term = state->term }),
                           "transferring leadership to %s: this host does not have the cluster key",
                           cluster_name_of(registry_cluster(a->registry), holder->named.name));
                return;
        }
}

bool authority_may_add(const Authority *a, const char *machine_id) {
        const Cluster *c = registry_cluster(a->registry);
        uint64_t number;

        if (!c->ca_keys || c->ca_keys->n == 0)
                return true;
        number = c->ca_keys->items[0].cluster_key;
        return keys_has(a, machine_id, number) &&
               (!rotation_is_rekey(c) ||
                (a->keys.next_number > number && keys_has(a, machine_id, a->keys.next_number)));
}

/* -- Members -- */

/* Whether the key of this host opens the CA: then no other key replaces it. */
static bool keys_is_in_use(Authority *a, const ClusterKey *own) {
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        kv_state(a->store, &state);
        for (size_t i = 0; c->ca_keys && i < c->ca_keys->n; i++) {
                const CaKey *sealed = &c->ca_keys->items[i];
                char *pem;
                size_t size;

                if (sealed->cluster_key != own->number ||
                    keys_unseal(own, sealed, state.cluster_id, &pem, &size) < 0)
                        continue;
                tls_secret_free(pem, size);
                return true;
        }
        return false;
}

/* Store a key. 0: it is on disk; -EAGAIN: not yet. A file whose content is unknown is replaced by a key that
 * opens the CA only: then it has the same, or nothing of use. */
static int keys_store(Authority *a, const ClusterKey *key, Error *err) {
        _cleanup_cluster_key_ ClusterKey own = {};
        int r;

        r = key_store_read(a->key_store, key->number, &own, err);
        if (r == -EAGAIN || (r == 0 && memcmp(own.bytes, key->bytes, sizeof(own.bytes)) == 0))
                return r;
        if ((r == -ENOKEY || r == -ENOTSUP) && !keys_is_in_use(a, key))
                return r;
        if (r == 0 && keys_is_in_use(a, &own))
                return error_set(err, -EEXIST, "another cluster key %llu is in use",
                                 (unsigned long long) key->number);
        return key_store_write(a->key_store, key, err);
}

/* Only the leader sends keys: a former one may have made another key of the same number. A host whose replica
 * is not complete yet knows no leader. Nor does a member that the configuration lacks, because the entry that
 * added it was lost, although its own log may have that entry: the leader adds it again when it has confirmed
 * the key. */
static bool keys_accepts_from(const Authority *a, const char *machine_id) {
        KvState state;

        kv_state(a->store, &state);
        return state.n_members == 0 || !registry_ready(a->registry) || !state.leader_machine_id[0] ||
               streq(state.leader_machine_id, machine_id);
}

static void keys_on_key(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                        size_t size) {
        const PeerHandshake *peer = peer_handshake(session);
        Reader r = reader_over(payload, size);
        _cleanup_cluster_key_ ClusterKey key = {};
        _cleanup_writer_ Writer w = {};
        Authority *a = userdata;
        const void *bytes;
        uint8_t version;
        Error err = {};
        int error;

        version = read_u8(&r);
        key.number = read_u64(&r);
        bytes = read_raw(&r, sizeof(key.bytes));
        if (reader_end(&r) == 0 && !keys_accepts_from(a, peer->machine_id))
                return; /* sent again, by the leader */
        if (reader_end(&r) < 0 || version != KEY_PROTOCOL || key.number == 0) {
                log_warning(((LogFields) { .machine = peer->machine_id }),
                            "invalid cluster key from %s; it is not stored", peer->name);
                return;
        }
        memcpy(key.bytes, bytes, sizeof(key.bytes));
        error = keys_store(a, &key, &err);
        if (error == -EAGAIN) /* the leader sends it again */
                return;
        if (error < 0) {
                if (loop_now_ms(a->loop) < a->keys.refused_ms)
                        return;
                a->keys.refused_ms = loop_now_ms(a->loop) + KEYS_TRANSFER_MS;
                log_error(((LogFields) { .machine = peer->machine_id, .error = error }),
                          "Failed to store the cluster key from %s: %s", peer->name, error_text(&err, error));
                return;
        }
        a->keys.checked_index = 0; /* the next tick ends the problem of a missing key */
        write_u8(&w, KEY_PROTOCOL);
        write_u64(&w, key.number);
        if (w.error == 0)
                (void) peer_reply(session, PEER_CLUSTER_KEY_STORED, w.bytes, w.size);
}

/* -- Lifetime -- */

static const PeerFrameType key_frame_types[] = {
        { PEER_CLUSTER_KEY, keys_on_key },
        { PEER_CLUSTER_KEY_STORED, keys_on_stored },
};

/* A file was opened, or written. */
static void keys_on_changed(void *userdata) {
        Authority *a = userdata;

        a->keys.checked_index = 0;
        loop_defer(a->loop, &a->update);
}

int keys_init(Authority *a) {
        peers_register(a->peers, key_frame_types, ELEMENTS(key_frame_types), a);
        return key_store_new(&a->key_store, a->host, keys_on_changed, a);
}

void keys_done(Authority *a) {
        peers_unregister(a->peers, key_frame_types, ELEMENTS(key_frame_types));
        named_clear(&a->keys.holders);
        a->key_store = key_store_free(a->key_store);
}
