/* web: the page of the cluster. fleet-web serves it: it takes the place of this program. */
#include <fcntl.h>

#include "base/file.h"
#include "client/core/client.h"
#include "client/core/subprocess.h"

enum { WEB_ARGUMENTS = 16, WEB_START_MS = 10000 };

#define WEB_STATE "/var/lib/fleet-web" /* of fleet-web.service */

/* Print the address of fleet-web.service. A request starts it, and with it there is a key. Without its
 * socket, the page of another user could have the port, and would learn the key. */
static int web_print_url(const Client *c, Error *err) {
        static const char *const command[] = { "systemctl", "--quiet", "is-active", "fleet-web.socket",
                                               NULL };
        const char *address = c->options.listen ?: "127.0.0.1:2381";
        _cleanup_(connection_freep) Connection *connection = NULL;
        _cleanup_free_ char *key = NULL;
        _cleanup_text_ Text endpoint = {};
        _cleanup_reply_ Reply reply = {};
        _cleanup_close_ int fd = -1;
        size_t size;

        if (geteuid() != 0) {
                client_note("web --url: the key of this host's page is for root: sudo fleetctl web --url");
                return EXIT_FAILED;
        }
        text_printf(&endpoint, "http://%s", address);
        TRY(endpoint.error);
        TRY(connection_new(&(ConnectionSettings) { .endpoint = endpoint.chars, .read_ms = WEB_START_MS },
                           &connection, err));
        if (subprocess_run(command, NULL, NULL, NULL, NULL) != 0 ||
            connection_request(connection, "GET", "/", NULL, NULL, &reply, NULL) < 0) {
                client_note("no page at %s: systemctl enable --now fleet-web.socket", address);
                return EXIT_FAILED;
        }
        fd = open(WEB_STATE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || read_file_at(fd, "key", 64, &key, &size) < 0) {
                client_note("the page at %s is not that of fleet-web.service, which has no key: systemctl "
                            "status fleet-web.socket fleet-web.service",
                            address);
                return EXIT_FAILED;
        }
        printf("http://%s/#key=%s\n", address, key);
        return EXIT_DONE;
}

static int web_run(Client *c, char **args, size_t n, Error *err) {
        const Options *o = &c->options;
        char request_timeout[32] = "", ssh_timeout[32];
        const struct {
                const char *flag, *value;
        } passed[] = {
                { "endpoint", o->endpoint },
                { "tunnel", o->tunnel },
                { "ca-file", o->ca_file },
                { "cert-file", o->cert_file },
                { "key-file", o->key_file },
                { "ssh-username", o->ssh_username },
                { "known-hosts-file", o->known_hosts_file },
                { "listen", o->listen },
                { "request-timeout", request_timeout },
                { "ssh-timeout", ssh_timeout },
                { "strict-host-key-checking", o->strict_host_keys ? NULL : "false" },
                { "debug", o->debug ? "true" : NULL },
        };
        char *arguments[WEB_ARGUMENTS] = { (char *) "fleet-web" };
        _cleanup_names_ Names owned = {};
        size_t count = 1;

        if (o->url)
                return web_print_url(c, err);
        if (o->request_timeout_ms > 0)
                snprintf(request_timeout, sizeof(request_timeout), "%g", o->request_timeout_ms / 1000.0);
        snprintf(ssh_timeout, sizeof(ssh_timeout), "%g", o->ssh_timeout_ms / 1000.0);
        for (size_t i = 0; i < ELEMENTS(passed); i++) {
                _cleanup_text_ Text t = {};

                if (!passed[i].value || !*passed[i].value)
                        continue;
                text_printf(&t, "--%s=%s", passed[i].flag, passed[i].value);
                TRY(t.error);
                TRY(names_add(&owned, t.chars, t.size));
                arguments[count++] = owned.items[owned.n - 1];
        }
        (void) execv(PKGLIBEXECDIR "/fleet-web", arguments);
        client_note("%s: %s; it is in the package fleetctl", PKGLIBEXECDIR "/fleet-web", strerror(errno));
        return EXIT_FAILED;
}

VERB(web, "web", "alone", "", "Serve a page about the cluster on this host",
     "Prints the address of the page, and serves it until it is interrupted. Who has the address can\n"
     "see what this user can see, and change nothing. See fleet-web(7).\n\n"
     "fleetctl web\n"
     "fleetctl --endpoint=https://alpha.example:2443 --ca-file=ca.pem --cert-file=ops.pem --key-file=ops.key "
     "web\n"
     "fleetctl --tunnel=alpha web\n",
     web_run);
