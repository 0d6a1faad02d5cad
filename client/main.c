#include <sys/prctl.h>

#include "base/file.h"
#include "client/fleetctl.h"

int main(int argc, char **argv) {
        open_standard_descriptors();
        (void) prctl(PR_SET_DUMPABLE, 0); /* no core file: memory has tokens, and keys of users */
        return fleetctl_main(argc, argv);
}
