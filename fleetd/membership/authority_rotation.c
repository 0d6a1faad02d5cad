/* Rotation of the CA: its begin, by any host with the cluster key, and its steps, by the leader. */
#include <errno.h>

#include "base/log.h"
#include "fleetd/membership/authority_internal.h"
#include "fleetd/membership/rotation.h"

static void authority_on_rotated(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Authority *a = userdata;

        a->creating = false;
        if (status == KV_OK)
                log_notice(((LogFields) { .index = index }),
                           "the rotation of the CA has reached its next state");
        else if (status != KV_COMPARE_FAILED)
                log_warning(NO_FIELDS, "Failed to continue the rotation of the CA: %s; trying again",
                            message);
}

/* Keys of roots that remain; the others end with the rotation. Texts are borrowed. */
static void authority_remaining_keys(const CaKeys *keys, const CaRoots *roots, CaKeys *ret) {
        ret->n = 0;
        for (size_t i = 0; i < roots->n; i++) {
                const CaKey *key = ca_keys_find(keys, roots->items[i].id);

                if (key)
                        ret->items[ret->n++] = *key;
        }
}

/* Tokens whose root is none of these. The caller frees the array; NULL without memory. */
static const char **authority_ended_tokens(const Cluster *c, const CaRoots *roots, size_t *ret_n) {
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

void authority_rotation_tick(Authority *a, const KvState *state) {
        const Cluster *c = registry_cluster(a->registry);
        CaRotation rotation = { .since_ms = loop_wall_ms(a->loop), .state = CA_ROTATION_ISSUE };
        _cleanup_free_ const char **ended = NULL;
        const ClusterMachine *waits;
        RotationStep step;
        CaRoots roots;
        CaKeys keys;
        CaChange change = { .roots = &roots,
                            .keys = &keys,
                            .roots_index = c->ca_roots_index,
                            .keys_index = c->ca_keys_index,
                            .rotation_index = c->ca_rotation_index,
                            .reason = "rotation of the CA: ended, without the former root" };

        step = rotation_step(c, rotation.since_ms, &waits);
        if (step == ROTATION_WAIT || a->creating)
                return;
        rotation_roots(c->ca_roots, step, &roots);
        authority_remaining_keys(c->ca_keys, &roots, &keys);
        ended = authority_ended_tokens(c, &roots, &change.n_tokens);
        if (!ended)
                return;
        change.tokens = ended;
        rotation.compromised = c->ca_rotation->compromised;
        if (step == ROTATION_ISSUE) {
                change.rotation = &rotation;
                change.reason = "rotation of the CA: the new root issues certificates";
        }
        a->creating = registry_change_ca(a->registry, state->term, &change, authority_on_rotated, a) >= 0;
}

int authority_rotate(Authority *a, bool compromised, const char *user, RegistryDone done, void *userdata,
                     Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        const CaRotation rotation = { .compromised = compromised,
                                      .since_ms = loop_wall_ms(a->loop),
                                      .state = CA_ROTATION_DISTRIBUTE };
        _cleanup_cluster_key_ ClusterKey key = {};
        CaRoots roots;
        CaKeys keys;
        KvState state;
        int r;

        if (!a->state_directory || !c->ca_roots || !c->ca_keys || c->ca_keys->n == 0)
                return error_set(err, -ENOKEY,
                                 "the cluster has no CA; the first token creates it: fleetctl token");
        if (c->ca_rotation || cluster_has_unreadable(c, LAYOUT_CA_ROTATION) || c->ca_roots->n == CA_ROOTS_MAX)
                return error_set(err, -EALREADY,
                                 "a rotation of the CA is under way: fleetctl ca shows its state");
        r = cluster_key_read(a->state_directory, c->ca_keys->items[0].cluster_key, &key, err);
        if (r < 0)
                return r;
        roots = *c->ca_roots; /* both borrow their texts, but for the new ones */
        keys = *c->ca_keys;
        roots.items[roots.n] = (CaRoot) { .state = CA_ROOT_NEXT };
        keys.items[keys.n] = (CaKey) {};
        kv_state(a->store, &state);
        r = authority_make_root(a, &state, &key, &roots.items[roots.n], &keys.items[keys.n], err);
        if (r < 0)
                return r;
        roots.n++;
        keys.n++;
        r = registry_change_ca(a->registry, 0,
                               &(CaChange) { .roots = &roots,
                                             .keys = &keys,
                                             .rotation = &rotation,
                                             .roots_index = c->ca_roots_index,
                                             .keys_index = c->ca_keys_index,
                                             .reason = "rotation of the CA: hosts store the new root",
                                             .user = user },
                               done, userdata);
        free(roots.items[roots.n - 1].pem);
        free(keys.items[keys.n - 1].sealed);
        return r < 0 ? error_set(err, r, "Failed to begin the rotation: %s", strerror(-r)) : 0;
}
