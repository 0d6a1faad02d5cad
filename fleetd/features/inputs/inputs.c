#include "fleetd/features/inputs/inputs_internal.h"

static int inputs_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Inputs *inputs = NEW0(Inputs, 1);

        if (!inputs)
                return -ENOMEM;
        inputs->host = host;
        *ret = inputs;
        return 0;
}

static void *inputs_close(void *self) {
        free(self);
        return NULL;
}

const Component inputs_component = { "inputs",
                                     inputs_open,
                                     inputs_close,
                                     .routes = secrets_routes,
                                     .n_routes = SECRETS_ROUTES,
                                     .write_why = inputs_write_why,
                                     .problems = inputs_problems,
                                     .reseal = secrets_reseal };
