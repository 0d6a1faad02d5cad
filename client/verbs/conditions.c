/* The problems of a cluster, for status: found in the answers of the daemon, and put into words. */
#include <stdio.h>

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/core/times.h"
#include "client/verbs/overview.h"
#include "client/verbs/voter_text.h"
#include "units/machine.h"

enum {
        PLACING_MS = 10000, /* a unit that was assigned or changed since then may not be reported yet */
        CONDITION_NAMES_SHOWN = 3,
        MACHINES_MEASURED = 10000, /* the supported maximum: nothing breaks at these numbers */
        UNITS_MEASURED = 100000,
};

void conditions_done(Conditions *all) {
        for (size_t i = 0; i < all->n; i++) {
                free(all->items[i].name);
                free(all->items[i].what);
                free(all->items[i].next);
        }
        free(all->items);
        *all = (Conditions) {};
}

enum { SHORT_ID = 8, HELD_MS = 60000 }; /* HELD_MS: a rollout that is held for longer is a problem */

/* Add a problem. If 'next' ends with a space or an equals sign, the name follows. Of a machine without a host
 * name, that is the begin of its ID. */
static void add(Conditions *all, const char *kind, const char *name, const char *next, const char *what, ...)
        _printf_(5, 6);
static void add(Conditions *all, const char *kind, const char *name, const char *next, const char *what,
                ...) {
        int size = machine_id_is_valid(name) ? SHORT_ID : (int) strlen(name);
        const char *id = strstr(name, " ("); /* of a machine with a namesake: the command has the ID */
        size_t n = strlen(next);
        _cleanup_text_ Text t = {}, command = {};
        Condition *c;
        va_list ap;

        va_start(ap, what);
        text_vprintf(&t, what, ap);
        va_end(ap);
        text_append(&command, next);
        if (n > 0 && strchr(" =", next[n - 1]))
                text_append_bytes(&command, id ? id + 2 : name, id ? strcspn(id + 2, ")") : (size_t) size);
        if (t.error < 0 || command.error < 0 || GROW(all->items, all->capacity, all->n + 1) < 0) {
                all->error = -ENOMEM;
                return;
        }
        c = &all->items[all->n++];
        *c = (Condition) { .kind = kind,
                           .name = strndup(name, (size_t) size),
                           .what = strdup(text_chars(&t)),
                           .next = strdup(text_chars(&command)) };
        if (!c->name || !c->what || !c->next)
                all->error = -ENOMEM;
}

/* -- The cluster -- */

bool view_is_removed(const View *v) {
        return member_bool(v->cluster, "removed");
}

static void add_replica(const View *v, Conditions *all) {
        const char *problem = member_text(v->cluster, "problem"), *name = member_text(v->cluster, "name"),
                   *rest = starts_with(problem, "no leader: ") ? problem + strlen("no leader: ") : problem;
        uint64_t stale_s = member_number(v->cluster, "staleSec");
        _cleanup_text_ Text t = {};

        if (json_value_member(v->cluster, "leader")) {
                if (*problem)
                        add(all, "replica", *name ? name : "cluster", "cluster", "%s", problem);
                return;
        }
        if (view_is_removed(v)) {
                add(all, "removed", "cluster", "", "%s", problem);
                return;
        }
        text_append(&t, "no leader");
        if (stale_s > 0) {
                text_append(&t, " for ");
                append_span(&t, stale_s * 1000);
        }
        add(all, "no-leader", "cluster", "cluster", "%s%s%s", text_chars(&t), *rest ? ": " : "", rest);
        all->error = all->error ?: t.error;
}

/* Another host of Join= rejects this one: it has a cluster of its own, or is of a former lineage. */
static void add_rejection(const View *v, Conditions *all) {
        const char *reason = member_text(v->cluster, "rejection");

        if (*reason)
                add(all, "rejected", "cluster", "", "no session to %s", reason);
}

static void add_adoption(const View *v, Conditions *all) {
        const JsonValue *awaited = json_value_member(v->cluster, "waitsFor");
        _cleanup_text_ Text names = {};

        if (!awaited)
                return;
        JSON_EACH(item, awaited)
                text_printf(&names, "%s%s", item_i > 0 ? ", " : "", json_value_string(item) ?: "");
        add(all, "adoption", "cluster", "cluster",
            "recovered or restored: no unit is started or moved until all hosts have reported their "
            "units%s%s",
            names.size > 0 ? "; missing: " : "", text_chars(&names));
        all->error = all->error ?: names.error;
}

/* Units that fit nowhere, or have Move=no, hold a leave back until they, or the leave, are withdrawn. */
static void add_leaves(const View *v, Conditions *all) {
        JSON_EACH(m, json_value_member(v->cluster, "leaving")) {
                const JsonValue *waiting = json_value_member(m, "waiting");
                size_t n = json_value_count(waiting);
                _cleanup_text_ Text names = {}, next = {};

                if (n == 0)
                        continue;
                for (size_t k = 0; k < n && k < CONDITION_NAMES_SHOWN; k++)
                        text_printf(&names, "%s%s", k > 0 ? ", " : "",
                                    json_value_string(json_value_item(waiting, k)) ?: "");
                if (n > CONDITION_NAMES_SHOWN)
                        text_printf(&names, " and %zu more", n - CONDITION_NAMES_SHOWN);
                text_printf(&next, "why %s", json_value_string(json_value_item(waiting, 0)) ?: "");
                add(all, "leave", member_text(m, "name"), text_chars(&next),
                    "its leave is blocked: %s cannot move; unload %s, or on that host: fleetctl "
                    "leave --cancel",
                    text_chars(&names), n == 1 ? "it" : "them");
                all->error = all->error ?: names.error ?: next.error;
        }
}

/* Return whether the brake holds anything back: a unit of a lost machine, or a drain. While a new lineage
 * waits for reports, that holds back all units. */
static bool brake_has_effect(const View *v) {
        if (json_value_member(v->cluster, "waitsFor"))
                return false;
        for (size_t i = 0; i < v->units.n; i++) {
                const ApiUnit *u = &v->units.units[i];
                const ApiMachine *m = u->machine_id ? listing_machine(&v->machines, u->machine_id) : NULL;

                if (m && machine_is_presence(m, "lost") && u->desired_state > TARGET_INACTIVE && !u->global &&
                    !unit_has_finished(u))
                        return true;
        }
        JSON_EACH(item, json_value_member(v->cluster, "maintenance"))
                if (streq(member_text(item, "mode"), "draining"))
                        return true;
        return json_value_member(v->cluster, "leaving");
}

static void add_brake(const View *v, Conditions *all) {
        const JsonValue *brake = json_value_member(v->cluster, "brake");
        _cleanup_text_ Text end = {};

        if (!brake || !brake_has_effect(v))
                return;
        append_clock(&end, member_number(brake, "until"), true);
        add(all, "brake", "cluster", "",
            "units are held back until %s: %llu of %llu machines were lost within a minute (BrakeSec=)",
            text_chars(&end), (unsigned long long) member_number(brake, "lost"),
            (unsigned long long) member_number(brake, "of"));
        all->error = all->error ?: end.error;
}

/* -- Machines -- */

static const char *machine_name(const ApiMachine *m) {
        return m->hostname && *m->hostname ? m->hostname : m->id ?: "";
}

static bool is_unreachable(const JsonValue *member) {
        return member_is_voter(member) && !member_bool(member, "reachable");
}

/* Return whether the machine is one of the voters that are listed as unreachable. */
static bool is_unreachable_voter(const View *v, const ApiMachine *m) {
        const JsonValue *members = json_value_member(v->cluster, "voters");

        for (size_t i = 0; m->id && i < json_value_count(members); i++) {
                const JsonValue *member = json_value_item(members, i);

                if (is_unreachable(member) && streq(member_text(member, "id"), m->id))
                        return true;
        }
        return false;
}

static void add_voters(const View *v, Conditions *all) {
        const JsonValue *members = json_value_member(v->cluster, "voters");
        size_t n = 0, n_reachable = 0;

        if (view_is_removed(v))
                return;
        JSON_EACH(member, members) {
                n += member_is_voter(member);
                n_reachable += member_is_voter(member) && !is_unreachable(member);
        }
        JSON_EACH(member, members) {
                _cleanup_text_ Text t = {}, name = {};
                const char *next;

                if (!is_unreachable(member))
                        continue;
                append_member_name(&name, &v->machines, member);
                next = append_voter(&t, v, member, n, n_reachable);
                add(all, "voter", text_chars(&name), next, "%s", text_chars(&t));
                all->error = all->error ?: t.error ?: name.error;
        }
}

bool view_is_new(const View *v, const ApiMachine *m) {
        return machine_is_presence(m, "lost") && m->since_ms == 0 &&
               same_string(m->id, member_text(v->cluster, "machine"));
}

static bool is_gone(const View *v, const ApiMachine *m) {
        return machine_is_presence(m, "lost") && machine_is_gone(v->cluster, m);
}

/* A host was installed again, or another one has its address. The old machine cannot return there. */
static void add_replaced(const View *v, const ApiMachine *m, Conditions *all) {
        _cleanup_text_ Text name = {}, successor = {}, next = {};

        append_machine_name(&name, &v->machines, m->id);
        append_machine_name(&successor, &v->machines, m->replaced_by);
        text_printf(&next, "remove %.8s", m->id);
        add(all, "replaced", text_chars(&name), text_chars(&next),
            "replaced by %s, which has its address: remove it", text_chars(&successor));
        all->error = all->error ?: name.error ?: successor.error ?: next.error;
}

static const char *lost_units(const View *v, const ApiMachine *m) {
        if (m->agentless)
                return "it runs no units";
        if (json_value_member(v->cluster, "waitsFor")) /* for others */
                return "its units wait until all hosts have reported";
        return json_value_member(v->cluster, "brake") ? "its units are held back" :
                                                        "its units move to other machines";
}

static void add_machine_condition(const View *v, const ApiMachine *m, Conditions *all) {
        _cleanup_text_ Text since = {}, label = {};
        const char *name;

        if (machine_is_presence(m, "up") && !m->problem && !m->identity_problem && !m->checks_problem &&
            !m->clock_problem && !m->session_problem)
                return;
        append_machine_name(&label, &v->machines, m->id);
        name = text_chars(&label);
        if (m->problem && *m->problem &&
            !(*member_text(v->cluster, "problem") && streq(m->id, member_text(v->cluster, "machine"))))
                add(all, "replica", name, "", "its replica: %s", m->problem);
        if (m->identity_problem && *m->identity_problem)
                add(all, "identity", name, "", "%s", m->identity_problem);
        if (m->checks_problem && *m->checks_problem)
                add(all, "checks", name, "", "%s", m->checks_problem);
        if (m->clock_problem && *m->clock_problem)
                add(all, "clock", name, "", "%s; on that host: timedatectl", m->clock_problem);
        if (m->session_problem && *m->session_problem)
                add(all, "session", name, "log --machine=", "its sessions: %s", m->session_problem);
        append_since(&since, v->cluster, m);
        if (machine_is_replaced(m))
                add_replaced(v, m, all);
        else if (machine_is_presence(m, "away"))
                add(all, "away", name, "events --machine=", "away%s: no answer; %s", text_chars(&since),
                    m->agentless ? "it runs no units" : "its units stay as last reported");
        else if (machine_is_presence(m, "lost") && !is_gone(v, m) && !view_is_new(v, m) && !view_awaits(v, m))
                add(all, "lost", name, "events --machine=", "lost%s: %s", text_chars(&since),
                    lost_units(v, m));
        all->error = all->error ?: since.error ?: label.error;
}

/* One line for the machines that are lost for an hour: they may never return. */
static void add_gone_machines(const View *v, Conditions *all) {
        const ApiMachine *first = NULL, *unused;
        _cleanup_text_ Text others = {}, next = {};
        size_t n = 0;

        for (size_t i = 0; i < v->machines.n; i++) {
                const ApiMachine *m = &v->machines.machines[i];

                if (!m->id || !is_gone(v, m) || machine_is_replaced(m) || is_unreachable_voter(v, m))
                        continue;
                if (n++ == 0)
                        first = m;
                else if (n <= CONDITION_NAMES_SHOWN + 1)
                        text_printf(&others, "%s%s", n == 2 ? "; so are " : ", ", machine_name(m));
        }
        if (!first)
                return;
        if (n > CONDITION_NAMES_SHOWN + 1)
                text_printf(&others, " and %zu more", n - CONDITION_NAMES_SHOWN - 1);
        /* A host that was reinstalled may have the same name. */
        text_printf(&next, "remove %s",
                    listing_find_machine(&v->machines, machine_name(first), &unused) > 1 ?
                            first->id :
                            machine_name(first));
        add(all, "gone", machine_name(first), text_chars(&next),
            "lost for more than an hour; if it does not return, remove it%s", text_chars(&others));
        all->error = all->error ?: others.error ?: next.error;
}

/* Add the drains that wait. */
static void add_drains(const View *v, Conditions *all) {
        JSON_EACH(m, json_value_member(v->cluster, "maintenance")) {
                unsigned long long n = member_number(m, "waiting");
                bool ends = member_bool(m, "unitBlocked") || json_value_member(m, "deadlineMs");
                bool stays = streq(member_text(m, "why"), "Move=no");

                if (n > 0)
                        add(all, "drain", member_text(m, "name"),
                            stays ? "drain --force " :
                            ends  ? "drain " :
                                    "drain --deadline=5min ",
                            "draining; %llu unit%s wait%s: %s: %s%s", n, plural(n), n == 1 ? "s" : "",
                            member_text(m, "unit"), member_text(m, "why"),
                            stays || ends ? "" :
                            n == 1        ? "; to stop it" :
                                            "; to stop them");
        }
}

/* Add the requested moves that wait. */
static void add_moves(const View *v, Conditions *all) {
        const JsonValue *moves = json_value_member(v->cluster, "moves");

        JSON_EACH(m, moves)
                add(all, "move", member_text(m, "name"), "why ", "its move to %s waits: %s",
                    member_text(m, "machine"), member_text(m, "reason"));
}

/* Add the rollouts that wait for a user. */
static void add_rollouts(const View *v, Conditions *all) {
        const JsonValue *rollouts = json_value_member(v->cluster, "rollouts");

        JSON_EACH(r, rollouts) {
                const char *name = member_text(r, "name"), *state = member_text(r, "state");
                unsigned long long revision = member_number(r, "revision");
                _cleanup_text_ Text age = {}, file = {};

                if (streq(state, "paused")) {
                        append_paused_file(&file, v, name);
                        add(all, "rollout", name, "rollout ", "the rollout of revision %llu is paused: %s%s",
                            revision, member_text(r, "why"), text_chars(&file));
                }
                if (!streq(state, "held") || member_number(r, "progressMs") < HELD_MS)
                        continue;
                append_span(&age, member_number(r, "progressMs"));
                add(all, "rollout", name, "rollout promote ",
                    "the rollout of revision %llu is held for %s; to return: fleetctl revert %s", revision,
                    text_chars(&age), name);
        }
}

/* Add the hosts at which the queue of reboots has stopped, or waits. */
static void add_reboots(const View *v, Conditions *all) {
        const JsonValue *reboots = json_value_member(v->cluster, "reboots");

        JSON_EACH(m, reboots) {
                const char *name = member_text(m, "name"), *state = member_text(m, "state"),
                           *reason = member_text(m, "reason");

                if (streq(state, "draining"))
                        add(all, "reboot", name, member_bool(m, "blocked") ? "" : "reboot --deadline=5min ",
                            "the queue of reboots waits for its drain: %s", reason);
                else if (streq(state, "queued"))
                        add(all, "reboot", name, "reboot --status", "the queue of reboots waits: %s", reason);
                else
                        add(all, "reboot", name, "reboot --resume",
                            "the queue of reboots has stopped: %s; to end it instead: fleetctl reboot "
                            "--cancel",
                            reason);
        }
}

static void add_machines(const View *v, Conditions *all) {
        for (size_t i = 0; i < v->machines.n; i++) {
                const ApiMachine *m = &v->machines.machines[i];

                if (m->id && !is_unreachable_voter(v, m))
                        add_machine_condition(v, m, all);
        }
        add_gone_machines(v, all);
        add_drains(v, all);
        add_moves(v, all);
        add_rollouts(v, all);
        add_reboots(v, all);
}

/* A host of an older version is normally upgraded. One that is lost may never be. */
static void add_level(const View *v, Conditions *all) {
        const ApiMachine *m = listing_machine(&v->machines, member_text(v->cluster, "levelHeldBy"));
        unsigned long long level = member_number(v->cluster, "level"),
                           known = member_number(v->cluster, "levelKnown");

        if (m && machine_is_presence(m, "lost") && known > level && !view_awaits(v, m))
                add(all, "level", machine_name(m), "cluster",
                    "lost: it keeps the feature level at %llu (%llu is supported)", level, known);
}

/* -- Units -- */

static bool is_failed(const ApiState *s) {
        return s->active && streq(s->active, "failed");
}

/* Return whether systemd did not execute the last start. An unmet condition is no failure. */
static bool is_refused(const View *v, const ApiState *s) {
        const ApiUnit *u;

        if (!s->job || !*s->job || streq(s->job, "condition") || s->finished ||
            !same_string(s->active, "inactive"))
                return false;
        u = listing_unit(&v->units, s->name);
        return !u || u->desired_state == TARGET_LAUNCHED;
}

static bool is_in_loop(const View *v, const ApiState *s) {
        for (size_t i = 0; i < v->n_history; i++)
                if (history_is_loop(v->history[i]) &&
                    same_string(member_text(v->history[i], "name"), s->name) &&
                    same_string(member_text(v->history[i], "machine"), s->machine_id))
                        return true;
        return false;
}

static bool is_launched(const View *v, const char *name) {
        const ApiUnit *u = listing_unit(&v->units, name);

        return u && u->desired_state == TARGET_LAUNCHED;
}

/* Return whether the unit was stopped by hand on its machine, or may have been, although it is to run. */
static bool is_stopped(const View *v, const ApiState *s) {
        VerdictCode code = api_state_code(s);

        return code > VERDICT_SAID && code != VERDICT_STOPPED_FOR && is_launched(v, s->name);
}

/* A global unit runs on other machines, too: 'restart' would restart it there. */
static void add_stopped(const View *v, const ApiState *s, const char *place, Conditions *all) {
        bool global = listing_unit(&v->units, s->name)->global;
        _cleanup_text_ Text what = {};

        if (api_state_code(s) == VERDICT_STOPPED_BY_HAND)
                text_printf(&what, "%s on %s", s->reason, place);
        else
                text_printf(&what, "is inactive on %s: %s", place, s->reason);
        if (global)
                text_printf(&what, "; on that host: systemctl start %s", s->name);
        add(all, "stopped", s->name, global ? "" : "restart ", "%s", text_chars(&what));
        all->error = all->error ?: what.error;
}

static void add_state_condition(const View *v, const ApiState *s, Conditions *all) {
        const char *reason = s->reason ?: "", *colon = *reason ? ": " : "";
        const ApiMachine *m = listing_machine(&v->machines, s->machine_id);
        bool away = m && machine_is_presence(m, "away");
        _cleanup_text_ Text place = {};

        append_machine_name(&place, &v->machines, s->machine_id ?: "");
        if (state_kind(s) == STATE_RUNS && !listing_unit(&v->units, s->name))
                add(all, "absent", s->name, "why ", "runs on %s%s, and is no unit of the cluster%s",
                    text_chars(&place), away ? ", which is away" : "",
                    away ? "; if it was destroyed, it stops when the machine is back" : "");
        else if (state_cannot_load(s->load))
                add(all, "load", s->name, streq(state_load_verb(s->load), "journal") ? "journal " : "status ",
                    "systemd cannot load it on %s (%s)%s%s", text_chars(&place), s->load, colon, reason);
        else if ((is_failed(s) && view_is_paused_by(v, s)) ||
                 ((is_failed(s) || state_is_restarting(s)) && view_has_left(v, s->name, s->machine_id)))
                return; /* the problem of the rollout has the failure, or there is none now */
        else if (is_failed(s)) {
                append_age(&place, s->since_ms);
                add(all, "failed", s->name, "journal ", "failed on %s%s%s", text_chars(&place), colon,
                    reason);
        } else if (state_is_restarting(s) && !is_in_loop(v, s)) { /* all that is published of a fast loop */
                append_age(&place, s->since_ms);
                add(all, "restarting", s->name, "journal ", "failed on %s, and is restarted%s%s",
                    text_chars(&place), colon, reason);
        } else if (is_refused(v, s))
                add(all, "start", s->name, "why ", "systemd %s it on %s: %s",
                    streq(s->job, "refused") ? "refused to start" : "did not start", text_chars(&place),
                    *reason ? reason : s->job);
        else if (is_stopped(v, s))
                add_stopped(v, s, text_chars(&place), all);
        else if (state_is_stopped_for(s, NULL) && is_launched(v, s->name))
                add(all, "stopped", s->name, "why ", "is inactive on %s: %s", text_chars(&place), reason);
        else if (state_is_unhealthy(s))
                add(all, "unhealthy", s->name, "journal ", "is active on %s, and unhealthy: %s",
                    text_chars(&place), s->why ?: "a check is failing");
        all->error = all->error ?: place.error;
}

static void add_states(const View *v, Conditions *all) {
        for (size_t i = 0; i < v->states.n; i++)
                if (v->states.states[i].name)
                        add_state_condition(v, &v->states.states[i], all);
}

static bool has_failed_on(const View *v, const char *name, const char *machine) {
        const ApiState *s;
        size_t at = 0;

        while ((s = listing_next_state(&v->states, name, &at)))
                if (is_failed(s) && same_string(s->machine_id, machine))
                        return true;
        return false;
}

static void add_loops(const View *v, Conditions *all) {
        for (size_t i = 0; i < v->n_history; i++) {
                const JsonValue *row = v->history[i];
                const char *name = member_text(row, "name"), *machine = member_text(row, "machine");
                _cleanup_text_ Text place = {}, what = {};

                if (!history_is_loop(row) || !is_launched(v, name) || view_has_left(v, name, machine) ||
                    has_failed_on(v, name, machine))
                        continue;
                append_machine_name(&place, &v->machines, machine);
                history_append_loop(&what, row, text_chars(&place));
                add(all, "loop", name, "journal ", "%s", text_chars(&what));
                all->error = all->error ?: place.error ?: what.error;
        }
}

/* Units that a problem of the whole cluster holds back are not listed one by one. */
static bool is_held_back(const View *v, const ApiUnit *u) {
        const ApiMachine *m = listing_machine(&v->machines, u->machine_id);

        return json_value_member(v->cluster, "waitsFor") ||
               (json_value_member(v->cluster, "brake") && m && machine_is_presence(m, "lost"));
}

/* Return whether the unit was assigned or changed a moment ago: its machine is about to report it. */
static bool is_being_placed(const View *v, const ApiUnit *u) {
        static const char *const kinds[] = { "submitted", "updated", "target", "assigned" };
        const ApiMachine *m = listing_machine(&v->machines, u->machine_id);

        if (!m || !machine_is_presence(m, "up"))
                return false;
        for (size_t i = v->n_history; i > 0; i--) {
                const JsonValue *row = v->history[i - 1];

                if (!streq(member_text(row, "name"), u->name) ||
                    member_number(row, "last") + PLACING_MS < clock_real_ms())
                        continue;
                for (size_t k = 0; k < ELEMENTS(kinds); k++)
                        if (streq(member_text(row, "kind"), kinds[k]))
                                return true;
        }
        return false;
}

/* Return whether the unit is to be on the machine of a unit with target state inactive: it waits for it. */
static bool follows_unloaded(const View *v, const ApiUnit *u, Conditions *all) {
        _cleanup_unit_ Unit *unit = NULL;
        int r = api_unit_has_contents(u) ? api_unit_contents(u->name, u, &unit, NULL) : -ENOENT;

        if (r == -ENOMEM)
                all->error = r;
        if (r < 0)
                return false;
        for (size_t i = 0; i < unit->placement.machine_of.n; i++) {
                const ApiUnit *other = listing_unit(&v->units, unit->placement.machine_of.items[i]);

                if (other && other->desired_state == TARGET_INACTIVE)
                        return true;
        }
        return false;
}

static void add_waiting_units(const View *v, Conditions *all) {
        for (size_t i = 0; i < v->units.n; i++) {
                const ApiUnit *u = &v->units.units[i];
                bool placed = u->machine_id && *u->machine_id;
                const char *reason = placed ? "its machine does not report it" : "no machine yet";

                if (!u->name || u->desired_state <= TARGET_INACTIVE || u->current_state >= u->desired_state ||
                    u->global || is_held_back(v, u) || (placed && is_being_placed(v, u)))
                        continue;
                if (u->reason && *u->reason)
                        reason = u->reason;
                if (!unit_has_finished(u) && (placed || !follows_unloaded(v, u, all)))
                        add(all, "waiting", u->name, "why ", "%s%s", placed ? "" : "not placed: ", reason);
        }
}

/* -- Unit directories -- */

/* Append the first line of a reason, without the name of the unit at its begin. */
static void append_first_line(Text *t, const char *reason, const char *name) {
        if (starts_with(reason, name) && starts_with(reason + strlen(name), ": "))
                reason += strlen(name) + 2;
        text_append_bytes(t, reason, strcspn(reason, "\n"));
}

static const char *problem_kind(const JsonValue *problem) {
        static const char *const kinds[] = { "refused", "taken", "held", "warning" };

        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                if (streq(member_text(problem, "kind"), kinds[i]))
                        return kinds[i];
        return "directory";
}

static void add_directories(const View *v, Conditions *all) {
        JSON_EACH(p, json_value_member(v->directories, "problems")) {
                const char *name = member_text(p, "name");
                _cleanup_text_ Text place = {}, reason = {};

                if (streq(member_text(p, "kind"), "unowned") || /* for "directory" only */
                    (streq(member_text(p, "kind"), "paused") && view_has_paused(v, name)))
                        continue; /* see add_rollouts() */
                if (member_bool(p, "confirmed") && view_is_up(v, member_text(p, "machineID")))
                        continue; /* it acts on it next */
                append_machine_name(&place, &v->machines, member_text(p, "machineID"));
                append_first_line(&reason, member_text(p, "reason"), name);
                if (streq(problem_kind(p), "warning"))
                        add(all, "warning", name, "directory", "file on %s: %s", text_chars(&place),
                            text_chars(&reason));
                else
                        add(all, problem_kind(p), name, "directory", "file %s on %s: %s",
                            member_text(p, "kind"), text_chars(&place), text_chars(&reason));
                all->error = all->error ?: place.error ?: reason.error;
        }
}

static void add_size(const View *v, Conditions *all) {
        size_t n = 0;

        for (size_t i = 0; i < v->machines.n; i++)
                n += !is_gone(v, &v->machines.machines[i]);
        if (n > MACHINES_MEASURED)
                add(all, "size", "cluster", "",
                    "%zu machines are more than the supported %d: form several clusters", n,
                    MACHINES_MEASURED);
        if (v->units.n > UNITS_MEASURED)
                add(all, "size", "cluster", "",
                    "%zu units are more than the supported %d: form several clusters", v->units.n,
                    UNITS_MEASURED);
}

void conditions_find(const View *v, Conditions *ret) {
        add_replica(v, ret);
        add_rejection(v, ret);
        add_adoption(v, ret);
        add_leaves(v, ret);
        add_brake(v, ret);
        add_voters(v, ret);
        add_machines(v, ret);
        add_level(v, ret);
        add_size(v, ret);
        add_states(v, ret);
        add_loops(v, ret);
        add_directories(v, ret);
        add_waiting_units(v, ret);
}
