#include "client/patterns.h"

#include <errno.h>
#include <stdio.h>

#include "base/parse.h"
#include "units/name.h"

bool is_pattern(const char *s) {
        return strpbrk(s, "*?[") != NULL;
}

static int add_matching(const Listing *units, const char *pattern, bool all, Names *ret, size_t *ret_n) {
        for (size_t i = 0; i < units->n; i++) {
                const ApiUnit *u = &units->units[i];
                int r;

                if (!u->name || !glob_match(pattern, u->name) || names_have(ret, u->name))
                        continue;
                if (!all && (unit_name_is_template(u->name) || u->desired_state == TARGET_INACTIVE))
                        continue;
                r = names_add(ret, u->name, strlen(u->name));
                if (r < 0)
                        return r;
                *ret_n += 1;
        }
        return 0;
}

/* Nobody destroys by a slip of the shell. */
static bool is_meant(const Names *names) {
        for (size_t i = 0; i < names->n; i++)
                fprintf(stderr, "%s%s", i > 0 ? " " : "", names->items[i]);
        fprintf(stderr, "\nDestroy these %zu units? [y/N] ", names->n);
        return client_says_yes();
}

int patterns_expand(Client *c, char **args, size_t n, bool all, bool ask, Names *ret) {
        _cleanup_listing_ Listing units = {};
        size_t n_matched = 0;
        bool any = false;
        Error err = {};
        int r = 0;

        for (size_t i = 0; i < n; i++)
                any = any || is_pattern(args[i]);
        if (ask && !c->options.yes && !(isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
                any = false;
        if (any)
                r = client_units(c, &units, &err);
        for (size_t i = 0; i < n && r >= 0; i++) {
                size_t before = ret->n;

                if (any && is_pattern(args[i]))
                        r = add_matching(&units, args[i], all, ret, &n_matched);
                if (r >= 0 && ret->n == before && !(any && is_pattern(args[i]) && n_matched > 0))
                        r = names_add(ret, args[i], strlen(args[i]));
        }
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        if (ask && n_matched > 0 && !c->options.yes && !is_meant(ret)) {
                fputs("fleetctl: nothing was destroyed\n", stderr);
                return EXIT_FAILED;
        }
        return EXIT_DONE;
}
