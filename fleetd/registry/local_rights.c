#include "fleetd/registry/local_rights.h"

#include <grp.h>

void local_rights_done(LocalRights *l) {
        for (size_t i = 0; i < l->n; i++)
                right_list_unref(l->groups[i].rights);
        *l = (LocalRights) {};
}

/* Return 1 for an unknown group. */
static int local_group_id(const char *name, uint32_t *ret) {
        const struct group *group;
        uint64_t gid;

        if (parse_u64(name, &gid) >= 0 && gid < UINT32_MAX) {
                *ret = (uint32_t) gid;
                return 0;
        }
        group = getgrnam(name);
        if (group)
                *ret = group->gr_gid;
        return !group;
}

static int local_rights_parse(const char *text, RightList **ret, Error *err) {
        _cleanup_right_list_ RightList *list = NULL;

        for (const char *p = text;; p++) {
                size_t size = strcspn(p, ",");

                TRY(right_list_add_text(&list, p, size, err));
                p += size;
                if (!*p)
                        break;
        }
        if (right_list_has(list, RIGHT_ADMINISTER, (KvBytes) {}))
                return error_set(err, -EPERM,
                                 "no local group administers the cluster; add its users to group fleet");
        *ret = TAKE_PTR(list);
        return 0;
}

/* Append the rights of 'more' to *list. */
static int local_rights_join(RightList **list, const RightList *more, Error *err) {
        for (size_t i = 0; i < more->n; i++) {
                const RightItem *item = &more->items[i];

                TRY(right_list_add(list, right_name(item->right),
                                   item->prefix.size > 0 ? &item->prefix : NULL, err));
        }
        return 0;
}

int local_rights_add(LocalRights *l, const char *text, Error *err) {
        _cleanup_right_list_ RightList *list = NULL;
        const char *colon = strchr(text, ':');
        char name[64];
        uint32_t gid;
        size_t n;
        int r;

        if (!colon || colon == text || (size_t) (colon - text) >= sizeof(name))
                return error_set(err, -EINVAL,
                                 "expected GROUP:RIGHT,..., for example operators:units-see,keys-read:/, not "
                                 "'%s'",
                                 text);
        snprintf(name, sizeof(name), "%.*s", (int) (colon - text), text);
        TRY(local_rights_parse(colon + 1, &list, err));
        n = list->n;
        for (size_t i = 0; i < l->n; i++)
                n += l->groups[i].rights->n;
        if (n > RIGHTS_MAX)
                return error_set(err, -E2BIG, "all groups together have at most %d rights", RIGHTS_MAX);
        r = local_group_id(name, &gid);
        if (r > 0) {
                error_set(err, -ENOENT, "there is no group %s; its rights are not granted (groupadd %s)",
                          name, name);
                return 1;
        }
        for (size_t i = 0; i < l->n; i++)
                if (l->groups[i].gid == gid)
                        return local_rights_join(&l->groups[i].rights, list, err);
        if (l->n == LOCAL_GROUPS_MAX)
                return error_set(err, -E2BIG, "at most %d groups have rights", LOCAL_GROUPS_MAX);
        l->groups[l->n++] = (LocalGroup) { gid, TAKE_PTR(list) };
        return 0;
}

int local_rights_of(const LocalRights *l, const uint32_t *groups, size_t n, Principal *p, RightList **ret) {
        _cleanup_right_list_ RightList *sum = NULL;

        for (size_t i = 0; i < l->n; i++) {
                bool is_member = false;

                for (size_t k = 0; k < n && !is_member; k++)
                        is_member = groups[k] == l->groups[i].gid;
                if (!is_member)
                        continue;
                (void) principal_add_group(p, l->groups[i].gid);
                if (local_rights_join(&sum, l->groups[i].rights, NULL) == -ENOMEM)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(sum);
        return 0;
}

bool local_rights_have_keys(const Names *texts) {
        for (size_t i = 0; i < texts->n; i++)
                for (const char *p = strchr(texts->items[i], ':'); p; p = strchr(p + 1, ','))
                        if (starts_with(p + 1, "keys-"))
                                return true;
        return false;
}

int local_rights_set(const char *value, void *texts, Error *err) {
        _cleanup_local_rights_ LocalRights all = {};
        Names *names = texts;
        int r = 0, known;

        if (!value[0]) {
                names_done(names);
                *names = (Names) {};
                return 0;
        }
        for (size_t i = 0; i < names->n && r >= 0; i++)
                r = local_rights_add(&all, names->items[i], NULL);
        known = TRY(r < 0 ? r : local_rights_add(&all, value, err));
        r = names_add(names, value, strlen(value));
        return r < 0 ? r : known;
}
