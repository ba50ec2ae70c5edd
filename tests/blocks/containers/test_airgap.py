import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.containers.airgap import (
    FETCHERS,
    OFFLINE,
    PACKAGE_MANAGERS,
    check_command,
    offline_environment,
)


def body(text):
    return ["bash", "-lc", text]


FORBIDDEN = {
    "package manager": (["apt-get", "install", "-y", "jq"], "apt-get"),
    "absolute path": (["/usr/bin/apt", "update"], "/usr/bin/apt"),
    "dnf": (["dnf", "install", "x"], "dnf"),
    "conda": (["conda", "install", "x"], "conda"),
    "pip install": (["pip", "install", "torch"], "pip install"),
    "pip download with options": (
        ["pip3.11", "--proxy", "http://p", "download", "torch"],
        "pip3.11 download",
    ),
    "pip as a module": (["python3", "-m", "pip", "install", "torch"], "pip install"),
    "pip as a module, letters together": (
        ["/opt/venv/bin/python3.12", "-Im", "pip", "wheel", "x"],
        "pip wheel",
    ),
    "module name attached": (["python", "-mensurepip"], "ensurepip"),
    "uv as a module": (["python", "-m", "uv", "sync"], "uv"),
    "curl": (["curl", "-LO", "http://a/b"], "curl"),
    "ngc": (["ngc", "registry", "model", "list"], "ngc"),
    "one quoted word": (["curl http://a/b"], "curl"),
    "git clone": (["git", "clone", "http://a/b"], "git clone"),
    "git with options": (["git", "-C", "/src", "--no-pager", "pull"], "git pull"),
    "git remote update": (["git", "remote", "update"], "git remote update"),
    "rsync from a host": (["rsync", "-a", "host:/data", "/data"], "host:/data"),
    "rsync from a service": (["rsync", "rsync://host/data", "/data"], "rsync://host/data"),
    "docker login": (["docker", "login", "nvcr.io"], "docker login"),
    "docker with options": (["docker", "--context", "far", "push", "a"], "docker push"),
    "docker image pull": (["docker", "image", "pull", "a"], "docker image pull"),
    "podman manifest": (["podman", "manifest", "inspect", "a"], "podman manifest"),
    "docker run that pulls": (["docker", "run", "--pull=always", "a"], "--pull=always"),
    "docker run that may pull": (["docker", "run", "--pull", "missing", "a", "ls"], "--pull"),
    "docker run of curl": (["docker", "run", "--rm", "-it", "-v", "/a:/a", "image", "curl", "x"], "curl"),
    "docker run of a body": (["docker", "run", "-itw", "/a", "image", *body("cd /a; wget x")], "wget"),
    "docker run with an entrypoint": (
        ["docker", "run", "--entrypoint", "/bin/wget", "image", "x"],
        "/bin/wget",
    ),
    "docker exec": (["docker", "compose", "exec", "-T", "one", "pip", "install", "x"], "pip install"),
    "docker run, variable off": (["docker", "run", "-e", "HF_HUB_OFFLINE=0", "a"], "HF_HUB_OFFLINE=0"),
    "docker run, variable off, attached": (["docker", "run", "--env=AIR_GAPPED=", "a"], "AIR_GAPPED="),
    "behind env": (["env", "-u", "B", "A=1", "wget", "x"], "wget"),
    "behind sudo": (["sudo", "-E", "-u", "root", "apt", "update"], "apt"),
    "behind nice": (["nice", "-n", "5", "curl", "x"], "curl"),
    "behind timeout": (["timeout", "-k", "5", "60", "curl", "x"], "curl"),
    "behind timeout, long option": (["timeout", "--signal", "KILL", "60", "curl", "x"], "curl"),
    "behind xargs": (["xargs", "-0", "-n1", "-I", "{}", "curl", "{}"], "curl"),
    "behind several": (["sudo", "nice", "env", "A=1", "timeout", "9", "wget", "x"], "wget"),
    "behind find": (["find", ".", "-name", "x", "-exec", "scp", "{}", "host:", ";"], "scp"),
    "env split": (["env", "-S", "curl -O x"], "curl"),
    "env split, attached": (["env", "--split-string=curl x"], "curl"),
    "assignment": (["HF_HUB_OFFLINE=0", "python", "train.py"], "HF_HUB_OFFLINE=0"),
    "env assignment": (["env", "TRANSFORMERS_OFFLINE=false", "python"], "TRANSFORMERS_OFFLINE=false"),
    "env unset": (["env", "-u", "PIP_NO_INDEX", "python"], "env -u"),
    "env unset, long": (["env", "--unset=HF_HUB_OFFLINE", "python"], "env --unset=HF_HUB_OFFLINE"),
    "env cleared": (["env", "-i", "PATH=/bin", "python"], "env -i"),
    "env cleared, dash": (["env", "-", "python"], "env -"),
    "unset": (body("unset A HF_HUB_OFFLINE; python x"), "unset HF_HUB_OFFLINE"),
    "export off": (body("export AIR_GAPPED=0"), "AIR_GAPPED=0"),
    "export taken back": (body("export -n HF_HUB_OFFLINE"), "export HF_HUB_OFFLINE"),
    "assignment in a body": (body("cd /x && HF_HUB_OFFLINE= python y"), "HF_HUB_OFFLINE="),
    "assignment before a command in a body": (
        body("HF_HUB_OFFLINE=1 AIR_GAPPED='0' python y"),
        "AIR_GAPPED=0",
    ),
    "after a semicolon": (body("cd /x;curl y"), "curl"),
    "after and": (body("true&&apk add y"), "apk"),
    "after or": (body("false || npm ci"), "npm"),
    "after a pipe": (body("cat x | xargs wget"), "wget"),
    "next line": (body("cd /x\ncurl y"), "curl"),
    "after a stream's redirection": (body("2>/dev/null curl y"), "curl"),
    "substitution": (body("x=$(curl y)"), "curl"),
    "quoted substitution": (body('echo "it\'s $(env A=1 curl y)"'), "curl"),
    "backticks": (body("echo `env A=1 curl y`"), "curl"),
    "quoted backticks": (body('echo "`curl y`"'), "curl"),
    "process substitution": (body("tar x < <(curl y)"), "curl"),
    "subshell": (body("(cd /x; curl y)"), "curl"),
    "function": (body("get() { curl y; }; get"), "curl"),
    "condition": (body("if true; then curl y; fi"), "curl"),
    "quotes inside the word": (body("c'ur'l y"), "curl"),
    "backslash": (body(r"\curl y"), "curl"),
    "body in a body": (body("""sh -c 'bash -euo pipefail -c "cd /; wget y"'"""), "wget"),
    "eval": (body("eval 'curl y'"), "curl"),
    "trap": (body("trap 'curl y' EXIT"), "curl"),
    "exec": (body("exec /usr/bin/curl y"), "curl"),
    "after a comment with a hash inside a word": (body("echo a#;curl y"), "curl"),
    "su": (["su", "root", "-c", "apt update"], "apt"),
}

ALLOWED = {
    "nothing": [],
    "action": ["vcn_aoi", "-e", "/w/spec.yaml", "results_dir=/data/uv", "wget=1"],
    "file of that name": ["cat", "curl.txt", "/data/wget"],
    "script of that name": ["python", "conda.py", "--name=apt"],
    "folder of that name": ["/opt/apt/run.sh"],
    "argument of that name": ["grep", "-r", "curl", "/logs"],
    "behind timeout": ["timeout", "60", "grep", "curl", "x"],
    "behind env": ["env", "-u", "A", "HF_HUB_OFFLINE=1", "grep", "-i", "uv", "x"],
    "quoted text": body('echo "no curl here; no wget either" > curl'),
    "assigned text": body("name=apt; echo $name"),
    "list": body("for x in apt curl; do echo $x; done"),
    "looked up": body("command -v curl || which wget"),
    "arithmetic": body("echo $((1 + 2))"),
    "error stream": body("python x.py 2>&1 | tee log"),
    "git here": ["git", "-C", "clone", "log", "pull"],
    "pip here": ["python", "-m", "pip", "list"],
    "docker here": [
        "docker",
        "run",
        "--pull=never",
        "--name",
        "apt",
        "-v",
        "/data/uv:/data/uv",
        "image",
        "ls",
    ],
    "docker, variable passed on": ["docker", "run", "-e", "HF_HUB_OFFLINE", "image", "bash", "run.sh"],
    "rsync here": ["rsync", "-a", "--exclude=a:b", "/x", "/y"],
    "offline by assignment": body("HF_HUB_OFFLINE=1 PIP_NO_INDEX='1' python x; TRANSFORMERS_OFFLINE=1; ls"),
    "still offline": body("export HF_HUB_OFFLINE=1 AIR_GAPPED=true; python x"),
    "other variable": body("unset HF_HOME; HF_HUB_OFFLINE_NOTE=0 python x"),
    "code": ["python", "-c", "import m", "-m", "pip", "install"],
    "longer names": ["aptly", "curling", "uvicorn"],
}


@pytest.mark.parametrize(("argv", "named"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden(argv, named):
    with pytest.raises(ValueError, match=r"^air gap: ") as error:
        check_command(argv)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argv", ALLOWED.values(), ids=ALLOWED)
def test_allowed(argv):
    check_command(argv)


def test_there_are_enough_cases():
    assert len(FORBIDDEN) >= 30
    assert len(ALLOWED) >= 10


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("value", ["0", "", "false", "no", "$X"])
def test_the_environment_cannot_lift_it(name, value):
    with pytest.raises(ValueError, match=name):
        check_command(["train"], {"A": "1", name: value})


def test_the_offline_environment_passes_its_own_check():
    check_command(["train"], offline_environment())
    assert set(offline_environment().values()) == {"1"}


WRAPPERS = st.sampled_from(
    [
        lambda words: ["env", "A=1", *words],
        lambda words: ["sudo", "-u", "me", *words],
        lambda words: ["timeout", "5", *words],
        lambda words: ["bash", "-c", "cd /x; " + shlex.join(words)],
        lambda words: ["sh", "-ec", f"x=$({shlex.join(words)})"],
        lambda words: ["docker", "run", "--rm", "image", *words],
        lambda words: ["python", "-m", *words],
    ]
)


@given(st.sampled_from(sorted(FETCHERS | PACKAGE_MANAGERS)), WRAPPERS, st.booleans())
def test_wrapped_forbidden_words_are_found(word, wrap, by_path):
    with pytest.raises(ValueError, match=word):
        check_command(wrap([f"/usr/bin/{word}" if by_path else word, "x"]))


@given(st.lists(WRAPPERS, max_size=4))
def test_nested_wrappers_hide_nothing(wrappers):
    argv = ["curl", "x"]
    for wrap in wrappers:
        argv = wrap(argv)
    with pytest.raises(ValueError, match="curl"):
        check_command(argv)


def refusal(argv):
    try:
        check_command(argv)
    except ValueError as error:
        return str(error)
    return "air gap: passed"


@given(st.text(max_size=60) | st.text("'\"\\\\$(`)<>|;& \nab=-", max_size=40))
def test_any_text_is_passed_or_refused(text):
    assert refusal(["bash", "-c", text]).startswith("air gap: ")
    assert refusal([text]).startswith("air gap: ")
