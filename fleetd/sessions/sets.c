/* The health of sets, for HealthAction=restart on attached hosts: their view has no states of other machines,
 * and the replica that such a host uses counts them.
 *
 * PEER_SET: u8 version, string unit: a request of a host to which the unit is assigned. The answer is u8
 * version, string unit, varint instances without its own, varint those of them that are unhealthy.
 *
 * Each count visits the whole set: requests beyond SETS_PER_SECOND of one host get no answer. It asks again,
 * and restarts nothing meanwhile. */

#include "fleetd/sessions/membership_internal.h"

enum {
        SETS_PROTOCOL = 1,
        SETS_PER_SECOND = 20,
        SETS_BURST = 200, /* units that become unhealthy together, for example after a database */
};

int membership_ask_set(Membership *m, const char *unit) {
        _cleanup_writer_ Writer w = {};

        if (!kv_is_attached(m->store) || !m->attaching.in_use[0])
                return -ENOTCONN;
        write_u8(&w, SETS_PROTOCOL);
        write_string(&w, unit);
        return w.error ?: peers_send(m->peers, m->attaching.in_use, PEER_SET, w.bytes, w.size);
}

/* Return whether the host, which uses this replica, may have an answer now. */
static bool sets_permit(const Membership *m, const char *machine) {
        ReporterHost *h = reporter_find(&m->reporting.reporter, machine);

        return h && pace_try(&h->sets, SETS_PER_SECOND, SETS_BURST, loop_now_ms(m->loop));
}

static void sets_answer(const Membership *m, PeerSession *session, const char *unit) {
        const char *machine = peer_handshake(session)->machine_id;
        const Cluster *c = registry_cluster(m->registry);
        _cleanup_writer_ Writer w = {};
        SetHealth others;

        if (!registry_ready(m->registry) || !cluster_assignment_on(cluster_machine(c, machine), unit) ||
            !sets_permit(m, machine))
                return;
        others = set_health_of_others(c, unit, machine);
        write_u8(&w, SETS_PROTOCOL);
        write_string(&w, unit);
        write_varint(&w, others.n);
        write_varint(&w, others.n_unhealthy);
        if (w.error == 0)
                (void) peer_reply(session, PEER_SET, w.bytes, w.size);
}

void sets_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        _cleanup_free_ char *unit = read_string(&r, UNIT_NAME_MAX);
        SetHealth others;

        if (version != SETS_PROTOCOL || !unit)
                return;
        if (!kv_is_attached(m->store)) {
                if (reader_end(&r) == 0)
                        sets_answer(m, session, unit);
                return;
        }
        others.n = read_varint(&r);
        others.n_unhealthy = read_varint(&r);
        if (reader_end(&r) == 0 && others.n_unhealthy <= others.n && m->host->agent &&
            attaching_uses(m, peer_handshake(session)->machine_id))
                m->host->on_set(m->host->agent, unit, &others);
}
