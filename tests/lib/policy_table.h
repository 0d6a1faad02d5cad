/* The principals for tests of rights: each kind, on ordinary, restricted and removed hosts. What is stated
 * about them comes from a cluster view with the keys that a cluster would have. */
#pragma once

#include "fleetd/registry/policy.h"
#include "tests/lib/cluster_view.h"

enum { POLICY_TABLE_MAX = 40 };

typedef struct PolicyTableRow {
        const char *name;
        const char
                *listener; /* where it arrives: "socket", "loopback", "tls", "peer", "forwarded"; "" nowhere
                            */
        Principal principal;
        PolicyFacts facts;
} PolicyTableRow;

typedef struct PolicyTable {
        ClusterView view;
        PolicyTableRow rows[POLICY_TABLE_MAX];
        size_t n;
} PolicyTable;

void policy_table_open(PolicyTable *t);
void policy_table_done(PolicyTable *t);
const PolicyTableRow *policy_table_row(const PolicyTable *t, const char *name); /* fails if there is none */
