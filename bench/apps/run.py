"""Functions as a FaaS platform runs them, in the manner of the SeBS suite: run.py FUNCTION SIZE.

Prints what the function gave. A result that is not what it must be ends with a failure, so that a function that did not do its work is no figure."""
import sys


def empty(size):
    return "nothing"


def html(size):
    import random
    from jinja2 import Template
    rows = [random.randrange(0, 1000000) for _ in range(size)]
    page = Template("<html><head><title>{{ who }}</title></head><body><ul>"
                    "{% for r in rows %}<li>{{ r }}</li>{% endfor %}</ul></body></html>")
    text = page.render(who="visitor", rows=rows)
    assert text.count("<li>") == size, text
    return len(text)


def compression(size):
    import os
    import shutil
    name = "/tmp/out-%d" % os.getpid()
    shutil.make_archive(name, "zip", root_dir="/fn/data/%d" % size)
    length = os.path.getsize(name + ".zip")
    os.unlink(name + ".zip")
    assert length > size * 100, length
    return length


def graph(size):
    import random
    import igraph
    random.seed(1)
    return igraph.Graph.Barabasi(size, 10)


def pagerank(size):
    ranks = graph(size).pagerank()
    assert len(ranks) == size and abs(sum(ranks) - 1) < 1e-6, sum(ranks)
    return round(ranks[0], 6)


def mst(size):
    edges = graph(size).spanning_tree(None, False)
    assert len(edges) == size - 1, len(edges)
    return len(edges)


def bfs(size):
    visited, layers, _ = graph(size).bfs(0)
    assert sorted(visited) == list(range(size))
    return len(layers) - 1


print(sys.argv[1], sys.argv[2], globals()[sys.argv[1]](int(sys.argv[2])))
