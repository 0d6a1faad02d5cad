/* Rotation of the CA: its begin, by any host with the cluster key, and its steps, by the leader. */

#include "base/log.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/rotation.h"

/* Keys of roots that remain; the others end with the rotation. Texts are borrowed. */
static void authority_remaining_keys(const CaKeys *keys, const CaRoots *roots, CaKeys *ret) {
        ret->n = 0;
        for (size_t i = 0; i < roots->n; i++) {
                const CaKey *key = ca_keys_find(keys, roots->items[i].id);

                if (key)
                        ret->items[ret->n++] = *key;
        }
}

/* Begin: add the next root. */
static int authority_add_root(Authority *a, const KvState *state, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        const CaRotation rotation = { .since_ms = loop_wall_ms(a->loop), .state = CA_ROTATION_DISTRIBUTE };
        _cleanup_cluster_key_ ClusterKey key = {};
        CaRoots roots = *c->ca_roots; /* both borrow their texts, but for the new ones */
        CaKeys keys = *c->ca_keys;
        int r;

        if (roots.n == CA_ROOTS_MAX || keys.n == 0)
                return error_set(err, -EBADMSG, "the cluster has %zu roots and %zu keys of them", roots.n,
                                 keys.n);
        TRY(key_store_read(a->key_store, keys.items[0].cluster_key, &key, err));
        roots.items[roots.n] = (CaRoot) { .state = CA_ROOT_NEXT };
        keys.items[keys.n] = (CaKey) {};
        TRY(authority_make_root(a, state, &key, &roots.items[roots.n], &keys.items[keys.n], err));
        roots.n++;
        keys.n++;
        r = registry_change_ca(a->registry, state->term,
                               &(CaChange) { .roots = &roots,
                                             .keys = &keys,
                                             .rotation = &rotation,
                                             .reason = "rotation of the CA: hosts store the new root" },
                               authority_on_changed, a);
        free(roots.items[roots.n - 1].pem);
        free(keys.items[keys.n - 1].sealed);
        return r < 0 ? error_set(err, r, "%s", strerror(-r)) : 0;
}

/* Let the next root sign, or end the rotation. */
static int authority_change_roots(Authority *a, const KvState *state, RotationStep step, Error *err) {
        const Cluster *c = registry_cluster(a->registry);
        CaRotation rotation = { .compromised = c->ca_rotation->compromised,
                                .since_ms = loop_wall_ms(a->loop),
                                .state = CA_ROTATION_ISSUE };
        _cleanup_free_ const char **ended = NULL;
        CaRoots roots;
        CaKeys keys;
        CaChange change = { .roots = &roots,
                            .keys = &keys,
                            .reason = "rotation of the CA: ended, without the former root" };
        int r;

        rotation_roots(c->ca_roots, step, &roots);
        authority_remaining_keys(c->ca_keys, &roots, &keys);
        ended = authority_ended_tokens(c, &roots, &change.n_tokens);
        if (!ended)
                return error_set(err, -ENOMEM, "out of memory");
        change.tokens = ended;
        if (step == ROTATION_ISSUE) {
                change.rotation = &rotation;
                change.reason = "rotation of the CA: the new root issues certificates";
        }
        r = registry_change_ca(a->registry, state->term, &change, authority_on_changed, a);
        return r < 0 ? error_set(err, r, "%s", strerror(-r)) : 0;
}

void authority_rotation_tick(Authority *a, const KvState *state) {
        const Cluster *c = registry_cluster(a->registry);
        static const char action[] = "continue the rotation of the CA";
        const ClusterMachine *waits;
        RotationStep step;
        Error err = {};
        int r;

        step = rotation_step(c, loop_wall_ms(a->loop), &waits);
        if (step == ROTATION_WAIT || a->changing || !c->ca_keys)
                return;
        r = step == ROTATION_ADD ? authority_add_root(a, state, &err) :
                                   authority_change_roots(a, state, step, &err);
        a->changing = r >= 0 ? action : NULL;
        authority_log_failure(a, r, action, &err);
}

int authority_rotate(Authority *a, bool compromised, const char *user, RegistryDone done, void *userdata,
                     Error *err) {
        return compromised ? authority_compromised(a, NULL, user, done, userdata, err) :
                             authority_request(a, CA_ROTATION_BEGIN, user, done, userdata, err);
}
