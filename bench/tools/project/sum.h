/* What the parts of the project offer each other. */
long sum(const long *values, int count);
void print(const char *name, long value);
