# CPython: starts, imports, and says what it is.
python3 -c pass; echo $?
python3 -c 'import sys; print(sys.version_info[:2], sys.platform, sys.byteorder, sys.maxsize)'
python3 -c 'import os; print(os.uname().sysname, os.getcwd(), os.cpu_count() > 0)'
python3 -c 'import sys; sys.exit(9)'; echo $?
python3 -c 'raise ValueError("x")'; echo $?
echo 'print(sum(range(10)))' | python3 -; printf 'import code\nprint(1 + 1)\n' | python3 -i 2> /dev/null
