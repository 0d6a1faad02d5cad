#include "base/table.h"

unsigned long long table_seed;
