#include "tests/sim/service_files.h"

#include "units/service.h"

typedef struct SimServiceFile {
        Named name;
        char *text; /* owned */
} SimServiceFile;

static int sim_files_open(ServiceFiles *base) {
        SimServiceFiles *f = container_of(base, SimServiceFiles, base);
        bool made = !f->exists;

        f->exists = true;
        f->n_folders += made;
        return made;
}

static int sim_files_list(ServiceFiles *base, char ***ret, size_t *ret_n) {
        SimServiceFiles *f = container_of(base, SimServiceFiles, base);

        if (!f->exists)
                return -ENOENT;
        *ret_n = 0;
        *ret = NEW0(char *, HASH_COUNT(f->files) + 1);
        for (const Named *n = f->files; n; n = n->hh.next)
                (*ret)[(*ret_n)++] = strdup(n->name);
        return 0;
}

static int sim_files_read(ServiceFiles *base, const char *name, char **ret) {
        SimServiceFiles *f = container_of(base, SimServiceFiles, base);
        const char *text = sim_service_file(f, name);

        if (f->read_error < 0)
                return f->read_error;
        *ret = text ? strdup(text) : NULL;
        return text ? 0 : -ENOENT;
}

static int sim_files_remove(ServiceFiles *base, const char *name) {
        SimServiceFiles *f = container_of(base, SimServiceFiles, base);
        SimServiceFile *file = named_find(f->files, name);

        if (!file)
                return 0;
        free(file->text);
        named_remove(&f->files, name);
        return 0;
}

static int sim_files_write(ServiceFiles *base, const char *name, const char *text, size_t size) {
        SimServiceFiles *f = container_of(base, SimServiceFiles, base);
        SimServiceFile *file;

        assert(f->exists && strlen(text) == size);
        if (f->error < 0)
                return f->error;
        f->n_writes++;
        (void) sim_files_remove(base, name);
        file = named_get(&f->files, name, sizeof(*file));
        file->text = strdup(text);
        return 0;
}

void sim_service_files_init(SimServiceFiles *f) {
        static const ServiceFilesOps ops = { sim_files_open, sim_files_list, sim_files_read, sim_files_write,
                                             sim_files_remove };

        *f = (SimServiceFiles) { .base = { &ops } };
}

void sim_service_files_clear(SimServiceFiles *f) {
        while (f->files)
                (void) sim_files_remove(&f->base, f->files->name);
        f->exists = false;
}

const char *sim_service_file(const SimServiceFiles *f, const char *name) {
        const SimServiceFile *file = named_find(f->files, name);

        return file ? file->text : NULL;
}
