/* Problems of this host, of the cluster, and of its machines; and of what people have requested. */

#include "fleetd/engine/drain.h"
#include "fleetd/engine/explain.h"
#include "fleetd/problems/problems_internal.h"
#include "fleetd/registry/presence.h"
#include "fleetd/sessions/leaving.h"

enum {
        NAMES_SHOWN = 3,
        VOTER_LOST_MS = 60000, /* a host that is lost for longer is not just restarted */
        MOVE_WAITS_MS = 60000,
};

/* -- This host -- */

static bool find_replica(ProblemSearch *s, const ProblemRow *row) {
        if (*s->name)
                s->subject = s->name;
        return s->state.leader_id != 0 && s->replica.size > 0 && problems_add(s, row, "%s", s->replica.chars);
}

static bool find_removed(ProblemSearch *s, const ProblemRow *row) {
        return s->state.leader_id == 0 && s->state.removed &&
               problems_add(s, row, "%s", text_chars(&s->replica));
}

static bool find_no_leader(ProblemSearch *s, const ProblemRow *row) {
        const KvState *state = &s->state;

        if (state->leader_id != 0 || state->removed)
                return false;
        text_append(&s->what, "no leader");
        if (state->stale_ms >= 1000) {
                text_append(&s->what, " for ");
                append_span(&s->what, state->stale_ms);
        }
        if (s->replica.size > 0)
                return problems_add(s, row, ": %s", s->replica.chars);
        return problems_add(s, row, ": %zu of %zu voters reachable; reads still work",
                            state->n_voters_reachable, state->n_voters);
}

/* Another host of Join= rejects this one: it has a cluster of its own, or is of a former lineage. */
static bool find_rejection(ProblemSearch *s, const ProblemRow *row) {
        return s->rejection.size > 0 && problems_add(s, row, "no session to %s", s->rejection.chars);
}

/* -- The cluster -- */

static bool find_adoption(ProblemSearch *s, const ProblemRow *row) {
        char label[CLUSTER_LABEL_SIZE];
        size_t n = 0;

        if (!s->cluster->adopting)
                return false;
        text_append(&s->what,
                    "recovered or restored: no unit is started or moved until all hosts have reported "
                    "their units");
        for (size_t i = 0; i < s->n_machines; i++)
                if (cluster_awaits_report(s->cluster, s->machines[i]))
                        text_printf(&s->what, "%s%s", n++ > 0 ? ", " : "; missing: ",
                                    cluster_machine_label(s->machines[i], label));
        return problems_add(s, row, "%s", "");
}

bool problem_has_presence(const ClusterMachine *m, Presence presence) {
        return m && !cluster_machine_is_removed(m) && m->presence == presence;
}

bool problem_awaits(const ProblemSearch *s, const ClusterMachine *m) {
        return s->cluster->adopting && !streq(m->id, s->self) && cluster_awaits_report(s->cluster, m);
}

/* Units that fit nowhere, or have Move=no, hold a leave back until they, or the leave, are withdrawn. */
static bool find_leave(ProblemSearch *s, const ProblemRow *row) {
        _cleanup_names_ Names names = {};
        size_t n = 0;

        if (!cluster_machine_is_leaving(s->machine) || !leaving_unit(s->machine, &n) || !problems_view(s))
                return false;
        if (engine_blocked_units(s->view, s->machine, &names) < 0)
                s->list.error = -ENOMEM;
        if (names.n == 0)
                return false;
        for (size_t i = 0; i < names.n && i < NAMES_SHOWN; i++)
                text_printf(&s->what, "%s%s", i > 0 ? ", " : "its leave is blocked: ", names.items[i]);
        if (names.n > NAMES_SHOWN)
                text_printf(&s->what, " and %zu more", names.n - NAMES_SHOWN);
        snprintf(s->command, sizeof(s->command), "why %s", names.items[0]);
        s->next = s->command;
        return problems_add(s, row, " cannot move; unload %s, or on that host: fleetctl leave --cancel",
                            names.n == 1 ? "it" : "them");
}

/* Return whether the brake holds anything back: a unit of a lost machine, or a drain. While a new lineage
 * waits for reports, that holds back all units. */
static bool brake_has_effect(const Cluster *c) {
        const ClusterMachine *unused;

        for (const ClusterMachine *m = c->machines; m && !c->adopting; m = m->hh.next) {
                if (m->maintenance &&
                    (m->maintenance->mode == MAINTENANCE_DRAINING || cluster_machine_is_leaving(m)))
                        return true;
                for (const ClusterAssignment *a = m->presence == PRESENCE_LOST ? m->assignments : NULL; a;
                     a = a->hh.next)
                        if (a->of->unit && !a->of->unit->placement.global &&
                            a->of->target > TARGET_INACTIVE && !(a->state && a->state->state.done) &&
                            (cluster_current_state(c, a->of, &unused), unused == m))
                                return true;
        }
        return false;
}

static bool find_brake(ProblemSearch *s, const ProblemRow *row) {
        if (s->brake.until_ms == 0 || !brake_has_effect(s->cluster))
                return false;
        text_append(&s->what, "units are held back until ");
        problems_append_clock(s, s->wall_ms + s->brake.until_ms - s->cluster->now_ms, true);
        return problems_add(s, row, ": %zu of %zu machines were lost within a minute (BrakeSec=)",
                            s->brake.n_lost, s->brake.n_total);
}

/* -- Voters -- */

static const ClusterMachine *member_machine(const ProblemSearch *s, const KvMember *member) {
        return cluster_machine_of_member(s->cluster, member->raft_id);
}

/* The configuration of Raft may have an outdated address; the member key has the one that is dialed. */
static const char *member_address(const KvMember *member, const ClusterMachine *m) {
        return m && m->member.peer[0] ? m->member.peer : member->address;
}

static const char *member_name(const ProblemSearch *s, const KvMember *member,
                               char label[static CLUSTER_LABEL_SIZE]) {
        const ClusterMachine *m = member_machine(s, member);

        if (m)
                return cluster_machine_label(m, label);
        return member->address[0] ? member->address : "(replaced)";
}

/* Return the member that votes in place of a voter that is lost or removed; NULL: there is none. */
static const KvMember *member_standby(const ProblemSearch *s) {
        for (size_t i = 0; i < s->state.n_members; i++)
                if (s->state.members[i].role != KV_MEMBER_VOTER && s->state.members[i].reachable)
                        return &s->state.members[i];
        return NULL;
}

static bool machine_is_drained(const ClusterMachine *m) {
        return m && m->maintenance && m->maintenance->mode != MAINTENANCE_CORDONED;
}

bool problem_is_gone(const ProblemSearch *s, const ClusterMachine *m) {
        return cluster_machine_successor(m) ||
               (presence_is_down(m->presence) && m->since_ms > 0 && s->now_ms >= m->since_ms + LONG_LOST_MS);
}

static void append_since(ProblemSearch *s, uint64_t since_ms) {
        if (since_ms == 0)
                return;
        text_append(&s->what, " since ");
        problems_append_clock(s, s->wall_ms - (s->now_ms - MIN(since_ms, s->now_ms)), false);
}

/* Return why a lost machine was away before, whose kernel answered until then; NULL: it was not. */
static const char *lost_after(const ClusterMachine *m) {
        if (!problem_has_presence(m, PRESENCE_LOST) || m->away_ms == 0)
                return NULL;
        return m->verdict.code == VERDICT_LOST_CLOSED  ? "its fleetd lost its session" :
               m->verdict.code == VERDICT_LOST_HUNG    ? "its fleetd does not answer" :
               m->verdict.code == VERDICT_LOST_STOPPED ? "its fleetd was stopped" :
                                                         NULL;
}

/* Units of a machine that was away may run there, although others run in their place. */
static void append_absence(ProblemSearch *s, const ClusterMachine *m) {
        const char *after = lost_after(m), *drained = machine_is_drained(m) ? "drained" : "";

        if (!m || problem_has_presence(m, PRESENCE_UP))
                return;
        append_since(s, after ? m->away_ms : m->since_ms);
        if (after)
                text_printf(&s->what, " (%s%s)", after,
                            *drained             ? ", drained" :
                            !m->member.agentless ? "; its units may run there, too" :
                                                   "");
        else if (problem_has_presence(m, PRESENCE_LEFT)) /* which drained it for that time */
                text_append(&s->what, " (shut down)");
        else if (problem_has_presence(m, PRESENCE_AWAY))
                text_printf(&s->what, " (away%s%s%s)", *drained ? ", " : "", drained,
                            m->states ? ": its units stay as last reported" : "");
        else if (*drained)
                text_printf(&s->what, " (%s)", drained);
}

/* Append how a voter that is no member any more leaves. Return false if it is one. */
static bool append_removal(ProblemSearch *s, const KvMember *member, bool majority) {
        if (member_machine(s, member) || (member->address[0] && !majority))
                return false;
        if (member->address[0]) /* a removal deletes the member key first */
                text_append(&s->what, ": it was removed, and leaves the voters within seconds");
        else
                text_printf(&s->what, ": its host has another replica, and this one leaves %s",
                            majority ? "within seconds" : "when a majority answers again");
        return true;
}

/* Append what brings the voter back, or replaces it. Return the command. */
static const char *append_return(ProblemSearch *s, const KvMember *member, bool majority) {
        const ClusterMachine *m = member_machine(s, member);
        const KvMember *standby = member_standby(s);
        const char *address = member_address(member, m);
        char label[CLUSTER_LABEL_SIZE];
        bool left = problem_has_presence(m, PRESENCE_LEFT), away = problem_has_presence(m, PRESENCE_AWAY);

        if (majority && standby && *address &&
            streq(member_address(standby, member_machine(s, standby)), address)) {
                text_printf(&s->what, ": %s has its address, and votes in its place within seconds",
                            member_name(s, standby, label));
                return "help replace";
        }
        /* After a restart of a daemon, its voters are unreachable for some seconds. */
        text_printf(&s->what, ": %sstart %s", problem_has_presence(m, PRESENCE_UP) ? "if that lasts, " : "",
                    away || lost_after(m) ? "fleetd on it" : "it");
        if (majority && ((left && !problem_is_gone(s, m)) || away || machine_is_drained(m)))
                return "help maintain";
        if (!majority || !standby || !(left || problem_has_presence(m, PRESENCE_LOST))) {
                if (*address)
                        text_printf(&s->what, ", or give a new host its address %s%s", address,
                                    majority ? " or another one" : "");
                return "help replace";
        }
        text_printf(&s->what, "; %s votes in its place ten minutes after the loss, or once it is removed",
                    member_name(s, standby, label));
        return m->since_ms > 0 && s->now_ms >= m->since_ms + VOTER_LOST_MS ? "remove --force " :
                                                                             "help replace";
}

static bool find_voters(ProblemSearch *s, const ProblemRow *row) {
        size_t n = s->state.n_voters, reachable = s->state.n_voters_reachable, quorum = n / 2 + 1;

        for (size_t i = 0; i < s->state.n_members && !s->state.removed; i++) {
                const KvMember *member = &s->state.members[i];

                if (member->role != KV_MEMBER_VOTER || member->reachable)
                        continue;
                text_append(&s->what, "voter unreachable");
                append_absence(s, member_machine(s, member));
                text_printf(&s->what, "; %zu of %zu voters left, ", reachable, n);
                if (reachable > quorum)
                        text_printf(&s->what, "%zu may be lost", reachable - quorum);
                else
                        text_append(&s->what, reachable < quorum ? "no majority" : "none may be lost");
                s->next = "";
                if (!append_removal(s, member, reachable >= quorum))
                        s->next = append_return(s, member, reachable >= quorum);
                s->subject = member_name(s, member, s->place);
                (void) problems_add(s, row, "%s", "");
        }
        return false;
}

/* -- Machines -- */

static bool find_verdict(ProblemSearch *s, const ProblemRow *row) {
        const ClusterMachine *m = s->machine;
        bool own = row->what == VERDICT_OF_REPLICA && s->replica.size > 0 && streq(m->id, s->self),
             whole = row->what == VERDICT_OF_REPLICA || row->what == VERDICT_OF_SESSIONS;
        _cleanup_text_ Text message = {};

        if ((int) m->verdict.of != row->what || m->verdict.code == VERDICT_NONE || own)
                return false;
        verdict_append(&message, &m->verdict);
        (void) problems_add(s, row, "%s%s",
                            text_chars(&message) + (whole ? 0 : strlen(verdict_aspect_begin(m->verdict.of))),
                            row->what == VERDICT_OF_CLOCK ? "; on that host: timedatectl" : "");
        s->list.error = s->list.error ?: message.error;
        return false;
}

static bool find_checks(ProblemSearch *s, const ProblemRow *row) {
        if (s->machine->facts && s->machine->facts->checks && *s->machine->facts->checks)
                (void) problems_add(s, row, "%s", s->machine->facts->checks);
        return false;
}

/* A host was installed again, or another one has its address. The old machine cannot return there. */
static bool find_replaced(ProblemSearch *s, const ProblemRow *row) {
        const ClusterMachine *successor = cluster_machine_successor(s->machine);
        char label[CLUSTER_LABEL_SIZE];

        snprintf(s->command, sizeof(s->command), "remove %s", s->machine->short_id);
        s->next = s->command;
        return successor && problems_add(s, row, "replaced by %s, which has its address: remove it",
                                         cluster_machine_label(successor, label));
}

static bool find_away(ProblemSearch *s, const ProblemRow *row) {
        if (s->machine->presence != PRESENCE_AWAY)
                return false;
        text_append(&s->what, "away");
        append_since(s, s->machine->since_ms);
        return problems_add(s, row, ": no answer; %s",
                            s->machine->member.agentless ? "it runs no units" :
                                                           "its units stay as last reported");
}

/* A host of which no presence was recorded yet has just founded the cluster, and was never lost. */
static bool find_lost(ProblemSearch *s, const ProblemRow *row) {
        const ClusterMachine *m = s->machine;

        if (m->presence != PRESENCE_LOST || problem_is_gone(s, m) || problem_awaits(s, m) ||
            (m->since_ms == 0 && streq(m->id, s->self)))
                return false;
        text_append(&s->what, "lost");
        append_since(s, m->since_ms);
        return problems_add(s, row, ": %s",
                            m->member.agentless   ? "it runs no units" :
                            s->cluster->adopting  ? "its units wait until all hosts have reported" :
                            s->brake.until_ms > 0 ? "its units are held back" :
                                                    "its units move to other machines");
}

/* One line for the machines that are lost for an hour: they may never return. A host that was reinstalled may
 * have the same name. */
static bool find_gone(ProblemSearch *s, const ProblemRow *row) {
        const ClusterMachine *first = NULL;
        size_t n = 0;

        text_append(&s->what, "lost for more than an hour; if it does not return, remove it");
        for (size_t i = 0; i < s->n_machines; i++) {
                const ClusterMachine *m = s->machines[i];

                if (!problem_has_presence(m, PRESENCE_LOST) || !problem_is_gone(s, m) ||
                    cluster_machine_successor(m) || problem_is_unreachable_voter(s, m))
                        continue;
                if (n++ == 0)
                        first = m;
                else if (n <= NAMES_SHOWN + 1)
                        text_printf(&s->what, "%s%s", n == 2 ? "; so are " : ", ", cluster_machine_name(m));
        }
        if (!first)
                return false;
        if (n > NAMES_SHOWN + 1)
                text_printf(&s->what, " and %zu more", n - NAMES_SHOWN - 1);
        s->subject = cluster_machine_name(first);
        snprintf(s->command, sizeof(s->command), "remove %s",
                 streq(cluster_machine_label(first, s->place), s->subject) ? s->subject : first->id);
        s->next = s->command;
        return problems_add(s, row, "%s", "");
}

/* Its capacity shrank, or requests of units that are there grew: nothing is stopped for that. */
static bool find_overfull(ProblemSearch *s, const ProblemRow *row) {
        const Sums *requested = &s->machine->requested;
        Resources capacity;
        bool memory;

        if (requested->n == 0 || presence_is_down(s->machine->presence) || !problems_view(s))
                return false;
        capacity = scheduler_view_capacity(s->view, s->machine);
        memory = requested->memory_mib > capacity.memory_mib;
        if (!resources_are_set(capacity) || (!memory && requested->cpu_percent <= capacity.cpu_percent))
                return false;
        text_append(&s->what, "is overfull: ");
        resources_append(&s->what, memory ? requested->memory_mib : requested->cpu_percent, memory);
        text_append(&s->what, " of ");
        resources_append(&s->what, memory ? capacity.memory_mib : capacity.cpu_percent, memory);
        (void) problems_add(s, row, " requested");
        return false;
}

/* -- What people have requested -- */

static bool find_drain(ProblemSearch *s, const ProblemRow *row) {
        const MaintenanceRecord *m = s->machine->maintenance;
        const ClusterAssignment *first;
        const char *end = "";
        Error why = {};
        size_t n;

        if (!m || m->purpose[0] || m->mode != MAINTENANCE_DRAINING || !problems_view(s))
                return false;
        first = engine_first_waiting(s->view, s->machine, &n, &why);
        if (!first)
                return false;
        if (scheduler_is_bound(first->of, s->machine) && s->machine->presence != PRESENCE_AWAY)
                s->next = "drain --force ";
        else if (why.code == DRAINED_UNIT_BLOCKED || m->deadline_ms > 0)
                s->next = "drain ";
        else
                end = n == 1 ? "; to stop it" : "; to stop them";
        return problems_add(s, row, "draining; %zu unit%s wait%s: %s: %s%s", n, plural(n), n == 1 ? "s" : "",
                            first->unit, why.message, end);
}

static bool find_move(ProblemSearch *s, const ProblemRow *row) {
        const MoveRecord *move = s->unit->move;
        Error why = {};

        return move && move->since_ms + MOVE_WAITS_MS <= s->wall_ms && problems_view(s) &&
               engine_explain_move(s->view, s->unit, s->brake.until_ms > 0, &why) == DRAINED_UNIT_WAITS &&
               problems_add(s, row, "its move to %s waits: %s", cluster_name_of(s->cluster, move->to),
                            why.message);
}

/* clang-format off */
const ProblemRow problem_host_rows[] = {
        { "replica", SEVERITY_CRITICAL, RIGHT_UNITS_SEE, ABOUT_HOST, find_replica, "cluster" },
        { "removed", SEVERITY_CRITICAL, RIGHT_UNITS_SEE, ABOUT_HOST, find_removed },
        { "no-leader", SEVERITY_CRITICAL, RIGHT_UNITS_SEE, ABOUT_HOST, find_no_leader, "cluster" },
        { "rejected", SEVERITY_CRITICAL, RIGHT_UNITS_SEE, ABOUT_HOST, find_rejection },
        { "adoption", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_adoption, "cluster" },
        { "leave", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_MACHINE, find_leave },
        { "brake", SEVERITY_CRITICAL, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_brake },
        { "voter", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_voters },
        { "replica", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_verdict, NULL,
          VERDICT_OF_REPLICA },
        { "identity", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_verdict, NULL,
          VERDICT_OF_IDENTITY },
        { "checks", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_checks },
        { "clock", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_verdict, NULL,
          VERDICT_OF_CLOCK },
        { "session", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_verdict, "log --machine=",
          VERDICT_OF_SESSIONS },
        { "replaced", SEVERITY_INFO, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_replaced },
        { "away", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_away, "events --machine=" },
        { "lost", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_PRESENCE, find_lost, "events --machine=" },
        { "gone", SEVERITY_INFO, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_gone },
        { "overfull", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_MACHINE, find_overfull, "rebalance" },
        { "drain", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_MACHINE, find_drain,
          "drain --deadline=5min " },
        { "move", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_MOVE, find_move, "why " },
        {},
};
/* clang-format on */
