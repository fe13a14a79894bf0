#include <stdio.h>
#include "sum.h"
void print(const char *name, long value) { printf("%s %ld\n", name, value); }
