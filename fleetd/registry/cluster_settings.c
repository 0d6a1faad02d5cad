/* The settings of the cluster: /_fleet/cluster/settings. */

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

int registry_set_settings(Registry *r, const ClusterSettings *settings, const char *user, RegistryDone done,
                          void *userdata) {
        const Cluster *c = registry_cluster(r);
        _cleanup_transaction_ Transaction t = {};
        char reason[HISTORY_REASON_SIZE];

        if (cluster_has_unreadable(c, LAYOUT_SETTINGS))
                return -EBADMSG;
        transaction_check(&t, KV_CHECK_MODIFIED, c->settings_index, LAYOUT_SETTINGS, NULL, NULL);
        transaction_put(&t, LAYOUT_SETTINGS, NULL, NULL, settings);
        text_format(reason, sizeof(reason), "voters=%llu name=%s spread=%s%s%s%s",
                    (unsigned long long) settings->voters, settings->name, settings->spread,
                    settings->peer_auth == PEER_AUTH_CERTIFICATE ? " certificates required" : "",
                    settings->restricted ? " tokens restricted" : "",
                    settings->sticky     ? " sticky=yes" :
                    settings->not_sticky ? " sticky=no" :
                                           "");
        if (!settings->founder) /* of each new cluster */
                transaction_note(&t, r,
                                 &(HistoryNote) { .kind = HISTORY_SETTINGS, .user = user, .reason = reason });
        return transaction_send(r, &t, 0, done, userdata);
}
