/* The row of the component. */
#include "fleetd/features/services/services_internal.h"

static int services_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Services *services;

        if (!host->agent)
                return 0;
        services = NEW0(Services, 1);
        if (!services)
                return -ENOMEM;
        services->host = host;
        *ret = services;
        return 0;
}

static void *services_close(void *self) {
        free(self);
        return NULL;
}

static const Duty services_duty = { .stage = services_stage };

const Component services_component = { "services", services_open, services_close, .duty = &services_duty };
