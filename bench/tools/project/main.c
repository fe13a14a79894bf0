#include <stdlib.h>
#include "sum.h"
int main(void)
{
    long *values = calloc(1000, sizeof *values);
    if (!values) return 1;
    for (int i = 0; i < 1000; i++) values[i] = i;
    print("sum", sum(values, 1000));
    free(values);
    return 0;
}
