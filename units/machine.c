#include "units/machine.h"

#include "base/parse.h"

bool machine_id_is_valid(const char *id) {
        return parse_hex_id(id, MACHINE_ID_SIZE - 1) == 0;
}

int machine_metadata_check(const char *key, const char *value, Error *err) {
        if (*key == 0)
                return error_set(err, -EINVAL, "a metadata key cannot be empty");
        if (strlen(key) > METADATA_KEY_MAX)
                return error_set(err, -EINVAL, "metadata key %.32s... is longer than %d bytes", key,
                                 METADATA_KEY_MAX);
        for (const char *p = key; *p; p++)
                if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') && !(*p >= '0' && *p <= '9') &&
                    !strchr("_.-", *p))
                        return error_set(
                                err, -EINVAL,
                                "metadata key '%s': only letters, digits, '_', '.' and '-' are allowed", key);

        if (strlen(value) > METADATA_VALUE_MAX)
                return error_set(err, -EINVAL, "the value of metadata key %s is longer than %d bytes", key,
                                 METADATA_VALUE_MAX);
        for (const char *p = value; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return error_set(err, -EINVAL, "the value of metadata key %s has a control character",
                                         key);
        return 0;
}

/* Remove spaces and tabs at both ends, in place. */
static char *strip(char *s) {
        char *end;

        s += strspn(s, " \t");
        end = s + strlen(s);
        while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
                *--end = 0;
        return s;
}

int machine_metadata_parse(const char *text, Pairs *ret, Error *err) {
        _cleanup_free_ char *copy = strdup(text);
        _cleanup_pairs_ Pairs pairs = {};
        char *rest = copy, *item;

        if (!copy)
                return -ENOMEM;

        while ((item = strsep(&rest, ","))) {
                char *equals;

                item = strip(item);
                if (*item == 0)
                        continue;
                equals = strchr(item, '=');
                if (!equals || strchr(equals + 1, '='))
                        return error_set(err, -EINVAL,
                                         "metadata '%.128s': expected key=value, for example zone=a", item);
                *equals = 0;
                item = strip(item);
                if (*strip(equals + 1) == 0)
                        return error_set(err, -EINVAL,
                                         "metadata '%.128s=': expected a value, for example zone=a", item);
                TRY(machine_metadata_check(item, strip(equals + 1), err));
                TRY(pairs_set(&pairs, item, strip(equals + 1)));
                if (pairs.n > METADATA_KEYS_MAX)
                        return error_set(err, -EINVAL, "more than %d metadata keys", METADATA_KEYS_MAX);
        }

        *ret = TAKE_STRUCT(pairs);
        return 0;
}
