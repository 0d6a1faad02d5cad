#include "fleetd/api/parked.h"

#include "fleetd/api/forward.h"

enum { PARKED_LOOK_MS = 1000, PARKED_MS = 60000 };

static void parked_cut_all(Api *api) {
        for (Request *request = TAILQ_FIRST(&api->requests), *next; request; request = next) {
                next = TAILQ_NEXT(request, requests);
                if (request->watching)
                        request_cut(request, "no replica could be reached for a minute");
        }
}

static void parked_look(void *userdata) {
        Api *api = userdata;
        uint64_t now_ms = loop_now_ms(api->loop);

        if (!kv_is_attached(api->host->store) || forward_has_replica(api))
                api->parked_ms = 0;
        else if (api->parked_ms == 0)
                api->parked_ms = now_ms;
        else if (now_ms - api->parked_ms >= PARKED_MS)
                parked_cut_all(api);
        parked_begin(api);
}

void parked_begin(Api *api) {
        if (api->n_watching == 0 || !kv_is_attached(api->host->store))
                api->parked_ms = 0;
        else if (!timer_armed(&api->parked))
                (void) timer_start(&api->parked, api->loop, PARKED_LOOK_MS);
}

void parked_init(Api *api) {
        api->parked = TIMER(parked_look, api);
}

void parked_end(Api *api) {
        timer_stop(&api->parked);
}
