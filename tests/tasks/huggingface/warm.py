"""Command lines of a project, each in a process of its own that has the large packages from its start."""

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["torch", "transformers.trainer", "datasets", "peft", "trl.trainer.dpo_trainer", "PIL.Image", "pytest"]
)


def python(folder, *words):
    """The exit status of `python WORDS` in a folder, and what it printed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    with tempfile.NamedTemporaryFile() as log:
        process = SERVER.Process(target=_python, args=(folder, words, variables, log.name))
        process.start()
        process.join(300)
        process.kill()
        process.join()
        return process.exitcode, log.read().decode(errors="replace")


def _python(folder, words, variables, log):
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path[:] = [str(folder), *(place for place in sys.path if place not in ("", str(REPOSITORY)))]
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")
