"""Which shell commands run unasked: those whose every word is known to read and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import shell_risk
from sonia.tools.shell import Step, only_reads, programs

# Of the hostile lists' fragments these are whole commands that tell nothing but names.
HARMLESS = {"pwd", "which nc", "which netcat", "which wget"}


def steps(command: str) -> tuple[Step, ...]:
    script = only_reads(command)
    assert script, command
    return script.steps


def test_a_command_is_taken_apart_as_a_shell_would() -> None:
    found = steps("""grep -R "two words" -n || true; echo 'a|b' && ls -la notes | wc -l""")

    assert found == (
        Step(joined="first", pipeline=(("grep", "-R", "two words", "-n"),)),
        Step(joined="or", pipeline=(("true",),)),
        Step(joined="then", pipeline=(("echo", "a|b"),)),
        Step(joined="and", pipeline=(("ls", "-la", "notes"), ("wc", "-l"))),
    )


@pytest.mark.parametrize(
    "command",
    [
        "ls", "cat notes/today.md", "cat /workspace/notes.txt", "head -5 a.txt", "tail -n 3 a.txt",
        "find . -name '*.py' -newer a.txt", "sed -n '1,5p' a.txt", "sort -k2 -t , a.csv | uniq -c",
        "jq '.items[0].name | length' a.json", "date +%F", "date -u", "tar tzf a.tar.gz",
        "unzip -l a.zip", "ps aux", "grep -e /etc/passwd notes.txt", "git --version", "ls --help",
        "wc -l a.txt && du -sh .", "diff -u a b", "printf 'a\\n'", "basename /etc/passwd",
    ],
)  # fmt: skip
def test_t17_what_only_reads_is_known(command: str) -> None:
    assert only_reads(command)


@pytest.mark.parametrize(
    "command",
    [
        "", " ", "ls *", "ls ~", "ls $HOME", "ls ${X}", "ls $(id)", "ls `id`", "ls > a", "ls < a",
        "ls 2>&1", "ls &", "(ls)", "{ ls; }", "! ls", "A=1 ls", "A=1", "ls\nls", "ls \\\nls",
        "l\\s",
        "'ls'", '"ls"', "./ls", "/bin/ls", "bin/ls", "LS", "ls a{b,c}", "ls ?", "ls [a]", "ls # x",
        "if true; then ls; fi", "for i in a; do ls; done", "ls(){ ls; }", "ls |& wc", "ls a\tb",
        "echo \"$HOME\"", 'echo "`id`"', "echo $'a'", 'echo $"a"', "echo a\"b\"", "cat <<< a",
        "cat /etc/passwd", "cat ../a", "cat a/../../b", "cat ~/a", "cat /workspace/../etc/passwd",
        "cat .env", "cat .ssh/id_rsa", "cat .SSH/config", "grep x server.pem", "cat .env.local",
        "grep -f list a", "grep --file=list a", "grep pattern /etc/passwd", "grep -e a -e b /etc",
        "sort -o a b", "sort --output=a b", "sort --outp=a b", "sort -uoa b",
        "sort --compress-program=x",
        "uniq a b", "xxd a b", "xxd -r a", "tree -o a", "find . -delete", "find . -exec ls ;",
        "find . -fprint a", "find / -name a", "find -files0-from a", "date -s now", "date 01010000",
        "date -f a", "hostname evil", "hostname -F a", "file -m a b", "file -C", "file -f a",
        "tail -f a", "wc --files0-from=a", "du --files0-from=a", "sed p a", "sed -n -i p a",
        "sed -n 'w out' a", "sed -n '1e id' a", "sed -i s/a/b/ a", "sed -n 1p -i a", "jq env a",
        "jq -n env", "jq '$ENV' a", "jq '.a|input_filename' a", "jq -f a b", "jq --rawfile x a . b",
        "jq 'import \"a\" as a; .' b", "tar tf host:a", "tar xf a", "tar tf a -I id", "tar -tf -x",
        "unzip a", "unzip -p a", "ps e", "ps auxe", "rg --pre id a", "rg -z a", "rg -f a b",
        "fd -x id", "fd . -X id", "diff -l a b", "iconv -o a b", "shuf -o a b", "ldd a", "man ls",
        "less a", "git status", "git -c a=b status", "awk 1 a", "env", "xargs ls", "sh -c ls",
        "timeout 1 ls", "nice ls", "sudo ls", "busybox ls", "command ls", "exec ls", "test -e a",
        "cd a", "ls ; rm a", "ls | tee a", "ls && touch a", "true || rm a", "ip netns exec a id",
        "ip link set a down", "ip -batch a", "systemctl stop a", "systemctl -H a status",
        "apt install a",
        "apt -o a=b list", "dpkg -i a", "dpkg -l --root=/a", "strings @a", "readelf -h @a",
        "head -c",
        "git --version x", "python3 --version -c x", "cat - -- /etc/passwd",
        "grep -A --file=x a", "sort -k --output=a b", "ls\u00a0-l", "ls \u202e", "\u0441at a",
        "ls\r",
    ],
)  # fmt: skip
def test_t17_everything_else_asks(command: str) -> None:
    assert only_reads(command) is None


@pytest.mark.skipif(not shell_risk.LISTS.is_dir(), reason="hostile lists are not kept here")
def test_t17_no_hostile_command_runs_unasked() -> None:
    passed = {one for found, _ in shell_risk.hostile().values() for one in found}

    assert passed <= HARMLESS
    assert shell_risk.safe() == (13, 13)


@given(
    st.text(alphabet=st.sampled_from("ls cat-n'\"\\$`|&;<>()*?~#=!{}[]/.\n\t\r\0é"), max_size=30)
)
def test_t17_any_text_is_read_or_asked_about(command: str) -> None:
    script = only_reads(command)

    words = [word for argv in script.programs() for word in argv] if script else []
    assert all(word in command for word in words)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=20))
def test_t18_a_quoted_word_is_the_word_that_runs(word: str) -> None:
    script = only_reads(f"echo '{word}'")

    if script and "'" not in word:
        assert script.programs() == (("echo", word),)


def test_powershell_asks() -> None:
    for command in ("Get-ChildItem", "Get-Content a | Select-String b", "gci -Recurse", "dir"):
        assert only_reads(command) is None


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("make test", ("make test",)),
        ("  make 'a b' ", ("make 'a b'",)),
        ("make x; rm -r y", ("make x", "rm -r y")),
        ("make x && ls | tee z", ("make x", "ls", "tee z")),
        ('sh -c "make x; rm y"', ("sh -c 'make x; rm y'",)),
        ("make x & rm y", ()),
        ("make x\nrm y", ()),
        ("make x > /etc/passwd", ()),
        ("make $(rm y)", ()),
        ("make `rm y`", ()),
        ('make "$(rm y)"', ()),
        ("make <(rm y)", ()),
        ("CC=evil make x", ()),
        ("make *.c", ()),
        ("make x;", ("make x",)),
        ("(make x)", ()),
        ("make() { rm y; }; make x", ()),
        ("if make x; then rm y; fi", ()),
        ("", ()),
    ],
)
def test_the_programs_of_a_command_are_told_only_when_its_words_are_plain(
    command: str, found: tuple[str, ...]
) -> None:
    assert programs(command) == found
