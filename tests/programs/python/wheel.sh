# pip: a wheel is built here, installed into a directory without a network, and imported.
set -e
mkdir -p /tmp/src/thing; cd /tmp/src; echo 'def answer(): return 42' > thing/__init__.py
cat > wheel.py <<'END'
import zipfile, hashlib, base64
files = {"thing/__init__.py": open("thing/__init__.py").read(), "thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n", "thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "thing-1.0.dist-info/entry_points.txt": "[console_scripts]\nthing = thing:answer\n"}
record = "".join(f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}\n" for n, t in files.items()) + "thing-1.0.dist-info/RECORD,,\n"
with zipfile.ZipFile("thing-1.0-py3-none-any.whl", "w") as z:
    for n, t in files.items(): z.writestr(n, t)
    z.writestr("thing-1.0.dist-info/RECORD", record)
END
python3 wheel.py
python3 -m pip install --quiet --no-index --no-cache-dir --root-user-action=ignore --disable-pip-version-check --target /tmp/installed ./thing-1.0-py3-none-any.whl
PYTHONPATH=/tmp/installed python3 -c 'import thing; print(thing.answer())'; ls /tmp/installed
