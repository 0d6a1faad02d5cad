/* Kernels of silent replicas, as other replicas see them. The leader may be the only host that cannot reach a
 * replica whose daemon hangs or has ended: its units run. An attached host needs none of this: the replica
 * that it uses decides.
 *
 * PEER_KERNELS: u8 version, then up to the end of the frame machines, each 16 bytes of its ID and u8 signs
 * (report_hosts.h). The leader requests the signs of silent replicas, the signs are 0; the answer has those
 * whose kernel has just answered: 8: the session has ended, 16 and 32 as announced. */
#include "fleetd/sessions/membership_internal.h"

enum {
        KERNELS_PROTOCOL = 1,
        KERNELS_MAX = KV_MEMBERS_MAX, /* of one frame */
        /* Keep-alives are answered each second, ticks are half as long: of two answers in a row, one is that
         * young. With the time for which it counts, a kernel is not seen for longer than by the leader. */
        KERNELS_SEEN_MS = 750,
        KERNELS_VALID_MS = LIVENESS_TICK_MS + 100,
};

/* The last answer about a machine. */
typedef struct Seen {
        Named machine;
        uint8_t signs;
        uint64_t at_ms;
} Seen;

/* -- The leader -- */

static void kernels_request(Membership *m, const char *machine_id) {
        const ClusterMachine *other;
        _cleanup_writer_ Writer w = {};

        write_u8(&w, KERNELS_PROTOCOL);
        report_host_write(machine_id, 0, &w);
        if (w.error < 0)
                return;
        LIST_FOREACH(other, &registry_cluster(m->registry)->members, of_members)
                if (!streq(other->id, m->machine_id) && !streq(other->id, machine_id))
                        (void) peers_send(m->peers, other->id, PEER_KERNELS, w.bytes, w.size);
}

void kernels_complete(Membership *m, const char *machine_id, LivenessSign *sign) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);
        const Seen *seen = named_find(m->kernels, machine_id);

        if (sign->heartbeat || sign->kernel || !machine || !machine->is_member ||
            (machine->presence != PRESENCE_UP && machine->presence != PRESENCE_AWAY))
                return;
        kernels_request(m, machine_id);
        if (!seen || loop_now_ms(m->loop) - seen->at_ms > KERNELS_VALID_MS)
                return;
        sign->kernel = true;
        sign->session = !(seen->signs & SIGN_CLOSED);
        sign->stopped = seen->signs & SIGN_STOPPED;
        sign->shut_down = seen->signs & SIGN_SHUT_DOWN;
}

static void kernels_take(Membership *m, Reader *r) {
        char id[MACHINE_ID_SIZE];
        uint8_t signs;

        for (unsigned i = 0; i < KERNELS_MAX && report_host_read(r, id, &signs); i++) {
                const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), id);
                Seen *seen = machine && machine->is_member ? named_get(&m->kernels, id, sizeof(Seen)) : NULL;

                if (!seen)
                        continue;
                seen->signs = signs;
                seen->at_ms = loop_now_ms(m->loop);
        }
}

/* -- Another replica -- */

static bool kernels_sees(const Membership *m, const char *machine_id, uint8_t *ret_signs) {
        LivenessSign sign = senders_session_sign(m, machine_id);
        PeerState peer;

        if (!sign.kernel || peers_state(m->peers, machine_id, &peer) < 0 ||
            ((peer.accepted || peer.dialed) && peer.kernel_silent_ms >= KERNELS_SEEN_MS))
                return false;
        *ret_signs = (uint8_t) ((sign.session ? 0 : SIGN_CLOSED) | (sign.stopped ? SIGN_STOPPED : 0) |
                                (sign.shut_down ? SIGN_SHUT_DOWN : 0));
        return true;
}

static void kernels_answer(Membership *m, PeerSession *session, Reader *r) {
        char id[MACHINE_ID_SIZE];
        _cleanup_writer_ Writer w = {};
        uint8_t signs;
        size_t n = 0;

        write_u8(&w, KERNELS_PROTOCOL);
        for (unsigned i = 0; i < KERNELS_MAX && report_host_read(r, id, &signs); i++)
                if (!streq(id, m->machine_id) && kernels_sees(m, id, &signs)) {
                        report_host_write(id, signs, &w);
                        n++;
                }
        if (n > 0 && w.error == 0)
                (void) peer_reply(session, PEER_KERNELS, w.bytes, w.size);
}

/* The leader dials the session of its requests; another host that leads as well has another session. */
void kernels_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                      size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);

        if (read_u8(&r) != KERNELS_PROTOCOL)
                return;
        if (m->leading)
                kernels_take(m, &r);
        else
                kernels_answer(m, session, &r);
}
