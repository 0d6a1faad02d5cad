#include "tests/lib/policy_table.h"

#include "tests/lib/test.h"

#define PIN     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HOST    "{\"joined\":1,\"pins\":[\"" PIN "\"]}"
#define LIMITED "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}"

/* A user, or a local sender with these rights, holds what these texts grant. */
static const char granted[] = "keys-write:/app units-see units-change";

static void put_host(PolicyTable *t, const char *kind, const char *machine, const char *value) {
        char id[MACHINE_ID_SIZE], key[128];

        snprintf(key, sizeof(key), "/_fleet/cluster/%s/%s", kind, cluster_view_id(id, machine));
        cluster_view_put(&t->view, key, value);
}

static PolicyTableRow *add(PolicyTable *t, const char *name, const char *listener, PrincipalKind kind,
                           const char *machine) {
        PolicyTableRow *row = &t->rows[t->n++];

        *row = (PolicyTableRow) { .name = name, .listener = listener, .principal.kind = kind };
        if (kind == PRINCIPAL_USER || kind == PRINCIPAL_TOKEN)
                snprintf(row->principal.name, sizeof(row->principal.name), "%s", machine);
        else if (machine)
                (void) cluster_view_id(row->principal.machine, machine);
        assert_int_equal(policy_facts_read(&t->view.cluster, &row->principal, &row->facts), 0);
        return row;
}

static void add_group(PolicyTable *t, const char *name, const char *machine, const char *texts) {
        PolicyTableRow *row = add(t, name, "socket", PRINCIPAL_LOCAL, machine);

        row->principal.uid = 1000;
        for (const char *p = texts; *p; p += strspn(p, " ")) {
                size_t n = strcspn(p, " ");

                assert_int_equal(right_list_add_text(&row->facts.granted, p, n, NULL), 0);
                p += n;
        }
}

static void add_client(PolicyTable *t, const char *name, const char *machine, bool reads, bool writes) {
        PolicyTableRow *row = add(t, name, "loopback", PRINCIPAL_ANONYMOUS, machine);

        row->facts.reads = reads;
        row->facts.writes = writes;
}

/* The request of a sender of the table that a host forwards to a replica. */
static void add_forwarded(PolicyTable *t, const char *name, const char *sender, const char *machine) {
        const PolicyTableRow *row = policy_table_row(t, sender);
        PolicyTableRow *forwarded = &t->rows[t->n++];
        char id[MACHINE_ID_SIZE];

        *forwarded = (PolicyTableRow) { .name = name, .listener = "forwarded", .principal = row->principal };
        if (policy_facts_forwarded(&t->view.cluster, cluster_view_id(id, machine), &row->principal,
                                   &row->facts, &forwarded->facts) < 0)
                forwarded->principal.kind = PRINCIPAL_NONE; /* it is rejected */
}

void policy_table_open(PolicyTable *t) {
        *t = (PolicyTable) {};
        put_host(t, "host", "A", HOST);
        put_host(t, "host", "B", LIMITED);
        put_host(t, "removed", "C", "{\"by\":\"root\",\"index\":7,\"since\":1}");
        put_host(t, "host", "D", HOST);
        put_host(t, "member", "D", "{\"peer\":\"10.0.0.4:2380\",\"raftId\":4}");
        put_host(t, "host", "E", HOST);
        cluster_view_machine(&t->view, "E", "", PRESENCE_UP); /* a name that was A's */
        cluster_view_put(&t->view, "/_fleet/cluster/principal/alice",
                         "{\"pins\":[\"" PIN "\"],\"rights\":[{\"prefix\":\"/app\",\"right\":\"keys-write\"},"
                         "{\"right\":\"units-see\"},{\"right\":\"units-change\"}]}");
        cluster_view_put(&t->view, "/_fleet/cluster/principal/bob",
                         "{\"pins\":[\"" PIN "\"],\"rights\":[{\"right\":\"administer\"},"
                         "{\"prefix\":\"/_fleet\",\"right\":\"keys-write\"}]}");
        cluster_view_put(&t->view, "/_fleet/cluster/principal/carol",
                         "{\"pins\":[],\"rights\":[{\"right\":\"units-see\"}]}");

        add(t, "unknown", "", PRINCIPAL_NONE, NULL);
        add(t, "root", "socket", PRINCIPAL_LOCAL, "A")->facts.is_operator = true;
        add(t, "fleet", "socket", PRINCIPAL_LOCAL, "F")->facts.is_operator = true; /* without certificates */
        add(t, "restricted root", "socket", PRINCIPAL_LOCAL, "B")->facts.is_operator = true;
        add_group(t, "group", "A", granted);
        add_group(t, "restricted group", "B", granted);
        add_group(t, "group without rights", "A", "");
        add_client(t, "writer", "A", true, true);
        add_client(t, "reader", "A", true, false);
        add_client(t, "off", "A", false, false);
        add_client(t, "restricted writer", "B", true, true);
        add(t, "user", "tls", PRINCIPAL_USER, "alice");
        add(t, "administrator", "tls", PRINCIPAL_USER, "bob");
        add(t, "removed user", "tls", PRINCIPAL_USER, "dave");
        add(t, "revoked user", "tls", PRINCIPAL_USER, "carol");
        add(t, "machine", "peer", PRINCIPAL_MACHINE, "A");
        add(t, "replica", "peer", PRINCIPAL_MACHINE, "D");
        add(t, "restricted machine", "peer", PRINCIPAL_MACHINE, "B");
        add(t, "removed machine", "peer", PRINCIPAL_MACHINE, "C");
        add(t, "renamed machine", "peer", PRINCIPAL_MACHINE, "E");
        add(t, "root of a removed host", "peer", PRINCIPAL_LOCAL, "C")->facts.is_operator = true;
        add(t, "token", "peer", PRINCIPAL_TOKEN, "0123456789ab");

        add_forwarded(t, "forwarded root", "root", "A");
        add_forwarded(t, "forwarded root of a restricted host", "restricted root", "B");
        add_forwarded(t, "forwarded root of a removed host", "root of a removed host", "C");
        add_forwarded(t, "forwarded root of another host", "root", "E");
        add_forwarded(t, "forwarded group", "group", "A");
        add_forwarded(t, "forwarded group of a restricted host", "restricted group", "B");
        add_forwarded(t, "forwarded writer", "writer", "A");
        add_forwarded(t, "forwarded off", "off", "A");
        add_forwarded(t, "forwarded user", "user", "A");
        add_forwarded(t, "forwarded user of a restricted host", "user", "B");
        add_forwarded(t, "forwarded revoked user", "revoked user", "A");
        add_forwarded(t, "forwarded machine", "machine", "A");
}

void policy_table_done(PolicyTable *t) {
        for (size_t i = 0; i < t->n; i++)
                right_list_unref(t->rows[i].facts.granted);
        cluster_view_free(&t->view);
}

const PolicyTableRow *policy_table_row(const PolicyTable *t, const char *name) {
        for (size_t i = 0; i < t->n; i++)
                if (streq(t->rows[i].name, name))
                        return &t->rows[i];
        fail_msg("no principal %s", name);
        return NULL;
}
