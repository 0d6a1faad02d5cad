/* DELETE /fleet/v1/cluster/adopting: in a cluster that was recovered or restored, end the wait for the
 * reports of hosts. */
#include "fleetd/api/fleet_v1.h"

void adopting_handle(Request *request) {
        Registry *registry = request->api->options.registry;

        char user[RECORDED_BY_SIZE];

        if (registry_cluster(registry)->adopting)
                change_sent(request, "the wait for reports",
                            registry_adopt_now(request_registry(request), request_user(request, user),
                                               change_on_done, request));
        else
                request_error(request, 404, "no host is waited for");
}
