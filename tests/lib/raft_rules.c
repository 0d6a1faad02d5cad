#include "tests/lib/raft_rules.h"

static const struct {
        const char *name;
        size_t offset;
} rules[] = {
        { "row1", offsetof(RaftRulesOff, clean_old_term_result) },
        { "row2", offsetof(RaftRulesOff, sole_voter_new_term) },
        { "row3", offsetof(RaftRulesOff, split_at_change) },
        { "row4", offsetof(RaftRulesOff, remember_committed) },
        { "row5", offsetof(RaftRulesOff, cut_below_snapshot) },
        { "row6", offsetof(RaftRulesOff, send_term_to_prevote) },
        { "vote-result", offsetof(RaftRulesOff, drop_stray_vote_result) },
        { "one-install", offsetof(RaftRulesOff, one_install) },
        { "promotion", offsetof(RaftRulesOff, promotion_order) },
        { "demotion", offsetof(RaftRulesOff, demotion_order) },
        { "catch-up", offsetof(RaftRulesOff, catch_up_first) },
        { "self-removal", offsetof(RaftRulesOff, keep_leader) },
        { "shrink", offsetof(RaftRulesOff, three_voters) },
        { "majority", offsetof(RaftRulesOff, informed_majority) },
        { "snapshot", offsetof(RaftRulesOff, snapshot_stored_only) },
        { "own-term", offsetof(RaftRulesOff, own_term_first) },
        { "start-term", offsetof(RaftRulesOff, start_checks_term) },
};

const char *raft_rule_name(size_t i) {
        return i < ELEMENTS(rules) ? rules[i].name : NULL;
}

int raft_rule_off(RaftRulesOff *set, const char *name) {
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
