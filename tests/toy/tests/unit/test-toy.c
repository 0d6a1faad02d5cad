/* The duty and the key of the toy, on a host. */
#include "tests/lib/test.h"
#include "fleetd/host/component.h"
#include "fleetd/registry/transaction.h"
#include "tests/lib/host.h"

extern const Component toy_component;

/* Write the record as it is. */
static void put_toy(Host *h, const char *json) {
        _cleanup_transaction_ Transaction t = {};

        transaction_write(&t, KV_SET, LAYOUT_TOY, NULL, NULL, (KvBytes) { json, strlen(json) });
        assert_int_equal(host_wait(h, transaction_send(h->registry, &t, 0, host_on_done, h)), KV_OK);
}

static void no_unit_starts_while_the_toy_is_busy(void **state) {
        Host *h = host_new(false);
        ComponentHost host = { .registry = h->registry };
        void *self = NULL;

        host_machine(h);
        assert_int_equal(toy_component.open(&host, NULL, &self, NULL), 0);
        assert_int_equal(toy_component.duty->prepare(self, "web.service"), 0);
        put_toy(h, "{\"since\":1,\"text\":\"bear\"}");
        assert_int_equal(toy_component.duty->prepare(self, "web.service"), 0);
        put_toy(h, "{\"since\":1,\"text\":\"busy\"}");
        assert_int_equal(toy_component.duty->prepare(self, "web.service"), -EAGAIN);
        put_toy(h, "{\"text\":5}");
        assert_true(cluster_has_unreadable(registry_cluster(h->registry), LAYOUT_TOY));
        assert_int_equal(toy_component.duty->prepare(self, "web.service"), 0);
        assert_null(toy_component.close(self));
        host_free(h);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(no_unit_starts_while_the_toy_is_busy) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
