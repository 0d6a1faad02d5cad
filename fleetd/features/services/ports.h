/* Ports of units: the choice of a number for Port=NAME:auto, and the drop-in that delivers numbers. Pure.
 *
 * Source: fleet.unit(5). */
#pragma once

#include "fleetd/agent/records.h"

/* Where a number is chosen. */
typedef struct PortChoice {
        uint16_t first, last;             /* PortRange= */
        uint16_t local_first, local_last; /* ports that the kernel gives to connections: not chosen */
        bool (*is_taken)(void *userdata, uint16_t number, PortProtocol protocol);
        void *userdata;
} PortChoice;

/* Return the first free number from a hash of the names on: a unit that returns to a host usually gets its
 * former one. 0: there is none. */
uint16_t ports_choose(const PortChoice *choice, const char *unit, const ServicePort *port);

/* Append the sections for a unit with these numbers: the environment, and what its container publishes. Ports
 * whose number is not known are left out. 'address' "": none. */
void ports_append_drop_in(Text *t, const Unit *text, const char *address, const RecordPorts *ports);
/* Return the selected number of that name in a drop-in, which outlives the records that a crash has lost; 0:
 * none. */
uint16_t ports_read_drop_in(const char *drop_in, const char *name);
