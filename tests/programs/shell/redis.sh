# redis: a server on a unix socket, data types, a transaction, a script, snapshot by fork, append-only file, restart, benchmark.
mkdir /tmp/redis; cd /tmp/redis
start() { redis-server --port 0 --unixsocket /tmp/redis/sock --dir /tmp/redis --save '' --appendonly "$1" --daemonize no > log 2>&1 & server=$!; i=0; until redis-cli -s sock ping > /dev/null 2>&1; do i=$((i + 1)); [ $i -lt 100 ] || { echo "no server"; cat log; exit 1; }; sleep 0.1; done; }
cli() { redis-cli -s sock "$@"; }
# Whether the answer to the last command still comes is the server's choice.
stop() { cli shutdown "$@" > /dev/null 2>&1; wait $server; echo "ended $?"; }
start no
cli set a 1; cli incr a; cli rpush l x y z; cli lrange l 0 -1; cli hset h f v; cli zadd z 2 b 1 a; cli zrange z 0 -1; cli setex gone 100 x; cli ttl gone > /dev/null; printf 'multi\nincr a\nincr a\nexec\n' | cli; cli eval 'return redis.call("get", KEYS[1]) * 2' 1 a
for i in $(seq 1 500); do echo "set key$i value$i"; done | cli | sort | uniq -c; cli dbsize; cli save; cli bgsave; while [ "$(cli info persistence | grep -c rdb_bgsave_in_progress:1)" = 1 ]; do sleep 0.1; done; cli info persistence | grep -E 'rdb_last_bgsave_status'; ls dump.rdb
stop save
start no; cli dbsize; cli get key77; cli config set appendonly yes; sleep 0.5; cli set after aof; stop nosave; ls -d appendonlydir
start yes; cli get after; cli subscribe news > heard & sub=$!; sleep 0.5; cli publish news hello; sleep 0.2; kill $sub; cat heard
redis-benchmark -s sock -q -n 500 -c 5 -t set,get | tr '\r' '\n' | grep -c 'requests per second'; stop
