#include "client/fleetctl.h"

int main(int argc, char **argv) {
        return fleetctl_main(argc, argv);
}
