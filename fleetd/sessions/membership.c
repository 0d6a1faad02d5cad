/* Connects the pure parts (liveness, voters) to sessions, store and registry. */
#include "fleetd/sessions/membership.h"

#include "base/log.h"
#include "fleetd/identity/identity.h"
#include "fleetd/sessions/leaving.h"
#include "fleetd/sessions/membership_internal.h"
#include "fleetd/sessions/voters.h"

enum {
        LEVEL_WAIT_MS = 24 * 3600 * 1000, /* of cluster time, for a return to the older program */
        LATE_MS = 250,
};

static void membership_check_keys(Membership *m) {
        for (const Named *s = m->senders.hosts; s; s = s->hh.next)
                if (cluster_machine(registry_cluster(m->registry), s->name))
                        authority_member_problem(m->authority, s->name, senders_problem(m, s->name));
}

/* -- Voters -- */

/* A host gets a replica when it has the cluster key: each replica can sign. */
static bool membership_may_add(const Membership *m, uint64_t raft_id) {
        const ClusterMachine *machine = cluster_machine_of_member(registry_cluster(m->registry), raft_id);

        return !machine || authority_may_add(m->authority, machine->id);
}

/* Make the change; 0, or why not. */
static int membership_make(Membership *m, const KvState *state, const VotersChange *change) {
        const ClusterMachine *machine;

        switch (change->action) {
        case VOTERS_ASSIGN:
                machine = cluster_machine(registry_cluster(m->registry), change->machine_id);
                if (!machine || m->writing)
                        return -EBUSY;
                m->writing = registry_assign_replica(m->registry, state->term, machine, presences_on_written,
                                                     m) == 0;
                return m->writing ? 0 : -ENOMEM;
        case VOTERS_ADD:
                if (!membership_may_add(m, change->raft_id))
                        return -EAGAIN;
                return kv_member_add(m->store, change->raft_id, change->address);
        case VOTERS_PROMOTE:
                if (!membership_may_add(m, change->raft_id))
                        return -EAGAIN;
                return kv_member_promote(m->store, change->raft_id);
        case VOTERS_DEMOTE:
        case VOTERS_REMOVE:
                if (change->force)
                        return kv_member_shrink(m->store, change->raft_id, change->action == VOTERS_REMOVE);
                return change->action == VOTERS_REMOVE ? kv_member_remove(m->store, change->raft_id) :
                                                         kv_member_demote(m->store, change->raft_id);
        case VOTERS_VACATE:
                return kv_member_vacate(m->store, change->raft_id);
        case VOTERS_RETIRE:
                machine = cluster_machine(registry_cluster(m->registry), change->machine_id);
                if (!machine || m->writing)
                        return -EBUSY;
                m->writing = registry_retire_member(m->registry, state->term, machine, change->reason,
                                                    presences_on_written, m) == 0;
                return m->writing ? 0 : -ENOMEM;
        default:
                return -EINVAL;
        }
}

static void membership_log_change(const KvState *state, const VotersChange *change,
                                  const ClusterMachine *machine) {
        if (change->action == VOTERS_ASSIGN)
                log_notice(((LogFields) { .term = state->term, .machine = change->machine_id }), "%s",
                           change->reason);
        else
                log_notice(((LogFields) { .term = state->term }), "%s member %llu (%s): %s",
                           voters_action_name(change->action), (unsigned long long) change->raft_id,
                           machine ? cluster_machine_name(machine) : change->address, change->reason);
}

static bool membership_is_attached(void *userdata, const char *machine_id) {
        const Membership *m = userdata;
        LivenessSign sign;

        return reports_sign(&m->reporting.reports, machine_id, &sign) && sign.session;
}

/* As VotersInput.voters: by the settings of the cluster, or by fleetd.conf. */
static unsigned membership_voters(const Membership *m) {
        const Cluster *cluster = registry_cluster(m->registry);

        return (unsigned) (cluster_decides_voters(cluster) ? cluster_settings(cluster)->voters :
                                                             m->settings->voters);
}

static void membership_change_voters(Membership *m, const KvState *state) {
        const Cluster *cluster = registry_cluster(m->registry);
        uint64_t now_ms = loop_now_ms(m->loop);
        VotersInput input = { .members = state->members,
                              .n_members = state->n_members,
                              .leader_id = state->leader_id,
                              .last = state->commit,
                              .cluster = cluster,
                              .voters = membership_voters(m),
                              .attaches = state->level >= KV_LEVEL_ATTACHED,
                              .level = state->level,
                              .is_attached = membership_is_attached,
                              .userdata = m,
                              .spread = cluster_settings(cluster)->spread,
                              .led_ms = now_ms - m->led_since_ms,
                              .spread_ms = now_ms - m->spread_since_ms,
                              .paused = cluster->adopting || engine_brakes(m->host->engine),
                              .spans = &voters_spans };
        const ClusterMachine *machine;
        VotersChange change;
        int r;

        /* Voters=1 in fleetd.conf, and no settings of the cluster: no other host holds a replica. */
        if (input.voters == 1 && !cluster_decides_voters(cluster))
                return;
        voters_plan(&input, &change);
        if (change.action == VOTERS_NOTHING)
                return;
        r = membership_make(m, state, &change);
        if (r == 0 && change.spreads)
                m->spread_since_ms = now_ms;
        machine = cluster_machine_of_member(cluster, change.raft_id);
        if (r == 0)
                membership_log_change(state, &change, machine);
        else if (r != -EBUSY && r != -EAGAIN && r != -EREMOTE)
                log_warning(((LogFields) { .error = r }), "Failed to %s member %llu: %s",
                            voters_action_name(change.action), (unsigned long long) change.raft_id,
                            strerror(-r));
}

static void membership_forget_removed(Membership *m, const KvState *state) {
        const ClusterMachine *removed = m->writing ? NULL : registry_forgettable(m->registry);

        if (removed)
                m->writing = registry_forget_machine(m->registry, state->term, removed, presences_on_written,
                                                     m) == 0;
}

/* The last step of a tick: it may be due in many of them. */
static void membership_remove_rest(Membership *m, const KvState *state) {
        const ClusterMachine *removed = m->writing ? NULL : registry_removed_rest(m->registry);

        if (removed)
                m->writing = registry_remove_rest(m->registry, state->term, removed, presences_on_written,
                                                  m) == 0;
}

/* -- Hosts that leave -- */

static void membership_write_drained(Membership *m, const KvState *state, const ClusterMachine *machine) {
        MaintenanceRecord drained = *machine->maintenance;

        drained.mode = MAINTENANCE_DRAINED;
        m->writing = registry_maintain(m->registry, state->term, machine, &drained, NULL,
                                       presences_on_written, m) == 0;
}

static void membership_step_leave(Membership *m, const KvState *state, const ClusterMachine *machine) {
        const ClusterMachine *other;

        switch (leaving_step(registry_cluster(m->registry), state, machine, &other)) {
        case LEAVING_DRAIN:
                membership_write_drained(m, state, machine);
                break;
        case LEAVING_TRANSFER:
                if (kv_transfer(m->store, other->member.raft_id) == 0)
                        log_notice(((LogFields) { .term = state->term }),
                                   "transferring leadership to %s: %s is leaving the cluster",
                                   cluster_machine_name(other), cluster_machine_name(machine));
                break;
        case LEAVING_END:
                m->writing = registry_leave(m->registry, state->term, machine, presences_on_written, m) == 0;
                if (m->writing)
                        log_notice(((LogFields) { .machine = machine->id, .term = state->term }),
                                   "%s leaves the cluster: no unit is left on it, and it does not vote",
                                   cluster_machine_name(machine));
                break;
        default:
                break;
        }
}

static void membership_let_leave(Membership *m, const KvState *state) {
        const Cluster *c = registry_cluster(m->registry);

        if (c->adopting || c->counts[MACHINES_MAINTAINED] == 0 || engine_brakes(m->host->engine))
                return;
        for (const ClusterMachine *machine = c->machines; machine && !m->writing; machine = machine->hh.next)
                if (cluster_machine_is_leaving(machine) && machine->presence == PRESENCE_UP)
                        membership_step_leave(m, state, machine);
}

static void membership_end_leave(Membership *m) {
        Error err = {};
        int r;

        if (m->has_left)
                return;
        r = identity_leave(m->settings->state_directory, &err);
        if (r < 0) { /* the next tick tries again */
                log_error(((LogFields) { .error = r }), "Failed to end the leave of this host: %s",
                          error_text(&err, r));
                return;
        }
        m->has_left = true;
        log_notice(NO_FIELDS, "this host has left the cluster, and starts again without its state");
        m->host->restart(m->host);
}

/* A unit file was added after the check of the request to leave: cancel it. */
static void membership_check_unit_files(Membership *m, const KvState *state) {
        const Cluster *c = registry_cluster(m->registry);
        const ClusterMachine *self = cluster_machine(c, m->machine_id);
        _cleanup_text_ Text reason = {};
        Error why = {};

        if (!self || !cluster_machine_is_leaving(self) || !registry_ready(m->registry) || !state->ready ||
            m->writing || !leaving_owns_units(c, self, m->host->directory, &why))
                return;
        text_printf(&reason, "cancelled: %s", why.message);
        m->writing = registry_end_maintenance(m->registry, self, HISTORY_DIRECTORY,
                                              reason.chars ?: "cancelled", presences_on_written, m) == 0;
}

/* Detect that this host has left: it has the tombstone that followed its leave, or it was rejected as
 * removed. A tree that is being filled may show an earlier leave of this host, with an earlier Raft ID, and
 * no host rejects it. */
static void membership_check_left(Membership *m, const KvState *state) {
        const ClusterMachine *self = cluster_machine(registry_cluster(m->registry), m->machine_id);
        bool leaving, left;

        if (!self || !registry_ready(m->registry) || !m->host->io.restart)
                return;
        leaving = cluster_machine_is_leaving(self) && self->member.raft_id == state->raft_id;
        left = cluster_machine_has_left(self);
        if (!left && (leaving || self->member.raft_id == state->raft_id))
                m->was_leaving = leaving;
        if (left ? m->was_leaving || peers_is_removed(m->peers) : leaving && peers_is_removed(m->peers))
                membership_end_leave(m);
}

/* Voters=3 or 5 of the founder is the initial setting of a new cluster, as is SingletonLeaseSec=, which never
 * changes: a leader relies on the leases that former leaders granted. Voters=1 keeps its meaning: no other
 * host holds a replica. In the start that founded the cluster, units with data stay there, unless people have
 * decided it meanwhile; older clusters keep what they have. */
static void membership_found_settings(Membership *m, const KvState *state) {
        const Cluster *c = registry_cluster(m->registry);
        ClusterSettings settings = *cluster_settings(c);
        bool initial = !cluster_decides_voters(c) && state->n_members == 1 &&
                       (m->settings->voters > 1 || m->settings->singleton_lease_ms > 0),
             sticky = state->level >= KV_LEVEL_SCHEDULING && !settings.sticky && !settings.not_sticky;

        if (!state->founded || state->level < KV_LEVEL_IDENTITY || !(initial || sticky) || m->writing ||
            cluster_has_unreadable(c, LAYOUT_SETTINGS))
                return;
        if (initial) {
                settings.voters = m->settings->voters > 1 ? m->settings->voters : 0;
                settings.singleton_lease_ms = m->settings->singleton_lease_ms;
        }
        settings.founder = !initial && !cluster_decides_voters(c);
        settings.sticky |= sticky;
        m->writing = registry_set_settings(m->registry, &settings, NULL, presences_on_written, m) == 0;
}

/* -- The feature level -- */

static void membership_on_raised(void *userdata, const KvResult *result) {
        Membership *m = userdata;
        KvState state;

        m->raising = 0;
        if (result->status != KV_OK)
                return;
        log_notice(((LogFields) { .index = result->index }),
                   "raised the feature level to the highest that all hosts support");
        kv_state(m->store, &state);
        if (!state.founded)
                (void) registry_note_level(m->registry, state.level, NULL);
        else /* the cluster begins with it; and this start may end soon: "fleetctl init" restarts the daemon
              */
                membership_found_settings(m, &state);
}

static void membership_raise(Membership *m, const KvState *state, unsigned level) {
        KvCommand command = { .op = KV_RAISE, .internal = true, .term = state->term, .limit = level };

        (void) kv_propose(m->store, &command, membership_on_raised, m, &m->raising);
}

/* A cluster that this start has founded, and that no other host has joined, contains no older version: it
 * begins at the newest level. Return whether that is the case and not complete. */
static bool membership_begin_level(Membership *m, const KvState *state) {
        if (!state->founded || state->role != KV_ROLE_LEADER || state->n_members != 1 ||
            state->level >= state->level_max)
                return false;
        if (!m->raising)
                membership_raise(m, state, state->level_max);
        return true;
}

/* Raise the level when all hosts have supported a higher one for long enough. */
static void membership_check_level(Membership *m, const KvState *state) {
        unsigned supported = cluster_level(registry_cluster(m->registry), state->level_max, NULL);
        uint64_t noted = 0, since_ms = 0;
        int r;

        /* Before cluster time begins, no wait can be measured. */
        if (membership_begin_level(m, state) || state->level >= state->level_max || m->writing ||
            m->raising || state->cluster_ms == 0)
                return;
        r = registry_read_level(m->registry, &noted, &since_ms);
        if (supported > state->level && r >= 0 && noted == supported) {
                if (state->cluster_ms >= since_ms + (m->host->io.level_wait_ms ?: LEVEL_WAIT_MS))
                        membership_raise(m, state, supported);
                return;
        }
        /* A new host supports less, or all hosts support more: the wait starts again. */
        if (supported > state->level || (r >= 0 && noted > supported))
                m->writing = registry_record_level(m->registry, state->term, supported, state->cluster_ms,
                                                   presences_on_written, m) == 0;
}

/* -- Ticks -- */

static void membership_lead(Membership *m, const KvState *state, bool late) {
        uint64_t now_ms = loop_now_ms(m->loop);

        if (m->term != state->term || !m->leading) {
                m->term = state->term;
                m->leading = true;
                m->led_since_ms = m->spread_since_ms = now_ms;
                reporting_lead(m, m->contact_ms > 0 ? now_ms - m->contact_ms : 0);
                registry_note(m->registry,
                              &(HistoryNote) { .kind = HISTORY_LEADER, .machine = m->machine_id }, 1);
        }
        reporting_count(m, state, late || state->n_voters_reachable * 2 <= state->n_voters);
        conditions_tick(m, state);
        senders_tick(m);
        presences_write(m);
        membership_check_keys(m);
        roles_observe(m, state);
        membership_found_settings(m, state);
        membership_forget_removed(m, state);
        membership_change_voters(m, state);
        membership_let_leave(m, state);
        membership_check_level(m, state);
        membership_remove_rest(m, state);
        presences_write_problems(m, state); /* last: hosts cause these at will */
}

static void membership_on_tick(void *userdata) {
        Membership *m = userdata;
        uint64_t now_ms = loop_now_ms(m->loop);
        bool late = now_ms - m->last_tick_ms > LIVENESS_TICK_MS + LATE_MS;
        KvState state;

        m->last_tick_ms = now_ms;
        (void) timer_start(&m->tick, m->loop, LIVENESS_TICK_MS);
        if (m->dialing.retry)
                dialing_update_later(m);
        authority_tick(m->authority);
        renewal_tick(m->renewal);
        revocation_tick(&m->revocation);
        sessions_tick(m);

        kv_state(m->store, &state);
        attaching_update(m, &state);
        membership_check_left(m, &state);
        membership_check_unit_files(m, &state);
        if (state.role == KV_ROLE_LEADER) {
                if (state.ready && registry_ready(m->registry)) {
                        membership_lead(m, &state, late);
                        securing_tick(&m->securing, loop_now_ms(m->loop) - m->led_since_ms + 1);
                } else
                        reporting_tick(m, &state, late);
                m->contact_ms = now_ms;
                joining_publish_start(m, &state);
                return;
        }
        m->leading = false;
        if (state.leader_id != 0)
                m->contact_ms = now_ms;
        reporting_tick(m, &state, late);
        conditions_tick(m, &state);
        securing_tick(&m->securing, 0);
        /* A heartbeat kept until this host leads would revive a host that was lost meanwhile. */
        named_clear(&m->senders.hosts);
        named_clear(&m->kernels);
        joining_take_replica(m, &state);
        joining_publish_start(m, &state);
        heartbeats_send(m, &state);
}

/* -- Events -- */

static void membership_on_change(void *userdata, const RegistryChange *change) {
        Membership *m = userdata;

        /* CHANGED_CLUSTER includes member keys. */
        if (change->kind == CHANGED_ALL || change->kind == CHANGED_MACHINE || change->kind == CHANGED_CLUSTER)
                dialing_update_later(m);
        reporting_on_change(m, change);
        revocation_on_change(&m->revocation, change);
        securing_on_change(&m->securing, change);
}

void membership_state_changed(void *membership) {
        Membership *m = membership;
        KvState state;

        kv_state(m->store, &state);
        (void) membership_begin_level(m, &state); /* before any other write */
        joining_state_changed(m);
        attaching_state_changed(m, &state);
        dialing_update_later(m);
}

void membership_peer_changed(Membership *m, const char *machine_id) {
        KvState state;

        kv_state(m->store, &state);
        attaching_update(m, &state);
        if (state.attached && attaching_is_unanswered(m, machine_id)) /* the last session of this host may be
                                                                       * silent: the new one is reported */
                heartbeats_send(m, &state);
        reporter_changed(&m->reporting.reporter, machine_id);
        conditions_peer_changed(m, machine_id);
        dialing_update_later(m);
        joining_peer_changed(m, machine_id);
}

int membership_rekey_host(Membership *m, Error *err) {
        return renewal_rekey(m->renewal, err);
}

const Revocation *membership_revocation(const Membership *m) {
        return m ? &m->revocation : NULL;
}

void membership_set_listening(Membership *m, bool listening) {
        m->unlistened = !listening;
}

/* -- Lifetime -- */

static const PeerFrameType membership_frames[] = {
        { PEER_JOIN, joining_on_request },   { PEER_JOINED, joining_on_answer },
        { PEER_RETIRED, retiring_on_frame }, { PEER_HEARTBEAT, heartbeats_on_frame },
        { PEER_REPORT, reporting_on_frame }, { PEER_CONDITIONS, conditions_on_frame },
        { PEER_KERNELS, kernels_on_frame },  { PEER_SESSIONS, sessions_on_frame },
        { PEER_SET, sets_on_frame },
};

static int membership_start(Membership *m) {
        TRY(authority_new(&m->authority, m->host));
        m->host->authority = m->authority;
        TRY(renewal_new(&m->renewal, m->host, m->authority));
        revocation_init(&m->revocation, m->host);
        securing_init(&m->securing, m->host, m->authority);
        registry_observe(m->registry, &m->observer);
        peers_register(m->peers, membership_frames, ELEMENTS(membership_frames), m);
        attaching_init(m);
        TRY(joining_init(m));
        dialing_init(m);
        return timer_start(&m->tick, m->loop, LIVENESS_TICK_MS);
}

int membership_new(Membership **ret, ComponentHost *host) {
        Membership *m = NEW0(Membership, 1);
        int r;

        if (!m)
                return -ENOMEM;
        *m = (Membership) {
                .host = host,
                .settings = host->settings,
                .loop = host->io.loop,
                .peers = host->peers,
                .store = host->store,
                .registry = host->registry,
                .machine_id = host->settings->machine_id,
                .observer = { .on_change = membership_on_change, .userdata = m },
                .tick = TIMER(membership_on_tick, m),
                .last_tick_ms = loop_now_ms(host->io.loop),
        };
        r = membership_start(m);
        if (r < 0) {
                membership_free(m);
                return r;
        }
        dialing_update_later(m);
        *ret = m;
        return 0;
}

void *membership_free(void *membership) {
        Membership *m = membership;

        if (!m)
                return NULL;

        registry_unobserve(m->registry, &m->observer);
        peers_unregister(m->peers, membership_frames, ELEMENTS(membership_frames));
        timer_stop(&m->tick);
        revocation_done(&m->revocation);
        securing_done(&m->securing);
        renewal_free(m->renewal);
        authority_free(m->authority);
        joining_done(m);
        if (m->retiring.session != 0)
                kv_sync_cancel(m->store, &m->retiring.sync);
        named_clear(&m->senders.hosts);
        named_clear(&m->senders.positions);
        timer_stop(&m->move);
        reporter_done(&m->reporting.reporter);
        reports_done(&m->reporting.reports);
        named_clear(&m->conditions.hosts);
        named_clear(&m->sessions.hosts);
        named_clear(&m->kernels);
        dialing_done(m);
        liveness_reset(&m->liveness, 0);
        registry_cancel(m->registry, m);
        if (m->raising)
                kv_cancel(m->store, m->raising);
        free(m);
        return NULL;
}
