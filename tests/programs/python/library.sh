# CPython's library against the system: threads, processes, asyncio, sqlite, json, zip, mmap, signals, sockets, files.
cat > /tmp/w.py <<'END'
import asyncio, concurrent.futures, ctypes, fcntl, hashlib, json, mmap, multiprocessing, os, pathlib, queue, random, select, shutil, signal, socket, sqlite3, struct, subprocess, sys, tempfile, threading, time, zipfile, zlib
def threads():
    q, done = queue.Queue(), []
    def work():
        while (n := q.get()) is not None: done.append(n * n)
    ts = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in ts]; [q.put(n) for n in range(500)]; [q.put(None) for _ in ts]; [t.join() for t in ts]
    print("threads", sum(done), len(done)); lock, event = threading.Condition(), threading.Event(); print(event.wait(0.05))
def processes():
    r = subprocess.run(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in", capture_output=True); print(r)
    p = subprocess.Popen(["sleep", "30"]); p.terminate(); print(p.wait())
    try: subprocess.run(["sleep", "30"], timeout=0.2)
    except subprocess.TimeoutExpired as e: print("timeout", e.cmd)
    print(subprocess.check_output("seq 1 1000 | tail -1", shell=True), subprocess.getstatusoutput("exit 5"))
    with concurrent.futures.ProcessPoolExecutor(3) as pool: print("pool", list(pool.map(pow, range(10), [2] * 10)))
    ctx = multiprocessing.get_context("fork"); q = ctx.Queue(); ps = [ctx.Process(target=q.put, args=(i,)) for i in range(4)]; [p.start() for p in ps]; print(sorted(q.get() for _ in ps)); [p.join() for p in ps]
    v = ctx.Value("i", 0)
    def add():
        for _ in range(100):
            with v.get_lock(): v.value += 1
    ps = [ctx.Process(target=add) for _ in range(3)]; [p.start() for p in ps]; [p.join() for p in ps]; print("shared", v.value)
async def handler(reader, writer):
    while line := await reader.readline(): writer.write(line.upper()); await writer.drain()
    writer.close()
async def tasks():
    async def one(n): await asyncio.sleep(0.01 * (n % 3)); return n
    print("gather", sum(await asyncio.gather(*(one(n) for n in range(50)))))
    path = "/tmp/asock"; server = await asyncio.start_unix_server(handler, path); r, w = await asyncio.open_unix_connection(path); w.write(b"hello\n"); print(await r.readline()); w.close(); server.close()
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1); print(await p.communicate(b"to cat")); print(await asyncio.wait_for(asyncio.to_thread(lambda: 7), 5))
    try: await asyncio.wait_for(asyncio.sleep(9), 0.05)
    except asyncio.TimeoutError: print("timed out")
    loop = asyncio.get_running_loop(); got = asyncio.Event(); loop.add_signal_handler(signal.SIGUSR1, got.set); os.kill(os.getpid(), signal.SIGUSR1); await got.wait(); print("signal")
def files():
    d = pathlib.Path(tempfile.mkdtemp()); [(d / f"{i}.txt").write_text("x" * i) for i in range(100)]; print(sum(p.stat().st_size for p in d.glob("*.txt")))
    with zipfile.ZipFile(d / "z.zip", "w", zipfile.ZIP_DEFLATED) as z: [z.write(p, p.name) for p in sorted(d.glob("*.txt"))]
    with zipfile.ZipFile(d / "z.zip") as z: print(z.testzip(), len(z.namelist())); z.extractall(d / "out")
    print(sorted(os.listdir(d / "out"))[:3]); shutil.copytree(d / "out", d / "again"); shutil.rmtree(d); print(d.exists())
    with open("/tmp/m", "w+b") as f:
        f.truncate(100000); m = mmap.mmap(f.fileno(), 0); m[5000:5005] = b"hello"; m.flush(); f.seek(5000); print(f.read(5)); m.resize(200000); print(len(m)); m.close(); fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_UN)
    c = sqlite3.connect("/tmp/q.db"); c.execute("create table t(a, b)"); c.executemany("insert into t values(?, ?)", ((i, str(i)) for i in range(1000))); c.commit(); print(c.execute("select sum(a), max(b) from t").fetchone())
    print(json.loads(json.dumps({"a": [1, 2.5, None, "ü"]})), hashlib.sha256(b"x").hexdigest()[:16], zlib.crc32(b"abc"), len(zlib.decompress(zlib.compress(b"a" * 100000))), random.Random(1).randint(1, 1000))
    r, w = os.pipe(); os.write(w, b"pipe"); print(os.read(r, 9), select.select([r], [w], [], 0) == ([], [w], [])); print(os.sendfile(w, os.open("/tmp/m", os.O_RDONLY), 0, 10), os.get_terminal_size.__name__, os.memfd_create("m") > 2, os.getxattr.__name__, sorted(os.sched_getaffinity(0))[0], os.statvfs("/tmp").f_bsize)
def signals():
    hits = []; signal.signal(signal.SIGALRM, lambda s, f: hits.append(s)); signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02); end = time.monotonic() + 0.5
    while len(hits) < 3 and time.monotonic() < end: time.sleep(0.1)
    signal.setitimer(signal.ITIMER_REAL, 0); print("alarms", len(hits) >= 3); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); os.kill(os.getpid(), signal.SIGUSR2); print(signal.sigpending(), signal.sigwait([signal.SIGUSR2])); print(signal.sigtimedwait([signal.SIGUSR2], 0.05))
    pid = os.fork()
    if pid == 0: os._exit(12)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.posix_spawnp("true", ["true"], os.environ) > 0, os.wait()[1])
    a, b = socket.socketpair(); socket.send_fds(a, [b"f"], [0]); print(socket.recv_fds(b, 10, 4)[0]); a.close(); print(b.recv(1)); libc = ctypes.CDLL(None); print(libc.abs(-5), ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 8)())
threads(); processes(); asyncio.run(tasks()); files(); signals()
END
python3 /tmp/w.py
