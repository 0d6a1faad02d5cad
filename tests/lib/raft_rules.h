/* The rules around the engine by name, for tests that prove that it fails without one. */
#pragma once

#include "kvstore/raft/core.h"

const char *raft_rule_name(size_t i); /* NULL: there are no more */

/* Switch one off, or "all". -ENOENT: no rule has that name. */
int raft_rule_off(RaftRulesOff *rules, const char *name);
