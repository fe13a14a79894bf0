# Programs people know, measured from inside by spawnb: run.sh SUFFIX of the figures' names.
export PATH=/usr/bin:/bin HOME=/tmp LP_SCALE=${LP_SCALE:-1}
export GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
spawnb=/fn/spawnb

# 5000 requests of 50 clients, one at a time each.
redis-server --save '' --logfile /tmp/log --daemonize no < /dev/null > /dev/null 2>&1 & server=$!
tries=0
until redis-cli ping > /dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "WARN tool.redis_set$1: no server"; break; }
    sleep 0.1
done
for what in set get; do
    $spawnb -n 3 -w 1 tool.redis_$what$1 /usr/bin/redis-benchmark -q -P 1 -n 5000 -t $what
done
kill $server; wait $server

# A repository of 30 commits of 20 files, packed; a fresh copy each time.
mkdir /tmp/repository; cd /tmp/repository; git init -q 2> /dev/null
for commit in $(seq 30); do
    for file in $(seq 20); do echo "$file $commit $((file * commit * 7919))" >> file$file; done
    git add . && git commit -q -m "commit $commit"
done
for copy in 1 2 3 4; do cp -a /tmp/repository /tmp/repository$copy; cp -a /fn/project /tmp/project$copy; done
$spawnb -n 3 -w 1 tool.git_gc$1 /usr/bin/git -C /tmp/repository%d gc -q
for copy in 1 2 3 4; do
    found="$(git -C /tmp/repository$copy count-objects), $(git -C /tmp/repository$copy rev-list --count HEAD) commits"
    [ "$found" = "0 objects, 0 kilobytes, 30 commits" ] || echo "WARN tool.git_gc$1: copy $copy has $found"
done

# Three files of C compiled and linked.
$spawnb -n 3 -w 1 tool.make$1 /usr/bin/make -s -C /tmp/project%d
[ "$(/tmp/project2/sum)" = "sum 499500" ] || echo "WARN tool.make$1: what was built gives something else"
rm -rf /tmp/repository* /tmp/project*
