#include "base/file.h"
#include "client/fleetctl.h"

int main(int argc, char **argv) {
        open_standard_descriptors();
        return fleetctl_main(argc, argv);
}
