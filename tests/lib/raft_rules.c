#include "tests/lib/raft_rules.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"

static const struct {
        const char *name;
        size_t offset;
} rules[] = {
        { "row1", offsetof(RaftRules, clean_old_term_result) },
        { "row2", offsetof(RaftRules, sole_voter_new_term) },
        { "row3", offsetof(RaftRules, split_at_change) },
        { "row4", offsetof(RaftRules, remember_committed) },
        { "row5", offsetof(RaftRules, cut_below_snapshot) },
        { "row6", offsetof(RaftRules, tell_term_to_prevote) },
        { "vote-result", offsetof(RaftRules, drop_stray_vote_result) },
        { "one-install", offsetof(RaftRules, one_install) },
        { "promotion", offsetof(RaftRules, promotion_order) },
        { "demotion", offsetof(RaftRules, demotion_order) },
        { "catch-up", offsetof(RaftRules, catch_up_first) },
        { "self-removal", offsetof(RaftRules, keep_leader) },
        { "shrink", offsetof(RaftRules, three_voters) },
        { "majority", offsetof(RaftRules, informed_majority) },
        { "snapshot", offsetof(RaftRules, snapshot_stored_only) },
        { "own-term", offsetof(RaftRules, own_term_first) },
        { "start-term", offsetof(RaftRules, start_checks_term) },
};

const char *raft_rule_name(size_t i) {
        return i < ELEMENTS(rules) ? rules[i].name : NULL;
}

int raft_rule_off(RaftRules *set, const char *name) {
        if (streq(name, "all")) {
                memset(set, true, sizeof(*set));
                return 0;
        }
        for (size_t i = 0; i < ELEMENTS(rules); i++)
                if (streq(rules[i].name, name)) {
                        *(bool *) ((char *) set + rules[i].offset) = true;
                        return 0;
                }
        return -ENOENT;
}
