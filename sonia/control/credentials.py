"""Names of files that hold secrets, and of files that make something run."""

from __future__ import annotations

import re

_FOLDERS = frozenset(
    (
        ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", ".gcloud",
        ".mozilla", ".thunderbird", "keyrings", ".electrum", ".bitcoin",
    )
)  # fmt: skip
_STARTING_FOLDERS = frozenset((".git", ".github", ".vscode", ".idea", ".husky", "autostart"))
_SECRET = re.compile(
    r"\.env(\..*)?|\.?netrc|_netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.npmrc|\.pypirc|\.htpasswd"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|credentials?(\.(json|xml|ya?ml|toml|ini|db))?"
    r"|(client_)?secrets?(\.(json|ya?ml|toml|ini|txt|env))?|passwords?(\.(txt|csv|kdbx?))?"
    r"|shadow-?|gshadow-?|sudoers|master\.passwd|wallet\.dat|operator\.token"
    r"|login data|cookies(\.sqlite|\.txt)?|\.?(bash|zsh|sh|python|psql|mysql|node_repl)_history"
    r"|.*\.(pem|key|p12|pfx|jks|keystore|kdbx?|ppk|gpg|asc)"
)
_STARTING = re.compile(
    r"\.(bash|zsh)(rc|env|_profile|_login|_logout|_aliases)|\.profile|\.zprofile|\.xinitrc"
    r"|\.xsession(rc)?|\.xprofile|\.envrc|\.vimrc|\.exrc|\.gitconfig|\.gitmodules|\.mcp\.json"
    r"|sitecustomize\.py|usercustomize\.py|conftest\.py|crontab|.*\.pth|.*\.desktop|.*\.service"
)
_PROGRAM = re.compile(r".*\.(sh|bash|zsh|ps1|bat|cmd|com|exe|msi|dll|so|dylib|jar|vbs|scr|app)")


def guarded(path: str) -> str | None:
    """Why reading this path could give a secret away; None when its name says nothing of that."""
    names = _names(path)
    if any(name in _FOLDERS for name in names) or any(map(_SECRET.fullmatch, names)):
        return "its name is one that credentials have"
    if path.startswith(("/proc", "/sys/kernel/security")):
        return "it shows what programs hold in memory"
    return None


def starts(path: str) -> str | None:
    """Why writing this path could make something run later; None when its name says nothing."""
    names = _names(path)
    if any(name in _STARTING_FOLDERS for name in names) or any(map(_STARTING.fullmatch, names)):
        return "programs read it and do what it says"
    if names and _PROGRAM.fullmatch(names[-1]):
        return "it is a program"
    return None


def _names(path: str) -> list[str]:
    """Its parts as a file system that ignores case sees them."""
    parts = path.replace("\\", "/").casefold().split("/")
    return [part.rstrip(". ").partition(":")[0] for part in parts if part.strip(". ")]
