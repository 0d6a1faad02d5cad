/* The presences of hosts, which the leader writes: changes of liveness, and the problem of a host that is up.
 */

#include "fleetd/sessions/membership_internal.h"

enum {
        SINGLE_TICKS = 60000 / LIVENESS_TICK_MS
}; /* of an attached host, until its one session is a problem */

/* Return the code of KvState.problem, which is a message of the store. */
static VerdictCode replica_code(const KvState *state) {
        if (state->stopped)
                return VERDICT_REPLICA_STOPPED;
        if (!state->ready) /* or it has no leader */
                return VERDICT_SAID;
        if (state->differs)
                return VERDICT_TREE_DIFFERS;
        return state->undecided ? VERDICT_TREE_UNDECIDED : VERDICT_TREE_REFUSED;
}

void replica_problem(const Membership *m, const KvState *state, Verdict *ret) {
        bool any = state->stopped || state->differs || state->undecided || state->refuses;
        char said[REPLICA_PROBLEM_SIZE];

        kv_replica_problem(m->store, said, sizeof(said));
        any &= !(state->lost && m->joining.attach); /* it needs none */
        if (said[0])
                verdict_say(ret, VERDICT_REPLICA_STOPPED, said);
        else if (any) {
                snprintf(said, sizeof(said), "%s", state->problem);
                verdict_say(ret, replica_code(state), said);
        } else if (m->unlistened)
                verdict_set(ret, VERDICT_NO_LISTENER, "%s", component_peer_address(m->host));
        else
                authority_problem(m->authority, ret);
}

void presences_write(Membership *m) {
        _cleanup_free_ PresenceChange *changes = NULL;
        size_t n;

        if (m->writing || liveness_changes(&m->liveness, registry_cluster(m->registry), &changes, &n) < 0)
                return;
        if (n > 0)
                m->writing = registry_presence(m->registry, m->term, changes, n, presences_on_written, m) >=
                             0;
}

/* After a failure, too: the next tick compares with the cluster view again. */
void presences_on_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Membership *m = userdata;

        m->writing = false;
        if (m->leading && status == KV_OK) /* many hosts are lost at once: the others, without a tick */
                presences_write(m);
}

/* Return how another host with the ID of a machine was rejected in the last minute, here or by another
 * replica; VERDICT_NONE: none was. */
static VerdictCode presences_rejected(Membership *m, const char *machine_id) {
        uint8_t reported = senders_rejected(m, machine_id);
        bool clone, key;

        peers_rejected(m->peers, machine_id, &clone, &key);
        if (clone || reported & CONDITION_CLONE)
                return VERDICT_IDENTITY_COPY;
        return key || reported & CONDITION_KEY ? VERDICT_IDENTITY_KEY : VERDICT_NONE;
}

/* The command after the report of a key names the host; by the begin of its ID, if its name is too long. */
static void presences_set_rejected(const ClusterMachine *machine, VerdictCode rejected, Verdict *ret) {
        _cleanup_text_ Text message = {};

        verdict_set(ret, rejected, "%s",
                    rejected == VERDICT_IDENTITY_KEY ? cluster_machine_name(machine) : "");
        ret->of = VERDICT_OF_IDENTITY;
        verdict_append(&message, ret);
        if (message.size + 1 >= PRESENCE_REASON_SIZE)
                snprintf(ret->args, sizeof(ret->args), "%s", machine->short_id);
}

/* Return whether the condition of an attached host, which a former leader wrote, has ended: a replica would
 * have repeated it. */
static bool presences_have_outlived(const Membership *m, const ClusterMachine *machine) {
        return !machine->is_member && machine->verdict.code != VERDICT_NONE &&
               loop_now_ms(m->loop) - m->led_since_ms > CONDITION_VALID_MS;
}

/* Return whether an attached host has been without an idle session for a minute, or still is under another
 * leader. */
static bool presences_are_single(const Membership *m, const ClusterMachine *machine) {
        uint64_t ticks = machine->is_member ? 0 : reports_single_ticks(&m->reporting.reports, machine->id);

        return ticks >= SINGLE_TICKS || (ticks > 0 && machine->verdict.of == VERDICT_OF_SESSIONS);
}

/* Set the verdict of the presence of a machine that is up: the problem of its replica, another host that has
 * its ID, its wrong clock, its sessions, or the end of one of them. -ENODATA: there is none. */
static int presences_problem(Membership *m, const KvState *state, const ClusterMachine *machine,
                             Verdict *ret) {
        static const VerdictCode ends[_VERDICT_OF_MAX] = {
                [VERDICT_OF_REPLICA] = VERDICT_REPLICA_WORKS,
                [VERDICT_OF_IDENTITY] = VERDICT_IDENTITY_ALONE,
                [VERDICT_OF_CLOCK] = VERDICT_CLOCK_AGREES,
                [VERDICT_OF_SESSIONS] = VERDICT_SESSIONS_TWO,
        };
        bool self = streq(machine->id, m->machine_id), single = presences_are_single(m, machine);
        const Verdict *problem;
        VerdictCode rejected;
        Verdict own = {};

        if (self)
                replica_problem(m, state, &own);
        problem = self ? &own : senders_problem(m, machine->id);
        /* Under the next leader, a problem that is published remains meanwhile. */
        if (!self && senders_awaits_key(m, machine->id)) {
                if (machine->verdict.of == VERDICT_OF_REPLICA)
                        return -ENODATA;
                problem = &own;
        }
        if (!problem && (single || presences_have_outlived(m, machine)))
                problem = &own;
        if (!problem)
                return -ENODATA;
        rejected = presences_rejected(m, machine->id);
        if (problem->code != VERDICT_NONE) {
                *ret = *problem;
                ret->of = VERDICT_OF_REPLICA;
        } else if (rejected != VERDICT_NONE)
                presences_set_rejected(machine, rejected, ret);
        else if (!self && senders_clock(m, machine->id, ret))
                ret->of = VERDICT_OF_CLOCK;
        else if (single)
                *ret = (Verdict) { .code = VERDICT_SESSION_SINGLE, .of = VERDICT_OF_SESSIONS };
        else
                *ret = (Verdict) { .code = ends[machine->verdict.of] };
        return ret->code != VERDICT_NONE ? 0 : -ENODATA;
}

/* False for almost all of many hosts, without a search by their IDs. */
static bool presences_may_have_problem(const Membership *m, const ClusterMachine *machine) {
        return machine->verdict.code != VERDICT_NONE || named_find_of(m->senders.hosts, &machine->hh) ||
               reports_any_single(&m->reporting.reports) || streq(machine->id, m->machine_id);
}

/* The presence of a machine shows its problem to each client. */
static void presences_write_problem(Membership *m, const KvState *state, const ClusterMachine *machine) {
        PresenceChange change = { .presence = PRESENCE_UP, .expected_index = machine->presence_index };

        if (machine->presence != PRESENCE_UP || !presences_may_have_problem(m, machine) ||
            presences_problem(m, state, machine, &change.verdict) < 0 ||
            verdict_equal(&change.verdict, &machine->verdict))
                return;
        snprintf(change.machine, sizeof(change.machine), "%s", machine->id);
        m->writing = registry_presence(m->registry, state->term, &change, 1, presences_on_written, m) >= 0;
}

/* One change in a tick, of another host than the last one: no host keeps those of others back. */
void presences_write_problems(Membership *m, const KvState *state) {
        const Cluster *c = registry_cluster(m->registry);
        const ClusterMachine *last = cluster_machine(c, m->problem_of), *machine = last;

        for (size_t i = 0; i < HASH_COUNT(c->machines) && !m->writing; i++) {
                machine = machine && machine->hh.next ? machine->hh.next : c->machines;
                presences_write_problem(m, state, machine);
                if (m->writing)
                        snprintf(m->problem_of, sizeof(m->problem_of), "%s", machine->id);
        }
}
