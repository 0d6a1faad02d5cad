/* The numbers of a unit's ports, and their drop-in: Duty.stage. The drop-in has the numbers before there is a
 * record; they are those of the record as soon as there is one, which is on disk before the start. */
#include "fleetd/agent/agent.h"
#include "fleetd/agent/facts.h"
#include "fleetd/features/services/port_prober.h"
#include "fleetd/features/services/ports.h"
#include "fleetd/features/services/services_internal.h"

/* Of one unit. */
typedef struct Staging {
        const Services *services;
        const Unit *text;
        bool runs;
        RecordPorts ports; /* so far */
} Staging;

/* Return the port of another unit of this host with that number, or NULL. */
static const HeldPort *stage_owner(const Staging *s, uint16_t number, PortProtocol protocol) {
        size_t n;
        const HeldPort *held = agent_port_holders(s->services->host->agent, number, protocol, &n);

        for (size_t i = 0; i < n; i++)
                if (!streq(held[i].record->name, s->text->name))
                        return &held[i];
        return NULL;
}

static bool stage_is_taken(void *userdata, uint16_t number, PortProtocol protocol) {
        const Staging *s = userdata;
        const PortProber *prober = s->services->host->io.ports;

        return record_ports_have(&s->ports, &s->text->placement.service, number, protocol) ||
               stage_owner(s, number, protocol) || (prober && !prober->is_free(prober, number, protocol));
}

/* A number of the text that is in the range of dynamic ports of this host. */
static int stage_check_fixed(const Staging *s, const ServicePort *port, Error *err) {
        const HeldPort *owner = stage_owner(s, (uint16_t) port->number, port->protocol);

        if (s->runs || !owner || !owner->selected)
                return 0;
        return error_set(err, -EADDRINUSE, "%u/%s is the port of %s (auto)", (unsigned) port->number,
                         port_protocol_to_string(port->protocol), owner->record->name);
}

/* Add a number: 'recorded' unless another unit or program has it. 0: none yet. While the unit runs, its
 * process has the port, and no number is chosen. */
static int stage_select(Staging *s, const ServicePort *port, uint16_t recorded, Error *err) {
        const ComponentHost *host = s->services->host;
        PortChoice choice = { host->settings->port_first, host->settings->port_last,
                              .is_taken = stage_is_taken, .userdata = s };
        uint16_t number = recorded;

        if (!s->runs && (number == 0 || stage_is_taken(s, number, port->protocol))) {
                if (host->io.ports &&
                    host->io.ports->local_ports(&choice.local_first, &choice.local_last) < 0)
                        choice.local_first = choice.local_last = 0;
                number = ports_choose(&choice, s->text->name, port);
                if (number == 0)
                        return error_set(err, -EADDRINUSE, "no free port in PortRange=%u-%u", choice.first,
                                         choice.last);
        }
        if (recorded > 0 && number != recorded)
                (void) error_set(err, -EADDRINUSE, "port %s is %u, because %u/%s is in use", port->name,
                                 number, recorded, port_protocol_to_string(port->protocol));
        if (number > 0)
                record_ports_add(&s->ports, port->name, number);
        return 0;
}

int services_stage(void *self, const Unit *text, RecordPorts *ports, bool runs, Error *err) {
        const ServicePolicy *service = &text->placement.service;
        Staging s = { self, text, runs, {} };
        const ComponentHost *host = s.services->host;
        Systemd *systemd = host->io.systemd;
        _cleanup_free_ char *former = NULL;
        _cleanup_text_ Text t = {};
        int r;

        if (service->n_ports > 0 &&
            systemd->ops->get_drop_in(systemd, text->name, DROP_IN_PORTS, &former) == -ENOMEM)
                return -ENOMEM;
        for (size_t i = 0; i < service->n_ports; i++) {
                const ServicePort *port = &service->ports[i];
                uint16_t recorded = record_ports_number(ports, port);

                if (recorded == 0 && former)
                        recorded = ports_read_drop_in(former, port->name);
                TRY(port->number > 0 ? stage_check_fixed(&s, port, err) :
                                       stage_select(&s, port, recorded, err));
        }
        *ports = s.ports;
        if (!(drop_in_wanted(text) & 1U << DROP_IN_PORTS))
                return 0;
        ports_append_drop_in(&t, text, facts_service_address(host->facts, host->settings->service_address),
                             &s.ports);
        r = t.error < 0 ? t.error : systemd->ops->put_drop_in(systemd, text->name, DROP_IN_PORTS, t.chars);
        return r < 0 ? error_set(err, r, "Failed to write the drop-in of its ports: %s", strerror(-r)) : r;
}
