#include "fleetd/features/services/ports.h"

#include <ctype.h>

#include "fleetd/systemd/drop_in.h"

enum { PORT_WORD_SIZE = 64 };

uint16_t ports_choose(const PortChoice *choice, const char *unit, const ServicePort *port) {
        unsigned n = choice->last - choice->first + 1U;
        char key[UNIT_NAME_MAX + 1 + PORT_NAME_MAX + 1];
        int size = snprintf(key, sizeof(key), "%s%c%s", unit, 0, port->name);
        unsigned begin = (unsigned) (XXH3_64bits(key, (size_t) size) % n);

        for (unsigned i = 0; i < n; i++) {
                uint16_t number = (uint16_t) (choice->first + (begin + i) % n);

                if ((number < choice->local_first || number > choice->local_last) &&
                    !choice->is_taken(choice->userdata, number, port->protocol))
                        return number;
        }
        return 0;
}

/* Append "FLEET_PORT_HTTP=8080". */
static void ports_append_variable(Text *t, const ServicePort *port, uint16_t number) {
        char word[PORT_WORD_SIZE];
        int n = snprintf(word, sizeof(word), "FLEET_PORT_%s", port->name);

        for (char *p = word; *p; p++)
                *p = *p == '-' ? '_' : (char) toupper(*p);
        snprintf(word + n, sizeof(word) - (size_t) n, "=%u", number);
        text_append_char(t, ' ');
        drop_in_append_word(t, word);
}

void ports_append_drop_in(Text *t, const Unit *text, const char *address, const RecordPorts *ports) {
        static const struct {
                const char *type, *section;
                bool environment;
        } types[] = { { "service", "Service", true },
                      { "container", "Container", true },
                      { "pod", "Pod" },
                      { "kube", "Kube" } };
        const ServicePolicy *service = &text->placement.service;
        _cleanup_text_ Text words = {}, published = {};
        size_t k = 0;

        while (k < ELEMENTS(types) - 1 && !streq(unit_name_type(text->name), types[k].type))
                k++;
        text_append(t, "# Written by fleetd: Port=. Numbers that it selected:\n");
        for (size_t i = 0; i < ports->n; i++)
                text_printf(t, "# %s=%u\n", ports->items[i].name, ports->items[i].number);
        text_printf(t, "[%s]\n", types[k].section);
        if (address[0]) {
                text_append(&words, " FLEET_ADDRESS=");
                drop_in_append_word(&words, address);
        }
        for (size_t i = 0; i < service->n_ports; i++) {
                const ServicePort *port = &service->ports[i];
                uint16_t number = record_ports_number(ports, port);

                if (number > 0)
                        ports_append_variable(&words, port, number);
                if (number > 0 && port->container > 0)
                        text_printf(&published, "PublishPort=%u:%u/%s\n", number, (unsigned) port->container,
                                    port_protocol_to_string(port->protocol));
        }
        if (types[k].environment &&
            words.size > 0) /* without a word, it would delete that of the unit's file */
                text_printf(t, "Environment=%s\n", words.chars + 1);
        text_append(t, text_chars(&published));
        t->error = MIN(t->error, MIN(words.error, published.error));
}

uint16_t ports_read_drop_in(const char *drop_in, const char *name) {
        char line[PORT_WORD_SIZE];
        const char *found;
        unsigned long number;

        snprintf(line, sizeof(line), "\n# %s=", name);
        found = strstr(drop_in, line);
        number = found ? strtoul(found + strlen(line), NULL, 10) : 0;
        return number >= PORT_DYNAMIC_MIN && number <= UINT16_MAX ? (uint16_t) number : 0;
}
