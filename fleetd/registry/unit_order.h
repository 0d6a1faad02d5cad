/* Units in the order of their names.
 *
 * The units are in blocks, so that the cost of a change does not grow with the number of units: it moves the
 * pointers of one block, or the list of blocks if a block is split or merged. One flat array would make the
 * scan of a cluster with 100,000 units quadratic, since assignments come before units, and by machine. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Add a unit, of which no other has the name. 0 or -ENOMEM. */
int unit_order_add(UnitOrder *o, ClusterUnit *unit);
/* Remove a unit that was added. */
void unit_order_remove(UnitOrder *o, const ClusterUnit *unit);
void unit_order_done(UnitOrder *o);

/* Return the unit after the position, and advance it; NULL at the end. */
ClusterUnit *unit_order_next(const UnitOrder *o, UnitPosition *p);
/* Set the position after the unit of that name, or where that would be. */
void unit_order_seek(const UnitOrder *o, const char *name, UnitPosition *ret);
/* Return how many names begin with these bytes, and set the position before the first of them. */
size_t unit_order_prefix(const UnitOrder *o, const char *start, size_t size, UnitPosition *ret);
/* The same of the names of a template and of its instances. */
size_t unit_order_instances(const UnitOrder *o, const char *template, UnitPosition *ret);
