/* The row of the component, and its duty. */
#include "fleetd/features/inputs/inputs_internal.h"

static int inputs_provide(void *self, const Unit *text, uint64_t number, Verdict *why) {
        const Inputs *inputs = self;

        return inputs->provider ? provider_provide(inputs->provider, text, number, why) : 0;
}

static uint64_t inputs_provided(void *self, const Unit *text, Verdict *problem) {
        const Inputs *inputs = self;

        return inputs->provider ? provider_provided(inputs->provider, text, problem) : 0;
}

static int inputs_stage(void *self, const Unit *text, struct RecordPorts *ports, bool runs, Error *err) {
        const Inputs *inputs = self;

        return inputs->provider ? provider_stage(inputs->provider, text, err) : 0;
}

static void inputs_publish(void *self, const DutyUnit *unit, StateChange *change) {
        const Inputs *inputs = self;

        if (inputs->provider)
                provider_publish(inputs->provider, unit);
}

static void inputs_gone(void *self, const char *unit) {
        const Inputs *inputs = self;

        if (inputs->provider)
                provider_gone(inputs->provider, unit);
}

static void *inputs_close(void *self) {
        Inputs *inputs = self;

        provider_free(inputs->provider);
        resolver_free(inputs->resolver);
        watcher_free(inputs->watcher);
        free(inputs);
        return NULL;
}

static int inputs_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        Inputs *inputs = NEW0(Inputs, 1);

        if (!inputs)
                return -ENOMEM;
        inputs->host = host;
        *ret = inputs;
        TRY(watcher_new(&inputs->watcher, host));
        TRY(resolver_new(&inputs->resolver, host));
        return host->agent ? provider_new(&inputs->provider, host, inputs->resolver) : 0;
}

static const Duty inputs_duty = { .provide = inputs_provide,
                                  .provided = inputs_provided,
                                  .stage = inputs_stage,
                                  .publish = inputs_publish,
                                  .gone = inputs_gone };

static const Controller inputs_controller = { "inputs", watcher_step };

const Component inputs_component = { "inputs",
                                     inputs_open,
                                     inputs_close,
                                     .duty = &inputs_duty,
                                     .controller = &inputs_controller,
                                     .routes = secrets_routes,
                                     .n_routes = SECRETS_ROUTES,
                                     .write_why = inputs_write_why,
                                     .problems = inputs_problems,
                                     .reseal = secrets_reseal };
