/* The parts of Daemon: daemon_open.c opens and closes the components, daemon_components.c has the rows of
 * those that use each other, daemon_join.c joins a cluster or opens this one, daemon_listen.c opens the
 * listener for other hosts. */
#pragma once

#include "fleetd/agent/agent.h"
#include "fleetd/agent/facts.h"
#include "fleetd/api/api.h"
#include "fleetd/daemon.h"
#include "fleetd/directory/directory.h"
#include "fleetd/engine/engine.h"
#include "fleetd/identity/entering.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/identity/opening.h"
#include "fleetd/problems/daemon.h"

/* All components, in the order of opening; closed in the opposite one. The row of NAME is NAME_component. */
#define COMPONENTS(X) \
        X(engine)     \
        X(directory)  \
        X(membership) \
        X(facts)      \
        X(agent)      \
        X(inhibitor)  \
        X(rebalance)  \
        X(reboot)     \
        X(replicas)   \
        X(rollout)    \
        X(services)   \
        X(data)       \
        X(inputs)     \
        X(listen)     \
        X(join)       \
        X(problems)   \
        X(api)

#define COMPONENT_DECLARED(name) extern const Component name##_component;
COMPONENTS(COMPONENT_DECLARED)

#define COMPONENT_COUNT(name) +1
enum { COMPONENTS_COUNT = 0 COMPONENTS(COMPONENT_COUNT), WAITS_SIZE = 256 };

struct Daemon {
        ComponentHost host; /* first: components get it */
        void *selves[COMPONENTS_COUNT];
        KvStore *leaving;        /* a store that failed to open, until it is closed */
        Entering *entering;      /* a join under way, or being closed */
        EnteringDone *join_done; /* NULL: answered, or cancelled */
        void *join_userdata;
        Opening *opening;
        Deferred opened;    /* frees 'opening' */
        Deferred unchanged; /* answers an init of a cluster that is open */
        Timer restart;
        bool restarts;                  /* 'restart' was started: nothing else begins */
        char listen_peer[ADDRESS_SIZE]; /* where the peer listener failed to open; "": it did not */
        Timer listen;                   /* the next attempt */
        char bye[16];
        void (*stopped)(void *userdata);
        void *userdata;
        KvRole role;
        uint64_t leader_id;
        char status[256];       /* the last STATUS= for systemd */
        char waits[WAITS_SIZE]; /* KvOptions.waits of a wiped host */
};

/* daemon_open.c: the store is closed; the rest of the close follows. 'userdata': the daemon. */
void daemon_on_store_closed(void *userdata);

extern const Component *const daemon_components[COMPONENTS_COUNT + 1]; /* NULL ends */

/* For the host of the components: */
void daemon_on_identity(ComponentHost *host);
int daemon_on_checks(const ComponentHost *host, const char *problem);
int daemon_ask_set(const ComponentHost *host, const char *unit);
bool daemon_is_foreign(const ComponentHost *host, const char *unit);
/* Restart the daemon when an answer to a client has left. */
void daemon_restart_later(ComponentHost *host);
