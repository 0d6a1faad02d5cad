#include "client/verbs/voter_text.h"

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/times.h"

enum { VOTER_LOST_MS = 60000 }; /* a host that is lost for longer is not just restarted */

bool member_is_voter(const JsonValue *member) {
        const char *role = member_text(member, "seat");

        return !*role || streq(role, "voter");
}

bool machine_is_presence(const ApiMachine *m, const char *presence) {
        return m && m->presence && streq(m->presence, presence);
}

static bool is_drained(const ApiMachine *m) {
        return m && (same_string(m->maintenance, "draining") || same_string(m->maintenance, "drained"));
}

/* Return whether the host is expected back: it announced its shutdown, was drained, or runs without its
 * daemon. It needs no replacement yet. */
static bool is_maintained(const View *v, const ApiMachine *m) {
        return (machine_is_presence(m, "left") && !machine_is_gone(v->cluster, m)) ||
               machine_is_presence(m, "away") || is_drained(m);
}

const JsonValue *cluster_standby(const JsonValue *cluster) {
        JSON_EACH(member, json_value_member(cluster, "voters"))
                if (!member_is_voter(member) && member_bool(member, "reachable"))
                        return member;
        return NULL;
}

static bool has_units(const View *v, const ApiMachine *m) {
        for (size_t i = 0; i < v->states.n; i++)
                if (same_string(v->states.states[i].machine_id, m->id))
                        return true;
        return false;
}

/* Return where the reason of a lost machine ends that was away, and whose kernel answered until then; NULL:
 * it was not. */
static const char *away_reason_end(const ApiMachine *m) {
        return machine_is_presence(m, "lost") && m->away_ms > 0 && m->reason ?
                       strstr(m->reason, ", and has been away for too long") :
                       NULL;
}

/* Append when and why a machine was away before it was lost: units of it may run, although others run in
 * their place. Return false if it was not. */
static bool append_former_absence(Text *t, const View *v, const ApiMachine *m) {
        const char *reason = m->reason ?: "", *cut = away_reason_end(m);
        uint64_t age_ms = machine_age(v->cluster, m);

        if (!cut || age_ms == UINT64_MAX)
                return false;
        text_append(t, " since ");
        append_clock(t, clock_real_ms() - age_ms - (m->since_ms - MIN(m->away_ms, m->since_ms)), false);
        text_append(t, " (");
        text_append_bytes(t, reason, (size_t) (cut - reason));
        text_append(t, is_drained(m) ? ", drained)" :
                       !m->agentless ? "; its units may run there, too)" :
                                       ")");
        return true;
}

static void voter_append_presence(Text *t, const View *v, const ApiMachine *m) {
        const char *drained = is_drained(m) ? "drained" : "";

        if (!m || machine_is_presence(m, "up") || append_former_absence(t, v, m))
                return;
        append_since(t, v->cluster, m);
        if (machine_is_presence(m, "left"))
                text_append(t, " (shut down)"); /* which drained it for that time */
        else if (machine_is_presence(m, "away"))
                text_printf(t, " (away%s%s%s)", *drained ? ", " : "", drained,
                            has_units(v, m) ? ": its units stay as last reported" : "");
        else if (*drained)
                text_printf(t, " (%s)", drained);
}

/* Append how another host votes in place of this one. Return the command. */
static const char *append_replacement(Text *t, const View *v, const ApiMachine *m, const JsonValue *member) {
        const JsonValue *standby = machine_is_presence(m, "lost") || machine_is_presence(m, "left") ?
                                           cluster_standby(v->cluster) :
                                           NULL;
        const char *address = member_text(member, "address");
        uint64_t age_ms = m ? machine_age(v->cluster, m) : 0;

        if (!standby) {
                if (*address)
                        text_printf(t, ", or give a new host its address %s or another one", address);
                return "help replace";
        }
        text_append(t, "; ");
        append_member_name(t, &v->machines, standby);
        text_append(t, " votes in its place ten minutes after the loss, or once it is removed");
        return age_ms >= VOTER_LOST_MS && age_ms != UINT64_MAX ? "remove --force " : "help replace";
}

/* Append that another host has its address already. Return false if there is none. */
static bool append_successor(Text *t, const View *v, const JsonValue *member) {
        const JsonValue *other = cluster_standby(v->cluster);
        const char *address = member_text(member, "address");

        if (!other || !*address || !streq(member_text(other, "address"), address))
                return false;
        text_append(t, ": ");
        append_member_name(t, &v->machines, other);
        text_append(t, " has its address, and votes in its place within seconds");
        return true;
}

const char *append_voter(Text *t, const View *v, const JsonValue *member, size_t n, size_t n_reachable) {
        const ApiMachine *m = listing_machine(&v->machines, member_text(member, "id"));
        const char *address = member_text(member, "address");
        size_t quorum = n / 2 + 1;

        text_append(t, "voter unreachable");
        voter_append_presence(t, v, m);
        text_printf(t, "; %zu of %zu voters left, ", n_reachable, n);
        if (n_reachable < quorum)
                text_append(t, "no majority");
        else if (n_reachable == quorum)
                text_append(t, "none may be lost");
        else
                text_printf(t, "%zu may be lost", n_reachable - quorum);
        /* A removal deletes the member key first. */
        if (!m && *address && !*member_text(member, "id") && n_reachable >= quorum) {
                text_append(t, ": it was removed, and leaves the voters within seconds");
                return "";
        }
        if (!m && !*address && !*member_name(member, "name")) {
                text_append(t, ": its host has another replica, and this one leaves ");
                text_append(t, n_reachable >= quorum ? "within seconds" : "when a majority answers again");
                return "";
        }
        if (n_reachable >= quorum && append_successor(t, v, member))
                return "help replace";
        /* After a restart of a daemon, its voters are unreachable for some seconds. */
        text_printf(t, ": %sstart %s", machine_is_presence(m, "up") ? "if that lasts, " : "",
                    machine_is_presence(m, "away") || away_reason_end(m) ? "fleetd on it" : "it");
        if (n_reachable < quorum) {
                if (*address)
                        text_printf(t, ", or give a new host its address %s", address);
                return "help replace";
        }
        return is_maintained(v, m) ? "help maintain" : append_replacement(t, v, m, member);
}
