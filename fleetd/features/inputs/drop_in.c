/* fleet-inputs.conf: how systemd, or podman's generator, gives a unit the files of its content.
 *
 * Source: systemd.exec(5), podman-systemd.unit(5). No word needs quotes: names of folders and credentials
 * have plain characters only, and "~" within a name has no meaning. */
#include "fleetd/features/inputs/inputs_internal.h"

/* Where images look for secrets. */
#define CONTAINER_SECRETS "/run/secrets"

void inputs_name(const char *unit, char ret[static INPUTS_NAME_SIZE]) {
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@";

        for (const char *p = unit; *p; p++)
                if (strchr(plain, *p))
                        *ret++ = *p;
                else
                        ret += snprintf(ret, 4, "+%02X", (unsigned char) *p);
        *ret = 0;
}

void inputs_folder(const Unit *text, char ret[static INPUTS_FOLDER_SIZE]) {
        const InputPolicy *inputs = &text->placement.inputs;
        const Names *lists[] = { &inputs->secrets, &inputs->credentials, &inputs->environment, &inputs->files,
                                 &inputs->directories };
        char name[INPUTS_NAME_SIZE];
        uint32_t crc = 0;

        for (size_t i = 0; i < ELEMENTS(lists); i++) {
                for (size_t k = 0; k < lists[i]->n; k++)
                        crc = crc32c(crc, lists[i]->items[k], strlen(lists[i]->items[k]) + 1);
                crc = crc32c(crc, "\n", 1); /* no item has one */
        }
        inputs_name(text->name, name);
        snprintf(ret, INPUTS_FOLDER_SIZE, "%s~%08" PRIx32, name, crc);
}

bool inputs_unit_of(const char *folder, char ret[static UNIT_NAME_MAX + 1]) {
        const char *end = strrchr(folder, '~');
        char again[INPUTS_NAME_SIZE];
        size_t n = 0;

        for (const char *c = folder; end && c < end; c++, n++) {
                unsigned byte = (unsigned char) *c;

                if (n == UNIT_NAME_MAX || (*c == '+' && sscanf(c + 1, "%2X", &byte) != 1))
                        return false;
                c += *c == '+' ? 2 : 0;
                ret[n] = (char) byte;
        }
        ret[n] = 0;
        inputs_name(ret, again);
        return n > 0 && strlen(end) == INPUTS_LISTS_SIZE && strlen(again) == (size_t) (end - folder) &&
               starts_with(folder, again);
}

/* The environment of systemd, or of podman, and where the files are. */
static void drop_in_append_config(Text *t, const InputPolicy *policy, const char *folder, bool container) {
        if (policy->environment.n > 0)
                text_printf(t, "EnvironmentFile=" INPUTS_CONFIG "/%s/environment\n", folder);
        if (policy->files.n == 0)
                return;
        /* The folder of "current": a mount of its target would never show a later one. */
        if (container)
                text_printf(t, "Volume=" INPUTS_CONFIG "/%s:" INPUTS_CONFIG "/%s:ro,z\n", folder, folder);
        text_printf(t, "Environment=FLEET_CONFIG=" INPUTS_CONFIG "/%s/current\n", folder);
}

/* A container whose user is not root cannot read a credential: its unit makes copies. The first ExecStartPre=
 * alone has $CREDENTIALS_DIRECTORY in systemd 252, but all have %d. */
static void drop_in_append_copies(Text *t, const Names *credentials, const char *name) {
        text_printf(t, "ExecStartPre=/usr/bin/install -d -m 0700 " INPUTS_SECRETS "/%s\n", name);
        text_printf(t, "ExecStartPre=/usr/bin/install -m 0444 -t " INPUTS_SECRETS "/%s", name);
        for (size_t i = 0; i < credentials->n; i++)
                text_printf(t, " %%d/%s", credentials->items[i]);
        text_printf(t, "\nExecStopPost=-/usr/bin/rm -rf " INPUTS_SECRETS "/%s\n", name);
}

void inputs_append_drop_in(Text *t, const Unit *text) {
        const InputPolicy *policy = &text->placement.inputs;
        const Names *credentials = &policy->credentials;
        bool container = streq(unit_name_type(text->name), "container");
        char name[INPUTS_NAME_SIZE], folder[INPUTS_FOLDER_SIZE];

        inputs_name(text->name, name);
        inputs_folder(text, folder);
        text_append(t, "# Written by fleetd: Secret=, EnvironmentKeys=, ConfigKeys=.\n");
        if (credentials->n > 0 || !container)
                text_append(t, "[Service]\n");
        for (size_t i = 0; i < credentials->n; i++)
                text_printf(t, "LoadCredentialEncrypted=%s:" INPUTS_CREDENTIALS "/%s/%s\n",
                            credentials->items[i], folder, credentials->items[i]);
        if (container && credentials->n > 0)
                drop_in_append_copies(t, credentials, name);
        if (container)
                text_append(t, "[Container]\n");
        for (size_t i = 0; container && i < credentials->n; i++)
                text_printf(t, "Volume=" INPUTS_SECRETS "/%s/%s:" CONTAINER_SECRETS "/%s:ro,Z\n", name,
                            credentials->items[i], credentials->items[i]);
        if (container && credentials->n > 0)
                text_append(t, "Environment=CREDENTIALS_DIRECTORY=" CONTAINER_SECRETS "\n");
        drop_in_append_config(t, policy, folder, container);
}
