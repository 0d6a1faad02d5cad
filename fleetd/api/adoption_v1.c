/* DELETE /fleet/v1/cluster/adopting: in a cluster that was recovered or restored, end the wait for the
 * reports of hosts. */
#include "fleetd/api/fleet_v1.h"

unsigned adopting_handle(Request *request, Error *err) {
        Registry *registry = request->api->host->registry;

        if (registry_cluster(registry)->adopting)
                return change_sent(request, "the wait for reports",
                                   registry_adopt_now(request_registry(request), request_user(request),
                                                      change_on_done, request));
        return error_set(err, 404, "no host is waited for");
}
