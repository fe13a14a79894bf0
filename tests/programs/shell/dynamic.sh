# Dynamically linked programs start: glibc's true, and musl's loader named as a program.
/bin/true; echo "true $?"
/bin/false; echo "false $?"
/usr/bin/env -i A=1 B=2 /usr/bin/env
/lib/ld-musl-x86_64.so.1 2>&1 | head -1
ldd /bin/ls | sed 's/(0x[0-9a-f]*)//' | sort
LD_BIND_NOW=1 LD_DEBUG=statistics /bin/true 2>&1 | grep -c 'total startup time'
getent passwd root nobody
