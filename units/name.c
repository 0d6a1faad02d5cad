#include "units/name.h"

#include "base/parse.h"
#include "units/quadlet.h"

static const char *const unit_types[] = {
        "automount",
        "busname",
        "device",
        "mount",
        "path",
        "scope",
        "service",
        "slice",
        "snapshot",
        "socket",
        "swap",
        "target",
        "timer",
        /* of Quadlet files (quadlet.h) */
        "build",
        "container",
        "image",
        "kube",
        "network",
        "pod",
        "volume",
};

enum { MISSPELT_MIN = 5, MISSPELT_MAX = 20 };

static const char *const template_types[] = { "container", "kube",   "path", "service",
                                              "socket",    "target", "timer" };

static const char *const not_from_files[] = { "busname", "device", "scope", "slice", "snapshot" };

/* systemd.special(7) without slices and scopes, which are rejected by type. */
static const char *const special_units[] = {
        "-.mount",
        "basic.target",
        "blockdev@.target",
        "bluetooth.target",
        "boot-complete.target",
        "cryptsetup-pre.target",
        "cryptsetup.target",
        "ctrl-alt-del.target",
        "dbus.service",
        "dbus.socket",
        "default.target",
        "display-manager.service",
        "emergency.target",
        "exit.target",
        "factory-reset.target",
        "final.target",
        "first-boot-complete.target",
        "getty-pre.target",
        "getty.target",
        "graphical.target",
        "halt.target",
        "hibernate.target",
        "hybrid-sleep.target",
        "initrd-fs.target",
        "initrd-root-device.target",
        "initrd-root-fs.target",
        "initrd-switch-root.target",
        "initrd-usr-fs.target",
        "initrd.target",
        "integritysetup-pre.target",
        "integritysetup.target",
        "kbrequest.target",
        "kexec.target",
        "local-fs-pre.target",
        "local-fs.target",
        "machines.target",
        "multi-user.target",
        "network-online.target",
        "network-pre.target",
        "network.target",
        "nss-lookup.target",
        "nss-user-lookup.target",
        "paths.target",
        "poweroff.target",
        "printer.target",
        "reboot.target",
        "remote-cryptsetup.target",
        "remote-fs-pre.target",
        "remote-fs.target",
        "remote-veritysetup.target",
        "rescue.target",
        "rpcbind.target",
        "runlevel0.target",
        "runlevel1.target",
        "runlevel2.target",
        "runlevel3.target",
        "runlevel4.target",
        "runlevel5.target",
        "runlevel6.target",
        "shutdown.target",
        "sigpwr.target",
        "sleep.target",
        "slices.target",
        "smartcard.target",
        "sockets.target",
        "soft-reboot.target",
        "sound.target",
        "ssh-access.target",
        "storage-target-mode.target",
        "suspend-then-hibernate.target",
        "suspend.target",
        "swap.target",
        "sysinit.target",
        "syslog.service",
        "syslog.socket",
        "system-update-cleanup.service",
        "system-update-pre.target",
        "system-update.target",
        "time-set.target",
        "time-sync.target",
        "timers.target",
        "tpm2.target",
        "umount.target",
        "usb-gadget.target",
        "veritysetup-pre.target",
        "veritysetup.target",
};

static bool char_is_allowed(char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               (c != 0 && strchr(":-_.\\@", c));
}

int unit_name_check(const char *name, Error *err) {
        size_t size = strlen(name);
        const char *type, *dot = strrchr(name, '.');

        if (size == 0)
                return error_set(err, -EINVAL, "unit name cannot be empty");
        if (size > UNIT_NAME_MAX + 1)
                return error_set(err, -EINVAL, "unit name exceeds maximum length (256)");
        if (!dot)
                return error_set(err, -EINVAL, "unit name must contain \".\"");
        type = dot + 1;
        if (*type == 0)
                return error_set(err, -EINVAL, "unit name cannot end in \".\"");

        if (!IS_AMONG(type, unit_types)) {
                _cleanup_text_ Text shown = {};

                text_append_printable(&shown, type);
                return error_set(err, -EINVAL, "invalid unit type: \"%s\"", shown.chars ? shown.chars : "");
        }
        if (strchr(name, '@') && !IS_AMONG(type, template_types))
                return error_set(err, -EINVAL, "invalid unit type for template: \"%s\"", type);

        for (const char *p = name; p < dot; p++)
                if (!char_is_allowed(*p)) {
                        size_t n = utf8_length(p, dot - p);

                        if (n == 0 || (n == 1 && (*p < 0x20 || *p == 0x7f)))
                                return error_set(err, -EINVAL, "invalid character '\\x%02x' in unit name",
                                                 (unsigned char) *p);
                        return error_set(err, -EINVAL, "invalid character '%.*s' in unit name", (int) n, p);
                }
        if (*name == '@')
                return error_set(err, -EINVAL, "unit name cannot start in \"@\"");

        /* Beyond fleet's rules: systemd does not support such names. */
        if (*name == '.')
                return error_set(err, -EINVAL, "unit name cannot start in \".\"");
        if (size > UNIT_NAME_MAX)
                return error_set(err, -EINVAL, "unit name exceeds systemd's maximum length (%d)",
                                 UNIT_NAME_MAX);
        return 0;
}

static const char *unit_name_refusal(const char *name) {
        /* Exact names: other units whose name begins with "fleet" are allowed (fleet-ui.service was the usual
         * web page of fleet). */
        static const char *const own[] = {
                "fleet.service",          "fleet.socket",      "fleetd.service",
                "fleetd.socket",          "fleet-dns.service", "fleet-dns.socket",
                "fleet-dns-link.service", "fleet-web.service", "fleet-web.socket"
        };
        char known_as[UNIT_NAME_MAX + 32];

        quadlet_service(name, known_as);
        if (IS_AMONG(known_as, special_units) || starts_with(name, "blockdev@"))
                return "systemd itself depends on a unit of that name (systemd.special(7))";
        if (starts_with(name, "systemd-"))
                return "names that start with systemd- are systemd's own";
        if (IS_AMONG(known_as, own))
                return "a unit of that name belongs to fleet itself";
        if (starts_with(known_as, "fleet-check-"))
                return "names that start with fleet-check- are reserved for fleet's own checks";
        if (starts_with(known_as, SINGLETON_GUARD))
                return "names that start with " SINGLETON_GUARD " belong to the guards of singletons";
        if (IS_AMONG(unit_name_type(name), not_from_files))
                return "units of that type belong to the host they are on";
        return NULL;
}

bool unit_name_is_refused(const char *name, const char **ret_reason) {
        const char *reason = unit_name_refusal(name);

        if (reason && ret_reason)
                *ret_reason = reason;
        return reason;
}

bool unit_name_is_template(const char *name) {
        const char *at = strchr(name, '@');

        return at && at + 1 == strrchr(name, '.');
}

bool unit_name_is_instance(const char *name) {
        const char *at = strchr(name, '@'), *dot = strrchr(name, '.');

        return at && dot && dot > at + 1;
}

const char *unit_name_type(const char *name) {
        const char *dot = strrchr(name, '.');

        return dot ? dot + 1 : "";
}

/* Return the dot before the type; the end of a name without one. */
static const char *type_start(const char *name) {
        const char *dot = strrchr(name, '.');

        return dot ? dot : name + strlen(name);
}

char *unit_name_prefix(const char *name) {
        const char *at = strchr(name, '@');

        return strndup(name, (at ? at : type_start(name)) - name);
}

static char *unit_name_instance(const char *name) {
        const char *at = strchr(name, '@');

        if (!at || !unit_name_is_instance(name))
                return strdup("");
        return strndup(at + 1, type_start(name) - at - 1);
}

char *unit_name_template(const char *name) {
        _cleanup_text_ Text t = {};

        if (!unit_name_is_instance(name))
                return strdup(name);

        text_append_bytes(&t, name, strchr(name, '@') + 1 - name);
        text_append(&t, type_start(name));
        return text_take(&t, NULL);
}

char *unit_name_from_argument(const char *argument) {
        const char *slash = strrchr(argument, '/');
        _cleanup_text_ Text t = {};

        text_append(&t, slash ? slash + 1 : argument);
        if (t.chars && !IS_AMONG(unit_name_type(t.chars), unit_types))
                text_append(&t, ".service");
        return text_take(&t, NULL);
}

bool unit_name_has_type(const char *name) {
        return IS_AMONG(unit_name_type(name), unit_types);
}

/* Return whether 'a' becomes 'b' by one letter more, less or another, or by two neighbours in the other
 * order. */
static bool is_slip(const char *a, const char *b) {
        return text_distance(a, b) <= 1;
}

const char *unit_name_meant_type(const char *name) {
        const char *typed = unit_name_type(name);
        size_t size = strlen(typed);

        if (size < MISSPELT_MIN || size > MISSPELT_MAX || unit_name_has_type(name))
                return NULL;
        for (size_t i = 0; i < ELEMENTS(unit_types); i++)
                if (strlen(unit_types[i]) >= MISSPELT_MIN && !IS_AMONG(unit_types[i], not_from_files) &&
                    is_slip(typed, unit_types[i]))
                        return unit_types[i];
        return NULL;
}

static char *replace_all(const char *s, const char *specifier, const char *by) {
        _cleanup_text_ Text t = {};

        for (const char *hit; (hit = strstr(s, specifier)); s = hit + strlen(specifier)) {
                text_append_bytes(&t, s, hit - s);
                text_append(&t, by);
        }
        text_append(&t, s);
        return text_take(&t, NULL);
}

static char *whole(const char *name) {
        return strdup(name);
}

static char *stem(const char *name) {
        return strndup(name, type_start(name) - name);
}

/* Replaces one specifier after the other, as fleet did: "%%np" has the same result. */
char *unit_name_expand(const char *name, const char *value) {
        static const struct {
                const char *specifier;
                char *(*part)(const char *name);
        } steps[] = {
                { "%n", whole },
                { "%N", stem },
                { "%p", unit_name_prefix },
                { "%i", unit_name_instance },
        };
        _cleanup_free_ char *s = strdup(value);

        for (size_t i = 0; s && i < ELEMENTS(steps); i++) {
                _cleanup_free_ char *part = NULL, *before = NULL;

                if (!strstr(s, steps[i].specifier))
                        continue;
                part = steps[i].part(name);
                before = TAKE_PTR(s);
                s = part ? replace_all(before, steps[i].specifier, part) : NULL;
        }
        return TAKE_PTR(s);
}
