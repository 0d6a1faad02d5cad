#include "client/core/patterns.h"

#include "client/core/listing.h"

static bool is_pattern(const char *s) {
        return strpbrk(s, "*?[") != NULL;
}

int patterns_read(char **args, size_t n, Names *ret) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = is_pattern(args[i]) ? strdup(args[i]) :
                                                                  unit_name_from_argument(args[i]);

                if (!name || names_add(ret, name, strlen(name)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

bool patterns_match(const Names *patterns, const char *name) {
        for (size_t i = 0; i < patterns->n; i++)
                if (streq(patterns->items[i], name) ||
                    (is_pattern(patterns->items[i]) && glob_match(patterns->items[i], name)))
                        return true;
        return false;
}

static int add_matching(const Listing *units, const char *pattern, bool all, Names *ret, size_t *ret_n) {
        for (size_t i = 0; i < units->n; i++) {
                const ApiUnit *u = &units->units[i];

                if (!u->name || !glob_match(pattern, u->name) || names_have(ret, u->name))
                        continue;
                if (!all && (unit_name_is_template(u->name) || u->desired_state == TARGET_INACTIVE))
                        continue;
                if (names_add(ret, u->name, strlen(u->name)) < 0)
                        return -ENOMEM;
                *ret_n += 1;
        }
        return 0;
}

static int confirm_destroy(const Client *c, const Names *names) {
        _cleanup_text_ Text list = {};
        char question[64];

        for (size_t i = 0; i < names->n; i++)
                text_printf(&list, "%s%s", i > 0 ? " " : "", names->items[i]);
        TRY(list.error);
        if (names->n == 1)
                snprintf(question, sizeof(question), "Destroy this unit?");
        else
                snprintf(question, sizeof(question), "Destroy these %zu units?", names->n);
        return client_confirm(c, question, "fleetctl: %zu unit%s: %s", names->n,
                              names->n == 1 ? " matches" : "s match", list.chars) ?
                       EXIT_DONE :
                       EXIT_FAILED;
}

int patterns_expand(Client *c, char **args, size_t n, bool all, bool confirm, Names *ret, Error *err) {
        _cleanup_listing_ Listing units = {};
        size_t n_matched = 0;
        bool any = false;

        for (size_t i = 0; i < n; i++)
                any = any || is_pattern(args[i]);
        if (any)
                TRY(client_units(c, &units, err));
        for (size_t i = 0; i < n; i++) {
                bool pattern = any && is_pattern(args[i]);
                size_t before = ret->n;

                if (pattern && add_matching(&units, args[i], all, ret, &n_matched) < 0)
                        return -ENOMEM;
                if (ret->n == before && !(pattern && n_matched > 0) &&
                    names_add(ret, args[i], strlen(args[i])) < 0)
                        return -ENOMEM;
        }
        return confirm && n_matched > 0 ? confirm_destroy(c, ret) : EXIT_DONE;
}

int patterns_check_types(const Verb *v, char **args, size_t n) {
        if ((!strstr(v->arguments, "UNIT") && !strstr(v->arguments, "FILE...")) || streq(v->name, "ssh"))
                return EXIT_DONE;
        for (size_t i = 0; i < n; i++) {
                const char *slash = strrchr(args[i], '/'), *name = slash ? slash + 1 : args[i],
                           *meant = strpbrk(name, "*?[") ? NULL : unit_name_meant_type(name),
                           *type = unit_name_type(name);

                if (!meant)
                        continue;
                client_note("%s: .%s is no unit type; did you mean %.*s%s, or %s.service?", args[i], type,
                            (int) (type - args[i]), args[i], meant, args[i]);
                return EXIT_USAGE;
        }
        return EXIT_DONE;
}
