#include "fleetd/registry/proposal_rights.h"

#include "fleetd/registry/history.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/policy.h"
#include "fleetd/registry/protect.h"
#include "fleetd/registry/slice.h"

/* A host that proposes, and for whom. */
typedef struct Proposer {
        const Cluster *cluster;
        const char *machine_id;
        Principal host, principal; /* 'principal' is the host itself, or the claimed one */
        PolicyFacts host_facts, facts;
} Proposer;

static bool proposer_is_host(const Proposer *p) {
        return p->principal.kind == PRINCIPAL_MACHINE;
}

/* Return whether the host, as the host or as an operator on it, has a right. */
static bool proposer_host_may(const Proposer *p, Right right, Resource on) {
        Principal local = { .kind = PRINCIPAL_LOCAL };
        PolicyFacts facts = p->host_facts;

        facts.is_operator = true;
        return policy_allows(&p->host, right, on, &p->host_facts) || policy_allows(&local, right, on, &facts);
}

/* The lesser of the claim and of the host's own rights. */
static bool proposer_may(const Proposer *p, Right right, Resource on) {
        return right != RIGHT_NONE && proposer_host_may(p, right, on) &&
               (proposer_is_host(p) || policy_allows(&p->principal, right, on, &p->facts));
}

/* Return whether the write changes the record of the host itself in a way that its kind permits. By the check
 * of its index, the former record is this one when the write is applied, too. */
static bool proposer_changes_own(const Proposer *p, const KvCommand *cmd, const LayoutKey *key,
                                 const KvCommand *write) {
        const KindRights *rights = &kinds[key->kind]->rights;
        KindEntries e = { .machine = cluster_machine(p->cluster, p->machine_id) };
        const Resource own = { .machine = key->machine };
        _cleanup_(kind_value_done) KindValue v = {};
        KindSlot was = {};

        if (!rights->own_change || !streq(key->machine, p->machine_id) ||
            (write->op != KV_DELETE && kind_decode(key, write->value, &v, NULL) < 0))
                return false;
        if (e.machine)
                was = *kind_slot(p->cluster, &e, key->kind);
        if (!(proposer_may(p, RIGHT_REPORT, own) && rights->own_change(RIGHT_REPORT, was.record, v.record)) &&
            !(proposer_may(p, RIGHT_LEAVE, own) && rights->own_change(RIGHT_LEAVE, was.record, v.record)))
                return false;
        for (size_t i = 0; i < cmd->n_checks; i++) {
                const KvCheck *check = &cmd->checks[i];

                if (kv_bytes_equal(check->key, write->key) &&
                    (check->kind == KV_CHECK_ABSENT ||
                     (check->kind == KV_CHECK_MODIFIED && check->index <= was.index)))
                        return true;
        }
        return false;
}

static bool proposer_may_write_ours(const Proposer *p, const KvCommand *cmd, const KvCommand *write) {
        bool removes = write->op == KV_DELETE;
        const KindRights *rights;
        Resource own = {}, all = {};
        LayoutKey key;

        if (!layout_parse(write->key, &key))
                return false;
        rights = &kinds[key.kind]->rights;
        own.machine = key.machine;
        if (key.machine[0] && proposer_may(p, removes ? rights->own_remove : rights->own_set, own))
                return true;
        if (proposer_changes_own(p, cmd, &key, write))
                return true;
        return proposer_may(p, rights->set, all) || (removes && proposer_may(p, rights->remove, all));
}

/* The rows of the history that a restricted host may add are about itself: what it reports, and no more. */
static bool proposer_may_note(const Proposer *p, const KvNote *note) {
        static const unsigned own = 1u << HISTORY_STATE | 1u << HISTORY_VERSION | 1u << HISTORY_PROBLEM |
                                    1u << HISTORY_RESOLVED | 1u << HISTORY_LEAVE | 1u << HISTORY_MAINTENANCE;
        HistoryEvent event;

        if (note->body.size == 0 || !p->host_facts.is_restricted)
                return true;
        return history_decode(note->body, &event) == 0 && event.kind < _HISTORY_KIND_MAX &&
               own & 1u << event.kind && streq(event.machine, p->machine_id);
}

/* Users' keys have limits that do not apply to an internal command. */
static bool proposer_may_write(const Proposer *p, const KvCommand *cmd, const KvCommand *write) {
        if (!proposer_may_note(p, &write->note))
                return false;
        if (kv_path_is_ours(write->key))
                return proposer_may_write_ours(p, cmd, write);
        return !cmd->internal && proposer_may(p, RIGHT_KEYS_WRITE, (Resource) { .key = write->key });
}

/* A replica proposes what clients of attached hosts request, and has checked whose clients they are. */
static bool proposer_may_forward(const Proposer *p) {
        return p->host_facts.is_replica &&
               (p->principal.kind == PRINCIPAL_LOCAL || p->principal.kind == PRINCIPAL_ANONYMOUS);
}

/* Read the claim, and what the cluster view states about it. */
static int proposer_read_claim(Proposer *p, KvBytes text, Error *err) {
        if (text.size == 0) {
                p->principal = p->host;
                return 0;
        }
        if (principal_parse(text.data, text.size, &p->principal) < 0)
                return error_set(err, -EINVAL, "the principal of a proposal of %s cannot be read",
                                 cluster_name_of(p->cluster, p->machine_id));
        if (p->principal.kind != PRINCIPAL_USER && !streq(p->principal.machine, p->machine_id) &&
            !proposer_may_forward(p))
                return error_set(err, -EACCES, "%s proposed for a principal of another host",
                                 cluster_name_of(p->cluster, p->machine_id));
        /* Groups and settings of another host are known there only: that host has checked them. */
        if (p->principal.kind != PRINCIPAL_USER)
                p->facts.is_operator = p->facts.reads = p->facts.writes = true;
        return policy_facts_read(p->cluster, &p->principal, &p->facts);
}

/* A check reveals its key. What a client may know of fleet's own keys was decided where it sent its request;
 * the root always exists. */
static bool proposer_may_check(const Proposer *p, const KvCheck *check) {
        const Resource on = { .key = check->key };
        LayoutKey key;

        if (check->key.size == 1)
                return true;
        if (!kv_path_is_ours(check->key))
                return proposer_may(p, RIGHT_KEYS_READ, on);
        return proposer_host_may(p, RIGHT_KEYS_READ, on) ||
               (layout_parse(check->key, &key) && slice_has(p->cluster, p->machine_id, &key));
}

/* Return the first key that the proposer may not write or check, or one of size 0. */
static KvBytes proposer_denied(const Proposer *p, const KvCommand *cmd) {
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1;

        for (size_t i = 0; i < n; i++)
                if (!proposer_may_write(p, cmd, &writes[i]))
                        return writes[i].key;
        for (size_t i = 0; i < cmd->n_checks; i++)
                if (!proposer_may_check(p, &cmd->checks[i]))
                        return cmd->checks[i].key;
        return (KvBytes) {};
}

/* Of several machines with a name, the facts of a restricted host that stated it first have it: it does not
 * take one later. */
static int proposer_check_name(const Proposer *p, const Machine *facts, Error *err) {
        const ClusterMachine *m = cluster_machine(p->cluster, p->machine_id);
        const char *name = facts->name ?: "";

        if (!p->host_facts.is_restricted || !m || !m->facts || same_string(m->facts->name, name) ||
            !TABLE_FIND(p->cluster->claims[CLAIM_NAME], name))
                return 0;
        return error_set(err, -EACCES, "another machine has the name %.64s", name);
}

/* Reject a value of fleet's own that no host could read: the key would count as one of a later version, which
 * stops the administration of its machine or unit. A replica may have a later version than the leader. */
static int proposer_check_values(const Proposer *p, const KvCommand *cmd, Error *err) {
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1;
        LayoutKey key;

        for (size_t i = 0; i < n && !p->host_facts.is_replica; i++) {
                _cleanup_(kind_value_done) KindValue v = {};
                const KvCommand *write = &writes[i];
                int r;

                if (!kv_path_is_ours(write->key) || write->op == KV_DELETE || !layout_parse(write->key, &key))
                        continue;
                r = write->dir || write->refresh || write->op == KV_POST ?
                            error_set(err, -EACCES, "no value of this key") :
                            kind_decode(&key, write->value, &v, err);
                if (r >= 0 && key.kind == LAYOUT_FACTS)
                        r = proposer_check_name(p, v.record, err);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        return error_prefix(err, -EACCES, "%s may not propose this: %.*s",
                                            cluster_name_of(p->cluster, p->machine_id),
                                            (int) MIN(write->key.size, (size_t) 200),
                                            (const char *) write->key.data);
        }
        return 0;
}

/* Return whether the cluster has a reason for a report of this unit beyond the number of others: it
 * replaces one, or the unit is assigned to the host. While the hosts report to a cluster of a new lineage,
 * the cluster also expects those of units that were assigned to others before. */
static bool report_is_expected(const Cluster *c, const ClusterMachine *m, const LayoutKey *key) {
        if (key->kind == LAYOUT_PROBLEM)
                return cluster_problem(c, key->machine, key->unit);
        return cluster_state_on(m, key->unit) || cluster_assignment_on(m, key->unit) ||
               (c->adopting && cluster_any_unit(c, key->unit));
}

/* Limit what a host without a replica reports about itself: the names of units in its reports are its own
 * choice, and all replicas keep the reports. It has one key of each other kind. What was proposed and is not
 * applied yet does not count; the pace of its proposals limits that. */
static int proposer_check_reports(const Proposer *p, const KvCommand *cmd, Error *err) {
        const ClusterMachine *m = cluster_machine(p->cluster, p->machine_id);
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1, n_problems = m ? HASH_COUNT(m->problems) : 0,
               n_states = m ? HASH_COUNT(m->states) : 0,
               max_states = HOST_STATES_MAX + (m ? HASH_COUNT(m->assignments) : 0);
        LayoutKey key;

        for (size_t i = 0; i < n && !p->host_facts.is_replica; i++) {
                const KvCommand *write = &writes[i];

                if (write->op == KV_DELETE || !layout_parse(write->key, &key) ||
                    (key.kind != LAYOUT_STATE && key.kind != LAYOUT_PROBLEM) ||
                    !streq(key.machine, p->machine_id))
                        continue;
                if (write->value.size > HOST_REPORT_SIZE_MAX)
                        return error_set(err, -EDQUOT, "%s reports more than %d bytes about %s",
                                         cluster_name_of(p->cluster, p->machine_id), HOST_REPORT_SIZE_MAX,
                                         key.unit);
                if (m && report_is_expected(p->cluster, m, &key))
                        continue;
                if (key.kind == LAYOUT_PROBLEM && ++n_problems > HOST_PROBLEMS_MAX)
                        return error_set(err, -EDQUOT, "%s reports more than %d problems of unit files",
                                         cluster_name_of(p->cluster, p->machine_id), HOST_PROBLEMS_MAX);
                if (key.kind == LAYOUT_STATE && ++n_states > max_states)
                        return error_set(err, -EDQUOT,
                                         "%s reports the states of more than %d units that are not assigned "
                                         "to it",
                                         cluster_name_of(p->cluster, p->machine_id), HOST_STATES_MAX);
        }
        return 0;
}

/* Read the rights of a machine as a host. */
static int rights_read_host(const Cluster *cluster, const char *machine_id, Principal *ret,
                            PolicyFacts *ret_facts) {
        *ret = (Principal) { .kind = PRINCIPAL_MACHINE };
        memcpy(ret->machine, machine_id, strnlen(machine_id, MACHINE_ID_SIZE - 1));
        return policy_facts_read(cluster, ret, ret_facts);
}

static bool host_may_relay(const Cluster *cluster, const char *relay) {
        PolicyFacts facts = {};
        Principal host;

        return rights_read_host(cluster, relay, &host, &facts) >= 0 && facts.is_replica && !facts.is_removed;
}

/* An assignment may name a former text of its unit, or of the template that the unit follows. */
static bool host_is_assigned(const Cluster *cluster, const char *machine_id, KvBytes key) {
        const ClusterMachine *m = cluster_machine(cluster, machine_id);
        uint64_t number;
        LayoutKey k;

        if (!m || !layout_parse(key, &k) || k.kind != LAYOUT_REVISION)
                return false;
        number = revision_parse_number(k.machine);
        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                if (cluster_assignment_is_active(a) && a->revision == number &&
                    (streq(a->unit, k.unit) || (a->of->unit && same_string(a->of->unit->from, k.unit))))
                        return true;
        return false;
}

bool host_may_read(const Cluster *cluster, const char *machine_id, KvBytes key) {
        Proposer p = { .cluster = cluster, .machine_id = machine_id };

        return rights_read_host(cluster, machine_id, &p.host, &p.host_facts) >= 0 &&
               !p.host_facts.is_removed &&
               (proposer_host_may(&p, RIGHT_KEYS_READ, (Resource) { .key = key }) ||
                host_is_assigned(cluster, machine_id, key));
}

int proposal_check(const Cluster *cluster, const char *relay, const char *machine_id, KvBytes principal,
                   const KvCommand *cmd, Error *err) {
        Proposer p = { .cluster = cluster, .machine_id = machine_id };
        char text[PRINCIPAL_TEXT_SIZE];
        KvBytes denied = {};
        bool allowed;
        int r;

        if (relay && !host_may_relay(cluster, relay))
                return error_set(err, -EACCES, "%s has no replica, and proposed for another host",
                                 cluster_name_of(cluster, relay));
        TRY(rights_read_host(cluster, machine_id, &p.host, &p.host_facts));
        r = TRY(proposer_read_claim(&p, principal, err));
        if (cmd->op == KV_RAISE || cmd->op == KV_EXPIRE)
                allowed = cmd->op == KV_RAISE && proposer_may(&p, RIGHT_ADMINISTER, (Resource) {});
        else {
                denied = proposer_denied(&p, cmd);
                allowed = denied.size == 0;
        }
        right_list_unref(p.facts.granted);
        if (allowed && cmd->op == KV_RAISE)
                return 0;
        if (allowed) {
                TRY(inputs_check_write(cluster, &p.principal,
                                       p.facts.is_restricted || p.host_facts.is_restricted, cmd, err));
                r = proposer_check_reports(&p, cmd, err);
                return r < 0 ? r : proposer_check_values(&p, cmd, err);
        }
        return error_set(err, -EACCES, "%s may not propose this%s%.*s", principal_text(&p.principal, text),
                         denied.size > 0 ? ": " : "", (int) MIN(denied.size, (size_t) 200),
                         denied.size > 0 ? (const char *) denied.data : "");
}

unsigned proposal_reports(const char *machine_id, const KvCommand *cmd) {
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1;
        unsigned reports = 0;
        LayoutKey key;

        for (size_t i = 0; i < n; i++)
                if (kv_path_is_ours(writes[i].key) && layout_parse(writes[i].key, &key) &&
                    key.kind < _LAYOUT_MAX && streq(key.machine, machine_id))
                        reports |= kinds[key.kind]->rights.reports;
        return reports;
}
