/* Connects reports and liveness to sessions and the registry. Each replica reports the attached hosts that
 * have a session to it; the leader takes its own report in the same way. */

#include "base/log.h"
#include "fleetd/sessions/membership_internal.h"

enum {
        HEARTBEAT_ANSWER_MS =
                750, /* between a heartbeat that is answered and the next one: they come each 500 ms */
        OWN_SESSION = 1
}; /* no session of this host has that number twice: it is in one table of the leader */

/* -- A replica -- */

/* One answer a second to two heartbeats: a host counts its replica as silent after 1.5 s. A replica without a
 * leader answers all: hosts use another one after a second of that. Of those that come once a second, each
 * needs an answer. */
bool reporting_on_heartbeat(Membership *m, PeerSession *session, bool attached, uint8_t signs) {
        const char *machine_id = peer_handshake(session)->machine_id;
        bool has_replica = peer_handshake(session)->raft_id != 0;
        Reporter *reporter = &m->reporting.reporter;
        uintptr_t *note = peer_note(session, PEER_NOTE_SIGNS);
        uint32_t slot = (uint32_t) *note;

        if (!attached && !(has_replica && signs & SIGN_ALONE)) {
                reporter_remove(reporter, machine_id);
                return !has_replica;
        }
        if (reporter_slot(reporter, machine_id, peer_number(session), &slot) < 0)
                return attached;
        *note = slot;
        reporter_heartbeat(reporter, slot, signs);
        return attached &&
               reporter_answers(reporter, slot, loop_now_ms(m->loop),
                                kv_has_leader(m->store) && !(signs & SIGN_RARE) ? HEARTBEAT_ANSWER_MS : 0);
}

/* A host that has ended its session because it uses others says nothing of its daemon by that, also while
 * this replica has a session to it: the report of the replica that it uses now may come later. */
static LivenessSign reporting_look(void *userdata, const char *machine_id) {
        const Membership *m = userdata;
        LivenessSign sign = senders_session_sign(m, machine_id);
        PeerState peer;

        if (!sign.session && peers_state(m->peers, machine_id, &peer) == 0 &&
            streq(peer.bye, PEER_BYE_UNUSED))
                sign.kernel = false;
        return sign;
}

void reporting_tick(Membership *m, const KvState *state, bool late) {
        Reporter *reporter = &m->reporting.reporter;
        bool leads = state->role == KV_ROLE_LEADER;
        ReportHead head = { .term = state->term, .kept = !late };
        _cleanup_writer_ Writer w = {};
        PeerSession *leader;

        if (state->attached) {
                reporter_done(reporter);
                return;
        }
        leader = leads || !state->leader_machine_id[0] ? NULL :
                                                         peers_dialed(m->peers, state->leader_machine_id);
        if (leads)
                head.session = m->leading ? OWN_SESSION : 0;
        else if (leader)
                head.session = peer_number(leader);
        if (state->leader_machine_id[0]) /* its heartbeats of the time without a leader are over */
                reporter_remove(reporter, state->leader_machine_id);
        /* Without a leader, too: a heartbeat that is kept would revive a host that was lost meanwhile. */
        reporter_write(reporter, &head, reporting_look, m, &w);
        if (w.error < 0 || head.session == 0)
                return;
        if (leads && reports_take(&m->reporting.reports, m->machine_id, OWN_SESSION, m->term,
                                  loop_now_ms(m->loop), w.bytes, w.size) < 0)
                reporter_again(reporter);
        if (leader && peers_send(m->peers, state->leader_machine_id, PEER_REPORT, w.bytes, w.size) < 0)
                reporter_again(reporter);
}

/* -- The leader -- */

/* A host that has a replica, or another one that has sent its heartbeats to this host. */
static bool reporting_is_direct(const Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);

        return streq(machine_id, m->machine_id) || (machine && machine->is_member) ||
               senders_has_sender(m, machine_id);
}

static bool reporting_on_sign(void *userdata, const char *machine_id, const LivenessSign *sign, bool late) {
        Membership *m = userdata;
        const Cluster *cluster = registry_cluster(m->registry);
        const ClusterMachine *machine = cluster_machine(cluster, machine_id);
        bool gone = !machine || presence_is_down(machine->presence);
        LivenessSign seen = *sign;

        if (streq(machine_id, m->machine_id))
                return false;
        if (sign->unattached && (gone || reporting_is_direct(m, machine_id)))
                return false;
        /* Its heartbeats end when it has the tombstone, too. */
        if (machine && cluster_machine_has_left(machine))
                return true;
        /* It has a replica now, and the one that it used before does not know that yet; or a replica that
         * does not work sends its heartbeats to all hosts. */
        if (sign->unattached) /* it may not use the session yet that this host has to it */
                seen.kernel |= senders_session_sign(m, machine_id).kernel;
        if ((sign->heartbeat && !sign->indirect) || !senders_has_contact(m, machine_id))
                (void) liveness_sign(&m->liveness, cluster, machine_id, &seen, late);
        return true;
}

static void reporting_expect(Membership *m, const ClusterMachine *machine) {
        if ((machine->presence == PRESENCE_UP || machine->presence == PRESENCE_AWAY) &&
            machine->presence_index > 0 && !reporting_is_direct(m, machine->id))
                (void) reports_expect(&m->reporting.reports, machine->id);
}

void reporting_lead(Membership *m, uint64_t since_ms) {
        liveness_reset(&m->liveness, since_ms);
        reports_begin(&m->reporting.reports, reporting_on_sign, m);
        for (const ClusterMachine *machine = registry_cluster(m->registry)->machines; machine;
             machine = machine->hh.next)
                reporting_expect(m, machine);
}

/* The heartbeats of the host come to this one; otherwise, a replica reports it. */
static void reporting_count_direct(Membership *m, const char *machine_id) {
        LivenessSign sign;

        if (!streq(machine_id, m->machine_id) && !senders_has_contact(m, machine_id) &&
            reports_sign(&m->reporting.reports, machine_id, &sign))
                return;
        sign = senders_sign(m, machine_id);
        kernels_complete(m, machine_id, &sign);
        (void) liveness_sign(&m->liveness, registry_cluster(m->registry), machine_id, &sign,
                             m->reporting.late);
}

static void reporting_count_sender(Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);

        if (!streq(machine_id, m->machine_id) && !(machine && machine->is_member))
                reporting_count_direct(m, machine_id);
}

/* The host whose signs count stays, so that no unit of it is touched. Its clone is rejected by the replica
 * that it uses, as by one to which both have a session. */
static void reporting_on_clone(void *userdata, const char *machine_id, const char *replica,
                               uint64_t session) {
        Membership *m = userdata;
        const Cluster *c = registry_cluster(m->registry);
        PeerSession *reports = peers_session(m->peers, session);
        _cleanup_writer_ Writer w = {};

        log_warning(((LogFields) { .machine = machine_id }),
                    "two hosts have machine ID %s, of %s: the one that uses the replica of %s is rejected; "
                    "on the clone: " CLUSTER_NEW_MACHINE_ID,
                    machine_id, cluster_name_of(c, machine_id), cluster_name_of(c, replica));
        if (streq(replica, m->machine_id)) {
                peers_reject_clone(m->peers, machine_id);
                return;
        }
        write_u8(&w, REPORT_PROTOCOL);
        report_host_write(machine_id, 0, &w);
        if (reports && w.error == 0)
                (void) peer_reply(reports, PEER_REPORT, w.bytes, w.size);
}

static void reporting_reject_clone(void *userdata, const char *machine_id) {
        peers_reject_clone(((Membership *) userdata)->peers, machine_id);
}

void reporting_count(Membership *m, const KvState *state, bool late) {
        const ClusterMachine *machine;

        m->reporting.late = late;
        liveness_tick(&m->liveness);
        reporting_tick(m, state, late);
        reports_tick(&m->reporting.reports, loop_now_ms(m->loop), late);
        reports_each_clone(&m->reporting.reports, reporting_on_clone, m);
        reporting_count_direct(m, m->machine_id);
        LIST_FOREACH(machine, &registry_cluster(m->registry)->members, of_members)
                if (!streq(machine->id, m->machine_id))
                        reporting_count_direct(m, machine->id);
        senders_each_sender(m, reporting_count_sender);
}

void reporting_on_change(Membership *m, const RegistryChange *change) {
        const ClusterMachine *machine = change->machine ? cluster_machine(registry_cluster(m->registry),
                                                                          change->machine) :
                                                          NULL;
        LivenessSign sign;

        if (!m->leading || !change->machine)
                return;
        if (!machine) {
                reports_forget(&m->reporting.reports, change->machine);
                liveness_remove(&m->liveness, change->machine);
                return;
        }
        /* A removed host is reported again when it has another session. */
        if (change->key && change->key->kind == LAYOUT_REMOVED && machine->removed)
                reports_forget(&m->reporting.reports, change->machine);
        if (change->kind != CHANGED_PRESENCE)
                return;
        if (reports_sign(&m->reporting.reports, change->machine, &sign))
                (void) liveness_sign(&m->liveness, registry_cluster(m->registry), change->machine, &sign,
                                     true);
        else
                reporting_expect(m, machine);
}

/* -- Frames -- */

void reporting_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                        size_t size) {
        Membership *m = userdata;
        KvState state;
        int e;

        if (size == 0) {
                reporter_again(&m->reporting.reporter);
                return;
        }
        if (!m->leading) {
                kv_state(m->store, &state);
                if (streq(peer_handshake(session)->machine_id, state.leader_machine_id))
                        reports_read_clones(payload, size, reporting_reject_clone, m);
                return;
        }
        e = reports_take(&m->reporting.reports, peer_handshake(session)->machine_id, peer_number(session),
                         m->term, loop_now_ms(m->loop), payload, size);
        if (e == -EBADMSG || e == -ENOMEM)
                (void) peer_reply(session, PEER_REPORT, NULL, 0);
        presences_write(m);
}
