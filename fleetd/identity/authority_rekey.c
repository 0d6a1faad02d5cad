/* The change of the cluster key: the leader makes the next one, each member stores it, then one transaction
 * seals the private keys of the CA with it, and then one transaction each secret (Component.reseal). A member
 * deletes a key that the tree no longer needs.
 *
 * If the former keys are compromised, the same transaction begins a rotation of the CA, so that its new root
 * was never sealed with the former cluster key. If no member has the cluster key, as after a restore on
 * another host, the same transaction replaces the CA: hosts stay authenticated by their pins. */

#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/rotation.h"

/* Seal the private key of each root that remains. The caller frees *ret, also after a failure. */
static int authority_reseal_ca(Authority *a, const CaRoots *roots, const ClusterKey *next, CaKeys *ret,
                               Error *err) {
        for (size_t i = 0; i < roots->n; i++) {
                _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
                int r;

                r = keys_open_ca(a, &roots->items[i], &key, err);
                if (r >= 0)
                        r = keys_seal_ca(a, roots->items[i].id, key, next, &ret->items[ret->n], err);
                if (r < 0)
                        return r;
                ret->n++;
        }
        return 0;
}

const char **authority_ended_tokens(const Cluster *c, const CaRoots *roots, size_t *ret_n) {
        const char **ended = NEW0(const char *, HASH_COUNT(c->tokens) + 1);
        size_t n = 0;

        for (const ClusterToken *t = ended ? c->tokens : NULL; t; t = t->hh.next) {
                bool remains = false;

                for (size_t i = 0; i < roots->n; i++)
                        remains |= streq(roots->items[i].id, t->record.root);
                if (!remains)
                        ended[n++] = t->name;
        }
        *ret_n = n;
        return ended;
}

/* Write the roots that remain into *ret, and their number into ret->n. Texts are borrowed. */
static void authority_remaining_roots(const CaRoots *roots, bool compromised, CaRoots *ret) {
        ret->n = 0;
        for (size_t i = 0; i < roots->n; i++)
                if (!compromised || roots->items[i].state == CA_ROOT_CURRENT)
                        ret->items[ret->n++] = roots->items[i];
}

/* 'lost': no host can open the former private keys; only a new root remains. */
static int authority_write_rekey(Authority *a, const KvState *state, const ClusterKey *next, bool lost,
                                 Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        const CaRotation distribute = { .compromised = true,
                                        .since_ms = loop_wall_ms(a->loop),
                                        .state = CA_ROTATION_DISTRIBUTE };
        bool compromised = c->ca_rotation && c->ca_rotation->compromised;
        _cleanup_free_ const char **tokens = NULL;
        _cleanup_(ca_keys_record_done) CaKeys keys = {};
        CaRoot *added = NULL;
        CaRoots roots;
        CaChange change = { .roots = &roots, .keys = &keys, .reason = "the cluster key has changed" };
        int r;

        authority_remaining_roots(c->ca_roots, compromised, &roots);
        if (lost)
                roots.n = 0;
        r = TRY(authority_reseal_ca(a, &roots, next, &keys, err));
        if (compromised || lost) {
                added = &roots.items[roots.n];
                *added = (CaRoot) { .state = lost ? CA_ROOT_CURRENT : CA_ROOT_NEXT };
                r = TRY(authority_make_root(a, state, next, added, &keys.items[keys.n], err));
                roots.n++;
                keys.n++;
                change.rotation = lost ? NULL : &distribute;
                change.reason = lost ? "no member has the cluster key: a new CA, without the former tokens" :
                                       "the cluster key has changed; rotation of the CA: hosts store the new "
                                       "root";
        } else {
                change.roots = NULL;
        }
        if (lost)
                change.tokens = tokens = authority_ended_tokens(c, &roots, &change.n_tokens);
        if (lost && !tokens)
                r = -ENOMEM;
        else
                r = registry_change_ca(a->registry, state->term, &change, authority_on_changed, a);
        if (added)
                free(added->pem);
        return r < 0 ? error_set(err, r, "%s", strerror(-r)) : 0;
}

/* Read the next key. Each leader makes one for each change: of a key that it finds, it does not know which
 * hosts have received it. */
static int authority_next_key(Authority *a, const KvState *state, ClusterKey *ret, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        uint64_t index = MAX(c->ca_rotation_index, c->ca_keys_index);
        uint64_t present = c->ca_keys->items[0].cluster_key;
        int r;

        if (a->keys.next_index == index && a->keys.next_term == state->term &&
            a->keys.next_number > present) {
                r = key_store_read(a->key_store, a->keys.next_number, ret, err);
                if (r != -ENOENT)
                        return r;
                err->message[0] = 0;
        }
        a->keys.next_index = index;
        a->keys.next_term = state->term;
        return keys_make(a, present, ret, err);
}

void authority_rekey_tick(Authority *a, const KvState *state) {
        const Cluster *c = registry_cluster(a->registry);
        _cleanup_cluster_key_ ClusterKey next = {};
        bool lost = keys_are_lost(a, state);
        static const char action[] = "change the cluster key";
        Error err = {};
        int r;

        if (!(rotation_is_rekey(c) || lost) || a->changing || !registry_is_current(a->registry))
                return;
        /* Without the present key, nothing can be sealed with another one. */
        r = lost ? 0 : keys_check_problem(a, -ENOKEY, "", &err);
        if (r >= 0)
                r = authority_next_key(a, state, &next, &err);
        if (r >= 0)
                r = keys_distribute(a, state, next.number, !lost && !c->ca_rotation->compromised, &err);
        if (r >= 0)
                r = authority_write_rekey(a, state, &next, lost, &err);
        a->changing = r >= 0 ? action : NULL;
        if (lost && r >= 0)
                log_warning(NO_FIELDS, "no member has the cluster key: replacing the CA");
        if (r != -EAGAIN)
                authority_log_failure(a, r, action, &err);
}

void authority_log_failure(Authority *a, int error, const char *action, const Error *err) {
        if (error < 0 && !a->failure_logged)
                log_warning(((LogFields) { .error = error }), "Failed to %s: %s; trying again", action,
                            error_text(err, error));
        a->failure_logged = error < 0;
}

/* The first state of a change, with the reason for the history. */
static int authority_plan(const Authority *a, CaRotationState first, bool compromised, const char *user,
                          CaRotation *ret_rotation, CaChange *ret, Error *err) {
        static const char *const reasons[_CA_ROTATION_MAX] = {
                [CA_ROTATION_BEGIN] = "rotation of the CA: requested",
                [CA_ROTATION_REKEY] = "members store another cluster key",
        };
        const Cluster *c = registry_cluster(a->registry);

        if (!c->ca_roots || !c->ca_keys || c->ca_keys->n == 0)
                return error_set(err, -ENOKEY,
                                 "the cluster has no CA; the first token creates it: fleetctl token");
        if (cluster_has_unreadable(c, LAYOUT_CA_ROTATION) || (c->ca_rotation && !compromised))
                return error_set(err, -EALREADY,
                                 "a change of the CA or of the cluster key is under way: fleetctl ca shows "
                                 "its state");
        *ret_rotation = (CaRotation) { .compromised = compromised,
                                       .since_ms = loop_wall_ms(a->loop),
                                       .state = first };
        *ret = (CaChange) { .rotation = ret_rotation,
                            .reason = compromised ? "the keys are compromised: all tokens ended, members "
                                                    "store another cluster key" :
                                                    reasons[first],
                            .user = user };
        return 0;
}

int authority_request(Authority *a, CaRotationState first, const char *user, RegistryDone done,
                      void *userdata, Error *err) {
        CaRotation rotation;
        CaChange change;
        int r;

        TRY(authority_plan(a, first, false, user, &rotation, &change, err));
        r = registry_change_ca(a->registry, 0, &change, done, userdata);
        return r < 0 ? error_set(err, r, "Failed to write the request: %s", strerror(-r)) : 0;
}

int authority_rekey(Authority *a, const char *user, RegistryDone done, void *userdata, Error *err) {
        return authority_request(a, CA_ROTATION_REKEY, user, done, userdata, err);
}

int authority_compromised(Authority *a, const ClusterMachine *remove, const char *user, RegistryDone done,
                          void *userdata, Error *err) {
        _cleanup_free_ const char **tokens = NULL;
        CaRotation rotation;
        CaChange change;
        int r;

        r = authority_plan(a, CA_ROTATION_REKEY, true, user, &rotation, &change, err);
        if (r < 0 && !remove)
                return r;
        if (r < 0) /* without a CA, there are no such keys */
                return registry_remove_machine(a->registry, remove, user, NULL, done, userdata);
        tokens = authority_ended_tokens(registry_cluster(a->registry), &(CaRoots) {}, &change.n_tokens);
        if (!tokens)
                return error_set(err, -ENOMEM, "out of memory");
        change.tokens = tokens;
        r = remove ? registry_remove_machine(a->registry, remove, user, &change, done, userdata) :
                     registry_change_ca(a->registry, 0, &change, done, userdata);
        return r < 0 ? error_set(err, r, "Failed to replace the compromised keys: %s", strerror(-r)) : 0;
}

/* -- What components have sealed -- */

void authority_reseal(Authority *a) {
        const Component *const *components = a->host->components;
        static const char action[] = "seal secrets with the present cluster key";
        Error err = {};
        int r = 0;

        if (!registry_cluster(a->registry)->ca_keys || a->changing || a->keys.problem.code != VERDICT_NONE ||
            kv_leads(a->store) == 0 || !registry_is_current(a->registry))
                return;
        for (size_t i = 0; components && components[i] && r == 0; i++)
                if (components[i]->reseal && a->host->selves[i])
                        r = components[i]->reseal(a->host->selves[i], authority_on_changed, a, &err);
        if (r > 0)
                a->changing = action;
        if (r != 0 && r != -EAGAIN)
                authority_log_failure(a, r, action, &err);
}

void authority_delete_keys(Authority *a) {
        const Cluster *c = registry_cluster(a->registry);
        uint64_t first = UINT64_MAX;
        Error err = {};
        int r;

        if (!c->ca_keys || c->ca_keys->n == 0 || cluster_has_unreadable(c, LAYOUT_SECRET) ||
            !registry_is_current(a->registry))
                return;
        for (size_t i = 0; i < c->ca_keys->n; i++)
                first = MIN(first, c->ca_keys->items[i].cluster_key);
        for (const ClusterSecret *s = c->secrets; s; s = s->hh.next)
                first = MIN(first, s->record.cluster_key);
        if (first == a->keys_deleted_below)
                return;
        r = key_store_delete_below(a->key_store, first, &err);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "%s", error_text(&err, r));
        a->keys_deleted_below = first;
}
