/* The request to require certificates: it waits until no host that is up needs the key file. */
#include <errno.h>
#include <stdio.h>

#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/securing.h"

int authority_require_certificates(Authority *a, const char *user, RegistryDone done, void *userdata) {
        const Cluster *c = registry_cluster(a->registry);
        ClusterSettings next = *cluster_settings(c);

        if (c->settings_index == 0)
                next.voters = a->voters;
        next.peer_auth = PEER_AUTH_CERTIFICATE;
        return registry_set_settings(a->registry, &next, user, done, userdata);
}

static void authority_on_secured(void *userdata, KvStatus status, const char *message, uint64_t index) {
        AuthorityOp *op = userdata;

        op->writing = false;
        if (status == KV_COMPARE_FAILED) {
                authority_op_again(op);
                return;
        }
        if (status != KV_OK) {
                authority_op_fail(op, -EAGAIN, message);
                return;
        }
        op->secured(op->userdata, 0, NULL);
        authority_op_free(op);
}

void authority_secure_step(AuthorityOp *op) {
        Authority *a = op->authority;
        const Cluster *c = registry_cluster(a->registry);
        Error err = {};
        int r;

        if (cluster_settings(c)->peer_auth == PEER_AUTH_CERTIFICATE) {
                op->secured(op->userdata, 0, NULL);
                authority_op_free(op);
                return;
        }
        if (cluster_has_unreadable(c, LAYOUT_SETTINGS)) {
                authority_op_fail(op, -EBADMSG, "settings of the cluster: " CLUSTER_UNREADABLE);
                return;
        }
        r = securing_check(c, a->peers, op->force, loop_wall_ms(a->loop), &err);
        if (r == -EAGAIN && loop_now_ms(a->loop) < op->deadline_ms)
                return; /* the next tick repeats it */
        if (r >= 0)
                r = authority_require_certificates(a, op->record.by, authority_on_secured, op);
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else
                op->writing = true;
}

int authority_secure(Authority *a, bool force, const char *user, AuthoritySecured *done, void *userdata,
                     Error *err) {
        AuthorityOp *op;

        if (!a || !a->state_directory)
                return error_set(err, -EOPNOTSUPP, "this host has no state directory");
        op = authority_op_new(a, AUTHORITY_SECURE, userdata);
        if (!op)
                return error_set(err, -ENOMEM, "too many requests at once; try again");
        op->deadline_ms = loop_now_ms(a->loop) + AUTHORITY_SECURE_MS;
        op->secured = done;
        op->force = force;
        snprintf(op->record.by, sizeof(op->record.by), "%s", user ?: "");
        return 0;
}
