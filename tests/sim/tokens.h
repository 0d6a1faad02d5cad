/* Whole daemons that enter a cluster by tokens, with certificates, and the users who run fleetctl init, token
 * and join on them. One world and one cluster at a time. */
#pragma once

#include "fleetd/api/api.h"
#include "fleetd/identity/authority.h"
#include "tests/sim/cluster.h"

enum { TOKENS_PATIENCE_MS = 60000 };

/* Commands of a user on one host. */
typedef struct User {
        bool pending, stored;
        bool keeps;       /* joins without --discard */
        unsigned n_joins; /* commands that were accepted */
        int error;        /* of the last command */
        char message[ERROR_MESSAGE_MAX];
} User;

extern World *world;
extern SimCluster *cluster;

User *user_of(const SimMachine *m);
SimMachine *machine(unsigned i);

#define UNTIL_EACH(ms, step_ms, name, expression) \
        WORLD_UNTIL(world, ms, name, expression, world_run(world, world_now_ms(world) + (step_ms)))
#define UNTIL(name, expression) UNTIL_EACH(TOKENS_PATIENCE_MS, 20, name, expression)

void run_ms(uint64_t ms);

/* The feature level of the programs of the hosts that found() starts; 0: the highest. */
extern unsigned program_level;
/* The API of the hosts that found() starts listens, on port 80: a request of a simulated stream is of root.
 */
extern bool api_listens;

/* Found a cluster of the first 'members' of 'hosts' hosts; the others are clusters of one. */
void found(unsigned hosts, unsigned members);
/* Run each scenario in a world of its own, for each seed of the command line. 'replay' is the program,
 * 'result' is printed. 'on_message' gets each message of the daemons, NULL: none. Return the exit status. */
int tokens_main(int argc, char *argv[], const char *replay, void (*const *scenarios)(void), size_t n,
                void (*on_message)(const char *message), const char *result);

/* -- State -- */

bool serves(const SimMachine *m);
KvState state_of(const SimMachine *m);
bool is_ready(const SimMachine *m);
/* Return the leader of the cluster of 'of', or NULL. */
SimMachine *leader_with(const SimMachine *of);
/* Return the machine of 'm' in the view of 'at', or NULL. */
const ClusterMachine *seen(const SimMachine *at, const SimMachine *m);
bool has_record(const SimMachine *at, const SimMachine *m);
/* Return whether 'm' is up, as the cluster of 'of' has recorded, and has a replica there. */
bool is_member(const SimMachine *of, const SimMachine *m);
size_t n_voters(const SimMachine *of); /* that can be reached */
/* Return whether a file or folder of the state directory exists. */
bool exists(const SimMachine *m, const char *name);
/* Write the public key of a host, for a comparison; unchanged if it has none. */
void read_pin(const SimMachine *m, char ret[static DIGEST_SIZE]);

/* -- Commands -- */

typedef struct MadeToken {
        bool done;
        char text[TOKEN_TEXT_MAX + 1], id[TOKEN_ID_SIZE];
} MadeToken;

/* Create a token of one use; 'replace': NULL, or a machine ID. */
MadeToken make_token(SimMachine *m, const char *replace);
MadeToken make_token_of(SimMachine *m, const TokenRequest *request);
const ClusterToken *token_at(const SimMachine *m, const MadeToken *made);
unsigned uses_left(const MadeToken *token);
/* Run fleetctl init or join. Return whether the daemon accepted the command. */
bool command(SimMachine *m, bool init, const char *token);
/* Join, and wait until the answer of the cluster is stored. */
void join_with(SimMachine *m, const MadeToken *token);
void expect_failure(SimMachine *m, const char *text);
/* Submit a unit with this text to 'm', start it, and wait until it runs on 'm'. */
void launch(SimMachine *m, const char *name, const char *text);
/* Stop a daemon, and wait for its end. */
void stop_host(SimMachine *m);
