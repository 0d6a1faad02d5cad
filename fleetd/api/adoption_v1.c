/* DELETE /fleet/v1/cluster/adopting: in a cluster that was recovered or restored, end the wait for the
 * reports of hosts. */
#include <errno.h>

#include "fleetd/api/fleet_v1.h"

void adopting_handle(Request *request) {
        Registry *registry = request->api->options.registry;
        ChangeWork *w;

        if (!registry_cluster(registry)->adopting) {
                request_error(request, 404, "no host is waited for");
                return;
        }
        w = change_new(request, 204, NULL);
        change_sent(request, w, w ? registry_adopt_now(registry, change_on_done, w) : -ENOMEM);
}
