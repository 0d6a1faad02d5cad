#include "fleetd/registry/principal.h"

#include "units/machine.h"

static const char *const kind_prefixes[_PRINCIPAL_KIND_MAX] = {
        [PRINCIPAL_NONE] = "",        [PRINCIPAL_MACHINE] = "machine:",     [PRINCIPAL_USER] = "user:",
        [PRINCIPAL_LOCAL] = "local:", [PRINCIPAL_ANONYMOUS] = "anonymous@", [PRINCIPAL_TOKEN] = "token:",
};

bool principal_add_group(Principal *p, uint32_t group) {
        size_t at = 0;

        while (at < p->n_groups && p->groups[at] < group)
                at++;
        if (at < p->n_groups && p->groups[at] == group)
                return true;
        if (p->n_groups == PRINCIPAL_GROUPS_MAX)
                return false;
        memmove(p->groups + at + 1, p->groups + at, (p->n_groups - at) * sizeof(*p->groups));
        p->groups[at] = group;
        p->n_groups++;
        return true;
}

const char *principal_text(const Principal *p, char ret[static PRINCIPAL_TEXT_SIZE]) {
        int n = snprintf(ret, PRINCIPAL_TEXT_SIZE, "%s", kind_prefixes[p->kind]);

        switch (p->kind) {
        case PRINCIPAL_USER:
        case PRINCIPAL_TOKEN:
                n += snprintf(ret + n, PRINCIPAL_TEXT_SIZE - n, "%s", p->name);
                break;
        case PRINCIPAL_LOCAL:
                n += snprintf(ret + n, PRINCIPAL_TEXT_SIZE - n, "%u", (unsigned) p->uid);
                for (size_t i = 0; i < p->n_groups; i++)
                        n += snprintf(ret + n, PRINCIPAL_TEXT_SIZE - n, ",%u", (unsigned) p->groups[i]);
                (void) snprintf(ret + n, PRINCIPAL_TEXT_SIZE - n, "@%s", p->machine);
                break;
        default:
                (void) snprintf(ret + n, PRINCIPAL_TEXT_SIZE - n, "%s", p->machine);
        }
        return ret;
}

/* Read the numbers before '@', and move *at behind it. */
static int principal_parse_ids(const char **at, Principal *p) {
        if (!strchr(*at, '@'))
                return -EINVAL;
        for (bool first = true; first || (*at)[-1] == ','; first = false) {
                size_t size = strcspn(*at, ",@");
                char digits[TEXT_U64_SIZE];
                uint64_t id;

                snprintf(digits, sizeof(digits), "%.*s", (int) MIN(size, sizeof(digits) - 1), *at);
                if (parse_u64(digits, &id) < 0 || id > UINT32_MAX)
                        return -EINVAL;
                if (first)
                        p->uid = (uint32_t) id;
                else if (!principal_add_group(p, (uint32_t) id))
                        return -EINVAL;
                *at += size + 1;
        }
        return 0;
}

int principal_parse(const char *text, size_t size, Principal *ret) {
        char copy[PRINCIPAL_TEXT_SIZE], again[PRINCIPAL_TEXT_SIZE];
        Principal p = {};
        const char *rest;

        if (size == 0 || size >= sizeof(copy) || memchr(text, 0, size))
                return -EINVAL;
        memcpy(copy, text, size);
        copy[size] = 0;
        for (PrincipalKind kind = PRINCIPAL_MACHINE; kind < _PRINCIPAL_KIND_MAX; kind++)
                if (starts_with(copy, kind_prefixes[kind]))
                        p.kind = kind;
        rest = copy + strlen(kind_prefixes[p.kind]);
        if (p.kind == PRINCIPAL_LOCAL && principal_parse_ids(&rest, &p) < 0)
                return -EINVAL;
        if (p.kind == PRINCIPAL_USER || p.kind == PRINCIPAL_TOKEN) {
                if (p.kind == PRINCIPAL_USER ? !principal_name_is_valid(rest) : !token_id_is_valid(rest))
                        return -EINVAL;
                memcpy(p.name, rest, strlen(rest));
        } else {
                if (p.kind == PRINCIPAL_NONE || !machine_id_is_valid(rest))
                        return -EINVAL;
                memcpy(p.machine, rest, sizeof(p.machine));
        }
        /* Of several texts with this meaning, one is valid: "local:01", "local:1,3,2" are not. */
        if (!streq(principal_text(&p, again), copy))
                return -EINVAL;
        *ret = p;
        return 0;
}

bool principal_equal(const Principal *a, const Principal *b) {
        return a->kind == b->kind && streq(a->name, b->name) && streq(a->machine, b->machine) &&
               a->uid == b->uid && a->n_groups == b->n_groups &&
               memcmp(a->groups, b->groups, a->n_groups * sizeof(*a->groups)) == 0;
}
