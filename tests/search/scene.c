#include "tests/search/scene.h"

const char *const scene_kinds[_KIND_MAX] = {
        "put",  "refresh", "compare", "post", "delete-dir", "delete-all", "get-dir", "get-all",
        "wait", "txn",     "list",    "unit", "batch",      "plan",       "units",   "destroy",
};

static const struct {
        const char *name;
        uint64_t max;
} genes[_GENES] = {
        { "nodes", 20000 },
        { "shape", _SHAPE_MAX - 1 },
        { "value", 240000 },
        { "ttl", 1 },
        { "watchers", WATCHERS_MAX },
        { "clients", CLIENTS_MAX },
        { "items", 4096 },
        { "action", _ACTION_MAX - 1 },
        { "size", 240000 },
        { "units", SCENE_UNITS_MAX },
        { "rules", 4000 },
        { "form", _FORM_MAX - 1 },
};

double scene_ratio(const Scene *s) {
        return s->request > 0 ? (double) s->work / (double) s->request : 0;
}

void scene_print(FILE *f, const Scene *s) {
        fputs(scene_kinds[s->kind], f);
        for (size_t i = 0; i < _GENES; i++)
                fprintf(f, " %s=%llu", genes[i].name, (unsigned long long) s->genes[i]);
}

Kind scene_kind_from_name(const char *name) {
        Kind kind = 0;

        while (kind < _KIND_MAX && !streq(name, scene_kinds[kind]))
                kind++;
        return kind;
}

bool scene_read(const char *line, Scene *ret) {
        char name[32];
        int used = 0;

        *ret = (Scene) {};
        if (sscanf(line, "%31s%n", name, &used) != 1)
                return false;
        ret->kind = scene_kind_from_name(name);
        line += used;
        for (unsigned long long n; sscanf(line, " %31[a-z]=%llu%n", name, &n, &used) == 2; line += used)
                for (size_t i = 0; i < _GENES; i++)
                        if (streq(name, genes[i].name))
                                ret->genes[i] = MIN((uint64_t) n, genes[i].max);
        return ret->kind != _KIND_MAX;
}

/* Draw the number of bits first: small numbers are as frequent as large ones. */
static uint64_t draw_gene(Random *random, size_t gene) {
        uint64_t bits = 0, max = genes[gene].max;

        while (max >> bits)
                bits++;
        bits = random_below(random, bits + 1);
        if (bits == 0)
                return 0;
        bits = 1ull << (bits - 1);
        bits += random_below(random, bits);
        return MIN(bits, max);
}

void scene_draw(Random *random, Kind kind, Scene *ret) {
        *ret = (Scene) { .kind = kind };
        for (size_t i = 0; i < _GENES; i++)
                ret->genes[i] = draw_gene(random, i);
}

void scene_change(Random *random, Scene *s) {
        for (uint64_t n = 1 + random_below(random, 3); n > 0; n--) {
                size_t gene = random_below(random, _GENES);
                uint64_t *g = &s->genes[gene];

                switch (random_below(random, 4)) {
                case 0:
                        *g = draw_gene(random, gene);
                        break;
                case 1:
                        *g = MIN(*g * 2 + 1, genes[gene].max);
                        break;
                case 2:
                        *g /= 2;
                        break;
                default:
                        *g = genes[gene].max;
                }
        }
}
