/* Replicas= of templates: the leader creates, destroys and retargets the numbered instances ("slots", from 1
 * on) that the number of a template demands. The instances then are units as any other. */
#pragma once

#include "fleetd/engine/controller.h"
#include "fleetd/host/component.h"

/* Print the name of a slot: "web@3.service". Return false if it is too long for a unit. */
bool replicas_slot(const char *template, unsigned number, char ret[static UNIT_NAME_MAX + 1]);
/* Return the number of a slot of the template by its name; 0: it has none. */
unsigned replicas_number(const char *template, const char *unit);
/* Return whether the unit follows the template; 'u' may be NULL. One with a text of its own is no slot. */
bool replicas_follows(const ClusterUnit *u, const ClusterUnit *head);

typedef enum ReplicasAction { REPLICAS_DESTROY, REPLICAS_CREATE, REPLICAS_RETARGET } ReplicasAction;

typedef struct ReplicasStep {
        ReplicasRecord next;
        bool writes, remove; /* 'remove': the key is deleted */
        size_t n;
        struct {
                ReplicasAction action;
                unsigned number;
        } slots[REPLICAS_CHANGES_MAX]; /* at first those to destroy, the highest first */
} ReplicasStep;

/* Plan the next step of a set: what brings the slots to the number and the target state of the template. Of
 * many, some; repeated steps end. While a key of the template cannot be read, nothing is done. Pure. */
void replicas_step(const ClusterUnit *head, const Cluster *cluster, ReplicasStep *ret);

/* Members of the component, whose row is in replicas_v1.c. */
int replicas_open(ComponentHost *host, const Settings *s, void **ret, Error *err);
void *replicas_close(void *self);
extern const Controller replicas_controller;
