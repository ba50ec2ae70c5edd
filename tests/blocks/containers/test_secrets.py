import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blocks.containers.secrets import check_image, is_secret_name, mask, refuse

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
HEX = "0123456789abcdef"


def token(prefix, letters, least, most=None):
    return st.text(letters, min_size=least, max_size=most or least + 20).map(lambda rest: prefix + rest)


TOKENS = st.one_of(
    token("hf_", LETTERS, 34),
    token("nvapi-", LETTERS + "-_", 20),
    token("AKIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, 16),
    token("ghp_", LETTERS, 36),
    token("pnu_", LETTERS, 36),
)
PASSWORDS = st.text(LETTERS + "!#%*+-.:;=?^_~&,", min_size=6, max_size=30).map(lambda text: text + "7Q")
NAMES = [
    "NGC_KEY",
    "NGC_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "WANDB_API_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "db-password",
    "llm.api_key",
    "accessToken",
    "MYSQL_PWD",
    "encryption_key",
    "--token",
    "X-Amz-Signature",
]
ORDINARY_NAMES = [
    "",
    "PWD",
    "OLDPWD",
    "key",
    "cache_key",
    "keyboard",
    "tokenizer",
    "max_tokens",
    "token_count",
    "author",
    "api_key_env",
    "password_file",
    "patience",
    "results_dir",
    "monkey",
]
ORDINARY_LINES = [
    "/data/run/iter_3/train/model_epoch_012.pth",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "/cache/models--google--siglip/snapshots/7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed/tokenizer.json",
    "epoch 3: train_loss=0.01234 val_loss: 1e-05 lr=1.0e-04",
    "2026-11-21 10:00:00,123 INFO results_dir: /data/results",
    "https://docs.example.com:8443/a/b?x=1&y=2#part",
    "http://127.0.0.1:4200/api/flows/@me",
    "DOCKER_HOST=ssh://user@build-host",
    "s3://bucket/path/file@2.png",
    "Execution status: PASS",
    "tokenizer: siglip, max_tokens=64, token_count: 5",
    "use_summary_token: false",
    "PWD=/work HOME=/root key=value",
    "NGC_KEY: present, HF_TOKEN: unset",
    "api_key=${oc.env:API_KEY} encryption_key=''",
    "hf_finetune and hf_transformers, basic training of task-with-a-rather-long-name-of-its-own",
    "images of the board C12 (label: solder bridge) at 12:30:00",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_secret_names(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_ordinary_names(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize("line", ORDINARY_LINES)
def test_ordinary_lines_are_unchanged(line):
    assert mask(line) == line
    refuse(line.split())


@given(st.lists(st.sampled_from(ORDINARY_LINES), max_size=5))
def test_ordinary_texts_are_unchanged(lines):
    assert mask("\n".join(lines)) == "\n".join(lines)


@given(
    TOKENS, st.sampled_from(["{}", "got {}.", '"{}"', "--x={}", "/a/{}/b", "x:{},y", "log [{}]", "A={}\n"])
)
def test_a_token_never_survives(secret, around):
    text = mask(around.format(secret))
    assert secret not in text
    assert secret[6:] not in text
    with pytest.raises(ValueError, match="word 2 of the command line holds") as error:
        refuse(["train", around.format(secret)])
    assert secret[6:] not in str(error.value)


@given(
    PASSWORDS,
    st.sampled_from(NAMES),
    st.sampled_from(
        [
            "{}={}",
            "{}: {}",
            "-e {}={}",
            '{{"{}": "{}"}}',
            "{}='{}'",
            '{} = "{}"',
            "a:{}:{}",
            "--{} {}",
            "?x=1&{}={}",
        ]
    ),
)
def test_the_value_of_a_secret_name_never_survives(secret, name, form):
    text = form.format(name, secret)
    assert secret not in mask(text)
    with pytest.raises(ValueError, match="word 1 ") as error:
        refuse([text])
    assert secret not in str(error.value)


@given(
    PASSWORDS.filter(lambda text: not set(text) & set("?#/")),
    st.sampled_from(["https", "postgresql+asyncpg"]),
)
def test_a_password_in_a_url_never_survives(secret, scheme):
    text = mask(f"pulled from {scheme}://user:{secret}@host:5432/data, done")
    assert text == f"pulled from {scheme}://***@host:5432/data, done"


@given(
    st.text(HEX, min_size=40, max_size=40),
    st.sampled_from(["wandb login {}", "your API key: {}", "token {}"]),
)
def test_forty_hex_digits_beside_a_key_name_never_survive(secret, form):
    assert secret not in mask(form.format(secret))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdefgh", "Authorization: ***"),
        ('-H "authorization: basic dXNlcjpwYXNz" -v', '-H "authorization: ***" -v'),
        ("sent Bearer abc.def.ghi to it", "sent Bearer *** to it"),
        ("https://abcdef@github.com/a", "https://***@github.com/a"),
        ('{\\"api_key\\": \\"abc def\\", \\"x\\": 1}', '{\\"api_key\\": \\"***\\", \\"x\\": 1}'),
        ("password='a \\' b' x", "password='***' x"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA",
            "-----BEGIN RSA PRIVATE KEY-----***-----END RSA",
        ),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "***"),
    ],
)
def test_forms(text, masked):
    assert mask(text) == masked


@given(st.text(max_size=80) | st.text("tokenpw=:@/'\"\\-* \n.h_1", max_size=60))
@example("https://token=a:80/@x")
def test_masking_twice_is_masking_once(text):
    assert mask(mask(text)) == mask(text)


@given(
    st.lists(
        st.sampled_from([*NAMES, "=", ": ", " ", "a", "://", "@", ":", '"', "'", "***", "bearer ", "\\"])
    )
)
def test_masking_twice_is_masking_once_on_pieces(pieces):
    text = "".join(pieces)
    assert mask(mask(text)) == mask(text)


def test_a_secret_behind_its_option_is_refused():
    with pytest.raises(ValueError, match="word 3 of the command line holds the value of a secret name"):
        refuse(["login", "--password", "swordfish"])


def test_a_masked_line_is_not_refused():
    refuse(["--token=***", "https://***@host/"])


@pytest.mark.parametrize(
    "piece", ["a", "a.", "http://", "://:", "://a:b", "token", "hf_", '\\"', "eyJ", "a=", "token='"]
)
def test_long_lines_are_quick(piece):
    started = time.process_time()
    mask(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 2


DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "uri",
    [
        "python",
        "lab/pybase:3.11",
        "registry.example.com/org/team/tool-kit:7.1.0-pyt",
        "localhost:5000/a__b/c.d:1",
        f"registry.example.com/a@{DIGEST}",
        f"a/b:1@{DIGEST}",
        DIGEST,
    ],
)
def test_image_references(uri):
    assert check_image(uri) == uri


BAD_CHARACTERS = list(";$()'\"`\n\r\t |&<>*?!#~{}[]\\,=+%^\0é")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        " ",
        "-v",
        "--privileged",
        "-v /:/host",
        "a:1; rm -rf /",
        "$(id)",
        "a:1\n",
        "A/B:1",
        "a//b",
        "../a",
        "/a",
        "a:",
        "a:-x",
        "a:" + "1" * 129,
        "a@sha256:abc",
        "https://registry/a",
        "user:pass@registry/a",
        "a/" * 300 + "a",
    ],
)
def test_what_is_no_image_reference(uri):
    with pytest.raises(ValueError, match="is no image reference"):
        check_image(uri)


@given(st.sampled_from(BAD_CHARACTERS), st.integers(0, 15))
def test_no_character_of_a_shell_gets_into_an_image_reference(character, place):
    uri = "registry/a/b:1.0"
    with pytest.raises(ValueError, match="is no image reference"):
        check_image(uri[:place] + character + uri[place:])


def test_a_refused_image_reference_shows_no_password():
    with pytest.raises(ValueError, match="no image") as error:
        check_image("https://user:swordfish@registry/a")
    assert "swordfish" not in str(error.value)
