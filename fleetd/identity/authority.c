#include "fleetd/identity/authority.h"

#include "fleetd/identity/authority_internal.h"

static const AuthorityOpType types[] = {
        [AUTHORITY_TOKEN] = { .needs_ca = true, .step = authority_token_step },
        [AUTHORITY_SECURE] = { .needs_ca = true, .step = authority_secure_step },
        [AUTHORITY_ENROLL] = { .needs_ca = true, .step = authority_host_step },
        [AUTHORITY_JOIN] = { .step = authority_host_step, .refuse = authority_host_refuse },
        [AUTHORITY_RENEW] = { .step = authority_host_step, .refuse = authority_host_refuse },
        [AUTHORITY_USER] = { .needs_ca = true, .step = authority_user_step },
        [AUTHORITY_KEY] = { .needs_ca = true },
};

static void authority_step(AuthorityOp *op) {
        const AuthorityOpType *type = &types[op->kind];
        Error err = {};
        int r;

        r = type->needs_ca ? authority_need_ca(op->authority, &err) : 0;
        if (r == -EAGAIN && loop_now_ms(op->authority->loop) < op->deadline_ms)
                return;
        if (r < 0)
                authority_op_fail(op, r, error_text(&err, r));
        else if (type->step)
                type->step(op);
        else
                authority_op_end(op, NULL);
}

static void authority_on_update(void *userdata) {
        Authority *a = userdata;
        uint64_t now_ms = loop_now_ms(a->loop);
        AuthorityOp *next;

        for (AuthorityOp *op = LIST_FIRST(&a->operations); op; op = next) {
                next = LIST_NEXT(op, ops);
                if (!op->writing && !timer_armed(&op->retry))
                        authority_step(op);
                else if (now_ms >= op->deadline_ms)
                        authority_op_fail(op, -EAGAIN, "the cluster did not answer in time; try again");
        }
        if (a->wanted_until_ms > now_ms && !registry_cluster(a->registry)->ca_roots)
                (void) authority_need_ca(a, &(Error) {});
        authority_reseal(a);
}

void authority_tick(Authority *a) {
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        authority_on_update(a);
        authority_delete_keys(a);
        kv_state(a->store, &state);
        keys_check(a, &state);
        if (state.role != KV_ROLE_LEADER || !state.ready || !c->ca_keys)
                return;
        keys_begin_term(a, state.term);
        if (a->keys.problem.code != VERDICT_NONE)
                keys_transfer(a, &state);
        (void) keys_distribute(a, &state, c->ca_keys->items[0].cluster_key, true, &(Error) {});
        authority_rekey_tick(a, &state);
        authority_rotation_tick(a, &state);
}

static void authority_on_change(void *userdata, const RegistryChange *change) {
        Authority *a = userdata;

        if (!LIST_EMPTY(&a->operations) && (change->kind == CHANGED_ALL || change->kind == CHANGED_CLUSTER))
                loop_defer(a->loop, &a->update);
}

/* -- Lifetime -- */

static void authority_on_ca_wanted(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                   size_t size) {
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        Authority *a = userdata;

        if (reader_end(&r) < 0 || version != CA_WANTED_PROTOCOL)
                return;
        authority_want_ca(a);
}

static const PeerFrameType authority_frame_types[] = {
        { PEER_CA_WANTED, authority_on_ca_wanted },
};

int authority_new(Authority **ret, const ComponentHost *host) {
        Authority *a = NEW0(Authority, 1);
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Authority) {
                .host = host,
                .loop = host->io.loop,
                .peers = host->peers,
                .store = host->store,
                .registry = host->registry,
                .machine_id = host->settings->machine_id,
                .state_directory = host->settings->state_directory,
                .types = types,
                .observer = { .on_change = authority_on_change, .userdata = a },
                .update = DEFERRED(authority_on_update, a),
        };
        registry_observe(a->registry, &a->observer);
        peers_register(a->peers, authority_frame_types, ELEMENTS(authority_frame_types), a);
        authority_hosts_init(a);
        authority_listener_init(a);
        r = keys_init(a);
        if (r < 0) {
                (void) authority_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

Authority *authority_free(Authority *a) {
        if (!a)
                return NULL;
        while (!LIST_EMPTY(&a->operations))
                authority_op_free(LIST_FIRST(&a->operations));
        registry_unobserve(a->registry, &a->observer);
        registry_cancel(a->registry, a);
        deferred_cancel(&a->update);
        peers_unregister(a->peers, authority_frame_types, ELEMENTS(authority_frame_types));
        keys_done(a);
        authority_hosts_done(a);
        authority_listener_done(a);
        free(a);
        return NULL;
}
