/* The folder of the files of services. /run is memory: what a crash leaves is written again. */
#include "fleetd/features/services/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "units/service.h"

enum { FOLDER_MODE = 0755, FILE_MODE = 0644, FOLDER_FILES_MAX = 65536 };

typedef struct ServiceFolder {
        ServiceFiles base;
        char *path; /* owned */
        int fd;     /* -1: not opened */
} ServiceFolder;

static int folder_open(ServiceFiles *f) {
        ServiceFolder *folder = container_of(f, ServiceFolder, base);
        int r = 1;

        if (folder->fd < 0)
                folder->fd = TRY(open_dir(folder->path, FOLDER_MODE));
        else
                r = TRY(reopen_dir(folder->path, FOLDER_MODE, &folder->fd));
        return r > 0 && fchmod(folder->fd, FOLDER_MODE) < 0 ? -errno : r; /* not by the umask */
}

static int folder_list(ServiceFiles *f, char ***ret, size_t *ret_n) {
        ServiceFolder *folder = container_of(f, ServiceFolder, base);

        return list_folder_at(AT_FDCWD, folder->path, NULL, FOLDER_FILES_MAX, ret, ret_n);
}

static int folder_read(ServiceFiles *f, const char *name, char **ret) {
        ServiceFolder *folder = container_of(f, ServiceFolder, base);

        return read_file_at(folder->fd, name, SERVICE_FILE_MAX, ret, NULL);
}

static int folder_write(ServiceFiles *f, const char *name, const char *text, size_t size) {
        return write_file_at(container_of(f, ServiceFolder, base)->fd, name, text, size, FILE_MODE);
}

static int folder_remove(ServiceFiles *f, const char *name) {
        return unlinkat(container_of(f, ServiceFolder, base)->fd, name, 0) < 0 && errno != ENOENT ? -errno :
                                                                                                    0;
}

int service_folder_new(ServiceFiles **ret, const char *path) {
        static const ServiceFilesOps ops = { folder_open, folder_list, folder_read, folder_write,
                                             folder_remove };
        ServiceFolder *folder = NEW0(ServiceFolder, 1);

        if (!folder)
                return -ENOMEM;
        *folder = (ServiceFolder) { { &ops }, strdup(path), open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
        *ret = folder->path ? &folder->base : service_folder_free(&folder->base);
        return *ret ? 0 : -ENOMEM;
}

ServiceFiles *service_folder_free(ServiceFiles *f) {
        ServiceFolder *folder = f ? container_of(f, ServiceFolder, base) : NULL;

        if (!folder)
                return NULL;
        if (folder->fd >= 0)
                close(folder->fd);
        free(folder->path);
        free(folder);
        return NULL;
}
