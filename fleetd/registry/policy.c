#include "fleetd/registry/policy.h"

typedef enum PolicyRow {
        ROW_NONE, /* also of a token: it creates one host, and has no other right */
        ROW_OPERATOR,
        ROW_GROUP,
        ROW_USER,
        ROW_WRITER,
        ROW_READER,
        ROW_MACHINE,
        ROW_REPLICA,
        ROW_RESTRICTED_HOST, /* a limit for all senders of such a host */
        _POLICY_ROW_MAX
} PolicyRow;

typedef enum Extent {
        DENIED,
        ALL,       /* of a right to keys: users' keys */
        ALL_FLEET, /* the same with /_fleet */
        LISTED,    /* as granted to the user or the group */
        OF_HOST,   /* the prefixes of the host's token */
        OWN,       /* what belongs to the machine itself */
} Extent;

static const Extent grants[_POLICY_ROW_MAX][_RIGHT_MAX] = {
        [ROW_OPERATOR] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = ALL_FLEET,
                [RIGHT_KEYS_WRITE] = ALL,
                [RIGHT_UNITS_SEE] = ALL,
                [RIGHT_UNITS_CHANGE] = ALL,
                [RIGHT_LEAVE] = ALL,
                [RIGHT_ADMINISTER] = ALL,
        },
        [ROW_GROUP] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = LISTED,
                [RIGHT_KEYS_WRITE] = LISTED,
                [RIGHT_UNITS_SEE] = LISTED,
                [RIGHT_UNITS_CHANGE] = LISTED,
        },
        [ROW_USER] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = LISTED,
                [RIGHT_KEYS_WRITE] = LISTED,
                [RIGHT_UNITS_SEE] = LISTED,
                [RIGHT_UNITS_CHANGE] = LISTED,
                [RIGHT_LEAVE] = LISTED,
                [RIGHT_ADMINISTER] = LISTED,
        },
        [ROW_WRITER] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = ALL,
                [RIGHT_KEYS_WRITE] = ALL,
        },
        [ROW_READER] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = ALL,
        },
        [ROW_MACHINE] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_UNITS_SEE] = OWN,
                [RIGHT_UNITS_CHANGE] = OWN,
                [RIGHT_REPORT] = OWN,
        },
        [ROW_REPLICA] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = ALL_FLEET,
                [RIGHT_UNITS_SEE] = ALL,
                [RIGHT_UNITS_CHANGE] = OWN,
                [RIGHT_REPORT] = OWN,
        },
        [ROW_RESTRICTED_HOST] = {
                [RIGHT_STATUS_SEE] = ALL,
                [RIGHT_KEYS_READ] = ALL,
                [RIGHT_KEYS_WRITE] = OF_HOST,
                [RIGHT_UNITS_SEE] = ALL,
                [RIGHT_LEAVE] = ALL,
                [RIGHT_REPORT] = ALL,
        },
};

/* A user without a key, or without pins, is revoked. */
static int policy_read_user(const Cluster *cluster, const char *name, PolicyFacts *facts) {
        const ClusterPrincipal *user = cluster_principal(cluster, name);

        facts->is_removed = !user || user->record.pins.n == 0;
        return facts->is_removed ? 0 : right_list_of(&user->record, &facts->granted);
}

int policy_facts_read(const Cluster *cluster, const Principal *principal, PolicyFacts *facts) {
        const ClusterMachine *m;

        if (principal->kind == PRINCIPAL_USER)
                return policy_read_user(cluster, principal->name, facts);
        m = cluster_machine(cluster, principal->machine);
        if (!m)
                return 0;
        facts->is_removed = m->removed && !m->host;
        facts->is_restricted = cluster_machine_is_restricted(m);
        if (facts->is_restricted)
                memcpy(facts->of_host, m->host->write, sizeof(facts->of_host));
        facts->is_replica = m->member.raft_id != 0;
        return 0;
}

bool policy_may_claim(const Principal *principal, const char *machine) {
        switch (principal->kind) {
        case PRINCIPAL_USER:
                return true;
        case PRINCIPAL_LOCAL:
        case PRINCIPAL_ANONYMOUS:
                return streq(principal->machine, machine);
        default:
                return false;
        }
}

int policy_facts_forwarded(const Cluster *cluster, const char *machine, const Principal *principal,
                           const PolicyFacts *claimed, PolicyFacts *ret) {
        Principal host = { .kind = PRINCIPAL_MACHINE };
        PolicyFacts of_host = {}, facts = {};
        int r;

        if (!policy_may_claim(principal, machine))
                return -EACCES;
        memcpy(host.machine, machine, strnlen(machine, MACHINE_ID_SIZE - 1));
        r = policy_facts_read(cluster, &host, &of_host);
        if (r >= 0 && principal->kind == PRINCIPAL_USER)
                r = policy_facts_read(cluster, principal, &facts);
        if (r < 0)
                return r;
        if (principal->kind != PRINCIPAL_USER)
                facts = (PolicyFacts) { .is_operator = principal->kind == PRINCIPAL_LOCAL &&
                                                       claimed->is_operator,
                                        .reads = claimed->reads,
                                        .writes = claimed->writes,
                                        .granted = right_list_ref(claimed->granted) };
        facts.is_removed |= of_host.is_removed;
        facts.is_restricted = of_host.is_restricted;
        memcpy(facts.of_host, of_host.of_host, sizeof(facts.of_host));
        *ret = facts;
        return 0;
}

static PolicyRow policy_row(const Principal *principal, const PolicyFacts *facts) {
        if (facts->is_removed)
                return ROW_NONE;
        switch (principal->kind) {
        case PRINCIPAL_MACHINE:
                return facts->is_replica ? ROW_REPLICA : ROW_MACHINE;
        case PRINCIPAL_USER:
                return ROW_USER;
        case PRINCIPAL_LOCAL:
                return facts->is_operator ? ROW_OPERATOR : ROW_GROUP;
        case PRINCIPAL_ANONYMOUS:
                return facts->writes ? ROW_WRITER : facts->reads ? ROW_READER : ROW_NONE;
        default:
                return ROW_NONE;
        }
}

static bool row_allows(PolicyRow row, const Principal *principal, Right right, const Resource *on,
                       const PolicyFacts *facts) {
        switch (grants[row][right]) {
        case ALL:
                return !kv_path_is_ours(on->key);
        case ALL_FLEET:
                return true;
        case LISTED:
                return right_list_has(facts->granted, right == RIGHT_LEAVE ? RIGHT_ADMINISTER : right,
                                      on->key);
        case OF_HOST:
                return prefixes_have(facts->of_host, on->key);
        case OWN:
                return on->machine && streq(on->machine, principal->machine);
        default:
                return false;
        }
}

bool policy_allows(const Principal *principal, Right right, Resource on, const PolicyFacts *facts) {
        return row_allows(policy_row(principal, facts), principal, right, &on, facts) &&
               (!facts->is_restricted || row_allows(ROW_RESTRICTED_HOST, principal, right, &on, facts));
}

bool policy_shows(const Principal *principal, KvBytes key, bool is_dir, const PolicyFacts *facts) {
        return policy_allows(principal, RIGHT_KEYS_READ, (Resource) { .key = key }, facts) ||
               (is_dir && grants[policy_row(principal, facts)][RIGHT_KEYS_READ] == LISTED &&
                right_list_is_below(facts->granted, key));
}
