/* The files that list the endpoints of each service for fleet-dns and other programs of this host
 * (units/service.h): SERVICES_FOLDER.
 *
 * Endpoints of other hosts are those of the cluster view, own ones those of the agent: a unit that ends here
 * is gone at once, also without a leader. While the view is not known, those of other hosts stay. */
#pragma once

#include "base/error.h"

typedef struct ServiceFiles ServiceFiles;

/* The I/O interface. Names are those of services, and SERVICES_HOST. 0 or a negative errno. */
typedef struct ServiceFilesOps {
        /* Make the folder if it does not exist. 1: it is a new one. */
        int (*open)(ServiceFiles *f);
        /* The caller frees *ret by strings_free(). */
        int (*list)(ServiceFiles *f, char ***ret, size_t *ret_n);
        int (*read)(ServiceFiles *f, const char *name, char **ret); /* the caller frees *ret */
        int (*write)(ServiceFiles *f, const char *name, const char *text, size_t size);
        int (*remove)(ServiceFiles *f, const char *name);
} ServiceFilesOps;

struct ServiceFiles {
        const ServiceFilesOps *ops;
};

/* The files of 'folder', which is made with the first one. */
int service_folder_new(ServiceFiles **ret, const char *folder);
ServiceFiles *service_folder_free(ServiceFiles *f); /* returns NULL */
