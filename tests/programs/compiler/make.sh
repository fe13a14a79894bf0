# make and gcc: a library and a program in several files, dynamic and static, parallel; sanitised output of the compiler's own passes; musl.
set -e
mkdir /tmp/p; cd /tmp/p
for i in 1 2 3 4 5; do printf '#include "all.h"\nint f%d(int n) { return n < 2 ? n : f%d(n - 1) + f%d(n - 2); }\n' $i $((i % 5 + 1)) $(((i + 2) % 5 + 1)) > f$i.c; done
printf 'int f1(int), f2(int), f3(int), f4(int), f5(int);\n' > all.h
cat > main.c <<'END'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include "all.h"
static void *work(void *arg) { *(int *)arg = f1(*(int *)arg); return 0; }
int main(void) { pthread_t t[4]; int v[4] = { 10, 15, 20, 22 }; for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, work, &v[i]); for (int i = 0; i < 4; i++) { pthread_join(t[i], 0); printf("%d ", v[i]); } printf("%.6f %s\n", sqrt(2), getenv("HOME")); return 42; }
END
printf 'OBJECTS = f1.o f2.o f3.o f4.o f5.o\nprog: main.o libf.a\n\t$(CC) -o $@ main.o libf.a -lm -pthread\nlibf.a: $(OBJECTS)\n\tar rcs $@ $^\n%%.o: %%.c all.h\n\t$(CC) -O2 -c -o $@ $<\nclean:\n\trm -f *.o *.a prog\n.PHONY: clean\n' > Makefile
make -j2 CC=gcc | sort; ./prog || echo "status $?"; make CC=gcc; touch all.h; make -n CC=gcc | wc -l; ./prog || true
gcc -O1 -static -o static main.c f?.c -lm -pthread; ./static || echo "static $?"; gcc -g -O0 -fPIC -shared -o libg.so f?.c; gcc -o shared main.c -L. -lg -lm -Wl,-rpath,/tmp/p; ./shared || echo "shared $?"
nm -D libg.so | awk '{print $3}' | grep '^f' | tr '\n' ' '; echo; objdump -d libg.so | grep -c ret; readelf -h prog | grep Type; strip prog; ./prog || true; printf 'int main(void) { return x; }' > bad.c; gcc -c bad.c 2>&1 | head -3 || true; echo '#include <stdio.h>
int main(void) { puts("musl"); return 0; }' > m.c; musl-gcc -o m m.c; ./m; musl-gcc -static -o ms m.c; ./ms; gcc -S -O2 -o - f1.c | grep -c call || true; make clean; ls
