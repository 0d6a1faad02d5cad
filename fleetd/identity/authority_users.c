/* Users: the record of the user, with its key and its rights, is written first, then the certificate is
 * signed, as for hosts. */

#include "fleetd/identity/authority_internal.h"

/* Set the key. A user has one; the same key keeps it. */
static int user_plan_key(const ClusterPrincipal *user, const UserRequest *request, const char *pin,
                         PrincipalRecord *ret, Error *err) {
        if (user && user->record.pins.n > 0 && !pins_have(&user->record.pins, pin) && !request->replace)
                return error_set(err, -EEXIST,
                                 "user %s has another key: renew its certificate with that key, or end the "
                                 "key with --replace",
                                 request->name);
        ret->pins = (Pins) { .n = 1 };
        memcpy(ret->pins.items[0], pin, DIGEST_SIZE);
        return 0;
}

static int user_check(const UserRequest *request, Error *err) {
        if (!principal_name_is_valid(request->name))
                return error_set(err, -EINVAL,
                                 "'%.80s' is no name of a user: expected 1 to %d of a-z 0-9 . _ - that begin "
                                 "with a letter or digit",
                                 request->name, PRINCIPAL_NAME_MAX);
        if (request->ttl_ms > 0 &&
            (request->ttl_ms < USER_TTL_MIN_MS || request->ttl_ms > TLS_USER_LIFETIME_MAX_MS))
                return error_set(err, -EINVAL, "a life of %llu s: expected 1 minute to 365 days",
                                 (unsigned long long) (request->ttl_ms / 1000));
        return 0;
}

int user_plan(const Cluster *c, const UserRequest *request, const char *pin, uint64_t now_ms,
              PrincipalRecord *ret, Error *err) {
        const ClusterPrincipal *user;
        PrincipalRecord record = {};

        TRY(user_check(request, err));
        user = cluster_principal(c, request->name);
        if (user)
                record = user->record;
        if (!user && !pin)
                return error_set(err, -ENOENT, "there is no user %s: fleetctl cert ls prints them",
                                 request->name);
        if (!user && HASH_COUNT(c->principals) >= PRINCIPALS_MAX)
                return error_set(err, -ENOSPC, "the cluster has %d users: fleetctl cert revoke removes one",
                                 PRINCIPALS_MAX);
        if (request->rights)
                TRY(right_list_record(request->rights, &record, err));
        if (record.n_rights == 0)
                return error_set(err, -EINVAL,
                                 "user %s has no rights: state them, for example --rights=units-see",
                                 request->name);
        if (pin) {
                record.expires_ms = now_ms + (request->ttl_ms ?: USER_TTL_DEFAULT_MS);
                TRY(user_plan_key(user, request, pin, &record, err));
        }
        *ret = record;
        return 0;
}

void authority_user_step(AuthorityOp *op) {
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        const ClusterPrincipal *user = cluster_principal(c, op->name);
        UserRequest request = {
                .name = op->name, .rights = op->rights, .ttl_ms = op->lifetime_ms, .replace = op->replace
        };
        PrincipalRecord record;
        UserChange change = { .name = op->name,
                              .user = &record,
                              .certified = true,
                              .by = op->user,
                              .reason = user ? "has another certificate" : "was created" };
        Error err = {};
        int r;

        if (!authority_may_issue(a)) {
                authority_op_again(op);
                return;
        }
        op->issued_ms = loop_wall_ms(a->loop);
        r = user_plan(c, &request, op->pin, op->issued_ms, &record, &err);
        if (r >= 0)
                r = secret_random(op->serial, sizeof(op->serial));
        if (r >= 0) {
                registry_propose_for(a->registry, op->by);
                r = registry_set_user(a->registry, &change, authority_on_recorded, op);
        }
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else
                op->writing = true;
}

int authority_certify_user(Authority *a, const UserRequest *request, AuthorityDone *done, void *userdata,
                           Error *err) {
        PrincipalRecord planned;
        AuthorityOp *op;
        int r;

        TRY(user_check(request, err));
        TRY(authority_op_begin(a, AUTHORITY_USER, done, userdata, &op, err));
        op->lifetime_ms = request->ttl_ms ?: USER_TTL_DEFAULT_MS;
        op->replace = request->replace;
        op->rights = right_list_ref((RightList *) request->rights);
        snprintf(op->name, sizeof(op->name), "%s", request->name);
        snprintf(op->by, sizeof(op->by), "%s", request->by);
        snprintf(op->user, sizeof(op->user), "%s", request->user ?: "");
        op->request.csr = strdup(request->csr);
        r = op->request.csr ? authority_read_csr(op, err) : error_set(err, -ENOMEM, "out of memory");
        if (r >= 0) /* a message before the CA is created */
                r = user_plan(registry_cluster(a->registry), request, op->pin, loop_wall_ms(a->loop),
                              &planned, err);
        if (r < 0)
                authority_op_free(op);
        return r;
}
