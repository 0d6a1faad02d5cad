/* Writes through one host of a cluster of stores, and their outcomes. For scenarios. */
#pragma once

#include "tests/sim/scenarios.h"

enum { ANSWER_MS = 1500, ELECTION_MS = 400, ENTRIES = 2200 };

/* A child of /q that 'host' is to create. */
typedef struct Ask {
        Stores *all;
        Host *host;
        uint64_t begun_ms, took_ms, index;
        bool came, shown; /* answered; its host could serve reads then */
        KvStatus status;
} Ask;

/* Propose a write. 'term': valid in that term alone, and not forwarded; 0: in any term. */
void ask_in(Ask *a, Stores *all, Host *h, uint64_t term);
void ask(Ask *a, Stores *all, Host *h);
void ask_answered(void *userdata, const KvResult *result); /* 'done' of a proposal, for an Ask */

unsigned children(Stores *all, Host *h); /* of /q in the tree of 'h' */

Host *wait_for_leader(Stores *all);
/* Wait until three voters are up and follow one leader; return it. */
Host *wait_until_whole(Stores *all);

/* Write so much that an absent host is sent a snapshot, which takes a while. */
void write_much(Stores *all);
