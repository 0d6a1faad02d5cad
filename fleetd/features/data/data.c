#include "fleetd/features/data/data.h"

#include "fleetd/engine/controller.h"
#include "fleetd/host/component.h"

static void data_record_moved(Transaction *t, const Cluster *c) {
        const ClusterUnit *u;

        LIST_FOREACH(u, &c->lists[CLUSTER_DATA_MOVED], lists[CLUSTER_DATA_MOVED]) {
                DataRecord data = { .since_ms = c->now_ms };

                if (t->n_writes == DATA_STEP_MAX)
                        return;
                memcpy(data.machine, cluster_unit_up(u)->machine->id, sizeof(data.machine));
                transaction_check_index(t, u->data_index, LAYOUT_DATA, u->name, NULL);
                transaction_put(t, LAYOUT_DATA, u->name, NULL, &data);
        }
}

/* Delete the oldest records of units that do not exist. */
static void data_trim(Transaction *t, const Cluster *c) {
        size_t n = c->n_listed[CLUSTER_DATA_LEFT], surplus = n - MIN(n, (size_t) DATA_LEFT_MAX);
        const ClusterUnit *u, *oldest = NULL;

        for (uint64_t last = 0; surplus > 0 && t->n_writes < DATA_STEP_MAX;
             surplus--, last = oldest->data_index) {
                oldest = NULL;
                LIST_FOREACH(u, &c->lists[CLUSTER_DATA_LEFT], lists[CLUSTER_DATA_LEFT])
                        if (u->data_index > last && (!oldest || u->data_index < oldest->data_index))
                                oldest = u;
                if (!oldest) /* written by one transaction: the next pass has the rest */
                        return;
                transaction_check_index(t, oldest->data_index, LAYOUT_DATA, oldest->name, NULL);
                transaction_delete(t, LAYOUT_DATA, oldest->name, NULL);
        }
}

void data_step(Transaction *t, const Cluster *c) {
        if (c->adopting)
                return;
        data_record_moved(t, c);
        data_trim(t, c);
}

static int data_control(Control *control) {
        _cleanup_transaction_ Transaction t = {};
        int r;

        data_step(&t, registry_cluster(control->registry));
        if (t.n_writes == 0)
                return t.error;
        r = transaction_send(control->registry, &t, control->term, control->done, control->userdata);
        return r < 0 ? r : 1;
}

static int data_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        *ret = host->registry; /* the controller has no memory */
        return 0;
}

static void *data_close(void *self) {
        return NULL;
}

static const Controller data_controller = { "data", data_control };

const Component data_component = { "data", data_open, data_close, .controller = &data_controller };
