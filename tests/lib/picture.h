/* Pictures of clusters for tests of the pure rooms, written through the very keys and values that the store
 * would hold. */
#pragma once

#include "fleetd/engine/plan.h"
#include "fleetd/registry/cluster.h"

/* A picture and the store's index that its next key gets. */
typedef struct Picture {
        Cluster cluster;
        uint64_t index;
} Picture;

/* "A" is the machine "aaaa..." (32 digits) of name A; letters A to F, so ids sort as the names do. "A1" is
 * another one: the letter, then digits. */
const char *picture_id(char ret[static 33], const char *machine);

void picture_machine(Picture *p, const char *machine, const char *metadata,
                     Presence presence);                                   /* facts and presence */
void picture_presence(Picture *p, const char *machine, Presence presence); /* since now */
void picture_unit(Picture *p, const char *name, const char *options,
                  TargetState target); /* lines of [X-Fleet], "" for none */
void picture_text(Picture *p, const char *name, const char *options,
                  const char *command); /* the unit's text alone */
void picture_target(Picture *p, const char *name, TargetState target);
void picture_destroy(Picture *p, const char *name);
void picture_order(Picture *p, const char *machine, const char *unit, OrderKind kind);
void picture_state(Picture *p, const char *machine, const char *unit,
                   const char *active); /* NULL: the key goes */
void picture_foreign(Picture *p, const char *machine,
                     const char *unit); /* it has one of that name from elsewhere */
void picture_done(Picture *p, const char *machine, const char *unit); /* it has finished there */
void picture_put(Picture *p, const char *key, const char *value);
void picture_remove(Picture *p, const char *key);
/* A value that this program cannot read, as one of a later version would be. 'unit' is the key of metadata,
 * too. */
void picture_unreadable(Picture *p, LayoutKind kind, const char *unit, const char *machine);
void picture_free(Picture *p);

/* Writes a plan into the picture as the registry would, all at one index. */
void picture_apply(Picture *p, const EnginePlan *plan);

/* What agents do of the orders in the picture: machines that are up run what they shall, and obey orders to
 * stop. */
void picture_obey(Picture *p);

/* Plans all (brake 30 s) and tells it: "run a.service A; stop a.service B", sorted by unit, then machine. The
 * plan is applied if asked to. The caller frees it. */
char *picture_plan(Picture *p, bool apply);
