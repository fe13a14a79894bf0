"""The folders that the function `compression` packs: mkdata.py FOLDER FILES... makes FOLDER/FILES with that many files, the same every time."""
import os
import random
import sys

LETTERS = "abcdefghijklmnopqrstuvwxyz"
random.seed(7)
words = ["".join(random.choice(LETTERS) for _ in range(random.randint(2, 9))) for _ in range(800)]
for count in sys.argv[2:]:
    for index in range(int(count)):
        folder = os.path.join(sys.argv[1], count, "d%d" % (index % 6))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "f%02d" % index), "wb") as file:
            if index % 5 == 0:
                file.write(random.randbytes(30000))
            else:
                file.write(" ".join(random.choice(words) for _ in range(6000)).encode())
