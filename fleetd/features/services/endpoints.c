#include "fleetd/features/services/endpoints.h"

VerdictCode endpoint_why_not(const EndpointFacts *f) {
        const struct {
                bool missing;
                VerdictCode code;
        } rows[] = {
                { !f->level, VERDICT_ENDPOINT_LEVEL },
                { !f->text || f->text->placement.service.names.n == 0, VERDICT_ENDPOINT_NO_SERVICE },
                { !f->runs, VERDICT_ENDPOINT_NOT_ASSIGNED },
                { !f->passing, VERDICT_ENDPOINT_NOT_PASSING },
                { f->crashed, VERDICT_ENDPOINT_CRASHED },
                { !f->address[0], VERDICT_ENDPOINT_NO_ADDRESS },
                { f->n_others >= ENDPOINTS_MAX, VERDICT_ENDPOINTS_FULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (rows[i].missing)
                        return rows[i].code;
        return VERDICT_NONE;
}

int endpoint_describe(const Unit *text, const RecordPorts *selected, const char *address, const char *name,
                      const char *zone, EndpointRecord *ret) {
        const ServicePolicy *policy = &text->placement.service;
        ServicePort ports[PORTS_MAX];
        EndpointRecord record = { .name = (char *) name, /* borrowed, as the next */
                                  .zone = (char *) (zone ?: ""),
                                  .ports = ports,
                                  .n_ports = MIN(policy->n_ports, (size_t) PORTS_MAX) };

        snprintf(record.address, sizeof(record.address), "%s", address);
        for (size_t i = 0; i < record.n_ports; i++) {
                ports[i] = policy->ports[i];
                ports[i].number = record_ports_number(selected, &policy->ports[i]);
                ports[i].container = 0;
                if (ports[i].number == 0)
                        return -ENOENT;
        }
        for (size_t *i = &record.n_services; *i < MIN(policy->names.n, (size_t) SERVICES_MAX); ++*i)
                snprintf(record.services[*i], sizeof(record.services[*i]), "%s", policy->names.items[*i]);
        return json_record_copy(&endpoint_record, &record, ret);
}

bool endpoint_is_of(const EndpointRecord *record, const char *service) {
        for (size_t i = 0; i < SERVICES_MAX; i++)
                if (streq(record->services[i], service))
                        return true;
        return false;
}
