/* Any text as the name of a unit: an accepted name is a safe file name, consists of its parts, and an
 * argument that names a unit becomes a valid name. */

#include "base/memory.h"
#include "kvstore/command/command.h"
#include "units/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void name(const char *s) {
        _cleanup_free_ char *prefix = NULL, *instance = NULL, *template = NULL, *again = NULL,
                            *expanded = NULL;
        const char *reason;
        Error err = {};

        if (unit_name_check(s, &err) < 0) {
                assert(err.message[0]);
                return;
        }
        assert(s[0] && s[0] != '.' && strlen(s) <= UNIT_NAME_MAX && !strchr(s, '/'));
        (void) unit_name_is_refused(s, &reason);

        prefix = unit_name_prefix(s);
        instance = unit_name_expand(s, "%i");
        template = unit_name_template(s);
        assert(prefix && instance && template);
        assert(!(unit_name_is_template(s) && unit_name_is_instance(s)));
        if (unit_name_is_instance(s)) {
                assert(unit_name_is_template(template));
                if (asprintf(&again, "%s@%s.%s", prefix, instance, unit_name_type(s)) < 0)
                        abort();
                assert(streq(again, s));
        } else
                assert(streq(template, s) && !*instance);
        assert(streq(unit_name_type(s), strrchr(s, '.') + 1));
        expanded = unit_name_expand(s, "%n %N %p %i %% %x");
        assert(expanded && starts_with(expanded, s));
}

/* Normalizing a key twice equals normalizing it once; no part of it is ".." or empty. */
static void path(const void *bytes, size_t size) {
        _cleanup_free_ char *clean = NULL, *again = NULL;
        size_t n, m;

        if (kv_path_clean(bytes, size, &clean, &n) < 0)
                return;
        assert(n >= 1 && clean[0] == '/' && n <= KV_KEY_MAX);
        assert(n == 1 || clean[n - 1] != '/');
        assert(!memmem(clean, n, "//", 2) && !memmem(clean, n, "/../", 4) && !memmem(clean, n, "/./", 3));
        assert(kv_path_clean(clean, n, &again, &m) == 0 && m == n && memcmp(clean, again, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_free_ char *text = malloc(size + 1), *typed = NULL;

        if (!text)
                abort();
        memcpy(text, bytes, size);
        text[size] = 0;

        name(text);
        path(bytes, size);
        typed = unit_name_from_argument(text);
        assert(typed && !strchr(typed, '/'));
        return 0;
}
