/* Rollouts of sets: a template with the instances that follow it, a global unit, or an ordinary one. */
#pragma once

#include "client/core/client.h"
#include "units/hash.h"

enum { ROLLOUT_LEVEL = 9 }; /* feature level from which on the daemons roll texts out */

/* A set to wait for. */
typedef struct RolloutGoal {
        char *name;                /* the head of the set, or one of its instances; owned */
        char hash[UNIT_HASH_SIZE]; /* of the text that it is to get; "": of any */
        char *text;        /* owned: to submit after the goals before it are reached; NULL: it is submitted */
        char *note;        /* owned: to print when it is submitted; NULL: nothing */
        const char *given; /* the argument that names it, for messages; borrowed */
        bool joins;        /* with the goal before it: they are of one set, or are to be submitted together */
} RolloutGoal;

typedef struct RolloutGoals {
        RolloutGoal *items;
        size_t n, capacity;
} RolloutGoals;

/* 'hash' may be NULL. 0 or -ENOMEM. */
int rollout_goals_add(RolloutGoals *goals, const char *name, const char *hash);
void rollout_goals_done(RolloutGoals *goals);
#define _cleanup_rollout_goals_ _cleanup_(rollout_goals_done)

/* Return 1 if the daemons of the cluster roll texts out, 0 if they do not yet. */
int rollout_is_supported(Client *c, Error *err);

/* Wait until the rollout of each set has ended, is paused, or is held, and print each change; with --no-block
 * only how to follow it. Return an exit status: EXIT_DONE, EXIT_FAILED if one is paused or reverted,
 * EXIT_CONTINUES if one is held, after --block-attempts or an interrupt. */
int rollout_wait(Client *c, const RolloutGoals *goals, Error *err);
