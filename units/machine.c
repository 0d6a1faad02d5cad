#include "units/machine.h"

#include "base/parse.h"

void machine_done(Machine *machine) {
        free(machine->name);
        free(machine->address);
        free(machine->client);
        free(machine->peer);
        pairs_done(&machine->metadata);
        free(machine->version);
        free(machine->boot_id);
        free(machine->checks);
        *machine = (Machine) {};
}

int machine_copy(const Machine *from, Machine *ret) {
        _cleanup_machine_ Machine copy = { .raft_id = from->raft_id,
                                           .level = from->level,
                                           .quadlet = from->quadlet,
                                           .takes_finished = from->takes_finished,
                                           .users = from->users,
                                           .soft_reboots = from->soft_reboots,
                                           .booting = from->booting,
                                           .needs_reboot = from->needs_reboot,
                                           .soft_reboot = from->soft_reboot };

        memcpy(copy.id, from->id, sizeof(copy.id));
        if (copy_string(from->name, &copy.name) < 0 || copy_string(from->address, &copy.address) < 0 ||
            copy_string(from->client, &copy.client) < 0 || copy_string(from->peer, &copy.peer) < 0 ||
            pairs_copy(&from->metadata, &copy.metadata) < 0 ||
            copy_string(from->version, &copy.version) < 0 || copy_string(from->boot_id, &copy.boot_id) < 0 ||
            copy_string(from->checks, &copy.checks) < 0)
                return -ENOMEM;

        *ret = TAKE_STRUCT(copy);
        return 0;
}

bool machine_equal(const Machine *a, const Machine *b) {
        return streq(a->id, b->id) && same_string(a->name, b->name) && same_string(a->address, b->address) &&
               same_string(a->client, b->client) && same_string(a->peer, b->peer) &&
               pairs_equal(&a->metadata, &b->metadata) && same_string(a->version, b->version) &&
               same_string(a->boot_id, b->boot_id) && a->raft_id == b->raft_id && a->level == b->level &&
               a->quadlet == b->quadlet && a->users == b->users && a->soft_reboots == b->soft_reboots &&
               same_string(a->checks, b->checks) && a->needs_reboot == b->needs_reboot &&
               a->soft_reboot == b->soft_reboot && a->booting == b->booting &&
               a->takes_finished == b->takes_finished;
}

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
        int r;

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
                r = machine_metadata_check(item, strip(equals + 1), err);
                if (r < 0)
                        return r;
                r = pairs_set(&pairs, item, strip(equals + 1));
                if (r < 0)
                        return r;
                if (pairs.n > METADATA_KEYS_MAX)
                        return error_set(err, -EINVAL, "more than %d metadata keys", METADATA_KEYS_MAX);
        }

        *ret = TAKE_STRUCT(pairs);
        return 0;
}
