#include "fleetd/agent/facts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include "base/log.h"

enum { FACTS_RETRY_MS = 1000, LOOK_MS = 60000 };

struct Facts {
        Loop *loop; /* borrowed, as the next */
        Registry *registry;
        Machine machine;
        RegistryObserver observer;
        Deferred pass;
        Timer retry, look;
        bool (*needs_reboot)(void); /* NULL: not watched */
        bool boot_known;            /* machine.booting was set */
        bool sending, refused;      /* refused: the last ones, by the rights of this host */
        bool unheard;               /* that its metadata do not count was logged */
};

static void facts_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Facts *f = userdata;

        f->sending = false;
        if (status == KV_FORBIDDEN && !f->refused)
                log_warning(NO_FIELDS, "Failed to publish the facts of this host: %s; trying again", message);
        f->refused = status == KV_FORBIDDEN;
        if (status != KV_OK)
                (void) timer_start(&f->retry, f->loop, FACTS_RETRY_MS);
        else
                loop_defer(f->loop, &f->pass);
}

/* Only the queue of reboots reads it. While it is not known, a host of another boot counts as booting, or it
 * would be back for a moment. */
static bool facts_are_booting(const Facts *f, const ClusterMachine *self) {
        bool same_boot = self && self->facts && same_string(self->facts->boot_id, f->machine.boot_id);

        if (!self || !self->reboot || !f->machine.booting)
                return false;
        return f->boot_known || !same_boot || self->facts->booting;
}

static void facts_log_unheard(Facts *f, const ClusterMachine *self) {
        if (f->unheard || !self || !cluster_machine_is_restricted(self) || f->machine.metadata.n == 0)
                return;
        f->unheard = true;
        log_warning(NO_FIELDS,
                    "Metadata= of this host does not count, because the host is restricted: an operator sets "
                    "metadata (fleetctl machine set %s KEY=VALUE)",
                    self->short_id);
}

static void facts_on_pass(void *userdata) {
        Facts *f = userdata;
        const ClusterMachine *self = cluster_machine(registry_cluster(f->registry), f->machine.id);
        Machine facts; /* borrows */
        KvState state;

        kv_state(registry_store(f->registry), &state);
        f->machine.raft_id = state.raft_id;
        if (f->sending || !state.ready || !registry_ready(f->registry))
                return;
        facts_log_unheard(f, self);
        facts = f->machine;
        /* systemd is not ready yet: the number cannot decrease within a boot, and 0 followed by the former
         * one would look like another boot. */
        if (self && self->facts && same_string(self->facts->boot_id, facts.boot_id))
                facts.soft_reboots = MAX(facts.soft_reboots, self->facts->soft_reboots);
        facts.booting = facts_are_booting(f, self);
        if (state.level < KV_LEVEL_UPDATES) {
                facts.booting = false;
                facts.soft_reboots = 0;
                facts.needs_reboot = facts.soft_reboot = false;
                facts.checks = NULL;
        }
        if (state.level < KV_LEVEL_SCHEDULING)
                facts.capacity = (Resources) {};
        if (self && self->facts && json_record_equal(&facts_record, self->facts, &facts))
                return;
        if (registry_publish_facts(f->registry, &facts, facts_on_done, f) < 0)
                (void) timer_start(&f->retry, f->loop, FACTS_RETRY_MS);
        else
                f->sending = true;
}

static void facts_on_change(void *userdata, const RegistryChange *change) {
        Facts *f = userdata;

        if (change->kind == CHANGED_ALL ||
            (change->kind == CHANGED_MACHINE && (!change->machine || streq(change->machine, f->machine.id))))
                loop_defer(f->loop, &f->pass);
}

void facts_state_changed(void *facts) {
        Facts *f = facts;

        loop_defer(f->loop, &f->pass);
}

static void facts_on_look(void *userdata) {
        Facts *f = userdata;
        bool needs = f->needs_reboot();

        if (needs != f->machine.needs_reboot) {
                f->machine.needs_reboot = needs;
                loop_defer(f->loop, &f->pass);
        }
        (void) timer_start_with_slack(&f->look, f->loop, LOOK_MS, LOOK_MS);
}

void facts_watch_reboot(Facts *f, bool (*needs_reboot)(void)) {
        f->needs_reboot = needs_reboot;
        facts_on_look(f);
}

void facts_systemd_ready(void *facts, uint64_t soft_reboots, bool booting) {
        Facts *f = facts;

        f->machine.soft_reboots = soft_reboots;
        f->boot_known = true;
        f->machine.booting = booting;
        loop_defer(f->loop, &f->pass);
}

int facts_set_checks(Facts *f, const char *problem) {
        char *copy = *problem ? strdup(problem) : NULL;

        if (*problem && !copy)
                return -ENOMEM;
        free(f->machine.checks);
        f->machine.checks = copy;
        loop_defer(f->loop, &f->pass);
        return 0;
}

int facts_set(Facts *f, const Machine *facts) {
        Machine copy = {};

        TRY(json_record_copy(&facts_record, facts, &copy));
        copy.checks = TAKE_PTR(f->machine.checks);
        copy.needs_reboot = f->machine.needs_reboot;
        if (f->boot_known)
                copy.booting = f->machine.booting;
        machine_done(&f->machine);
        f->machine = copy;
        loop_defer(f->loop, &f->pass);
        return 0;
}

int facts_new(Facts **ret, Loop *loop, Registry *registry, const Machine *facts) {
        Facts *f = NEW0(Facts, 1);
        int r;

        if (!f)
                return -ENOMEM;
        *f = (Facts) {
                .loop = loop,
                .registry = registry,
                .observer = { .on_change = facts_on_change, .userdata = f },
                .pass = DEFERRED(facts_on_pass, f),
                .retry = TIMER(facts_on_pass, f),
                .look = TIMER(facts_on_look, f),
        };
        r = facts_set(f, facts);
        if (r < 0) {
                free(f);
                return r;
        }
        registry_observe(registry, &f->observer);
        *ret = f;
        return 0;
}

void *facts_free(void *facts) {
        Facts *f = facts;

        if (!f)
                return NULL;

        registry_unobserve(f->registry, &f->observer);
        deferred_cancel(&f->pass);
        timer_stop(&f->retry);
        timer_stop(&f->look);
        machine_done(&f->machine);
        registry_cancel(f->registry, f);
        free(f);
        return NULL;
}

const char *facts_service_address(const Facts *f, const char *configured) {
        return *configured ? configured : endpoint_address(f ? f->machine.address : NULL);
}

int facts_primary_address(char *ret, size_t size) {
        struct ifaddrs *all;
        int r = -ENODEV;

        if (getifaddrs(&all) < 0)
                return -errno;
        for (struct ifaddrs *i = all; i && r < 0; i = i->ifa_next) {
                const struct sockaddr_in *in = (const struct sockaddr_in *) i->ifa_addr;

                if (in && in->sin_family == AF_INET && (i->ifa_flags & IFF_UP) &&
                    !interface_is_of_containers(i->ifa_name) && !starts_with(i->ifa_name, "virbr") &&
                    inet_ntop(AF_INET, &in->sin_addr, ret, (socklen_t) size) &&
                    endpoint_address_is_valid(ret))
                        r = 0;
        }
        freeifaddrs(all);
        return r;
}
