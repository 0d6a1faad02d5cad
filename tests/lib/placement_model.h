/* What the rules of placements say about two units, and whether two placements are equal, by a plain search:
 * the product has an index of the patterns (fleetd/registry/). */
#pragma once

#include "base/parse.h"
#include "units/placement.h"

/* Return the first glob that matches the name, borrowed, or NULL. */
_unused_ static const char *placement_match(const Names *globs, const char *name) {
        for (size_t i = 0; i < globs->n; i++)
                if (glob_match(globs->items[i], name))
                        return globs->items[i];
        return NULL;
}

/* Return the glob by which one of two units conflicts with the other, or NULL. */
_unused_ static const char *placement_conflict(const Placement *a, const char *a_name, const Placement *b,
                                               const char *b_name) {
        return placement_match(&a->conflicts, b_name) ?: placement_match(&b->conflicts, a_name);
}

/* Return whether both units have a port. PublishPort= counts for one that is not there yet. */
_unused_ static bool placement_same_port(const Placement *a, const Placement *b, bool staying) {
        const Names *const lists[][2] = { { &a->ports, &b->ports },
                                          { &a->ports, &b->published },
                                          { &a->published, &b->ports },
                                          { &a->published, &b->published } };

        for (size_t i = 0; i < (staying ? 1 : ELEMENTS(lists)); i++)
                for (size_t k = 0; k < lists[i][0]->n; k++)
                        if (names_have(lists[i][1], lists[i][0]->items[k]))
                                return true;
        return false;
}

_unused_ static bool share_equal(Share a, Share b) {
        return a.unit == b.unit && a.value == b.value;
}

_unused_ static bool update_policy_equal(const UpdatePolicy *a, const UpdatePolicy *b) {
        return share_equal(a->max_unavailable, b->max_unavailable) &&
               share_equal(a->min_available, b->min_available) && share_equal(a->max_surge, b->max_surge) &&
               share_equal(a->canary, b->canary) && share_equal(a->max_failures, b->max_failures) &&
               a->watch_ms == b->watch_ms && a->pause_ms == b->pause_ms && a->deadline_ms == b->deadline_ms &&
               a->promote_ms == b->promote_ms && same_string(a->by, b->by) && a->on_failure == b->on_failure;
}

_unused_ static bool unit_check_equal(const UnitCheck *a, const UnitCheck *b) {
        return a->kind == b->kind && a->port == b->port && streq(a->port_name, b->port_name) &&
               same_string(a->address, b->address) && same_string(a->target, b->target);
}

_unused_ static bool health_policy_equal(const HealthPolicy *a, const HealthPolicy *b) {
        if (a->n_checks != b->n_checks)
                return false;
        for (size_t i = 0; i < a->n_checks; i++)
                if (!unit_check_equal(&a->checks[i], &b->checks[i]))
                        return false;
        return a->interval_ms == b->interval_ms && a->timeout_ms == b->timeout_ms &&
               a->start_ms == b->start_ms && a->failures == b->failures && a->successes == b->successes &&
               a->action == b->action;
}

_unused_ static bool service_policy_equal(const ServicePolicy *a, const ServicePolicy *b) {
        if (a->n_ports != b->n_ports)
                return false;
        for (size_t i = 0; i < a->n_ports; i++)
                if (!streq(a->ports[i].name, b->ports[i].name) || a->ports[i].number != b->ports[i].number ||
                    a->ports[i].container != b->ports[i].container ||
                    a->ports[i].protocol != b->ports[i].protocol)
                        return false;
        return names_equal(&a->names, &b->names) && a->withdraw_ms == b->withdraw_ms;
}

_unused_ static bool input_policy_equal(const InputPolicy *a, const InputPolicy *b) {
        return names_equal(&a->secrets, &b->secrets) && names_equal(&a->credentials, &b->credentials) &&
               names_equal(&a->environment, &b->environment) && names_equal(&a->files, &b->files) &&
               names_equal(&a->directories, &b->directories) && a->on_change == b->on_change;
}

_unused_ static bool placement_equal(const Placement *a, const Placement *b) {
        return same_string(a->machine_id, b->machine_id) && names_equal(&a->machine_of, &b->machine_of) &&
               pairs_equal(&a->metadata, &b->metadata) && names_equal(&a->conflicts, &b->conflicts) &&
               names_equal(&a->replaces, &b->replaces) && a->global == b->global &&
               a->singleton == b->singleton && a->move == b->move && a->target == b->target &&
               a->replace_after_ms == b->replace_after_ms && a->stops_alone == b->stops_alone &&
               a->stop_after_ms == b->stop_after_ms && a->keeps_old == b->keeps_old &&
               a->keep_revisions == b->keep_revisions && update_policy_equal(&a->update, &b->update) &&
               health_policy_equal(&a->health, &b->health) &&
               service_policy_equal(&a->service, &b->service) && input_policy_equal(&a->inputs, &b->inputs) &&
               names_equal(&a->ports, &b->ports) && names_equal(&a->published, &b->published) &&
               a->sticky == b->sticky && a->replicas == b->replicas &&
               a->max_per_machine == b->max_per_machine && names_equal(&a->spread, &b->spread) &&
               resources_equal(a->request, b->request) && resources_equal(a->size, b->size) &&
               same_string(a->data, b->data) && same_string(a->host_path, b->host_path);
}
