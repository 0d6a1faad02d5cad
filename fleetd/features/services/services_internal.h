/* The component of services: their ports and endpoints on this host. services.c has its row and the endpoints
 * of this host, files.c the files that list endpoints, stage.c the ports of a unit, services_v1.c what
 * people see of all hosts. */
#pragma once

#include "fleetd/api/request.h"
#include "fleetd/features/services/files.h"
#include "fleetd/problems/problems.h"
#include "fleetd/registry/endpoints.h"
#include "units/named.h"

/* How far the withdrawal before an assigned stop is. */
typedef enum WithdrawStage {
        WITHDRAW_NONE,
        WITHDRAW_DUE,
        WITHDRAW_SENT,
        WITHDRAW_ENDED, /* acknowledged, or failed */
} WithdrawStage;

/* A unit of this host with services. */
typedef struct OwnEndpoint {
        Named unit;
        EndpointRecord record;               /* of a listed one; of a former one, its services alone */
        bool listed;                         /* in the files of this host */
        bool former;                         /* by a former daemon; this one has not decided yet */
        bool available, crashed;             /* since it was listed; see EndpointFacts */
        char invocation[INVOCATION_ID_SIZE]; /* that is, or was listed */
        WithdrawStage stage;
        bool again;                    /* it is withdrawn for the second time */
        uint64_t withdraw_ms, stop_ms; /* WithdrawSec=; no assigned stop before this time */
} OwnEndpoint;

typedef struct Services {
        ComponentHost *host; /* borrowed */
        RegistryObserver observer;
        bool level;       /* the feature level of the cluster has services */
        bool level_known; /* since the start; before, an attached host has no store */
        Named *own;       /* OwnEndpoint, by unit */
        size_t n_listed;
        bool withdrawing;  /* a transaction is under way */
        EndpointLook look; /* of the leader, at those of others */
        Deferred withdraw;
        Timer stops; /* the next stop that waits */

        /* Of files.c. */
        Named *written, *due; /* ServiceFile: the files that there are; names of those to be written */
        bool all_due;
        bool sees_others; /* the cluster view has the endpoints of others */
        bool complete;    /* it had them since this boot */
        bool changed;     /* since .host was written */
        uint64_t host_hash;
        int files_error;  /* as logged */
        uint64_t next_ms; /* no write before */
        Timer pass;
} Services;

/* What an endpoint has of this host. Borrowed. */
typedef struct ServicesSelf {
        const char *machine_id, *name, *zone, *address; /* 'zone': NULL for none; 'address': "" */
        bool up;
} ServicesSelf;

/* -- files.c -- */

ServicesSelf services_self(const Services *s);
/* Decide about all own endpoints again. */
void services_wake_all(Services *s);
/* Read what a former daemon has written: each of its own endpoints is a former one. 0 or -ENOMEM. */
int services_read_files(Services *s);
/* The files of these services are to be written; SERVICES_MAX names, "" after the last one. */
void services_files_due(Services *s, const char (*services)[SERVICE_NAME_MAX + 1]);
/* The same of all. */
void services_all_files_due(Services *s);
void services_on_pass(void *userdata);

/* -- stage.c -- */

int services_stage(void *self, const Unit *text, struct RecordPorts *ports, bool runs,
                   Error *err); /* Duty.stage */

/* -- services_v1.c -- */

enum { SERVICES_ROUTES = 2 };

extern const Route services_routes[SERVICES_ROUTES];
extern const ProblemRow services_problems[];
