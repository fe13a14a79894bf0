# git: init, commits, branches, merge, local clone, push, gc, fsck, bisect.
set -e
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_GLOBAL=/tmp/config
git config --global user.name Tester; git config --global user.email t@example.org; git config --global init.defaultBranch main; git config --global gc.auto 0
mkdir /tmp/r; cd /tmp/r; git init -q
for i in $(seq 1 12); do mkdir -p d$((i % 3)); seq 1 $((i * 40)) > d$((i % 3))/f$i; echo "change $i" >> log; git add -A; git commit -q -m "commit $i"; done
git log --oneline | cat; git rev-parse HEAD; git status --short; git diff --stat HEAD~3 | cat
git checkout -q -b side HEAD~4; echo side > side; git add side; git commit -q -m side; git checkout -q main; git merge -q --no-edit side; git log --graph --format=%s -6 | cat
git clone -q --no-hardlinks /tmp/r /tmp/c; cd /tmp/c; git rev-parse HEAD; echo clone > new; git add new; git commit -q -m new; git push -q origin HEAD:pushed; git -C /tmp/r branch --list | cat
cd /tmp/r; git tag -a v1 -m one; git describe; git gc -q; git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'; git fsck --full 2>&1; git clone -q file:///tmp/r /tmp/f; git -C /tmp/f log -1 --format=%H
git blame log | cut -c1-8 | sort -u | wc -l; git grep -c change; git stash list; echo dirty >> log; git stash -q; git stash pop -q; git diff --shortstat; git checkout -q log; git archive HEAD | tar -t | wc -l; git bundle create -q /tmp/b HEAD main; git bundle verify -q /tmp/b && echo bundle; git rebase -q side 2>&1; git reflog | wc -l; git bisect start -q HEAD HEAD~6 > /dev/null; git bisect run sh -c '! grep -q "change 10" log' | tail -1 | cut -c1-40; git worktree add -q /tmp/w side; ls /tmp/w | wc -l; git submodule status; git cat-file --batch-check --batch-all-objects | awk '{print $2}' | sort | uniq -c
